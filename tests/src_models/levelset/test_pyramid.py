"""Coarse to fine ends where the run on the finest grid alone ends, and in between it can be steered like any run."""

from __future__ import annotations

import numpy as np
import pytest

from src_models.levelset import Constraints, LevelSetParameters, evolve
from src_models.levelset.evolution import replay
from src_models.levelset.initial import Seeds, Sphere, Stroke
from tests.runs import finish, states
from tests.scenes import (
    INSIDE,
    OUTSIDE,
    Scene,
    ball,
    dice,
    grid,
    liver_slice_scene,
    picture,
    race_scene,
    star_scene,
)

H = (1.0, 1.0)


def parameters(mode: str, **settings) -> LevelSetParameters:
    region = {"lower": (INSIDE + OUTSIDE) / 2} if mode == "region" else {}
    return LevelSetParameters(**({"speed": mode, "pyramid": True} | region | settings))


def both(scene: Scene, p: LevelSetParameters, start=None, **constraints):
    """The states with coarse levels, that run's end, and the end of the run without them."""
    start = scene.start if start is None else start
    plain = finish(evolve(scene.image, start, scene.spacing, p.model_copy(update={"pyramid": False}), **constraints))
    seen, result = states(evolve(scene.image, start, scene.spacing, p, **constraints))
    return seen, result, plain


def coarse(seen):
    return [state for state in seen if state.phase != "evolve"]


def touching_discs(noise: float = 10.0) -> Scene:
    shape = (200, 256)
    first, second = (ball(shape, H, 56.0, (99.5, x)) for x in (69.5, 183.5))
    body = np.maximum(first, second)
    start = ball(shape, H, 10.0, (90.0, 75.0)) > 0
    return Scene("discs", H, picture(body, H, noise, 7), first > 0, start, 50.0)


def odd_rods(noise: float = 10.0) -> Scene:
    """A curved rod in an image of odd sides and 3:2 pixels."""
    shape, h = (151, 211), (1.5, 1.0)
    y, x = grid(shape, h)
    body = 14.0 - abs(np.hypot(y + 40, x) - 90) + np.minimum(0, 80 - abs(x))
    return Scene("rod", h, picture(body, h, noise, 8), body > 0, ball(shape, h, 8.0, (112.5 + 50, 105.0)) > 0, 90.0)


@pytest.mark.parametrize("mode", ["edge", "region"])
@pytest.mark.parametrize(
    "scene",
    [star_scene(size=256), race_scene((256, 256), noise=10.0), touching_discs(), odd_rods()],
    ids=lambda scene: scene.name,
)
def test_the_end_is_that_of_the_finest_grid_alone(scene, mode):
    seen, result, plain = both(scene, parameters(mode))
    assert dice(result.mask, plain.mask) >= 0.995
    assert result.stop_reason == plain.stop_reason == "converged"
    assert {state.phase for state in coarse(seen)} >= {"coarse 1/4", "coarse 1/2"}
    assert result.iteration <= plain.iteration / (4 if mode == "region" else 3)


def drawn_in_3d(name: str) -> Scene:
    """The drawn scenes on grids of 96^3 voxels and more."""
    if name == "ball":
        return race_scene((96, 96, 96), noise=10.0)
    if name == "ball 3:1":
        shape, h = (48, 144, 144), (3.0, 1.0, 1.0)
        body = ball(shape, h, 52.0)
        return Scene(name, h, picture(body, h, 10.0, 2), body > 0, ball(shape, h, 9.0) > 0, 43.0)
    shape, h = (88, 88, 160), (1.0, 1.0, 1.0)
    if name == "two balls":
        first, second = (ball(shape, h, 36.0, (43.5, 43.5, x)) for x in (41.5, 114.0))
        body = np.maximum(first, second)
    else:
        first, second = (ball(shape, h, 24.0, (43.5, 43.5, x)) for x in (41.5, 117.5))
        z, y, x = grid(shape, h)
        body = np.maximum(np.maximum(first, second), np.minimum(7.0 - np.sqrt(z * z + y * y), 30.0 - abs(x)))
    return Scene(name, h, picture(body, h, 10.0, 3), body > 0, ball(shape, h, 8.0, (43.5, 43.5, 41.5)) > 0, 90.0)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["edge", "region"])
@pytest.mark.parametrize("curvature", [0.2, 1.0])
@pytest.mark.parametrize("name", ["ball", "ball 3:1", "two balls", "dumbbell"])
def test_the_same_in_3d(name, mode, curvature):
    scene = drawn_in_3d(name)
    seen, result, plain = both(scene, parameters(mode, curvature=curvature))
    assert coarse(seen)
    assert dice(result.mask, plain.mask) >= 0.995


