"""How panels are divided: titles, lines of text, and groups that fold away under their title."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLabel, QToolButton, QVBoxLayout, QWidget


class Section(QWidget):
    """A title to click on, and what it shows.

    Parameters
    ----------
    title : str
        Of the group.
    content : QWidget
        What folds.
    parent : QWidget, optional
        The usual.
    """

    def __init__(self, title: str, content: QWidget, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.content = content
        self.header = QToolButton()
        self.header.setText(title)
        self.header.setCheckable(True)
        self.header.setAutoRaise(True)
        self.header.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.header.toggled.connect(self._fold)
        rows = QVBoxLayout(self)
        rows.setContentsMargins(0, 0, 0, 0)
        rows.setSpacing(2)
        rows.addWidget(self.header)
        rows.addWidget(content)
        self._fold(False)

    def _fold(self, is_open: bool) -> None:
        self.header.setArrowType(Qt.ArrowType.DownArrow if is_open else Qt.ArrowType.RightArrow)
        self.content.setVisible(is_open)


def section_title(text: str) -> QLabel:
    """A bold line above a group of inputs."""
    label = QLabel(text)
    font = label.font()
    font.setBold(True)
    label.setFont(font)
    return label


def wrapped_line() -> QLabel:
    """A line of text that may take two."""
    label = QLabel()
    label.setWordWrap(True)
    return label


class StatusLine(QLabel):
    """What a panel says: three lines are kept free for it, and more are made where it needs more.

    Parameters
    ----------
    parent : QWidget, optional
        The usual.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWordWrap(True)
        self.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.setAlignment(Qt.AlignmentFlag.AlignTop | Qt.AlignmentFlag.AlignLeft)
        self._fit()

    def tell(self, text: str, *, warning: bool = False) -> None:
        """Say something else."""
        font = self.font()
        font.setBold(warning)
        self.setFont(font)
        self.setProperty("warning", warning)
        self.setText(text)
        self._fit()

    def resizeEvent(self, event: Any) -> None:  # noqa: N802, D102
        super().resizeEvent(event)
        self._fit()

    def _fit(self) -> None:
        # A layout of the size it needs would cut a long sentence: labels that wrap are given two lines.
        needed = self.heightForWidth(self.width()) if self.width() > 0 else 0
        self.setMinimumHeight(max(needed, self.fontMetrics().lineSpacing() * 3))


def warning_line() -> QLabel:
    """A line that is hidden until there is something to be careful about; readable on dark and on light."""
    from napari_lsnet.theme import colours

    label = wrapped_line()
    label.setStyleSheet(f"background: {colours().warning}; color: black; padding: 3px; border-radius: 3px;")
    label.hide()
    return label
