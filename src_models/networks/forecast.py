"""Before a run: how many operations a network takes and how much memory, without computing anything.

One pass on torch's meta device, where tensors have shapes but no numbers, runs the same Python as the real one: each
convolution is counted by its closed form, each storage from its birth to its end. `workspace` adds what convolutions
on a processor use for a moment.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from src_models.networks.receptive_field import on_meta
from src_models.networks.workspace import convolution_workspace, gradient_workspace

Mode = Literal["predict", "train"]
Precision = Literal["fp32", "bf16", "fp16"]

OPTIMISER_STATES = {"none": 0, "sgd": 1, "adam": 2, "adamw": 2, "adadelta": 2}
"""Numbers an optimiser keeps beside each weight: momentum, or two running averages."""

LOW = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class LayerCost:
    """One convolution.

    Attributes
    ----------
    name : str
        Of its weights in the state dict.
    weight_shape, output_shape : tuple of int
        Of the kernels; of the result, batch and channels first.
    flops : int
        Multiplications and additions of one forward pass; adding the bias is not counted.
    """

    name: str
    weight_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    flops: int


@dataclass(frozen=True)
class Forecast:
    """What one step takes.

    Attributes
    ----------
    layers : tuple of LayerCost
        In the order of the forward pass.
    flops : int
        Of the convolutions: the forward pass, in training the backward pass too.
    voxels : int
        Of the input, batch included.
    weights_bytes : int
        Weights and buffers, with their copies in low precision.
    activations_bytes : int
        Largest sum of living tensors beside weights and optimiser state: the input and, in training, gradients too.
    gradients_bytes, optimiser_bytes : int
        In training.
    peak_bytes : int
        The largest sum of all.
    """

    layers: tuple[LayerCost, ...]
    flops: int
    voxels: int
    weights_bytes: int
    activations_bytes: int
    gradients_bytes: int
    optimiser_bytes: int
    peak_bytes: int

    @property
    def forward_flops(self) -> int:
        """Of one forward pass."""
        return sum(layer.flops for layer in self.layers)

    def summary(self) -> dict[str, float]:
        """Plain numbers for a plan or a card."""
        return {
            "gflops": self.flops / 1e9,
            "weights_mb": self.weights_bytes / 1e6,
            "activations_mb": self.activations_bytes / 1e6,
            "peak_mb": self.peak_bytes / 1e6,
        }


def forecast(
    network: nn.Module,
    shape: Sequence[int],
    *,
    mode: Mode = "predict",
    batch: int = 1,
    optimiser: str = "sgd",
    precision: Precision = "fp32",
    device: str = "cpu",
    loss: Callable[[Any], Tensor] | None = None,
) -> Forecast:
    """Operations and memory of one step.

    Parameters
    ----------
    network : Network
        Any of the zoo.
    shape : sequence of int
        Voxels of a window or patch, in the order of the network's axes.
    mode : {"predict", "train"}
        One forward pass, or forward, loss, backward and the step of the optimiser.
    batch : int
        Windows or samples at once.
    optimiser : {"sgd", "adam", "adamw", "adadelta", "none"}
        In training.
    precision : {"fp32", "bf16", "fp16"}
        Of the activations; weights stay in fp32 beside a low copy.
    device : str
        On "cpu" the copies that its convolutions make are counted too; a graphics card's work space is not known.
    loss : callable of NetOutput to Tensor, optional
        On meta tensors; by default Dice and cross entropy of every output.

    Returns
    -------
    Forecast
        Bytes as torch's allocators count them.
    """
    size = tuple(int(n) for n in shape)
    twin = on_meta(network)
    names = {id(p): name for name, p in twin.named_parameters()}
    full = sum(t.nbytes for t in (*twin.parameters(), *twin.buffers()))
    low = LOW.get(precision, next(twin.parameters()).dtype)
    weights = full
    if precision in LOW:
        twin = _in_low_precision(twin, low, names)
        weights += sum(t.nbytes for t in (*twin.parameters(), *twin.buffers()))
    account = _Account(names, device == "cpu")
    if mode == "predict":
        twin.eval()
        with torch.no_grad(), account:
            x = torch.empty(batch, twin.in_channels, *size, device="meta", dtype=low)
            twin(x)
        gradients = state = 0
        peak = weights + account.peak
    else:
        twin.train()
        state = OPTIMISER_STATES[optimiser] * sum(p.nbytes for p in network.parameters() if p.requires_grad)
        gradients = sum(p.nbytes for p in network.parameters() if p.requires_grad)
        with account:
            x = torch.empty(batch, twin.in_channels, *size, device="meta", dtype=low)
            _train_once(twin, x, loss or _usual_loss(twin))
        peak = weights + state + max(account.peak, gradients + _largest(network))
    return Forecast(
        tuple(account.layers),
        account.flops,
        batch * prod(size),
        weights,
        account.peak,
        gradients,
        state,
        peak,
    )


def _in_low_precision(twin: Any, low: torch.dtype, names: dict[int, str]) -> Any:
    """Weights as autocast casts them; the names follow."""
    by_name = {name: key for key, name in names.items()}
    twin = twin.to(low)
    names.clear()
    names.update({id(p): name for name, p in twin.named_parameters() if name in by_name})
    return twin


def _train_once(twin: Any, x: Tensor, loss: Callable[[Any], Tensor]) -> None:
    value = loss(twin.forward_full(x))
    value.backward()  # type: ignore[no-untyped-call]


def _largest(network: nn.Module) -> int:
    """The optimiser goes from tensor to tensor and needs one more of the size of each."""
    return max((p.nbytes for p in network.parameters()), default=0)


def _usual_loss(network: Any) -> Callable[[Any], Tensor]:
    """Dice and cross entropy of all outputs, in shape: what training holds for its loss."""

    def one(logits: Tensor) -> Tensor:
        logits = logits.float()
        spatial = tuple(range(2, logits.ndim))
        target = torch.zeros_like(logits)
        if network.options.head == "softmax":
            labels = torch.empty(logits.shape[0], *logits.shape[2:], dtype=torch.long, device=logits.device)
            entropy = functional.cross_entropy(logits, labels)
            probability = torch.softmax(logits, 1)
        else:
            entropy = functional.binary_cross_entropy_with_logits(logits, target)
            probability = torch.sigmoid(logits)
        common = (probability * target).sum(spatial)
        total = probability.sum(spatial) + target.sum(spatial)
        return entropy - (2 * common / (total + 1e-5)).mean()

    def all_of_them(output: Any) -> Tensor:
        value = one(output.logits)
        for part in output.aux:
            value = value + one(part)
        return value

    return all_of_them


@dataclass
class _Totals:
    """Bytes now and at most."""

    live: int = 0
    peak: int = 0
    known: set[int] = field(default_factory=set)


class _Account(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts operations of convolutions and bytes of living storages, in the order things happen."""

    def __init__(self, names: dict[int, str], processor: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names = names
        self.processor = processor
        self.layers: list[LayerCost] = []
        self.flops = 0
        self._totals = _Totals()

    @property
    def peak(self) -> int:
        """Most bytes alive at once."""
        return self._totals.peak

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the operator and count what it does and makes."""
        result = func(*args, **(kwargs or {}))
        packet = func._overloadpacket
        if packet is torch.ops.aten.convolution:
            x, weight, _, stride, _, _, transposed = args[:7]
            self._count(weight, convolution_flops(x, weight, result, transposed), result)
            if self.processor:
                self._moment(convolution_workspace(x, weight, result, stride, transposed))
        elif packet is torch.ops.aten.convolution_backward:
            gradient, x, weight, _, stride, _, _, transposed, _, _, wanted = args
            self.flops += convolution_flops(x, weight, gradient, transposed) * sum(wanted[:2])
            if self.processor:
                self._moment(gradient_workspace(gradient, x, weight, stride, transposed, wanted[0]))
        for output in result if isinstance(result, tuple | list) else (result,):
            if isinstance(output, Tensor):
                self._born(output)
        return result

    def _count(self, weight: Tensor, flops: int, output: Tensor) -> None:
        name = self.names.get(id(weight), "")
        self.layers.append(LayerCost(name, tuple(weight.shape), tuple(output.shape), flops))
        self.flops += flops

    def _moment(self, extra: int) -> None:
        """Bytes that come and go within one operator, its result among them."""
        self._totals.peak = max(self._totals.peak, self._totals.live + extra)

    def _born(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        totals, key = self._totals, storage._cdata
        if key in totals.known:
            return
        size = storage.nbytes()
        totals.known.add(key)
        totals.live += size
        totals.peak = max(totals.peak, totals.live)
        weakref.finalize(storage, _died, totals, key, size)


def _died(totals: _Totals, key: int, size: int) -> None:
    totals.known.discard(key)
    totals.live -= size


def convolution_flops(x: Tensor, weight: Tensor, output: Tensor, transposed: bool) -> int:
    """Multiplications and additions of a convolution: each weight meets each output voxel (transposed: input voxel).

    Weights have shape (outputs, inputs / groups, *kernel), or (inputs, outputs / groups, *kernel) if transposed.
    """
    voxels = prod(x.shape[2:]) if transposed else prod(output.shape[2:])
    return 2 * x.shape[0] * voxels * weight.numel()
