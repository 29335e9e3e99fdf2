"""The timeline of a run: go back to any step, go on from there in another way, compare, accept.

A run is deterministic. So a few key frames of u, kept without loss, and the changes that were sent are enough to have
every step again, bit for bit: the newest key frame before it, and the same steps from there. A branch is a run that
goes on from a step with other parameters; it equals the run that had them sent at that step, and its record says so.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Sequence
from typing import Any, TypeAlias
from weakref import ref

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from src_models.errors import InputError
from src_models.levelset.branches import Branch, Moment, Nearby, empty_box, every_second, joined, values_of
from src_models.levelset.comparison import Comparison, compare_masks
from src_models.levelset.conditions import change_at, conditions, going_on, messages
from src_models.levelset.packing import packed
from src_models.levelset.parameters import LevelSetParameters
from src_models.levelset.recipes import packages
from src_models.levelset.run import MADE_WITH, Run, working_type
from src_models.levelset.states import Constraints, LevelSetResult, LevelSetState, Resume
from src_models.progress import Progress, finish
from src_models.record import Change, Record, Source, content_hash, versions

BUDGET = 300_000_000
"""Bytes of key frames: a long run on 256^3 voxels keeps one per voxel of advance within it."""

LONGEST_WAY = 16
"""Steps between two key frames at most, before thinning: what has to be made again is a matter of a second or less."""

_NO_LIMIT = 2**31 - 1
_NO_STOP = {"auto_stop": False}
_NO_START = np.zeros((1,), dtype=bool)

Frame: TypeAlias = "tuple[Branch, int]"
"""A moment of a timeline: its branch and its iteration."""

Steps: TypeAlias = "Generator[Progress, LevelSetParameters | Constraints | None, LevelSetResult]"


class Timeline:
    """Watches a run and its branches, and gives every step of them back.

    `see` may be called in one thread while others read.

    Parameters
    ----------
    budget_bytes : int
        Of key frames. When they need more, every second one is dropped; every step stays within reach.

    Attributes
    ----------
    branches : list of Branch
        The first run, then its branches in the order in which they were made.
    current : Branch
        The one that runs, or ran last.
    """

    def __init__(self, budget_bytes: int = BUDGET) -> None:
        self.budget_bytes = budget_bytes
        self.branches: list[Branch] = []
        self._current: Branch | None = None
        self._expected: tuple[Run, Branch] | None = None
        self._run: ref[Run] | None = None
        self._held: tuple[Branch, int, NDArray[Any]] | None = None
        self._stretch = 1
        self._advance = 0.0
        self._since = 0
        self._source: Source | None = None
        self._lock = threading.Lock()

    # -- what there is

    @property
    def current(self) -> Branch:
        """The branch that runs, or ran last."""
        if self._current is None:
            raise InputError("timeline-empty", "The timeline is empty", "no run has begun", "Start a run first.")
        return self._current

    @property
    def nbytes(self) -> int:
        """Bytes of all key frames."""
        with self._lock:
            return sum(key.nbytes for branch in self.branches for key in branch.keys.values())

    def frames(self, branch: Branch | None = None) -> Sequence[Moment]:
        """Every step in numbers, from the drawn start to the last of a branch."""
        return tuple((branch or self.current).way())

    def parameters(self, iteration: int, branch: Branch | None = None) -> LevelSetParameters:
        """The parameters that led to a step."""
        of = self._checked(iteration, branch)
        return conditions(self._first, {}, of.changes_until(iteration)).parameters

    def _checked(self, iteration: int, branch: Branch | None) -> Branch:
        of = (branch or self.current).owner(iteration)
        if not of.at <= iteration <= of.last:
            raise InputError(
                "timeline-step",
                f"{of.name} has no step {iteration}",
                f"it holds steps {of.at} to {of.last}",
                "Choose one of these.",
            )
        return of

    # -- watching a run

    def see(self, state: LevelSetState) -> None:
        """Take a state of a run, in the thread of the run and before its next step; seeing one twice does no harm.

        A run that did not come from `branch` begins a new timeline. Coarse levels before the first step are not kept.
        """
        run = state.run
        if not isinstance(run, Run):
            return
        if self._run is None or self._run() is not run:
            self._begin(state, run)
        branch = self.current
        if state.iteration > branch.last:
            if state.changed_box is not None:
                branch.box = joined(branch.box, state.changed_box)
            self._advance += abs(state.rate) * state.dt
            self._since += 1
            branch.moments.append(_moment(state))
            branch.end = state.iteration
        branch.notes = (*branch.notes, *(note for note in state.notes if note not in branch.notes))
        if state.stop_reason is not None:
            branch.stop_reason, branch.leak_at, branch.end = state.stop_reason, state.leak_at, state.iteration
        due = self._advance >= self._stretch * self._reach or self._since >= self._stretch * LONGEST_WAY
        if (due or state.stop_reason is not None) and state.iteration not in branch.keys:
            self._keep(branch, state)

    def _begin(self, state: LevelSetState, run: Run) -> None:
        self._run = ref(run)
        self._advance, self._since = 0.0, 0
        if self._expected is not None and self._expected[0] is run:
            self._current = self._expected[1]
            self._current.changes = run.changes
            self._expected = None
            return
        self._problem, self._inputs, self._width = run.problem, run.inputs, run.width
        self._first: dict[str, Any] = run.parameters.model_dump(mode="json")
        self._engine, self._engine_name = _engine_to_ask_for(run), run.engine_name
        sides = zip(run.problem.spacing, run.problem.image.shape, strict=True)
        self._reach = max((h for h, n in sides if n > 1), default=1.0)
        self._held, self._source, self._stretch = None, None, 1
        whole = tuple(slice(0, n) for n in run.problem.image.shape)
        branch = Branch("First run", None, state.iteration, empty_box(run.problem.image.shape), changes=run.changes)
        branch.moments.append(_moment(state))
        branch.end = state.iteration
        branch.keys[state.iteration] = packed(state.level_set, self._width, whole)
        self.branches, self._current = [branch], branch

    def _keep(self, branch: Branch, state: LevelSetState) -> None:
        key = packed(state.level_set, self._width, branch.box)
        with self._lock:
            branch.keys[state.iteration] = key
        self._advance, self._since = 0.0, 0
        self._keep_to_budget()

    def _keep_to_budget(self) -> None:
        while self.nbytes > self.budget_bytes:
            with self._lock:
                if not every_second(self.branches):
                    return
            self._stretch *= 2

    # -- going back

    def nearest(self, iteration: int, branch: Branch | None = None) -> Nearby:
        """The key frame closest to a step, for a picture at once."""
        of = self._checked(iteration, branch)
        with self._lock:
            closest = of.key_near(iteration)
            key = of.keys[closest]
        return Nearby(closest, key.box, values_of(key, self._width, self._dtype))

    @property
    def _dtype(self) -> np.dtype[Any]:
        kind: np.dtype[Any] = np.dtype(self._first["dtype"])
        return kind

    def level_set(self, iteration: int, branch: Branch | None = None) -> NDArray[Any]:
        """u of a step, bit for bit what the run had; read-only, copy it to change it."""
        return finish(self.going_to(iteration, branch))

    def going_to(self, iteration: int, branch: Branch | None = None) -> Generator[Progress, None, NDArray[Any]]:
        """u of a step as a generator, one report per step that has to be made again; it may be closed at any time.

        Raises
        ------
        InputError
            Where there is no such step.
        """
        of = self._checked(iteration, branch)
        begin, u = self._before(of, iteration)
        if begin < iteration:
            run = self._again(of, begin, u)
            left = [change for change in of.changes if begin < change.step < iteration]
            for step in range(begin, iteration):
                for message in (m for change in left if change.step == step for m in messages(change)):
                    run.take(self._unguarded(message))
                run.step()
                yield Progress(
                    phase="timeline",
                    fraction=(step + 1 - begin) / (iteration - begin),
                    message=f"Step {step + 1} of {iteration}",
                )
            u = run.level_set().copy()
        self._held = (of, iteration, u)
        view = u.view()
        view.setflags(write=False)
        return view

    def _before(self, branch: Branch, iteration: int) -> tuple[int, NDArray[Any]]:
        """The newest step not later than one whose u is at hand."""
        with self._lock:
            begin = branch.key_before(iteration)
            key, base = branch.keys[begin], self.branches[0].keys[self.branches[0].at]
        held = self._held
        if held is not None and held[0] is branch and begin <= held[1] <= iteration:
            return held[1], held[2]
        u = values_of(base, self._width, self._dtype)
        if key is not base:
            part = u[key.box]
            if part.size:
                key.write_into(part, self._width)
        return begin, u

    def _again(self, branch: Branch, iteration: int, u: NDArray[Any]) -> Run:
        """The run from a step on."""
        acting = conditions(self._first, self._inputs, (c for c in branch.changes if c.step <= iteration))
        run = Run(
            self._problem,
            Resume(u, iteration, branch.moment(iteration).time, origin=_NO_START),
            self._problem.spacing,
            self._unguarded(acting.parameters),
            None,
            acting.walls,
            acting.pins,
            contributions=False,
        )
        run.start()
        return run

    def _unguarded(self, message: Any) -> Any:
        """Nothing but its own end stops a run that is made again, and the same engine makes it."""
        if not isinstance(message, LevelSetParameters):
            return message
        return message.model_copy(update={**_NO_STOP, "steps": _NO_LIMIT, "engine": self._engine})

    # -- going on

    def branch(
        self,
        iteration: int,
        parameters: LevelSetParameters,
        *,
        of: Branch | None = None,
        constraints: Constraints | None = None,
        name: str = "",
    ) -> Steps:
        """Go on from a step with other parameters.

        The run is seen by this timeline. From the end of a branch it is the same branch that goes on.

        Parameters
        ----------
        iteration : int
            The step.
        parameters : LevelSetParameters
            From the next step on; precision, device, band and engine stay those of the first run.
        of : Branch, optional
            Whose step; the current branch by default.
        constraints : Constraints, optional
            Walls and pins from the next step on; without them those of that step stay.
        name : str
            Of the branch.

        Yields
        ------
        Progress
            While the step is made again; then every `LevelSetState`, the step itself first.

        Returns
        -------
        LevelSetResult
            As of `evolve`; the record holds the whole way from the drawn start.
        """
        parent = self._checked(iteration, of)
        yield from self.going_to(iteration, parent)
        u = self._held_level_set(parent, iteration)
        fixed = {field: self._first[field] for field in ("dtype", "device", "band")} | {"engine": self._engine}
        wanted = self._problem.resolved(parameters.model_copy(update=fixed))
        change = change_at(iteration, wanted, constraints)
        before = self._record(parent, iteration, {}, change)
        resume, acting = going_on(u, iteration, parent.moment(iteration).time, before)
        if (acting.parameters.redistance_every == 0) != (self._width is None):
            raise InputError(
                "redistancing-switched", "Redistancing cannot be switched on or off in a branch", "", "Start a new run."
            )
        problem = self._problem
        run = Run(problem, resume, problem.spacing, acting.parameters, None, acting.walls, acting.pins, False)
        self._expected = (run, self._branch_for(parent, iteration, u, name))
        state = run.start()
        while state.stop_reason is None:
            self.see(state)
            message = yield state
            state = run.step(message)
        self.see(state)
        yield state
        return run.result(state)

    def _held_level_set(self, branch: Branch, iteration: int) -> NDArray[Any]:
        held = self._held
        if held is not None and held[0] is branch and held[1] == iteration:
            return held[2]
        return self.level_set(iteration, branch).copy()

    def _branch_for(self, parent: Branch, iteration: int, u: NDArray[Any], name: str) -> Branch:
        if iteration == parent.last and not name:
            parent.stop_reason = None
            with self._lock:
                parent.keys.setdefault(iteration, packed(u, self._width, parent.box))
            return parent
        made = Branch(
            name or f"Branch {len(self.branches)} from step {iteration}",
            parent,
            iteration,
            parent.box,
            moments=[parent.moment(iteration)],
            keys={iteration: packed(u, self._width, parent.box)},
            end=iteration,
        )
        with self._lock:
            self.branches.append(made)
        self._keep_to_budget()
        return made

    # -- comparing and accepting

    def comparing(self, a: Frame, b: Frame) -> Generator[Progress, None, Comparison]:
        """Two steps, of one branch or of two, as a generator; see `compare_masks`."""
        first = yield from self.going_to(a[1], a[0])
        inside = first > 0
        second = yield from self.going_to(b[1], b[0])
        return compare_masks(inside, second > 0, self._problem.spacing)

    def compare(self, a: Frame, b: Frame) -> Comparison:
        """Two steps, of one branch or of two."""
        return finish(self.comparing(a, b))

    def accept(self, iteration: int, branch: Branch | None = None) -> LevelSetResult:
        """A step as a result, with a record that leads from the drawn start to exactly this step."""
        return finish(self.accepting(iteration, branch))

    def accepting(self, iteration: int, branch: Branch | None = None) -> Generator[Progress, None, LevelSetResult]:
        """The same as a generator."""
        of = self._checked(iteration, branch)
        u = (yield from self.going_to(iteration, of)).copy()
        mask = np.asarray(u > 0)
        moment, at_end = of.moment(iteration), iteration == of.end
        reason = (of.stop_reason if at_end else None) or "cancelled"
        leak_at = of.leak_at if at_end else None
        notes = (*(of.notes if at_end else ()), f"Step {iteration} was chosen from the timeline.")
        result = {
            "stop_reason": reason,
            "steps": iteration,
            "time": moment.time,
            "size_mm": moment.size,
            "volume_ml": moment.volume_ml,
            "leak_at": leak_at,
            "mask_hash": content_hash(mask),
            "engine": self._engine_name,
        }
        record = self._record(of, iteration, result).model_copy(update={"notes": notes})
        return LevelSetResult(
            mask=mask,
            level_set=u,
            stop_reason=reason,
            record=record,
            iteration=iteration,
            time=moment.time,
            leak_at=leak_at,
            notes=notes,
        )

    def _record(self, branch: Branch, iteration: int, result: dict[str, Any], *more: Change) -> Record:
        """What leads to a step, and what is changed there; with a result it ends at the step and at none before."""
        import torch

        if self._source is None:
            image, spacing = self._problem.source, self._problem.spacing
            self._source = Source(
                content_hash=content_hash(image), shape=image.shape, dtype=image.dtype.str, spacing=spacing
            )
        first, changes = self._first, branch.changes_until(iteration)
        if result:
            # The number of steps says where it ends: no stop rule, and no rounding in it, must end it before. That of
            # the first part ends it where it did, and without it a run would not begin on coarser grids.
            changes = tuple(_without_stop(change) for change in changes)
        return Record(
            task="evolve",
            status="cancelled",
            parameters=first,
            changes=(*changes, *more),
            inputs=self._inputs,
            source=self._source,
            result=result,
            versions=versions(*MADE_WITH, *packages(self._problem.speed)),
            device=working_type(LevelSetParameters(**first)).device.type,
            dtype=first["dtype"],
            threads=torch.get_num_threads(),
        )


def _moment(state: LevelSetState) -> Moment:
    return Moment(state.iteration, state.time, state.size, state.volume_ml, state.rate)


def _without_stop(change: Change) -> Change:
    if change.parameters is None:
        return change
    return change.model_copy(update={"parameters": {**change.parameters, **_NO_STOP}})


def _engine_to_ask_for(run: Run) -> str:
    """The parameter that gives the engine of a run again, whatever the other parameters become."""
    wanted = {**run.parameters.model_dump(), "engine": run.engine_name}
    try:
        return LevelSetParameters(**wanted).engine
    except ValidationError:  # an engine that only "auto" gives
        return str(run.parameters.engine)
