"""Receptive fields beside the support of the gradient, and the paper's figures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from src_models.errors import InputError
from src_models.networks.network import NetOutput, Network
from src_models.networks.receptive_field import effective_receptive_field, receptive_field
from src_models.networks.zoo import build
from tests.src_models.networks.tiny import EVERY, tiny


class Averaging(TorchFunctionMode):
    """Reads max pools as averages and norms as nothing, so that positive weights let every path through."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if "max_pool" in name:
            pool = functional.avg_pool2d if args[0].ndim == 4 else functional.avg_pool3d
            values = pool(args[0], args[1])
            if not (kwargs or {}).get("return_indices"):
                return values
            return values, torch.zeros_like(values, dtype=torch.long)
        if name in ("instance_norm", "batch_norm"):
            return args[0]
        return func(*args, **(kwargs or {}))


class WholeWindow(TorchFunctionMode):
    """Unpooling read as spreading over the whole window, wherever the maximum stood."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") == "scatter":
            return args[3].expand(args[0].shape)
        return func(*args, **(kwargs or {}))


def positive(net: Network) -> Network:
    """Every weight positive, scaled so that values neither vanish nor overflow."""
    net = net.double().eval()
    for parameter in net.parameters():
        fan = max(parameter[0].numel(), 1)
        nn.init.constant_(parameter, 1.0 / fan if parameter.ndim > 1 else 0.5)
    return net


def support(net: Network, size: tuple[int, ...], place: tuple[int, ...]) -> list[tuple[int, int]]:
    """Per axis the reach of the gradient of one logit towards lower and higher indices."""
    x = torch.ones(1, net.in_channels, *size, dtype=torch.float64, requires_grad=True)
    with Averaging(), WholeWindow():
        value = net.compute(x).logits[(slice(None), slice(None), *place)].sum()
    (gradient,) = torch.autograd.grad(value, x)
    touched = (gradient[0] != 0).any(0)
    reach = []
    for axis, p in enumerate(place):
        others = tuple(d for d in range(touched.ndim) if d != axis)
        along = torch.nonzero(touched.amax(others) if others else touched).flatten()
        reach.append((p - int(along.min()), int(along.max()) - p))
    return reach


@pytest.mark.parametrize("case", EVERY, ids=lambda case: "-".join([case[0], *map(str, case[1].values())]))
def test_the_field_is_the_support_of_the_gradient(case: tuple[str, dict[str, Any]]) -> None:
    """Along one axis, at three places of the stride grid; the other axis is thin."""
    net = positive(tiny(*case, 2))
    field = receptive_field(net)
    stride = net.stride[1]
    reach = max(field.reach[1]) + 1
    half = -(-reach // stride) * stride
    size = (net.stride[0] * 2, 2 * half + stride)
    for phase in {0, stride // 3, stride - 1}:
        _, (before, after) = support(net, size, (net.stride[0], half + phase))
        assert (before, after) == (field.before[1][phase], field.after[1][phase])


def test_the_paper_sees_252_or_268_pixels_and_137_to_one_side() -> None:
    field = build("unet-paper", 1, 1, 2).receptive_field()
    assert field.size == (268, 268)
    assert set(field.sizes[0]) == {252, 268}
    assert len(field.sizes[0]) == 16
    assert max(max(pair) for pair in field.reach) == 137


def test_axes_that_are_not_pooled_reach_less() -> None:
    options = {"features_per_stage": [2, 2, 2], "kernel_sizes": [[1, 3, 3], 3, 3], "strides": [1, [1, 2, 2], 2]}
    field = build("nnunet", 1, 2, 3, **options).receptive_field()
    assert field.size[0] < field.size[1] == field.size[2]
    assert [len(sizes) for sizes in field.sizes] == [2, 4, 4]


class Steps(nn.Module):
    """Layers in a row, as small as a closed form."""

    ndim, in_channels, stride = 2, 1, (1, 1)

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def compute(self, x: Tensor) -> NetOutput:
        return NetOutput(self.layers(x))


@pytest.mark.parametrize("padding", ["zeros", "replicate"])
def test_two_convolutions_see_the_sum_of_their_widths(padding: str) -> None:
    """3 + 3 - 1 voxels; with 5 weights two voxels apart, 3 + 9 - 1."""
    first = nn.Conv2d(1, 2, 3, padding=1, padding_mode=padding)
    second = nn.Conv2d(2, 1, (3, 5), padding=(1, 4), dilation=(1, 2), padding_mode=padding)
    field = receptive_field(Steps(first, nn.ReLU(), second))
    assert field.size == (5, 11)
    assert field.reach == ((2, 2), (5, 5))


def test_what_is_padded_and_cut_again_does_not_move() -> None:
    class Cut(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return functional.pad(x, (3, 1, 2, 0))[:, :, 2:, 3:-1]

    assert receptive_field(Steps(Cut(), nn.Conv2d(1, 1, 3, padding=1))).reach == ((1, 1), (1, 1))


def test_a_network_that_looks_at_everything_or_does_the_unknown_says_so() -> None:
    with pytest.raises(InputError, match="whole image"):
        receptive_field(Steps(Everywhere()))
    with pytest.raises(InputError, match="it uses flip"):
        receptive_field(Steps(Flip()))


class Everywhere(nn.Module):
    """Takes the mean out."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x - x.mean((2, 3), keepdim=True)


class Flip(nn.Module):
    """Turns the image around."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x.flip(2)


def test_weights_and_mode_stay_as_they_are() -> None:
    net = tiny("unet", {"base_width": 2, "depth": 2}, 2).train()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    net.receptive_field()
    effective_receptive_field(net, (16, 16), samples=1)
    assert net.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


class Box(nn.Module):
    """One convolution of equal weights."""

    in_channels = 1

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, width, padding=width // 2)
        nn.init.ones_(self.conv.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


@pytest.mark.parametrize(("share", "side"), [(0.95, 9), (0.6, 7), (0.3, 5), (0.01, 1)])
def test_the_effective_field_of_a_box_is_its_share(share: float, side: int) -> None:
    """Of 9 x 9 equal gradients the centred boxes hold 1, 9, 25, 49, 81 parts of 81."""
    assert effective_receptive_field(Box(9), (33, 33), share=share, samples=2) == side


def test_the_effective_field_is_smaller_than_the_exact_one() -> None:
    torch.manual_seed(0)
    net = build("unet-paper", 1, 1, 2)
    image = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 96, 96))).float()
    assert 1 < effective_receptive_field(net, (), image) < 252
    noise = [effective_receptive_field(net, (48, 48), samples=2, seed=seed) for seed in (1, 1)]
    assert noise[0] == noise[1]
