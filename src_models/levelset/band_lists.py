"""Which segments a step visits: the band, one face layer more for each redistancing sweep, kept from step to step.

A segment is in the list when one of its voxels lies in the band or within two face steps of it. Outside the list u is
+-w and cannot change in a step. Bits say which of the 16 voxels of a segment lie in the band.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from src_models.levelset.band_kernels import (
    LANES,
    NX,
    NY,
    NZ,
    ROW_SEGMENTS,
    SY,
    SZ,
    WIDTH,
    ZERO,
    finish_segment,
    replicate,
)

BASE, Z, Y, X, AT_BORDER, NUMBER = range(6)
COLUMNS = 6


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def at_border(z: Any, y: Any, s: Any, w: Any) -> Any:  # pragma: no cover
    """Whether a segment has replicated voxels beside it."""
    across = w[SZ] != 0 and (z == 0 or z == w[NZ] - 1)
    along = w[SY] != 0 and (y == 0 or y == w[NY] - 1)
    return across or along or s == 0 or s == w[ROW_SEGMENTS] - 1


@njit(cache=True, nogil=True, error_model="numpy")
def survey_all(
    first: int, last: int, u: Any, bits: Any, inside: Any, far: Any, origin: int, fronts: bool, w: Any, k: Any
) -> Any:  # pragma: no cover
    """Bits and counts of every segment of some rows; `fronts` also marks voxels with a neighbour on the other side.

    Returns
    -------
    tuple of int
        Voxels inside, and voxels at +w or more.
    """
    zero, width = k[ZERO], k[WIDTH]
    all_inside = all_far = 0
    for row in range(first, last):
        z, y = row // w[NY], row % w[NY]
        for s in range(w[ROW_SEGMENTS]):
            start = origin + z * w[SZ] + y * w[SY] + s * LANES
            count = min(LANES, w[NX] - s * LANES)
            found, positive, beyond = 0, 0, 0
            for i in range(count):
                q = start + i
                c = u[q]
                near = abs(c) < width
                if fronts and not near:
                    side = c > zero
                    near = (
                        (u[q - 1] > zero) != side
                        or (u[q + 1] > zero) != side
                        or (u[q - w[SY]] > zero) != side
                        or (u[q + w[SY]] > zero) != side
                        or (u[q - w[SZ]] > zero) != side
                        or (u[q + w[SZ]] > zero) != side
                    )
                if near:
                    found |= 1 << i
                if c > zero:
                    positive += 1
                if c >= width:
                    beyond += 1
            number = row * w[ROW_SEGMENTS] + s
            bits[number] = found
            inside[number] = positive
            far[number] = beyond
            all_inside += positive
            all_far += beyond
    return all_inside, all_far


@njit(cache=True, nogil=True, error_model="numpy")
def survey(
    first: int, last: int, segments: Any, u: Any, bits: Any, inside: Any, far: Any, w: Any, k: Any
) -> Any:  # pragma: no cover
    """Renew bits and counts of the segments of a list; the changes of the two counts."""
    zero, width = k[ZERO], k[WIDTH]
    more_inside = more_far = 0
    for n in range(first, last):
        p, number = segments[n, BASE], segments[n, NUMBER]
        count = min(np.int64(LANES), w[NX] - segments[n, X])
        found, positive, beyond = 0, 0, 0
        for i in range(count):
            c = u[p + i]
            found |= np.int64(abs(c) < width) << i
            positive += np.int64(c > zero)
            beyond += np.int64(c >= width)
        more_inside += positive - np.int64(inside[number])
        more_far += beyond - np.int64(far[number])
        bits[number] = found
        inside[number] = positive
        far[number] = beyond
    return more_inside, more_far


@njit(cache=True, nogil=True, error_model="numpy")
def mark(numbers: Any, count: int, bits: Any, marks: Any, w: Any) -> None:  # pragma: no cover
    """Mark every segment within two face steps of a bit, of the segments of a list."""
    nz, ny, length = w[NZ], w[NY], w[ROW_SEGMENTS]
    for n in range(count):
        number = np.int64(numbers[n])
        b = np.int64(bits[number])
        if b == 0:
            continue
        row, s = number // length, number % length
        z, y = row // ny, row % ny
        left = 2 if b & 1 else (1 if b & 2 else 0)
        right = 2 if b & (1 << (LANES - 1)) else (1 if b & (1 << (LANES - 2)) else 0)
        if s == 0:
            left = 0
        if s == length - 1:
            right = 0
        for dz in range(-2, 3):
            if z + dz < 0 or z + dz >= nz:
                continue
            reach = 2 - abs(dz)
            for dy in range(-reach, reach + 1):
                if y + dy < 0 or y + dy >= ny:
                    continue
                away = abs(dz) + abs(dy)
                at = number + (dz * ny + dy) * length
                marks[at] = 1
                if away < left:
                    marks[at - 1] = 1
                if away < right:
                    marks[at + 1] = 1


@njit(cache=True, nogil=True, error_model="numpy")
def marked(words: Any) -> int:  # pragma: no cover
    """How many bytes of an array of 64-bit words are 1."""
    total = 0
    for n in range(words.size):
        word = words[n]
        if word != 0:
            for b in range(8):
                total += np.int64((word >> np.uint64(8 * b)) & np.uint64(1))
    return total


@njit(cache=True, nogil=True, error_model="numpy")
def collect(words: Any, marks: Any, segments: Any, origin: int, box: Any, w: Any) -> None:  # pragma: no cover
    """The list of all marked segments in the order of memory, and the box around them; the marks are taken away."""
    length, ny = w[ROW_SEGMENTS], w[NY]
    n = 0
    for axis in range(3):
        box[axis, 0], box[axis, 1] = w[NZ + axis], 0
    for block in range(words.size):
        if words[block] == 0:
            continue
        for number in range(8 * block, min(8 * block + 8, marks.size)):
            if marks[number] == 0:
                continue
            marks[number] = 0
            row, s = number // length, number % length
            z, y = row // ny, row % ny
            segments[n, BASE] = origin + z * w[SZ] + y * w[SY] + s * LANES
            segments[n, Z] = z
            segments[n, Y] = y
            segments[n, X] = s * LANES
            segments[n, AT_BORDER] = 1 if at_border(z, y, s, w) else 0
            segments[n, NUMBER] = number
            box[0, 0], box[0, 1] = min(box[0, 0], z), max(box[0, 1], z + 1)
            box[1, 0], box[1, 1] = min(box[1, 0], y), max(box[1, 1], y + 1)
            box[2, 0], box[2, 1] = min(box[2, 0], s * LANES), max(box[2, 1], min(w[NX], (s + 1) * LANES))
            n += 1


@njit(cache=True, nogil=True, error_model="numpy")
def follow(segments: Any, count: int, marks: Any, u: Any, other: Any, w: Any) -> None:  # pragma: no cover
    """Bring the other buffer up to date where segments of the old list are not marked for the new one."""
    for n in range(count):
        if marks[segments[n, NUMBER]] == 0:
            p = segments[n, BASE]
            for i in range(LANES):
                other[p + i] = u[p + i]
            if segments[n, AT_BORDER]:
                replicate(other, p, segments[n, Z], segments[n, Y], segments[n, X] // LANES, w)


@njit(cache=True, nogil=True, error_model="numpy")
def copy_list(segments: Any, count: int, source: Any, target: Any, w: Any) -> None:  # pragma: no cover
    """Copy the segments of a list from one buffer to the other."""
    for n in range(count):
        p = segments[n, BASE]
        for i in range(LANES):
            target[p + i] = source[p + i]
        if segments[n, AT_BORDER]:
            replicate(target, p, segments[n, Z], segments[n, Y], segments[n, X] // LANES, w)


@njit(cache=True, nogil=True, error_model="numpy")
def constrain(segments: Any, count: int, u: Any, walls: Any, pins: Any, w: Any, k: Any) -> None:  # pragma: no cover
    """Walls and pins on the segments of a list."""
    for n in range(count):
        finish_segment(u, segments, n, walls, pins, w, k)


@njit(cache=True, nogil=True, error_model="numpy")
def unsaved(segments: Any, count: int, epochs: Any, epoch: int) -> int:  # pragma: no cover
    """How many segments of a list are not in the log of this epoch."""
    total = 0
    for n in range(count):
        total += np.int64(epochs[segments[n, NUMBER]] != epoch)
    return total


@njit(cache=True, nogil=True, error_model="numpy")
def log(
    segments: Any, count: int, u: Any, epochs: Any, epoch: int, rows: Any, values: Any, filled: int
) -> int:  # pragma: no cover
    """Write the values of segments that are not in the log yet; the new length of the log."""
    for n in range(count):
        number = segments[n, NUMBER]
        if epochs[number] == epoch:
            continue
        epochs[number] = epoch
        p = segments[n, BASE]
        for column in range(COLUMNS):
            rows[filled, column] = segments[n, column]
        for i in range(LANES):
            values[filled, i] = u[p + i]
        filled += 1
    return filled


@njit(cache=True, nogil=True, error_model="numpy")
def restore(rows: Any, values: Any, filled: int, u: Any, other: Any, w: Any) -> None:  # pragma: no cover
    """Write logged values back into both buffers."""
    for n in range(filled):
        p = rows[n, BASE]
        for i in range(LANES):
            u[p + i] = values[n, i]
            other[p + i] = values[n, i]
        if rows[n, AT_BORDER]:
            replicate(u, p, rows[n, Z], rows[n, Y], rows[n, X] // LANES, w)
            replicate(other, p, rows[n, Z], rows[n, Y], rows[n, X] // LANES, w)


@njit(cache=True, nogil=True, error_model="numpy")
def pad_all(u: Any, origin: int, w: Any) -> None:  # pragma: no cover
    """Renew all replicated voxels of a buffer."""
    for z in range(w[NZ]):
        for y in range(w[NY]):
            for s in range(w[ROW_SEGMENTS]):
                if at_border(z, y, s, w):
                    replicate(u, origin + z * w[SZ] + y * w[SY] + s * LANES, z, y, s, w)


@njit(cache=True, nogil=True, error_model="numpy")
def bits_of_flags(segments: Any, count: int, flags: Any, bits: Any) -> None:  # pragma: no cover
    """Keep the flags of a list (16 numbers a segment, in the order of the list) as bits of the segments."""
    for n in range(count):
        found = 0
        for i in range(LANES):
            if flags[n * LANES + i] > 0:
                found |= 1 << i
        bits[segments[n, NUMBER]] = found


@njit(cache=True, nogil=True, error_model="numpy")
def flags_of_bits(segments: Any, count: int, bits: Any, flags: Any) -> None:  # pragma: no cover
    """The reverse of `bits_of_flags` for another list."""
    for n in range(count):
        found = np.int64(bits[segments[n, NUMBER]])
        for i in range(LANES):
            flags[n * LANES + i] = (found >> i) & 1


@njit(cache=True, nogil=True, error_model="numpy")
def shares(first: int, last: int, u: Any, out: Any, origin: int, w: Any, k: Any) -> None:  # pragma: no cover
    """The share of every voxel inside, over the whole array, into an array of its shape."""
    zero = k[ZERO]
    for row in range(first, last):
        z, y = row // w[NY], row % w[NY]
        start = origin + z * w[SZ] + y * w[SY]
        for x in range(w[NX]):
            q = start + x
            c = u[q]
            lz, rz = u[q - w[SZ]], u[q + w[SZ]]
            ly, ry = u[q - w[SY]], u[q + w[SY]]
            lx, rx = u[q - 1], u[q + 1]
            gz, gy, gx = rz - lz, ry - ly, rx - lx
            width = np.sqrt(np.float64(gz * gz + gy * gy + gx * gx)) / 2
            mean = c + (((rz - c) - (c - lz)) + ((ry - c) - (c - ly)) + ((rx - c) - (c - lx))) / 24
            share = min(max(mean / width + 0.5, 0.0), 1.0) if width > 0 else (1.0 if c > zero else 0.0)
            out[row * w[NX] + x] = share
