"""An image layer as a network takes it: which part, its channels in front, and what does not fit a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_lsnet.layers import LayerVolume, describe_layer, read_region, region_for
from napari_lsnet.regions import boxed, whole_region
from napari_lsnet.transforms import Region
from src_models.geometry import StoredOrder

if TYPE_CHECKING:
    from src_models.weights.card import ModelCard

_PLANES = 3


def read_image(source: Any, region: Region, channels: int) -> NDArray[Any]:
    """A copy of a region of a layer, (t, C, z, y, x), without the axes that there are not.

    Parameters
    ----------
    source : Image
        The layer.
    region : tuple of slice or int
        From `region_of`.
    channels : int
        That the network takes.
    """
    volume = describe_layer(source)
    if volume.rgb:
        parts = [read_region(source, region, channel=k) for k in range(channels)]
        return np.stack(parts, axis=time_axes(region, volume))
    return _in_order(read_region(source, _with_channels(region, volume, channels)), region, volume, channels)


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


def channel_fault(volume: LayerVolume, card: ModelCard) -> str:
    """Why the channels of an image do not fit a model, without a full stop; "" where they do."""
    names = [channel.name for channel in card.preprocessing.channels]
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


def time_axes(region: Region, volume: LayerVolume) -> int:
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
