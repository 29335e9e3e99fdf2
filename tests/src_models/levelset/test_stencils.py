"""The finite differences: exact on polynomials, replicated borders, spacing per axis, the sides of upwinding."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from src_models.levelset.stencils import (
    around,
    backward,
    central,
    central_norm,
    forward,
    mixed,
    one_sided,
    second,
    upwind_norm,
)
from tests.scenes import grid

SPACINGS = [(1.0, 1.0), (3.0, 0.7), (1.0, 1.0, 1.0), (3.0, 1.0, 1.0), (1.5, 0.7, 1.0)]
GRADIENTS = ["godunov", "osher_sethian"]

fields = hnp.arrays(
    np.float64,
    hnp.array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=6),
    elements=st.floats(-4, 4, width=32),
)
spacings = st.tuples(*[st.floats(0.3, 4.0)] * 3)


def field(shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def shape_of(spacing):
    return (7, 6, 5)[: len(spacing)]


def inner(array, margin=2):
    return array[(slice(margin, -margin),) * array.ndim]


@pytest.mark.parametrize("spacing", SPACINGS)
def test_a_linear_function_has_its_slope(spacing):
    slopes = (0.3, -1.1, 2.0)[: len(spacing)]
    shape = (9, 8, 7)[: len(spacing)]
    x = grid(shape, spacing)
    n = around(torch.from_numpy(sum(a * b for a, b in zip(slopes, x, strict=True))), spacing)
    for axis, slope in enumerate(slopes):
        for difference in (forward, backward, central):
            np.testing.assert_allclose(inner(difference(n, axis)), slope, rtol=1e-13)
        for side in one_sided(n, axis, 2):
            np.testing.assert_allclose(inner(side), slope, rtol=1e-12)
        np.testing.assert_allclose(inner(second(n, axis)), 0, atol=1e-12)
    length = np.sqrt(sum(a * a for a in slopes))
    np.testing.assert_allclose(inner(central_norm(n)), length, rtol=1e-12)
    everywhere = torch.ones(shape, dtype=torch.bool)
    for growing, gradient, order in itertools.product((everywhere, ~everywhere), GRADIENTS, (1, 2)):
        np.testing.assert_allclose(inner(upwind_norm(n, growing, gradient, order)), length, rtol=1e-12)


@pytest.mark.parametrize("spacing", SPACINGS)
def test_a_quadratic_function_has_its_second_differences(spacing):
    shape = (9, 8, 7)[: len(spacing)]
    x = grid(shape, spacing)
    pairs = list(itertools.combinations(range(len(spacing)), 2))
    u = sum((k + 1) * v * v for k, v in enumerate(x)) + sum((a + 2 * b) * x[a] * x[b] for a, b in pairs)
    n = around(torch.from_numpy(np.asarray(u)), spacing)
    for axis in range(len(spacing)):
        np.testing.assert_allclose(inner(second(n, axis)), 2 * (axis + 1), rtol=1e-9)
        # The second-order one-sided differences are exact where the second difference is constant.
        for side in one_sided(n, axis, 2):
            np.testing.assert_allclose(inner(side), inner(central(n, axis)), rtol=1e-9, atol=1e-9)
    for a, b in pairs:
        np.testing.assert_allclose(inner(mixed(n, a, b)), a + 2 * b, rtol=1e-9)
        np.testing.assert_allclose(mixed(n, a, b), mixed(n, b, a), rtol=0, atol=1e-12)


def test_the_weights_are_those_of_the_definition():
    u = field((6, 5))
    n = around(u, (2.0, 0.5))
    i, j = 3, 2
    assert float(forward(n, 0)[i, j]) == float((u[i + 1, j] - u[i, j]) / 2.0)
    assert float(backward(n, 1)[i, j]) == float((u[i, j] - u[i, j - 1]) / 0.5)
    assert float(central(n, 1)[i, j]) == pytest.approx(float((u[i, j + 1] - u[i, j - 1]) / 1.0), rel=1e-15)
    assert float(second(n, 0)[i, j]) == pytest.approx(float((u[i + 1, j] - 2 * u[i, j] + u[i - 1, j]) / 4.0), rel=1e-14)
    corners = (u[i + 1, j + 1] - u[i + 1, j - 1] - u[i - 1, j + 1] + u[i - 1, j - 1]) / (4 * 2.0 * 0.5)
    assert float(mixed(n, 0, 1)[i, j]) == pytest.approx(float(corners), rel=1e-14)


@pytest.mark.parametrize("spacing", SPACINGS)
@given(value=st.floats(-1e6, 1e6))
@settings(max_examples=5, deadline=None)
def test_every_difference_of_a_constant_is_exactly_zero_up_to_the_border(spacing, value):
    n = around(torch.full(shape_of(spacing), value, dtype=torch.float64), spacing)
    axes = range(len(spacing))
    differences = [f(n, axis) for f in (forward, backward, central, second) for axis in axes]
    differences += [mixed(n, a, b) for a, b in itertools.combinations(axes, 2)]
    differences += [side for axis in axes for order in (1, 2) for side in one_sided(n, axis, order)]
    differences += [upwind_norm(n, torch.tensor(up), gradient, 2) for up in (True, False) for gradient in GRADIENTS]
    differences.append(central_norm(n))
    assert all(bool((d == 0).all()) for d in differences)


@given(u=fields, h=spacings)
@settings(max_examples=60, deadline=None)
def test_borders_are_those_of_an_array_replicated_beforehand(u, h):
    spacing = h[: u.ndim]
    margin = 3
    larger = np.pad(u, [(margin, margin) if n > 1 else (0, 0) for n in u.shape], mode="edge")
    cut = tuple(slice(margin, -margin) if n > 1 else slice(None) for n in u.shape)
    here, there = around(torch.from_numpy(u), spacing), around(torch.from_numpy(larger), spacing)
    for axis in here.axes:
        for difference in (forward, backward, central, second):
            np.testing.assert_array_equal(difference(here, axis), difference(there, axis)[cut])
        for first, other in zip(one_sided(here, axis, 2), one_sided(there, axis, 2), strict=True):
            np.testing.assert_array_equal(first, other[cut])
    for a, b in itertools.combinations(here.axes, 2):
        np.testing.assert_array_equal(mixed(here, a, b), mixed(there, a, b)[cut])


@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("spacing", SPACINGS)
def test_growing_and_shrinking_are_mirror_images(gradient, order, spacing):
    u = field(shape_of(spacing))
    up = torch.ones_like(u, dtype=torch.bool)
    grown = upwind_norm(around(u, spacing), up, gradient, order)
    shrunk = upwind_norm(around(-u, spacing), ~up, gradient, order)
    np.testing.assert_array_equal(grown, shrunk)
    mixed_sides = torch.from_numpy(np.random.default_rng(1).random(u.shape) > 0.5)
    chosen = upwind_norm(around(u, spacing), mixed_sides, gradient, order)
    other = upwind_norm(around(u, spacing), ~up, gradient, order)
    np.testing.assert_array_equal(chosen, torch.where(mixed_sides, grown, other))


def test_one_voxel_in_a_sea_grows_from_its_neighbours_only():
    u = -torch.ones(7, 7, dtype=torch.float64)
    u[3, 3] = 1
    n = around(u, (1.0, 1.0))
    growing = upwind_norm(n, torch.ones_like(u, dtype=torch.bool))
    assert growing[3, 3] == 0
    faces = [(2, 3), (4, 3), (3, 2), (3, 4)]
    assert [float(growing[place]) for place in faces] == [2.0] * 4
    assert float(growing.sum()) == 8.0
    shrinking = upwind_norm(n, torch.zeros_like(u, dtype=torch.bool))
    assert float(shrinking[3, 3]) == pytest.approx(2 * np.sqrt(2), rel=1e-15)
    assert float(shrinking.sum()) == float(shrinking[3, 3])
    both_sides = upwind_norm(n, torch.zeros_like(u, dtype=torch.bool), "osher_sethian")
    assert float(both_sides[3, 3]) == pytest.approx(4.0, rel=1e-15)


def test_second_order_is_second_order():
    """Halving the voxels divides the error of a one-sided difference of a smooth function by about four."""
    errors = []
    for count in (40, 80):
        h = 2.0 / count
        # The second derivative keeps its sign on the interval, so minmod never falls back to first order.
        x = 0.2 + np.arange(count) * h
        minus, plus = one_sided(around(torch.from_numpy(np.exp(x))[None], (1.0, h)), 1, 2)
        inside = slice(3, -3)
        errors.append([float(abs(side[0] - torch.from_numpy(np.exp(x)))[inside].max()) for side in (minus, plus)])
    for coarse, fine in zip(*errors, strict=True):
        assert 3.5 < coarse / fine < 4.6


def test_second_order_takes_the_smoother_side():
    """Across a kink the difference must not see the other branch: minmod."""
    x = np.arange(-6.0, 7.0)
    u = torch.from_numpy(abs(x))[None]
    minus, plus = one_sided(around(u, (1.0, 1.0)), 1, 2)
    assert float(minus[0, 6]) == -1
    assert float(plus[0, 6]) == 1
    # Beside the kink as well: with a mean of the bends in place of minmod these would be off by a half.
    np.testing.assert_array_equal(minus[0, 7:], torch.ones(6, dtype=torch.float64))
    np.testing.assert_array_equal(plus[0, :6], -torch.ones(6, dtype=torch.float64))


def test_a_batch_is_its_members():
    u = field((3, 6, 5, 4))
    spacing = (1.5, 0.7, 1.0)
    together = around(u, spacing)
    for k in range(3):
        alone = around(u[k], spacing)
        for axis in range(3):
            np.testing.assert_array_equal(central(together, axis)[k], central(alone, axis))
        up = torch.ones_like(u, dtype=torch.bool)
        expected = upwind_norm(alone, up[k], "godunov", 2)
        np.testing.assert_array_equal(upwind_norm(together, up, "godunov", 2)[k], expected)


def test_an_axis_of_length_one_drops_out():
    u = field((5, 6))
    flat, thin = around(u, (0.7, 1.3)), around(u[None], (9.0, 0.7, 1.3))
    assert thin.axes == (1, 2)
    np.testing.assert_array_equal(central_norm(flat), central_norm(thin)[0])
    up = torch.ones_like(u, dtype=torch.bool)
    np.testing.assert_array_equal(upwind_norm(flat, up, "godunov", 2), upwind_norm(thin, up[None], "godunov", 2)[0])
