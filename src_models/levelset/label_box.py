"""The box of an array in which one label lives: large enough that nothing in it knows of its border."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_models.levelset.fields import SpeedImages, speed_images
from src_models.levelset.parameters import LevelSetParameters

ALIGNMENT = 16
"""A box begins at a multiple of this along the last axis, where the compiled step has its segments."""

BEYOND = 4
"""Voxels beyond the farthest front point that a voxel of the band may read: two for differences, two for sweeps."""

Box = tuple[slice, ...]


def whole(shape: Sequence[int]) -> Box:
    """The box that is everything."""
    return tuple(slice(0, n) for n in shape)


def margins(shape: Sequence[int], spacing: Sequence[float], width: float) -> tuple[int, ...]:
    """Voxels per axis between the band and the border of its box from which on a step cannot tell the border.

    A voxel of the band reads its speed at most w away.
    """
    return tuple(math.ceil(width / h) + BEYOND if n > 1 else 0 for n, h in zip(shape, spacing, strict=True))


def aligned(low: Sequence[int], high: Sequence[int], shape: Sequence[int]) -> Box:
    """The smallest box of segments around a region, cut at the borders of the array."""
    starts, stops = [max(0, a) for a in low], [min(b, n) for b, n in zip(high, shape, strict=True)]
    starts[-1] -= starts[-1] % ALIGNMENT
    stops[-1] = min(-(-stops[-1] // ALIGNMENT) * ALIGNMENT, shape[-1])
    return tuple(slice(a, b) for a, b in zip(starts, stops, strict=True))


def widened(box: Box, by: Sequence[int], shape: Sequence[int]) -> Box:
    """A box with so many voxels more on each side of each axis."""
    low = [part.start - m for part, m in zip(box, by, strict=True)]
    high = [part.stop + m for part, m in zip(box, by, strict=True)]
    return aligned(low, high, shape)


def around(flags: NDArray[Any]) -> Box | None:
    """The smallest box around the set flags."""
    parts = []
    for axis in range(flags.ndim):
        along = np.flatnonzero(flags.any(axis=tuple(other for other in range(flags.ndim) if other != axis)))
        if along.size == 0:
            return None
        parts.append(slice(int(along[0]), int(along[-1]) + 1))
    return tuple(parts)


def holds(outer: Box, inner: Box) -> bool:
    """Whether one box lies in another."""
    return all(a.start <= b.start and b.stop <= a.stop for a, b in zip(outer, inner, strict=True))


def grown(box: Box, need: Box, shape: Sequence[int]) -> Box:
    """A box that holds another one, with room to spare on the sides that had to move."""
    low, high = [], []
    for part, wanted in zip(box, need, strict=True):
        room = max(ALIGNMENT // 2, (part.stop - part.start) // 4)
        low.append(part.start if part.start <= wanted.start else wanted.start - room)
        high.append(part.stop if part.stop >= wanted.stop else wanted.stop + room)
    return aligned(low, high, shape)


def needs_everything(parameters: LevelSetParameters) -> bool:
    """Whether a label cannot live in a box: without a band, or with means over the whole image."""
    follows = parameters.speed == "region" and parameters.region == "chan_vese"
    return parameters.redistance_every == 0 or follows


def speeds_in(image: NDArray[Any], spacing: Sequence[float], parameters: LevelSetParameters, box: Box) -> SpeedImages:
    """The speed images of a box, the same bits as cut out of those of the whole image.

    Parameters
    ----------
    image : ndarray
        The whole, checked grey values.
    spacing : sequence of float
        mm per array axis.
    parameters : LevelSetParameters
        With the grey-value range of the whole image filled in.
    box : tuple of slice
        Where the speeds are wanted.
    """
    sigma = parameters.sigma
    widest = max(sigma) if isinstance(sigma, tuple) else sigma
    # A Gaussian is cut at 4 sigma; twice, and a difference after each.
    reach = [math.ceil(4 * widest / h) + math.ceil(4 * parameters.convection_sigma / h) + 4 for h in spacing]
    wide = widened(box, reach, image.shape)
    images = speed_images(np.ascontiguousarray(image[wide]), spacing, parameters)
    cut = tuple(slice(b.start - a.start, b.stop - a.start) for a, b in zip(wide, box, strict=True))

    def part(array: NDArray[Any] | None) -> NDArray[Any] | None:
        return None if array is None else np.ascontiguousarray(array[cut])

    primary = np.ascontiguousarray(images.primary[cut])
    edge = primary if images.edge is images.primary else part(images.edge)
    pull = edge if images.pull is images.edge else part(images.pull)
    return SpeedImages(primary, edge, pull, part(images.follows))
