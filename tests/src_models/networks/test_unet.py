"""UNet: the paper's exact counts, and the same numbers as MONAI's for the same weights."""

from __future__ import annotations

from itertools import pairwise
from math import prod

import pytest
import torch
from torch import nn

from src_models.errors import InputError
from src_models.networks.network import count_parameters
from src_models.networks.zoo import build

KERNELS = [16, 256, 256, 256, 256, 256, 512, 1024, 2048, 4096, 2048, 1024, 768, 256, 512, 256, 512, 256]
"""Of the paper's 18 convolutions."""


def from_monai(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights of MONAI's BasicUNet under our names."""
    levels = {"conv_0": "encoder.0", **{f"down_{k}.convs": f"encoder.{k}" for k in range(1, 5)}}
    levels |= {f"upcat_{k}.convs": f"decoder.{4 - k}" for k in range(1, 5)}
    ups = {f"upcat_{k}.upsample.deconv": f"ups.{4 - k}.conv" for k in range(1, 5)}
    renamed = {}
    for name, tensor in state.items():
        stem, last = name.rsplit(".", 1)
        if stem == "final_conv":
            renamed[f"head.{last}"] = tensor
        elif stem in ups:
            renamed[f"{ups[stem]}.{last}"] = tensor
        else:
            level, rest = stem.rsplit(".conv_", 1)
            place, part = rest.split(".", 1)
            renamed[f"{levels[level]}.{place}.{'conv' if part == 'conv' else 'norm'}.{last}"] = tensor
    return renamed


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_the_general_unet_is_the_network_of_monai(ndim: int, norm: str) -> None:
    from monai.networks.nets import BasicUNet

    torch.manual_seed(0)
    peer = BasicUNet(
        spatial_dims=ndim,
        in_channels=2,
        out_channels=3,
        features=(4, 4, 8, 16, 32, 4),
        act=("LeakyReLU", {"negative_slope": 0.01}),
        norm=(norm, {"affine": True}),
    ).eval()
    for name, value in peer.named_parameters():
        nn.init.normal_(value, mean=1.0 if value.ndim == 1 and "N.weight" in name else 0.0, std=0.3)
    own = build("unet", 2, 3, ndim, widths=(4, 4, 8, 16, 32), norm=norm).eval()
    own.load_state_dict(from_monai(peer.state_dict()))
    image = torch.randn(2, 2, *(32, 48, 32)[:ndim])
    with torch.no_grad():
        expected = peer(image)
        torch.testing.assert_close(own(image), expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
    assert expected.std() > 0.1


def test_the_paper_reads_14608_kernels_in_this_order() -> None:
    net = build("unet-paper", 1, 1, 2)
    convs = [module for module in net.convs.modules() if isinstance(module, nn.Conv2d)]
    assert [conv.weight.shape[0] * conv.weight.shape[1] for conv in convs] == KERNELS
    assert sum(KERNELS) == 14_608
    assert all(conv.weight.shape[2:] == (3, 3) for conv in convs)
    assert count_parameters(net) == 131_938
    assert net.head.weight.shape == (1, 17, 1, 1)


def test_the_paper_in_three_dimensions_has_the_same_kernels_27_wide() -> None:
    net = build("unet-paper", 1, 1, 3)
    assert count_parameters(net) == 131_938 + 18 * 14_608


def test_the_order_of_the_paper_is_the_order_of_computation() -> None:
    """Each convolution runs at the size the paper gives, one after the other."""
    net = build("unet-paper", 1, 1, 2).eval()
    sizes: list[int] = []
    for step in net.convs:
        step[2].register_forward_hook(lambda _, inputs, __: sizes.append(inputs[0].shape[-1]))
    with torch.no_grad():
        net(torch.zeros(1, 1, 64, 64))
    assert sizes == [64, 64, 32, 32, 16, 16, 8, 8, 4, 4, 4, 4, 8, 8, 16, 16, 32, 32]


def test_the_paper_joins_the_image_itself_first() -> None:
    """With a head that looks at its first channel alone, the logits are the image."""
    net = build("unet-paper", 1, 1, 2).eval()
    nn.init.zeros_(net.head.weight)
    net.head.weight.data[0, 0] = 1
    image = torch.randn(1, 1, 33, 40)
    with torch.no_grad():
        torch.testing.assert_close(net(image), image)


def test_batch_norm_of_the_paper_stands_before_each_convolution() -> None:
    net = build("unet-paper", 1, 1, 2, bn_first=True)
    for step in net.convs:
        assert isinstance(step[0], nn.BatchNorm2d)
        assert step[0].num_features == step[2].in_channels


def test_dropout_of_the_paper_is_on_the_ten_of_the_bottom_and_the_way_up() -> None:
    net = build("unet-paper", 1, 1, 2, dropout=0.5)
    assert [isinstance(step[1], nn.Dropout2d) for step in net.convs] == [False] * 8 + [True] * 10


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("up", ["transposed", "linear", "nearest"])
@pytest.mark.parametrize("skip", ["concat", "add"])
def test_parameters_follow_from_the_options(ndim: int, up: str, skip: str) -> None:
    widths, classes, convs = (3, 5, 7), 2, 2
    net = build("unet", 1, classes, ndim, depth=2, widths=widths, up=up, skip=skip, norm="none", deep_supervision=True)
    kernel = 3**ndim
    down = sum(b * a * kernel + b + b * b * kernel + b for a, b in pairwise((1, *widths)))
    joined = 2 if skip == "concat" else 1
    decoder = sum(w * joined * w * kernel + w + w * w * kernel + w for w in widths[:-1])
    wide = 2**ndim if up == "transposed" else 1
    rising = sum(coarse * fine * wide + fine for fine, coarse in pairwise(widths))
    heads = classes * (widths[0] + 1) + classes * (widths[1] + 1)
    assert convs == net.options.convs_per_level
    assert count_parameters(net) == down + decoder + rising + heads


def test_the_order_of_1_wide_convolution_and_interpolation_does_not_matter() -> None:
    """The reason why `Up` convolves at the coarse size."""
    from src_models.networks.blocks import Up, interpolate

    torch.manual_seed(0)
    up = Up(3, 4, 2, 2, "linear")
    x = torch.randn(1, 4, 3, 4, 5)
    with torch.no_grad():
        torch.testing.assert_close(up(x), up.conv(interpolate(x, 2, "linear")))


def test_interpolation_keeps_a_ramp() -> None:
    """Half-pixel centres: fine voxel j lies at (j + 1/2) / 2 - 1/2; at the ends the value is held."""
    from src_models.networks.blocks import interpolate

    ramp = torch.arange(6.0).reshape(1, 1, 6, 1).expand(1, 1, 6, 3)
    fine = interpolate(ramp, 2, "linear")[0, 0, :, 0]
    torch.testing.assert_close(fine, ((torch.arange(12) + 0.5) / 2 - 0.5).clip(0, 5))


def test_widths_that_do_not_fit_the_depth_are_refused() -> None:
    with pytest.raises(InputError, match="depth 3 takes 4 widths"):
        build("unet", 1, 2, 2, depth=3, widths=(4, 8))


def test_a_network_has_at_most_its_cap_of_features() -> None:
    net = build("unet", 1, 2, 2, depth=4, base_width=8, max_width=20)
    assert [prod(level[0].conv.weight.shape[:1]) for level in net.encoder] == [8, 16, 20, 20, 20]
