"""The lower part of the panel: run buttons, status, and what to do with a result."""

from __future__ import annotations

from dataclasses import dataclass

from qtpy.QtCore import Signal  # type: ignore[attr-defined]
from qtpy.QtWidgets import QProgressBar, QVBoxLayout, QWidget

from napari_lsnet.jobs import JobState
from napari_lsnet.run_controls import RUN_TEXT, RunControls, push_button, row_of

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
    has_steps : bool
        Whether the model is one whose steps can be watched.
    """

    state: JobState
    can_run: bool
    has_result: bool
    can_hand_over: bool
    has_steps: bool = False


class Controls(RunControls):
    """Buttons, bar and status line.

    Parameters
    ----------
    parent : QWidget, optional
        The usual.

    Attributes
    ----------
    watch, hand_over : Signal()
        The button was clicked.
    """

    watch = Signal()
    hand_over = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__("labels", "Segment the image with the model", "Stop and keep what is finished", parent)
        self.watch_button = push_button(
            "Watch", "The same run, and its level set is shown after every step, from coarse to fine", self.watch
        )
        self.watch_button.hide()
        self.hand_over_button = push_button(
            "To level set",
            "Open the level set with the probability as its image and the labels as its start",
            self.hand_over,
        )
        self.bar = QProgressBar()
        self.bar.setRange(0, _PARTS)
        self.bar.setTextVisible(False)
        self.bar.setFixedHeight(8)
        rows = QVBoxLayout(self)
        rows.setContentsMargins(0, 0, 0, 0)
        rows.setSpacing(4)
        buttons = ((self.run_button, 3), (self.watch_button, 2), (self.cancel_button, 2), (self.hand_over_button, 2))
        rows.addLayout(row_of(*buttons))
        rows.addWidget(self.bar)
        rows.addWidget(self.status)
        rows.addWidget(self.report_button)
        rows.addLayout(self.copy_row())

    def follow(self, now: Standing) -> None:
        """Enable and name the buttons."""
        busy = now.state in (JobState.PREPARING, JobState.RUNNING, JobState.PAUSED)
        stopping = now.state is JobState.STOPPING
        live = now.state in (JobState.RUNNING, JobState.PAUSED)
        self.run_button.setText(RUN_TEXT.get(now.state, "Run"))
        self.run_button.setEnabled(live or (now.can_run and not busy and not stopping))
        self.watch_button.setVisible(now.has_steps)
        self.watch_button.setEnabled(now.can_run and not busy and not stopping)
        self.cancel_button.setEnabled(busy)
        self.hand_over_button.setEnabled(now.can_hand_over and not busy and not stopping)
        self.allow_copies(now.has_result and not busy and not stopping)
        if not busy and not stopping:
            self.show_fraction(None)

    def show_fraction(self, fraction: float | None) -> None:
        """How much is done; None for nothing under way."""
        self.bar.setValue(0 if fraction is None else int(fraction * _PARTS))
