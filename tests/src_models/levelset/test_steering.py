"""A run under the hands of a person: changes, walls, pins, ends, and the same again from its record."""

from __future__ import annotations

import numpy as np
import pytest

from src_models.errors import InputError
from src_models.levelset import Constraints, LevelSetParameters, evolve
from src_models.levelset.evolution import replay
from src_models.levelset.initial import Seeds, Sphere, Stroke
from src_models.record import Record
from tests.runs import finish, states
from tests.scenes import ball, dice, radii

SHAPE, H = (40, 44), (1.0, 1.0)


def scene():
    random = np.random.default_rng(0)
    body = ball(SHAPE, H, 13.0)
    return (60 + 100 / (1 + np.exp(-body)) + random.normal(0, 5, SHAPE)).astype(np.float32), body


def free_run(**settings):
    p = LevelSetParameters(**({"speed": "region", "curvature": 0.0, "auto_stop": False, "dtype": "float64"} | settings))
    return evolve(np.zeros(SHAPE), ball(SHAPE, H, 8.0), H, p, np.ones(SHAPE))


@pytest.mark.parametrize("end", [0.01, 1.0, 7.3])
@pytest.mark.parametrize("time_step", ["cfl", 0.25])
def test_the_time_asked_for_is_reached_exactly(end, time_step):
    seen, result = states(free_run(time=end, time_step=time_step))
    assert result.time == end
    assert result.stop_reason == "time"
    assert sum(s.dt for s in seen) == pytest.approx(end, rel=1e-12)
    assert radii(result.level_set, H).mean() == pytest.approx(8.0 + end, abs=0.05)


def test_steps_are_counted():
    seen, result = states(free_run(steps=7))
    assert [s.iteration for s in seen] == list(range(8))
    assert result.stop_reason == "steps"
    assert [s.stop_reason for s in seen] == [None] * 7 + ["steps"]


def test_new_parameters_hold_from_the_next_step():
    gen = free_run(steps=20)
    for _ in range(6):
        state = next(gen)
    before = state.size
    state = gen.send(LevelSetParameters(speed="region", balloon=-1.0, curvature=0.0, auto_stop=False, steps=20))
    assert state.size < before
    assert finish(gen).record.changes[0].step == 5


def test_a_time_that_has_passed_ends_the_run_as_time():
    gen = free_run(time=10.0)
    for _ in range(6):
        state = next(gen)
    new = LevelSetParameters(speed="region", curvature=0.0, auto_stop=False, time=state.time / 2)
    state = gen.send(new)
    assert state.stop_reason == "time"


def test_a_change_of_speed_parameters_renews_the_speed_image():
    image, body = scene()
    p = LevelSetParameters(speed="region", lower=100.0, upper=400.0, auto_stop=False, steps=120)
    gen = evolve(image, ball(SHAPE, H, 5.0) > 0, H, p)
    for _ in range(60):
        state = next(gen)
    assert dice(state.mask, body > 0) > 0.95
    # Now everything of the picture is too bright: it shrinks away.
    gen.send(p.model_copy(update={"lower": 300.0}))
    assert finish(gen).stop_reason == "vanished"


@pytest.mark.parametrize("mode", ["edge", "region", "paper"])
def test_the_front_never_enters_walls_and_never_leaves_pins(mode):
    walls, pins = np.zeros(SHAPE, dtype=bool), np.zeros(SHAPE, dtype=bool)
    walls[:, 30] = True
    pins[5, 5] = True
    settings = {"edge": {}, "region": {"speed": "region"}, "paper": {"redistance_every": 0, "order": 1}}[mode]
    p = LevelSetParameters(**({"steps": 80, "auto_stop": False, "dtype": "float64"} | settings))
    gen = evolve(np.zeros(SHAPE), ball(SHAPE, H, 6.0), H, p, np.ones(SHAPE), walls=walls, pins=pins)
    for state in gen:
        assert (state.level_set[walls] <= -0.5).all()
        assert (state.level_set[pins] >= 0.5).all()
        assert not state.mask[:, 30:].any()
    assert state.mask[:, :29].mean() > 0.5


