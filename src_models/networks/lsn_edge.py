"""The edge indicator g of the level set network: learned kernels, or a small UNet with a sigmoid.

    g = 1 / (1 + sum_j (e_j * I)^2 / lambda^2)

lambda is a number, never a maximum over an image or a batch: g of a voxel depends on the voxels around it alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from src_models.networks.blocks import he_normal
from src_models.networks.lsn_terms import KernelStart, difference_kernels, kernel_family
from src_models.networks.unet import UNet, UNetOptions


class KernelEdge(nn.Module):
    """g from learned kernels e, of each state and each input channel.

    Parameters
    ----------
    channels, states : int
        Of the image; level sets.
    spacing : sequence of float
        mm per axis.
    count : int
        Kernels of a state and a channel.
    contrast : float
        lambda: the gradient per mm at which g has fallen to one half.
    kernels, noise
        See `difference_kernels`.
    """

    def __init__(
        self,
        channels: int,
        states: int,
        spacing: Sequence[float],
        count: int,
        contrast: float,
        kernels: KernelStart,
        noise: float,
    ) -> None:
        super().__init__()
        self.states, self.contrast = states, contrast
        self._begin = (tuple(spacing), count, kernels, noise)
        self.kernels = kernel_family(len(spacing), channels, channels * states * count, groups=channels)
        self.begin()

    @torch.no_grad()
    def begin(self) -> None:
        """Go back to the start, in the number format that the weights now have."""
        weight = self.kernels.weight
        for family in weight.view(-1, self._begin[1], *weight.shape[2:]):
            family.copy_(difference_kernels(*self._begin))

    def forward(self, image: Tensor) -> Tensor:
        """g of shape (B, states, *spatial) for an image of shape (B, C, *spatial)."""
        responses = self.kernels(image).unflatten(1, (image.shape[1], self.states, -1))
        g: Tensor = 1 / (1 + responses.square().sum((1, 3)) / self.contrast**2)
        return g


class UNetEdge(nn.Module):
    """g from a small UNet without norms, its borders replicated, under a sigmoid.

    Parameters
    ----------
    channels, states : int
        Of the image; level sets.
    ndim : int
        2 or 3.
    depth, width : int
        Halvings; features of the finest level.
    """

    def __init__(self, channels: int, states: int, ndim: int, depth: int, width: int) -> None:
        super().__init__()
        self.unet = small_unet(channels, states, ndim, depth, width)

    def forward(self, image: Tensor) -> Tensor:
        """g of shape (B, states, *spatial); sizes are multiples of 2^depth."""
        return torch.sigmoid(self.unet.compute(image).logits)


def small_unet(channels: int, outputs: int, ndim: int, depth: int, width: int) -> UNet:
    """A UNet without norms that cannot tell where the image ends: every border is replicated."""
    options = UNetOptions(depth=depth, base_width=width, up="linear", norm="none")
    unet = UNet(channels, outputs, ndim, options)
    he_normal(unet)
    replicate_borders(unet)
    return unet


def replicate_borders(network: nn.Module) -> None:
    """Let all convolutions of a network replicate the border in place of zeros."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d) and any(n > 1 for n in module.kernel_size):
            module.padding_mode = "replicate"
