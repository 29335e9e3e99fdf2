"""UNet with its options (Ronneberger 2015, Çiçek 2016), and the exact one whose kernels the paper reads."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from src_models.networks.blocks import (
    ActivationKind,
    ConvNormAct,
    NormKind,
    Up,
    UpKind,
    conv,
    dropout,
    he_normal,
    interpolate,
    max_pool,
    normalisation,
)
from src_models.networks.network import Head, NetOutput, Network, NetworkOptions


class UNetOptions(NetworkOptions):
    """Of `UNet`. `depth` halvings; level k has base_width x 2^k features, at most max_width, or `widths[k]`."""

    depth: int = Field(4, ge=1, le=8)
    base_width: int = Field(32, ge=1)
    max_width: int = Field(512, ge=1)
    widths: tuple[int, ...] | None = Field(None, description="Features per level, finest first: depth + 1 numbers.")
    convs_per_level: int = Field(2, ge=1, le=8)
    down: Literal["max", "strided"] = "max"
    up: UpKind = "transposed"
    norm: NormKind = "instance"
    act: ActivationKind = "leaky"
    skip: Literal["concat", "add"] = "concat"
    deep_supervision: bool = False
    dropout: float = Field(0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _one_width_a_level(self) -> UNetOptions:
        if self.widths is not None and (len(self.widths) != self.depth + 1 or min(self.widths) < 1):
            raise ValueError(f"depth {self.depth} takes {self.depth + 1} widths of at least 1, not {self.widths}")
        return self


class UNet(Network):
    """Encoder and decoder of equal steps; each decoder level sees the encoder's features of its size.

    Parameters
    ----------
    in_channels, num_classes, ndim : int
        See `Network`.
    options : UNetOptions
        Of the architecture.

    References
    ----------
    O. Ronneberger, P. Fischer, T. Brox, U-Net: Convolutional networks for biomedical image segmentation, MICCAI 2015.
    Ö. Çiçek et al., 3D U-Net: Learning dense volumetric segmentation from sparse annotation, MICCAI 2016.
    """

    name = "unet"
    Options = UNetOptions
    options: UNetOptions

    def __init__(self, in_channels: int, num_classes: int, ndim: int, options: UNetOptions) -> None:
        super().__init__(in_channels, num_classes, ndim, options)
        widths = feature_widths(options)
        self.stride = (2**options.depth,) * ndim
        self.encoder = nn.ModuleList()
        channels = in_channels
        for level, width in enumerate(widths):
            stride = 2 if level > 0 and options.down == "strided" else 1
            self.encoder.append(self._convs(channels, width, stride))
            channels = width
        self.ups = nn.ModuleList()
        self.decoder = nn.ModuleList()
        for width in reversed(widths[:-1]):
            self.ups.append(Up(ndim, channels, width, 2, options.up))
            self.decoder.append(self._convs(2 * width if options.skip == "concat" else width, width))
            channels = width
        self.head = conv(ndim, channels, num_classes, 1)
        coarser = reversed(widths[1:-1]) if options.deep_supervision else ()
        self.aux_heads = nn.ModuleList(conv(ndim, width, num_classes, 1) for width in coarser)
        he_normal(self)

    def compute(self, x: Tensor) -> NetOutput:
        """See `Network`."""
        skips: list[Tensor] = []
        for level, convs in enumerate(self.encoder):
            if level > 0 and self.options.down == "max":
                x = max_pool(x)
            x = convs(x)
            skips.append(x)
        skips.pop()
        aux: list[Tensor] = []
        for up, convs in zip(self.ups, self.decoder, strict=True):
            x = torch.cat((skips.pop(), up(x)), 1) if self.options.skip == "concat" else skips.pop() + up(x)
            # not convs(x): this frame would hold the joined features, the largest of all, until the level is done
            for block in convs.children():
                x = block(x)
            if len(aux) < len(self.aux_heads):
                aux.insert(0, self.aux_heads[len(aux)](x))
        return NetOutput(self.head(x), tuple(aux))

    def _convs(self, inputs: int, width: int, stride: int = 1) -> nn.Sequential:
        chosen = self.options
        return nn.Sequential(
            *(
                ConvNormAct(
                    self.ndim,
                    width if i else inputs,
                    width,
                    stride=1 if i else stride,
                    norm=chosen.norm,
                    act=chosen.act,
                    share=chosen.dropout,
                )
                for i in range(chosen.convs_per_level)
            )
        )


def feature_widths(options: UNetOptions) -> tuple[int, ...]:
    """Features per level, finest first: `widths` where given, else doubled up to the cap."""
    if options.widths is None:
        return tuple(min(options.base_width * 2**k, options.max_width) for k in range(options.depth + 1))
    return options.widths


class PaperOptions(NetworkOptions):
    """Of `PaperUNet`; which of the two the paper's run used is not known."""

    head: Head = "sigmoid"
    bn_first: bool = Field(False, description="Batch norm before each convolution.")
    dropout: float = Field(0.0, ge=0, lt=1, description="Before each convolution of the bottom and the way up.")


class PaperUNet(Network):
    """The UNet whose 14,608 kernels the paper reads: `convs` are its 18 convolutions in their order.

    Each step up first convolves at the coarse size, then up-samples (nearest), then joins that level's *input*: at
    the finest level the image itself. One input channel and one class give the paper's counts.

    Parameters
    ----------
    in_channels, num_classes, ndim : int
        See `Network`.
    options : PaperOptions
        Of the architecture.

    References
    ----------
    J. A. Actor, D. T. Fuentes, B. Rivière, Identification of kernels in a convolutional neural network: connections
    between the level set equation and deep learning for image segmentation, Proc. SPIE 11313, 2020.
    """

    name = "unet-paper"
    Options = PaperOptions
    options: PaperOptions
    widths = (16, 16, 16, 32, 64)
    """Features of the four levels, finest first, and of the bottom."""

    def __init__(self, in_channels: int, num_classes: int, ndim: int, options: PaperOptions) -> None:
        super().__init__(in_channels, num_classes, ndim, options)
        self.stride = (2 ** (len(self.widths) - 1),) * ndim
        *levels, _ = self.widths
        joined = [in_channels, *levels[:-1]]  # channels of each level's input
        self.convs = nn.ModuleList()
        channels = in_channels
        for width in self.widths:
            channels = self._two(channels, width, 0.0 if width in levels else options.dropout)
        for width, skipped in zip(reversed(levels), reversed(joined), strict=True):
            channels = self._two(channels, width, options.dropout) + skipped
        self.head = conv(ndim, channels, num_classes, 1)
        self._start()

    def compute(self, x: Tensor) -> NetOutput:
        """See `Network`."""
        step = iter(self.convs)

        def two(x: Tensor) -> Tensor:
            for convolution in (next(step), next(step)):
                x = convolution(x)
            return x

        inputs: list[Tensor] = []
        for _ in self.widths[:-1]:
            inputs.append(x)
            x = max_pool(two(x))
        x = two(x)
        while inputs:
            x = torch.cat((inputs.pop(), interpolate(two(x), 2, "nearest")), 1)
        return NetOutput(self.head(x))

    def _two(self, inputs: int, width: int, share: float) -> int:
        norm: NormKind = "batch" if self.options.bn_first else "none"
        for channels in (inputs, width):
            self.convs.append(
                nn.Sequential(
                    normalisation(norm, self.ndim, channels),
                    dropout(self.ndim, share),
                    conv(self.ndim, channels, width),
                    nn.ReLU(inplace=True),
                )
            )
        return width

    def _start(self) -> None:
        """Glorot's uniform law, the default of the library that the paper's code is written in."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Conv3d):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
