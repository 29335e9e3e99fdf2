"""Walls and pins: two painted layers that the front respects at once, before a run and while it goes on."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QTimer, Signal  # type: ignore[attr-defined]
from qtpy.QtWidgets import QHBoxLayout, QMenu, QPushButton, QSizePolicy, QToolButton, QWidget

from napari_lsnet.layers import describe_layer, result_arguments
from napari_lsnet.levelset.leak_mark import LeakMark
from napari_lsnet.levelset.request import Request
from napari_lsnet.levelset.run import LevelSetRun
from napari_lsnet.regions import whole_region
from napari_lsnet.seeds import labels_of_region
from src_models.errors import InputError, LsnetError

if TYPE_CHECKING:
    from napari.components import ViewerModel

Kind = Literal["walls", "pins"]
Masks: TypeAlias = "dict[Kind, NDArray[np.bool_] | None]"

_THROTTLE_MS = 50
_EVENTS = ("paint", "labels_update", "data", "set_data")
_BRUSH_SHARE = 80


@dataclass(frozen=True)
class Look:
    """How one kind of painted layer is named and drawn; the two differ in more than colour."""

    name: str
    colour: str
    opacity: float
    contour: int
    tip: str


LOOKS: dict[Kind, Look] = {
    "walls": Look("Walls", "#ff8c1a", 0.85, 0, "Paint where the contour must not go; it obeys at once"),
    "pins": Look("Must be inside", "#3d7dff", 0.95, 1, "Paint what must be inside; the contour obeys at once"),
}


def steers(layer: Any) -> bool:
    """Whether a layer holds walls or pins: it is no start, and nothing is accepted into it."""
    return dict(layer.metadata).get("lsnet", {}).get("role") in LOOKS


class Steering(QWidget):
    """The buttons *Walls*, *Must be inside* and, after a leak, *Show leak*.

    Parameters
    ----------
    viewer : ViewerModel
        Whose layers.
    run : LevelSetRun
        What is steered.
    parent : QWidget, optional
        The usual.

    Attributes
    ----------
    refused : Signal(str)
        Why something could not be painted or taken.
    told : Signal(str)
        What to do next.
    """

    refused = Signal(str)
    told = Signal(str)

    def __init__(self, viewer: ViewerModel, run: LevelSetRun, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer, self._run = viewer, run
        self._source: Any = None
        self._flat = False
        self._layers: dict[Kind, Any] = {"walls": None, "pins": None}
        self._sent: Masks = {"walls": None, "pins": None}
        self.leak = LeakMark(viewer)
        self.buttons: dict[Kind, QPushButton] = {kind: self._button(kind) for kind in LOOKS}
        self.leak_button = QPushButton("Show leak")
        self.leak_button.setToolTip("Go to the place where the contour would have leaked; it is marked by a ring")
        self.leak_button.clicked.connect(self.leak.go_there)
        self.leak_button.hide()
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(3)
        for kind, button in self.buttons.items():
            row.addWidget(button, 1)
            row.addWidget(self._menu_button(kind))
        row.addWidget(self.leak_button, 1)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_THROTTLE_MS)
        self._timer.timeout.connect(self._send)
        viewer.layers.events.removed.connect(self._on_removed)
        run.changed.connect(self._mark_leak)
        for layer in viewer.layers:  # from a panel that was closed
            if steers(layer):
                self.choose(dict(layer.metadata)["lsnet"]["role"], layer)
        self._mark_leak()

    # ---- what the person does

    def follow(self, source: Any, mode: str) -> None:
        """Paint on this image from now on; in the mode "slice" on one slice, else with a brush that is a ball."""
        self._source = source
        self._flat = mode == "slice"

    def paint(self, kind: Kind) -> None:
        """Choose the layer of walls or pins, make it where there is none, and take the brush."""
        layer = self._layers[kind]
        if layer is None:
            layer = self._make(kind)
        if layer is None:
            return
        self._viewer.dims.ndisplay = 2
        self._viewer.layers.selection.active = layer
        layer.mode = "paint"
        self.told.emit(f"{LOOKS[kind].name}: {LOOKS[kind].tip[0].lower()}{LOOKS[kind].tip[1:]}.")

    def choose(self, kind: Kind, layer: Any) -> None:
        """Take an existing labels layer for walls or pins, or None for nothing; every label in it counts."""
        self._layers[kind] = layer
        if layer is not None:
            for name in _EVENTS:
                getattr(layer.events, name).connect(self._on_drawn)
        self.buttons[kind].setChecked(layer is not None)
        self._on_drawn()

    def layer(self, kind: Kind) -> Any:
        """The layer of walls or pins; None where nothing is painted."""
        return self._layers[kind]

    # ---- what a run gets

    def constrained(self, request: Request) -> Request:
        """A request with the walls and pins of its region.

        Raises
        ------
        GeometryError
            Where a chosen layer lies on another grid.
        """
        self._timer.stop()
        masks = self._masks(request)
        self._sent = masks if request.continues is None else self._told_of_empty(masks, request)
        return replace(request, walls=self._sent["walls"], pins=self._sent["pins"])

    def with_walls(self, request: Request) -> Request:
        """A request for an estimate: with its walls, and nothing is remembered of it."""
        return replace(request, walls=self._mask("walls", request))

    def _send(self) -> None:
        """Walls and pins as they are now, to the run that is under way."""
        request = self._run.request
        if request is None or not self._run.is_busy:
            return
        try:
            masks = self._masks(request)
        except LsnetError as error:
            self.refused.emit(str(error))
            return
        masks = self._told_of_empty(masks, request)
        if all(_same(masks[kind], self._sent[kind]) for kind in LOOKS):
            return
        from src_models.levelset.states import Constraints

        self._sent = masks
        self._run.constrain(Constraints(walls=masks["walls"], pins=masks["pins"]))

    def _told_of_empty(self, masks: Masks, request: Request) -> Masks:
        """What was taken away since it was sent becomes an empty mask: None would leave it as it was."""
        empty = np.zeros(request.image.shape, dtype=np.uint8 if request.several else bool)
        return {k: empty if mask is None and self._sent[k] is not None else mask for k, mask in masks.items()}

    def _masks(self, request: Request) -> Masks:
        return {kind: self._mask(kind, request) for kind in LOOKS}

    def _mask(self, kind: Kind, request: Request) -> NDArray[np.bool_] | None:
        layer = self._layers[kind]
        if layer is None:
            return None
        found = labels_of_region(layer, request.source, request.region)
        # Of several labels a pin says which: the number that was painted.
        return found.copy() if request.several and kind == "pins" else np.asarray(found != 0)

    # ---- layers

    def _make(self, kind: Kind) -> Any:
        try:
            if self._source is None:
                raise InputError("steer-image", "There is no image to paint on", "", "Open an image first.")
            volume = describe_layer(self._source)
        except LsnetError as error:
            self.refused.emit(str(error))
            return None
        from napari.utils.colormaps import DirectLabelColormap

        look = LOOKS[kind]
        region = whole_region(volume)
        arguments = result_arguments(self._source, region)
        arguments["metadata"]["lsnet"]["role"] = kind
        layer = self._viewer.add_labels(
            np.zeros(volume.shape, np.uint8),
            name=look.name,
            opacity=look.opacity,
            colormap=DirectLabelColormap(color_dict={None: look.colour, 0: "transparent", 1: look.colour}),
            **arguments,
        )
        layer.contour = look.contour
        layer.brush_size = max(3, round(max(volume.shape[axis] for axis in volume.spatial_axes) / _BRUSH_SHARE))
        if not self._flat:
            layer.n_edit_dimensions = len(volume.spatial_axes)  # a wall of one slice would be walked around
        self.choose(kind, layer)
        return layer

    def _on_drawn(self, _event: Any = None) -> None:
        with suppress(RuntimeError):  # the dock may be gone before the layer
            if not self._timer.isActive():
                self._timer.start()

    def _on_removed(self, event: Any) -> None:
        with suppress(RuntimeError):
            for kind, layer in self._layers.items():
                if layer is not None and layer is event.value:
                    self.choose(kind, None)

    def _mark_leak(self) -> None:
        """The ring follows the result: a rewind or another run takes it away."""
        self.leak_button.setVisible(self.leak.follow(self._run.request, self._run.result))

    # ---- buttons

    def _button(self, kind: Kind) -> QPushButton:
        button = QPushButton(LOOKS[kind].name)
        button.setToolTip(LOOKS[kind].tip)
        button.setCheckable(True)
        button.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        button.setMinimumWidth(button.fontMetrics().horizontalAdvance(LOOKS[kind].name) + 14)
        button.clicked.connect(lambda: self._on_clicked(kind))
        return button

    def _menu_button(self, kind: Kind) -> QToolButton:
        button = QToolButton()
        button.setToolTip(f"Take an existing labels layer as {LOOKS[kind].name.lower()!r}, or none")
        button.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        menu = QMenu(button)
        menu.aboutToShow.connect(lambda: self._fill(menu, kind))
        button.setMenu(menu)
        return button

    def _on_clicked(self, kind: Kind) -> None:
        self.paint(kind)
        self.buttons[kind].setChecked(self._layers[kind] is not None)

    def _fill(self, menu: QMenu, kind: Kind) -> None:
        """Labels layers that are there, and nothing."""
        from napari.layers import Labels

        menu.clear()
        for layer in (*(each for each in self._viewer.layers if isinstance(each, Labels)), None):
            action = menu.addAction("Nothing" if layer is None else layer.name)
            if action is not None:
                action.setCheckable(True)
                action.setChecked(layer is self._layers[kind])
                action.triggered.connect(lambda _on=False, chosen=layer: self.choose(kind, chosen))


def _same(a: NDArray[np.bool_] | None, b: NDArray[np.bool_] | None) -> bool:
    if a is None or b is None:
        return a is b
    return a.shape == b.shape and bool(np.array_equal(a, b))
