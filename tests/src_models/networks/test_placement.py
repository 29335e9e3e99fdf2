"""Where a tensor inside a network lies on its input: a ramp says it, since averages of a ramp are the place itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from src_models.errors import InputError
from src_models.networks.placement import layer_placement
from src_models.networks.zoo import build

SIZE = 64


def averaging(network: nn.Module) -> nn.Module:
    """Every kernel becomes the mean over its inputs and entries, so that a ramp stays one away from the border."""
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.modules.conv._ConvNd):
                weight = module.weight
                # each output voxel of a transposed convolution of stride k sees one entry only
                entries = 1 if module.transposed else weight[0, 0].numel()
                inputs = weight.shape[0 if module.transposed else 1]
                weight.fill_(1 / (inputs * entries))
                if module.bias is not None:
                    module.bias.zero_()
    return network.eval()


def output_of(network, name: str, x: torch.Tensor) -> np.ndarray:
    kept = {}
    handle = dict(network.named_modules())[name].register_forward_hook(lambda _m, _a, y: kept.update(y=y.clone()))
    with torch.no_grad():
        network.compute(x)
    handle.remove()
    return kept["y"][0, 0].numpy()


def measured_places(network, name: str, axis: int, ndim: int = 2) -> np.ndarray:
    """Where the voxels along an axis lie, from a rising and a falling ramp: pools that take the largest cancel."""
    shape = [1] * ndim
    shape[axis] = SIZE
    ramp = torch.arange(SIZE, dtype=torch.float32).reshape(shape).expand((SIZE,) * ndim)
    rising = output_of(network, name, ramp[None, None])
    falling = SIZE - output_of(network, name, SIZE - ramp[None, None])
    middle = tuple(slice(None) if a == axis else n // 2 for a, n in enumerate(rising.shape))
    return (rising[middle] + falling[middle]) / 2


def check(network, name: str, factor: int = 1) -> None:
    """`factor`: voxels that up-sampling gave one value; their mean lies where the rule says."""
    placed = layer_placement(network, name, (SIZE, SIZE)).outside
    for axis in (0, 1):
        found = measured_places(network, name, axis)
        wanted = placed.start[axis] + placed.jump[axis] * np.arange(len(found))
        blocks = [part.reshape(-1, factor).mean(1) for part in (found, wanted)]
        keep = slice(len(blocks[0]) // 3, 2 * len(blocks[0]) // 3 + 1)
        np.testing.assert_allclose(blocks[0][keep], blocks[1][keep], atol=2e-3)


@pytest.mark.parametrize("up", ["transposed", "nearest", "linear"])
@pytest.mark.parametrize("name", ["encoder.0.1.conv", "encoder.1.0.conv", "encoder.2.1.conv", "ups.0.conv"])
def test_pools_and_up_sampling(up: str, name: str) -> None:
    network = averaging(build("unet", 1, 2, 2, base_width=2, depth=2, norm="none", act="relu", up=up))
    check(network, name, factor=2 if up == "transposed" and name.startswith("ups") else 1)


@pytest.mark.parametrize("name", ["encoder.1.0.conv", "encoder.2.0.conv"])
def test_strides(name: str) -> None:
    check(averaging(build("unet", 1, 2, 2, base_width=2, depth=2, norm="none", act="relu", down="strided")), name)


def test_the_decoder_lies_on_its_skips() -> None:
    """Pools halve between voxels and transposed convolutions double between them: the way back leads home."""
    network = averaging(build("unet", 1, 2, 2, base_width=2, depth=2, norm="none", act="relu"))
    last = layer_placement(network, "decoder.1.1.conv", (SIZE, SIZE)).outside
    assert (last.start, last.jump) == ((0.0, 0.0), (1.0, 1.0))
    check(network, "decoder.1.1.conv", factor=4)


def test_a_skip_counts_where_the_deeper_way_lies_elsewhere() -> None:
    """Strided convolutions keep voxel 0 where it is; a transposed one of stride 2 spreads it to both sides of it."""
    network = build("unet", 1, 2, 2, base_width=2, depth=2, down="strided")
    up = layer_placement(network, "ups.0.conv", (SIZE, SIZE)).outside
    assert up.start == (-1.0, -1.0)
    assert layer_placement(network, "decoder.0.0.conv", (SIZE, SIZE)).outside.start == (0.0, 0.0)


def test_three_axes_with_strides_of_their_own() -> None:
    steps = ((1, 1, 1), (1, 2, 2), (2, 2, 2))
    network = build(
        "nnunet", 1, 2, 3, n_stages=3, features_per_stage=(2, 2, 2), strides=steps, kernel_sizes=((3, 3, 3),) * 3
    )
    placed = layer_placement(network, "encoder.stages.2.0.convs.0.conv", (16, 32, 32)).outside
    assert placed.jump == (2.0, 4.0, 4.0)
    assert placed.start == (0.0, 0.0, 0.0)


def test_padding_in_front_and_dilation_are_taken_off() -> None:
    class Padded(nn.Module):
        ndim, stride, in_channels = 2, (1, 1), 1

        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 1, (3, 5), stride=(2, 3), dilation=(3, 1))

        def compute(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(nn.functional.pad(x, (4, 1, 2, 0)))

    network = averaging(Padded())
    placed = layer_placement(network, "conv", (SIZE, SIZE)).outside
    # first output: middle of the kernel, less what was padded in front
    assert placed.start == (3 - 2.0, 2 - 4.0)
    assert placed.jump == (2.0, 3.0)
    check(network, "conv")


def test_the_unpooling_of_segnet_goes_back() -> None:
    network = build("segnet", 1, 2, 2)
    names = [name for name, module in network.named_modules() if isinstance(module, nn.Conv2d)]
    placed = layer_placement(network, names[-1], (64, 64)).outside
    assert (placed.start, placed.jump) == ((0.0, 0.0), (1.0, 1.0))


def test_a_layer_that_is_not_there_is_one_sentence() -> None:
    with pytest.raises(InputError, match="has no layer nothing"):
        layer_placement(build("unet", 1, 2, 2, base_width=2, depth=1), "nothing", (16, 16))