@pytest.mark.parametrize("kind", ["square", "circle", "diagonal"])
@pytest.mark.parametrize("terms", [{"curvature": 0.0, "convection": 0.0}, {"curvature": 0.5, "convection": 2.0}])
@pytest.mark.parametrize("speed", ["edge", "region"])
def test_nothing_passes_a_painted_wall_one_voxel_thick(kind, terms, speed):
    y, x = np.indices(SHAPE) - np.array([19, 21])[:, None, None]
    ring = {
        "square": np.maximum(abs(y), abs(x)) == 9,
        "circle": np.round(np.hypot(y, x)) == 9,
        "diagonal": abs(y) + abs(x) == 9,
    }[kind]
    behind = {
        "square": np.maximum(abs(y), abs(x)) > 9,
        "circle": np.round(np.hypot(y, x)) > 9,
        "diagonal": abs(y) + abs(x) > 9,
    }[kind]
    given = np.random.default_rng(0).uniform(0.7, 1.0, SHAPE)
    p = LevelSetParameters(speed=speed, time=120.0, auto_stop=False, steps=10_000, **terms)
    seeds = Seeds(spheres=(Sphere(centre=(19.0, 21.0), radius=4.0),))
    result = finish(evolve(given, seeds, H, p, given, walls=ring))
    assert not (result.mask & behind).any()
    assert result.mask.sum() > 0.8 * (~ring & ~behind).sum()


def test_a_painted_wall_holds_in_three_dimensions_with_thick_slices():
    shape, h = (9, 22, 22), (3.0, 1.0, 1.0)
    z, y, x = np.indices(shape) - np.array([4, 11, 11])[:, None, None, None]
    box = np.maximum(np.maximum(abs(z) * 3, abs(y)), abs(x))
    wall, behind = (abs(z) == 3) & (box == 9) | (box == 9), box > 9
    p = LevelSetParameters(speed="region", curvature=0.2, time=40.0, auto_stop=False)
    result = finish(evolve(np.zeros(shape), ball(shape, h, 4.0) > 0, h, p, np.ones(shape), walls=wall))
    assert not (result.mask & (behind | wall)).any()


def test_walls_and_pins_come_and_go_while_it_runs():
    walls = np.zeros(SHAPE, dtype=bool)
    walls[:, 30:32] = True
    gen = free_run(steps=200)
    next(gen)
    state = gen.send(Constraints(walls=walls))
    for _ in range(25):
        state = next(gen)
    assert state.mask[:, 29].any()
    assert not state.mask[:, 30:].any()
    gen.send(Constraints(walls=np.zeros(SHAPE, dtype=bool)))
    for _ in range(10):
        state = next(gen)
    assert state.mask[:, 33:].any()
    pins = np.zeros(SHAPE, dtype=bool)
    pins[1, 1] = True
    state = gen.send(Constraints(pins=pins))
    assert state.mask[1, 1]
    record = finish(gen).record
    assert [change.step for change in record.changes] == [0, 26, 37]


def test_a_pin_on_a_wall_is_inside():
    both = np.zeros(SHAPE, dtype=bool)
    both[3, 3] = True
    p = LevelSetParameters(steps=3, auto_stop=False)
    result = finish(evolve(np.zeros(SHAPE), ball(SHAPE, H, 5.0) > 0, H, p, np.ones(SHAPE), walls=both, pins=both))
    assert result.mask[3, 3]


def test_a_cancelled_run_keeps_what_it_has():
    gen = free_run(steps=50)
    for _ in range(11):
        state = next(gen)
    expected = state.level_set.copy()
    gen.close()
    result = state.result()
    assert result.stop_reason == "cancelled"
    assert result.record.status == "cancelled"
    assert result.iteration == 10
    np.testing.assert_array_equal(result.level_set, expected)
    np.testing.assert_array_equal(result.mask, expected > 0)


def test_the_view_of_u_cannot_be_written_and_the_mask_is_a_copy():
    gen = free_run(steps=5)
    state = next(gen)
    with pytest.raises(ValueError, match="read-only"):
        state.level_set[0, 0] = 1
    mask = state.mask
    next(gen)
    assert mask.sum() < state.mask.sum()


def test_the_changed_box_holds_every_change():
    shape = (10, 40, 44)
    image = np.zeros(shape)
    p = LevelSetParameters(speed="region", steps=6, auto_stop=False)
    gen = evolve(image, ball(shape, (2.0, 1.0, 1.0), 5.0) > 0, (2.0, 1.0, 1.0), p, np.ones(shape))
    before = next(gen).level_set.copy()
    for state in gen:
        changed = state.level_set != before
        outside = changed.copy()
        outside[state.changed_box] = False
        assert changed.any()
        assert not outside.any()
        assert np.prod([b.stop - b.start for b in state.changed_box]) < image.size
        before = state.level_set.copy()


