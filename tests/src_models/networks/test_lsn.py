"""The level set network begun with finite differences is the solver, and has the solver's symmetries."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from src_models.errors import InputError
from src_models.levelset import evolve
from src_models.levelset.equation import Speeds, explicit_step
from src_models.levelset.parameters import LevelSetParameters, paper_preset
from src_models.levelset.speed import edge_indicator
from src_models.levelset.stencils import around, central
from src_models.networks.lsn import STILL, LevelSetNetwork
from src_models.networks.lsn_start import Range
from src_models.networks.lsn_terms import StepWeights, stable_time_step
from src_models.networks.zoo import build
from tests.scenes import INSIDE, OUTSIDE, ball

GRADIENTS = ["central", "godunov", "osher_sethian", "none"]
GRIDS = [
    pytest.param((23, 26), (1.0, 1.0), id="2d"),
    pytest.param((23, 26), (1.5, 0.7), id="2d-anisotropic"),
    pytest.param((9, 12, 14), (1.0, 1.0, 1.0), id="3d"),
    pytest.param((9, 12, 14), (3.0, 1.0, 0.7), id="3d-anisotropic"),
]


def scene(shape: tuple[int, ...], spacing: tuple[float, ...]) -> tuple[Tensor, Tensor]:
    """A noisy bright ball in [0, 1] and a smaller ball's signed distance, in double precision."""
    extent = min((n - 1) * h for n, h in zip(shape, spacing, strict=True))
    noise = np.random.default_rng(0).normal(0, 0.05, shape)
    body = 1 / (1 + np.exp(-ball(shape, spacing, 0.35 * extent)))
    image = (OUTSIDE + (INSIDE - OUTSIDE) * body) / 255 + noise
    return torch.from_numpy(image), torch.from_numpy(ball(shape, spacing, 0.15 * extent))


def solved(
    image: Tensor, u: Tensor, spacing: tuple[float, ...], parameters: LevelSetParameters, steps: int
) -> Iterator[Tensor]:
    """The definition, step by step."""
    g = torch.from_numpy(edge_indicator(image.numpy(), spacing, parameters))
    n = around(g, spacing)
    speeds = Speeds(g, g, tuple(central(n, axis) for axis in range(g.ndim)))
    for _ in range(steps):
        u = explicit_step(u, spacing, speeds, float(parameters.time_step), parameters, band_width_mm=None)
        yield u


def solver_network(parameters: LevelSetParameters, spacing: tuple[float, ...], steps: Any, **more: Any) -> Any:
    return LevelSetNetwork.from_parameters(parameters, len(spacing), spacing, steps, **more)


@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize(("shape", "spacing"), GRIDS)
@pytest.mark.parametrize("spare", [0, 2])
def test_begun_with_differences_it_is_the_solver(
    shape: tuple[int, ...], spacing: tuple[float, ...], gradient: Any, spare: int
) -> None:
    """Every one of 50 steps, in double and in single precision."""
    parameters = paper_preset(gradient, time_step=0.02, balloon=0.8, curvature=0.3, convection=1.5)
    image, start = scene(shape, spacing)
    x = torch.stack((image, start))[None]
    expected = list(solved(image, start, spacing, parameters, 50))
    for dtype, first, last in ((torch.float64, 1e-12, 1e-10), (torch.float32, 1e-6, 1e-4)):
        network = solver_network(parameters, spacing, 50, kernels=len(shape) + spare, dtype=dtype)
        with torch.no_grad():
            _, *found = network.evolve(x)
            logits = network(x)
        errors = [float((a[0, 0] - b).abs().max()) / float(b.abs().max()) for a, b in zip(found, expected, strict=True)]
        assert errors[0] <= first
        assert max(errors) <= last
        assert torch.equal(logits, found[-1])
    assert float((expected[-1] - start).abs().max()) > 0.1


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_it_is_a_run_of_the_solver_from_image_and_start(gradient: Any) -> None:
    """`evolve` under the same parameters: its own edge image, its own start, state by state."""
    spacing = (1.5, 0.7)
    parameters = paper_preset(gradient, time_step=0.02, steps=12, engine="reference", dtype="float64")
    image, start = scene((23, 26), spacing)
    states = [state.level_set.copy() for state in evolve(image.numpy(), start.numpy(), spacing, parameters)]
    network = solver_network(parameters, spacing, 12, dtype=torch.float64)
    x = torch.stack((image, torch.from_numpy(states[0])))[None]
    with torch.no_grad():
        found = [u[0, 0].numpy() for u in network.evolve(x)]
    assert len(found) == len(states)
    assert max(np.abs(a - b).max() for a, b in zip(found, states, strict=True)) <= 1e-10


