"""Random kernels under the same rule: what any count, label or distance must be compared with.

Draws come in blocks with generators of their own, so they do not depend on threads, and a longer sample begins with the
shorter one. Large samples are kept on disk.
"""

from __future__ import annotations

import hashlib
import os
import zipfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from src_models.kernels.dictionary import Dictionary, dictionary
from src_models.kernels.draws import generator
from src_models.kernels.labels import decide, spectral_distances
from src_models.kernels.operators import CLASSES, operators
from src_models.kernels.parameters import Preset
from src_models.kernels.shares import tail

Floats = NDArray[np.float32]
BLOCK = 4096
KEPT_FROM = 20_000
"""Samples of at least so many are worth a file."""
_FORMAT = 1


@dataclass(frozen=True)
class NullKey:
    """What a sample of random kernels depends on; `stored_size` may have axes of 1 where `size` has more."""

    law: Literal["gaussian", "uniform"]
    size: tuple[int, ...]
    stored_size: tuple[int, ...]
    grid: tuple[int, ...]
    preset: Preset
    spacing: tuple[float, ...] | None
    merge: bool
    tolerance: float
    draws: int
    seed: int

    @property
    def known(self) -> Dictionary:
        """The known kernels."""
        return dictionary(self.preset, self.size, self.spacing, merge=self.merge)


@dataclass(frozen=True, eq=False)
class Null:
    """Random kernels, measured.

    Attributes
    ----------
    known : Dictionary
        The labels.
    distances : ndarray of shape (M, labels)
        To every label.
    classes : ndarray of shape (len(CLASSES),)
        How many have each class of `operators`.
    """

    known: Dictionary
    distances: Floats
    classes: NDArray[np.int64]

    @property
    def draws(self) -> int:
        """M."""
        return len(self.distances)

    def label_counts(self, threshold: float) -> NDArray[np.int64]:
        """How many have each label, ``"indeterminate"`` last."""
        found = decide(self.distances, self.known, threshold, np.zeros(self.draws, bool))
        return np.bincount(found.codes, minlength=len(self.known.labels) + 1)

    def p_values(self, nearest: NDArray[np.int16], distance: Floats) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Chance of a distance as small: to the label it was nearest to, and to any; NaN for a NaN distance."""
        p_class = np.full(len(distance), np.nan)
        for label in range(len(self.known.labels)):
            mine = (nearest == label) & np.isfinite(distance)
            p_class[mine] = tail(np.sort(self.distances[:, label]), distance[mine])
        p_any = tail(np.sort(self.distances.min(axis=1)), distance)
        return p_class, np.where(np.isfinite(distance), p_any, np.nan)


def random_kernels(
    law: Literal["gaussian", "uniform"], size: tuple[int, ...], count: int, seed: int, *, purpose: str = "null"
) -> NDArray[np.float64]:
    """Kernels with independent entries, (count, entries)."""
    entries = int(np.prod(size))
    blocks = []
    for block in range(-(-count // BLOCK)):
        random = generator(seed, purpose, law, block)
        shape = (BLOCK, entries)
        blocks.append(random.standard_normal(shape) if law == "gaussian" else random.uniform(-1, 1, shape))
    return np.concatenate(blocks)[:count] if blocks else np.zeros((0, entries))


def permuted_kernels(flat: NDArray[Any], count: int, seed: tuple[int, ...]) -> NDArray[np.float64]:
    """Kernels of a layer, drawn again with their entries in another order, (count, entries)."""
    random = generator(*seed, "permuted")
    rows = flat[random.integers(0, len(flat), count)].astype(np.float64)
    return random.permuted(rows, axis=1)


def spread(flat: NDArray[Any], stored: tuple[int, ...], size: tuple[int, ...]) -> NDArray[Any]:
    """Kernels in rows, filled up with zeros to a larger size."""
    if stored == size:
        return flat
    margin = [(0, 0), *(((n - k) // 2, (n - k) // 2) for n, k in zip(size, stored, strict=True))]
    return np.pad(flat.reshape(-1, *stored), margin).reshape(len(flat), -1)


def measure(
    flat: NDArray[Any],
    size: tuple[int, ...],
    grid: tuple[int, ...],
    known: Dictionary,
    tolerance: float,
    threads: int | None,
) -> Null:
    """Random kernels in rows, measured."""
    distances = spectral_distances(flat, size, grid, known, threads=threads)
    codes = operators(flat, size, tolerance).codes
    return Null(known, distances, np.bincount(codes, minlength=len(CLASSES)))


def null(key: NullKey, *, folder: Path | None = None, threads: int | None = 1) -> Null:
    """The sample of a key: from memory, from disk, or drawn.

    Parameters
    ----------
    key : NullKey
        What it depends on.
    folder : Path, optional
        Where large samples are kept; None keeps none.
    threads : int, optional
        None means one per core; the sample does not depend on it.
    """
    return _null(key, folder, threads)


@lru_cache(maxsize=64)
def _null(key: NullKey, folder: Path | None, threads: int | None) -> Null:
    known = key.known
    kept = folder is not None and key.draws >= KEPT_FROM
    path = _path(key, known, folder) if kept and folder is not None else None
    found = None if path is None else _read(path, key, known)
    if found is None:
        flat = spread(random_kernels(key.law, key.stored_size, key.draws, key.seed), key.stored_size, key.size)
        found = measure(flat, key.size, key.grid, known, key.tolerance, threads)
        if path is not None:
            _write(path, found)
    return found


def _path(key: NullKey, known: Dictionary, folder: Path) -> Path:
    # the known kernels themselves are part of the name: a sample of another dictionary is never taken
    digest = hashlib.sha256(repr((_FORMAT, key, known.labels)).encode() + known.flat.tobytes()).hexdigest()
    return folder / f"null-{digest[:24]}.npz"


def _read(path: Path, key: NullKey, known: Dictionary) -> Null | None:
    try:
        with np.load(path, allow_pickle=False) as file:
            distances, classes = file["distances"], file["classes"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    fits = distances.shape == (key.draws, len(known.labels)) and classes.shape == (len(CLASSES),)
    if not fits or distances.dtype != np.float32 or not np.isfinite(distances).all():
        return None
    return Null(known, distances, classes.astype(np.int64))


def _write(path: Path, found: Null) -> None:
    """Keep a sample; where that cannot be done it is drawn again next time."""
    part = path.with_name(f".{uuid4().hex}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("xb") as file:
            np.savez(file, distances=found.distances, classes=found.classes)
        os.replace(part, path)
    except OSError:
        part.unlink(missing_ok=True)
