"""One label among several: its level set in a box that grows with it, its parameters, and when it ends."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_models.levelset import label_box as boxes
from src_models.levelset.engine import Look
from src_models.levelset.initial import Seeds
from src_models.levelset.label_box import Box
from src_models.levelset.label_engine import LabelEngine
from src_models.levelset.label_start import start_level_set
from src_models.levelset.parameters import LevelSetParameters
from src_models.levelset.run import SLOWEST
from src_models.levelset.stopping import FrontMeasures, StopRules, patch_area


@dataclass(frozen=True)
class TouchingMeasures(FrontMeasures):
    """The front of a label of which a part is held by other labels: no way out, and no sign of an edge either."""

    contact_area: float = 0.0
    patch: float = 0.0

    @property
    def free_share(self) -> float:
        """The free share of the front that no other label holds; of a patch where less than that is left."""
        if self.contact_area == 0:
            return super().free_share
        return self.free_area / max(self.area - self.contact_area, self.patch)


@dataclass(eq=False)
class Scene:
    """What all labels share.

    Attributes
    ----------
    image : ndarray
        The whole, checked grey values.
    spacing : tuple of float
        mm per array axis.
    width : float or None
        w in mm.
    walls : ndarray of bool or None
        Where no label may go.
    pins : ndarray of int or None
        The label that a voxel must stay in; 0 for none.
    """

    image: NDArray[Any]
    spacing: tuple[float, ...]
    width: float | None
    walls: NDArray[np.bool_] | None
    pins: NDArray[Any] | None

    def walls_of(self, number: int, box: Box) -> NDArray[np.bool_] | None:
        """Walls for one label in a box: those of all, and what is pinned to others."""
        walls = None if self.walls is None else self.walls[box]
        if self.pins is None:
            return walls
        pins = self.pins[box]
        theirs = (pins != 0) & (pins != number)
        return np.asarray(theirs if walls is None else walls | theirs)

    def pins_of(self, number: int, box: Box) -> NDArray[np.bool_] | None:
        """Pins for one label in a box."""
        return None if self.pins is None else np.asarray(self.pins[box] == number)


class LabelFront:
    """One label of a run.

    Parameters
    ----------
    number : int
        Its value in the label array.
    scene : Scene
        What it shares with the others.
    initial : ndarray or Seeds
        Its start on the whole array.
    parameters : LevelSetParameters
        Its own, with the grey-value range filled in.
    """

    def __init__(
        self, number: int, scene: Scene, initial: NDArray[Any] | Seeds, parameters: LevelSetParameters
    ) -> None:
        self.number, self.parameters = number, parameters
        self._scene = scene
        u, self.box, self.start_notes = start_level_set(initial, scene.image.shape, scene.spacing, parameters)
        if boxes.needs_everything(parameters):
            u, self.box = _spread(u, self.box, scene), boxes.whole(scene.image.shape)
        self.engine = LabelEngine(u, scene.spacing, scene.width)
        self.stop_reason: str | None = None
        self.rate = self.area = self.free_area = self.size = self.speed_on_front = 0.0
        self.leak_at: tuple[float, ...] | None = None
        self.changed: Box | None = self.box
        self.note = ""
        self.rolled_back = False
        self._leak_noted = False
        self._rules: StopRules | None = None
        self._seen: Look | None = None
        self._tight = (0, 0.0)
        self.constrain()

    # -- changes

    def constrain(self) -> None:
        """Take the walls and pins of the scene, in a box that holds all pins of this label."""
        scene = self._scene
        if scene.pins is not None:
            pinned = boxes.around(scene.pins == self.number)
            if pinned is not None and scene.width is not None:
                self._reach(boxes.widened(pinned, self._margins(), scene.image.shape))
        if scene.walls is not None or scene.pins is not None:
            self.engine.set_walls_and_pins(*self._constraints(self.box))
        self._set_problem()
        self._keep_away_from_the_border()

    def take(self, parameters: LevelSetParameters) -> None:
        """Take other parameters; a label that had ended goes on with them."""
        if boxes.needs_everything(parameters):
            self._reach(boxes.whole(self._scene.image.shape))
        before = self.parameters
        try:
            self.parameters = parameters
            self._set_problem()
        except Exception:
            self.parameters = before
            self._set_problem()
            raise
        self.stop_reason = None
        self.leak_at = None

    def _set_problem(self) -> None:
        scene = self._scene
        images = boxes.speeds_in(scene.image, scene.spacing, self.parameters, self.box)
        self.engine.set_problem(images, self.parameters)
        self._seen = None
        self._rules = None
        self._leak_noted = False

    def _constraints(self, box: Box) -> tuple[NDArray[np.bool_] | None, NDArray[np.bool_] | None]:
        return self._scene.walls_of(self.number, box), self._scene.pins_of(self.number, box)

    # -- the box

    def _margins(self) -> tuple[int, ...]:
        return boxes.margins(self._scene.image.shape, self._scene.spacing, self._scene.width or 0.0)

    def _keep_away_from_the_border(self) -> None:
        """Grow the box before the next step could tell where it ends."""
        local = self.engine.list_box()
        shape = self._scene.image.shape
        if local is None or self._scene.width is None or self.box == boxes.whole(shape):
            return
        listed = tuple(
            slice(at.start + part.start, at.start + part.stop) for at, part in zip(self.box, local, strict=True)
        )
        self._reach(boxes.widened(listed, self._margins(), shape))

    def _reach(self, need: Box) -> None:
        """Make the box hold another one."""
        if boxes.holds(self.box, need):
            return
        larger = boxes.grown(self.box, need, self._scene.image.shape)
        offset = [part.start - new.start for part, new in zip(self.box, larger, strict=True)]
        shape = [part.stop - part.start for part in larger]
        self.engine = self.engine.grown(shape, offset, *self._constraints(larger))
        self.box = larger
        rules, noted = self._rules, self._leak_noted
        self._set_problem()
        self._rules, self._leak_noted = rules, noted

    # -- a step

    def begin(self, limits: tuple[int, float]) -> None:
        """Measure the start."""
        self._tight = limits
        self.size = self._look_at(math.inf).size
        self.measure(0.0, *limits)

    def _look_at(self, threshold: float) -> Look:
        self._seen = self.engine.look(threshold)
        return self._seen

    def time_step(self, time: float) -> float:
        """The step that this label asks for; 0 where it cannot move or its time is over."""
        p = self.parameters
        if p.time_step == "cfl":
            rate = (self._seen or self._look_at(math.inf)).largest_rate
            dt = p.cfl / rate if rate > SLOWEST else 0.0
        else:
            dt = float(p.time_step)
        return dt if p.time is None else min(dt, p.time - time)

    def settle(self, iteration: int) -> None:
        """The second half of a step, and a larger box where it wants one."""
        every = self.parameters.redistance_every
        self.engine.settle(every > 0 and iteration % every == 0)
        self._remember_changes(self.engine.changed_box())
        self._seen = None
        self._keep_away_from_the_border()

    def _remember_changes(self, local: Box | None) -> None:
        self.changed = local and tuple(
            slice(at.start + part.start, at.start + part.stop) for at, part in zip(self.box, local, strict=True)
        )

    def rest(self) -> None:
        """Nothing was done in this step."""
        self.changed, self.note, self.rate, self.rolled_back = None, "", 0.0, False

    def measure(self, dt: float, iteration: int, time: float, reason: str | None = None) -> None:
        """Measure the front and decide whether this label ends."""
        p = self.parameters
        self.note, self.rolled_back = "", False
        if self._rules is None:
            self._rules = self._fresh_rules(self._look_at(math.inf).fastest)
        rules = self._rules
        seen = self._look_at(rules.free_speed / 2)
        contact, blocked = self.engine.contact(rules.free_speed / 2)
        if seen.is_empty:
            reason = "vanished"
        elif seen.is_full and self.box == boxes.whole(self._scene.image.shape):
            reason = "filled"
        self.rate = (seen.size - self.size) / (seen.area * dt) if dt > 0 and seen.area > 0 else 0.0
        self.size, self.area, self.free_area = seen.size, seen.area, max(seen.free_area - blocked, 0.0)
        self.speed_on_front = seen.speed_on_front
        now = TouchingMeasures(time, seen.size, seen.area, self.free_area, self.rate, contact, self._patch())
        if reason is None and p.auto_stop and dt > 0:
            reason = self._judge(rules, now, iteration, time)
        if reason is None and p.time is not None and time >= p.time:
            reason = "time"
        if reason is None and iteration >= p.steps:
            reason = "steps"
        self.stop_reason = reason

    def _active_spacing(self) -> tuple[tuple[float, ...], float]:
        scene = self._scene
        pairs = list(zip(scene.spacing, scene.image.shape, strict=True))
        return tuple(h for h, n in pairs if n > 1), math.prod(h for h, n in pairs if n == 1)

    def _patch(self) -> float:
        active, thickness = self._active_spacing()
        return patch_area(active) * thickness

    def _fresh_rules(self, fastest: float) -> StopRules:
        active, thickness = self._active_spacing()
        return StopRules(self.parameters, active, abs(self.parameters.balloon) * fastest, thickness)

    def _judge(self, rules: StopRules, now: FrontMeasures, iteration: int, time: float) -> str | None:
        """Apply the stop rules; roll back at a leak."""
        found = rules.update(now)
        guard = self.parameters.guard
        if found != "leak":
            if guard == "stop" and rules.is_tight(now):
                self.engine.save()
                self._tight = (iteration, time)
            return found
        if guard == "off":
            return None
        patch = self.engine.largest_free_patch(rules.free_speed / 2)
        self.leak_at = patch and tuple(x + part.start for x, part in zip(patch, self.box, strict=True))
        place = "" if self.leak_at is None else " near voxel " + ", ".join(f"{x:.0f}" for x in self.leak_at)
        if guard == "note":
            self.note = "" if self._leak_noted else f"The front of label {self.number} may be leaking{place}."
            self._leak_noted = True
            return None
        self.engine.roll_back()
        self._remember_changes(self.engine.changed_box())
        self.rolled_back = True
        self.note = f"Leak of label {self.number}{place} at step {iteration}: back to step {self._tight[0]}."
        return "leak"

    def give_way(self, others: Sequence[LabelFront]) -> None:
        """After going back: where others stand by now, they stay."""
        from src_models.levelset.coupling import moved_box, overlap

        u = self.engine.level_set().copy()
        met = False
        for other in others:
            common = overlap(self.box, other.box)
            if common is None:
                continue
            mine, theirs = u[moved_box(common, self.box)], other.level_set()[moved_box(common, other.box)]
            beyond = mine + theirs > 0
            if beyond.any():
                met = True
                np.copyto(mine, -theirs, where=beyond)
        if met:
            self.engine.write(u)
            self.changed = self.box
        self._seen = None
        self._keep_away_from_the_border()
        self.size = self._look_at(math.inf).size

    def level_set(self) -> NDArray[Any]:
        """u in the box of this label; outside it is -w."""
        return self.engine.level_set()


def _spread(u: NDArray[Any], box: Box, scene: Scene) -> NDArray[Any]:
    """u of a box on the whole array."""
    if box == boxes.whole(scene.image.shape):
        return u
    everywhere = np.full(scene.image.shape, -(scene.width or 0.0), u.dtype)
    everywhere[box] = u
    return everywhere
