"""The words of a column in a layer with their shares beside chance; the ticks are the filter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from qtpy.QtCore import QRectF, QSize, Qt, Signal  # type: ignore[attr-defined]
from qtpy.QtGui import QColor, QIcon, QPainter, QPaintEvent, QPen, QPixmap
from qtpy.QtWidgets import QCheckBox, QGridLayout, QLabel, QSizePolicy, QWidget

from napari_lsnet.kernels.colours import MARK, colours_of
from napari_lsnet.kernels.filtering import Word

_HEADS = ("", "kernels", "share, chance", "ratio")


class ShareList(QWidget):
    """One line a word: a tick with its colour, how many, its share with that of chance, and their quotient.

    Parameters
    ----------
    parent : QWidget, optional
        The usual.

    Attributes
    ----------
    changed : Signal()
        Another choice of ticks.
    """

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.ticks: dict[str, QCheckBox] = {}
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setHorizontalSpacing(6)
        self._grid.setVerticalSpacing(1)
        self._grid.setColumnStretch(2, 1)

    @property
    def names(self) -> frozenset[str] | None:
        """Words that are ticked; None where all are."""
        ticked = frozenset(name for name, tick in self.ticks.items() if tick.isChecked())
        return None if len(ticked) == len(self.ticks) else ticked

    def show_words(self, words: Sequence[Word], all_names: Sequence[str], kept: frozenset[str] | None) -> None:
        """Other words.

        Parameters
        ----------
        words : sequence of Word
            Of a layer.
        all_names : sequence of str
            Of the column, for the colours.
        kept : frozenset of str or None
            Which of them are ticked; None for all.
        """
        while self._grid.count():
            item = self._grid.takeAt(0)
            widget = None if item is None else item.widget()
            if widget is not None:
                widget.hide()
                widget.deleteLater()
        self.ticks = {}
        shades = dict(zip(all_names, colours_of(all_names), strict=True))
        for column, head in enumerate(_HEADS):
            label = QLabel(head)
            label.setEnabled(False)
            self._grid.addWidget(label, 0, column)
        largest = max((max(_real(word.share), _real(word.null_share)) for word in words), default=1.0) or 1.0
        for line, word in enumerate(words, start=1):
            tick = QCheckBox(word.name)
            tick.setChecked(kept is None or word.name in kept)
            tick.setIcon(_square(shades[word.name]))
            tick.toggled.connect(lambda _on: self.changed.emit())
            self.ticks[word.name] = tick
            count = QLabel(f"{word.count:,}")
            count.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
            quotient = QLabel(_quotient(word))
            quotient.setToolTip(_tip(word))
            bar = ShareBar(word, largest, shades[word.name])
            bar.setToolTip(_tip(word))
            for column, part in enumerate((tick, count, bar, quotient)):
                self._grid.addWidget(part, line, column)

    def tick_only(self, names: frozenset[str] | None) -> None:
        """Tick these words and no others; None ticks all. Tells once."""
        for name, tick in self.ticks.items():
            tick.blockSignals(True)
            tick.setChecked(names is None or name in names)
            tick.blockSignals(False)
        self.changed.emit()


class ShareBar(QWidget):
    """A share as a bar with its number, and a line where chance is."""

    def __init__(self, word: Word, largest: float, colour: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._word, self._largest, self._colour = word, largest, colour
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def sizeHint(self) -> QSize:  # noqa: N802, D102
        return QSize(110, 16)

    def paintEvent(self, _event: QPaintEvent | None) -> None:  # noqa: N802, D102
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        word = self._word
        wide, high = float(self.width()), float(self.height())
        shade = QColor(self._colour)
        shade.setAlphaF(0.55)
        painter.fillRect(QRectF(0, 2, wide * _real(word.share) / self._largest, high - 4), shade)
        if np.isfinite(word.null_share):
            place = min(max(wide * word.null_share / self._largest, 1.0), wide - 1.0)
            painter.setPen(QPen(QColor(MARK), 2))
            painter.drawLine(int(place), 0, int(place), int(high))
        font = painter.font()
        font.setPixelSize(11)
        painter.setFont(font)
        painter.setPen(self.palette().windowText().color())
        text = _percent(word.share) + (f", {_percent(word.null_share)}" if np.isfinite(word.null_share) else "")
        painter.drawText(QRectF(4, 0, wide - 4, high), Qt.AlignmentFlag.AlignVCenter, text)


def _square(colour: str) -> QIcon:
    picture = QPixmap(10, 10)
    picture.fill(QColor(colour))
    return QIcon(picture)


def _real(value: float) -> float:
    return value if np.isfinite(value) else 0.0


def _percent(share: float) -> str:
    if not np.isfinite(share):
        return "-"
    return f"{100 * share:.0f} %" if share >= 0.0995 or share == 0 else f"{100 * share:.1f} %"


def _quotient(word: Word) -> str:
    if not np.isfinite(word.enrichment) or not word.count:
        return ""
    sure = word.low > 1 or word.high < 1
    return f"\N{MULTIPLICATION SIGN}{word.enrichment:.2g}" + ("" if sure else " ?")


def _tip(word: Word) -> str:
    if not np.isfinite(word.enrichment):
        return "There is no chance to compare this with"
    told: list[Any] = [f"{word.enrichment:.2f} times as often as among random kernels"]
    told.append(f"95 % interval {word.low:.2f} to {word.high:.2f}, p = {word.p:.2g}")
    told.append("a question mark stands where the interval holds 1; the kernels of a layer are not independent")
    return "; ".join(told)
