"""Chance from the network before training: an untrained network is itself chance, a changed one is not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from src_models.errors import InputError
from src_models.kernels import KernelAnalysisParameters, KernelReport, analyse, shares
from src_models.kernels.collect import collect_module
from src_models.kernels.dictionary import dictionary
from src_models.kernels.initial import MOST_BUILDS, initial_kernels
from src_models.kernels.null import measure
from src_models.kernels.page import page
from src_models.networks.lsn import LevelSetNetwork, LSNOptions
from src_models.networks.zoo import build
from src_models.progress import finish
from tests.src_models.kernels.networks import small

CHOSEN = KernelAnalysisParameters(n=16, null="init", null_draws=600, cluster_draws=0, threads=1)


def _unet(ndim: int = 2, seed: int = 5, **options: Any) -> Any:
    torch.manual_seed(seed)
    return build("unet", 1, 2, ndim, depth=1, base_width=8, **options)


def _analysed(network: nn.Module, **changes: Any) -> KernelReport:
    return finish(analyse(network, CHOSEN.model_copy(update=changes)))


@pytest.mark.parametrize("ndim", [2, 3])
def test_kernels_before_training_have_the_law_of_the_network_and_come_from_the_seed_alone(ndim: int) -> None:
    network = _unet(ndim)
    layers = collect_module(network).layers
    torch.manual_seed(77)
    expected = torch.rand(3)
    torch.manual_seed(77)
    made = initial_kernels(network, layers, 600, 0)
    assert torch.equal(torch.rand(3), expected), "torch's own random numbers go on as if nothing had happened"
    for layer in layers:
        flat = made[layer.name]
        assert len(flat) == min(600, MOST_BUILDS * layer.count)
        # He's law: the variance is that of the layer itself, whatever its number of inputs
        assert flat.std() == pytest.approx(layer.flat.std(), rel=0.35 if layer.count < 20 else 0.1)
        assert not np.isin(flat[:, 0], layer.flat[:, 0]).any(), "not the kernels of this network"
    again, other = initial_kernels(network, layers, 600, 0), initial_kernels(network, layers, 600, 1)
    assert all(np.array_equal(made[name], again[name]) for name in made)
    assert not any(np.array_equal(made[name], other[name]) for name in made)


def test_an_untrained_network_is_chance_and_a_smoothed_one_is_not() -> None:
    network = _unet()
    report = _analysed(network)
    p = report.table.numbers("p_any")
    assert 0.4 < float(np.mean(p)) < 0.6
    for each in report.layers:
        for share in each.labels:
            assert share.null_total == min(600, MOST_BUILDS * each.layer.count)
            assert share.low <= 1 <= share.high or share.p > 0.001
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim == 4 and parameter.shape[-1] == 3:
                parameter.copy_(parameter.abs())
    smoothed = _analysed(network)
    for each in smoothed.layers:
        found = {share.name: share for share in each.pde_classes}
        assert found["averaging"].low > 1
    assert "the same network before its training" in page(report, {})
    again = _analysed(network)
    assert again.record.result["table_hash"] == smoothed.record.result["table_hash"]


def test_a_level_set_network_begins_with_stencils_and_zeros_are_left_out() -> None:
    options = LSNOptions(steps=(1,), start="ones", head="sigmoid", noise=0.0)
    report = _analysed(LevelSetNetwork(1, 1, 2, options), preset="extended")
    for each in report.layers:
        found = {share.name: share for share in each.labels}
        assert found["first difference"].null_share == 1
    assert any("kernels that are not zero" in note for note in report.notes)


def test_without_a_single_kernel_there_is_no_chance_and_no_error() -> None:
    """A layer that begins with zeros."""
    known = dictionary("paper-6", (3, 3))
    nothing = measure(np.zeros((0, 9)), (3, 3), (16, 16), known, 0.05, 1)
    counts = nothing.label_counts(0.1)
    assert counts.sum() == 0
    (one, *_) = shares.shares(("a", *known.labels), [3, *(1 for _ in known.labels)], counts.tolist())
    assert np.isnan(one.null_share)
    assert one.p == 1
    p_class, p_any = nothing.p_values(np.zeros(2, np.int16), np.array([0.1, np.nan], np.float32))
    assert p_class[0] == p_any[0] == 1
    assert np.isnan(p_any[1])


def test_what_cannot_be_built_again_is_told() -> None:
    with pytest.raises(InputError, match="cannot be built again"):
        _analysed(small())
    with pytest.raises(InputError, match="tensors without a network"):
        finish(analyse(small().state_dict(), CHOSEN))
    network = _unet()
    network.encoder = small()
    with pytest.raises(InputError, match="not in the network as it is built anew"):
        _analysed(network)
