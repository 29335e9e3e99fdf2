"""SegNet (Badrinarayanan, Kendall, Cipolla 2017): an encoder, and a decoder that enlarges by the encoder's pool places.

Only places cross from encoder to decoder, one byte a pooled voxel, where UNet carries all features. There are no
fully connected layers. `basic` is the small variant that the paper compares decoders with.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from src_models.networks.blocks import ConvNormAct, NormKind, conv, he_normal
from src_models.networks.network import NetOutput, Network, NetworkOptions
from src_models.networks.unpool import Unpool, pool_with_indices
from src_models.networks.vgg import CONVS, stage, stage_widths

BASIC_LEVELS, BASIC_WIDTH, BASIC_KERNEL = 4, 64, 7


class SegNetOptions(NetworkOptions):
    """Options of `SegNet`."""

    preset: Literal["full", "basic"] = Field(
        "full", description="full: the 13 + 13 convolutions of VGG-16; basic: 4 levels of one 7-wide convolution."
    )
    width: int | None = Field(
        None, ge=1, description="Channels of the first stage; empty: 64, but 16 for the full network in 3D."
    )
    norm: NormKind = "batch"


class SegNet(Network):
    """Encoder and mirrored decoder joined by pool places.

    The full decoder's last convolution gives the class scores. The basic network, as in the paper, has no biases and no
    ReLU in its decoder, and a 1-wide convolution gives the scores.

    Parameters
    ----------
    in_channels, num_classes, ndim : int
        See `Network`.
    options : SegNetOptions
        Of the architecture.

    References
    ----------
    V. Badrinarayanan, A. Kendall, R. Cipolla, SegNet: A deep convolutional encoder-decoder architecture for image
    segmentation, IEEE TPAMI 39, 2017.
    """

    name = "segnet"
    Options = SegNetOptions
    options: SegNetOptions

    def __init__(self, in_channels: int, num_classes: int, ndim: int, options: SegNetOptions) -> None:
        super().__init__(in_channels, num_classes, ndim, options)
        self.encoder, self.decoder = nn.ModuleList(), nn.ModuleList()
        self.unpool = Unpool()
        if options.preset == "basic":
            self._build_basic()
        else:
            self._build_full()
        self.stride = (2 ** len(self.encoder),) * ndim
        he_normal(self, slope=0)

    def compute(self, x: Tensor) -> NetOutput:
        """See `Network`."""
        places: list[Tensor] = []
        for convs in self.encoder:
            x, place = pool_with_indices(convs(x))
            places.append(place)
        for convs in self.decoder:
            x = convs(self.unpool(x, places.pop()))
        return NetOutput(x)

    def _build_full(self) -> None:
        ndim, norm = self.ndim, self.options.norm
        widths = stage_widths(ndim, self.options.width)
        inputs = (self.in_channels, *widths[:-1])
        for source, width, convs in zip(inputs, widths, CONVS, strict=True):
            self.encoder.append(stage(ndim, source, width, convs, norm))
            last = (
                ConvNormAct(ndim, width, source, norm=norm, act="relu")
                if len(self.encoder) > 1
                else conv(ndim, width, self.num_classes)
            )
            self.decoder.insert(0, nn.Sequential(*stage(ndim, width, width, convs - 1, norm), last))

    def _build_basic(self) -> None:
        ndim, norm, width = self.ndim, self.options.norm, self.options.width or BASIC_WIDTH
        for level in range(BASIC_LEVELS):
            source = width if level else self.in_channels
            self.encoder.append(stage(ndim, source, width, 1, norm, BASIC_KERNEL, bias=False))
            self.decoder.append(ConvNormAct(ndim, width, width, BASIC_KERNEL, norm=norm, act=None, bias=False))
        self.decoder[-1] = nn.Sequential(self.decoder[-1], conv(ndim, width, self.num_classes, 1))
