"""One training in a child process, its curves and its newest sample; it goes on when the dock is closed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from qtpy.QtCore import QObject, QTimer, Signal  # type: ignore[attr-defined]

from napari_lsnet import model_list
from napari_lsnet.child import Child
from napari_lsnet.jobs import Ending, JobState
from napari_lsnet.train.drift_plot import PREFIX
from src_models.errors import LsnetError
from src_models.training.sample_text import SamplePicture, unpack

WORDS_FILE = "training.json"
"""In the folder of a run: the words it was started with, so that it can go on."""
CHECKPOINT = "checkpoint.safetensors"
PATIENCE_MS = 5000
STOPPED = 130


@dataclass
class Curves:
    """What has been reported, by epochs done.

    Attributes
    ----------
    loss : list of (float, float)
        Epoch and loss of a step.
    dice : list of (float, float)
        Epoch and mean Dice on validation patches.
    drift : dict of str to list of (float, float)
        Of a level set network, by column of the log: epoch and how far a kernel has gone from its stencil.
    """

    loss: list[tuple[float, float]] = field(default_factory=list)
    dice: list[tuple[float, float]] = field(default_factory=list)
    drift: dict[str, list[tuple[float, float]]] = field(default_factory=dict)

    def take_drift(self, row: Mapping[str, Any]) -> None:
        """The drift columns of a row of the log."""
        epoch = _number(row.get("epoch"))
        for name, told in row.items():
            value = _number(told) if name.startswith(PREFIX) else None
            if value is not None and epoch is not None:
                self.drift.setdefault(name, []).append((epoch, value))


class TrainRun(QObject):
    """Starts trainings, one at a time.

    Attributes
    ----------
    pausing : bool
        Whether a pause was asked for and has not come yet.
    changed : Signal()
        The state is another.
    told : Signal(str)
        A line for the person.
    moved : Signal()
        The curves, the fraction or the sample are others.
    ended : Signal(object)
        An `Ending`; its result is a `ModelChoice` where a model was made and listed.
    """

    pausing = False
    changed = Signal()
    told = Signal(str)
    moved = Signal()
    ended = Signal(object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._child: Child | None = None
        self._state = JobState.IDLE
        self._error = ""
        self._result: Mapping[str, Any] | None = None
        self._notes: list[str] = []
        self._patience = QTimer(self)
        self._patience.setSingleShot(True)
        self._patience.setInterval(PATIENCE_MS)
        self._patience.timeout.connect(self._on_patience)
        self._epochs = 1
        self.out: Path | None = None
        self.name = ""
        self.curves = Curves()
        self.sample: SamplePicture | None = None
        self.fraction: float | None = None
        self.may_kill = False

    @property
    def state(self) -> JobState:
        """Where it stands."""
        return self._state

    @property
    def is_busy(self) -> bool:
        """Whether the child is there."""
        return self._child is not None

    def start(self, words: Sequence[str], out: Path, name: str, *, resume: bool = False) -> None:
        """Begin, or go on with what is in the folder.

        Parameters
        ----------
        words : sequence of str
            Data and plan, as ``lsnet train`` takes them.
        out : Path
            The folder of the run.
        name : str
            Of the model.
        resume : bool
            Whether to go on.

        Raises
        ------
        DeviceError
            Where no child can be started.
        """
        if self.is_busy:
            return
        child = Child(self)
        child.said.connect(self._on_said)
        child.ended.connect(self._on_ended)
        child.start(["train", *words, "--out", str(out), "--json", "--listen", *(["--resume"] if resume else [])])
        self._child = child
        self.out, self.name = out, name
        self._error, self._result, self._notes = "", None, []
        self.fraction, self.may_kill = None, False
        if not resume or not self.curves.dice:
            self.curves, self.sample = Curves(), None
            if resume:
                self._read_log(out)
        keep_words(out, words, name)
        self._move_to(JobState.PREPARING)

    def pause(self) -> None:
        """Rest after the step that is under way."""
        if self._child is not None and self._state is JobState.RUNNING:
            self._child.send("pause")
            self.pausing = True
            self.told.emit("Pausing after this step...")
            self.changed.emit()

    def resume(self) -> None:
        """Go on after a pause."""
        if self._child is not None and self._state is JobState.PAUSED:
            self._child.send("go")
            self._move_to(JobState.RUNNING)

    def cancel(self) -> None:
        """Stop after the step that is under way; its checkpoint and a model are saved. Asked again, at once."""
        if self._child is None:
            return
        if self._state is JobState.STOPPING:
            if self.may_kill:
                self._child.kill()
            return
        self._child.send("stop")
        self._patience.start()
        self._move_to(JobState.STOPPING)
        self.told.emit("Stopping after this step; the checkpoint and a model are saved...")

    # ---- what the child says

    def _on_said(self, event: dict[str, Any]) -> None:
        handle = {
            "progress": self._on_progress,
            "preparing": self._on_progress,
            "epoch": self._on_epoch,
            "note": self._on_note,
            "paused": lambda _: self._move_to(JobState.PAUSED),
            "going": lambda _: self._move_to(JobState.RUNNING),
            "error": self._on_error,
            "result": self._keep_result,
        }.get(str(event.get("event")))
        if handle is not None:
            handle(event)

    def _on_progress(self, event: Mapping[str, Any]) -> None:
        if self._state is JobState.PREPARING and event.get("phase") == "train":
            self._move_to(JobState.RUNNING)
        self.fraction = _number(event.get("fraction"))
        loss = _number(event.get("step_loss"))
        if loss is not None and self.fraction is not None:
            self.curves.loss.append((self.fraction * self._epochs, loss))
        message = str(event.get("message", ""))
        if message and self._state in (JobState.PREPARING, JobState.RUNNING):
            self.told.emit(message[:1].upper() + message[1:])
        self.moved.emit()

    def _on_epoch(self, event: Mapping[str, Any]) -> None:
        self._epochs = int(_number(event.get("epochs")) or self._epochs)
        dice, epoch = _number(event.get("dice")), _number(event.get("epoch"))
        if dice is not None and epoch is not None:
            self.curves.dice.append((epoch, dice))
        self.curves.take_drift(event)
        picture = event.get("sample")
        if isinstance(picture, dict):
            self.sample = unpack(picture) or self.sample
        self._on_progress({key: event.get(key) for key in ("fraction", "message")})

    def _on_note(self, event: Mapping[str, Any]) -> None:
        self._notes.append(str(event.get("message", "")))

    def _on_error(self, event: Mapping[str, Any]) -> None:
        self._error = str(event.get("message", ""))

    def _keep_result(self, event: Mapping[str, Any]) -> None:
        self._result = event

    def expect(self, epochs: int) -> None:
        """How many epochs the plan has, for the axis of the curves."""
        self._epochs = epochs

    def _on_patience(self) -> None:
        """The step takes long: offer to stop at once."""
        if self._state is JobState.STOPPING:
            self.may_kill = True
            self.changed.emit()

    # ---- the end

    def _on_ended(self, code: int, errors: str) -> None:
        self._patience.stop()
        stopping = self._state is JobState.STOPPING
        self._child = None
        ending = self._ending(code, errors, stopping)
        self._move_to(ending.state)
        self.ended.emit(ending)

    def _ending(self, code: int, errors: str, stopping: bool) -> Ending:
        if code in (0, STOPPED) and self.out is not None:
            return self._with_model(JobState.DONE if code == 0 else JobState.CANCELLED, self.out)
        if stopping:
            text = "Stopped at once: Go on continues from the last checkpoint."
            return Ending(JobState.CANCELLED, message=text)
        if self._error:
            return Ending(JobState.FAILED, message=self._error)
        if code == -1:
            text = "The training was ended by the system, most often because the memory was full. Lower Batch or Patch."
            return Ending(JobState.FAILED, message=text, details=errors)
        text = "The training stopped; its last checkpoint is kept, and Go on continues from it."
        return Ending(JobState.FAILED, message=text, details=errors)

    def _with_model(self, state: JobState, out: Path) -> Ending:
        weights = out / "model.safetensors"
        if not weights.exists():
            return Ending(state, message="Stopped before the first step; nothing was saved.")
        try:
            choice = model_list.install(weights, self.name)
        except LsnetError as error:
            return Ending(state, message=f"The model is in {out.name}, but it was not listed. {error}")
        listed = f"The model is listed as {choice.title}: use it in Segment."
        return Ending(state, choice, " ".join([self._outcome(state), listed, *self._notes]))

    def _outcome(self, state: JobState) -> str:
        if state is JobState.CANCELLED:
            return "Stopped; Go on continues it."
        dice = (self._result or {}).get("dice")
        patients = int(_number((self._result or {}).get("patients")) or 0)
        if not isinstance(dice, dict) or not patients:
            return "Trained; nothing is known about unseen patients."
        shown = ", ".join(f"{name} {value:.3f}" for name, value in dice.items() if isinstance(value, int | float))
        return f"Trained. Dice on {patients} unseen patient{'s' if patients != 1 else ''}: {shown}."

    def _move_to(self, state: JobState) -> None:
        self.pausing = False
        if state is not self._state:
            self._state = state
            self.changed.emit()

    def _read_log(self, out: Path) -> None:
        """The curves of what was trained before."""
        try:
            lines = (out / "log.jsonl").read_text(encoding="utf-8").splitlines()
            for row in map(json.loads, lines):
                self.curves.loss.append((float(row["epoch"]), float(row["loss"])))
                self.curves.take_drift(row)
                if "dice" in row:
                    self.curves.dice.append((float(row["epoch"]), float(row["dice"])))
        except (OSError, ValueError, KeyError, TypeError):
            # the picture of the past is not worth a message
            return


def can_resume(out: Path | None) -> bool:
    """Whether a folder holds a training that can go on."""
    return out is not None and (out / CHECKPOINT).is_file() and (out / WORDS_FILE).is_file()


def keep_words(out: Path, words: Sequence[str], name: str) -> None:
    """Remember how a training was started, in its own folder; where that fails it can go on by hand."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / WORDS_FILE).write_text(json.dumps({"words": list(words), "name": name}, indent=1), encoding="utf-8")
    except OSError:
        return


def kept_words(out: Path) -> tuple[list[str], str] | None:
    """How the training in a folder was started, and the name of its model."""
    try:
        content = json.loads((out / WORDS_FILE).read_text(encoding="utf-8"))
        return [str(word) for word in content["words"]], str(content["name"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


@cache
def shared_run() -> TrainRun:
    """The training of this napari: a dock that is opened again finds the one that went on without it."""
    return TrainRun()
