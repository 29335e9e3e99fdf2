"""Several labels under way: parameters for one, walls, pins and protected voxels, ends, records."""

from __future__ import annotations

import json

import numpy as np
import pytest

from src_models.errors import LsnetError
from src_models.levelset import Constraints, LevelSetParameters, evolve, evolve_labels
from src_models.levelset.coupled import replay_labels
from src_models.levelset.coupling import moved_box, overlap
from src_models.levelset.initial import Seeds, Sphere
from src_models.levelset.label_front import LabelFront, Scene
from src_models.levelset.speed import with_range
from src_models.progress import finish
from src_models.record import Record, content_hash
from tests.scenes import ball

SHAPE, SPACING = (60, 90), (1.0, 1.0)
REGION = LevelSetParameters(speed="region", lower=50, upper=150, auto_stop=False, steps=60)


def two_discs(gap=0.0, noise=5.0):
    """Two bright discs side by side, seeds in both, and a third label's start in the dark between."""
    image = np.full(SHAPE, 10.0)
    for x in (25.0, 65.0):
        image += 90 / (1 + np.exp(-ball(SHAPE, SPACING, 17.0, (30.0, x))))
    image += np.random.default_rng(0).normal(0, noise, SHAPE)
    starts = np.zeros(SHAPE, np.uint8)
    starts[ball(SHAPE, SPACING, 4.0, (30.0, 25.0)) > 0] = 1
    starts[ball(SHAPE, SPACING, 4.0, (30.0, 65.0)) > 0] = 2
    return image.astype(np.float32), starts


def driven(run, sends):
    """Run to the end, sending what is due after a step; every state's reports, and the result."""
    state = next(run)
    seen = [state]
    try:
        while True:
            message = sends.get(state.iteration)
            state = next(run) if message is None else run.send(message)
            seen.append(state)
    except StopIteration as end:
        return seen, end.value


def owned_twice(result):
    return sum((result.level_set(k) > 0).astype(int) for k in result.reports).max() > 1


def test_labels_grow_by_their_own_parameters():
    image, starts = two_discs()
    own = {1: REGION, 2: REGION.model_copy(update={"balloon": 0.0, "curvature": 1.0, "steps": 200})}
    result = finish(evolve_labels(image, starts, SPACING, own))
    assert result.reports[1].size > 5 * (starts == 1).sum()
    assert result.reports[2].stop_reason == "vanished"
    assert not (result.labels == 2).any()


def test_parameters_sent_to_one_label_leave_the_other_alone():
    image, starts = two_discs()
    still = {1: REGION.model_copy(update={"balloon": 0.0, "curvature": 0.0, "time_step": 0.3})}
    p = REGION.model_copy(update={"time_step": 0.3})
    seen, result = driven(evolve_labels(image, starts, SPACING, p), {5: still})
    assert seen[-1].reports[1].size == pytest.approx(seen[5].reports[1].size, rel=1e-3)
    assert seen[-1].reports[2].size > 3 * seen[5].reports[2].size
    assert np.array_equal(result.level_set(2), finish(evolve(image, starts == 2, SPACING, p)).level_set)


def test_a_label_that_has_ended_keeps_its_place_until_it_gets_new_parameters():
    image, starts = two_discs()
    image[:] = 100
    own = {1: REGION.model_copy(update={"steps": 5}), 2: REGION}
    seen, result = driven(evolve_labels(image, starts, SPACING, own), {40: {1: REGION}})
    at_rest = seen[5].reports[1].size
    assert [s.reports[1].size for s in seen[5:41]] == [at_rest] * 36
    assert {s.reports[1].stop_reason for s in seen[5:41]} == {"steps"}
    assert all(s.reports[1].changed_box is None for s in seen[6:41])
    assert seen[60].reports[1].size > at_rest
    assert not owned_twice(result)


def test_others_do_not_enter_a_label_at_rest():
    """A resting disc in the way of a growing one loses nothing, not even a part of a voxel."""
    image, starts = two_discs()
    image[:] = 100
    own = {1: REGION.model_copy(update={"steps": 10}), 2: REGION.model_copy(update={"steps": 150})}
    run = evolve_labels(image, starts, SPACING, own)
    for state in run:
        if state.iteration == 10:
            kept = state.level_set_of(1)[1].copy()
    box, u = state.level_set_of(1)
    assert np.array_equal(u, kept)
    inside = state.labels == 1
    assert (state.labels[ball(SHAPE, SPACING, 10.0, (30.0, 25.0)) > 0] != 0).all()
    assert np.array_equal(inside[box], kept > 0)


