"""VNet: the paper's stages, and the preset whose weights come from MONAI."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from src_models.errors import InputError
from src_models.networks.network import count_parameters
from src_models.networks.vnet import ResidualStage, weights_from_monai
from src_models.networks.zoo import build, from_config


def disturbed(net: nn.Module, seed: int) -> nn.Module:
    """Statistics and weights of norms other than at the start, as after a training."""
    draw = torch.Generator().manual_seed(seed)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
            for value, low in ((module.weight, 0.5), (module.bias, -0.5), (module.running_var, 0.5)):
                value.data.copy_(low + torch.rand(value.shape, generator=draw))
            module.running_mean.copy_(torch.randn(module.running_mean.shape, generator=draw))
    return net.eval()


@pytest.mark.parametrize(("ndim", "inputs", "size"), [(2, 2, (48, 32)), (3, 1, (16, 32, 16))])
def test_the_preset_is_the_network_of_monai(ndim: int, inputs: int, size: tuple[int, ...]) -> None:
    from monai.networks.nets import VNet

    torch.manual_seed(ndim)
    peer = disturbed(VNet(spatial_dims=ndim, in_channels=inputs, out_channels=3), ndim)
    own = build("vnet", inputs, 3, ndim, preset="monai").eval()
    own.load_state_dict(weights_from_monai(peer.state_dict()))
    image = torch.randn(2, inputs, *size)
    with torch.no_grad():
        expected = peer(image)
        torch.testing.assert_close(own(image), expected, rtol=0, atol=1e-5)
    assert expected.std() > 0.01
    assert count_parameters(own) == count_parameters(peer)


def test_parameters_of_the_preset_and_of_the_paper() -> None:
    with torch.device("meta"):
        assert round(count_parameters(build("vnet", 1, 1, 3, preset="monai")) / 1e6, 1) == 45.6
        paper = build("vnet", 1, 2, 3)
    widths = (16, 32, 64, 128, 256)
    down = sum(n * 125 * w * w for n, w in zip((2, 3, 3, 3), widths[1:], strict=True)) + 125 * 16
    up = sum(n * 125 * w * w for n, w in zip((3, 3, 2, 1), (256, 128, 64, 32), strict=True))
    halving = sum(8 * w * 2 * w for w in widths[:-1])
    doubling = sum(8 * a * b for a, b in zip((256, 256, 128, 64), (128, 64, 32, 16), strict=True))
    convs = [m for m in paper.modules() if isinstance(m, nn.Conv3d | nn.ConvTranspose3d)]
    assert sum(conv.weight.numel() for conv in convs) == down + up + halving + doubling + 32 * 2
    assert 64e6 < count_parameters(paper) < 66e6


def test_what_is_not_a_vnet_of_monai_is_refused() -> None:
    with pytest.raises(InputError, match="encoder"):
        weights_from_monai({"encoder.0.weight": torch.zeros(1)})
    with pytest.raises(InputError, match="act_function"):
        weights_from_monai({"in_tr.act_function.weight": torch.zeros(1)})


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("inputs", [1, 3, 5])
def test_a_stage_whose_convolutions_give_nothing_hands_on_its_input(inputs: int, ndim: int) -> None:
    """The residual sum, with the input's channels repeated in their order."""
    options = build("vnet", inputs, 2, ndim, width=4).options
    stage = ResidualStage(ndim, inputs, 4, 2, options)
    nn.init.zeros_(stage.convs[-1].norm.weight)
    image = torch.randn(1, inputs, *(4,) * ndim).abs()
    with torch.no_grad():
        made = stage(image)
    for channel in range(4):
        torch.testing.assert_close(made[:, channel], image[:, channel % inputs])


def test_a_preset_fills_in_what_is_not_given_and_its_description_is_complete() -> None:
    net = build("vnet", 1, 2, 2, preset="monai", width=2, norm="instance")
    assert net.options.norm == "instance"
    assert net.options.convs_down == (1, 1, 2, 3, 2)
    again = from_config(net.config)
    assert again.config == net.config
    again.load_state_dict(net.state_dict())


def test_numbers_of_stages_must_agree() -> None:
    with pytest.raises(InputError, match="convs_up"):
        build("vnet", 1, 2, 2, convs_up=(1, 1))
