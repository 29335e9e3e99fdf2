"""Speed images: closed forms of both modes, units, and what must not influence them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from src_models.levelset import LevelSetParameters
from src_models.levelset.fields import SpeedFields, speed_images
from src_models.levelset.speed import (
    chan_vese_speed,
    edge_indicator,
    gradient_magnitude,
    region_speed,
    speed_image,
)
from src_models.levelset.stencils import around
from tests.scenes import ball, grid

H = (3.0, 1.0, 0.7)


def ramp(shape, spacing, slopes):
    return np.asarray(sum(a * x for a, x in zip(slopes, grid(shape, spacing), strict=True)))


def inner(array, margin=2):
    return array[(slice(margin, -margin),) * array.ndim]


def test_the_gradient_is_per_mm_and_per_axis():
    image = ramp((9, 8, 7), H, (2.0, -1.0, 0.5))
    length = np.sqrt(4 + 1 + 0.25)
    np.testing.assert_allclose(inner(gradient_magnitude(image, H, 0.0)), length, rtol=1e-12)
    # The width of the blur is mm too, one for all axes or one per axis.
    step = np.zeros((31, 31))
    step[:, 16:] = 1
    wide = gradient_magnitude(step, (1.0, 0.5), 2.0)
    same = gradient_magnitude(step, (1.0, 0.5), (2.0, 2.0))
    np.testing.assert_array_equal(wide, same)
    # The steepest slope of a blurred unit step is 1 / (sqrt(2 pi) sigma).
    assert wide.max() == pytest.approx(1 / (np.sqrt(2 * np.pi) * 2.0), rel=0.02)
    along_the_edge_only = gradient_magnitude(step, (1.0, 0.5), (2.0, 0.0))
    np.testing.assert_allclose(along_the_edge_only, gradient_magnitude(step, (1.0, 0.5), 0.0), atol=1e-12)


@pytest.mark.parametrize("power", [1.0, 2.0, 3.0, 4.0])
def test_the_normalised_edge_image(power):
    """g = 1 / (1 + (|grad I| / lambda)^p), lambda = contrast * range: 1/2 where the gradient is lambda."""
    image = ramp((9, 30), (1.0, 1.0), (0.0, 4.0))
    span = image.max() - image.min()
    p = LevelSetParameters(sigma=0.0, contrast=4.0 / span, edge_power=power)
    np.testing.assert_allclose(inner(edge_indicator(image, (1.0, 1.0), p)), 0.5, rtol=1e-12)
    p = p.model_copy(update={"contrast": 2.0 / span})
    np.testing.assert_allclose(inner(edge_indicator(image, (1.0, 1.0), p)), 1 / (1 + 2.0**power), rtol=1e-12)


def test_the_normalised_edge_image_knows_no_units():
    image = np.random.default_rng(0).normal(size=(12, 13, 14))
    p = LevelSetParameters()
    np.testing.assert_allclose(edge_indicator(250 * image - 1000, H, p), edge_indicator(image, H, p), rtol=1e-9)


def test_the_papers_edge_image_depends_on_scale():
    image = ramp((9, 9), (1.0, 1.0), (3.0, 4.0))
    p = LevelSetParameters(edge_preset="paper", sigma=5.0)
    np.testing.assert_allclose(inner(edge_indicator(image, (1.0, 1.0), p)), 1 / 26, rtol=1e-12)


def test_the_range_is_taken_before_the_blur_and_can_be_fixed():
    """A crop with the stored range has the same g as the whole."""
    image = np.random.default_rng(0).normal(size=(20, 22))
    image[0, 0] = 80.0
    p = LevelSetParameters(sigma=0.0)
    fixed = p.model_copy(update={"value_range": (float(image.min()), float(image.max()))})
    np.testing.assert_array_equal(edge_indicator(image, (1.0, 1.0), p), edge_indicator(image, (1.0, 1.0), fixed))
    part = (slice(8, 18), slice(9, 19))
    whole = edge_indicator(image, (1.0, 1.0), fixed)[part]
    np.testing.assert_array_equal(inner(edge_indicator(image[part], (1.0, 1.0), fixed), 1), inner(whole, 1))


@pytest.mark.parametrize("preset", ["paper", "normalised"])
def test_a_far_voxel_changes_nothing(preset):
    """g is not divided by its own maximum or the image's, given the range."""
    image = np.random.default_rng(0).normal(size=(20, 22))
    louder = image.copy()
    louder[19, 21] = 1e4
    p = LevelSetParameters(edge_preset=preset, sigma=0.0, value_range=(-3.0, 3.0))
    a, b = (edge_indicator(i, (1.0, 1.0), p) for i in (image, louder))
    np.testing.assert_array_equal(a[:17, :19], b[:17, :19])
    assert a.max() > 0.1


