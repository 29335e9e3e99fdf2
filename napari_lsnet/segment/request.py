"""What a prediction needs, read from the layer once, before it begins."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_lsnet.layers import LayerVolume, describe_layer, read_region, region_for
from napari_lsnet.model_list import ModelChoice
from napari_lsnet.placed_record import beside, placed
from napari_lsnet.regions import boxed, whole_region
from napari_lsnet.seeds import points_in_region
from napari_lsnet.transforms import Region
from src_models.errors import InputError
from src_models.geometry import StoredOrder
from src_models.inference.parameters import PredictionParameters
from src_models.progress import Progress

if TYPE_CHECKING:
    from src_models.inference.prediction import Prediction
    from src_models.record import Record
    from src_models.weights.card import ModelCard

_PLANES = 3


@dataclass(frozen=True, eq=False)
class Request:
    """Everything a prediction is made from; nothing in it changes when layers do.

    Attributes
    ----------
    source : Image
        The layer; only its place is asked for.
    volume : LayerVolume
        What it held.
    region : tuple of slice or int
        Of the layer; results lie on it. Time points are a slice where all of them are wanted.
    image : ndarray of shape (t, C, z, y, x), without the axes that there are not
        A copy.
    series : bool
        Whether the first axis is time.
    choice : ModelChoice
        The model.
    parameters : PredictionParameters
        How.
    points : tuple of tuple of float
        Clicks in mm from the centre of the first voxel of the region, for a model that begins at one.
    watched : bool
        Whether the level set of a level set network is told after every step.
    stop : threading.Event
        Set to end a window that takes long.
    """

    source: Any
    volume: LayerVolume
    region: Region
    image: NDArray[Any]
    series: bool
    choice: ModelChoice
    parameters: PredictionParameters
    points: tuple[tuple[float, ...], ...] = ()
    watched: bool = False
    stop: threading.Event = field(default_factory=threading.Event)

    @property
    def spacing(self) -> tuple[float, ...]:
        """Of the axes in space that the network sees."""
        return space_of(self.volume, self.region)[1]

    @property
    def order(self) -> StoredOrder | None:
        """How these axes lie in the file of the image, where that is known."""
        return order_in_file(self.source, self.volume, self.region)

    @property
    def path(self) -> Path | None:
        """The file of the image, if it has one."""
        found = getattr(self.source.source, "path", None)
        return None if not found else Path(found)

    def make(self) -> Generator[Progress, Any, Prediction]:
        """The generator of the run; called in the worker, because it imports torch."""
        from src_models.processor import let_waiting_threads_sleep

        let_waiting_threads_sleep()
        yield Progress(phase="load", message="Loading the model...")
        from src_models.inference.predict import predict, predict_series
        from src_models.weights.store import load

        models = tuple(load(path) for path in self.choice.paths)
        work: Callable[..., Generator[Progress, Any, Prediction]] = predict_series if self.series else predict
        if self.watched:
            from src_models.inference.lsn_steps import predict_steps

            work = predict_steps
        return (
            yield from work(
                models,
                self.image,
                self.spacing,
                self.parameters,
                unit=self.volume.unit,
                value_unit=value_unit(self.source),
                stored_order=self.order,
                points=self.points,
                interrupt=self.stop.is_set,
            )
        )

    def complete(self, record: Record) -> Record:
        """The record of the run with the place of the image and of its region."""
        return placed(record, self.source, self.region, self.volume.shape)

    def record_for(self, record: Record, folder: Path) -> Record:
        """The same, to be saved in a folder: it points to the image by a relative path, where there is a file."""
        return beside(self.complete(record), self.path, folder)


def read_request(
    source: Any,
    dims: Any,
    mode: str,
    box: tuple[slice, ...] | None,
    choice: ModelChoice,
    parameters: PredictionParameters,
    clicks: Any = None,
    *,
    watched: bool = False,
) -> Request:
    """Read the image from its layer, and the clicks from theirs.

    Parameters
    ----------
    source : Image
        The layer.
    dims : napari Dims
        Where the sliders stand.
    mode : str
        "volume", "slice", or "series" for all time points.
    box : tuple of slice, optional
        One per axis in space.
    choice : ModelChoice
        The model.
    parameters : PredictionParameters
        How.
    clicks : Points, optional
        For a model that begins at a click.
    watched : bool
        Whether the steps of a level set network are shown.

    Raises
    ------
    InputError, GeometryError
        One sentence each.
    """
    volume = describe_layer(source)
    channels = len(choice.card.preprocessing.channels)
    fault = channel_fault(volume, choice)
    if fault:
        raise InputError("image-channels", fault, "", "Choose another image or model.")
    region = region_of(source, dims, mode, box)
    if volume.rgb:
        image = np.stack([read_region(source, region, channel=k) for k in range(channels)], axis=_times(region, volume))
    else:
        image = _in_order(read_region(source, _with_channels(region, volume, channels)), region, volume, channels)
    points: tuple[tuple[float, ...], ...] = ()
    if choice.card.click is not None:
        points = tuple(tuple(point) for point in points_in_region(clicks, source, region, "clicks"))
    series = _times(region, volume) == 1
    return Request(source, volume, region, image, series, choice, parameters, points, watched)


def region_of(source: Any, dims: Any, mode: str, box: tuple[slice, ...] | None) -> Region:
    """The region of the result; a channel axis is pinned to the channel on show.

    Raises
    ------
    InputError
        Where it is not clear, or the box lies outside.
    """
    volume = describe_layer(source)
    if mode == "series" and "c" not in volume.roles:
        # all of it: where the sliders stand does not matter
        return boxed(whole_region(volume), box, volume)
    region = region_for(source, dims, "slice" if mode == "slice" else "volume")
    if mode == "series":
        region = tuple(
            slice(0, n) if role == "t" else part
            for part, role, n in zip(region, volume.roles, volume.shape, strict=True)
        )
    return boxed(region, box, volume)


def channel_fault(volume: LayerVolume, choice: ModelChoice) -> str:
    """Why the channels of an image do not fit a model, without a full stop; "" where they do."""
    names = [channel.name for channel in choice.card.preprocessing.channels]
    along = [n for n, role in zip(volume.shape, volume.roles, strict=True) if role == "c"]
    if volume.rgb:
        found = 3
    elif len(names) > 1 and along:
        found = along[0]
    else:
        found = 1
    if found == len(names):
        return ""
    kind = "a colour image" if volume.rgb else f"an image of {found} channel{'s' if found != 1 else ''}"
    wanted = f"{len(names)} channel{'s' if len(names) != 1 else ''} ({', '.join(names)})"
    return f"This is {kind}; the model takes {wanted}"


def space_of(volume: LayerVolume, region: Region) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Size and spacing of the axes in space that are not pinned."""
    by_axis = dict(zip(volume.spatial_axes, volume.spacing, strict=True))
    parts = [(axis, region[axis]) for axis in volume.spatial_axes]
    kept = [(axis, part) for axis, part in parts if isinstance(part, slice)]
    return tuple(part.stop - part.start for _, part in kept), tuple(by_axis[axis] for axis, _ in kept)


