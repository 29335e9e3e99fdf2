"""Where the level sets of the network begin: everywhere, at a click, in a grey-value range, or where a stem says.

None of them knows a voxel's position: a shifted image has a shifted start.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from src_models.networks.blocks import he_normal
from src_models.networks.lsn_edge import replicate_borders

FIRST_SHARE = 0.1
"""Of the usual first weights of a stem's last layer: u begins nearly even."""
FIRST_BIAS = -0.5
"""And outside, so that no front is there before the stem learns where one should be: fronts in random places make g
fall to 0 everywhere."""


class Ones(nn.Module):
    """u = 1 everywhere, as in the authors' code; only the mode of the slides moves it."""

    def __init__(self, states: int) -> None:
        super().__init__()
        self.states = states

    def forward(self, image: Tensor) -> Tensor:
        """u of shape (B, states, *spatial)."""
        return image.new_ones(image.shape[0], self.states, *image.shape[2:])


class Range(nn.Module):
    """u from a learned range of grey values of the first channel: w (1 - |I - c| / r), between -w and w.

    Parameters
    ----------
    states : int
        Level sets, each with a range of its own.
    lower, upper : float
        The range at the start, in the values that the network sees.
    width : float
        w in mm.
    """

    def __init__(self, states: int, lower: float, upper: float, width: float) -> None:
        super().__init__()
        self.width = width
        self.centre = nn.Parameter(torch.full((states,), (lower + upper) / 2))
        self.log_radius = nn.Parameter(torch.full((states,), (upper - lower) / 2).log())

    def forward(self, image: Tensor) -> Tensor:
        """u of shape (B, states, *spatial)."""
        shape = (1, -1, *(1,) * (image.ndim - 2))
        away = (image[:, :1] - self.centre.view(shape)).abs() / self.log_radius.exp().view(shape)
        return self.width * (1 - away).clamp(-1, 1)


class Stem(nn.Module):
    """u from a few convolutions whose reach doubles from layer to layer, their borders replicated.

    Parameters
    ----------
    channels, states, ndim : int
        Of the image; level sets; axes.
    layers, features : int
        Convolutions of 3 voxels with dilations 1, 2, 4, ...; their channels.
    width : float
        What 1 of the last layer means in mm.
    """

    def __init__(self, channels: int, states: int, ndim: int, layers: int, features: int, width: float) -> None:
        super().__init__()
        kind: type[nn.Conv2d] | type[nn.Conv3d] = nn.Conv2d if ndim == 2 else nn.Conv3d
        self.width = width
        self.layers = nn.ModuleList(
            kind(features if k else channels, features, 3, padding=2**k, dilation=2**k) for k in range(layers)
        )
        self.last = kind(features, states, 1)
        he_normal(self)
        with torch.no_grad():
            self.last.weight.mul_(FIRST_SHARE)
            assert self.last.bias is not None
            self.last.bias.fill_(FIRST_BIAS)
        replicate_borders(self)

    def forward(self, image: Tensor) -> Tensor:
        """u of shape (B, states, *spatial)."""
        x = image
        for layer in self.layers:
            x = functional.leaky_relu(layer(x), 0.01)
        u: Tensor = self.width * self.last(x)
        return u
