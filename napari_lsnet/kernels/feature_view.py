"""The answer of the kernel on show on the person's image: computed in a worker, drawn as a layer where it lies."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, Signal  # type: ignore[attr-defined]

from napari_lsnet.background import Background
from napari_lsnet.kernels.colours import weight_colours
from napari_lsnet.kernels.seen import SeenImage, known_network, seen_by, voxel_at
from napari_lsnet.layers import result_array, stepped_transform
from src_models.errors import LsnetError

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from src_models.inference.feature_map import FeatureMap, LayerFeatures
    from src_models.kernels.sources import Source

ROLE = "feature map"
STAGES = {"kernel": "this kernel alone", "channel": "its output channel", "active": "the channel after activation"}
_PERCENTILE = 99.5
_FREE_SHARE = 4


@dataclass(frozen=True, eq=False)
class FeatureQuestion:
    """What is wanted; nothing in it changes when layers do.

    Attributes
    ----------
    source : Source
        The network.
    layer : str
        Name of the convolution.
    out, inside : int
        Channels.
    stage : str
        A key of `STAGES`.
    seen : SeenImage
        What the network is shown.
    centre : tuple of float
        Its voxel on show.
    """

    source: Source
    layer: str
    out: int
    inside: int
    stage: Any
    seen: SeenImage
    centre: tuple[float, ...]


class FeatureView(QObject):
    """Asks for feature maps and shows the newest.

    Parameters
    ----------
    viewer : ViewerModel
        Where.
    parent : QObject
        The usual.

    Attributes
    ----------
    told, refused : Signal(str)
        What is shown, or why nothing is.
    """

    told = Signal(str)
    refused = Signal(str)

    def __init__(self, viewer: ViewerModel, parent: QObject) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._work = Background(self, wait_ms=60)
        self._work.answered.connect(self._on_answer)
        self._work.failed.connect(self._on_failed)
        self._kept: tuple[Any, LayerFeatures] | None = None
        self._layer: Any = None

    @property
    def layer(self) -> Any:
        """The layer with the map, or None."""
        return self._layer if self._layer is not None and self._layer in self._viewer.layers else None

    @property
    def is_busy(self) -> bool:
        """Whether a map is on its way."""
        return self._work.is_busy

    def ask(self, question: FeatureQuestion) -> None:
        """Show the map of a kernel soon."""
        key = _key(question)
        kept = self._kept[1] if self._kept is not None and self._kept[0] == key else None
        self.told.emit("Looking at the image through this kernel...")
        self._work.ask(partial(_answer, question, kept))

    def forget(self) -> None:
        """Another network or other image values: nothing that was kept holds."""
        self._kept = None
        self._work.forget()

    def remove(self) -> None:
        """Take the map away."""
        self._work.forget()
        if self.layer is not None:
            self._viewer.layers.remove(self.layer)
        self._layer = None

    def _on_answer(self, found: tuple[FeatureQuestion, LayerFeatures, FeatureMap]) -> None:
        question, features, made = found
        self._kept = (_key(question), features)
        if question.seen.image not in self._viewer.layers:
            return
        array = result_array(question.seen.region, np.ascontiguousarray(question.seen.turn.present(made.values)))
        place = stepped_transform(question.seen.image, question.seen.region, *_presented(question, made))
        largest = float(np.percentile(np.abs(made.values), _PERCENTILE)) or 1.0
        name = f"{question.layer}, output {question.out}"
        if question.stage == "kernel":
            name += f", input {question.inside}"
        name = f"Feature map: {name}"
        layer = self.layer
        if layer is not None and layer.ndim != array.ndim:
            self.remove()
            layer = None
        if layer is None:
            active, selected = self._viewer.layers.selection.active, set(self._viewer.layers.selection)
            self._layer = self._viewer.add_image(
                array,
                name=name,
                rgb=False,
                colormap=weight_colours(),
                contrast_limits=(-largest, largest),
                opacity=0.75,
                blending="translucent",
                interpolation2d="nearest",
                metadata={"lsnet": {"role": ROLE}},
                **place,
            )
            where = self._viewer.layers.index(question.seen.image) + 1
            self._viewer.layers.move(self._viewer.layers.index(self._layer), where)
            self._viewer.layers.selection = selected
            self._viewer.layers.selection.active = active
        else:
            layer.data, layer.name = array, name
            for key, value in place.items():
                setattr(layer, key, value)
            layer.contrast_limits_range = layer.contrast_limits = (-largest, largest)
        jump = features.placement.outside.jump
        steps = " x ".join(f"{j:g}" for j in jump)
        part = "" if made.whole else " Only a window around the slice on show fits the memory."
        self.told.emit(f"Feature map: {STAGES[question.stage]}, {steps} voxels of the network a step.{part}")

    def _on_failed(self, error: Exception) -> None:
        said = str(error) if isinstance(error, LsnetError) else "The feature map could not be made; nothing is changed."
        self.refused.emit(said)


def question_for(
    viewer: ViewerModel, source: Source, layer: str, channels: tuple[int, int], stage: str, image: Any
) -> FeatureQuestion:
    """Read what a feature map needs from the layers.

    Raises
    ------
    InputError, GeometryError
        One sentence each.
    """
    seen = seen_by(viewer, source, image)
    centre = tuple(
        min(max(place, 0.0), n - 1.0)
        for place, n in zip(voxel_at(image, seen.region, viewer.dims.point), seen.size, strict=True)
    )
    return FeatureQuestion(source, layer, *channels, stage, seen, seen.turned(centre))


def _presented(question: FeatureQuestion, made: FeatureMap) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Start and step of a map along the axes of the layer."""
    start, step = [], []
    for axis, flip in zip(question.seen.turn.axes, question.seen.turn.flips, strict=True):
        first, jump = made.grid.start[axis], made.grid.step[axis]
        last = first + jump * (made.values.shape[axis] - 1)
        start.append(question.seen.content.shape[1 + axis] - 1 - last if flip else first)
        step.append(jump)
    return tuple(start), tuple(step)


def _key(question: FeatureQuestion) -> Any:
    parts = tuple((p.start, p.stop) if isinstance(p, slice) else p for p in question.seen.region)
    content = question.seen.content
    return (id(question.source), question.layer, id(question.seen.image), parts, content.shape, hash(content.tobytes()))


def _answer(question: FeatureQuestion, kept: LayerFeatures | None) -> tuple[FeatureQuestion, LayerFeatures, FeatureMap]:
    """For the worker."""
    from src_models.inference.feature_map import LayerFeatures
    from src_models.processor import let_waiting_threads_sleep

    let_waiting_threads_sleep()
    features = kept
    if features is None:
        import psutil

        network, card = known_network(question.source)
        features = LayerFeatures(
            network,
            card,
            question.layer,
            question.seen.content,
            question.seen.spacing,
            unit=question.seen.unit,
            centre=question.centre,
            most_bytes=psutil.virtual_memory().available // _FREE_SHARE,
        )
    return question, features, features.map_of(question.out, question.inside, question.stage)
