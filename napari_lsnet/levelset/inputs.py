"""The upper part of the panel: which image, where the contour starts, what part of the image to work on."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal  # type: ignore[attr-defined]
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_lsnet.extent import ExtentChooser
from napari_lsnet.image_input import ImageInput
from napari_lsnet.layers import LayerVolume, region_for
from napari_lsnet.levelset.reading import read_request
from napari_lsnet.levelset.request import Request
from napari_lsnet.levelset.seeds import StartChooser
from napari_lsnet.regions import boxed
from napari_lsnet.roles import is_image
from napari_lsnet.section import section_title
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
        self.image_input = ImageInput(viewer, is_image, "The image that the contour follows")
        self.image = self.image_input.combo
        self.start = StartChooser(viewer)
        self.extent = ExtentChooser(viewer)
        rows = QVBoxLayout(self)
        rows.setContentsMargins(0, 0, 0, 0)
        rows.setSpacing(4)
        rows.addWidget(section_title("Image"))
        rows.addWidget(self.image_input)
        rows.addWidget(section_title("Start from"))
        rows.addWidget(self.start)
        rows.addWidget(section_title("Work on"))
        rows.addWidget(self.extent)
        self.image_input.changed.connect(self._on_image)
        self.image_input.refused.connect(self.refused)
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
        return self.image_input.volume

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
        reason = self.image_input.why_not()
        if reason:
            return reason
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

    def take(self, image: Any, start: Any, label: int) -> None:
        """Choose an image, and one label of a labels layer to start from."""
        self.image.choose(image)
        self.start.combo.choose(start)
        self.start.label.setValue(label)

    def lock(self, locked: bool) -> None:
        """While a run is under way, image and start cannot be exchanged."""
        self.image_input.lock(locked)
        for part in (self.start, self.extent):
            part.setEnabled(not locked)

    def _on_image(self) -> None:
        layer, volume = self.image.layer, self.volume
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
