"""The layer that shows where two masks differ: solid orange, hatched blue, and a thin white line around what both have.

Shape and pattern carry the meaning as well as colour, so that nobody needs to tell red from green.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import ref

import numpy as np
from numpy.typing import NDArray

from napari_lsnet.layers import result_arguments, result_array

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Labels

    from napari_lsnet.levelset.request import Request

LIVE = "live comparison"
"""Marks the layer in ``metadata["lsnet"]["role"]``; it is no input."""

ONLY_A, ONLY_B_LINE, ONLY_B_GAP, BOTH_EDGE, BOTH_INSIDE = 1, 2, 3, 4, 5
_COLOURS: dict[int | None, tuple[float, float, float, float]] = {
    None: (0.0, 0.0, 0.0, 0.0),
    0: (0.0, 0.0, 0.0, 0.0),
    ONLY_A: (1.0, 0.55, 0.0, 1.0),
    ONLY_B_LINE: (0.25, 0.55, 1.0, 1.0),
    ONLY_B_GAP: (0.25, 0.55, 1.0, 0.22),
    BOTH_EDGE: (1.0, 1.0, 1.0, 1.0),
    BOTH_INSIDE: (0.0, 0.0, 0.0, 0.0),
}
_HATCH = 4


def painted(only_a: NDArray[np.bool_], only_b: NDArray[np.bool_], both: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """The values of the layer: 1 only in A, 2 and 3 only in B (hatch and gaps), 4 and 5 in both (edge and inside).

    Parameters
    ----------
    only_a, only_b, both : ndarray of bool
        Of one shape; the hatch runs diagonally through every slice of the last two axes.
    """
    values = np.zeros(only_a.shape, np.uint8)
    values[only_a] = ONLY_A
    rows, columns = np.arange(only_b.shape[-2])[:, np.newaxis], np.arange(only_b.shape[-1])
    line = (rows + columns) % _HATCH < _HATCH // 2
    values[only_b] = ONLY_B_GAP
    values[only_b & line] = ONLY_B_LINE
    values[both] = BOTH_EDGE
    values[_eroded(both)] = BOTH_INSIDE
    return values


def _eroded(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Without its border voxels, slice by slice; the end of the array is no border."""
    inner = mask.copy()
    for axis in (-2, -1):
        along = np.moveaxis(mask, axis, 0)
        part = np.moveaxis(inner, axis, 0)
        part[1:] &= along[:-1]
        part[:-1] &= along[1:]
    return inner


class DifferenceLayer:
    """Shows a comparison in a viewer; the person may hide or delete it.

    Parameters
    ----------
    viewer : ViewerModel
        Where.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = ref(viewer)
        self._layer: Labels | None = None

    def draw(self, values: NDArray[np.uint8], request: Request) -> None:
        """Show values of `painted`, on the voxels of a request."""
        viewer = self._viewer()
        if viewer is None:
            return
        array = result_array(request.region, values)
        if self._layer is not None and self._layer in viewer.layers:
            self._layer.data = array
            return
        from napari.utils.colormaps import DirectLabelColormap

        arguments: dict[str, Any] = result_arguments(request.source, request.region)
        arguments["metadata"]["lsnet"]["role"] = LIVE
        selected, active = set(viewer.layers.selection), viewer.layers.selection.active
        self._layer = viewer.add_labels(
            array, name="Comparison", colormap=DirectLabelColormap(color_dict=dict(_COLOURS)), opacity=0.85, **arguments
        )
        self._layer.editable = False
        viewer.layers.selection = selected
        viewer.layers.selection.active = active

    def remove(self) -> None:
        """Take the layer away."""
        viewer = self._viewer()
        if viewer is not None and self._layer is not None and self._layer in viewer.layers:
            viewer.layers.remove(self._layer)
        self._layer = None
