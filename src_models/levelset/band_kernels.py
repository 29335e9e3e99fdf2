"""The step of the level set, compiled: constraints and redistancing on runs of 16 voxels.

Every kernel visits a list of *segments*, 16 voxels along x, of an array with two replicated voxels around it, reads one
buffer and writes another (Jacobi), so neither the order of the segments nor the number of threads can change a bit. No
fast arithmetic is allowed: the same numbers come out on every processor.

Differences are written with strides; an axis of length 1 has the stride 0, so that all its differences vanish.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

LANES = 16
PAD = 2

# Places in the array of numbers that every kernel gets, in the type of u, so that no constant widens the arithmetic.
ZERO, ONE, HALF, TWO, WIDTH, SWEEP, LEAST, MOST, FLOOR, EPS, DELTA2, FLAT, BEND_LIMIT, PEAK_SHARE, SHIFT, DT = range(16)
BALLOON, CURVATURE, CONVECTION, BALLOON_POWER, CURVATURE_POWER, CONVECTION_POWER, RATE_ROOT, RATE_SQUARES = range(
    16, 24
)
INVERSE = 24  # 1/h, three numbers from here on
SPACING = 27  # h, three numbers
NUMBERS = 30

# Places in the array of whole numbers.
NZ, NY, NX, SZ, SY, ROW_SEGMENTS, ORDER, GRADIENT, FORM, AT_FRONT, WALLS, PINS, IMAGES, PULL, EDGE_MODE, BANDED = range(
    16
)
WHOLES = 16


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def minmod(a: Any, b: Any, zero: Any) -> Any:  # pragma: no cover
    """0 where the signs differ, else the one of smaller magnitude."""
    return max(min(a, b), zero) + min(max(a, b), zero)


@njit(cache=True, nogil=True, error_model="numpy")
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


@njit(cache=True, nogil=True, error_model="numpy")
def constrain_segment(u: Any, base: Any, voxel: Any, count: Any, walls: Any, pins: Any, w: Any, k: Any) -> None:
    """Walls and pins on one segment; a pin on a wall is a pin."""
    half = k[FLOOR]
    for i in range(count):
        if w[WALLS] and walls[voxel + i]:
            u[base + i] = min(u[base + i], -half)
        if w[PINS] and pins[voxel + i]:
            u[base + i] = max(u[base + i], half)


@njit(cache=True, nogil=True, error_model="numpy")
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
        p = np.uint64(segments[n, 0])
        r = np.uint64(n * LANES)
        for i in range(np.uint64(lanes)):
            c = u[p + i]
            v = min(max(c + dt * rate[r + i], -width), width)
            moved[p + i] = v if abs(c) < width else c
        if constrained or segments[n, 4]:
            finish_segment(moved, segments, n, walls, pins, w, k)


@njit(cache=True, nogil=True, error_model="numpy")
def finish_segment(u: Any, segments: Any, n: Any, walls: Any, pins: Any, w: Any, k: Any) -> None:  # pragma: no cover
    """Walls, pins and the border after a segment was written."""
    z, y, x = segments[n, 1], segments[n, 2], segments[n, 3]
    if w[WALLS] or w[PINS]:
        voxel = (z * w[NY] + y) * w[NX] + x
        constrain_segment(u, segments[n, 0], voxel, min(np.int64(LANES), w[NX] - x), walls, pins, w, k)
    if segments[n, 4]:
        replicate(u, segments[n, 0], z, y, x // LANES, w)


@njit(cache=True, nogil=True, error_model="numpy")
def rescale_near(
    first: int, last: int, lanes: int, segments: Any, u: Any, out: Any, near: Any, w: Any, k: Any
) -> None:  # pragma: no cover
    """Mark the voxels beside the front, and scale their slope into the dead band."""
    zero, one, half, least, most = k[ZERO], k[ONE], k[HALF], k[LEAST], k[MOST]
    sz, sy, sx = np.uint64(w[SZ]), np.uint64(w[SY]), np.uint64(1)
    iz, iy, ix = k[INVERSE], k[INVERSE + 1], k[INVERSE + 2]
    for n in range(first, last):
        p = np.uint64(segments[n, 0])
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
        if segments[n, 4]:
            replicate(out, segments[n, 0], segments[n, 1], segments[n, 2], segments[n, 3] // LANES, w)


@njit(cache=True, nogil=True, error_model="numpy")
def sweep(
    first: int, last: int, lanes: int, segments: Any, u: Any, out: Any, near: Any, w: Any, k: Any
) -> None:  # pragma: no cover
    """One sweep towards slope 1, the voxels beside the front held; no sign changes."""
    zero, one, half, width, tau = k[ZERO], k[ONE], k[HALF], k[WIDTH], k[SWEEP]
    curved = half if w[ORDER] == 2 else zero
    s0, s1, s2 = np.uint64(w[SZ]), np.uint64(w[SY]), np.uint64(1)
    i0, i1, i2 = k[INVERSE], k[INVERSE + 1], k[INVERSE + 2]
    for n in range(first, last):
        p = np.uint64(segments[n, 0])
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
        if segments[n, 4]:
            replicate(out, segments[n, 0], segments[n, 1], segments[n, 2], segments[n, 3] // LANES, w)
