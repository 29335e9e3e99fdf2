"""The lower part of the panel: run buttons, curve, status, and what to do with a result. Buttons follow a state."""

from __future__ import annotations

from dataclasses import dataclass

from qtpy.QtCore import Signal  # type: ignore[attr-defined]
from qtpy.QtWidgets import QSpinBox, QVBoxLayout, QWidget

from napari_lsnet.jobs import JobState
from napari_lsnet.layer_combo import LayerCombo
from napari_lsnet.levelset.timeline_bar import TimelineBar
from napari_lsnet.run_controls import RUN_TEXT, RunControls, push_button, row_of
from napari_lsnet.views import Curve, CurvePlot


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


class Controls(RunControls):
    """Buttons, curve and status line.

    Parameters
    ----------
    targets : LayerCombo
        Labels layers to accept into.
    parent : QWidget, optional
        The usual.

    Attributes
    ----------
    rewind, accept, undo : Signal()
        The button was clicked.
    step : Signal(int)
        So many steps are wanted.
    """

    step = Signal(int)
    rewind = Signal()
    accept = Signal()
    undo = Signal()

    def __init__(self, targets: LayerCombo, parent: QWidget | None = None) -> None:
        super().__init__("mask", "Grow the contour from the seeds, or go on", "Stop and keep what was reached", parent)
        self.step_button = push_button("Step", "Take so many steps, then rest")
        self.step_button.clicked.connect(lambda: self.step.emit(self.step_count.value()))
        self.step_count = QSpinBox()
        self.step_count.setRange(1, 1000)
        self.step_count.setToolTip("Steps per click on Step")
        self.rewind_button = push_button("Rewind", "Back to the start; what was reached is given up", self.rewind)
        self.accept_button = push_button("Accept", "Write the contour into the labels layer chosen here", self.accept)
        self.undo_button = push_button("Undo", "Take the last Accept back", self.undo)
        self.targets = targets
        targets.setToolTip("The labels layer to write into; its other labels stay as they are")
        self.label = QSpinBox()
        self.label.setRange(1, 2**31 - 1)
        self.label.setToolTip("The label to write")
        self.size_curve = Curve("inside", "", "#e09f3e")
        self.rate_curve = Curve("rate", "", "#6c9ef8")
        self.plot = CurvePlot(self.size_curve, self.rate_curve, x_name="time")
        self.timeline = TimelineBar()
        rows = QVBoxLayout(self)
        rows.setContentsMargins(0, 0, 0, 0)
        rows.setSpacing(3)
        rows.addLayout(row_of((self.run_button, 3), (self.cancel_button, 2), (self.rewind_button, 2)))
        rows.addLayout(row_of((self.step_button, 3), (self.step_count, 2), (self.undo_button, 2)))
        rows.addWidget(self.plot)
        rows.addWidget(self.timeline)
        rows.addWidget(self.status)
        rows.addWidget(self.report_button)
        rows.addLayout(row_of((self.accept_button, 3), (targets, 4), (self.label, 2)))
        rows.addLayout(self.copy_row())

    def follow(self, now: Standing) -> None:
        """Enable and name the buttons."""
        busy = now.state in (JobState.PREPARING, JobState.RUNNING, JobState.PAUSED)
        stopping = now.state is JobState.STOPPING
        live = now.state in (JobState.RUNNING, JobState.PAUSED)
        text = RUN_TEXT.get(now.state, "Continue" if now.can_continue else "Run")
        back = now.looks_back and not stopping and now.state is not JobState.PREPARING
        goes_on = back and now.goes_on
        self.run_button.setText("Go on from here" if goes_on else text)
        self.run_button.setEnabled(live or goes_on or (not busy and not stopping and (now.can_run or now.can_continue)))
        self.step_button.setEnabled(self.run_button.isEnabled())
        self.cancel_button.setEnabled(busy)
        self.rewind_button.setEnabled(not stopping and (live or now.can_rewind))
        self.accept_button.setEnabled(live or back or (now.has_result and now.can_rewind and not busy and not stopping))
        self.undo_button.setEnabled(now.can_undo and not live)
        self.allow_copies(now.has_result and not busy and not stopping)
