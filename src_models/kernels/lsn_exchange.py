"""Between a level set network and the terms of the solver: its kernels go out, and a network begins with given ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from src_models.errors import InputError
from src_models.kernels.exchange import Terms
from src_models.levelset.parameters import LevelSetParameters
from src_models.networks.lsn import Level, LevelSetNetwork
from src_models.networks.lsn_terms import StepWeights

_ALIKE = 1e-6


def terms_of(
    network: LevelSetNetwork, *, level: int | None = None, step: int = 0, state: int = 0, channel: int = 0
) -> Terms:
    """The kernels of one step, as terms of the solver.

    Parameters
    ----------
    network : LevelSetNetwork
        Trained or new.
    level : int, optional
        Counted from the coarsest, or from the finest as -1; by default the finest that has steps.
    step : int
        Of the level; a level with shared weights has one.
    state : int
        Which of the level sets.
    channel : int
        Of the image, for the slopes e. A network whose edges are a UNet has none: `e` is empty.

    Raises
    ------
    InputError
        Where there is no such level, step, state or channel.
    """
    if level is None:
        level = max(k for k, steps in enumerate(network.options.steps) if steps)
    part = _level(network, level)
    weights = _step(part, step)
    if not 0 <= state < network.states:
        raise _missing("level set", state, network.states)
    rho, sigma = (_arrays(family.weight, weights.count)[state] for family in (weights.rho, weights.sigma))
    e = np.zeros((0, *(3,) * network.ndim))
    if part.edge is not None:
        held = _edges(part, network)
        if not 0 <= channel < len(held):
            raise _missing("channel", channel, len(held))
        e = held[channel, state].detach().double().cpu().numpy()
    place = f"{network.name} level {level % len(network.levels)} step {step}"
    return Terms(rho, sigma, e, part.spacing, (f"{place} state {state}",))


@torch.no_grad()
def begin_with(network: LevelSetNetwork, terms: Terms) -> LevelSetNetwork:
    """Put the terms of the solver into every step, level set and channel of a network; spare kernels become zero.

    A coarser level has larger voxels: its kernels are divided by their size, so that slopes keep their unit.

    Parameters
    ----------
    network : LevelSetNetwork
        Is changed.
    terms : Terms
        At most as many kernels as the network has.

    Returns
    -------
    LevelSetNetwork
        The same network.

    Raises
    ------
    InputError
        Where axes, the shape of the voxels, or the number of kernels do not fit.
    """
    if terms.ndim != network.ndim:
        raise InputError(
            "terms-axes", f"These kernels have {terms.ndim} axes, the network {network.ndim}", "", "Choose others."
        )
    for level in network.levels:
        assert isinstance(level, Level)
        factor = _factor(terms.spacing, level.spacing)
        for weights in level.steps:
            assert isinstance(weights, StepWeights)
            for name, family in (("rho", weights.rho), ("sigma", weights.sigma)):
                for held in family.weight.view(-1, weights.count, *family.weight.shape[2:]):
                    _fill(held, getattr(terms, name), factor, name)
        if level.edge is not None:
            for of_channel in _edges(level, network):
                for held in of_channel:
                    _fill(held, terms.e, factor, "e")
    return network


def network_from_terms(
    terms: Terms,
    parameters: LevelSetParameters,
    steps: int | Sequence[int],
    *,
    dtype: torch.dtype = torch.float32,
    **options: Any,
) -> LevelSetNetwork:
    """A level set network that begins with given kernels instead of finite differences.

    Parameters
    ----------
    terms : Terms
        Such as `read_terms` gives; their spacing is the network's.
    parameters : LevelSetParameters
        Weights and gradient, as `LevelSetNetwork.from_parameters` takes them.
    steps : int or sequence of int
        Of the network; of each level, coarsest first.
    dtype : torch.dtype
        Of its weights.
    **options
        Of `LSNOptions`; ``kernels`` is as many as there are terms, and at least two an axis, unless it is given.

    Raises
    ------
    InputError
        As `begin_with` and `LevelSetNetwork.from_parameters`.
    """
    wanted = max(len(terms.rho), len(terms.e), 2 * terms.ndim)
    options = {"kernels": wanted} | options
    network = LevelSetNetwork.from_parameters(parameters, terms.ndim, terms.spacing, steps, dtype=dtype, **options)
    return begin_with(network, terms)


def _level(network: LevelSetNetwork, level: int) -> Level:
    count = len(network.levels)
    if not -count <= level < count:
        raise _missing("level", level, count)
    found = network.levels[level]
    assert isinstance(found, Level)
    return found


def _step(level: Level, step: int) -> StepWeights:
    if not 0 <= step < len(level.steps):
        raise _missing("step", step, len(level.steps))
    found = level.steps[step]
    assert isinstance(found, StepWeights)
    return found


def _edges(level: Level, network: LevelSetNetwork) -> Tensor:
    """A view of the kernels e, (channels, states, count, 3, ...)."""
    assert level.edge is not None
    weight = level.edge.kernels.weight
    return weight.view(level.edge.kernels.in_channels, network.states, -1, *weight.shape[2:])


def _arrays(weight: Tensor, count: int) -> Any:
    """Kernels as float64, (states, count, 3, ...)."""
    return weight.detach().double().cpu().view(-1, count, *weight.shape[2:]).numpy()


def _factor(ours: Sequence[float], theirs: Sequence[float]) -> float:
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    if max(ratios) > min(ratios) * (1 + _ALIKE):
        raise InputError(
            "terms-spacing",
            "The voxels of these kernels have another shape than those of the network",
            f"{' x '.join(f'{h:g}' for h in ours)} mm and {' x '.join(f'{h:g}' for h in theirs)} mm",
            "Build the network with the spacing of the kernels.",
        )
    return float(np.mean(ratios))


def _fill(held: Tensor, kernels: Any, factor: float, role: str) -> None:
    if len(kernels) > len(held):
        raise InputError(
            "terms-count",
            f"There are {len(kernels)} kernels {role}, and the network has room for {len(held)}",
            "",
            f"Build it with kernels={len(kernels)}.",
        )
    held.zero_()
    held[: len(kernels)] = torch.from_numpy(np.ascontiguousarray(kernels) * factor).to(held)


def _missing(what: str, number: int, count: int) -> InputError:
    return InputError("terms-place", f"The network has no {what} {number}", f"it has {count}, counted from 0", "")
