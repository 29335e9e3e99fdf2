"""Prepared cases on disk: one memory-mapped image and label file per case, shared by workers and by runs.

A file is found by what made it: the preprocessing of the plan, and the case's own files with their sizes and times.
Every file is written under a temporary name and renamed, the way back last: a case with its way is complete, whatever
was interrupted before; two processes that prepare one case at once write the same.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from src_models.errors import FileError, SaveError
from src_models.files.gate import shown
from src_models.preprocessing.checks import NanRule
from src_models.preprocessing.parameters import Preprocessing
from src_models.preprocessing.prepare import Way, prepare, prepare_labels
from src_models.record import content_hash
from src_models.training.case import Case

_VERSION = 1
"""Raised where prepared arrays change for the same parameters."""


@dataclass(frozen=True, eq=False)
class CachedCase:
    """A prepared case; its arrays are read-only maps of files.

    Attributes
    ----------
    image : ndarray of float32, shape (C, *way.resampled)
        As `preprocessing.prepare.prepare` gives it.
    labels : ndarray of int16 or int32, shape way.resampled
        Values of the data; -1 outside its nonzero part.
    way : Way
        Back to the image's own grid.
    notes : tuple of str
        What was changed in the image; only when it was prepared just now.
    """

    image: NDArray[np.float32]
    labels: NDArray[np.integer]
    way: Way
    notes: tuple[str, ...] = ()


def cached(case: Case, preprocessing: Preprocessing, folder: Path, *, nan: NanRule = "error") -> CachedCase:
    """A prepared case from the cache, prepared now where it is not there.

    Parameters
    ----------
    case : Case
        Read only where needed.
    preprocessing : Preprocessing
        Of the plan's configuration.
    folder : Path
        Of the cache; made where it does not exist.
    nan : str
        See `preprocessing.checks.finite`.

    Raises
    ------
    SaveError
        Where the folder cannot be written to or the disk is full; no half-written file stays.
    InputError, FileError, GeometryError
        Where the case cannot be used.
    """
    stem = folder / _name(case, preprocessing, nan)
    found = _load(stem)
    if found is not None:
        return found
    volume, segmentation = case.read()
    ready = prepare(volume.array, volume.grid.spacing, preprocessing, nan=nan)
    labels = prepare_labels(segmentation.labels, ready, preprocessing)
    small = np.int16 if int(labels.min()) >= -(2**15) and int(labels.max()) < 2**15 else np.int32
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write(stem.with_suffix(".image.npy"), lambda file: np.save(file, ready.array))
        _write(stem.with_suffix(".labels.npy"), lambda file: np.save(file, labels.astype(small)))
        _write(stem.with_suffix(".json"), lambda file: file.write(json.dumps(_as_json(ready.way)).encode()))
    except OSError as error:
        raise SaveError(
            "cache-write",
            "Prepared cases cannot be stored",
            f"{(error.strerror or 'the disk refused').lower()}",
            "Free some space, or choose another folder.",
        ) from error
    stored = _load(stem)
    if stored is None:
        raise FileError("cache-read", "A prepared case cannot be read back", "", "Check the disk.")
    return CachedCase(stored.image, stored.labels, stored.way, ready.notes)


def _name(case: Case, preprocessing: Preprocessing, nan: NanRule) -> str:
    """A readable start, and a hash of all that decides the content."""
    source: list[Any]
    if case.files:
        source = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in case.files if path.exists()]
    else:
        volume, segmentation = case.read()
        source = [content_hash(volume.array), content_hash(segmentation.labels), volume.grid.spacing]
    decided = [
        _VERSION,
        preprocessing.model_dump(mode="json"),
        source,
        sorted(case.label_map.items()),
        case.fix_geometry,
        nan,
    ]
    digest = hashlib.sha256(json.dumps(decided).encode()).hexdigest()[:24]
    return f"{re.sub(r'[^A-Za-z0-9_-]', '_', shown(case.id, 40))}-{digest}"


def _load(stem: Path) -> CachedCase | None:
    """What is stored, or None where it is not complete or not readable."""
    try:
        way = _from_json(json.loads(stem.with_suffix(".json").read_text()))
        image = np.load(stem.with_suffix(".image.npy"), mmap_mode="r", allow_pickle=False)
        labels = np.load(stem.with_suffix(".labels.npy"), mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, KeyError, TypeError, EOFError):
        return None
    fits = image.dtype == np.float32 and image.shape[1:] == way.resampled == labels.shape
    return CachedCase(image, labels, way) if fits else None


def _write(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    part = path.with_name(f".{secrets.token_hex(8)}.part")
    try:
        with part.open("xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _as_json(way: Way) -> dict[str, Any]:
    return {
        "shape": way.shape,
        "spacing": way.spacing,
        "axis_order": way.axis_order,
        "box": [(part.start, part.stop) for part in way.box],
        "cropped": way.cropped,
        "resampled": way.resampled,
        "from_spacing": way.from_spacing,
        "to_spacing": way.to_spacing,
    }


def _from_json(stored: dict[str, Any]) -> Way:
    return Way(
        shape=tuple(stored["shape"]),
        spacing=tuple(stored["spacing"]),
        axis_order=tuple(stored["axis_order"]),
        box=tuple(slice(*part) for part in stored["box"]),
        cropped=tuple(stored["cropped"]),
        resampled=tuple(stored["resampled"]),
        from_spacing=tuple(stored["from_spacing"]),
        to_spacing=tuple(stored["to_spacing"]),
    )
