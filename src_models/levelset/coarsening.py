"""Grids of halves: coarser copies of images, speeds and walls, and the way back by linear interpolation.

A coarse voxel stands for a block of fine ones. Its centre lies in the middle of the block, so coarse index k of a block
of f voxels is the fine index ``f k + (f - 1) / 2``. Where the last block is not full, its missing voxels count as
copies of what is there (edge replication): the grid stays even and the value is that of the voxels present.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_models.errors import InputError
from src_models.levelset.compiled import compiled

AGREEING = 1.5
"""Spacings this close count as equal; beyond it the finest axes are halved alone."""
SMALLEST_SIDE = 24
"""Voxels along a side, as a geometric mean, below which no coarser level is made: halves of 32 to 63 end here."""
SMALLEST_AXIS = 8
"""No axis is halved to fewer voxels: the band has 4 on either side of the front."""

Factors = tuple[int, ...]


@dataclass(frozen=True)
class Level:
    """One grid of a pyramid.

    Attributes
    ----------
    shape : tuple of int
        Voxels per array axis.
    spacing : tuple of float
        mm per array axis.
    factors : tuple of int
        Voxels of the finest grid along each side of a voxel of this one.
    """

    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    factors: Factors

    @property
    def fine_spacing(self) -> tuple[float, ...]:
        """mm per array axis of the finest grid."""
        return tuple(h / f for h, f in zip(self.spacing, self.factors, strict=True))

    @property
    def offset(self) -> tuple[float, ...]:
        """Where the centre of the first voxel lies, in voxels of the finest grid."""
        return tuple((f - 1) / 2 for f in self.factors)

    @property
    def offset_mm(self) -> tuple[float, ...]:
        """The same in mm from the centre of the first voxel of the finest grid."""
        return tuple(o * h for o, h in zip(self.offset, self.fine_spacing, strict=True))

    @property
    def share(self) -> str:
        """Size beside the finest grid, in words: ``"1/8"``."""
        return f"1/{max(self.factors)}"

    def within(self, finer: Level) -> Factors:
        """Voxels of a finer level along each side of a voxel of this one."""
        return tuple(own // theirs for own, theirs in zip(self.factors, finer.factors, strict=True))


def pyramid_levels(shape: Sequence[int], spacing: Sequence[float]) -> tuple[Level, ...]:
    """The grids from the finest to about 32 voxels a side.

    First the finest axes are halved until the spacings agree within 1.5, then all axes together; axes of length 1 stay.

    Parameters
    ----------
    shape : sequence of int
        (z, y, x) or (y, x).
    spacing : sequence of float
        mm per array axis.
    """
    found = [Level(tuple(shape), tuple(float(h) for h in spacing), (1,) * len(shape))]
    while (coarser := _halved(found[-1])) is not None:
        found.append(coarser)
    return tuple(found)


def _halved(level: Level) -> Level | None:
    active = [n > 1 for n in level.shape]
    if not any(active):
        return None
    widest = max(h for h, a in zip(level.spacing, active, strict=True) if a)
    finest = [a and widest / h > AGREEING * (1 + 1e-9) for h, a in zip(level.spacing, active, strict=True)]
    halves = finest if any(finest) else active
    by = tuple(2 if half else 1 for half in halves)
    shape = tuple(-(-n // f) for n, f in zip(level.shape, by, strict=True))
    if any(n < SMALLEST_AXIS for n, half in zip(shape, halves, strict=True) if half):
        return None
    sides = [n for n, a in zip(shape, active, strict=True) if a]
    if math.prod(sides) < SMALLEST_SIDE ** len(sides):
        return None
    return Level(
        shape,
        tuple(h * f for h, f in zip(level.spacing, by, strict=True)),
        tuple(a * b for a, b in zip(level.factors, by, strict=True)),
    )


def block_mean(array: NDArray[Any], factors: Sequence[int]) -> NDArray[Any]:
    """The mean of each block: images, region speeds, and the inside share of masks.

    Parameters
    ----------
    array : ndarray of shape (z, y, x) or (y, x)
        Any real type; NaN and infinite values show in their block.
    factors : sequence of int
        Voxels per block along each axis.

    Returns
    -------
    ndarray
        float64 for float64, else float32.
    """
    return block_mean_and_range(array, factors)[0]


def block_mean_and_range(array: NDArray[Any], factors: Sequence[int]) -> tuple[NDArray[Any], tuple[float, float]]:
    """The mean of each block, and the smallest and largest value of all, in one pass."""
    whole, out, by = _prepared(
        array, factors, np.float64 if array.dtype.kind == "f" and array.dtype.itemsize >= 8 else np.float32
    )
    low, high = _mean(whole, out, *by, np.zeros(whole.shape[2], out.dtype))
    return out.reshape(_coarse_shape(array.shape, factors)), (float(low), float(high))


def block_minimum(array: NDArray[Any], factors: Sequence[int]) -> NDArray[Any]:
    """The minimum of each block: edge speeds, so that thin walls stay closed. The type stays."""
    whole, out, by = _prepared(array, factors, array.dtype)
    _minimum(whole, out, *by, np.zeros(whole.shape[2], out.dtype))
    return out.reshape(_coarse_shape(array.shape, factors))


def block_any(mask: NDArray[Any], factors: Sequence[int]) -> NDArray[np.bool_]:
    """Where a block holds any voxel of a mask: walls."""
    absent = np.logical_not(mask).view(np.uint8)
    return np.asarray(block_minimum(absent, factors) == 0)


def interpolate(
    coarse: NDArray[Any], factors: Sequence[int], shape: Sequence[int], out: NDArray[Any] | None = None
) -> NDArray[Any]:
    """A coarse array on the grid its blocks were made of, linear between the block centres and constant beyond.

    Parameters
    ----------
    coarse : ndarray of shape (z, y, x) or (y, x)
        float32 or float64.
    factors : sequence of int
        Fine voxels per coarse voxel along each axis.
    shape : sequence of int
        Of the fine grid: it must have as many blocks as `coarse` has voxels.
    out : ndarray, optional
        Where to write, contiguous, of the type of `coarse`.

    Raises
    ------
    InputError
        Where the shapes do not belong together.
    """
    if _coarse_shape(shape, factors) != coarse.shape:
        raise InputError(
            "level-grid",
            f"{coarse.shape} coarse voxels of {tuple(factors)} do not make {tuple(shape)}",
            "",
            "Give the grid they were made from.",
        )
    fine = np.empty(tuple(shape), coarse.dtype) if out is None else out
    lead = (1,) * (3 - coarse.ndim)
    places = [_places(n, f, coarse.dtype) for n, f in zip(lead + tuple(shape), lead + tuple(factors), strict=True)]
    source = np.ascontiguousarray(coarse).reshape(lead + coarse.shape)
    buffers = np.empty(source.shape[1:], coarse.dtype), np.empty(source.shape[2], coarse.dtype)
    _interpolate(source, fine.reshape(lead + fine.shape), *places[0], *places[1], *places[2], *buffers)
    return fine


def _places(n: int, factor: int, dtype: np.dtype[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[Any]]:
    """For each fine voxel of an axis the two coarse ones it lies between, and the share of the second."""
    last = -(-n // factor) - 1
    at = np.clip((np.arange(n) - (factor - 1) / 2) / factor, 0, last)
    below = np.minimum(np.floor(at).astype(np.int64), max(last - 1, 0))
    return below, np.minimum(below + 1, last), (at - below).astype(dtype)


def _coarse_shape(shape: Sequence[int], factors: Sequence[int]) -> tuple[int, ...]:
    return tuple(-(-n // f) for n, f in zip(shape, factors, strict=True))


def _prepared(array: NDArray[Any], factors: Sequence[int], dtype: Any) -> tuple[NDArray[Any], NDArray[Any], Factors]:
    """The array with three axes, an empty result, and the factors with three."""
    lead = (1,) * (3 - array.ndim)
    plain = array.view(np.uint8) if array.dtype.kind == "b" else array
    if plain.dtype.kind == "f" and plain.dtype.itemsize not in (4, 8):
        plain = plain.astype(np.float32 if plain.dtype.itemsize < 4 else np.float64)
    plain = plain.astype(plain.dtype.newbyteorder("="), copy=False)
    whole = np.ascontiguousarray(plain).reshape(lead + array.shape)
    by = lead + tuple(int(f) for f in factors)
    return whole, np.empty(_coarse_shape(whole.shape, by), dtype), by


@compiled
def _mean(
    fine: NDArray[Any], coarse: NDArray[Any], fz: int, fy: int, fx: int, row: NDArray[Any]
) -> tuple[float, float]:
    """Rows first, which run along memory; then the blocks of the summed row."""
    nz, ny, nx = fine.shape
    low = high = fine[0, 0, 0]
    for k in range(coarse.shape[0]):
        z_end = min((k + 1) * fz, nz)
        for j in range(coarse.shape[1]):
            y_end = min((j + 1) * fy, ny)
            row[:] = 0
            for z in range(k * fz, z_end):
                for y in range(j * fy, y_end):
                    line = fine[z, y]
                    for x in range(nx):
                        value = line[x]
                        row[x] += value
                        low = value if value < low else low
                        high = value if value > high else high
            rows = (z_end - k * fz) * (y_end - j * fy)
            for i in range(coarse.shape[2]):
                x_end = min((i + 1) * fx, nx)
                total = row[i * fx]
                for x in range(i * fx + 1, x_end):
                    total += row[x]
                coarse[k, j, i] = total / (rows * (x_end - i * fx))
    return low, high


@compiled
def _minimum(fine: NDArray[Any], coarse: NDArray[Any], fz: int, fy: int, fx: int, row: NDArray[Any]) -> None:
    nz, ny, nx = fine.shape
    for k in range(coarse.shape[0]):
        for j in range(coarse.shape[1]):
            row[:] = fine[k * fz, j * fy]
            for z in range(k * fz, min((k + 1) * fz, nz)):
                for y in range(j * fy, min((j + 1) * fy, ny)):
                    line = fine[z, y]
                    for x in range(nx):
                        row[x] = line[x] if line[x] < row[x] else row[x]
            for i in range(coarse.shape[2]):
                least = row[i * fx]
                for x in range(i * fx + 1, min((i + 1) * fx, nx)):
                    least = row[x] if row[x] < least else least
                coarse[k, j, i] = least


@compiled
def _interpolate(
    coarse: NDArray[Any],
    fine: NDArray[Any],
    z_below: NDArray[Any],
    z_above: NDArray[Any],
    z_share: NDArray[Any],
    y_below: NDArray[Any],
    y_above: NDArray[Any],
    y_share: NDArray[Any],
    x_below: NDArray[Any],
    x_above: NDArray[Any],
    x_share: NDArray[Any],
    plane: NDArray[Any],
    row: NDArray[Any],
) -> None:
    """Axis after axis: a plane per fine z, a row per fine y, then the voxels of the row."""
    for z in range(fine.shape[0]):
        below, above, share = coarse[z_below[z]], coarse[z_above[z]], z_share[z]
        for j in range(plane.shape[0]):
            for i in range(plane.shape[1]):
                plane[j, i] = below[j, i] + share * (above[j, i] - below[j, i])
        for y in range(fine.shape[1]):
            left, right, part = plane[y_below[y]], plane[y_above[y]], y_share[y]
            for i in range(row.shape[0]):
                row[i] = left[i] + part * (right[i] - left[i])
            line = fine[z, y]
            for x in range(fine.shape[2]):
                first = row[x_below[x]]
                line[x] = first + x_share[x] * (row[x_above[x]] - first)
