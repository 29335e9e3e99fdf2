"""The part of the person's image that a network is shown, copied, and turned as the network sees it. No Qt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_lsnet.layers import describe_layer
from napari_lsnet.network_image import channel_fault, order_in_file, read_image, region_of, space_of
from napari_lsnet.transforms import Region, level_factors, level_of
from src_models.errors import InputError
from src_models.geometry import StoredOrder

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from numpy.typing import NDArray

    from src_models.kernels.sources import Source


@dataclass(frozen=True, eq=False)
class SeenImage:
    """What is shown; nothing in it changes when layers do.

    Attributes
    ----------
    image : Image
        The layer of the person; only its place is asked for.
    region : tuple of slice or int
        Of it.
    content : ndarray of shape (C, z, y, x) or (C, y, x)
        A copy, turned as the network sees it.
    spacing, unit : tuple of float, str
        Of its axes in space.
    turn : StoredOrder
        From the axes of the layer to those that the network sees.
    """

    image: Any
    region: Region
    content: NDArray[Any]
    spacing: tuple[float, ...]
    unit: str
    turn: StoredOrder

    @property
    def size(self) -> tuple[int, ...]:
        """Of the axes in space, as they are in the layer."""
        return tuple(self.content.shape[1 + axis] for axis in self.turn.axes)

    def turned(self, place: Sequence[float]) -> tuple[float, ...]:
        """A place in voxels of the region, as the network sees it."""
        flipped = [n - 1 - c if flip else c for c, n, flip in zip(place, self.size, self.turn.flips, strict=True)]
        return tuple(flipped[self.turn.axes.index(axis)] for axis in range(len(flipped)))


def seen_by(viewer: ViewerModel, source: Source, image: Any) -> SeenImage:
    """Read what a network is shown of a layer: the slice on show for a 2D network, else the volume.

    Raises
    ------
    InputError, GeometryError
        One sentence each.
    """
    network, card = known_network(source)
    volume = describe_layer(image)
    fault = channel_fault(volume, card)
    if fault:
        raise InputError("image-channels", fault, "", "Choose another image or model.")
    three = len(volume.spatial_axes) == 3
    if network.ndim == 3 and not three:
        raise InputError("features-axes", "This network takes volumes, the image is a picture", "", "Choose a volume.")
    region = region_of(image, viewer.dims, "slice" if network.ndim == 2 and three else "volume", None)
    content = read_image(image, region, len(card.preprocessing.channels))
    size, _ = space_of(volume, region)
    if content.ndim == len(size):
        content = content[None]
    turn, spacing = turn_of(card, image, region)
    return SeenImage(image, region, np.ascontiguousarray(turn.store(content)), spacing, volume.unit, turn)


def turn_of(card: Any, image: Any, region: Region) -> tuple[StoredOrder, tuple[float, ...]]:
    """How a region of a layer is turned for a model, and the spacing of the axes that its network sees."""
    from src_models.inference.orientation import turn_for, turned

    volume = describe_layer(image)
    size, spacing = space_of(volume, region)
    turn, _ = turn_for(card.orientation, order_in_file(image, volume, region), len(size))
    return turn, turned(turn, spacing)


def known_network(source: Source) -> tuple[Any, Any]:
    """The network and its card.

    Raises
    ------
    InputError
        Where there are tensors alone.
    """
    if source.network is None or source.card is None:
        raise InputError(
            "kernels-no-network",
            "These are tensors without their network",
            "so they cannot be run on an image",
            "Import the model under Manage models, and choose it here.",
        )
    return source.network, source.card


def voxel_at(image: Any, region: Region, world: Any) -> tuple[float, ...]:
    """A place in the world in voxels of a region, along its axes in space that are not pinned; it may lie outside."""
    point = np.asarray(image.world_to_data(world), float)[-image.ndim :]
    point = point / level_factors(image, level_of(image))
    volume = describe_layer(image)
    return tuple(
        float(place - part.start)
        for axis, (place, part) in enumerate(zip(point, region, strict=True))
        if isinstance(part, slice) and axis in volume.spatial_axes
    )
