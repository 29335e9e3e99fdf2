"""Attention UNet (Oktay et al. 2018): a UNet whose skips pass through gates that coarser features open and close.

The gates work on a grid: the map of a level is computed at the next coarser one, where the gating features live, and
enlarged to the skip. The maps are part of the result, so that a viewer can show where the network looked.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from src_models.networks.blocks import (
    ActivationKind,
    ConvNormAct,
    NormKind,
    conv,
    he_normal,
    interpolate,
    max_pool,
)
from src_models.networks.network import NetOutput, Network, NetworkOptions


class AttentionUNetOptions(NetworkOptions):
    """Options of `AttentionUNet`; level k has base_width x 2^k features."""

    levels: int = Field(5, ge=2, le=8, description="Sizes of the image, the full one among them.")
    base_width: int = Field(16, ge=1, description="Features of the finest level.")
    norm: NormKind = "instance"
    act: ActivationKind = "relu"
    deep_supervision: bool = False


class AttentionUNet(Network):
    """UNet with grid attention on every skip but the finest.

    Parameters
    ----------
    in_channels, num_classes, ndim : int
        See `Network`.
    options : AttentionUNetOptions
        Of the architecture.

    References
    ----------
    O. Oktay et al., Attention U-Net: Learning where to look for the pancreas, MIDL 2018.
    """

    name = "attention-unet"
    Options = AttentionUNetOptions
    options: AttentionUNetOptions

    def __init__(self, in_channels: int, num_classes: int, ndim: int, options: AttentionUNetOptions) -> None:
        super().__init__(in_channels, num_classes, ndim, options)
        self.stride = (2 ** (options.levels - 1),) * ndim
        widths = [options.base_width * 2**level for level in range(options.levels)]
        self.encoder = nn.ModuleList(
            self._convs(inputs, width) for inputs, width in zip([in_channels, *widths], widths, strict=False)
        )
        self.decoder = nn.ModuleList(self._convs(coarse + width, width) for width, coarse in pairwise(widths))
        self.gates = nn.ModuleDict(
            {
                str(level): GridGate(ndim, widths[level], widths[level + 1], options.norm)
                for level in range(1, options.levels - 1)
            }
        )
        self.head = conv(ndim, widths[0], num_classes, 1)
        coarser = widths[1:-1] if options.deep_supervision else ()
        self.aux_heads = nn.ModuleList(conv(ndim, width, num_classes, 1) for width in coarser)
        he_normal(self, slope=0)

    @property
    def attention_strides(self) -> dict[int, int]:
        """By level: how many voxels of the image one voxel of its attention map covers along each axis.

        A map of stride s is a layer of scale s times the voxel size, with its first voxel at (s - 1) / 2 voxels.
        """
        return {int(level): 2 ** (int(level) + 1) for level in self.gates}

    def compute(self, x: Tensor) -> NetOutput:
        """See `Network`."""
        skips: list[Tensor] = []
        for level, convs in enumerate(self.encoder):
            x = convs(max_pool(x) if level else x)
            skips.append(x)
        skips.pop()
        attention: dict[int, Tensor] = {}
        aux: list[Tensor] = []
        for level in reversed(range(len(skips))):
            skip = skips.pop()
            if level:
                skip, attention[level] = self.gates[str(level)](skip, x)
            x = self.decoder[level](torch.cat((skip, interpolate(x, 2, "linear")), 1))
            if level and self.options.deep_supervision:
                aux.insert(0, self.aux_heads[level - 1](x))
        return NetOutput(self.head(x), tuple(aux), dict(sorted(attention.items())))

    def _convs(self, inputs: int, width: int) -> nn.Sequential:
        norm, act = self.options.norm, self.options.act
        return nn.Sequential(
            ConvNormAct(self.ndim, inputs, width, norm=norm, act=act),
            ConvNormAct(self.ndim, width, width, norm=norm, act=act),
        )


class GridGate(nn.Module):
    """Attention of a skip x under a gating signal g of half its size.

    alpha = sigmoid(psi(ReLU(W_x x + W_g g))) on the grid of g; the result is norm(W(x * enlarged alpha)).

    Parameters
    ----------
    ndim : int
        2 or 3.
    channels : int
        Of the skip, and of the sum inside.
    gating : int
        Channels of the gating signal.
    norm : {"instance", "batch", "none"}
        After the last convolution.
    """

    def __init__(self, ndim: int, channels: int, gating: int, norm: NormKind) -> None:
        super().__init__()
        self.of_skip = conv(ndim, channels, channels, 2, 2, bias=False)
        self.of_gate = conv(ndim, gating, channels, 1)
        self.to_map = conv(ndim, channels, 1, 1)
        self.out = ConvNormAct(ndim, channels, channels, 1, norm=norm, act=None)

    def forward(self, skip: Tensor, gate: Tensor) -> tuple[Tensor, Tensor]:
        """The gated skip of the skip's shape, and the map of shape (B, 1, *spatial of the gate) in [0, 1]."""
        joint = functional.relu(self.of_skip(skip) + self.of_gate(gate))
        attention = torch.sigmoid(self.to_map(joint))
        gated: Tensor = self.out(skip * interpolate(attention, 2, "linear"))
        return gated, attention
