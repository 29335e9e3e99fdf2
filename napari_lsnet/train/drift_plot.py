"""How far each kernel of a level set network has gone from its stencil, by epoch: one line a kernel, on one scale."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qtpy.QtCore import QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QPainter, QPaintEvent, QPen, QPolygonF
from qtpy.QtWidgets import QSizePolicy, QToolTip, QWidget

from napari_lsnet.views import shown

PREFIX = "drift_"
"""Of the columns of the log."""
FAMILIES = {
    "edge": ("#e09f3e", "e edges"),
    "rho": ("#6c9ef8", "\N{GREEK SMALL LETTER RHO} gradient"),
    "sigma": ("#cc79a7", "\N{GREEK SMALL LETTER SIGMA} divergence"),
}
"""Colour and name of each family of kernels."""

_COLUMN = re.compile(r"drift_level(\d+)_(edge|rho|sigma)(?:_step(\d+))?(?:_(\d+))?_(\d+)")
_MARGIN, _LINE = 6, 15
_BETWEEN = 10
_NEAR = 8.0

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Kernel:
    """A kernel as the log names it; levels, steps, classes and kernels are counted from 0."""

    level: int
    family: str
    step: int | None
    state: int
    number: int

    @classmethod
    def of(cls, column: str) -> Kernel | None:
        """From a column of the log; None where it is of something else."""
        found = _COLUMN.fullmatch(column)
        if found is None:
            return None
        level, family, step, state, number = found.groups()
        return cls(int(level), family, None if step is None else int(step), int(state or 0), int(number))

    @property
    def text(self) -> str:
        """In words, counted from 1; level 1 is the coarsest."""
        parts = [f"{self.family} {self.number + 1}", f"level {self.level + 1}"]
        if self.step is not None:
            parts.append(f"step {self.step + 1}")
        if self.state:
            parts.append(f"class {self.state + 1}")
        return ", ".join(parts)


class DriftPlot(QWidget):
    """A line per kernel, coloured by its family; the newest largest of each family in words, the rest on pointing.

    Parameters
    ----------
    parent : QWidget, optional
        The usual.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._lines: dict[Kernel, list[tuple[float, float]]] = {}
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setMinimumHeight(140)
        self.setMouseTracking(True)
        self.setToolTip(
            "Distance of each learned kernel from the finite difference it began as, as a share of that difference; "
            "spare kernels began near 0. Point at a line for its name."
        )

    def sizeHint(self) -> QSize:  # noqa: N802, D102
        return QSize(240, 140)

    @property
    def lines(self) -> Mapping[Kernel, Points]:
        """What is drawn: epoch and drift of each kernel."""
        return self._lines

    def show_drift(self, columns: Mapping[str, Points]) -> None:
        """Draw other lines.

        Parameters
        ----------
        columns : mapping of str to sequence of (float, float)
            By column of the log: epoch and value.
        """
        named = [(Kernel.of(column), list(points)) for column, points in columns.items()]
        self._lines = {kernel: points for kernel, points in named if kernel is not None and points}
        self.update()

    def largest(self) -> dict[str, float]:
        """The newest largest drift of each family that there is."""
        found: dict[str, float] = {}
        for kernel, points in self._lines.items():
            found[kernel.family] = max(found.get(kernel.family, 0.0), points[-1][1])
        return {family: found[family] for family in FAMILIES if family in found}

    def nearest(self, place: QPointF) -> Kernel | None:
        """The kernel whose line runs near a place of the widget; None where there is none."""
        best: tuple[float, Kernel] | None = None
        for kernel in self._lines:
            for point in self._drawn(kernel):
                away = ((point.x() - place.x()) ** 2 + (point.y() - place.y()) ** 2) ** 0.5
                if best is None or away < best[0]:
                    best = (away, kernel)
        return best[1] if best is not None and best[0] <= _NEAR else None

    def mouseMoveEvent(self, event: Any) -> None:  # noqa: N802, D102
        kernel = self.nearest(QPointF(event.position()))
        if kernel is None:
            QToolTip.hideText()
        else:
            value = self._lines[kernel][-1][1]
            QToolTip.showText(event.globalPosition().toPoint(), f"{kernel.text}: {shown(value)}", self)

    def paintEvent(self, _event: QPaintEvent | None) -> None:  # noqa: N802, D102
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        text = self.palette().windowText().color()
        quiet = QColor(text)
        quiet.setAlphaF(0.35)
        font = painter.font()
        font.setPixelSize(11)
        painter.setFont(font)
        frame, top = self._frame(), self._top()
        painter.setPen(text)
        above = QRectF(frame.left(), _MARGIN, frame.width(), _LINE)
        painter.drawText(above, Qt.AlignmentFlag.AlignLeft, "drift from the stencil; largest of")
        if self._lines:
            painter.drawText(above, Qt.AlignmentFlag.AlignRight, f"top {shown(top)}")
        painter.setPen(QPen(quiet, 1))
        painter.drawLine(frame.bottomLeft(), frame.bottomRight())
        self._legend(painter, QRectF(frame.left(), above.bottom(), frame.width(), _LINE))
        below = QRectF(frame.left(), frame.bottom(), frame.width(), _LINE)
        painter.setPen(text)
        painter.drawText(below, Qt.AlignmentFlag.AlignHCenter, "epoch")
        painter.drawText(below, Qt.AlignmentFlag.AlignRight, shown(self._last()))
        painter.drawText(below, Qt.AlignmentFlag.AlignLeft, "0")
        for kernel in self._lines:
            painter.setPen(QPen(QColor(FAMILIES[kernel.family][0]), 1.2))
            drawn = self._drawn(kernel)
            if len(drawn) == 1:
                painter.drawEllipse(drawn[0], 1.5, 1.5)
            else:
                painter.drawPolyline(QPolygonF(drawn))

    def _legend(self, painter: QPainter, line: QRectF) -> None:
        left, metrics = line.left(), painter.fontMetrics()
        for family, words in self.legend(lambda text: metrics.horizontalAdvance(text), line.width()).items():
            painter.setPen(QColor(FAMILIES[family][0]))
            painter.drawText(QRectF(left, line.top(), line.right() - left, _LINE), Qt.AlignmentFlag.AlignLeft, words)
            left += metrics.horizontalAdvance(words) + _BETWEEN

    def legend(self, width_of: Callable[[str], float], width: float) -> dict[str, str]:
        """Name and value of each family; in a narrow panel the letter alone, since the value is what is read."""
        largest = self.largest()
        whole = {family: f"{FAMILIES[family][1]} {shown(value)}" for family, value in largest.items()}
        if sum(width_of(words) + _BETWEEN for words in whole.values()) - _BETWEEN <= width:
            return whole
        return {family: f"{FAMILIES[family][1].split()[0]} {shown(value)}" for family, value in largest.items()}

    def _frame(self) -> QRectF:
        return QRectF(self.rect()).adjusted(_MARGIN, _MARGIN + 2 * _LINE, -_MARGIN, -_MARGIN - _LINE)

    def _top(self) -> float:
        return max((y for points in self._lines.values() for _, y in points), default=0.0) or 1.0

    def _last(self) -> float:
        return max((points[-1][0] for points in self._lines.values()), default=0.0) or 1.0

    def _drawn(self, kernel: Kernel) -> list[QPointF]:
        frame, top, last = self._frame(), self._top(), self._last()
        return [
            QPointF(frame.left() + frame.width() * x / last, frame.bottom() - frame.height() * y / top)
            for x, y in self._lines[kernel]
        ]