def test_a_constant_image_has_no_edges_and_no_range():
    image = np.full((5, 6), 7.0)
    for preset in ("paper", "normalised"):
        assert (edge_indicator(image, (1.0, 1.0), LevelSetParameters(edge_preset=preset)) == 1).all()
    assert (region_speed(image, LevelSetParameters(speed="region")) == 0).all()


@given(low=st.floats(-1000, 1000), width=st.floats(1, 2000), smoothness=st.floats(0.5, 8))
@settings(max_examples=30, deadline=None)
def test_the_threshold_speed(low, width, smoothness):
    high, e = low + width, 10.0**-smoothness
    image = np.array([[low - 100 * width, low, (low + high) / 2, high, high + 100 * width]])
    p = LevelSetParameters(speed="region", lower=low, upper=high, smoothness=smoothness)
    below, at_low, middle, at_high, above = region_speed(image, p)[0]
    # Halving the distance halves tanh's argument: at the middle both are tanh(k range / 2).
    k = np.log((2 - e) / e)
    assert middle == pytest.approx(2 * np.tanh(k / 2) - 1, rel=1e-9)
    assert middle == pytest.approx(1 - 2 * e, rel=1e-6)
    assert abs(at_low) <= e + 1e-9
    assert abs(at_high) <= e + 1e-9
    assert below == pytest.approx(-1, abs=1e-6)
    assert above == pytest.approx(-1, abs=1e-6)


def test_one_sided_thresholds():
    image = np.linspace(0.0, 300.0, 301)[None]
    k = np.log((2 - 1e-3) / 1e-3) / 100.0
    up = region_speed(image, LevelSetParameters(speed="region", lower=120.0))
    np.testing.assert_allclose(up, np.tanh(k * (image - 120.0)), rtol=1e-9, atol=1e-12)
    down = region_speed(image, LevelSetParameters(speed="region", upper=120.0))
    np.testing.assert_allclose(down, np.tanh(k * (120.0 - image)), rtol=1e-9, atol=1e-12)


def test_thresholds_default_to_thirds_of_the_range():
    image = np.linspace(0.0, 300.0, 301)[None]
    default = region_speed(image, LevelSetParameters(speed="region"))
    given_ = region_speed(image, LevelSetParameters(speed="region", lower=100.0, upper=200.0))
    np.testing.assert_allclose(default, given_, atol=1e-12)
    assert default[0, 150] == pytest.approx(0.998)


@pytest.mark.parametrize(("inside_weight", "outside_weight"), [(1.0, 1.0), (2.0, 1.0), (1.0, 3.0)])
def test_the_two_means_speed(inside_weight, outside_weight):
    """Positive where the value is that of the inside; 0 where the weighted squares agree."""
    share = (ball((12, 12), (1.0, 1.0), 4.0) > 0).astype(float)
    image = np.where(share > 0, 10.0, 2.0)
    image[0, 0] = 6.0
    p = LevelSetParameters(
        speed="region", region="chan_vese", inside_weight=inside_weight, outside_weight=outside_weight
    )
    outside_mean = image[share == 0].mean()
    s = chan_vese_speed(image, share, (1.0, 1.0), p)
    raw = outside_weight * (image - outside_mean) ** 2 - inside_weight * (image - 10.0) ** 2
    expected = np.clip(raw / (max(inside_weight, outside_weight) * (10.0 - outside_mean) ** 2), -1, 1)
    np.testing.assert_allclose(s, expected, rtol=1e-12, atol=1e-12)
    assert s[6, 6] > 0 > s[0, 11]


def test_the_two_means_speed_is_zero_where_the_means_agree():
    p = LevelSetParameters(speed="region", region="chan_vese")
    assert (chan_vese_speed(np.full((6, 6), 3.0), np.eye(6), (1.0, 1.0), p) == 0).all()


