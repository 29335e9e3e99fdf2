"""The Triton kernels of one level set step. Each visits the listed tiles of the array, in a fixed order per program.

`look` reads the speeds at the front, sums the measures and stores the rate of change; `move` adds dt times it;
`rescale` and `sweep` redistance; `survey`, `touched` and `listed` keep the list of tiles that hold the band.
A tile's bits tell whether something in it can change (1) and, per axis, whether that comes within two layers of its
lower or upper neighbour: as far as two sweeps reach.
"""

from __future__ import annotations

import triton
import triton.language as tl

from src_models.levelset.fused_stencils import (
    beside_the_front,
    bent,
    clamped,
    constrained,
    crossing,
    line,
    places,
    raised,
    share_inside,
    upwind_square,
)

__all__ = ["copied", "finish", "listed", "look", "move", "rescale", "survey", "sweep", "touched"]

SIZES = ["nz", "ny", "nx", "gz", "gy", "gx"]

# Places in the table of constants, in the float type of u: an argument of a kernel would be rounded to float32.
SPACING_Z = tl.constexpr(0)
SPACING_Y = tl.constexpr(1)
SPACING_X = tl.constexpr(2)
WIDTH = tl.constexpr(3)
SWEEP_STEP = tl.constexpr(4)
LIMIT = tl.constexpr(5)
PEAK_SHARE = tl.constexpr(6)
EPS = tl.constexpr(7)
ROOT_EPSILON_SQUARE = tl.constexpr(8)
BALLOON = tl.constexpr(9)
CURVATURE = tl.constexpr(10)
CONVECTION = tl.constexpr(11)
BALLOON_EXPONENT = tl.constexpr(12)
CURVATURE_EXPONENT = tl.constexpr(13)
CONVECTION_EXPONENT = tl.constexpr(14)
HALF_VOXEL = tl.constexpr(15)
VOXEL = tl.constexpr(16)
BALLOON_BOUND = tl.constexpr(17)
CURVATURE_BOUND = tl.constexpr(18)
CONSTRAINT = tl.constexpr(19)
LEAST_SLOPE = tl.constexpr(20)
LARGEST_SLOPE = tl.constexpr(21)
FLAT_SLOPE = tl.constexpr(22)
TIME_STEP = tl.constexpr(23)
THRESHOLD = tl.constexpr(24)


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
    way = clamped(-move * slope / h, -place, (size - 1) - place)
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


