"""Small pictures of numbers for the docks, painted by Qt alone."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field

from qtpy.QtCore import QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QBrush, QColor, QPainter, QPaintEvent, QPen, QPolygonF
from qtpy.QtWidgets import QSizePolicy, QWidget

_MARGIN = 4
_LINE = 14


@dataclass
class Curve:
    """One line of a `CurvePlot`.

    Attributes
    ----------
    name, unit : str
        As they stand in the picture.
    colour : str
        Of the line, readable on dark and light.
    from_zero : bool
        Whether the axis always shows 0.
    top : float or None
        The upper end of the axis; by default the largest value.
    """

    name: str
    unit: str
    colour: str
    from_zero: bool = True
    top: float | None = None
    x: list[float] = field(default_factory=list)
    y: list[float] = field(default_factory=list)

    def at(self, x: float | None) -> float:
        """The value at x, or the newest."""
        if x is None:
            return self.y[-1]
        return self.y[min(bisect_left(self.x, x), len(self.y) - 1)]

    @property
    def range(self) -> tuple[float, float]:
        """Smallest and largest value shown."""
        low, high = min(self.y, default=0.0), max(self.y, default=1.0)
        if self.from_zero:
            low, high = min(low, 0.0), max(high, 0.0)
        if self.top is not None:
            high = max(high, self.top)
        return (low, high) if high > low else (low, low + 1.0)


class CurvePlot(QWidget):
    """Live curves over one x axis, each on a scale of its own, with the newest value of each in words.

    Parameters
    ----------
    *curves : Curve
        What is drawn, first on top.
    x_name : str
        Name of the x axis.
    parent : QWidget, optional
        The usual.
    """

    def __init__(self, *curves: Curve, x_name: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.curves = curves
        self._x_name = x_name
        self._cursor: float | None = None
        self._hatched_from: float | None = None
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setMinimumHeight(84)

    def sizeHint(self) -> QSize:  # noqa: N802, D102
        return QSize(240, 84)

    def add(self, x: float, *values: float) -> None:
        """One more point of every curve, if it lies behind the last; call `update` when all are in."""
        if self.curves[0].x and x <= self.curves[0].x[-1]:
            return
        for curve, value in zip(self.curves, values, strict=True):
            curve.x.append(x)
            curve.y.append(value)

    def mark(self, cursor: float | None, hatched_from: float | None) -> None:
        """A line at the place on show, and a hatch over what lies behind another: steps that were taken back."""
        if (cursor, hatched_from) != (self._cursor, self._hatched_from):
            self._cursor, self._hatched_from = cursor, hatched_from
            self.update()

    @property
    def place(self) -> float | None:
        """Where the line stands, on the x axis."""
        return self._cursor

    @property
    def hatched_from(self) -> float | None:
        """Where the hatch begins."""
        return self._hatched_from

    def clear(self) -> None:
        """Forget all points."""
        for curve in self.curves:
            curve.x.clear()
            curve.y.clear()
        self.update()

    def paintEvent(self, _event: QPaintEvent | None) -> None:  # noqa: N802, D102
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        text = self.palette().windowText().color()
        quiet = QColor(text)
        quiet.setAlphaF(0.35)
        font = painter.font()
        font.setPixelSize(11)
        painter.setFont(font)
        frame = QRectF(self.rect()).adjusted(_MARGIN, _MARGIN + _LINE, -_MARGIN, -_MARGIN - _LINE)
        painter.setPen(QPen(quiet, 1))
        painter.drawLine(frame.bottomLeft(), frame.bottomRight())
        last = max((curve.x[-1] for curve in self.curves if curve.x), default=0.0)
        below = QRectF(frame.left(), frame.bottom(), frame.width(), _LINE)
        painter.setPen(text)
        if not last:
            painter.drawText(frame, Qt.AlignmentFlag.AlignCenter, " and ".join(c.name for c in self.curves))
            return
        painter.drawText(below, Qt.AlignmentFlag.AlignLeft, "0")
        painter.drawText(below, Qt.AlignmentFlag.AlignHCenter, self._x_name)
        painter.drawText(below, Qt.AlignmentFlag.AlignRight, shown(last))
        above = QRectF(frame.left(), _MARGIN, frame.width(), _LINE)
        sides = (Qt.AlignmentFlag.AlignLeft, Qt.AlignmentFlag.AlignRight, Qt.AlignmentFlag.AlignHCenter)
        for curve, side in zip(self.curves, sides, strict=False):
            if curve.y:
                painter.setPen(QColor(curve.colour))
                painter.drawText(above, side, f"{curve.name} {shown(curve.at(self._cursor))} {curve.unit}".rstrip())
        for curve in reversed(self.curves):
            self._draw(painter, curve, frame, last)
        if self._hatched_from is not None and self._hatched_from < last:
            left = frame.left() + frame.width() * self._hatched_from / last
            quiet.setAlphaF(0.6)
            painter.fillRect(
                QRectF(left, frame.top(), frame.right() - left, frame.height()),
                QBrush(quiet, Qt.BrushStyle.BDiagPattern),
            )
        if self._cursor is not None and self._cursor <= last:
            x = frame.left() + frame.width() * self._cursor / last
            painter.setPen(QPen(text, 1.4))
            painter.drawLine(QPointF(x, frame.top()), QPointF(x, frame.bottom()))

    def _draw(self, painter: QPainter, curve: Curve, frame: QRectF, last: float) -> None:
        low, high = curve.range
        stride = max(1, len(curve.x) // max(1, int(frame.width()) * 2))
        places = [*range(0, len(curve.x), stride), *([len(curve.x) - 1] if curve.x else [])]
        line = [
            QPointF(
                frame.left() + frame.width() * curve.x[k] / last,
                frame.bottom() - frame.height() * (curve.y[k] - low) / (high - low),
            )
            for k in places
        ]
        painter.setPen(QPen(QColor(curve.colour), 1.6))
        painter.drawPolyline(QPolygonF(line))


def shown(value: float) -> str:
    """A number in few digits: 1,642, 237, 12.3, 0.0061."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.2g}" if abs(value) < 10 else f"{value:.1f}"


def time_text(seconds: float) -> str:
    """A length of time in the unit that reads best: 40 s, 12 min, 3.5 h, 4 days."""
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    minutes = seconds / 60
    if minutes < 90:
        return f"{minutes:.0f} min"
    return f"{minutes / 60:.1f} h" if minutes < 48 * 60 else f"{minutes / 60 / 24:.0f} days"
