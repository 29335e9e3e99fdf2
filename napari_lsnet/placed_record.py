"""The record of a run on a layer, with the place of the image and of the region that was worked on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_lsnet.layers import patient_grid

if TYPE_CHECKING:
    from src_models.record import Record


def placed(record: Record, source: Any, region: tuple[slice | int, ...], shape: tuple[int, ...]) -> Record:
    """A record with the region inside an image of a shape, and the image's place in the patient where it is known."""
    if record.source is None:
        return record
    grid = patient_grid(source)
    whole = all(part == slice(0, n) for part, n in zip(region, shape, strict=True))
    parts = [(part.start, part.stop) if isinstance(part, slice) else part for part in region]
    update: dict[str, Any] = {"region": None if whole else parts}
    if grid is not None and grid.orientation_known:
        update["index_to_patient"] = grid.index_to_patient.tolist()
    return record.model_copy(update={"source": record.source.model_copy(update=update)})


def beside(record: Record, path: Path | None, folder: Path) -> Record:
    """The record to be saved in a folder: it points to the image by a relative path, where there is a file."""
    local = {} if path is None else {"source": os.path.relpath(path, folder)}
    return record.model_copy(update={"local": local})
