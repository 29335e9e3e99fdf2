"""What one kernel does to an image inside its network: its response alone, and the channel that it adds to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from src_models.errors import InputError
from src_models.files.gate import shown
from src_models.kernels.result import Layer

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class FeatureMap:
    """Arrays on the grid of a layer's output, (z, y, x) or (y, x).

    Attributes
    ----------
    response : ndarray
        Of this kernel alone, on its input channel.
    channel : ndarray
        The whole output channel of the layer, bias included, before norm and activation. The responses of the kernels
        with this output sum to it, but for the bias.
    source : ndarray
        The input channel that the kernel sees.
    """

    response: Floats
    channel: Floats
    source: Floats


@torch.no_grad()
def feature_map(network: nn.Module, layer: Layer, row: int, image: Tensor) -> FeatureMap:
    """Run a network on an image and look at one kernel.

    Parameters
    ----------
    network : Module
        That the layer was collected from.
    layer : Layer
        One of its layers.
    row : int
        Of the kernel, within the layer.
    image : Tensor of shape (1, C, z, y, x) or (1, C, y, x)
        As the network takes it.

    Raises
    ------
    InputError
        Where the network has no such layer, or does not use it for this image.
    """
    module = dict(network.named_modules()).get(layer.name)
    seen: list[tuple[Tensor, Tensor]] = []
    if module is None:
        raise InputError("kernels-layer", f"{shown(layer.name)} is not in this network", "", "Give the analysed one.")
    handle = module.register_forward_hook(lambda _, inputs, output: seen.append((inputs[0], output)))
    try:
        network.eval()(image)
    finally:
        handle.remove()
    if not seen:
        raise InputError("kernels-unused", f"The network does not use {shown(layer.name)} here", "", "")
    source, output = seen[-1]
    outs, ins = layer.channels()
    out, inside = int(outs[row]), int(ins[row])
    response = _alone(module, source[:, inside : inside + 1], out, inside, layer)
    arrays = [part.float().cpu().numpy() for part in (response[0, 0], output[0, out], source[0, inside])]
    return FeatureMap(arrays[0], arrays[1], arrays[2])


def _alone(module: Any, source: Tensor, out: int, inside: int, layer: Layer) -> Tensor:
    per_group = layer.in_channels // layer.groups
    options = {"stride": module.stride, "dilation": module.dilation}
    if layer.kind == "transposed":
        turned = functional.conv_transpose2d if layer.ndim == 2 else functional.conv_transpose3d
        weight = module.weight[inside : inside + 1, out % (layer.out_channels // layer.groups)][:, None]
        return turned(source, weight, padding=module.padding, output_padding=module.output_padding, **options)
    weight = module.weight[out : out + 1, inside % per_group][:, None]
    plain = functional.conv2d if layer.ndim == 2 else functional.conv3d
    if module.padding_mode == "zeros":
        return plain(source, weight, padding=module.padding, **options)
    padded = functional.pad(source, module._reversed_padding_repeated_twice, mode=module.padding_mode)
    return plain(padded, weight, **options)
