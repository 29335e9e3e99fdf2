"""Accept several labels at once into one layer; one click takes all of them back."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_lsnet.levelset.accept import (
    Accepted,
    label_sizes,
    new_target,
    refuse_nothing,
    with_row,
    writable_part,
    written_into,
)
from src_models.errors import InputError

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_lsnet.levelset.labels_request import LabelsRequest
    from src_models.levelset.coupled import LabelsResult


@dataclass(frozen=True, eq=False)
class AcceptedLabels(Accepted):
    """What was written: every label where it is now."""

    def cleared(self, part: NDArray[Any]) -> NDArray[Any]:
        """The part of the layer without what was written and is still there."""
        written = np.frombuffer(zlib.decompress(self._changed), part.dtype).reshape(self._shape)
        return np.where(written == part, 0, part).astype(part.dtype)

    @property
    def what(self) -> str:
        """In words."""
        return "all labels"


def accept_labels(
    viewer: ViewerModel, target: Any, request: LabelsRequest, result: LabelsResult, name: str
) -> AcceptedLabels:
    """Write every label with its own number; only background is written to.

    Parameters
    ----------
    viewer : ViewerModel
        For a new layer.
    target : Labels or None
        The layer that the person named; None for a new one.
    request, result : LabelsRequest and LabelsResult
        The run.
    name : str
        Of a new layer.

    Raises
    ------
    GeometryError
        Where the layer does not lie on the voxels of the image.
    InputError
        Where nothing is inside, the layer cannot hold a label or be written to, or no voxel of it would change.
    """
    values = result.labels
    if not values.any():
        raise InputError("accept-empty", "Nothing is inside", "", "Rewind and start from larger seeds.")
    largest = int(values.max())
    labels = new_target(viewer, request, values.shape, name, largest) if target is None else target
    box, part = writable_part(labels, request, largest)
    changed = np.where(part == 0, values.astype(part.dtype), 0)
    refuse_nothing(labels, changed)
    before = (labels.features.copy(), dict(labels.metadata))
    written_into(labels, box, np.where(changed != 0, changed, part))
    accepted = AcceptedLabels(
        layer=labels,
        value=largest,
        written=int(np.count_nonzero(changed)),
        kept=int(((values != 0) & (part != 0) & (part != values)).sum()),
        is_new=target is None,
        _box=box,
        _shape=values.shape,
        _changed=zlib.compress(np.ascontiguousarray(changed).tobytes(), 1),
        _features=before[0],
        _metadata=before[1],
    )
    record = request.complete(result.record).model_dump(mode="json")
    content = dict(dict(labels.metadata).get("lsnet", {}))
    content["record"] = record
    content["records"] = {**content.get("records", {}), **{str(k): record for k in result.reports}}
    labels.metadata = {**labels.metadata, "lsnet": content}
    for number in result.reports:
        labels.features = with_row(labels.features, number, label_sizes(labels, request, number, box))
    labels.refresh()
    return accepted
