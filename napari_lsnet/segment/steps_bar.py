"""The bar under a watched run: a slider over the steps, and a button that plays them."""

from __future__ import annotations

from qtpy.QtCore import QSignalBlocker, Qt, QTimer, Signal  # type: ignore[attr-defined]
from qtpy.QtWidgets import QHBoxLayout, QLabel, QPushButton, QSizePolicy, QSlider, QVBoxLayout, QWidget

from napari_lsnet.segment.steps import KeptStep

PLAY_MS = 180
"""A step that is played is on show so long: a contour that moves can be followed by eye."""


class StepsBar(QWidget):
    """Slider, Play, and which step is on show; hidden until there is one.

    Attributes
    ----------
    moved : Signal(int)
        A step was chosen, by its place in the list.
    """

    moved = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setToolTip("Go back to any step; counted are those inside, in the part that was worked on")
        self.slider.setPageStep(5)
        self.play_button = QPushButton("Play")
        self.play_button.setToolTip("Show the steps one after the other")
        self.where = QLabel()
        self.where.setMinimumWidth(0)
        self.where.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        rows = QVBoxLayout(self)
        rows.setContentsMargins(0, 0, 0, 0)
        rows.setSpacing(2)
        row = QHBoxLayout()
        row.setSpacing(3)
        row.addWidget(self.slider, 1)
        row.addWidget(self.play_button)
        rows.addLayout(row)
        rows.addWidget(self.where)
        self._timer = QTimer(self)
        self._timer.setInterval(PLAY_MS)
        self._timer.timeout.connect(self._next)
        self.slider.valueChanged.connect(self.moved)
        self.slider.sliderPressed.connect(self.stop)
        self.play_button.clicked.connect(self.play)
        self.hide()

    @property
    def is_playing(self) -> bool:
        """Whether the steps are shown one after the other."""
        return self._timer.isActive()

    def show_step(self, step: KeptStep | None, kept: int) -> None:
        """Range and place of the slider, and the words; tells nobody."""
        self.setVisible(step is not None)
        if step is None:
            self.stop()
            return
        with QSignalBlocker(self.slider):
            self.slider.setRange(0, kept - 1)
            self.slider.setValue(step.number)
        name = f"Step {step.number} of {step.count}" if step.number else f"Start of {step.count} steps"
        self.where.setText(f"{name}, {step.grid}: {step.voxels:,} {step.counted}")
        self.where.setToolTip(self.where.text())

    def play(self) -> None:
        """From the start on, or stop."""
        if self.is_playing:
            self.stop()
            return
        self.slider.setValue(0)
        self.play_button.setText("Stop")
        self._timer.start()

    def stop(self) -> None:
        """Stay where it is."""
        self._timer.stop()
        self.play_button.setText("Play")

    def _next(self) -> None:
        if self.slider.value() >= self.slider.maximum():
            self.stop()
        else:
            self.slider.setValue(self.slider.value() + 1)
