"""Kernels as terms of the solver: finite differences give the equation back, step by step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from src_models.errors import FileError, InputError
from src_models.kernels import KernelAnalysisParameters, KernelReport, analyse
from src_models.kernels.exchange import (
    Terms,
    as_slopes,
    convolve,
    curvature_and_norm,
    edge_indicator,
    finite_differences,
    frame,
    read_terms,
    save_terms,
    step,
)
from src_models.kernels.selection import Selection
from src_models.kernels.term_selection import selected_terms
from src_models.levelset import stencils
from src_models.progress import finish

GRIDS = [((12, 15), (1.0, 1.0)), ((12, 15), (0.8, 1.3)), ((6, 9, 8), (2.0, 0.7, 1.0))]


def _field(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("shape", "spacing"), GRIDS)
def test_finite_differences_give_the_step_of_the_equation(shape: tuple[int, ...], spacing: tuple[float, ...]) -> None:
    """Every term against its stencils in `levelset`, over several steps; a spare zero kernel changes nothing."""
    alpha, beta, gamma, dt, eps = 0.7, 0.3, 1.1, 0.02, 1e-3
    terms = finite_differences(spacing)
    spare = np.zeros((1, *(3,) * len(shape)))
    padded = Terms(*(np.concatenate([part, spare]) for part in (terms.rho, terms.sigma, terms.e)), spacing)
    image, u = _field(shape, 0), _field(shape, 1)
    slope = sum(stencils.central(stencils.around(image, spacing), axis).square() for axis in range(len(shape)))
    g = 1 / (1 + slope)
    assert float((edge_indicator(image, padded) - g).abs().max()) < 1e-12
    mine = u
    for _ in range(5):
        n, edges = stencils.around(u, spacing), stencils.around(g, spacing)
        norm = stencils.central_norm(n)

        def direction(m: stencils.Neighbourhood, axis: int) -> torch.Tensor:
            return stencils.central(m, axis) / (stencils.central_norm(m) + eps)

        kappa = sum(n.central_of(lambda m, a=axis: direction(m, a), axis) for axis in n.axes)
        change = alpha * g * norm + beta * g * kappa * norm
        for axis in n.axes:
            pull = stencils.central(edges, axis)
            upwind = pull.clamp(min=0) * stencils.forward(n, axis) - (-pull).clamp(min=0) * stencils.backward(n, axis)
            change = change + gamma * upwind
        u = u + dt * change
        mine = step(mine, g, padded, (alpha, beta, gamma), dt, eps)
        assert float((mine - u).abs().max()) < 1e-12


@pytest.mark.parametrize(("shape", "spacing"), GRIDS)
def test_the_frame_of_the_equation_is_the_identity(shape: tuple[int, ...], spacing: tuple[float, ...]) -> None:
    found = frame(finite_differences(spacing))
    assert found.gradient == pytest.approx([1.0] * len(shape))
    assert found.curvature == pytest.approx([1.0] * len(shape))
    assert found.skew < 1e-15
    assert found.anisotropy == pytest.approx((1, 1))


def test_the_frame_is_what_the_front_sees_to_second_order() -> None:
    """Odd kernels on a smooth field: N^2 - grad u^T G grad u falls by 4 where the spacing is halved."""
    random = np.random.default_rng(0).normal(size=(3, 3, 3))
    odd = random - random[:, ::-1, ::-1]
    gaps = []
    for n in (64, 128):
        h = 2 * np.pi / n
        x = torch.arange(n, dtype=torch.float64) * h
        u = torch.sin(x)[:, None] + torch.cos(2 * x)[None] * 0.3
        rho = odd / h
        terms = Terms(rho, rho, rho, (h, h))
        _, norm = curvature_and_norm(u, terms, 0.0)
        v = np.stack([(rho * (np.arange(3) - 1).reshape(shape)).sum((1, 2)) * h for shape in ((1, 3, 1), (1, 1, 3))], 1)
        grad = [torch.cos(x)[:, None].expand(n, n), (-0.6 * torch.sin(2 * x))[None].expand(n, n)]
        g = v.T @ v
        seen = sum(float(g[a, b]) * grad[a] * grad[b] for a in range(2) for b in range(2))
        gaps.append(float((norm.square() - seen)[4:-4, 4:-4].abs().max()))
        assert frame(terms).gradient == pytest.approx(np.linalg.eigvalsh(g)[::-1])
    assert np.log2(gaps[0] / gaps[1]) == pytest.approx(2, abs=0.15)


def test_kernels_become_slopes_or_are_refused_with_the_reason() -> None:
    spacing = (1.0, 0.5)
    sobel = np.outer([1.0, 2, 1], [-1, 0, 1])[None]
    scaled = as_slopes(sobel, spacing)
    ramp = torch.arange(9, dtype=torch.float64)[None].expand(7, 9) * spacing[1]
    assert float(convolve(ramp, scaled)[0, 3, 4]) == pytest.approx(1.0), "of slope 1 per mm on a ramp of 1 per mm"
    assert np.array_equal(as_slopes(sobel, spacing, "raw"), sobel)
    with pytest.raises(InputError, match="Kernel 0 is no difference"):
        as_slopes(sobel + 1.0, spacing)
    projected = as_slopes(sobel + 1.0, spacing, project=True)
    assert projected.sum() == pytest.approx(0, abs=1e-12)
    with pytest.raises(InputError, match="Kernel 0 has no slope"):
        as_slopes(np.array([[[0, 1.0, 0], [1, -4, 1], [0, 1, 0]]]), spacing)


def test_files_give_the_same_bits_back(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    terms = Terms(*(random.normal(size=(4, 3, 3, 3)) for _ in range(3)), (2.0, 1.0, 0.5), ("net: rho 0",))
    weights, note = save_terms(terms, tmp_path / "terms")
    found = read_terms(weights)
    for role in ("rho", "sigma", "e"):
        assert getattr(found, role).tobytes() == getattr(terms, role).tobytes()
    assert (found.spacing, found.origin) == (terms.spacing, terms.origin)
    note.write_text("{}")
    with pytest.raises(FileError, match="holds no kernels of the solver"):
        read_terms(weights)
    weights.write_bytes(b"no")
    with pytest.raises(FileError):
        read_terms(weights)


# -- kernels of any network


def _chosen_from(ndim: int) -> tuple[KernelReport, np.ndarray]:
    """A network with a difference along each axis, one that averages, and noise."""
    conv = nn.Conv2d if ndim == 2 else nn.Conv3d
    network = conv(1, ndim + 2, 3)
    slopes = finite_differences((1.0,) * ndim).rho
    with torch.no_grad():
        network.weight[:ndim, 0] = torch.from_numpy(5 * slopes)
        network.weight[ndim, 0] = 1.0
        network.weight[ndim + 1, 0] = torch.from_numpy(np.random.default_rng(0).normal(size=(3,) * ndim))
    chosen = KernelAnalysisParameters(n=8, null_draws=100, cluster_draws=0, threads=1)
    return finish(analyse(network, chosen)), slopes


@pytest.mark.parametrize("ndim", [2, 3])
def test_chosen_kernels_of_a_network_take_the_roles_and_say_where_they_are_from(ndim: int) -> None:
    report, slopes = _chosen_from(ndim)
    rows = Selection(rows=tuple(range(ndim)))
    spacing = (2.0, 0.5, 1.0)[:ndim]
    terms = selected_terms(report, rows, spacing=spacing)
    found = frame(terms)
    assert found.gradient == pytest.approx([1.0] * ndim, abs=1e-6)
    assert found.curvature == pytest.approx([1.0] * ndim, abs=1e-6)
    assert terms.e == pytest.approx(5 * slopes), "slopes of the image stay as they are"
    assert terms.spacing == spacing
    assert terms.origin[0] == f"rho: Conv{ndim}d 0 0"
    assert len(terms.origin) == 3 * ndim
    raw = selected_terms(report, rows, scale="raw")
    assert raw.rho == pytest.approx(5 * slopes)
    last = Selection(rows=(ndim,))
    with pytest.raises(InputError, match="is no difference"):
        selected_terms(report, last)
    with pytest.raises(InputError, match=f"{ndim} kernels rho and 1 kernels sigma"):
        selected_terms(report, rows, last)
    with pytest.raises(InputError, match="other axes"):
        selected_terms(report, rows, spacing=(1.0,) * (5 - ndim))


def test_kernels_of_other_sizes_and_too_many_have_no_role() -> None:
    chosen = KernelAnalysisParameters(n=8, null_draws=100, cluster_draws=0, threads=1)
    five = finish(analyse(nn.Sequential(nn.Conv2d(1, 2, 5), nn.Conv2d(2, 2, 3)), chosen))
    with pytest.raises(InputError, match="not all of size 3"):
        selected_terms(five, Selection(rows=(0, 3)))
    mixed = finish(analyse(nn.ModuleList([nn.Conv2d(1, 1, 3), nn.Conv3d(1, 1, 3)]), chosen))
    with pytest.raises(InputError, match="of 2D and of 3D"):
        selected_terms(mixed, Selection(rows=(0,)), Selection(rows=(1,)))
    many = finish(analyse(nn.Conv2d(20, 20, 3), chosen))
    with pytest.raises(InputError, match="too many for rho: at most 256 are taken"):
        selected_terms(many, Selection())
