"""The Triton kernels that look at the front: its speeds, its measures, and what the equation would do to it.

`look` visits the listed tiles, in a fixed order per program; `finish` adds up what the programs found.
"""

from __future__ import annotations

import triton
import triton.language as tl

from src_models.levelset.fused_constants import (
    BALLOON,
    BALLOON_BOUND,
    BALLOON_EXPONENT,
    CONVECTION,
    CONVECTION_EXPONENT,
    CURVATURE,
    CURVATURE_BOUND,
    CURVATURE_EXPONENT,
    EPS,
    FLAT_SLOPE,
    HALF_VOXEL,
    LIMIT,
    PEAK_SHARE,
    ROOT_EPSILON_SQUARE,
    SPACING_X,
    SPACING_Y,
    SPACING_Z,
    THRESHOLD,
    VOXEL,
    WIDTH,
)
from src_models.levelset.fused_stencils import (
    bent,
    clamped,
    line,
    over,
    places,
    raised,
    share_inside,
    upwind_square,
)


@triton.jit
def _speeds(
    primary,
    edge,
    vz,
    vy,
    vx,
    constants,
    free,
    EDGE_MODE: tl.constexpr,
    CONVECTS: tl.constexpr,
    BALLOON_KIND: tl.constexpr,
    CURVATURE_KIND: tl.constexpr,
    CONVECTION_KIND: tl.constexpr,
    WALLS: tl.constexpr,
):
    """S, W and v of the columns read from the table; 0 on walls."""
    balloon = raised(primary, tl.load(constants + BALLOON_EXPONENT), BALLOON_KIND, not EDGE_MODE)
    weight = raised(edge, tl.load(constants + CURVATURE_EXPONENT), CURVATURE_KIND, False)
    if CONVECTS and CONVECTION_KIND != 0:
        power = raised(edge, tl.load(constants + CONVECTION_EXPONENT), CONVECTION_KIND, False)
        vz = power * vz
        vy = power * vy
        vx = power * vx
    if WALLS:
        balloon = tl.where(free, balloon, 0.0)
        weight = tl.where(free, weight, 0.0)
        vz = tl.where(free, vz, 0.0)
        vy = tl.where(free, vy, 0.0)
        vx = tl.where(free, vx, 0.0)
    return balloon, weight, vz, vy, vx


@triton.jit
def _way(move, slope, h, here, size):
    """Lower and upper voxel of the front point along an axis, and the share of the upper one."""
    place = here.to(move.dtype)
    way = clamped(over(-move * slope, h), -place, (size - 1) - place)
    below = tl.minimum(tl.floor(way), (size - 2) - place)
    lower = here + below.to(tl.int32)
    return tl.maximum(lower, 0), tl.minimum(lower + 1, size - 1), way - below


@triton.jit
def _column(table, column: tl.constexpr, COLUMNS: tl.constexpr, z0, z1, y0, y1, x0, x1, sz, sy, sx):
    """One column of the table by multilinear interpolation; the arguments are flat parts of indices and shares."""
    total = (1 - sz) * (1 - sy) * (1 - sx) * tl.load(table + (z0 + y0 + x0) * COLUMNS + column)
    total += (1 - sz) * (1 - sy) * sx * tl.load(table + (z0 + y0 + x1) * COLUMNS + column)
    total += (1 - sz) * sy * (1 - sx) * tl.load(table + (z0 + y1 + x0) * COLUMNS + column)
    total += (1 - sz) * sy * sx * tl.load(table + (z0 + y1 + x1) * COLUMNS + column)
    total += sz * (1 - sy) * (1 - sx) * tl.load(table + (z1 + y0 + x0) * COLUMNS + column)
    total += sz * (1 - sy) * sx * tl.load(table + (z1 + y0 + x1) * COLUMNS + column)
    total += sz * sy * (1 - sx) * tl.load(table + (z1 + y1 + x0) * COLUMNS + column)
    total += sz * sy * sx * tl.load(table + (z1 + y1 + x1) * COLUMNS + column)
    return total


