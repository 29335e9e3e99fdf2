"""FCN-32s, FCN-16s and FCN-8s, the fully convolutional networks of Shelhamer, Long and Darrell (2017).

A trunk of VGG-16 whose fully connected layers are convolutions, so that it gives coarse class scores for an image of
any size. The scores are enlarged by transposed convolutions that begin as linear interpolation; FCN-16s and FCN-8s
add scores of the pools at 1/16 and 1/8 on the way, which begin at 0. The three are trained in turn, each from the one
before.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from src_models.errors import InputError
from src_models.networks.blocks import NormKind, conv, he_normal, max_pool
from src_models.networks.network import NetOutput, Network, NetworkOptions
from src_models.networks.vgg import fc_width, fully_connected, stage_widths, trunk


class FCNOptions(NetworkOptions):
    """Options of `FCN`."""

    skips: Literal[0, 1, 2] = Field(0, description="How many pools add their scores: 0 FCN-32s, 1 FCN-16s, 2 FCN-8s.")
    width: int | None = Field(None, ge=1, description="Channels of the first stage; empty: 64 in 2D, 16 in 3D.")
    fc_width: int | None = Field(
        None, ge=1, description="Channels of fc6 and fc7; empty: 64 (2D) or 32 (3D) times the first stage's."
    )
    norm: NormKind = "instance"
    dropout: float = Field(0.5, ge=0, lt=1, description="Share of fc6 and fc7 left out in training.")


class FCN(Network):
    """FCN-32s, FCN-16s or FCN-8s, by the option `skips`.

    References
    ----------
    E. Shelhamer, J. Long, T. Darrell: Fully convolutional networks for semantic segmentation. IEEE TPAMI 39, 2017.
    """

    Options = FCNOptions
    options: FCNOptions

    def __init__(self, in_channels: int, num_classes: int, ndim: int, options: FCNOptions) -> None:
        super().__init__(in_channels, num_classes, ndim, options)
        self.name = f"fcn{32 >> options.skips}s"
        self.stride = (32,) * ndim
        widths = stage_widths(ndim, options.width)
        wide = fc_width(ndim, options.width, options.fc_width)
        self.stages = trunk(ndim, in_channels, widths, options.norm)
        # a norm would take what little differs on the coarsest grid: fc6 and fc7 have none, as in the paper
        self.fc = fully_connected(ndim, widths[-1], wide, options.dropout, "none")
        self.score = conv(ndim, wide, num_classes, 1)
        he_normal(self, slope=0)
        if options.skips > 0:
            self.score_pool4 = _zero_scores(ndim, widths[3], num_classes)
            self.up_to_pool4 = LinearUp(ndim, num_classes, 2)
        if options.skips > 1:
            self.score_pool3 = _zero_scores(ndim, widths[2], num_classes)
            self.up_to_pool3 = LinearUp(ndim, num_classes, 2)
        self.up = LinearUp(ndim, num_classes, 32 >> options.skips)

    def compute(self, x: Tensor) -> NetOutput:
        """See `Network.compute`."""
        pools = []
        for stage in self.stages:
            x = max_pool(stage(x))
            pools.append(x)
        scores = self.score(self.fc(x))
        if self.options.skips > 0:
            scores = self.up_to_pool4(scores) + self.score_pool4(pools[3])
        if self.options.skips > 1:
            scores = self.up_to_pool3(scores) + self.score_pool3(pools[2])
        return NetOutput(self.up(scores))

    @torch.no_grad()
    def init_from(self, coarser: FCN) -> None:
        """Take over what a trained net with fewer skips has learned; its last enlargement stays behind.

        Parameters
        ----------
        coarser : FCN
            Of the same channels, classes and widths: FCN-32s for FCN-16s, FCN-16s for FCN-8s.

        Raises
        ------
        InputError
            Where the two do not fit.
        """
        if coarser.options.skips >= self.options.skips:
            raise InputError(
                "fcn-init",
                f"{self.name} cannot begin from {coarser.name}",
                "it has as many skips or more",
                "Begin FCN-16s from FCN-32s and FCN-8s from FCN-16s.",
            )
        own = self.state_dict()
        given = {name: value for name, value in coarser.state_dict().items() if not name.startswith("up.")}
        unfit = [name for name, value in given.items() if name not in own or own[name].shape != value.shape]
        if unfit:
            raise InputError(
                "fcn-init-shapes",
                f"{self.name} cannot begin from this {coarser.name}",
                f"they differ in {unfit[0]}",
                "Give both the same channels, classes and widths.",
            )
        self.load_state_dict(own | given)


class LinearUp(nn.Module):
    """Enlargement by a learned transposed convolution per class that begins as linear interpolation.

    Kernel 2f, stride f, padding f / 2: away from the border it equals interpolation with `align_corners=False`.

    Parameters
    ----------
    ndim : int
        2 or 3.
    channels : int
        Classes.
    factor : int
        f, even.
    """

    def __init__(self, ndim: int, channels: int, factor: int) -> None:
        super().__init__()
        kind: type[nn.ConvTranspose2d] | type[nn.ConvTranspose3d]
        kind = nn.ConvTranspose2d if ndim == 2 else nn.ConvTranspose3d
        self.conv = kind(channels, channels, 2 * factor, factor, factor // 2, groups=channels, bias=False)
        with torch.no_grad():
            self.conv.weight.copy_(linear_kernel(factor, ndim).expand_as(self.conv.weight))

    def forward(self, x: Tensor) -> Tensor:
        """Scores of `factor` times the size."""
        enlarged: Tensor = self.conv(x)
        return enlarged


def linear_kernel(factor: int, ndim: int) -> Tensor:
    """The hat of linear interpolation, sampled at the 2f offsets of an enlargement by f.

    Parameters
    ----------
    factor : int
        f.
    ndim : int
        Axes.

    Returns
    -------
    Tensor of shape (2f,) * ndim
        Product over the axes of 1 - |i - (f - 1/2)| / f.
    """
    hat = 1 - (torch.arange(2 * factor) - (factor - 0.5)).abs() / factor
    kernel = hat
    for _ in range(ndim - 1):
        kernel = kernel[..., None] * hat
    return kernel


def _zero_scores(ndim: int, source: int, num_classes: int) -> nn.Module:
    """Scores of a pool, 0 at the start: a fresh net with a skip is the net without it."""
    scores = conv(ndim, source, num_classes, 1)
    nn.init.zeros_(scores.weight)
    if scores.bias is not None:
        nn.init.zeros_(scores.bias)
    return scores
