"""What a prediction needs, read from the layer once, before it begins."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from napari_lsnet.layers import LayerVolume, describe_layer
from napari_lsnet.model_list import ModelChoice
from napari_lsnet.network_image import (
    channel_fault,
    order_in_file,
    read_image,
    region_of,
    space_of,
    time_axes,
    value_unit,
)
from napari_lsnet.placed_record import beside, placed
from napari_lsnet.seeds import points_in_region
from napari_lsnet.transforms import Region
from src_models.errors import InputError
from src_models.geometry import StoredOrder
from src_models.inference.parameters import PredictionParameters
from src_models.progress import Progress

if TYPE_CHECKING:
    from src_models.inference.prediction import Prediction
    from src_models.record import Record


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
    fault = channel_fault(volume, choice.card)
    if fault:
        raise InputError("image-channels", fault, "", "Choose another image or model.")
    region = region_of(source, dims, mode, box)
    image = read_image(source, region, channels)
    points: tuple[tuple[float, ...], ...] = ()
    if choice.card.click is not None:
        points = tuple(tuple(point) for point in points_in_region(clicks, source, region, "clicks"))
    series = time_axes(region, volume) == 1
    return Request(source, volume, region, image, series, choice, parameters, points, watched)
