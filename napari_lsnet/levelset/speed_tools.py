"""The buttons *Show speed* and *Pick edge*: the speed on the slice on show, and its contrast by a click."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal  # type: ignore[attr-defined]
from qtpy.QtWidgets import QHBoxLayout, QPushButton, QWidget

from napari_lsnet.levelset.inputs import Inputs
from napari_lsnet.levelset.learned_speed import SpeedSource
from napari_lsnet.levelset.preview import ClickPicker, SpeedPreview, contrast_at, voxel_at
from napari_lsnet.levelset.request import Request
from src_models.errors import LsnetError
from src_models.levelset.parameters import LevelSetParameters

if TYPE_CHECKING:
    from napari.components import ViewerModel

_TIP = "The speed on the slice on show, as a layer that follows the fields"


class SpeedTools(QWidget):
    """Two buttons and what they do.

    Parameters
    ----------
    viewer : ViewerModel
        Where the speed is shown.
    inputs : Inputs
        Image and extent.
    source : SpeedSource
        What makes a region speed.
    parameters : callable
        The fields as they are now; raises `LsnetError` where one is wrong.
    request : callable
        What a run with some parameters would begin with.
    parent : QWidget, optional
        The usual.

    Attributes
    ----------
    told : Signal(str)
        What to do next, or why there is no preview.
    refused : Signal(str)
        Why a click was of no use.
    picked : Signal(object)
        Parameters with the contrast of the edge that was clicked on.
    """

    told = Signal(str)
    refused = Signal(str)
    picked = Signal(object)

    def __init__(
        self,
        viewer: ViewerModel,
        inputs: Inputs,
        source: SpeedSource,
        parameters: Callable[[], LevelSetParameters],
        request: Callable[[LevelSetParameters], Request],
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._inputs, self._source, self._parameters, self._request = inputs, source, parameters, request
        self.preview_button = QPushButton("Show speed")
        self.preview_button.setCheckable(True)
        self.preview_button.setToolTip(_TIP)
        self.pick_button = QPushButton("Pick edge")
        self.pick_button.setCheckable(True)
        self.pick_button.setToolTip("Click on the border of the structure: the speed falls to one half there")
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(3)
        row.addWidget(self.preview_button)
        row.addWidget(self.pick_button)
        self._preview = SpeedPreview(viewer, self)
        self._picker = ClickPicker(viewer, self)
        self._picker.clicked.connect(self._pick_at)
        self._preview.told.connect(self._on_preview_told)
        self.preview_button.toggled.connect(self.redraw)
        self.pick_button.toggled.connect(self._on_pick)

    def redraw(self, _on: Any = None) -> None:
        """Show the speed as the fields have it now, where it is shown at all."""
        if not self.preview_button.isChecked():
            self._preview.hide()
            return
        region = self._inputs.region()
        if region is None:
            return
        try:
            parameters = self._parameters()
            learn = self._source.learner(lambda: self._request(parameters), parameters.speed)
        except LsnetError as error:
            self._on_preview_told(str(error))
            return
        self._preview.show(self._inputs.image.layer, self._inputs.extent.mode, region, parameters, learn)

    def _on_preview_told(self, message: str) -> None:
        self.preview_button.setToolTip(message or _TIP)
        if message:
            self.told.emit(message)

    def _on_pick(self, on: bool) -> None:
        if on:
            self.told.emit("Click on the border of the structure.")
        self._picker.listen(on)

    def _pick_at(self, position: Any) -> None:
        self.pick_button.setChecked(False)
        layer, region = self._inputs.image.layer, self._inputs.region()
        if region is None:
            return
        try:
            parameters = self._parameters()
            span = self._preview.value_range(layer, region, parameters)
            contrast = contrast_at(layer, region, voxel_at(layer, position), span, parameters)
        except LsnetError as error:
            self.refused.emit(str(error))
            return
        self.picked.emit(parameters.model_copy(update={"speed": "edge", "contrast": float(f"{contrast:.4g}")}))
        self.told.emit(f"Edge contrast {contrast:.3g}: the speed is one half where you clicked.")
