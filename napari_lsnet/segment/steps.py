"""The steps of a level set network in the viewer: kept as they come, shown as a contour, gone through again."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import ref

import numpy as np
from numpy.typing import NDArray

from napari_lsnet.layers import LABELS_IN_3D, result_arguments, result_array
from napari_lsnet.network_image import in_layer_order
from napari_lsnet.segment.colours import contour_colours
from napari_lsnet.segment.request import Request

if TYPE_CHECKING:
    from napari.components import ViewerModel

LIVE = "live level set"
_WIDTH = 2
# Of the contour, in pixels: one is lost in the noise of a CT.


@dataclass(frozen=True, eq=False)
class KeptStep:
    """Labels after a step, packed: they are large areas of one value.

    Attributes
    ----------
    number, count : int
        0 is the start; the last is `count`.
    grid : str
        On which it was made, in words.
    voxels : int
        Inside.
    """

    number: int
    count: int
    grid: str
    voxels: int
    _packed: bytes
    _shape: tuple[int, ...]
    _dtype: np.dtype[Any]

    @classmethod
    def of(cls, report: Any) -> KeptStep:
        """Of a `LevelSetStep`."""
        labels = np.ascontiguousarray(report.found)
        packed = zlib.compress(labels.tobytes(), 1)
        inside = int(np.count_nonzero(labels))
        return cls(report.number, report.count, report.grid, inside, packed, labels.shape, labels.dtype)

    @property
    def counted(self) -> str:
        """What is counted, as in the line of the result."""
        return "pixels" if len(self._shape) == 2 else "voxels"

    def labels(self) -> NDArray[Any]:
        """On the grid of the image; a copy."""
        flat = np.frombuffer(bytearray(zlib.decompress(self._packed)), self._dtype)
        return flat.reshape(self._shape)


class StepWatch:
    """Keeps every step, in the worker.

    Attributes
    ----------
    steps : list of KeptStep
        So far.
    """

    def __init__(self) -> None:
        self.steps: list[KeptStep] = []
        self._fresh = False

    def see(self, report: Any) -> None:
        """Keep what a report shows, if it is one of a step."""
        if hasattr(report, "halvings"):
            self.steps.append(KeptStep.of(report))
            self._fresh = True

    def take(self, _report: Any, unseen: KeptStep | None) -> KeptStep | None:
        """The newest step, where the screen has not shown it."""
        fresh, self._fresh = self._fresh, False
        return self.steps[-1] if fresh else unseen


class StepsLayer:
    """The layer that shows a step. It belongs to us: the person may hide or delete it, the run goes on."""

    def __init__(self, viewer: ViewerModel, request: Request) -> None:
        self._viewer, self._layers = ref(viewer), ref(viewer.layers)
        self._request = request
        self.layer: Any = None

    def draw(self, step: KeptStep) -> None:
        """Show a step; a layer that was deleted is made again."""
        viewer, request = self._viewer(), self._request
        if viewer is None:
            return
        labels = result_array(request.region, in_layer_order(step.labels(), request.region, request.volume))
        if not self.is_shown:
            self._make(viewer, labels)
        else:
            self.layer.data = labels
        self.layer.name = f"Step {step.number} of {step.count} in {request.source.name}"

    def _make(self, viewer: ViewerModel, labels: NDArray[Any]) -> None:
        arguments = result_arguments(self._request.source, self._request.region)
        arguments["metadata"]["lsnet"]["role"] = LIVE
        selected, active = set(viewer.layers.selection), viewer.layers.selection.active
        colours = contour_colours(self._request.choice.card.labels)
        look = LABELS_IN_3D | {"colormap": colours, "opacity": 1.0}
        self.layer = viewer.add_labels(labels, name="Level set", **look, **arguments)
        self.layer.contour = _WIDTH
        self.layer.editable = False
        viewer.layers.selection = selected
        viewer.layers.selection.active = active

    def to_top(self) -> None:
        """Above what was added meanwhile."""
        layers = self._layers()
        if layers is not None and self.is_shown:
            layers.move(layers.index(self.layer), len(layers))

    @property
    def is_shown(self) -> bool:
        """Whether the layer is in the viewer."""
        layers = self._layers()
        return layers is not None and self.layer is not None and self.layer in layers

    def remove(self) -> None:
        """Take the layer out of the viewer."""
        layers = self._layers()
        if layers is not None and self.is_shown:
            layers.remove(self.layer)
