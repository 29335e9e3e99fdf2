"""Two masks side by side: what only one of them covers, how alike they are, how far apart their surfaces lie."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_models.errors import GeometryError
from src_models.geometry import check_spacing


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two masks on one grid.

    Attributes
    ----------
    only_a, only_b, both : ndarray of bool
        Of the shape of the masks.
    dice : float
        2 |A and B| / (|A| + |B|); 1 where both are empty.
    difference_mm : float
        Size of B minus size of A, in mm^3 (mm^2 for a picture).
    difference_ml : float or None
        The same in ml; None for a picture.
    surface_mm : float or None
        Mean distance between the border voxels of the two, both ways; None where one of them is empty or
        fills the whole array.
    farthest_mm : float or None
        The largest of these distances (Hausdorff).
    """

    only_a: NDArray[np.bool_]
    only_b: NDArray[np.bool_]
    both: NDArray[np.bool_]
    dice: float
    difference_mm: float
    difference_ml: float | None
    surface_mm: float | None
    farthest_mm: float | None


def compare_masks(a: NDArray[Any], b: NDArray[Any], spacing: Sequence[float]) -> Comparison:
    """Compare two masks.

    Parameters
    ----------
    a, b : ndarray of shape (z, y, x) or (y, x)
        Anything but 0 is inside.
    spacing : sequence of float
        mm per array axis.

    Raises
    ------
    GeometryError
        Where they lie on different grids.
    """
    first, second = np.asarray(a) != 0, np.asarray(b) != 0
    if first.shape != second.shape:
        raise GeometryError(
            "compare-grid",
            f"The masks lie on different grids, {first.shape} and {second.shape} voxels",
            "",
            "Choose two results on one image.",
        )
    check_spacing(tuple(spacing), first.ndim)
    both = first & second
    sizes = int(first.sum()), int(second.sum())
    difference = (sizes[1] - sizes[0]) * math.prod(spacing)
    distances = _surface_distances(first, second, spacing) if all(sizes) else None
    return Comparison(
        only_a=first & ~second,
        only_b=second & ~first,
        both=both,
        dice=2 * int(both.sum()) / sum(sizes) if any(sizes) else 1.0,
        difference_mm=difference,
        difference_ml=difference / 1000 if first.ndim == 3 else None,
        surface_mm=None if distances is None else float(distances.mean()),
        farthest_mm=None if distances is None else float(distances.max()),
    )


def _surface_distances(
    a: NDArray[np.bool_], b: NDArray[np.bool_], spacing: Sequence[float]
) -> NDArray[np.float64] | None:
    """Distance in mm of each border voxel to the other's border, both ways; None where one of them has no border."""
    from scipy.ndimage import binary_erosion, distance_transform_edt, find_objects

    (box,) = find_objects((a | b).astype(np.uint8))
    near = tuple(slice(max(s.start - 1, 0), s.stop + 1) for s in box)
    # Where the mask ends with the array, the array's end is no border.
    borders = [mask & ~binary_erosion(mask, border_value=1) for mask in (a[near], b[near])]
    if not all(border.any() for border in borders):
        return None
    ways = [np.asarray(distance_transform_edt(~borders[1 - k], sampling=spacing))[borders[k]] for k in (0, 1)]
    return np.concatenate(ways)
