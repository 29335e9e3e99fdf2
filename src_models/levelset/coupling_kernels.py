"""The coupling of labels, compiled: on the lists of segments, and only on those near another label.

The boxes of all labels begin at a multiple of 16 voxels along x, so that a segment of one label is a segment of every
other one whose box holds it. What a label becomes is kept apart until every label was seen (Jacobi), then written.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from src_models.levelset.band_kernels import (
    BALLOON,
    LANES,
    NX,
    NY,
    NZ,
    ROW_SEGMENTS,
    SY,
    SZ,
    TWO,
    WIDTH,
    ZERO,
    replicate,
)
from src_models.levelset.band_lists import AT_BORDER, BASE, NUMBER, X, Y, Z
from src_models.levelset.band_look import mask_of_band, slopes_and_measures
from src_models.levelset.band_speeds import BALLOON_SPEED, DENSITY, MASK, read_speeds


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def number_beside(z: Any, y: Any, s: Any, w: Any) -> Any:  # pragma: no cover
    """The number of a segment of another box; -1 where it has none there."""
    if z < 0 or z >= w[NZ] or y < 0 or y >= w[NY] or s < 0 or s >= w[ROW_SEGMENTS]:
        return -1
    return (z * w[NY] + y) * w[ROW_SEGMENTS] + s


@njit(cache=True, nogil=True, error_model="numpy")
def count_beside(
    segments: Any, shift: Any, their_bits: Any, their_inside: Any, their_w: Any, place: Any, filled: int
) -> int:  # pragma: no cover
    """Number the segments of a list that lie near another label, those that have no number (-1) yet; the new count.

    `shift` is added to a place in this box to get it in theirs. A segment that is all at -w does not count.
    """
    for n in range(segments.shape[0]):
        z, y, x = segments[n, Z] + shift[0], segments[n, Y] + shift[1], segments[n, X] + shift[2]
        number = number_beside(z, y, x // LANES, their_w)
        if number >= 0 and place[n] < 0 and (their_bits[number] != 0 or their_inside[number] != 0):
            place[n] = filled
            filled += 1
    return filled


@njit(cache=True, nogil=True, error_model="numpy")
def largest_beside(
    segments: Any, shift: Any, their_u: Any, their_origin: int, their_w: Any, place: Any, largest: Any
) -> None:  # pragma: no cover
    """Raise m, one row for each numbered segment, to another label's u."""
    for n in range(segments.shape[0]):
        row = place[n]
        if row < 0:
            continue
        z, y, x = segments[n, Z] + shift[0], segments[n, Y] + shift[1], segments[n, X] + shift[2]
        if number_beside(z, y, x // LANES, their_w) < 0:
            continue
        p = their_origin + z * their_w[SZ] + y * their_w[SY] + x
        for i in range(min(np.int64(LANES), their_w[NX] - x)):
            largest[row, i] = max(largest[row, i], their_u[p + i])


@njit(cache=True, nogil=True, error_model="numpy")
def shared_ground(
    segments: Any, place: Any, u: Any, moved: Any, others: Any, resting: Any, values: Any, touched: Any, w: Any, k: Any
) -> None:  # pragma: no cover
    """What the coupling makes of the moved u, into `values`; `touched` has a bit for each voxel that it changes."""
    zero, two, width = k[ZERO], k[TWO], k[WIDTH]
    for n in range(segments.shape[0]):
        row = place[n]
        if row < 0:
            continue
        p = segments[n, BASE]
        bits = 0
        for i in range(LANES):
            c = moved[p + i]
            v = c
            if i < w[NX] - segments[n, X] and abs(u[p + i]) < width:
                m, f = others[row, i], resting[row, i]
                if c + m > zero:
                    v = (c - m) / two
                    bits |= 1 << i
                if v + f > zero:
                    v = -f
                    bits |= 1 << i
            values[row, i] = v
        touched[row] = bits


@njit(cache=True, nogil=True, error_model="numpy")
def write_shared(
    segments: Any, place: Any, moved: Any, values: Any, touched: Any, rows: Any, bits: Any, w: Any
) -> int:  # pragma: no cover
    """Write the segments that the coupling changed; keep their rows and bits. How many there are."""
    count = 0
    for n in range(segments.shape[0]):
        row = place[n]
        if row < 0 or touched[row] == 0:
            continue
        p = segments[n, BASE]
        for i in range(LANES):
            moved[p + i] = values[row, i]
        if segments[n, AT_BORDER]:
            replicate(moved, p, segments[n, Z], segments[n, Y], segments[n, X] // LANES, w)
        for column in range(segments.shape[1]):
            rows[count, column] = segments[n, column]
        bits[count] = touched[row]
        count += 1
    return count


@njit(cache=True, nogil=True, error_model="numpy")
def contact(
    rows: Any,
    contacts: Any,
    bits: Any,
    u: Any,
    primary: Any,
    edge: Any,
    pull: Any,
    walls: Any,
    threshold: float,
    scratch: Any,
    place: Any,
    lanes: int,
    w: Any,
    k: Any,
) -> Any:  # pragma: no cover
    """Front at a contact, per voxel size, and the part of it where |balloon| S is above the threshold."""
    size = abs(np.float64(k[BALLOON]))
    every = np.uint64(lanes)
    area = blocked = 0.0
    for n in range(rows.shape[0]):
        if bits[rows[n, NUMBER]] == 0:
            continue
        p = np.uint64(rows[n, BASE])
        z, y, x = rows[n, Z], rows[n, Y], rows[n, X]
        count = min(np.int64(LANES), w[NX] - x)
        mask_of_band(u, p, np.uint64(count), scratch, k)
        slopes_and_measures(u, p, every, scratch, w, k)
        read_speeds(u, p, every, z, y, x, primary, edge, pull, walls, scratch, place, w, k)
        for i in range(count):
            if (contacts[n] >> i) & 1:
                d = np.float64(scratch[MASK, i]) * np.float64(scratch[DENSITY, i])
                area += d
                blocked += d if size * np.float64(scratch[BALLOON_SPEED, i]) > threshold else 0.0
    return area, blocked
