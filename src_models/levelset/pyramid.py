"""Coarse to fine: a run on a halved grid costs a sixteenth of the steps times voxels, and its rest is a good start.

Each level runs to its own stop with the leak guard on. Its u, interpolated and made a distance again, starts the next
finer one. A level that leaks, empties or fills the grid is thrown away: the next finer one begins from what was drawn.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_models.errors import LsnetError
from src_models.levelset.coarsening import Level, block_any, block_mean, interpolate, pyramid_levels
from src_models.levelset.fields import check_speed_image
from src_models.levelset.initial import Seeds, band_width, check_labels, check_mask, check_seeds
from src_models.levelset.levels import (
    coarse_parameters,
    inside_of,
    keep_drawn,
    speed_of_the_first_front,
    speed_on,
    start_on,
)
from src_models.levelset.parameters import LevelSetParameters
from src_models.levelset.reach import reached
from src_models.levelset.recipes import GivenSpeed, check_mode, given_speed, prepared
from src_models.levelset.run import Run
from src_models.levelset.seed_range import with_seed_range
from src_models.levelset.speed import as_image, check_axes, speed_image, with_range
from src_models.levelset.states import REASONS, Constraints, LevelSetResult, LevelSetState, Resume

SMALLEST_SIDE = 96
"""Voxels along a side, as a geometric mean, from which a run is worth coarser levels."""
USELESS = ("leak", "vanished", "filled", "cancelled")
"""Stops after which the next finer level begins from what was drawn."""
RETREAT = 1.0
"""In edge mode a coarse level begins this many coarser voxels before the place where the coarser one came to rest."""

Message = LevelSetParameters | Constraints | None


def is_worth_it(parameters: LevelSetParameters, shape: Sequence[int], initial: Any) -> bool:
    """Whether a run starts on coarser grids: asked for, large enough, and meant to run until it rests.

    A run to a given time, without automatic stop or without redistancing shows the motion itself: no short cut there.
    """
    sides = [n for n in shape if n > 1]
    return (
        parameters.pyramid
        and parameters.auto_stop
        and parameters.time is None
        and parameters.redistance_every > 0
        and not isinstance(initial, Resume)
        and float(np.prod(sides)) >= SMALLEST_SIDE ** len(sides)
    )


def coarse_to_fine(beginning: Beginning) -> Generator[LevelSetState, Message, Beginning]:
    """Run the coarse levels and give the beginning of the finest.

    Parameters
    ----------
    beginning : Beginning
        What the whole run begins with.

    Yields
    ------
    LevelSetState
        Of the coarse runs, phase ``"coarse 1/8"``; iteration and time stay 0, and `level_set` is interpolated to the
        finest grid when it is read. A change that is sent begins the coarse levels again with it.

    Returns
    -------
    Beginning
        With the level set to go on from; as it was where no coarse level gave one.
    """
    note = ""
    _check(beginning)
    given, image = beginning.speed, beginning.image
    beginning = replace(beginning, speed=prepared(given, image, beginning.spacing, beginning.initial))
    while is_worth_it(beginning.parameters, np.shape(beginning.image), beginning.initial):
        pyramid = _Pyramid(beginning)
        message = yield from pyramid.run(note)
        if message is None:
            return pyramid.result()
        changed, note = beginning.changed(message), ""
        try:
            _check(changed)
            beginning = changed
        except LsnetError as refused:
            note = f"Not changed: {refused}"
    return beginning


@dataclass(frozen=True, eq=False)
class Beginning:
    """All a run begins with.

    Attributes
    ----------
    image, initial, spacing, parameters, speed, walls, pins
        As `evolve` takes them.
    """

    image: NDArray[Any]
    initial: NDArray[Any] | Seeds | Resume
    spacing: Sequence[float]
    parameters: LevelSetParameters
    speed: GivenSpeed | None
    walls: NDArray[Any] | None
    pins: NDArray[Any] | None

    def changed(self, message: Message) -> Beginning:
        """The same with a change taken in."""
        if isinstance(message, LevelSetParameters):
            fixed = {name: getattr(self.parameters, name) for name in ("dtype", "device", "band", "engine")}
            return replace(self, parameters=message.model_copy(update=fixed))
        if isinstance(message, Constraints):
            walls = self.walls if message.walls is None else message.walls
            pins = self.pins if message.pins is None else message.pins
            return replace(self, walls=walls, pins=pins)
        return self

    def run(self, contributions: bool = False) -> Run:
        """The run itself."""
        return Run(
            self.image,
            self.initial,
            self.spacing,
            self.parameters,
            self.speed,
            self.walls,
            self.pins,
            contributions,
        )


def _check(beginning: Beginning) -> None:
    """Refuse in a sentence what the finest run would refuse."""
    shape = check_axes(beginning.image, beginning.spacing).shape
    if isinstance(beginning.initial, Seeds):
        check_seeds(beginning.initial, shape, beginning.spacing)
    elif not isinstance(beginning.initial, Resume):
        check_labels(np.asarray(beginning.initial), shape)
    check_mode(beginning.speed, beginning.parameters)
    if isinstance(beginning.speed, np.ndarray):
        check_speed_image(beginning.speed, shape, beginning.parameters)
    for mask, name in ((beginning.walls, "walls"), (beginning.pins, "pins")):
        if mask is not None:
            check_mask(mask, shape, name)


class _Pyramid:
    """The coarse levels of one beginning."""

    def __init__(self, beginning: Beginning) -> None:
        self._given = beginning
        self._image = as_image(beginning.image, beginning.spacing)
        given = beginning.speed is not None
        self._parameters = (
            with_range(self._image, beginning.parameters)
            if given
            else with_seed_range(self._image, beginning.initial, beginning.spacing, beginning.parameters)
        )
        self._speed = self._fine_speed()
        self._levels = pyramid_levels(self._image.shape, beginning.spacing)
        self._u: NDArray[Any] | None = None
        self._level = self._levels[0]

    def _fine_speed(self) -> NDArray[Any] | None:
        """The speed image of the finest grid; None where it follows the means."""
        p, given = self._parameters, self._given
        if given.speed is not None:
            return given_speed(given.speed, self._image, given.spacing, p, given.initial)[0]
        if p.speed == "region" and p.region == "chan_vese":
            return None
        return speed_image(self._image, given.spacing, p)

    def run(self, note: str) -> Generator[LevelSetState, Message, Message]:
        """Every coarse level to its stop; a change that is sent ends them."""
        for level in self._levels[:0:-1]:
            run = self._begun(level).run()
            state = run.start()
            while True:
                message = yield self._shown(state, run, level, note)
                if message is not None:
                    return message
                note = ""
                if state.stop_reason is not None:
                    break
                state = run.step()
            if state.stop_reason in USELESS:
                note = f"Coarse level {level.share}: {REASONS[state.stop_reason]} The next one begins anew."
                self._u = None
            else:
                self._u, self._level = run.level_set().copy(), level
        return None

    def result(self) -> Beginning:
        """What the finest run begins with."""
        ready = self._start(self._levels[0])
        if ready is None:
            return self._given
        return replace(self._given, initial=replace(ready, origin=self._origin, speed=self._speed))

    @property
    def _origin(self) -> NDArray[Any] | Seeds:
        initial = self._given.initial
        return initial if isinstance(initial, Seeds) else np.asarray(initial)

    def _begun(self, level: Level) -> Beginning:
        """The run of a coarse level."""
        given, ready = self._given, self._start(level)
        walls = None if given.walls is None else block_any(np.asarray(given.walls) != 0, level.factors)
        pins = None if given.pins is None else start_on(level, np.asarray(given.pins) != 0)
        return Beginning(
            block_mean(self._image, level.factors),
            start_on(level, self._origin) if ready is None else ready,
            level.spacing,
            coarse_parameters(self._parameters),
            None if self._speed is None else speed_on(level, self._speed, self._parameters.speed),
            walls,
            pins if pins is None or walls is None else pins & ~walls,
        )

    def _start(self, level: Level) -> Resume | None:
        """The u of the level before on this one, to be made a distance; None where there is none."""
        if self._u is None:
            return None
        p = self._parameters
        width = band_width(level.spacing, level.shape, p.band)
        u = interpolate(self._u, self._level.within(level), level.shape)
        if p.speed == "edge" and level is not self._levels[0]:
            # An edge is known to a coarse voxel, and g never drives the front back out of a neck it has entered. Not on
            # the last way, where the creeping over again would cost most of what the coarse levels save.
            u -= u.dtype.type(math.copysign(RETREAT, p.balloon) * max(self._level.spacing) if p.balloon else 0)
        drawn = inside_of(start_on(level, self._origin, width))
        speed = None if self._speed is None else speed_on(level, self._speed, p.speed)
        growth = None if speed is None or p.speed == "edge" else speed if p.balloon == 1 else p.balloon * speed
        if growth is not None:
            held = reached(u, growth, drawn)
            if held is not None:
                np.negative(u, out=u, where=~held & (u > 0))
        keep_drawn(u, drawn, p.balloon, level.spacing, growth)
        if not (u > 0).any() or (u > 0).all():
            return None
        fastest = 1.0 if speed is None else speed_of_the_first_front(speed, drawn) ** p.balloon_exponent
        # The record of a coarse run is never read: no start is stored for it.
        return Resume(u, origin=Seeds(), free_speed=abs(p.balloon) * fastest, redistance=True)

    def _shown(self, state: LevelSetState, run: Run, level: Level, note: str) -> LevelSetState:
        """A state of a coarse run as one of the whole run, which has not begun to count."""
        box = state.changed_box
        if box is not None:
            sides = zip(box, level.factors, self._image.shape, strict=True)
            box = tuple(slice(max(0, (part.start - 1) * f), min(n, (part.stop + 1) * f)) for part, f, n in sides)
        notes = tuple(filter(None, (note, state.note)))
        return replace(
            state,
            phase=f"coarse {level.share}",
            fraction=None,
            message=f"Coarse {level.share}: {state.message}",
            values=dict(state.values) | {"time": 0.0},
            notes=notes,
            iteration=0,
            time=0.0,
            changed_box=box,
            note=" ".join(notes),
            stop_reason=None,
            leak_at=None,
            run=_Interpolated(self._given, self._parameters, run, level),
        )


@dataclass(frozen=True, eq=False)
class _Interpolated:
    """A coarse run, seen on the finest grid."""

    given: Beginning
    parameters: LevelSetParameters
    run: Run
    level: Level

    def level_set(self) -> NDArray[Any]:
        """U as it is now, interpolated and clipped to the band of the finest grid."""
        shape = np.shape(self.given.image)
        u = interpolate(self.run.level_set(), self.level.factors, shape)
        width = band_width(self.given.spacing, shape, self.parameters.band)
        return np.clip(u, -width, width, out=u)

    def result(self, state: LevelSetState) -> LevelSetResult:
        """What a run cancelled here has found; the record goes on from its level set."""
        ready = replace(self.given, initial=Resume(self.level_set())).run()
        return ready.result(replace(ready.start(), stop_reason=state.stop_reason))
