"""The bar under the curve: a slider over every step, the branches, and the comparison. It knows no run."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import QSignalBlocker, Qt, Signal  # type: ignore[attr-defined]
from qtpy.QtWidgets import QComboBox, QHBoxLayout, QLabel, QPushButton, QSizePolicy, QSlider, QVBoxLayout, QWidget


class TimelineBar(QWidget):
    """Slider, branches, Compare, and two lines of text; hidden until there are two steps to choose from.

    Attributes
    ----------
    moved : Signal(int)
        The person has chosen a step.
    branch_chosen : Signal(int)
        The person has chosen a branch, by its place in the list.
    compare : Signal(bool)
        The frame on show is to be compared with others, or no longer.
    """

    moved = Signal(int)
    branch_chosen = Signal(int)
    compare = Signal(bool)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setToolTip("Go back to any step; Run goes on from the step on show")
        self.slider.setPageStep(10)
        self.slider.valueChanged.connect(self.moved)
        self.where = QLabel()
        self.where.setMinimumWidth(0)
        self.where.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self.branches = QComboBox()
        self.branches.setToolTip("The runs that went on from a step in another way")
        self.branches.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.branches.activated.connect(self.branch_chosen)
        self.compare_button = QPushButton("Compare")
        self.compare_button.setCheckable(True)
        self.compare_button.setToolTip("Hold this step, then choose another step or branch to see where they differ")
        self.compare_button.toggled.connect(self.compare)
        self.comparison = QLabel()
        self.comparison.setWordWrap(True)
        self.comparison.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        rows = QVBoxLayout(self)
        rows.setContentsMargins(0, 0, 0, 0)
        rows.setSpacing(2)
        rows.addWidget(self.slider)
        line = QHBoxLayout()
        line.setSpacing(3)
        line.addWidget(self.where, 1)
        line.addWidget(self.compare_button, 0)
        rows.addLayout(line)
        rows.addWidget(self.branches)
        rows.addWidget(self.comparison)
        self.show_branches((), 0)
        self.tell_comparison("")
        self.hide()

    def show_steps(self, last: int, now: int) -> None:
        """Range and place of the slider; tells nobody."""
        with QSignalBlocker(self.slider):
            self.slider.setRange(0, last)
            self.slider.setValue(now)
        self.setVisible(last > 0)

    def show_branches(self, names: Sequence[str], now: int) -> None:
        """The branches; where there is but one, there is nothing to choose."""
        with QSignalBlocker(self.branches):
            if [self.branches.itemText(k) for k in range(self.branches.count())] != list(names):
                self.branches.clear()
                self.branches.addItems(list(names))
            self.branches.setCurrentIndex(now)
        self.branches.setVisible(len(names) > 1)

    def tell(self, text: str) -> None:
        """Which step is on show."""
        self.where.setText(text)
        self.where.setToolTip(text)

    def tell_comparison(self, text: str) -> None:
        """What the comparison says; "" takes the line away."""
        self.comparison.setText(text)
        self.comparison.setVisible(bool(text))
