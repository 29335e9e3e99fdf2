"""Features of a pixel classifier: exact on polynomials, in mm, the same for a part as for the whole."""

from __future__ import annotations

import numpy as np
import pytest

from src_models.errors import InputError
from src_models.levelset.features import blocks, feature_names, feature_sigmas, pixel_features
from tests.scenes import grid

UNIT = (0.0, 1.0)


def noise(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 200, shape).astype(np.float32)


def named(features, ndim, sigmas):
    return dict(zip(feature_names(ndim, sigmas), np.moveaxis(features, -1, 0), strict=True))


@pytest.mark.parametrize(
    ("shape", "spacing"),
    [((41, 45), (1.0, 1.0)), ((41, 61), (1.5, 0.7)), ((25, 29, 33), (1.0, 1.0, 1.0)), ((19, 27, 41), (3.0, 1.0, 0.7))],
    ids=str,
)
def test_a_quadratic_image_has_its_own_hessian(shape, spacing):
    """A symmetric kernel adds a constant to a quadratic form: differences of the blurred image stay exact."""
    n, sigma = len(shape), 1.3
    random = np.random.default_rng(n)
    hessian = random.normal(size=(n, n)) * 0.01
    hessian += hessian.T
    slope = random.normal(size=n) * 0.1
    x = np.stack(np.broadcast_arrays(*grid(shape, spacing)))
    image = 0.5 + np.tensordot(slope, x, 1) + 0.5 * np.einsum("i...,ij,j...", x, hessian, x)
    found = named(pixel_features(image, spacing, (sigma,), UNIT), n, (sigma,))
    middle = tuple(s // 2 for s in shape)
    eigenvalues = np.linalg.eigvalsh(hessian)[::-1]
    for k in range(n):
        assert found[f"Hessian {k + 1} 1.3 mm"][middle] == pytest.approx(eigenvalues[k], abs=1e-7)
    assert found["Laplacian 1.3 mm"][middle] == pytest.approx(np.trace(hessian), abs=1e-7)
    assert found["gradient 1.3 mm"][middle] == pytest.approx(np.linalg.norm(slope), rel=1e-6)
    assert found["grey value"][middle] == pytest.approx(0.5)


def test_equal_eigenvalues_are_found():
    """Where the three agree the closed form divides by nothing."""
    z, y, x = grid((25, 25, 25), (1.0, 1.0, 1.0))
    found = named(pixel_features(0.01 * (z * z + y * y + x * x), (1.0,) * 3, (1.0,), UNIT), 3, (1.0,))
    for k in (1, 2, 3):
        assert found[f"Hessian {k} 1 mm"][12, 12, 12] == pytest.approx(0.02, abs=1e-7)


def test_the_spread_is_the_standard_deviation_under_the_gaussian():
    """Of white noise, under a Gaussian many voxels wide."""
    image = np.random.default_rng(1).normal(0.5, 0.1, (120, 120))
    found = named(pixel_features(image, (1.0, 1.0), (8.0,), UNIT), 2, (8.0,))
    assert found["spread 8 mm"].mean() == pytest.approx(0.1, rel=0.02)
    flat = named(pixel_features(np.full((30, 30), 0.7), (1.0, 1.0), (2.0,), UNIT), 2, (2.0,))
    assert max(abs(flat[name]).max() for name in flat if name[:4] not in ("grey", "Gaus")) < 1e-7


@pytest.mark.parametrize("sigma", [3.0, 6.0])
def test_scales_are_mm(sigma):
    """Every third line of a picture, with the spacing that it then has, looks the same at the lines that are left."""
    y, x = grid((240, 240), (1.0, 1.0))
    image = 0.5 + 0.2 * np.sin(y / 17) * np.cos(x / 23) + 0.1 * np.sin((x + y) / 31)
    fine = pixel_features(image, (1.0, 1.0), (sigma,), UNIT)[::3]
    coarse = pixel_features(image[::3], (3.0, 1.0), (sigma,), UNIT)
    inner = (slice(12, -12), slice(36, -36))
    scale = np.abs(fine[inner]).max(axis=(0, 1))
    assert (np.abs(fine - coarse)[inner].max(axis=(0, 1)) < 0.03 * scale).all()


def test_twice_the_voxel_is_half_the_slope():
    image = noise((40, 30))
    once = named(pixel_features(image, (1.0, 2.0), (1.5,), (0, 200)), 2, (1.5,))
    twice = named(pixel_features(image, (2.0, 4.0), (3.0,), (0, 200)), 2, (3.0,))
    np.testing.assert_array_equal(twice["gradient 3 mm"], once["gradient 1.5 mm"] / 2)
    np.testing.assert_array_equal(twice["Hessian 2 3 mm"], once["Hessian 2 1.5 mm"] / 4)


@pytest.mark.parametrize(("shape", "spacing"), [((70, 90, 75), (2.0, 1.0, 1.0)), ((600, 530), (1.0, 1.0))], ids=str)
def test_blocks_have_the_bits_of_the_whole(shape, spacing):
    image, sigmas = noise(shape), (1.0, 3.0)
    whole = pixel_features(image, spacing, sigmas, (0, 200))
    covered = np.zeros(shape, int)
    several = list(blocks(shape))
    assert len(several) > 1
    for box in several:
        covered[box] += 1
        np.testing.assert_array_equal(pixel_features(image, spacing, sigmas, (0, 200), box), whole[box])
    assert (covered == 1).all()


def test_one_slice_has_the_bits_of_the_volume():
    image = noise((20, 40, 30))
    whole = pixel_features(image, (2.0, 1.0, 1.0), (1.0, 4.0), (0, 200))
    for box in ((slice(7, 8), slice(0, 40), slice(0, 30)), (slice(0, 20), slice(39, 40), slice(3, 9))):
        np.testing.assert_array_equal(pixel_features(image, (2.0, 1.0, 1.0), (1.0, 4.0), (0, 200), box), whole[box])


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_volume_of_one_slice_is_a_picture(axis):
    image, spacing = noise((40, 30)), [1.5, 0.7]
    picture = pixel_features(image, spacing, (1.0, 2.0), (0, 200))
    spacing.insert(axis, 9.0)
    volume = pixel_features(np.expand_dims(image, axis), spacing, (1.0, 2.0), (0, 200))
    np.testing.assert_array_equal(volume.squeeze(axis), picture)


def test_another_unit_of_grey_values_has_the_same_bits():
    image = noise((40, 30))
    once = pixel_features(image, (1.0, 1.0), (1.0, 2.0), (0, 200))
    other = pixel_features(3 * image - 1024, (1.0, 1.0), (1.0, 2.0), (-1024, 3 * 200 - 1024))
    np.testing.assert_array_equal(once, other)


def test_huge_grey_values_do_not_overflow():
    image = np.where(noise((12, 12)) > 100, 1.7e308, -1.7e308)
    assert np.isfinite(pixel_features(image, (1.0, 1.0), (1.0,), (-1.7e308, 1.7e308))).all()


def test_scales_follow_the_smallest_voxel_side_of_the_axes_that_count():
    assert feature_sigmas(None, (1, 50, 50), (0.1, 2.0, 3.0)) == (2.0, 4.0, 8.0, 16.0)
    assert feature_sigmas((0.5,), (1, 50, 50), (0.1, 2.0, 3.0)) == (0.5,)
    with pytest.raises(InputError, match="200 mm is wider than the image: its longest side has 150 mm"):
        feature_sigmas((1.0, 200.0), (1, 50, 50), (0.1, 2.0, 3.0))
