"""The convolutions of a network, in its order, as kernels that all read alike.

A kernel acts by cross-correlation. A transposed convolution equals the convolution with channels exchanged and all
spatial axes flipped; that is what is kept of it. Shared weights are taken once.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from src_models.errors import InputError
from src_models.files.gate import shown
from src_models.kernels.result import Kind, Layer, Skipped

LARGEST = 7
LARGEST_WEIGHT = 1e18
_NORMS = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm, nn.GroupNorm)


@dataclass(frozen=True, eq=False)
class Collected:
    """The convolutions of a network: those that are analysed, those that are not, and what was noticed."""

    layers: tuple[Layer, ...]
    skipped: tuple[Skipped, ...]
    notes: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """Kernels that are analysed."""
        return sum(layer.count for layer in self.layers)


@dataclass(frozen=True, eq=False)
class Found:
    """A convolution before it is looked at: its weight as torch keeps it, and how it is applied."""

    name: str
    weight: Tensor
    kind: Kind
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int


def collect_module(network: nn.Module, *, fold_norm: bool = False, image: Sequence[int] | None = None) -> Collected:
    """The convolutions of a network.

    Parameters
    ----------
    network : Module
        Any; 2D and 3D convolutions, plain and transposed, grouped or not, also quantised ones.
    fold_norm : bool
        Multiply by the gain of the normalisation behind (or before) each.
    image : sequence of int, optional
        Size of an image; the input size of each layer is traced for it.

    Raises
    ------
    InputError
        Where there is nothing to analyse, a weight is not finite, or has no numbers yet.
    """
    found: list[Found] = []
    modules: dict[str, nn.Module] = {}
    again = 0
    for name, module in network.named_modules(remove_duplicate=False):
        each = _of_module(name, module)
        if each is not None:
            if any(module is known for known in modules.values()):
                again += 1
                continue
            found.append(each)
            modules[name] = module
    gains = _gains(network) if fold_norm else {}
    sizes, notes = _traced(network, modules, image) if image is not None else ({}, ())
    made = _collected(found, gains, again)
    layers = tuple(replace(layer, input_size=sizes.get(layer.name)) for layer in made.layers)
    return Collected(layers, made.skipped, (*made.notes, *notes))


def collect_state(state: Mapping[str, Any]) -> Collected:
    """The convolutions among bare tensors: those with 4 or 5 axes; of what kind they are is not known.

    Raises
    ------
    InputError
        As `collect_module`.
    """
    found = []
    for key, value in state.items():
        if isinstance(value, Tensor) and value.ndim in (4, 5):
            one = (1,) * (value.ndim - 2)
            found.append(Found(re.sub(r"\.?weight$", "", key) or key, value, "unknown", one, one, 1))
    made = _collected(found, {})
    if made.layers:
        told = "Tensors without a network: plain and transposed convolutions cannot be told apart, so the sign of odd "
        made = replace(made, notes=(*made.notes, told + "moments is not known, and which channel axis is the input."))
    return made


def _of_module(name: str, module: nn.Module) -> Found | None:
    weight: Any = getattr(module, "weight", None)
    if not isinstance(module, nn.modules.conv._ConvNd):
        # quantised convolutions share no base class with the others, and give their weight by a call
        if not (callable(weight) and hasattr(module, "kernel_size") and hasattr(module, "in_channels")):
            return None
        weight = weight()
    if torch.nn.parameter.is_lazy(weight):
        raise InputError(
            "kernels-lazy", f"{shown(name)} has no weights yet", "", "Run the network once, or load its weights."
        )
    if not isinstance(weight, Tensor) or weight.ndim not in (4, 5):
        return None
    options: Any = module
    turned = bool(getattr(options, "transposed", False))
    return Found(
        name or type(module).__name__,
        weight,
        "transposed" if turned else "conv",
        tuple(int(k) for k in options.stride),
        tuple(int(k) for k in options.dilation),
        int(options.groups),
    )


def _collected(
    found: Sequence[Found], gains: Mapping[str, tuple[Tensor | None, Tensor | None]], repeated: int = 0
) -> Collected:
    layers: list[Layer] = []
    skipped: list[Skipped] = []
    notes: list[str] = []
    seen: dict[Any, str] = {}
    for each in found:
        key = _place(each.weight)
        if key in seen:
            repeated += 1
            continue
        seen[key] = each.name
        size = tuple(each.weight.shape[2:])
        reason = _reason(size, each)
        if reason:
            skipped.append(Skipped(each.name, size, math.prod(each.weight.shape[:2]), reason))
            continue
        layers.append(_layer(each, len(layers), gains.get(each.name)))
    layers, copies = _without_copies(layers)
    if repeated + copies:
        notes.append(f"{repeated + copies} tensor(s) are stored more than once and were taken once.")
    if not layers:
        why = "none of its layers is a 2D or 3D convolution"
        if skipped:
            why = f"its {len(skipped)} convolution(s) are skipped: {skipped[0].reason}"
        raise InputError("kernels-none", "This model has no kernels to analyse", why, "Choose another model.")
    return Collected(tuple(layers), tuple(skipped), tuple(notes))


def _place(weight: Tensor) -> Any:
    """Where a tensor's numbers lie; what has no place of its own is itself."""
    try:
        return (weight.untyped_storage().data_ptr() or id(weight), weight.storage_offset(), tuple(weight.shape))
    except (RuntimeError, NotImplementedError):
        return id(weight)


