"""SegNet and DeconvNet: places cross from the way down to the way up, and the layers are those of the definitions."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from src_models.networks.network import count_parameters
from src_models.networks.zoo import build

NETS: list[tuple[str, dict[str, object]]] = [
    ("segnet", {"width": 2}),
    ("segnet", {"preset": "basic", "width": 3}),
    ("deconvnet", {"width": 2, "fc_width": 8}),
]


def weighted(net: nn.Module) -> list[nn.Module]:
    """The convolutions of a network in their order."""
    kinds = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)
    return [module for module in net.modules() if isinstance(module, kinds)]


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize(("name", "options"), NETS)
def test_on_the_way_up_values_stand_where_the_maxima_stood_on_the_way_down(
    name: str, options: dict[str, object], ndim: int
) -> None:
    net = build(name, 1, 2, ndim, **options).eval()
    full: list[torch.Tensor] = []
    unpooled: list[torch.Tensor] = []
    for stage in net.encoder:
        stage.register_forward_hook(lambda _m, _given, made: full.append(made))
    net.unpool.register_forward_hook(lambda _m, _given, made: unpooled.append(made))
    with torch.no_grad():
        net(torch.randn(2, 1, *(37, 41, 33)[:ndim]))
    assert len(full) == len(unpooled)
    pool: Callable[..., torch.Tensor] = nn.functional.max_pool2d if ndim == 2 else nn.functional.max_pool3d
    up: Callable[..., torch.Tensor] = nn.functional.interpolate
    for features, back in zip(full, reversed(unpooled), strict=True):
        assert features.shape == back.shape
        largest = up(pool(features, 2), scale_factor=2, mode="nearest")
        assert not back[features < largest].any()
        assert back.any()


@pytest.mark.parametrize("ndim", [2, 3])
def test_segnet_has_13_and_13_convolutions_and_no_other_layers(ndim: int) -> None:
    with torch.device("meta"):
        net = build("segnet", 3, 11, ndim)
    first = 64 if ndim == 2 else 16
    down = [first * k for k in (1, 1, 2, 2, 4, 4, 4, 8, 8, 8, 8, 8, 8)]
    up = [first * k for k in (8, 8, 8, 8, 8, 4, 4, 4, 2, 2, 1, 1)] + [11]
    convs = weighted(net)
    assert [conv.out_channels for conv in convs] == down + up
    assert {conv.kernel_size for conv in convs} == {(3,) * ndim}
    norms = sum(isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d) for module in net.modules())
    assert norms == 25, "every convolution but the last, which gives the scores"
    weights = sum(3**ndim * a * b + b for a, b in zip([3, *down, *up[:-1]], down + up, strict=True))
    assert count_parameters(net) == weights + 2 * sum(down + up[:-1])


@pytest.mark.parametrize("ndim", [2, 3])
def test_segnet_basic_has_4_levels_of_64_and_kernels_of_7(ndim: int) -> None:
    with torch.device("meta"):
        net = build("segnet", 1, 5, ndim, preset="basic")
    convs = weighted(net)
    assert [(conv.out_channels, conv.kernel_size[0]) for conv in convs] == [(64, 7)] * 8 + [(5, 1)]
    assert net.stride == (16,) * ndim
    assert not any(isinstance(module, nn.ReLU) for module in net.decoder.modules())
    assert count_parameters(net) == 7**ndim * (64 + 7 * 64 * 64) + 8 * 2 * 64 + 64 * 5 + 5


@pytest.mark.parametrize(
    ("ndim", "widths", "fc", "kernel"), [(2, (64, 128, 256, 512, 512), 4096, 7), (3, (16, 32, 64, 128, 128), 512, 3)]
)
def test_deconvnet_mirrors_its_trunk(ndim: int, widths: tuple[int, ...], fc: int, kernel: int) -> None:
    with torch.device("meta"):
        net = build("deconvnet", 3, 21, ndim)
    layers = weighted(net)
    transposed = [layer for layer in layers if isinstance(layer, nn.ConvTranspose2d | nn.ConvTranspose3d)]
    ahead = [layer for layer in layers if layer not in transposed]
    assert [layer.kernel_size[0] for layer in ahead] == [3] * 13 + [kernel, 1, 1]
    assert [layer.kernel_size[0] for layer in transposed] == [kernel] + [3] * 13
    trunk, mirror = ahead[:13], transposed[1:]
    # the mirror image of the trunk, but that its last layer keeps the channels for the 1-wide scores
    expected = [(layer.out_channels, layer.in_channels) for layer in reversed(trunk)]
    expected[-1] = (widths[0], widths[0])
    assert [(layer.in_channels, layer.out_channels) for layer in mirror] == expected
    assert (transposed[0].in_channels, transposed[0].out_channels) == (fc, widths[-1])
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d)]
    assert len(norms) == 13 + 2 + 1 + 13