def order_in_file(source: Any, volume: LayerVolume, region: Region) -> StoredOrder | None:
    """How the axes in space that are not pinned lie in the file of the layer; None where that is not known."""
    order = dict(source.metadata).get("lsnet", {}).get("stored_order")
    if order is None or volume.patient is None or not volume.patient.orientation_known:
        return None
    kept = [k for k, axis in enumerate(volume.spatial_axes) if isinstance(region[axis], slice)]
    whole = StoredOrder(tuple(order["axes"]), tuple(order["flips"]))
    return whole.of_axes(kept) if len(whole.axes) == len(volume.spatial_axes) else None


def space_seen(
    card: ModelCard, order: StoredOrder | None, volume: LayerVolume, region: Region
) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """`space_of` in the order in which the network of a card sees it."""
    from src_models.inference.orientation import turn_for, turned

    shape, spacing = space_of(volume, region)
    turn, _ = turn_for(card.orientation, order, len(shape))
    return turned(turn, shape), turned(turn, spacing)


def sample_of(source: Any, region: Region, channels: int) -> NDArray[Any] | None:
    """A few planes of the image to judge its grey values by; None where reading them is not quick."""
    volume = describe_layer(source)
    if volume.rgb or volume.multiscale or not isinstance(source.data, np.ndarray):
        return None
    taken: list[Any] = [
        part if not isinstance(part, slice) or role in ("z", "y", "x") else (part.start + part.stop) // 2
        for part, role in zip(_with_channels(region, volume, 1), volume.roles, strict=True)
    ]
    view = source.data[tuple(taken)]
    if view.ndim == 3:
        places = sorted({len(view) * k // (_PLANES + 1) for k in range(1, _PLANES + 1)})
        view = view[places]
    return np.repeat(view[None], channels, 0) if channels > 1 else view


def value_unit(source: Any) -> str:
    """Unit of the grey values where the layer says it, such as HU; else nothing."""
    return str(dict(source.metadata).get("lsnet", {}).get("value_unit", "") or "")


def _with_channels(region: Region, volume: LayerVolume, channels: int) -> Region:
    """The region with all of the channel axis, where the model takes several channels."""
    if channels == 1:
        return region
    return tuple(
        slice(0, n) if role == "c" else part for part, role, n in zip(region, volume.roles, volume.shape, strict=True)
    )


def _times(region: Region, volume: LayerVolume) -> int:
    """1 where time points are a slice, else 0: the place of the channels."""
    return int(any(isinstance(p, slice) and r == "t" for p, r in zip(region, volume.roles, strict=True)))


def _in_order(array: NDArray[Any], region: Region, volume: LayerVolume, channels: int) -> NDArray[Any]:
    """Time first, then channels, then space, whatever the order of the layer."""
    roles = [
        role
        for part, role in zip(_with_channels(region, volume, channels), volume.roles, strict=True)
        if isinstance(part, slice)
    ]
    first = {"t": 0, "c": 1}
    order = sorted(range(len(roles)), key=lambda axis: (first.get(roles[axis], 2), axis))
    return np.ascontiguousarray(array.transpose(order))


def in_layer_order(array: NDArray[Any], region: Region, volume: LayerVolume) -> NDArray[Any]:
    """A result (t, z, y, x) with its axes in the order of the layer."""
    roles: Sequence[str] = [r for p, r in zip(region, volume.roles, strict=True) if isinstance(p, slice)]
    if "t" not in roles:
        return array
    return np.moveaxis(array, 0, roles.index("t"))