def learned(ndim: int = 2, states: int = 1, **options: Any) -> LevelSetNetwork:
    """Kernels and weights well away from finite differences, in double precision; the same every time."""
    torch.manual_seed(3)
    chosen: dict[str, Any] = {"head": "sigmoid", "start": "seed", "steps": 5, "kernels": ndim + 1, "noise": 0.5}
    network = build("lsn", 2, states, ndim, **(chosen | options)).double()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith(("rho.weight", "sigma.weight")) or "edge" in name:
                parameter += 0.1 * torch.randn_like(parameter)
    assert isinstance(network, LevelSetNetwork)
    return network.eval()


def pair(shape: tuple[int, ...], spacing: tuple[float, ...]) -> Tensor:
    """Image and start of a scene as an input."""
    return torch.stack(scene(shape, spacing))[None]


def transformed_kernels(network: LevelSetNetwork, change: Any) -> LevelSetNetwork:
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "weight" in name:
                parameter.copy_(change(parameter).clone())
    return network


CHANGES: list[Any] = [
    pytest.param(lambda t: t.flip(-1), id="reflection"),
    pytest.param(lambda t: t.flip(-2), id="other reflection"),
    pytest.param(lambda t: t.transpose(-1, -2), id="transposition"),
    pytest.param(lambda t: t.rot90(1, (-2, -1)), id="rotation by 90 degrees"),
]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("shape", [(21, 21), (8, 11, 11)])
def test_a_turned_image_and_turned_kernels_give_the_turned_result(
    shape: tuple[int, ...], gradient: Any, change: Any
) -> None:
    """With learned kernels these turn too; with finite differences the image alone suffices."""
    x = pair(shape, (1.0,) * len(shape))
    with torch.no_grad():
        expected = change(learned(len(shape), gradient=gradient)(x))
        found = transformed_kernels(learned(len(shape), gradient=gradient), change)(change(x))
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
        solver = solver_network(paper_preset(gradient), (1.0,) * len(shape), 5, dtype=torch.float64)
        torch.testing.assert_close(solver(change(x)), change(solver(x)), rtol=0, atol=1e-10)


def test_axes_of_a_volume_may_be_exchanged() -> None:
    x = pair((7, 9, 11), (1.0, 1.0, 1.0))
    solver = solver_network(paper_preset("godunov"), (1.0, 1.0, 1.0), 4, dtype=torch.float64)
    order = (0, 1, 4, 2, 3)
    with torch.no_grad():
        torch.testing.assert_close(solver(x.permute(order)), solver(x).permute(order), rtol=0, atol=1e-10)


def test_spacing_goes_with_its_axis() -> None:
    x = pair((15, 19), (1.5, 0.7))
    with torch.no_grad():
        upright = solver_network(paper_preset("osher_sethian"), (1.5, 0.7), 5, dtype=torch.float64)(x)
        lying = solver_network(paper_preset("osher_sethian"), (0.7, 1.5), 5, dtype=torch.float64)(x.mT)
    torch.testing.assert_close(lying.mT, upright, rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    "options",
    [
        {"start": "seed"},
        {"start": "threshold"},
        {"start": "stem", "stem_layers": 2},
        {"steps": [2, 2], "start": "stem", "stem_layers": 2},
        {"steps": 2, "edge": "unet", "edge_depth": 1, "edge_width": 3},
    ],
    ids=str,
)
def test_a_shifted_image_gives_the_shifted_result(options: dict[str, Any]) -> None:
    """By whole blocks of the stride, beyond the reach from where the borders differ: nothing knows a position."""
    network = learned(**options)
    x = torch.randn(1, 2, 96, 64, dtype=torch.float64)
    shift = 4 * network.stride[0]
    reach = max(max(side) for side in network.receptive_field().reach)
    with torch.no_grad():
        whole, part = network(x), network(x[:, :, shift:])
    assert reach < 40
    torch.testing.assert_close(part[:, :, reach:], whole[:, :, shift + reach :], rtol=0, atol=1e-9)


