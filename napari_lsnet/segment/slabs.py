"""Finished slabs of a prediction on their way from the worker to the layer that shows them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import ref

import numpy as np
from numpy.typing import NDArray

from napari_lsnet.layers import LABELS_IN_3D, result_arguments, result_array
from napari_lsnet.network_image import in_layer_order, space_of
from napari_lsnet.segment.colours import colours_of
from napari_lsnet.segment.request import Request

if TYPE_CHECKING:
    from napari.components import ViewerModel

LIVE = "live segmentation"

Box = tuple[slice, ...]


@dataclass(frozen=True, eq=False)
class Slab:
    """New labels in a box of the result.

    Attributes
    ----------
    box : tuple of slice
        Time in front where there is one.
    labels : ndarray
        A copy.
    """

    box: Box
    labels: NDArray[Any]


class SlabWatch:
    """Copies finished slabs, in the worker, while the arrays of a report are valid.

    Parameters
    ----------
    shape : tuple of int
        Of the result, time in front.
    series : bool
        Whether there is a time axis.
    """

    def __init__(self, shape: tuple[int, ...], series: bool) -> None:
        self._shape, self._series = shape, series
        self._frame = -1
        self._found = np.zeros(shape, np.uint8)
        self._fresh: Box | None = None

    def see(self, report: Any) -> None:
        """Take what a report finished."""
        if report.phase == "prepare":
            self._frame += 1
        slab, labels = getattr(report, "slab", None), getattr(report, "labels", None)
        if slab is None or labels is None:
            return
        box = tuple(slice(*slab) if axis == report.axis else slice(0, n) for axis, n in enumerate(labels.shape))
        part = labels[box]
        if part.dtype != self._found.dtype and part.size and int(part.max()) > np.iinfo(self._found.dtype).max:
            self._found = self._found.astype(part.dtype)
        if self._series:
            box = (slice(self._frame, self._frame + 1), *box)
        self._found[box] = part
        self._fresh = _around(self._fresh, box)

    def take(self, _report: Any, unseen: Slab | None) -> Slab | None:
        """What is new since the screen last showed something."""
        fresh, self._fresh = self._fresh, None
        if unseen is not None:
            fresh = _around(fresh, unseen.box)
        return None if fresh is None else Slab(fresh, self._found[fresh].copy())


def _around(a: Box | None, b: Box) -> Box:
    if a is None:
        return b
    return tuple(slice(min(x.start, y.start), max(x.stop, y.stop)) for x, y in zip(a, b, strict=True))


def result_shape(request: Request) -> tuple[int, ...]:
    """Of the labels of a run, time in front."""
    size, _ = space_of(request.volume, request.region)
    return (request.image.shape[0], *size) if request.series else size


class LiveLabels:
    """The layer that shows a run. It belongs to us: the person may hide or delete it, the run goes on."""

    def __init__(self, viewer: ViewerModel, request: Request) -> None:
        self._layers = ref(viewer.layers)
        self._array = np.zeros(result_shape(request), np.uint8)
        arguments = result_arguments(request.source, request.region)
        arguments["metadata"]["lsnet"]["role"] = LIVE
        selected, active = set(viewer.layers.selection), viewer.layers.selection.active
        self._request = request
        self.layer: Any = viewer.add_labels(
            self._view(),
            name="Segmentation (running)",
            colormap=colours_of(request.choice.card.labels),
            **LABELS_IN_3D,
            **arguments,
        )
        viewer.layers.selection = selected
        viewer.layers.selection.active = active

    def draw(self, slab: Slab) -> None:
        """Show new labels."""
        if slab.labels.dtype != self._array.dtype:
            self._array = self._array.astype(slab.labels.dtype)
            if self.is_shown:
                self.layer.data = self._view()
        self._array[slab.box] = slab.labels
        if self.is_shown and self.layer.visible:
            self.layer.refresh(thumbnail=False, highlight=False, extent=False)

    @property
    def is_shown(self) -> bool:
        """Whether the layer is still in the viewer."""
        layers = self._layers()
        return layers is not None and self.layer in layers

    def remove(self) -> None:
        """Take the layer out of the viewer."""
        layers = self._layers()
        if layers is not None and self.layer in layers:
            layers.remove(self.layer)

    def _view(self) -> NDArray[Any]:
        request = self._request
        return result_array(request.region, in_layer_order(self._array, request.region, request.volume))
