"""The three terms against closed forms and independently written formulas, and as differentiable functions."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from src_models.levelset import LevelSetParameters
from src_models.levelset.equation import (
    Speeds,
    balloon_term,
    convection_term,
    curvature_term,
    explicit_step,
    rate_of_change,
)
from src_models.levelset.measures import occupancy
from src_models.levelset.redistancing import redistance
from src_models.levelset.stencils import around, central, second
from tests.scenes import ball, grid

SPACINGS = [(1.0, 1.0), (3.0, 0.7), (1.0, 1.0, 1.0), (3.0, 1.0, 1.0), (1.5, 0.7, 1.0)]
FORMS = ["quotient", "nested"]
UPWIND = ["godunov", "osher_sethian"]


def noisy(shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def shape_of(spacing):
    return (9, 8, 7)[: len(spacing)]


def rough_distance(shape, spacing, seed=0):
    return torch.from_numpy(ball(shape, spacing, 3.0)) + 0.3 * noisy(shape, seed)


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("gradient", UPWIND)
def test_the_equation_in_the_convention_of_the_peers(spacing, gradient):
    """phi < 0 inside, phi = -u: written here from the phi form, without the stencils of the package."""
    shape = shape_of(spacing)
    u = rough_distance(shape, spacing)
    s, g = torch.tanh(noisy(shape, 1)), torch.sigmoid(noisy(shape, 2))
    alpha, beta, gamma = 0.8, 0.3, 1.4
    parameters = LevelSetParameters(
        speed="region", balloon=alpha, curvature=beta, convection=gamma, gradient=gradient, order=1
    )
    phi, image = -u.numpy(), g.numpy()

    def shifted(array, axis, k):
        index = np.clip(np.arange(array.shape[axis]) + k, 0, array.shape[axis] - 1)
        return np.take(array, index, axis)

    ahead, behind, middle, bend, push = [], [], [], [], []
    for axis, h in enumerate(spacing):
        ahead.append((shifted(phi, axis, 1) - phi) / h)
        behind.append((phi - shifted(phi, axis, -1)) / h)
        middle.append((shifted(phi, axis, 1) - shifted(phi, axis, -1)) / (2 * h))
        bend.append((shifted(phi, axis, 1) - 2 * phi + shifted(phi, axis, -1)) / h**2)
        push.append((shifted(image, axis, 1) - shifted(image, axis, -1)) / (2 * h))
    combine = np.maximum if gradient == "godunov" else np.add
    grow = np.sqrt(
        sum(combine(np.maximum(b, 0) ** 2, np.minimum(a, 0) ** 2) for a, b in zip(ahead, behind, strict=True))
    )
    shrink = np.sqrt(
        sum(combine(np.minimum(b, 0) ** 2, np.maximum(a, 0) ** 2) for a, b in zip(ahead, behind, strict=True))
    )
    speed = alpha * s.numpy()
    balloon = -(np.maximum(speed, 0) * grow + np.minimum(speed, 0) * shrink)
    length = np.sqrt(sum(m**2 for m in middle))
    numerator = 0
    for a, b in itertools.permutations(range(len(spacing)), 2):
        cross = (shifted(middle[b], a, 1) - shifted(middle[b], a, -1)) / (2 * spacing[a])
        numerator = numerator + bend[a] * middle[b] ** 2 - middle[a] * middle[b] * cross
    most = 1 / min(spacing)
    kappa = np.clip(numerator / (length + 1e-6) ** 3, -most, most)
    peak = np.clip((len(spacing) - 1) / len(spacing) * sum(bend), -most, most)
    curvature = beta * np.where(length < 0.1, peak, kappa * length)
    convection = gamma * sum(
        np.maximum(v, 0) * a - np.maximum(-v, 0) * b for v, a, b in zip(push, ahead, behind, strict=True)
    )
    weights = Speeds(s, torch.ones_like(s), tuple(torch.from_numpy(v) for v in push))
    ours = rate_of_change(around(u, spacing), weights, parameters)
    scale = max(1.0, float(ours.total.abs().max()))
    np.testing.assert_allclose(-ours.balloon, balloon, rtol=0, atol=1e-15 * scale)
    np.testing.assert_allclose(-ours.curvature, curvature, rtol=0, atol=2e-15 * scale)
    np.testing.assert_allclose(-ours.convection, convection, rtol=0, atol=1e-15 * scale)


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("form", FORMS)
def test_the_curvature_of_a_ball(spacing, form):
    """kappa is the sum of the principal curvatures, -(n - 1)/R for u = R - r, on every shell."""
    n = len(spacing)
    shape = tuple(int(30 / h) | 1 for h in spacing)
    u = torch.from_numpy(ball(shape, spacing, 10.0))
    K = curvature_term(around(u, spacing), form).numpy()
    r = 10.0 - u.numpy()
    shell = (r > 8) & (r < 12)
    assert abs(K[shell] * r[shell] / (1 - n) - 1).mean() < 0.05
    assert (K[shell] * r[shell]).mean() == pytest.approx(1 - n, rel=0.05)


@pytest.mark.parametrize("spacing", SPACINGS)
def test_nested_curvature_is_the_divergence_of_the_normal(spacing):
    u = noisy(shape_of(spacing))
    n, eps = around(u, spacing), 1e-3
    length = torch.sqrt(sum(central(n, axis) ** 2 for axis in range(len(spacing))))
    kappa = sum(central(around(central(n, axis) / (length + eps), spacing), axis) for axis in range(len(spacing)))
    np.testing.assert_allclose(curvature_term(n, "nested", eps), kappa * length, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(curvature_term(n, "nested", eps, gradient="none"), kappa, rtol=1e-12, atol=1e-13)


def test_nested_curvature_is_blind_to_a_checkerboard_and_the_quotient_is_not():
    i, j = np.indices((9, 9))
    board = torch.from_numpy((-1.0) ** (i + j))
    inside = (slice(3, -3),) * 2
    n = around(board, (1.0, 1.0))
    assert bool((curvature_term(n, "nested")[inside] == 0).all())
    assert bool((curvature_term(n, "quotient")[inside] * board[inside] < 0).all())


@pytest.mark.parametrize("spacing", SPACINGS)
def test_the_quotient_is_clamped(spacing):
    u = 100 * noisy(shape_of(spacing))
    n = around(u, spacing)
    limit = 1 / min(spacing)
    length = torch.sqrt(sum(central(n, axis) ** 2 for axis in range(len(spacing))))
    K = curvature_term(n, "quotient")
    assert bool((K.abs() <= limit * length.clamp(min=1) * (1 + 1e-12)).all())


def test_a_last_voxel_feels_curvature():
    """At a peak |Du| is 0 by symmetry; the sum of second differences takes over."""
    u = torch.from_numpy(ball((7, 7, 7), (1.0, 1.0, 1.0), 0.4))
    K = curvature_term(around(u, (1.0, 1.0, 1.0)), "quotient")
    assert float(K[3, 3, 3]) == pytest.approx(-1.0)  # 2/3 * (-6), clamped to 1/h
    slight = torch.from_numpy(0.01 * ball((7, 7, 7), (1.0, 1.0, 1.0), 0.4))
    K = curvature_term(around(slight, (1.0, 1.0, 1.0)), "quotient")
    assert float(K[3, 3, 3]) == pytest.approx(2 / 3 * -6 * 0.01)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("eps", [1e-6, 1e-3])
def test_a_plane_has_no_curvature(form, eps):
    for spacing in SPACINGS:
        x = grid(shape_of(spacing), spacing)
        u = torch.from_numpy(np.asarray(sum((k - 0.4) * v for k, v in enumerate(x))))
        K = curvature_term(around(u, spacing), form, eps)
        np.testing.assert_allclose(K[(slice(2, -2),) * u.ndim], 0, atol=1e-12)


@pytest.mark.parametrize("form", FORMS)
def test_the_guard_of_divisions_stands_outside_the_root(form):
    spacing = (1.0, 1.0)
    u = torch.from_numpy(0.5 * ball((21, 21), spacing, 6.0))
    exact = curvature_term(around(u, spacing), form, 0.0)
    guarded = curvature_term(around(u, spacing), form, 0.1)
    away = (ball((21, 21), spacing, 6.0) < 2) & (ball((21, 21), spacing, 6.0) > -2)
    # |Du| is 1/2: the quotient divides by (1/2 + eps)^3, the nested form by 1/2 + eps.
    expected = (0.5 / 0.6) ** (3 if form == "quotient" else 1)
    np.testing.assert_allclose((guarded / exact)[away], expected, rtol=0.02)


@pytest.mark.parametrize("spacing", SPACINGS)
def test_convection_is_central_transport_plus_its_upwind_diffusion(spacing):
    """The exact identity; with the sides exchanged the diffusion would be negative."""
    u = noisy(shape_of(spacing))
    v = [noisy(u.shape, k + 1) for k in range(u.ndim)]
    n = around(u, spacing)
    expected = sum(v[d] * central(n, d) + v[d].abs() * (spacing[d] / 2) * second(n, d) for d in range(u.ndim))
    np.testing.assert_allclose(convection_term(n, v), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("gradient", ["godunov", "osher_sethian", "central"])
@pytest.mark.parametrize("order", [1, 2])
def test_each_term_scales_with_u(gradient, order):
    """|Du| is there: twice the u is twice the change, so the speed of the front depends on no scale of u."""
    spacing = (1.5, 0.7, 1.0)
    u = rough_distance((9, 8, 7), spacing)
    s = torch.tanh(noisy(u.shape, 1))
    once = balloon_term(around(u, spacing), s, s >= 0, gradient, order)
    twice = balloon_term(around(2 * u, spacing), s, s >= 0, gradient, order)
    np.testing.assert_allclose(twice, 2 * once, rtol=1e-13)
    v = [noisy(u.shape, k) for k in range(3)]
    np.testing.assert_allclose(
        convection_term(around(2 * u, spacing), v), 2 * convection_term(around(u, spacing), v), rtol=1e-12
    )
    np.testing.assert_allclose(
        curvature_term(around(2 * u, spacing), "nested", 0.0),
        2 * curvature_term(around(u, spacing), "nested", 0.0),
        rtol=1e-10,
        atol=1e-12,
    )


def test_without_gradient_the_balloon_lifts_every_voxel():
    """The 2019 slides read literally: no front propagation, u rises wherever the speed is positive."""
    u, s = noisy((6, 5)), torch.rand(6, 5, dtype=torch.float64)
    np.testing.assert_array_equal(balloon_term(around(u, (1.0, 1.0)), s, s >= 0, "none", 1), s)


def test_the_sides_of_the_balloon_are_chosen_per_voxel():
    """Region speed has both signs in one step: each voxel looks upwind for its own."""
    spacing = (1.0, 1.0)
    u = rough_distance((12, 12), spacing)
    s = torch.where(torch.arange(12)[:, None] < 6, 1.0, -1.0).to(torch.float64) * torch.ones(12, 12)
    both = balloon_term(around(u, spacing), s, s >= 0)
    up = balloon_term(around(u, spacing), torch.ones_like(s), torch.ones_like(s) > 0)
    down = balloon_term(around(u, spacing), -torch.ones_like(s), torch.ones_like(s) < 0)
    np.testing.assert_array_equal(both, torch.where(s >= 0, up, down))
    # A negative weight turns the sides as a negative speed does.
    parameters = LevelSetParameters(speed="region", balloon=-1.0, curvature=0.0, order=1)
    turned = rate_of_change(around(u, spacing), Speeds(-s, torch.ones_like(s)), parameters)
    np.testing.assert_array_equal(turned.total, both)


@pytest.mark.parametrize("gradient", ["godunov", "osher_sethian", "central", "none"])
@pytest.mark.parametrize("form", FORMS)
def test_a_batch_is_its_members(gradient, form):
    """No sum and no maximum reaches across the batch."""
    spacing = (1.5, 0.7)
    u, s = noisy((3, 7, 6)), torch.tanh(noisy((3, 7, 6), 1))
    v = [noisy((3, 7, 6), k) for k in (2, 3)]
    u[2] *= 1e3
    together = (
        balloon_term(around(u, spacing), s, s >= 0, gradient),
        curvature_term(around(u, spacing), form, gradient=gradient),
        convection_term(around(u, spacing), v),
    )
    for k in range(3):
        n = around(u[k], spacing)
        alone = (
            balloon_term(n, s[k], s[k] >= 0, gradient),
            curvature_term(n, form, gradient=gradient),
            convection_term(n, [w[k] for w in v]),
        )
        for a, b in zip(together, alone, strict=True):
            np.testing.assert_array_equal(a[k], b)


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (3.0, 1.0, 0.7)])
@pytest.mark.parametrize("gradient", ["godunov", "osher_sethian", "central", "none"])
@pytest.mark.parametrize("form", FORMS)
def test_gradients_agree_with_finite_differences(spacing, gradient, form):
    """Differentiable in u, in the speeds and in the weights (float64, delta > 0)."""
    shape = (4, 4, 3)[: len(spacing)]
    u = noisy(shape).requires_grad_()
    s = torch.tanh(noisy(shape, 1)).requires_grad_()
    v = [noisy(shape, k + 2).requires_grad_() for k in range(len(spacing))]

    def total(u, s, *v):
        n = around(u, spacing)
        return (
            balloon_term(n, s, (s >= 0).detach(), gradient, 2, 1e-2)
            + 0.3 * curvature_term(n, form, 1e-3, 1e-2, gradient)
            + convection_term(n, v)
        )

    assert torch.autograd.gradcheck(total, (u, s, *v), eps=1e-7, atol=1e-4, rtol=1e-4, fast_mode=len(spacing) == 3)


@pytest.mark.parametrize("gradient", ["godunov", "osher_sethian", "central"])
def test_gradients_are_finite_where_u_is_flat(gradient):
    """u is +-w far from the front and has a peak inside: no root may turn its zero into NaN there."""
    spacing = (1.0, 1.0)
    u = torch.from_numpy(np.clip(ball((25, 25), spacing, 8.0), -4, 4)).requires_grad_()
    speeds = Speeds(torch.ones_like(u), torch.ones_like(u), (torch.ones_like(u), torch.ones_like(u)))
    parameters = LevelSetParameters(
        speed="edge", curvature=0.2, convection=1.0, gradient=gradient, root_epsilon=1e-6, dtype="float64"
    )
    moved = explicit_step(u, spacing, speeds, 0.1, parameters, band_width_mm=4.0)
    (slope,) = torch.autograd.grad((moved**2).sum() + redistance(u, spacing, 4.0).sum(), u)
    assert bool(torch.isfinite(slope).all())
    assert float(slope.abs().sum()) > 1


def test_gradients_of_the_occupancy_are_finite_where_u_is_flat():
    spacing = (1.0, 1.0)
    u = torch.from_numpy(np.clip(ball((25, 25), spacing, 8.0), -4, 4)).requires_grad_()
    (slope,) = torch.autograd.grad(occupancy(around(u, spacing)).sum(), u)
    assert bool(torch.isfinite(slope).all())
    # Lifting u by one mm everywhere grows the area by its perimeter.
    assert float(slope.sum()) == pytest.approx(2 * np.pi * 8, rel=0.06)


def test_weights_of_the_equation_can_be_fitted():
    """The derivative of the area with respect to a weight agrees with central differences."""
    spacing = (1.0, 1.0)
    start = torch.from_numpy(np.clip(ball((25, 25), spacing, 7.0), -4, 4))
    g = torch.sigmoid(noisy((25, 25), 3))
    n = around(g, spacing)
    slopes = (central(n, 0), central(n, 1))

    def area(weights):
        u = start
        for _ in range(4):
            terms = rate_of_change(
                around(u, spacing),
                Speeds(g * weights[0], g * weights[1], tuple(v * weights[2] for v in slopes)),
                LevelSetParameters(balloon=1.0, curvature=1.0, convection=1.0, root_epsilon=1e-6, dtype="float64"),
            )
            u = redistance(u + 0.1 * terms.total, spacing, 4.0)
        return occupancy(around(u, spacing)).sum()

    weights = torch.tensor([0.9, 0.2, 0.5], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(area(weights), weights)
    for k in range(3):
        step = torch.zeros(3, dtype=torch.float64)
        step[k] = 1e-6
        expected = (area(weights.detach() + step) - area(weights.detach() - step)) / 2e-6
        assert float(slope[k]) == pytest.approx(float(expected), rel=1e-4)