@triton.jit
def _change(
    u, place, z, y, x, nz, ny, nx, c, z1, z2, z3, z4, y1, y2, y3, y4, x1, x2, x3, x4, dz, dy, dx, ddz, ddy, ddx,
    hz, hy, hx, norm, S, W, vz, vy, vx, constants,
    ORDER: tl.constexpr, SUM: tl.constexpr, BENDS: tl.constexpr, CONVECTS: tl.constexpr,
):  # fmt: skip
    """u_t: balloon, curvature and convection with their weights."""
    balloon_weight = tl.load(constants + BALLOON)
    towards = tl.where(balloon_weight * S >= 0, 1.0, -1.0).to(c.dtype)
    square = upwind_square(z2, z1, c, z3, z4, hz, towards, ORDER, SUM)
    square += upwind_square(y2, y1, c, y3, y4, hy, towards, ORDER, SUM)
    square += upwind_square(x2, x1, c, x3, x4, hx, towards, ORDER, SUM)
    change = balloon_weight * (S * tl.sqrt(square))
    if BENDS:
        bend = bent(
            u, place, z, y, x, nz, ny, nx, dz, dy, dx, ddz, ddy, ddx, hz, hy, hx, norm, tl.load(constants + EPS),
            tl.load(constants + LIMIT), tl.load(constants + PEAK_SHARE), tl.load(constants + FLAT_SLOPE),
        )  # fmt: skip
        change += tl.load(constants + CURVATURE) * W * bend
    if CONVECTS:
        pull = tl.maximum(vz, 0.0) * over(z3 - c, hz) - tl.maximum(-vz, 0.0) * over(c - z1, hz)
        pull = pull + tl.maximum(vy, 0.0) * over(y3 - c, hy) - tl.maximum(-vy, 0.0) * over(c - y1, hy)
        pull = pull + tl.maximum(vx, 0.0) * over(x3 - c, hx) - tl.maximum(-vx, 0.0) * over(c - x1, hx)
        change += tl.load(constants + CONVECTION) * pull
    return change


@triton.jit
def _bound(S, W, vz, vy, vx, hz, hy, hx, constants, CONVECTS: tl.constexpr):
    """1/dt of the stability bound at CFL number 1, from the speeds of the voxels."""
    bound = tl.load(constants + BALLOON_BOUND) * tl.abs(S)
    if CONVECTS:
        weight = tl.load(constants + CONVECTION)
        bound += weight / hz * tl.abs(vz)
        bound += weight / hy * tl.abs(vy)
        bound += weight / hx * tl.abs(vx)
    return bound + tl.load(constants + CURVATURE_BOUND) * W


@triton.jit
def _fitted(c, dz, dy, dx, ddz, ddy, ddx, hz, hy, hx, constants):
    """Share of each voxel inside, and front per voxel in mm^(n-1)."""
    mean = c + hz * hz / 24 * ddz + hy * hy / 24 * ddy + hx * hx / 24 * ddx
    spread = tl.sqrt(hz * dz * (hz * dz) + hy * dy * (hy * dy) + hx * dx * (hx * dx))
    inside = c > 0
    e = tl.load(constants + HALF_VOXEL)
    area = over(share_inside(mean + e, spread, inside) - share_inside(mean - e, spread, inside), 2 * e)
    return share_inside(mean, spread, inside), area * tl.load(constants + VOXEL)


@triton.jit
def _columns_here(
    table, here, COLUMNS: tl.constexpr, EDGE: tl.constexpr, Z: tl.constexpr, Y: tl.constexpr, X: tl.constexpr
):
    """The columns of the table at the voxels themselves: primary and edge image, and the slopes of the latter."""
    primary = tl.load(table + here * COLUMNS)
    edge = primary
    if EDGE > 0:
        edge = tl.load(table + here * COLUMNS + EDGE)
    vz = tl.zeros_like(primary)
    vy = vz
    vx = vz
    if Z >= 0:
        vz = tl.load(table + here * COLUMNS + Z)
    if X >= 0:
        vy = tl.load(table + here * COLUMNS + Y)
        vx = tl.load(table + here * COLUMNS + X)
    return primary, edge, vz, vy, vx


