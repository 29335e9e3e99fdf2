"""Kernels of a network as terms of the level set solver, and back.

    g = 1/(1 + sum_j (e_j * I)^2 / lambda^2);  P_i = rho_i * u;  N = sqrt(sum_i P_i^2);  kappa = sum_i sigma_i * (P_i/N)

with N + eps in the last denominator. With the finite differences of `finite_differences` these are the terms of the
equation; `frame` tells, before anything is run, how far other kernels are from that: to leading order the front sees
``N^2 = grad u^T G grad u`` and ``kappa = div(A grad u / N)``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from src_models.errors import FileError, InputError
from src_models.files.gate import check_file, shown_name
from src_models.files.saving import save_together
from src_models.kernels.dictionary import response
from src_models.kernels.moments import LEARNED_TOLERANCE, from_moments_of, moments_of
from src_models.kernels.operators import eigenvalues, low_moments
from src_models.levelset import stencils

Floats = NDArray[np.float64]
Role = Literal["rho", "sigma", "e"]
ROLES: tuple[Role, ...] = ("rho", "sigma", "e")
SCHEMA = 1
SUFFIX = ".safetensors"


@dataclass(frozen=True, eq=False)
class Terms:
    """Kernels in the roles of the solver.

    Attributes
    ----------
    rho, sigma : ndarray of shape (K, 3, 3) or (K, 3, 3, 3)
        Slopes of u, and the divergence of what they give; as many of both, in the unit 1 / mm.
    e : ndarray of shape (J, 3, 3) or (J, 3, 3, 3)
        Slopes of the image.
    spacing : tuple of float
        mm per axis.
    origin : tuple of str
        Where they come from, one text a kernel or none.
    """

    rho: Floats
    sigma: Floats
    e: Floats
    spacing: tuple[float, ...]
    origin: tuple[str, ...] = ()

    @property
    def ndim(self) -> int:
        """2 or 3."""
        return self.rho.ndim - 1


@dataclass(frozen=True)
class Frame:
    """What a set of kernels makes of the equation: eigenvalues of G and A, falling.

    Both are 1 for the equation itself; equal eigenvalues only rescale it, others prefer directions.
    """

    gradient: tuple[float, ...]
    curvature: tuple[float, ...]
    skew: float

    @property
    def anisotropy(self) -> tuple[float, float]:
        """Largest over smallest eigenvalue of both; infinite where a direction is not seen."""
        ratios = [_ratio(values) for values in (self.gradient, self.curvature)]
        return ratios[0], ratios[1]


def _ratio(values: Sequence[float]) -> float:
    size = [abs(value) for value in values]
    return max(size) / min(size) if min(size) > 1e-12 * max(max(size), 1e-300) else float("inf")


def finite_differences(spacing: Sequence[float], edges: Sequence[float] | None = None) -> Terms:
    """The terms of the equation: central differences in all three roles.

    Parameters
    ----------
    spacing : sequence of float
        mm per axis; kernels are divided by it.
    edges : sequence of float, optional
        Another spacing for the slopes of the image, such as all 1 for a preset in voxels.
    """
    ndim = len(spacing)
    unit = [response(lambda n, a=axis: stencils.central(n, a), ndim) for axis in range(ndim)]  # type: ignore[misc]
    slopes = np.stack([kernel / h for kernel, h in zip(unit, spacing, strict=True)])
    image = np.stack([kernel / h for kernel, h in zip(unit, edges or spacing, strict=True)])
    return Terms(slopes, slopes.copy(), image, tuple(map(float, spacing)))


def first_order(kernels: NDArray[Any], spacing: Sequence[float]) -> tuple[Floats, Floats]:
    """First-order vectors of kernels, (K, d) per mm^-1, and their sums m_0."""
    size = kernels.shape[1:]
    constant, vectors, _ = low_moments(np.asarray(kernels, np.float64).reshape(len(kernels), -1), size)
    return vectors * np.asarray(spacing, np.float64), constant


def frame(terms: Terms) -> Frame:
    """The frame test: G = sum v v^T of rho, A = sum w v^T of sigma and rho, from their first-order vectors."""
    v, _ = first_order(terms.rho, terms.spacing)
    w, _ = first_order(terms.sigma, terms.spacing)
    gradient, mixed = v.T @ v, w.T @ v
    even = (mixed + mixed.T) / 2
    values = [eigenvalues(part[None])[0].tolist() for part in (gradient, even)]
    return Frame(tuple(values[0]), tuple(values[1]), float(np.abs(mixed - even).max()))


def as_slopes(
    kernels: NDArray[Any],
    spacing: Sequence[float],
    scale: Literal["raw", "gradient"] = "gradient",
    *,
    project: bool = False,
    tolerance: float = LEARNED_TOLERANCE,
) -> Floats:
    """Kernels made fit for rho and sigma.

    Parameters
    ----------
    kernels : ndarray of shape (K, 3, 3) or (K, 3, 3, 3)
        As analysed.
    spacing : sequence of float
        mm per axis.
    scale : {"raw", "gradient"}
        As they are, or so that the first-order vector of each has length 1 per mm.
    project : bool
        Take the sum of each kernel away (at its centre) instead of refusing it.
    tolerance : float
        Share of the absolute sum that a sum or a slope must exceed to count.

    Raises
    ------
    InputError
        Where a kernel is no difference, or has no slope.
    """
    flat = np.asarray(kernels, np.float64).reshape(len(kernels), -1)
    size = kernels.shape[1:]
    weight = np.abs(flat).sum(axis=1)
    if project:
        values = moments_of(flat, size)
        values[:, 0] = 0
        flat = from_moments_of(values, size)
    shaped = flat.reshape(kernels.shape)
    vectors, constant = first_order(shaped, spacing)
    lengths = np.linalg.norm(vectors / np.asarray(spacing), axis=1)
    for k in range(len(flat)):
        if abs(constant[k]) > tolerance * weight[k]:
            raise InputError(
                "terms-constant",
                f"Kernel {k} is no difference",
                f"its entries sum to {constant[k]:.3g}",
                "Take another one, or project it.",
            )
        if lengths[k] <= tolerance * weight[k]:
            raise InputError("terms-slope", f"Kernel {k} has no slope", "", "Take kernels of order 1.")
    if scale == "raw":
        return shaped
    norms = np.linalg.norm(vectors, axis=1)
    scaled: Floats = shaped / norms.reshape(-1, *(1,) * (shaped.ndim - 1))
    return scaled


def convolve(u: Tensor, kernels: NDArray[Any]) -> Tensor:
    """Responses of kernels on an array with replicated edges, (K, *shape); differentiable.

    Parameters
    ----------
    u : Tensor of shape (z, y, x) or (y, x)
        float64 for comparisons.
    kernels : ndarray of shape (K, 3, 3) or (K, 3, 3, 3)
        Act by cross-correlation.
    """
    around = stencils.around(u, (1.0,) * u.ndim)
    out = torch.zeros((len(kernels), *u.shape), dtype=u.dtype, device=u.device)
    for place in product(range(3), repeat=u.ndim):
        where: tuple[Any, ...] = (slice(None), *place)
        weights = torch.as_tensor(np.ascontiguousarray(kernels[where]), dtype=u.dtype, device=u.device)
        if bool(weights.any()):
            moves = [(axis, k - 1) for axis, k in enumerate(place) if k != 1]
            out = out + weights.reshape(-1, *(1,) * u.ndim) * around.at(*moves)
    return out


def edge_indicator(image: Tensor, terms: Terms, contrast: float = 1.0) -> Tensor:
    """g = 1 / (1 + sum_j (e_j * I)^2 / lambda^2); `contrast` is lambda, 1 in the paper."""
    return 1 / (1 + convolve(image, terms.e).square().sum(0) / contrast**2)


def curvature_and_norm(u: Tensor, terms: Terms, epsilon: float, root_epsilon: float = 0.0) -> tuple[Tensor, Tensor]:
    """kappa and N of a level set: the two learned pieces of the equation.

    Parameters
    ----------
    u : Tensor of shape (z, y, x) or (y, x)
        Positive inside.
    terms : Terms
        rho and sigma.
    epsilon : float
        Added to N in the denominator, outside the root; with none, a flat u has no curvature.
    root_epsilon : float
        Added to N^2, squared.
    """
    slopes = convolve(u, terms.rho)
    norm = stencils.root(slopes.square().sum(0) + root_epsilon**2)
    length = norm + epsilon
    directions = slopes / torch.where(length > 0, length, torch.ones_like(length))
    curvature = torch.zeros_like(u)
    for k in range(len(terms.sigma)):
        curvature = curvature + convolve(directions[k], terms.sigma[k : k + 1])[0]
    return curvature, norm


def step(
    u: Tensor,
    edge: Tensor,
    terms: Terms,
    weights: tuple[float, float, float],
    time_step: float,
    epsilon: float = 1e-8,
    *,
    gradient: stencils.Gradient = "central",
    root_epsilon: float = 0.0,
) -> Tensor:
    """One explicit step with the kernels in their roles.

    ``u' = u + dt (alpha B + beta g kappa N + gamma sum_d [ReLU(D0_d g) D+_d u - ReLU(-D0_d g) D-_d u])``

    Parameters
    ----------
    u, edge : Tensor of shape (z, y, x) or (y, x)
        Level set, positive inside, and edge indicator g.
    terms : Terms
        Kernels.
    weights : tuple of float
        Balloon alpha, curvature beta, convection gamma.
    time_step, epsilon, root_epsilon : float
        dt, eps, and delta of `curvature_and_norm`.
    gradient : {"central", "godunov", "osher_sethian", "none"}
        B = g N; g times an upwind norm of u itself; or the form of the slides, which drops N in both terms.
    """
    alpha, beta, gamma = weights
    curvature, norm = curvature_and_norm(u, terms, epsilon, root_epsilon)
    n = stencils.around(u, terms.spacing)
    if gradient == "none":
        change = alpha * edge + beta * edge * curvature
    else:
        growing = torch.full(u.shape, alpha >= 0, device=u.device)
        length = norm if gradient == "central" else stencils.upwind_norm(n, growing, gradient)
        change = alpha * edge * length + beta * edge * curvature * norm
    g = stencils.around(edge, terms.spacing)
    for axis in n.axes:
        slope = stencils.central(g, axis)
        change = change + gamma * (
            slope.clamp(min=0) * stencils.forward(n, axis) - (-slope).clamp(min=0) * stencils.backward(n, axis)
        )
    return u + time_step * change


def save_terms(terms: Terms, path: str | os.PathLike[str], *, overwrite: bool = False) -> tuple[Path, Path]:
    """Write kernels with their roles: safetensors, and JSON beside it.

    Raises
    ------
    SaveError
        Where they cannot be written.
    """
    from safetensors.numpy import save

    target = Path(path)
    target = target if target.name.endswith(SUFFIX) else target.with_name(target.name + SUFFIX)
    note = target.with_name(target.name[: -len(SUFFIX)] + ".json")
    told = {
        "schema": SCHEMA,
        "kind": "level set terms",
        "axis_order": "zyx"[-terms.ndim :],
        "spacing": list(terms.spacing),
        "roles": list(ROLES),
        "origin": list(terms.origin),
    }
    arrays: dict[str, NDArray[Any]] = {role: np.ascontiguousarray(getattr(terms, role), np.float64) for role in ROLES}
    contents = {target: save(arrays), note: (json.dumps(told, indent=1) + "\n").encode()}
    save_together(contents, overwrite=overwrite)
    return target, note


def read_terms(path: str | os.PathLike[str]) -> Terms:
    """Kernels as `save_terms` wrote them, bit by bit.

    Raises
    ------
    FileError
        Where a file is missing, damaged or of another kind.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    target = Path(path)
    note = target.with_name(target.name[: -len(SUFFIX)] + ".json")
    name = shown_name(target)
    for part in (target, note):
        check_file(part)
    broken = FileError("terms-file", f"{name} holds no kernels of the solver", "", "Choose a file of lsnet kernels.")
    try:
        arrays = load(target.read_bytes())
        told = json.loads(note.read_text(encoding="utf-8"))
        rho, sigma, e = (np.asarray(arrays[role], np.float64) for role in ROLES)
        spacing = tuple(float(h) for h in told["spacing"])
        origin = tuple(str(text) for text in told["origin"])
    except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
        raise broken from error
    shapes = [part.shape[1:] for part in (rho, sigma, e)]
    fits = len(spacing) in (2, 3) and all(shape == (3,) * len(spacing) for shape in shapes) and len(rho) == len(sigma)
    if not fits or not all(np.isfinite(part).all() for part in (rho, sigma, e)):
        raise broken
    return Terms(rho, sigma, e, spacing, origin)
