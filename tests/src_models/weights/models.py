"""A small network with its card, for the tests of this room."""

from __future__ import annotations

from typing import Any

import torch

from src_models.networks.network import Network
from src_models.networks.zoo import build
from src_models.preprocessing.parameters import Channel, ChannelStatistics, Preprocessing
from src_models.weights.card import Label, ModelCard, TrainingData


def small_network(seed: int = 0, **options: Any) -> Network:
    torch.manual_seed(seed)
    return build("unet", in_channels=1, num_classes=2, ndim=2, **({"depth": 2, "base_width": 4} | options))


def card_for(network: Network, **changes: Any) -> ModelCard:
    content: dict[str, Any] = {
        "name": "unet-phantom-2d",
        "task": "liver in CT slices",
        "network": network.config,
        "ndim": network.ndim,
        "preprocessing": Preprocessing(
            channels=(
                Channel(
                    name="CT",
                    normalisation="ct",
                    statistics=ChannelStatistics(
                        mean=100.0,
                        median=101.5,
                        std=30.25,
                        minimum=-20.0,
                        maximum=260.0,
                        percentile_00_5=10.0,
                        percentile_99_5=200.0,
                    ),
                ),
            ),
            unit="px",
        ),
        "patch": (64, 64),
        "labels": (Label(name="background", value=0, channel=0), Label(name="liver", value=1, channel=1)),
        "training_data": TrainingData(name="slices", patients=3),
        "weights_licence": "CC-BY-SA-4.0",
    }
    return ModelCard(**(content | changes))
