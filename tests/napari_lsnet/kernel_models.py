"""Small networks of random weights for the room of kernels, saved as models with a card, and what is done with them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from napari_lsnet.kernels.clicks import Clicks
from src_models.kernels.parameters import KernelAnalysisParameters
from src_models.preprocessing.parameters import Channel, Preprocessing
from src_models.weights.card import Label, ModelCard

QUICK = KernelAnalysisParameters(n=8, null_draws=100, cluster_draws=2)
TURN = np.array([[0.8, -0.6], [0.6, 0.8]])


def save_random_model(folder: Path, name: str, ndim: int, **card: Any) -> Path:
    """A UNet of one input, three features and one halving; the same weights each time."""
    import torch

    from src_models.networks.zoo import build
    from src_models.weights import store

    torch.manual_seed(5)
    network = build("unet", 1, 2, ndim, base_width=3, depth=1, norm="none")
    content: dict[str, Any] = {
        "patch": (16,) * ndim,
        "preprocessing": Preprocessing(channels=(Channel(normalisation="nonorm"),), crop_to_nonzero=False),
        "labels": (Label(name="background", value=0, channel=0), Label(name="part", value=1, channel=1)),
    }
    made = ModelCard(name=name, network=network.config, ndim=ndim, **(content | card))
    folder.mkdir(parents=True, exist_ok=True)
    made = store.save(network, made, folder)
    return folder / f"{made.name}@{made.version}.safetensors"


def save_random_lsn(folder: Path, name: str, ndim: int = 2, **options: Any) -> Path:
    """A level set network with random kernels and a threshold start; the same weights each time."""
    import torch

    from src_models.networks.zoo import build
    from src_models.weights import store

    torch.manual_seed(6)
    options = {"steps": 3, "start": "threshold", "first_kernels": "noise", "gradient": "central"} | options
    network = build("lsn", 1 + (options["start"] == "seed"), 2, ndim, **options)
    labels = (Label(name="background", value=0, channel=0), Label(name="part", value=1, channel=1))
    preprocessing = Preprocessing(channels=(Channel(normalisation="nonorm"),), crop_to_nonzero=False)
    made = ModelCard(
        name=name, network=network.config, ndim=ndim, patch=(32,) * ndim, labels=labels, preprocessing=preprocessing
    )
    folder.mkdir(parents=True, exist_ok=True)
    made = store.save(network, made, folder)
    return folder / f"{made.name}@{made.version}.safetensors"


def analyse(panel, qtbot, title="random-2d"):
    panel.models.choose(title)
    panel.run()
    qtbot.waitUntil(lambda: panel.analysis_run.state.ended, timeout=120_000)
    return panel.analysis_run.result.report


def click(panel, position, *, drag: bool = False) -> None:
    """A press and a release on the canvas, with a move between them for a drag."""
    viewer = panel.viewer
    event = SimpleNamespace(type="mouse_press", position=tuple(position), button=1)
    ours = [call for call in viewer.mouse_drag_callbacks if isinstance(getattr(call, "__self__", None), Clicks)]
    running = [callback(viewer, event) for callback in ours]
    for generator in running:
        next(generator)
    event.type = "mouse_move" if drag else "mouse_release"
    for generator in running:
        with pytest.raises(StopIteration):
            next(generator)


def tile_place(panel, row) -> np.ndarray:
    """The middle of a tile in the world."""
    montage = panel.results.shown.layer("montage")
    found = panel.results.found
    corner = np.array(montage.tiling.corner(row - found.first_row), float) + 1
    lead = (1.0,) * (montage.ndim - 2)
    return np.asarray(montage.data_to_world((*lead, *corner)))


def content_of(layer) -> tuple:
    place = (*layer.scale, *layer.translate, *np.ravel(layer.affine.affine_matrix), *np.ravel(layer.rotate))
    return hashlib.sha256(np.asarray(layer.data).tobytes()).hexdigest(), place, dict(layer.metadata), layer.name
