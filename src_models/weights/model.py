"""A network with its weights and its card: what prediction takes."""

from __future__ import annotations

from dataclasses import dataclass

from src_models.networks.network import Network
from src_models.weights.card import ModelCard


@dataclass(frozen=True, eq=False)
class Model:
    """Weights ready to use.

    Attributes
    ----------
    network : Network
        With its weights, in evaluation mode, on the CPU.
    card : ModelCard
        What it is.
    """

    network: Network
    card: ModelCard
