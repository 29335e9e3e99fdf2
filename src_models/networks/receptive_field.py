"""Which part of an image one voxel of the result depends on: exactly, and in effect.

The exact answer comes from one pass on torch's meta device, where tensors have shapes but no numbers: along every axis
each voxel of each tensor carries the first and the last input voxel that it depends on, and every operator moves
these bounds as it moves values. No network has to describe itself. Norms over the whole window are left out: they
tie every voxel to every other one, but only through a mean and a variance per channel.

References
----------
W. Luo et al., Understanding the effective receptive field in deep convolutional neural networks, NeurIPS 2016.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakIdKeyDictionary

from src_models.errors import InputError
from src_models.networks.unpool import Unpool

Bounds = tuple[np.ndarray, np.ndarray]
"""First and last input voxel, for every voxel along one axis."""

MOVES = frozenset({"flip", "roll", "permute", "transpose", "t"})
"""Operators that keep the size but not the places."""

NOTHING = np.iinfo(np.int64).max // 4
"""First voxel of an empty set; minus this is its last."""


class Segmenter(Protocol):
    """What is needed of a network here; see `Network`."""

    ndim: int
    stride: tuple[int, ...]
    in_channels: int


@dataclass(frozen=True)
class ReceptiveField:
    """Input voxels that one voxel of the result depends on.

    Attributes
    ----------
    before, after : tuple of tuple of int
        Per axis and, for each place in the stride grid, how many voxels the field reaches towards lower and higher
        indices.
    """

    before: tuple[tuple[int, ...], ...]
    after: tuple[tuple[int, ...], ...]

    @property
    def size(self) -> tuple[int, ...]:
        """Voxels per axis where the field is largest."""
        return tuple(max(sizes) for sizes in self.sizes)

    @property
    def sizes(self) -> tuple[tuple[int, ...], ...]:
        """Voxels per axis for each place in the stride grid."""
        return tuple(
            tuple(low + 1 + high for low, high in zip(lows, highs, strict=True))
            for lows, highs in zip(self.before, self.after, strict=True)
        )

    @property
    def reach(self) -> tuple[tuple[int, int], ...]:
        """Per axis the furthest reach towards lower and higher indices: the halo of a tile that changes nothing."""
        return tuple((max(lows), max(highs)) for lows, highs in zip(self.before, self.after, strict=True))


def receptive_field(network: nn.Module) -> ReceptiveField:
    """The exact receptive field of a network.

    Parameters
    ----------
    network : Network
        Any of the zoo; its weights do not matter and stay as they are.

    Raises
    ------
    InputError
        Where the field has no bound, or an operator of the network is not known here.
    """
    twin: Any = on_meta(network).eval()
    for blocks in (8, 64, 512):
        # meta tensors cost nothing: take so many voxels that the middle does not see the border
        size = tuple(stride * max(blocks, -(-blocks * 16 // stride)) for stride in twin.stride)
        bounds = _follow(twin, size)
        found = [_middle(b, n, s) for b, n, s in zip(bounds, size, twin.stride, strict=True)]
        if all(inside for *_, inside in found):
            return ReceptiveField(tuple(f[0] for f in found), tuple(f[1] for f in found))
    raise InputError("receptive-field-unbounded", "Each voxel of this network's result depends on the whole image")


def effective_receptive_field(
    network: nn.Module,
    shape: Sequence[int],
    image: Tensor | None = None,
    *,
    share: float = 0.95,
    samples: int = 32,
    seed: int = 0,
) -> float:
    """Side in voxels of the smallest centred box that holds a share of the squared input gradient.

    Parameters
    ----------
    network : Network
        With its weights.
    shape : sequence of int
        Size of the noise images; ignored where an image is given.
    image : Tensor of shape (C, *spatial), optional
        The user's image, prepared as for the network; else white noise of variance 1.
    share : float
        Of the sum of squares, over input channels, of the gradient of the summed logits at the central voxel.
    samples, seed : int
        Noise images over which the side is averaged, and where their numbers start.

    Returns
    -------
    float
        Along the longest axis; the box is cut at the image's border.
    """
    subject: Any = network
    device = next(network.parameters()).device
    draw = torch.Generator().manual_seed(seed)
    was_training = network.training
    network.eval()
    sides = []
    try:
        for _ in range(1 if image is not None else samples):
            noise = torch.randn(1, subject.in_channels, *shape, generator=draw) if image is None else image[None]
            x = noise.detach().clone().to(device).requires_grad_()
            centre = tuple(n // 2 for n in x.shape[2:])
            value = network(x)[(slice(None), slice(None), *centre)].sum()
            (gradient,) = torch.autograd.grad(value, x)
            sides.append(_side(gradient[0].double().square().sum(0).cpu().numpy(), centre, share))
    finally:
        network.train(was_training)
    return float(np.mean(sides))


def on_meta(network: nn.Module) -> Any:
    """A twin whose tensors have shapes but no numbers; the weights are not copied."""
    memo: dict[int, Any] = {}
    for parameter in network.parameters():
        twin = torch.empty_like(parameter, device="meta")
        memo[id(parameter)] = nn.Parameter(twin, requires_grad=parameter.requires_grad)
    for buffer in network.buffers():
        memo[id(buffer)] = torch.empty_like(buffer, device="meta")
    return copy.deepcopy(network, memo)


def _side(energy: np.ndarray, centre: Sequence[int], share: float) -> int:
    """Odd side of the smallest box about the centre that holds the share."""
    away = np.zeros(energy.shape, dtype=np.int64)
    for axis, (n, middle) in enumerate(zip(energy.shape, centre, strict=True)):
        along = np.abs(np.arange(n) - middle)
        away = np.maximum(away, along.reshape([-1 if d == axis else 1 for d in range(energy.ndim)]))
    held = np.cumsum(np.bincount(away.ravel(), weights=energy.ravel()))
    if held[-1] == 0:
        return 1
    return 2 * int(np.searchsorted(held, share * held[-1])) + 1


def _middle(bounds: Bounds, n: int, stride: int) -> tuple[tuple[int, ...], tuple[int, ...], bool]:
    """Reach before and after for each place of the central stride block, and whether none touches the border."""
    start = n // stride // 2 * stride
    places = np.arange(start, start + stride)
    first, last = bounds[0][places], bounds[1][places]
    before, after = np.maximum(places - first, 0), np.maximum(last - places, 0)
    inside = bool((first > 0).all() and (last < n - 1).all())
    return tuple(int(v) for v in before), tuple(int(v) for v in after), inside


def _follow(network: Any, size: tuple[int, ...]) -> list[Bounds]:
    """Bounds of the logits for an input of that size."""
    tracer = _Tracer(network.ndim)
    hooks = [
        module.register_forward_hook(tracer.unpooled) for module in network.modules() if isinstance(module, Unpool)
    ]
    try:
        with torch.no_grad(), tracer:
            x = torch.empty(1, network.in_channels, *size, device="meta", dtype=next(network.parameters()).dtype)
            tracer.bounds[x] = [(np.arange(n), np.arange(n)) for n in size]
            logits = network.compute(x).logits
    finally:
        for hook in hooks:
            hook.remove()
    found = tracer.bounds.get(logits)
    if found is None:
        raise InputError(
            "receptive-field-operator",
            "The receptive field of this network is not known",
            f"it uses {tracer.unknown or 'no input'}",
            "Choose another network.",
        )
    return list(found)


class _Tracer(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Moves bounds along with every operator."""

    def __init__(self, ndim: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.ndim = ndim
        self.bounds: Any = WeakIdKeyDictionary()
        self.unknown = ""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the operator and derive the bounds of what it gives."""
        result = func(*args, **(kwargs or {}))
        first = result[0] if isinstance(result, tuple | list) and result else result
        if isinstance(first, Tensor):
            name = func._overloadpacket.__name__
            sources = [t for t in _tensors(args) if t in self.bounds]
            if sources:
                known = all(self.bounds[t] is not None for t in sources)
                moved = self._moved(name, args, sources, first) if known else None
                outputs = result if isinstance(result, tuple | list) else (result,)
                for output in outputs:
                    if isinstance(output, Tensor) and output.shape[2:] == first.shape[2:]:
                        self._keep(output, moved, name)
        return result

    def unpooled(self, module: Unpool, args: tuple[Any, ...], output: Tensor) -> None:
        """Unpooling looks at the voxel's own window; the scatter inside it says nothing of that."""
        merged = _union([self.bounds[t] for t in args if t in self.bounds])
        if merged:
            self.bounds[output] = [(low.repeat(module.factor), high.repeat(module.factor)) for low, high in merged]

    def _keep(self, output: Tensor, moved: list[Bounds] | None, name: str) -> None:
        if moved is None:
            self.unknown = self.unknown or name
        self.bounds[output] = moved

    def _moved(self, name: str, args: tuple[Any, ...], sources: list[Tensor], output: Tensor) -> list[Bounds] | None:
        rule = RULES.get(name)
        if rule is not None:
            return rule(self.bounds[sources[0]], args, output)
        size = output.shape[-self.ndim :]
        if output.ndim < self.ndim or name in MOVES:
            return None
        # an operator that keeps the size works voxel by voxel, along channels, or is a norm
        return _union([_fitted(self.bounds[t], size) for t in sources])


def _tensors(args: Iterable[Any]) -> Iterable[Tensor]:
    for arg in args:
        if isinstance(arg, Tensor):
            yield arg
        elif isinstance(arg, tuple | list):
            yield from _tensors(arg)


def _fitted(bounds: list[Bounds], size: Sequence[int]) -> list[Bounds] | None:
    """Bounds after broadcasting one voxel to many, or after a sum or mean of many to one."""
    fitted = []
    for (low, high), n in zip(bounds, size, strict=True):
        if len(low) == n:
            fitted.append((low, high))
        elif len(low) == 1:
            fitted.append((low.repeat(n), high.repeat(n)))
        elif n == 1:
            fitted.append((low.min(keepdims=True), high.max(keepdims=True)))
        else:
            return None
    return fitted


def _union(several: Sequence[list[Bounds] | None]) -> list[Bounds] | None:
    known = [bounds for bounds in several if bounds is not None]
    if len(known) < len(several):
        return None
    return [
        (np.minimum.reduce([low for low, _ in axis]), np.maximum.reduce([high for _, high in axis]))
        for axis in zip(*known, strict=True)
    ]


def _spread(value: Any, ndim: int) -> list[int]:
    numbers = list(value) if isinstance(value, tuple | list) else [value]
    return [int(n) for n in (numbers * ndim if len(numbers) == 1 else numbers)]


def _window(bounds: Bounds, starts: np.ndarray, offsets: Iterable[int]) -> Bounds:
    """Union over the sources starts + offset; those outside the tensor are padding and depend on nothing."""
    low, high = bounds
    first = np.full(len(starts), NOTHING)
    last = np.full(len(starts), -NOTHING)
    for offset in offsets:
        at = starts + offset
        valid = (at >= 0) & (at < len(low))
        at = at.clip(0, len(low) - 1)
        first = np.where(valid, np.minimum(first, low[at]), first)
        last = np.where(valid, np.maximum(last, high[at]), last)
    return first, last


def _convolution(bounds: list[Bounds], args: tuple[Any, ...], output: Tensor) -> list[Bounds]:
    weight, stride, padding, dilation, transposed = args[1], args[3], args[4], args[5], args[6]
    ndim = len(bounds)
    steps, pads, gaps = (_spread(v, ndim) for v in (stride, padding, dilation))
    moved = []
    for axis, each in enumerate(bounds):
        places = np.arange(output.shape[2 + axis])
        offsets = [gaps[axis] * k for k in range(weight.shape[2 + axis])]
        if not transposed:
            moved.append(_window(each, places * steps[axis] - pads[axis], offsets))
            continue
        # output j is made of the inputs i with j = step i - pad + offset
        parts = []
        for offset in offsets:
            numerator = places + pads[axis] - offset
            source = np.where(numerator % steps[axis] == 0, numerator // steps[axis], -1)
            parts.append(_window(each, source, [0]))
        moved.append(
            (np.minimum.reduce([low for low, _ in parts]), np.maximum.reduce([high for _, high in parts])),
        )
    return moved


def _pool(bounds: list[Bounds], args: tuple[Any, ...], output: Tensor) -> list[Bounds]:
    ndim = len(bounds)
    kernel = _spread(args[1], ndim)
    stride = _spread(args[2], ndim) if len(args) > 2 and args[2] else kernel
    padding = _spread(args[3], ndim) if len(args) > 3 else [0] * ndim
    return [
        _window(each, np.arange(output.shape[2 + axis]) * stride[axis] - padding[axis], range(kernel[axis]))
        for axis, each in enumerate(bounds)
    ]


def _nearest(bounds: list[Bounds], _args: tuple[Any, ...], output: Tensor) -> list[Bounds]:
    return [
        _window(each, np.arange(n) * len(each[0]) // n, [0]) for each, n in zip(bounds, output.shape[2:], strict=True)
    ]


def _linear(bounds: list[Bounds], _args: tuple[Any, ...], output: Tensor) -> list[Bounds]:
    moved = []
    for each, n in zip(bounds, output.shape[2:], strict=True):
        source = ((np.arange(n) + 0.5) * len(each[0]) / n - 0.5).clip(0, None)
        lower = np.floor(source).astype(np.int64)
        one, two = _window(each, lower, [0]), _window(each, lower, [0, 1])
        between = source > lower
        moved.append((np.where(between, two[0], one[0]), np.where(between, two[1], one[1])))
    return moved


def _slice(bounds: list[Bounds], args: tuple[Any, ...], output: Tensor) -> list[Bounds]:
    axis = (args[1] if len(args) > 1 else 0) % output.ndim - 2
    if axis < 0:
        return bounds
    start = args[2] if len(args) > 2 and args[2] is not None else 0
    moved = list(bounds)
    begin = start % len(bounds[axis][0]) if start < 0 else start
    moved[axis] = _window(bounds[axis], np.arange(begin, begin + output.shape[2 + axis]), [0])
    return moved


def _pad(bounds: list[Bounds], args: tuple[Any, ...], output: Tensor) -> list[Bounds]:
    widths = list(args[1])
    moved = list(bounds)
    for k in range(len(widths) // 2):
        axis = len(bounds) - 1 - k
        if axis >= 0:
            moved[axis] = _window(bounds[axis], np.arange(output.shape[2 + axis]) - widths[2 * k], [0])
    return moved


def _replicate(bounds: list[Bounds], args: tuple[Any, ...], output: Tensor) -> list[Bounds]:
    moved = list(bounds)
    for k, before in enumerate(args[1][::2]):
        axis = len(bounds) - 1 - k
        inner = (np.arange(output.shape[2 + axis]) - before).clip(0, len(bounds[axis][0]) - 1)
        moved[axis] = _window(bounds[axis], inner, [0])
    return moved


RULES: dict[str, Callable[[list[Bounds], tuple[Any, ...], Tensor], list[Bounds]]] = {
    "convolution": _convolution,
    "max_pool2d_with_indices": _pool,
    "max_pool3d_with_indices": _pool,
    "avg_pool2d": _pool,
    "avg_pool3d": _pool,
    "upsample_nearest2d": _nearest,
    "upsample_nearest3d": _nearest,
    "upsample_bilinear2d": _linear,
    "upsample_trilinear3d": _linear,
    "slice": _slice,
    "constant_pad_nd": _pad,
    "replication_pad2d": _replicate,
    "replication_pad3d": _replicate,
}
"""How bounds move through the operators that change sizes; all others keep them."""
