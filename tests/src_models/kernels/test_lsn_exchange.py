"""A level set network and the solver with its kernels are one: out, through a file, and back in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from src_models.errors import InputError
from src_models.kernels.exchange import (
    Terms,
    convolve,
    curvature_and_norm,
    edge_indicator,
    finite_differences,
    frame,
    read_terms,
    save_terms,
    step,
)
from src_models.kernels.lsn_exchange import begin_with, network_from_terms, terms_of
from src_models.levelset.parameters import paper_preset
from src_models.networks.lsn import LevelSetNetwork
from src_models.networks.lsn_terms import StepWeights

GRIDS = [((13, 11), (1.0, 1.0)), ((12, 15), (0.8, 1.3)), ((6, 9, 8), (2.0, 0.7, 1.0))]
GRADIENTS = ["central", "godunov", "osher_sethian", "none"]


def _parameters(gradient: str = "central", **changes: Any) -> Any:
    values = {"balloon": 0.6, "curvature": 0.3, "convection": 1.1, "time_step": 0.01, "root_epsilon": 1e-3}
    return paper_preset(gradient=gradient, **(values | changes))  # type: ignore[arg-type]


def _trained(ndim: int, spacing: tuple[float, ...], gradient: str, steps: Any = 2, **options: Any) -> LevelSetNetwork:
    """A network whose kernels have gone some way from their stencils, but for a spare one of each family."""
    network = LevelSetNetwork.from_parameters(
        _parameters(gradient), ndim, spacing, steps, dtype=torch.float64, kernels=ndim + 2, noise=0.0, **options
    )
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for level in network.levels:
            for _, family in level.families():  # type: ignore[operator]
                moved = family[:-1]
                moved += 0.2 * torch.randn(moved.shape, generator=random, dtype=torch.float64) / max(spacing)
    return network


def _inputs(shape: tuple[int, ...]) -> torch.Tensor:
    random = torch.Generator().manual_seed(0)
    return torch.randn((1, 2, *shape), generator=random, dtype=torch.float64)


@pytest.mark.parametrize(("shape", "spacing"), GRIDS)
@pytest.mark.parametrize("gradient", GRADIENTS)
def test_a_trained_network_is_the_solver_with_its_kernels(
    shape: tuple[int, ...], spacing: tuple[float, ...], gradient: Any, tmp_path: Path
) -> None:
    """Each step to 1e-12, through a file, with a spare kernel that is zero; and back into another network."""
    network = _trained(len(shape), spacing, gradient)
    terms = terms_of(network)
    assert not terms.rho[-1].any()
    assert not terms.e[-1].any()
    weights, _ = save_terms(terms, tmp_path / "terms")
    read = read_terms(weights)
    x = _inputs(shape)
    image, u = x[0, 0], x[0, 1]
    options = network.options
    held: Any = network.levels[0].steps[0]  # type: ignore[index]
    assert isinstance(held, StepWeights)
    three = [float(held.weight(name).detach()) for name in ("balloon", "curvature", "convection")]  # type: ignore[arg-type]
    g = edge_indicator(image, read, options.contrast)
    with torch.no_grad():
        for expected in list(network.evolve(x))[1:]:
            u = step(
                u,
                g,
                read,
                (three[0], three[1], three[2]),
                options.time_step or 0,
                options.eps,
                gradient=gradient,
                root_epsilon=options.root_epsilon,
            )
            assert float((expected[0, 0] - u).abs().max()) < 1e-12
        assert float((u - x[0, 1]).abs().max()) > 1e-3, "the steps do something"
        again = network_from_terms(read, _parameters(gradient), 2, dtype=torch.float64)
        assert float((again(x) - network(x)).abs().max()) < 1e-12
        plain = network_from_terms(finite_differences(spacing), _parameters(gradient), 2, dtype=torch.float64)
        solver = LevelSetNetwork.from_parameters(_parameters(gradient), len(shape), spacing, 2, dtype=torch.float64)
        solver_spare = begin_with(solver, finite_differences(spacing))
        assert float((plain(x) - solver_spare(x)).abs().max()) < 1e-12


def test_finite_differences_begin_the_network_that_is_the_solver() -> None:
    for shape, spacing in GRIDS:
        given = {"dtype": torch.float64, "kernels": len(shape), "steps": 3}
        begun = network_from_terms(finite_differences(spacing), _parameters(), **given)  # type: ignore[arg-type]
        own = LevelSetNetwork.from_parameters(
            _parameters(), len(shape), spacing, 3, dtype=torch.float64, kernels=len(shape)
        )
        x = _inputs(shape)
        assert all(
            torch.equal(a, b) for a, b in zip(begun.state_dict().values(), own.state_dict().values(), strict=True)
        )
        assert torch.equal(begun(x), own(x))


def test_coarser_levels_keep_the_unit_of_slopes() -> None:
    """A ramp of 1 per mm has the same slope on every level."""
    network = network_from_terms(finite_differences((1.0, 2.0)), _parameters(), (1, 1, 1), dtype=torch.float64)
    for level, factor in enumerate((4, 2, 1)):
        found = terms_of(network, level=level)
        assert found.spacing == (factor * 1.0, factor * 2.0)
        ramp = torch.arange(9, dtype=torch.float64)[:, None].expand(9, 7) * found.spacing[0]
        assert float(convolve(ramp, found.rho)[0, 4, 3]) == pytest.approx(1)
        assert frame(found).gradient == pytest.approx((1, 1))


def test_states_steps_and_channels_are_told_apart() -> None:
    network = _trained(2, (1.0, 1.0), "central", steps=(1, 2), shared=False)
    first, second = terms_of(network, step=0), terms_of(network, step=1)
    assert not np.array_equal(first.rho, second.rho)
    assert np.array_equal(first.e, second.e)
    assert first.origin == ("lsn level 1 step 0 state 0",)
    for changes, words in (({"level": 2}, "no level 2"), ({"step": 5}, "no step 5"), ({"state": 1}, "no level set 1")):
        with pytest.raises(InputError, match=words):
            terms_of(network, **changes)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no channel 3"):
        terms_of(network, channel=3)


def test_what_does_not_fit_is_told() -> None:
    network = _trained(2, (1.0, 1.0), "central")
    with pytest.raises(InputError, match="3 axes, the network 2"):
        begin_with(network, finite_differences((1.0, 1.0, 1.0)))
    with pytest.raises(InputError, match="another shape"):
        begin_with(network, finite_differences((1.0, 3.0)))
    many = Terms(*(np.zeros((9, 3, 3)) for _ in range(3)), (1.0, 1.0))
    with pytest.raises(InputError, match="room for 4"):
        begin_with(network, many)


# -- the frame test


def _wave(n: int, ndim: int) -> tuple[list[torch.Tensor], torch.Tensor, float]:
    """Coordinates of n points an axis, a smooth field of them, and the spacing; slopes follow by differentiating it."""
    h = 2 * np.pi / n
    x = torch.arange(n, dtype=torch.float64) * h
    axes = [a.clone().requires_grad_() for a in torch.meshgrid(*(x,) * ndim, indexing="ij")]
    u = torch.cos(axes[0] - axes[1]) * 0.3
    for k, axis in enumerate(axes):
        u = u + torch.sin(axis + 0.4 * k)
    return axes, u, h


def _slope(values: torch.Tensor, axis: torch.Tensor) -> torch.Tensor:
    return torch.autograd.grad(values.sum(), axis, create_graph=True)[0]


@pytest.mark.parametrize(("ndim", "sizes"), [(2, (64, 128)), (3, (32, 64))])
def test_random_odd_kernels_are_their_frame_to_second_order(ndim: int, sizes: tuple[int, int]) -> None:
    """N^2 -> grad u^T G grad u and kappa -> div(A grad u / N): both gaps fall by 4 where the spacing is halved."""
    random = np.random.default_rng(ndim).normal(size=(2, ndim + 1, *(3,) * ndim))
    odd = random - np.flip(random, tuple(range(2, 2 + ndim)))
    offsets = np.stack(np.meshgrid(*(np.arange(-1, 2),) * ndim, indexing="ij"))
    spatial = tuple(range(1, 1 + ndim))
    v, w = (np.tensordot(part, offsets, (spatial, spatial)) for part in odd)
    g, a = v.T @ v, w.T @ v
    gaps = []
    for n in sizes:
        axes, u, h = _wave(n, ndim)
        terms = Terms(odd[0] / h, odd[1] / h, odd[0] / h, (h,) * ndim)
        kappa, norm = curvature_and_norm(u.detach(), terms, 0.0)
        slopes = [_slope(u, axis) for axis in axes]
        seen = sum((g[i, j] * slopes[i] * slopes[j] for i in range(ndim) for j in range(ndim)), torch.zeros_like(u))
        length = seen.sqrt()
        flux = [sum((a[i, j] * slopes[j] for j in range(ndim)), torch.zeros_like(u)) / length for i in range(ndim)]
        divergence = sum((_slope(part, axis) for part, axis in zip(flux, axes, strict=True)), torch.zeros_like(u))
        # away from borders, and from where u is flat and has no direction
        used = (slice(3, -3),) * ndim
        steep = (length > 0.6 * length.max())[used]
        first, second = (norm.square() - seen.detach())[used], (kappa - divergence.detach())[used]
        gaps.append((float(first.abs().max()), float(second[steep].abs().max())))
        found = frame(terms)
        assert found.gradient == pytest.approx(np.linalg.eigvalsh(g)[::-1])
        assert found.curvature == pytest.approx(np.linalg.eigvalsh((a + a.T) / 2)[::-1])
    for coarse, fine in zip(*gaps, strict=True):
        assert np.log2(coarse / fine) == pytest.approx(2, abs=0.25)
