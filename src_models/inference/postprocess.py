"""What follows the networks without looking at the image again: the largest part alone, small parts removed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage


def keep_largest(labels: NDArray[Any], together: Iterable[int] | None = None) -> NDArray[Any]:
    """Keep the largest connected part.

    Parameters
    ----------
    labels : ndarray of shape (z, y, x) or (y, x)
        0 is background.
    together : iterable of int, optional
        These labels are taken as one structure, of which the largest part is kept; by default all but background.
        Other labels stay as they are.

    Returns
    -------
    ndarray
        A copy. Voxels that touch by a corner belong together; of parts of equal size the first in array order is kept.
    """
    chosen = labels != 0 if together is None else np.isin(labels, list(together))
    result = labels.copy()
    for box, parts, sizes in _parts(chosen):
        lost = parts != 1 + int(np.argmax(sizes))
        result[box][lost & (parts > 0)] = 0
    return result


def keep_largest_of_each(labels: NDArray[Any]) -> NDArray[Any]:
    """Keep the largest connected part of every label; see `keep_largest`."""
    result = labels
    for value in _values(labels):
        result = keep_largest(result, [value])
    return result


def remove_small(labels: NDArray[Any], spacing: Sequence[float], smallest: float) -> NDArray[Any]:
    """Remove connected parts of a label that are smaller than a volume.

    Parameters
    ----------
    labels : ndarray of shape (z, y, x) or (y, x)
        0 is background.
    spacing : sequence of float
        mm per axis.
    smallest : float
        ml; mm2 where the array has two axes. Parts of exactly this size stay.

    Returns
    -------
    ndarray
        A copy.
    """
    voxel = math.prod(spacing) / (1000.0 if labels.ndim == 3 else 1.0)
    result = labels.copy()
    for value in _values(labels):
        for box, parts, sizes in _parts(labels == value):
            # a relative margin: sums of decimal voxel sizes are not exact
            small = np.flatnonzero(sizes * voxel < smallest * (1 - 1e-9)) + 1
            result[box][np.isin(parts, small)] = 0
    return result


def _values(labels: NDArray[Any]) -> list[int]:
    return [int(v) for v in np.unique(labels) if v != 0]


def _parts(mask: NDArray[np.bool_]) -> list[tuple[tuple[slice, ...], NDArray[Any], NDArray[Any]]]:
    """The box around a mask, its parts numbered from 1 there, and their sizes; nothing for an empty mask."""
    found = ndimage.find_objects(mask.astype(np.uint8))
    if not found:
        return []
    box = found[0]
    parts, count = ndimage.label(mask[box], ndimage.generate_binary_structure(mask.ndim, mask.ndim))
    return [(box, parts, np.bincount(parts.ravel(), minlength=count + 1)[1:])]
