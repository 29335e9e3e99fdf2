"""The part of an image that is not zero: what nnU-Net crops to before anything else."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

OUTSIDE = -1
"""Label of background voxels outside the nonzero part of a prepared training image."""


def nonzero(image: NDArray[Any]) -> NDArray[np.bool_]:
    """Voxels that are not zero in at least one channel; its holes do not change its bounding box.

    Parameters
    ----------
    image : ndarray of shape (C, z, y, x) or (C, y, x)
        Before normalisation.
    """
    mask: NDArray[np.bool_] = (image != 0).any(axis=0)
    return mask


def filled(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """A mask with its holes: what cannot be reached from the border through faces of voxels."""
    from scipy.ndimage import binary_fill_holes

    if mask.all():
        return mask
    whole: NDArray[np.bool_] = binary_fill_holes(mask)
    return whole


def bounding_box(mask: NDArray[np.bool_]) -> tuple[slice, ...]:
    """The smallest box that holds every marked voxel; the whole array where none is marked."""
    box = []
    for axis in range(mask.ndim):
        there = np.flatnonzero(mask.any(axis=tuple(k for k in range(mask.ndim) if k != axis)))
        box.append(slice(int(there[0]), int(there[-1]) + 1) if there.size else slice(0, mask.shape[axis]))
    return tuple(box)
