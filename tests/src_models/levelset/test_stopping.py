"""Every way a run ends, and the guard against leaks."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from src_models.levelset import LevelSetParameters, evolve
from src_models.levelset.stopping import FrontMeasures, StopRules
from tests.runs import finish, states
from tests.scenes import all_scenes, ball, ball_scene, dice, grid, radii, star_scene

H = (1.0, 1.0)


BRIGHT = {"lower": 110.0}
"""What is brighter than the middle; edge mode has no use for it."""


def disc(noise=6.0, radius=16.0, shape=(56, 60), hole=None, seed=0):
    """A bright disc on dark, with a hole of a given radius through a bright way to the border, or none."""
    body = ball(shape, H, radius)
    if hole is not None:
        y, x = grid(shape, H)
        body = np.maximum(body, np.minimum(hole - np.abs(y), x))
    image = 60 + 100 * gaussian_filter((body > 0).astype(float), 0.9)
    return image + np.random.default_rng(seed).normal(0, noise, shape), ball(shape, H, radius) > 0


def start(shape=(56, 60), radius=7.0):
    return ball(shape, H, radius) > 0


@pytest.mark.parametrize("speed", ["edge", "region"])
@pytest.mark.parametrize("curvature", [0.2, 1.0])
def test_a_closed_body_is_filled_and_the_front_rests(speed, curvature):
    image, truth = disc()
    seen, result = states(evolve(image, start(), H, LevelSetParameters(**BRIGHT, speed=speed, curvature=curvature)))
    assert result.stop_reason == "converged"
    assert dice(result.mask, truth) > 0.97
    last = seen[-1]
    assert abs(last.rate) < 0.02
    # It does rest: as long again without the rule moves the front by less than a fifth of a voxel.
    longer = {"auto_stop": False, "time": 2 * result.time, "steps": 10_000}
    more = LevelSetParameters(**BRIGHT, speed=speed, curvature=curvature, **longer)
    later = finish(evolve(image, start(), H, more))
    assert abs(radii(later.level_set, H).mean() - radii(result.level_set, H).mean()) < 0.2


def test_a_slow_front_has_not_arrived():
    """Free speed is that of the first band: a front that only slows down to a fortieth on its way rests, but one that
    is slow everywhere has not arrived anywhere, whatever its rate.
    """
    shape = (60, 60)
    p = LevelSetParameters(speed="region", curvature=0.0, steps=40)
    slow = finish(evolve(np.zeros(shape), ball(shape, H, 9.0) > 0, H, p, np.full(shape, 0.01)))
    assert slow.stop_reason == "steps"
    r = np.sqrt(sum(x * x for x in grid(shape, H)))
    braked = np.where(r < 14, 1.0, 0.001)
    p = p.model_copy(update={"steps": 5000})
    assert finish(evolve(np.zeros(shape), ball(shape, H, 9.0) > 0, H, p, braked)).stop_reason == "converged"


def test_curvature_that_holds_a_free_front_is_no_arrival():
    """The image would let it run at full speed; that the front stands still there is the work of curvature."""
    shape = (40, 40)
    p = LevelSetParameters(speed="region", curvature=9.0, time=4.5, steps=5000, rate_tolerance=0.05, dtype="float64")
    seen, result = states(evolve(np.zeros(shape), ball(shape, H, 9.0), H, p, np.ones(shape)))
    assert max(abs(s.rate) for s in seen) < 0.05
    assert result.stop_reason == "time"


def measures(time, free, area=200.0, size=5000.0):
    return FrontMeasures(time=time, size=size, area=area, free_area=free, rate=1.0)


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (2.0, 2.0), (1.0, 1.0, 1.0), (3.0, 1.0, 1.0)])
def test_a_leak_is_three_times_the_least_free_area_and_a_patch(spacing):
    """Half a ball of radius 3 voxels is one patch: 3 pi or 18 pi times prod(h)^((n-1)/n)."""
    n = len(spacing)
    patch = (3 * np.pi if n == 2 else 18 * np.pi) * np.prod(spacing) ** ((n - 1) / n)
    rules = StopRules(LevelSetParameters(speed="region"), spacing, 1.0)
    area = 40 * patch
    # Fully free before it has arrived: no alarm, however much.
    assert rules.update(measures(0.0, area, area, 1.0)) is None
    assert rules.update(measures(1.0, 0.4 * area, area, 2.0)) is None
    least = 2 * patch
    assert rules.update(measures(2.0, least, area, 3.0)) is None
    assert rules.is_tight(measures(2.1, 1.5 * least + 0.24 * patch, area))
    assert not rules.is_tight(measures(2.1, 1.5 * least + 0.26 * patch, area))
    assert rules.update(measures(3.0, 3 * least + 0.99 * patch, area, 4.0)) is None
    # The share has to double as well: a front that grows evenly opens no hole.
    assert rules.update(measures(3.5, 3 * least + 1.01 * patch, 8 * area, 5.0)) is None
    assert rules.update(measures(4.0, 3 * least + 1.01 * patch, area, 6.0)) == "leak"


@pytest.mark.parametrize("speed", ["edge", "region"])
def test_a_front_that_only_bends_comes_to_rest(speed):
    """balloon 0: the reference is the largest rate so far, and there is no guard."""
    image, _ = disc()
    p = LevelSetParameters(speed=speed, balloon=0.0, curvature=0.0 if speed == "edge" else 0.2, convection=2.0)
    rough = ball((56, 60), H, 14.0) > 0
    result = finish(evolve(image, rough, H, p))
    assert result.stop_reason in ("converged", "vanished")
    if speed == "edge":
        assert result.stop_reason == "converged"
        assert radii(result.level_set, H).mean() == pytest.approx(16.0, abs=0.6)


LEAKS = [
    (speed, hole, noise)
    # The default blur closes the narrow way for edge mode: there is nothing to leak through.
    for speed, hole in (("edge", 4.0), ("region", 2.2), ("region", 4.0))
    for noise in (2.0, 8.0)
]


@pytest.mark.parametrize(("speed", "hole", "noise"), LEAKS)
def test_a_leak_is_found_and_undone(speed, hole, noise):
    image, truth = disc(noise, hole=hole, shape=(64, 100), radius=18.0)
    # Behind the hole everything is bright.
    image[:, 84:] = 160
    p = LevelSetParameters(**BRIGHT, speed=speed, steps=3000)
    result = finish(evolve(image, start((64, 100)), H, p))
    assert result.stop_reason == "leak"
    assert dice(result.mask, truth) > 0.9
    place = np.array(result.leak_at)
    assert abs(place[0] - 31.5) < 5
    assert place[1] > 49.5 + 10
    assert "Leak near voxel" in result.notes[-1]
    assert f"back to step {result.iteration}" in result.notes[-1]
    p = p.model_copy(update={"auto_stop": False, "time": 90.0})
    loose = finish(evolve(image, start((64, 100)), H, p))
    assert dice(loose.mask, truth) < dice(result.mask, truth) - 0.05


def test_the_guard_only_notes_where_asked():
    image, _ = disc(2.0, hole=4.0, shape=(64, 100), radius=18.0)
    image[:, 84:] = 160
    p = LevelSetParameters(**BRIGHT, speed="region", guard="note", time=80.0)
    seen, result = states(evolve(image, start((64, 100)), H, p))
    assert result.stop_reason != "leak"
    notes = [s.note for s in seen if s.note]
    assert len(notes) == 1
    assert "may be leaking" in notes[0]
    assert notes[0] in result.notes


def test_the_guard_can_be_switched_off():
    image, _ = disc(2.0, hole=4.0, shape=(64, 100), radius=18.0)
    image[:, 84:] = 160
    for off in ({"guard": "off"}, {"auto_stop": False}):
        p = LevelSetParameters(**(BRIGHT | {"speed": "region", "time": 80.0} | off))
        result = finish(evolve(image, start((64, 100)), H, p))
        assert result.stop_reason == "time" or off == {"guard": "off"}
        assert result.notes == ()


@pytest.mark.parametrize("noise", [2.0, 10.0])
@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("speed", ["edge", "region"])
def test_no_false_alarm_on_a_closed_body(noise, seed, speed):
    image, truth = disc(noise, seed=seed)
    result = finish(evolve(image, start(), H, LevelSetParameters(**BRIGHT, speed=speed)))
    assert result.stop_reason == "converged"
    assert dice(result.mask, truth) > 0.955


def test_the_start_vanishes():
    shape = (30, 30)
    p = LevelSetParameters(speed="region", balloon=-1.0)
    seen, result = states(evolve(np.zeros(shape), ball(shape, H, 6.0) > 0, H, p, np.ones(shape)))
    assert result.stop_reason == "vanished"
    assert not result.mask.any()
    assert seen[-1].size == pytest.approx(0, abs=0.5)


def test_the_image_is_filled():
    shape = (26, 30)
    result = finish(evolve(np.zeros(shape), ball(shape, H, 6.0) > 0, H, LevelSetParameters(), np.ones(shape)))
    assert result.stop_reason == "filled"
    assert result.mask.all()


@pytest.mark.parametrize("settings", [{"balloon": 0.0, "curvature": 0.0, "convection": 0.0}, {"curvature": 0.0}])
def test_nothing_can_move(settings):
    shape = (26, 30)
    given = np.ones(shape) if "convection" in settings else np.zeros(shape)
    p = LevelSetParameters(**settings)
    result = finish(evolve(np.zeros(shape), ball(shape, H, 6.0) > 0, H, p, given))
    assert result.stop_reason == "stalled"
    np.testing.assert_array_equal(result.mask, ball(shape, H, 6.0) > 0)


def test_without_automatic_stop_only_time_and_steps_end_a_resting_run():
    image, _ = disc()
    for limit, reason in (({"time": 60.0, "steps": 5000}, "time"), ({"steps": 120}, "steps")):
        p = LevelSetParameters(**(BRIGHT | {"speed": "region", "auto_stop": False} | limit))
        assert finish(evolve(image, start(), H, p)).stop_reason == reason


def test_the_two_means_find_a_disc_without_thresholds():
    image, truth = disc(12.0)
    result = finish(evolve(image, start(), H, LevelSetParameters(speed="region", region="chan_vese")))
    assert result.stop_reason == "converged"
    assert dice(result.mask, truth) > 0.97


def test_the_message_tells_what_happened():
    image, _ = disc()
    seen, _ = states(evolve(image, start(), H, LevelSetParameters(**BRIGHT, speed="region")))
    assert seen[-1].message == "The front rests."
    assert seen[3].message.startswith("Step 3, ")
    assert seen[3].message.endswith("mm2")
    assert all(0 <= s.fraction <= 1 for s in seen)


@pytest.mark.slow
@pytest.mark.parametrize("speed", ["edge", "region"])
def test_closed_scenes_rest_near_the_truth(speed):
    for scene in (ball_scene(4.0), star_scene(4.0)):
        result = finish(evolve(scene.image, scene.start, scene.spacing, LevelSetParameters(**BRIGHT, speed=speed)))
        assert result.stop_reason == "converged", scene.name
        assert dice(result.mask, scene.truth) > 0.955, scene.name
    assert len(all_scenes()) == 5