@pytest.mark.parametrize("options", [{}, {"start": "stem"}, {"start": "threshold", "steps": [3, 2]}], ids=str)
def test_a_batch_of_two_is_two_batches_of_one(options: dict[str, Any]) -> None:
    """Bit for bit: no sum, mean or maximum crosses the batch."""
    network = learned(states=2, **options)
    x = torch.randn(2, 2, 20, 24, dtype=torch.float64)
    with torch.no_grad():
        together = network(x)
        alone = torch.cat([network(one[None]) for one in x])
    assert torch.equal(together, alone)


@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize(("shape", "spacing"), GRIDS)
def test_a_constant_image_and_level_set_stay_as_they_are(
    shape: tuple[int, ...], spacing: tuple[float, ...], gradient: Any
) -> None:
    """Zero padding would make an edge of the border; the slides' balloon lifts u by dt alpha a step."""
    parameters = paper_preset(gradient, time_step=0.1, balloon=0.8)
    network = solver_network(parameters, spacing, 6, dtype=torch.float64)
    x = torch.stack((torch.full(shape, 0.6), torch.full(shape, -2.5))).double()[None]
    rise = 6 * 0.1 * 0.8 if gradient == "none" else 0.0
    with torch.no_grad():
        found = network(x) - (-2.5 + rise)
    # 1e-16 of rounding in |Du| becomes a direction in the slides' curvature, which has no factor |Du|
    loose = gradient == "none" and set(spacing) != {1.0}
    assert float(found.abs().max()) <= (0.1 if loose else 0.0 if set(spacing) == {1.0} and not rise else 1e-12)


def test_ones_move_in_the_mode_of_the_slides_alone() -> None:
    image = torch.rand(1, 1, 16, 18)
    for mode, moves in (("slides", True), ("central", False), ("upwind", False)):
        network = build("lsn", 1, 1, 2, head="sigmoid", start="ones", gradient=mode, noise=0.0, root_epsilon=0.0)
        with torch.no_grad():
            assert bool(((network(image) - 1).abs() > 1e-3).any()) is moves


def test_a_far_voxel_changes_nothing() -> None:
    """g has no maximum of the image in it."""
    network = learned(steps=3)
    x = torch.randn(1, 2, 24, 48, dtype=torch.float64)
    loud = x.clone()
    loud[0, 0, 12, 44] = 1e4
    with torch.no_grad():
        assert torch.equal(network(x)[..., :24], network(loud)[..., :24])


@pytest.mark.parametrize("ndim", [2, 3])
def test_the_receptive_field_grows_by_two_voxels_a_step(ndim: int) -> None:
    """Rho and sigma reach one voxel each; e and the fixed difference of g together as far."""
    reach = learned(ndim, steps=4).receptive_field().reach
    assert reach == ((8, 8),) * ndim


def test_the_number_of_parameters_is_the_stated_one() -> None:
    """Kernels e, rho and sigma and three weights; no weight belongs to a pixel."""
    once = build("lsn", 2, 1, 2, head="sigmoid", start="seed", steps=7, kernels=5)
    assert sum(p.numel() for p in once.parameters()) == 3 * 5 * 9 + 3
    own = build("lsn", 2, 1, 3, head="sigmoid", start="seed", steps=7, kernels=5, shared=False, learned=["balloon"])
    assert sum(p.numel() for p in own.parameters()) == 5 * 27 + 7 * (2 * 5 * 27 + 1)


