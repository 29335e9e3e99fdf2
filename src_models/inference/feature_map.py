"""What one kernel answers on an image: alone, summed over its inputs, and after the activation; and where that lies.

The network is run up to the layer, once for all of its kernels. An image that does not fit the memory is looked at in
the network's window around one voxel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from src_models.errors import InputError
from src_models.files.gate import shown
from src_models.networks.network import Network, pad_far
from src_models.networks.placement import LayerPlacement, Placement, layer_placement
from src_models.preprocessing.prepare import Way, prepare
from src_models.weights.card import ModelCard

Stage = Literal["kernel", "channel", "active"]
"""The kernel's own response; the output channel before what follows the layer; and after it."""
_BYTES = 4
_SHARE = 4
"""A pass takes about so many times the memory of the largest layer."""
_FOLLOWERS = (
    nn.modules.batchnorm._NormBase,
    nn.GroupNorm,
    nn.ReLU,
    nn.LeakyReLU,
    nn.PReLU,
    nn.ELU,
    nn.GELU,
    nn.SiLU,
    nn.Identity,
    nn.modules.dropout._DropoutNd,
)


@dataclass(frozen=True, eq=False)
class ImageGrid:
    """Where a map lies in the image: voxel k along axis a lies at ``start[a] + step[a] k`` in voxels of the image.

    Attributes
    ----------
    start, step : tuple of float
        Per axis of the image, in its own order.
    """

    start: tuple[float, ...]
    step: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class FeatureMap:
    """A map with its place.

    Attributes
    ----------
    values : ndarray of shape (z, y, x) or (y, x)
        float32, axes in the order of the image.
    grid : ImageGrid
        Where it lies.
    whole : bool
        Whether it covers all of the image, or a window of it.
    """

    values: NDArray[np.float32]
    grid: ImageGrid
    whole: bool


