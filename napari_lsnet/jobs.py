"""Long work in the viewer: a generator of `Progress` becomes a job with run, pause, step, cancel and time left.

The generator runs on napari's worker; everything that a widget may touch happens on the main thread. Between the two
stands one letter box that holds the newest report only, so pictures never queue up. The headless side of the protocol
is `src_models.progress`.
"""

from __future__ import annotations

import platform
import re
import threading
import time
import traceback
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from qtpy.QtCore import QCoreApplication, QObject, Qt, QThreadPool, Signal  # type: ignore[attr-defined]

from src_models.errors import LsnetError
from src_models.progress import Progress
from src_models.record import versions

PICTURES_PER_SECOND = 25
BAR_UPDATES_PER_SECOND = 10
_BAR_PARTS = 1000


class JobState(Enum):
    """Where a job stands; buttons follow it."""

    IDLE = "idle"
    PREPARING = "preparing"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPING = "stopping"
    DONE = "done"
    CANCELLED = "cancelled"
    FAILED = "failed"

    @property
    def ended(self) -> bool:
        """Whether nothing will come any more."""
        return self in (JobState.DONE, JobState.CANCELLED, JobState.FAILED)


class Watch(Protocol):
    """Takes pictures of a running job, in the worker, while the arrays of a report are still valid."""

    def see(self, report: Any) -> None:
        """Look at every report; must be quick."""

    def take(self, report: Any, unseen: Any) -> Any:
        """Give a picture that owns its arrays; `unseen` is the last one if the screen never showed it, else None."""


@dataclass(frozen=True)
class Update:
    """What the screen gets: the newest report, and what happened since the one before.

    Attributes
    ----------
    report : Progress
        The newest. Its arrays may no longer be valid: use `picture`.
    picture : object
        From the job's `Watch`, or None.
    history : tuple of mapping
        `Progress.values` of every report since the last update, in order.
    notes : tuple of str
        Of every report since the last update.
    seconds_left : float or None
        Of work; None where the end cannot be foreseen.
    """

    report: Progress
    picture: Any
    history: tuple[Mapping[str, float], ...]
    notes: tuple[str, ...]
    seconds_left: float | None


@dataclass(frozen=True)
class Ending:
    """How a job ended.

    Attributes
    ----------
    state : JobState
        DONE, CANCELLED or FAILED.
    result : object
        What the generator returned; after a cancel, the result of its last report; None after a failure.
    message : str
        One line for the person at the screen; "" when all went well.
    details : str
        A report without paths, to copy; "" where there is nothing to add.
    """

    state: JobState
    result: Any = None
    message: str = ""
    details: str = ""


class JobQueue(QObject):
    """One heavy job per device at a time; the others wait in order. A paused job gives its place up."""

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._jobs: list[Job] = []
        self._waiting: list[Job] = []
        self._working: list[Job] = []

    @property
    def jobs(self) -> tuple[Job, ...]:
        """All jobs that have started and not ended."""
        return tuple(self._jobs)

    def in_front_of(self, job: Job) -> Job | None:
        """The job that this one waits for, or None."""
        if job not in self._waiting:
            return None
        return next((other for other in self._working if _share_device(job, other)), None)

    def _enter(self, job: Job) -> None:
        if job not in self._jobs:
            self._jobs.append(job)
        self._waiting.append(job)
        self._serve()

    def _leave(self, job: Job, *, ended: bool) -> None:
        for places in (self._waiting, self._working, *((self._jobs,) if ended else ())):
            if job in places:
                places.remove(job)
        self._serve()

    def _serve(self) -> None:
        for job in tuple(self._waiting):
            if not any(_share_device(job, other) for other in self._working):
                self._waiting.remove(job)
                self._working.append(job)
                job._go()
        self.changed.emit()


def _share_device(job: Job, other: Job) -> bool:
    return "auto" in (job.device, other.device) or job.device == other.device


