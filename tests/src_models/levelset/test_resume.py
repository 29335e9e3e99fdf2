"""Going on from a moment of a run gives the rest of that run, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest

from src_models.errors import InputError
from src_models.levelset import Constraints, LevelSetParameters, Resume, evolve
from src_models.levelset.evolution import replay
from src_models.levelset.speed import speed_image
from tests.runs import finish
from tests.scenes import Scene, star_scene

BRANCH = 12


@pytest.fixture(scope="module")
def star() -> Scene:
    return star_scene(size=64)


def run(scene: Scene, p: LevelSetParameters, initial=None, **constraints):
    start = scene.start if initial is None else initial
    return evolve(scene.image, start, scene.spacing, p, **constraints)


@pytest.mark.parametrize(
    "settings",
    [
        {"speed": "edge"},
        {"speed": "region", "region": "chan_vese"},
        {"speed": "region", "upper": 150.0, "curvature": 1.0, "redistance_every": 3, "dtype": "float64"},
        {"speed": "edge", "redistance_every": 0, "order": 1, "speed_at": "voxel"},
    ],
    ids=["edge", "chan-vese", "region", "no band"],
)
@pytest.mark.parametrize("walled", [False, True], ids=["", "walls"])
def test_the_rest_of_a_run_is_bit_equal(star, settings, walled):
    p = LevelSetParameters(**settings, auto_stop=False, steps=30)
    walls = np.zeros(star.image.shape, dtype=bool)
    walls[:, 40] = True
    constraints = {"walls": walls, "pins": star.start & ~walls} if walled else {}
    whole, seen = run(star, p, **constraints), []
    for state in whole:
        seen.append((state.iteration, state.time, state.size, state.level_set.copy()))
    iteration, time, _, u = seen[BRANCH]
    assert not np.array_equal(u, seen[-1][-1])
    rest = [
        (state.iteration, state.time, state.size, state.level_set.copy())
        for state in run(star, p, Resume(u, iteration, time), **constraints)
    ]
    assert [s[0] for s in rest] == [s[0] for s in seen[BRANCH:]]
    for ours, theirs in zip(rest, seen[BRANCH:], strict=True):
        assert ours[1] == theirs[1]
        assert ours[2] == pytest.approx(theirs[2], rel=1e-6)
        assert ours[3].tobytes() == theirs[3].tobytes()


def test_a_resumed_run_is_replayed_from_its_record(star):
    p = LevelSetParameters(auto_stop=False, steps=20)
    first = run(star, p)
    for _ in range(9):
        state = next(first)
    again = run(star, p, Resume(state.level_set.copy(), state.iteration, state.time))
    next(again)
    again.send(Constraints(walls=np.eye(64, dtype=bool)))
    result = finish(again)
    repeated = finish(replay(result.record, star.image))
    assert repeated.level_set.tobytes() == result.level_set.tobytes()
    assert repeated.time == result.time


def test_the_level_set_given_is_not_written_to(star):
    u = np.clip(np.where(star.start, 1.0, -1.0), -4, 4).astype(np.float32)
    before = u.copy()
    finish(run(star, LevelSetParameters(steps=3), Resume(u)))
    assert np.array_equal(u, before)


@pytest.mark.parametrize(
    ("u", "code"),
    [
        (np.zeros((3, 3)), "resume-grid"),
        (np.full((64, 64), np.nan), "resume-grid"),
        (np.full((64, 64), 4.5), "resume-band"),
    ],
)
def test_a_level_set_that_does_not_fit_is_refused(star, u, code):
    with pytest.raises(InputError) as refused:
        next(run(star, LevelSetParameters(), Resume(u)))
    assert refused.value.code == code


def test_a_run_that_goes_on_at_rest_stops_by_the_measure_of_the_first(star):
    p = LevelSetParameters()
    generator = run(star, p)
    free_speed = next(generator).run.free_speed
    rest = finish(generator)
    assert rest.stop_reason == "converged"
    assert free_speed > 0.5
    again = finish(run(star, p, Resume(rest.level_set, rest.iteration, rest.time, free_speed=free_speed)))
    assert again.stop_reason == "converged"
    assert again.iteration - rest.iteration < 60


def test_a_known_speed_image_is_that_of_the_parameters_until_they_change(star):
    p = LevelSetParameters(speed="region", upper=150.0, auto_stop=False, steps=12)
    u = np.clip(np.where(star.start, 1.0, -1.0), -4, 4).astype(np.float32)
    known = speed_image(star.image, star.spacing, p)
    plain, given = finish(run(star, p, Resume(u))), finish(run(star, p, Resume(u, speed=known)))
    assert plain.level_set.tobytes() == given.level_set.tobytes()
    assert "speed_image" not in given.record.inputs
    changed = [run(star, p, Resume(u)), run(star, p, Resume(u, speed=known))]
    for generator in changed:
        next(generator)
        generator.send(p.model_copy(update={"upper": 120.0}))
    first, second = (finish(generator) for generator in changed)
    assert first.level_set.tobytes() == second.level_set.tobytes() != plain.level_set.tobytes()
