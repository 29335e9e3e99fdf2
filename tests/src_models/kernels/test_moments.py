"""Moments, orders and operators: exact inverses, polynomials, closed forms, and simulated motion."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.stats import beta, kstest

from src_models.kernels.moments import (
    coefficients,
    dc_index,
    energy_dimensions,
    energy_of,
    energy_p,
    energy_shares,
    from_moments,
    moments,
    orders,
)
from src_models.kernels.operators import CLASSES, effective_diffusion, low_moments, operators, upwind

D_PLUS = np.array([[0, 0, 0], [0, -1.0, 1.0], [0, 0, 0]])
D_MINUS = np.array([[0, 0, 0], [-1.0, 1.0, 0], [0, 0, 0]])
D_ZERO = (D_PLUS + D_MINUS) / 2
FIVE_POINT = np.array([[0, 1.0, 0], [1, -4, 1], [0, 1, 0]])
COMPACT = np.array([[1.0, 4, 1], [4, -20, 4], [1, 4, 1]])
IDENTITY = np.array([[0, 0, 0], [0, 1.0, 0], [0, 0, 0]])


@pytest.mark.parametrize(
    ("size", "bound"), [((3, 3), 1e-14), ((3, 3, 3), 1e-14), ((5, 5), 1e-12), ((7, 7), 1e-12), ((5, 5, 5), 1e-12)]
)
def test_a_kernel_follows_from_its_moments(size: tuple[int, ...], bound: float) -> None:
    kernel = np.random.default_rng(0).normal(size=size)
    kernel /= np.abs(kernel).sum()
    assert np.abs(from_moments(moments(kernel)) - kernel).max() <= bound


@pytest.mark.parametrize("size", [(3, 3), (3, 3, 3), (5, 5)])
def test_moments_are_the_derivatives_that_a_kernel_takes(size: tuple[int, ...]) -> None:
    """On u = prod o_d^(a_d) / a_d! at 0 every derivative but the a-th vanishes, so the response is m_a."""
    kernel = np.random.default_rng(1).normal(size=size)
    offsets = np.indices(size) - np.array(size).reshape(-1, *(1,) * len(size)) // 2
    found = moments(kernel)
    for a in itertools.product(range(3), repeat=len(size)):
        u = np.prod([offsets[d] ** a[d] / (2 if a[d] == 2 else 1) for d in range(len(size))], axis=0)
        assert (kernel * u).sum() == pytest.approx(found[a], abs=1e-12), a


def test_a_spacing_multiplies_coefficients_by_its_powers_and_changes_nothing_else() -> None:
    kernel, h = np.random.default_rng(2).normal(size=(3, 3, 3)), (1.0, 0.5, 2.0)
    plain, scaled = coefficients(kernel), coefficients(kernel, h)
    for a in itertools.product(range(3), repeat=3):
        assert scaled[a] == pytest.approx(plain[a] * np.prod([h[d] ** a[d] for d in range(3)]))
    one, other = (operators(kernel.reshape(1, -1), (3, 3, 3), spacing=s) for s in (None, h))
    assert (one.codes == other.codes).all()
    assert other.advection[0] == pytest.approx(one.advection[0] * h)


def test_orders_of_known_stencils() -> None:
    kernels = np.stack([D_PLUS, D_ZERO, FIVE_POINT, COMPACT, np.ones((3, 3)) / 9, IDENTITY, np.zeros((3, 3))])
    found = orders(kernels.reshape(7, 9), (3, 3))
    assert found.p.tolist() == [1, 1, 2, 2, 0, 0, -1]
    assert found.r.tolist() == [1, 2, 2, 2, 2, -1, -1]


def test_an_order_is_what_a_wave_of_falling_frequency_sees() -> None:
    """The error of a stencil on exp(i k x) falls with k as the power p + r."""
    offsets = np.arange(3) - 1
    for kernel, p, r in ((D_PLUS, 1, 1), (D_ZERO, 1, 2)):
        errors = []
        for k in (0.02, 0.01):
            response = (kernel[1] * np.exp(1j * k * offsets)).sum()
            errors.append(abs(response - 1j * k))
        assert np.log2(errors[0] / errors[1]) == pytest.approx(p + r, abs=0.05)


def test_the_upwind_pair_is_an_exact_sum() -> None:
    for a in (-1.7, 0.4):
        pair = max(a, 0) * D_PLUS + min(a, 0) * D_MINUS
        second = np.array([[0, 0, 0], [1.0, -2, 1], [0, 0, 0]])
        assert np.abs(pair - (a * D_ZERO + abs(a) / 2 * second)).max() <= 1e-15
    found = upwind(D_PLUS, D_MINUS)
    assert found.like
    assert found.second > 0
    assert not upwind(D_MINUS, D_PLUS).like
    assert not upwind(FIVE_POINT, D_MINUS).like


def test_velocity_and_diffusion_are_those_of_repeated_steps() -> None:
    """u_new = K * u with [.1 .5 .4]: -0.30 cells and 0.41 cells squared of variance a step."""
    kernel = np.zeros((3, 3))
    kernel[1] = (0.1, 0.5, 0.4)
    u = np.zeros(401)
    u[200] = 1.0
    for _ in range(50):
        u = 0.1 * np.roll(u, 1) + 0.5 * u + 0.4 * np.roll(u, -1)
    x = np.arange(401) - 200
    mean = (u * x).sum()
    variance = (u * x**2).sum() - mean**2
    c, b, d = low_moments(kernel.reshape(1, 9), (3, 3))
    assert mean / 50 == pytest.approx(-b[0, 1] / c[0])
    assert mean / 50 == pytest.approx(-0.30)
    tensor = effective_diffusion(c, b, d)[0]
    assert variance / 50 == pytest.approx(2 * tensor[1, 1])
    assert variance / 50 == pytest.approx(0.41)


def _class(kernel: np.ndarray, tolerance: float = 1e-6) -> str:
    return CLASSES[operators(kernel.reshape(1, -1), kernel.shape, tolerance).codes[0]]


def test_classes_of_known_kernels() -> None:
    shift = np.roll(IDENTITY, (0, 1), (0, 1))
    gaussian = np.outer([1, 2, 1], [1, 2, 1]) / 16
    second = np.array([[0, 0, 0], [1.0, -2, 1], [0, 0, 0]])
    assert _class(IDENTITY) == "identity"
    assert _class(shift) == "shift"
    assert _class(-2 * shift) == "shift"
    assert _class(gaussian) == "averaging"
    assert _class(IDENTITY - FIVE_POINT / 8) == "sharpening"
    assert _class(IDENTITY + second / 8 - second.T / 8) == "mixed"
    assert _class(D_ZERO) == "advection, central"
    assert _class(D_PLUS) == _class(-D_MINUS) == "advection, one-sided"
    assert _class(D_ZERO + 2 * FIVE_POINT) == "advection, with diffusion"
    assert _class(FIVE_POINT) == _class(COMPACT) == "diffusion"
    assert _class(-FIVE_POINT) == "inverse diffusion"
    assert _class(second - second.T) == "indefinite diffusion"
    assert _class(second) == "directional diffusion"
    mixed = np.zeros((3, 3, 3))
    mixed[0, 0, 0] = mixed[0, 2, 2] = mixed[2, 0, 2] = mixed[2, 2, 0] = -1.0
    mixed[2, 2, 2] = mixed[2, 0, 0] = mixed[0, 2, 0] = mixed[0, 0, 2] = 1.0
    assert _class(mixed) == "higher order"
    assert _class(np.zeros((3, 3))) == "dead"


def test_the_diffusion_ellipse_turns_with_the_kernel() -> None:
    along = np.outer([0, 1, 0], [1.0, -2, 1])
    diagonal = np.array([[0, 0, 1.0], [0, -2, 0], [1, 0, 0]])
    found = operators(np.stack([along, along.T, diagonal, np.fliplr(diagonal)]).reshape(4, 9), (3, 3))
    assert np.abs(found.angle()[[0, 2, 3]] - [0, -45, 45]).max() < 1e-9
    assert abs(found.angle()[1]) == pytest.approx(90)
    assert np.abs(found.eigenvalues - np.linalg.eigvalsh(found.diffusion)[:, ::-1]).max() < 1e-12


@pytest.mark.parametrize(("size", "null"), [((3, 3), [1, 2, 3, 2, 1]), ((3, 3, 3), [1, 3, 6, 7, 6, 3, 1])])
def test_energy_shares_sum_to_one_and_follow_the_beta_law_for_gaussian_kernels(
    size: tuple[int, ...], null: list[int]
) -> None:
    kernels = np.random.default_rng(13).normal(size=(4000, int(np.prod(size))))
    shares, total = energy_of(kernels, size), sum(null)
    assert energy_dimensions(size).tolist() == null
    assert np.abs(shares.sum(axis=1) - 1).max() < 1e-12
    for degree, q in enumerate(null):
        law = beta(q / 2, (total - q) / 2)
        assert abs(shares[:, degree].mean() - q / total) < 4 * law.std() / np.sqrt(4000)
        assert kstest(shares[:, degree], law.cdf).pvalue > 1e-3
        assert kstest(energy_p(shares[:, degree], degree, size), "uniform").pvalue > 1e-3


def test_energy_of_pure_kernels() -> None:
    assert energy_shares(np.ones((3, 3)))[0] == pytest.approx(1)
    assert energy_shares(np.outer([1, 1, 1], [-1, 0, 1]))[1] == pytest.approx(1)
    assert np.isnan(energy_shares(np.zeros((3, 3)))).all()
    assert energy_shares(1e-200 * np.ones((3, 3)))[0] == pytest.approx(1)


def test_the_dc_index_is_that_of_chance_for_random_kernels() -> None:
    random = np.random.default_rng(4)
    stated = ((9, "normal", 0.336), (9, "uniform", 0.312), (27, "normal", 0.193), (27, "uniform", 0.178))
    for entries, law, expected in stated:
        kernels = random.normal(size=(40000, entries)) if law == "normal" else random.uniform(-1, 1, (40000, entries))
        assert dc_index(kernels).mean() == pytest.approx(expected, abs=4e-3)
    assert dc_index(D_PLUS.reshape(1, 9))[0] == 0
    assert np.isnan(dc_index(np.zeros((1, 9)))[0])


def test_single_precision_gives_the_same_moments() -> None:
    kernels = np.random.default_rng(5).normal(size=(50, 3, 3))
    for kernel in kernels:
        gap = np.abs(moments(kernel.astype(np.float32)) - moments(kernel)).max()
        assert gap <= 1e-6 * np.abs(kernel).sum()


@pytest.mark.parametrize("size", [(3, 3), (5, 5), (3, 3, 3)])
def test_a_kernel_of_positive_weights_moves_and_spreads_as_the_walk_it_is(size: tuple[int, ...]) -> None:
    """One step takes a feature to -o with probability K[o] / sum K: mean -b / m_0, covariance 2 D_eff, all entries."""
    kernel = 0.7 * np.random.default_rng(2).uniform(0, 1, size)
    offsets = np.stack(np.meshgrid(*(np.arange(k) - k // 2 for k in size), indexing="ij"), -1).reshape(-1, len(size))
    chance = kernel.ravel() / kernel.sum()
    found = operators(kernel.reshape(1, -1), size)
    spread = effective_diffusion(found.reaction, found.advection, found.diffusion)[0]
    assert np.allclose(-found.advection[0] / found.reaction[0], -offsets.T @ chance, atol=1e-14)
    assert np.allclose(2 * spread, np.cov(offsets.T, aweights=chance, ddof=0), atol=1e-14)
    assert np.abs(spread[0, 1]) > 1e-3