@triton.jit
def _columns_at_front(
    table, c, z, y, x, nz, ny, nx, dz, dy, dx, hz, hy, hx, guarded, INDEX: tl.constexpr,
    COLUMNS: tl.constexpr, EDGE: tl.constexpr, Z: tl.constexpr, Y: tl.constexpr, X: tl.constexpr,
):  # fmt: skip
    """The same at the closest point of the front."""
    move_by = tl.where(guarded > 0, c / tl.where(guarded > 0, guarded, 1.0), 0.0)
    lower_z, upper_z, sz = _way(move_by, dz, hz, z, nz)
    lower_y, upper_y, sy = _way(move_by, dy, hy, y, ny)
    lower_x, upper_x, sx = _way(move_by, dx, hx, x, nx)
    z0 = lower_z.to(INDEX) * ny * nx
    z1 = upper_z.to(INDEX) * ny * nx
    y0 = lower_y.to(INDEX) * nx
    y1 = upper_y.to(INDEX) * nx
    primary = _column(table, 0, COLUMNS, z0, z1, y0, y1, lower_x, upper_x, sz, sy, sx)
    edge = primary
    if EDGE > 0:
        edge = _column(table, EDGE, COLUMNS, z0, z1, y0, y1, lower_x, upper_x, sz, sy, sx)
    vz = tl.zeros_like(primary)
    vy = vz
    vx = vz
    if Z >= 0:
        vz = _column(table, Z, COLUMNS, z0, z1, y0, y1, lower_x, upper_x, sz, sy, sx)
    if X >= 0:
        vy = _column(table, Y, COLUMNS, z0, z1, y0, y1, lower_x, upper_x, sz, sy, sx)
        vx = _column(table, X, COLUMNS, z0, z1, y0, y1, lower_x, upper_x, sz, sy, sx)
    return primary, edge, vz, vy, vx