def test_local_means_follow_a_bias_that_global_means_cannot():
    shape = (40, 60)
    body = ball(shape, (1.0, 1.0), 12.0) > 0
    bias = np.linspace(0, 60, 60)[None] * np.ones(shape)
    image = bias + 10.0 * body
    wrong = {}
    for sigma in (None, 5.0):
        p = LevelSetParameters(speed="region", region="chan_vese", local_sigma=sigma)
        s = chan_vese_speed(image, body.astype(float), (1.0, 1.0), p)
        near = np.abs(ball(shape, (1.0, 1.0), 12.0)) < 3
        wrong[sigma] = ((s > 0) != body)[near].mean()
    assert wrong[5.0] < 0.2 < wrong[None]


def test_probabilities():
    p = LevelSetParameters(speed="region", region="probability")
    np.testing.assert_allclose(region_speed(np.array([[0.0, 0.25, 1.0]]), p), [[-1.0, -0.5, 1.0]])


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16, np.uint8, bool])
@pytest.mark.parametrize("speed", ["edge", "region"])
def test_the_preview_is_the_same_function_on_one_slice(dtype, speed):
    rng = np.random.default_rng(0)
    volume = (rng.random((4, 12, 13)) > 0.5) if dtype is bool else (rng.random((4, 12, 13)) * 200).astype(dtype)
    p = LevelSetParameters(speed=speed, sigma=0.0, value_range=(0.0, 200.0))
    s = speed_image(volume, H, p)
    assert s.dtype == (np.float64 if dtype is np.float64 else np.float32)
    assert s.min() >= (0 if speed == "edge" else -1)
    assert s.max() <= 1
    if speed == "region":
        np.testing.assert_array_equal(s[2], speed_image(volume[2], H[1:], p))
    thin = speed_image(volume[2:3], H, p)[0]
    np.testing.assert_array_equal(thin, speed_image(volume[2], H[1:], p))


def fields_of(given, spacing, **settings):
    p = LevelSetParameters(**({"value_range": (0.0, 1.0), "dtype": "float64"} | settings))
    return SpeedFields(
        speed_images(np.zeros(given.shape), spacing, p, given), spacing, p, torch.empty(0, dtype=torch.float64)
    )


@pytest.mark.parametrize("slope", [1.0, 0.5, 2.0])
def test_the_speed_is_read_at_the_closest_point_of_the_front(slope):
    """For every voxel that of the front, whatever the slope of u; a plane at x = 7.3 mm reads s there."""
    shape, spacing = (7, 30), (1.0, 0.5)
    x = np.broadcast_to(np.arange(30) * 0.5, shape)
    given = np.tanh((8 - x) / 3)
    # Multilinear between the voxels at 7 and 7.5 mm.
    expected = 0.4 * np.tanh((8 - 7.0) / 3) + 0.6 * np.tanh((8 - 7.5) / 3)
    u = torch.from_numpy(slope * (7.3 - x))
    at_front = fields_of(given, spacing, speed="region", eps=0.0).at_front(around(u, spacing)).balloon
    near = np.abs(7.3 - x) < 1.5 / slope
    if slope == 1.0:
        np.testing.assert_allclose(at_front[near], expected, rtol=1e-9)
    else:
        # The point lies u / |Du| away in length units of u: only a distance leads to the front itself.
        place = x + slope * (7.3 - x)
        inner_voxels = near & (place > 0) & (place < 14.5)
        linear = np.interp(place, x[0], given[0])
        np.testing.assert_allclose(at_front[inner_voxels], linear[inner_voxels], rtol=1e-9)
    at_voxel = fields_of(given, spacing, speed="region").at_voxels(around(u, spacing)).balloon
    np.testing.assert_array_equal(at_voxel, given)


def test_powers_are_applied_after_reading():
    shape, spacing = (5, 12), (1.0, 1.0)
    x = np.broadcast_to(np.arange(12.0), shape)
    given = np.where(x < 6, 0.8, 0.2)
    u = torch.from_numpy(5.5 - x)
    fields = fields_of(given, spacing, speed="edge", balloon_exponent=2.0, curvature_exponent=3.0, eps=0.0)
    speeds = fields.at_front(around(u, spacing))
    assert float(speeds.balloon[2, 5]) == pytest.approx(0.5**2)
    assert float(speeds.curvature[2, 5]) == pytest.approx(0.5**3)
    region = fields_of(-given, spacing, speed="region", balloon_exponent=2.0, eps=0.0)
    assert float(region.at_front(around(u, spacing)).balloon[2, 5]) == pytest.approx(-(0.5**2))


