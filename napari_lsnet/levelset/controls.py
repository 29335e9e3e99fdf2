"""The lower part of the panel: run buttons, curve, status, and what to do with a result. Buttons follow a state."""

from __future__ import annotations

from dataclasses import dataclass

from qtpy.QtCore import Qt, Signal  # type: ignore[attr-defined]
from qtpy.QtWidgets import QHBoxLayout, QLabel, QPushButton, QSizePolicy, QSpinBox, QVBoxLayout, QWidget

from napari_lsnet.jobs import JobState
from napari_lsnet.layer_combo import LayerCombo
from napari_lsnet.levelset.timeline_bar import TimelineBar
from napari_lsnet.views import Curve, CurvePlot

_RUN_TEXT = {
    JobState.PREPARING: "Preparing...",
    JobState.RUNNING: "Pause",
    JobState.PAUSED: "Resume",
    JobState.STOPPING: "Stopping...",
}


@dataclass(frozen=True)
class Standing:
    """What the buttons depend on.

    Attributes
    ----------
    state : JobState
        Of the run.
    can_run : bool
        Whether a run could begin now.
    can_continue : bool
        Whether Run would go on from the result.
    has_result : bool
        Whether there is something to copy.
    can_rewind : bool
        Whether something was reached: there is a way back to the start, and something to accept.
    can_undo : bool
        Whether something was accepted.
    looks_back : bool
        Whether an earlier step is on show: Accept takes it.
    goes_on : bool
        Whether Run goes on from the earlier step on show.
    """

    state: JobState
    can_run: bool
    can_continue: bool
    has_result: bool
    can_rewind: bool
    can_undo: bool
    looks_back: bool = False
    goes_on: bool = False


class Controls(QWidget):
    """Buttons, curve and status line.

    Parameters
    ----------
    targets : LayerCombo
        Labels layers to accept into.
    parent : QWidget, optional
        The usual.

    Attributes
    ----------
    run, rewind, cancel, accept, undo, copy_python, copy_command, save_record, copy_report : Signal()
        The button was clicked.
    step : Signal(int)
        So many steps are wanted.
    """

    run = Signal()
    step = Signal(int)
    rewind = Signal()
    cancel = Signal()
    accept = Signal()
    undo = Signal()
    copy_python = Signal()
    copy_command = Signal()
    save_record = Signal()
    copy_report = Signal()

    def __init__(self, targets: LayerCombo, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Maximum)
        self.run_button = self._button("Run", "Grow the contour from the seeds, or go on", self.run)
        self.step_button = self._button("Step", "Take so many steps, then rest", None)
        self.step_button.clicked.connect(lambda: self.step.emit(self.step_count.value()))
        self.step_count = QSpinBox()
        self.step_count.setRange(1, 1000)
        self.step_count.setToolTip("Steps per click on Step")
        self.rewind_button = self._button("Rewind", "Back to the start; what was reached is given up", self.rewind)
        self.cancel_button = self._button("Cancel", "Stop and keep what was reached", self.cancel)
        self.accept_button = self._button("Accept", "Write the contour into the labels layer chosen here", self.accept)
        self.undo_button = self._button("Undo", "Take the last Accept back", self.undo)
        self.python_button = self._button("Python", "Copy a script that makes the same mask", self.copy_python)
        self.command_button = self._button("Command", "Copy a command line that makes the same mask", self.copy_command)
        self.record_button = self._button(
            "Save record...",
            "A file with everything that was done; lsnet replay makes the mask again",
            self.save_record,
        )
        self.report_button = self._button("Copy report", "Versions and trace, without your data", self.copy_report)
        self.report_button.hide()
        self.targets = targets
        targets.setToolTip("The labels layer to write into; its other labels stay as they are")
        self.label = QSpinBox()
        self.label.setRange(1, 2**31 - 1)
        self.label.setToolTip("The label to write")
        self.size_curve = Curve("inside", "", "#e09f3e")
        self.rate_curve = Curve("rate", "", "#6c9ef8")
        self.plot = CurvePlot(self.size_curve, self.rate_curve, x_name="time")
        self.timeline = TimelineBar()
        self.status = QLabel()
        self.status.setWordWrap(True)
        self.status.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.status.setMinimumHeight(max(60, self.status.fontMetrics().lineSpacing() * 3))
        self.status.setAlignment(Qt.AlignmentFlag.AlignTop | Qt.AlignmentFlag.AlignLeft)
        rows = QVBoxLayout(self)
        rows.setContentsMargins(0, 0, 0, 0)
        rows.setSpacing(3)
        rows.addLayout(_row((self.run_button, 3), (self.cancel_button, 2), (self.rewind_button, 2)))
        rows.addLayout(_row((self.step_button, 3), (self.step_count, 2), (self.undo_button, 2)))
        rows.addWidget(self.plot)
        rows.addWidget(self.timeline)
        rows.addWidget(self.status)
        rows.addWidget(self.report_button)
        rows.addLayout(_row((self.accept_button, 3), (targets, 4), (self.label, 2)))
        rows.addLayout(
            _row((QLabel("Copy as"), 0), (self.python_button, 2), (self.command_button, 2), (self.record_button, 3))
        )

    def follow(self, now: Standing) -> None:
        """Enable and name the buttons."""
        busy = now.state in (JobState.PREPARING, JobState.RUNNING, JobState.PAUSED)
        stopping = now.state is JobState.STOPPING
        live = now.state in (JobState.RUNNING, JobState.PAUSED)
        text = _RUN_TEXT.get(now.state, "Continue" if now.can_continue else "Run")
        back = now.looks_back and not stopping and now.state is not JobState.PREPARING
        goes_on = back and now.goes_on
        self.run_button.setText("Go on from here" if goes_on else text)
        self.run_button.setEnabled(live or goes_on or (not busy and not stopping and (now.can_run or now.can_continue)))
        self.step_button.setEnabled(self.run_button.isEnabled())
        self.cancel_button.setEnabled(busy)
        self.rewind_button.setEnabled(not stopping and (live or now.can_rewind))
        self.accept_button.setEnabled(live or back or (now.has_result and now.can_rewind and not busy and not stopping))
        self.undo_button.setEnabled(now.can_undo and not live)
        for button in (self.python_button, self.command_button, self.record_button):
            button.setEnabled(now.has_result and not busy and not stopping)

    def tell(self, text: str, *, warning: bool = False, details: bool = False) -> None:
        """Write the status line; `details` offers the report."""
        self.status.setText(text)
        self.status.setProperty("warning", warning)
        font = self.status.font()
        font.setBold(warning)
        self.status.setFont(font)
        self.report_button.setVisible(details)

    def _button(self, text: str, tip: str, signal: Signal | None) -> QPushButton:
        button = QPushButton(text)
        button.setToolTip(tip)
        button.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        button.setMinimumWidth(button.fontMetrics().horizontalAdvance(text) + 14)
        if signal is not None:
            button.clicked.connect(lambda: signal.emit())
        return button


def _row(*widgets: tuple[QWidget, int]) -> QHBoxLayout:
    row = QHBoxLayout()
    row.setSpacing(3)
    for widget, stretch in widgets:
        row.addWidget(widget, stretch)
    return row
