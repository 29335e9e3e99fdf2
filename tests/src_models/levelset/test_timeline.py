"""Every step of a run again, bit for bit; branches; comparisons; frames that are accepted and replayed."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from src_models.errors import InputError
from src_models.levelset import Constraints, LevelSetParameters, LevelSetState, Resume, evolve
from src_models.levelset.evolution import replay
from src_models.levelset.timeline import LONGEST_WAY, Timeline
from tests.runs import finish
from tests.scenes import ball, picture, star_scene

STEPS, CHANGE_AT, WALLS_AT = 60, 17, 33


@dataclass
class Watched:
    """A run, what its timeline kept, and every u it had."""

    image: np.ndarray
    spacing: tuple[float, ...]
    start: np.ndarray
    timeline: Timeline
    seen: dict[int, bytes] = field(default_factory=dict)
    times: dict[int, float] = field(default_factory=dict)
    masks: dict[int, np.ndarray] = field(default_factory=dict)
    result: Any = None


def watch(run, timeline, into: Watched, messages=()) -> Any:
    """Drive a run, send messages at their steps, and keep every state."""
    sent = dict(messages)
    state = next(run)
    try:
        while True:
            if isinstance(state, LevelSetState):
                timeline.see(state)
                into.seen[state.iteration] = state.level_set.tobytes()
                into.times[state.iteration] = state.time
                into.masks[state.iteration] = state.mask
                state = run.send(sent.pop(state.iteration, None))
            else:
                state = next(run)
    except StopIteration as end:
        return end.value


def scene(ndim: int):
    if ndim == 2:
        star = star_scene(size=64)
        return star.image, star.spacing, star.start
    spacing = (2.0, 1.0, 1.0)
    shape = (16, 30, 28)
    body = ball(shape, spacing, 11)
    return picture(body, spacing, 4, 3), spacing, ball(shape, spacing, 4) > 0


def steered(ndim: int, budget: int = 10**9, **settings) -> Watched:
    """60 steps with a change of parameters and with walls painted on the way."""
    image, spacing, start = scene(ndim)
    p = LevelSetParameters(speed="region", lower=110.0, steps=STEPS, auto_stop=False, **settings)
    walls = np.zeros(image.shape, bool)
    walls[..., 20] = True
    timeline = Timeline(budget)
    whole = Watched(image, spacing, start, timeline)
    messages = {
        CHANGE_AT: p.model_copy(update={"curvature": 0.6, "balloon": 0.7}),
        WALLS_AT: Constraints(walls=walls),
    }
    whole.result = watch(evolve(image, start, spacing, p), timeline, whole, messages)
    assert len(whole.seen) == STEPS + 1
    return whole


@pytest.fixture(scope="module", params=[2, 3], ids=["2D", "3D"])
def whole(request) -> Watched:
    return steered(request.param)


def test_every_step_comes_back_bit_for_bit(whole):
    timeline = whole.timeline
    assert 3 < len(timeline.current.keys) < STEPS / 2
    for iteration in range(STEPS + 1) if whole.image.ndim == 2 else (*range(0, 36, 3), *range(33, 36), 59, 60):
        timeline._held = None
        assert timeline.level_set(iteration).tobytes() == whole.seen[iteration]
    assert [m.iteration for m in timeline.frames()] == list(range(STEPS + 1))
    assert [m.time for m in timeline.frames()] == list(whole.times.values())


def test_scrubbing_forward_from_the_last_frame_gives_the_same(whole):
    for iteration in range(STEPS + 1):
        assert whole.timeline.level_set(iteration).tobytes() == whole.seen[iteration]


@pytest.mark.parametrize(
    "settings",
    [
        {"speed": "edge", "dtype": "float64"},
        {"speed": "region", "region": "chan_vese", "redistance_every": 3},
        {"speed": "edge", "redistance_every": 0, "order": 1, "speed_at": "voxel"},
        {"speed": "edge", "time": 6.0},
    ],
    ids=["edge", "chan-vese", "no band", "time"],
)
def test_every_step_of_other_settings_too(settings):
    image, spacing, start = scene(2)
    timeline = Timeline()
    run = Watched(image, spacing, start, timeline)
    watch(evolve(image, start, spacing, LevelSetParameters(**settings, auto_stop=False, steps=30)), timeline, run)
    for iteration, u in run.seen.items():
        timeline._held = None
        assert timeline.level_set(iteration).tobytes() == u


def test_key_frames_come_with_each_voxel_of_advance_and_never_too_far_apart(whole):
    keys = sorted(whole.timeline.current.keys)
    assert keys[0] == 0
    assert keys[-1] == STEPS
    assert max(np.diff(keys)) <= LONGEST_WAY
    moments = whole.timeline.frames()
    for a, b in pairwise(keys):
        advance = sum(abs(moments[k].rate) * (moments[k].time - moments[k - 1].time) for k in range(a + 1, b))
        assert advance < max(whole.spacing)


@pytest.mark.parametrize("budget", [20_000, 9_000, 2_000])
def test_within_any_budget_every_step_still_comes_back(budget):
    image, spacing, start = scene(2)
    timeline = Timeline(budget)
    run = Watched(image, spacing, start, timeline)
    p = LevelSetParameters(speed="region", lower=110.0, steps=STEPS, auto_stop=False)
    for state in evolve(image, start, spacing, p):
        timeline.see(state)
        run.seen[state.iteration] = state.level_set.tobytes()
        held = sum(len(k.runs) + k.near.nbytes for k in timeline.current.keys.values())
        assert timeline.nbytes == held
        assert held <= budget or len(timeline.current.keys) == 1
    for iteration in range(1, STEPS + 1, 7):
        timeline._held = None
        assert timeline.level_set(iteration).tobytes() == run.seen[iteration]


def test_the_budgets_above_do_force_a_choice():
    assert steered(2).timeline.nbytes > 20_000


def test_the_nearest_frame_is_a_picture_at_once(whole):
    near = whole.timeline.nearest(40)
    u = np.frombuffer(whole.seen[near.iteration], np.float32).reshape(whole.image.shape)
    start = np.frombuffer(whole.seen[0], np.float32).reshape(whole.image.shape).copy()
    start[near.box] = near.values
    np.testing.assert_array_equal(start, u)
    assert min(abs(k - 40) for k in whole.timeline.current.keys) == abs(near.iteration - 40)


def test_the_parameters_of_a_step_are_those_that_led_to_it(whole):
    assert whole.timeline.parameters(CHANGE_AT).curvature == 0.2
    assert whole.timeline.parameters(CHANGE_AT + 1).curvature == 0.6


@pytest.mark.parametrize("at", [CHANGE_AT, 25, WALLS_AT, 40])
def test_a_branch_is_the_run_that_had_the_change_sent_at_that_step(whole, at):
    """... with the walls and parameters of that step, and to the same end with the stop rules on."""
    first = whole.timeline.current if whole.timeline.current.parent is None else whole.timeline.branches[0]
    other = whole.timeline.parameters(at, first).model_copy(update={"curvature": 0.05, "steps": 400, "auto_stop": True})
    run = Watched(whole.image, whole.spacing, whole.start, whole.timeline)
    result = watch(whole.timeline.branch(at, other, of=first), whole.timeline, run)
    branch = whole.timeline.current
    sent = Watched(whole.image, whole.spacing, whole.start, Timeline())
    walls = np.zeros(whole.image.shape, bool)
    walls[..., 20] = True
    messages: dict[int, Any] = {CHANGE_AT: whole.timeline.parameters(CHANGE_AT + 1, first)}
    if at > WALLS_AT:
        messages[WALLS_AT] = Constraints(walls=walls)
    record = whole.result.record
    again = evolve(whole.image, whole.start, whole.spacing, LevelSetParameters(**record.parameters))
    messages[at] = other  # also at WALLS_AT: it was branched off before the walls were sent
    result_sent = watch(again, sent.timeline, sent, messages)
    assert result.stop_reason == result_sent.stop_reason != "steps"
    assert result.iteration == result_sent.iteration
    for iteration in range(at, result.iteration + 1):
        assert run.seen[iteration] == sent.seen[iteration]
    assert branch.parent is first
    assert [m.iteration for m in branch.moments] == list(range(at, result.iteration + 1))


def test_a_branch_judges_the_front_as_the_run_that_had_the_change_sent():
    """What counts as free follows the fastest place of the first band after a change, in both."""
    image, spacing, start = scene(2)
    p = LevelSetParameters(speed="edge", steps=40)
    other = p.model_copy(update={"balloon": 0.6, "contrast": 0.02})
    timeline, sent, branched = Timeline(), {}, {}
    run = evolve(image, start, spacing, p)
    state = next(run)
    while state.stop_reason is None:
        timeline.see(state)
        if state.iteration > 9:
            sent[state.iteration] = state.free_area
        state = run.send(other if state.iteration == 9 else None)
    before = Timeline()
    for state in evolve(image, start, spacing, p.model_copy(update={"steps": 12})):
        before.see(state)
    for state in before.branch(9, other):
        if isinstance(state, LevelSetState) and state.iteration > 9 and state.stop_reason is None:
            branched[state.iteration] = state.free_area
    assert len(sent) > 20
    assert branched == pytest.approx(sent, rel=1e-9)


def test_a_front_that_shrinks_leaves_nothing_behind():
    image, spacing = np.full((40, 40), 50.0, np.float32), (1.0, 1.0)
    image[0, 0] = 0
    timeline, run = Timeline(), Watched(image, spacing, ball((40, 40), spacing, 15) > 0, Timeline())
    p = LevelSetParameters(speed="region", lower=60.0, steps=40, auto_stop=False)
    watch(evolve(image, run.start, spacing, p), timeline, run)
    assert not list(run.masks.values())[-1].any()
    for iteration, u in run.seen.items():
        timeline._held = None
        assert timeline.level_set(iteration).tobytes() == u


@pytest.fixture(scope="module")
def tree() -> Watched:
    """A run of 40 steps; from step 20 a branch with walls and other weights; from its step 31 another branch."""
    image, spacing, start = scene(2)
    timeline = Timeline()
    run = Watched(image, spacing, start, timeline)
    p = LevelSetParameters(speed="region", lower=110.0, steps=40, auto_stop=False)
    watch(evolve(image, start, spacing, p), timeline, run)
    walls = np.zeros(image.shape, bool)
    walls[40] = True
    other = p.model_copy(update={"curvature": 1.0, "steps": 50})
    second = Watched(image, spacing, start, timeline)
    messages = {24: other.model_copy(update={"balloon": 0.5})}
    watch(timeline.branch(20, other, constraints=Constraints(walls=walls)), timeline, second, messages)
    third = Watched(image, spacing, start, timeline)
    watch(timeline.branch(31, p.model_copy(update={"steps": 45})), timeline, third)
    run.result = (run, second, third)
    return run


def test_the_tree_has_names_and_every_branch_its_own_steps(tree):
    first, second, third = tree.timeline.branches
    assert (first.parent, second.parent, third.parent) == (None, first, second)
    assert len({branch.name for branch in tree.timeline.branches}) == 3
    assert "20" in second.name
    for branch, run in zip(tree.timeline.branches, tree.result, strict=True):
        for iteration in range(branch.at + 1, branch.last + 1):
            tree.timeline._held = None
            assert tree.timeline.level_set(iteration, branch).tobytes() == run.seen[iteration]


def test_the_way_to_a_branch_leads_through_its_parents(tree):
    first, second, third = tree.timeline.branches
    assert [third.owner(k) for k in (0, 20, 21, 31, 32)] == [first, first, second, second, third]
    assert [m.iteration for m in tree.timeline.frames(third)] == list(range(46))
    for iteration in (5, 20, 28):
        theirs = tree.result[0] if iteration <= 20 else tree.result[1]
        assert tree.timeline.level_set(iteration, third).tobytes() == theirs.seen[iteration]


@pytest.mark.parametrize(
    ("branch", "iteration"), [(0, 0), (0, 13), (0, 40), (1, 20), (1, 21), (1, 24), (1, 25), (1, 30), (2, 31), (2, 45)]
)
def test_a_frame_that_is_accepted_is_replayed_from_its_record(tree, branch, iteration):
    of = tree.timeline.branches[branch]
    result = tree.timeline.accept(iteration, of)
    assert result.level_set.tobytes() == tree.timeline.level_set(iteration, of).tobytes()
    again = finish(replay(result.record.model_validate_json(result.record.to_json()), tree.image))
    assert again.level_set.tobytes() == result.level_set.tobytes()
    assert again.record.result["mask_hash"] == result.record.result["mask_hash"]
    assert again.iteration == iteration
    assert again.time == result.time


def test_no_stop_rule_can_end_the_replay_of_an_accepted_frame_before_it(tree):
    p = LevelSetParameters(speed="region", lower=110.0, steps=20)
    timeline = Timeline()
    for state in evolve(tree.image, tree.start, tree.spacing, p):
        timeline.see(state)
    finish(timeline.branch(9, p))
    record = timeline.accept(15).record
    assert [change.step for change in record.changes] == [9]
    assert not record.changes[0].parameters["auto_stop"]
    assert timeline.parameters(15).auto_stop


def test_a_replay_makes_a_record_that_is_replayed_in_turn(tree):
    result = tree.timeline.accept(44, tree.timeline.branches[2])
    once = finish(replay(result.record, tree.image))
    twice = finish(replay(once.record, tree.image))
    assert twice.level_set.tobytes() == result.level_set.tobytes()


def test_the_record_of_a_branch_that_ran_to_its_end_is_replayed(tree):
    image, spacing, start = tree.image, tree.spacing, tree.start
    timeline = Timeline()
    run = Watched(image, spacing, start, timeline)
    p = LevelSetParameters(speed="region", lower=110.0, steps=300)
    first = watch(evolve(image, start, spacing, p), timeline, run)
    assert first.stop_reason == "converged"
    softer = p.model_copy(update={"curvature": 1.0})
    went_on = watch(timeline.branch(first.iteration, softer), timeline, run)
    assert len(timeline.branches) == 1
    aside = watch(timeline.branch(30, softer), timeline, Watched(image, spacing, start, timeline))
    for result in (first, went_on, aside):
        again = finish(replay(result.record, image))
        assert again.level_set.tobytes() == result.level_set.tobytes()
        assert again.stop_reason == result.stop_reason
    for iteration, u in run.seen.items():
        assert timeline.level_set(iteration, timeline.branches[0]).tobytes() == u


def test_a_run_that_ended_by_its_time_goes_on_and_is_replayed():
    image, spacing, start = scene(2)
    timeline = Timeline()
    run = Watched(image, spacing, start, timeline)
    p = LevelSetParameters(speed="region", lower=110.0, time=5.3, auto_stop=False)
    ended = watch(evolve(image, start, spacing, p), timeline, run)
    longer = watch(timeline.branch(ended.iteration, p.model_copy(update={"time": 9.1})), timeline, run)
    assert (ended.stop_reason, longer.stop_reason, longer.time) == ("time", "time", 9.1)
    for result in (longer, timeline.accept(longer.iteration), timeline.accept(ended.iteration + 2)):
        again = finish(replay(result.record, image))
        assert again.level_set.tobytes() == result.level_set.tobytes()
    for iteration, u in run.seen.items():
        timeline._held = None
        assert timeline.level_set(iteration).tobytes() == u


def leaking_run() -> Watched:
    """A disc with a hole in its wall: the guard goes back to the moment before."""
    shape, spacing = (64, 64), (1.0, 1.0)
    speed = np.full(shape, 1.0, np.float32)
    distance = 18 - ball(shape, spacing, 18)
    speed[np.abs(distance - 18) < 2] = 1e-3
    speed[29:35, 40:] = np.where(np.abs(distance - 18)[29:35, 40:] < 2, 1.0, speed[29:35, 40:])
    image = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    start = ball(shape, spacing, 5) > 0
    timeline = Timeline()
    run = Watched(image, spacing, start, timeline)
    p = LevelSetParameters(speed="edge", convection=0.0, curvature=0.2, steps=400)
    run.speed = speed
    run.result = watch(evolve(image, start, spacing, p, speed), timeline, run)
    return run


def test_the_steps_of_a_leak_stay_within_reach_and_are_marked():
    run = leaking_run()
    timeline, result = run.timeline, run.result
    assert result.stop_reason == "leak"
    branch = timeline.current
    assert (branch.stop_reason, branch.end, branch.leak_at) == ("leak", result.iteration, result.leak_at)
    assert branch.last > branch.end
    assert not branch.is_leaking(branch.end)
    assert branch.is_leaking(branch.end + 1)
    assert timeline.level_set(branch.end).tobytes() == result.level_set.tobytes()
    for iteration in range(branch.end + 1, branch.last + 1):
        timeline._held = None
        assert timeline.level_set(iteration).tobytes() == run.seen[iteration]
    accepted = timeline.accept(branch.last)
    again = finish(replay(accepted.record, run.image, run.speed))
    assert again.level_set.tobytes() == accepted.level_set.tobytes()
    tighter = timeline.parameters(branch.end).model_copy(update={"curvature": 1.0})
    branched = Watched(run.image, run.spacing, run.start, timeline)
    went_on = watch(timeline.branch(branch.end, tighter), timeline, branched)
    assert timeline.current is not branch
    again = finish(replay(went_on.record, run.image, run.speed))
    assert again.level_set.tobytes() == went_on.level_set.tobytes()


def test_a_replay_that_is_cut_off_leaves_nothing_broken(whole):
    timeline, first = whole.timeline, whole.timeline.branches[0]
    timeline._held = None
    keys = sorted(first.keys)
    gap = max(range(len(keys) - 1), key=lambda k: keys[k + 1] - keys[k])
    target = keys[gap + 1] - 1
    before = timeline.nbytes, len(timeline.branches), timeline.current
    cut = timeline.going_to(target, first)
    next(cut)
    cut.close()
    branching = timeline.branch(target, timeline.parameters(target, first), of=first)
    next(branching)
    branching.close()
    assert (timeline.nbytes, len(timeline.branches), timeline.current) == before
    assert timeline.level_set(target, first).tobytes() == whole.seen[target]


def test_two_equal_frames_do_not_differ(tree):
    first, second, _ = tree.timeline.branches
    same = tree.timeline.compare((first, 20), (second, 20))
    assert not same.only_a.any()
    assert not same.only_b.any()
    assert (same.dice, same.difference_mm, same.surface_mm, same.farthest_mm) == (1, 0, 0, 0)


def test_two_branches_are_compared_voxel_by_voxel(tree):
    first, second, _ = tree.timeline.branches
    found = tree.timeline.compare((first, 40), (second, 40))
    a, b = tree.result[0].masks[40], tree.result[1].masks[40]
    np.testing.assert_array_equal(found.only_a, a & ~b)
    np.testing.assert_array_equal(found.only_b, b & ~a)
    np.testing.assert_array_equal(found.both, a & b)
    assert found.dice == 2 * (a & b).sum() / (a.sum() + b.sum()) < 1
    assert found.difference_mm == int(b.sum()) - int(a.sum())
    assert found.difference_ml is None


@pytest.mark.parametrize("iteration", [-1, 61])
def test_a_step_that_is_not_there_is_said(whole, iteration):
    with pytest.raises(InputError) as refused:
        whole.timeline.level_set(iteration, whole.timeline.branches[0])
    assert refused.value.code == "timeline-step"


def test_an_empty_timeline_says_so():
    with pytest.raises(InputError) as refused:
        Timeline().level_set(0)
    assert refused.value.code == "timeline-empty"


def test_redistancing_cannot_be_switched_in_a_branch(whole):
    with pytest.raises(InputError) as refused:
        finish(whole.timeline.branch(5, LevelSetParameters(redistance_every=0, order=1), of=whole.timeline.branches[0]))
    assert refused.value.code == "redistancing-switched"


def test_a_run_from_a_ready_level_set_has_a_timeline_too(tree):
    u = np.frombuffer(tree.seen[10], np.float32).reshape(tree.image.shape).copy()
    timeline = Timeline()
    run = Watched(tree.image, tree.spacing, tree.start, timeline)
    p = tree.timeline.parameters(10, tree.timeline.branches[0])
    watch(evolve(tree.image, Resume(u, 10, tree.times[10]), tree.spacing, p), timeline, run)
    assert run.seen[25] == tree.seen[25]
    assert timeline.level_set(25).tobytes() == tree.seen[25]


def test_a_run_that_began_on_coarser_grids_has_a_timeline_and_records_that_replay():
    shape, spacing = (128, 128), (1.0, 1.0)
    image = picture(ball(shape, spacing, 40), spacing, 4, 1)
    start = ball(shape, spacing, 5) > 0
    timeline, seen, phases = Timeline(), {}, set()
    p = LevelSetParameters(speed="region", lower=110.0, pyramid=True)
    for state in evolve(image, start, spacing, p):
        timeline.see(state)
        phases.add(state.phase)
        if state.phase == "evolve":
            seen[state.iteration] = state.level_set.tobytes()
    assert len(phases) > 1
    assert [m.iteration for m in timeline.frames()] == list(seen)
    for iteration, u in seen.items():
        timeline._held = None
        assert timeline.level_set(iteration).tobytes() == u
    middle = len(seen) // 2
    finish(timeline.branch(middle, p.model_copy(update={"curvature": 1.0, "steps": len(seen) + 5})))
    for accepted in (timeline.accept(middle - 1), timeline.accept(timeline.current.last)):
        again = finish(replay(accepted.record, image))
        assert again.level_set.tobytes() == accepted.level_set.tobytes()


def test_a_branch_of_a_run_with_a_recipe_for_its_speed_is_replayed():
    from src_models.levelset.recipes import ClusterSpeed

    image, spacing, start = scene(2)
    timeline = Timeline()
    p = LevelSetParameters(speed="region", steps=12, auto_stop=False)
    for state in evolve(image, start, spacing, p, ClusterSpeed()):
        timeline.see(state)
    drawn_again = Constraints(walls=np.eye(64, dtype=bool))
    finish(timeline.branch(6, p.model_copy(update={"curvature": 0.7}), constraints=drawn_again))
    accepted = timeline.accept(11)
    again = finish(replay(accepted.record, image))
    assert again.level_set.tobytes() == accepted.level_set.tobytes()
