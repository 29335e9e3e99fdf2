"""Beginning with the weights of a model that is there."""

from __future__ import annotations

from pathlib import Path

import torch

from src_models.errors import InputError
from src_models.files.gate import shown_name
from src_models.networks.network import Network
from src_models.weights import store


def start_from(network: Network, path: Path) -> tuple[str, ...]:
    """Copy every weight of a model that has its name and shape in a network.

    Parameters
    ----------
    network : Network
        Is changed.
    path : Path
        A model, see `weights.store.load`.

    Returns
    -------
    tuple of str
        Names of the weights that begin anew.

    Raises
    ------
    FileError, InputError
        Where the model cannot be read, or fits nowhere.
    """
    own = network.state_dict()
    given = store.load(path).network.state_dict()
    fitting = {name: value for name, value in given.items() if name in own and own[name].shape == value.shape}
    if not fitting:
        raise InputError(
            "start-model",
            f"{shown_name(path)} has no weight that fits the network {network.name}",
            "",
            "Begin with a model of the same network.",
        )
    with torch.no_grad():
        for name, value in fitting.items():
            own[name].copy_(value)
    return tuple(name for name in own if name not in fitting)
