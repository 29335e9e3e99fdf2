"""The two networks of nnU-Net, plain and with a residual encoder, under the names of their published weights.

The published state dicts hold every tensor under several names; after dropping all keys with `all_modules` or
`decoder.encoder.` the rest is exactly ours, in the same order.
"""

from __future__ import annotations

from itertools import pairwise
from math import prod
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from src_models.errors import InputError
from src_models.networks.blocks import ConvNormAct, ResidualBlock, Widths, conv, he_normal, per_axis, transposed
from src_models.networks.network import NetOutput, Network, NetworkOptions

PER_STAGE = ("features_per_stage", "kernel_sizes", "strides", "n_conv_per_stage", "n_blocks_per_stage")
CAP = {2: 512, 3: 320}
"""Largest number of features, by the number of axes."""


class NNUNetOptions(NetworkOptions):
    """The architecture arguments of an nnU-Net plan. None: what nnU-Net takes for a large isotropic image."""

    n_stages: int = Field(6, ge=2, le=12)
    features_per_stage: tuple[int, ...] | None = None
    kernel_sizes: tuple[int | tuple[int, ...], ...] | None = None
    strides: tuple[int | tuple[int, ...], ...] | None = None
    n_conv_per_stage_decoder: tuple[int, ...] | None = None
    conv_bias: bool = True
    norm: Literal["instance", "batch"] = "instance"
    deep_supervision: bool = True

    @model_validator(mode="before")
    @classmethod
    def _count_stages(cls, given: Any) -> Any:
        """Lists of one number per stage say how many stages there are."""
        if isinstance(given, dict) and "n_stages" not in given:
            for key in PER_STAGE:
                if isinstance(given.get(key), list | tuple):
                    return given | {"n_stages": len(given[key])}
        return given

    @model_validator(mode="after")
    def _fits(self) -> NNUNetOptions:
        for key in (*PER_STAGE, "n_conv_per_stage_decoder"):
            values = getattr(self, key, None)
            wanted = self.n_stages - (key == "n_conv_per_stage_decoder")
            if values is None:
                continue
            if len(values) != wanted:
                raise ValueError(f"{key} has {len(values)} numbers, {self.n_stages} stages take {wanted}")
            if any(part < 1 for value in values for part in (value if isinstance(value, tuple) else (value,))):
                raise ValueError(f"{key} are numbers of at least 1, not {values}")
        if self.strides is not None and any(step != 1 for step in per_axis(self.strides[0], 1)):
            raise ValueError("the first stage has stride 1: the result has the size of the input")
        if any(part % 2 == 0 for kernel in self.kernel_sizes or () for part in per_axis(kernel, 1)):
            raise ValueError(f"kernels are odd, not {self.kernel_sizes}")
        return self


class PlainOptions(NNUNetOptions):
    """Of `PlainNNUNet`."""

    n_conv_per_stage: tuple[int, ...] | None = None


class ResidualOptions(NNUNetOptions):
    """Of `ResidualNNUNet`."""

    n_blocks_per_stage: tuple[int, ...] | None = None


class _Stack(nn.Module):
    """Convolutions in a row; the first strides."""

    def __init__(
        self,
        ndim: int,
        inputs: int,
        outputs: int,
        count: int,
        kernel: Widths,
        options: NNUNetOptions,
        stride: Widths = 1,
    ) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            ConvNormAct(
                ndim,
                outputs if i else inputs,
                outputs,
                kernel,
                1 if i else stride,
                norm=options.norm,
                bias=options.conv_bias,
            )
            for i in range(count)
        )

    def forward(self, x: Tensor) -> Tensor:
        for block in self.convs:
            x = block(x)
        return x


class _Blocks(nn.Module):
    """Residual blocks in a row; the first strides."""

    def __init__(
        self,
        ndim: int,
        inputs: int,
        outputs: int,
        count: int,
        kernel: Widths,
        options: NNUNetOptions,
        stride: Widths = 1,
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            ResidualBlock(
                ndim,
                outputs if i else inputs,
                outputs,
                kernel,
                1 if i else stride,
                norm=options.norm,
                bias=options.conv_bias,
            )
            for i in range(count)
        )

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x


class _Encoder(nn.Module):
    """The stages on the way down, after a stem where there is one."""

    def __init__(self, stem: nn.Module | None, stages: list[nn.Module]) -> None:
        super().__init__()
        if stem is not None:
            self.stem = stem
        self.stages = nn.ModuleList(stages)

    def forward(self, x: Tensor) -> list[Tensor]:
        if hasattr(self, "stem"):
            x = self.stem(x)
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features


