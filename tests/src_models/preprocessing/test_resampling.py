"""Resampling by matrices against scikit-image, whose use in nnU-Net is the definition, and laws of its own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.transform import resize

from src_models.preprocessing.resampling import new_shape, resample, resample_labels, separate_axis

RNG = np.random.default_rng(3)
SHAPES = [((13, 17, 9), (20, 11, 9)), ((13, 17, 9), (5, 29, 31)), ((6, 5, 4), (12, 10, 8)), ((1, 7, 8), (1, 13, 5))]


@pytest.mark.parametrize("order", [0, 1, 3])
@pytest.mark.parametrize(("old", "new"), [*SHAPES, ((33, 40), (21, 77))])
def test_images_equal_scikit_image(order, old, new):
    image = RNG.normal(size=old)
    expected = resize(image, new, order, mode="edge", anti_aliasing=False, clip=True)
    np.testing.assert_allclose(resample(image, new, order=order), expected, rtol=0, atol=1e-13)
    single = resample(image.astype(np.float32), new, order=order)
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("axis", [None, 0, 2])
@pytest.mark.parametrize(("old", "new"), SHAPES)
def test_a_voxel_gets_the_label_with_the_largest_share(old, new, axis):
    labels = RNG.integers(-1, 4, old).astype(np.int8)
    values = np.unique(labels)
    shares = np.array([resample((labels == value) * 1.0, new, order=1, axis=axis) for value in values])
    if axis is None:
        first = resize((labels == values[0]) * 1.0, new, 1, mode="edge", clip=True, anti_aliasing=False)
        np.testing.assert_allclose(shares[0], first, atol=1e-13)
    ordered = np.sort(shares, axis=0)
    clear = ordered[-1] - ordered[-2] > 1e-9
    result = resample_labels(labels, new, axis=axis)
    np.testing.assert_array_equal(result[clear], values[shares.argmax(0)][clear])
    # Elsewhere it is one of those that tie: the nearest voxel's where that is among them.
    near = resample(labels, new, order=0, axis=axis)
    own = np.take_along_axis(shares, np.searchsorted(values, result)[None], 0)[0]
    of_near = np.take_along_axis(shares, np.searchsorted(values, near)[None], 0)[0]
    assert (own > ordered[-1] - 1e-9).all()
    np.testing.assert_array_equal(result[of_near > ordered[-1] - 1e-9], near[of_near > ordered[-1] - 1e-9])


def test_where_four_labels_meet_no_hole_is_left():
    labels = np.array([[1, 2], [3, 4]], np.uint8)
    assert resample_labels(labels, (1, 1)) in (1, 2, 3, 4)
    np.testing.assert_array_equal(resample_labels(labels, (3, 3))[[0, 0, 2, 2], [0, 2, 0, 2]], [1, 2, 3, 4])
    assert (resample_labels(labels, (3, 3)) > 0).all()


def test_a_doubled_image_shows_no_favour_to_a_label():
    labels = np.array([1, 2, 2, 1, 1, 2], np.uint8)
    np.testing.assert_array_equal(resample_labels(labels, (12,)), np.repeat(labels, 2))
    np.testing.assert_array_equal(resample_labels(3 - labels, (11,)), 3 - resample_labels(labels, (11,)))


@pytest.mark.parametrize("axis", [None, 0, 2])
def test_small_labels_are_resampled_as_whole_images_are(axis):
    """Labels are resampled within their boxes: nothing may depend on that, also at the border and for single voxels."""
    for old, new in SHAPES:
        labels = np.zeros(old, np.int16)
        labels[tuple(slice(n // 2, n // 2 + 2) for n in old)] = 3
        labels[tuple(slice(0, max(1, n // 3)) for n in old)] = 1
        labels[tuple(n - 1 for n in old)] = 300
        shares = np.array([resample((labels == value) * 1.0, new, order=1, axis=axis) for value in (0, 1, 3, 300)])
        ordered = np.sort(shares, axis=0)
        clear = ordered[-1] - ordered[-2] > 1e-9
        expected = np.array([0, 1, 3, 300])[shares.argmax(0)]
        np.testing.assert_array_equal(resample_labels(labels, new, axis=axis)[clear], expected[clear])


def test_slices_are_resampled_in_their_plane_and_taken_as_they_are_across_it():
    image = RNG.normal(size=(2, 5, 12, 10))
    result = resample(image, (8, 17, 7), order=3, axis=0)
    plane = np.stack([[resize(s, (17, 7), 3, mode="edge", anti_aliasing=False) for s in channel] for channel in image])
    # Centres of 8 slices among 5: 0.625 (k + 0.5) - 0.5, to the nearest.
    np.testing.assert_allclose(result, plane[:, [0, 0, 1, 2, 2, 3, 4, 4]], atol=1e-13)


def test_channels_are_clipped_to_their_own_range():
    image = np.stack([RNG.random((9, 9)), 100 + RNG.random((9, 9))])
    result = resample(image, (30, 30), order=3)
    for before, after in zip(image, result, strict=True):
        assert before.min() <= after.min()
        assert after.max() <= before.max()


@pytest.mark.parametrize("order", [0, 1, 3])
def test_torch_gives_what_numpy_gives(order):
    image = RNG.normal(size=(2, 6, 9, 11))
    ours = resample(torch.from_numpy(image), (9, 9, 5), order=order, axis=None)
    np.testing.assert_allclose(ours.numpy(), resample(image, (9, 9, 5), order=order), rtol=0, atol=1e-13)


def test_a_constant_stays_and_a_transposed_image_gives_the_transposed_result():
    image = RNG.normal(size=(7, 9, 11))
    np.testing.assert_allclose(resample(np.full((7, 9, 11), 4.25), (10, 5, 23), order=3), 4.25, rtol=1e-14)
    np.testing.assert_allclose(
        resample(image.transpose(2, 0, 1), (23, 10, 5), order=3),
        resample(image, (10, 5, 23), order=3).transpose(2, 0, 1),
        atol=1e-13,
    )


def test_linear_interpolation_keeps_a_ramp_inside():
    ramp = np.arange(20.0)
    result = resample(ramp, (50,), order=1)
    inside = slice(2, -2)
    np.testing.assert_allclose(result[inside], ((np.arange(50) + 0.5) * 0.4 - 0.5)[inside], atol=1e-12)


def test_the_new_size_is_rounded_half_to_even_as_pythons_round_does():
    assert new_shape((5, 7, 10), (1.0, 1.0, 3.0), (2.0, 2.0, 1.5)) == (2, 4, 20)
    assert new_shape((1,), (0.5,), (4.0,)) == (1,)


@pytest.mark.parametrize(
    ("current", "target", "axis"),
    [
        ((5.0, 1.0, 1.0), (1.0, 1.0, 1.0), 0),
        ((1.0, 1.0, 1.0), (1.0, 1.0, 4.0), 2),
        # The current spacing decides where both are anisotropic.
        ((5.0, 1.0, 1.0), (1.0, 1.0, 4.0), 0),
        # Exactly 3 is not above 3.
        ((3.0, 1.0, 1.0), (3.0, 1.0, 1.0), None),
        ((3.0000001, 1.0, 1.0), (1.0, 1.0, 1.0), 0),
        # Two axes tie as the coarsest: in none, and the target is not asked.
        ((1.25, 0.24, 1.25), (5.0, 1.0, 1.0), None),
        ((1.0, 1.0), (1.0, 1.0), None),
        # A picture has no slices, however long its pixels are: nnU-Net interpolates both its axes.
        ((4.0, 1.0), (1.0, 1.0), None),
    ],
)
def test_when_slices_are_not_interpolated(current, target, axis):
    assert separate_axis(current, target) == axis