class LayerFeatures:
    """What goes into a layer on an image, and what comes out.

    Parameters
    ----------
    network : Network
        Not changed.
    card : ModelCard
        How the image is prepared.
    name : str
        Of the layer, a convolution.
    image : ndarray of shape (C, z, y, x) or (C, y, x)
        As in the file.
    spacing : sequence of float
        mm per axis.
    unit : str
        Of the spacing, ``"mm"`` or ``"px"``.
    centre : sequence of float, optional
        Voxel of the image around which the window lies where not all of it can be looked at.
    most_bytes : int
        Of memory for a pass over the whole image.

    Raises
    ------
    InputError
        Where the layer cannot be looked at.
    """

    def __init__(
        self,
        network: Network,
        card: ModelCard,
        name: str,
        image: NDArray[Any],
        spacing: Sequence[float],
        *,
        unit: str = "mm",
        centre: Sequence[float] | None = None,
        most_bytes: int = 2**31,
    ) -> None:
        self.name = name
        modules = dict(network.named_modules())
        layer: Any = modules.get(name)
        if not isinstance(layer, nn.modules.conv._ConvNd):
            raise InputError(
                "features-layer", f"{shown(name)} is no convolution of this network", "", "Choose another layer."
            )
        if image.ndim - 1 != network.ndim:
            raise InputError(
                "features-axes",
                f"This network takes {network.ndim}D images",
                f"the image has {image.ndim - 1} axes",
                "Choose the slice on show." if network.ndim == 2 else "Choose a volume.",
            )
        if network.in_channels != len(card.preprocessing.channels):
            raise InputError(
                "features-click",
                "This network takes a click beside the image",
                "what its kernels answer depends on where it begins",
                "Choose a network that takes images alone.",
            )
        self._layer = layer
        ready = prepare(image, spacing, card.preprocessing.for_unit(unit), nan="fill")
        self.way: Way = ready.way
        corner, window = _window(network, card, ready.array, ready.way, centre, most_bytes)
        self.whole = window == ready.array.shape[1:]
        part = ready.array[(slice(None), *(slice(a, a + n) for a, n in zip(corner, window, strict=True)))]
        tensor = torch.from_numpy(np.ascontiguousarray(part))[None]
        padded = pad_far(tensor, [-(-n // s) * s for n, s in zip(window, network.stride, strict=True)])
        self._inside, self._before, self._after = _run_to(network, name, padded)
        self._placement = layer_placement(network, name, tuple(padded.shape[2:]))
        self._corner, self._size = corner, window

    def map_of(self, out: int, inside: int, stage: Stage = "kernel") -> FeatureMap:
        """The map of one kernel.

        Parameters
        ----------
        out, inside : int
            Channels, the input over all groups.
        stage : str
            See `Stage`.
        """
        if stage == "kernel":
            values = kernel_response(self._layer, self._inside, out, inside)
        else:
            values = (self._before if stage == "channel" else self._after)[0, out]
        placed = self._placement.outside
        keep = tuple(
            slice(0, max(1, min(m, int(np.floor((n - 1 - s) / j + 1e-6)) + 1)))
            for m, n, s, j in zip(values.shape, self._size, placed.start, placed.jump, strict=True)
        )
        array = values[keep].to(torch.float32).numpy()
        order = [self.way.axis_order.index(axis) for axis in range(len(self.way.axis_order))]
        return FeatureMap(np.ascontiguousarray(array.transpose(order)), self._grid(placed), self.whole)

    @property
    def placement(self) -> LayerPlacement:
        """Of the layer on the network's input."""
        return self._placement

    def _grid(self, placed: Placement) -> ImageGrid:
        """From the layer's voxels over those of the network's input to those of the image."""
        way = self.way
        start, step = [0.0] * len(way.shape), [1.0] * len(way.shape)
        for k, axis in enumerate(way.axis_order):
            factor = way.cropped[k] / way.resampled[k]
            # voxels are resampled with their edges on each other
            begin = way.box[k].start or 0
            start[axis] = begin + factor * (self._corner[k] + placed.start[k] + 0.5) - 0.5
            step[axis] = factor * placed.jump[k]
        return ImageGrid(tuple(start), tuple(step))


def kernel_response(layer: Any, inside: Tensor, out: int, channel: int) -> Tensor:
    """What one kernel of a layer makes of its input channel, without bias, (*spatial).

    Parameters
    ----------
    layer : Conv2d, Conv3d, ConvTranspose2d or ConvTranspose3d
        With its weights.
    inside : Tensor of shape (1, C, *spatial)
        What goes into it.
    out, channel : int
        Channels, counted over all groups.
    """
    x = inside[:, channel : channel + 1]
    ndim = inside.ndim - 2
    with torch.no_grad():
        if layer.transposed:
            weight = layer.weight[channel : channel + 1, out % (layer.out_channels // layer.groups)][:, None]
            call: Callable[..., Tensor] = functional.conv_transpose2d if ndim == 2 else functional.conv_transpose3d
            found = call(x, weight, None, layer.stride, layer.padding, layer.output_padding, 1, dilation=layer.dilation)
            return found[0, 0]
        per_group = layer.in_channels // layer.groups
        weight = layer.weight[out : out + 1, channel % per_group][:, None]
        padding = layer.padding
        if layer.padding_mode != "zeros":
            widths = [n for p in reversed(padding) for n in (p, p)]
            x, padding = functional.pad(x, widths, mode=layer.padding_mode), 0
        call = functional.conv2d if ndim == 2 else functional.conv3d
        return call(x, weight, None, layer.stride, padding, layer.dilation)[0, 0]


def memory_of(network: Network, shape: Sequence[int]) -> int:
    """About how many bytes a pass over an image of a size takes."""
    from src_models.networks.network import count_parameters

    forecast = network.forecast(tuple(-(-n // s) * s for n, s in zip(shape, network.stride, strict=True)))
    return int(forecast.peak_bytes) + _BYTES * count_parameters(network)


class _Reached(Exception):  # noqa: N818 - not an error: the layer was reached
    """What is wanted is there."""


def _run_to(network: Network, name: str, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Input of a layer, its output, and the output of what directly follows it."""
    follower = _last_follower(network, name)
    kept: dict[str, Tensor] = {}

    def before(_module: nn.Module, args: tuple[Any, ...]) -> None:
        kept["inside"] = args[0].clone()

    def after(_module: nn.Module, _args: tuple[Any, ...], output: Tensor) -> None:
        # the activation may work in place
        kept["before"] = output.clone()
        if follower == name:
            kept["after"] = kept["before"]
            raise _Reached

    def last(_module: nn.Module, _args: tuple[Any, ...], output: Tensor) -> None:
        if "before" in kept:
            kept["after"] = output.clone()
            raise _Reached

    modules = dict(network.named_modules())
    handles = [modules[name].register_forward_pre_hook(before), modules[name].register_forward_hook(after)]
    if follower != name:
        handles.append(modules[follower].register_forward_hook(last))
    training = network.training
    network.eval()
    try:
        with torch.inference_mode():
            network.compute(x)
    except _Reached:
        pass
    finally:
        network.train(training)
        for handle in handles:
            handle.remove()
    if "after" not in kept:
        raise InputError("features-unused", f"The network does not use {shown(name)}", "", "Choose another layer.")
    return kept["inside"], kept["before"], kept["after"]


def _last_follower(network: nn.Module, name: str) -> str:
    """The last of the norms and activations that stand behind a layer in the same container; itself where none does."""
    prefix, _, own = name.rpartition(".")
    parent = network.get_submodule(prefix)
    children = list(parent.named_children())
    place = [child for child, _ in children].index(own)
    found = name
    for child, module in children[place + 1 :]:
        if not isinstance(module, _FOLLOWERS):
            break
        found = f"{prefix}.{child}" if prefix else child
    return found


def _window(
    network: Network,
    card: ModelCard,
    array: NDArray[np.float32],
    way: Way,
    centre: Sequence[float] | None,
    most_bytes: int,
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Corner and size of what is looked at: all of the prepared image, or a window of it."""
    size = array.shape[1:]
    if memory_of(network, size) <= most_bytes:
        return (0,) * len(size), size
    window = tuple(min(n, p) for n, p in zip(size, card.patch, strict=True))
    if memory_of(network, window) > most_bytes:
        raise InputError(
            "features-memory", "There is too little memory for one window of this network", "", "Close other programs."
        )
    middle = []
    for k, axis in enumerate(way.axis_order):
        place = way.shape[axis] / 2 if centre is None else centre[axis]
        middle.append((place - (way.box[k].start or 0)) * way.resampled[k] / way.cropped[k])
    corner = tuple(int(np.clip(round(m - w / 2), 0, n - w)) for m, w, n in zip(middle, window, size, strict=True))
    return corner, window
