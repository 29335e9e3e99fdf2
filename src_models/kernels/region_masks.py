"""Regions of an image about a structure, and which of them each voxel of a layer lies in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_models.networks.placement import Placement
from src_models.preprocessing.prepare import Prepared

INSIDE, BOUNDARY, OUTSIDE = "inside", "boundary", "outside"
PARTS = (INSIDE, BOUNDARY, OUTSIDE)
"""Every voxel lies in one of them."""
SLICES = 8
"""Of a volume that goes through a 2D network slice by slice: so many that hold the structure, evenly chosen."""


def region_masks(
    labels: NDArray[Any], structure: Sequence[int], spacing: Sequence[float], band: float
) -> dict[str, NDArray[np.bool_]]:
    """Inside, boundary and outside of a structure: every voxel lies in one of them.

    Parameters
    ----------
    labels : ndarray of shape (z, y, x) or (y, x)
        Numbers of labels.
    structure : sequence of int
        Which of them are the structure.
    spacing : sequence of float
        Per axis.
    band : float
        A voxel is of the boundary where the nearest one on the other side lies no farther away.
    """
    from scipy.ndimage import distance_transform_edt

    mask = np.isin(labels, structure)
    near = np.zeros(mask.shape, bool)
    if mask.any() and not mask.all():
        away = distance_transform_edt(mask, sampling=spacing) + distance_transform_edt(~mask, sampling=spacing)
        near = away <= band * (1 + 1e-9)
    return {INSIDE: mask & ~near, BOUNDARY: near, OUTSIDE: ~mask & ~near}


def views(
    ready: Prepared, masks: NDArray[np.bool_], ndim: int
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.bool_], tuple[float, ...]]]:
    """Image, masks and voxels of the masks per voxel of the image: of the whole, or of some slices for a 2D network."""
    factors = tuple(a / b for a, b in zip(ready.way.cropped, ready.way.resampled, strict=True))
    if ready.array.ndim - 1 == ndim:
        yield ready.array, masks, factors
        return
    # the first two regions are the structure and its boundary
    there = np.flatnonzero((masks[0] | masks[1]).any(axis=tuple(range(1, masks.ndim - 1))))
    count = min(SLICES, len(there))
    for z in [int(there[(2 * k + 1) * len(there) // (2 * count)]) for k in range(count)]:
        mine = min(int((z + 0.5) / factors[0]), ready.array.shape[1] - 1)
        yield ready.array[:, mine], masks[:, z], factors[1:]


def window_about(
    size: Sequence[int], patch: Sequence[int], masks: NDArray[np.bool_], factors: Sequence[float]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Corner and size of what is looked at: all of it, or a window of a network about the middle of the structure."""
    window = tuple(min(n, p) for n, p in zip(size, patch, strict=True))
    where = np.argwhere(masks[0] | masks[1])
    middle = where.mean(axis=0) if len(where) else np.array(masks.shape[1:]) / 2
    corner = tuple(
        int(np.clip(round(float(m) / f - w / 2), 0, n - w))
        for m, f, w, n in zip(middle, factors, window, size, strict=True)
    )
    return corner, window


def on_grid(
    masks: NDArray[np.bool_],
    place: Placement,
    window: tuple[tuple[int, ...], tuple[int, ...]],
    factors: Sequence[float],
    size: Sequence[int],
) -> NDArray[np.bool_]:
    """Regions at the voxels of a layer: that of the image's voxel in which each lies; none where it lies outside.

    Parameters
    ----------
    masks : ndarray of bool, shape (regions, *image)
        On the voxels of the image.
    place : Placement
        Of the layer on the network's input.
    window : tuple
        Corner and size of the network's input in the prepared image.
    factors : sequence of float
        Voxels of the image per voxel of the prepared image.
    size : sequence of int
        Of the layer's output.
    """
    found = masks
    inside = np.ones(tuple(size), bool)
    for axis, (n, start, jump) in enumerate(zip(size, place.start, place.jump, strict=True)):
        at = start + jump * np.arange(n)
        # voxels are resampled with their edges on each other
        image = np.floor(factors[axis] * (window[0][axis] + at + 0.5) + 1e-6).astype(np.intp)
        there = (
            (at > -0.5 - 1e-6) & (at < window[1][axis] - 0.5 + 1e-6) & (image >= 0) & (image < masks.shape[1 + axis])
        )
        found = np.take(found, np.clip(image, 0, masks.shape[1 + axis] - 1), axis=1 + axis)
        shape = [1] * len(size)
        shape[axis] = n
        inside &= there.reshape(shape)
    return found & inside
