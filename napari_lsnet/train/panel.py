"""The panel *Train a network*: choose data, check them, see the plan, train in a child process, use the model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QHBoxLayout, QProgressBar, QPushButton, QSizePolicy, QTabWidget, QVBoxLayout, QWidget

from napari_lsnet import settings
from napari_lsnet.jobs import Ending, JobState
from napari_lsnet.section import StatusLine
from napari_lsnet.train.data_tab import DataTab
from napari_lsnet.train.plan_tab import PlanTab, plan_text
from napari_lsnet.train.planning import Planning
from napari_lsnet.train.run import can_resume, kept_words, shared_run
from napari_lsnet.train.run_tab import RunTab
from src_models.errors import InputError, LsnetError

if TYPE_CHECKING:
    import napari.viewer

DATA, PLAN, RUN = range(3)
_PARTS = 1000
_TEXT = {JobState.PREPARING: "Preparing...", JobState.RUNNING: "Pause", JobState.PAUSED: "Resume"}


class TrainPanel(QWidget):
    """The dock widget *Train a network*.

    Parameters
    ----------
    viewer : napari.Viewer
        For pairs of layers.
    parent : QWidget, optional
        The usual.
    """

    def __init__(self, viewer: napari.viewer.Viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        viewer = getattr(viewer, "__wrapped__", viewer)
        self.train_run = shared_run()
        self.planning = Planning(self)
        self._planned: tuple[Any, ...] | None = None
        self._result: Mapping[str, Any] | None = None
        self._invalid = ""
        self.report = ""
        self.data = DataTab(viewer)
        self.plan = PlanTab()
        self.progress = RunTab(self.train_run)
        self._build()
        self._connect()
        self._follow()

    def _build(self) -> None:
        self.tabs = QTabWidget()
        for title, tab in (("1  Data", self.data), ("2  Plan", self.plan), ("3  Run", self.progress)):
            self.tabs.addTab(tab, title)
        self.main_button = _button("Plan", "Make the plan of the training, and say what it will take")
        self.cancel_button = _button("Cancel", "Stop after this step; a checkpoint and a model are saved")
        self.resume_button = _button("Go on", "Go on with the training that is in the folder of the run")
        self.report_button = QPushButton("Copy report")
        self.report_button.setToolTip("What the training wrote before it broke down")
        self.report_button.hide()
        self.bar = QProgressBar()
        self.bar.setRange(0, _PARTS)
        self.bar.setTextVisible(False)
        self.bar.setFixedHeight(8)
        self.status = StatusLine()
        outer = QVBoxLayout(self)
        outer.setContentsMargins(6, 4, 6, 6)
        outer.setSpacing(4)
        outer.addWidget(self.tabs, 1)
        row = QHBoxLayout()
        row.setSpacing(3)
        for button, share in ((self.main_button, 3), (self.cancel_button, 2), (self.resume_button, 2)):
            row.addWidget(button, share)
        outer.addLayout(row)
        outer.addWidget(self.bar)
        outer.addWidget(self.status)
        outer.addWidget(self.report_button)
        self.setMinimumWidth(320)

    def _connect(self) -> None:
        self.main_button.clicked.connect(self.advance)
        self.cancel_button.clicked.connect(self.cancel)
        self.resume_button.clicked.connect(self.go_on)
        self.report_button.clicked.connect(self._copy_report)
        self.data.changed.connect(self._on_edited)
        self.plan.changed.connect(self._on_edited)
        self.plan.invalid.connect(self._on_invalid)
        self.data.refused.connect(self._refuse)
        self.planning.told.connect(self._tell)
        self.planning.ended.connect(self._on_planned)
        self.train_run.changed.connect(self._follow)
        self.train_run.told.connect(self._tell)
        self.train_run.moved.connect(self._on_moved)
        self.train_run.ended.connect(self._on_ended)

    # ---- what the person does

    def advance(self) -> None:
        """Plan, train, pause or go on after a pause, whatever is next."""
        run = self.train_run
        if run.state is JobState.RUNNING:
            run.pause()
        elif run.state is JobState.PAUSED:
            run.resume()
        elif not run.is_busy and not self.planning.is_busy:
            self._or_refuse(self._train if self._is_planned() else self._make_plan)

    def cancel(self) -> None:
        """Stop planning, or the training after its step; asked again, at once."""
        if self.planning.is_busy:
            self.planning.cancel()
        else:
            self.train_run.cancel()

    def go_on(self) -> None:
        """Go on with the training that is in the folder of the run."""
        self._or_refuse(self._go_on)

    # ---- how

    def _or_refuse(self, action: Any) -> None:
        try:
            action()
        except LsnetError as error:
            self._refuse(str(error))

    def _make_plan(self) -> None:
        source = self.data.source()
        choices = self.plan.form.value()
        self.plan.propose_folder(source.name)
        out = self.plan.folder()
        if out is None:
            raise InputError("run-folder-none", "There is no folder for the run", "", "Choose one under Plan.")
        if can_resume(out):
            raise InputError(
                "run-exists", f"{out.name} holds a training already", "", "Go on with it, or choose another folder."
            )
        settings.remember(choices)
        self.tabs.setCurrentIndex(PLAN)
        self._planned = self._key()
        name = self._model_name(source.name)
        self.plan.say("")
        self.planning.start(source, choices, out, name)
        self._follow()

    def _train(self) -> None:
        choices, out = self.plan.form.value(), self.plan.folder()
        if out is None or self._result is None:
            return
        words = [*self.planning.data_words, "--plan", str(out / "plan.json"), *choices.run_words()]
        self.train_run.expect(int(self._result["epochs"]))
        self._start(words, out, self.planning.name, resume=False)

    def _go_on(self) -> None:
        out = self.plan.folder()
        kept = None if out is None else kept_words(out)
        if out is None or kept is None:
            raise InputError("run-none", "There is no training to go on with", "", "Choose the folder of one.")
        self._start(kept[0], out, kept[1], resume=True)

    def _start(self, words: list[str], out: Path, name: str, *, resume: bool) -> None:
        self.progress.plan.setText(self.plan.words.text())
        self.report_button.hide()
        self.train_run.start(words, out, name, resume=resume)
        self.tabs.setCurrentIndex(RUN)
        self._tell("Starting: the data are read in a process of their own...")
        self.progress.follow()

    def _model_name(self, data_name: str) -> str:
        from napari_lsnet.train.source import file_name

        typed = self.plan.name.text().strip()
        network = self.plan.form.value().network
        return file_name(typed or f"{'nnunet' if network == 'auto' else network}-{data_name}")

    def _key(self) -> tuple[Any, ...]:
        return (self.data.key(), self.plan.key(), self.plan.form.value().fold)

    def _is_planned(self) -> bool:
        return self._result is not None and self._planned == self._key()

    # ---- what the rest causes

    def _on_edited(self) -> None:
        self._invalid = ""
        try:
            if self._planned is not None and not self.planning.is_busy and self._planned != self._key():
                self._planned, self._result = None, None
                self.plan.say("")
        except LsnetError as error:
            self._invalid = str(error)
        self._follow()

    def _on_invalid(self, message: str) -> None:
        self._invalid = message
        self._follow()

    def _on_planned(self, ending: Ending) -> None:
        self._result = ending.result
        if self._result is None:
            self._planned = None
            self._follow()
            if ending.state is JobState.FAILED:
                self._refuse(ending.message, details=ending.details)
            else:
                self._tell(ending.message)
            return
        text = plan_text(self._result, self.plan.form.value().fold)
        self.plan.say(" ".join([text, *self.planning.notes]))
        self._follow()
        self._tell("This is the plan: press Train, or change it above.")

    def _on_moved(self) -> None:
        fraction = self.train_run.fraction
        self.bar.setValue(0 if fraction is None else int(fraction * _PARTS))

    def _on_ended(self, ending: Ending) -> None:
        self._planned, self._result = None, None
        self._follow()
        if ending.state is JobState.FAILED:
            self._refuse(ending.message, details=ending.details)
        else:
            self._tell(ending.message)

    def _follow(self) -> None:
        """Buttons and lines follow the state."""
        run, planning = self.train_run, self.planning
        busy = run.is_busy
        stopping = run.state is JobState.STOPPING and busy
        planned = not self._invalid and self._is_planned()
        reason = self._invalid or self.data.why_not()
        text = "Planning..." if planning.is_busy else "Train" if planned else "Plan"
        if stopping:
            text = "Stopping..."
        elif busy:
            text = "Pausing..." if run.pausing else _TEXT.get(run.state, text)
        self.main_button.setText(text)
        live = run.state in (JobState.RUNNING, JobState.PAUSED) and not run.pausing
        self.main_button.setEnabled(live if busy else not planning.is_busy and not reason)
        self.cancel_button.setText("Stop at once" if stopping and run.may_kill else "Cancel")
        self.cancel_button.setEnabled(planning.is_busy or (busy and (not stopping or run.may_kill)))
        self.resume_button.setEnabled(not busy and not planning.is_busy and can_resume(self.plan.folder()))
        self.data.lock(busy or planning.is_busy)
        self.plan.lock(busy or planning.is_busy)
        if run.state is JobState.PAUSED:
            self._tell("Paused. Resume goes on; Cancel saves a checkpoint and a model.")
        elif not busy and not planning.is_busy and run.state is JobState.IDLE and not planned:
            self._tell(reason or "Check the data if you like, then press Plan.")

    def _tell(self, text: str, *, warning: bool = False) -> None:
        self.status.tell(text, warning=warning)

    def _refuse(self, message: str, *, details: str = "") -> None:
        from napari.utils.notifications import show_warning

        self._tell(message, warning=True)
        self.report = details
        self.report_button.setVisible(bool(details))
        show_warning(message)

    def _copy_report(self) -> None:
        from qtpy.QtWidgets import QApplication

        clipboard = QApplication.clipboard()
        if clipboard is not None:
            clipboard.setText(self.report)


def _button(text: str, tip: str) -> QPushButton:
    button = QPushButton(text)
    button.setToolTip(tip)
    button.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
    button.setMinimumWidth(button.fontMetrics().horizontalAdvance(text) + 14)
    return button
