"""The plan of a training, made in a child process: open layers are saved first, then data and choices give the plan."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qtpy.QtCore import QObject, Signal  # type: ignore[attr-defined]

from napari_lsnet.child import Child
from napari_lsnet.jobs import Ending, Job, JobQueue, JobState
from napari_lsnet.train.choices import TrainingChoices, named
from napari_lsnet.train.source import Source
from src_models.errors import LsnetError


class Planning(QObject):
    """Makes plans, one at a time.

    Attributes
    ----------
    told : Signal(str)
        What it is doing.
    ended : Signal(object)
        An `Ending`; its result is the JSON of the plan.
    data_words : tuple of str
        The data of the newest plan, as ``lsnet train`` takes them.
    name : str
        Of its model.
    notes : tuple of str
        What was said on the way.
    """

    told = Signal(str)
    ended = Signal(object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._job: Job | None = None
        self._child: Child | None = None
        self._plan: Mapping[str, Any] | None = None
        self._error = ""
        self._cancelled = False
        self._queue = JobQueue()
        self.data_words: tuple[str, ...] = ()
        self.name = ""
        self.notes: tuple[str, ...] = ()

    @property
    def is_busy(self) -> bool:
        """Whether a plan is being made."""
        return self._child is not None or (self._job is not None and not self._job.state.ended)

    def start(self, source: Source, choices: TrainingChoices, out: Path, name: str) -> None:
        """Make a plan."""
        self.data_words, self.name, self.notes = tuple(source.words(out)), name, ()
        self._plan, self._error, self._cancelled = None, "", False
        words = ["train", *self.data_words, *choices.plan_words(), *named(name), "--device", choices.device]
        words += ["--out", str(out), "--plan-only", "--json"]
        if not source.examples:
            self._ask(words)
            return
        self._job = Job(lambda: source.save_layers(out), title="Saving layers", device="files", queue=self._queue)
        self._job.updated.connect(lambda update: self.told.emit(update.report.message))
        self._job.ended.connect(lambda ending: self._on_saved(ending, words))
        self._job.start()

    def cancel(self) -> None:
        """Give it up."""
        self._cancelled = True
        if self._job is not None:
            self._job.cancel()
        if self._child is not None:
            self._child.kill()

    def _on_saved(self, ending: Ending, words: list[str]) -> None:
        if ending.state is JobState.DONE:
            self._ask(words)
        else:
            self._end(ending.message, ending.details)

    def _ask(self, words: list[str]) -> None:
        child = Child(self)
        child.said.connect(self._on_said)
        child.ended.connect(self._on_ended)
        try:
            child.start(words)
        except LsnetError as error:
            self._end(str(error), "")
            return
        self._child = child
        self.told.emit("Making the plan: the data are looked through...")

    def _on_said(self, event: dict[str, Any]) -> None:
        kind, message = event.get("event"), str(event.get("message", ""))
        if kind == "result":
            self._plan = event
        elif kind == "error":
            self._error = message
        elif kind == "note":
            self.notes = (*self.notes, message)
        elif message:
            self.told.emit(message)

    def _on_ended(self, code: int, errors: str) -> None:
        self._child = None
        if code == 0 and self._plan is not None and not self._cancelled:
            self.ended.emit(Ending(JobState.DONE, self._plan))
            return
        self._end(self._error or "No plan was made: the process that makes it broke down.", errors)

    def _end(self, message: str, details: str) -> None:
        if self._cancelled:
            self.ended.emit(Ending(JobState.CANCELLED, message="The plan was given up."))
        else:
            self.ended.emit(Ending(JobState.FAILED, message=message, details="" if self._error else details))
