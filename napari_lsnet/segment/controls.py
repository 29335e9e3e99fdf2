"""The lower part of the panel: run buttons, status, and what to do with a result."""

from __future__ import annotations

from dataclasses import dataclass

from qtpy.QtCore import Signal  # type: ignore[attr-defined]
from qtpy.QtWidgets import (
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_lsnet.jobs import JobState
from napari_lsnet.section import StatusLine

_RUN_TEXT = {
    JobState.PREPARING: "Preparing...",
    JobState.RUNNING: "Pause",
    JobState.PAUSED: "Resume",
    JobState.STOPPING: "Stopping...",
}
_PARTS = 1000


@dataclass(frozen=True)
class Standing:
    """What the buttons depend on.

    Attributes
    ----------
    state : JobState
        Of the run.
    can_run : bool
        Whether a run could begin now.
    has_result : bool
        Whether there is something to copy.
    can_hand_over : bool
        Whether there is a probability for the level set.
    """

    state: JobState
    can_run: bool
    has_result: bool
    can_hand_over: bool


class Controls(QWidget):
    """Buttons, bar and status line.

    Parameters
    ----------
    parent : QWidget, optional
        The usual.

    Attributes
    ----------
    run, cancel, hand_over, copy_python, copy_command, save_record, copy_report : Signal()
        The button was clicked.
    """

    run = Signal()
    cancel = Signal()
    hand_over = Signal()
    copy_python = Signal()
    copy_command = Signal()
    save_record = Signal()
    copy_report = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Maximum)
        self.run_button = _button("Run", "Segment the image with the model", self.run)
        self.cancel_button = _button("Cancel", "Stop and keep what is finished", self.cancel)
        self.hand_over_button = _button(
            "To level set",
            "Open the level set with the probability as its image and the labels as its start",
            self.hand_over,
        )
        self.python_button = _button("Python", "Copy a script that makes the same labels", self.copy_python)
        self.command_button = _button("Command", "Copy a command line that makes the same labels", self.copy_command)
        self.record_button = _button("Save record...", "A file with everything that was done", self.save_record)
        self.report_button = _button("Copy report", "Versions and trace, without your data", self.copy_report)
        self.report_button.hide()
        self.bar = QProgressBar()
        self.bar.setRange(0, _PARTS)
        self.bar.setTextVisible(False)
        self.bar.setFixedHeight(8)
        self.status = StatusLine()
        rows = QVBoxLayout(self)
        rows.setContentsMargins(0, 0, 0, 0)
        rows.setSpacing(4)
        first = QHBoxLayout()
        first.setSpacing(3)
        first.addWidget(self.run_button, 3)
        first.addWidget(self.cancel_button, 2)
        first.addWidget(self.hand_over_button, 2)
        rows.addLayout(first)
        rows.addWidget(self.bar)
        rows.addWidget(self.status)
        rows.addWidget(self.report_button)
        last = QGridLayout()
        last.setSpacing(3)
        last.addWidget(QLabel("Copy as"), 0, 0)
        for place, button in enumerate((self.python_button, self.command_button, self.record_button)):
            last.addWidget(button, 0, place + 1)
            last.setColumnStretch(place + 1, 2 + place // 2)
        rows.addLayout(last)

    def follow(self, now: Standing) -> None:
        """Enable and name the buttons."""
        busy = now.state in (JobState.PREPARING, JobState.RUNNING, JobState.PAUSED)
        stopping = now.state is JobState.STOPPING
        live = now.state in (JobState.RUNNING, JobState.PAUSED)
        self.run_button.setText(_RUN_TEXT.get(now.state, "Run"))
        self.run_button.setEnabled(live or (now.can_run and not busy and not stopping))
        self.cancel_button.setEnabled(busy)
        self.hand_over_button.setEnabled(now.can_hand_over and not busy and not stopping)
        for button in (self.python_button, self.command_button, self.record_button):
            button.setEnabled(now.has_result and not busy and not stopping)
        if not busy and not stopping:
            self.show_fraction(None)

    def show_fraction(self, fraction: float | None) -> None:
        """How much is done; None for nothing under way."""
        self.bar.setValue(0 if fraction is None else int(fraction * _PARTS))

    def tell(self, text: str, *, warning: bool = False, details: bool = False) -> None:
        """Write the status line; `details` offers the report."""
        self.status.tell(text, warning=warning)
        self.report_button.setVisible(details)


def _button(text: str, tip: str, signal: Signal) -> QPushButton:
    button = QPushButton(text)
    button.setToolTip(tip)
    button.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
    button.setMinimumWidth(button.fontMetrics().horizontalAdvance(text) + 14)
    button.clicked.connect(lambda: signal.emit())
    return button
