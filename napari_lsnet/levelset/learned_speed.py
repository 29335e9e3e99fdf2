"""The choice of what makes a region speed: grey values, painted strokes or clusters; and how a slice of it looks."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import Signal  # type: ignore[attr-defined]
from qtpy.QtWidgets import QComboBox, QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from napari_lsnet.layer_combo import LayerCombo
from napari_lsnet.layers import describe_layer, result_arguments
from napari_lsnet.levelset.request import Request
from napari_lsnet.regions import whole_region
from napari_lsnet.seeds import labels_of_region
from napari_lsnet.transforms import Region
from src_models.errors import InputError, LsnetError

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_lsnet.levelset.preview import Learn
    from src_models.levelset.recipes import SpeedRecipe
    from src_models.progress import Progress

ROLE = "strokes"

_SOURCES = (("fields", "grey values"), ("strokes", "strokes"), ("clusters", "clusters"))
_TIP = "Paint some of the structure with label 1, and some of the rest with label 2 and above"
_BRUSH_SHARE = 60


def holds_strokes(layer: Any) -> bool:
    """Whether a layer holds strokes that teach the classes: it is no start, and nothing is accepted into it."""
    return str(dict(layer.metadata).get("lsnet", {}).get("role", "")) == ROLE


class SpeedSource(QWidget):
    """Where the region speed comes from, the layer of strokes, and the button that makes one.

    Parameters
    ----------
    viewer : ViewerModel
        Whose layers.
    parent : QWidget, optional
        The usual.

    Attributes
    ----------
    changed : Signal()
        The speed would be another.
    refused : Signal(str)
        Why a layer to paint on could not be made.
    told : Signal(str)
        What to do next.
    """

    changed = Signal()
    refused = Signal(str)
    told = Signal(str)

    def __init__(self, viewer: ViewerModel, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._source: Any = None
        self.kind = QComboBox()
        self.kind.addItems([title for _, title in _SOURCES])
        self.kind.setToolTip(
            "Grey values: the fields above. Strokes: a classifier learns from what you paint. "
            "Clusters: the grey values that are in the start"
        )
        self.strokes = LayerCombo(
            viewer, _is_labels, nothing="paint or choose", may_be_empty=True, by_itself=holds_strokes
        )
        self.strokes.setToolTip("The labels layer of the strokes: 1 the structure, 2 and above the rest")
        self.paint_button = QPushButton("Paint")
        self.paint_button.setToolTip(_TIP)
        rows = QVBoxLayout(self)
        rows.setContentsMargins(0, 0, 0, 0)
        rows.setSpacing(3)
        for widgets in ((QLabel("Region from"), self.kind), (self.strokes, self.paint_button)):
            row = QHBoxLayout()
            row.setSpacing(3)
            for widget in widgets:
                row.addWidget(widget, int(isinstance(widget, QComboBox)))
            rows.addLayout(row)
        self.kind.currentIndexChanged.connect(self._on_kind)
        self.strokes.layer_changed.connect(self._on_strokes)
        self.paint_button.clicked.connect(self.paint)
        self._on_kind()

    def follow(self, source: Any) -> None:
        """Paint on this image from now on."""
        self._source = source

    @property
    def chosen(self) -> str:
        """What is chosen: "fields", "strokes" or "clusters"."""
        return _SOURCES[self.kind.currentIndex()][0]

    def choose(self, kind: str) -> None:
        """Choose "fields", "strokes" or "clusters"."""
        self.kind.setCurrentIndex([name for name, _ in _SOURCES].index(kind))

    def recipe(self, source: Any, region: Region, speed: str) -> SpeedRecipe | None:
        """How the speed of a run is made; None where the fields alone say it, as they do for edges.

        Raises
        ------
        InputError, GeometryError
            One sentence each.
        """
        if speed != "region" or self.chosen == "fields":
            return None
        from src_models.levelset.recipes import ClassifierSpeed, ClusterSpeed

        if self.chosen == "clusters":
            return ClusterSpeed()
        if self.strokes.layer is None:
            raise InputError("strokes-none", "There are no strokes", "", f"{_TIP}: click Paint beside Region from.")
        return ClassifierSpeed(labels_of_region(self.strokes.layer, source, region))

    def learner(self, request: Callable[[], Request], speed: str) -> Learn | None:
        """What makes the speed in a box, for a preview; None where the fields alone say it.

        Raises
        ------
        InputError, GeometryError
            One sentence each.
        """
        if speed != "region" or self.chosen == "fields":
            return None
        read = request()
        return lambda box: slice_of_speed(read, box)

    def paint(self) -> None:
        """Make a labels layer for strokes, or take the one that is chosen, with the brush in hand."""
        layer = self.strokes.layer
        try:
            if layer is None:
                layer = self._make()
        except LsnetError as error:
            self.refused.emit(str(error))
            return
        self._viewer.dims.ndisplay = 2
        self._viewer.layers.selection.active = layer
        layer.mode = "paint"
        self.told.emit(f"{_TIP}.")

    def _make(self) -> Any:
        if self._source is None:
            raise InputError("strokes-image", "There is no image to paint on", "", "Open an image first.")
        volume = describe_layer(self._source)
        arguments = result_arguments(self._source, whole_region(volume))
        arguments["metadata"]["lsnet"]["role"] = ROLE
        layer = self._viewer.add_labels(np.zeros(volume.shape, np.uint8), name="Strokes", **arguments)
        layer.brush_size = max(2, round(max(volume.shape[axis] for axis in volume.spatial_axes) / _BRUSH_SHARE))
        self.strokes.choose(layer)
        return layer

    def _on_kind(self, _index: int = 0) -> None:
        painted = self.chosen == "strokes"
        self.strokes.setVisible(painted)
        self.paint_button.setVisible(painted)
        self.changed.emit()

    def _on_strokes(self, layer: Any) -> None:
        if layer is not None:
            for name in ("paint", "data"):
                getattr(layer.events, name).connect(self._on_drawn)
        self.changed.emit()

    def _on_drawn(self, _event: Any = None) -> None:
        with suppress(RuntimeError):  # the dock may be gone before the layer
            self.changed.emit()


def with_speed(request: Request, recipe: SpeedRecipe | None) -> Request:
    """A request that makes its speed by a recipe.

    Raises
    ------
    InputError
        For several labels at once: each would need a class of its own.
    """
    from dataclasses import replace

    if recipe is not None and request.several:
        raise InputError(
            "speed-several",
            "Strokes and clusters make the speed of one contour",
            "all labels at once were asked for",
            "Take grey values, or grow the labels one after the other.",
        )
    return replace(request, speed=recipe)


def slice_of_speed(request: Request, box: tuple[slice, ...]) -> Generator[Progress, Any, NDArray[Any]]:
    """The speed that a recipe makes, in a box of the image, exactly as the run will have it; for a worker."""
    recipe, image, spacing = request.speed, request.image, request.spacing
    from src_models.levelset.classifier import train
    from src_models.levelset.recipes import ClassifierSpeed, prepare
    from src_models.progress import Progress

    if isinstance(recipe, ClassifierSpeed):
        yield Progress(phase="classifier", message="Learning from the strokes...")
        classifier = train(image, recipe.strokes, spacing, recipe.parameters)
        return (yield from classifier.speed_steps(image, spacing, recipe.label, box))
    if recipe is None:
        raise InputError("speed-fields", "The fields make this speed", "", "Choose strokes or clusters.")
    made = yield from prepare(recipe, image, spacing, request.initial)
    return made.speed[box]


def _is_labels(layer: Any) -> bool:
    from napari.layers import Labels

    from napari_lsnet.levelset.steering import steers
    from napari_lsnet.roles import is_live

    return isinstance(layer, Labels) and not is_live(layer) and not steers(layer)
