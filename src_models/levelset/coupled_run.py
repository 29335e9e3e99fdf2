"""One run of several labels: what it holds between two steps, and the step that all of them make together.

Each moving label moves; they meet; each settles. Nothing is shared between threads but the passes of one label.
"""

from __future__ import annotations

import time as clock
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_models.errors import InputError, LsnetError
from src_models.levelset import label_box as boxes
from src_models.levelset.coupled_inputs import (
    SHARED,
    Starts,
    parameters_by_number,
    starts_by_number,
    stored_inputs,
)
from src_models.levelset.coupled_states import ENDED, LabelReport, LabelsResult, LabelsState
from src_models.levelset.coupling import label_array, overlap
from src_models.levelset.initial import band_width
from src_models.levelset.label_box import Box
from src_models.levelset.label_engine import Neighbour
from src_models.levelset.label_front import LabelFront, Scene
from src_models.levelset.parameters import LevelSetParameters
from src_models.levelset.seed_range import with_seed_range
from src_models.levelset.speed import as_image
from src_models.levelset.states import Constraints
from src_models.record import Change, Record, Source, StoredArray, content_hash, versions

Message = Mapping[int, LevelSetParameters] | LevelSetParameters | Constraints | None


class LabelsRun:
    """Everything a run of several labels holds between two steps; parameters as of `coupled.evolve_labels`."""

    TASK = "evolve_labels"

    def __init__(
        self,
        image: NDArray[Any],
        initials: Starts | NDArray[Any],
        spacing: Sequence[float],
        parameters: LevelSetParameters | Mapping[int, LevelSetParameters],
        protected: NDArray[Any] | None,
        walls: NDArray[Any] | None,
        pins: NDArray[Any] | None,
    ) -> None:
        self._began = clock.perf_counter()
        self._source = np.asarray(image)
        self._image = as_image(image, spacing)
        self.shape = tuple(self._image.shape)
        self.spacing = tuple(float(h) for h in spacing)
        starts = starts_by_number(initials, self.shape)
        self._starts = starts
        chosen = parameters_by_number(parameters, list(starts))
        self._first_parameters = {k: self._resolved(k, p) for k, p in chosen.items()}
        p = next(iter(chosen.values()))
        width = band_width(self.spacing, self.shape, p.band) if p.redistance_every else None
        self._protected = self._array(protected, "protected labels")
        self._scene = Scene(self._image, self.spacing, width, self._walls(walls), self._pins(pins))
        self._inputs = stored_inputs(starts, self._protected, walls, self._scene.pins)
        self._changes: list[Change] = []
        self._notes: list[str] = []
        if self._image.min() == self._image.max():
            self._notes.append("The image is constant: it has no edges and no range to follow.")
        if any(given.pyramid for given in chosen.values()):
            self._notes.append("Coarse to fine has no effect on several labels: they run on the finest grid.")
        self.iteration, self.time = 0, 0.0
        self._fronts: dict[int, LabelFront] = {}
        for number, start in starts.items():
            front = LabelFront(number, self._scene, start, self._first_parameters[number])
            self._notes += [f"Label {number}: {note}" for note in front.start_notes]
            self._refuse_overlap(front)
            self._fronts[number] = front

    # -- preparation

    def _resolved(self, number: int, parameters: LevelSetParameters) -> LevelSetParameters:
        """Grey-value range, and thresholds about the seed of this label, as numbers."""
        return with_seed_range(self._image, self._starts[number], self.spacing, parameters)

    def _array(self, mask: NDArray[Any] | None, name: str) -> NDArray[Any] | None:
        if mask is None:
            return None
        array = np.asarray(mask)
        if array.shape != self.shape:
            raise InputError(
                f"{name.split(' ')[0]}-grid",
                f"The {name} and the image lie on different grids, {array.shape} and {self.shape} voxels",
                "",
                f"Give {name} on this image.",
            )
        return array

    def _walls(self, walls: NDArray[Any] | None) -> NDArray[np.bool_] | None:
        """Walls and protected labels together."""
        given = self._array(walls, "walls")
        if given is None and self._protected is None:
            return None
        every = np.zeros(self.shape, np.bool_)
        for array in (given, self._protected):
            if array is not None:
                every |= array != 0
        return every

    def _pins(self, pins: NDArray[Any] | None) -> NDArray[Any] | None:
        array = self._array(pins, "pins")
        if array is not None and array.dtype.kind not in "ui":
            raise InputError(
                "pins-labels",
                "The pins name no label",
                "",
                "Give the number of the label that each voxel must stay in.",
            )
        return array

    def _refuse_overlap(self, front: LabelFront) -> None:
        for other in self._fronts.values():
            common = overlap(front.box, other.box)
            if common is not None and ((_part(front, common) > 0) & (_part(other, common) > 0)).any():
                raise InputError(
                    "seeds-overlap",
                    f"The starts of labels {other.number} and {front.number} overlap",
                    "a voxel belongs to one label",
                    "Make one of them smaller, or move it.",
                )

    # -- changes from outside

    def _take(self, message: Message) -> str:
        """Take new parameters or constraints from the next step on; what cannot be taken is refused in a sentence."""
        try:
            if isinstance(message, Constraints):
                self._constrain(message)
            elif message is not None:
                same = isinstance(message, LevelSetParameters)
                fresh = dict.fromkeys(self._fronts, message) if same else message
                for number, parameters in self._checked(fresh).items():
                    self._fronts[number].take(parameters)
                    values = parameters.model_dump(mode="json")
                    self._changes.append(Change(step=self.iteration, label=number, parameters=values))
        except LsnetError as refused:
            return self._noted(f"Not changed: {refused}")
        return ""

    def _checked(self, fresh: Any) -> dict[int, LevelSetParameters]:
        """Parameters that can be taken while the labels run."""
        found: dict[int, LevelSetParameters] = {}
        for number, parameters in fresh.items():
            if number not in self._fronts:
                there = ", ".join(map(str, self._fronts))
                raise InputError("label-unknown", f"There is no label {number}", f"there are {there}", "Choose one.")
            if (parameters.redistance_every == 0) != (self._scene.width is None):
                raise InputError(
                    "redistancing-switched",
                    "Redistancing cannot be switched on or off during a run",
                    "",
                    "Start a new run from here.",
                )
            now = self._fronts[number].parameters
            fixed = {name: getattr(now, name) for name in SHARED}
            found[number] = self._resolved(number, parameters.model_copy(update=fixed))
        return found

    def _constrain(self, message: Constraints) -> None:
        before = replace(self._scene)
        if message.walls is not None:
            self._scene.walls = self._walls(message.walls)
        try:
            if message.pins is not None:
                self._scene.pins = self._pins(message.pins)
        except LsnetError:
            self._scene.walls = before.walls
            raise
        for front in self._fronts.values():
            front.constrain()
        walls = None if message.walls is None else StoredArray.of(np.asarray(message.walls) != 0)
        pins = None if message.pins is None else StoredArray.of(np.asarray(message.pins))
        self._changes.append(Change(step=self.iteration, walls=walls, pins=pins))

    def _noted(self, note: str) -> str:
        if note:
            self._notes.append(note)
        return note

    # -- the run itself

    def start(self) -> LabelsState:
        """The state before the first step."""
        for front in self._fronts.values():
            front.begin((self.iteration, self.time))
        return self._state(0.0, "")

    def step(self, message: Message = None) -> LabelsState:
        """One step of every label that has not ended, after taking a change, and the state after it."""
        note = self._take(message)
        steps: dict[int, float] = {}
        for number, front in self._fronts.items():
            front.rest()
            if front.stop_reason is not None:
                continue
            dt = front.time_step(self.time)
            if dt > 0:
                steps[number] = dt
            else:
                limit = front.parameters.time
                over = limit is not None and self.time >= limit
                front.measure(0.0, self.iteration, self.time, "time" if over else "stalled")
        if not steps:
            return self._state(0.0, note)
        moving = [self._fronts[number] for number in steps]
        dt = min(steps.values())
        self.iteration += 1
        self._move_together(moving, dt)
        limits = [front.parameters.time for front in moving]
        reached = [limit for limit in limits if limit is not None and self.time + dt >= limit * (1 - 1e-12)]
        self.time = min(reached, default=self.time + dt)
        for front in moving:
            front.measure(dt, self.iteration, self.time)
        for front in moving:
            if front.rolled_back:
                front.give_way([other for other in self._fronts.values() if other is not front])
        said = [self._noted(front.note) for front in moving if front.note]
        return self._state(dt, " ".join(filter(None, [note, *said])))

    def _move_together(self, moving: Sequence[LabelFront], dt: float) -> None:
        for front in moving:
            front.engine.move(dt)
        for front in moving:
            front.engine.meet(self._neighbours(front, moving))
        for front in moving:
            front.engine.share()
        for front in moving:
            front.settle(self.iteration)

    def _neighbours(self, front: LabelFront, moving: Sequence[LabelFront]) -> list[Neighbour]:
        """The labels whose boxes this one's band may reach into."""
        found: list[Neighbour] = []
        band = front.engine.list_box()
        if band is None:
            return found
        here = tuple(slice(b.start + p.start, b.start + p.stop) for b, p in zip(front.box, band, strict=True))
        for other in self._fronts.values():
            if other is front or overlap(here, other.box) is None:
                continue
            shift = [mine.start - theirs.start for mine, theirs in zip(front.box, other.box, strict=True)]
            z, y, x = (0,) * (3 - len(shift)) + tuple(shift)
            found.append((other.engine, (z, y, x), other in moving))
        return found

    # -- what is told

    def labels_in(self, box: Box) -> NDArray[Any]:
        """The label array of a region as it is now."""
        return label_array({number: (front.box, front.level_set()) for number, front in self._fronts.items()}, box)

    def level_set_of(self, number: int) -> tuple[Box, NDArray[Any]]:
        """Box and u of a label, not copied."""
        front = self._fronts[number]
        return front.box, front.level_set()

    def _report(self, front: LabelFront) -> LabelReport:
        return LabelReport(
            number=front.number,
            size=front.size,
            volume_ml=front.size / 1000 if len(self.spacing) == 3 else None,
            area=front.area,
            rate=front.rate,
            free_area=front.free_area,
            edge_on_front=front.speed_on_front,
            changed_box=front.changed,
            note=front.note,
            stop_reason=front.stop_reason,
            leak_at=front.leak_at,
        )

    def _state(self, dt: float, note: str) -> LabelsState:
        reports = {number: self._report(front) for number, front in self._fronts.items()}
        going = [front for front in self._fronts.values() if front.stop_reason is None]
        ends = [_share_done(front.parameters, self.iteration, self.time) for front in going]
        size = sum(report.size for report in reports.values())
        shown = f"{size / 1000:.2f} ml" if len(self.spacing) == 3 else f"{size:.4g} mm2"
        unit, scale = ("ml", 1000) if len(self.spacing) == 3 else ("mm2", 1)
        values = {f"label_{number}_{unit}": report.size / scale for number, report in reports.items()}
        area = sum(front.area for front in going)
        rate = sum(front.rate * front.area for front in going) / area if area > 0 else 0.0
        growing = f"{len(going)} of {len(reports)} labels moving"
        first = self.iteration == 0
        return LabelsState(
            phase="evolve",
            fraction=min(min(ends, default=1.0), 1.0),
            message=f"Step {self.iteration}, {shown}, {growing}" if going else f"Every label has ended, {shown}.",
            values={"size": size, "rate": rate, "time": self.time} | values,
            notes=tuple(self._notes) if first else ((note,) if note else ()),
            iteration=self.iteration,
            time=self.time,
            dt=dt,
            reports=reports,
            changed_box=boxes.whole(self.shape) if first else _union([r.changed_box for r in reports.values()]),
            note=note,
            stop_reason=None if going else ENDED,
            run=self,
        )

    def result(self, state: LabelsState) -> LabelsResult:
        """Result and record of the run as it stands."""
        reason = state.stop_reason or "cancelled"
        labels = self.labels_in(boxes.whole(self.shape))
        reports = {
            number: report if report.stop_reason else replace(report, stop_reason="cancelled")
            for number, report in state.reports.items()
        }
        told = {
            str(number): {
                "stop_reason": r.stop_reason,
                "size_mm": r.size,
                "volume_ml": r.volume_ml,
                "leak_at": r.leak_at,
            }
            for number, r in reports.items()
        }
        first = next(iter(self._first_parameters.values()))
        record = Record(
            task=self.TASK,
            status="complete" if reason == ENDED else "cancelled",
            parameters={"labels": {str(k): p.model_dump(mode="json") for k, p in self._first_parameters.items()}},
            changes=tuple(self._changes),
            inputs=self._inputs,
            source=Source(
                content_hash=content_hash(self._source),
                shape=self._source.shape,
                dtype=self._source.dtype.str,
                spacing=self.spacing,
            ),
            result={
                "stop_reason": reason,
                "steps": state.iteration,
                "time": state.time,
                "size_mm": sum(r.size for r in reports.values()),
                "volume_ml": sum(r.size for r in reports.values()) / 1000 if len(self.spacing) == 3 else None,
                "labels": told,
                "labels_hash": content_hash(labels),
            },
            versions=versions("numba", "scipy"),
            dtype=first.dtype,
            duration_s=round(clock.perf_counter() - self._began, 3),
            notes=tuple(self._notes),
        )
        return LabelsResult(
            labels=labels,
            reports=reports,
            stop_reason=reason,
            record=record,
            iteration=state.iteration,
            time=state.time,
            notes=tuple(self._notes),
            level_sets={number: (front.box, front.level_set().copy()) for number, front in self._fronts.items()},
        )


def _part(front: LabelFront, box: Box) -> NDArray[Any]:
    """u of a label in a part of its box."""
    return front.level_set()[
        tuple(slice(p.start - b.start, p.stop - b.start) for p, b in zip(box, front.box, strict=True))
    ]


def _share_done(parameters: LevelSetParameters, iteration: int, time: float) -> float:
    done = iteration / parameters.steps
    return done if parameters.time is None else max(time / parameters.time, done)


def _union(found: Sequence[Box | None]) -> Box | None:
    """The smallest box around several."""
    there = [box for box in found if box is not None]
    if not there:
        return None
    return tuple(slice(min(p.start for p in parts), max(p.stop for p in parts)) for parts in zip(*there, strict=True))
