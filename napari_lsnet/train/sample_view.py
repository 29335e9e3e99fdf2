"""The newest sample of a training as a small picture: what was drawn, and what the network makes of it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QRectF, QSize, Qt
from qtpy.QtGui import QColor, QImage, QPainter, QPaintEvent
from qtpy.QtWidgets import QSizePolicy, QWidget

from napari_lsnet.theme import colours
from src_models.training.sample_text import SamplePicture

DRAWN, FOUND = (255, 255, 255), (230, 159, 0)
_TINT = 0.45
_CAPTION = 16


class SampleView(QWidget):
    """A grey picture, the network's labels as an orange tint, the drawn ones as a white line.

    Parameters
    ----------
    parent : QWidget, optional
        The usual.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._picture: QImage | None = None
        self._caption = ""
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setMinimumHeight(120)

    def sizeHint(self) -> QSize:  # noqa: N802, D102
        return QSize(260, 220)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to show yet."""
        return self._picture is None

    def show_sample(self, sample: SamplePicture | None) -> None:
        """Show another sample."""
        if sample is None:
            self._picture = None
        else:
            pixels = np.ascontiguousarray(painted(sample))
            height, width = pixels.shape[:2]
            # the copy owns its bytes
            self._picture = QImage(pixels.tobytes(), width, height, 3 * width, QImage.Format.Format_RGB888).copy()
        self.update()

    def paintEvent(self, _event: QPaintEvent | None) -> None:  # noqa: N802, D102
        painter = QPainter(self)
        painter.setPen(QColor(colours().text))
        if self._picture is None:
            text = "After each epoch, a sample is shown here."
            painter.drawText(QRectF(self.rect()), Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap, text)
            return
        room = QRectF(0, 0, self.width(), self.height() - _CAPTION)
        scale = min(room.width() / self._picture.width(), room.height() / self._picture.height())
        width, height = self._picture.width() * scale, self._picture.height() * scale
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        painter.drawImage(QRectF((room.width() - width) / 2, 0, width, height), self._picture)
        below = QRectF(0, height, self.width(), _CAPTION)
        painter.drawText(below, Qt.AlignmentFlag.AlignCenter, "line: drawn   orange: the network")


def painted(sample: SamplePicture) -> NDArray[np.uint8]:
    """The pixels, (y, x, 3)."""
    grey = np.repeat(sample.image[..., None].astype(np.float32), 3, axis=2)
    inside = sample.prediction > 0
    grey[inside] = (1 - _TINT) * grey[inside] + _TINT * np.array(FOUND, np.float32)
    grey[_border(sample.reference)] = DRAWN
    return grey.astype(np.uint8)


def _border(labels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Pixels of a label with another one beside them."""
    padded = np.pad(labels, 1, mode="edge")
    inner = padded[1:-1, 1:-1]
    sides = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    border: NDArray[np.bool_] = (inner > 0) & np.any([side != inner for side in sides], axis=0)
    return border