@triton.jit(do_not_specialize=SIZES)
def look(
    u,
    table,
    walls,
    rate,
    constants,
    tiles,
    count,
    sums,
    nz,
    ny,
    nx,
    gz,
    gy,
    gx,
    INDEX: tl.constexpr,
    TZ: tl.constexpr,
    TY: tl.constexpr,
    TX: tl.constexpr,
    COLUMNS: tl.constexpr,
    EDGE_COLUMN: tl.constexpr,
    SLOPE_Z: tl.constexpr,
    SLOPE_Y: tl.constexpr,
    SLOPE_X: tl.constexpr,
    EDGE_MODE: tl.constexpr,
    AT_FRONT: tl.constexpr,
    ORDER: tl.constexpr,
    SUM: tl.constexpr,
    BENDS: tl.constexpr,
    BALLOON_KIND: tl.constexpr,
    CURVATURE_KIND: tl.constexpr,
    CONVECTION_KIND: tl.constexpr,
    WALLS: tl.constexpr,
):
    """u_t of every band voxel into `rate`; per program, in float64: inside, area, free area, area times S, largest |S|,
    largest 1/dt, number of voxels inside and outside, into `sums`."""
    LANES: tl.constexpr = TZ * TY * TX
    CONVECTS: tl.constexpr = SLOPE_X >= 0
    hz = tl.load(constants + SPACING_Z)
    hy = tl.load(constants + SPACING_Y)
    hx = tl.load(constants + SPACING_X)
    w = tl.load(constants + WIDTH)
    eps = tl.load(constants + EPS)
    balloon_weight = tl.load(constants + BALLOON)
    convection_weight = tl.load(constants + CONVECTION)
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
            dz = (z3 - z1) / (2 * hz)
            dy = (y3 - y1) / (2 * hy)
            dx = (x3 - x1) / (2 * hx)
            ddz = (z1 - 2 * c + z3) / (hz * hz)
            ddy = (y1 - 2 * c + y3) / (hy * hy)
            ddx = (x1 - 2 * c + x3) / (hx * hx)
            norm = tl.sqrt(dz * dz + dy * dy + dx * dx + tl.load(constants + ROOT_EPSILON_SQUARE))

            # The speeds of the voxel itself: for the time step, and with speed_at="voxel" for everything.
            here = place * COLUMNS
            primary = tl.load(table + here)
            edge = primary
            if EDGE_COLUMN > 0:
                edge = tl.load(table + here + EDGE_COLUMN)
            vz = tl.zeros_like(c)
            vy = tl.zeros_like(c)
            vx = tl.zeros_like(c)
            if SLOPE_Z >= 0:
                vz = tl.load(table + here + SLOPE_Z)
            if CONVECTS:
                vy = tl.load(table + here + SLOPE_Y)
                vx = tl.load(table + here + SLOPE_X)
            free = valid
            if WALLS:
                free = tl.load(walls + place) == 0
            S, W, vz, vy, vx = _speeds(
                primary, edge, vz, vy, vx, constants, free,
                EDGE_MODE, CONVECTS, BALLOON_KIND, CURVATURE_KIND, CONVECTION_KIND, WALLS,
            )  # fmt: skip
            bound = tl.load(constants + BALLOON_BOUND) * tl.abs(S)
            if CONVECTS:
                bound += convection_weight / hz * tl.abs(vz)
                bound += convection_weight / hy * tl.abs(vy)
                bound += convection_weight / hx * tl.abs(vx)
            bound += tl.load(constants + CURVATURE_BOUND) * W

            if AT_FRONT:
                guarded = norm + eps
                move_by = tl.where(guarded > 0, c / tl.where(guarded > 0, guarded, 1.0), 0.0)
                lower_z, upper_z, sz = _way(move_by, dz, hz, z, nz)
                lower_y, upper_y, sy = _way(move_by, dy, hy, y, ny)
                lower_x, upper_x, sx = _way(move_by, dx, hx, x, nx)
                z0 = lower_z.to(INDEX) * ny * nx
                z9 = upper_z.to(INDEX) * ny * nx
                y0 = lower_y.to(INDEX) * nx
                y9 = upper_y.to(INDEX) * nx
                primary = _column(table, 0, COLUMNS, z0, z9, y0, y9, lower_x, upper_x, sz, sy, sx)
                edge = primary
                if EDGE_COLUMN > 0:
                    edge = _column(table, EDGE_COLUMN, COLUMNS, z0, z9, y0, y9, lower_x, upper_x, sz, sy, sx)
                if SLOPE_Z >= 0:
                    vz = _column(table, SLOPE_Z, COLUMNS, z0, z9, y0, y9, lower_x, upper_x, sz, sy, sx)
                if CONVECTS:
                    vy = _column(table, SLOPE_Y, COLUMNS, z0, z9, y0, y9, lower_x, upper_x, sz, sy, sx)
                    vx = _column(table, SLOPE_X, COLUMNS, z0, z9, y0, y9, lower_x, upper_x, sz, sy, sx)
                S, W, vz, vy, vx = _speeds(
                    primary, edge, vz, vy, vx, constants, free,
                    EDGE_MODE, CONVECTS, BALLOON_KIND, CURVATURE_KIND, CONVECTION_KIND, WALLS,
                )  # fmt: skip

            towards = tl.where(balloon_weight * S >= 0, 1.0, -1.0).to(c.dtype)
            square = upwind_square(z2, z1, c, z3, z4, hz, towards, ORDER, SUM)
            square += upwind_square(y2, y1, c, y3, y4, hy, towards, ORDER, SUM)
            square += upwind_square(x2, x1, c, x3, x4, hx, towards, ORDER, SUM)
            change = balloon_weight * (S * tl.sqrt(square))
            if BENDS:
                bend = bent(
                    u, place, z, y, x, nz, ny, nx, dz, dy, dx, ddz, ddy, ddx, hz, hy, hx, norm, eps,
                    tl.load(constants + LIMIT), tl.load(constants + PEAK_SHARE), tl.load(constants + FLAT_SLOPE),
                )  # fmt: skip
                change += tl.load(constants + CURVATURE) * W * bend
            if CONVECTS:
                pull = tl.maximum(vz, 0.0) * ((z3 - c) / hz) - tl.maximum(-vz, 0.0) * ((c - z1) / hz)
                pull = pull + tl.maximum(vy, 0.0) * ((y3 - c) / hy) - tl.maximum(-vy, 0.0) * ((c - y1) / hy)
                pull = pull + tl.maximum(vx, 0.0) * ((x3 - c) / hx) - tl.maximum(-vx, 0.0) * ((c - x1) / hx)
                change += convection_weight * pull
            tl.store(rate + place, change, mask=band)

            mean = c + hz * hz / 24 * ddz + hy * hy / 24 * ddy + hx * hx / 24 * ddx
            spread = tl.sqrt(hz * dz * (hz * dz) + hy * dy * (hy * dy) + hx * dx * (hx * dx))
            inside = c > 0
            e = tl.load(constants + HALF_VOXEL)
            area = (share_inside(mean + e, spread, inside) - share_inside(mean - e, spread, inside)) / (2 * e)
            area = tl.where(band, area * tl.load(constants + VOXEL), 0.0)
            is_free = tl.abs(balloon_weight) * S > tl.load(constants + THRESHOLD)
            inside_sum += tl.where(band, share_inside(mean, spread, inside), 0.0).to(tl.float64)
            area_sum += area.to(tl.float64)
            free_sum += tl.where(is_free, area, 0.0).to(tl.float64)
            speed_sum += tl.where(band, area * S, 0.0).to(tl.float64)
            fastest = tl.maximum(fastest, tl.where(band, tl.abs(S), 0.0).to(tl.float64))
            bound_max = tl.maximum(bound_max, tl.where(band, bound, 0.0).to(tl.float64))
            inside_count += (band & inside).to(tl.int32)
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
def finish(sums, boxes, far_inside, results, PROGRAMS: tl.constexpr):
    """The sums and extremes of all programs, the number of voxels at +w and the box of the last step."""
    program = tl.arange(0, PROGRAMS)
    for k in tl.static_range(8):
        values = tl.load(sums + k * PROGRAMS + program)
        tl.store(results + k, tl.max(values) if k == 4 or k == 5 else tl.sum(values))
    tl.store(results + 8, tl.load(far_inside).to(tl.float64))
    for k in tl.static_range(6):
        sides = tl.load(boxes + k * PROGRAMS + program)
        tl.store(results + 9 + k, (tl.min(sides) if k < 3 else tl.max(sides)).to(tl.float64))


