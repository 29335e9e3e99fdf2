"""Image and start read from their layers: what a run begins with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_lsnet.layers import LayerVolume, describe_layer, read_region, region_for
from napari_lsnet.levelset.labels_request import LabelsRequest, read_labels
from napari_lsnet.levelset.request import Request, Start
from napari_lsnet.regions import boxed
from napari_lsnet.seeds import labels_to_mask, points_to_seeds, shapes_to_seeds
from napari_lsnet.transforms import Region
from src_models.errors import InputError
from src_models.levelset.parameters import LevelSetParameters

if TYPE_CHECKING:
    from src_models.levelset.initial import Seeds


def read_request(
    source: Any,
    dims: Any,
    extent: str,
    box: tuple[slice, ...] | None,
    start: Start,
    parameters: LevelSetParameters,
) -> Request:
    """Read image and start from their layers.

    Parameters
    ----------
    source : Image or None
        The image.
    dims : napari Dims
        Where the sliders stand.
    extent : "volume" or "slice"
        All of the image, or the slice on show.
    box : tuple of slice, optional
        One per axis in space.
    start : Start
        What was drawn.
    parameters : LevelSetParameters
        Of the run.

    Raises
    ------
    InputError, GeometryError
        One sentence each.
    """
    volume = describe_layer(source)
    region = boxed(region_for(source, dims, extent), box, volume)  # type: ignore[arg-type]
    if start.several and start.kind == "labels":
        labels = read_labels(start.layer, source, region)
        return LabelsRequest(source, volume, region, read_region(source, region), labels, start, parameters)
    initial = read_start(start, source, region, volume)
    return Request(source, volume, region, read_region(source, region), initial, start, parameters)


def read_start(start: Start, source: Any, region: Region, volume: LayerVolume) -> NDArray[Any] | Seeds:
    """The seeds of a region, as `evolve` takes them."""
    if start.layer is None:
        raise InputError(
            "start-none", "There is nothing to start from", "", "Click a point or paint inside the structure."
        )
    initial: NDArray[Any] | Seeds
    if start.kind == "points":
        initial = _rounded(points_to_seeds(start.layer, source, region, start.radius))
    elif start.kind == "shapes":
        initial = shapes_to_seeds(start.layer, source, region, start.radius)
    else:
        initial = labels_to_mask(start.layer, source, region, value=start.label)
    return complement(initial, region, volume) if start.swapped else initial


def _rounded(seeds: Seeds) -> Seeds:
    """Places to the nanometre: turned to the axes of a file and back they are the same numbers."""
    spheres = tuple(
        ball.model_copy(update={"centre": tuple(round(x, 6) for x in ball.centre), "radius": round(ball.radius, 6)})
        for ball in seeds.spheres
    )
    return seeds.model_copy(update={"spheres": spheres})


def complement(initial: NDArray[Any] | Seeds, region: Region, volume: LayerVolume) -> NDArray[Any]:
    """Inside and outside exchanged: a mask, or u of the seeds with its sign turned."""
    if isinstance(initial, np.ndarray):
        turned: NDArray[Any] = initial == 0
        return turned
    from src_models.levelset.initial import from_seeds

    shape = tuple(part.stop - part.start for part in region if isinstance(part, slice))
    return -from_seeds(initial, shape, volume.spacing_of(region))[0]
