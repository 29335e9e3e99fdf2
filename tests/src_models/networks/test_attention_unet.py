"""Attention UNet: each map is what the gate's formula says, on the grid of the next coarser level."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import nn
from torch.nn import functional

from src_models.networks.attention_unet import AttentionUNet, GridGate
from src_models.networks.network import count_parameters
from src_models.networks.zoo import build


def tiny(ndim: int, **options: object) -> AttentionUNet:
    torch.manual_seed(ndim)
    net = build("attention-unet", 1, 2, ndim, base_width=3, **options).eval()
    assert isinstance(net, AttentionUNet)
    return net


def read_gate(gate: GridGate, skip: torch.Tensor, signal: torch.Tensor) -> np.ndarray:
    """alpha = sigmoid(psi . ReLU(W_x x + W_g g + b) + c), voxel by voxel of the coarse grid with numpy."""
    x, g = skip[0].double().numpy(), signal[0].double().numpy()
    of_skip, of_gate, to_map = (
        layer.weight.detach().double().numpy() for layer in (gate.of_skip, gate.of_gate, gate.to_map)
    )
    offset = gate.of_gate.bias.detach().double().numpy()
    alpha = np.empty(g.shape[1:])
    for place in np.ndindex(*alpha.shape):
        block = x[(slice(None), *(slice(2 * i, 2 * i + 2) for i in place))]
        total = np.tensordot(of_skip, block, block.ndim)
        total += of_gate.reshape(len(of_gate), -1) @ g[(slice(None), *place)] + offset
        score = to_map.reshape(-1) @ np.maximum(total, 0) + gate.to_map.bias.item()
        alpha[place] = 1 / (1 + np.exp(-score))
    return alpha


@pytest.mark.parametrize(("ndim", "size"), [(2, (37, 41)), (3, (16, 20, 33))])
def test_the_maps_are_those_of_the_formula(ndim: int, size: tuple[int, ...]) -> None:
    net = tiny(ndim)
    given: dict[str, tuple[torch.Tensor, ...]] = {}
    passed: dict[str, torch.Tensor] = {}
    for level, gate in net.gates.items():
        gate.register_forward_pre_hook(lambda _m, pair, level=level: given.update({level: pair}))
        gate.register_forward_hook(lambda _m, _g, made, level=level: passed.update({level: made[0]}))
    with torch.no_grad():
        out = net.forward_full(torch.randn(1, 1, *size))
    assert list(out.attention) == [1, 2, 3]
    for level, attention in out.attention.items():
        stride = net.attention_strides[level]
        assert stride == 2 ** (level + 1)
        assert attention.shape == (1, 1, *(-(-n // stride) for n in size))
        gate, (skip, signal) = net.gates[str(level)], given[str(level)]
        alpha = read_gate(gate, skip, signal)
        kept = alpha[tuple(slice(0, n) for n in attention.shape[2:])]
        np.testing.assert_allclose(attention[0, 0].numpy(), kept, rtol=0, atol=1e-5)
        assert np.ptp(kept) > 0.01
        # what goes on: the skip times the map enlarged linearly with half-pixel centres, then 1-wide and norm
        fine = [(np.arange(n) + 0.5) / 2 - 0.5 for n in skip.shape[2:]]
        enlarged = ndimage.map_coordinates(alpha, np.meshgrid(*fine, indexing="ij"), order=1, mode="nearest")
        with torch.no_grad():
            expected = gate.out(skip * torch.from_numpy(enlarged).float())
        torch.testing.assert_close(passed[str(level)], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("ndim", [2, 3])
def test_gates_without_weights_are_half_open_everywhere(ndim: int) -> None:
    net = tiny(ndim)
    for parameter in net.gates.parameters():
        nn.init.zeros_(parameter)
    image = torch.randn(1, 1, *(32, 33, 17)[:ndim])
    with torch.no_grad():
        for attention in net.forward_full(image).attention.values():
            assert torch.equal(attention, torch.full_like(attention, 0.5))
        for gate in net.gates.values():
            nn.init.constant_(gate.to_map.bias, -2.0)
        for attention in net.forward_full(image).attention.values():
            torch.testing.assert_close(attention, torch.full_like(attention, 1 / (1 + np.exp(2.0))))


def test_the_finest_skip_has_no_gate_and_a_closed_gate_stops_its_level() -> None:
    net = tiny(2)
    assert set(net.gates) == {"1", "2", "3"}
    skip, signal = torch.randn(1, 3 * 2, 8, 8), torch.randn(1, 3 * 4, 4, 4)
    gate = net.gates["1"]
    with torch.no_grad():
        gate.to_map.bias.fill_(-200.0)
        passed, attention = gate(skip, signal)
        assert not attention.any()
        torch.testing.assert_close(passed, gate.out(torch.zeros_like(skip)))


@pytest.mark.parametrize("ndim", [2, 3])
def test_parameters_are_those_of_the_definition(ndim: int) -> None:
    with torch.device("meta"):
        net = build("attention-unet", 1, 2, ndim)
    widths, k = (16, 32, 64, 128, 256), 3**ndim

    def two(inputs: int, width: int) -> int:
        return k * (inputs + width) * width + 2 * 3 * width  # biases, factors and offsets of the norms

    encoder = sum(two(a, b) for a, b in zip((1, *widths), widths, strict=False))
    decoder = sum(two(a + b, a) for a, b in pairwise(widths))
    gates = sum(2**ndim * a * a + (b + 1) * a + (a + 1) + (a + 1) * a + 2 * a for a, b in pairwise(widths[1:]))
    assert count_parameters(net) == encoder + decoder + gates + 17 * 2
    if ndim == 3:
        # the UNet of the paper's comparison has 5.88 million
        weights = sum(
            m.weight.numel() for part in (net.encoder, net.decoder) for m in part.modules() if isinstance(m, nn.Conv3d)
        )
        assert round(weights / 1e6, 2) == 5.88


def test_scores_of_the_coarser_stages_for_deep_supervision() -> None:
    net = tiny(2, deep_supervision=True)
    with torch.no_grad():
        out = net.forward_full(torch.randn(1, 1, 37, 41))
    assert [tuple(part.shape) for part in out.aux] == [(1, 2, 19, 21), (1, 2, 10, 11), (1, 2, 5, 6)]
    assert not tiny(2).forward_full(torch.randn(1, 1, 32, 32)).aux
    assert functional.relu(out.logits).shape == (1, 2, 37, 41)
