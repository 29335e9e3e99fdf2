"""The terms of the level set equation and its rate of change: dense or at sites, on any device, differentiable.

    u_t = balloon * S * |Du|  +  curvature * W * kappa * |Du|  +  convection * g^c * (Dg . Du)

u > 0 is inside. Letters as in Actor, Fuentes, Riviere (SPIE Medical Imaging 2020): alpha is the balloon, beta the
curvature, gamma the convection. Upwind differences after Osher and Sethian (1988)
and Rouy and Tourin (1992).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from src_models.levelset.parameters import LevelSetParameters
from src_models.levelset.redistancing import redistance
from src_models.levelset.stencils import (
    Gradient,
    Neighbourhood,
    around,
    backward,
    central,
    central_norm,
    forward,
    mixed,
    second,
    upwind_norm,
)

FLAT_SLOPE = 0.1
"""Below this |Du| the direction of the gradient is noise: at a peak of the distance."""


@dataclass(frozen=True)
class Speeds:
    """What the image contributes to the equation, at the voxels of a neighbourhood.

    Attributes
    ----------
    balloon : Tensor
        S: ``g^a`` or ``sign(s) |s|^a``.
    curvature : Tensor
        W: ``g^b``.
    convection : tuple of Tensor
        ``g^c D0_d g`` per array axis; empty without convection.
    """

    balloon: Tensor
    curvature: Tensor
    convection: tuple[Tensor, ...] = ()


@dataclass(frozen=True)
class Terms:
    """The three weighted parts of u_t; their sum is the rate of change."""

    balloon: Tensor
    curvature: Tensor
    convection: Tensor

    @property
    def total(self) -> Tensor:
        """u_t."""
        return self.balloon + self.curvature + self.convection


def balloon_term(
    n: Neighbourhood,
    speed: Tensor,
    growing: Tensor,
    gradient: Gradient = "godunov",
    order: Literal[1, 2] = 1,
    root_epsilon: float = 0.0,
) -> Tensor:
    """B = S |Du|, without its weight.

    Parameters
    ----------
    n : Neighbourhood
        Around u.
    speed : Tensor
        S at the voxels.
    growing : Tensor of bool
        Where balloon * S >= 0; decided per voxel, as both signs occur in region mode.
    gradient, order, root_epsilon
        As in `LevelSetParameters`; ``"none"`` leaves |Du| out.
    """
    if gradient == "none":
        return speed * torch.ones_like(n.centre)
    if gradient == "central":
        return speed * central_norm(n, root_epsilon)
    norm = upwind_norm(n, growing, gradient, order)
    return speed * norm


def curvature_term(
    n: Neighbourhood,
    form: Literal["quotient", "nested"] = "quotient",
    eps: float = 1e-6,
    root_epsilon: float = 0.0,
    gradient: Gradient = "godunov",
) -> Tensor:
    """K = kappa |Du| with kappa = div(Du / |Du|), the sum of the principal curvatures, without weight and W.

    A ball of u = R - r has kappa = -(n - 1)/R: it shrinks. With ``gradient="none"`` K = kappa.
    """
    norm = central_norm(n, root_epsilon)
    if form == "nested":
        kappa = torch.zeros_like(n.centre)
        for axis in n.axes:

            def direction(m: Neighbourhood, axis: int = axis) -> Tensor:
                length = central_norm(m, root_epsilon) + eps
                return central(m, axis) / torch.where(length > 0, length, torch.ones_like(length))

            kappa = kappa + n.central_of(direction, axis)
        return kappa if gradient == "none" else kappa * norm
    count = len(n.axes)
    limit = 1 / min(n.active_spacing, default=1.0)
    slopes = {axis: central(n, axis) for axis in n.axes}
    bends = {axis: second(n, axis) for axis in n.axes}
    squares = {axis: slope.square() for axis, slope in slopes.items()}
    numerator = torch.zeros_like(n.centre)
    laplacian = torch.zeros_like(n.centre)
    for axis in n.axes:
        laplacian = laplacian + bends[axis]
        for other in n.axes:
            if other != axis:
                numerator = numerator + bends[axis] * squares[other]
    for a, b in itertools.combinations(n.axes, 2):
        numerator = numerator - 2 * slopes[a] * slopes[b] * mixed(n, a, b)
    kappa = (numerator / (norm + eps) ** 3).clamp(-limit, limit)
    sloping = kappa if gradient == "none" else kappa * norm
    peak = ((count - 1) / max(count, 1) * laplacian).clamp(-limit, limit)
    return torch.where(norm < FLAT_SLOPE, peak, sloping)


def convection_term(n: Neighbourhood, velocity: Sequence[Tensor]) -> Tensor:
    """C = sum_d [ max(v_d, 0) D+_d u - max(-v_d, 0) D-_d u ], without its weight; always of first order.

    Parameters
    ----------
    n : Neighbourhood
        Around u.
    velocity : sequence of Tensor
        v_d = g^c D0_d g, one per array axis.
    """
    total = torch.zeros_like(n.centre)
    for axis in n.axes:
        v = velocity[axis]
        total = total + v.clamp(min=0) * forward(n, axis) - (-v).clamp(min=0) * backward(n, axis)
    return total


def rate_of_change(n: Neighbourhood, speeds: Speeds, parameters: LevelSetParameters) -> Terms:
    """The three weighted terms of u_t at the voxels of a neighbourhood; differentiable in u and the speeds."""
    zero = torch.zeros_like(n.centre)
    balloon = curvature = convection = zero
    if parameters.balloon != 0:
        growing = (parameters.balloon * speeds.balloon >= 0).detach()
        balloon = parameters.balloon * balloon_term(
            n, speeds.balloon, growing, parameters.gradient, parameters.order, parameters.root_epsilon
        )
    if parameters.curvature != 0:
        bend = curvature_term(
            n, parameters.curvature_form, parameters.eps, parameters.root_epsilon, parameters.gradient
        )
        curvature = parameters.curvature * speeds.curvature * bend
    if speeds.convection:
        convection = parameters.convection_weight * convection_term(n, speeds.convection)
    return Terms(balloon, curvature, convection)


def rates(n: Neighbourhood, speeds: Speeds, parameters: LevelSetParameters) -> Tensor:
    """1/dt of the stability bound at CFL number 1, per voxel; differentiable in the speeds.

        |balloon| |S| sqrt(sum 1/h^2) + |convection| sum |v_d| / h_d + 2 curvature W sum 1/h^2

    with the first root times sqrt(2) for Osher and Sethian's gradient. The speeds are those of the voxels.
    """
    inverse_squares = sum(1 / h**2 for h in n.active_spacing)
    root: float = inverse_squares**0.5 * (2**0.5 if parameters.gradient == "osher_sethian" else 1.0)
    rate = abs(parameters.balloon) * root * speeds.balloon.abs()
    for axis in n.axes if speeds.convection else ():
        rate = rate + parameters.convection_weight / n.spacing[axis] * speeds.convection[axis].abs()
    return rate + 2 * parameters.curvature * inverse_squares * speeds.curvature


def largest_rate(n: Neighbourhood, speeds: Speeds, parameters: LevelSetParameters) -> float:
    """The largest of the `rates`: 1/dt at CFL number 1; 0 where nothing can move."""
    return float(rates(n, speeds, parameters).max()) if n.centre.numel() else 0.0


def constrained(u: Tensor, spacing: Sequence[float], walls: Tensor | None, pins: Tensor | None) -> Tensor:
    """U with u <= -min(h)/2 on walls and u >= min(h)/2 on pins; a pin on a wall is a pin.

    `spacing` holds the axes longer than 1 only.
    """
    half = min(spacing) / 2
    if walls is not None:
        u = torch.where(walls, u.clamp(max=-half), u)
    if pins is not None:
        u = torch.where(pins, u.clamp(min=half), u)
    return u


def explicit_step(
    u: Tensor,
    spacing: Sequence[float],
    speeds: Speeds,
    dt: float,
    parameters: LevelSetParameters,
    *,
    band_width_mm: float | None,
    walls: Tensor | None = None,
    pins: Tensor | None = None,
) -> Tensor:
    """One step on every voxel of an array: the definition, differentiable, that every engine is held to.

    Parameters
    ----------
    u : Tensor of shape (z, y, x) or (y, x)
        Positive inside; a distance in mm near the front.
    spacing : sequence of float
        mm per array axis.
    speeds : Speeds
        Of every voxel, walls taken into account.
    dt : float
        In the units of the equation.
    parameters : LevelSetParameters
        Weights and forms; ``redistance_every`` is the caller's business but for 0.
    band_width_mm : float or None
        w: voxels at +-w stay, and u is clipped and redistanced; None for neither (then walls and pins alone act).
    walls, pins : Tensor of bool, optional
        Of the shape of u.

    Returns
    -------
    Tensor
        u after balloon, curvature and convection, walls and pins, redistancing, walls and pins.
    """
    n = around(u, spacing)
    sides = n.active_spacing or n.spacing
    moved = u + dt * rate_of_change(n, speeds, parameters).total
    if band_width_mm is None:
        return constrained(moved, sides, walls, pins)
    moved = torch.where(u.abs() < band_width_mm, moved.clamp(-band_width_mm, band_width_mm), u)
    moved = constrained(moved, sides, walls, pins)
    moved = redistance(moved, spacing, band_width_mm, order=parameters.order)
    return constrained(moved, sides, walls, pins)
