"""What every network promises: any input size in, exactly that size out, and a plain description that rebuilds it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn
from torch.nn import functional

from src_models.errors import InputError
from src_models.networks.forecast import Forecast, Mode, forecast
from src_models.networks.receptive_field import ReceptiveField, receptive_field

Head = Literal["softmax", "sigmoid"]
"""``"softmax"``: K classes, background among them; ``"sigmoid"``: one channel per region."""


class NetworkOptions(BaseModel):
    """What may be chosen about an architecture; each network adds its own. Plain values only: it is kept as JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    head: Head = "softmax"


@dataclass(frozen=True)
class NetOutput:
    """What a network computes.

    Attributes
    ----------
    logits : Tensor of shape (B, K, *spatial)
        Of the input's size.
    aux : tuple of Tensor
        Logits of coarser decoder stages, finest first, for deep supervision; each of size ceil(input / its stride).
    attention : mapping of int to Tensor
        By level (0 the finest): attention map of shape (B, 1, *coarse spatial), in [0, 1].
    """

    logits: Tensor
    aux: tuple[Tensor, ...] = ()
    attention: Mapping[int, Tensor] = field(default_factory=dict)


class Network(nn.Module):
    """Base of all networks.

    Parameters
    ----------
    in_channels : int
        Channels of the input.
    num_classes : int
        Channels of the output: classes with background (softmax) or regions (sigmoid).
    ndim : int
        2 or 3.
    options : NetworkOptions
        Of the architecture.

    Attributes
    ----------
    name : str
        In the zoo.
    stride : tuple of int
        Per axis, how many voxels one bottleneck voxel covers.
    full_precision : bool
        Whether it computes in float32 whatever was asked for.
    replicates : bool
        Whether it replicates every border, so that an image smaller than the window is better not padded with 0.
    norm_free : bool
        Whether a voxel's result depends on its receptive field alone in evaluation (no norm, or batch norm).
    """

    name: str
    Options: ClassVar[type[NetworkOptions]] = NetworkOptions
    stride: tuple[int, ...]
    full_precision: ClassVar[bool] = False
    replicates: ClassVar[bool] = False

    def __init__(self, in_channels: int, num_classes: int, ndim: int, options: NetworkOptions) -> None:
        super().__init__()
        if ndim not in (2, 3):
            raise InputError("network-ndim", f"A network has 2 or 3 dimensions, not {ndim}", "", "Choose 2 or 3.")
        if in_channels < 1 or num_classes < 1:
            raise InputError(
                "network-channels",
                "A network needs at least one input channel and one class",
                f"got {in_channels} and {num_classes}",
                "Give the numbers of the data.",
            )
        self.in_channels, self.num_classes, self.ndim, self.options = in_channels, num_classes, ndim, options
        self.stride = (1,) * ndim

    @property
    def config(self) -> dict[str, Any]:
        """Plain JSON that `zoo.from_config` rebuilds this network from."""
        return {
            "name": self.name,
            "in_channels": self.in_channels,
            "num_classes": self.num_classes,
            "ndim": self.ndim,
            "options": self.options.model_dump(mode="json"),
        }

    @property
    def norm_free(self) -> bool:
        """Whether no layer looks at the whole window in evaluation: tiles then give what the whole image gives."""
        return not any(isinstance(m, nn.modules.instancenorm._InstanceNorm | nn.GroupNorm) for m in self.modules())

    def watched(self) -> dict[str, float]:
        """Numbers that the log of a training holds after each epoch; most networks have none."""
        return {}

    def remarks(self) -> tuple[str, ...]:
        """What whoever trained it should know of it at the end; of most networks nothing."""
        return ()

    def receptive_field(self) -> ReceptiveField:
        """Which input voxels one voxel of the result depends on; norms over the window left out."""
        return receptive_field(self)

    def forecast(self, shape: Sequence[int], mode: Mode = "predict", **how: Any) -> Forecast:
        """Operations and memory of one step on windows of that shape; see `forecast.forecast`."""
        return forecast(self, shape, mode=mode, **how)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of shape (B, K, *spatial) for an input of shape (B, C, *spatial)."""
        return self.forward_full(x).logits

    def forward_full(self, x: Tensor) -> NetOutput:
        """Logits, and what else the network computes on the way.

        Raises
        ------
        InputError
            Where the number of axes or channels does not fit.
        """
        self._check(x)
        size = tuple(x.shape[2:])
        padded = pad_far(x, self._padded(size))
        out = self.compute(padded)
        full = tuple(padded.shape[2:])

        def cropped(part: Tensor) -> Tensor:
            if full == size:
                return part
            strides = [-(-n // m) for n, m in zip(full, part.shape[2:], strict=True)]
            keep = tuple(slice(0, -(-n // s)) for n, s in zip(size, strides, strict=True))
            return part[(slice(None), slice(None), *keep)]

        return NetOutput(
            cropped(out.logits),
            tuple(cropped(part) for part in out.aux),
            {level: cropped(part) for level, part in out.attention.items()},
        )

    @abstractmethod
    def compute(self, x: Tensor) -> NetOutput:
        """The network itself, on an input whose size is a multiple of the stride."""

    def _check(self, x: Tensor) -> None:
        if x.ndim != self.ndim + 2:
            raise InputError(
                "network-axes",
                f"{self.name} takes {self.ndim}D images",
                f"an array of shape {tuple(x.shape)} was given",
                f"Give (batch, channels, {'z, y, x' if self.ndim == 3 else 'y, x'}).",
            )
        if x.shape[1] != self.in_channels:
            raise InputError(
                "network-input-channels",
                f"{self.name} takes {self.in_channels} channel(s)",
                f"{x.shape[1]} were given",
                "Give the channels the network was made for.",
            )
        if 0 in x.shape[2:]:
            raise InputError("network-empty", "The image is empty", f"its shape is {tuple(x.shape[2:])}", "")

    def _padded(self, size: Sequence[int]) -> tuple[int, ...]:
        """The size the network computes at: multiples of the stride, and never one voxel alone under a norm."""
        padded = [-(-n // s) * s for n, s in zip(size, self.stride, strict=True)]
        if self.training or not self.norm_free:
            alone = all(n == s for n, s in zip(padded, self.stride, strict=True))
            if alone and any(isinstance(m, nn.modules.batchnorm._NormBase) for m in self.modules()):
                padded[-1] *= 2
        return tuple(padded)


def pad_far(x: Tensor, size: Sequence[int]) -> Tensor:
    """Pad the far end of each spatial axis by replication.

    Parameters
    ----------
    x : Tensor of shape (B, C, *spatial)
        The input.
    size : sequence of int
        Wanted, at least that of x.
    """
    widths = [n - m for n, m in zip(size, x.shape[2:], strict=True)]
    if not any(widths):
        return x
    pads = [part for width in reversed(widths) for part in (0, width)]
    return functional.pad(x, pads, mode="replicate")


def count_parameters(network: nn.Module) -> int:
    """How many numbers are learned."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def softmax_or_sigmoid(logits: Tensor, head: Head) -> Tensor:
    """Probabilities of shape (B, K, *spatial)."""
    return torch.softmax(logits, 1) if head == "softmax" else torch.sigmoid(logits)
