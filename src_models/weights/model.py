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
    first_stage : tuple of Model
        Of a cascade: the models whose mean is the first stage.
    """

    network: Network
    card: ModelCard
    first_stage: tuple[Model, ...] = ()
