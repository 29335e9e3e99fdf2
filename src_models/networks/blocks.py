"""The parts that networks are built from: convolution with norm and activation, residual block, down, up, pool, unpool.

Sizes inside a network are multiples of its stride (`Network.forward_full` sees to it), so every halving is exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from src_models.networks.network import pad_far
from src_models.networks.unpool import Unpool, pool_with_indices

NormKind = Literal["instance", "batch", "none"]
ActivationKind = Literal["relu", "leaky"]
UpKind = Literal["transposed", "linear", "nearest"]
Widths = int | Sequence[int]

__all__ = [
    "ActivationKind",
    "ConvNormAct",
    "NormKind",
    "ResidualBlock",
    "Unpool",
    "Up",
    "UpKind",
    "activation",
    "average_pool",
    "conv",
    "crop_to",
    "dropout",
    "he_normal",
    "interpolate",
    "max_pool",
    "normalisation",
    "pad_far",
    "per_axis",
    "pool_with_indices",
    "transposed",
]


def per_axis(value: Widths, ndim: int) -> tuple[int, ...]:
    """One number for each of the ndim axes."""
    return (value,) * ndim if isinstance(value, int) else tuple(value)


def conv(
    ndim: int, inputs: int, outputs: int, kernel: Widths = 3, stride: Widths = 1, bias: bool = True
) -> nn.Conv2d | nn.Conv3d:
    """A convolution (cross-correlation) with zero padding that keeps the size at stride 1; odd kernels.

    Parameters
    ----------
    ndim : int
        2 or 3.
    inputs, outputs : int
        Channels.
    kernel, stride : int or sequence of int
        In voxels, per axis.
    bias : bool
        Whether a number is added per output channel.
    """
    size, step = per_axis(kernel, ndim), per_axis(stride, ndim)
    kind: type[nn.Conv2d] | type[nn.Conv3d] = nn.Conv2d if ndim == 2 else nn.Conv3d
    return kind(inputs, outputs, size, step, tuple((k - 1) // 2 for k in size), bias=bias)  # type: ignore[arg-type]


def transposed(
    ndim: int, inputs: int, outputs: int, stride: Widths = 2, bias: bool = True
) -> nn.ConvTranspose2d | nn.ConvTranspose3d:
    """A transposed convolution whose kernel is its stride: every output voxel has one source, so no checkerboard."""
    step = per_axis(stride, ndim)
    kind: type[nn.ConvTranspose2d] | type[nn.ConvTranspose3d] = nn.ConvTranspose2d if ndim == 2 else nn.ConvTranspose3d
    return kind(inputs, outputs, step, step, bias=bias)  # type: ignore[arg-type]


def normalisation(kind: NormKind, ndim: int, channels: int) -> nn.Module:
    """Norm over space (instance) or space and batch (batch), with a learned factor and offset per channel."""
    if kind == "none":
        return nn.Identity()
    if kind == "instance":
        instance = nn.InstanceNorm2d if ndim == 2 else nn.InstanceNorm3d
        return instance(channels, eps=1e-5, affine=True)
    return (nn.BatchNorm2d if ndim == 2 else nn.BatchNorm3d)(channels)


def activation(kind: ActivationKind) -> nn.Module:
    """ReLU, or leaky ReLU of slope 0.01; in place, since what it follows is used by nothing else."""
    return nn.ReLU(inplace=True) if kind == "relu" else nn.LeakyReLU(0.01, inplace=True)


def dropout(ndim: int, share: float) -> nn.Module:
    """Dropout of whole channels: neighbouring voxels are alike, so dropping single ones would change little."""
    if share == 0:
        return nn.Identity()
    return (nn.Dropout2d if ndim == 2 else nn.Dropout3d)(share)


def max_pool(x: Tensor, size: Widths = 2) -> Tensor:
    """Largest value of each disjoint window."""
    if x.ndim == 4:
        return functional.max_pool2d(x, per_axis(size, 2))
    return functional.max_pool3d(x, per_axis(size, 3))


def average_pool(ndim: int, size: Widths) -> nn.Module:
    """Mean of each disjoint window."""
    width = per_axis(size, ndim)
    return nn.AvgPool2d(width) if ndim == 2 else nn.AvgPool3d(width)  # type: ignore[arg-type]


def interpolate(x: Tensor, factor: Widths, kind: Literal["linear", "nearest"]) -> Tensor:
    """Up-sampling by whole factors with half-pixel centres, as the voxels of an image lie."""
    scale = [float(f) for f in per_axis(factor, x.ndim - 2)]
    if kind == "nearest":
        return functional.interpolate(x, scale_factor=scale, mode="nearest")
    mode = "bilinear" if x.ndim == 4 else "trilinear"
    return functional.interpolate(x, scale_factor=scale, mode=mode, align_corners=False)


def halved(x: Tensor, times: int) -> Tensor:
    """The mean over blocks of 2^times voxels a side."""
    if times <= 0:
        return x
    pooled: Tensor = average_pool(x.ndim - 2, 2**times)(x)
    return pooled


def crop_to(x: Tensor, size: Sequence[int]) -> Tensor:
    """The first `size` voxels of each spatial axis of x of shape (B, C, *spatial)."""
    return x[(slice(None), slice(None), *(slice(0, n) for n in size))]


class ConvNormAct(nn.Module):
    """Convolution, norm, activation, dropout.

    Parameters
    ----------
    ndim, inputs, outputs : int
        Axes and channels.
    kernel, stride : int or sequence of int
        Of the convolution.
    norm : {"instance", "batch", "none"}
        After the convolution.
    act : {"relu", "leaky"} or None
        After the norm; None for none.
    share : float
        Of channels dropped in training.
    bias : bool
        Of the convolution.
    """

    def __init__(
        self,
        ndim: int,
        inputs: int,
        outputs: int,
        kernel: Widths = 3,
        stride: Widths = 1,
        *,
        norm: NormKind = "instance",
        act: ActivationKind | None = "leaky",
        share: float = 0.0,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.conv = conv(ndim, inputs, outputs, kernel, stride, bias)
        self.norm = normalisation(norm, ndim, outputs)
        self.act = activation(act) if act else nn.Identity()
        self.dropout = dropout(ndim, share)

    def forward(self, x: Tensor) -> Tensor:
        """A tensor of shape (B, outputs, *spatial / stride)."""
        result: Tensor = self.dropout(self.act(self.norm(self.conv(x))))
        return result


class ResidualBlock(nn.Module):
    """Two convolutions whose result is added to the block's input, then the activation (He et al. 2016, variant D).

    The shortcut is an average pool where the block strides, then a 1-wide convolution without bias plus norm only
    where the channels change: a strided 1-wide convolution would throw away 3 of 4 (7 of 8) voxels.

    Parameters
    ----------
    ndim, inputs, outputs : int
        Axes and channels.
    kernel, stride : int or sequence of int
        Of both convolutions; of the first.
    norm, act
        See `ConvNormAct`.
    """

    def __init__(
        self,
        ndim: int,
        inputs: int,
        outputs: int,
        kernel: Widths = 3,
        stride: Widths = 1,
        *,
        norm: NormKind = "instance",
        act: ActivationKind = "leaky",
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.conv1 = ConvNormAct(ndim, inputs, outputs, kernel, stride, norm=norm, act=act, bias=bias)
        self.conv2 = ConvNormAct(ndim, outputs, outputs, kernel, norm=norm, act=None, bias=bias)
        shortcut: list[nn.Module] = []
        if any(step > 1 for step in per_axis(stride, ndim)):
            shortcut.append(average_pool(ndim, stride))
        if inputs != outputs:
            shortcut.append(ConvNormAct(ndim, inputs, outputs, 1, norm=norm, act=None, bias=False))
        self.skip = nn.Sequential(*shortcut)
        self.act = activation(act)

    def forward(self, x: Tensor) -> Tensor:
        """A tensor of shape (B, outputs, *spatial / stride)."""
        shortcut: Tensor = self.skip(x)
        result: Tensor = self.conv2(self.conv1(x))
        result += shortcut
        finished: Tensor = self.act(result)
        return finished


class Up(nn.Module):
    """Up-sampling with a change of channels.

    Interpolation keeps sums of weights at one, so the 1-wide convolution gives the same before it as after it, and
    before it there are 4 (8) times fewer voxels.

    Parameters
    ----------
    ndim, inputs, outputs : int
        Axes and channels.
    factor : int or sequence of int
        Per axis.
    kind : {"transposed", "linear", "nearest"}
        Learned, or interpolated after a 1-wide convolution.
    bias : bool
        Of the convolution.
    """

    def __init__(
        self, ndim: int, inputs: int, outputs: int, factor: Widths = 2, kind: UpKind = "transposed", bias: bool = True
    ) -> None:
        super().__init__()
        self.kind, self.factor = kind, per_axis(factor, ndim)
        self.conv = (
            transposed(ndim, inputs, outputs, factor, bias)
            if kind == "transposed"
            else conv(ndim, inputs, outputs, 1, bias=bias)
        )

    def forward(self, x: Tensor) -> Tensor:
        """A tensor of shape (B, outputs, *spatial x factor)."""
        moved: Tensor = self.conv(x)
        return moved if self.kind == "transposed" else interpolate(moved, self.factor, self.kind)


def he_normal(network: nn.Module, slope: float = 0.01) -> None:
    """Start weights that keep the variance through leaky rectifiers (He et al. 2015); biases zero."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d):
            nn.init.kaiming_normal_(module.weight, a=slope)
            if module.bias is not None:
                torch.nn.init.zeros_(module.bias)
