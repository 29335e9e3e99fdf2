"""The speeds of a segment, compiled: at its voxels for the time step, at the closest front points for the motion.

Places are found for all 16 voxels at once and read by gathering; only beside walls and at the border of the array are
they read corner by corner.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from src_models.levelset.band_kernels import (
    AT_FRONT,
    BALLOON,
    BALLOON_POWER,
    CONVECTION,
    CONVECTION_POWER,
    CURVATURE_POWER,
    EDGE_MODE,
    EPS,
    HALF,
    IMAGES,
    INVERSE,
    LANES,
    NX,
    NY,
    NZ,
    ONE,
    PULL,
    RATE_ROOT,
    RATE_SQUARES,
    WALLS,
    ZERO,
)

# Rows of the scratch array of a segment, 16 numbers each.
NORM, SLOPE, SHARE, DENSITY, BEND, GROWING, SHRINKING = 0, 1, 4, 5, 6, 7, 8
BALLOON_SPEED, CURVATURE_SPEED, EDGE, VELOCITY, PART, MASK, BOUND, TOTAL = 9, 10, 11, 12, 15, 18, 19, 20
SCRATCH_ROWS = 21


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


@njit(cache=True, nogil=True, error_model="numpy")
def raised(value: Any, power: Any, zero: Any, one: Any) -> Any:  # pragma: no cover
    """sign(x) |x|^power."""
    if power == zero:
        return one if value > zero else (-one if value < zero else zero)
    return value**power if value > zero else (-((-value) ** power) if value < zero else zero)


@njit(cache=True, nogil=True, error_model="numpy", forceinline=True)
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


@njit(cache=True, nogil=True, error_model="numpy", forceinline=True)
def at_voxels(
    count: Any, z: Any, y: Any, x: Any, primary: Any, edge: Any, pull: Any, scratch: Any, w: Any, k: Any
) -> None:  # pragma: no cover
    """Images and slopes at the voxels of a segment."""
    ny, nx = w[NY], w[NX]
    start = (z * ny + y) * nx + x
    first = np.uint64(start)
    for i in range(count):
        scratch[BALLOON_SPEED, i] = primary[first + i]
    if w[EDGE_MODE]:
        for i in range(LANES):
            scratch[EDGE, i] = scratch[BALLOON_SPEED, i]
    elif w[IMAGES]:
        for i in range(count):
            scratch[EDGE, i] = edge[first + i]
    if not w[PULL]:
        return
    half = k[HALF]
    iz, iy, ix = half * k[INVERSE], half * k[INVERSE + 1], half * k[INVERSE + 2]
    up = np.uint64(start + (ny * nx if z < w[NZ] - 1 else 0))
    down = np.uint64(start - (ny * nx if z > 0 else 0))
    for i in range(count):
        scratch[VELOCITY, i] = iz * (pull[up + i] - pull[down + i])
    up = np.uint64(start + (nx if y < ny - 1 else 0))
    down = np.uint64(start - (nx if y > 0 else 0))
    for i in range(count):
        scratch[VELOCITY + 1, i] = iy * (pull[up + i] - pull[down + i])
    if x > 0 and x + LANES < nx:
        right, left = first + np.uint64(1), first - np.uint64(1)
        for i in range(count):
            scratch[VELOCITY + 2, i] = ix * (pull[right + i] - pull[left + i])
    else:
        for i in range(count):
            at = x + np.int64(i)
            row = start - x
            ahead, behind = row + min(at + 1, nx - 1), row + max(at - 1, 0)
            scratch[VELOCITY + 2, i] = ix * (pull[ahead] - pull[behind])


@njit(cache=True, nogil=True, error_model="numpy", forceinline=True)
def bounds(lanes: Any, scratch: Any, k: Any) -> None:  # pragma: no cover
    """What each voxel asks of the time step."""
    root, squares, pulled = abs(k[BALLOON]) * k[RATE_ROOT], k[RATE_SQUARES], k[CONVECTION]
    iz, iy, ix = pulled * k[INVERSE], pulled * k[INVERSE + 1], pulled * k[INVERSE + 2]
    for i in range(lanes):
        bound = root * abs(scratch[BALLOON_SPEED, i]) + squares * scratch[CURVATURE_SPEED, i]
        along = abs(scratch[VELOCITY, i]) * iz + abs(scratch[VELOCITY + 1, i]) * iy
        scratch[BOUND, i] = bound + (along + abs(scratch[VELOCITY + 2, i]) * ix)


@njit(cache=True, nogil=True, error_model="numpy", forceinline=True)
def places(
    u: Any, p: Any, lanes: Any, z: Any, y: Any, x: Any, scratch: Any, place: Any, w: Any, k: Any
) -> Any:  # pragma: no cover
    """The voxel below the closest front point of each voxel, and the shares of the ones above, along each axis.

    Returns
    -------
    int
        How many of the places lie at the border of the array, where slopes want clamped indices.
    """
    zero, one, eps = k[ZERO], k[ONE], k[EPS]
    iz, iy, ix = k[INVERSE], k[INVERSE + 1], k[INVERSE + 2]
    nz, ny, nx = w[NZ], w[NY], w[NX]
    low_z, low_y = zero - z, zero - y
    top_z, top_y = zero + (nz - 1 - z), zero + (ny - 1 - y)
    most_z = top_z - one if nz > 1 else zero
    most_y = top_y - one if ny > 1 else zero
    low_x, top_x = zero - x, zero + (nx - 1 - x)
    beyond_x = one if nx > 1 else zero
    start = (z * ny + y) * nx + x
    # Offsets are floating point, exact far beyond any voxel count of an axis.
    edge_z, edge_y, edge_x = one * (nz > 1), one * (ny > 1), one * (nx > 1)
    at_border = np.int64(0)
    for i in range(lanes):
        c = u[p + i]
        lane = zero + np.int64(i)
        guarded = scratch[NORM, i] + eps
        step = -c / (guarded if guarded > zero else one)
        step = step if (guarded > zero) & (scratch[MASK, i] > zero) else zero
        wz = min(max(step * scratch[SLOPE, i] * iz, low_z), top_z)
        wy = min(max(step * scratch[SLOPE + 1, i] * iy, low_y), top_y)
        wx = min(max(step * scratch[SLOPE + 2, i] * ix, low_x - lane), top_x - lane)
        bz = min(np.floor(wz), most_z)
        by = min(np.floor(wy), most_y)
        bx = min(np.floor(wx), top_x - lane - beyond_x)
        scratch[PART, i] = wz - bz
        scratch[PART + 1, i] = wy - by
        scratch[PART + 2, i] = wx - bx
        outside = (bz < low_z + edge_z) | (bz > top_z - edge_z - edge_z)
        outside = outside | (by < low_y + edge_y) | (by > top_y - edge_y - edge_y)
        outside = outside | (bx + lane < low_x + edge_x) | (bx + lane > top_x - edge_x - edge_x)
        at_border += np.int64(outside)
        place[i] = start + np.int64(i) + np.int64(bz) * (ny * nx) + np.int64(by) * nx + np.int64(bx)
    return at_border


@njit(cache=True, nogil=True, error_model="numpy", forceinline=True)
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


@njit(cache=True, nogil=True, error_model="numpy", forceinline=True)
def line(image: Any, at: Any, j: Any, f: Any, one: Any) -> Any:  # pragma: no cover
    """Linear interpolation along x."""
    i = np.uint64(at)
    return (one - f) * image[i] + f * image[i + np.uint64(j)]


@njit(cache=True, nogil=True, error_model="numpy", forceinline=True)
def line_slope(image: Any, at: Any, f: Any, one: Any) -> Any:  # pragma: no cover
    """Twice the central difference along x, interpolated along x."""
    i = np.uint64(at)
    step, two = np.uint64(1), np.uint64(2)
    return (one - f) * (image[i + step] - image[i - step]) + f * (image[i + two] - image[i])


@njit(cache=True, nogil=True, error_model="numpy", forceinline=True)
def gather_slopes(image: Any, place: Any, scratch: Any, w: Any, k: Any) -> None:  # pragma: no cover
    """Central differences of an image at the places, away from the border: interpolate first, then subtract."""
    zero, one, half = k[ZERO], k[ONE], k[HALF]
    jz = np.int64(w[NY] * w[NX] if w[NZ] > 1 else 0)
    jy, jx = np.int64(w[NX] if w[NY] > 1 else 0), np.int64(1 if w[NX] > 1 else 0)
    iz, iy, ix = half * k[INVERSE], half * k[INVERSE + 1], half * k[INVERSE + 2]
    for i in range(LANES):
        if scratch[MASK, i] == zero:
            scratch[VELOCITY, i] = scratch[VELOCITY + 1, i] = scratch[VELOCITY + 2, i] = zero
            continue
        fz, fy, fx = scratch[PART, i], scratch[PART + 1, i], scratch[PART + 2, i]
        hz, hy = one - fz, one - fy
        at = place[i]
        b, c = line(image, at, jx, fx, one), line(image, at + jy, jx, fx, one)
        gz = gy = gx = zero
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
            gz = hz * ((hy * d + fy * e) - below) + fz * (beyond - (hy * b + fy * c))
        scratch[VELOCITY, i], scratch[VELOCITY + 1, i], scratch[VELOCITY + 2, i] = iz * gz, iy * gy, ix * gx


@njit(cache=True, nogil=True, error_model="numpy")
def corners_in_walls(place: Any, walls: Any, w: Any) -> Any:  # pragma: no cover
    """How many corners of the places of a segment are walls."""
    jz = np.int64(w[NY] * w[NX] if w[NZ] > 1 else 0)
    jy, jx = np.int64(w[NX] if w[NY] > 1 else 0), np.int64(1 if w[NX] > 1 else 0)
    found = 0
    for i in range(LANES):
        for corner in range(8):
            at = place[i] + (corner & 1) * jx + ((corner >> 1) & 1) * jy + ((corner >> 2) & 1) * jz
            found += np.int64(walls[at])
    return found


@njit(cache=True, nogil=True, error_model="numpy", forceinline=True)
def at_fronts(
    count: Any,
    lanes: Any,
    at_border: Any,
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
    beside_walls = w[WALLS] != 0 and corners_in_walls(place, walls, w) > 0
    if beside_walls:
        for i in range(count):
            scratch[BALLOON_SPEED, i] = at_corners(primary, walls, False, place, i, scratch, w, k)[0]
    else:
        gather(primary, place, BALLOON_SPEED, lanes, scratch, w, k)
    if w[EDGE_MODE]:
        for i in range(LANES):
            scratch[EDGE, i] = scratch[BALLOON_SPEED, i]
    elif w[IMAGES] and beside_walls:
        for i in range(count):
            scratch[EDGE, i] = at_corners(edge, walls, False, place, i, scratch, w, k)[0]
    elif w[IMAGES]:
        gather(edge, place, EDGE, lanes, scratch, w, k)
    if w[PULL] and (at_border or beside_walls):
        for i in range(count):
            _, gz, gy, gx = at_corners(pull, walls, True, place, i, scratch, w, k)
            scratch[VELOCITY, i], scratch[VELOCITY + 1, i], scratch[VELOCITY + 2, i] = gz, gy, gx
    elif w[PULL]:
        gather_slopes(pull, place, scratch, w, k)


@njit(cache=True, nogil=True, error_model="numpy", forceinline=True)
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
    at_voxels(np.uint64(count), z, y, x, primary, edge, pull, scratch, w, k)
    apply_powers(scratch, w, k)
    bounds(lanes, scratch, k)
    if w[AT_FRONT]:
        at_border = places(u, p, lanes, z, y, x, scratch, place, w, k)
        at_fronts(count, lanes, at_border, primary, edge, pull, walls, scratch, place, w, k)
        apply_powers(scratch, w, k)
    if w[WALLS]:
        for i in range(count):
            if walls[voxel + i]:
                scratch[BOUND, i] = zero
                scratch[CURVATURE_SPEED, i] = scratch[BALLOON_SPEED, i] = zero
                scratch[VELOCITY, i] = scratch[VELOCITY + 1, i] = scratch[VELOCITY + 2, i] = zero
