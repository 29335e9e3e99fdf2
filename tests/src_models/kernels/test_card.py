"""One kernel: its card, and what it does to an image inside its network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from src_models.errors import InputError
from src_models.kernels.card import card
from src_models.kernels.collect import collect_module
from src_models.kernels.dictionary import dictionary
from src_models.kernels.feature_map import feature_map
from tests.src_models.kernels.networks import seeded

KNOWN = dictionary("paper-11", (3, 3))


def test_the_card_of_a_shifted_average() -> None:
    kernel = np.zeros((3, 3))
    kernel[1] = (0.1, 0.5, 0.4)
    found = card(2 * kernel, KNOWN, spacing=(1.0, 0.5))
    assert found.pde_class == "averaging"
    assert (found.order_p, found.order_r) == (0, 1)
    assert found.update is not None
    assert found.update.velocity == pytest.approx([0, -0.3 * 0.5])
    assert found.update.eigenvalues == pytest.approx([0.41 / 2 * 0.25, 0])
    assert found.update.axes[0] == pytest.approx([0, 1])
    assert found.generator.gain == pytest.approx(2)
    assert found.generator.velocity == pytest.approx([0, -0.3])
    assert found.energy.sum() == pytest.approx(1)
    assert found.dc == pytest.approx(1)


def test_the_card_of_an_edge_names_it_with_its_direction() -> None:
    edge = KNOWN.features[3].kernel
    found = card(-edge, KNOWN)
    assert found.update is None
    assert found.nearest[0][0] == "edge"
    assert found.nearest[0][1] < 1e-5
    assert found.templates[0][1] == pytest.approx(-1)
    assert found.pde_class == "advection, central"
    assert card(np.zeros((3, 3)), KNOWN).templates == ()


@pytest.mark.parametrize(
    "module",
    [
        nn.Conv2d(4, 6, 3, padding=1, groups=2),
        nn.Conv2d(4, 6, 3, stride=2, padding=1, padding_mode="replicate"),
        nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2),
        nn.Conv3d(4, 2, (1, 3, 3), padding=(0, 1, 1)),
    ],
)
def test_the_responses_of_an_outputs_kernels_sum_to_its_channel(module: nn.Module) -> None:
    network = seeded(nn.Sequential(nn.ReLU(), module, nn.Tanh())).double()
    (layer,) = collect_module(network).layers
    shape = (1, 4, 6, 7) if layer.ndim == 2 else (1, 4, 5, 6, 7)
    image = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    outs, _ = layer.channels()
    found = [feature_map(network, layer, int(row), image) for row in np.flatnonzero(outs == 1)]
    total = np.sum([one.response for one in found], axis=0) + float(module.bias.detach()[1])  # type: ignore[operator, union-attr]
    assert np.abs(total - found[0].channel).max() < 1e-5
    with pytest.raises(InputError, match="is not in this network"):
        feature_map(nn.Sequential(nn.ReLU()), layer, 0, image)
