"""VNet (Milletari, Navab, Ahmadi 2016): a residual encoder and decoder of 5-wide convolutions.

Each stage adds its input to what its convolutions made of it; the image itself, repeated to the first stage's
channels, is the first such input. Sizes change by 2-wide strided and transposed convolutions. The preset `monai` is
the network of that name in MONAI, so that weights trained there can be used.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from src_models.errors import InputError
from src_models.networks.blocks import ConvNormAct, NormKind, conv, dropout, he_normal, normalisation, transposed
from src_models.networks.network import NetOutput, Network, NetworkOptions

VNetActivation = Literal["prelu", "elu"]
KERNEL = 5
MONAI: dict[str, Any] = {
    "convs_down": (1, 1, 2, 3, 2),
    "convs_up": (2, 2, 1, 1),
    "norm": "batch",
    "act": "elu",
    "act_before_sum": True,
    "wide_output": True,
    "bias": False,
    "dropout": 0.5,
}
"""What sets MONAI's VNet apart from the paper's."""


class VNetOptions(NetworkOptions):
    """Options of `VNet`; stage k has width x 2^k features. A preset fills in what is not given."""

    preset: Literal["paper", "monai"] = "paper"
    width: int = Field(16, ge=1, description="Features of the finest stage.")
    convs_down: tuple[int, ...] = Field((1, 2, 3, 3, 3), min_length=2, max_length=8, description="Finest stage first.")
    convs_up: tuple[int, ...] = Field((3, 3, 2, 1), description="Coarsest stage first: one less than on the way down.")
    norm: NormKind = "instance"
    act: VNetActivation = "prelu"
    act_before_sum: bool = Field(False, description="Whether a stage's last convolution is activated before the sum.")
    wide_output: bool = Field(
        False, description="Scores by a 5-wide and a 1-wide convolution, not by the latter alone."
    )
    bias: bool = Field(True, description="Of the convolutions; transposed and last ones always have one.")
    dropout: float = Field(0.0, ge=0, lt=1, description="Of channels, at the two coarsest steps and in all skips.")

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, given: Any) -> Any:
        return MONAI | given if isinstance(given, dict) and given.get("preset") == "monai" else given

    @model_validator(mode="after")
    def _as_many_up_as_down(self) -> VNetOptions:
        if len(self.convs_up) != len(self.convs_down) - 1 or min(*self.convs_down, *self.convs_up) < 1:
            raise ValueError("convs_down takes one number of at least 1 per stage, convs_up one less of them")
        return self


class VNet(Network):
    """Residual stages of 5-wide convolutions, joined by concatenated skips.

    Parameters
    ----------
    in_channels, num_classes, ndim : int
        See `Network`.
    options : VNetOptions
        Of the architecture.

    References
    ----------
    F. Milletari, N. Navab, S.-A. Ahmadi, V-Net: Fully convolutional neural networks for volumetric medical image
    segmentation, 3DV 2016.
    """

    name = "vnet"
    Options = VNetOptions
    options: VNetOptions

    def __init__(self, in_channels: int, num_classes: int, ndim: int, options: VNetOptions) -> None:
        super().__init__(in_channels, num_classes, ndim, options)
        coarsest = len(options.convs_down) - 1
        self.stride = (2**coarsest,) * ndim
        widths = [options.width * 2**level for level in range(coarsest + 1)]
        self.stages_down, self.downs = nn.ModuleList(), nn.ModuleList()
        for level, (width, convs) in enumerate(zip(widths, options.convs_down, strict=True)):
            if level:
                self.downs.append(self._down(widths[level - 1], width))
            share = options.dropout if level and level >= coarsest - 1 else 0.0
            inputs = width if level else in_channels
            self.stages_down.append(ResidualStage(ndim, inputs, width, convs, options, share, first=level == 0))
        self.ups, self.stages_up = nn.ModuleList(), nn.ModuleList()
        inputs = widths[-1]
        for level, convs in zip(reversed(range(coarsest)), options.convs_up, strict=True):
            self.ups.append(self._up(inputs, widths[level], options.dropout if level >= coarsest - 2 else 0.0))
            inputs = 2 * widths[level]
            self.stages_up.append(ResidualStage(ndim, inputs, inputs, convs, options))
        self.skip_dropout = dropout(ndim, options.dropout)
        self.head = self._head(inputs)
        he_normal(self, slope=0)

    def compute(self, x: Tensor) -> NetOutput:
        """See `Network`."""
        skips: list[Tensor] = []
        for level, stage in enumerate(self.stages_down):
            x = stage(self.downs[level - 1](x) if level else x)
            skips.append(x)
        skips.pop()
        for up, stage in zip(self.ups, self.stages_up, strict=True):
            x = stage(torch.cat((up(x), self.skip_dropout(skips.pop())), 1))
        return NetOutput(self.head(x))

    def _down(self, inputs: int, outputs: int) -> nn.Sequential:
        return nn.Sequential(
            conv(self.ndim, inputs, outputs, 2, 2, self.options.bias),
            normalisation(self.options.norm, self.ndim, outputs),
            _activation(self.options.act, outputs),
        )

    def _up(self, inputs: int, outputs: int, share: float) -> nn.Sequential:
        return nn.Sequential(
            dropout(self.ndim, share),
            transposed(self.ndim, inputs, outputs),
            normalisation(self.options.norm, self.ndim, outputs),
            _activation(self.options.act, outputs),
        )

    def _head(self, inputs: int) -> nn.Sequential:
        ndim, classes, options = self.ndim, self.num_classes, self.options
        if not options.wide_output:
            return nn.Sequential(conv(ndim, inputs, classes, 1))
        return nn.Sequential(
            ConvNormAct(ndim, inputs, classes, KERNEL, norm=options.norm, act=None, bias=options.bias),
            _activation(options.act, classes),
            conv(ndim, classes, classes, 1),
        )


class ResidualStage(nn.Module):
    """Convolutions of one size whose result is added to their input, then the activation.

    Parameters
    ----------
    ndim, inputs, outputs, convs : int
        Axes, channels, how many convolutions. Where the channels differ, the input is repeated for the sum.
    options : VNetOptions
        Norm, activation and bias.
    share : float
        Of channels dropped before the convolutions; the sum gets all of them.
    first : bool
        The first stage is never activated before its sum.
    """

    def __init__(
        self,
        ndim: int,
        inputs: int,
        outputs: int,
        convs: int,
        options: VNetOptions,
        share: float = 0.0,
        first: bool = False,
    ) -> None:
        super().__init__()
        self.outputs = outputs
        self.dropout = dropout(ndim, share)
        self.convs = nn.ModuleList(
            ConvNormAct(ndim, outputs if i else inputs, outputs, KERNEL, norm=options.norm, act=None, bias=options.bias)
            for i in range(convs)
        )
        activated = convs if options.act_before_sum and not first else convs - 1
        self.acts = nn.ModuleList(_activation(options.act, outputs) for _ in range(activated))
        self.act = _activation(options.act, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """A tensor of shape (B, outputs, *spatial)."""
        made = self.dropout(x)
        for i, convolution in enumerate(self.convs):
            made = convolution(made)
            if i < len(self.acts):
                made = self.acts[i](made)
        result: Tensor = self.act(made + self._repeated(x))
        return result

    def _repeated(self, x: Tensor) -> Tensor:
        if x.shape[1] == self.outputs:
            return x
        times = -(-self.outputs // x.shape[1])
        return torch.cat([x] * times, 1)[:, : self.outputs]


def _activation(kind: VNetActivation, channels: int) -> nn.Module:
    return nn.PReLU(channels) if kind == "prelu" else nn.ELU(inplace=True)


def weights_from_monai(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of MONAI's VNet under the names of the preset `monai`.

    Parameters
    ----------
    state : mapping of str to Tensor
        State dict of ``monai.networks.nets.VNet`` in 2D or 3D.

    Raises
    ------
    InputError
        Where an entry is not one of that network.
    """
    return {_own_name(name): value for name, value in state.items()}