class _Decoder(nn.Module):
    """The stages on the way up, coarsest first, each with a 1-wide head."""

    def __init__(
        self,
        ndim: int,
        num_classes: int,
        features: tuple[int, ...],
        kernels: tuple[Widths, ...],
        strides: tuple[Widths, ...],
        options: NNUNetOptions,
    ) -> None:
        super().__init__()
        self.deep_supervision = options.deep_supervision
        counts = options.n_conv_per_stage_decoder or self.default_counts(options)
        steps = list(zip(pairwise(reversed(features)), reversed(kernels[:-1]), reversed(strides), counts, strict=False))
        self.stages = nn.ModuleList(
            _Stack(ndim, 2 * finer, finer, count, kernel, options) for (_, finer), kernel, _, count in steps
        )
        self.transpconvs = nn.ModuleList(
            transposed(ndim, coarser, finer, stride, options.conv_bias) for (coarser, finer), _, stride, _ in steps
        )
        self.seg_layers = nn.ModuleList(conv(ndim, finer, num_classes, 1) for (_, finer), *_ in steps)

    @staticmethod
    def default_counts(options: NNUNetOptions) -> tuple[int, ...]:
        """Convolutions per stage where nothing is said: two, or one beside a residual encoder."""
        return (1 if isinstance(options, ResidualOptions) else 2,) * (options.n_stages - 1)

    def forward(self, features: list[Tensor]) -> NetOutput:
        x = features.pop()
        logits: list[Tensor] = []
        for up, stage, head in zip(self.transpconvs, self.stages, self.seg_layers, strict=True):
            x = torch.cat((up(x), features.pop()), 1)
            # not stage(x): this frame would hold the joined features, the largest of all, until the stage is done
            for block in stage.get_submodule("convs").children():
                x = block(x)
            if self.deep_supervision or not features:
                logits.insert(0, head(x))
        return NetOutput(logits[0], tuple(logits[1:]))


class _NNUNet(Network):
    """What both have in common: the numbers of the plan, and the decoder."""

    options: NNUNetOptions
    encoder: _Encoder
    decoder: _Decoder

    def __init__(self, in_channels: int, num_classes: int, ndim: int, options: NNUNetOptions) -> None:
        super().__init__(in_channels, num_classes, ndim, options)
        n = options.n_stages
        self.features = options.features_per_stage or tuple(min(32 * 2**s, CAP[ndim]) for s in range(n))
        self.kernels = tuple(per_axis(kernel, ndim) for kernel in options.kernel_sizes or (3,) * n)
        self.strides = tuple(per_axis(step, ndim) for step in options.strides or (1, *(2,) * (n - 1)))
        odd = [each for each in (*self.kernels, *self.strides) if len(each) != ndim]
        if odd:
            raise InputError(
                "network-axes-of-stage",
                f"{self.name} has {ndim} axes",
                f"a kernel or stride of {len(odd[0])} numbers was given: {odd[0]}",
                f"Give one number, or {ndim}.",
            )
        self.stride = tuple(prod(steps) for steps in zip(*self.strides, strict=True))

    def compute(self, x: Tensor) -> NetOutput:
        """See `Network`."""
        output: NetOutput = self.decoder(self.encoder(x))
        return output

    def _up(self) -> _Decoder:
        return _Decoder(self.ndim, self.num_classes, self.features, self.kernels, self.strides, self.options)


class PlainNNUNet(_NNUNet):
    """nnU-Net's plain network: two convolutions a stage, strided on the way down, transposed on the way up.

    Parameters
    ----------
    in_channels, num_classes, ndim : int
        See `Network`.
    options : PlainOptions
        Of the architecture.

    References
    ----------
    F. Isensee et al., nnU-Net: a self-configuring method for deep learning-based biomedical image segmentation,
    Nature Methods 18, 2021.
    """

    name = "nnunet"
    Options = PlainOptions
    options: PlainOptions

    def __init__(self, in_channels: int, num_classes: int, ndim: int, options: PlainOptions) -> None:
        super().__init__(in_channels, num_classes, ndim, options)
        counts = options.n_conv_per_stage or (2,) * options.n_stages
        inputs = (in_channels, *self.features)
        self.encoder = _Encoder(
            None,
            [
                nn.Sequential(_Stack(ndim, inputs[s], self.features[s], count, self.kernels[s], options, stride))
                for s, (count, stride) in enumerate(zip(counts, self.strides, strict=True))
            ],
        )
        self.decoder = self._up()
        he_normal(self)


class ResidualNNUNet(_NNUNet):
    """nnU-Net's network with a residual encoder: blocks 1-3-4-6-6-6 on the way down, one convolution a stage up.

    Parameters
    ----------
    in_channels, num_classes, ndim : int
        See `Network`.
    options : ResidualOptions
        Of the architecture.

    References
    ----------
    F. Isensee et al., nnU-Net revisited: a call for rigorous validation in 3D medical image segmentation, MICCAI 2024.
    """

    name = "nnunet-residual"
    Options = ResidualOptions
    options: ResidualOptions

    def __init__(self, in_channels: int, num_classes: int, ndim: int, options: ResidualOptions) -> None:
        super().__init__(in_channels, num_classes, ndim, options)
        counts = options.n_blocks_per_stage or (1, 3, 4, *(6,) * options.n_stages)[: options.n_stages]
        first = self.features[0]
        inputs = (first, *self.features)
        self.encoder = _Encoder(
            _Stack(ndim, in_channels, first, 1, self.kernels[0], options),
            [
                _Blocks(ndim, inputs[s], self.features[s], count, self.kernels[s], options, stride)
                for s, (count, stride) in enumerate(zip(counts, self.strides, strict=True))
            ],
        )
        self.decoder = self._up()
        he_normal(self)
        for module in self.modules():
            # a fresh block passes its input on, so that deep networks begin as shallow ones
            if isinstance(module, ResidualBlock):
                for learned in module.conv2.norm.parameters():
                    nn.init.zeros_(learned)