@triton.jit(do_not_specialize=["nz", "ny", "nx", "gy", "gx"])
def look(
    u, table, walls, rate, constants, tiles, count, sums, nz, ny, nx, gy, gx,
    INDEX: tl.constexpr, TZ: tl.constexpr, TY: tl.constexpr, TX: tl.constexpr,
    COLUMNS: tl.constexpr, EDGE: tl.constexpr, Z: tl.constexpr, Y: tl.constexpr, X: tl.constexpr,
    EDGE_MODE: tl.constexpr, AT_FRONT: tl.constexpr, ORDER: tl.constexpr, SUM: tl.constexpr, BENDS: tl.constexpr,
    BALLOON_KIND: tl.constexpr, CURVATURE_KIND: tl.constexpr, CONVECTION_KIND: tl.constexpr, WALLS: tl.constexpr,
):  # fmt: skip
    """u_t of every band voxel into `rate`; per program, in float64, into `sums`: inside, area, free area, area times S,
    largest |S|, largest 1/dt, number of voxels inside and outside.

    EDGE, Z, Y and X are the columns of the edge image and its slopes in `table`; -1 where there are none.
    """
    LANES: tl.constexpr = TZ * TY * TX
    CONVECTS: tl.constexpr = X >= 0
    hz = tl.load(constants + SPACING_Z)
    hy = tl.load(constants + SPACING_Y)
    hx = tl.load(constants + SPACING_X)
    w = tl.load(constants + WIDTH)
    program = tl.program_id(0)
    programs = tl.num_programs(0)
    inside_sum = tl.zeros([LANES], tl.float64)
    area_sum = tl.zeros([LANES], tl.float64)
    free_sum = tl.zeros([LANES], tl.float64)
    speed_sum = tl.zeros([LANES], tl.float64)
    fastest = tl.zeros([LANES], tl.float64)
    bound_max = tl.zeros([LANES], tl.float64)
    inside_count = tl.zeros([LANES], tl.int32)
    outside_count = tl.zeros([LANES], tl.int32)
    for i in range(program, tl.load(count), programs):
        z, y, x, place, valid = places(tl.load(tiles + i), nz, ny, nx, gy, gx, INDEX, TZ, TY, TX)
        c = tl.load(u + place)
        band = valid & (tl.abs(c) < w)
        if tl.sum(band.to(tl.int32)) > 0:
            z2, z1, z3, z4 = line(u, place, z, nz, ny * nx, ORDER)
            y2, y1, y3, y4 = line(u, place, y, ny, nx, ORDER)
            x2, x1, x3, x4 = line(u, place, x, nx, 1, ORDER)
            dz = over(z3 - z1, 2 * hz)
            dy = over(y3 - y1, 2 * hy)
            dx = over(x3 - x1, 2 * hx)
            ddz = over(z1 - 2 * c + z3, hz * hz)
            ddy = over(y1 - 2 * c + y3, hy * hy)
            ddx = over(x1 - 2 * c + x3, hx * hx)
            norm = tl.sqrt(dz * dz + dy * dy + dx * dx + tl.load(constants + ROOT_EPSILON_SQUARE))
            free = valid
            if WALLS:
                free = tl.load(walls + place) == 0

            # The speeds of the voxel itself: for the time step, and with speed_at="voxel" for everything.
            primary, edge, vz, vy, vx = _columns_here(table, place, COLUMNS, EDGE, Z, Y, X)
            S, W, vz, vy, vx = _speeds(
                primary, edge, vz, vy, vx, constants, free,
                EDGE_MODE, CONVECTS, BALLOON_KIND, CURVATURE_KIND, CONVECTION_KIND, WALLS,
            )  # fmt: skip
            bound = _bound(S, W, vz, vy, vx, hz, hy, hx, constants, CONVECTS)
            if AT_FRONT:
                primary, edge, vz, vy, vx = _columns_at_front(
                    table, c, z, y, x, nz, ny, nx, dz, dy, dx, hz, hy, hx, norm + tl.load(constants + EPS), INDEX,
                    COLUMNS, EDGE, Z, Y, X,
                )  # fmt: skip
                S, W, vz, vy, vx = _speeds(
                    primary, edge, vz, vy, vx, constants, free,
                    EDGE_MODE, CONVECTS, BALLOON_KIND, CURVATURE_KIND, CONVECTION_KIND, WALLS,
                )  # fmt: skip
            change = _change(
                u, place, z, y, x, nz, ny, nx, c, z1, z2, z3, z4, y1, y2, y3, y4, x1, x2, x3, x4,
                dz, dy, dx, ddz, ddy, ddx, hz, hy, hx, norm, S, W, vz, vy, vx, constants, ORDER, SUM, BENDS, CONVECTS,
            )  # fmt: skip
            tl.store(rate + place, change, mask=band)

            share, area = _fitted(c, dz, dy, dx, ddz, ddy, ddx, hz, hy, hx, constants)
            area = tl.where(band, area, 0.0)
            is_free = tl.abs(tl.load(constants + BALLOON)) * S > tl.load(constants + THRESHOLD)
            inside_sum += tl.where(band, share, 0.0).to(tl.float64)
            area_sum += area.to(tl.float64)
            free_sum += tl.where(is_free, area, 0.0).to(tl.float64)
            speed_sum += (area * S).to(tl.float64)
            fastest = tl.maximum(fastest, tl.where(band, tl.abs(S), 0.0).to(tl.float64))
            bound_max = tl.maximum(bound_max, tl.where(band, bound, 0.0).to(tl.float64))
            inside_count += (band & (c > 0)).to(tl.int32)
            outside_count += (band & (c <= 0)).to(tl.int32)
    tl.store(sums + program, tl.sum(inside_sum))
    tl.store(sums + programs + program, tl.sum(area_sum))
    tl.store(sums + 2 * programs + program, tl.sum(free_sum))
    tl.store(sums + 3 * programs + program, tl.sum(speed_sum))
    tl.store(sums + 4 * programs + program, tl.max(fastest))
    tl.store(sums + 5 * programs + program, tl.max(bound_max))
    tl.store(sums + 6 * programs + program, tl.sum(inside_count).to(tl.float64))
    tl.store(sums + 7 * programs + program, tl.sum(outside_count).to(tl.float64))


@triton.jit
def finish(sums, boxes, far_inside, results, LOOKS: tl.constexpr, PROGRAMS: tl.constexpr):
    """The sums and extremes of all programs, the number of voxels at +w and the box of the last step."""
    look_program = tl.arange(0, LOOKS)
    for k in tl.static_range(8):
        values = tl.load(sums + k * LOOKS + look_program)
        tl.store(results + k, tl.max(values) if k == 4 or k == 5 else tl.sum(values))
    program = tl.arange(0, PROGRAMS)
    tl.store(results + 8, tl.load(far_inside).to(tl.float64))
    for k in tl.static_range(6):
        sides = tl.load(boxes + k * PROGRAMS + program)
        tl.store(results + 9 + k, (tl.min(sides) if k < 3 else tl.max(sides)).to(tl.float64))