def _own_name(name: str) -> str:
    """Our name of an entry of MONAI's VNet, whose parts are named after the features they have at width 16."""
    part, _, rest = name.partition(".")
    if "act_function" in rest:
        return _refused(name)
    rest = rest.replace("conv_block.adn.N.", "norm.").replace("conv_block.conv.", "conv.")
    own = ""
    if part == "in_tr":
        own = f"stages_down.0.convs.0.{rest}"
    elif part == "out_tr":
        own = rest.replace("conv2.", "head.2.") if rest.startswith("conv2.") else f"head.0.{rest}"
    elif part in MONAI_DOWN or part in MONAI_UP:
        is_up = part in MONAI_UP
        index = MONAI_UP.index(part) if is_up else MONAI_DOWN.index(part)
        way, step = ("up", index) if is_up else ("down", index + 1)
        if rest.startswith("ops."):
            own = f"stages_{way}.{step}.convs.{rest.removeprefix('ops.')}"
        else:
            # the transposed convolution stands behind a dropout
            first = 1 if is_up else 0
            own = rest.replace(f"{way}_conv.", f"{way}s.{index}.{first}.")
            own = own.replace("bn1.", f"{way}s.{index}.{first + 1}.")
    return own or _refused(name)


def _refused(name: str) -> str:
    raise InputError(
        "vnet-monai",
        "These are not the weights of MONAI's VNet with its ELU",
        f"they hold {name}",
        "Choose the network that they belong to.",
    )


MONAI_DOWN = ("down_tr32", "down_tr64", "down_tr128", "down_tr256")
MONAI_UP = ("up_tr256", "up_tr128", "up_tr64", "up_tr32")
