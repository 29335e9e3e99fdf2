"""What a run needs, on a coarser grid: its start and its speed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_models.levelset.coarsening import Level, block_mean, block_minimum
from src_models.levelset.initial import Seeds, Sphere, Stroke, from_seeds
from src_models.levelset.parameters import LevelSetParameters

COARSE_RATE = 0.03
"""A coarse front rests at this share of its free speed: what still creeps then may creep through weak places of
an edge that the finer grid holds."""
HALF = 0.5
"""A coarse voxel is inside from this share on: the volume stays."""


def inside_of(start: NDArray[Any]) -> NDArray[np.bool_]:
    """The inside of a drawn start: u > 0 for floating point, anything but 0 for labels."""
    return np.asarray(start > 0 if start.dtype.kind == "f" else start != 0)


def start_on(level: Level, start: NDArray[Any] | Seeds, band_width_mm: float | None = None) -> NDArray[Any]:
    """A start on a coarser grid: u of seeds, the inside of arrays (bool). Nothing drawn vanishes.

    A part of an array of which no coarse voxel is inside by half claims the coarse voxel with the largest share of it,
    as a seed too small for its grid claims the nearest voxel.

    Parameters
    ----------
    level : Level
        The grid.
    start : ndarray or Seeds
        Labels or u on the finest grid; or seeds in mm.
    band_width_mm : float, optional
        u of seeds is clipped to +-w; then only the surroundings of each are computed.
    """
    if isinstance(start, Seeds):
        return from_seeds(_seen_from(level, start), level.shape, level.spacing, band_width_mm, "float32")[0]
    inside = inside_of(start)
    return inside if max(level.factors) == 1 else _majority(block_mean(inside, level.factors))


def _majority(share: NDArray[Any]) -> NDArray[np.bool_]:
    from scipy.ndimage import label, maximum_position

    inside = np.asarray(share >= HALF)
    parts, count = label(share > 0, np.ones((3,) * share.ndim))
    kept = np.zeros(count + 1, dtype=bool)
    kept[parts[inside]] = True
    lost = np.flatnonzero(~kept[1:]) + 1
    if lost.size:
        for place in maximum_position(share, parts, lost):
            inside[place] = True
    return inside


def _seen_from(level: Level, seeds: Seeds) -> Seeds:
    """Seeds with their places counted from the first voxel of a level."""

    def moved(point: Sequence[float]) -> tuple[float, ...]:
        # Clipped, because a seed on the rim of the image may otherwise leave it by rounding.
        sides = zip(point, level.offset_mm, level.spacing, level.shape, strict=True)
        return tuple(min(max(x - o, -0.5 * h), (n - 0.5) * h) for x, o, h, n in sides)

    return Seeds(
        spheres=tuple(Sphere(centre=moved(s.centre), radius=s.radius) for s in seeds.spheres),
        strokes=tuple(Stroke(points=tuple(moved(p) for p in s.points), radius=s.radius) for s in seeds.strokes),
    )


def speed_of_the_first_front(speed: NDArray[Any], drawn: NDArray[np.bool_]) -> float:
    """The largest |S| of the voxels beside the border of a start."""
    beside = np.zeros_like(drawn)
    for axis, n in enumerate(drawn.shape):
        low = [slice(None)] * drawn.ndim
        high = low.copy()
        low[axis], high[axis] = slice(0, n - 1), slice(1, n)
        border = drawn[tuple(low)] != drawn[tuple(high)]
        beside[tuple(low)] |= border
        beside[tuple(high)] |= border
    return float(np.abs(speed[beside]).max(initial=0.0))


def keep_drawn(
    u: NDArray[Any],
    drawn: NDArray[np.bool_],
    balloon: float,
    spacing: Sequence[float],
    growth: NDArray[Any] | None = None,
) -> None:
    """Give back to an interpolated u, in place, what was drawn and is thinner than a coarse voxel.

    A growing front never leaves its start and a shrinking one never leaves the outside of it, so far as the balloon
    decides; where something else decides the run itself will take it away again.

    Parameters
    ----------
    u : ndarray of shape (z, y, x) or (y, x)
        Positive inside.
    drawn : ndarray of bool
        The inside of the start.
    balloon : float
        Its sign decides; with 0 nothing is given back.
    spacing : sequence of float
        mm per array axis.
    growth : ndarray, optional
        balloon S of region mode: given back is only what was drawn inside and would grow there.
    """
    from scipy.ndimage import binary_dilation

    if balloon == 0 or (growth is not None and balloon < 0):
        return
    missing = drawn & (u <= 0) if balloon > 0 else ~drawn & (u > 0)
    if growth is not None:
        missing &= growth > 0
    if not missing.any():
        return
    half = 0.5 * min(h for h, n in zip(spacing, u.shape, strict=True) if n > 1)
    beside = binary_dilation(missing) & ~missing & ((u > 0) == (balloon < 0))
    sign = 1 if balloon > 0 else -1
    u[beside] = sign * np.maximum(sign * u[beside], -half)
    u[missing] = sign * half


def speed_on(level: Level, speed: NDArray[Any], mode: str) -> NDArray[Any]:
    """A speed image on a coarser grid: block minimum of an edge speed, so that thin walls stay; else block mean."""
    if max(level.factors) == 1:
        return speed
    return block_minimum(speed, level.factors) if mode == "edge" else block_mean(speed, level.factors)


def coarse_parameters(parameters: LevelSetParameters) -> LevelSetParameters:
    """The parameters of a run on a coarser grid: to its own stop, with the guard on, and without the last creeping."""
    tolerance = max(parameters.rate_tolerance, COARSE_RATE)
    return parameters.model_copy(update={"pyramid": False, "guard": "stop", "rate_tolerance": tolerance})
