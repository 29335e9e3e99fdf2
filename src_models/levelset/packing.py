"""The level set of one moment in few bytes, without loss: where it is far from the front, and the values near it.

Far from the front u is exactly +w or -w. A packed level set is the sequence of runs of -w, of +w and of other values
along the array, and those values as they are. It is written in one pass, fast enough to be done while a run goes on.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Box = tuple[slice, ...]

_NEAR = 2


@dataclass(frozen=True, eq=False)
class PackedLevelSet:
    """u in a box of the array.

    Attributes
    ----------
    box : tuple of slice
        Where; outside of it u is that of the start.
    runs : bytes
        Deflated: the length of each run (uint32), then its kind (uint8): 0 for -w, 1 for +w, 2 for other values.
    near : ndarray
        Values that are neither +w nor -w, in array order.
    """

    box: Box
    runs: bytes
    near: NDArray[Any]

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return len(self.runs) + self.near.nbytes

    def write_into(self, part: NDArray[Any], width: float | None) -> None:
        """Put the values back, bit for bit.

        Parameters
        ----------
        part : ndarray
            Of the shape of the box, in the precision of the run.
        width : float or None
            w in mm.
        """
        raw = zlib.decompress(self.runs)
        count = len(raw) // 5
        lengths = np.frombuffer(raw, np.uint32, count)
        kinds = np.frombuffer(raw, np.uint8, count, offset=4 * count)
        _spread(_as_3d(part), lengths, kinds, self.near, part.dtype.type(width or 0.0))


def packed(u: NDArray[Any], width: float | None, box: Box) -> PackedLevelSet:
    """Pack u in a box.

    Parameters
    ----------
    u : ndarray of shape (z, y, x) or (y, x)
        float32 or float64.
    width : float or None
        w in mm; None where the run has no band: then every value is kept as it is.
    box : tuple of slice
        What may differ from the start.
    """
    part = _as_3d(u[box])
    if width is None:
        near = np.ascontiguousarray(part).reshape(-1).copy()
        return PackedLevelSet(box, _deflated(np.array([near.size], np.uint32), np.array([_NEAR], np.uint8)), near)
    # As much room as there are voxels: memory that is never written to is never really taken.
    lengths, kinds, near = np.empty(part.size, np.uint32), np.empty(part.size, np.uint8), np.empty(part.size, u.dtype)
    runs, values = _gather(part, u.dtype.type(width), lengths, kinds, near)
    return PackedLevelSet(box, _deflated(lengths[:runs], kinds[:runs]), near[:values].copy())


def _deflated(lengths: NDArray[np.uint32], kinds: NDArray[np.uint8]) -> bytes:
    return zlib.compress(lengths.tobytes() + kinds.tobytes(), 1)


def _as_3d(part: NDArray[Any]) -> NDArray[Any]:
    return part[np.newaxis] if part.ndim == 2 else part


@njit(cache=True)
def _gather(part, width, lengths, kinds, near):  # type: ignore[no-untyped-def]
    """Write runs and near values; how many of each there are."""
    run, values, length, last = -1, 0, 0, 255
    for i in range(part.shape[0]):
        for j in range(part.shape[1]):
            for k in range(part.shape[2]):
                x = part[i, j, k]
                kind = 1 if x == width else (0 if x == -width else 2)
                if kind == 2:
                    near[values] = x
                    values += 1
                if kind != last:
                    if run >= 0:
                        lengths[run] = length
                    run += 1
                    kinds[run] = kind
                    last = kind
                    length = 0
                length += 1
    if run >= 0:
        lengths[run] = length
    return run + 1, values


@njit(cache=True)
def _spread(part, lengths, kinds, near, width):  # type: ignore[no-untyped-def]
    run = -1
    left = 0
    kind = 0
    value = 0
    for i in range(part.shape[0]):
        for j in range(part.shape[1]):
            for k in range(part.shape[2]):
                while left == 0:
                    run += 1
                    left = lengths[run]
                    kind = kinds[run]
                left -= 1
                if kind == 2:
                    part[i, j, k] = near[value]
                    value += 1
                else:
                    part[i, j, k] = width if kind == 1 else -width
