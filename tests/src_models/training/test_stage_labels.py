"""What a second stage sees of its first in training: drawn with stated frequencies, done exactly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from src_models.preprocessing.one_hot import one_hot
from src_models.training.augmentation import Augmenter
from src_models.training.plan import Augmentation
from src_models.training.sampling import PreparedCase, Sampler, foreground_places
from src_models.training.stage_labels import (
    RADIUS,
    Dropped,
    Morphology,
    StageChanges,
    StageLabels,
    change_stage,
    draw_stage_changes,
    moved_border,
)

STILL = Augmentation(morphology=0, dropped_components=0)
NOTHING = Augmentation(
    rotation=0, scaling=0, noise=0, blur=0, brightness=0, contrast=0, low_resolution=0, gamma_inverted=0, gamma=0,
    morphology=0, dropped_components=0,
)  # fmt: skip


def blobs(seed: int = 0, shape: tuple[int, ...] = (18, 22, 20)) -> np.ndarray:
    """A mask of a few uneven parts, some of which reach the border."""
    rng = np.random.default_rng(seed)
    return ndimage.gaussian_filter(rng.standard_normal(shape), 2) > 0.07


def ball(radius: float, ndim: int) -> np.ndarray:
    reach = int(radius)
    return sum(np.square(np.ogrid[(slice(-reach, reach + 1),) * ndim][a]) for a in range(ndim)) <= radius**2


@pytest.mark.parametrize("radius", [1.0, 2.5, 5.3])
@pytest.mark.parametrize("shape", [(18, 22, 20), (40, 44)])
def test_borders_move_as_a_ball_moves_them(shape, radius):
    """Dilation knows nothing outside the patch; erosion does not come in from there."""
    mask, brush = blobs(3, shape), ball(radius, len(shape))
    grown = ndimage.binary_dilation(mask, brush)
    shrunk = ndimage.binary_erosion(mask, brush, border_value=1)
    np.testing.assert_array_equal(moved_border(mask, "dilate", radius), grown)
    np.testing.assert_array_equal(moved_border(mask, "erode", radius), shrunk)
    np.testing.assert_array_equal(
        moved_border(mask, "close", radius), ndimage.binary_erosion(grown, brush, border_value=1)
    )
    np.testing.assert_array_equal(moved_border(mask, "open", radius), ndimage.binary_dilation(shrunk, brush))


def test_a_small_object_in_a_large_patch_is_treated_as_a_whole():
    """Only the surroundings of a class are looked at: they reach far enough."""
    mask = np.zeros((40, 42, 44), bool)
    mask[16:23, 17:22, 18:26] = True
    mask[16:23, 19, 20:24] = False
    brush = ball(4.5, 3)
    grown = ndimage.binary_dilation(mask, brush)
    np.testing.assert_array_equal(moved_border(mask, "dilate", 4.5), grown)
    np.testing.assert_array_equal(moved_border(mask, "close", 4.5), ndimage.binary_erosion(grown, brush))
    assert not moved_border(mask, "erode", 4.5).any()
    assert not moved_border(mask, "open", 4.5).any()


@pytest.mark.parametrize("mask", [np.zeros((6, 6, 6), bool), np.ones((6, 6, 6), bool)])
@pytest.mark.parametrize("operator", ["dilate", "erode", "open", "close"])
def test_nothing_and_everything_stay(mask, operator):
    np.testing.assert_array_equal(moved_border(mask, operator, 3.0), mask)


def test_where_a_class_grows_no_other_stays():
    labels = np.zeros((16, 16, 16), np.int16)
    labels[3:8, 3:12, 3:12] = 1
    labels[8:13, 3:12, 3:12] = 2
    x = change_stage(one_hot(labels, (1, 2)), StageChanges((Morphology(0, "dilate", 2.0),)))
    np.testing.assert_array_equal(x[0] > 0, moved_border(labels == 1, "dilate", 2.0))
    np.testing.assert_array_equal(x[1] > 0, (labels == 2) & (x[0] == 0))
    assert x.sum(0).max() == 1
    y = change_stage(one_hot(labels, (1, 2)), StageChanges((Morphology(0, "erode", 2.0),)))
    np.testing.assert_array_equal(y[1] > 0, labels == 2)


def test_one_small_part_of_a_class_vanishes_whole():
    labels = np.zeros((20, 20, 20), np.int16)
    labels[1:4, 1:4, 1:4] = 1
    labels[4:6, 4:6, 4:6] = 1  # touches the first by a corner: one part
    labels[10:13, 10:13, 10:13] = 1
    labels[15:18, 2:18, 2:18] = 2
    before = one_hot(labels, (1, 2))
    first = change_stage(before, StageChanges(dropped=(Dropped(0, 0.0),)))
    second = change_stage(before, StageChanges(dropped=(Dropped(0, 0.99),)))
    np.testing.assert_array_equal(first[0] + second[0], before[0])
    assert first[0].sum() == 27
    assert second[0].sum() == 27 + 8
    np.testing.assert_array_equal(first[1], before[1])


def test_a_part_of_15_percent_and_a_class_that_is_not_there_stay():
    labels = np.zeros((20, 20, 20), np.int16)
    labels[:3] = 1
    before = one_hot(labels, (1, 2))
    assert before[0].mean() == np.float32(0.15)
    for channel in (0, 1):
        np.testing.assert_array_equal(change_stage(before, StageChanges(dropped=(Dropped(channel, 0.5),))), before)
    labels[2, 0] = 0
    less = one_hot(labels, (1, 2))
    assert not change_stage(less, StageChanges(dropped=(Dropped(0, 0.5),))).any()


def test_draws_have_their_frequencies():
    rng, count, channels = np.random.default_rng(0), 6000, 3
    drawn = [draw_stage_changes(Augmentation(), rng, channels) for _ in range(count)]
    some = 1 - 0.5**channels
    for share, found in ((0.4, [bool(d.morphology) for d in drawn]), (0.2, [bool(d.dropped) for d in drawn])):
        expected = share * some
        assert abs(np.mean(found) - expected) < 4 * np.sqrt(expected * (1 - expected) / count)
    every = [one for d in drawn for one in d.morphology]
    assert abs(len(every) / count - 0.4 * channels / 2) < 0.04
    radii = np.array([one.radius for one in every])
    assert RADIUS[0] <= radii.min() < 1.05
    assert 7.95 < radii.max() <= RADIUS[1]
    assert abs(radii.mean() - 4.5) < 0.15
    for operator in ("dilate", "erode", "open", "close"):
        assert abs(np.mean([one.operator == operator for one in every]) - 0.25) < 0.04
    for channel in range(channels):
        assert abs(np.mean([one.channel == channel for one in every]) - 1 / channels) < 0.04
    # classes take turns in being first
    leading = [d.morphology[0].channel for d in drawn if len(d.morphology) == channels]
    assert set(leading) == set(range(channels))


def case(stage: StageLabels | None, seed: int = 0) -> PreparedCase:
    labels = (blobs(seed).astype(np.int16) + (blobs(seed + 50) & blobs(seed))).astype(np.int16)
    image = np.random.default_rng(seed).standard_normal((1, *labels.shape)).astype(np.float32)
    return PreparedCase("a", image, labels, foreground_places(labels, {1: (1,), 2: (2,)}), stage=stage)


def sampler(one: PreparedCase, plan: Augmentation | None, patch: tuple[int, ...] = (12, 14, 16)) -> Sampler:
    augmenter = None if plan is None else Augmenter(plan, (0, 1, 2))
    return Sampler([one], patch, 2, 7, augmenter=augmenter)


@pytest.mark.parametrize("plan", [None, NOTHING, STILL])
@pytest.mark.parametrize("patch", [(12, 14, 16), (24, 24, 24)])
def test_the_first_stage_moves_with_the_labels(plan, patch):
    """A first stage that is right is right in every sample, however that is turned, scaled, mirrored and cut."""
    plain = case(None)
    right = replace(plain, stage=StageLabels(plain.labels, (1, 2)))
    moved = 0
    for k in range(24):
        sample = sampler(right, plan, patch).sample(k)
        assert sample.image.shape == (3, *patch)
        np.testing.assert_array_equal(sample.image[1:], one_hot(sample.labels, (1, 2)))
        moved += bool(sample.image[1:].any())
    assert moved > 12


def test_a_training_without_a_first_stage_draws_what_it_always_drew():
    plain = case(None)
    with_stage = replace(plain, stage=StageLabels(plain.labels, (1, 2)))
    for k in range(12):
        alone, both = sampler(plain, Augmentation()).sample(k), sampler(with_stage, Augmentation()).sample(k)
        np.testing.assert_array_equal(both.image[:1], alone.image)
        np.testing.assert_array_equal(both.labels, alone.labels)


def test_sample_k_is_the_same_every_time_and_its_first_stage_is_changed():
    plain = case(None)
    with_stage = replace(plain, stage=StageLabels(plain.labels, (1, 2)))
    plan = NOTHING.model_copy(update={"morphology": 1.0, "dropped_components": 1.0})
    changed = 0
    for k in range(16):
        one, again = sampler(with_stage, plan).sample(k), sampler(with_stage, plan).sample(k)
        np.testing.assert_array_equal(one.image, again.image)
        assert set(np.unique(one.image[1:])) <= {0, 1}
        assert one.image[1:].sum(0).max() <= 1
        changed += not np.array_equal(one.image[1:], one_hot(one.labels, (1, 2)))
    assert changed > 8


def test_slices_of_a_volume_take_their_plane_of_the_first_stage():
    plain = case(None)
    right = replace(plain, stage=StageLabels(plain.labels, (1, 2)))
    for k in range(8):
        sample = sampler(right, None, (14, 16)).sample(k)
        np.testing.assert_array_equal(sample.image[1:], one_hot(sample.labels, (1, 2)))


def test_the_network_sees_the_image_and_then_the_first_stage():
    plain = case(None)
    np.testing.assert_array_equal(plain.network_input, plain.image)
    both = replace(plain, stage=StageLabels(plain.labels, (2, 1))).network_input
    np.testing.assert_array_equal(both[:1], plain.image)
    np.testing.assert_array_equal(both[1] > 0, plain.labels == 2)
    np.testing.assert_array_equal(both[2] > 0, plain.labels == 1)
