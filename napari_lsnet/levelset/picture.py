"""The moving contour: pictures of u taken in the worker, and the layer that shows them.

The layer is an image of u near the front, one byte per voxel, whose colours are a line around u = 0 and a tint inside.
The screen interpolates u, so the line runs between the voxels in every plane, and in 3D the same layer is the surface
u = 0; nothing but the changed box is written per picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import ref

import numpy as np
from numpy.typing import NDArray

from napari_lsnet.layers import result_arguments, result_array
from napari_lsnet.transforms import Region

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image

    from src_models.levelset.evolution import LevelSetResult, LevelSetState

LIVE = "live level set"
"""Marks layers that only show a run, in ``metadata["lsnet"]["role"]``; they are no inputs."""

LINE_COLOUR = (1.0, 0.78, 0.1)
_FRONT = 128
_REACH_VOXELS = 2.0
_LINE_HALF_WIDTH = 0.25
_EDGE_HALF_WIDTH = 0.45
_TINT = 0.16

Box = tuple[slice, ...]


def is_step(report: Any) -> bool:
    """Whether a report is of a step, and not of what comes before the first one."""
    return hasattr(report, "iteration")


@dataclass(frozen=True, eq=False)
class Picture:
    """u near the front as bytes, in a box of the array: 128 at u = 0, more inside."""

    box: Box
    values: NDArray[np.uint8]
    iteration: int


class FrontWatch:
    """Takes the pictures of a run, in the worker.

    Parameters
    ----------
    spacing : sequence of float
        mm per axis of the array.

    Attributes
    ----------
    start : Picture or None
        Of the level set before the first step, to rewind to.
    """

    def __init__(self, spacing: Sequence[float]) -> None:
        self.start: Picture | None = None
        self._scale = 127.0 / (_REACH_VOXELS * min(spacing))
        self._changed: Box | None = None

    def see(self, report: LevelSetState) -> None:
        """Remember where u has changed."""
        if not is_step(report):
            return
        if self.start is None:
            self.start = self.whole(report.level_set, report.iteration)
            self._changed = self.start.box
        elif report.changed_box is not None:
            self._changed = joined(self._changed, report.changed_box)

    def take(self, report: LevelSetState, unseen: Picture | None) -> Picture | None:
        """The newest u, wherever the screen is behind; nothing before the first step."""
        if not is_step(report):
            return None
        box = self._changed if unseen is None else joined(self._changed, unseen.box)
        if box is None:
            box = tuple(slice(0, 0) for _ in report.level_set.shape)
        self._changed = None
        return Picture(box, self._bytes(report.level_set[box]), report.iteration)

    def whole(self, level_set: NDArray[Any], iteration: int) -> Picture:
        """A picture of all of u."""
        return Picture(tuple(slice(0, n) for n in level_set.shape), self._bytes(level_set), iteration)

    def last(self, result: LevelSetResult) -> Picture:
        """A picture of all that was reached."""
        return self.whole(result.level_set, result.iteration)

    def part(self, values: NDArray[Any], box: Box, iteration: int) -> Picture:
        """A picture of u in a box."""
        return Picture(box, self._bytes(values), iteration)

    def _bytes(self, u: NDArray[Any]) -> NDArray[np.uint8]:
        scaled = u * np.float32(self._scale)
        scaled += _FRONT + 0.5
        np.clip(scaled, 0, 255, out=scaled)
        return scaled.astype(np.uint8)


def joined(a: Box | None, b: Box) -> Box:
    """The smallest box around two boxes."""
    if a is None:
        return b
    return tuple(slice(min(x.start, y.start), max(x.stop, y.stop)) for x, y in zip(a, b, strict=True))


class LiveFront:
    """The layer that shows a run. It belongs to us: the person may hide or delete it, the run goes on."""

    def __init__(self, viewer: ViewerModel, source: Any, region: Region, shape: tuple[int, ...]) -> None:
        self._layers = ref(viewer.layers)
        self._array = np.zeros(shape, np.uint8)
        self._tinted = True
        arguments = result_arguments(source, region)
        arguments["metadata"]["lsnet"]["role"] = LIVE
        selected = set(viewer.layers.selection)
        active = viewer.layers.selection.active
        self.layer: Image = viewer.add_image(
            result_array(region, self._array),
            name="Level set (live)",
            rgb=False,
            contrast_limits=(0, 255),
            interpolation2d="linear",
            interpolation3d="linear",
            rendering="iso",
            iso_threshold=_FRONT,
            blending="translucent",
            **arguments,
        )
        viewer.layers.selection = selected
        viewer.layers.selection.active = active
        viewer.dims.events.ndisplay.connect(self._on_display)
        self._dims = ref(viewer.dims)
        self._on_display()

    def _on_display(self, _event: Any = None) -> None:
        """A line with a tint on slices, a solid surface in 3D."""
        dims = self._dims()
        if dims is not None:
            flat = dims.ndisplay == 2
            self.layer.colormap = line_colours(self._tinted) if flat else surface_colours()
            # An image in front of the surface must not hide it.
            self.layer.blending = "translucent" if flat else "translucent_no_depth"

    def switch_outline(self) -> None:
        """The line with a tint inside, or the line alone."""
        self._tinted = not self._tinted
        self._on_display()

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


def surface_colours() -> Any:
    """From dark to light: the rendering of a surface looks its colour up by how bright the light falls."""
    from napari.utils import Colormap

    red, green, blue = LINE_COLOUR
    dark, light = (0.25 * red, 0.25 * green, 0.25 * blue, 1.0), (1.0, 0.95, 0.65, 1.0)
    return Colormap(
        colors=np.array([dark, (*LINE_COLOUR, 1.0), light], dtype=np.float32),
        controls=np.array([0.0, 0.8, 1.0], dtype=np.float32),
        name="level set surface",
    )


def line_colours(tinted: bool, colour: tuple[float, float, float] = LINE_COLOUR) -> Any:
    """A line where u is 0, with a tint inside or without."""
    from napari.utils import Colormap

    per_voxel = 127.0 / _REACH_VOXELS
    line, edge = _LINE_HALF_WIDTH * per_voxel, _EDGE_HALF_WIDTH * per_voxel
    clear, solid, tint = (*colour, 0.0), (*colour, 1.0), (*colour, _TINT if tinted else 0.0)
    places = (0, _FRONT - edge, _FRONT - line, _FRONT + line, _FRONT + edge, 255)
    return Colormap(
        colors=np.array([clear, clear, solid, solid, tint, tint], dtype=np.float32),
        controls=np.array(places, dtype=np.float32) / 255,
        name="level set front",
    )
