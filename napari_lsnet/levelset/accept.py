"""Accept a result into a labels layer: other labels stay as they are, and one click takes it back."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_lsnet.layers import LABELS_IN_3D, result_arguments, result_array
from napari_lsnet.regions import whole_region
from napari_lsnet.seeds import matching_region
from napari_lsnet.transforms import Region
from src_models.errors import InputError

if TYPE_CHECKING:
    from napari.components import LayerList, ViewerModel
    from napari.layers import Labels

    from napari_lsnet.levelset.request import Request
    from src_models.levelset.evolution import LevelSetResult

WHOLE_LAYER_LIMIT = 2**30
"""Bytes up to which a new layer covers all of the image; above, only the region of the run."""


@dataclass(frozen=True, eq=False)
class Accepted:
    """What was written, kept small, so that it can be taken back.

    Attributes
    ----------
    layer : Labels
        Where it was written.
    value : int
        The label.
    written : int
        Voxels that became the label.
    kept : int
        Voxels of the result that belong to other labels and were left alone.
    is_new : bool
        Whether the layer was made for it.
    """

    layer: Any
    value: int
    written: int
    kept: int
    is_new: bool
    _box: tuple[slice | int, ...]
    _shape: tuple[int, ...]
    _changed: bytes
    _features: Any
    _metadata: dict[str, Any]

    def cleared(self, part: NDArray[Any]) -> NDArray[Any]:
        """The part of the layer without what was written and is still there."""
        packed = np.frombuffer(zlib.decompress(self._changed), np.uint8)
        changed = np.unpackbits(packed, count=int(np.prod(self._shape))).astype(bool).reshape(self._shape)
        return np.where(changed & (part == self.value), 0, part).astype(part.dtype)

    @property
    def what(self) -> str:
        """In words."""
        return f"label {self.value}"

    def take_back(self, layers: LayerList) -> None:
        """Set the voxels that were written, and still hold the label, to background again."""
        if self.layer not in layers:
            raise InputError(
                "undo-layer", "There is nothing to take back", "the layer was removed", "Accept into another layer."
            )
        data = self.layer.data
        data[self._box] = self.cleared(np.asarray(data[self._box]))
        self.layer.metadata = self._metadata
        self.layer.features = self._features
        if self.is_new and not np.any(np.asarray(data)):
            layers.remove(self.layer)
        else:
            self.layer.refresh()


def accept_into_new(viewer: ViewerModel, request: Request, result: LevelSetResult, name: str, value: int) -> Accepted:
    """Make a labels layer on the source and write the result into it."""
    labels = new_target(viewer, request, result.mask.shape, name, value)
    return _write(labels, request, result, value, is_new=True)


def new_target(viewer: ViewerModel, request: Request, shape: tuple[int, ...], name: str, largest: int) -> Labels:
    """A labels layer on the source that can hold labels up to `largest`; `shape` is that of the run's array."""
    region, whole = request.region, whole_region(request.volume)
    dtype = np.uint8 if largest < 256 else np.uint16 if largest < 65536 else np.int32
    if int(np.prod(request.volume.shape, dtype=np.int64)) * np.dtype(dtype).itemsize <= WHOLE_LAYER_LIMIT:
        data = np.zeros(request.volume.shape, dtype)
        region_of_layer = whole
    else:
        data = result_array(region, np.zeros(shape, dtype)).copy()
        region_of_layer = region
    return viewer.add_labels(data, name=name, **LABELS_IN_3D, **result_arguments(request.source, region_of_layer))


def accept_into(labels: Labels, request: Request, result: LevelSetResult, value: int) -> Accepted:
    """Write a result into a layer that the person named; only background becomes the label.

    Raises
    ------
    GeometryError
        Where the layer does not lie on the voxels of the image.
    InputError
        Where the layer cannot hold the label or cannot be written to, or no voxel of it would change.
    """
    return _write(labels, request, result, value, is_new=False)


