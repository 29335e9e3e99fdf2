"""One kernel's answer on an image: what it is, and on which voxels it lies."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate

from src_models.errors import InputError
from src_models.inference.feature_map import LayerFeatures, kernel_response
from src_models.networks.zoo import build
from src_models.preprocessing.parameters import Channel, Preprocessing
from src_models.weights.card import Label, ModelCard

PLAIN = Preprocessing(channels=(Channel(normalisation="nonorm"),), crop_to_nonzero=False)


def network_and_card(ndim: int = 2, preprocessing: Preprocessing = PLAIN, patch: int = 16, **options):
    torch.manual_seed(3)
    network = build("unet", 1, 2, ndim, base_width=2, depth=2, norm="none", **options).eval()
    labels = (Label(name="background", value=0, channel=0), Label(name="part", value=1, channel=1))
    card = ModelCard(
        name="tiny",
        network=network.config,
        ndim=ndim,
        patch=(patch,) * ndim,
        labels=labels,
        preprocessing=preprocessing,
    )
    return network, card


def test_the_first_layer_is_a_correlation_with_the_kernel() -> None:
    network, card = network_and_card()
    image = np.random.default_rng(0).normal(size=(1, 21, 30)).astype(np.float32)
    made = LayerFeatures(network, card, "encoder.0.0.conv", image, (1.0, 1.0)).map_of(1, 0)
    kernel = network.encoder[0][0].conv.weight[1, 0].detach().numpy()
    # the network repeats the border to a multiple of its stride at the far end, zeros lie around that
    wanted = correlate(image[0], kernel, mode="constant")
    np.testing.assert_allclose(made.values[:-1, :-1], wanted[:-1, :-1], atol=1e-5)
    assert made.values.shape == (21, 30)
    assert (made.grid.start, made.grid.step, made.whole) == ((0.0, 0.0), (1.0, 1.0), True)


def test_the_kernels_of_a_channel_add_up_to_it() -> None:
    network, card = network_and_card()
    image = np.random.default_rng(1).normal(size=(1, 24, 24)).astype(np.float32)
    features = LayerFeatures(network, card, "encoder.1.0.conv", image, (1.0, 1.0))
    layer = network.encoder[1][0].conv
    total = sum(features.map_of(2, j).values for j in range(layer.in_channels)) + layer.bias[2].item()
    channel = features.map_of(2, 0, "channel").values
    np.testing.assert_allclose(total, channel, atol=1e-5)
    np.testing.assert_allclose(
        features.map_of(2, 0, "active").values, np.where(channel > 0, channel, 0.01 * channel), atol=1e-6
    )


@pytest.mark.parametrize("kind", ["conv", "grouped", "transposed", "transposed grouped", "reflect"])
def test_one_kernel_is_the_layer_with_all_others_zero(kind: str) -> None:
    torch.manual_seed(0)
    layer = {
        "conv": torch.nn.Conv2d(4, 6, 3, stride=2, padding=1, dilation=2),
        "grouped": torch.nn.Conv2d(4, 6, 3, padding=1, groups=2),
        "transposed": torch.nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1),
        "transposed grouped": torch.nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2),
        "reflect": torch.nn.Conv2d(4, 6, (3, 5), padding=(1, 2), padding_mode="reflect"),
    }[kind]
    x = torch.randn(1, 4, 9, 11)
    with torch.no_grad():
        layer.bias.zero_()
        whole = layer(x)[0]
    per_group = 4 // layer.groups
    for out in range(6):
        group = out // (6 // layer.groups)
        parts = [kernel_response(layer, x, out, group * per_group + j) for j in range(per_group)]
        torch.testing.assert_close(sum(parts), whole[out])


def middle_of(values: np.ndarray, grid) -> np.ndarray:
    """Centre of gravity of a map, in voxels of the image."""
    weight = np.abs(values.astype(np.float64))
    places = np.indices(values.shape).reshape(values.ndim, -1)
    centre = places @ weight.ravel() / weight.sum()
    return np.array(grid.start) + np.array(grid.step) * centre


def smooth(network) -> None:
    """All weights positive and symmetric: the answer to one voxel is a heap about it."""
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.modules.conv._ConvNd):
                module.weight.fill_(0.1)
                module.bias.zero_()


@pytest.mark.parametrize("options", [{}, {"down": "strided"}, {"up": "nearest"}, {"up": "linear"}])
@pytest.mark.parametrize("name", ["encoder.0.1.conv", "encoder.1.0.conv", "encoder.2.1.conv", "decoder.1.0.conv"])
def test_a_bright_voxel_is_seen_where_it_is(options: dict, name: str) -> None:
    """A single voxel falls on one phase of a coarse grid; over all phases the heaps lie on the voxel."""
    if options.get("down") and name.startswith("decoder"):
        pytest.skip("the deeper way through strides lies elsewhere than the skip, which counts")
    network, card = network_and_card(**options)
    smooth(network)
    apart = []
    for dy in range(4):
        for dx in range(4):
            image = np.zeros((1, 64, 64), np.float32)
            place = np.array([30 + dy, 26 + dx])
            image[0, place[0], place[1]] = 1.0
            made = LayerFeatures(network, card, name, image, (1.0, 1.0)).map_of(0, 0, "channel")
            apart.append(middle_of(made.values, made.grid) - place)
    np.testing.assert_allclose(np.mean(apart, axis=0), 0, atol=0.02)


def test_an_image_of_other_voxels_is_resampled_and_the_map_knows() -> None:
    """4 x 2 mm voxels for a network of 2 mm ones, axes exchanged on the way."""
    card_of = Preprocessing(
        channels=(Channel(normalisation="nonorm"),), crop_to_nonzero=True, spacing=(2.0, 2.0), axis_order=(1, 0)
    )
    network, card = network_and_card(preprocessing=card_of)
    smooth(network)
    image = np.zeros((1, 40, 50), np.float32)
    image[0, 6:30, 9:44] = 0.01
    image[0, 17:19, 29:31] = 1.0
    made = LayerFeatures(network, card, "encoder.1.0.conv", image, (4.0, 2.0)).map_of(0, 0, "channel")
    assert made.grid.step == (1.0, 2.0)
    peak = np.array(np.unravel_index(np.argmax(made.values), made.values.shape))
    found = np.array(made.grid.start) + np.array(made.grid.step) * peak
    assert np.abs(found - (17.5, 29.5)).max() <= 1.5
    # cropped to the nonzero part: nothing lies before it
    assert made.grid.start[0] >= 5.5
    assert made.grid.start[1] >= 8.5


def test_too_large_an_image_is_looked_at_around_a_voxel() -> None:
    from src_models.inference.feature_map import memory_of

    network, card = network_and_card()
    image = np.random.default_rng(0).normal(size=(1, 128, 128)).astype(np.float32)
    least = memory_of(network, (16, 16)) + 1
    made = LayerFeatures(
        network, card, "encoder.0.0.conv", image, (1.0, 1.0), centre=(100.0, 40.0), most_bytes=least
    ).map_of(0, 0)
    assert (made.whole, made.values.shape) == (False, (16, 16))
    assert made.grid.start == (92.0, 32.0)
    whole = LayerFeatures(network, card, "encoder.0.0.conv", image, (1.0, 1.0)).map_of(0, 0)
    np.testing.assert_allclose(made.values[1:-1, 1:-1], whole.values[93:107, 33:47], atol=1e-5)
    with pytest.raises(InputError, match="too little memory"):
        LayerFeatures(network, card, "encoder.0.0.conv", image, (1.0, 1.0), most_bytes=10)


def test_the_network_stays_as_it_was() -> None:
    network, card = network_and_card()
    network.train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    LayerFeatures(network, card, "encoder.1.0.conv", np.ones((1, 16, 16), np.float32), (1.0, 1.0)).map_of(0, 0)
    assert network.training
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


def test_what_cannot_be_looked_at_is_one_sentence() -> None:
    network, card = network_and_card()
    image = np.ones((1, 16, 16), np.float32)
    with pytest.raises(InputError, match="is no convolution of this network"):
        LayerFeatures(network, card, "encoder.0.0.act", image, (1.0, 1.0))
    with pytest.raises(InputError, match="takes 2D images"):
        LayerFeatures(network, card, "encoder.0.0.conv", image[None], (1.0, 1.0, 1.0))
