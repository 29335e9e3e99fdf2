"""Small networks of random weights for the room of kernels, saved as models with a card."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from src_models.preprocessing.parameters import Channel, Preprocessing
from src_models.weights.card import Label, ModelCard


def save_random_model(folder: Path, name: str, ndim: int, **card: Any) -> Path:
    """A UNet of one input, three features and one halving; the same weights each time."""
    import torch

    from src_models.networks.zoo import build
    from src_models.weights import store

    torch.manual_seed(5)
    network = build("unet", 1, 2, ndim, base_width=3, depth=1, norm="none")
    content: dict[str, Any] = {
        "preprocessing": Preprocessing(channels=(Channel(normalisation="nonorm"),), crop_to_nonzero=False),
        "labels": (Label(name="background", value=0, channel=0), Label(name="part", value=1, channel=1)),
    }
    made = ModelCard(name=name, network=network.config, ndim=ndim, patch=(16,) * ndim, **(content | card))
    folder.mkdir(parents=True, exist_ok=True)
    made = store.save(network, made, folder)
    return folder / f"{made.name}@{made.version}.safetensors"