def test_levels_are_solvers_on_halved_grids() -> None:
    """From coarse to fine: the same steps by hand, with a linear interpolation in between."""
    parameters = paper_preset("godunov", time_step=0.1)
    options: dict[str, Any] = {"dtype": torch.float64}
    both = solver_network(parameters, (1.0, 1.5), (3, 2), **options)
    x = pair((24, 20), (1.0, 1.5))
    pool, spread = torch.nn.AvgPool2d(2), torch.nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
    with torch.no_grad():
        coarse = solver_network(parameters, (2.0, 3.0), 3, **options)(pool(x))
        expected = solver_network(parameters, (1.0, 1.5), 2, **options)(torch.cat((x[:, :1], spread(coarse)), 1))
        torch.testing.assert_close(both(x), expected, rtol=0, atol=1e-10)


def test_the_classes_of_a_softmax_are_the_level_sets_above_zero() -> None:
    network = learned(states=3, head="softmax", temperature=2.0)
    x = torch.randn(1, 2, 16, 16, dtype=torch.float64)
    with torch.no_grad():
        *_, u = network.evolve(x)
        logits = network(x)
    assert torch.equal(logits[:, :1], torch.zeros_like(logits[:, :1]))
    assert torch.equal(logits[:, 1:], u / 2)


def test_flat_level_sets_have_gradients_that_are_numbers() -> None:
    """The slope of a root at 0 is infinite; delta keeps it finite in training."""
    for gradient in GRADIENTS:
        network = build("lsn", 2, 1, 2, head="sigmoid", start="seed", steps=3, gradient=gradient)
        x = torch.rand(1, 2, 12, 12)
        x[:, 1] = -3.0
        x[:, 1, 3:5, 3:5] = 3.0
        network(x).sum().backward()
        for parameter in network.parameters():
            assert parameter.grad is not None
            assert bool(torch.isfinite(parameter.grad).all())


def test_half_precision_is_never_used() -> None:
    network = build("lsn", 1, 2, 2, steps=2)
    x = torch.rand(1, 1, 16, 16)
    with torch.no_grad():
        plain = network(x)
        with torch.autocast("cpu", torch.bfloat16):
            cast = network(x)
    assert cast.dtype == torch.float32
    assert torch.equal(cast, plain)


def test_a_level_set_that_blows_up_is_told_with_its_step() -> None:
    network = learned(steps=6, time_step=1e100)
    with pytest.raises(InputError, match=r"in step \d of 6"), torch.no_grad():
        network(torch.randn(1, 2, 8, 8, dtype=torch.float64))
    with pytest.raises(InputError, match="at its start"), torch.no_grad():
        network(torch.full((1, 2, 8, 8), float("nan"), dtype=torch.float64))


@pytest.mark.parametrize(
    "changes",
    [{"order": 2, "redistance_every": 1}, {"curvature_form": "quotient"}, {"speed_at": "front"}, {"speed": "region"}],
    ids=str,
)
def test_what_the_network_cannot_be_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(changes))):
        LevelSetNetwork.from_parameters(paper_preset("central", **changes), 2, (1.0, 1.0), 3)


def test_options_that_make_no_network_are_refused() -> None:
    for options, channels in (({"kernels": 2}, 1), ({"start": "seed"}, 1), ({"spacing": [1.0]}, 1)):
        with pytest.raises(InputError):
            build("lsn", channels, 2, 3, **options)


