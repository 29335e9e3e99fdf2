"""Samples: functions of their number, whoever makes them; where they are cut; what they are compared with."""

from __future__ import annotations

import numpy as np
import pytest

from src_models.errors import InputError
from src_models.preprocessing.cropping import OUTSIDE
from src_models.training.augmentation import Augmenter
from src_models.training.label_targets import Targets, foreground_classes
from src_models.training.loader import batches, sample_numbers
from src_models.training.losses import IGNORED
from src_models.training.plan import Augmentation
from src_models.training.sampling import PreparedCase, Sampler, foreground_places, free_samples
from src_models.weights.card import Label
from tests.src_models.training.tiny import discs, tiny_plan


def prepared(count: int = 5, shape: tuple[int, ...] = (30, 34)) -> list[PreparedCase]:
    cases = []
    for case in discs(count, shape, ("disc", "core")).cases:
        volume, segmentation = case.read()
        labels = segmentation.labels.astype(np.int16)
        places = foreground_places(labels, {1: (1,), 2: (2,)})
        cases.append(PreparedCase(case.id, volume.array.astype(np.float32), labels, places))
    return cases


def sampler(**changes: object) -> Sampler:
    augmenter = Augmenter(Augmentation(rotation=0.5, noise=0.5), (0, 1))
    values = {"cases": prepared(), "patch": (16, 16), "batch": 4, "seed": 3, "augmenter": augmenter}
    return Sampler(**(values | changes))


TARGETS = Targets.of(tiny_plan(discs(2, (20, 20), ("disc", "core"))))


def all_of(source: Sampler, steps: range, **how: int) -> dict[int, np.ndarray]:
    return {batch.step: batch.image for batch in batches(source, TARGETS, steps, **how)}


@pytest.mark.parametrize("workers", [1, 4])
def test_samples_do_not_depend_on_the_workers(workers):
    alone = all_of(sampler(), range(5), workers=0)
    together = all_of(sampler(), range(5), workers=workers)
    assert list(alone) == list(together)
    for step, image in alone.items():
        np.testing.assert_array_equal(image, together[step])


@pytest.mark.parametrize("world", [2, 4])
def test_samples_do_not_depend_on_the_processes(world):
    alone = all_of(sampler(), range(3), workers=0)
    for rank in range(world):
        part = all_of(sampler(), range(3), workers=0, rank=rank, world=world)
        for step, image in alone.items():
            np.testing.assert_array_equal(part[step], image[rank::world])
    assert sorted(k for rank in range(world) for k in sample_numbers(7, 4, rank, world)) == list(range(28, 32))


def test_samples_do_not_depend_on_what_came_before():
    late = all_of(sampler(), range(4, 5), workers=0)
    np.testing.assert_array_equal(all_of(sampler(), range(5), workers=0)[4], late[4])


def test_another_seed_or_stream_gives_other_samples():
    first = sampler().sample(0).image
    assert not np.array_equal(first, sampler(seed=4).sample(0).image)
    assert not np.array_equal(first, sampler(stream="validation").sample(0).image)
    assert not np.array_equal(first, sampler().sample(1).image)


@pytest.mark.parametrize(("batch", "free"), [(2, 1), (3, 2), (4, 3), (7, 5), (12, 8), (1, 1)])
def test_how_many_samples_are_free(batch, free):
    assert free_samples(batch, 0.33) == free


def test_the_last_of_a_batch_holds_foreground():
    cases = prepared(4, (80, 90))
    for case in cases:
        # a few voxels in a corner: a free sample hardly ever meets them
        case.labels[:] = 0
        case.labels[2:4, 85:88] = 2
        case.places.clear()
        case.places.update(foreground_places(case.labels, {1: (1,), 2: (2,)}))
    source = sampler(cases=cases, patch=(8, 8), batch=2, augmenter=None)
    there = [bool((source.sample(k).labels == 2).any()) for k in range(60)]
    assert all(there[1::2])
    assert sum(there[0::2]) < 5


