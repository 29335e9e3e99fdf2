"""Arrival times: when the front would reach each voxel if only the balloon drove it. An instant preview of a run.

The eikonal equation ``sum_d max(D-_d T, -D+_d T, 0)^2 = 1/(balloon S)^2`` with T = |u| / (balloon S) beside the seed.
It knows no curvature and no convection, so necks are entered and leaks are run through that a run may hold: a preview.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from src_models.errors import InputError
from src_models.levelset.balloon_speeds import BalloonSpeeds
from src_models.levelset.coarsening import Level, interpolate, pyramid_levels
from src_models.levelset.fast_marching import March
from src_models.levelset.initial import Seeds, band_width, check_labels, check_mask, check_seeds
from src_models.levelset.levels import inside_of, start_on
from src_models.levelset.parameters import LevelSetParameters
from src_models.levelset.seed_range import follows_seed, with_seed_range
from src_models.levelset.speed import as_image, check_axes
from src_models.progress import Progress

NOTE = "A preview: no curvature, no convection."
"""Said with every result."""
PORTION = 20_000
"""Voxels between two reports: 10 to 30 ms."""


@dataclass(frozen=True, eq=False)
class ArrivalTimes:
    """When the front arrives where.

    Attributes
    ----------
    shape : tuple of int
        (z, y, x) or (y, x), of the image.
    spacing : tuple of float
        mm per array axis, of the image.
    until : float or None
        Later times were not computed; None for all.
    level : Level
        The grid on which they were computed: the image's, or a coarser one for a first picture.
    at_level : ndarray of float32
        The times on that grid: 0 in the seed, infinite where the front does not arrive.
    fastest : float
        The largest speed, mm per unit of time.
    notes : tuple of str
        What the picture leaves out, in words.
    """

    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    until: float | None
    level: Level
    at_level: NDArray[np.float32]
    fastest: float
    notes: tuple[str, ...] = (NOTE,)

    @cached_property
    def latest(self) -> float:
        """The last time at which anything is reached."""
        return float(self.at_level.max(initial=0.0, where=np.isfinite(self.at_level)))

    @cached_property
    def times(self) -> NDArray[np.float32]:
        """The times on the image's grid, read-only; a coarser one is interpolated linearly, at the first reading."""
        if self.level.shape == self.shape:
            fine = self.at_level.view()
        else:
            # What never arrives is given a time after all others, so that the border lies between the two voxels.
            never = np.float32(2 * self.latest + 1)
            fine = interpolate(np.minimum(self.at_level, never), self.level.factors, self.shape)
            fine[fine > self.latest] = np.inf
        fine.setflags(write=False)
        return fine

    def mask(self, time: float) -> NDArray[np.bool_]:
        """The inside at a time: the seed, and what was reached until then; for a slider."""
        if self.level.shape == self.shape:
            return np.asarray(self.at_level <= np.float32(time))
        # In voxels and clipped: beside what is late or never reached the border then lies half way.
        ahead = (np.float32(time) - self.at_level) * np.float32(self.fastest / max(self.level.spacing))
        return np.asarray(interpolate(np.clip(ahead, -1, 1), self.level.factors, self.shape) >= 0)


@dataclass(frozen=True, kw_only=True, eq=False)
class ArrivalState(Progress):
    """A report of the march.

    Attributes
    ----------
    arrival : ArrivalTimes or None
        A finished picture, from a coarse grid first; None in between.
    reached : float
        The time up to which the march has come on its grid.
    """

    arrival: ArrivalTimes | None = field(default=None, repr=False)
    reached: float = 0.0


def arrival_times(
    speed: NDArray[Any],
    initial: NDArray[Any],
    spacing: Sequence[float],
    balloon: float,
    *,
    until: float | None = None,
    order: Literal[1, 2] = 2,
) -> Generator[ArrivalState, None, ArrivalTimes]:
    """Solve the eikonal equation by fast marching.

    Parameters
    ----------
    speed : ndarray of shape (z, y, x) or (y, x)
        S: edge or region speed. Where ``balloon * speed`` is not positive the front never arrives.
    initial : ndarray
        The seed: labels (bool or integer; anything but 0 is inside), or u (float, > 0 inside), which gives the front
        its place between the voxels.
    spacing : sequence of float
        mm per array axis.
    balloon : float
        Weight of the balloon; the front runs at ``balloon * speed`` mm per unit of time.
    until : float, optional
        Stop there: what is reached later is infinite.
    order : {1, 2}
        Of the one-sided differences; 1 arrives several per cent late.

    Yields
    ------
    ArrivalState
        Every 20,000 voxels. Cancel by ``close``.

    Returns
    -------
    ArrivalTimes
        float32, in the units of the equation.

    Raises
    ------
    InputError, GeometryError
        One sentence each.

    References
    ----------
    Sethian, Level Set Methods and Fast Marching Methods, 2nd ed. (1999), chapter 8.
    """
    plain = as_image(speed, spacing)
    start = np.asarray(initial)
    check_labels(start, plain.shape)
    _check_until(until)
    level = Level(plain.shape, tuple(float(h) for h in spacing), (1,) * plain.ndim)
    return (yield from _marched(plain, start, level, plain.shape, balloon, until, order))


