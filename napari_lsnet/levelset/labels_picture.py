"""Several moving labels in the picture: arrays of labels taken in the worker, and the layer that shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import ref

import numpy as np

from napari_lsnet.layers import LABELS_IN_3D, result_arguments, result_array
from napari_lsnet.levelset.picture import LIVE, Box, Picture, is_step, joined
from napari_lsnet.levelset.quiet import keeping_selection
from napari_lsnet.transforms import Region

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from src_models.levelset.coupled import LabelsResult, LabelsState

_OPACITY = 0.55


class LabelsWatch:
    """Takes the pictures of a run of several labels, in the worker.

    Attributes
    ----------
    start : Picture or None
        Of the labels before the first step, to rewind to.
    timeline, base : None
        Such a run has none.
    """

    timeline = None
    base = None

    def __init__(self) -> None:
        self.start: Picture | None = None
        self._changed: Box | None = None

    def see(self, report: LabelsState) -> None:
        """Remember where labels have changed."""
        if not is_step(report):
            return
        if self.start is None:
            labels = report.labels
            self.start = Picture(tuple(slice(0, n) for n in labels.shape), labels, report.iteration)
            self._changed = self.start.box
        elif report.changed_box is not None:
            self._changed = joined(self._changed, report.changed_box)

    def take(self, report: LabelsState, unseen: Picture | None) -> Picture | None:
        """The newest labels, wherever the screen is behind; nothing before the first step."""
        if not is_step(report):
            return None
        box = self._changed if unseen is None else joined(self._changed, unseen.box)
        if box is None:
            box = tuple(slice(0, 0) for _ in report.run.shape)
        self._changed = None
        return Picture(box, report.labels_in(box), report.iteration)

    def last(self, result: LabelsResult) -> Picture:
        """A picture of all that was reached."""
        return Picture(tuple(slice(0, n) for n in result.labels.shape), result.labels, result.iteration)


class LiveLabels:
    """The labels layer that shows a run, in napari's colours. It belongs to us: hiding or deleting it stops nothing."""

    def __init__(self, viewer: ViewerModel, source: Any, region: Region, first: Picture) -> None:
        self._layers = ref(viewer.layers)
        self._array = np.zeros(first.values.shape, first.values.dtype)
        arguments = result_arguments(source, region)
        arguments["metadata"]["lsnet"]["role"] = LIVE
        with keeping_selection(viewer):
            self.layer: Any = viewer.add_labels(
                result_array(region, self._array),
                name="Level set (live)",
                opacity=_OPACITY,
                **LABELS_IN_3D,
                **arguments,
            )
        self.layer.editable = False

    def switch_outline(self) -> None:
        """Areas, or their outlines alone."""
        self.layer.contour = 0 if self.layer.contour else 1

    @property
    def is_shown(self) -> bool:
        """Whether the layer is still in the viewer."""
        layers = self._layers()
        return layers is not None and self.layer in layers

    def draw(self, picture: Picture) -> None:
        """Write the changed box and have it drawn."""
        if picture.values.size == 0:
            return
        self._array[picture.box] = picture.values
        if self.is_shown and self.layer.visible:
            self.layer.refresh(thumbnail=False, highlight=False, extent=False)

    def remove(self) -> None:
        """Take the layer out of the viewer."""
        layers = self._layers()
        if layers is not None and self.layer in layers:
            layers.remove(self.layer)