def test_islands_that_a_coarse_mean_covers_are_left_out_again():
    """Dark vessels in an organ: the front goes round them, and on a coarse grid over them."""
    shape = (256, 256)
    body = ball(shape, H, 90.0)
    for k, angle in enumerate(np.linspace(0, 6, 7)):
        centre = (127.5 + 55 * np.sin(angle), 127.5 + 55 * np.cos(angle))
        body = np.minimum(body, -ball(shape, H, 1.5 + 0.5 * k, centre))
    scene = Scene("vessels", H, picture(body, H, 8.0, 11), body > 0, ball(shape, H, 8.0) > 0, 80.0)
    _, result, plain = both(scene, parameters("region"))
    assert dice(result.mask, plain.mask) >= 0.999
    islands = (body <= -1.5) & (ball(shape, H, 80.0) > 0)
    assert islands.sum() > 50
    assert not (plain.mask & islands).any()
    assert not (result.mask & islands).any()


def test_a_liver_slice_ends_as_without():
    scene = liver_slice_scene("p004_s130")
    p = LevelSetParameters(speed="region", pyramid=True)
    given = scene.region_speed
    plain = finish(evolve(scene.image, scene.start, H, p.model_copy(update={"pyramid": False}), given))
    result = finish(evolve(scene.image, scene.start, H, p, given))
    assert dice(result.mask, plain.mask) >= 0.995


def test_it_shrinks_as_well():
    scene = star_scene(size=256)
    large = ball(scene.image.shape, H, 110.0) > 0
    _, result, plain = both(scene, parameters("edge", balloon=-1.0), large)
    assert dice(result.mask, plain.mask) >= 0.995


def test_means_inside_and_outside():
    scene = star_scene(size=192)
    _, result, plain = both(scene, LevelSetParameters(speed="region", region="chan_vese", pyramid=True))
    assert dice(result.mask, plain.mask) >= 0.995


@pytest.mark.parametrize("mode", ["edge", "region"])
def test_a_start_thinner_than_a_coarse_voxel_does_not_vanish(mode):
    scene = race_scene((256, 256), noise=5.0)
    dot = np.zeros(scene.image.shape, bool)
    dot[130, 121] = True
    line = dot.copy()
    line[110:150, 121] = True
    point = Seeds(spheres=(Sphere(centre=(130.0, 121.0), radius=2.0),))
    stroke = Seeds(strokes=(Stroke(points=((110.0, 121.0), (150.0, 130.0)), radius=1.0),))
    for start in (dot, line, point, stroke):
        seen, result = states(evolve(scene.image, start, H, parameters(mode, curvature=0.05)))
        assert coarse(seen)[0].size > 0
        assert dice(result.mask, scene.truth) >= 0.99


def test_two_chambers_drawn_in_are_both_kept():
    """A stroke thinner than a coarse voxel runs into a chamber that its coarse copy does not touch."""
    shape = (256, 256)
    first, second = (ball(shape, H, 40.0, (127.5, x)) for x in (70.0, 190.0))
    scene = Scene("two", H, picture(np.maximum(first, second), H, 5.0, 9), first > 0, first > 30, 50.0)
    start = scene.start.copy()
    start[128, 60:195] = True
    _, result, plain = both(scene, parameters("edge", curvature=0.05), start)
    assert plain.mask[:, 190].sum() > 60
    assert dice(result.mask, plain.mask) >= 0.99


@pytest.mark.parametrize("mode", ["edge", "region"])
@pytest.mark.parametrize("kind", ["square", "diagonal"])
def test_painted_walls_survive_the_coarse_levels(mode, kind):
    shape = (200, 200)
    y, x = grid(shape, H, (99.0, 99.0))
    distance = np.maximum(abs(y), abs(x)) if kind == "square" else abs(y) + abs(x)
    walls = distance == 61
    inside = distance < 61
    start = ball(shape, H, 12.0) > 0
    p = parameters(mode, lower=0.5) if mode == "region" else parameters(mode)
    seen, result = states(evolve(np.eye(200), start, H, p, np.ones(shape), walls=walls))
    assert coarse(seen)
    assert not (result.mask & ~inside).any()
    assert result.mask.sum() >= 0.97 * inside.sum()


def chambers(wall: bool) -> Scene:
    """Two chambers joined by a passage, which a wall of one voxel closes: a coarse mean does not see it."""
    shape = (160, 256)
    y, x = grid(shape, H, (79.5, 127.5))
    left, right = (40.0 - np.hypot(y, x - c) for c in (-60.0, 60.0))
    passage = np.minimum(12.0 - abs(y + 0 * x), 40 - abs(x + 0 * y))
    body = np.maximum(np.maximum(left, right), passage)
    image = np.where(body > 0, INSIDE, OUTSIDE) + np.random.default_rng(3).normal(0, 6, shape)
    if wall:
        image[:, 124] = OUTSIDE
    return Scene("chambers", H, image.astype(np.float32), body > 0, 8 - np.hypot(y, x + 60) > 0, 90.0)