def test_classes_are_drawn_equally_often_however_small():
    case = prepared(1, (60, 60))[0]
    source = sampler(cases=[case], patch=(1, 1), batch=1, foreground=1.0, augmenter=None)
    found = [int(source.sample(k).labels[0, 0]) for k in range(400)]
    assert set(found) == {1, 2}
    assert np.mean(found) == pytest.approx(1.5, abs=0.08)


def test_a_patch_larger_than_the_image_has_it_in_its_middle():
    case = prepared(1, (10, 11))[0]
    sample = sampler(cases=[case], patch=(14, 11), augmenter=None).sample(0)
    np.testing.assert_array_equal(sample.image[:, 2:12], case.image)
    assert (sample.labels[[0, 1, 12, 13]] == OUTSIDE).all()


def test_patches_reach_every_voxel_and_stay_inside():
    case = prepared(1, (20, 20))[0]
    case.image[0] = np.arange(400).reshape(20, 20)
    seen = set()
    for k in range(300):
        sample = sampler(cases=[case], patch=(16, 16), augmenter=None).sample(k)
        assert (sample.labels != OUTSIDE).all()
        seen.add(int(sample.image[0, 0, 0]))
    assert seen == {20 * y + x for y in range(5) for x in range(5)}


def test_slices_of_volumes():
    case = prepared(1, (12, 20, 22))[0]
    source = sampler(cases=[case], patch=(16, 16), batch=2, augmenter=None)
    for k in range(20):
        sample = source.sample(k)
        assert sample.image.shape == (1, 16, 16)
        if k % 2:
            assert (sample.labels > 0).any()


def test_in_turn_every_case_comes_once():
    cases = prepared(5)
    source = sampler(cases=cases, in_turn=True)
    names = [source.sample(k).case for k in range(20)]
    for turn in range(4):
        assert sorted(names[5 * turn : 5 * turn + 5]) == sorted(case.id for case in cases)
    assert names[:5] != names[5:10] or names[5:10] != names[10:15]


def test_places_are_all_voxels_of_small_classes_and_spread_over_large_ones():
    labels = np.zeros((300, 300), np.int16)
    labels[:200] = 1
    labels[250, :7] = 2
    places = foreground_places(labels, {1: (1,), 2: (2,), 3: (3,)})
    assert set(places) == {1, 2}
    assert len(places[1]) == 10_000
    assert places[1][:, 0].min() == 0
    assert places[1][:, 0].max() == 199
    assert np.median(places[1][:, 0]) == pytest.approx(100, abs=2)
    assert {tuple(p) for p in places[2]} == {(250, x) for x in range(7)}


def test_targets_of_classes_regions_and_what_is_ignored():
    plan = tiny_plan(discs(2, (20, 20), ("disc", "core")))
    values = np.array([[[OUTSIDE, 0, 1, 2]]])
    assert Targets.of(plan)(values).tolist() == [[[0, 0, 1, 2]]]
    ignoring = plan.model_copy(update={"ignore_label": 3})
    assert Targets.of(ignoring)(np.array([[3, 1]])).tolist() == [[IGNORED, 1]]
    regions = plan.model_copy(
        update={
            "head": "sigmoid",
            "labels": (
                Label(name="whole", value=1, channel=0, members=(1, 2)),
                Label(name="core", value=2, channel=1, members=(2,)),
            ),
        }
    )
    assert Targets.of(regions)(values)[0, :, 0].tolist() == [[0, 0, 1, 1], [0, 0, 0, 1]]
    assert foreground_classes(regions) == {0: (1, 2), 1: (2,)}
    assert foreground_classes(plan) == {1: (1,), 2: (2,)}
    with pytest.raises(InputError, match="value 7"):
        Targets.of(plan)(np.array([[7]]))


def test_label_numbers_need_not_be_in_a_row():
    plan = tiny_plan(discs(2, (20, 20)))
    labels = (Label(name="background", value=0, channel=0), Label(name="late", value=250, channel=1))
    found = Targets.of(plan.model_copy(update={"labels": labels}))(np.array([[0, 250, OUTSIDE]]))
    assert found.tolist() == [[0, 1, 0]]
