"""The part of an image that is not zero: what nnU-Net crops to before anything else."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

OUTSIDE = -1
"""Label of background voxels outside the nonzero part of a prepared training image."""


def nonzero_mask(image: NDArray[Any]) -> NDArray[np.bool_]:
    """Voxels that are not zero in at least one channel, with their holes filled.

    Parameters
    ----------
    image : ndarray of shape (C, z, y, x) or (C, y, x)
        Before normalisation.
    """
    from scipy.ndimage import binary_fill_holes

    mask: NDArray[np.bool_] = (image != 0).any(axis=0)
    if mask.all():
        return mask
    filled: NDArray[np.bool_] = binary_fill_holes(mask)
    return filled


def bounding_box(mask: NDArray[np.bool_]) -> tuple[slice, ...]:
    """The smallest box that holds every marked voxel; the whole array where none is marked."""
    box = []
    for axis in range(mask.ndim):
        there = np.flatnonzero(mask.any(axis=tuple(k for k in range(mask.ndim) if k != axis)))
        box.append(slice(int(there[0]), int(there[-1]) + 1) if there.size else slice(0, mask.shape[axis]))
    return tuple(box)
