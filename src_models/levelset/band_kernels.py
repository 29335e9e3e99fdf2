"""The level set equation, compiled: one step, the speeds and measures it needs, and the list of what it visits.

What is computed is written in `equation`, `redistancing`, `fields` and `measures`. Every kernel visits *segments*, 16
voxels along x, of an array with two replicated voxels around it, reads one buffer and writes another (Jacobi), and sums
in pieces of a fixed length, so neither the order of the segments nor the number of threads can change a bit. No fast
arithmetic is allowed: the same numbers come out on every processor.

Differences are written with strides; an axis of length 1 has the stride 0, so that all its differences vanish.

All kernels stand in this one file because what is kept compiled between two starts of the program is made anew when the
file of a function changes, but not when that of a function it calls does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

# Nothing is allocated here, so nothing is counted: to count references, atomically and in turn with other threads, cost
# a third of a step.
_OPTIONS: dict[str, Any] = {"cache": True, "nogil": True, "error_model": "numpy", "_nrt": False}
kernel: Callable[[Any], Any] = njit(**_OPTIONS)
inlined: Callable[[Any], Any] = njit(forceinline=True, **_OPTIONS)
woven: Callable[[Any], Any] = njit(inline="always", **_OPTIONS)

LANES = 16
PAD = 2

# Places in the array of numbers that every kernel gets, in the type of u, so that no constant widens the arithmetic.
ZERO, ONE, HALF, TWO, WIDTH, SWEEP, LEAST, MOST, FLOOR, EPS, DELTA2, FLAT, BEND_LIMIT, PEAK_SHARE, SHIFT, DT = range(16)
BALLOON, CURVATURE, CONVECTION, BALLOON_POWER, CURVATURE_POWER, CONVECTION_POWER = range(16, 22)
RATE_ROOT, RATE_SQUARES = 22, 23
INVERSE = 24  # 1/h, three numbers from here on
SPACING = 27  # h, three numbers
NUMBERS = 30

# Places in the array of whole numbers.
NZ, NY, NX, SZ, SY, ROW_SEGMENTS = range(6)
ORDER, GRADIENT, FORM, AT_FRONT, WALLS, PINS, IMAGES, PULL, EDGE_MODE, ONE_IMAGE = range(6, 16)
WHOLES = 16

# Columns of a list of segments.
BASE, Z, Y, X, AT_BORDER, NUMBER = range(6)
COLUMNS = 6

# Rows of the scratch array of a segment, 16 numbers each.
NORM, SLOPE, SHARE, DENSITY, BEND, GROWING, SHRINKING = 0, 1, 4, 5, 6, 7, 8
BALLOON_SPEED, CURVATURE_SPEED, EDGE, VELOCITY, PART = 9, 10, 11, 12, 15
MASK, BOUND, AT_EDGE, IN_WALL, AWAY = range(18, 23)
SCRATCH_ROWS = 25

GODUNOV, OSHER_SETHIAN, CENTRAL, NONE = range(4)
QUOTIENT, NESTED = range(2)

# Columns of the sums of a chunk.
SUM_SHARE, SUM_DENSITY, SUM_FREE, SUM_SPEED, MAX_RATE, MAX_SPEED = range(6)
SUMS = 6


# --- one step --------------------------------------------------------------------------------------------------------


@woven
def minmod(a: Any, b: Any, zero: Any) -> Any:  # pragma: no cover
    """0 where the signs differ, else the one of smaller magnitude."""
    return max(min(a, b), zero) + min(max(a, b), zero)


@kernel
def replicate(u: Any, base: Any, z: Any, y: Any, s: Any, w: Any) -> None:  # pragma: no cover
    """Renew the replicated voxels around the array that belong to a segment at its border."""
    lanes = np.int64(LANES)
    first, last = np.int64(base), np.int64(base) + lanes
    if s == 0:
        u[first - 1] = u[first]
        u[first - 2] = u[first]
        first -= 2
    if s == w[ROW_SEGMENTS] - 1:
        end = np.int64(base) + w[NX] - s * lanes  # one after the last voxel of the row
        last = np.int64(base) + lanes + 2
        for q in range(end, last):
            u[q] = u[end - 1]
    for dz in range(-2, 3):
        if (dz < 0 and z != 0) or (dz > 0 and z != w[NZ] - 1) or (dz != 0 and w[SZ] == 0):
            continue
        for dy in range(-2, 3):
            if (dy < 0 and y != 0) or (dy > 0 and y != w[NY] - 1) or (dy != 0 and w[SY] == 0):
                continue
            if dz == 0 and dy == 0:
                continue
            shift = dz * w[SZ] + dy * w[SY]
            for q in range(first, last):
                u[q + shift] = u[q]


@kernel
def constrain_segment(u: Any, base: Any, voxel: Any, count: Any, walls: Any, pins: Any, w: Any, k: Any) -> None:
    """Walls and pins on one segment; a pin on a wall is a pin."""
    half = k[FLOOR]
    for i in range(count):
        if w[WALLS] and walls[voxel + i]:
            u[base + i] = min(u[base + i], -half)
        if w[PINS] and pins[voxel + i]:
            u[base + i] = max(u[base + i], half)


@kernel
def move(
    first: int,
    last: int,
    lanes: int,
    segments: Any,
    u: Any,
    moved: Any,
    rate: Any,
    walls: Any,
    pins: Any,
    w: Any,
    k: Any,
) -> None:  # pragma: no cover
    """U + dt times its rate of change where |u| < w, clipped to +-w; then walls and pins."""
    dt, width = k[DT], k[WIDTH]
    constrained = w[WALLS] + w[PINS] > 0
    for n in range(first, last):
        p = np.uint64(segments[n, BASE])
        r = np.uint64(n * LANES)
        for i in range(np.uint64(lanes)):
            c = u[p + i]
            v = min(max(c + dt * rate[r + i], -width), width)
            moved[p + i] = v if abs(c) < width else c
        if constrained or segments[n, AT_BORDER]:
            finish_segment(moved, segments, n, walls, pins, w, k)


@kernel
def finish_segment(u: Any, segments: Any, n: Any, walls: Any, pins: Any, w: Any, k: Any) -> None:  # pragma: no cover
    """Walls, pins and the border after a segment was written."""
    z, y, x = segments[n, Z], segments[n, Y], segments[n, X]
    if w[WALLS] or w[PINS]:
        voxel = (z * w[NY] + y) * w[NX] + x
        constrain_segment(u, segments[n, BASE], voxel, min(np.int64(LANES), w[NX] - x), walls, pins, w, k)
    if segments[n, AT_BORDER]:
        replicate(u, segments[n, BASE], z, y, x // LANES, w)


@kernel
def rescale_near(
    first: int, last: int, lanes: int, segments: Any, u: Any, out: Any, near: Any, w: Any, k: Any
) -> None:  # pragma: no cover
    """Mark the voxels beside the front, and scale their slope into the dead band."""
    zero, one, half, least, most = k[ZERO], k[ONE], k[HALF], k[LEAST], k[MOST]
    sz, sy, sx = np.uint64(w[SZ]), np.uint64(w[SY]), np.uint64(1)
    iz, iy, ix = k[INVERSE], k[INVERSE + 1], k[INVERSE + 2]
    for n in range(first, last):
        p = np.uint64(segments[n, BASE])
        r = np.uint64(n * LANES)
        for i in range(np.uint64(lanes)):
            q = p + i
            c = u[q]
            inside = c > zero
            lz, rz, ly, ry, lx, rx = u[q - sz], u[q + sz], u[q - sy], u[q + sy], u[q - sx], u[q + sx]
            az, bz = (lz > zero) != inside, (rz > zero) != inside
            ay, by = (ly > zero) != inside, (ry > zero) != inside
            ax, bx = (lx > zero) != inside, (rx > zero) != inside
            tz = max(abs(c - lz) if az else zero, abs(rz - c) if bz else zero)
            ty = max(abs(c - ly) if ay else zero, abs(ry - c) if by else zero)
            tx = max(abs(c - lx) if ax else zero, abs(rx - c) if bx else zero)
            tz = (tz if az | bz else half * abs(rz - lz)) * iz
            ty = (ty if ay | by else half * abs(ry - ly)) * iy
            tx = (tx if ax | bx else half * abs(rx - lx)) * ix
            beside = az | bz | ay | by | ax | bx
            slope = np.sqrt(tz * tz + ty * ty + tx * tx)
            within = min(max(slope, least), most)
            scaled = c * (within / (slope if slope > zero else one))
            out[q] = scaled if beside & (within != slope) else c
            near[r + i] = one if beside else zero
        if segments[n, AT_BORDER]:
            replicate(out, segments[n, BASE], segments[n, Z], segments[n, Y], segments[n, X] // LANES, w)


@kernel
def sweep(
    first: int, last: int, lanes: int, segments: Any, u: Any, out: Any, near: Any, w: Any, k: Any
) -> None:  # pragma: no cover
    """One sweep towards slope 1, the voxels beside the front held; no sign changes."""
    zero, one, half, width, tau = k[ZERO], k[ONE], k[HALF], k[WIDTH], k[SWEEP]
    curved = half if w[ORDER] == 2 else zero
    s0, s1, s2 = np.uint64(w[SZ]), np.uint64(w[SY]), np.uint64(1)
    i0, i1, i2 = k[INVERSE], k[INVERSE + 1], k[INVERSE + 2]
    for n in range(first, last):
        p = np.uint64(segments[n, BASE])
        r = np.uint64(n * LANES)
        for i in range(np.uint64(lanes)):
            q = p + i
            c = u[q]
            inside = c > zero
            sign = one if inside else -one
            total = zero
            for axis in range(3):
                s = s0 if axis == 0 else (s1 if axis == 1 else s2)
                h = i0 if axis == 0 else (i1 if axis == 1 else i2)
                minus, plus = c - u[q - s], u[q + s] - c
                bend = plus - minus
                left = minus - (u[q - s] - u[q - s - s])
                right = (u[q + s + s] - u[q + s]) - plus
                a = max(-sign * (plus - curved * minmod(bend, right, zero)), zero) * h
                b = max(sign * (minus + curved * minmod(bend, left, zero)), zero) * h
                a = max(a, b)
                total = total + a * a
            moved = min(max(c - tau * sign * (np.sqrt(total) - one), -width), width)
            keep = (near[r + i] > zero) | ((moved > zero) != inside)
            out[q] = c if keep else moved
        if segments[n, AT_BORDER]:
            replicate(out, segments[n, BASE], segments[n, Z], segments[n, Y], segments[n, X] // LANES, w)


# --- which segments a step visits ------------------------------------------------------------------------------------
#
# A segment is in the list when one of its voxels lies in the band or within two face steps of it. Outside the list u is
# +-w and cannot change in a step. Bits say which of the 16 voxels of a segment lie in the band.


@woven
def at_border(z: Any, y: Any, s: Any, w: Any) -> Any:  # pragma: no cover
    """Whether a segment has replicated voxels beside it."""
    across = w[SZ] != 0 and (z == 0 or z == w[NZ] - 1)
    along = w[SY] != 0 and (y == 0 or y == w[NY] - 1)
    return across or along or s == 0 or s == w[ROW_SEGMENTS] - 1


@inlined
def across(u: Any, q: Any, sz: Any, sy: Any, zero: Any) -> Any:  # pragma: no cover
    """Whether a face neighbour lies on the other side of the front."""
    one = np.uint64(1)
    side = u[q] > zero
    along_z = ((u[q - sz] > zero) != side) | ((u[q + sz] > zero) != side)
    along_y = ((u[q - sy] > zero) != side) | ((u[q + sy] > zero) != side)
    return along_z | along_y | ((u[q - one] > zero) != side) | ((u[q + one] > zero) != side)


@kernel
def survey_all(
    first: int, last: int, u: Any, bits: Any, inside: Any, far: Any, origin: int, w: Any, k: Any
) -> Any:  # pragma: no cover
    """Bits and counts of every segment of some rows; bits also mark voxels with a neighbour on the other side.

    Returns
    -------
    tuple of int
        Voxels inside, and voxels at +w or more.
    """
    zero, width = k[ZERO], k[WIDTH]
    sz, sy = np.uint64(w[SZ]), np.uint64(w[SY])
    all_inside = all_far = 0
    for row in range(first, last):
        z, y = row // w[NY], row % w[NY]
        for s in range(w[ROW_SEGMENTS]):
            start = np.uint64(origin + z * w[SZ] + y * w[SY] + s * LANES)
            count = np.uint64(min(np.int64(LANES), w[NX] - s * LANES))
            chosen = np.int64(0)
            positive = np.int64(0)
            beyond = np.int64(0)
            for i in range(count):
                c = u[start + i]
                chosen += np.int64(abs(c) < width)
                positive += np.int64(c > zero)
                beyond += np.int64(c >= width)
            for i in range(count):
                chosen += np.int64(across(u, start + i, sz, sy, zero))
            found = np.int64(0)
            if chosen > 0:
                for i in range(count):
                    near = (abs(u[start + i]) < width) | across(u, start + i, sz, sy, zero)
                    found |= np.int64(near) << np.int64(i)
            number = row * w[ROW_SEGMENTS] + s
            bits[number] = found
            inside[number] = positive
            far[number] = beyond
            all_inside += positive
            all_far += beyond
    return all_inside, all_far


@kernel
def survey(
    first: int, last: int, segments: Any, u: Any, bits: Any, inside: Any, far: Any, fronts: bool, w: Any, k: Any
) -> Any:  # pragma: no cover
    """Renew bits and counts of a list of segments, `fronts` as in `survey_all`; the changes of the counts."""
    zero, width = k[ZERO], k[WIDTH]
    sz, sy = np.uint64(w[SZ]), np.uint64(w[SY])
    more_inside = more_far = 0
    for n in range(first, last):
        p, number = np.uint64(segments[n, BASE]), segments[n, NUMBER]
        count = np.uint64(min(np.int64(LANES), w[NX] - segments[n, X]))
        found = np.int64(0)
        positive = np.int64(0)
        beyond = np.int64(0)
        for i in range(count):
            c = u[p + i]
            near = abs(c) < width
            if fronts:
                near = near | across(u, p + i, sz, sy, zero)
            found |= np.int64(near) << np.int64(i)
            positive += np.int64(c > zero)
            beyond += np.int64(c >= width)
        more_inside += positive - np.int64(inside[number])
        more_far += beyond - np.int64(far[number])
        bits[number] = found
        inside[number] = positive
        far[number] = beyond
    return more_inside, more_far


@kernel
def mark(first: int, last: int, numbers: Any, bits: Any, marks: Any, w: Any) -> None:  # pragma: no cover
    """Mark every segment within two face steps of a bit, of the segments of a list."""
    nz, ny, length = w[NZ], w[NY], w[ROW_SEGMENTS]
    for n in range(first, last):
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


@kernel
def marked(first: int, last: int, words: Any) -> int:  # pragma: no cover
    """How many bytes of an array of 64-bit words are 1."""
    total = 0
    for n in range(first, last):
        word = words[n]
        if word != 0:
            for b in range(8):
                total += np.int64((word >> np.uint64(8 * b)) & np.uint64(1))
    return total


@kernel
def collect(
    first: int, last: int, n: int, words: Any, marks: Any, segments: Any, origin: int, box: Any, w: Any
) -> None:  # pragma: no cover
    """The marked segments of some words in the order of memory, from row n of the list on, and the box around them.

    The marks are taken away.
    """
    length, ny = w[ROW_SEGMENTS], w[NY]
    for axis in range(3):
        box[axis, 0], box[axis, 1] = w[NZ + axis], 0
    for block in range(first, last):
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


@kernel
def follow(segments: Any, count: int, marks: Any, u: Any, other: Any, w: Any) -> None:  # pragma: no cover
    """Bring the other buffer up to date where segments of the old list are not marked for the new one."""
    for n in range(count):
        if marks[segments[n, NUMBER]] == 0:
            p = segments[n, BASE]
            for i in range(LANES):
                other[p + i] = u[p + i]
            if segments[n, AT_BORDER]:
                replicate(other, p, segments[n, Z], segments[n, Y], segments[n, X] // LANES, w)


@kernel
def copy_list(segments: Any, count: int, source: Any, target: Any, w: Any) -> None:  # pragma: no cover
    """Copy the segments of a list from one buffer to the other."""
    for n in range(count):
        p = segments[n, BASE]
        for i in range(LANES):
            target[p + i] = source[p + i]
        if segments[n, AT_BORDER]:
            replicate(target, p, segments[n, Z], segments[n, Y], segments[n, X] // LANES, w)


@kernel
def constrain(segments: Any, count: int, u: Any, walls: Any, pins: Any, w: Any, k: Any) -> None:  # pragma: no cover
    """Walls and pins on the segments of a list."""
    for n in range(count):
        finish_segment(u, segments, n, walls, pins, w, k)


@kernel
def unsaved(first: int, last: int, segments: Any, epochs: Any, epoch: int) -> int:  # pragma: no cover
    """How many segments of a list are not in the log of this epoch."""
    total = 0
    for n in range(first, last):
        total += np.int64(epochs[segments[n, NUMBER]] != epoch)
    return total


@kernel
def log(
    first: int, last: int, segments: Any, u: Any, epochs: Any, epoch: int, rows: Any, values: Any, filled: int
) -> None:  # pragma: no cover
    """Write the values of segments that are not in the log yet, from its row `filled` on."""
    for n in range(first, last):
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


@kernel
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


@kernel
def pad_all(u: Any, origin: int, w: Any) -> None:  # pragma: no cover
    """Renew all replicated voxels of a buffer."""
    for z in range(w[NZ]):
        for y in range(w[NY]):
            for s in range(w[ROW_SEGMENTS]):
                if at_border(z, y, s, w):
                    replicate(u, origin + z * w[SZ] + y * w[SY] + s * LANES, z, y, s, w)


@kernel
def bits_of_flags(segments: Any, count: int, flags: Any, bits: Any) -> None:  # pragma: no cover
    """Keep the flags of a list (16 numbers a segment, in the order of the list) as bits of the segments."""
    for n in range(count):
        found = 0
        for i in range(LANES):
            if flags[n * LANES + i] > 0:
                found |= 1 << i
        bits[segments[n, NUMBER]] = found


@kernel
def flags_of_bits(segments: Any, count: int, bits: Any, flags: Any) -> None:  # pragma: no cover
    """The reverse of `bits_of_flags` for another list."""
    for n in range(count):
        found = np.int64(bits[segments[n, NUMBER]])
        for i in range(LANES):
            flags[n * LANES + i] = (found >> i) & 1


@kernel
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


# --- the speeds of a segment -----------------------------------------------------------------------------------------
#
# At its voxels for the time step, at the closest front points for the motion. Places are found for all 16 voxels at
# once and read by gathering; only beside walls and at the border of the array are they read corner by corner.


@kernel
def voxel_slopes(image: Any, z: Any, y: Any, x: Any, w: Any, k: Any) -> Any:  # pragma: no cover
    """D0 of an image at one voxel, indices clamped."""
    half = k[HALF]
    ny, nx = w[NY], w[NX]
    index = (z * ny + y) * nx + x
    up = index + (ny * nx if z < w[NZ] - 1 else 0)
    down = index - (ny * nx if z > 0 else 0)
    gz = half * k[INVERSE] * (image[up] - image[down])
    up = index + (nx if y < ny - 1 else 0)
    down = index - (nx if y > 0 else 0)
    gy = half * k[INVERSE + 1] * (image[up] - image[down])
    up = index + (1 if x < nx - 1 else 0)
    down = index - (1 if x > 0 else 0)
    gx = half * k[INVERSE + 2] * (image[up] - image[down])
    return gz, gy, gx


@kernel
def at_corners(image: Any, walls: Any, slopes: bool, place: Any, i: Any, scratch: Any, w: Any, k: Any) -> Any:
    """An image or its slopes at a place, corner by corner; walls count as 0."""
    value, gz, gy, gx = k[ZERO], k[ZERO], k[ZERO], k[ZERO]
    one = k[ONE]
    index = place[i]
    plane = w[NY] * w[NX]
    z0, y0, x0 = index // plane, (index // w[NX]) % w[NY], index % w[NX]
    fz, fy, fx = scratch[PART, i], scratch[PART + 1, i], scratch[PART + 2, i]
    for dz in range(2 if w[NZ] > 1 else 1):
        for dy in range(2 if w[NY] > 1 else 1):
            for dx in range(2 if w[NX] > 1 else 1):
                z, y, x = z0 + dz, y0 + dy, x0 + dx
                corner = (z * w[NY] + y) * w[NX] + x
                if w[WALLS] and walls[corner]:
                    continue
                weight = (fz if dz else one - fz) * (fy if dy else one - fy) * (fx if dx else one - fx)
                if slopes:
                    cz, cy, cx = voxel_slopes(image, z, y, x, w, k)
                    gz += weight * cz
                    gy += weight * cy
                    gx += weight * cx
                else:
                    value += weight * image[corner]
    return value, gz, gy, gx


@kernel
def raised(value: Any, power: Any, zero: Any, one: Any) -> Any:  # pragma: no cover
    """sign(x) |x|^power."""
    if power == zero:
        return one if value > zero else (-one if value < zero else zero)
    return value**power if value > zero else (-((-value) ** power) if value < zero else zero)


@inlined
def apply_powers(scratch: Any, w: Any, k: Any) -> None:  # pragma: no cover
    """From the images to S, W and v; the powers 0 and 1 round nothing."""
    zero, one = k[ZERO], k[ONE]
    has_edge = w[EDGE_MODE] or w[IMAGES]
    power = k[CONVECTION_POWER]
    if w[PULL] and has_edge and power != zero:
        for i in range(LANES):
            factor = scratch[EDGE, i] ** power
            for axis in range(3):
                scratch[VELOCITY + axis, i] *= factor
    power = k[CURVATURE_POWER]
    if not has_edge or power == zero:
        for i in range(LANES):
            scratch[CURVATURE_SPEED, i] = one
    elif power == one:
        for i in range(LANES):
            scratch[CURVATURE_SPEED, i] = scratch[EDGE, i]
    else:
        for i in range(LANES):
            scratch[CURVATURE_SPEED, i] = scratch[EDGE, i] ** power
    power = k[BALLOON_POWER]
    if power != one:
        for i in range(LANES):
            s = scratch[BALLOON_SPEED, i]
            if w[EDGE_MODE]:
                scratch[BALLOON_SPEED, i] = one if power == zero else s**power
            else:
                scratch[BALLOON_SPEED, i] = raised(s, power, zero, one)


@inlined
def copied(image: Any, first: Any, count: Any, row: Any, scratch: Any) -> None:  # pragma: no cover
    """A run of an image into a row; the whole segment at once where the row of the image has room for it."""
    if count == np.uint64(LANES):
        for i in range(np.uint64(LANES)):
            scratch[row, i] = image[first + i]
    else:
        for i in range(count):
            scratch[row, i] = image[first + i]


@inlined
def subtracted(
    image: Any, ahead: Any, behind: Any, count: Any, factor: Any, row: Any, scratch: Any
) -> None:  # pragma: no cover
    """The difference of two runs of an image into a row."""
    if count == np.uint64(LANES):
        for i in range(np.uint64(LANES)):
            scratch[row, i] = factor * (image[ahead + i] - image[behind + i])
    else:
        for i in range(count):
            scratch[row, i] = factor * (image[ahead + i] - image[behind + i])


@inlined
def at_voxels_away_from_the_border(
    start: Any, lanes: Any, primary: Any, pull: Any, scratch: Any, w: Any, k: Any
) -> None:  # pragma: no cover
    """The primary image and all slopes of a whole segment with neighbours on every side, in one wide loop."""
    half = k[HALF]
    iz, iy, ix = half * k[INVERSE], half * k[INVERSE + 1], half * k[INVERSE + 2]
    plane, row = w[NY] * w[NX] if w[NZ] > 1 else 0, w[NX] if w[NY] > 1 else 0
    first = np.uint64(start)
    above, below = np.uint64(start + plane), np.uint64(start - plane)
    front, back = np.uint64(start + row), np.uint64(start - row)
    right, left = np.uint64(start + 1), np.uint64(start - 1)
    for i in range(lanes):
        scratch[BALLOON_SPEED, i] = primary[first + i]
        scratch[VELOCITY, i] = iz * (pull[above + i] - pull[below + i])
        scratch[VELOCITY + 1, i] = iy * (pull[front + i] - pull[back + i])
        scratch[VELOCITY + 2, i] = ix * (pull[right + i] - pull[left + i])


@inlined
def at_voxels(
    count: Any, lanes: Any, z: Any, y: Any, x: Any, primary: Any, edge: Any, pull: Any, scratch: Any, w: Any, k: Any
) -> None:  # pragma: no cover
    """Images and slopes at the voxels of a segment."""
    ny, nx = w[NY], w[NX]
    start = (z * ny + y) * nx + x
    first = np.uint64(start)
    inner = (w[NZ] == 1 or (z > 0 and z < w[NZ] - 1)) and (ny == 1 or (y > 0 and y < ny - 1))
    if w[EDGE_MODE] and w[PULL] and inner and x > 0 and x + LANES < nx:
        at_voxels_away_from_the_border(start, lanes, primary, pull, scratch, w, k)
        for i in range(LANES):
            scratch[EDGE, i] = scratch[BALLOON_SPEED, i]
        return
    copied(primary, first, count, BALLOON_SPEED, scratch)
    if w[EDGE_MODE]:
        for i in range(LANES):
            scratch[EDGE, i] = scratch[BALLOON_SPEED, i]
    elif w[IMAGES]:
        copied(edge, first, count, EDGE, scratch)
    if not w[PULL]:
        return
    half = k[HALF]
    up = np.uint64(start + (ny * nx if z < w[NZ] - 1 else 0))
    down = np.uint64(start - (ny * nx if z > 0 else 0))
    subtracted(pull, up, down, count, half * k[INVERSE], VELOCITY, scratch)
    up = np.uint64(start + (nx if y < ny - 1 else 0))
    down = np.uint64(start - (nx if y > 0 else 0))
    subtracted(pull, up, down, count, half * k[INVERSE + 1], VELOCITY + 1, scratch)
    ix = half * k[INVERSE + 2]
    if x > 0 and x + LANES < nx:
        subtracted(pull, first + np.uint64(1), first - np.uint64(1), count, ix, VELOCITY + 2, scratch)
    else:
        for i in range(np.int64(count)):
            row, at = start - x, x + i
            ahead, behind = row + min(at + 1, nx - 1), row + max(at - 1, 0)
            scratch[VELOCITY + 2, i] = ix * (pull[ahead] - pull[behind])


@inlined
def bounds(lanes: Any, scratch: Any, k: Any) -> None:  # pragma: no cover
    """What each voxel asks of the time step."""
    root, squares, pulled = abs(k[BALLOON]) * k[RATE_ROOT], k[RATE_SQUARES], k[CONVECTION]
    iz, iy, ix = pulled * k[INVERSE], pulled * k[INVERSE + 1], pulled * k[INVERSE + 2]
    for i in range(lanes):
        bound = root * abs(scratch[BALLOON_SPEED, i]) + squares * scratch[CURVATURE_SPEED, i]
        along = abs(scratch[VELOCITY, i]) * iz + abs(scratch[VELOCITY + 1, i]) * iy
        scratch[BOUND, i] = bound + (along + abs(scratch[VELOCITY + 2, i]) * ix)


@woven
def clamped(x: Any, low: Any, high: Any) -> Any:  # pragma: no cover
    """x between low and high; low where it is not a number."""
    x = x if x >= low else low
    return x if x <= high else high


@inlined
def places(
    u: Any, p: Any, lanes: Any, z: Any, y: Any, x: Any, scratch: Any, place: Any, w: Any, k: Any
) -> None:  # pragma: no cover
    """The voxel below the closest front point of each voxel, and the shares of the ones above, along each axis.

    Places at the border of the array, where slopes want clamped indices, are flagged. Whatever u holds, a place lies in
    the array: `min` and `max` let a NaN pass, `clamped` does not.
    """
    zero, one, eps = k[ZERO], k[ONE], k[EPS]
    iz, iy, ix = k[INVERSE], k[INVERSE + 1], k[INVERSE + 2]
    nz, ny, nx = w[NZ], w[NY], w[NX]
    # Relative to the voxel, so that its place in the array rounds nothing. An axis of length 1 has one place.
    low_z, low_y, low_x = zero - z, zero - y, zero - x
    top_z, top_y, top_x = zero + (nz - 1 - z), zero + (ny - 1 - y), zero + (nx - 1 - x)
    long_z, long_y, long_x = one * (nz > 1), one * (ny > 1), one * (nx > 1)
    start = (z * ny + y) * nx + x
    plane = ny * nx
    for i in range(lanes):
        c, inside = u[p + i], scratch[MASK, i]
        guarded = scratch[NORM, i] + eps
        step = -c / (guarded if guarded > zero else one)
        step = step if guarded > zero else zero
        step = step if inside > zero else zero
        scratch[AWAY, i] = clamped(step * scratch[SLOPE, i] * iz, low_z, top_z)
        scratch[AWAY + 1, i] = clamped(step * scratch[SLOPE + 1, i] * iy, low_y, top_y)
        scratch[AWAY + 2, i] = step * scratch[SLOPE + 2, i] * ix
    for i in range(lanes):
        lane = zero + np.int32(i)
        wz, wy = scratch[AWAY, i], scratch[AWAY + 1, i]
        wx = clamped(scratch[AWAY + 2, i], low_x - lane, top_x - lane)
        bz = min(np.floor(wz), top_z - long_z)
        by = min(np.floor(wy), top_y - long_y)
        bx = min(np.floor(wx), top_x - lane - long_x)
        scratch[PART, i] = wz - bz
        scratch[PART + 1, i] = wy - by
        scratch[PART + 2, i] = wx - bx
        scratch[AWAY, i] = bz
        scratch[AWAY + 1, i] = by
        scratch[AWAY + 2, i] = bx + lane
    for i in range(lanes):
        bz, by, bx = scratch[AWAY, i], scratch[AWAY + 1, i], scratch[AWAY + 2, i]
        room = min(min(bz - low_z - long_z, top_z - long_z - long_z - bz), by - low_y - long_y)
        room = min(min(room, top_y - long_y - long_y - by), bx - low_x - long_x)
        room = min(room, top_x - long_x - long_x - bx)
        scratch[AT_EDGE, i] = one if room < zero else zero
        place[i] = start + np.int64(bz) * plane + np.int64(by) * nx + np.int64(bx)


@inlined
def gather(image: Any, place: Any, row: Any, lanes: Any, scratch: Any, w: Any, k: Any) -> None:  # pragma: no cover
    """Multilinear interpolation of an image at the places."""
    one = k[ONE]
    jz = np.int64(w[NY] * w[NX] if w[NZ] > 1 else 0)
    jy, jx = np.int64(w[NX] if w[NY] > 1 else 0), np.int64(1 if w[NX] > 1 else 0)
    for i in range(lanes):
        fy, fx = scratch[PART + 1, i], scratch[PART + 2, i]
        at = np.uint64(place[i])
        a = (one - fx) * image[at] + fx * image[at + np.uint64(jx)]
        at = np.uint64(place[i] + jy)
        b = (one - fx) * image[at] + fx * image[at + np.uint64(jx)]
        scratch[row, i] = (one - fy) * a + fy * b
    if jz == 0:
        return
    for i in range(lanes):
        fz, fy, fx = scratch[PART, i], scratch[PART + 1, i], scratch[PART + 2, i]
        at = np.uint64(place[i] + jz)
        a = (one - fx) * image[at] + fx * image[at + np.uint64(jx)]
        at = np.uint64(place[i] + jz + jy)
        b = (one - fx) * image[at] + fx * image[at + np.uint64(jx)]
        scratch[row, i] = (one - fz) * scratch[row, i] + fz * ((one - fy) * a + fy * b)


@inlined
def line(image: Any, at: Any, j: Any, f: Any, one: Any) -> Any:  # pragma: no cover
    """Linear interpolation along x."""
    i = np.uint64(at)
    return (one - f) * image[i] + f * image[i + np.uint64(j)]


@inlined
def line_slope(image: Any, at: Any, f: Any, one: Any) -> Any:  # pragma: no cover
    """Twice the central difference along x, interpolated along x."""
    i = np.uint64(at)
    step, two = np.uint64(1), np.uint64(2)
    return (one - f) * (image[i + step] - image[i - step]) + f * (image[i + two] - image[i])


@inlined
def interpolated(image: Any, place: Any, i: Any, scratch: Any, w: Any, k: Any) -> Any:  # pragma: no cover
    """What `gather` computes, at one place."""
    one = k[ONE]
    jz = np.int64(w[NY] * w[NX] if w[NZ] > 1 else 0)
    jy, jx = np.int64(w[NX] if w[NY] > 1 else 0), np.int64(1 if w[NX] > 1 else 0)
    fz, fy, fx = scratch[PART, i], scratch[PART + 1, i], scratch[PART + 2, i]
    at = place[i]
    value = (one - fy) * line(image, at, jx, fx, one) + fy * line(image, at + jy, jx, fx, one)
    if jz == 0:
        return value
    at += jz
    above = (one - fy) * line(image, at, jx, fx, one) + fy * line(image, at + jy, jx, fx, one)
    return (one - fz) * value + fz * above


@inlined
def gather_slopes(image: Any, place: Any, values: Any, scratch: Any, w: Any, k: Any) -> None:  # pragma: no cover
    """Central differences of an image at the places, away from the border: interpolate first, then subtract.

    With `values` also what `gather` computes, which needs no more to be read.
    """
    zero, one, half = k[ZERO], k[ONE], k[HALF]
    jz = np.int64(w[NY] * w[NX] if w[NZ] > 1 else 0)
    jy, jx = np.int64(w[NX] if w[NY] > 1 else 0), np.int64(1 if w[NX] > 1 else 0)
    iz, iy, ix = half * k[INVERSE], half * k[INVERSE + 1], half * k[INVERSE + 2]
    for i in range(LANES):
        if scratch[MASK, i] == zero or scratch[AT_EDGE, i] > zero:
            scratch[VELOCITY, i] = scratch[VELOCITY + 1, i] = scratch[VELOCITY + 2, i] = zero
            if values:
                scratch[BALLOON_SPEED, i] = interpolated(image, place, i, scratch, w, k)
            continue
        fz, fy, fx = scratch[PART, i], scratch[PART + 1, i], scratch[PART + 2, i]
        hz, hy = one - fz, one - fy
        at = place[i]
        b, c = line(image, at, jx, fx, one), line(image, at + jy, jx, fx, one)
        gz = gy = gx = zero
        value = hy * b + fy * c
        if jx:
            gx = hy * line_slope(image, at, fx, one) + fy * line_slope(image, at + jy, fx, one)
        if jy:
            gy = hy * (c - line(image, at - jy, jx, fx, one)) + fy * (line(image, at + jy + jy, jx, fx, one) - b)
        if jz:
            up = at + jz
            d, e = line(image, up, jx, fx, one), line(image, up + jy, jx, fx, one)
            if jx:
                above = hy * line_slope(image, up, fx, one) + fy * line_slope(image, up + jy, fx, one)
                gx = hz * gx + fz * above
            if jy:
                above = hy * (e - line(image, up - jy, jx, fx, one)) + fy * (line(image, up + jy + jy, jx, fx, one) - d)
                gy = hz * gy + fz * above
            under, over = at - jz, up + jz
            below = hy * line(image, under, jx, fx, one) + fy * line(image, under + jy, jx, fx, one)
            beyond = hy * line(image, over, jx, fx, one) + fy * line(image, over + jy, jx, fx, one)
            over_z = hy * d + fy * e
            gz = hz * (over_z - below) + fz * (beyond - value)
            value = hz * value + fz * over_z
        if values:
            scratch[BALLOON_SPEED, i] = value
        scratch[VELOCITY, i], scratch[VELOCITY + 1, i], scratch[VELOCITY + 2, i] = iz * gz, iy * gy, ix * gx


@kernel
def flag_walls(place: Any, walls: Any, scratch: Any, w: Any, k: Any) -> Any:  # pragma: no cover
    """Flag the places of which a corner is a wall; whether there is one."""
    jz = np.int64(w[NY] * w[NX] if w[NZ] > 1 else 0)
    jy, jx = np.int64(w[NX] if w[NY] > 1 else 0), np.int64(1 if w[NX] > 1 else 0)
    found = False
    for i in range(LANES):
        beside = False
        for corner in range(8):
            at = place[i] + (corner & 1) * jx + ((corner >> 1) & 1) * jy + ((corner >> 2) & 1) * jz
            beside = beside or walls[at]
        scratch[IN_WALL, i] = k[ONE] if beside else k[ZERO]
        found = found or beside
    return found


@inlined
def at_fronts(
    count: Any,
    lanes: Any,
    primary: Any,
    edge: Any,
    pull: Any,
    walls: Any,
    scratch: Any,
    place: Any,
    w: Any,
    k: Any,
) -> None:  # pragma: no cover
    """Images and slopes at the front points that were found by `places`."""
    # Each voxel by its own place: how it lies in a segment must not change a bit.
    zero = k[ZERO]
    beside_walls = w[WALLS] != 0 and flag_walls(place, walls, scratch, w, k)
    if w[ONE_IMAGE]:
        gather_slopes(primary, place, True, scratch, w, k)
    else:
        gather(primary, place, BALLOON_SPEED, lanes, scratch, w, k)
        if w[PULL]:
            gather_slopes(pull, place, False, scratch, w, k)
    if w[IMAGES]:
        gather(edge, place, EDGE, lanes, scratch, w, k)
    if beside_walls:
        for i in range(count):
            if scratch[IN_WALL, i] > zero:
                scratch[BALLOON_SPEED, i] = at_corners(primary, walls, False, place, i, scratch, w, k)[0]
                if w[IMAGES]:
                    scratch[EDGE, i] = at_corners(edge, walls, False, place, i, scratch, w, k)[0]
    if w[EDGE_MODE]:
        for i in range(LANES):
            scratch[EDGE, i] = scratch[BALLOON_SPEED, i]
    if w[PULL]:
        for i in range(count):
            by_corners = scratch[AT_EDGE, i] > zero or (beside_walls and scratch[IN_WALL, i] > zero)
            if by_corners and scratch[MASK, i] > zero:
                _, gz, gy, gx = at_corners(pull, walls, True, place, i, scratch, w, k)
                scratch[VELOCITY, i], scratch[VELOCITY + 1, i], scratch[VELOCITY + 2, i] = gz, gy, gx


@inlined
def read_speeds(
    u: Any,
    p: Any,
    lanes: Any,
    z: Any,
    y: Any,
    x: Any,
    primary: Any,
    edge: Any,
    pull: Any,
    walls: Any,
    scratch: Any,
    place: Any,
    w: Any,
    k: Any,
) -> None:  # pragma: no cover
    """S, W, v and the bound of the time step of a segment, into scratch."""
    zero = k[ZERO]
    count = min(np.int64(LANES), w[NX] - x)
    voxel = (z * w[NY] + y) * w[NX] + x
    at_voxels(np.uint64(count), lanes, z, y, x, primary, edge, pull, scratch, w, k)
    apply_powers(scratch, w, k)
    bounds(lanes, scratch, k)
    if w[AT_FRONT]:
        places(u, p, lanes, z, y, x, scratch, place, w, k)
        at_fronts(count, lanes, primary, edge, pull, walls, scratch, place, w, k)
        apply_powers(scratch, w, k)
    if w[WALLS]:
        for i in range(count):
            if walls[voxel + i]:
                scratch[BOUND, i] = zero
                scratch[CURVATURE_SPEED, i] = scratch[BALLOON_SPEED, i] = zero
                scratch[VELOCITY, i] = scratch[VELOCITY + 1, i] = scratch[VELOCITY + 2, i] = zero


# --- the terms of the equation and the measures of the front ---------------------------------------------------------


@inlined
def slopes_and_measures(u: Any, p: Any, lanes: Any, scratch: Any, w: Any, k: Any) -> None:  # pragma: no cover
    """D0 u, |Du|, the share of each voxel inside, and the front in it."""
    zero, one, half, shift, delta2 = k[ZERO], k[ONE], k[HALF], k[SHIFT], k[DELTA2]
    sz, sy, sx = np.uint64(w[SZ]), np.uint64(w[SY]), np.uint64(1)
    iz, iy, ix = half * k[INVERSE], half * k[INVERSE + 1], half * k[INVERSE + 2]
    twelfth = one / (k[TWO] * k[TWO] * k[TWO] * (k[TWO] + one))
    per_shift = half / shift
    for i in range(lanes):
        q = p + i
        c = u[q]
        lz, rz, ly, ry, lx, rx = u[q - sz], u[q + sz], u[q - sy], u[q + sy], u[q - sx], u[q + sx]
        gz, gy, gx = rz - lz, ry - ly, rx - lx
        mean = c + twelfth * (((rz - c) - (c - lz)) + ((ry - c) - (c - ly)) + ((rx - c) - (c - lx)))
        width = half * np.sqrt(gz * gz + gy * gy + gx * gx)
        safe = width if width > zero else one
        inside = one if c > zero else zero
        share = min(max(mean / safe + half, zero), one)
        above = min(max((mean + shift) / safe + half, zero), one)
        below = min(max((mean - shift) / safe + half, zero), one)
        scratch[SHARE, i] = share if width > zero else inside
        scratch[DENSITY, i] = (above - below) * per_shift if width > zero else zero
        gz, gy, gx = gz * iz, gy * iy, gx * ix
        scratch[SLOPE, i] = gz
        scratch[SLOPE + 1, i] = gy
        scratch[SLOPE + 2, i] = gx
        scratch[NORM, i] = np.sqrt(gz * gz + gy * gy + gx * gx + delta2)


@inlined
def quotient_curvature(u: Any, p: Any, lanes: Any, scratch: Any, w: Any, k: Any) -> None:  # pragma: no cover
    """K from the quotient of second differences, clamped; at a peak from the Laplacian."""
    zero, two, half, eps, flat, limit = k[ZERO], k[TWO], k[HALF], k[EPS], k[FLAT], k[BEND_LIMIT]
    sz, sy, sx = np.uint64(w[SZ]), np.uint64(w[SY]), np.uint64(1)
    iz, iy, ix = k[INVERSE], k[INVERSE + 1], k[INVERSE + 2]
    kz, ky, kx = iz * iz, iy * iy, ix * ix
    quarter = half * half
    cross_zy, cross_zx, cross_yx = quarter * iz * iy, quarter * iz * ix, quarter * iy * ix
    peak_share = k[PEAK_SHARE]
    without_norm = w[GRADIENT] == NONE
    for i in range(lanes):
        q = p + i
        c = u[q]
        norm = scratch[NORM, i]
        gz, gy, gx = scratch[SLOPE, i], scratch[SLOPE + 1, i], scratch[SLOPE + 2, i]
        bz = ((u[q - sz] - c) + (u[q + sz] - c)) * kz
        by = ((u[q - sy] - c) + (u[q + sy] - c)) * ky
        bx = ((u[q - sx] - c) + (u[q + sx] - c)) * kx
        zy = ((u[q + sz + sy] - u[q + sz - sy]) - (u[q - sz + sy] - u[q - sz - sy])) * cross_zy
        zx = ((u[q + sz + sx] - u[q + sz - sx]) - (u[q - sz + sx] - u[q - sz - sx])) * cross_zx
        yx = ((u[q + sy + sx] - u[q + sy - sx]) - (u[q - sy + sx] - u[q - sy - sx])) * cross_yx
        qz, qy, qx = gz * gz, gy * gy, gx * gx
        top = bz * (qy + qx) + by * (qz + qx) + bx * (qz + qy) - two * (gz * gy * zy + gz * gx * zx + gy * gx * yx)
        guarded = norm + eps
        cubed = guarded * guarded * guarded
        kappa = min(max(top / cubed, -limit), limit) if cubed > zero else zero
        peak = min(max(peak_share * (bz + by + bx), -limit), limit)
        sloping = kappa if without_norm else kappa * norm
        scratch[BEND, i] = peak if norm < flat else sloping


@kernel
def direction(u: Any, q: Any, s: Any, h: Any, w: Any, k: Any) -> Any:  # pragma: no cover
    """D0 u along one axis (stride s, 1/h) over |Du| + eps, at one voxel."""
    half = k[HALF]
    sz, sy = w[SZ], w[SY]
    gz = half * k[INVERSE] * (u[q + sz] - u[q - sz])
    gy = half * k[INVERSE + 1] * (u[q + sy] - u[q - sy])
    gx = half * k[INVERSE + 2] * (u[q + 1] - u[q - 1])
    norm = np.sqrt(gz * gz + gy * gy + gx * gx + k[DELTA2]) + k[EPS]
    return half * h * (u[q + s] - u[q - s]) / norm if norm > k[ZERO] else k[ZERO]


@kernel
def nested_curvature(
    u: Any, p: Any, z: Any, y: Any, x: Any, count: Any, scratch: Any, w: Any, k: Any
) -> None:  # pragma: no cover
    """K from nested central differences; the array of directions is edge-replicated like every other."""
    half = k[HALF]
    for i in range(count):
        q = np.int64(p) + i
        kappa = k[ZERO]
        for axis in range(3):
            s = w[SZ] if axis == 0 else (w[SY] if axis == 1 else 1)
            place = z if axis == 0 else (y if axis == 1 else x + i)
            size = w[NZ + axis]
            if size == 1:
                continue
            ahead = q + (s if place < size - 1 else 0)
            behind = q - (s if place > 0 else 0)
            h = k[INVERSE + axis]
            kappa += (direction(u, ahead, s, h, w, k) - direction(u, behind, s, h, w, k)) * half * h
        scratch[BEND, i] = kappa if w[GRADIENT] == NONE else kappa * scratch[NORM, i]


@inlined
def upwind_norms(u: Any, p: Any, lanes: Any, scratch: Any, w: Any, k: Any) -> None:  # pragma: no cover
    """The growing and the shrinking norm; which one counts is decided by the sign of the speed."""
    zero, half = k[ZERO], k[HALF]
    curved = half if w[ORDER] == 2 else zero
    summed = k[ONE] if w[GRADIENT] == OSHER_SETHIAN else zero
    s0, s1, s2 = np.uint64(w[SZ]), np.uint64(w[SY]), np.uint64(1)
    i0, i1, i2 = k[INVERSE], k[INVERSE + 1], k[INVERSE + 2]
    for i in range(lanes):
        q = p + i
        c = u[q]
        growing, shrinking = zero, zero
        for axis in range(3):
            s = s0 if axis == 0 else (s1 if axis == 1 else s2)
            h = i0 if axis == 0 else (i1 if axis == 1 else i2)
            minus, plus = c - u[q - s], u[q + s] - c
            bend = plus - minus
            left = minus - (u[q - s] - u[q - s - s])
            right = (u[q + s + s] - u[q + s]) - plus
            plus = (plus - curved * minmod(bend, right, zero)) * h
            minus = (minus + curved * minmod(bend, left, zero)) * h
            a, b = max(plus, zero), max(-minus, zero)
            a, b = a * a, b * b
            growing = growing + max(a, b) + summed * min(a, b)
            a, b = max(-plus, zero), max(minus, zero)
            a, b = a * a, b * b
            shrinking = shrinking + max(a, b) + summed * min(a, b)
        scratch[GROWING, i] = np.sqrt(growing)
        scratch[SHRINKING, i] = np.sqrt(shrinking)


@inlined
def rates(u: Any, p: Any, r: Any, lanes: Any, rate: Any, scratch: Any, w: Any, k: Any) -> None:  # pragma: no cover
    """u_t of a segment from what is in scratch."""
    zero, one = k[ZERO], k[ONE]
    balloon, curvature, convection = k[BALLOON], k[CURVATURE], k[CONVECTION]
    sz, sy, sx = np.uint64(w[SZ]), np.uint64(w[SY]), np.uint64(1)
    iz, iy, ix = convection * k[INVERSE], convection * k[INVERSE + 1], convection * k[INVERSE + 2]
    if w[GRADIENT] == CENTRAL or w[GRADIENT] == NONE:
        for i in range(lanes):
            norm = scratch[NORM, i] if w[GRADIENT] == CENTRAL else one
            scratch[GROWING, i] = norm
            scratch[SHRINKING, i] = norm
    for i in range(lanes):
        q = p + i
        c, s, inside = u[q], balloon * scratch[BALLOON_SPEED, i], scratch[MASK, i]
        growing, shrinking = scratch[GROWING, i], scratch[SHRINKING, i]
        total = s * (growing if s >= zero else shrinking)
        total = total + curvature * scratch[CURVATURE_SPEED, i] * scratch[BEND, i]
        vz, vy, vx = scratch[VELOCITY, i], scratch[VELOCITY + 1, i], scratch[VELOCITY + 2, i]
        total += (max(vz, zero) * (u[q + sz] - c) - max(-vz, zero) * (c - u[q - sz])) * iz
        total += (max(vy, zero) * (u[q + sy] - c) - max(-vy, zero) * (c - u[q - sy])) * iy
        total += (max(vx, zero) * (u[q + sx] - c) - max(-vx, zero) * (c - u[q - sx])) * ix
        rate[r + i] = total if inside > zero else zero


@inlined
def mask_of_band(u: Any, p: Any, count: Any, scratch: Any, k: Any) -> None:  # pragma: no cover
    """1 where a voxel lies in the band, else 0."""
    zero, one, width = k[ZERO], k[ONE], k[WIDTH]
    for i in range(LANES):
        scratch[MASK, i] = zero
    for i in range(count):
        scratch[MASK, i] = one if abs(u[p + i]) < width else zero


@kernel
def look(
    first: int,
    last: int,
    chunk: int,
    lanes: int,
    segments: Any,
    bits: Any,
    u: Any,
    rate: Any,
    primary: Any,
    edge: Any,
    pull: Any,
    walls: Any,
    threshold: float,
    scratch: Any,
    place: Any,
    sums: Any,
    w: Any,
    k: Any,
) -> None:  # pragma: no cover
    """Rates and measures of the segments of some chunks; `sums` has one row a chunk, so threads change no bit."""
    zero = k[ZERO]
    every = np.uint64(lanes)
    upwind = w[GRADIENT] == GODUNOV or w[GRADIENT] == OSHER_SETHIAN
    size = abs(np.float64(k[BALLOON]))
    for part in range(first, last):
        share = density = free = speed = fastest = largest = 0.0
        for n in range(part * chunk, min((part + 1) * chunk, segments.shape[0])):
            r = np.uint64(n * LANES)
            if bits[segments[n, NUMBER]] == 0:
                for i in range(every):
                    rate[r + i] = zero
                continue
            p = np.uint64(segments[n, BASE])
            z, y, x = segments[n, Z], segments[n, Y], segments[n, X]
            count = min(np.int64(LANES), w[NX] - x)
            mask_of_band(u, p, np.uint64(count), scratch, k)
            slopes_and_measures(u, p, every, scratch, w, k)
            if upwind:
                upwind_norms(u, p, every, scratch, w, k)
            if k[CURVATURE] != zero:
                if w[FORM] == QUOTIENT:
                    quotient_curvature(u, p, every, scratch, w, k)
                else:
                    nested_curvature(u, p, z, y, x, count, scratch, w, k)
            read_speeds(u, p, every, z, y, x, primary, edge, pull, walls, scratch, place, w, k)
            rates(u, p, r, every, rate, scratch, w, k)
            for i in range(LANES):
                m = np.float64(scratch[MASK, i])
                s = m * np.float64(scratch[BALLOON_SPEED, i])
                d = m * np.float64(scratch[DENSITY, i])
                share += m * np.float64(scratch[SHARE, i])
                density += d
                speed += d * s
                free += d if size * s > threshold else 0.0
                fastest = max(fastest, abs(s))
                largest = max(largest, m * np.float64(scratch[BOUND, i]))
        sums[part, SUM_SHARE] = share
        sums[part, SUM_DENSITY] = density
        sums[part, SUM_FREE] = free
        sums[part, SUM_SPEED] = speed
        sums[part, MAX_SPEED] = fastest
        sums[part, MAX_RATE] = largest


@kernel
def free_voxels(
    segments: Any,
    bits: Any,
    lanes: int,
    u: Any,
    primary: Any,
    edge: Any,
    pull: Any,
    walls: Any,
    threshold: float,
    scratch: Any,
    place: Any,
    flags: Any,
    w: Any,
    k: Any,
) -> None:  # pragma: no cover
    """Flag the voxels of the front where |balloon| S is above the threshold, in an array of the shape of u."""
    size = abs(np.float64(k[BALLOON]))
    for n in range(segments.shape[0]):
        if bits[segments[n, NUMBER]] == 0:
            continue
        p = np.uint64(segments[n, BASE])
        z, y, x = segments[n, Z], segments[n, Y], segments[n, X]
        count = min(np.int64(LANES), w[NX] - x)
        mask_of_band(u, p, np.uint64(count), scratch, k)
        slopes_and_measures(u, p, np.uint64(lanes), scratch, w, k)
        read_speeds(u, p, np.uint64(lanes), z, y, x, primary, edge, pull, walls, scratch, place, w, k)
        for i in range(count):
            free = size * np.float64(scratch[BALLOON_SPEED, i]) > threshold
            inside = scratch[MASK, i] > k[ZERO] and scratch[DENSITY, i] > k[ZERO]
            flags[(z * w[NY] + y) * w[NX] + x + i] = free and inside


# --- labels that meet ------------------------------------------------------------------------------------------------
#
# What is computed is written in `coupling`. The boxes of all labels begin at a multiple of 16 voxels along x, so that a
# segment of one label is a segment of every other one whose box holds it. What a label becomes is kept apart until
# every label was seen (Jacobi), then written.


@woven
def number_beside(z: Any, y: Any, s: Any, w: Any) -> Any:  # pragma: no cover
    """The number of a segment of another box; -1 where it has none there."""
    if z < 0 or z >= w[NZ] or y < 0 or y >= w[NY] or s < 0 or s >= w[ROW_SEGMENTS]:
        return -1
    return (z * w[NY] + y) * w[ROW_SEGMENTS] + s


@kernel
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


@kernel
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


@kernel
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


@kernel
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


@kernel
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
