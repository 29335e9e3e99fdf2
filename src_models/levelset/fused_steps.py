"""The Triton kernels that move and redistance u, and that keep the list of the tiles that hold the band.

`move` adds dt times the rate of change; `rescale` and `sweep` redistance; `survey`, `touched` and `listed` keep the
list. Each visits the listed tiles in a fixed order per program. A tile's bits tell whether something in it can change
(1) and, per axis, whether that comes within two layers of its lower or upper neighbour: as far as two sweeps reach.
"""

from __future__ import annotations

import triton
import triton.language as tl

from src_models.levelset.fused_constants import (
    CONSTRAINT,
    LARGEST_SLOPE,
    LEAST_SLOPE,
    SPACING_X,
    SPACING_Y,
    SPACING_Z,
    SWEEP_STEP,
    TIME_STEP,
    WIDTH,
)
from src_models.levelset.fused_stencils import (
    beside_the_front,
    clamped,
    constrained,
    crossing,
    line,
    places,
    upwind_square,
)


@triton.jit
def _either(a, b):
    return a | b


@triton.jit
def _note(alive, at_top, tile, bits, far, TZ: tl.constexpr, TY: tl.constexpr, TX: tl.constexpr):
    """Write down what a tile holds: its bits, and the number of voxels at +w, of which the change is given back."""
    lane = tl.arange(0, TZ * TY * TX)
    z = lane // (TY * TX)
    y = lane // TX % TY
    x = lane % TX
    value = 1 + 2 * (z < 2).to(tl.int32) + 4 * (z >= TZ - 2).to(tl.int32)
    value += 8 * (y < 2).to(tl.int32) + 16 * (y >= TY - 2).to(tl.int32)
    value += 32 * (x < 2).to(tl.int32) + 64 * (x >= TX - 2).to(tl.int32)
    tl.store(bits + tile, tl.reduce(tl.where(alive, value, 0), 0, _either))
    now = tl.sum(at_top.to(tl.int32))
    before = tl.load(far + tile)
    tl.store(far + tile, now)
    return now - before


@triton.jit(do_not_specialize=["nz", "ny", "nx", "gy", "gx"])
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


@triton.jit(do_not_specialize=["nz", "ny", "nx", "gy", "gx"])
def rescale(
    source,
    target,
    constants,
    tiles,
    count,
    nz,
    ny,
    nx,
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


@triton.jit(do_not_specialize=["nz", "ny", "nx", "gy", "gx"])
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
    gained = tl.full((), 0, tl.int32)
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
            gained += _note(valid & alive, valid & (after >= w), tile, bits, far, TZ, TY, TX)
        tl.store(target + place, after, mask=valid)
    if ENDS:
        # Whole numbers: their sum does not depend on the order in which programs add.
        tl.atomic_add(far_inside, gained.to(tl.int64))


@triton.jit(do_not_specialize=["nz", "ny", "nx", "gy", "gx"])
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
    gy,
    gx,
    INDEX: tl.constexpr,
    TZ: tl.constexpr,
    TY: tl.constexpr,
    TX: tl.constexpr,
):
    """What the listed tiles hold."""
    w = tl.load(constants + WIDTH)
    gained = tl.full((), 0, tl.int32)
    for i in range(tl.program_id(0), tl.load(count), tl.num_programs(0)):
        tile = tl.load(tiles + i)
        z, y, x, place, valid = places(tile, nz, ny, nx, gy, gx, INDEX, TZ, TY, TX)
        c = tl.load(u + place)
        inside = c > 0
        _, z1, z3, _ = line(u, place, z, nz, ny * nx, 1)
        _, y1, y3, _ = line(u, place, y, ny, nx, 1)
        _, x1, x3, _ = line(u, place, x, nx, 1, 1)
        alive = (tl.abs(c) < w) | beside_the_front(z1, z3, y1, y3, x1, x3, inside)
        gained += _note(valid & alive, valid & (c >= w), tile, bits, far, TZ, TY, TX)
    tl.atomic_add(far_inside, gained.to(tl.int64))


@triton.jit(do_not_specialize=["tiles", "gz", "gy", "gx"])
def touched(bits, listing, tiles, gz, gy, gx, BLOCK: tl.constexpr):
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


@triton.jit(do_not_specialize=["nz", "ny", "nx", "gy", "gx"])
def copied(
    source,
    target,
    tiles,
    count,
    nz,
    ny,
    nx,
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