@pytest.mark.parametrize("spacing", [(1.0, 2.0), (3.0, 1.0, 0.5)])
def test_drift_is_the_distance_from_the_stencil_in_its_own_norm(spacing: tuple[float, ...]) -> None:
    """0 at the start and 0.1 for a kernel that grew by a tenth; a spare one counts from 0."""
    ndim = len(spacing)
    network = build("lsn", 1, 2, ndim, spacing=spacing, steps=2, kernels=ndim + 1, noise=0.0)
    drifts = {name: value for name, value in network.watched().items() if name.startswith("drift")}
    assert len(drifts) == 3 * (ndim + 1)
    assert max(drifts.values()) < 1e-6
    rho = dict(network.named_parameters())["levels.0.steps.0.rho.weight"]
    with torch.no_grad():
        rho[1] *= 1.1
        rho[ndim, 0].view(-1)[0] = 0.5
    found = network.watched()
    norms = [2**-0.5 / h for h in spacing]
    assert found["drift_level0_rho_1"] == pytest.approx(0.1, rel=1e-5)
    assert found[f"drift_level0_rho_{ndim}"] == pytest.approx(0.5 / (sum(norms) / ndim), rel=1e-5)
    assert found["drift_level0_rho_0"] < 1e-6
    assert found["curvature_level0"] == pytest.approx(0.2, rel=1e-5)


@pytest.mark.parametrize("steps", [3, (1, 1)])
def test_a_level_set_that_no_step_moves_is_told(steps):
    network = build("lsn", 1, 2, 2, start="stem", steps=steps, edge="unet", edge_depth=1, edge_width=2).train()
    x = torch.rand(1, 1, 16, 16)
    assert network.remarks() == ()
    network(x)
    assert network.remarks() == ()
    with torch.no_grad():
        network.edge.unet.head.bias.fill_(-1000.0)
    network(x)
    assert network.remarks() == (STILL,)
    network.eval()(x)
    assert network.remarks() == (STILL,)
    with torch.no_grad():
        network.edge.unet.head.bias.fill_(0.0)
    network.train()(x)
    assert network.remarks() == ()


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (3.0, 1.0, 0.7)])
def test_the_stable_time_step_is_the_bound_of_each_term_and_their_rates_add_up(spacing: tuple[float, ...]) -> None:
    squares = sum(1 / h**2 for h in spacing)
    balloon, curvature, convection = 0.8, 0.3, 1.5

    def rate(gradient: Any, **weights: float) -> float:
        given: dict[Any, float] = {"balloon": 0.0, "curvature": 0.0, "convection": 0.0} | weights
        step = StepWeights(1, spacing, len(spacing), given, (), "differences", 0.0)
        return 0.9 / float(stable_time_step(step, spacing, gradient, 0.9))

    assert rate("godunov", balloon=-balloon) == pytest.approx(balloon * squares**0.5)
    assert rate("osher_sethian", balloon=balloon) == pytest.approx(balloon * (2 * squares) ** 0.5)
    assert rate("central", curvature=curvature) == pytest.approx(2 * curvature * squares)
    # |D0_d g| <= 1 / (2 h_d), since g lies between 0 and 1
    assert rate("central", convection=convection) == pytest.approx(convection * squares / 2)
    every = {"balloon": balloon, "curvature": curvature, "convection": convection}
    assert rate("central", **every) == pytest.approx(sum(rate("central", **{k: v}) for k, v in every.items()))


def test_a_grey_value_range_is_a_start_that_is_0_at_its_ends_and_bounded() -> None:
    image = torch.tensor([-1e6, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0, 1e6], dtype=torch.float64).reshape(1, 1, 2, 4)
    u = Range(1, 10.0, 14.0, 3.0).double()(image).detach().flatten()
    expected = torch.tensor([-3.0, -1.5, 0.0, 1.5, 3.0, 1.5, 0.0, -3.0], dtype=torch.float64)
    assert torch.allclose(u, expected, atol=1e-5)


@pytest.mark.parametrize("edge", ["kernels", "unet"])
def test_no_learned_part_sees_where_a_constant_image_ends(edge: str) -> None:
    """Whatever its weights: a border that a stem or a UNet can see is a position prior."""
    torch.manual_seed(0)
    network = build("lsn", 1, 1, 2, head="sigmoid", start="stem", steps=2, edge=edge, edge_depth=1).double().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
        logits = network(torch.full((1, 1, 24, 22), 0.7, dtype=torch.float64))
    assert float(logits.std()) <= 1e-12 * float(logits.abs().max())
    assert float(logits.abs().max()) > 0
