"""Redistancing keeps the front: no sign changes, no drift, no half-voxel jump; and what comes out is a distance."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from src_models.levelset.initial import from_labels
from src_models.levelset.redistancing import redistance, redistance_fully
from src_models.levelset.stencils import around, central_norm
from tests.scenes import ball, band_of, front_position, grid, radii

GRIDS = [((34, 34), (1.0, 1.0)), ((14, 34), (3.0, 1.0)), ((26, 26, 26), (1.0,) * 3), ((12, 28, 28), (3.0, 1.0, 1.0))]

masks = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=7))
spacings = st.tuples(*[st.floats(0.5, 3.0)] * 3)


@given(mask=masks, h=spacings)
@settings(max_examples=60, deadline=None)
def test_labels_keep_every_sign(mask, h):
    spacing = h[: mask.ndim]
    width = 4 * max(spacing)
    u = from_labels(mask, spacing, width)
    np.testing.assert_array_equal(u > 0, mask)
    assert np.isfinite(u).all()
    assert np.abs(u).max() <= width


@given(
    u=hnp.arrays(np.float64, hnp.array_shapes(min_dims=2, max_dims=3, max_side=7), elements=st.floats(-5, 5, width=32)),
    h=spacings,
)
@settings(max_examples=60, deadline=None)
def test_any_u_keeps_every_sign(u, h):
    spacing = h[: u.ndim]
    width = 4 * max(spacing)
    for tidy in (redistance, redistance_fully):
        np.testing.assert_array_equal(tidy(torch.from_numpy(u), spacing, width).numpy() > 0, u > 0)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_sweep_that_would_change_a_sign_leaves_the_voxel(sign):
    """A crease of small values between high ones: the second-order slope there overshoots."""
    line = np.array([4.0, 4.0, 4.0, 0.05, 0.1, 4.0, 4.0, 4.0])
    u = sign * torch.from_numpy(np.broadcast_to(line, (6, 8)).copy())
    for sweeps in (1, 2, 7):
        assert bool(((redistance(u, (1.0, 1.0), 4.0, sweeps=sweeps) > 0) == (u > 0)).all())


@pytest.mark.parametrize(("shape", "spacing"), GRIDS)
def test_an_exact_ball_rests_under_many_calls(shape, spacing):
    u = torch.from_numpy(band_of(ball(shape, spacing, 8.3), spacing))
    before = radii(u.numpy(), spacing)
    for _ in range(200):
        u = redistance(u, spacing, 4 * max(spacing))
    np.testing.assert_allclose(radii(u.numpy(), spacing), before, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("slope", "kept"), [(0.76, True), (1.24, True), (0.6, False), (1.6, False)])
@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.5, 2.0)])
def test_beside_the_front_nothing_changes_within_the_dead_band(slope, kept, spacing):
    """A plane off the voxel centres with a slope that is or is not within 1 +- 0.25."""
    x = np.broadcast_to(grid((12, 9), spacing, (5.3 * spacing[0], 0.0))[0], (12, 9))
    u = torch.from_numpy(np.clip(-slope * x, -4, 4))
    beside = np.abs(x) < spacing[0]
    after = redistance(u, spacing, 4.0).numpy()
    if kept:
        np.testing.assert_array_equal(after[beside], u.numpy()[beside])
    else:
        limit = np.clip(slope, 0.75, 1.25)
        np.testing.assert_allclose(after[beside], -limit * x[beside], rtol=1e-12)
    np.testing.assert_allclose(front_position(after, spacing, 0), 5.3 * spacing[0], rtol=0, atol=1e-12)
    full = redistance_fully(u, spacing, 4.0).numpy()
    np.testing.assert_allclose(full, np.clip(-x, -4, 4), rtol=0, atol=0.002)


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (3.0, 1.0), (1.5, 0.7, 1.0)])
def test_the_front_of_a_label_lies_between_its_voxels(spacing):
    """Half way, not half a voxel aside as a distance transform of the mask has it."""
    shape = (12, 11, 10)[: len(spacing)]
    for axis in range(len(spacing)):
        mask = np.zeros(shape, dtype=bool)
        mask[(slice(None),) * axis + (slice(0, 5),)] = True
        u = from_labels(mask, spacing, 4 * max(spacing))
        expected = (4.5 - np.arange(shape[axis])) * spacing[axis]
        line = np.moveaxis(u, axis, -1)
        np.testing.assert_allclose(front_position(u, spacing, axis), 4.5 * spacing[axis], rtol=0, atol=1e-12)
        np.testing.assert_allclose(
            line,
            np.broadcast_to(np.clip(expected, -4 * max(spacing), 4 * max(spacing)), line.shape),
            atol=0.01 * max(spacing),
        )


@pytest.mark.parametrize(("shape", "spacing"), GRIDS)
def test_a_label_of_a_ball_becomes_its_distance(shape, spacing):
    exact = ball(shape, spacing, 9.0)
    u = from_labels(exact > 0, spacing, 4 * max(spacing))
    assert radii(u, spacing).mean() == pytest.approx(9.0, abs=0.15 * max(spacing))
    band = np.abs(exact) < 3 * max(spacing)
    slope = central_norm(around(torch.from_numpy(u), spacing)).numpy()
    inner = band & (np.abs(exact) > max(spacing)) & (ball(shape, spacing, 9.0) < 6)
    assert np.abs(slope[inner] - 1).mean() < 0.1
    assert np.abs(u - exact)[inner].max() < 0.8 * max(spacing)


@pytest.mark.parametrize(("shape", "spacing"), GRIDS)
def test_a_ball_of_any_slope_becomes_a_distance_with_the_same_front(shape, spacing):
    exact = ball(shape, spacing, 9.0)
    width = 4 * max(spacing)
    u = redistance_fully(torch.from_numpy(exact * (2.0 + 0.1 * exact)), spacing, width).numpy()
    assert radii(u, spacing).mean() == pytest.approx(9.0, abs=0.1)
    band = (np.abs(exact) < 0.8 * width) & (exact < 6)
    assert np.abs(u - exact)[band].mean() < 0.1 * max(spacing)


def test_far_from_the_front_u_is_the_half_width():
    spacing = (1.0, 1.0)
    u = redistance_fully(torch.from_numpy(ball((40, 40), spacing, 12.0) * 7), spacing, 4.0).numpy()
    exact = ball((40, 40), spacing, 12.0)
    assert (u[exact > 5] == 4.0).all()
    assert (u[exact < -5] == -4.0).all()


def test_sweeps_look_away_from_the_front():
    """Information leaves the front: a bump far inside must not reach the voxels nearer to the front."""
    spacing = (1.0, 1.0)
    exact = band_of(ball((33, 33), spacing, 10.0), spacing)
    bumped = exact.copy()
    bumped[exact > 3] = 3.6
    a, b = (redistance(torch.from_numpy(v), spacing, 4.0, sweeps=4).numpy() for v in (exact, bumped))
    near_the_front = (exact > 0) & (exact < 2)
    np.testing.assert_array_equal(a[near_the_front], b[near_the_front])


def test_a_contact_of_two_balls_stays_where_it_is():
    """Redistancing must not open a gap between two fronts that touch, nor close one."""
    spacing, shape = (1.0, 1.0), (24, 44)
    u = np.maximum(ball(shape, spacing, 8.0, (11.5, 13.0)), ball(shape, spacing, 8.0, (11.5, 30.2)))
    start = torch.from_numpy(band_of(u, spacing))
    end = start
    for _ in range(50):
        end = redistance(end, spacing, 4.0)
    np.testing.assert_array_equal(end > 0, start > 0)