def _without_copies(layers: list[Layer]) -> tuple[list[Layer], int]:
    """Bare tensors that hold the same numbers: files do not keep which of them were one."""
    kept: list[Layer] = []
    seen: set[bytes] = set()
    for layer in layers:
        if layer.kind == "unknown":
            content = layer.kernels.tobytes()
            # a layer of zeros, or of one kernel, may well be there twice
            if layer.count > 8 and layer.kernels.any() and content in seen:
                continue
            seen.add(content)
        kept.append(replace(layer, index=len(kept)))
    return kept, len(layers) - len(kept)


def _reason(size: tuple[int, ...], each: Found) -> str:
    """Why kernels of a size are not analysed; empty where they are."""
    if each.weight.numel() == 0:
        return "a tensor without numbers holds no kernels"
    if max(size) == 1:
        return "1 x 1 kernels have no shape"
    if any(k % 2 == 0 for k in size):
        return "kernels of even size have no centre"
    if max(size) > LARGEST:
        return f"kernels larger than {LARGEST} are not stencils"
    if each.weight.is_complex():
        return "kernels of complex numbers are not analysed"
    return ""


def _layer(each: Found, index: int, gain: tuple[Tensor | None, Tensor | None] | None) -> Layer:
    if each.weight.is_meta:
        raise InputError(
            "kernels-meta", f"{shown(each.name)} has no numbers", "it lies on the meta device", "Load its weights."
        )
    plain = dense(each.weight)
    dtype = torch.float64 if plain.dtype == torch.float64 else torch.float32
    # a copy: what was found must not change when the network is trained on or taken apart
    weight = plain.to(device="cpu", dtype=dtype, copy=True)
    bad = int(torch.count_nonzero(~torch.isfinite(weight)))
    if bad:
        raise InputError(
            "kernels-finite",
            f"{bad} of {weight.numel()} weights of {shown(each.name)} are not finite",
            "the training of this model has failed, or its file is damaged",
            "Use another checkpoint.",
        )
    largest = float(weight.abs().max())
    if largest > LARGEST_WEIGHT:
        raise InputError(
            "kernels-range",
            f"Weights of {shown(each.name)} are as large as {largest:.0e}",
            "their squares are beyond what numbers of 32 bits hold, so the training of this model has failed",
            "Use another checkpoint.",
        )
    if each.kind == "transposed":
        weight = _as_convolution(weight, each.groups)
    if gain is not None:
        weight = _with_gain(weight, gain, each.groups)
    stored = tuple(weight.shape[2:])
    size = (max(stored),) * len(stored)
    kernels = weight.contiguous().numpy()
    if stored != size:
        margin = [(0, 0), (0, 0), *(((n - k) // 2, (n - k) // 2) for n, k in zip(size, stored, strict=True))]
        kernels = np.pad(kernels, margin)
    return Layer(
        name=each.name,
        index=index,
        kind=each.kind,
        kernels=kernels,
        size=size,
        stored_size=stored,
        stride=each.stride,
        dilation=each.dilation,
        groups=each.groups,
        gain=gain is not None,
    )


def dense(tensor: Tensor) -> Tensor:
    """The numbers of a tensor as they act: quantised ones as what they stand for, sparse ones with their zeros."""
    plain = tensor.detach()
    plain = plain.dequantize() if plain.is_quantized else plain
    return plain if plain.layout is torch.strided else plain.to_dense()


def _as_convolution(weight: Tensor, groups: int) -> Tensor:
    """(in, out / groups, ...) of a transposed convolution as (out, in / groups, ...), flipped on all spatial axes."""
    inside, out_per_group = weight.shape[:2]
    parts = weight.reshape(groups, inside // groups, out_per_group, *weight.shape[2:]).transpose(1, 2)
    turned = parts.reshape(groups * out_per_group, inside // groups, *weight.shape[2:])
    return turned.flip(tuple(range(2, turned.ndim)))


# -- normalisation


def _gains(network: nn.Module) -> dict[str, tuple[Tensor | None, Tensor | None]]:
    """Per convolution: gains of its outputs (norm behind it), or of its inputs (norm before it).

    A norm belongs to a convolution where nothing but dropout or a place holder lies between them in one container and
    the channels fit.
    """
    found: dict[str, tuple[Tensor | None, Tensor | None]] = {}
    for prefix, parent in network.named_modules():
        children = [
            (name, child)
            for name, child in parent.named_children()
            if not isinstance(child, nn.Identity | nn.modules.dropout._DropoutNd)
        ]
        for place, (name, child) in enumerate(children):
            if not isinstance(child, nn.modules.conv._ConvNd):
                continue
            full = f"{prefix}.{name}" if prefix else name
            behind = children[place + 1][1] if place + 1 < len(children) else None
            before = children[place - 1][1] if place else None
            gain = _gain(behind, child.out_channels)
            if gain is not None:
                found[full] = (gain, None)
            elif (gain := _gain(before, child.in_channels)) is not None:
                found[full] = (None, gain)
    return found


def _gain(module: nn.Module | None, channels: int) -> Tensor | None:
    if not isinstance(module, _NORMS):
        return None
    count = module.num_channels if isinstance(module, nn.GroupNorm) else module.num_features
    if count != channels or module.weight is None:
        return None
    gain: Tensor = module.weight.detach()
    variance = getattr(module, "running_var", None)
    return gain if variance is None else gain / torch.sqrt(variance + module.eps)


def _with_gain(weight: Tensor, gain: tuple[Tensor | None, Tensor | None], groups: int) -> Tensor:
    outputs, inputs = gain
    flat = (1,) * (weight.ndim - 2)
    if outputs is not None:
        return weight * outputs.to(weight).reshape(-1, 1, *flat)
    if inputs is not None:
        per_group = inputs.to(weight).reshape(groups, 1, -1)
        rows = per_group.expand(groups, weight.shape[0] // groups, -1).reshape(weight.shape[0], -1)
        return weight * rows.reshape(*weight.shape[:2], *flat)
    return weight


# -- input sizes


def _traced(
    network: nn.Module, modules: Mapping[str, nn.Module], image: Sequence[int]
) -> tuple[dict[str, tuple[int, ...]], tuple[str, ...]]:
    """Input size of each convolution for one image, found with a copy of the network that holds no numbers."""
    import copy

    sizes: dict[str, tuple[int, ...]] = {}
    first = next(iter(modules.values()), None)
    channels: Any = getattr(first, "in_channels", 1)
    try:
        ghost = copy.deepcopy(network).to("meta").eval()
        handles = [
            module.register_forward_pre_hook(_note(name, sizes))
            for name, module in ghost.named_modules()
            if name in modules
        ]
        with torch.no_grad():
            ghost(torch.empty(1, int(channels), *image, device="meta"))
        for handle in handles:
            handle.remove()
    except Exception as error:  # a network of somebody else may want anything as its input
        told = f"The input sizes of the layers could not be traced for an image of {tuple(image)}"
        return sizes, (f"{told} ({type(error).__name__}): the default grid was used.",)
    return sizes, ()


def _note(name: str, sizes: dict[str, tuple[int, ...]]) -> Any:
    def hook(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        sizes[name] = tuple(inputs[0].shape[2:])

    return hook


def blocks(layer: Layer, rows: int) -> Iterator[tuple[slice, NDArray[Any]]]:
    """The kernels of a layer in rows, so many at a time."""
    flat = layer.flat
    for start in range(0, len(flat), rows):
        part = slice(start, min(start + rows, len(flat)))
        yield part, flat[part]
