"""One run of the level set: what it holds between two steps, and the step itself.

One step, in this order: walls, pins and means change the speed images; speeds are read at the front; the time step is
chosen; u moves on the band; walls and pins; redistancing; walls and pins again; measures.
"""

from __future__ import annotations

import math
import time as clock
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from src_models.errors import DeviceError, InputError, LsnetError
from src_models.levelset import initial as initial_room
from src_models.levelset.engine import Look
from src_models.levelset.engines import chosen_engine, make_engine, redistanced
from src_models.levelset.fields import check_speed_image
from src_models.levelset.initial import Seeds
from src_models.levelset.parameters import LevelSetParameters
from src_models.levelset.problem import Problem
from src_models.levelset.recipes import GivenSpeed, check_mode, packages, stored_speed
from src_models.levelset.states import REASONS, Constraints, LevelSetResult, LevelSetState, Resume
from src_models.levelset.stopping import FrontMeasures, StopRules
from src_models.record import Change, Record, Source, StoredArray, content_hash, versions

MADE_WITH = ("torch", "scipy", "numba")
"""Packages whose versions a record keeps."""

SLOWEST = 1e-36
"""A rate below this is no speed: its time step would not fit into float32."""


def resolve_device(name: str, dtype: torch.dtype) -> torch.device:
    """The torch device of a parameter.

    Raises
    ------
    DeviceError
        Where it is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}[name]
    if not there:
        raise DeviceError("device-missing", f"There is no {name} device here", "", "Choose cpu or auto.")
    if name == "mps" and dtype == torch.float64:
        raise DeviceError("device-dtype", "This graphics card has no float64", "", "Choose float32 or the cpu.")
    return torch.device(name)


def working_type(parameters: LevelSetParameters) -> Tensor:
    """An empty tensor of the type and on the device that a run works in."""
    dtype = torch.float32 if parameters.dtype == "float32" else torch.float64
    device = "cpu" if parameters.engine == "band" else parameters.device
    return torch.empty(0, dtype=dtype, device=resolve_device(device, dtype))


class Run:
    """Everything a run holds between two steps."""

    def __init__(
        self,
        image: NDArray[Any] | Problem,
        initial: NDArray[Any] | Seeds | Resume,
        spacing: Sequence[float],
        parameters: LevelSetParameters,
        speed_image: GivenSpeed | None,
        walls: NDArray[Any] | None,
        pins: NDArray[Any] | None,
        contributions: bool,
    ) -> None:
        self._began = clock.perf_counter()
        self.problem = (
            image if isinstance(image, Problem) else Problem(image, spacing, parameters, speed_image, initial)
        )
        self._source, self._image = self.problem.source, self.problem.image
        self.spacing = self.problem.spacing
        self.parameters = self.problem.resolved(parameters)
        self._given_speed = self.problem.given_speed
        self._like = working_type(parameters)
        self._notes: list[str] = list(self.problem.notes)
        if self._image.min() == self._image.max() and self._given_speed is None:
            self._notes.append("The image is constant: it has no edges and no range to follow.")
        if parameters.speed == "edge" and (parameters.lower is not None or parameters.upper is not None):
            self._notes.append("The thresholds have no effect: they belong to region speed.")
        if parameters.gradient in ("central", "none"):
            self._notes.append(
                f"gradient={parameters.gradient} is for reproducing the paper; it does not propagate a front reliably."
            )
        before = initial.before if isinstance(initial, Resume) else None
        self.changes: list[Change] = [] if before is None else list(before.changes)
        self._first_parameters = self.parameters.model_dump(mode="json") if before is None else before.parameters
        self.inputs = _stored_inputs(initial, walls, pins, speed_image) if before is None else before.inputs
        self._walls = self._mask(walls, "walls")
        self._pins = self._mask(pins, "pins")
        self.width = self._band_width()
        self.problem.speed_images(self.parameters)  # first: making them takes room that u needs later
        self.engine_name = chosen_engine(self.parameters, self._like.device, contributions)
        start, redistance = self._start_level_set(initial)
        self.engine = make_engine(
            self.engine_name,
            start,
            self.spacing,
            self.width,
            self._like,
            redistance=redistance,
            contributions=contributions,
        )
        if self._walls is not None or self._pins is not None:
            self.engine.set_walls_and_pins(self._walls, self._pins)
        self._set_problem()
        self.iteration, self.time = (initial.iteration, initial.time) if isinstance(initial, Resume) else (0, 0.0)
        self._first_iteration = self.iteration
        self._goes_on = before is not None
        self._free_speed = initial.free_speed if isinstance(initial, Resume) else None
        self.dt = 0.0
        self._rules: StopRules | None = None
        self._seen: Look | None = None
        self._size = 0.0
        self._tight: tuple[int, float] = (self.iteration, self.time)
        self._leak_at: tuple[float, ...] | None = None
        self._leak_noted = False

    # -- preparation

    def _mask(self, mask: NDArray[Any] | None, name: str) -> NDArray[np.bool_] | None:
        if mask is None:
            return None
        return np.ascontiguousarray(initial_room.check_mask(mask, self._image.shape, name) != 0)

    def _band_width(self) -> float | None:
        p = self.parameters
        return initial_room.band_width(self.spacing, self._image.shape, p.band) if p.redistance_every else None

    def _start_level_set(self, initial: NDArray[Any] | Seeds | Resume) -> tuple[NDArray[Any], int | None]:
        """The start, and by which order it is to be made a distance where it is none yet."""
        shape, p = self._image.shape, self.parameters
        width = initial_room.band_width(self.spacing, shape, p.band)
        if isinstance(initial, Resume):
            kept_to = None if initial.redistance else self.width
            ready = initial_room.ready_level_set(initial.level_set, shape, p.dtype, kept_to)
            return ready, p.order if initial.redistance else None
        if isinstance(initial, Seeds):
            kept = width if self.width is not None else None
            u, notes = initial_room.from_seeds(initial, shape, self.spacing, kept, p.dtype)
            self._notes += notes
            return u, None
        array = np.asarray(initial)
        initial_room.check_labels(array, shape)
        if array.dtype.kind == "f" and array.min() >= 0:
            self._notes.append("The start has no negative values: it is taken as labels.")
            array = array > 0
        if array.dtype.kind == "f":
            start = self._own_level_set(array, width)
            return start, None if self.width is None else p.order
        mask = array if array.dtype == np.bool_ else array != 0
        if self.width is None:
            return redistanced(self.engine_name, mask, self.spacing, width, p.order, self._like), None
        return mask, p.order

    def _own_level_set(self, array: NDArray[Any], width: float) -> NDArray[Any]:
        """A level set that was given, in the precision of the run."""
        wide = array.astype(np.float64)
        largest = float(np.abs(wide).max())
        if self.width is not None and not 1e-12 < largest / width < 1e12:
            wide *= width / largest  # slopes are scaled to 1 anyway; this one neither overflows nor vanishes
        dtype = self.parameters.dtype
        with np.errstate(over="ignore"):
            start = wide.astype(dtype)
        if not np.isfinite(start).all() or not np.array_equal(start > 0, array > 0):
            raise InputError("seeds-range", f"The start does not fit into {dtype}", "", "Scale it to a distance in mm.")
        return start

    def _set_problem(self) -> None:
        self.engine.set_problem(self.problem.speed_images(self.parameters), self.parameters)
        self._seen = None

    # -- changes from outside; `step` takes them, and whoever makes a run again

    def take(self, message: LevelSetParameters | Constraints) -> str:
        """Take new parameters or constraints from the next step on; what cannot be taken is refused in a sentence."""
        before = self.parameters, self._walls, self._pins
        try:
            change = self._apply(message)
            if isinstance(message, Constraints):
                self.engine.set_walls_and_pins(self._walls, self._pins)
            self._set_problem()
        except LsnetError as refused:
            self.parameters, self._walls, self._pins = before
            return self._noted(f"Not changed: {refused}")
        self.changes.append(change)
        self._rules = None
        self._leak_noted = False
        return ""

    def _apply(self, message: LevelSetParameters | Constraints) -> Change:
        if isinstance(message, LevelSetParameters):
            fixed = {name: getattr(self.parameters, name) for name in ("dtype", "device", "band", "engine")}
            if (message.redistance_every == 0) != (self.width is None):
                raise InputError(
                    "redistancing-switched",
                    "Redistancing cannot be switched on or off during a run",
                    "",
                    "Start a new run from here.",
                )
            if self._given_speed is not None:
                check_mode(self.problem.speed, message)
                check_speed_image(self._given_speed, self._image.shape, message)
            self.parameters = self.problem.resolved(message.model_copy(update=fixed))
            self._free_speed = None
            return Change(step=self.iteration, parameters=self.parameters.model_dump(mode="json"))
        if message.walls is not None:
            self._walls = self._mask(message.walls, "walls")
        if message.pins is not None:
            self._pins = self._mask(message.pins, "pins")
        stored = {
            name: None if mask is None else StoredArray.of(np.asarray(mask) != 0)
            for name, mask in (("walls", message.walls), ("pins", message.pins))
        }
        return Change(step=self.iteration, **stored)

    # -- the run itself

    @property
    def free_speed(self) -> float | None:
        """v_ref of the stop rules: the largest |balloon S| over the first band; None before the start."""
        return None if self._rules is None else self._rules.free_speed

    def start(self) -> LevelSetState:
        """The state before the first step."""
        self._size = self._look_at(math.inf).size
        state = self._look(0.0)
        if self._goes_on:
            self._rules = None  # as after a change that was sent: made anew from the front of the next step
        return state

    def _look_at(self, threshold: float) -> Look:
        """What the engine sees; the free part of the front is where |balloon| S is above the threshold."""
        self._seen = self.engine.look(threshold)
        return self._seen

    def _fastest_speed(self) -> float:
        """v_ref, by which the stop rules measure: |balloon| times the largest |S| over the first band.

        After a change the front may rest already, and its band no longer shows how fast it is free to run: then the
        largest |S| of the whole image.
        """
        p = self.parameters
        if self._free_speed is not None:
            return self._free_speed
        if not self.changes and not self._goes_on:
            return abs(p.balloon) * self._look_at(math.inf).fastest
        images = self.problem.speed_images(p)
        if images.follows is not None:
            return abs(p.balloon)
        largest = max(float(images.primary.max()), -float(images.primary.min()))
        return float(abs(p.balloon) * largest**p.balloon_exponent)

    def _time_step(self) -> float:
        p = self.parameters
        if p.time_step == "cfl":
            rate = (self._seen or self._look_at(math.inf)).largest_rate
            dt = p.cfl / rate if rate > SLOWEST else 0.0
        else:
            dt = float(p.time_step)
        return dt if p.time is None else min(dt, p.time - self.time)

    def step(self, message: LevelSetParameters | Constraints | None = None) -> LevelSetState:
        """One step, after taking a change, and the state after it."""
        note = "" if message is None else self.take(message)
        p = self.parameters
        self.dt = self._time_step()
        if self.dt <= 0:
            passed = p.time is not None and self.time >= p.time
            return self._look(0.0, "time" if passed else "stalled", note)
        self.iteration += 1
        self.engine.step(self.dt, p.redistance_every > 0 and self.iteration % p.redistance_every == 0)
        ends = p.time is not None and self.time + self.dt >= p.time * (1 - 1e-12)
        self.time = p.time if ends and p.time is not None else self.time + self.dt
        return self._look(self.dt, note=note)

    def _look(self, dt: float, reason: str | None = None, note: str = "") -> LevelSetState:
        """Measure the front, decide whether to stop, and tell."""
        p = self.parameters
        if self._rules is None:
            active = tuple(h for h, n in zip(self.spacing, self._image.shape, strict=True) if n > 1)
            thickness = math.prod(h for h, n in zip(self.spacing, self._image.shape, strict=True) if n == 1)
            self._rules = StopRules(p, active, self._fastest_speed(), thickness)
        threshold = self._rules.free_speed / 2
        seen = self._look_at(threshold)
        if seen.is_empty:
            reason = "vanished"
        elif seen.is_full:
            reason = "filled"
        rate = (seen.size - self._size) / (seen.area * dt) if dt > 0 and seen.area > 0 else 0.0
        self._size = seen.size
        now = FrontMeasures(self.time, seen.size, seen.area, seen.free_area, rate)
        if reason is None and p.auto_stop and dt > 0:
            reason, judged = self._judge(self._rules, now)
            note = " ".join(filter(None, (note, judged)))
        if reason is None and p.time is not None and self.time >= p.time:
            reason = "time"
        if reason is None and self.iteration >= p.steps:
            reason = "steps"
        if reason == "leak":
            self._size = self._look_at(threshold).size
        return self._state(now, self._size, dt, note, reason)

    def _judge(self, rules: StopRules, now: FrontMeasures) -> tuple[str | None, str]:
        """Apply the stop rules; roll back at a leak."""
        found = rules.update(now)
        guard = self.parameters.guard
        if found == "leak":
            if guard == "off":
                return None, ""
            self._leak_at = self.engine.largest_free_patch(rules.free_speed / 2)
            place = "" if self._leak_at is None else " near voxel " + ", ".join(f"{x:.0f}" for x in self._leak_at)
            if guard == "note":
                note = "" if self._leak_noted else f"The front may be leaking{place}."
                self._leak_noted = True
                return None, self._noted(note)
            leaked = self.iteration
            self.engine.roll_back()
            self.iteration, self.time = self._tight
            return "leak", self._noted(f"Leak{place} at step {leaked}: back to step {self.iteration}.")
        if guard == "stop" and rules.is_tight(now):
            self.engine.save()
            self._tight = (self.iteration, self.time)
        return found, ""

    def _noted(self, note: str) -> str:
        if note:
            self._notes.append(note)
        return note

    def _state(self, now: FrontMeasures, size: float, dt: float, note: str, reason: str | None) -> LevelSetState:
        p = self.parameters
        ml = size / 1000 if len(self.spacing) == 3 else None
        on_front = 0.0 if self._seen is None else self._seen.speed_on_front
        fraction = self.iteration / p.steps if p.time is None else max(self.time / p.time, self.iteration / p.steps)
        shown = f"{ml:.2f} ml" if ml is not None else f"{size:.4g} mm2"
        message = REASONS[reason] if reason else f"Step {self.iteration}, {shown}"
        values = {"size": size, "rate": now.rate, "time": self.time, "free_area": now.free_area}
        first = self.iteration == self._first_iteration
        return LevelSetState(
            phase="evolve",
            fraction=min(fraction, 1.0),
            message=message,
            values=values | ({"volume_ml": ml} if ml is not None else {}),
            notes=tuple(self._notes) if first else ((note,) if note else ()),
            iteration=self.iteration,
            time=self.time,
            dt=dt,
            size=size,
            volume_ml=ml,
            area=now.area,
            rate=now.rate,
            free_area=now.free_area,
            edge_on_front=on_front,
            changed_box=tuple(slice(0, n) for n in self._image.shape) if first else self.engine.changed_box(),
            note=note,
            stop_reason=reason,
            leak_at=self._leak_at,
            run=self,
        )

    # -- the end

    def level_set(self) -> NDArray[Any]:
        """U as it is now; on the CPU not a copy."""
        return self.engine.level_set()

    def result(self, state: LevelSetState) -> LevelSetResult:
        """Result and record of the run as it stands."""
        reason = state.stop_reason or "cancelled"
        u = self.level_set().copy()
        mask = np.asarray(u > 0)
        record = Record(
            task="evolve",
            status="cancelled" if reason == "cancelled" else "complete",
            parameters=self._first_parameters,
            changes=tuple(self.changes),
            inputs=self.inputs,
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
                "size_mm": state.size,
                "volume_ml": state.volume_ml,
                "leak_at": state.leak_at,
                "mask_hash": content_hash(mask),
                "engine": self.engine.name,
            },
            versions=versions(*MADE_WITH, *packages(self.problem.speed)),
            device=str(self._like.device.type),
            dtype=self.parameters.dtype,
            threads=torch.get_num_threads(),
            duration_s=round(clock.perf_counter() - self._began, 3),
            notes=tuple(self._notes),
        )
        return LevelSetResult(
            mask=mask,
            level_set=u,
            stop_reason=reason,
            record=record,
            iteration=state.iteration,
            time=state.time,
            leak_at=state.leak_at,
            notes=tuple(self._notes),
            contributions=self._contributions(),
        )

    def _contributions(self) -> dict[str, NDArray[Any]] | None:
        parts = self.engine.contributions()
        names = ("balloon", "curvature", "convection", "redistancing and constraints")
        return None if parts is None else dict(zip(names, parts, strict=True))


def _stored_inputs(
    initial: NDArray[Any] | Seeds | Resume,
    walls: NDArray[Any] | None,
    pins: NDArray[Any] | None,
    speed: GivenSpeed | None,
) -> dict[str, Any]:
    """The drawn inputs as a record keeps them."""
    stored: dict[str, Any] = {}
    if isinstance(initial, Resume) and initial.origin is not None:
        initial = initial.origin
    if isinstance(initial, Resume):
        kept_u = StoredArray.of(np.asarray(initial.level_set)).model_dump(mode="json")
        stored["initial"] = {
            "resume": kept_u,
            "iteration": initial.iteration,
            "time": initial.time,
            "free_speed": initial.free_speed,
        }
    elif isinstance(initial, Seeds):
        stored["initial"] = {"seeds": initial.model_dump(mode="json")}
    else:
        array = np.asarray(initial)
        kept = array if array.dtype.kind == "f" else array != 0
        stored["initial"] = (
            {"array": StoredArray.of(kept).model_dump(mode="json")} if array.dtype.kind in "buif" else {}
        )
    for name, mask in (("walls", walls), ("pins", pins)):
        if mask is not None:
            stored[name] = StoredArray.of(np.asarray(mask) != 0).model_dump(mode="json")
    return stored | stored_speed(speed)