@pytest.mark.parametrize("mode", ["edge", "region"])
def test_what_a_coarse_level_leaked_into_is_not_inherited(mode):
    scene = chambers(wall=True)
    seen, result, plain = both(scene, parameters(mode))
    if mode == "region":
        leaked = [state for state in coarse(seen) if state.level_set[80, 187] > 0]
        assert leaked, "the scene must tempt the coarse levels"
    assert not result.mask[:, 130:].any()
    assert dice(result.mask, plain.mask) >= 0.99
    # And through the open passage it does go.
    _, result, _ = both(chambers(wall=False), parameters("region"))
    assert result.mask[80, 187]


def test_a_coarse_leak_begins_anew_from_what_was_drawn():
    """A ring of one dark pixel in a bright image: coarse grids run over it and fill the image."""
    shape = (224, 224)
    ring = abs(ball(shape, H, 70.0)) < 0.75
    image = np.where(ring, OUTSIDE, INSIDE).astype(np.float32)
    inside = ball(shape, H, 69.0) > 0
    start = ball(shape, H, 10.0) > 0
    seen, result = states(evolve(image, start, H, parameters("region")))
    assert any("begins anew" in state.note for state in seen)
    assert not (result.mask & ~(ball(shape, H, 71.5) > 0)).any()
    assert dice(result.mask, inside) >= 0.98


def test_coarse_states_are_pictures_of_the_finest_grid():
    scene = star_scene(size=256)
    run = evolve(scene.image, scene.start, H, parameters("region"))
    first = next(run)
    for _ in range(12):
        state = next(run)
        assert (state.phase, state.iteration, state.time, state.stop_reason) == ("coarse 1/8", 0, 0.0, None)
        u = state.level_set
        assert u.shape == scene.image.shape
        assert not u.flags.writeable
        assert np.abs(u).max() <= 4
        assert state.size == pytest.approx((u > 0).sum(), rel=0.05)
        assert state.values["size"] == state.size
    assert first.changed_box == (slice(0, 256), slice(0, 256))
    outside = np.ones(scene.image.shape, bool)
    outside[state.changed_box] = False
    assert outside.any()
    assert not (u[outside] > 0).any()


def test_a_run_left_in_between_gives_its_picture_and_is_replayed():
    scene = star_scene(size=128)
    run = evolve(scene.image, scene.start, H, parameters("region"))
    for _ in range(9):
        state = next(run)
    run.close()
    assert state.phase == "coarse 1/4"
    shown = state.level_set.copy()
    result = state.result()
    assert result.stop_reason == "cancelled"
    assert np.array_equal(result.level_set, shown)
    again = finish(replay(result.record, scene.image))
    assert again.level_set.tobytes() == shown.tobytes()


def test_a_whole_run_is_replayed_bit_for_bit_with_its_changes():
    scene = star_scene(size=128)
    walls = np.zeros(scene.image.shape, bool)
    walls[:, 80] = True
    run = evolve(scene.image, scene.start, H, parameters("region"))
    for _ in range(5):
        next(run)
    state = run.send(Constraints(walls=walls))
    assert state.phase == "coarse 1/4"
    while state.phase != "evolve" or state.iteration < 3:
        state = next(run)
    run.send(parameters("region", curvature=0.5))
    result = finish(run)
    assert not (result.mask & walls).any()
    assert not result.mask[:, 80:].any()
    assert [change.step for change in result.record.changes] == [3]
    assert "array" in result.record.inputs["initial"]
    again = finish(replay(result.record, scene.image))
    assert again.level_set.tobytes() == result.level_set.tobytes()
    assert again.iteration == result.iteration


def test_a_change_that_cannot_be_taken_is_refused_in_words():
    scene = star_scene(size=128)
    run = evolve(scene.image, scene.start, H, parameters("region"))
    next(run)
    state = run.send(Constraints(walls=np.zeros((3, 3), bool)))
    assert "Not changed" in state.note
    assert finish(run).stop_reason == "converged"


@pytest.mark.parametrize("settings", [{"time": 3.0}, {"auto_stop": False, "steps": 3}, {"pyramid": False, "steps": 3}])
def test_a_run_that_shows_the_motion_itself_takes_no_short_cut(settings):
    scene = star_scene(size=128)
    seen, _ = states(evolve(scene.image, scene.start, H, parameters("edge", **settings)))
    assert not coarse(seen)


def test_a_small_image_has_no_coarse_levels():
    scene = star_scene(size=90)
    assert not coarse(states(evolve(scene.image, scene.start, H, parameters("region", steps=4)))[0])
