"""To the network and back: places, order of the steps, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from src_models.errors import GeometryError, InputError
from src_models.preprocessing.cropping import bounding_box, filled, nonzero
from src_models.preprocessing.parameters import Channel, ChannelStatistics, Preprocessing
from src_models.preprocessing.prepare import logits_back, prepare, prepare_labels, restore
from src_models.preprocessing.resampling import resample


def scan(shape=(9, 20, 16), seed=0):
    """A block of noise around 100 within zeros, with a hole of zeros inside."""
    image = np.zeros((1, *shape), np.float32)
    image[0, 1:8, 3:18, 2:13] = np.random.default_rng(seed).normal(100, 10, (7, 15, 11))
    image[0, 4, 8, 7] = 0
    return image


def test_crop_is_the_nonzero_part_with_its_holes():
    mask = filled(nonzero(scan()))
    assert mask[4, 8, 7]
    assert bounding_box(mask) == (slice(1, 8), slice(3, 18), slice(2, 13))
    assert bounding_box(np.zeros((3, 4), bool)) == (slice(0, 3), slice(0, 4))
    two = np.concatenate([scan(), np.zeros_like(scan())])
    two[1, 0, 0, 0] = 1
    assert bounding_box(nonzero(two)) == (slice(0, 8), slice(0, 18), slice(0, 13))


def test_spacing_is_in_the_order_of_the_array():
    found = prepare(scan(), (5.0, 1.0, 0.5), Preprocessing(spacing=(2.5, 2.0, 0.5)))
    assert found.array.shape == (1, 14, 8, 11)
    with pytest.raises(GeometryError):
        prepare(scan(), (5.0, 1.0), Preprocessing())


def test_the_target_is_in_the_order_of_the_image_however_the_network_turns_it():
    preprocessing = Preprocessing(spacing=(2.5, 2.0, 0.5), axis_order=(2, 0, 1))
    assert prepare(scan(), (5.0, 1.0, 0.5), preprocessing).array.shape == (1, 11, 14, 8)


def test_it_is_normalised_before_it_is_resampled():
    known = ChannelStatistics(
        mean=100, median=100, std=10, minimum=0, maximum=200, percentile_00_5=95, percentile_99_5=105
    )
    channel = Channel(name="CT", normalisation="ct", statistics=known)
    found = prepare(scan(), (1.0, 1.0, 1.0), Preprocessing(channels=(channel,), spacing=(2.0, 2.0, 2.0)))
    inside = (np.clip(scan()[0, 1:8, 3:18, 2:13], 95, 105) - 100) / 10
    np.testing.assert_allclose(found.array[0], resample(inside, (4, 8, 6), order=3), atol=1e-6)
    other = (np.clip(resample(scan()[0, 1:8, 3:18, 2:13], (4, 8, 6), order=3), 95, 105) - 100) / 10
    assert np.abs(other - found.array[0]).max() > 0.05


def test_labels_come_back_to_their_place_through_turned_axes_and_crop():
    labels = np.zeros((9, 20, 16), np.uint8)
    labels[2:6, 5:12, 3:9] = 1
    labels[3:5, 12:16, 3:9] = 2
    preprocessing = Preprocessing(axis_order=(2, 0, 1), spacing=(1.0, 1.0, 1.0))
    found = prepare(scan(), (1.0, 1.0, 1.0), preprocessing)
    there = prepare_labels(labels, found, preprocessing)
    assert there.shape == found.array.shape[1:] == (11, 7, 15)
    assert set(np.unique(there)) == {0, 1, 2}
    np.testing.assert_array_equal(restore(there, found.way), labels)
    many = np.stack([there, there + 1])
    np.testing.assert_array_equal(restore(many, found.way)[0], labels)


def test_outside_of_the_nonzero_part_is_marked_but_labels_there_are_kept():
    image = scan()
    image[0, 1, 3, :] = 0
    labels = np.zeros(image.shape[1:], np.uint8)
    labels[1, 3, 5] = 1
    found = prepare(image, (1.0, 1.0, 1.0), Preprocessing())
    there = prepare_labels(labels, found, Preprocessing())
    assert there[0, 0, 3] == 1
    assert (there[0, 0, :3] == -1).all()
    assert (there[2:] == 0).all()


def test_a_smooth_mask_survives_resampling_there_and_back():
    z, y, x = np.meshgrid(*[np.arange(n) - (n - 1) / 2 for n in (20, 40, 40)], indexing="ij")
    ball = ((2 * z) ** 2 + y**2 + x**2 < 15**2).astype(np.uint8)
    preprocessing = Preprocessing(spacing=(1.3, 1.3, 1.3), crop_to_nonzero=False)
    found = prepare(np.ones((1, *ball.shape)), (2.0, 1.0, 1.0), preprocessing)
    there = prepare_labels(ball, found, preprocessing)
    logits = np.stack([np.zeros(there.shape), there - 0.5])
    back = restore(logits_back(logits, found.way).argmax(0), found.way)
    assert 2 * (back & ball).sum() / (back.sum() + ball.sum()) > 0.95


def test_the_way_back_is_judged_by_the_networks_spacing_first():
    image = scan()
    way = prepare(image, (5.0, 1.0, 1.0), Preprocessing(spacing=(1.0, 1.0, 4.0))).way
    assert (way.axis_there, way.axis_back) == (0, 2)


def test_slices_of_a_volume_keep_their_distance_for_a_2d_network():
    preprocessing = Preprocessing(spacing=(2.0, 2.0), axis_order=(0, 1, 2), keep_slice_distance=True)
    found = prepare(scan(), (5.0, 1.0, 1.0), preprocessing)
    assert found.array.shape == (1, 7, 8, 6)
    flat = prepare(scan()[:, 4], (1.0, 1.0), preprocessing)
    np.testing.assert_allclose(flat.array.shape, (1, 8, 6))
    with pytest.raises(InputError, match="3D images"):
        prepare(scan()[:, 4], (1.0, 1.0), Preprocessing(spacing=(1.0, 1.0, 1.0)))


def test_values_that_are_not_finite_are_counted_and_filled_on_request():
    image = scan()
    image[0, 2, 5, 5] = np.nan
    image[0, 2, 5, 6] = np.inf
    with pytest.raises(InputError, match=r"2 voxels.*--nan fill"):
        prepare(image, (1.0, 1.0, 1.0), Preprocessing())
    found = prepare(image, (1.0, 1.0, 1.0), Preprocessing(channels=(Channel(normalisation="nonorm"),)), nan="fill")
    assert "2 voxels" in found.notes[0]
    assert found.array[0, 1, 2, 3] == 0
    assert np.isnan(image[0, 2, 5, 5])


def test_pixels_are_resampled_among_themselves_and_become_mm_where_their_size_is_known():
    pixels = Preprocessing(spacing=(2.0, 2.0), unit="px", crop_to_nonzero=False)
    image = np.random.default_rng(0).random((1, 30, 32))
    assert prepare(image, (1.0, 1.0), pixels.for_unit("px")).array.shape == (1, 15, 16)
    # 1 pixel is not 1 mm
    assert prepare(image, (1.0, 1.0), pixels.for_unit("mm")).array.shape == (1, 30, 32)
    known = pixels.model_copy(update={"pixel_mm": 1.5})
    assert prepare(image, (1.0, 0.75), known.for_unit("mm")).array.shape == (1, 10, 8)
    assert prepare(image, (1.0, 1.0), known.for_unit("px")).array.shape == (1, 15, 16)
    whole = Preprocessing(unit="px", pixel_mm=1.5, crop_to_nonzero=False)
    assert prepare(image, (1.0, 0.75), whole.for_unit("mm")).array.shape == (1, 20, 16)
    # nor is it for a model in mm and a picture without a size
    assert Preprocessing(spacing=(2.0, 2.0)).for_unit("px").spacing is None
    assert Preprocessing(spacing=(2.0, 2.0)).for_unit("mm").spacing == (2.0, 2.0)


def test_wrong_channels_and_empty_axes_are_refused():
    with pytest.raises(InputError, match="1 is expected"):
        prepare(np.ones((2, 4, 4)), (1.0, 1.0), Preprocessing())
    with pytest.raises(InputError, match="no voxels"):
        prepare(np.ones((1, 0, 4)), (1.0, 1.0), Preprocessing())
