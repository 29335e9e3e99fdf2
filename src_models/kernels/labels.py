"""Labels of kernels: the known kernel whose spectrum is nearest, where it is near enough.

Both spectra are sorted and divided by their largest value; the distance is the mean absolute difference. That is the
rule of the paper's code with its threshold of 0.10. Sign, reflection, rotation by 90 degrees and shifts never matter to
a spectrum, and 0.10 is more than the distance of several pairs of known kernels: runner-up and margin stand beside each
label. The cosine with every known kernel in every orientation is the second opinion, which keeps the sign.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_models.errors import InputError
from src_models.kernels import rows
from src_models.kernels.dictionary import DEAD, INDETERMINATE, Dictionary, dictionary, orientations
from src_models.kernels.parameters import Preset
from src_models.kernels.spectra import Frequencies, even_and_odd, frequencies

THRESHOLD = 0.10
CHUNK = 256
CHUNK_VALUES = 2**19
"""Kernels at a time, and magnitudes of them: 2 MB, which the caches hold."""
POSITIONS = 65
_MOST_THREADS = 8

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Labels:
    """The labels of kernels in rows.

    Attributes
    ----------
    names : tuple of str
        Of the labels, then ``"indeterminate"`` and ``"dead"``.
    codes : ndarray of shape (N,)
        Places in `names`.
    distance : ndarray of shape (N,)
        To the nearest label, also where it is too far; NaN for dead kernels.
    runner_up : ndarray of shape (N,)
        Place of the second nearest label; the nearest itself where there is but one.
    margin : ndarray of shape (N,)
        How much farther the second nearest is.
    all_distances : ndarray of shape (N, labels)
        To every label.
    """

    names: tuple[str, ...]
    codes: NDArray[np.int16]
    distance: Floats
    runner_up: NDArray[np.int16]
    margin: Floats
    all_distances: Floats

    @property
    def nearest(self) -> NDArray[np.int16]:
        """Place of the nearest label, whatever its distance."""
        return np.asarray(np.argmin(self.all_distances, axis=1), np.int16)

    def words(self) -> NDArray[np.str_]:
        """One word a kernel."""
        return np.array(self.names, dtype=str)[self.codes]

    def shares(self) -> dict[str, float]:
        """Of the living kernels."""
        living = max(int(np.count_nonzero(self.codes != len(self.names) - 1)), 1)
        counts = np.bincount(self.codes, minlength=len(self.names))
        return {name: float(counts[k] / living) for k, name in enumerate(self.names[:-1])}


def label_kernels(
    kernels: NDArray[Any],
    preset: Preset | Dictionary = "paper-6",
    shape: Sequence[int] | None = None,
    threshold: float = THRESHOLD,
    *,
    threads: int | None = 1,
) -> Labels:
    """Label kernels by their spectra on a periodic grid.

    Parameters
    ----------
    kernels : ndarray of shape (N, k, k) or (N, k, k, k)
        Odd sizes.
    preset : str or Dictionary
        The known kernels.
    shape : sequence of int, optional
        The grid; 64 points per axis in 2D, 16 in 3D by default.
    threshold : float
        The largest distance of a label; one that is exactly so far counts.
    threads : int, optional
        None means one per core. The result does not depend on it.

    Raises
    ------
    InputError
        Where a kernel is not finite, or its size has no spectrum on the grid.
    """
    array = np.asarray(kernels)
    size, grid = checked(array, shape)
    known = dictionary(preset, size) if isinstance(preset, str) else preset
    flat = array.reshape(len(array), -1)
    found = spectral_distances(flat, size, grid, known, threads=threads)
    return decide(found, known, threshold, dead=np.abs(flat).max(axis=1, initial=0) == 0)


def checked(array: NDArray[Any], shape: Sequence[int] | None) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Size and grid of kernels in an array, once they are known to have spectra."""
    size = tuple(array.shape[1:])
    grid = tuple(shape) if shape is not None else (64 if len(size) == 2 else 16,) * len(size)
    fits = len(size) in (2, 3) and len(grid) == len(size)
    if not fits or any(k % 2 == 0 or k > n for k, n in zip(size, grid, strict=True)):
        raise InputError(
            "kernels-size",
            f"Kernels of an array of shape {array.shape} cannot be labelled on a grid of {grid}",
            "",
            "Give (N, k, k) or (N, k, k, k) with an odd k, and a grid that is not smaller.",
        )
    if not np.isfinite(array).all():
        raise InputError("kernels-finite", "A kernel holds values that are not finite", "", "Check the weights.")
    return size, grid