STARTS = {
    "mask": lambda: ball(SHAPE, H, 5.0) > 0,
    "u": lambda: ball(SHAPE, H, 5.0),
    "seeds": lambda: Seeds(
        spheres=(Sphere(centre=(19.0, 21.0), radius=5.0),),
        strokes=(Stroke(points=((15.0, 18.0), (22.0, 25.0)), radius=2.0),),
    ),
}


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("given", [False, True])
def test_a_record_makes_the_same_bits_again(tmp_path, start, given):
    image, body = scene()
    speed = np.tanh(body / 2).astype(np.float32) if given else None
    walls, pins = np.zeros(SHAPE, dtype=bool), np.zeros(SHAPE, dtype=bool)
    walls[:, 36] = True
    pins[8, 21] = True
    p = LevelSetParameters(speed="region", steps=60)
    gen = evolve(image, STARTS[start](), H, p, speed, walls=walls, pins=pins)
    for _ in range(5):
        next(gen)
    gen.send(p.model_copy(update={"curvature": 0.6, "smoothness": 5.0}))
    for _ in range(4):
        next(gen)
    gen.send(Constraints(pins=np.zeros(SHAPE, dtype=bool)))
    gen.send(p.model_copy(update={"balloon": 0.8}))
    result = finish(gen)
    assert len(result.record.changes) == 3
    path = tmp_path / "run.lsnet.json"
    path.write_text(result.record.to_json())
    again = finish(replay(Record.read(path), image, speed))
    np.testing.assert_array_equal(again.level_set, result.level_set)
    assert (again.iteration, again.time, again.stop_reason) == (result.iteration, result.time, result.stop_reason)
    assert again.record.result["mask_hash"] == result.record.result["mask_hash"]


def test_a_cancelled_run_can_be_made_again():
    image, _ = scene()
    gen = evolve(image, ball(SHAPE, H, 5.0) > 0, H, LevelSetParameters(steps=60))
    for _ in range(9):
        state = next(gen)
    gen.close()
    result = state.result()
    again = finish(replay(result.record, image))
    np.testing.assert_array_equal(again.level_set, result.level_set)
    assert again.iteration == 8


def test_a_record_refuses_another_image():
    image, body = scene()
    given = np.tanh(body)
    result = finish(evolve(image, body > 5, H, LevelSetParameters(speed="region", steps=2), given))
    other = image.copy()
    other[0, 0] += 1
    with pytest.raises(InputError, match="not the one of the record"):
        next(replay(result.record, other, given))
    with pytest.raises(InputError, match="speed image"):
        next(replay(result.record, image))
    with pytest.raises(InputError, match="speed image"):
        next(replay(result.record, image, given + 1))
    with pytest.raises(InputError, match="not of a level set"):
        next(replay(result.record.model_copy(update={"task": "train"}), image, given))


def test_a_record_says_what_was_done():
    image, body = scene()
    result = finish(evolve(image, body > 5, H, LevelSetParameters(speed="region", steps=2)))
    record = result.record
    assert record.task == "evolve"
    assert record.status == "complete"
    assert record.source.shape == SHAPE
    assert record.source.spacing == H
    assert record.parameters["value_range"] == [float(image.min()), float(image.max())]
    assert record.result["stop_reason"] == "steps"
    assert record.result["steps"] == 2
    assert "torch" in record.versions
    assert LevelSetParameters(**record.parameters).speed == "region"


@pytest.mark.parametrize("engine", ["reference", "band"])
def test_a_change_at_rest_rests_again(engine):
    """The front at rest does not show how fast it is free to run: the stop rules must not measure by it."""
    y, x = np.mgrid[:64, :64]
    image = 60 + 100 / (1 + np.exp(np.hypot(y - 31.5, x - 31.5) - 18))
    start = np.hypot(y - 31.5, x - 31.5) < 6
    p = LevelSetParameters(speed="edge", steps=900, engine=engine)
    seen, result = states(evolve(image, start, (1.0, 1.0), p))
    assert result.stop_reason == "converged"
    run = evolve(image, start, (1.0, 1.0), p)
    state = next(run)
    while state.iteration < len(seen) - 2:
        state = next(run)
    state = run.send(p.model_copy(update={"curvature": 0.25}))
    while state.stop_reason is None:
        state = next(run)
    assert state.stop_reason == "converged"
    assert state.iteration < len(seen) + 100