def test_protected_labels_stay_as_they_are():
    image, starts = two_discs()
    image[:] = 100
    protected = np.zeros(SHAPE, np.int16)
    protected[:, 44:46] = 9
    protected[20:40, 30:33] = 4
    p = REGION.model_copy(update={"steps": 140})
    for state in evolve_labels(image, starts, SPACING, p, protected=protected):
        assert not state.labels[protected > 0].any()
    assert (state.labels[:, :44] != 2).all()
    assert (state.labels[:, 46:] != 1).all()
    assert (state.labels == 0).sum() == (protected > 0).sum()


def test_pins_hold_a_voxel_in_their_label_and_the_others_out():
    """Sent while it runs, far from the label's box and inside the other label: both follow at once."""
    image, starts = two_discs()
    pins = np.zeros(SHAPE, np.uint8)
    pins[28:33, 62:66] = 1
    pins[2:4, 2:4] = 2
    walls = np.zeros(SHAPE, bool)
    walls[:, 25] = True
    seen, result = driven(evolve_labels(image, starts, SPACING, REGION), {10: Constraints(walls=walls, pins=pins)})
    assert seen[-1].iteration == 60
    assert (result.labels[pins == 1] == 1).all()
    assert (result.labels[pins == 2] == 2).all()
    assert not result.labels[walls].any()
    assert not owned_twice(result)


def test_what_cannot_be_taken_is_said_and_changes_nothing():
    image, starts = two_discs()
    wrong = {
        3: {7: REGION},
        6: Constraints(walls=np.zeros((3, 3), bool)),
        9: Constraints(walls=image > 50, pins=np.ones(SHAPE, bool)),
        11: Constraints(),
        12: LevelSetParameters(redistance_every=0, order=1),
        15: {1: REGION},
    }
    seen, result = driven(evolve_labels(image, starts, SPACING, REGION), wrong)
    said = [state.note for state in seen if state.note]
    assert len(said) == 4
    assert all(note.startswith("Not changed: ") for note in said)
    assert np.array_equal(result.labels, finish(evolve_labels(image, starts, SPACING, REGION)).labels)
    assert [change.step for change in result.record.changes] == [11, 15]


def test_a_record_makes_the_run_again():
    """Through text, with masks and seeds as starts, walls, pins, protected voxels and changes for one and for all."""
    image, starts = two_discs()
    initials = {1: starts == 1, 5: Seeds(spheres=(Sphere(centre=(30.0, 65.0), radius=4.0),))}
    walls, pins = np.zeros(SHAPE, bool), np.zeros(SHAPE, np.uint8)
    walls[10:20, 40] = True
    pins[30, 45] = 5
    sends = {
        5: {1: REGION.model_copy(update={"curvature": 0.5}), 5: REGION.model_copy(update={"lower": 30.0})},
        9: Constraints(pins=pins),
        12: REGION.model_copy(update={"curvature": 0.05}),
    }
    run = evolve_labels(image, initials, SPACING, REGION, protected=starts == 2, walls=walls, pins=pins * 0)
    _, result = driven(run, sends)
    record = Record(**json.loads(result.record.to_json()))
    assert len(record.changes) == 5
    again = finish(replay_labels(record, image))
    for number in (1, 5):
        assert np.array_equal(again.level_set(number), result.level_set(number))
    assert np.array_equal(again.labels, result.labels)
    assert content_hash(again.labels) == record.result["labels_hash"]
    with pytest.raises(LsnetError, match="not the one of the record"):
        next(replay_labels(record, image + 1))


def test_a_cancelled_run_gives_what_it_has_and_is_made_again():
    image, starts = two_discs()
    run = evolve_labels(image, starts, SPACING, REGION)
    for state in run:
        if state.iteration == 7:
            break
    run.close()
    result = state.result()
    assert result.stop_reason == "cancelled"
    assert {report.stop_reason for report in result.reports.values()} == {"cancelled"}
    again = finish(replay_labels(result.record, image))
    assert again.iteration == 7
    assert np.array_equal(again.labels, result.labels)


def test_states_tell_where_something_changed():
    image, starts = two_discs()
    before = starts.copy()
    for state in evolve_labels(image, starts, SPACING, REGION):
        now = state.labels
        changed = now != before
        if state.changed_box is not None:
            assert np.array_equal(state.labels_in(state.changed_box), now[state.changed_box])
            changed[state.changed_box] = False
        assert not changed.any()
        if state.iteration > 40:
            assert sum(r.size for r in state.reports.values()) == pytest.approx((now > 0).sum(), rel=0.02)
        assert 0 <= state.fraction <= 1
        before = now
    assert state.stop_reason == "ended"