def decide(found: Floats, known: Dictionary, threshold: float, dead: NDArray[np.bool_]) -> Labels:
    """Labels from distances; the first in the order of the dictionary wins a tie."""
    count = len(known.labels)
    names = (*known.labels, INDETERMINATE, DEAD)
    nearest = np.argmin(found, axis=1)
    everyone = np.arange(len(found))
    distance = found[everyone, nearest]
    rest = found.copy()
    rest[everyone, nearest] = np.inf
    second = np.argmin(rest, axis=1) if count > 1 else nearest
    margin = rest[everyone, second] - distance if count > 1 else np.full(len(found), np.inf, np.float32)
    codes = np.where(distance <= np.float32(threshold), nearest, count)
    codes[dead] = count + 1
    distance, margin = np.where(dead, np.nan, distance), np.where(dead, np.nan, margin)
    return Labels(
        names,
        codes.astype(np.int16),
        distance.astype(np.float32),
        second.astype(np.int16),
        margin.astype(np.float32),
        found,
    )


def spectral_distances(
    flat: NDArray[Any], size: tuple[int, ...], grid: tuple[int, ...], known: Dictionary, *, threads: int | None = 1
) -> Floats:
    """Distances of kernels in rows to every label, (N, labels), float32.

    Parameters
    ----------
    flat : ndarray of shape (N, entries)
        Kernels.
    size, grid : tuple of int
        Of a kernel, and of the images.
    known : Dictionary
        The labels.
    threads : int, optional
        None means one per core.
    """
    table, references, owners = _tables(size, grid, known)
    out = np.empty((len(flat), len(known.labels)), np.float32)

    def fill(part: slice) -> None:
        values = _magnitudes(flat[part], table)
        largest, full = np.empty(len(values), np.float32), np.empty(table.count, np.float32)
        rows.distances(values, table.singles, references, owners, out[part], largest, full)

    parts = _parts(len(flat), table)
    workers = worker_count(threads)
    if workers > 1 and len(parts) > 1:
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(fill, parts))
    else:
        for part in parts:
            fill(part)
    return out


def spectral_curves(flat: NDArray[Any], size: tuple[int, ...], grid: tuple[int, ...], known: Dictionary) -> Floats:
    """Normalised spectra of kernels in rows at 65 places from the largest value to the smallest, (N, 65)."""
    table, _, _ = _tables(size, grid, known)
    out = np.empty((len(flat), POSITIONS), np.float32)
    places = np.linspace(0, table.count - 1, POSITIONS).round().astype(np.int64)
    full = np.empty(table.count, np.float32)
    for part in _parts(len(flat), table):
        rows.curves(_magnitudes(flat[part], table), table.singles, places, out[part], full)
    return out