@triton.jit
def _note(
    alive, at_top, tile, bits, far, far_inside, TZ: tl.constexpr, TY: tl.constexpr, TX: tl.constexpr
):
    """Write down what a tile holds: its bits, and the number of voxels at +w."""
    lane = tl.arange(0, TZ * TY * TX)
    z = lane // (TY * TX)
    y = lane // TX % TY
    x = lane % TX
    value = tl.max(alive.to(tl.int32))
    value += 2 * tl.max((alive & (z < 2)).to(tl.int32)) + 4 * tl.max((alive & (z >= TZ - 2)).to(tl.int32))
    value += 8 * tl.max((alive & (y < 2)).to(tl.int32)) + 16 * tl.max((alive & (y >= TY - 2)).to(tl.int32))
    value += 32 * tl.max((alive & (x < 2)).to(tl.int32)) + 64 * tl.max((alive & (x >= TX - 2)).to(tl.int32))
    tl.store(bits + tile, value)
    now = tl.sum(at_top.to(tl.int32))
    before = tl.load(far + tile)
    tl.store(far + tile, now)
    # Whole numbers: their sum does not depend on the order in which programs add.
    tl.atomic_add(far_inside, (now - before).to(tl.int64), mask=now != before)


@triton.jit(do_not_specialize=SIZES)
def move(
    u,
    target,
    rate,
    walls,
    pins,
    constants,
    tiles,
    count,
    boxes,
    nz,
    ny,
    nx,
    gz,
    gy,
    gx,
    INDEX: tl.constexpr,
    TZ: tl.constexpr,
    TY: tl.constexpr,
    TX: tl.constexpr,
    WALLS: tl.constexpr,
    PINS: tl.constexpr,
    ENDS: tl.constexpr,
):
    """u + dt u_t on the band, clipped, and constrained, into `target`; with ENDS that is the whole step, into both."""
    w = tl.load(constants + WIDTH)
    dt = tl.load(constants + TIME_STEP)
    half = tl.load(constants + CONSTRAINT)
    program = tl.program_id(0)
    programs = tl.num_programs(0)
    low_z = tl.full((), 2147483647, tl.int32)
    low_y = low_z
    low_x = low_z
    high_z = tl.full((), 0, tl.int32)
    high_y = high_z
    high_x = high_z
    for i in range(program, tl.load(count), programs):
        z, y, x, place, valid = places(tl.load(tiles + i), nz, ny, nx, gy, gx, INDEX, TZ, TY, TX)
        c = tl.load(u + place)
        band = tl.abs(c) < w
        change = tl.load(rate + place, mask=band, other=0.0)
        c = tl.where(band, clamped(c + dt * change, -w, w), c)
        c = constrained(c, walls, pins, place, half, WALLS, PINS)
        tl.store(target + place, c, mask=valid)
        if ENDS:
            tl.store(u + place, c, mask=valid)
        low_z = tl.minimum(low_z, tl.min(z))
        low_y = tl.minimum(low_y, tl.min(y))
        low_x = tl.minimum(low_x, tl.min(x))
        high_z = tl.maximum(high_z, tl.max(z) + 1)
        high_y = tl.maximum(high_y, tl.max(y) + 1)
        high_x = tl.maximum(high_x, tl.max(x) + 1)
    tl.store(boxes + program, low_z)
    tl.store(boxes + programs + program, low_y)
    tl.store(boxes + 2 * programs + program, low_x)
    tl.store(boxes + 3 * programs + program, high_z)
    tl.store(boxes + 4 * programs + program, high_y)
    tl.store(boxes + 5 * programs + program, high_x)


