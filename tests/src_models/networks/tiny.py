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


def tiny_classic(name: str, options: dict[str, object], ndim: int) -> Network:
    """One channel in, three classes out, always the same weights."""
    torch.manual_seed(0)
    return build(name, 1, 3, ndim, **options)
