"""The choice of where the contour starts: a drawn layer, the size of its seeds, and which side is inside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import Signal  # type: ignore[attr-defined]
from qtpy.QtWidgets import QCheckBox, QDoubleSpinBox, QHBoxLayout, QLabel, QPushButton, QSpinBox, QVBoxLayout, QWidget

from napari_lsnet.layer_combo import LayerCombo
from napari_lsnet.layers import LayerVolume, describe_layer, result_arguments, result_transform
from napari_lsnet.levelset.learned_speed import holds_strokes
from napari_lsnet.levelset.request import Start
from napari_lsnet.levelset.steering import steers
from napari_lsnet.regions import whole_region
from napari_lsnet.roles import is_live
from napari_lsnet.theme import SEED_COLOUR
from src_models.errors import InputError, LsnetError

if TYPE_CHECKING:
    from napari.components import ViewerModel

_SEEDS = "seeds"


def is_drawn(layer: Any) -> bool:
    """Whether a layer can hold seeds."""
    from napari.layers import Labels, Points, Shapes

    return (
        isinstance(layer, Points | Shapes | Labels)
        and not is_live(layer)
        and not steers(layer)
        and not holds_strokes(layer)
    )


def _is_drawn_by_hand(layer: Any) -> bool:
    """Not labels that came from a file: growing a finished segmentation is seldom what is meant."""
    ours = dict(layer.metadata).get("lsnet")
    return ours is None or ours.get("role") == _SEEDS


class StartChooser(QWidget):
    """Layer of seeds, their radius or label, and the buttons that make a layer to draw on.

    Parameters
    ----------
    viewer : ViewerModel
        Whose layers.
    parent : QWidget, optional
        The usual.

    Attributes
    ----------
    changed : Signal()
        Another layer, radius, label or side.
    refused : Signal(str)
        Why a layer to draw on could not be made.
    """

    changed = Signal()
    refused = Signal(str)

    def __init__(self, viewer: ViewerModel, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._source: Any = None
        self._touched_radius = False
        self.combo = LayerCombo(
            viewer, is_drawn, nothing="choose or draw", may_be_empty=True, by_itself=_is_drawn_by_hand
        )
        self.combo.setToolTip("Points, lines, filled shapes or painted labels that mark the inside")
        self.radius = QDoubleSpinBox()
        self.radius.setRange(0.01, 10_000)
        self.radius.setDecimals(2)
        self.radius.setValue(5)
        self.radius.setSuffix(" mm")
        self.radius.setToolTip("Radius of the ball around each point, and of lines")
        self.label = QSpinBox()
        self.label.setRange(0, 2**31 - 1)
        self.label.setSpecialValueText("all labels")
        self.several = QCheckBox("all labels at once")
        self.several.setToolTip("Every label grows as a contour of its own, and they never overlap")
        self.label.setToolTip("The label to start from")
        self.swap = QPushButton("Swap sides")
        self.swap.setCheckable(True)
        self.swap.setToolTip("Swap inside and outside: start from everything but the seeds")
        self._size_name = QLabel("radius")
        rows = QVBoxLayout(self)
        rows.setContentsMargins(0, 0, 0, 0)
        rows.setSpacing(3)
        rows.addWidget(self.combo)
        buttons = QHBoxLayout()
        buttons.setSpacing(3)
        for text, tip, action in (
            ("Points", "Make a points layer and click into the structure", self.draw_points),
            ("Paint", "Make a labels layer and paint into the structure", self.draw_labels),
            ("Lines", "Make a shapes layer and draw lines through the structure", self.draw_lines),
        ):
            button = QPushButton(text)
            button.setToolTip(tip)
            button.clicked.connect(action)
            buttons.addWidget(button)
        rows.addLayout(buttons)
        sizes = QHBoxLayout()
        sizes.setSpacing(3)
        sizes.addWidget(self._size_name)
        sizes.addWidget(self.radius, 1)
        sizes.addWidget(self.label, 1)
        sizes.addWidget(self.swap)
        rows.addLayout(sizes)
        rows.addWidget(self.several)
        self.combo.layer_changed.connect(self._on_layer)
        self.radius.valueChanged.connect(self._on_radius)
        self.label.valueChanged.connect(lambda: self._on_layer(self.combo.layer))
        self.several.toggled.connect(lambda: self._on_layer(self.combo.layer))
        self.swap.toggled.connect(lambda: self.changed.emit())
        self._on_layer(self.combo.layer)

    def start(self) -> Start:
        """What is chosen now."""
        several = self.several.isChecked() and not self.several.isHidden()
        swapped = self.swap.isChecked() and not several
        return Start(self.combo.layer, self.radius.value(), self.label.value() or None, swapped, several)

    def follow(self, source: Any) -> None:
        """Draw on this image from now on; until it is touched, the radius fits it."""
        self._source = source
        volume = self._volume()
        if volume is None:
            return
        self.radius.setSuffix(f" {volume.unit}")
        if not self._touched_radius:
            from src_models.levelset.initial import default_radius

            shape = tuple(volume.shape[axis] for axis in volume.spatial_axes)
            self.radius.blockSignals(True)
            self.radius.setValue(round(default_radius(shape, volume.spacing) / 2, 1))
            self.radius.blockSignals(False)

    def draw_points(self) -> None:
        """Make a points layer on the voxels of the image and choose it; each point shows its ball."""
        volume = self._drawable()
        if volume is None:
            return
        source = self._source
        self._take(
            self._viewer.add_points(
                np.empty((0, source.ndim)),
                ndim=source.ndim,
                name="Seed points",
                size=self._diameter(volume),
                face_color=SEED_COLOUR,
                border_color="white",
                border_width=0.03,
                opacity=0.6,
                metadata={"lsnet": {"role": _SEEDS}},
                **result_transform(source, whole_region(volume)),
            ),
            "add",
        )

    def draw_labels(self) -> None:
        """Make an empty labels layer on the image and choose it."""
        volume = self._drawable()
        if volume is None:
            return
        layer = self._viewer.add_labels(
            np.zeros(volume.shape, np.uint8), name="Seeds", **result_arguments(self._source, whole_region(volume))
        )
        layer.brush_size = max(3, round(2 * self.radius.value() / min(volume.spacing)))
        self._take(layer, "paint")

    def draw_lines(self) -> None:
        """Make a shapes layer on the voxels of the image and choose it."""
        volume = self._drawable()
        if volume is None:
            return
        source = self._source
        self._take(
            self._viewer.add_shapes(
                ndim=source.ndim,
                name="Seed lines",
                edge_width=self._diameter(volume),
                edge_color=SEED_COLOUR,
                face_color=SEED_COLOUR,
                opacity=0.6,
                metadata={"lsnet": {"role": _SEEDS}},
                **result_transform(source, whole_region(volume)),
            ),
            "add_path",
        )

    def _take(self, layer: Any, mode: str) -> None:
        self._viewer.dims.ndisplay = 2
        self._viewer.layers.selection.active = layer
        layer.mode = mode
        self.combo.choose(layer)

    def _volume(self) -> LayerVolume | None:
        if self._source is None:
            return None
        try:
            return describe_layer(self._source)
        except LsnetError:
            return None

    def _drawable(self) -> LayerVolume | None:
        volume = self._volume()
        if volume is None:
            error = InputError("seeds-image", "There is no image to draw on", "", "Open an image and choose it above.")
            self.refused.emit(str(error))
        return volume

    def _diameter(self, volume: LayerVolume) -> float:
        """Of a seed, in voxels of the last axis: what napari counts the size of points and lines in."""
        return float(2 * self.radius.value() / volume.spacing[-1])

    def _on_layer(self, layer: Any) -> None:
        from napari.layers import Labels

        painted = isinstance(layer, Labels)
        self.radius.setVisible(not painted)
        self.label.setVisible(painted)
        self.several.setVisible(painted and self.label.value() == 0)
        self.swap.setEnabled(self.several.isHidden() or not self.several.isChecked())
        self._size_name.setText("label" if painted else "radius")
        self.changed.emit()

    def _on_radius(self) -> None:
        from napari.layers import Points

        self._touched_radius = True
        volume = self._volume()
        layer = self.combo.layer
        ours = layer is not None and dict(layer.metadata).get("lsnet", {}).get("role") == _SEEDS
        if volume is not None and ours and isinstance(layer, Points):
            layer.size = self._diameter(volume)
            layer.current_size = self._diameter(volume)
        self.changed.emit()
