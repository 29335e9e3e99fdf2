"""Small networks whose kernels are known."""

from __future__ import annotations

import torch
from torch import nn


def seeded(network: nn.Module, seed: int = 0) -> nn.Module:
    """The network with weights that do not depend on what ran before."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return network


def small(ndim: int = 2) -> nn.Module:
    """Two convolutions with a norm between."""
    conv, norm = (nn.Conv2d, nn.BatchNorm2d) if ndim == 2 else (nn.Conv3d, nn.BatchNorm3d)
    network: nn.Module = nn.Sequential(conv(1, 6, 3, padding=1), norm(6), nn.ReLU(), conv(6, 4, 3, padding=1))
    return seeded(network)
