"""Parts of an image to work on: all of it, or a box."""

from __future__ import annotations

from napari_lsnet.layers import LayerVolume
from napari_lsnet.transforms import Region
from src_models.errors import InputError


def whole_region(volume: LayerVolume) -> Region:
    """All of an image, every time point and channel too: what a layer drawn on it covers."""
    return tuple(slice(0, n) for n in volume.shape)


def boxed(region: Region, box: tuple[slice, ...] | None, volume: LayerVolume) -> Region:
    """A region cut down to a box with one slice per axis in space; pinned axes stay.

    Raises
    ------
    InputError
        Where nothing is left.
    """
    if box is None:
        return region
    by_axis = dict(zip(volume.spatial_axes, box, strict=True))
    cut: list[slice | int] = []
    for axis, part in enumerate(region):
        if isinstance(part, slice) and axis in by_axis:
            wanted = by_axis[axis]
            start, stop = max(part.start, wanted.start), min(part.stop, wanted.stop)
            if start >= stop:
                raise InputError(
                    "box-empty", "The box lies outside the image", "", "Draw it on the image, or clear it."
                )
            cut.append(slice(start, stop))
        else:
            cut.append(part)
    return tuple(cut)
