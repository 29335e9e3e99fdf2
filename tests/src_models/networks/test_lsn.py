"""The level set network begun with finite differences is the solver, and has the solver's symmetries."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from src_models.errors import InputError
from src_models.levelset.equation import Speeds, explicit_step
from src_models.levelset.parameters import LevelSetParameters, paper_preset
from src_models.levelset.speed import edge_indicator
from src_models.levelset.stencils import around, central
from src_models.networks.lsn import LevelSetNetwork
from src_models.networks.lsn_start import seed_distance
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


def solver_network(parameters: LevelSetParameters, spacing: tuple[float, ...], steps: int, **more: Any) -> Any:
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
