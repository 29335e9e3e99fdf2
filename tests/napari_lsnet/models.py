"""Small models for the docks: what they find is known without training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from src_models.preprocessing.parameters import Channel, ChannelStatistics, Preprocessing
from src_models.weights.card import Label, ModelCard, TrainingData

HU = ChannelStatistics(
    mean=100, median=100, std=20, minimum=-50, maximum=250, percentile_00_5=30.0, percentile_99_5=180.0
)


def save_bright_model(
    folder: Path, *, name: str = "unet-bright-2d", level: float = 50.0, patch: int = 16, channels: int = 1, **card: Any
) -> Path:
    """A real 2D network with weights set by hand: label 1 is where the first channel is above `level`."""
    import torch

    from src_models.networks.zoo import build
    from src_models.weights import store

    network = build("unet", channels, 2, 2, base_width=2, depth=1, norm="none")
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        state = network.state_dict()
        for layer in ("encoder.0.0", "encoder.0.1", "decoder.0.1"):
            state[f"{layer}.conv.weight"][0, 0, 1, 1] = 1.0
        # the skip is one half of what the decoder sees; the other half comes from below and is 0
        state["decoder.0.0.conv.weight"][0, 0, 1, 1] = 1.0
        state["decoder.0.0.conv.weight"][0, 2, 1, 1] = 1.0
        state["head.weight"][1, 0] = 1.0
        state["head.bias"][1] = -level
    network.load_state_dict(state)
    content: dict[str, Any] = {
        "preprocessing": Preprocessing(
            channels=tuple(Channel(name=f"channel {k}", normalisation="nonorm") for k in range(channels)),
            crop_to_nonzero=False,
            keep_slice_distance=True,
        ),
        "labels": (
            Label(name="background", value=0, channel=0),
            Label(name="bright part", value=1, channel=1, colour="#56b4e9"),
        ),
        "training_data": TrainingData(name="phantoms", patients=12, licence="CC0-1.0"),
        "metrics": ({"fold": 0, "patients": 4, "dice_bright part": 0.91, "dice": 0.91},),
        "modality": "CT",
    }
    made = ModelCard(name=name, network=network.config, ndim=2, patch=(patch, patch), **(content | card))
    folder.mkdir(parents=True, exist_ok=True)
    made = store.save(network, made, folder)
    return folder / f"{made.name}@{made.version}.safetensors"


def save_level_set_model(folder: Path, *, name: str = "lsn-bright-2d", start: str = "seed", **options: Any) -> Path:
    """A level set network as it begins: a front that grows in even areas, from a click or from all that is bright."""
    import torch

    from src_models.networks.zoo import build
    from src_models.weights import store

    torch.manual_seed(0)
    given: dict[str, Any] = {"steps": (4, 3), "contrast": 5.0, "seed_radius": 3.0, "range": (50.0, 130.0)} | options
    network = build("lsn", 1 + (start == "seed"), 2, 2, start=start, **given)
    card = ModelCard(
        name=name,
        network=network.config,
        ndim=2,
        patch=(16, 16),
        preprocessing=Preprocessing(
            channels=(Channel(name="grey", normalisation="nonorm"),), crop_to_nonzero=False, keep_slice_distance=True
        ),
        labels=(Label(name="background", value=0, channel=0), Label(name="bright part", value=1, channel=1)),
    )
    folder.mkdir(parents=True, exist_ok=True)
    made = store.save(network, card, folder)
    return folder / f"{made.name}@{made.version}.safetensors"
