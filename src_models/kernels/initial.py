"""The kernels of a network before its training: it is built again from its description, several times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from src_models.errors import InputError
from src_models.files.gate import shown
from src_models.kernels.collect import collect_module
from src_models.kernels.draws import generator
from src_models.kernels.projection import row_norms
from src_models.kernels.result import Layer
from src_models.networks.network import Network
from src_models.networks.zoo import from_config

MOST_BUILDS = 16
"""A network with few kernels in its smallest layer is built so often at most."""


def check_rebuilt(name: str, network: nn.Module | None) -> Network:
    """The network, where it can be built again.

    Raises
    ------
    InputError
        Where it is bare tensors, or not one of this program.
    """
    if isinstance(network, Network):
        return network
    why = "its file holds tensors without a network" if network is None else "it is not one of this program's networks"
    raise InputError(
        "kernels-init",
        f"{shown(name)} cannot be built again as it was before training",
        why,
        "Choose gaussian or uniform chance.",
    )


def initial_kernels(
    network: Network, layers: Sequence[Layer], count: int, seed: int, *, fold_norm: bool = False
) -> Mapping[str, NDArray[Any]]:
    """Kernels of each layer as they are when the network is new, in rows, those that are zero left out.

    Parameters
    ----------
    network : Network
        Only its description is used.
    layers : sequence of Layer
        As collected from it.
    count : int
        How many are wanted of each layer. A network is built anew until there are so many, `MOST_BUILDS` times at most;
        where there are more, a random sample is taken.
    seed : int
        Of the builds.

    Returns
    -------
    mapping of str to ndarray of shape (at most count, entries)
        By name of the layer; empty where a layer begins with zeros.

    Raises
    ------
    InputError
        Where the layers of the new network are not those of the old one.
    """
    parts: dict[str, list[NDArray[Any]]] = {layer.name: [] for layer in layers}
    for build in range(MOST_BUILDS):
        missing = [name for name, several in parts.items() if sum(map(len, several)) < count]
        if not missing:
            break
        made = {layer.name: layer for layer in _fresh(network, (seed, build), fold_norm)}
        for layer in layers:
            new = made.get(layer.name)
            if new is None or new.kernels.shape != layer.kernels.shape:
                raise InputError(
                    "kernels-init-layers",
                    f"{shown(layer.name)} is not in the network as it is built anew",
                    "its description does not belong to its weights",
                    "Choose gaussian or uniform chance.",
                )
            if layer.name in missing:
                flat = new.flat
                parts[layer.name].append(flat[row_norms(flat) > 0])
    return {layer.name: _sample(np.concatenate(parts[layer.name]), count, (seed, layer.index)) for layer in layers}


def _fresh(network: Network, seed: tuple[int, int], fold_norm: bool) -> tuple[Layer, ...]:
    # weights are drawn by torch's own generator; whoever else uses it must not notice
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(generator(*seed, "init").integers(2**62)))
        return collect_module(from_config(network.config), fold_norm=fold_norm).layers


def _sample(flat: NDArray[Any], count: int, seed: tuple[int, int]) -> NDArray[Any]:
    if len(flat) <= count:
        return flat
    return flat[np.sort(generator(*seed, "initial").choice(len(flat), count, replace=False))]
