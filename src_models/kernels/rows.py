"""The inner loops over kernels, compiled: the symbol on half the frequencies, and distances of sorted spectra.

Between the two stands numpy's vectorised sort. Each row is computed alone, so no result depends on how rows are dealt
out to threads. Only the distances may add up in another order than written: they are means of thousands of numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

compiled: Callable[[Any], Any] = njit(cache=True, nogil=True, error_model="numpy")
summing: Callable[[Any], Any] = njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "nsz"})


@compiled
def magnitudes(even: Any, odd: Any, cosines: Any, sines: Any, out: Any, work: Any) -> None:
    """|K^| of each row, (N, F): cosines for the even part of a kernel, sines for the odd; `work` holds F numbers."""
    frequencies = out.shape[1]
    for row in range(out.shape[0]):
        target = out[row]
        target[:] = even[row, 0]
        for k in range(1, even.shape[1]):
            value, table = even[row, k], cosines[k]
            for f in range(frequencies):
                target[f] += value * table[f]
        work[:] = 0
        for k in range(odd.shape[1]):
            value, table = odd[row, k], sines[k]
            for f in range(frequencies):
                work[f] += value * table[f]
        for f in range(frequencies):
            target[f] = np.sqrt(target[f] * target[f] + work[f] * work[f])


@compiled
def _merge(values: Any, singles: Any, full: Any) -> None:
    """Rising values that count twice, and `singles` rising values at the end that count once, as one rising row."""
    twice = values.shape[0] - singles
    i, j, at = 0, twice, 0
    while at < full.shape[0]:
        if j == values.shape[0] or (i < twice and values[i] <= values[j]):
            full[at] = values[i]
            full[at + 1] = values[i]
            i += 1
            at += 2
        else:
            full[at] = values[j]
            j += 1
            at += 1


@summing
def _gap(full: Any, scale: Any, reference: Any) -> Any:
    total = np.float32(0)
    for k in range(full.shape[0]):
        total += abs(full[k] * scale - reference[k])
    return total


@compiled
def distances(values: Any, singles: Any, references: Any, owners: Any, out: Any, largest: Any, full: Any) -> None:
    """Mean difference of each row's normalised spectrum to each label, (N, labels).

    Parameters
    ----------
    values : ndarray of shape (N, F)
        Magnitudes, both parts sorted, rising.
    singles : int
        How many at the end of a row count once.
    references, owners : ndarray of shape (S, n), (S,)
        Rising spectra that end with 1, and the label of each: the smallest distance of a label counts.
    out, largest : ndarray of shape (N, labels), (N,)
        Filled here; a row without any positive value gets the distance of a zero spectrum.
    full : ndarray of shape (n,)
        Room for one spectrum.
    """
    count = full.shape[0]
    for row in range(values.shape[0]):
        _merge(values[row], singles, full)
        top = full[count - 1]
        largest[row] = top
        scale = np.float32(1) / top if top > 0 else np.float32(0)
        out[row, :] = np.inf
        for k in range(references.shape[0]):
            gap = _gap(full, scale, references[k]) / np.float32(count)
            label = owners[k]
            if gap < out[row, label]:
                out[row, label] = gap


@compiled
def curves(values: Any, singles: Any, places: Any, out: Any, full: Any) -> None:
    """Normalised spectra at some places of the falling order, (N, P)."""
    count = full.shape[0]
    for row in range(values.shape[0]):
        _merge(values[row], singles, full)
        top = full[count - 1]
        scale = np.float32(1) / top if top > 0 else np.float32(0)
        for k in range(places.shape[0]):
            out[row, k] = full[count - 1 - places[k]] * scale
