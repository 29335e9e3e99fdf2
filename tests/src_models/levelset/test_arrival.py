"""Arrival times: closed forms, invariances, agreement with another program, and the preview's manners."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from src_models.errors import GeometryError, InputError
from src_models.levelset import LevelSetParameters
from src_models.levelset.arrival import NOTE, arrival_preview, arrival_times
from src_models.levelset.initial import Seeds, Sphere
from tests.runs import finish, states
from tests.scenes import ball, dice, race_scene

BALLS = [((64, 64), (1.0, 1.0)), ((48, 48, 48), (1.0, 1.0, 1.0)), ((18, 48, 48), (3.0, 1.0, 1.0))]


def times(speed, start, spacing, balloon=1.0, **settings):
    return finish(arrival_times(speed, start, spacing, balloon, **settings)).times


@pytest.mark.parametrize(("shape", "spacing"), BALLS)
def test_a_ball_grows_from_8_to_20_mm(shape, spacing):
    start, grown = ball(shape, spacing, 8.0), ball(shape, spacing, 20.0) > 0
    speed = np.full(shape, 0.5)
    assert dice(times(speed, start, spacing, 2.0) <= 12, grown) >= 0.995
    first = dice(times(speed, start, spacing, 2.0, order=1) <= 12, grown)
    assert 0.96 <= first < 0.99
    # Labels have no place between the voxels to offer: the blocky front is ahead by a fifth of a voxel.
    assert dice(times(speed, start > 0, spacing, 2.0) <= 12, grown) >= (0.98 if max(spacing) == 1 else 0.96)


def test_the_time_is_zero_in_the_seed_and_the_distance_over_the_speed_beside_it():
    u = ball((40, 40), (1.0, 1.0), 9.3)
    speed = np.random.default_rng(0).uniform(0.3, 1, u.shape)
    found = times(speed, u, (1.0, 1.0), 2.0)
    assert (found[u > 0] == 0).all()
    beside = (u <= 0) & (u > -0.3)
    np.testing.assert_allclose(found[beside], (-u / (2 * speed))[beside], rtol=0.05)


@pytest.mark.parametrize("spacing", [0.4, 3.0])
def test_through_layers_the_times_add_up(spacing):
    f = np.random.default_rng(1).uniform(0.2, 1, 30)
    speed = np.broadcast_to(f[:, None], (30, 12)).copy()
    start = np.zeros((30, 12), bool)
    start[0] = True
    found = times(speed, start, (spacing, 1.0), order=1)
    exact = np.cumsum(spacing / f[1:]) - spacing / f[1] / 2
    np.testing.assert_allclose(found[1:, 6], exact, rtol=1e-5)
    assert (found == found[:, :1]).all()


def test_a_wave_from_a_point_in_a_linear_speed():
    """F = 1 + a x: T = arccosh(1 + a^2 r^2 / (2 F0 F)) / a (Slotnick 1936)."""
    a, shape, h = 0.05, (81, 81), (0.5, 0.5)
    y, x = np.meshgrid(*(np.arange(n) * 0.5 - 20 for n in shape), indexing="ij")
    speed = 1.5 + a * x
    exact = np.arccosh(1 + a**2 * (x**2 + y**2) / (2 * 1.5 * speed)) / a
    at = 3.0
    found = times(speed, (at - exact) * 1.5, h)
    far = exact > at + 1
    assert np.abs(found[far] + at - exact[far]).max() <= 0.06
    first = times(speed, (at - exact) * 1.5, h, order=1)
    assert np.abs(first[far] + at - exact[far]).max() > 0.1


@pytest.mark.parametrize(("shape", "spacing"), [((40, 50), (1.0, 1.0)), ((14, 20, 24), (2.5, 0.7, 1.0))])
def test_first_order_is_that_of_simpleitk(shape, spacing):
    sitk = pytest.importorskip("SimpleITK")
    speed = np.random.default_rng(2).uniform(0.2, 1.0, shape)
    start = ball(shape, spacing, 4.0) > 0
    ours = times(speed, start, spacing, order=1)
    beside = np.zeros(shape, bool)
    for axis in range(len(shape)):
        for way in (-1, 1):
            beside |= np.roll(start, way, axis) & ~start
    picture = sitk.GetImageFromArray(speed)
    picture.SetSpacing(spacing[::-1])
    march = sitk.FastMarchingImageFilter()
    points = np.argwhere(beside)
    march.SetTrialPoints([tuple(int(i) for i in p[::-1]) for p in points])
    march.SetInitialTrialValues([float(ours[tuple(p)]) for p in points])
    march.SetStoppingValue(1e6)
    theirs = sitk.GetArrayFromImage(march.Execute(picture))
    # Inside the seed theirs runs on; it comes back out later than what started there.
    np.testing.assert_allclose(ours[~start], theirs[~start], rtol=1e-5)


def test_only_growth_arrives():
    speed = np.ones((30, 30))
    speed[:, 15] = -0.5
    speed[3, 15] = 0.5
    start = np.zeros((30, 30), bool)
    start[20:22, 4:6] = True
    found = times(speed, start, (1.0, 1.0))
    assert np.isinf(found[:, 15][np.arange(30) != 3]).all()
    behind = found[20, 25]
    assert behind > found[3, 15] > found[20, 14]
    assert np.isfinite(behind)
    shrinking = finish(arrival_times(np.ones((30, 30)), start, (1.0, 1.0), -1.0))
    assert np.isinf(shrinking.times[~start]).all()
    assert any("grows nowhere" in note for note in shrinking.notes)
    # Where the region speed is negative a negative balloon grows.
    assert np.isfinite(times(-np.ones((30, 30)), start, (1.0, 1.0), -1.0)).all()


def test_it_stops_at_the_time_asked_for():
    start = ball((50, 50), (1.0, 1.0), 5.0)
    speed = np.random.default_rng(3).uniform(0.3, 1, start.shape)
    whole = times(speed, start, (1.0, 1.0))
    part = times(speed, start, (1.0, 1.0), until=9.0)
    assert np.array_equal(part, np.where(whole <= 9.0, whole, np.inf))


@pytest.mark.parametrize("order", [1, 2])
def test_one_slice_is_a_picture_and_axes_may_be_transposed(order):
    random = np.random.default_rng(4)
    start, speed = ball((24, 30), (0.5, 1.0), 4.0), random.uniform(0.2, 1, (24, 30))
    flat = times(speed, start, (0.5, 1.0), order=order)
    thin = times(speed[:, None], start[:, None], (0.5, 9.0, 1.0), order=order)
    assert np.array_equal(thin[:, 0], flat)
    turned = times(speed.T, start.T, (1.0, 0.5), order=order)
    np.testing.assert_allclose(turned.T, flat, rtol=1e-5)
    flipped = times(speed[::-1, ::-1], start[::-1, ::-1], (0.5, 1.0), order=order)
    np.testing.assert_allclose(flipped[::-1, ::-1], flat, rtol=1e-5)


def test_a_faster_balloon_only_shortens_the_time():
    start, speed = ball((24, 30), (1.0, 1.0), 4.0), np.random.default_rng(5).uniform(0.2, 1, (24, 30))
    np.testing.assert_allclose(
        times(speed, start, (1.0, 1.0), 4.0) * 4, times(speed, start, (1.0, 1.0), 1.0), rtol=1e-5
    )


@pytest.mark.parametrize("mode", ["edge", "region"])
@pytest.mark.parametrize("drawn", ["seeds", "labels"])
def test_the_first_picture_is_coarse_and_like_the_last(mode, drawn):
    scene = race_scene((64, 64, 64), noise=8.0)
    seeds = Seeds(spheres=(Sphere(centre=(31.5, 31.5, 31.5), radius=4.0),))
    p = LevelSetParameters(speed=mode, lower=110.0)
    seen, last = states(arrival_preview(scene.image, seeds if drawn == "seeds" else scene.start, scene.spacing, p))
    pictures = [state.arrival for state in seen if state.arrival is not None]
    assert [picture.level.shape for picture in pictures] == [(32, 32, 32)]
    assert last.level.shape == last.times.shape == pictures[0].times.shape == scene.image.shape
    assert NOTE in last.notes
    for t in (5.0, 10.0):
        assert dice(pictures[0].mask(t), last.mask(t)) >= 0.9
        assert dice(last.mask(t), ball(scene.image.shape, scene.spacing, 4.0 + t) > 0) >= 0.93
    inside = scene.truth & (ball(scene.image.shape, scene.spacing, 16.0) > 0)
    assert (last.times[inside] < 40).mean() > 0.999
    assert last.mask(last.latest).sum() == np.isfinite(last.times).sum()


def test_a_given_speed_its_exponent_and_walls_are_followed():
    scene = race_scene((96, 96), noise=0.0)
    g = np.full(scene.image.shape, 0.25, np.float32)
    walls = np.zeros(g.shape, bool)
    walls[:, 60] = True
    p = LevelSetParameters(balloon_exponent=0.5, balloon=0.8)
    seen, last = states(arrival_preview(scene.image, scene.start, scene.spacing, p, g, walls=walls))
    open_times = times(g**0.5, scene.start, scene.spacing, 0.8)
    np.testing.assert_allclose(last.times[:, :60], open_times[:, :60], rtol=1e-5)
    for picture in [last, *(state.arrival for state in seen if state.arrival is not None)]:
        assert np.isinf(picture.times[:, 62:]).all()
        assert not picture.mask(1e6)[:, 62:].any()


def test_the_march_reports_often_and_can_be_left():
    start = ball((60, 60, 60), (1.0, 1.0, 1.0), 4.0)
    march = arrival_times(np.ones(start.shape), start, (1.0, 1.0, 1.0), 1.0)
    reports = [next(march) for _ in range(4)]
    assert all(a.reached < b.reached for a, b in itertools.pairwise(reports))
    assert 0 < reports[0].fraction < reports[3].fraction < 1
    march.close()
    with pytest.raises(StopIteration):
        next(march)


def test_refusals():
    start, speed = ball((20, 20), (1.0, 1.0), 4.0), np.ones((20, 20))
    with pytest.raises(InputError, match="different grids"):
        next(arrival_times(speed, start[1:], (1.0, 1.0), 1.0))
    with pytest.raises(InputError, match="NaN"):
        next(arrival_times(np.full((20, 20), np.nan), start, (1.0, 1.0), 1.0))
    with pytest.raises(GeometryError):
        next(arrival_times(speed, start, (1.0, -1.0), 1.0))
    with pytest.raises(InputError, match="time to stop"):
        next(arrival_times(speed, start, (1.0, 1.0), 1.0, until=0.0))
    p = LevelSetParameters()
    with pytest.raises(InputError, match="walls"):
        next(arrival_preview(speed, start, (1.0, 1.0), p, walls=np.zeros((3, 3), bool)))
    with pytest.raises(InputError, match="NaN"):
        finish(arrival_preview(np.full((96, 96), np.nan), np.eye(96, dtype=bool), (1.0, 1.0), p))
    outside = Seeds(spheres=(Sphere(centre=(50.0, 0.0), radius=2.0),))
    with pytest.raises(InputError, match="outside"):
        next(arrival_preview(speed, outside, (1.0, 1.0), p))


def test_a_coarse_border_lies_between_the_voxels_that_arrive_and_those_that_never_do():
    speed = np.full((96, 96), -1.0)
    speed[:, :48] = 1.0
    start = np.zeros(speed.shape, bool)
    start[:, :8] = True
    p = LevelSetParameters(speed="region")
    seen, last = states(arrival_preview(speed, start, (1.0, 1.0), p, speed))
    pictures = [state.arrival for state in seen if state.arrival is not None]
    assert [picture.level.factors for picture in pictures] == [(4, 4), (2, 2)]
    for picture in [*pictures, last]:
        assert np.array_equal(picture.mask(1e3), speed > 0)
        assert np.array_equal(picture.mask(24.0)[0].nonzero()[0], np.arange(32))


def test_a_front_exactly_on_voxels_arrives_like_any_other():
    """Radius 8 on pixels of 2 mm, centred on one: four voxels lie at u = 0, the first of all to be reached."""
    y, x = np.mgrid[:41, :41] * 2.0
    r = np.hypot(y - 40, x - 40)
    found = finish(arrival_times(np.ones((41, 41)), 8.0 - r, (2.0, 2.0), 1.0))
    beyond = (r > 8) & (r < 36)
    assert np.abs(found.times - (r - 8.0))[beyond].max() < 0.3