def _parts(count: int, table: Frequencies) -> list[slice]:
    step = max(1, min(CHUNK, CHUNK_VALUES // table.cosines.shape[1]))
    return [slice(start, start + step) for start in range(0, count, step)]


def _magnitudes(part: NDArray[Any], table: Frequencies) -> Floats:
    """|K^| of some kernels, those that count twice and those that count once both rising."""
    even, odd = (half.astype(np.float32) for half in even_and_odd(_scaled(part)))
    values = np.empty((len(even), table.cosines.shape[1]), np.float32)
    rows.magnitudes(even, odd, *table.single_precision, values, np.empty(values.shape[1], np.float32))
    twice = values.shape[1] - table.singles
    values[:, :twice].sort(axis=1)
    values[:, twice:].sort(axis=1)
    return values


def worker_count(threads: int | None) -> int:
    """Threads that are used: those asked for, or one per core, 8 at most."""
    return threads if threads is not None else min(os.cpu_count() or 1, _MOST_THREADS)


def _scaled(part: NDArray[Any]) -> NDArray[np.float64]:
    """Rows with a largest entry of 1, so that neither tiny nor huge weights leave the range of float32."""
    wide = part.astype(np.float64)
    largest = np.abs(wide).max(axis=1, keepdims=True, initial=0)
    scaled: NDArray[np.float64] = np.divide(wide, largest, out=np.zeros_like(wide), where=largest > 0)
    return scaled


_KEPT: dict[tuple[Any, ...], tuple[Frequencies, Floats, NDArray[np.int64], Dictionary]] = {}


def _tables(
    size: tuple[int, ...], grid: tuple[int, ...], known: Dictionary
) -> tuple[Frequencies, Floats, NDArray[np.int64]]:
    key = (size, grid, id(known))
    if key not in _KEPT:
        spectra, owners = known.spectra(grid)
        references = np.ascontiguousarray(spectra[:, ::-1]).astype(np.float32)
        # the dictionary is kept with its tables: its id then stays its own
        _KEPT[key] = (frequencies(size, grid), references, owners.astype(np.int64), known)
    table, kept, labels, _ = _KEPT[key]
    return table, kept, labels


def confusions(
    known: Dictionary, grid: tuple[int, ...], threshold: float = THRESHOLD
) -> tuple[tuple[str, str, float], ...]:
    """Pairs of labels that are nearer to each other than the threshold, nearest first."""
    spectra, owners = known.spectra(grid)
    found: dict[tuple[int, int], float] = {}
    for i in range(len(spectra)):
        for j in range(i):
            a, b = sorted((int(owners[i]), int(owners[j])))
            if a != b:
                gap = float(np.abs(spectra[i] - spectra[j]).mean())
                found[a, b] = min(gap, found.get((a, b), np.inf))
    near = sorted((gap, a, b) for (a, b), gap in found.items() if gap < threshold)
    return tuple((known.labels[a], known.labels[b], gap) for gap, a, b in near)


@dataclass(frozen=True, eq=False)
class Bank:
    """Known kernels in every orientation, unit norm: `rows` (B, entries), and per row its label and orientation."""

    rows: NDArray[np.float64]
    label: NDArray[np.int16]
    orientation: NDArray[np.int16]
    names: tuple[str, ...]


def bank(known: Dictionary, spacing: Sequence[float] | None = None) -> Bank:
    """The templates of the cosine; `orientation` counts in `names`, where each stands with + and with -."""
    made: list[NDArray[Any]] = []
    labels: list[int] = []
    words: list[str] = []
    seen: set[tuple[int, bytes]] = set()
    for feature, label in zip(known.features, known.label_of.tolist(), strict=True):
        for word, kernel in orientations(feature.kernel, spacing):
            keys = [(label, (np.round(sign * kernel, 12) + 0.0).tobytes()) for sign in (1, -1)]
            if seen.isdisjoint(keys):
                seen.add(keys[0])
                made.append(kernel.ravel() / np.linalg.norm(kernel))
                labels.append(label)
                words.append(f"{feature.name} {word}")
    names = tuple(f"{sign} {word}" for word in words for sign in "+-")
    return Bank(np.stack(made), np.array(labels, np.int16), np.arange(0, 2 * len(words), 2, dtype=np.int16), names)


def cosines(flat: NDArray[Any], templates: Bank) -> tuple[NDArray[np.int16], Floats, NDArray[np.int16]]:
    """Label, distance 1 - |cos| and orientation of the nearest template of each row; zero rows get NaN."""
    label, turn = np.empty(len(flat), np.int16), np.empty(len(flat), np.int16)
    best = np.empty(len(flat), np.float32)
    for start in range(0, len(flat), 8192):
        part = slice(start, start + 8192)
        wide = flat[part].astype(np.float64)
        norm = np.linalg.norm(wide, axis=1)
        product = wide @ templates.rows.T
        place = np.argmax(np.abs(product), axis=1)
        value = product[np.arange(len(wide)), place]
        with np.errstate(invalid="ignore", divide="ignore"):
            best[part] = np.where(norm > 0, 1 - np.abs(value) / norm, np.nan)
        label[part] = templates.label[place]
        turn[part] = templates.orientation[place] + (value < 0)
    return label, best, turn
