"""The trunk of VGG-16 (Simonyan and Zisserman 2015), which FCN, DeconvNet and SegNet share.

Thirteen convolutions in five stages, the size halved after each; FCN and DeconvNet add the two fully connected layers
as convolutions. In 3D all widths are a quarter: at the widths of 2D the first fully connected layer alone has 0.72e9
weights.
"""

from __future__ import annotations

from torch import nn

from src_models.networks.blocks import ConvNormAct, NormKind

CONVS = (2, 2, 3, 3, 3)
"""Convolutions per stage."""


def first_width(ndim: int, width: int | None) -> int:
    """Channels of the first stage: as wanted, else 64 in 2D and 16 in 3D."""
    return width or (64 if ndim == 2 else 16)


def stage_widths(ndim: int, width: int | None) -> tuple[int, ...]:
    """Channels of the five stages; see `first_width`."""
    first = first_width(ndim, width)
    return first, 2 * first, 4 * first, 8 * first, 8 * first


def stage(
    ndim: int, inputs: int, outputs: int, convs: int, norm: NormKind, kernel: int = 3, bias: bool = True
) -> nn.Sequential:
    """Convolutions of one size, each with norm and ReLU."""
    sources = (inputs, *(outputs,) * (convs - 1))
    return nn.Sequential(
        *(ConvNormAct(ndim, source, outputs, kernel, norm=norm, act="relu", bias=bias) for source in sources)
    )


def trunk(ndim: int, in_channels: int, widths: tuple[int, ...], norm: NormKind) -> nn.ModuleList:
    """The five stages, without the pooling after each."""
    inputs = (in_channels, *widths)
    return nn.ModuleList(
        stage(ndim, source, width, convs, norm) for source, width, convs in zip(inputs, widths, CONVS, strict=False)
    )


def fc_width(ndim: int, width: int | None, wanted: int | None) -> int:
    """Channels of fc6 and fc7: as wanted, else 64 (2D) or 32 (3D) times the first stage's: 4096 and 512."""
    return wanted or first_width(ndim, width) * (64 if ndim == 2 else 32)


def fc_kernel(ndim: int) -> int:
    """Width of fc6."""
    return 7 if ndim == 2 else 3


def fully_connected(ndim: int, inputs: int, outputs: int, dropout: float, norm: NormKind) -> nn.Sequential:
    """fc6 and fc7 as convolutions, with dropout after each."""
    return nn.Sequential(
        ConvNormAct(ndim, inputs, outputs, fc_kernel(ndim), norm=norm, act="relu"),
        nn.Dropout(dropout),
        ConvNormAct(ndim, outputs, outputs, 1, norm=norm, act="relu"),
        nn.Dropout(dropout),
    )
