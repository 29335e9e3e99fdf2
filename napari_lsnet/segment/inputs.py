"""The upper part of the panel: which image, which model, what part of the image; and what does not fit."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal  # type: ignore[attr-defined]
from qtpy.QtWidgets import QLabel, QVBoxLayout, QWidget

from napari_lsnet.extent import ExtentChooser
from napari_lsnet.image_input import ImageInput
from napari_lsnet.network_image import channel_fault, order_in_file, region_of, sample_of, space_seen, value_unit
from napari_lsnet.roles import is_image
from napari_lsnet.section import section_title, warning_line
from napari_lsnet.segment.click import ClickChooser
from napari_lsnet.segment.model_chooser import ModelChooser
from napari_lsnet.segment.outputs import PROBABILITY
from napari_lsnet.segment.request import Request, read_request
from napari_lsnet.transforms import Region
from src_models.errors import LsnetError
from src_models.inference.parameters import PredictionParameters

if TYPE_CHECKING:
    from napari.components import ViewerModel

_ONE_FRAME = "{} on one time point at a time: choose the one on show under Work on."


class Inputs(QWidget):
    """Image, model, click where the model begins at one, and extent.

    Parameters
    ----------
    viewer : ViewerModel
        Whose layers.
    parent : QWidget, optional
        The usual.

    Attributes
    ----------
    changed : Signal()
        A run would be another than before.
    refused : Signal(str)
        Why something could not be set.
    """

    changed = Signal()
    refused = Signal(str)

    def __init__(self, viewer: ViewerModel, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self.image = ImageInput(viewer, _may_be_segmented, "The image to segment")
        self.models = ModelChooser()
        self.click = ClickChooser(viewer)
        self.extent = ExtentChooser(viewer, series=True)
        self.mismatch = warning_line()
        rows = QVBoxLayout(self)
        rows.setContentsMargins(0, 0, 0, 0)
        rows.setSpacing(4)
        for title, part in (("Image", self.image), ("Model", self.models), ("Work on", self.extent)):
            rows.addWidget(_title(title))
            rows.addWidget(part)
        rows.insertWidget(4, self.mismatch)
        rows.insertWidget(5, self.click)
        self.image.changed.connect(self._on_image)
        self.models.changed.connect(self._on_model)
        self.extent.changed.connect(self._on_changed)
        self.click.changed.connect(self._on_changed)
        self.click.refused.connect(self.refused)
        for part in (self.image, self.models, self.extent):
            part.refused.connect(self.refused)
        dims = viewer.dims.events
        for event in (dims.current_step, dims.order, dims.ndisplay):
            event.connect(self._on_dims)
        self._on_image()

    def region(self) -> Region | None:
        """What a run would work on; None where that is not clear."""
        if self.image.volume is None:
            return None
        with suppress(LsnetError):
            return region_of(self.image.layer, self._viewer.dims, self.extent.mode, self.extent.box_slices())
        return None

    def request(self, parameters: PredictionParameters, *, watched: bool = False) -> Request:
        """Read everything that a run needs.

        Raises
        ------
        InputError, GeometryError
            One sentence each.
        """
        assert self.models.choice is not None
        box = self.extent.box_slices()
        mode = self.extent.mode
        choice, clicks = self.models.choice, self.click.layer
        return read_request(self.image.layer, self._viewer.dims, mode, box, choice, parameters, clicks, watched=watched)

    @property
    def can_be_watched(self) -> bool:
        """Whether the model is a level set network, whose steps can be shown."""
        choice = self.models.choice
        return choice is not None and choice.card.network.get("name") == "lsn"

    def why_no_watch(self) -> str:
        """Why the steps cannot be shown though a run could begin; "" where they can."""
        return _ONE_FRAME.format("The steps are shown") if self.extent.mode == "series" else ""

    def why_not(self) -> str:
        """Why a run cannot begin; "" where nothing is missing."""
        reason = self.image.why_not()
        if reason:
            return reason
        choice, volume = self.models.choice, self.image.volume
        if choice is None or volume is None:
            return "Open a model, or train one: there is none on this computer."
        fault = channel_fault(volume, choice.card)
        if fault:
            return f"{fault}."
        try:
            region_of(self.image.layer, self._viewer.dims, self.extent.mode, self.extent.box_slices())
        except LsnetError as error:
            return str(error)
        if choice.card.click is not None and self.extent.mode == "series":
            return _ONE_FRAME.format("A model that begins at a click works")
        return self.click.why_not()

    def lock(self, locked: bool) -> None:
        """While a run is under way, nothing can be exchanged."""
        self.image.lock(locked)
        self.click.setEnabled(not locked)
        for part in (self.models, self.extent):
            part.setEnabled(not locked)

    def _on_image(self) -> None:
        self.extent.follow(self.image.layer, self.image.volume)
        self._on_model()

    def _on_model(self) -> None:
        choice = self.models.choice
        if choice is not None and choice.card.click is not None and self.extent.mode == "series":
            self.extent.set_mode("volume")  # a click belongs to one time point, the one on show
        self._on_changed()

    def _on_changed(self) -> None:
        choice = self.models.choice
        self.click.follow(self.image.layer, self.image.volume, None if choice is None else choice.card)
        self._compare()
        self.changed.emit()

    def _compare(self) -> None:
        """The yellow line: what may go badly with this model on this image."""
        choice, volume, region = self.models.choice, self.image.volume, self.region()
        said: list[str] = []
        if choice is not None and volume is not None and region is not None and not channel_fault(volume, choice.card):
            from src_models.inference.checks import warnings_for

            layer: Any = self.image.layer
            shape, spacing = space_seen(choice.card, order_in_file(layer, volume, region), volume, region)
            image = sample_of(layer, region, len(choice.card.preprocessing.channels))
            with suppress(LsnetError):
                said = warnings_for(
                    choice.card, shape, spacing, image=image, unit=volume.unit, value_unit=value_unit(layer)
                )
        self.mismatch.setText(" ".join(said))
        self.mismatch.setVisible(bool(said))

    def _on_dims(self, _event: Any = None) -> None:
        with suppress(RuntimeError):  # the dock may be gone before the viewer
            if self.extent.mode == "slice" or (self.image.volume is not None and any(self.image.volume.is_time)):
                self._on_changed()


def _title(text: str) -> QLabel:
    return section_title(text)


def _may_be_segmented(layer: Any) -> bool:
    """Images, but not the maps that a segmentation gave."""
    return is_image(layer) and PROBABILITY not in dict(layer.metadata).get("lsnet", {})
