"""Inputs at the edge of number formats, and books that balance after changes and roll-backs."""

from __future__ import annotations

import numpy as np
import pytest

from src_models.errors import GeometryError
from src_models.levelset.evolution import Constraints, evolve
from src_models.levelset.initial import Seeds, Sphere, Stroke, from_seeds
from src_models.levelset.parameters import LevelSetParameters
from src_models.levelset.speed import chan_vese_speed, edge_indicator
from tests.runs import finish

GRID = np.indices((15, 16)).astype(float)
DISC = np.hypot(GRID[0] - 7, GRID[1] - 7.5) < 4
IMAGE = (60 + 100 * DISC + np.random.default_rng(0).normal(0, 4, DISC.shape)).astype(np.float32)
START = np.where(np.hypot(GRID[0] - 7, GRID[1] - 7.5) < 2, 3.0, -3.0)


def _mask(image, start, **settings):
    return finish(evolve(image, start, (1.0, 1.0), LevelSetParameters(steps=8, **settings))).mask


@pytest.mark.parametrize("kind", [">f4", ">f8", "float128"])
def test_float_starts_of_any_type(kind):
    if not hasattr(np, kind.strip("<>")) and kind == "float128":
        pytest.skip("no long double here")
    assert np.array_equal(_mask(IMAGE, START.astype(kind)), _mask(IMAGE, START))


@pytest.mark.parametrize("scale", [1e300, 1e30, 1e-30, 1e-300])
def test_scale_of_a_float_start_does_not_matter(scale):
    assert np.array_equal(_mask(IMAGE, START * scale), _mask(IMAGE, START))


@pytest.mark.parametrize("scale", [1e25, 1e-25])
def test_speeds_do_not_depend_on_the_unit_of_the_image(scale):
    p = LevelSetParameters()
    scaled = (IMAGE.astype(float) * scale).astype(np.float32)
    assert np.allclose(edge_indicator(scaled, (1, 1), p), edge_indicator(IMAGE, (1, 1), p), rtol=1e-4)
    share = DISC.astype(np.float32)
    for local in (None, 2.0):
        p = LevelSetParameters(speed="region", region="chan_vese", local_sigma=local)
        assert np.allclose(
            chan_vese_speed(scaled, share, (1, 1), p), chan_vese_speed(IMAGE, share, (1, 1), p), atol=1e-4
        )
    assert edge_indicator(IMAGE.astype(float) * 1e300, (1, 1), LevelSetParameters()).max() > 0.5


@pytest.mark.parametrize("local", [None, 2.0])
@pytest.mark.parametrize("value", [0.1, 100.3, -7e5])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_constant_image_has_no_chan_vese_speed(value, kind, local):
    share = np.clip(START / 6 + 0.37, 0, 1).astype(kind)
    p = LevelSetParameters(speed="region", region="chan_vese", local_sigma=local)
    assert not chan_vese_speed(np.full(DISC.shape, value, kind), share, (1, 1), p).any()


def test_speeds_too_small_for_a_time_step_stall():
    run = evolve(IMAGE, START, (1.0, 1.0), LevelSetParameters(), np.full(DISC.shape, 1e-40))
    assert finish(run).stop_reason == "stalled"


def test_missing_spacing_is_said():
    with pytest.raises(GeometryError, match="voxel size is missing"):
        next(evolve(IMAGE, START, None, LevelSetParameters()))


def test_edge_speed_is_refused_for_a_given_image_of_both_signs():
    speed = np.where(DISC, 1.0, -1.0)
    run = evolve(IMAGE, START, (1.0, 1.0), LevelSetParameters(speed="region"), speed)
    next(run)
    assert "Not changed" in run.send(LevelSetParameters(speed="edge")).note


def test_thin_stroke_beside_a_bubble_claims_its_voxel():
    drawn = Seeds(
        spheres=(Sphere(centre=(5, 5), radius=2),),
        strokes=(Stroke(points=((8.4, 5.4), (8.45, 5.45)), radius=0.01),),
    )
    u, notes = from_seeds(drawn, (12, 12), (1, 1), 4.0)
    assert u[8, 5] > 0
    assert len(notes) == 1


@pytest.mark.parametrize("name", ["walls", "pins"])
def test_contributions_add_up_after_a_sent_constraint(name):
    p = LevelSetParameters(dtype="float64")
    run = evolve(IMAGE, START, (1.0, 1.0), p, contributions=True)
    first = next(run).level_set.copy()
    painted = np.zeros(DISC.shape, bool)
    painted[:, 8 if name == "walls" else 14] = True
    next(run)
    result = run.send(Constraints(**{name: painted})).result()
    assert np.abs(sum(result.contributions.values()) - (result.level_set - first)).max() < 1e-12


def test_roll_back_tells_where_and_balances():
    speed = np.ones((40, 60))
    speed[8:32, 8:32] = 1e-3
    speed[10:30, 10:30] = speed[18:23, 29:33] = 1.0
    z, y = np.indices(speed.shape)
    image = np.zeros(speed.shape, np.float32)
    image[0, 0] = 1
    p = LevelSetParameters(convection=0, steps=400, dtype="float64")
    run = evolve(image, np.hypot(z - 20, y - 16) < 3, (1.0, 1.0), p, speed, contributions=True)
    first = next(run).level_set.copy()
    before = first
    for state in run:
        before, last = (before, state) if state.stop_reason else (state.level_set.copy(), state)
    result = last.result()
    assert result.stop_reason == "leak"
    assert np.abs(sum(result.contributions.values()) - (result.level_set - first)).max() < 1e-12
    moved = before != result.level_set
    assert moved.any()
    moved[last.changed_box] = False
    assert not moved.any()


def test_box_of_walls_that_end_the_run():
    run = evolve(IMAGE, START, (1.0, 1.0), LevelSetParameters())
    next(run)
    before = next(run).level_set.copy()
    state = run.send(Constraints(walls=np.ones(DISC.shape, bool)))
    moved = before != state.level_set
    moved[state.changed_box] = False
    assert not moved.any()
