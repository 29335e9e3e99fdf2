"""The stencils, terms and fits of the level set in a Triton kernel: the formulas of `stencils.py` and `equation.py`.

Every function takes the values around the voxels of one tile. An axis of length 1 is its own neighbour, so that all its
differences are exactly 0. The order of every sum and product is that of the definition: in float64 the results are its
bits, but for the powers.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def places(
    tile,
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
    """Coordinates, flat index and presence of the voxels of a tile; beyond the array they are those of its border."""
    lane = tl.arange(0, TZ * TY * TX)
    z = tile // (gy * gx) * TZ + lane // (TY * TX)
    y = tile // gx % gy * TY + lane // TX % TY
    x = tile % gx * TX + lane % TX
    valid = (z < nz) & (y < ny) & (x < nx)
    z = tl.minimum(z, nz - 1)
    y = tl.minimum(y, ny - 1)
    x = tl.minimum(x, nx - 1)
    place = (z.to(INDEX) * ny + y) * nx + x
    return z, y, x, place, valid


@triton.jit
def step_to(here, k: tl.constexpr, size, stride):
    """Index step to the clamped neighbour `k` voxels further along an axis."""
    return (tl.minimum(tl.maximum(here + k, 0), size - 1) - here) * stride


@triton.jit
def line(u, place, here, size, stride, ORDER: tl.constexpr):
    """Values at -2, -1, +1, +2 along an axis; the outer ones only where the second order reads them."""
    left = tl.load(u + place + step_to(here, -1, size, stride))
    right = tl.load(u + place + step_to(here, 1, size, stride))
    far_left = left
    far_right = right
    if ORDER == 2:
        far_left = tl.load(u + place + step_to(here, -2, size, stride))
        far_right = tl.load(u + place + step_to(here, 2, size, stride))
    return far_left, left, right, far_right


@triton.jit
def over(value, length):
    """The quotient by one number for all voxels; in float32 a product with its inverse, which is faster."""
    result = value * (1.0 / length)
    if value.dtype == tl.float64:
        result = value / length
    return result


@triton.jit
def minmod(a, b):
    """0 where the signs differ, else the one of smaller magnitude."""
    return tl.maximum(tl.minimum(a, b), 0.0) + tl.minimum(tl.maximum(a, b), 0.0)


@triton.jit
def upwind_square(far_left, left, c, right, far_right, h, towards, ORDER: tl.constexpr, SUM: tl.constexpr):
    """Share of one axis in the squared upwind norm: the larger of both sides (Godunov), or their sum."""
    minus = over(c - left, h)
    plus = over(right - c, h)
    if ORDER == 2:
        bend = over(left - 2 * c + right, h * h)
        minus = minus + h / 2 * minmod(bend, over(far_left - 2 * left + c, h * h))
        plus = plus - h / 2 * minmod(bend, over(c - 2 * right + far_right, h * h))
    from_plus = tl.maximum(towards * plus, 0.0)
    from_minus = tl.maximum(-towards * minus, 0.0)
    from_plus = from_plus * from_plus
    from_minus = from_minus * from_minus
    square = tl.maximum(from_plus, from_minus)
    if SUM:
        square = from_plus + from_minus
    return square


@triton.jit
def mixed(u, place, a_down, a_up, b_down, b_up, a_h, b_h):
    """D_ab u of two axes."""
    upper = tl.load(u + place + a_up + b_up) - tl.load(u + place + a_up + b_down)
    lower = tl.load(u + place + a_down + b_up) - tl.load(u + place + a_down + b_down)
    return over(upper - lower, 4 * a_h * b_h)


@triton.jit
def clamped(value, low, high):
    """The value, not below `low` and not above `high`."""
    return tl.minimum(tl.maximum(value, low), high)


@triton.jit
def bent(
    u, place, z, y, x, nz, ny, nx, dz, dy, dx, ddz, ddy, ddx, hz, hy, hx, norm, eps, limit, peak_share, flat_slope
):
    """K = kappa |Du| of the quotient form, from first and second central differences along the axes."""
    z_down = step_to(z, -1, nz, ny * nx)
    z_up = step_to(z, 1, nz, ny * nx)
    y_down = step_to(y, -1, ny, nx)
    y_up = step_to(y, 1, ny, nx)
    x_down = step_to(x, -1, nx, 1)
    x_up = step_to(x, 1, nx, 1)
    zz = dz * dz
    yy = dy * dy
    xx = dx * dx
    numerator = ddz * yy + ddz * xx + ddy * zz + ddy * xx + ddx * zz + ddx * yy
    numerator -= 2 * dz * dy * mixed(u, place, z_down, z_up, y_down, y_up, hz, hy)
    numerator -= 2 * dz * dx * mixed(u, place, z_down, z_up, x_down, x_up, hz, hx)
    numerator -= 2 * dy * dx * mixed(u, place, y_down, y_up, x_down, x_up, hy, hx)
    guarded = norm + eps
    kappa = clamped(numerator / (guarded * guarded * guarded), -limit, limit)
    peak = clamped(peak_share * (ddz + ddy + ddx), -limit, limit)
    return tl.where(norm < flat_slope, peak, kappa * norm)


@triton.jit
def raised(value, exponent, KIND: tl.constexpr, SIGNED: tl.constexpr):
    """value^exponent for values of 0 or more, or sign(value) |value|^exponent; KIND is 0, 1, 2 or -1 for any."""
    sign = tl.where(value > 0, 1.0, tl.where(value < 0, -1.0, 0.0)).to(value.dtype)
    result = value
    if KIND == 0:
        result = sign if SIGNED else tl.full(value.shape, 1.0, value.dtype)
    if KIND == 2:
        result = sign * (value * value) if SIGNED else value * value
    if KIND == -1:
        size = tl.abs(value)
        power = tl.exp(exponent * tl.log(tl.where(size > 0, size, 1.0)))
        result = tl.where(size > 0, power, 0.0)
        if SIGNED:
            result = sign * result
    return result


@triton.jit
def share_inside(mean, width, inside):
    """Share of each voxel that lies inside the linear fit of u."""
    share = clamped(mean / tl.where(width > 0, width, 1.0) + 0.5, 0.0, 1.0)
    return tl.where(width > 0, share, inside.to(share.dtype))


@triton.jit
def constrained(u, walls, pins, place, half, WALLS: tl.constexpr, PINS: tl.constexpr):
    """U with u <= -min(h)/2 on walls and u >= min(h)/2 on pins."""
    if WALLS:
        u = tl.where(tl.load(walls + place) != 0, tl.minimum(u, -half), u)
    if PINS:
        u = tl.where(tl.load(pins + place) != 0, tl.maximum(u, half), u)
    return u


@triton.jit
def crossing(left, c, right, h, inside):
    """Whether the front passes between a voxel and a neighbour on this axis, and the square of its slope there."""
    to_left = (left > 0) != inside
    to_right = (right > 0) != inside
    across_left = tl.where(to_left, tl.abs(over(c - left, h)), 0.0)
    across_right = tl.where(to_right, tl.abs(over(right - c, h)), 0.0)
    slope = tl.where(to_left | to_right, tl.maximum(across_left, across_right), tl.abs(over(right - left, 2 * h)))
    return to_left | to_right, slope * slope


@triton.jit
def beside_the_front(z1, z3, y1, y3, x1, x3, inside):
    """Whether a voxel has a face neighbour on the other side; the values are those of its six."""
    near = ((z1 > 0) != inside) | ((z3 > 0) != inside)
    near = near | ((y1 > 0) != inside) | ((y3 > 0) != inside)
    return near | ((x1 > 0) != inside) | ((x3 > 0) != inside)
