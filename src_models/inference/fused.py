"""Interpolation and running maximum in one compiled pass over a plane: each value is used while it is in the cache.

The same as `export` computes with torch, to rounding; used on the processor for large planes, where the torch form is
bound by memory.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_models.levelset.compiled import compiled

Floats = NDArray[np.float32]


@compiled
def along_rows(values: Any, low: Any, high: Any, share: Any, first: int, last: int, out: Any) -> None:
    """Interpolate the last axis of (channels, rows, columns), for channels first to last - 1."""
    for c in range(first, last):
        for y in range(values.shape[1]):
            for x in range(len(low)):
                a = values[c, y, low[x]]
                out[c, y, x] = a + share[x] * (values[c, y, high[x]] - a)


@compiled
def largest_of(
    front: Any, back: Any, depth: Any, low: Any, high: Any, share: Any, numbers: Any, first: int, last: int, out: Any
) -> None:
    """Labels of rows first to last - 1: the class that is largest between two planes and two rows.

    front, back : (K, rows, columns) of the network's planes, columns already those of the image; depth: share of back.
    """
    width = front.shape[2]
    best = np.empty(width, np.float32)
    found = np.empty(width, np.int32)
    for y in range(first, last):
        up, down, part = low[y], high[y], share[y]
        w00 = (np.float32(1) - depth) * (np.float32(1) - part)
        w01 = (np.float32(1) - depth) * part
        w10 = depth * (np.float32(1) - part)
        w11 = depth * part
        for k in range(len(numbers)):
            number = numbers[k]
            a, b = front[k, up], front[k, down]
            c, d = back[k, up], back[k, down]
            if k == 0:
                for x in range(width):
                    best[x] = w00 * a[x] + w01 * b[x] + w10 * c[x] + w11 * d[x]
                    found[x] = number
            elif depth == 0 and part == 0:
                for x in range(width):
                    value = a[x]
                    larger = value > best[x]
                    best[x] = value if larger else best[x]
                    found[x] = number if larger else found[x]
            else:
                for x in range(width):
                    value = w00 * a[x] + w01 * b[x] + w10 * c[x] + w11 * d[x]
                    larger = value > best[x]
                    best[x] = value if larger else best[x]
                    found[x] = number if larger else found[x]
        for x in range(width):
            out[y, x] = found[x]


class FusedPlanes:
    """Running maximum over planes, with the columns of the two planes in use already interpolated.

    Parameters
    ----------
    rows, columns : tuple of ndarray
        Low and high voxel and share of the high one, as in `export.AxisMap`.
    numbers : sequence of int
        Label by channel.
    threads : int
        Rows are shared out to so many.
    """

    def __init__(
        self,
        rows: tuple[NDArray[np.int64], NDArray[np.int64], Floats],
        columns: tuple[NDArray[np.int64], NDArray[np.int64], Floats],
        numbers: list[int],
        threads: int,
    ) -> None:
        self._rows, self._columns = rows, columns
        self._numbers = np.array(numbers, np.int32)
        self._threads = max(1, threads)
        self._out = np.empty((len(rows[0]), len(columns[0])), np.int32)
        self._pool = ThreadPoolExecutor(self._threads) if self._threads > 1 else None

    def widened(self, plane: Floats) -> Floats:
        """A plane of all classes, (K, rows, columns), with the columns of the image."""
        out = np.empty((*plane.shape[:2], len(self._columns[0])), np.float32)
        plane = np.ascontiguousarray(plane)
        self._shared(len(plane), lambda first, last: along_rows(plane, *self._columns, first, last, out))
        return out

    def labels(self, front: Floats, back: Floats, depth: float) -> NDArray[np.int32]:
        """Labels of a plane of the image between two widened planes; overwritten by the next call."""
        share = np.float32(depth)
        self._shared(
            len(self._out),
            lambda first, last: largest_of(front, back, share, *self._rows, self._numbers, first, last, self._out),
        )
        return self._out

    def _shared(self, count: int, work: Any) -> None:
        if self._pool is None:
            work(0, count)
            return
        cuts = np.linspace(0, count, self._threads + 1).astype(int)
        for job in [self._pool.submit(work, int(a), int(b)) for a, b in pairwise(cuts)]:
            job.result()
