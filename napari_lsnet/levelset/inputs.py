"""The upper part of the panel: which image, where the contour starts, what part of the image to work on."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal  # type: ignore[attr-defined]
from qtpy.QtWidgets import QLabel, QLineEdit, QVBoxLayout, QWidget

from napari_lsnet.layer_combo import LayerCombo
from napari_lsnet.layers import LayerVolume, declare_axes, declare_spacing, describe_layer, region_for
from napari_lsnet.levelset.extent import ExtentChooser
from napari_lsnet.levelset.picture import is_live
from napari_lsnet.levelset.reading import read_request
from napari_lsnet.levelset.request import Request, boxed
from napari_lsnet.levelset.seeds import StartChooser
from napari_lsnet.transforms import Region
from src_models.errors import LsnetError
from src_models.levelset.parameters import LevelSetParameters

if TYPE_CHECKING:
    from napari.components import ViewerModel


class Inputs(QWidget):
    """Image, start and extent.

    Parameters
    ----------
    viewer : ViewerModel
        Whose layers.
    parent : QWidget, optional
        The usual.

    Attributes
    ----------
    changed : Signal()
        A run would begin otherwise than before.
    moved : Signal()
        Another slice or view is on show.
    elsewhere : Signal()
        The same, and a run would work on it.
    refused : Signal(str)
        Why something could not be set.
    """

    changed = Signal()
    moved = Signal()
    elsewhere = Signal()
    refused = Signal(str)

    def __init__(self, viewer: ViewerModel, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._seeds: Any = None
        self.image = LayerCombo(viewer, _is_image, nothing="open an image first")
        self.image.setToolTip("The image that the contour follows")
        self.geometry_line = wrapped_line()
        self.axes = QLineEdit()
        self.axes.setToolTip("What the axes are: t time, c channel, z y x space; press Enter to set")
        self.voxel_size = QLineEdit()
        self.voxel_size.setPlaceholderText("voxel size in mm, such as 3, 0.9, 0.9")
        self.voxel_size.setToolTip("Kept beside the layer, not written on it; press Enter to set")
        self.start = StartChooser(viewer)
        self.extent = ExtentChooser(viewer)
        rows = QVBoxLayout(self)
        rows.setContentsMargins(0, 0, 0, 0)
        rows.setSpacing(4)
        rows.addWidget(section_title("Image"))
        for part in (self.image, self.geometry_line, self.axes, self.voxel_size):
            rows.addWidget(part)
        rows.addWidget(section_title("Start from"))
        rows.addWidget(self.start)
        rows.addWidget(section_title("Work on"))
        rows.addWidget(self.extent)
        self.image.layer_changed.connect(self._on_image)
        self.axes.returnPressed.connect(self._declare_axes)
        self.voxel_size.returnPressed.connect(self._declare_voxel_size)
        self.start.changed.connect(self._on_start)
        self.start.refused.connect(self.refused)
        self.extent.changed.connect(self.changed)
        self.extent.refused.connect(self.refused)
        dims = viewer.dims.events
        for event in (dims.current_step, dims.order, dims.ndisplay):
            event.connect(self._on_dims)
        self._on_image()
        self._on_start()

    @property
    def volume(self) -> LayerVolume | None:
        """What the image holds; None where there is none that can be used."""
        if self.image.layer is None:
            return None
        with suppress(LsnetError):
            return describe_layer(self.image.layer)
        return None

    @property
    def ndim(self) -> int:
        """Axes of a run."""
        volume = self.volume
        return 2 if volume is None or self.extent.mode == "slice" else len(volume.spatial_axes)

    def region(self) -> Region | None:
        """What a run would work on; None where that is not clear."""
        volume = self.volume
        if volume is None:
            return None
        with suppress(LsnetError):
            mode: Any = self.extent.mode
            return boxed(region_for(self.image.layer, self._viewer.dims, mode), self.extent.box_slices(), volume)
        return None

    def request(self, parameters: LevelSetParameters) -> Request:
        """Read everything that a run needs.

        Raises
        ------
        InputError, GeometryError
            One sentence each.
        """
        box = self.extent.box_slices()
        start = self.start.start()
        return read_request(self.image.layer, self._viewer.dims, self.extent.mode, box, start, parameters)

    def why_not(self) -> str:
        """Why a run cannot begin; "" where nothing is missing."""
        if self.image.layer is None:
            return "Open an image to begin."
        if self.volume is None:
            return self.geometry_line.text()
        try:
            self.extent.box_slices()
        except LsnetError as error:
            return str(error)
        start = self.start.start()
        if start.layer is None:
            return "Mark the inside: click Points, Paint or Lines and draw, or choose a layer under Start from."
        if start.kind == "points" and len(start.layer.data) == 0:
            return "Click into the structure to set a seed point."
        return ""

    def lock(self, locked: bool) -> None:
        """While a run is under way, image and start cannot be exchanged."""
        self.image.setEnabled(not locked and self.image.layer is not None)
        for part in (self.start, self.extent, self.axes, self.voxel_size):
            part.setEnabled(not locked)

    def _on_image(self, _layer: Any = None) -> None:
        layer, volume = self.image.layer, self.volume
        text = "" if volume is None else volume.text
        if layer is not None and volume is None:
            try:
                describe_layer(layer)
            except LsnetError as error:
                text = str(error)
        self.geometry_line.setText(text)
        self.geometry_line.setVisible(bool(text))
        self.axes.setVisible(volume is not None and not volume.roles_clear)
        self.voxel_size.setVisible(volume is not None and not volume.spacing_known)
        if volume is not None:
            self.axes.setText(" ".join(volume.roles))
        self.start.follow(layer)
        self.extent.follow(layer, volume)
        self.changed.emit()

    def _on_start(self) -> None:
        layer = self.start.start().layer
        if layer is not self._seeds:
            self._seeds = layer
            for name in ("data", "paint", "labels_update"):
                event = None if layer is None else getattr(layer.events, name, None)
                if event is not None:
                    event.connect(self._on_drawn)
        self.changed.emit()

    def _on_drawn(self, _event: Any = None) -> None:
        with suppress(RuntimeError):  # the dock may be gone before the layer
            self.changed.emit()

    def _on_dims(self, _event: Any = None) -> None:
        with suppress(RuntimeError):  # the dock may be gone before the viewer
            volume = self.volume
            if self.extent.mode == "slice" or (volume is not None and any(volume.is_time)):
                self.elsewhere.emit()
            else:
                self.moved.emit()

    def _declare_axes(self) -> None:
        layer = self.image.layer
        roles: Any = self.axes.text().replace(",", " ").split()
        try:
            if layer is not None:
                declare_axes(layer, roles)
        except LsnetError as error:
            self.refused.emit(str(error))
            return
        self._on_image()

    def _declare_voxel_size(self) -> None:
        layer, volume = self.image.layer, self.volume
        if layer is None or volume is None:
            return
        try:
            values = [float(part) for part in self.voxel_size.text().replace(",", " ").split()]
            declare_spacing(layer, values * len(volume.spatial_axes) if len(values) == 1 else values)
        except ValueError:
            self.refused.emit("The voxel size is not a number. Give one value in mm per axis.")
            return
        except LsnetError as error:
            self.refused.emit(str(error))
            return
        self._on_image()


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


def _is_image(layer: Any) -> bool:
    from napari.layers import Image

    return isinstance(layer, Image) and not is_live(layer)
