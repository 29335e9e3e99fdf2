"""FCN: enlargement begins as linear interpolation, skips begin silent, and each net may begin from the coarser one."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from src_models.errors import InputError
from src_models.networks.fcn import FCN, LinearUp
from src_models.networks.network import count_parameters
from src_models.networks.zoo import build, from_config

TINY = {"width": 2, "fc_width": 8}
NAMES = ("fcn32s", "fcn16s", "fcn8s")


def tiny(name: str, ndim: int = 2, seed: int = 0, **options: object) -> FCN:
    torch.manual_seed(seed)
    net = build(name, 1, 3, ndim, **(TINY | options)).eval()
    assert isinstance(net, FCN)
    return net


@pytest.mark.parametrize("factor", [2, 8, 16, 32])
@pytest.mark.parametrize("ndim", [2, 3])
def test_enlarging_a_ramp_is_linear_interpolation_away_from_the_border(ndim: int, factor: int) -> None:
    size = (5, 4, 4)[:ndim] if factor < 32 else (4, 3, 3)[:ndim]
    ramp = sum(
        (axis + 1) * torch.arange(float(n)).reshape(-1, *(1,) * (ndim - 1 - axis)) for axis, n in enumerate(size)
    )
    assert isinstance(ramp, torch.Tensor)
    scores = torch.stack((ramp, 3 - 2 * ramp))[None]
    with torch.no_grad():
        enlarged = LinearUp(ndim, 2, factor)(scores)
    mode = "bilinear" if ndim == 2 else "trilinear"
    expected = functional.interpolate(scores, scale_factor=factor, mode=mode, align_corners=False)
    inner = (..., *(slice(factor, -factor),) * ndim)
    assert enlarged.shape == expected.shape
    torch.testing.assert_close(enlarged[inner], expected[inner], rtol=0, atol=1e-4)
    # and it is the plane itself: value of a voxel whose centre lies at (i + 1/2) / f - 1/2
    places = (torch.arange(n * factor) + 0.5 for n in size)
    planes = [(axis + 1) * (p / factor - 0.5) for axis, p in enumerate(places)]
    plane = sum(p.reshape(-1, *(1,) * (ndim - 1 - axis)) for axis, p in enumerate(planes))
    torch.testing.assert_close(enlarged[0, 0][inner[1:]], plane[inner[1:]], rtol=0, atol=1e-4)


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("name", ["fcn16s", "fcn8s"])
def test_a_fresh_skip_is_ignored_and_a_learned_one_is_not(name: str, ndim: int) -> None:
    net, coarse = tiny(name, ndim), tiny("fcn32s", ndim, seed=1)
    net.init_from(coarse)
    image = torch.randn(1, 1, *(64,) * ndim, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        scores = coarse_scores(coarse, image)
        for factor in (*(2,) * net.options.skips, 32 >> net.options.skips):
            scores = LinearUp(ndim, 3, factor)(scores)
        torch.testing.assert_close(net(image), scores)
        for skip in [getattr(net, f"score_pool{4 - k}") for k in range(net.options.skips)]:
            skip.weight.fill_(1.0)
            assert (net(image) - scores).abs().max() > 0.1
            skip.weight.fill_(0.0)


def coarse_scores(net: FCN, image: torch.Tensor) -> torch.Tensor:
    """What the layer `score` gives, at 1/32 of the image's size."""
    kept: list[torch.Tensor] = []
    hook = net.score.register_forward_hook(lambda _module, _given, made: kept.append(made))
    net(image)
    hook.remove()
    return kept[0]


@pytest.mark.parametrize(("name", "coarser"), [("fcn16s", "fcn32s"), ("fcn8s", "fcn16s"), ("fcn8s", "fcn32s")])
def test_a_net_begins_from_the_coarser_one(name: str, coarser: str) -> None:
    net, trained = tiny(name), tiny(coarser, seed=1)
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter.add_(0.01)
    fresh_up = net.up.conv.weight.clone()
    net.init_from(trained)
    own, given = net.state_dict(), trained.state_dict()
    assert all(torch.equal(own[key], given[key]) for key in given if key != "up.conv.weight")
    assert torch.equal(net.up.conv.weight, fresh_up)
    assert len({value.data_ptr() for value in [*own.values(), *given.values()]}) == len(own) + len(given)


def test_only_a_coarser_net_of_the_same_widths_can_be_begun_from() -> None:
    with pytest.raises(InputError, match="FCN-32s"):
        tiny("fcn16s").init_from(tiny("fcn8s"))
    with pytest.raises(InputError, match="widths"):
        tiny("fcn16s").init_from(tiny("fcn32s", width=3))


@pytest.mark.parametrize("name", NAMES)
def test_the_name_stands_for_the_number_of_skips(name: str) -> None:
    net = tiny(name)
    assert net.name == name
    assert 2 ** (5 - net.options.skips) == int(name[3:-1])
    assert from_config(net.config).name == name


def vgg_parameters(ndim: int, inputs: int, widths: tuple[int, ...]) -> int:
    """Weights and biases of 2 + 2 + 3 + 3 + 3 convolutions 3 wide."""
    total = 0
    for width, convs in zip(widths, (2, 2, 3, 3, 3), strict=True):
        for _ in range(convs):
            total += 3**ndim * inputs * width + width
            inputs = width
    return total


@pytest.mark.parametrize(
    ("ndim", "widths", "fc", "kernel"), [(2, (64, 128, 256, 512, 512), 4096, 7), (3, (16, 32, 64, 128, 128), 512, 3)]
)
def test_parameters_are_those_of_the_definition(ndim: int, widths: tuple[int, ...], fc: int, kernel: int) -> None:
    classes, factors = 21, (2, 2, 8)
    trunk = vgg_parameters(ndim, 3, widths)
    if ndim == 2:
        assert trunk == 14_714_688  # as published for VGG-16 without its head
    middle = kernel**ndim * widths[-1] * fc + fc + fc * fc + fc
    scores = (fc + 1 + widths[3] + 1 + widths[2] + 1) * classes
    up = sum((2 * factor) ** ndim * classes for factor in factors)
    with torch.device("meta"):
        net = build("fcn8s", 3, classes, ndim, norm="none")
    assert count_parameters(net) == trunk + middle + scores + up


def test_dropout_is_for_training_alone() -> None:
    net = tiny("fcn32s", fc_width=64)
    image = torch.randn(1, 1, 64, 64)
    with torch.no_grad():
        assert torch.equal(net(image), net(image))
        net.train()
        assert not torch.equal(net(image), net(image))
    assert math.isclose(net.fc[1].p, 0.5)