@triton.jit(do_not_specialize=SIZES)
def rescale(
    source,
    target,
    constants,
    tiles,
    count,
    nz,
    ny,
    nx,
    gz,
    gy,
    gx,
    INDEX: tl.constexpr,
    TZ: tl.constexpr,
    TY: tl.constexpr,
    TX: tl.constexpr,
    CLIPS: tl.constexpr,
):
    """Bring the slope beside the front into its dead band; with CLIPS everything is clipped to +-w too."""
    hz = tl.load(constants + SPACING_Z)
    hy = tl.load(constants + SPACING_Y)
    hx = tl.load(constants + SPACING_X)
    w = tl.load(constants + WIDTH)
    least = tl.load(constants + LEAST_SLOPE)
    largest = tl.load(constants + LARGEST_SLOPE)
    for i in range(tl.program_id(0), tl.load(count), tl.num_programs(0)):
        z, y, x, place, valid = places(tl.load(tiles + i), nz, ny, nx, gy, gx, INDEX, TZ, TY, TX)
        c = tl.load(source + place)
        inside = c > 0
        _, z1, z3, _ = line(source, place, z, nz, ny * nx, 1)
        _, y1, y3, _ = line(source, place, y, ny, nx, 1)
        _, x1, x3, _ = line(source, place, x, nx, 1, 1)
        near_z, square_z = crossing(z1, c, z3, hz, inside)
        near_y, square_y = crossing(y1, c, y3, hy, inside)
        near_x, square_x = crossing(x1, c, x3, hx, inside)
        near = near_z | near_y | near_x
        slope = tl.where(near, tl.sqrt(square_z + square_y + square_x), 1.0)
        within = clamped(slope, least, largest)
        c = tl.where(near & (within != slope), c * (within / slope), c)
        if CLIPS:
            c = clamped(c, -w, w)
        tl.store(target + place, c, mask=valid)


@triton.jit(do_not_specialize=SIZES)
def sweep(
    source,
    target,
    walls,
    pins,
    constants,
    tiles,
    count,
    bits,
    far,
    far_inside,
    nz,
    ny,
    nx,
    gz,
    gy,
    gx,
    INDEX: tl.constexpr,
    TZ: tl.constexpr,
    TY: tl.constexpr,
    TX: tl.constexpr,
    ORDER: tl.constexpr,
    WALLS: tl.constexpr,
    PINS: tl.constexpr,
    ENDS: tl.constexpr,
):
    """One Jacobi sweep of the redistancing; with ENDS also the constraints, and what each tile holds now.

    No sweep changes a sign, so the voxels beside the front are found anew from the signs, and are those of `rescale`.
    """
    hz = tl.load(constants + SPACING_Z)
    hy = tl.load(constants + SPACING_Y)
    hx = tl.load(constants + SPACING_X)
    w = tl.load(constants + WIDTH)
    step = tl.load(constants + SWEEP_STEP)
    for i in range(tl.program_id(0), tl.load(count), tl.num_programs(0)):
        tile = tl.load(tiles + i)
        z, y, x, place, valid = places(tile, nz, ny, nx, gy, gx, INDEX, TZ, TY, TX)
        c = tl.load(source + place)
        inside = c > 0
        z2, z1, z3, z4 = line(source, place, z, nz, ny * nx, ORDER)
        y2, y1, y3, y4 = line(source, place, y, ny, nx, ORDER)
        x2, x1, x3, x4 = line(source, place, x, nx, 1, ORDER)
        near = beside_the_front(z1, z3, y1, y3, x1, x3, inside)
        towards = tl.where(inside, -1.0, 1.0).to(c.dtype)
        square = upwind_square(z2, z1, c, z3, z4, hz, towards, ORDER, False)
        square += upwind_square(y2, y1, c, y3, y4, hy, towards, ORDER, False)
        square += upwind_square(x2, x1, c, x3, x4, hx, towards, ORDER, False)
        moved = clamped(c + step * towards * (tl.sqrt(square) - 1), -w, w)
        after = tl.where(near | ((moved > 0) != inside), c, moved)
        if ENDS:
            after = constrained(after, walls, pins, place, tl.load(constants + CONSTRAINT), WALLS, PINS)
            # Where the two arrays differ a tile stays listed, so that unlisted tiles are the same in both.
            alive = (tl.abs(after) < w) | near | (after != c)
            _note(valid & alive, valid & (after >= w), tile, bits, far, far_inside, TZ, TY, TX)
        tl.store(target + place, after, mask=valid)


