"""Where the voxels of a tensor inside a network lie on its input: per axis the first voxel's centre and their distance.

One pass on torch's meta device follows every operator, as `receptive_field` does: a convolution or pool moves the start
by ``jump ((k - 1) dilation / 2 - padding)`` and multiplies the jump by its stride; a transposed convolution divides the
jump by its stride and then moves the start by ``jump (padding - (k - 1) / 2)``; up-sampling by s divides the jump by s
and moves the start by ``-jump (s - 1) / 2``; padding is taken off again. No network has to describe itself.

Where tensors are joined whose places differ, as they do behind a way down by strided convolutions and a way up by
transposed ones, the place of that one counts which came by the shorter way: a skip lies where the voxels do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakIdKeyDictionary

from src_models.errors import InputError
from src_models.files.gate import shown
from src_models.networks.receptive_field import MOVES, on_meta
from src_models.networks.unpool import Unpool


@dataclass(frozen=True)
class Placement:
    """Of a tensor on the voxels of the network's input.

    Attributes
    ----------
    start : tuple of float
        Centre of the first voxel per axis, in voxels of the input.
    jump : tuple of float
        Distance of two neighbours.
    """

    start: tuple[float, ...]
    jump: tuple[float, ...]


@dataclass(frozen=True)
class LayerPlacement:
    """Of what a layer reads and what it gives."""

    inside: Placement
    outside: Placement


def layer_placement(network: nn.Module, name: str, size: Sequence[int]) -> LayerPlacement:
    """Where the input and the output of a layer lie.

    Parameters
    ----------
    network : Network
        Any of the zoo; its weights do not matter and stay as they are.
    name : str
        Of the layer among its modules.
    size : sequence of int
        Of the input, a multiple of the network's stride.

    Raises
    ------
    InputError
        Where there is no such layer, it is not used, or an operator before it is not known here.
    """
    twin: Any = on_meta(network).eval()
    modules = dict(twin.named_modules())
    if name not in modules:
        raise InputError("placement-layer", f"This network has no layer {shown(name)}", "", "Choose one of its layers.")
    tracer = _Tracer(twin.ndim)
    found: list[tuple[Placement | None, Placement | None]] = []

    def note(_module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        found.append((tracer.places.get(args[0]), tracer.places.get(output)))

    hooks = [modules[name].register_forward_hook(note)]
    hooks += [m.register_forward_hook(tracer.unpooled) for m in twin.modules() if isinstance(m, Unpool)]
    try:
        with torch.no_grad(), tracer:
            x = torch.empty(1, twin.in_channels, *size, device="meta", dtype=next(twin.parameters()).dtype)
            tracer.places[x], tracer.ways[x] = Placement((0.0,) * twin.ndim, (1.0,) * twin.ndim), 1.0
            twin.compute(x)
    finally:
        for hook in hooks:
            hook.remove()
    if not found:
        raise InputError("placement-unused", f"The network does not use {shown(name)}", "", "Choose another layer.")
    inside, outside = found[0]
    if inside is None or outside is None:
        raise InputError(
            "placement-operator",
            f"Where {shown(name)} lies on the image is not known",
            f"the network uses {tracer.unknown or 'an operator without a place'} before it",
            "Choose another layer.",
        )
    return LayerPlacement(inside, outside)


class _Tracer(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Moves places along with every operator."""

    def __init__(self, ndim: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.ndim = ndim
        self.places: Any = WeakIdKeyDictionary()
        self.ways: Any = WeakIdKeyDictionary()  # the largest jump on the way to a tensor
        self.unknown = ""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the operator and derive the place of what it gives."""
        result = func(*args, **(kwargs or {}))
        outputs = result if isinstance(result, tuple | list) else (result,)
        sources = [tensor for tensor in _tensors(args) if tensor in self.places]
        if not sources:
            return result
        source = min(sources, key=lambda tensor: float(self.ways[tensor]))
        name = func._overloadpacket.__name__
        for output in outputs:
            # what is changed in place keeps its place
            if isinstance(output, Tensor) and all(output is not each for each in sources):
                place = self._moved(name, args, source, output)
                if place is None:
                    self.unknown = self.unknown or name
                else:
                    self._keep(output, place, source)
        return result

    def unpooled(self, module: Unpool, args: tuple[Any, ...], output: Tensor) -> None:
        """Unpooling lies as up-sampling does; the scatter inside it says nothing of that."""
        place = self.places.get(args[0])
        if place is not None:
            self._keep(output, _finer(place, (float(module.factor),) * self.ndim), args[0])

    def _keep(self, output: Tensor, place: Placement, source: Tensor) -> None:
        self.places[output] = place
        self.ways[output] = max(self.ways[source], *place.jump)

    def _moved(self, name: str, args: tuple[Any, ...], source: Tensor, output: Tensor) -> Placement | None:
        place: Placement = self.places[source]
        rule = _RULES.get(name)
        if rule is not None:
            return rule(place, args, source, output)
        same = output.shape[-self.ndim :] == source.shape[-self.ndim :]
        return place if same and name not in MOVES and output.ndim == source.ndim else None


def _tensors(args: Sequence[Any]) -> Sequence[Tensor]:
    found: list[Tensor] = []
    for arg in args:
        if isinstance(arg, Tensor):
            found.append(arg)
        elif isinstance(arg, tuple | list):
            found.extend(part for part in arg if isinstance(part, Tensor))
    return found


def _numbers(value: Any, ndim: int) -> list[int]:
    numbers = list(value) if isinstance(value, tuple | list) else [value]
    return [int(n) for n in (numbers * ndim if len(numbers) == 1 else numbers)]


def _coarser(place: Placement, moves: Sequence[float], strides: Sequence[float]) -> Placement:
    start = tuple(s + j * m for s, j, m in zip(place.start, place.jump, moves, strict=True))
    return Placement(start, tuple(j * s for j, s in zip(place.jump, strides, strict=True)))


def _finer(place: Placement, factors: Sequence[float]) -> Placement:
    jump = tuple(j / f for j, f in zip(place.jump, factors, strict=True))
    return Placement(tuple(s - j * (f - 1) / 2 for s, j, f in zip(place.start, jump, factors, strict=True)), jump)


def _convolution(place: Placement, args: tuple[Any, ...], _source: Tensor, _output: Tensor) -> Placement:
    ndim = len(place.start)
    sizes = args[1].shape[2:]
    strides, pads, gaps = (_numbers(args[k], ndim) for k in (3, 4, 5))
    reach = [(k - 1) * gap / 2 for k, gap in zip(sizes, gaps, strict=True)]
    if not args[6]:
        return _coarser(place, [r - p for r, p in zip(reach, pads, strict=True)], strides)
    jump = tuple(j / s for j, s in zip(place.jump, strides, strict=True))
    start = tuple(s + j * (p - r) for s, j, p, r in zip(place.start, jump, pads, reach, strict=True))
    return Placement(start, jump)


def _pool(place: Placement, args: tuple[Any, ...], _source: Tensor, _output: Tensor) -> Placement:
    ndim = len(place.start)
    kernel = _numbers(args[1], ndim)
    strides = _numbers(args[2], ndim) if len(args) > 2 and args[2] else kernel
    pads = _numbers(args[3], ndim) if len(args) > 3 else [0] * ndim
    return _coarser(place, [(k - 1) / 2 - p for k, p in zip(kernel, pads, strict=True)], strides)


def _upsample(place: Placement, args: tuple[Any, ...], source: Tensor, output: Tensor) -> Placement:
    sizes = list(zip(source.shape[2:], output.shape[2:], strict=True))
    corners = len(args) > 2 and args[2] is True
    if not corners:
        return _finer(place, [after / before for before, after in sizes])
    jump = tuple(
        j * (before - 1) / (after - 1) if after > 1 else j for j, (before, after) in zip(place.jump, sizes, strict=True)
    )
    return Placement(place.start, jump)


def _slice(place: Placement, args: tuple[Any, ...], source: Tensor, output: Tensor) -> Placement:
    axis = (args[1] if len(args) > 1 else 0) % output.ndim - 2
    if axis < 0:
        return place
    first = args[2] if len(args) > 2 and args[2] is not None else 0
    first = first + source.shape[axis + 2] if first < 0 else first
    step = args[4] if len(args) > 4 else 1
    start, jump = list(place.start), list(place.jump)
    start[axis] += jump[axis] * first
    jump[axis] *= step
    return Placement(tuple(start), tuple(jump))


def _pad(place: Placement, args: tuple[Any, ...], _source: Tensor, _output: Tensor) -> Placement:
    start = list(place.start)
    for k, before in enumerate(args[1][::2]):
        axis = len(start) - 1 - k
        if axis >= 0:
            start[axis] -= place.jump[axis] * before
    return Placement(tuple(start), place.jump)


_RULES: dict[str, Callable[[Placement, tuple[Any, ...], Tensor, Tensor], Placement]] = {
    "convolution": _convolution,
    "max_pool2d_with_indices": _pool,
    "max_pool3d_with_indices": _pool,
    "avg_pool2d": _pool,
    "avg_pool3d": _pool,
    "upsample_nearest2d": _upsample,
    "upsample_nearest3d": _upsample,
    "upsample_bilinear2d": _upsample,
    "upsample_trilinear3d": _upsample,
    "slice": _slice,
    "constant_pad_nd": _pad,
    "replication_pad2d": _pad,
    "replication_pad3d": _pad,
    "reflection_pad2d": _pad,
    "reflection_pad3d": _pad,
}
