"""The place of a leak in the picture: a ring where the front broke through, and a way to go there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from weakref import ref

import numpy as np

from napari_lsnet.compat import slider_units
from napari_lsnet.layers import result_transform
from napari_lsnet.levelset.quiet import keeping_selection
from napari_lsnet.levelset.request import Request
from napari_lsnet.transforms import conversion

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Points

LEAK_COLOUR = "#ff5fd2"
"""Of nothing else on the screen, and told apart from the contour's yellow by those who see no red or green."""

_SHARE_OF_PICTURE = 0.1
_FEWEST_VOXELS = 7.0


class LeakMark:
    """A ring around each place where a run stopped before a leak.

    Parameters
    ----------
    viewer : ViewerModel
        Where it is shown.

    Attributes
    ----------
    of : LevelSetResult, LabelsResult or None
        The result whose leak is shown.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = ref(viewer)
        self._layer: Points | None = None
        self._next = 0
        self.of: Any = None

    @property
    def layer(self) -> Points | None:
        """The layer with the ring; None where there is none."""
        viewer = self._viewer()
        return self._layer if viewer is not None and self._layer in viewer.layers else None

    def follow(self, request: Request | None, result: Any) -> bool:
        """Draw the ring where this run stopped before a leak, or take it away; whether there is a leak."""
        leaks = () if request is None or result is None else request.leaks(result)
        if request is None or not leaks:
            self.remove()
            return False
        if self.of is not result:
            self._draw(request, leaks)
            self.of = result
        return True

    def _draw(self, request: Request, leaks: Sequence[Sequence[float]]) -> None:
        self.remove()
        viewer = self._viewer()
        if viewer is None:
            return
        places = np.zeros((len(leaks), len(request.region)))
        places[:, [axis for axis, part in enumerate(request.region) if isinstance(part, slice)]] = leaks
        size = max(_FEWEST_VOXELS, _SHARE_OF_PICTURE * max(request.image.shape[-2:]))
        with keeping_selection(viewer):
            self._layer = viewer.add_points(
                places,
                ndim=request.source.ndim,
                name="Leak",
                symbol="disc",
                size=size,
                face_color="transparent",
                border_color=LEAK_COLOUR,
                border_width=0.1,
                metadata={"lsnet": {"role": "live leak"}},
                **result_transform(request.source, request.region),
            )

    def go_there(self) -> None:
        """Move sliders and camera so that the ring is in the middle of the picture; of several, the next one."""
        viewer, layer = self._viewer(), self.layer
        if viewer is not None and layer is not None:
            go_to(viewer, layer, layer.data[self._next % len(layer.data)])
            self._next += 1

    def remove(self) -> None:
        """Take the ring away."""
        viewer, layer = self._viewer(), self.layer
        if viewer is not None and layer is not None:
            viewer.layers.remove(layer)
        self._layer, self.of, self._next = None, None, 0


def go_to(viewer: Any, layer: Any, index: Any) -> None:
    """Bring a place of a layer, in its data coordinates, into the middle of the picture.

    Parameters
    ----------
    viewer : ViewerModel
        Whose sliders and camera move.
    layer : Layer
        That the place belongs to.
    index : sequence of float
        One per data axis of the layer.
    """
    dims = viewer.dims
    world = np.asarray(layer.data_to_world(index), dtype=np.float64)
    extra = dims.ndim - layer.ndim
    units = slider_units(dims)
    if units is not None and len(units) >= layer.ndim:
        world = world * conversion(layer.units, units[len(units) - layer.ndim :])
    for axis, value in enumerate(world):
        if axis + extra not in dims.displayed:
            dims.set_point(axis + extra, float(value))
    camera = getattr(viewer, "scene", viewer).camera  # napari 0.9 moved it
    shown = [world[axis - extra] if axis >= extra else 0.0 for axis in dims.displayed]
    camera.center = tuple(shown) if len(shown) == 3 else (0.0, *shown)