def arrival_preview(
    image: NDArray[Any],
    initial: NDArray[Any] | Seeds,
    spacing: Sequence[float],
    parameters: LevelSetParameters,
    given_speed: NDArray[Any] | None = None,
    *,
    walls: NDArray[Any] | None = None,
    until: float | None = None,
) -> Generator[ArrivalState, None, ArrivalTimes]:
    """Arrival times of a run with these parameters: a coarse picture at once, then finer ones, then the full grid.

    Parameters
    ----------
    image : ndarray of shape (z, y, x) or (y, x)
        Grey values, any real type.
    initial : ndarray or Seeds
        As `evolve` takes it.
    spacing : sequence of float
        mm per array axis.
    parameters : LevelSetParameters
        Speed, balloon, its exponent and the order; a Chan-Vese speed depends on the front, so that of thresholds stands
        in for it.
    given_speed : ndarray, optional
        Replaces the computed edge image or region speed.
    walls : ndarray of bool, optional
        Where the front never arrives.
    until : float, optional
        Stop there; the `time` of the parameters by default.

    Yields
    ------
    ArrivalState
        ``state.arrival`` holds a picture whenever one is finished.

    Returns
    -------
    ArrivalTimes
        On the image's grid.

    Raises
    ------
    InputError, GeometryError
        One sentence each.
    """
    image = np.asarray(image)
    limit = parameters.time if until is None else until
    seeds = _checked(image, initial, spacing, walls, limit)
    if follows_seed(parameters) and given_speed is None:
        parameters = with_seed_range(as_image(image, spacing), seeds, spacing, parameters)
    levels = pyramid_levels(image.shape, spacing)
    speeds = BalloonSpeeds(image, levels, parameters, given_speed, walls)
    for level in reversed(levels):
        first = level is levels[-1]
        s = speeds.at_once() if first and len(levels) > 1 else speeds.on(level)
        start = start_on(level, seeds, band_width(level.spacing, level.shape, parameters.band))
        march = _marched(s, start, level, image.shape, parameters.balloon, limit, parameters.order)
        found = yield from march
        if level is not levels[0]:
            yield replace(_report(level, 1.0, found.latest), arrival=found)
    return found


def _checked(
    image: NDArray[Any],
    initial: NDArray[Any] | Seeds,
    spacing: Sequence[float],
    walls: NDArray[Any] | None,
    until: float | None,
) -> NDArray[Any] | Seeds:
    """What can be checked without reading every voxel; the rest is checked where it is read."""
    _check_until(until)
    check_axes(image, spacing)
    if walls is not None:
        check_mask(walls, image.shape, "walls")
    if isinstance(initial, Seeds):
        check_seeds(initial, image.shape, spacing)
        return initial
    start = np.asarray(initial)
    check_labels(start, image.shape)
    return start


def _check_until(until: float | None) -> None:
    if until is not None and not until > 0:
        raise InputError("until-positive", f"The time to stop at is {until:g}", "", "Give a time above 0, or none.")


def _marched(
    speed: NDArray[Any],
    start: NDArray[Any],
    level: Level,
    shape: tuple[int, ...],
    balloon: float,
    until: float | None,
    order: Literal[1, 2],
) -> Generator[ArrivalState, None, ArrivalTimes]:
    lead = (1,) * (3 - speed.ndim)
    as_volume = lead + speed.shape
    graded = start if start.dtype.kind == "f" else inside_of(start)
    march = March(
        np.ascontiguousarray(speed).reshape(as_volume),
        np.ascontiguousarray(graded).reshape(as_volume),
        (1.0,) * len(lead) + level.spacing,
        float(balloon),
        order,
    )
    while march.go_on(PORTION, math.inf if until is None else until):
        yield _report(level, march.arrived / march.reachable, march.latest)
    march.forget_the_waiting()
    notes = (NOTE,) if march.reachable else (NOTE, "The balloon grows nowhere outside the seed.")
    return ArrivalTimes(shape, level.fine_spacing, until, level, march.times.reshape(speed.shape), march.fastest, notes)


def _report(level: Level, fraction: float, reached: float) -> ArrivalState:
    name = "arrival" if max(level.factors) == 1 else f"arrival {level.share}"
    return ArrivalState(phase=name, fraction=fraction, message=f"Arrived until {reached:.4g}", reached=reached)
