"""Distances between two masks, from voxel centre to nearest voxel centre.

The surface of a mask are its voxels without all 6 (in 2D: 4) neighbours in it; beyond the array is outside.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Distances = NDArray[np.float64]


def surface_voxels(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The mask minus its erosion by the 6- (4-) connected neighbourhood on a padded grid."""
    from scipy.ndimage import binary_erosion

    inner: NDArray[np.bool_] = binary_erosion(mask, border_value=0)
    return mask & ~inner


def bounding_box(mask: NDArray[np.bool_]) -> tuple[slice, ...] | None:
    """The smallest box around a mask; None where it is empty."""
    box = []
    for axis in range(mask.ndim):
        along = np.flatnonzero(mask.any(axis=tuple(k for k in range(mask.ndim) if k != axis)))
        if along.size == 0:
            return None
        box.append(slice(int(along[0]), int(along[-1]) + 1))
    return tuple(box)


def directed_distances(
    a: NDArray[np.bool_], b: NDArray[np.bool_], spacing: Sequence[float]
) -> tuple[Distances, Distances, Distances, Distances]:
    """How far two masks lie apart.

    Parameters
    ----------
    a, b : ndarray of bool, (z, y, x) or (y, x)
        Neither empty.
    spacing : sequence of float
        Per axis of the arrays.

    Returns
    -------
    tuple of ndarray
        For each surface voxel of a the distance to the nearest of b, and the other way; for each voxel of a outside b
        the distance to the nearest voxel of b, and the other way. In the unit of `spacing`.

    Notes
    -----
    A voxel of b nearest to a point outside b is a surface voxel: a step from any other towards the point along an axis
    stays in b and comes nearer. So the surfaces are all that has to be searched.
    """
    from scipy.spatial import cKDTree

    h = np.asarray(spacing, np.float64)

    def points(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
        return np.argwhere(mask) * h

    surfaces = surface_voxels(a), surface_voxels(b)
    on_a, on_b = points(surfaces[0]), points(surfaces[1])
    to_a, to_b = cKDTree(on_a), cKDTree(on_b)
    beyond_b, beyond_a = points(a & ~b), points(b & ~a)
    found = (
        to_b.query(on_a)[0],
        to_a.query(on_b)[0],
        to_b.query(beyond_b)[0] if beyond_b.size else np.empty(0),
        to_a.query(beyond_a)[0] if beyond_a.size else np.empty(0),
    )
    a_to_b, b_to_a, volume_a, volume_b = (np.asarray(part, np.float64) for part in found)
    return a_to_b, b_to_a, volume_a, volume_b
