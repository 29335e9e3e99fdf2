"""Networks small enough to be trained within a second."""

from __future__ import annotations

import torch

from src_models.networks.network import Network
from src_models.networks.zoo import build

CLASSICS: list[tuple[str, dict[str, object]]] = [
    ("fcn32s", {"width": 2, "fc_width": 8}),
    ("fcn16s", {"width": 2, "fc_width": 8}),
    ("fcn8s", {"width": 2, "fc_width": 8}),
    ("deconvnet", {"width": 2, "fc_width": 8}),
    ("segnet", {"width": 2}),
    ("segnet", {"width": 2, "preset": "basic"}),
    ("vnet", {"width": 2}),
    ("vnet", {"width": 2, "preset": "monai"}),
    ("attention-unet", {"base_width": 2}),
]

UNETS: list[tuple[str, dict[str, object]]] = [
    ("unet", {"base_width": 2, "depth": 3}),
    (
        "unet",
        {
            "base_width": 2,
            "depth": 2,
            "convs_per_level": 1,
            "down": "strided",
            "up": "linear",
            "norm": "batch",
            "act": "relu",
            "skip": "add",
            "deep_supervision": True,
            "dropout": 0.2,
        },
    ),
    ("unet", {"widths": [2, 3, 4], "depth": 2, "up": "nearest", "norm": "none", "deep_supervision": True}),
    ("unet-paper", {}),
    ("unet-paper", {"bn_first": True, "dropout": 0.5}),
    ("nnunet", {"features_per_stage": [2, 3, 4, 4]}),
    ("nnunet-residual", {"features_per_stage": [2, 3, 4, 4], "n_blocks_per_stage": [1, 2, 1, 2]}),
]

LEVEL_SETS: list[tuple[str, dict[str, object]]] = [
    ("lsn", {"steps": 2, "stem_width": 2, "stem_layers": 2}),
    ("lsn", {"steps": [1, 1], "start": "threshold", "shared": False, "gradient": "upwind", "time_step": 0.1}),
    ("lsn", {"steps": [2, 0], "start": "stem", "stem_width": 2, "edge": "unet", "edge_depth": 1, "edge_width": 2}),
]

EVERY = UNETS + CLASSICS + LEVEL_SETS
"""At least one case for every name of the zoo."""


def tiny(name: str, options: dict[str, object], ndim: int) -> Network:
    """One channel in, three classes out, always the same weights."""
    torch.manual_seed(0)
    return build(name, 1, 3, ndim, **options)
