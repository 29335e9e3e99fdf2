"""The choice of the click that a model begins at: a points layer, or a new one that is made by a button."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import Signal  # type: ignore[attr-defined]
from qtpy.QtWidgets import QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from napari_lsnet.layer_combo import LayerCombo
from napari_lsnet.layers import LayerVolume, result_transform
from napari_lsnet.regions import whole_region
from napari_lsnet.roles import is_live
from napari_lsnet.section import section_title, wrapped_line
from napari_lsnet.theme import SEED_COLOUR

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from src_models.weights.card import ModelCard

_NONE = "This model begins at a click: press New click, then click inside the structure."
_EMPTY = "This model begins at a click: click inside the structure in the image."


def is_points(layer: Any) -> bool:
    """Whether a layer can hold the click."""
    from napari.layers import Points

    return isinstance(layer, Points) and not is_live(layer)


class ClickChooser(QWidget):
    """A points layer and the button that makes one; hidden while the model takes no click.

    Parameters
    ----------
    viewer : ViewerModel
        Whose layers.
    parent : QWidget, optional
        The usual.

    Attributes
    ----------
    changed : Signal()
        Another layer, or other points in it.
    refused : Signal(str)
        Why no layer could be made.
    """

    changed = Signal()
    refused = Signal(str)

    def __init__(self, viewer: ViewerModel, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._source: Any = None
        self._volume: LayerVolume | None = None
        self._card: ModelCard | None = None
        self._followed: Any = None
        self.combo = LayerCombo(viewer, is_points, nothing="no points yet")
        self.combo.setToolTip("Points inside the structure that the model is to find")
        self.new_button = QPushButton("New click")
        self.new_button.setToolTip("Make a points layer on the image, and click into the structure")
        self.about = wrapped_line()
        rows = QVBoxLayout(self)
        rows.setContentsMargins(0, 0, 0, 0)
        rows.setSpacing(3)
        rows.addWidget(section_title("Begin at"))
        row = QHBoxLayout()
        row.setSpacing(3)
        row.addWidget(self.combo, 1)
        row.addWidget(self.new_button)
        rows.addLayout(row)
        rows.addWidget(self.about)
        self.combo.layer_changed.connect(self._on_layer)
        self.new_button.clicked.connect(self.make)
        self.hide()
        self._on_layer(self.combo.layer)

    @property
    def layer(self) -> Any:
        """The chosen points layer, or None."""
        return self.combo.layer

    def follow(self, source: Any, volume: LayerVolume | None, card: ModelCard | None) -> None:
        """The image and the model that the click is for."""
        self._source, self._volume, self._card = source, volume, card
        wanted = card is not None and card.click is not None
        self.setVisible(wanted)
        if card is not None and wanted and volume is not None:
            self.new_button.setEnabled(True)
            slice_wise = card.ndim == 2 and len(volume.spatial_axes) == 3
            self.about.setText("The structure is found in the slices that hold a click." if slice_wise else "")
            self.about.setVisible(slice_wise)

    def why_not(self) -> str:
        """What is missing; "" where nothing is, or no click is wanted."""
        if self._card is None or self._card.click is None:
            return ""
        if self.layer is None:
            return _NONE
        return "" if len(self.layer.data) else _EMPTY

    def make(self) -> None:
        """A points layer on the voxels of the image, ready to be clicked into; each point shows its ball."""
        volume, source, card = self._volume, self._source, self._card
        if volume is None or card is None or card.click is None:
            self.refused.emit("There is no image to click into. Open one and choose it above.")
            return
        diameter = 2 * card.click.radius / volume.spacing[-1]
        layer = self._viewer.add_points(
            np.empty((0, source.ndim)),
            ndim=source.ndim,
            name=f"Click in {source.name}",
            size=diameter,
            face_color=SEED_COLOUR,
            border_color="white",
            border_width=0.06,
            opacity=0.7,
            metadata={"lsnet": {"role": "seeds"}},
            **result_transform(source, whole_region(volume)),
        )
        layer.current_size = diameter
        self._viewer.dims.ndisplay = 2
        self._viewer.layers.selection.active = layer
        layer.mode = "add"
        self.combo.choose(layer)

    def _on_layer(self, layer: Any) -> None:
        if self._followed is not None:
            with suppress(ValueError, TypeError):
                self._followed.events.data.disconnect(self._on_data)
        self._followed = layer
        if layer is not None:
            layer.events.data.connect(self._on_data)
        self.changed.emit()

    def _on_data(self, _event: Any = None) -> None:
        with suppress(RuntimeError):  # the dock may be gone before the layer
            self.changed.emit()