@triton.jit(do_not_specialize=SIZES)
def survey(
    u,
    constants,
    tiles,
    count,
    bits,
    far,
    far_inside,
    nz,
    ny,
    nx,
    gz,
    gy,
    gx,
    INDEX: tl.constexpr,
    TZ: tl.constexpr,
    TY: tl.constexpr,
    TX: tl.constexpr,
):
    """What the listed tiles hold."""
    w = tl.load(constants + WIDTH)
    for i in range(tl.program_id(0), tl.load(count), tl.num_programs(0)):
        tile = tl.load(tiles + i)
        z, y, x, place, valid = places(tile, nz, ny, nx, gy, gx, INDEX, TZ, TY, TX)
        c = tl.load(u + place)
        inside = c > 0
        _, z1, z3, _ = line(u, place, z, nz, ny * nx, 1)
        _, y1, y3, _ = line(u, place, y, ny, nx, 1)
        _, x1, x3, _ = line(u, place, x, nx, 1, 1)
        alive = (tl.abs(c) < w) | beside_the_front(z1, z3, y1, y3, x1, x3, inside)
        _note(valid & alive, valid & (c >= w), tile, bits, far, far_inside, TZ, TY, TX)


@triton.jit(do_not_specialize=[*SIZES, "tiles"])
def touched(bits, listing, tiles, nz, ny, nx, gz, gy, gx, BLOCK: tl.constexpr):
    """1 for every tile that two sweeps can change, else 0."""
    tile = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    z = tile // (gy * gx)
    y = tile // gx % gy
    x = tile % gx
    found = tl.zeros([BLOCK], tl.int32)
    for kz in tl.static_range(-1, 2):
        for ky in tl.static_range(-1, 2):
            for kx in tl.static_range(-1, 2):
                there = (z + kz >= 0) & (z + kz < gz) & (y + ky >= 0) & (y + ky < gy) & (x + kx >= 0) & (x + kx < gx)
                # A neighbour below counts where it is alive at its upper side, and the other way round.
                wanted = (
                    1
                    + (4 if kz < 0 else 2 if kz > 0 else 0)
                    + (16 if ky < 0 else 8 if ky > 0 else 0)
                    + (64 if kx < 0 else 32 if kx > 0 else 0)
                )
                value = tl.load(bits + tile + (kz * gy + ky) * gx + kx, mask=there & (tile < tiles), other=0)
                found = found | ((value & wanted) == wanted).to(tl.int32)
    tl.store(listing + tile, found, mask=tile < tiles)


@triton.jit(do_not_specialize=["tiles"])
def listed(chosen, place, tiles_listed, tiles, BLOCK: tl.constexpr):
    """The list of the chosen tiles in the order of the array; `place` is the running sum of `chosen`."""
    tile = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    here = tl.load(chosen + tile, mask=tile < tiles, other=0) != 0
    where = tl.load(place + tile, mask=here, other=1) - 1
    tl.store(tiles_listed + where, tile, mask=here)


@triton.jit(do_not_specialize=SIZES)
def copied(
    source,
    target,
    tiles,
    count,
    nz,
    ny,
    nx,
    gz,
    gy,
    gx,
    INDEX: tl.constexpr,
    TZ: tl.constexpr,
    TY: tl.constexpr,
    TX: tl.constexpr,
):
    """The voxels of the listed tiles, from one array into another."""
    for i in range(tl.program_id(0), tl.load(count), tl.num_programs(0)):
        _, _, _, place, valid = places(tl.load(tiles + i), nz, ny, nx, gy, gx, INDEX, TZ, TY, TX)
        tl.store(target + place, tl.load(source + place), mask=valid)
