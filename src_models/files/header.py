"""What every reader finds out before it touches the voxels, and how voxels become a `Volume`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_models.files.gate import unreadable
from src_models.geometry import Grid, Segment, Segmentation, StoredOrder, Volume, present_grid, presenting_order
from src_models.record import content_hash


@dataclass(frozen=True, kw_only=True)
class FileHeader:
    """The header of an image file, checked.

    Attributes
    ----------
    path : Path
        The file.
    format : str
        Name of the format, as people know it.
    grid : Grid
        Of the stored axes, slowest first.
    dtype : numpy.dtype
        Of the stored values.
    leading_axis : str
        "" for none, "t" for time, "c" for channels.
    leading_length : int
        Time points or channels.
    channels_last : bool
        Whether the channels of one voxel lie side by side in the file.
    load : callable
        Gives the stored array: (z, y, x), with time in front, or with channels in front or last.
    scale : tuple of float or None
        Slope and intercept that the file asks for; None for none.
    time_step : float or None
        Seconds between time points.
    labels : bool
        Whether the file says that its numbers are labels.
    geometry : mapping
        What a writer of this format needs to put a mask on exactly this grid. Numbers and codes only.
    notes : tuple of str
        What had to be decided, in words.
    """

    path: Path
    format: str
    grid: Grid
    dtype: np.dtype[Any]
    load: Callable[[], NDArray[Any]]
    leading_axis: str = ""
    leading_length: int = 1
    channels_last: bool = False
    scale: tuple[float, float] | None = None
    time_step: float | None = None
    labels: bool = False
    geometry: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def kept(self) -> dict[str, Any]:
        """What goes along with the array, so that a mask can be written on exactly this grid."""
        place = {"matrix": self.grid.index_to_patient.tolist(), "orientation_known": self.grid.orientation_known}
        return {**self.geometry, **place}

    @property
    def order(self) -> StoredOrder:
        """How the stored axes are presented; pictures and files without a known side stay as they are."""
        if self.grid.ndim == 2 or not self.grid.orientation_known:
            return StoredOrder.identity(self.grid.ndim)
        return presenting_order(self.grid.index_to_patient)


def volume_from(header: FileHeader) -> Volume:
    """Read the voxels behind a header as an image."""
    stored, digest = _stored_array(header)
    if header.scale is not None:
        stored = _scaled(stored, *header.scale)
    return Volume(
        header.order.present(stored),
        present_grid(header.grid, header.order),
        leading_axis=header.leading_axis,
        time_step=header.time_step,
        stored_order=header.order,
        header=header.kept,
        source_hash=digest,
        notes=header.notes,
    )


def segmentation_from(header: FileHeader) -> Segmentation:
    """Read the voxels behind a header as labels: whole numbers, never scaled.

    Raises
    ------
    FileError
        Where the values are colours or no whole numbers.
    """
    choose = "Choose a file that holds label numbers."
    if header.leading_axis == "c":
        raise unreadable("labels-colour", header.path, "a colour image holds no label numbers", choose)
    stored, digest = _stored_array(header)
    notes = header.notes
    if header.scale is not None:
        notes += ("The file asks to scale its values; label numbers are taken as they are stored.",)
    labels, note = as_labels(stored)
    if labels is None:
        raise unreadable("labels-fraction", header.path, f"label numbers are whole, but it holds {note}", choose)
    values = [int(value) for value in np.unique(labels) if value]
    return Segmentation(
        header.order.present(labels),
        present_grid(header.grid, header.order),
        segments=tuple(Segment(value) for value in values[:65536]),
        stored_order=header.order,
        header=header.kept,
        source_hash=digest,
        notes=notes + ((note,) if note else ()),
    )


def kept_geometry(image: Volume | Segmentation, name: str, stored: Grid) -> Mapping[str, Any]:
    """The geometry of the source file, where it had this format and the grid still starts and runs as it did.

    Parameters
    ----------
    image : Volume or Segmentation
        What is written.
    name : str
        Of the format, as in ``geometry["format"]``.
    stored : Grid
        The grid in stored order.
    """
    kept = image.header
    if kept.get("format") != name or "matrix" not in kept:
        return {}
    same = np.allclose(kept["matrix"], stored.index_to_patient, rtol=0, atol=1e-6 * min(stored.spacing))
    return kept if same and bool(kept["orientation_known"]) == stored.orientation_known else {}


def as_labels(array: NDArray[Any]) -> tuple[NDArray[Any] | None, str]:
    """An array as whole numbers without loss and a note on what was changed; None and the reason where it has none."""
    kind = array.dtype.kind
    if kind == "b":
        return array.astype(np.uint8), ""
    if kind in "iu":
        return array, ""
    if kind != "f":
        return None, f"values of type {array.dtype}"
    if not np.isfinite(array).all():
        return None, "values that are not finite"
    if (array != np.rint(array)).any():
        return None, "fractions"
    low, high = (int(array.min()), int(array.max())) if array.size else (0, 0)
    for dtype in (np.uint8, np.uint16, np.uint32, np.int8, np.int16, np.int32, np.int64):
        if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
            return array.astype(dtype), "The labels were stored as fractions; all of them are whole numbers."
    return None, "numbers beyond 64 bits"


def _stored_array(header: FileHeader) -> tuple[NDArray[Any], str]:
    stored = header.load()
    digest = hashlib.sha256(content_hash(stored).encode())
    digest.update(header.grid.index_to_patient.tobytes())
    return np.moveaxis(stored, -1, 0) if header.channels_last else stored, digest.hexdigest()


def _scaled(stored: NDArray[Any], slope: float, intercept: float) -> NDArray[Any]:
    """Values in the file's unit: whole numbers stay whole, and float32 is used where it holds every stored value."""
    small = stored.dtype.itemsize <= 2 or stored.dtype == np.float32
    if stored.dtype.kind in "iu" and slope == 1 and intercept == int(intercept) and abs(intercept) < 2**30 and small:
        return stored.astype(np.int32) + np.int32(intercept)
    if stored.dtype.kind == "c":
        with np.errstate(all="ignore"):
            return stored * slope + intercept
    with np.errstate(all="ignore"):
        # What overflows becomes infinite, which whoever works with the values counts and tells.
        values: NDArray[Any] = stored.astype(np.float32 if small else np.float64)
        values *= slope
        values += intercept
    return values
