"""One window through all folds and mirrored forms of it: the mean of their logits, and what is stitched beside them."""

from __future__ import annotations

import copy
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor
from torch.nn import functional

from src_models.errors import DeviceError
from src_models.networks.network import Network, pad_far, softmax_or_sigmoid
from src_models.weights.model import Model


class Interrupted(Exception):  # noqa: N818 - not an error: somebody asked for it
    """The person asked to stop in the middle of a window."""


class Passes:
    """The networks of a prediction on their device.

    Parameters
    ----------
    models : sequence of Model
        Folds of one training; their logits are averaged.
    device : torch.device
        Where they run. The models given are not moved; on a graphics card copies of them are.
    precision : torch.dtype
        float32, or bfloat16 or float16 by autocast.
    mirror_axes : sequence of int
        Spatial axes of the network's input that are mirrored, all combinations.
    disagreement, attention : bool
        What is wanted beside the logits.
    interrupt : callable, optional
        Asked before every layer; the window is given up where it says yes.
    """

    def __init__(
        self,
        models: Sequence[Model],
        device: torch.device,
        precision: torch.dtype = torch.float32,
        *,
        mirror_axes: Sequence[int] = (),
        disagreement: bool = False,
        attention: bool = False,
        interrupt: Callable[[], bool] | None = None,
    ) -> None:
        self._models = models
        self.head = models[0].card.head
        self.ndim = models[0].card.ndim
        self.precision = precision
        self._disagreement = disagreement
        self._flips = [
            axes for n in range(len(mirror_axes) + 1) for axes in itertools.combinations(sorted(mirror_axes), n)
        ]
        self._interrupt = interrupt
        self._attention = attention
        self.networks: list[Network] = []
        self.to(device)
        self.levels: tuple[int, ...] = self._attention_levels() if attention else ()

    def to(self, device: torch.device) -> None:
        """Move to another device, such as the processor after a lack of memory."""
        self.device = device
        on_cpu = device.type == "cpu"
        self.networks = [m.network if on_cpu else copy.deepcopy(m.network).to(device) for m in self._models]
        for network in self.networks:
            network.eval()

    @property
    def members(self) -> int:
        """Results that are averaged per window."""
        return len(self.networks) * len(self._flips)

    @property
    def extras(self) -> int:
        """Channels beside the logits."""
        return int(self._disagreement) + len(self.levels)

    @property
    def background(self) -> list[float]:
        """What a voxel gets that no window was computed for, by channel."""
        from src_models.inference.ring import SURE

        count = self.networks[0].num_classes
        if self.head == "sigmoid":
            return [-SURE] * count + [0.0] * self.extras
        channel = next((label.channel for label in self._models[0].card.labels if label.value == 0), 0)
        return [SURE * (k == channel) for k in range(count + self.extras)]

    def __call__(self, window: Tensor) -> Tensor:
        """Logits and extras of one window.

        Parameters
        ----------
        window : Tensor of shape (C, z, y, x)
            For a 2D network with one plane.

        Returns
        -------
        Tensor of shape (K + extras, z, y, x)
            float32, on the device of the networks.
        """
        x = window.to(self.device)[None]
        flat = self.ndim == 2
        if flat:
            x = x[:, :, 0]
        with torch.inference_mode(), self._asking():
            logits, extras = self._mean(x)
            out = torch.cat([logits, *extras], 1) if extras else logits
        return out[0][:, None] if flat else out[0]

    def _mean(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        total: Tensor | None = None
        maps: dict[int, Tensor] = {}
        shares: list[Tensor] = []
        for network, axes in itertools.product(self.networks, self._flips):
            flipped = [axis + 2 for axis in axes]
            logits, attention = self._one(network, x.flip(flipped) if flipped else x)
            if flipped:
                logits = logits.flip(flipped)
                attention = {level: each.flip(flipped) for level, each in attention.items()}
            total = logits if total is None else total.add_(logits)
            for level, each in attention.items():
                maps[level] = maps[level] + each if level in maps else each
            if self._disagreement:
                shares.append(softmax_or_sigmoid(logits, self.head))
        assert total is not None
        extras: list[Tensor] = []
        if self._disagreement:
            extras.append(_disagreement(shares, self.head))
        extras += [maps[level] / self.members for level in self.levels]
        return (total.div_(self.members) if self.members > 1 else total), extras

    def _one(self, network: Network, x: Tensor) -> tuple[Tensor, dict[int, Tensor]]:
        cast: AbstractContextManager[object] = nullcontext()
        if self.precision != torch.float32:
            cast = torch.autocast(self.device.type, self.precision)
        with cast:
            if not self.levels:
                # a copy where the network gives a view of what it keeps, as an identity does: sums are made in place
                logits = network(x).to(torch.float32)
                return (logits.clone() if logits.data_ptr() == x.data_ptr() else logits), {}
            size = x.shape[2:]
            padded = pad_far(x, [-(-n // s) * s for n, s in zip(size, network.stride, strict=True)])
            out = network.forward_full(padded)
        keep = (slice(None), slice(None), *(slice(0, n) for n in size))
        mode = "trilinear" if network.ndim == 3 else "bilinear"
        maps = {
            level: functional.interpolate(
                out.attention[level].to(torch.float32), size=padded.shape[2:], mode=mode, align_corners=False
            )[keep]
            for level in self.levels
        }
        return out.logits[keep].to(torch.float32).clone(), maps

    def _attention_levels(self) -> tuple[int, ...]:
        """Which maps the network gives; asked of it with the smallest input."""
        network = self.networks[0]
        size = [2 * s for s in network.stride]
        with torch.inference_mode():
            out = network.forward_full(torch.zeros((1, network.in_channels, *size), device=self.device))
        return tuple(sorted(out.attention))

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """Ask between layers whether to stop."""
        ask = self._interrupt
        if ask is None:
            yield
            return

        def question(*_: object) -> None:
            if ask():
                raise Interrupted

        leaves = [m for network in self.networks for m in network.modules() if not list(m.children())]
        hooks = [leaf.register_forward_pre_hook(question) for leaf in leaves]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()


def _disagreement(shares: Sequence[Tensor], head: str) -> Tensor:
    """Half the L1 distance of each member's probabilities from their mean, averaged over the members; (1, 1, ...).

    A region of a sigmoid head is a class and its complement; several regions are averaged.
    """
    mean = torch.stack(list(shares)).mean(0)
    apart = torch.stack([(share - mean).abs().sum(1, keepdim=True) for share in shares]).mean(0)
    return apart / (2 if head == "softmax" else mean.shape[1])


def choose_device(wanted: str) -> torch.device:
    """The device that a setting names.

    Raises
    ------
    DeviceError
        Where it is not there.
    """
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if wanted == "auto":
        return torch.device("cuda" if there["cuda"] else "cpu")
    if not there[wanted]:
        raise DeviceError("device-missing", f"There is no {wanted} device here", "", "Choose the device cpu or auto.")
    return torch.device(wanted)


def choose_precision(wanted: str, device: torch.device, probe: Callable[[torch.dtype], object]) -> torch.dtype:
    """The number format of the networks.

    Parameters
    ----------
    wanted : str
        As in the parameters.
    device : torch.device
        Where the networks run.
    probe : callable
        Runs one window in a format; timed on a processor, where bf16 is slower than fp32 on many.
    """
    if device.type == "cuda":
        best = torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
        return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}.get(wanted, best)
    if device.type == "cpu" and wanted == "bf16":
        seconds = {}
        for kind in (torch.float32, torch.bfloat16):
            probe(kind)
            began = time.perf_counter()
            probe(kind)
            seconds[kind] = time.perf_counter() - began
        return torch.bfloat16 if seconds[torch.bfloat16] < seconds[torch.float32] else torch.float32
    return torch.float32


def free_memory(device: torch.device) -> None:
    """Give cached memory back."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
