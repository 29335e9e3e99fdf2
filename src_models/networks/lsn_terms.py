"""The level set equation with learned kernels: one explicit step, and the kernels it begins with.

    P_i = rho_i * u        N = sqrt(sum_i P_i^2 + delta^2)        kappa = sum_i sigma_i * (P_i / (N + eps))
    u'  = u + dt (alpha B + beta g kappa N + gamma sum_d [relu(v_d) D+_d u - relu(-v_d) D-_d u]),    v_d = D0_d g

With rho = sigma = central differences this is `levelset.equation` under the paper preset. One-sided differences and
upwind norms are that module's own functions. Letters as in Actor, Fuentes, Rivière (SPIE Medical Imaging 2020).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from src_models.levelset.equation import convection_term
from src_models.levelset.stencils import Gradient, Move, Neighbourhood, central, root, upwind_norm

Weight: TypeAlias = Literal["balloon", "curvature", "convection"]
KernelStart: TypeAlias = Literal["differences", "noise"]

WEIGHTS: tuple[Weight, ...] = ("balloon", "curvature", "convection")
_NO_WEIGHT = -40.0
"""Softplus of it is 4e-18: the start of a learned weight of 0."""


class Surroundings(Neighbourhood):
    """Values of u of shape (B, C, *spatial) around every voxel, one voxel far; borders are replicated.

    The same as `stencils.Dense` for first-order differences, made of operators that `receptive_field` can follow.
    """

    def __init__(self, u: Tensor, spacing: Sequence[float]) -> None:
        self.spacing = tuple(float(h) for h in spacing)
        self.shape = tuple(u.shape[2:])
        self.axes = tuple(range(len(self.shape)))
        self._u = u
        self._padded = functional.pad(u, (1,) * (2 * len(self.shape)), mode="replicate")
        self._views: dict[Move | None, Tensor] = {None: u}

    def at(self, *moves: Move) -> Tensor:
        """Values at the face neighbours, a view."""
        (move,) = moves or (None,)
        if move not in self._views:
            view = self._padded
            for axis, n in enumerate(self.shape):
                shift = move[1] if move is not None and move[0] == axis else 0
                view = view.narrow(2 + axis, 1 + shift, n)
            self._views[move] = view
        return self._views[move]

    def central_of(self, derived: Callable[[Neighbourhood], Tensor], axis: int) -> Tensor:
        """Central difference of a derived array."""
        return central(Surroundings(derived(self), self.spacing), axis)

    def coordinate(self, axis: int) -> Tensor:
        """Index along `axis`, broadcastable."""
        size = [1] * len(self.shape)
        size[axis] = self.shape[axis]
        return torch.arange(self.shape[axis], dtype=self._u.dtype, device=self._u.device).reshape(size)

    def pick(self, field: Tensor) -> Tensor:
        """The field itself."""
        return field


def difference_kernels(spacing: Sequence[float], count: int, start: KernelStart, noise: float) -> Tensor:
    """Kernels of one family at the start, shape (count, 3, ...) with one axis of 3 per spacing, float64.

    Parameters
    ----------
    spacing : sequence of float
        mm per axis.
    count : int
        Kernels; at least one per axis.
    start : {"differences", "noise"}
        The first n are D0_d and the spare ones noise, or all are noise of the norm of D0.
    noise : float
        Norm of a spare kernel as a share of that of D0; 0 makes it vanish, and then it never learns.
    """
    ndim = len(spacing)
    norm = sum((2**-0.5 / h) for h in spacing) / ndim
    share = noise if start == "differences" else 1.0
    kernels = torch.zeros(count, *(3,) * ndim, dtype=torch.float64)
    if share > 0:
        kernels = torch.randn_like(kernels) * (share * norm / 3 ** (ndim / 2))
    if start == "differences":
        for axis, h in enumerate(spacing):
            kernels[axis] = 0
            for offset, weight in ((0, -1 / (2 * h)), (2, 1 / (2 * h))):
                place = [1] * ndim
                place[axis] = offset
                kernels[(axis, *place)] = weight
    return kernels


@torch.no_grad()
def drift(kernels: Tensor, spacing: Sequence[float]) -> Tensor:
    """How far kernels have gone from their stencils, as a share of a stencil's norm.

    |k - D0_d| / |D0_d| for the first n of a family, and |k| / mean |D0_d| for the spare ones, which began near 0.

    Parameters
    ----------
    kernels : Tensor of shape (count, 3, ...)
        One family of one state.
    spacing : sequence of float
        mm per axis.

    Returns
    -------
    Tensor of shape (count,)
    """
    stencils = difference_kernels(spacing, len(kernels), "differences", 0.0)
    norms = stencils.flatten(1).norm(dim=1)
    norms = torch.where(norms > 0, norms, norms[: len(spacing)].mean())
    apart: Tensor = (kernels.double().cpu() - stencils).flatten(1).norm(dim=1)
    return apart / norms


def kernel_family(ndim: int, inputs: int, outputs: int, groups: int) -> nn.Conv2d | nn.Conv3d:
    """A convolution of 3-wide kernels without bias; its borders are replicated: no kernel sees where an image ends."""
    kind: type[nn.Conv2d] | type[nn.Conv3d] = nn.Conv2d if ndim == 2 else nn.Conv3d
    return kind(inputs, outputs, 3, padding=1, groups=groups, bias=False, padding_mode="replicate")


class StepWeights(nn.Module):
    """What one step learns: kernels rho and sigma, and the weights of the three terms, for each state.

    Parameters
    ----------
    states : int
        Level sets that move side by side, each with kernels of its own.
    spacing : sequence of float
        mm per axis.
    count : int
        Kernels rho of a state, and as many sigma.
    weights : mapping of str to float
        Balloon alpha, curvature beta and convection gamma at the start.
    learned : sequence of str
        Which of them are learned; beta and gamma stay positive (softplus).
    kernels, noise
        See `difference_kernels`.
    """

    def __init__(
        self,
        states: int,
        spacing: Sequence[float],
        count: int,
        weights: dict[Weight, float],
        learned: Sequence[Weight],
        kernels: KernelStart,
        noise: float,
    ) -> None:
        super().__init__()
        self.spacing, self.count, self.learned = tuple(spacing), count, tuple(learned)
        self._begin = (dict(weights), kernels, noise)
        self.rho = kernel_family(len(spacing), states, states * count, groups=states)
        self.sigma = kernel_family(len(spacing), states * count, states, groups=states)
        for name in weights:
            if name in learned:
                self.register_parameter(name, nn.Parameter(torch.empty(states)))
            else:
                self.register_buffer(name, torch.empty(states), persistent=False)
        self.begin()

    @torch.no_grad()
    def begin(self) -> None:
        """Go back to the start, in the number format that the weights now have."""
        weights, kernels, noise = self._begin
        for family in (self.rho.weight, self.sigma.weight):
            for row in family.view(-1, self.count, *family.shape[2:]):
                row.copy_(difference_kernels(self.spacing, self.count, kernels, noise))
        for name, value in weights.items():
            raw = _softplus_inverse(value) if name in self.learned and name != "balloon" else value
            cast(Tensor, getattr(self, name)).fill_(raw)

    def weight(self, name: Weight) -> Tensor:
        """Alpha, beta or gamma of each state, shape (states,)."""
        value = cast(Tensor, getattr(self, name))
        return value if name == "balloon" or name not in self.learned else functional.softplus(value)


def _softplus_inverse(value: float) -> float:
    """The number whose softplus is `value`."""
    return value + math.log(-math.expm1(-value)) if value > 0 else _NO_WEIGHT


def stable_time_step(weights: StepWeights, spacing: Sequence[float], gradient: Gradient, cfl: float) -> Tensor:
    """Dt of each state: the solver's bound with |D0_d g| <= 1/(2 h_d), so that no image and no batch decides it.

    1/dt = ( |alpha| sqrt(sum 1/h^2) [sqrt 2] + gamma sum 1/(2 h^2) + 2 beta sum 1/h^2 ) / cfl
    """
    inverse_squares = sum(1 / h**2 for h in spacing)
    side = inverse_squares**0.5 * (2**0.5 if gradient == "osher_sethian" else 1.0)
    rate = (
        weights.weight("balloon").abs() * side
        + weights.weight("convection") * inverse_squares / 2
        + 2 * weights.weight("curvature") * inverse_squares
    )
    dt: Tensor = cfl / rate.clamp(min=1e-12)
    return dt


@dataclass(frozen=True, eq=False)
class StepTerms:
    """What each term adds to u in one step: dt times the weighted term.

    Attributes
    ----------
    weights : StepWeights
        Of the step.
    balloon, curvature, convection : Tensor of shape (B, states, *spatial)
        Their sum is u' - u, to round-off.
    directions : Tensor of shape (B, states, kernels, *spatial)
        P_i / (N + eps).
    bending : Tensor
        What kappa is multiplied by.
    """

    weights: StepWeights
    balloon: Tensor
    curvature: Tensor
    convection: Tensor
    directions: Tensor
    bending: Tensor

    def pairs(self) -> Tensor:
        """The part of each pair (rho_i, sigma_i) in the curvature, shape of `directions`; they sum to it."""
        sigma: Any = self.weights.sigma
        weight = sigma.weight.flatten(0, 1).unsqueeze(1)
        flat = self.directions.flatten(1, 2)
        padded = functional.pad(flat, (1,) * (2 * (flat.ndim - 2)), mode="replicate")
        convolve: Callable[..., Tensor] = functional.conv2d if flat.ndim == 4 else functional.conv3d
        return self.bending.unsqueeze(2) * convolve(padded, weight, groups=len(weight)).view_as(self.directions)


Seen: TypeAlias = Callable[[StepTerms], object]
"""Is given what each term adds in a step."""


def learned_step(
    u: Tensor,
    g: Tensor,
    velocity: Sequence[Tensor],
    weights: StepWeights,
    spacing: Sequence[float],
    *,
    gradient: Gradient,
    time_step: float | None,
    cfl: float = 0.9,
    eps: float = 1e-6,
    root_epsilon: float = 1e-6,
    seen: Seen | None = None,
) -> Tensor:
    """One explicit step of all states.

    Parameters
    ----------
    u : Tensor of shape (B, states, *spatial)
        Positive inside.
    g : Tensor of shape (B, states, *spatial)
        The edge indicator, in (0, 1].
    velocity : sequence of Tensor
        D0_d g, one per axis, each of the shape of g.
    weights : StepWeights
        What is learned.
    spacing : sequence of float
        mm per axis.
    gradient : {"godunov", "osher_sethian", "central", "none"}
        Which |Du| the balloon has; ``"central"`` takes N.
    time_step : float or None
        None takes the stable one.
    cfl, eps, root_epsilon
        See `LevelSetParameters`.
    seen : callable, optional
        Is given what each term adds.
    """

    def shaped(value: Tensor) -> Tensor:
        return value.view(1, -1, *(1,) * len(spacing))

    alpha, beta, gamma = (shaped(weights.weight(name)) for name in ("balloon", "curvature", "convection"))
    responses = weights.rho(u).unflatten(1, (u.shape[1], weights.count))
    norm = root(responses.square().sum(2) + root_epsilon**2)
    length = norm + eps
    if eps == 0 and root_epsilon == 0:
        length = torch.where(length > 0, length, torch.ones_like(length))
    directions = responses / length.unsqueeze(2)
    kappa = weights.sigma(directions.flatten(1, 2))
    n = Surroundings(u, spacing)
    if gradient == "none":
        balloon, curvature = g, kappa
    else:
        curvature = kappa * norm
        balloon = g * (norm if gradient == "central" else upwind_norm(n, (alpha >= 0).detach(), gradient, 1))
    convection = convection_term(n, velocity)
    rate = alpha * balloon + beta * g * curvature + gamma * convection
    dt = time_step if time_step is not None else shaped(stable_time_step(weights, spacing, gradient, cfl))
    if seen is not None:
        bending = dt * beta * g * (norm if gradient != "none" else 1.0)
        parts = (dt * alpha * balloon, dt * beta * g * curvature, dt * gamma * convection)
        seen(StepTerms(weights, *parts, directions, bending))
    moved: Tensor = u + dt * rate
    return moved
