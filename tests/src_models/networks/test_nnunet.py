"""nnU-Net's networks: the published names, and the outputs of nnU-Net's own classes for the same weights."""

from __future__ import annotations

import json
from math import prod
from typing import Any

import pytest
import torch

from src_models.errors import InputError
from src_models.networks.network import Network, count_parameters
from src_models.networks.zoo import build, from_config
from tests.peers.make_nnunet_networks import EVERY, TARGET, drop_copies, fixed

ANSWERS: dict[str, dict[str, Any]] = json.loads(TARGET.read_text())["cases"]


def network(case: dict[str, Any]) -> Network:
    return (
        build("nnunet-residual" if case["residual"] else "nnunet", 2, 3, len(case["size"]), **case["arch"])
        .double()
        .eval()
    )


@pytest.fixture(params=ANSWERS)
def case(request: pytest.FixtureRequest) -> dict[str, Any]:
    return ANSWERS[request.param]


def test_names_order_and_shapes_are_the_published_ones(case: dict[str, Any]) -> None:
    """T1, T5: nothing is missing, nothing left over, once the copies are dropped."""
    state = network(case).state_dict()
    assert list(state) == drop_copies(case["all_names"]) == list(case["kept"])
    assert [list(tensor.shape) for tensor in state.values()] == list(case["kept"].values())


def test_four_stages_of_the_original_have_188_names_for_68_tensors() -> None:
    case = ANSWERS["plain 2D"]
    assert (len(case["all_names"]), len(network(case).state_dict())) == (188, 68)


def test_outputs_equal_those_of_the_original(case: dict[str, Any]) -> None:
    net = network(case)
    net.load_state_dict({name: fixed(name, tuple(tensor.shape)) for name, tensor in net.state_dict().items()})
    with torch.no_grad():
        out = net.forward_full(fixed("image", (1, 2, *case["size"])))
    outputs = (out.logits, *out.aux)
    assert len(outputs) == len(case["outputs"])
    for own, theirs in zip(outputs, case["outputs"], strict=True):
        expected = torch.tensor(theirs, dtype=torch.float64)
        assert expected.std() > 0.1
        torch.testing.assert_close(own.flatten()[::EVERY], expected, rtol=0, atol=1e-6)


def test_the_plan_s_numbers_survive_as_json(case: dict[str, Any]) -> None:
    net = network(case)
    again = from_config(json.loads(json.dumps(net.config)))
    assert (again.config, again.stride) == (net.config, net.stride)
    assert again.stride == tuple(prod(step) for step in zip(*case["arch"]["strides"], strict=True))


def test_the_shortcut_is_skip_1_after_a_pool_and_skip_0_without() -> None:
    names = set(network(ANSWERS["residual 3D, wider without a stride"]).state_dict())
    assert "encoder.stages.1.blocks.0.skip.1.conv.weight" in names  # strides, and the channels change
    assert "encoder.stages.2.blocks.0.skip.0.conv.weight" in names  # the channels change
    assert not any(name.startswith("encoder.stages.3.blocks.0.skip") for name in names)  # strides only


def test_the_reference_network_has_its_published_size() -> None:
    with torch.device("meta"):
        plain = build("nnunet", 1, 2, 3)
        flat = build("nnunet", 1, 2, 2, n_stages=8)
        residual = build("nnunet-residual", 1, 2, 3)
    assert round(count_parameters(plain) / 1e6, 1) == 31.2
    assert plain.stride == (32, 32, 32)
    assert max(flat.features) == 512
    assert [len(stage.blocks) for stage in residual.encoder.stages] == [1, 3, 4, 6, 6, 6]


def test_a_fresh_residual_block_hands_on_its_input() -> None:
    torch.manual_seed(0)
    block = network(ANSWERS["residual 2D"]).encoder.stages[1].blocks[1]
    x = torch.randn(1, 6, 8, 8, dtype=torch.float64).abs()
    torch.testing.assert_close(block(x), x)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"features_per_stage": [4, 8], "strides": [1, 2, 2]}, "strides has 3 numbers, 2 stages take 2"),
        ({"features_per_stage": [4, 8], "strides": [2, 2]}, "the first stage has stride 1"),
        ({"features_per_stage": [4, 8], "kernel_sizes": [3, [2, 3, 3]]}, "kernels are odd"),
        ({"features_per_stage": [4, 0]}, "at least 1"),
        ({"features_per_stage": [4, 8], "strides": [1, [2, 2]]}, "3 axes"),
    ],
)
def test_numbers_that_make_no_network_are_refused(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        build("nnunet", 1, 2, 3, **wrong)
