"""The terms of the equation and the measures of the front, compiled: what u would do next, and what it is now.

One visit to a segment computes everything that needs the neighbours of u: slopes, curvature, upwind norms, the share of
each voxel inside and the front in it. The speeds are then read at the closest front point of each voxel of the band.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from src_models.levelset.band_kernels import (
    BALLOON,
    BEND_LIMIT,
    CONVECTION,
    CURVATURE,
    DELTA2,
    EPS,
    FLAT,
    FORM,
    GRADIENT,
    HALF,
    INVERSE,
    LANES,
    NX,
    NY,
    NZ,
    ONE,
    ORDER,
    PEAK_SHARE,
    SHIFT,
    SY,
    SZ,
    TWO,
    WIDTH,
    ZERO,
    minmod,
)
from src_models.levelset.band_speeds import (
    BALLOON_SPEED,
    BEND,
    BOUND,
    CURVATURE_SPEED,
    DENSITY,
    GROWING,
    MASK,
    NORM,
    SHARE,
    SHRINKING,
    SLOPE,
    TOTAL,
    VELOCITY,
    read_speeds,
)

GODUNOV, OSHER_SETHIAN, CENTRAL, NONE = range(4)
QUOTIENT, NESTED = range(2)
FLAT_SLOPE = 0.1  # as in `equation`

# Columns of the sums of a chunk.
SUM_SHARE, SUM_DENSITY, SUM_FREE, SUM_SPEED, MAX_RATE, MAX_SPEED = range(6)
SUMS = 6


@njit(cache=True, nogil=True, error_model="numpy", forceinline=True)
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


@njit(cache=True, nogil=True, error_model="numpy", forceinline=True)
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


@njit(cache=True, nogil=True, error_model="numpy")
def direction(u: Any, q: Any, s: Any, h: Any, w: Any, k: Any) -> Any:  # pragma: no cover
    """D0 u along one axis (stride s, 1/h) over |Du| + eps, at one voxel."""
    half = k[HALF]
    sz, sy = w[SZ], w[SY]
    gz = half * k[INVERSE] * (u[q + sz] - u[q - sz])
    gy = half * k[INVERSE + 1] * (u[q + sy] - u[q - sy])
    gx = half * k[INVERSE + 2] * (u[q + 1] - u[q - 1])
    norm = np.sqrt(gz * gz + gy * gy + gx * gx + k[DELTA2]) + k[EPS]
    return half * h * (u[q + s] - u[q - s]) / norm


@njit(cache=True, nogil=True, error_model="numpy")
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


@njit(cache=True, nogil=True, error_model="numpy", forceinline=True)
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


@njit(cache=True, nogil=True, error_model="numpy", forceinline=True)
def rates(u: Any, p: Any, r: Any, lanes: Any, rate: Any, scratch: Any, w: Any, k: Any) -> None:  # pragma: no cover
    """u_t of a segment from what is in scratch."""
    zero = k[ZERO]
    balloon, curvature, convection = k[BALLOON], k[CURVATURE], k[CONVECTION]
    gradient = w[GRADIENT]
    if gradient == CENTRAL:
        for i in range(lanes):
            scratch[TOTAL, i] = balloon * scratch[BALLOON_SPEED, i] * scratch[NORM, i]
    elif gradient == NONE:
        for i in range(lanes):
            scratch[TOTAL, i] = balloon * scratch[BALLOON_SPEED, i]
    else:
        for i in range(lanes):
            s = balloon * scratch[BALLOON_SPEED, i]
            a, b = scratch[GROWING, i], scratch[SHRINKING, i]
            scratch[TOTAL, i] = s * (a if s >= zero else b)
    if curvature != zero:
        for i in range(lanes):
            scratch[TOTAL, i] += curvature * scratch[CURVATURE_SPEED, i] * scratch[BEND, i]
    if convection != zero:
        sz, sy, sx = np.uint64(w[SZ]), np.uint64(w[SY]), np.uint64(1)
        iz, iy, ix = k[INVERSE], k[INVERSE + 1], k[INVERSE + 2]
        for i in range(lanes):
            q = p + i
            c = u[q]
            vz, vy, vx = scratch[VELOCITY, i], scratch[VELOCITY + 1, i], scratch[VELOCITY + 2, i]
            total = (max(vz, zero) * (u[q + sz] - c) - max(-vz, zero) * (c - u[q - sz])) * iz
            total += (max(vy, zero) * (u[q + sy] - c) - max(-vy, zero) * (c - u[q - sy])) * iy
            total += (max(vx, zero) * (u[q + sx] - c) - max(-vx, zero) * (c - u[q - sx])) * ix
            scratch[TOTAL, i] += convection * total
    for i in range(lanes):
        total, inside = scratch[TOTAL, i], scratch[MASK, i]
        rate[r + i] = total if inside > zero else zero


@njit(cache=True, nogil=True, error_model="numpy", forceinline=True)
def mask_of_band(u: Any, p: Any, count: Any, scratch: Any, k: Any) -> None:  # pragma: no cover
    """1 where a voxel lies in the band, else 0."""
    zero, one, width = k[ZERO], k[ONE], k[WIDTH]
    for i in range(LANES):
        scratch[MASK, i] = zero
    for i in range(count):
        scratch[MASK, i] = one if abs(u[p + i]) < width else zero


@njit(cache=True, nogil=True, error_model="numpy")
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
            if bits[segments[n, 5]] == 0:
                for i in range(every):
                    rate[r + i] = zero
                continue
            p = np.uint64(segments[n, 0])
            z, y, x = segments[n, 1], segments[n, 2], segments[n, 3]
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


@njit(cache=True, nogil=True, error_model="numpy")
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
        if bits[segments[n, 5]] == 0:
            continue
        p = np.uint64(segments[n, 0])
        z, y, x = segments[n, 1], segments[n, 2], segments[n, 3]
        count = min(np.int64(LANES), w[NX] - x)
        mask_of_band(u, p, np.uint64(count), scratch, k)
        slopes_and_measures(u, p, np.uint64(lanes), scratch, w, k)
        read_speeds(u, p, np.uint64(lanes), z, y, x, primary, edge, pull, walls, scratch, place, w, k)
        for i in range(count):
            free = size * np.float64(scratch[BALLOON_SPEED, i]) > threshold
            inside = scratch[MASK, i] > k[ZERO] and scratch[DENSITY, i] > k[ZERO]
            flags[(z * w[NY] + y) * w[NX] + x + i] = free and inside
