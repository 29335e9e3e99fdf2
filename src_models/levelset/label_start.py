"""The start of one label among several, made in the box that it needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_models.errors import InputError
from src_models.levelset import band_storage
from src_models.levelset import label_box as boxes
from src_models.levelset.initial import Seeds, band_width, check_labels, from_seeds
from src_models.levelset.label_box import Box
from src_models.levelset.parameters import LevelSetParameters


def start_level_set(
    initial: NDArray[Any] | Seeds, shape: Sequence[int], spacing: Sequence[float], parameters: LevelSetParameters
) -> tuple[NDArray[Any], Box, tuple[str, ...]]:
    """u of a start in a box around it, the same bits as on the whole array; outside the box it is -w.

    Parameters
    ----------
    initial : ndarray or Seeds
        As for `evolve`, on the whole array.
    shape, spacing : sequence
        Of the whole array; mm.
    parameters : LevelSetParameters
        ``band``, ``order``, ``dtype``, ``redistance_every``.

    Returns
    -------
    u : ndarray
        Of the box.
    box : tuple of slice
        Where it lies.
    notes : tuple of str
        What was noticed.

    Raises
    ------
    InputError
        Where the start cannot be one.
    """
    width = band_width(spacing, shape, parameters.band)
    banded = parameters.redistance_every > 0
    if isinstance(initial, Seeds):
        u, notes = from_seeds(initial, shape, spacing, width if banded else None, parameters.dtype)
        return (*_cut(u, spacing, width, banded=banded), notes)
    array = np.asarray(initial)
    check_labels(array, shape)
    notes = ()
    if array.dtype.kind == "f" and array.min() >= 0:
        notes = ("The start has no negative values: it is taken as labels.",)
    elif array.dtype.kind == "f":
        start = _scaled(array, width if banded else None, parameters.dtype)
        if banded:
            start = band_storage.redistanced(start, spacing, width, parameters.order)
        return (*_cut(start, spacing, width, banded=banded), notes)
    inside = array > 0 if array.dtype.kind == "f" else array != 0
    return (*_from_mask(inside, spacing, width, parameters), notes)


def _cut(u: NDArray[Any], spacing: Sequence[float], width: float, *, banded: bool) -> tuple[NDArray[Any], Box]:
    """U and the box of what is above -w, with its margins."""
    found = boxes.around(u > -u.dtype.type(width)) if banded else None
    if found is None:
        return u, boxes.whole(u.shape)
    box = boxes.widened(found, [m + 2 for m in boxes.margins(u.shape, spacing, width)], u.shape)
    return np.ascontiguousarray(u[box]), box


def _scaled(array: NDArray[Any], width: float | None, dtype: str) -> NDArray[Any]:
    """A given u in the type of the run."""
    wide = array.astype(np.float64)
    largest = float(np.abs(wide).max())
    if width is not None and not 1e-12 < largest / width < 1e12:
        wide *= width / largest  # slopes are scaled to 1 anyway; this one neither overflows nor vanishes
    with np.errstate(over="ignore"):
        start = wide.astype(dtype)
    if not np.isfinite(start).all() or not np.array_equal(start > 0, array > 0):
        raise InputError("seeds-range", f"The start does not fit into {dtype}", "", "Scale it to a distance in mm.")
    return start


def _from_mask(
    inside: NDArray[np.bool_], spacing: Sequence[float], width: float, parameters: LevelSetParameters
) -> tuple[NDArray[Any], Box]:
    """A distance from a mask, made in a box that it does not fill to the border."""
    shape = inside.shape
    everything = boxes.whole(shape)
    found = boxes.around(inside) or everything
    # once for the band, once for what a voxel of the band reads
    margins = [2 * m for m in boxes.margins(shape, spacing, width)]
    box = everything if boxes.needs_everything(parameters) else boxes.widened(found, margins, shape)
    while True:
        start = np.where(inside[box], width, -width).astype(parameters.dtype)
        u = band_storage.redistanced(start, spacing, width, parameters.order)
        if box == everything or _is_far_from_border(u, box, shape):
            return u, box
        box = boxes.widened(box, margins, shape)


def _is_far_from_border(u: NDArray[Any], box: Box, shape: Sequence[int]) -> bool:
    """Whether u is -w in the outermost three voxels of a box, but where the box ends with the array."""
    low = u.min()
    for axis, (part, n) in enumerate(zip(box, shape, strict=True)):
        along = np.moveaxis(u, axis, 0)
        if part.start > 0 and not (along[:3] == low).all():
            return False
        if part.stop < n and not (along[-3:] == low).all():
            return False
    return True
