"""Redistancing: bring u back to a signed distance in mm without moving the front.

Voxels beside the front keep their value while their slope is within a dead band around 1, so the sub-voxel front stays
exactly where it is; all others follow Sussman, Smereka and Osher's (1994) equation u_tau = -sign(u) (|Du| - 1) by
Jacobi sweeps. A sweep never changes a sign.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from src_models.levelset.sites import Flags
from src_models.levelset.stencils import (
    Dense,
    Neighbourhood,
    Packed,
    Sites,
    backward,
    central,
    forward,
    root,
    upwind_norm,
)

SWEEPS = 2
TOLERANCE = 0.25


def sweep_step(spacing: Sequence[float], shape: Sequence[int]) -> float:
    """dtau = 0.5 / sqrt(sum 1/h^2) over the axes longer than 1."""
    inverse_squares = sum(1 / h**2 for h, n in zip(spacing, shape, strict=True) if n > 1)
    return 0.5 / math.sqrt(inverse_squares) if inverse_squares else 0.5 * min(spacing)


def _near_the_front(n: Neighbourhood) -> tuple[Tensor, Tensor]:
    """Which voxels have a face neighbour on the other side, and the slope there."""
    inside = n.centre > 0
    near = torch.zeros_like(inside)
    squares = torch.zeros_like(n.centre)
    for axis in n.axes:
        left = (n.at((axis, -1)) > 0) != inside
        right = (n.at((axis, 1)) > 0) != inside
        near = near | left | right
        nothing = torch.zeros_like(squares)
        across = torch.maximum(
            torch.where(left, backward(n, axis).abs(), nothing), torch.where(right, forward(n, axis).abs(), nothing)
        )
        squares = squares + torch.where(left | right, across, central(n, axis).abs()).square()
    return near, root(squares)


def rescaled_near(n: Neighbourhood, tolerance: float) -> tuple[Tensor, Tensor]:
    """The near voxels, and u with their values scaled to a slope inside [1 - tolerance, 1 + tolerance]."""
    near, slope = _near_the_front(n)
    safe = torch.where(near, slope, torch.ones_like(slope))
    within = safe.clamp(1 - tolerance, 1 + tolerance)
    return near, torch.where(near & (within != safe), n.centre * (within / safe), n.centre)


def swept(n: Neighbourhood, near: Tensor, width: float, order: Literal[1, 2]) -> Tensor:
    """One Jacobi sweep with the near voxels held."""
    u = n.centre
    inside = u > 0
    slope = upwind_norm(n, ~inside, "godunov", order)
    sign = torch.where(inside, torch.ones_like(u), -torch.ones_like(u))
    moved = (u - sweep_step(n.spacing, n.shape) * sign * (slope - 1)).clamp(-width, width)
    return torch.where(near | ((moved > 0) != inside), u, moved)


def redistance(
    u: Tensor,
    spacing: Sequence[float],
    band_width_mm: float,
    *,
    sweeps: int = SWEEPS,
    tolerance: float = TOLERANCE,
    order: Literal[1, 2] = 2,
) -> Tensor:
    """R(u; M, tau) on every voxel.

    Parameters
    ----------
    u : Tensor of shape (z, y, x) or (y, x)
        Positive inside.
    spacing : sequence of float
        mm per array axis.
    band_width_mm : float
        w: u is clipped to [-w, w].
    sweeps : int
        M.
    tolerance : float
        tau: a slope of the near voxels within 1 +- tau is left alone.
    order : {1, 2}
        Of the one-sided differences in the sweeps.
    """
    near, u = rescaled_near(Dense(u, spacing), tolerance)
    for _ in range(sweeps):
        u = swept(Dense(u, spacing), near, band_width_mm, order)
    return u


def redistance_at(
    flat: Tensor,
    sites: Sites,
    spacing: Sequence[float],
    width: float,
    *,
    sweeps: int = SWEEPS,
    tolerance: float = TOLERANCE,
    order: Literal[1, 2] = 2,
) -> None:
    """The same in place, at sites: equal to `redistance` where they hold the band and one face layer per sweep."""
    near, values = rescaled_near(Packed(flat, sites, spacing), tolerance)
    flat.index_copy_(0, sites.positions, values)
    for _ in range(sweeps):
        flat.index_copy_(0, sites.positions, swept(Packed(flat, sites, spacing), near, width, order))


def redistance_fully(u: Tensor, spacing: Sequence[float], band_width_mm: float, *, order: Literal[1, 2] = 2) -> Tensor:
    """A signed distance from any u: tau = 0 and enough sweeps to cross the band; no sign is changed.

    Parameters
    ----------
    u : Tensor of shape (z, y, x) or (y, x)
        Positive inside; a mask comes as +-w.
    spacing : sequence of float
        mm per array axis.
    band_width_mm : float
        w.
    order : {1, 2}
        Of the one-sided differences.

    Notes
    -----
    A voxel at +-w whose face neighbours are there too cannot change in a sweep, so only the voxels within one layer per
    sweep of the band are visited; the result is that of the dense sweeps.
    """
    shape = tuple(u.shape)
    flat = u.clone().contiguous().reshape(-1)
    flags = Flags(shape, u.device)
    near, values = rescaled_near(Dense(u, spacing), 0.0)
    flat.copy_(values.reshape(-1))
    held = near.reshape(-1)
    flat.clamp_(-band_width_mm, band_width_mm)
    sweeps = math.ceil(2 * band_width_mm / sweep_step(spacing, shape))
    layers = 4
    for done in range(0, sweeps, layers):
        count = min(layers, sweeps - done)
        band = torch.nonzero(held | (flat.abs() < band_width_mm)).reshape(-1)
        sites = flags.grown(Sites(band, shape), count)
        fixed = held.index_select(0, sites.index)
        for _ in range(count):
            flat.index_copy_(0, sites.positions, swept(Packed(flat, sites, spacing), fixed, band_width_mm, order))
    return flat.reshape(shape)
