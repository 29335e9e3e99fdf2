"""Largest parts and small parts, beside scikit-image; the level set as last step on shapes of known size."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.measure import label as skimage_label

from src_models.inference.postprocess import keep_largest, keep_largest_of_each, remove_small
from src_models.inference.refine import refine
from src_models.progress import finish
from src_models.weights.card import Label
from tests.src_models.inference.nets import Pointwise, model, run

RNG = np.random.default_rng(3)


def blobs(ndim: int) -> np.ndarray:
    noise = RNG.normal(size=(20,) * ndim)
    return np.where(noise > 1.2, 1, np.where(noise < -1.2, 3, 0)).astype(np.uint8)


@pytest.mark.parametrize("ndim", [2, 3])
def test_the_largest_part_is_that_of_scikit_image(ndim: int) -> None:
    labels = blobs(ndim)
    parts = skimage_label(labels > 0, connectivity=ndim)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0

    np.testing.assert_array_equal(keep_largest(labels), np.where(parts == sizes.argmax(), labels, 0))


def test_each_label_keeps_its_own_largest_part() -> None:
    labels = blobs(3)

    kept = keep_largest_of_each(labels)

    for value in (1, 3):
        parts = skimage_label(labels == value, connectivity=3)
        largest = 1 + np.bincount(parts.ravel())[1:].argmax()
        np.testing.assert_array_equal(kept == value, parts == largest)


def test_labels_that_are_not_meant_stay() -> None:
    labels = np.array([[1, 0, 2, 0, 2, 2]])

    np.testing.assert_array_equal(keep_largest(labels, [2]), [[1, 0, 0, 0, 2, 2]])
    assert not keep_largest(np.zeros((3, 3), int)).any()


def test_small_parts_go_by_volume_with_the_spacing() -> None:
    """Voxels of 2 x 5 x 10 mm are 0.1 ml: three of them are 0.3 ml."""
    labels = np.zeros((6, 6, 6), np.uint8)
    labels[0, 0, :3] = 1
    labels[4, 4, :4] = 1
    labels[2, 2, 2] = 2

    kept = remove_small(labels, (2, 5, 10), 0.35)
    just = remove_small(labels, (2, 5, 10), 0.3)

    assert (kept > 0).sum() == 4
    assert (just > 0).sum() == 7


def ball(radius: float, centre: tuple[float, ...], shape: tuple[int, ...], spacing: tuple[float, ...]) -> np.ndarray:
    """Signed distance in mm to a ball, positive inside."""
    axes = np.meshgrid(*[np.arange(n) * h for n, h in zip(shape, spacing, strict=True)], indexing="ij")
    return radius - np.sqrt(sum((a - c) ** 2 for a, c in zip(axes, centre, strict=True)))


def test_the_level_set_rests_where_the_probability_is_one_half() -> None:
    """Without curvature the front stays on the network's border: 2 p - 1 is 0 there."""
    spacing = (2.0, 1.0, 1.0)
    distance = ball(11.0, (24.0, 20.0, 20.0), (25, 40, 40), spacing)
    share = 1 / (1 + np.exp(-distance))

    done = finish(refine((share > 0.5).astype(np.uint8), {1: share}, spacing, 0.0))

    assert not done.notes
    assert (done.labels != (share > 0.5)).mean() < 0.005


def test_two_labels_that_touch_do_not_overlap_and_keep_their_places() -> None:
    shape, spacing = (40, 60), (1.0, 1.0)
    a = ball(9.0, (20.0, 20.0), shape, spacing)
    b = ball(9.0, (20.0, 38.0), shape, spacing)
    logits = np.stack([np.zeros(shape), a, b])
    shares = np.exp(logits) / np.exp(logits).sum(0)
    labels = logits.argmax(0).astype(np.uint8)

    done = finish(refine(labels, {1: shares[1], 2: shares[2]}, spacing, 0.5))

    for number in (1, 2):
        common = ((done.labels == number) & (labels == number)).sum()
        assert 2 * common / ((done.labels == number).sum() + (labels == number).sum()) > 0.93


@pytest.mark.parametrize(("neck", "stays"), [(0.0, True), (6.0, False)])
def test_a_spike_thinner_than_the_neck_goes(neck: float, stays: bool) -> None:
    """Its tip has a curvature above that of the smallest neck: the front draws back along it."""
    shape = (40, 80)
    share = np.full(shape, 0.05)
    share[5:35, 5:35] = 0.95
    share[19:21, 35:60] = 0.95

    done = finish(refine((share > 0.5).astype(np.uint8), {1: share}, (1.0, 1.0), neck))

    assert bool(done.labels[19:21, 45:55].any()) is stays
    assert done.labels[20, 20] == 1


@pytest.mark.parametrize(("radius", "stays"), [(3.0, False), (6.5, True)])
def test_the_neck_means_the_same_in_three_dimensions(radius: float, stays: bool) -> None:
    """A ball has twice the curvature of a disc: with a neck of 8 mm and a speed of 1 it rests from a radius of 4 on."""
    distance = ball(radius, (12.0, 12.0, 12.0), (25, 25, 25), (1.0, 1.0, 1.0))
    share = (distance > 0).astype(np.float32)

    done = finish(refine((share > 0.5).astype(np.uint8), {1: share}, (1.0, 1.0, 1.0), 8.0))

    assert (not done.notes) is stays


