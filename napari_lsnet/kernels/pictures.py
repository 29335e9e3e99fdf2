"""Small pictures of one kernel for its card, painted by Qt: its entries, its operator, its energy."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QPainter, QPaintEvent, QPen, QPolygonF
from qtpy.QtWidgets import QSizePolicy, QWidget

from napari_lsnet.kernels.colours import INDEFINITE, MARK, SHARPENING, SMOOTHING, weight_colour

_CELL = 34
_PLANE_CELL = 30
_SMALL_CELL = 22
_WIDE = 330
_KNOWN_SIDE = 48
_LINE = 14
_GAP = 8
_DRIFT = MARK


class _Picture(QWidget):
    """A widget of a fixed height that paints itself."""

    def __init__(self, high: int, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._high = high
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def sizeHint(self) -> QSize:  # noqa: N802
        return QSize(200, self._high)

    def minimumSizeHint(self) -> QSize:  # noqa: N802
        return QSize(120, self._high)

    def _begin(self, pixels: int = 11) -> QPainter:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        font = painter.font()
        font.setPixelSize(pixels)
        painter.setFont(font)
        painter.setPen(self.palette().windowText().color())
        return painter

    def _quiet(self) -> QColor:
        colour = QColor(self.palette().windowText().color())
        colour.setAlphaF(0.35)
        return colour


class KernelPicture(_Picture):
    """The entries of a kernel on the colours of its layer; a 3D kernel as its planes side by side."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(3 * _CELL + _LINE + 4, parent)
        self._kernel: NDArray[Any] = np.zeros((1, 1))
        self._largest = 1.0
        self._nearest: Sequence[tuple[str, NDArray[Any]]] = ()

    def show_kernel(
        self, kernel: NDArray[Any], largest: float, nearest: Sequence[tuple[str, NDArray[Any]]] = ()
    ) -> None:
        """Another kernel, and in 2D the known kernels that are nearest to it."""
        self._kernel, self._largest, self._nearest = kernel, largest, nearest
        self._high = kernel.shape[-2] * self._cell() + (_LINE if kernel.ndim == 3 else 0) + 4
        self.setToolTip(np.array2string(kernel, precision=3, suppress_small=True))
        self.updateGeometry()
        self.update()

    def _cell(self) -> int:
        planes = int(self._kernel.shape[0]) if self._kernel.ndim == 3 else 1
        most = _CELL if planes == 1 else _PLANE_CELL
        return min(most, (_WIDE - _GAP * (planes - 1)) // (planes * int(self._kernel.shape[-1])))

    def paintEvent(self, _event: QPaintEvent | None) -> None:  # noqa: N802, D102
        painter = self._begin(9 if self._kernel.ndim == 3 else 10)
        planes = self._kernel if self._kernel.ndim == 3 else self._kernel[None]
        cell, left, top = self._cell(), 0.0, 2.0
        for number, plane in enumerate(planes):
            if len(planes) > 1:
                offset = number - len(planes) // 2
                word = f"z {offset:+d}".replace("-", "\N{MINUS SIGN}") if offset else "z 0"
                painter.setPen(self.palette().windowText().color())
                painter.drawText(QRectF(left, top, 60, _LINE), Qt.AlignmentFlag.AlignLeft, word)
            self._draw_plane(painter, plane, left, top + (_LINE if len(planes) > 1 else 0), cell)
            left += plane.shape[1] * cell + _GAP
        if len(planes) == 1:
            self._draw_nearest(painter, left + 2 * _GAP, top)

    def _draw_nearest(self, painter: QPainter, left: float, top: float) -> None:
        """Small, each on a scale of its own: known kernels have no scale."""
        for name, known in self._nearest:
            cell = _KNOWN_SIDE // known.shape[-1]
            largest = float(np.abs(known).max())
            for (y, x), value in np.ndenumerate(known):
                box = QRectF(left + x * cell, top + _LINE + 4 + y * cell, cell, cell)
                painter.fillRect(box, QColor(*weight_colour(float(value), largest)))
            painter.setPen(self.palette().windowText().color())
            wide = max(float(_KNOWN_SIDE), painter.fontMetrics().horizontalAdvance(name))
            painter.drawText(QRectF(left, top, wide + 2, _LINE), Qt.AlignmentFlag.AlignLeft, name)
            left += wide + 2 * _GAP

    def _draw_plane(self, painter: QPainter, plane: NDArray[Any], left: float, top: float, cell: int) -> None:
        for (y, x), value in np.ndenumerate(plane):
            box = QRectF(left + x * cell, top + y * cell, cell, cell)
            red, green, blue = weight_colour(float(value), self._largest)
            painter.fillRect(box, QColor(red, green, blue))
            if cell >= _SMALL_CELL:
                dark = 0.3 * red + 0.59 * green + 0.11 * blue < 130
                painter.setPen(QColor("white" if dark else "black"))
                painter.drawText(box, Qt.AlignmentFlag.AlignCenter, _short(float(value)))
        painter.setPen(QPen(self._quiet(), 1))
        painter.drawRect(QRectF(left, top, plane.shape[1] * cell, plane.shape[0] * cell))


class OperatorPicture(_Picture):
    """Where features move (arrow) and how they spread (ellipse); for 3D in the three planes."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(92, parent)
        self._velocity: NDArray[Any] = np.zeros(2)
        self._diffusion: NDArray[Any] = np.zeros((2, 2))

    def show_operator(self, velocity: NDArray[Any], diffusion: NDArray[Any]) -> None:
        """Another operator.

        Parameters
        ----------
        velocity : ndarray of shape (d,)
            Of features, the arrow.
        diffusion : ndarray of shape (d, d)
            D; half-axes are the roots of the eigenvalues.
        """
        self._velocity, self._diffusion = velocity, diffusion
        self.update()

    def paintEvent(self, _event: QPaintEvent | None) -> None:  # noqa: N802, D102
        painter = self._begin()
        ndim = len(self._velocity)
        letters = "zyx"[-ndim:]
        pairs = sorted(combinations(range(ndim), 2), reverse=True)
        side = min(self._high - _LINE, (self.width() - _GAP * (len(pairs) - 1)) / len(pairs))
        reach = self._reach()
        for place, (a, b) in enumerate(pairs):
            box = QRectF(place * (side + _GAP), 0, side, side)
            self._draw(painter, box, (a, b), reach)
            painter.setPen(self.palette().windowText().color())
            text = f"{letters[b]} across, {letters[a]} down" if ndim == 2 else f"{letters[a]}, {letters[b]}"
            below = QRectF(box.left(), box.bottom(), max(box.width(), 120.0 if ndim == 2 else 0), _LINE)
            painter.drawText(below, Qt.AlignmentFlag.AlignLeft, text)
        if ndim == 2:
            self._legend(painter, side + 3 * _GAP)

    def _reach(self) -> float:
        values = np.abs(np.linalg.eigvalsh(self._diffusion))
        reach = max(float(np.sqrt(values.max(initial=0))), float(np.linalg.norm(self._velocity)))
        return reach if reach > 0 else 1.0

    def _draw(self, painter: QPainter, box: QRectF, axes: tuple[int, int], reach: float) -> None:
        quiet = self._quiet()
        painter.setPen(QPen(quiet, 1))
        middle = box.center()
        painter.drawLine(QPointF(box.left(), middle.y()), QPointF(box.right(), middle.y()))
        painter.drawLine(QPointF(middle.x(), box.top()), QPointF(middle.x(), box.bottom()))
        factor = 0.46 * box.width() / reach
        part = self._diffusion[np.ix_(axes, axes)]
        values, vectors = np.linalg.eigh(part)
        half = np.sqrt(np.abs(values)) * factor
        turn = np.linspace(0, 2 * np.pi, 49)
        points = vectors @ (half[:, None] * np.stack([np.cos(turn), np.sin(turn)]))
        outline = QPolygonF([QPointF(middle.x() + x, middle.y() + y) for y, x in points.T])
        colour = QColor(_kind(values)[1])
        painter.setPen(QPen(colour, 1.6))
        colour.setAlphaF(0.25)
        painter.setBrush(colour)
        painter.drawPolygon(outline)
        painter.setBrush(Qt.BrushStyle.NoBrush)
        tip = self._velocity[list(axes)] * factor
        _arrow(painter, middle, QPointF(middle.x() + tip[1], middle.y() + tip[0]))

    def _legend(self, painter: QPainter, left: float) -> None:
        word, colour = _kind(np.linalg.eigvalsh(self._diffusion))
        top = 14.0
        for text, shade in ((f"ellipse: {word}", colour), ("arrow: features move", _DRIFT)):
            painter.fillRect(QRectF(left, top + 2, 9, 9), QColor(shade))
            painter.setPen(self.palette().windowText().color())
            painter.drawText(QRectF(left + 14, top, self.width() - left - 14, _LINE), Qt.AlignmentFlag.AlignLeft, text)
            top += _LINE + 3


class EnergyPicture(_Picture):
    """Shares of energy by degree as bars, each with a line where chance is."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(78, parent)
        self._shares: Sequence[float] = ()
        self._null: Sequence[float] = ()

    def show_energy(self, shares: Sequence[float], null: Sequence[float]) -> None:
        """Another kernel's."""
        self._shares, self._null = shares, null
        self.update()

    def paintEvent(self, _event: QPaintEvent | None) -> None:  # noqa: N802, D102
        painter = self._begin()
        if not self._shares or not np.isfinite(self._shares).all():
            return
        base, top = self._high - _LINE, _LINE
        step = min(self.width() / len(self._shares), 46.0)
        largest = max(*self._shares, *self._null)
        text, quiet = self.palette().windowText().color(), self._quiet()
        for degree, (share, null) in enumerate(zip(self._shares, self._null, strict=True)):
            left = degree * step
            high = (base - top) * share / largest
            painter.fillRect(QRectF(left + 3, base - high, step - 6, high), QColor("#56b4e9"))
            level = base - (base - top) * null / largest
            painter.setPen(QPen(QColor(MARK), 2))
            painter.drawLine(QPointF(left + 1, level), QPointF(left + step - 1, level))
            painter.setPen(text)
            above = QRectF(left, min(base - high, level) - _LINE, step, _LINE)
            painter.drawText(above, Qt.AlignmentFlag.AlignHCenter, f"{100 * share:.0f} %")
            painter.drawText(QRectF(left, base, step, _LINE), Qt.AlignmentFlag.AlignHCenter, str(degree))
        painter.setPen(QPen(quiet, 1))
        painter.drawLine(QPointF(0, base), QPointF(step * len(self._shares), base))


def _short(value: float) -> str:
    text = f"{value:.2f}" if abs(value) < 10 else f"{value:.3g}"
    if abs(value) < 0.995:
        text = text.replace("0.", ".", 1)
    return text.replace("-", "\N{MINUS SIGN}")


def _kind(values: NDArray[Any]) -> tuple[str, str]:
    if (values >= 0).all():
        return "smooths", SMOOTHING
    return ("sharpens", SHARPENING) if (values <= 0).all() else ("smooths and sharpens", INDEFINITE)


def _arrow(painter: QPainter, start: QPointF, end: QPointF) -> None:
    step = np.array([end.x() - start.x(), end.y() - start.y()])
    length = float(np.hypot(*step))
    if length < 2:
        return
    painter.setPen(QPen(QColor(_DRIFT), 2.2))
    painter.drawLine(start, end)
    along = step / length
    across = np.array([-along[1], along[0]])
    head = min(7.0, length)
    tip = np.array([end.x(), end.y()])
    for side in (1, -1):
        back = tip - head * along + side * 0.5 * head * across
        painter.drawLine(end, QPointF(float(back[0]), float(back[1])))
