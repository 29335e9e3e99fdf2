"""The speed on the slice on show, as an aligned layer that follows the fields; and its contrast by a click."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, TypeAlias
from weakref import ref

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QObject, QTimer, Signal  # type: ignore[attr-defined]

from napari_lsnet.jobs import Ending, Job, JobState
from napari_lsnet.layers import LayerVolume, describe_layer, read_region, region_for, result_arguments, result_array
from napari_lsnet.transforms import Region
from src_models.errors import InputError, LsnetError
from src_models.levelset.parameters import LevelSetParameters

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from src_models.progress import Progress

Learn: TypeAlias = "Callable[[tuple[slice, ...]], Generator[Progress, Any, NDArray[Any]]]"
"""Makes the speed in a box of the region."""

LIVE_SPEED = "live speed"
_THROTTLE_MS = 40
_DIVERGING = ((0.13, 0.40, 0.75), (0.08, 0.08, 0.08), (0.95, 0.55, 0.10))


class SpeedPreview(QObject):
    """Shows the speed image of the slice on show.

    Parameters
    ----------
    viewer : ViewerModel
        Where it is shown.

    Attributes
    ----------
    told : Signal(str)
        Why there is no preview now; "" when there is.
    """

    told = Signal(str)

    def __init__(self, viewer: ViewerModel, parent: QObject) -> None:
        super().__init__(parent)
        self._viewer = ref(viewer)
        self._layer: Any = None
        self._wanted: tuple[Any, str, Region, LevelSetParameters, Learn | None] | None = None
        self._job: Job | None = None
        self._range: tuple[Any, tuple[float, float]] | None = None
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_THROTTLE_MS)
        self._timer.timeout.connect(self._draw)

    @property
    def layer(self) -> Any:
        """The layer that shows it, or None."""
        viewer = self._viewer()
        return self._layer if viewer is not None and self._layer in viewer.layers else None

    def show(
        self,
        source: Any,
        mode: str,
        region: Region,
        parameters: LevelSetParameters,
        learn: Learn | None = None,
    ) -> None:
        """Show the speed of this region soon; of several calls in a row the newest counts.

        Parameters
        ----------
        source : Image
            The layer.
        mode : str
            "volume" or "slice".
        region : tuple of slice or int
            Of the run.
        parameters : LevelSetParameters
            Of the run.
        learn : callable, optional
            Makes, in a worker, the speed in a box of the region; for a speed that the parameters alone do not say.
        """
        self._wanted = (source, mode, region, parameters, learn)
        if not self._timer.isActive():
            self._timer.start()

    def hide(self) -> None:
        """Take the preview away."""
        self._wanted = None
        self._timer.stop()
        self._stop_learning()
        viewer = self._viewer()
        if viewer is not None and self.layer is not None:
            viewer.layers.remove(self._layer)
        self._layer = None

    def _draw(self) -> None:
        viewer = self._viewer()
        if self._wanted is None or viewer is None:
            return
        source, mode, region, parameters, learn = self._wanted
        self._stop_learning()
        try:
            if viewer.dims.ndisplay == 3 and len(describe_layer(source).spatial_axes) == 3:
                self.hide()
                self.told.emit("The speed is shown on slices: switch the view to 2D.")
                return
            on_show = region_for(source, viewer.dims, "slice")
            if learn is not None:
                self._learn(viewer, source, region, on_show, parameters, learn)
                return
            resolved = parameters.model_copy(update={"value_range": self.value_range(source, region, parameters)})
            values, place = speed_of_slice(source, mode, region, on_show, resolved)
        except LsnetError as error:
            self.told.emit(str(error))
            return
        self._put(viewer, source, place, values, parameters)
        self.told.emit("")

    def _learn(
        self,
        viewer: ViewerModel,
        source: Any,
        region: Region,
        on_show: Region,
        parameters: LevelSetParameters,
        learn: Learn,
    ) -> None:
        """Have the speed of the slice made in a worker, and show it then."""
        place, box = slice_in(region, on_show)
        work = learn(box)
        job = self._job = Job(lambda: work, title="The speed", device="preview")

        def ended(ending: Ending) -> None:
            if job is not self._job:
                return
            if ending.state is JobState.FAILED:
                self.told.emit(ending.message)
            elif ending.state is JobState.DONE:
                shape = tuple(p.stop - p.start for p in place if isinstance(p, slice))
                self._put(viewer, source, place, ending.result.reshape(shape), parameters)
                self.told.emit("")

        job.ended.connect(ended)
        job.start()

    def _stop_learning(self) -> None:
        if self._job is not None:
            self._job.cancel()
            self._job = None

    def value_range(self, source: Any, region: Region, parameters: LevelSetParameters) -> tuple[float, float]:
        """Smallest and largest value of the region; read once per region."""
        if parameters.value_range is not None:
            return parameters.value_range
        key = (id(source.data), tuple((p.start, p.stop) if isinstance(p, slice) else p for p in region))
        if self._range is None or self._range[0] != key:
            array = read_region(source, region)
            self._range = (key, (float(array.min()), float(array.max())))
        return self._range[1]

    def _put(
        self, viewer: ViewerModel, source: Any, place: Region, values: NDArray[Any], parameters: LevelSetParameters
    ) -> None:
        arguments = result_arguments(source, place)
        data = result_array(place, values)
        edge = parameters.speed == "edge"
        look = {"contrast_limits": (0.0, 1.0) if edge else (-1.0, 1.0)}
        layer = self.layer
        if layer is not None and layer.data.shape == data.shape:
            layer.data = data
            layer.translate = arguments["translate"]
        else:
            if layer is not None:
                viewer.layers.remove(layer)
            arguments["metadata"]["lsnet"]["role"] = LIVE_SPEED
            selected, active = set(viewer.layers.selection), viewer.layers.selection.active
            self._layer = layer = viewer.add_image(
                data, name="Speed (preview)", rgb=False, opacity=0.75, blending="translucent", **look, **arguments
            )
            viewer.layers.move(viewer.layers.index(layer), viewer.layers.index(source) + 1)
            viewer.layers.selection = selected
            viewer.layers.selection.active = active
        layer.contrast_limits = look["contrast_limits"]
        layer.colormap = "magma" if edge else diverging_colours()


class ClickPicker(QObject):
    """Waits for one click on the canvas.

    Attributes
    ----------
    clicked : Signal(object)
        Where, in the world.
    """

    clicked = Signal(object)

    def __init__(self, viewer: ViewerModel, parent: QObject) -> None:
        super().__init__(parent)
        self._callbacks = viewer.mouse_drag_callbacks
        self._listening: Any = None

    def listen(self, on: bool) -> None:
        """Wait for a click, or no longer."""
        if self._listening in self._callbacks:
            self._callbacks.remove(self._listening)
        self._listening = None
        if on:

            def hear(_viewer: Any, event: Any) -> None:
                self.clicked.emit(event.position)

            self._listening = hear
            self._callbacks.append(hear)


def voxel_at(layer: Any, position: Any) -> tuple[int, ...]:
    """The voxel of a layer at a place in the world."""
    return tuple(int(np.floor(x + 0.5)) for x in layer.world_to_data(position))


def diverging_colours() -> Any:
    """Blue shrinks, dark rests, orange grows."""
    from napari.utils import Colormap

    return Colormap(np.array(_DIVERGING), name="shrink to grow")


def speed_of_slice(
    source: Any, mode: str, region: Region, on_show: Region, parameters: LevelSetParameters
) -> tuple[NDArray[Any], Region]:
    """The speed of the part of a region that lies in the slice on show, exactly as the run will have it.

    A volume is blurred and differentiated through slices, so the neighbours that the blur reaches are read too.

    Returns
    -------
    values : ndarray of shape (y, x)
        Of the slice.
    place : tuple of slice or int
        Where it lies in the source.
    """
    from src_models.levelset.speed import speed_image

    volume = describe_layer(source)
    place, slab, at = _slab(volume, region, on_show, _reach(parameters))
    if mode == "slice" or at is None:
        return speed_image(read_region(source, place), volume.spacing_of(place), parameters), place
    values = speed_image(read_region(source, slab), volume.spacing_of(slab), parameters)
    return values[at], place


def slice_in(region: Region, on_show: Region) -> tuple[Region, tuple[slice, ...]]:
    """Where the slice on show lies in the source, and as a box of the region's array.

    Raises
    ------
    InputError
        Where it lies outside the region.
    """
    place: list[slice | int] = []
    box: list[slice] = []
    for part, shown in zip(region, on_show, strict=True):
        place.append(part if isinstance(shown, slice) else shown)
        if not isinstance(part, slice):
            continue
        if isinstance(shown, slice):
            box.append(slice(0, part.stop - part.start))
        elif part.start <= shown < part.stop:
            box.append(slice(shown - part.start, shown - part.start + 1))
        else:
            raise InputError("slice-outside-box", "The slice on show lies outside the box", "", "Move the slider.")
    return tuple(place), tuple(box)


def _reach(parameters: LevelSetParameters) -> float:
    """How far in mm the speed of a voxel looks."""
    sigma = parameters.sigma
    return 4 * (max(sigma) if isinstance(sigma, tuple) else sigma)


def _slab(
    volume: LayerVolume, region: Region, on_show: Region, reach: float
) -> tuple[Region, Region, tuple[slice | int, ...] | None]:
    """The slice on show, the slab around it within the region, and where the slice lies in the slab."""
    spacing = dict(zip(volume.spatial_axes, volume.spacing, strict=True))
    place: list[slice | int] = []
    slab: list[slice | int] = []
    at: list[slice | int] = []
    through = False
    for axis, (part, shown) in enumerate(zip(region, on_show, strict=True)):
        if not isinstance(part, slice):
            place.append(part)
            slab.append(part)
        elif isinstance(shown, slice):
            place.append(part)
            slab.append(part)
            at.append(slice(None))
        else:
            if not part.start <= shown < part.stop:
                raise InputError("slice-outside-box", "The slice on show lies outside the box", "", "Move the slider.")
            margin = math.ceil(reach / spacing[axis]) + 1
            start = max(part.start, shown - margin)
            place.append(shown)
            slab.append(slice(start, min(part.stop, shown + margin + 1)))
            at.append(shown - start)
            through = True
    return tuple(place), tuple(slab), tuple(at) if through else None


def contrast_at(
    source: Any,
    region: Region,
    index: tuple[int, ...],
    value_range: tuple[float, float],
    parameters: LevelSetParameters,
) -> float:
    """The edge contrast that makes the speed one half at a voxel: its gradient over the grey-value range.

    Parameters
    ----------
    source : Image
        The layer.
    region : tuple of slice or int
        Of the run; a pinned axis takes no part in the gradient.
    index : tuple of int
        The voxel, one index per data axis.
    value_range : tuple of float
        Smallest and largest value of the region.
    parameters : LevelSetParameters
        For the blur.

    Raises
    ------
    InputError
        Where there is no edge, or the voxel lies outside.
    """
    from src_models.levelset.speed import gradient_magnitude

    volume = describe_layer(source)
    reach = _reach(parameters)
    spacing = dict(zip(volume.spatial_axes, volume.spacing, strict=True))
    around: list[slice | int] = []
    at: list[int] = []
    for axis, part in enumerate(region):
        if not isinstance(part, slice):
            around.append(part)
            continue
        if not part.start <= index[axis] < part.stop:
            raise InputError("click-outside", "The click is outside the image or its box", "", "Click on an edge.")
        margin = math.ceil(reach / spacing[axis]) + 1
        start = max(part.start, index[axis] - margin)
        around.append(slice(start, min(part.stop, index[axis] + margin + 1)))
        at.append(index[axis] - start)
    place = tuple(around)
    slope = float(gradient_magnitude(read_region(source, place), volume.spacing_of(place), parameters.sigma)[tuple(at)])
    span = value_range[1] - value_range[0]
    if span <= 0 or slope / span < 1e-6:
        raise InputError(
            "click-flat", "There is no edge where you clicked", "", "Click on the border of the structure."
        )
    return slope / span
