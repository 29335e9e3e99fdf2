"""Normalisations: their definitions on numbers that are known."""

from __future__ import annotations

import numpy as np
import pytest

from src_models.errors import InputError
from src_models.preprocessing.normalisation import normalisation_of, normalise
from src_models.preprocessing.parameters import Channel, ChannelStatistics

STATISTICS = ChannelStatistics(
    mean=100.0, median=90.0, std=50.0, minimum=-900.0, maximum=3000.0, percentile_00_5=-100.0, percentile_99_5=300.0
)


def test_ct_is_clipped_to_the_data_set_and_scaled_by_it():
    image = np.array([[[-1000, -100, 100, 300, 4000]]], np.int16)
    result = normalise(image, [Channel(name="CT", normalisation="ct", statistics=STATISTICS)])
    np.testing.assert_allclose(result, [[[-4, -4, 0, 4, 4]]])
    with pytest.raises(InputError, match="without the intensities"):
        normalise(image, [Channel(normalisation="ct")])


def test_zscore_does_not_depend_on_gain_and_offset():
    image = np.random.default_rng(0).normal(size=(1, 6, 7, 8)).astype(np.float32)
    plain = normalise(image, [Channel()])
    assert abs(float(plain.mean())) < 1e-6
    assert float(plain.std()) == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(normalise(image * 3e5 + 1e6, [Channel()]), plain, atol=2e-6 * 4)


def test_a_window_makes_a_ct_what_its_slices_of_8_bits_were_and_leaves_other_scales_alone():
    ct = np.random.default_rng(1).normal(0, 300, (1, 6, 7, 8)).astype(np.float32)
    slices = np.clip(ct, 0, 255)
    windowed = Channel(window=(0.0, 255.0))
    np.testing.assert_array_equal(normalise(ct, [windowed]), normalise(slices, [Channel()]))
    brighter = slices * 100 + 7
    np.testing.assert_array_equal(normalise(brighter, [windowed]), normalise(brighter, [Channel()]))


def test_zscore_within_a_mask_sees_the_mask_alone_and_leaves_zero_outside():
    image = np.random.default_rng(0).normal(5, 2, size=(1, 6, 7)).astype(np.float32)
    mask = np.zeros((6, 7), bool)
    mask[2:5, 1:6] = True
    result = normalise(image, [Channel()], mask)
    assert (result[0][~mask] == 0).all()
    changed = np.where(mask, image, 1e6).astype(np.float32)
    np.testing.assert_array_equal(normalise(changed, [Channel()], mask), result)
    assert float(result[0][mask].std()) == pytest.approx(1, abs=1e-6)


def test_the_other_kinds():
    image = np.array([[[0, 51, 255]]], np.uint8)
    np.testing.assert_allclose(normalise(image, [Channel(normalisation="rgb_to_0_1")]), [[[0, 0.2, 1]]])
    np.testing.assert_allclose(normalise(image + 0.0, [Channel(normalisation="rescale_to_0_1")]), [[[0, 0.2, 1]]])
    np.testing.assert_array_equal(normalise(image, [Channel(normalisation="nonorm")]), image)
    with pytest.raises(InputError, match="no 8-bit colour"):
        normalise(image * 2.0, [Channel(normalisation="rgb_to_0_1")])


def test_channels_are_counted_and_named():
    with pytest.raises(InputError, match="in this order: T1, T2"):
        normalise(np.zeros((1, 4, 4)), [Channel(name="T1"), Channel(name="T2")])


def test_a_constant_image_stays_finite():
    assert np.isfinite(normalise(np.full((1, 4, 4), 7.0), [Channel()])).all()


def test_names_choose_the_kind():
    assert [normalisation_of(name) for name in ("CT", "ct", "MRI", "noNorm", "rgb_to_0_1")] == [
        "ct",
        "ct",
        "zscore",
        "nonorm",
        "rgb_to_0_1",
    ]
