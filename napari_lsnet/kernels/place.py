"""Where the kernel layers stand: to the right of what is open, as high as it, so that one canvas shows all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_lsnet.compat import camera_of
from napari_lsnet.roles import role_of

if TYPE_CHECKING:
    from napari.components import ViewerModel

ROLE = "live kernels"
"""Of every layer of this room that only shows the analysis; such layers are no input of a run."""
_SHARE = 0.06
_FILL = 0.86


@dataclass(frozen=True)
class Frame:
    """Where kernels are drawn.

    Attributes
    ----------
    top, left : float
        Corner of the first square in the world, along the last two axes.
    side : float
        Of a square.
    depth : tuple of (float, float)
        What the axis before them spans, for the planes of 3D kernels.
    units : tuple
        Of the last three axes.
    stacked : bool
        Whether the second square stands below the first, for a canvas that is higher than wide, or to its right.
    """

    top: float
    left: float
    side: float
    depth: tuple[float, float]
    units: tuple[Any, Any, Any]
    stacked: bool = False

    @property
    def gap(self) -> float:
        """Between squares."""
        return _SHARE * self.side

    @property
    def second(self) -> tuple[float, float]:
        """Top and left of the second square."""
        step = self.side + self.gap
        return (self.top + step, self.left) if self.stacked else (self.top, self.left + step)


def frame_beside(viewer: ViewerModel, side: float = 100.0, *, stacked: bool = False) -> Frame:
    """The room to the right of the layers of the person.

    Parameters
    ----------
    viewer : ViewerModel
        With its layers.
    side : float
        Of a square where nothing is open.
    stacked : bool
        See `Frame`.
    """
    others = [layer for layer in viewer.layers if role_of(layer) != ROLE and layer.ndim >= 2 and _has_extent(layer)]
    if not others:
        return Frame(0.0, 0.0, side, (0.0, 2.0), ("pixel",) * 3, stacked)
    # lengths of another unit cannot be compared without changing them: the newest layer says which count
    last = others[-1]
    alike = [layer for layer in others if tuple(layer.units)[-2:] == tuple(last.units)[-2:]]
    spans = [np.asarray(layer.extent.world)[:, -2:] for layer in alike]
    low = np.min([span[0] for span in spans], axis=0)
    high = np.max([span[1] for span in spans], axis=0)
    deep = next((layer for layer in reversed(alike) if layer.ndim >= 3), None)
    ends = (0.0, 2.0) if deep is None else tuple(np.asarray(deep.extent.world)[:, -3].tolist())
    height = float(high[0] - low[0]) or side
    unit = "pixel" if deep is None else tuple(deep.units)[-3]
    left = float(high[1]) + _SHARE * height
    return Frame(float(low[0]), left, height, (ends[0], ends[1]), (unit, *tuple(last.units)[-2:]), stacked)


def look_at(viewer: ViewerModel, layers: Sequence[Any], canvas: tuple[float, float]) -> None:
    """Move the camera so that layers fill the canvas; nothing else changes.

    napari's own fit takes no layers that have fewer axes than the viewer.

    Parameters
    ----------
    viewer : ViewerModel
        With the camera.
    layers : sequence of Layer
        What is to be seen.
    canvas : tuple of float
        Height and width of the canvas in pixels.
    """
    spans = [_plane_of(layer) for layer in layers if _has_extent(layer)]
    if not spans:
        return
    low = np.min([span[0] for span in spans], axis=0)
    high = np.max([span[1] for span in spans], axis=0)
    viewer.dims.ndisplay = 2
    camera = camera_of(viewer)
    camera.center = (0.0, *((low + high) / 2).tolist())
    camera.zoom = float(_FILL * min(np.asarray(canvas) / np.maximum(high - low, 1e-9)))


def _plane_of(layer: Any) -> Any:
    """Lower and upper corner of a layer along the last two axes; pictures with the outer halves of their pixels."""
    from napari.layers import Image, Labels

    span = np.asarray(layer.extent.world, float)[:, -2:]
    if isinstance(layer, Image | Labels):
        half = np.abs(np.asarray(layer.extent.step, float)[-2:]) / 2
        span = span + np.stack([-half, half])
    return span


def _has_extent(layer: Any) -> bool:
    return bool(np.isfinite(np.asarray(layer.extent.world)).all())
