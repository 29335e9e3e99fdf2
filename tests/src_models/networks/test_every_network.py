"""What every network promises: any size, a description that rebuilds it, weights that can be kept and trained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from src_models.errors import InputError
from src_models.networks.network import Network
from src_models.networks.zoo import NAMES, build, from_config
from tests.src_models.networks.tiny import EVERY, tiny

SIZES = {2: [(37, 41), (1, 1), (64, 50)], 3: [(5, 1, 9), (1, 1, 1), (64, 64, 50)]}


@pytest.fixture(params=EVERY, ids=lambda case: "-".join([case[0], *map(str, case[1].values())]))
def case(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    return request.param


def test_no_name_is_left_out() -> None:
    assert {name for name, _ in EVERY} == set(NAMES)


@pytest.mark.parametrize("ndim", [2, 3])
def test_any_size_in_the_same_size_out(case: tuple[str, dict[str, object]], ndim: int) -> None:
    net = tiny(*case, ndim).eval()
    with torch.no_grad():
        for size in SIZES[ndim]:
            logits = net(torch.randn(1, 1, *size))
            assert logits.shape == (1, 3, *size)
            assert torch.isfinite(logits).all()


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_one_voxel_can_be_trained_on_under_every_norm(
    case: tuple[str, dict[str, object]], ndim: int, norm: str
) -> None:
    """A bottleneck of one voxel has no variance: norms would refuse it in training."""
    name, options = case
    chosen = {"norm": norm} if "norm" in type(tiny(*case, ndim)).Options.model_fields else {}
    net = tiny(name, options | chosen, ndim).train()
    net(torch.randn(1, 1, *(1,) * ndim)).sum().backward()


@pytest.mark.parametrize("ndim", [2, 3])
def test_weights_and_description_make_the_same_network_again(
    case: tuple[str, dict[str, object]], ndim: int, tmp_path: Path
) -> None:
    net = tiny(*case, ndim).eval()
    save_file(net.state_dict(), tmp_path / "net.safetensors")
    again = from_config(json.loads(json.dumps(net.config))).eval()
    again.load_state_dict(load_file(tmp_path / "net.safetensors"))
    image = torch.randn(1, 1, *(20, 33, 17)[:ndim])
    with torch.no_grad():
        assert torch.equal(again(image), net(image))
    assert again.config == net.config


def test_the_same_seed_and_description_start_from_the_same_weights(case: tuple[str, dict[str, object]]) -> None:
    net = tiny(*case, 2)
    torch.manual_seed(0)
    again = from_config(json.loads(json.dumps(net.config))).state_dict()
    assert list(again) == list(net.state_dict())
    assert all(torch.equal(tensor, again[name]) for name, tensor in net.state_dict().items())


def test_every_parameter_takes_part(case: tuple[str, dict[str, object]]) -> None:
    """Parameters that the loss does not reach stop training on several processes."""
    net = tiny(*case, 2).train()
    out = net.forward_full(torch.randn(2, 1, 64, 64))
    (out.logits.square().mean() + sum(part.square().mean() for part in out.aux)).backward()
    assert all(parameter.grad is not None for parameter in net.parameters())


def test_several_channels_and_a_batch(case: tuple[str, dict[str, object]]) -> None:
    """In evaluation the images of a batch do not see each other."""
    name, options = case
    torch.manual_seed(0)
    net: Network = build(name, 3, 2, 2, **options).eval()
    images = torch.randn(2, 3, 40, 33)
    with torch.no_grad():
        together = net(images)
        alone = torch.cat([net(image[None]) for image in images])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-4)


@pytest.mark.parametrize("ndim", [2, 3])
def test_coarser_outputs_are_the_stages_of_the_image(case: tuple[str, dict[str, object]], ndim: int) -> None:
    """Deep supervision compares them with labels halved as often; an odd image must not shift them."""
    net = tiny(*case, ndim).eval()
    size = (37, 41, 26)[:ndim]
    with torch.no_grad():
        out = net.forward_full(torch.randn(1, 1, *size))
    for halvings, part in enumerate(out.aux, start=1):
        assert part.shape == (1, 3, *(-(-n // 2**halvings) for n in size))


def test_a_misspelt_option_is_answered_with_the_nearest(case: tuple[str, dict[str, object]]) -> None:
    option = list(type(tiny(*case, 2)).Options.model_fields)[-1]
    with pytest.raises(InputError, match=f"did you mean {option}"):
        build(case[0], 1, 2, 2, **{option[:-1] + "x": 1})
