"""The terms of the equation and the measures of the front, compiled: what u would do next, and what it is now.

One visit to a segment computes everything that needs the neighbours of u: slopes, curvature, upwind norms, the share of
each voxel inside and the front in it. The speeds are then read at the closest front point of each voxel of the band.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from src_models.levelset.band_kernels import (
    AT_FRONT,
    BALLOON,
    BALLOON_POWER,
    BEND_LIMIT,
    CONVECTION,
    CONVECTION_POWER,
    CURVATURE,
    CURVATURE_POWER,
    DELTA2,
    EDGE_MODE,
    EPS,
    FLAT,
    FORM,
    GRADIENT,
    HALF,
    IMAGES,
    INVERSE,
    LANES,
    NX,
    NY,
    NZ,
    ONE,
    ORDER,
    PEAK_SHARE,
    PULL,
    RATE_ROOT,
    RATE_SQUARES,
    SHIFT,
    SPACING,
    SY,
    SZ,
    TWO,
    WALLS,
    ZERO,
    minmod,
)

GODUNOV, OSHER_SETHIAN, CENTRAL, NONE = range(4)
QUOTIENT, NESTED = range(2)
FLAT_SLOPE = 0.1  # as in `equation`

# Rows of the scratch array, 16 numbers each.
NORM, SLOPE, SHARE, DENSITY, BEND, GROWING, SHRINKING, BALLOON_SPEED, CURVATURE_SPEED, VELOCITY = 0, 1, 4, 5, 6, 7, 8, 9, 10, 11
SCRATCH_ROWS = 14

# Columns of the sums of a chunk.
SUM_SHARE, SUM_DENSITY, SUM_FREE, SUM_SPEED, MAX_RATE, MAX_SPEED = range(6)
SUMS = 6


@njit(cache=True, nogil=True, error_model="numpy")
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


@njit(cache=True, nogil=True, error_model="numpy")
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


@njit(cache=True, nogil=True, error_model="numpy")
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


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def bracket(way: Any, here: Any, size: Any, zero: Any) -> Any:  # pragma: no cover
    """The voxel below a place `way` voxels from here, and the share of the one above it; both inside the array."""
    if size == 1:
        return here, zero
    low = -(zero + here)
    top = zero + (size - 1 - here)
    way = min(max(way, low), top)
    below = min(np.int64(math.floor(way)), size - 2 - here)
    return here + below, way - (zero + below)


@njit(cache=True, nogil=True, error_model="numpy")
def value_at(image: Any, index: Any, jz: Any, jy: Any, jx: Any, fz: Any, fy: Any, fx: Any, one: Any) -> Any:
    """Multilinear interpolation from the voxel at a flat index and its neighbours jz, jy, jx further."""
    i = np.uint64(index)
    dz, dy, dx = np.uint64(jz), np.uint64(jy), np.uint64(jx)
    rx = one - fx
    a = rx * image[i] + fx * image[i + dx]
    b = rx * image[i + dy] + fx * image[i + dy + dx]
    low = (one - fy) * a + fy * b
    if jz == 0:
        return low
    i = i + dz
    a = rx * image[i] + fx * image[i + dx]
    b = rx * image[i + dy] + fx * image[i + dy + dx]
    return (one - fz) * low + fz * ((one - fy) * a + fy * b)


@njit(cache=True, nogil=True, error_model="numpy")
def slopes_at(
    image: Any, index: Any, jz: Any, jy: Any, jx: Any, fz: Any, fy: Any, fx: Any, k: Any
) -> Any:  # pragma: no cover
    """Interpolated central differences of an image, far from its border: as linear as the interpolation itself."""
    one, half, zero = k[ONE], k[HALF], k[ZERO]
    iz, iy, ix = half * k[INVERSE], half * k[INVERSE + 1], half * k[INVERSE + 2]
    gz = zero
    if jz != 0:
        gz = iz * (
            value_at(image, index + jz, jz, jy, jx, fz, fy, fx, one)
            - value_at(image, index - jz, jz, jy, jx, fz, fy, fx, one)
        )
    gy = zero
    if jy != 0:
        gy = iy * (
            value_at(image, index + jy, jz, jy, jx, fz, fy, fx, one)
            - value_at(image, index - jy, jz, jy, jx, fz, fy, fx, one)
        )
    gx = zero
    if jx != 0:
        gx = ix * (
            value_at(image, index + jx, jz, jy, jx, fz, fy, fx, one)
            - value_at(image, index - jx, jz, jy, jx, fz, fy, fx, one)
        )
    return gz, gy, gx


@njit(cache=True, nogil=True, error_model="numpy")
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


@njit(cache=True, nogil=True, error_model="numpy")
def at_corners(
    image: Any, walls: Any, slopes: bool, z0: Any, y0: Any, x0: Any, fz: Any, fy: Any, fx: Any, w: Any, k: Any
) -> Any:  # pragma: no cover
    """The same corner by corner: for places at the border of the array, and where a corner may be a wall."""
    value, gz, gy, gx = k[ZERO], k[ZERO], k[ZERO], k[ZERO]
    one = k[ONE]
    for dz in range(2 if w[NZ] > 1 else 1):
        for dy in range(2 if w[NY] > 1 else 1):
            for dx in range(2 if w[NX] > 1 else 1):
                z, y, x = z0 + dz, y0 + dy, x0 + dx
                index = (z * w[NY] + y) * w[NX] + x
                if w[WALLS] and walls[index]:
                    continue
                weight = (fz if dz else one - fz) * (fy if dy else one - fy) * (fx if dx else one - fx)
                if slopes:
                    cz, cy, cx = voxel_slopes(image, z, y, x, w, k)
                    gz += weight * cz
                    gy += weight * cy
                    gx += weight * cx
                else:
                    value += weight * image[index]
    return value, gz, gy, gx


@njit(cache=True, nogil=True, error_model="numpy")
def raised(value: Any, power: Any, zero: Any, one: Any) -> Any:  # pragma: no cover
    """sign(x) |x|^power, without rounding for the powers 0 and 1."""
    if power == one:
        return value
    if power == zero:
        return one if value > zero else (-one if value < zero else zero)
    return abs(value) ** power if value > zero else (-(abs(value) ** power) if value < zero else zero)


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def raised_positive(value: Any, power: Any, zero: Any, one: Any) -> Any:  # pragma: no cover
    """g^power for g >= 0, exactly 1 for the power 0."""
    return one if power == zero else (value if power == one else value**power)


@njit(cache=True, nogil=True, error_model="numpy")
def read_speeds(
    i: Any, z: Any, y: Any, x: Any, c: Any, primary: Any, edge: Any, pull: Any, walls: Any, scratch: Any, w: Any, k: Any
) -> Any:  # pragma: no cover
    """S, W and v of one voxel, read where the equation reads them, into scratch; and its part of the time step's bound."""
    zero, one = k[ZERO], k[ONE]
    ny, nx = w[NY], w[NX]
    voxel = (z * ny + y) * nx + x
    if w[WALLS] and walls[voxel]:
        scratch[BALLOON_SPEED, i] = zero
        scratch[CURVATURE_SPEED, i] = zero
        scratch[VELOCITY, i] = zero
        scratch[VELOCITY + 1, i] = zero
        scratch[VELOCITY + 2, i] = zero
        return zero
    has_edge = w[EDGE_MODE] or w[IMAGES]
    s = primary[voxel]
    g = s if w[EDGE_MODE] else (edge[voxel] if w[IMAGES] else one)
    gz, gy, gx = zero, zero, zero
    if w[PULL]:
        gz, gy, gx = voxel_slopes(pull, z, y, x, w, k)
        if has_edge and k[CONVECTION_POWER] != zero:
            factor = raised_positive(g, k[CONVECTION_POWER], zero, one)
            gz, gy, gx = gz * factor, gy * factor, gx * factor
    sb = raised_positive(s, k[BALLOON_POWER], zero, one) if w[EDGE_MODE] else raised(s, k[BALLOON_POWER], zero, one)
    sw = raised_positive(g, k[CURVATURE_POWER], zero, one) if has_edge else one
    bound = abs(k[BALLOON]) * k[RATE_ROOT] * abs(sb) + k[RATE_SQUARES] * sw
    bound += k[CONVECTION] * (abs(gz) * k[INVERSE] + abs(gy) * k[INVERSE + 1] + abs(gx) * k[INVERSE + 2])
    if w[AT_FRONT]:
        guarded = scratch[NORM, i] + k[EPS]
        step = -c / guarded if guarded > zero else zero
        z0, fz = bracket(step * scratch[SLOPE, i] * k[INVERSE], z, w[NZ], zero)
        y0, fy = bracket(step * scratch[SLOPE + 1, i] * k[INVERSE + 1], y, ny, zero)
        x0, fx = bracket(step * scratch[SLOPE + 2, i] * k[INVERSE + 2], x, nx, zero)
        index = (z0 * ny + y0) * nx + x0
        jz, jy, jx = ny * nx if w[NZ] > 1 else 0, nx if ny > 1 else 0, 1 if nx > 1 else 0
        if w[WALLS]:
            s = at_corners(primary, walls, False, z0, y0, x0, fz, fy, fx, w, k)[0]
            if w[IMAGES]:
                g = at_corners(edge, walls, False, z0, y0, x0, fz, fy, fx, w, k)[0]
        else:
            s = value_at(primary, index, jz, jy, jx, fz, fy, fx, one)
            if w[IMAGES]:
                g = value_at(edge, index, jz, jy, jx, fz, fy, fx, one)
        if w[EDGE_MODE]:
            g = s
        if w[PULL]:
            central = (jz == 0 or (z0 >= 1 and z0 < w[NZ] - 2)) and (jy == 0 or (y0 >= 1 and y0 < ny - 2))
            central = central and (jx == 0 or (x0 >= 1 and x0 < nx - 2))
            if central and not w[WALLS]:
                gz, gy, gx = slopes_at(pull, index, jz, jy, jx, fz, fy, fx, k)
            else:
                _, gz, gy, gx = at_corners(pull, walls, True, z0, y0, x0, fz, fy, fx, w, k)
            if has_edge and k[CONVECTION_POWER] != zero:
                factor = raised_positive(g, k[CONVECTION_POWER], zero, one)
                gz, gy, gx = gz * factor, gy * factor, gx * factor
        sb = raised_positive(s, k[BALLOON_POWER], zero, one) if w[EDGE_MODE] else raised(s, k[BALLOON_POWER], zero, one)
        sw = raised_positive(g, k[CURVATURE_POWER], zero, one) if has_edge else one
    scratch[BALLOON_SPEED, i] = sb
    scratch[CURVATURE_SPEED, i] = sw
    scratch[VELOCITY, i] = gz
    scratch[VELOCITY + 1, i] = gy
    scratch[VELOCITY + 2, i] = gx
    return bound


