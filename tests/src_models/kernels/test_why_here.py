"""Why a voxel is decided as it is: increments sum to what happened, effects are derivatives, and the place is right."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from src_models.errors import InputError
from src_models.inference.whole_image import predict_logits
from src_models.kernels.why_here import first_order, increments_of_network, increments_of_solver, why_here
from src_models.levelset import evolve
from src_models.levelset.parameters import paper_preset
from src_models.networks.lsn import LevelSetNetwork
from src_models.networks.zoo import build
from src_models.preprocessing.parameters import Channel, Preprocessing
from src_models.preprocessing.prepare import prepare
from src_models.progress import finish
from src_models.weights.card import Label, ModelCard
from tests.scenes import ball
from tests.src_models.kernels.networks import seeded

GRADIENTS = ["central", "godunov", "osher_sethian", "none"]
LABELS = (Label(name="background", value=0, channel=0), Label(name="part", value=1, channel=1))


def random_lsn(ndim: int, **options: Any) -> LevelSetNetwork:
    """A level set network with random kernels, in double precision, with all three terms at work."""
    torch.manual_seed(1)
    network = build("lsn", 1, 2, ndim, first_kernels="noise", **options)
    assert isinstance(network, LevelSetNetwork)
    return network.double()


def image_of(ndim: int) -> torch.Tensor:
    shape = (16, 20) if ndim == 2 else (8, 12, 16)
    return torch.randn(1, 1, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("options", [{"steps": 5}, {"steps": (3, 2, 0), "shared": False}, {"steps": (2, 0, 3)}])
def test_the_increments_of_a_network_sum_to_what_happened(gradient: str, ndim: int, options: dict[str, Any]) -> None:
    network = random_lsn(ndim, gradient=gradient, spacing=(2.0, 1.0, 0.7)[-ndim:], **options)
    x = image_of(ndim)
    with torch.no_grad():
        last = list(network.evolve(x))[-1]
    for place in ((0,) * ndim, (5, 11, 3)[:ndim], tuple(n - 1 for n in x.shape[2:])):
        found = increments_of_network(network, x, place)
        assert found.end == float(last[(0, 0, *place)])
        assert found.start + found.sum == pytest.approx(found.end, abs=1e-12 * max(1, abs(found.end)))
        parts = sum(pair.value for pair in found.pairs)
        assert parts == pytest.approx(found.curvature, abs=1e-12 * max(1, abs(found.curvature)))
        # in a corner the upwind side may lie outside, and at a peak no upwind norm is felt
        assert sum(abs(part) > 0 for part in (found.balloon, found.curvature, found.convection)) >= 2
    assert len(found.pairs) == 2 * ndim * len([s for level in network.levels for s in level.steps])


def test_a_pair_whose_kernel_is_nothing_gives_nothing_and_is_named_right() -> None:
    network = random_lsn(2, steps=3)
    step = network.levels[0].steps[0]
    with torch.no_grad():
        step.sigma.weight[0, 2] = 0
    found = increments_of_network(network, image_of(2), (5, 6))
    assert [pair.value == 0 for pair in found.pairs] == [False, False, True, False]
    pair = found.pairs[2]
    assert pair.sigma == ("levels.0.steps.0.sigma", 0, 2)
    assert pair.rho == ("levels.0.steps.0.rho", 2, 0)
    modules = dict(network.named_modules())
    assert float(modules[pair.sigma[0]].weight[pair.sigma[1], pair.sigma[2]].detach().abs().max()) == 0


def test_each_state_has_increments_and_kernels_of_its_own() -> None:
    torch.manual_seed(3)
    network = build("lsn", 1, 3, 2, steps=2, first_kernels="noise", start="stem").double()
    x = image_of(2)
    with torch.no_grad():
        last = list(network.evolve(x))[-1]
    for state in (0, 1):
        found = increments_of_network(network, x, (7, 9), state)
        assert found.end == float(last[0, state, 7, 9])
        assert found.start + found.sum == pytest.approx(found.end, abs=1e-12)
        assert sum(pair.value for pair in found.pairs) == pytest.approx(found.curvature, abs=1e-12)
    assert found.pairs[1].rho == ("levels.0.steps.0.rho", 5, 1)
    assert increments_of_network(network, x, (7, 9)).state == int(last[0, :, 7, 9].argmax())


@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize(("shape", "spacing"), [((19, 22), (1.5, 0.7)), ((9, 12, 14), (3.0, 1.0, 0.7))])
def test_network_and_solver_tell_the_same(gradient: Any, shape: tuple[int, ...], spacing: tuple[float, ...]) -> None:
    """Two independent sums of one equation; the network is begun with finite differences."""
    p = paper_preset(gradient, time_step=0.02, balloon=0.8, curvature=0.3, convection=1.5)
    p = p.model_copy(update={"steps": 12, "dtype": "float64", "time": None, "auto_stop": False, "guard": False})
    start = ball(shape, spacing, 3.0)
    image = np.random.default_rng(0).normal(size=shape)
    result = finish(evolve(image, start, spacing, p, contributions=True))
    network = LevelSetNetwork.from_parameters(p, len(shape), spacing, 12, dtype=torch.float64)
    x = torch.from_numpy(np.stack((image, start)))[None]
    for place in ((6, 9, 4)[: len(shape)], (2, 2, 2)[: len(shape)]):
        ours, solver = increments_of_network(network, x, place), increments_of_solver(result, place)
        assert solver.start == pytest.approx(float(start[place]), abs=1e-12)
        for name in ("start", "balloon", "curvature", "convection", "end"):
            assert getattr(ours, name) == pytest.approx(getattr(solver, name), abs=1e-12)
    with pytest.raises(InputError, match="kept no contributions"):
        increments_of_solver(
            finish(evolve(image, start, spacing, p.model_copy(update={"engine": "reference"}))), (1,) * len(shape)
        )


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("up", ["transposed", "linear"])
def test_the_effect_of_a_kernel_is_the_derivative_by_its_strength(ndim: int, up: str) -> None:
    """Against central differences: K is made 1 +- h times as strong. Plain, strided and transposed convolutions."""
    torch.manual_seed(4)
    network = build("unet", 1, 3, ndim, base_width=2, depth=1, up=up).double().eval()
    x, place = image_of(ndim), (5, 6, 7)[:ndim]
    found = first_order(network, x, place)
    with torch.no_grad():
        logits = network(x)[(0, slice(None), *place)]
    assert found.channel == 1 + int(logits[1:].argmax())
    assert found.logit == pytest.approx(float(logits[found.channel] - logits[found.rival]), abs=1e-12)
    step, checked = 1e-5, 0
    for name, module in network.named_modules():
        if not isinstance(module, nn.modules.conv._ConvNd):
            continue
        effects = found.effects[name]
        out, inside = effects.shape
        for a, b in ((0, 0), (out - 1, inside - 1)):
            kernel = module.weight[b, a] if module.transposed else module.weight[a, b]
            kept, values = kernel.detach().clone(), []
            for sign in (1, -1):
                with torch.no_grad():
                    kernel.copy_(kept * (1 + sign * step))
                    z = network(x)[(0, slice(None), *place)]
                    kernel.copy_(kept)
                values.append(float(z[found.channel] - z[found.rival]))
            assert effects[a, b] == pytest.approx((values[0] - values[1]) / (2 * step), abs=1e-7, rel=1e-5)
            checked += 1
    assert checked >= 10


def test_grouped_transposed_kernels_stand_where_the_table_has_them() -> None:
    from src_models.kernels.collect import collect_module

    network = seeded(nn.Sequential(nn.ConvTranspose2d(4, 6, 3, padding=1, groups=2, bias=False))).double()
    x = torch.randn(1, 4, 7, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = first_order(network, x, (3, 4), 4)
    layer = collect_module(network).layers[0]
    outs, ins = layer.channels()
    # the response of a kernel of the table at that voxel is its part of the logit; as a convolution it correlates
    logits = network(x)[0, :, 3, 4].detach()
    rival = found.rival
    wanted = [
        float((torch.from_numpy(kernel).reshape(3, 3) * x[0, i, 2:5, 3:6]).sum()) * ((o == 4) - (o == rival))
        for kernel, o, i in zip(layer.flat, outs.tolist(), ins.tolist(), strict=True)
    ]
    np.testing.assert_allclose(found.effects["0"].ravel(), wanted, atol=1e-12)
    assert sum(wanted) == pytest.approx(float(logits[4] - logits[rival]), abs=1e-12)


def test_in_a_linear_network_the_effects_sum_to_the_logit_without_the_bias() -> None:
    network = seeded(nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.Conv2d(3, 2, 3, padding=1))).double()
    x, place = image_of(2), (4, 4)
    found = first_order(network, x, place, 1)
    with torch.no_grad():
        zero = network(torch.zeros_like(x))[0, :, 4, 4]
        no_bias = found.logit - float(zero[1] - zero[0])
        own = float(network[1].bias[1] - network[1].bias[0])
    assert found.effects["0"].sum() == pytest.approx(no_bias, abs=1e-10)
    assert found.effects["1"].sum() == pytest.approx(found.logit - own, abs=1e-10)


def card_of(network: Any, patch: tuple[int, ...], **preprocessing: Any) -> ModelCard:
    plain = {"channels": (Channel(normalisation="nonorm"),), "crop_to_nonzero": False}
    return ModelCard(
        name="tiny",
        network=network.config,
        ndim=network.ndim,
        patch=patch,
        labels=LABELS,
        preprocessing=Preprocessing(**(plain | preprocessing)),
    )


def test_on_an_image_it_is_the_logit_of_the_prediction_there() -> None:
    torch.manual_seed(5)
    network = build("unet", 1, 2, 2, base_width=2, depth=1, norm="none").eval()
    image = np.random.default_rng(3).normal(size=(1, 40, 50)).astype(np.float32)
    with torch.no_grad():
        logits = network(torch.from_numpy(image)[None])[0]
    lead = (logits[1] - logits[0]).numpy()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    for place in ((20, 25), (0, 49), (39, 0)):
        found = why_here(network, card_of(network, (24, 24)), image, (1.0, 1.0), place)
        assert not found.whole
        assert found.logit == pytest.approx(float(lead[place]), abs=1e-5)
        assert (found.label, found.rival) == ("part", "background")
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    # what is resampled to twice as many voxels and cropped: the middle of the voxel that is asked for
    wide = np.zeros((1, 20, 30), np.float32)
    wide[0, 6:16, 4:24] = np.random.default_rng(4).uniform(1, 2, (10, 20))
    card = card_of(network, (64, 64), crop_to_nonzero=True, spacing=(0.5, 1.0))
    found = why_here(network, card, wide, (1.0, 1.0), (8, 10))
    assert found.whole
    array = prepare(wide, (1.0, 1.0), card.preprocessing).array
    assert array.shape == (1, 20, 20)
    z = predict_logits(network, array, (64, 64), torch.device("cpu"))[:, 4, 6]
    assert found.logit == pytest.approx(float(z[1] - z[0]), abs=1e-5)
    with pytest.raises(InputError, match="no image at this place"):
        why_here(network, card, wide, (1.0, 1.0), (2, 2))
    with pytest.raises(InputError, match="takes 2D images"):
        why_here(network, card, wide[None], (1.0, 1.0, 1.0), (2, 2, 2))


def test_a_level_set_network_on_an_image_tells_increments_of_what_it_predicts() -> None:
    network = random_lsn(2, steps=(2, 2), temperature=3.0, learn_temperature=True).float().eval()
    image = np.random.default_rng(3).normal(size=(1, 20, 24)).astype(np.float32)
    with torch.no_grad():
        logits = network(torch.from_numpy(image)[None])[0]
    found = why_here(network, card_of(network, (64, 64)), image, (1.0, 1.0), (11, 13))
    # of its other kernels the first order is told: here those of the stem and of the edges
    assert {"start.layers.0", "levels.0.edge.kernels"} <= set(found.first_order.effects)
    assert found.first_order.logit == pytest.approx(found.logit, rel=1e-4, abs=1e-4)
    assert found.logit == pytest.approx(float(logits[1, 11, 13]), rel=1e-4, abs=1e-4)
    assert found.increments.start + found.increments.sum == pytest.approx(found.increments.end, abs=1e-12)
