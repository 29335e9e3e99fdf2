"""Fingerprints: cases weigh alike, the crop is taken, and labels that are not declared stop it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from src_models.errors import InputError
from src_models.training.cases import case_from_arrays, data_set_from_arrays
from src_models.training.fingerprint import fingerprint, fingerprint_now, intensity_statistics, weighted_percentiles


def data(count=3, **changes):
    rng = np.random.default_rng(0)
    cases = []
    for k in range(count):
        image = np.zeros((10, 12, 14), np.float32)
        image[1:9, 2:11, 3 : 12 - k] = rng.integers(1, 200, (8, 9, 9 - k))
        labels = np.zeros(image.shape, np.uint8)
        labels[2 : 4 + k, 3:6, 4:8] = 1
        labels[5:7, 3:6, 4:6] = 2
        cases.append(case_from_arrays(f"c{k}", image, labels, (2.0, 1.0, 1.0)))
    return data_set_from_arrays("set", cases, **changes)


def test_shapes_are_after_the_crop_and_the_ratio_is_the_median():
    found = fingerprint_now(data())
    assert found.shapes == ((8, 9, 9), (8, 9, 8), (8, 9, 7))
    assert found.spacings == ((2.0, 1.0, 1.0),) * 3
    assert found.crop_ratio == pytest.approx(8 * 9 * 8 / (10 * 12 * 14))
    assert found.unit == "mm"


def test_ignored_voxels_have_no_intensity():
    """What is not labelled says nothing about the structures."""
    given = data()
    ignoring = replace(given, labels=given.labels[:2], ignore_label=2)
    found = fingerprint_now(ignoring).channels[0]
    inside = []
    for case in given.cases:
        volume, segmentation = case.read()
        inside.append(volume.array[0][segmentation.labels == 1].mean(dtype=float))
    assert found.mean == pytest.approx(np.mean(inside))


def test_statistics_are_the_limit_of_drawing_alike_from_every_case():
    """nnU-Net draws with replacement: the means over many draws come to ours."""
    given = data()
    found = fingerprint_now(given).channels[0]
    rng = np.random.default_rng(1)
    drawn = []
    for case in given.cases:
        volume, segmentation = case.read()
        drawn.append(rng.choice(volume.array[0][segmentation.labels > 0], 400_000))
    drawn = np.concatenate(drawn).astype(float)
    assert found.mean == pytest.approx(drawn.mean(), abs=0.005 * drawn.std())
    assert found.std == pytest.approx(drawn.std(), rel=0.005)
    assert found.median == pytest.approx(np.median(drawn), abs=1)
    low, high = np.percentile(drawn, (0.5, 99.5))
    assert found.percentile_00_5 == pytest.approx(low, abs=1)
    assert found.percentile_99_5 == pytest.approx(high, abs=1)
    assert (found.minimum, found.maximum) == (drawn.min(), drawn.max())


def test_a_case_weighs_the_same_whatever_its_size():
    first, second = np.array([1.0, 3.0]), np.array([10.0])
    once = [(first, np.array([0.5, 0.5])), (second, np.array([1.0]))]
    assert intensity_statistics(once).mean == pytest.approx((2 + 10) / 2)


def test_many_different_values_are_thinned_without_moving_the_statistics():
    rng = np.random.default_rng(3)
    image = rng.gamma(2.0, 300.0, (40, 60, 50)).astype(np.float32)
    data = data_set_from_arrays("set", [case_from_arrays("a", image, np.ones(image.shape, np.uint8))])
    found, values = fingerprint_now(data).channels[0], image.astype(float)
    assert found.mean == pytest.approx(values.mean(), abs=1e-3 * values.std())
    assert found.std == pytest.approx(values.std(), rel=2e-3)
    assert (found.minimum, found.maximum) == (values.min(), values.max())
    for ours, percent in ((found.percentile_00_5, 0.5), (found.median, 50), (found.percentile_99_5, 99.5)):
        assert ours == pytest.approx(np.percentile(values, percent), abs=5e-3 * values.std())


def test_percentiles_of_equal_weights_are_order_statistics():
    points = np.random.default_rng(2).permutation(1000).astype(float)
    assert weighted_percentiles(points, np.full(1000, 1e-3), (0.5, 50, 99.5)) == (4, 499, 994)


def test_progress_and_notes_come_case_by_case():
    given = data()
    given.cases[1].load_volume.args[0].array[0, 0, 0] = np.nan
    steps = list(fingerprint(given, nan="fill"))
    assert [round(step.fraction, 3) for step in steps] == [0.333, 0.667, 1]
    assert "1 voxel without" in steps[1].notes[0]
    with pytest.raises(InputError, match="--nan fill"):
        fingerprint_now(given)


def test_only_the_training_part_of_a_fold_on_request():
    assert fingerprint_now(data(), ["c0", "c2"]).cases == ("c0", "c2")


def test_values_that_are_not_declared_are_listed_with_a_map():
    given = data(label_names={1: "one"})
    with pytest.raises(InputError, match=r"case c0 hold 2.*declared are 0, 1.*--map 2:1"):
        fingerprint_now(given)


def test_a_constant_image_is_refused():
    labels = np.zeros((4, 5, 6), int)
    labels[1:3] = 1
    given = data_set_from_arrays("set", [case_from_arrays("flat", np.full((4, 5, 6), 3.0), labels)])
    with pytest.raises(InputError, match=r"case flat is constant.*every voxel is 3"):
        fingerprint_now(given)


def test_empty_cases_are_kept_and_named_and_all_empty_is_refused():
    given = data()
    given.cases[1].load_segmentation.args[0].labels[:] = 0
    assert fingerprint_now(given).empty == ("c1",)
    for case in given.cases:
        case.load_segmentation.args[0].labels[:] = 0
    with pytest.raises(InputError, match="has a marked voxel"):
        fingerprint_now(given)


def test_without_a_voxel_size_lengths_are_pixels():
    labels = np.zeros((8, 9), int)
    labels[2:4] = 1
    image = np.arange(72.0).reshape(8, 9) + 1
    found = fingerprint_now(data_set_from_arrays("set", [case_from_arrays("a", image, labels)]))
    assert (found.unit, found.spacings, found.shapes) == ("px", ((1.0, 1.0),), ((8, 9),))