def test_where_two_fronts_meet_the_deeper_one_has_the_voxel() -> None:
    """Both labels are sure of what their discs share: it is cut along the middle."""
    shape, spacing = (40, 60), (1.0, 1.0)
    discs = {number: ball(12.0, (20.0, x), shape, spacing) for number, x in ((1, 20.0), (2, 38.0))}
    labels = np.where(np.maximum(discs[1], discs[2]) > 0, np.where(discs[1] >= discs[2], 1, 2), 0).astype(np.uint8)
    shares = {number: 1 / (1 + np.exp(-2 * disc)) for number, disc in discs.items()}

    done = finish(refine(labels, shares, spacing, 0.0))

    assert not done.notes
    assert (done.labels[:, :28] != 2).all()
    assert (done.labels[:, 31:] != 1).all()


def test_a_label_that_would_vanish_keeps_the_networks_mask_with_a_warning() -> None:
    share = np.full((30, 30), 0.05)
    share[14:16, 5:25] = 0.9
    labels = (share > 0.5).astype(np.uint8)

    done = finish(refine(labels, {1: share}, (1.0, 1.0), 20.0, {1: "vessel"}))

    np.testing.assert_array_equal(done.labels, labels)
    assert len(done.notes) == 1
    assert "vessel" in done.notes[0]


def test_they_follow_a_prediction_when_asked_for() -> None:
    logits = np.full((2, 30, 40), -2.0, np.float32)
    logits[0] = 0
    logits[1, 5:20, 5:20] = 3
    logits[1, 25:27, 30:32] = 3
    one = model(Pointwise(2, 2, lambda x: x, channels=2), (16, 16), channels=2)

    plain = run(one, logits, (1.0, 1.0)).labels
    largest = run(one, logits, (1.0, 1.0), post="largest").labels
    small = run(one, logits, (1.0, 1.0), minimum_volume=5.0).labels
    refined = run(one, logits, (1.0, 1.0), refine="levelset", post="largest")

    assert plain[26, 31] == 1
    assert not largest[25:].any()
    np.testing.assert_array_equal(small, largest)
    assert (refined.labels != largest).mean() < 0.02
    assert refined.probabilities is None


def test_a_region_does_not_grow_into_the_one_that_is_painted_over_it() -> None:
    """Both regions are sure of the core: it belongs to the later one, and the level set leaves it there."""
    rows, columns = np.mgrid[:50, :50] - 24.5
    distance = np.hypot(rows, columns)
    logits = np.stack([18 - distance, 6 - distance]).astype(np.float32)
    regions = (Label(name="whole", value=1, channel=0), Label(name="core", value=2, channel=1))
    one = model(Pointwise(2, 2, lambda x: x, channels=2), (50, 50), channels=2, head="sigmoid", labels=regions)

    plain = run(one, logits, (1.0, 1.0)).labels
    refined = run(one, logits, (1.0, 1.0), refine="levelset", neck=0.0)

    assert (plain == 2).sum() > 100
    assert not [note for note in refined.notes if "level set" in note]
    assert ((refined.labels == 2) == (plain == 2)).mean() > 0.995
    assert ((refined.labels == 1) == (plain == 1)).mean() > 0.99


def test_the_card_may_ask_for_the_largest_part() -> None:
    logits = np.zeros((2, 30, 40), np.float32)
    logits[1] = -1
    logits[1, 5:20, 5:20] = 3
    logits[1, 25:27, 30:32] = 3
    inference = {"keep_largest": [[1]]}
    one = model(Pointwise(2, 2, lambda x: x, channels=2), (16, 16), channels=2, inference=inference)

    assert not run(one, logits, (1.0, 1.0)).labels[25:].any()
    assert run(one, logits, (1.0, 1.0), post="none").labels[26, 31] == 1


def test_the_largest_part_of_a_volume_may_be_asked_for_where_slices_keep_all() -> None:
    """Of a 2D network: two parts in every slice, joined in the third, are one part of the volume; a far one goes."""
    logits = np.zeros((2, 4, 30, 40), np.float32)
    logits[1] = -1
    logits[1, :3, 5:9, 5:9] = 3
    logits[1, :3, 5:9, 20:24] = 3
    logits[1, 2, 5:9, 5:24] = 3
    logits[1, 3, 25:27, 30:32] = 3
    inference = {"keep_largest_in_volumes": [[1]]}
    one = model(Pointwise(2, 2, lambda x: x, channels=2), (16, 16), channels=2, inference=inference)

    labels = run(one, logits, (3.0, 1.0, 1.0)).labels

    assert labels[0, 6, 6] == labels[0, 6, 21] == 1
    assert not labels[3].any()
    assert run(one, logits[:, 3], (1.0, 1.0)).labels.any()