def test_walls_take_the_speed_away_beside_them_too():
    """S = 0 on the wall, and half of it where the front stands half a voxel before the wall."""
    shape, spacing = (5, 12), (1.0, 1.0)
    x = np.broadcast_to(np.arange(12.0), shape)
    walls = torch.from_numpy((x == 6).copy()).reshape(-1)
    fields = fields_of(np.ones(shape), spacing, speed="edge", convection=1.0, eps=0.0)
    fields.set_walls(walls)
    n = around(torch.from_numpy(5.5 - x), spacing)
    for speeds in (fields.at_front(n), fields.at_voxels(n)):
        for part in (speeds.balloon, speeds.curvature, *speeds.convection):
            assert bool((part[:, 6] == 0).all())
    assert float(fields.at_front(n).balloon[2, 5]) == pytest.approx(0.5)


def test_convection_reads_the_gradient_of_g():
    shape, spacing = (9, 10), (2.0, 0.5)
    y, x = (np.broadcast_to(v, shape) for v in grid(shape, spacing))
    given = 2 + 0.03 * y - 0.2 * x
    n = around(torch.from_numpy(0.3 - np.asarray(y)), spacing)
    fields = fields_of(given, spacing, speed="edge", convection=1.0)
    for speeds in (fields.at_voxels(n), fields.at_front(n)):
        np.testing.assert_allclose(speeds.convection[0][3:6, 2:-2], 0.03, rtol=1e-9)
        np.testing.assert_allclose(speeds.convection[1][3:6, 2:-2], -0.2, rtol=1e-9)
    powered = fields_of(given, spacing, speed="edge", convection=1.0, convection_exponent=2.0).at_voxels(n)
    np.testing.assert_allclose(powered.convection[1][2:-2, 2:-2], -0.2 * given[2:-2, 2:-2] ** 2, rtol=1e-9)


def test_the_blur_before_convection_is_its_own():
    given = np.ones((9, 30))
    given[:, 15:] = 0.2
    n = around(torch.from_numpy(np.broadcast_to(14.0 - np.arange(30.0), (9, 30)).copy()), (1.0, 1.0))
    sharp = fields_of(given, (1.0, 1.0), speed="edge", convection=1.0).at_voxels(n)
    soft = fields_of(given, (1.0, 1.0), speed="edge", convection=1.0, convection_sigma=2.0).at_voxels(n)
    np.testing.assert_array_equal(sharp.balloon, soft.balloon)
    assert float(soft.convection[1].min()) == pytest.approx(-0.8 / (np.sqrt(2 * np.pi) * 2.0), rel=0.08)
    assert float(sharp.convection[1].min()) == pytest.approx(-0.4)


def test_region_mode_has_no_convection_and_full_curvature_by_default():
    n = around(torch.from_numpy(ball((9, 9), (1.0, 1.0), 3.0)), (1.0, 1.0))
    given = np.random.default_rng(0).uniform(-1, 1, (9, 9))
    speeds = fields_of(given, (1.0, 1.0), speed="region").at_front(n)
    assert speeds.convection == ()
    assert bool((speeds.curvature == 1).all())


@pytest.mark.parametrize(
    ("shape", "spacing", "sigma"),
    [
        ((40, 30, 20), (3.0, 0.7, 1.0), (2.0, 1.0, 0.0)),
        ((40, 30, 20), (1.0, 1.0, 1.0), 1.5),
        ((1, 40, 33), (5.0, 1.0, 1.0), 1.0),
        ((40, 33), (1.0, 0.5), 0.0),
    ],
)
@pytest.mark.parametrize("mode", ["edge", "region"])
def test_blocks_have_the_bits_of_the_whole(shape, spacing, sigma, mode, monkeypatch):
    from src_models.levelset import speed

    image = np.random.default_rng(3).normal(100, 20, shape).astype(np.float32)
    p = LevelSetParameters(speed=mode, sigma=sigma)
    whole = speed_image(image, spacing, p)
    monkeypatch.setattr(speed, "BLOCK_SIDE", 7)
    np.testing.assert_array_equal(speed_image(image, spacing, p), whole)