@cache
def shared_queue() -> JobQueue:
    """The queue of this napari, made when first asked for; its jobs are cancelled when the application quits."""
    queue = JobQueue()
    application = QCoreApplication.instance()
    if application is not None:
        application.aboutToQuit.connect(lambda: cancel_all(queue))
    return queue


def cancel_all(queue: JobQueue, seconds: float = 2.0) -> None:
    """Cancel every job and wait until the workers are free, or the time is over."""
    for job in queue.jobs:
        job.cancel()
    pool = QThreadPool.globalInstance()
    if pool is not None:
        pool.waitForDone(int(seconds * 1000))


class Job(QObject):
    """A generator of progress, driven on napari's worker. All signals come on the main thread.

    Parameters
    ----------
    make : callable
        Gives the generator. It is called in the worker, so it may import torch; it must not touch a layer.
    title : str
        What runs, as the start of a sentence: "The level set".
    device : str
        Jobs on one device run one after the other; "auto" may be any device.
    watch : Watch, optional
        Takes the pictures.
    queue : JobQueue, optional
        The one of this napari by default.
    counts : callable, optional
        Whether a report is a step, for `step` and ``start(steps=...)``; by default every one is.
    """

    state_changed = Signal(object)
    updated = Signal(object)
    ended = Signal(object)

    _letter = Signal()
    _began = Signal()
    _rested = Signal()
    _closed = Signal(object)

    def __init__(
        self,
        make: Callable[[], Generator[Progress, Any, Any]],
        *,
        title: str,
        device: str = "auto",
        watch: Watch | None = None,
        queue: JobQueue | None = None,
        counts: Callable[[Progress], bool] = lambda _report: True,
    ) -> None:
        super().__init__()
        self.title = title
        self._counts = counts
        self.device = device
        self._make = make
        self._watch = watch
        self._queue = queue if queue is not None else shared_queue()
        self._state = JobState.IDLE
        self._ending: Ending | None = None
        self._condition = threading.Condition()
        self._budget: int | None = None  # steps until the next rest; None runs freely
        self._wanted: int | None = None  # the budget that was asked for while another job held the device
        self._cancelled = False
        self._changes: dict[type, Any] = {}
        self._box: Update | None = None
        self._letter_on_its_way = False
        self._delivering = False
        self._letters_came = False
        self._rest_came = False
        self._held: Ending | None = None
        self._worker: Any = None
        self._bar: Any = None
        self._bar_time = 0.0
        for signal, slot in (
            (self._letter, self._deliver),
            (self._began, self._on_began),
            (self._rested, self._on_rested),
            (self._closed, self._on_closed),
        ):
            signal.connect(slot, Qt.ConnectionType.QueuedConnection)

    # ---- the main thread: what a widget calls

    @property
    def state(self) -> JobState:
        """Where the job stands."""
        return self._state

    @property
    def ending(self) -> Ending | None:
        """How it ended, once it has."""
        return self._ending

    @property
    def waits_for(self) -> Job | None:
        """The job that holds the device, while this one waits for it."""
        return self._queue.in_front_of(self)

    def start(self, *, steps: int | None = None) -> None:
        """Begin; with `steps`, rest after so many. Waits while another job holds the device."""
        if self._state is not JobState.IDLE:
            return
        self._budget = steps
        self._move_to(JobState.PREPARING)
        self._queue._enter(self)

    def pause(self) -> None:
        """Rest before the next step; parameters may be changed meanwhile."""
        with self._condition:
            self._budget = 0
        if self._state is JobState.RUNNING:
            if self.waits_for is not None:
                self._queue._leave(self, ended=False)
            self._move_to(JobState.PAUSED)

    def resume(self) -> None:
        """Go on."""
        self._set_going(None)

    def step(self, count: int = 1) -> None:
        """Take `count` steps, then rest."""
        self._set_going(count)

    def send(self, change: object) -> None:
        """Hand a change to the generator; it holds from the next step. Of one kind, the newest counts."""
        with self._condition:
            self._changes[type(change)] = change

    def cancel(self) -> None:
        """Stop before the next step and keep what was reached."""
        if self._state is JobState.IDLE or self._state.ended:
            return
        with self._condition:
            self._cancelled = True
            self._condition.notify_all()
        self._move_to(JobState.STOPPING)
        if self._worker is None:
            self._closed.emit(Ending(JobState.CANCELLED))

    # ---- the main thread: what the worker and the queue cause

    def _move_to(self, state: JobState) -> None:
        if state is not self._state:
            self._state = state
            self.state_changed.emit(state)

    def _set_going(self, budget: int | None) -> None:
        if self._state not in (JobState.RUNNING, JobState.PAUSED):
            return
        self._wanted = budget
        was_paused = self._state is JobState.PAUSED
        self._move_to(JobState.RUNNING)
        if was_paused:
            self._queue._leave(self, ended=False)
            self._queue._enter(self)
        else:
            self._release(budget)

    def _release(self, budget: int | None) -> None:
        with self._condition:
            self._budget = budget
            self._condition.notify_all()

    def _go(self) -> None:
        """The queue gives the device to this job."""
        if self._worker is not None:
            self._release(self._wanted)
            return
        if self._cancelled:
            return
        from napari.qt.threading import create_worker
        from napari.utils import progress

        self._bar = progress(total=0, desc=self.title)
        self._worker = create_worker(_Drive(self), _start_thread=False, _ignore_errors=True)
        self._worker.start()

    def _on_began(self) -> None:
        if self._state is JobState.PREPARING:
            with self._condition:
                resting = self._budget == 0
            self._move_to(JobState.PAUSED if resting else JobState.RUNNING)

    def _on_rested(self) -> None:
        if self._delivering:
            self._rest_came = True
            return
        with self._condition:
            resting = self._budget == 0
        if resting and self._state in (JobState.RUNNING, JobState.PAUSED) and self.waits_for is None:
            self._deliver()
            self._move_to(JobState.PAUSED)
            self._queue._leave(self, ended=False)

    def _deliver(self) -> None:
        """Tell the newest update. Drawing may let Qt handle other events: nothing may overtake what is being told."""
        if self._delivering:
            self._letters_came = True
            return
        with self._condition:
            update, self._box = self._box, None
            self._letter_on_its_way = False
        if update is None or self._state.ended:
            return
        self._delivering, self._letters_came = True, False
        try:
            self.updated.emit(update)
            self._show_bar(update)
        finally:
            self._delivering = False
        if self._held is not None:
            self._on_closed(self._held)
            return
        if self._letters_came:
            self._letter.emit()
        if self._rest_came:
            self._rest_came = False
            self._rested.emit()

    def _on_closed(self, ending: Ending) -> None:
        if self._delivering:
            self._held = ending
            return
        self._deliver()
        if self._ending is not None:
            return
        self._ending = ending
        if self._bar is not None:
            self._bar.close()
        self._queue._leave(self, ended=True)
        self._move_to(ending.state)
        self.ended.emit(ending)

    def _show_bar(self, update: Update) -> None:
        now = time.monotonic()
        if self._bar is None or now - self._bar_time < 1 / BAR_UPDATES_PER_SECOND:
            return
        self._bar_time = now
        fraction = update.report.fraction
        if fraction is None:
            return
        if self._bar.total != _BAR_PARTS:
            self._bar.total = _BAR_PARTS
        self._bar.update(int(fraction * _BAR_PARTS) - self._bar.n)

    # ---- the worker

    def _drive(self) -> None:
        try:
            ending = self._run_through()
        except LsnetError as error:
            ending = Ending(JobState.FAILED, message=str(error))
        except MemoryError:
            ending = Ending(JobState.FAILED, message=_no_memory(self.title))
        except Exception as error:  # the window must survive whatever happens in the work
            full = re.search(r"out of memory|can't allocate|alloc_cpu", str(error))
            message = _no_memory(self.title) if full else f"{self.title} stopped; your layers are unchanged."
            ending = Ending(JobState.FAILED, message=message, details=failure_report(error))
        try:
            self._closed.emit(ending)
        except RuntimeError:  # the window and this job's Qt half are gone: nobody is left to tell
            return

    def _run_through(self) -> Ending:
        work = self._make()
        report: Progress | None = None
        began_told = False
        busy = 0.0
        pictured = 0.0
        try:
            while True:
                if report is not None and not self._may_go_on():
                    partial = getattr(report, "result", None)
                    return Ending(JobState.CANCELLED, partial() if callable(partial) else None)
                if self._stop_asked():
                    return Ending(JobState.CANCELLED)
                # What is not a step takes no change: it stays until a step can.
                change = self._next_change() if report is not None and self._counts(report) else None
                began = time.monotonic()
                try:
                    report = next(work) if change is None else work.send(change)
                except StopIteration as end:
                    return Ending(JobState.DONE, end.value)
                if not began_told:
                    began_told = True
                    self._began.emit()
                now = time.monotonic()
                busy += now - began
                if self._watch is not None:
                    self._watch.see(report)
                resting = self._spend() if self._counts(report) else False
                due = resting or now - pictured >= 1 / PICTURES_PER_SECOND
                if due:
                    pictured = now
                self._post(report, busy, show=due)
        finally:
            work.close()

    def _stop_asked(self) -> bool:
        return self._cancelled or (self._worker is not None and self._worker.abort_requested)

    def _may_go_on(self) -> bool:
        """Rest while there is no step to spend; False when the job shall end."""
        with self._condition:
            if self._budget == 0 and not self._stop_asked():
                self._rested.emit()
            while self._budget == 0 and not self._stop_asked():
                self._condition.wait(0.1)
            return not self._stop_asked()

    def _spend(self) -> bool:
        """Count a step; whether it was the last before a rest."""
        with self._condition:
            if self._budget:
                self._budget -= 1
            return self._budget == 0

    def _next_change(self) -> Any:
        with self._condition:
            for kind in self._changes:
                return self._changes.pop(kind)
        return None

    def _post(self, report: Progress, busy: float, *, show: bool) -> None:
        """Put a report into the box, joined with the one that still lies there; `show` rings the bell."""
        left = None
        if report.fraction is not None and 0 < report.fraction <= 1:
            left = busy * (1 - report.fraction) / report.fraction
        with self._condition:
            before, self._box = self._box, None
        picture = before.picture if before is not None else None
        if show and self._watch is not None:
            picture = self._watch.take(report, picture)
        update = Update(report, picture, (report.values,), report.notes, left)
        if before is not None:
            update = replace(update, history=before.history + update.history, notes=before.notes + update.notes)
        with self._condition:
            self._box = update
            ring = show and not self._letter_on_its_way
            self._letter_on_its_way = self._letter_on_its_way or show
        if ring:
            self._letter.emit()


class _Drive:
    """What napari's worker calls; napari shows its text in the list of running tasks."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def __call__(self) -> None:
        self._job._drive()

    def __repr__(self) -> str:
        return self._job.title


def _no_memory(title: str) -> str:
    return f"{title} stopped: the memory is full. Choose a smaller region; your layers are unchanged."


def failure_report(error: BaseException) -> str:
    """Versions and the trace of an unexpected error, without paths and without values of the user's data."""
    lines = [f"{name} {version}" for name, version in versions("napari", "torch", "qtpy").items()]
    lines.append(f"{platform.system()} {platform.machine()}")
    lines.append("")
    for frame in traceback.extract_tb(error.__traceback__):
        lines.append(f"{Path(frame.filename).name}:{frame.lineno} in {frame.name}: {frame.line}")
    message = re.sub(r"(?:[A-Za-z]:)?[/\\][^\s'\":,]+", "<path>", str(error))
    lines.append(f"{type(error).__name__}: {message}")
    return "\n".join(lines) + "\n"
