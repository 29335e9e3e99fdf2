"""The choice of what part of the image to work on: all of it, the slice on show, all time points, a box."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import Signal  # type: ignore[attr-defined]
from qtpy.QtWidgets import QComboBox, QHBoxLayout, QLineEdit, QMenu, QSizePolicy, QToolButton, QVBoxLayout, QWidget

from napari_lsnet.layers import LayerVolume, result_transform
from napari_lsnet.regions import whole_region
from napari_lsnet.theme import SEED_COLOUR
from napari_lsnet.transforms import aligned_matrix
from src_models.errors import InputError

if TYPE_CHECKING:
    from napari.components import ViewerModel

_PART = re.compile(r"\s*(?P<start>\d+)\s*:\s*(?P<stop>\d+)\s*")


class ExtentChooser(QWidget):
    """Volume or slice, and a box in voxels that may be typed, drawn or taken from the view.

    Parameters
    ----------
    viewer : ViewerModel
        For the view and for drawing.
    series : bool
        Whether all time points of an image may be chosen at once.
    parent : QWidget, optional
        The usual.

    Attributes
    ----------
    changed : Signal()
        Another extent or box.
    refused : Signal(str)
        Why a box could not be taken.
    """

    changed = Signal()
    refused = Signal(str)

    def __init__(self, viewer: ViewerModel, parent: QWidget | None = None, *, series: bool = False) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._series = series
        self._source: Any = None
        self._volume: LayerVolume | None = None
        self._drawn: Any = None
        self.extent = QComboBox()
        self.extent.setToolTip(
            "Work on all of the image, or on the slice on show"
            + ("" if series else "; time points are always the one on show")
        )
        self.box = QLineEdit()
        self.box.setPlaceholderText("no box")
        self.box.setClearButtonEnabled(True)
        self.box.setToolTip("Box in voxels, start:stop per axis, such as 10:60, 20:90, 0:80; empty for all")
        self.box.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self._menu_button = QToolButton()
        self._menu_button.setText("Box")
        self._menu_button.setMinimumWidth(self._menu_button.fontMetrics().horizontalAdvance("Box") + 30)
        self._menu_button.setToolTip("Draw a box, or take it from the view")
        self._menu_button.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        menu = QMenu(self)
        for text, action in (
            ("Draw a rectangle", self.draw),
            ("Take the last shape of the selected layer", self.take_shape),
            ("Take what is in view", self.take_view),
            ("No box", self.box.clear),
        ):
            menu.addAction(text, action)
        self._menu_button.setMenu(menu)
        rows = QVBoxLayout(self)
        rows.setContentsMargins(0, 0, 0, 0)
        rows.setSpacing(3)
        rows.addWidget(self.extent)
        row = QHBoxLayout()
        row.setSpacing(3)
        row.addWidget(self.box, 1)
        row.addWidget(self._menu_button)
        rows.addLayout(row)
        self.extent.currentIndexChanged.connect(lambda: self.changed.emit())
        self.box.textChanged.connect(lambda: self.changed.emit())

    def follow(self, source: Any, volume: LayerVolume | None) -> None:
        """Show the choices of an image; a box that was typed for another shape goes."""
        if volume is not None and self._volume is not None and volume.shape != self._volume.shape:
            self.box.clear()
        self._source, self._volume = source, volume
        wanted = self._choices(volume)
        if [self.extent.itemText(k) for k in range(self.extent.count())] != [text for text, _ in wanted]:
            self.extent.blockSignals(True)
            self.extent.clear()
            for text, mode in wanted:
                self.extent.addItem(text, mode)
            self.extent.blockSignals(False)
        self.extent.setEnabled(len(wanted) > 1)

    def _choices(self, volume: LayerVolume | None) -> list[tuple[str, str]]:
        three = volume is not None and len(volume.spatial_axes) == 3
        times = self._series and volume is not None and "t" in volume.roles
        if times:
            now = [("Volume on show", "volume"), ("Slice on show", "slice")] if three else [("Image on show", "volume")]
            return [("All time points", "series"), *now]
        return [("Whole volume", "volume"), ("Slice on show", "slice")] if three else [("Whole image", "volume")]

    @property
    def mode(self) -> str:
        """What to work on: "volume", "slice", or "series" for all time points."""
        return str(self.extent.currentData() or "volume")

    def set_mode(self, mode: str) -> None:
        """Choose "volume", "slice" or "series", where there is this choice."""
        place = self.extent.findData(mode)
        if place >= 0:
            self.extent.setCurrentIndex(place)

    def box_slices(self) -> tuple[slice, ...] | None:
        """The box, one slice per axis in space; None for none.

        Raises
        ------
        InputError
            Where the text is no box inside the image.
        """
        text = self.box.text().strip()
        if not text or self._volume is None:
            return None
        lengths = [self._volume.shape[axis] for axis in self._volume.spatial_axes]
        found = [_PART.fullmatch(part) for part in text.split(",")]
        parts = [(int(one["start"]), int(one["stop"])) for one in found if one is not None]
        fits = len(parts) == len(found) == len(lengths) and all(
            start < stop <= n for (start, stop), n in zip(parts, lengths, strict=True)
        )
        if not fits:
            example = ", ".join(f"0:{n}" for n in lengths)
            raise InputError("box-text", f"{text!r} is no box inside the image", "", f"All of it would be {example}.")
        return tuple(slice(start, stop) for start, stop in parts)

    def draw(self) -> None:
        """Make a shapes layer for a rectangle; the box follows what is drawn."""
        if self._source is None or self._volume is None:
            return
        self._viewer.dims.ndisplay = 2
        self._drawn = self._viewer.add_shapes(
            ndim=self._source.ndim,
            name="Region of interest",
            edge_color=SEED_COLOUR,
            edge_width=max(self._volume.shape) / 200,
            face_color="transparent",
            metadata={"lsnet": {"role": "live box"}},
            **result_transform(self._source, whole_region(self._volume)),
        )
        self._drawn.mode = "add_rectangle"
        self._drawn.events.data.connect(self._on_drawn)

    def take_shape(self) -> None:
        """The box around the last shape of the selected shapes layer."""
        from napari.layers import Shapes

        layer = self._viewer.layers.selection.active
        if not isinstance(layer, Shapes) or not len(layer.data):
            self.refused.emit("No shape is selected. Draw a rectangle and select its layer.")
            return
        self._take(layer)

    def take_view(self) -> None:
        """The part of the slice that is in view now; all of it along the hidden axes."""
        if self._source is None or self._volume is None:
            return
        low, high = np.asarray(self._source.corner_pixels, dtype=float)
        displayed = set(self._viewer.dims.displayed)
        extra = self._viewer.dims.ndim - self._source.ndim
        self._write({axis: (low[axis], high[axis]) for axis in self._volume.spatial_axes if axis + extra in displayed})

    def _on_drawn(self, _event: Any = None) -> None:
        try:
            if self._drawn is not None and len(self._drawn.data):
                self._take(self._drawn)
        except RuntimeError:  # the dock is closed
            return

    def _take(self, layer: Any) -> None:
        if self._source is None or self._volume is None:
            return
        matrix = aligned_matrix(layer, self._source, whole_region(self._volume))
        corners = np.asarray(layer.data[-1], dtype=float)
        shared = min(layer.ndim, self._source.ndim)
        padded = np.zeros((len(corners), self._source.ndim))
        padded[:, self._source.ndim - shared :] = corners[:, layer.ndim - shared :]
        moved = padded @ matrix[:-1, :-1].T + matrix[:-1, -1]
        spans = {axis: (moved[:, axis].min(), moved[:, axis].max()) for axis in self._volume.spatial_axes}
        self._write({axis: span for axis, span in spans.items() if span[1] - span[0] > 0.5})

    def _write(self, spans: dict[int, tuple[float, float]]) -> None:
        """Fill in the box; axes without a span are taken whole."""
        volume = self._volume
        if volume is None:
            return
        parts = []
        for axis in volume.spatial_axes:
            n = volume.shape[axis]
            low, high = spans.get(axis, (0.0, n - 1.0))
            start = int(np.clip(np.ceil(low), 0, n - 1))
            parts.append(f"{start}:{int(np.clip(np.floor(high) + 1, start + 1, n))}")
        self.box.setText(", ".join(parts))