def _write(labels: Any, request: Request, result: LevelSetResult, value: int, *, is_new: bool) -> Accepted:
    box, part = writable_part(labels, request, value)
    mask = result.mask
    changed = mask & (part == 0)
    refuse_nothing(labels, changed)
    before = (labels.features.copy(), dict(labels.metadata))
    written_into(labels, box, np.where(changed, np.asarray(value, part.dtype), part))
    accepted = Accepted(
        layer=labels,
        value=value,
        written=int(changed.sum()),
        kept=int((mask & (part != 0) & (part != value)).sum()),
        is_new=is_new,
        _box=box,
        _shape=mask.shape,
        _changed=zlib.compress(np.packbits(changed).tobytes(), 1),
        _features=before[0],
        _metadata=before[1],
    )
    _describe(labels, request, result, value, box)
    labels.refresh()
    return accepted


def writable_part(labels: Any, request: Request, largest: int) -> tuple[Region, NDArray[Any]]:
    """Where the run lies in a labels layer, and what is there; refuses a layer that cannot hold the largest label."""
    if labels.multiscale:
        raise InputError("accept-multiscale", "A multiscale layer cannot be changed", "", "Accept into a new layer.")
    if not 0 < largest <= _largest(labels.data.dtype):
        raise InputError(
            "accept-value",
            f"This layer cannot hold the label {largest}",
            f"its largest is {_largest(labels.data.dtype)}",
            "Choose a smaller label, or accept into a new layer.",
        )
    box = matching_region(labels, request.source, request.region)
    return box, np.asarray(labels.data[box])


def refuse_nothing(labels: Any, changed: NDArray[Any]) -> None:
    """Where no voxel would change, say so, and leave the record of what is there."""
    if not changed.any():
        raise InputError(
            "accept-nothing",
            "Nothing was written",
            f"every voxel inside has a label in {labels.name!r} already",
            "Undo the last Accept first, or accept into a new layer.",
        )


def written_into(labels: Any, box: Region, values: NDArray[Any]) -> None:
    """Write a part of a layer."""
    try:
        labels.data[box] = values
    except (TypeError, ValueError, NotImplementedError) as error:
        raise InputError(
            "accept-read-only", "This layer cannot be written to", "", "Accept into a new layer."
        ) from error


def _largest(dtype: np.dtype[Any]) -> int:
    return 1 if dtype.kind == "b" else int(np.iinfo(dtype).max)


def _describe(labels: Any, request: Request, result: LevelSetResult, value: int, box: Region) -> None:
    """The record into the metadata, the size into the features."""
    record = request.complete(result.record).model_dump(mode="json")
    content = dict(dict(labels.metadata).get("lsnet", {}))
    content["record"] = record
    content["records"] = {**content.get("records", {}), str(value): record}
    labels.metadata = {**labels.metadata, "lsnet": content}
    labels.features = with_row(labels.features, value, label_sizes(labels, request, value, box))


def label_sizes(labels: Any, request: Request, value: int, box: Region) -> dict[str, float]:
    """Voxels and volume of a label, in the frame that was worked on."""
    spatial = request.volume.spatial_axes
    lead = request.source.ndim - labels.ndim
    frame = tuple(
        slice(None) if axis + lead in spatial or isinstance(part, slice) else part for axis, part in enumerate(box)
    )
    count = int((np.asarray(labels.data[frame]) == value).sum())
    sizes: dict[str, float] = {"voxels": count}
    if request.volume.spacing_known:
        voxel = float(np.prod(request.volume.spacing))
        three = len(spatial) == 3
        sizes["volume (ml)" if three else "area (mm2)"] = count * voxel / (1000.0 if three else 1.0)
    return sizes


def with_row(features: Any, value: int, sizes: dict[str, float]) -> dict[str, list[Any]]:
    """A table, as columns, with the row of a label replaced or added."""
    rows = [] if "index" not in features else features[features["index"] != value].to_dict("records")
    rows = sorted([*rows, {"index": value, **sizes}], key=lambda row: row["index"])
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name, float("nan")) for row in rows] for name in names}
