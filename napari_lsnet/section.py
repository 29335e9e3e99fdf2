"""How panels are divided: titles, lines of text, and groups that fold away under their title."""

from __future__ import annotations

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