@njit(cache=True, nogil=True, error_model="numpy")
def rates(u: Any, p: Any, r: Any, lanes: Any, rate: Any, scratch: Any, w: Any, k: Any) -> None:  # pragma: no cover
    """u_t of a segment from what is in scratch."""
    zero, one = k[ZERO], k[ONE]
    balloon, curvature, convection = k[BALLOON], k[CURVATURE], k[CONVECTION]
    gradient = w[GRADIENT]
    if gradient == CENTRAL:
        for i in range(lanes):
            rate[r + i] = balloon * scratch[BALLOON_SPEED, i] * scratch[NORM, i]
    elif gradient == NONE:
        for i in range(lanes):
            rate[r + i] = balloon * scratch[BALLOON_SPEED, i]
    else:
        for i in range(lanes):
            s = scratch[BALLOON_SPEED, i]
            norm = scratch[GROWING, i] if balloon * s >= zero else scratch[SHRINKING, i]
            rate[r + i] = balloon * s * norm
    if curvature != zero:
        for i in range(lanes):
            rate[r + i] += curvature * scratch[CURVATURE_SPEED, i] * scratch[BEND, i]
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
            rate[r + i] += convection * total * one


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
    sums: Any,
    w: Any,
    k: Any,
) -> None:  # pragma: no cover
    """Rates and measures of the segments of some chunks; `sums` has one row a chunk, so threads change no bit."""
    zero = k[ZERO]
    count = np.uint64(lanes)
    upwind = w[GRADIENT] == GODUNOV or w[GRADIENT] == OSHER_SETHIAN
    size = abs(np.float64(k[BALLOON]))
    for part in range(first, last):
        share = density = free = speed = fastest = largest = 0.0
        for n in range(part * chunk, min((part + 1) * chunk, segments.shape[0])):
            r = np.uint64(n * LANES)
            mask = bits[segments[n, 5]]
            if mask == 0:
                for i in range(count):
                    rate[r + i] = zero
                continue
            p = np.uint64(segments[n, 0])
            z, y, x = segments[n, 1], segments[n, 2], segments[n, 3]
            slopes_and_measures(u, p, count, scratch, w, k)
            if upwind:
                upwind_norms(u, p, count, scratch, w, k)
            if k[CURVATURE] != zero:
                if w[FORM] == QUOTIENT:
                    quotient_curvature(u, p, count, scratch, w, k)
                else:
                    nested_curvature(u, p, z, y, x, min(np.int64(LANES), w[NX] - x), scratch, w, k)
            for i in range(LANES):
                if (mask >> i) & 1 == 0:
                    for row in range(BALLOON_SPEED, SCRATCH_ROWS):
                        scratch[row, i] = zero
                    continue
                bound = read_speeds(i, z, y, x + i, u[p + np.uint64(i)], primary, edge, pull, walls, scratch, w, k)
                s = np.float64(scratch[BALLOON_SPEED, i])
                d = np.float64(scratch[DENSITY, i])
                share += scratch[SHARE, i]
                density += d
                speed += d * s
                free += d if size * s > threshold else 0.0
                fastest = max(fastest, abs(s))
                largest = max(largest, np.float64(bound))
            rates(u, p, r, count, rate, scratch, w, k)
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
    flags: Any,
    w: Any,
    k: Any,
) -> None:  # pragma: no cover
    """Flag the voxels of the front where |balloon| S is above the threshold, in an array of the shape of u."""
    size = abs(np.float64(k[BALLOON]))
    for n in range(segments.shape[0]):
        mask = bits[segments[n, 5]]
        if mask == 0:
            continue
        p = np.uint64(segments[n, 0])
        z, y, x = segments[n, 1], segments[n, 2], segments[n, 3]
        slopes_and_measures(u, p, np.uint64(lanes), scratch, w, k)
        for i in range(LANES):
            if (mask >> i) & 1 == 0:
                continue
            read_speeds(i, z, y, x + i, u[p + np.uint64(i)], primary, edge, pull, walls, scratch, w, k)
            free = size * np.float64(scratch[BALLOON_SPEED, i]) > threshold
            flags[(z * w[NY] + y) * w[NX] + x + i] = free and scratch[DENSITY, i] > k[ZERO]