def test_a_leak_ends_one_label_and_gives_way_to_the_other():
    """The first disc has a hole; its label goes back to before it, while the second goes on, and nothing overlaps."""
    shape = (120, 120)
    body = ball(shape, SPACING, 18.0, (60.0, 40.0))
    y, x = np.meshgrid(*[np.arange(n) for n in shape], indexing="ij")
    image = np.where((np.abs(body) < 2.0) & ~((np.abs(y - 60) <= 4) & (x > 40)), 0.0, 100.0)
    starts = np.where(ball(shape, SPACING, 5.0, (60.0, 40.0)) > 0, 1, 0)
    starts[ball(shape, SPACING, 4.0, (60.0, 110.0)) > 0] = 2
    p = LevelSetParameters(speed="region", lower=50, steps=110)
    own = {1: p, 2: p.model_copy(update={"auto_stop": False})}
    seen, result = driven(evolve_labels(image, starts, SPACING, own), {})
    assert result.reports[1].stop_reason == "leak"
    assert result.reports[1].leak_at is not None
    assert any("Leak of label 1" in state.note for state in seen)
    assert result.reports[2].stop_reason == "steps"
    assert not owned_twice(result)
    assert np.abs(result.level_set(1)).max() <= 4


def test_going_back_takes_nothing_from_others():
    """A label that stood where another one stands by now keeps the rest of its place; the other one loses nothing."""
    image, _ = two_discs()
    p = with_range(image, REGION)
    scene = Scene(image, SPACING, 4.0, None, None)
    first, second = (
        LabelFront(number, scene, ball(SHAPE, SPACING, 10.0, (30.0, x)) > 0, p) for number, x in ((1, 38.0), (2, 50.0))
    )
    kept, before = second.level_set().copy(), first.level_set().copy()
    first.give_way([second])
    assert np.array_equal(second.level_set(), kept)
    common = overlap(first.box, second.box)
    mine = first.level_set()[moved_box(common, first.box)]
    theirs = kept[moved_box(common, second.box)]
    was = before[moved_box(common, first.box)]
    assert ((was > 0) & (theirs > 0)).any()
    assert not ((mine > 0) & (theirs > 0)).any()
    assert np.array_equal(mine[theirs < -3.9], was[theirs < -3.9])


def test_all_share_the_smallest_step():
    image, starts = two_discs()
    own = {1: REGION, 2: REGION.model_copy(update={"curvature": 1.0})}
    alone = []
    for number, p in own.items():
        run = evolve(image, starts == number, SPACING, p)
        next(run)
        alone.append(next(run).dt)
    run = evolve_labels(image, starts, SPACING, own)
    next(run)
    state = next(run)
    assert alone[0] > alone[1]
    assert state.dt == state.time == min(alone)


@pytest.mark.parametrize(
    ("initials", "parameters", "more", "said"),
    [
        ({}, REGION, {}, "no label to grow"),
        ({0: np.ones(SHAPE, bool)}, REGION, {}, "no label number"),
        ({1: np.zeros(SHAPE, bool)}, REGION, {}, "empty"),
        (np.zeros(SHAPE, int), REGION, {}, "empty"),
        (np.eye(*SHAPE), REGION, {}, "name no labels"),
        ({1: np.eye(*SHAPE, dtype=int), 2: np.eye(*SHAPE, dtype=int)}, REGION, {}, "overlap"),
        ({1: np.eye(*SHAPE, dtype=int)}, {2: REGION}, {}, "no parameters"),
        (
            {1: np.eye(*SHAPE, k=9, dtype=int), 2: np.eye(*SHAPE, dtype=int)},
            {1: REGION, 2: LevelSetParameters(band=5)},
            {},
            "share",
        ),
        ({1: np.eye(*SHAPE, dtype=int)}, LevelSetParameters(engine="reference"), {}, "processor"),
        ({1: np.eye(*SHAPE, dtype=int)}, REGION, {"protected": np.zeros((3, 3))}, "grid"),
        ({1: np.eye(*SHAPE, dtype=int)}, REGION, {"pins": np.ones(SHAPE, bool)}, "name no label"),
    ],
)
def test_what_cannot_be_run_is_refused_in_a_sentence(initials, parameters, more, said):
    with pytest.raises(LsnetError, match=said):
        next(evolve_labels(two_discs()[0], initials, SPACING, parameters, **more))
