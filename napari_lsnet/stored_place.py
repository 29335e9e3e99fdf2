"""Places in a layer as the file of its image counts them: what points on a command line are written in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from napari_lsnet.layers import LayerVolume
from napari_lsnet.transforms import Region
from src_models.geometry import StoredOrder


def stored_order(source: Any, volume: LayerVolume) -> StoredOrder:
    """How the array of a layer relates to that of its file, or of the one it will be saved to."""
    content: Mapping[str, Any] = dict(source.metadata).get("lsnet", {}).get("stored_order") or {}
    if not content:
        return StoredOrder.identity(len(volume.spatial_axes))
    return StoredOrder(tuple(content["axes"]), tuple(content["flips"]))


def stored_point(volume: LayerVolume, region: Region, centre: Sequence[float], order: StoredOrder) -> list[float]:
    """A point of the region, in mm from the centre of the file's first voxel along the file's axes."""
    inner = iter(centre)
    presented = []
    for axis, h in zip(volume.spatial_axes, volume.spacing, strict=True):
        part = region[axis]
        presented.append(part.start * h + next(inner) if isinstance(part, slice) else part * h)
    stored = [0.0] * len(presented)
    for k, axis in enumerate(order.axes):
        last = (volume.shape[volume.spatial_axes[k]] - 1) * volume.spacing[k]
        stored[axis] = last - presented[k] if order.flips[k] else presented[k]
    return stored
