"""Augmentation: what is drawn and how often, and what is done to image and labels."""

from __future__ import annotations

import math

import numpy as np
import pytest

from src_models.preprocessing.cropping import OUTSIDE
from src_models.training.augmentation import (
    Augmenter,
    Changes,
    blurred,
    change_values,
    coarsened,
    draw_changes,
    place,
    rotation_range,
    with_contrast,
    with_gamma,
)
from src_models.training.plan import Augmentation
from src_models.training.spatial import cut, moved

KINDS = (
    "rotation",
    "scaling",
    "noise",
    "blur",
    "brightness",
    "contrast",
    "low_resolution",
    "gamma_inverted",
    "gamma",
)
OFF = Augmentation(**dict.fromkeys(KINDS, 0.0), mirror_axes=())


def on(**chosen: float) -> Augmentation:
    return OFF.model_copy(update=chosen)


def disc(n: int = 65, radius: float = 14, shape: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """A bright disc or ball in the middle, as image and label."""
    away = sum(np.square(axis - (n - 1) / 2) for axis in np.indices((n,) * shape)) ** 0.5
    label = (away <= radius).astype(np.int16)
    return label[None].astype(np.float32) * 2 - 1, label


def draws(plan: Augmentation, count: int = 2000, **more: object) -> list[Changes]:
    rng = np.random.default_rng(0)
    return [draw_changes(plan, rng, **({"channels": 1, "patch": (32, 32)} | more)) for _ in range(count)]


@pytest.mark.parametrize("shape", [(20, 24), (9, 12, 10)])
def test_probability_zero_is_the_identity(shape):
    rng = np.random.default_rng(1)
    image, labels = rng.normal(size=(2, *shape)).astype(np.float32), rng.integers(0, 3, shape).astype(np.int16)
    x, y = Augmenter(OFF, ())(image, labels, (0,) * len(shape), shape, rng)
    np.testing.assert_array_equal(x, image)
    np.testing.assert_array_equal(y, labels)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_changes_something_and_leaves_its_input(kind):
    image, labels = disc(33, 8)
    image += np.random.default_rng(0).normal(0, 0.1, image.shape).astype(np.float32)
    before = image.copy(), labels.copy()
    changed = [
        Augmenter(on(**{kind: 1.0}), ())(image, labels, (0, 0), (33, 33), np.random.default_rng(k)) for k in range(4)
    ]
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(labels, before[1])
    assert any(not np.array_equal(x, image) for x, _ in changed)


@pytest.mark.parametrize("ndim", [2, 3])
def test_scale_below_one_shows_objects_larger(ndim):
    image, labels = disc(41, 8, ndim)
    for scale in (0.7, 1.4):
        x, y = place(image, labels, (0,) * ndim, (41,) * ndim, Changes(scale=scale))
        radius = {2: lambda v: math.sqrt(v / math.pi), 3: lambda v: (v * 3 / (4 * math.pi)) ** (1 / 3)}[ndim]
        assert radius((y == 1).sum()) == pytest.approx(radius(labels.sum()) / scale, rel=0.03)
        assert radius((x[0] > 0).sum()) == pytest.approx(radius(labels.sum()) / scale, rel=0.03)


@pytest.mark.parametrize("ndim", [2, 3])
def test_labels_and_image_move_together(ndim):
    """A pattern that is its own label stays its own label, wherever it goes."""
    shape = (30, 34, 32)[:ndim]
    image, labels = np.full((1, *shape), -1, np.float32), np.zeros(shape, np.int16)
    box = (slice(6, 15), slice(20, 29), slice(8, 20))[:ndim]
    image[(0, *box)], labels[box] = 1, 1
    for k in range(6):
        plan = on(rotation=1.0, scaling=1.0).model_copy(update={"mirror_axes": tuple(range(ndim))})
        x, y = Augmenter(plan, tuple(range(ndim)))(image, labels, (0,) * ndim, shape, np.random.default_rng(k))
        inside = y != OUTSIDE
        assert ((x[0] > 0) == (y == 1))[inside].mean() > 0.99
        assert (y == 1).any()


@pytest.mark.parametrize(("planes", "low"), [(1, -2), (4, 3), (3, -1)])
def test_where_there_is_one_plane_the_rest_of_the_patch_stays_empty(planes, low):
    """Turned by nothing, a patch is what is cut out, however little of the image it shows."""
    image = np.random.default_rng(5).normal(size=(1, planes, 9, 9)).astype(np.float32)
    labels = np.ones((planes, 9, 9), np.int16)
    expected = cut(image, labels, (low, 0, 0), (5, 9, 9))
    found = moved(image, labels, (low, 0, 0), (5, 9, 9), np.eye(3))
    np.testing.assert_allclose(found[0], expected[0], atol=1e-5)
    np.testing.assert_array_equal(found[1], expected[1])


def test_rotation_by_a_right_angle_is_exact():
    rng = np.random.default_rng(0)
    image, labels = rng.normal(size=(1, 21, 21)).astype(np.float32), rng.integers(0, 4, (21, 21)).astype(np.int16)
    x, y = place(image, labels, (0, 0), (21, 21), Changes(angles=(math.pi / 2,)))
    turned = [k for k in (1, 3) if np.allclose(x[0], np.rot90(image[0], k), atol=1e-4)]
    assert len(turned) == 1
    np.testing.assert_array_equal(y, np.rot90(labels, turned[0]))


def test_rotation_equals_monai():
    import torch
    from monai.transforms import Affine

    image, labels = disc(33, 9)
    image = image + np.random.default_rng(0).normal(0, 1, image.shape).astype(np.float32)
    angle, scale = 0.4, 0.8
    ours, _ = place(image, labels, (0, 0), (33, 33), Changes(angles=(angle,), scale=scale))
    theirs = Affine(
        rotate_params=angle, scale_params=(scale, scale), padding_mode="zeros", image_only=True, dtype=torch.float64
    )(torch.from_numpy(image))
    # both leave what is half outside to their own rule
    np.testing.assert_allclose(ours[0, 6:-6, 6:-6], theirs[0, 6:-6, 6:-6], atol=1e-4)


def test_what_is_turned_in_from_outside_the_patch_is_real():
    """The patch is cut from the whole image, so its corners are not empty after a rotation."""
    image, labels = np.ones((1, 64, 64), np.float32), np.ones((64, 64), np.int16)
    x, y = place(image, labels, (20, 20), (24, 24), Changes(angles=(math.pi / 4,)))
    assert x.min() == pytest.approx(1)
    assert (y == 1).all()
    x, y = place(image, labels, (0, 0), (24, 24), Changes(angles=(math.pi / 4,)))
    assert x[0, 0, 0] == 0
    assert y[0, 0] == OUTSIDE


def test_many_labels_take_the_nearest():
    labels = np.arange(16 * 16).reshape(16, 16).astype(np.int16)
    _, y = place(labels[None].astype(np.float32), labels, (0, 0), (16, 16), Changes(angles=(math.pi,)))
    np.testing.assert_array_equal(y, labels[::-1, ::-1])


def test_noise_is_a_standard_deviation():
    image = np.zeros((1, 200, 200), np.float32)
    changed = change_values(image, Changes(noise=0.1), np.random.default_rng(0))
    assert changed.std() == pytest.approx(0.1, rel=0.02)
    stds = [c.noise for c in draws(on(noise=1.0))]
    assert 0 <= min(stds) < 0.005
    assert 0.095 < max(stds) <= 0.1
    assert np.mean(stds) == pytest.approx(0.05, rel=0.05)


@pytest.mark.parametrize(
    ("kind", "low", "high"),
    [("brightness", 0.75, 1.25), ("contrast", 0.75, 1.25), ("gamma", 0.7, 1.5), ("gamma_inverted", 0.7, 1.5)],
)
def test_half_of_the_factors_lie_below_one(kind, low, high):
    factors = np.array([getattr(c, kind)[0] for c in draws(on(**{kind: 1.0}))])
    assert (factors < 1).mean() == pytest.approx(0.5, abs=0.04)
    assert low <= factors.min() < low + 0.01
    assert high - 0.01 < factors.max() <= high


@pytest.mark.parametrize("kind", KINDS)
def test_how_often(kind):
    names = {"rotation": "angles", "scaling": "scale", "low_resolution": "resolution"}
    default, name = getattr(Changes(), names.get(kind, kind)), names.get(kind, kind)
    share = np.mean([getattr(c, name) != default for c in draws(on(**{kind: 0.2}), channels=1)])
    assert share == pytest.approx(0.2, abs=0.03)


def test_blur_and_low_resolution_take_each_channel_half_of_the_time():
    for kind, name, none in (("blur", "blur", 0.0), ("low_resolution", "resolution", 1.0)):
        values = np.array([getattr(c, name) for c in draws(on(**{kind: 1.0}), channels=3)])
        assert (values != none).mean() == pytest.approx(0.5, abs=0.03)


def test_scaling_stays_in_its_range():
    scales = np.array([c.scale for c in draws(on(scaling=1.0))])
    assert 0.7 <= scales.min() < 0.71
    assert 1.39 < scales.max() <= 1.4


@pytest.mark.parametrize(
    ("patch", "degrees", "in_plane"),
    [
        ((64, 64), (180,), False),
        ((64, 96), (180,), False),
        ((64, 97), (15,), False),
        ((40, 56, 40), (30, 30, 30), False),
        ((20, 60, 60), (30, 30, 30), False),
        ((19, 60, 60), (180, 0, 0), True),
    ],
)
def test_rotation_range(patch, degrees, in_plane):
    assert rotation_range(Augmentation(), patch) == (degrees, in_plane)


def test_flat_patches_are_scaled_in_their_plane_only():
    image, labels = np.zeros((1, 8, 40, 40), np.float32), np.zeros((8, 40, 40), np.int16)
    labels[3:5, 15:25, 15:25] = 1
    _, y = place(image, labels, (0, 0, 0), (8, 40, 40), Changes(scale=0.5, in_plane=True))
    assert (y == 1).any((1, 2)).sum() == 2
    assert (y == 1).any((0, 2)).sum() == pytest.approx(20, abs=1)


def test_contrast_keeps_mean_and_range():
    image = np.random.default_rng(0).normal(3, 2, (40, 40)).astype(np.float32)
    for factor in (0.75, 1.25):
        changed = with_contrast(image, factor)
        assert changed.min() >= image.min()
        assert changed.max() <= image.max()
        assert changed.mean() == pytest.approx(image.mean(), abs=0.02)
        assert changed.std() == pytest.approx(image.std() * factor, rel=0.02)


def test_gamma_keeps_mean_and_deviation_and_order():
    image = np.random.default_rng(0).normal(0, 1, (30, 30)).astype(np.float32)
    for power in (0.7, 1.5):
        changed = with_gamma(image, power)
        assert changed.mean() == pytest.approx(image.mean(), abs=1e-5)
        assert changed.std() == pytest.approx(image.std(), rel=1e-5)
        assert (np.diff(changed.ravel()[np.argsort(image.ravel())]) >= -1e-6).all()
    np.testing.assert_array_equal(with_gamma(np.full((4, 4), 2, np.float32), 1.5), 2)


def test_gamma_equals_monai():
    from monai.transforms import AdjustContrast

    image = np.random.default_rng(0).normal(0, 1, (1, 30, 30)).astype(np.float32)
    theirs = np.asarray(AdjustContrast(gamma=1.4, retain_stats=True)(image))
    np.testing.assert_allclose(with_gamma(image[0], 1.4), theirs[0], atol=1e-4)


def test_blur_equals_monai():
    from monai.transforms import GaussianSmooth

    image = np.random.default_rng(0).normal(0, 1, (1, 40, 40)).astype(np.float32)
    theirs = np.asarray(GaussianSmooth(sigma=0.8, approx="sampled")(image))
    np.testing.assert_allclose(blurred(image[0], 0.8)[5:-5, 5:-5], theirs[0, 5:-5, 5:-5], atol=5e-3)


@pytest.mark.parametrize("shape", [(17, 23), (9, 12, 10)])
@pytest.mark.parametrize("factor", [0.5, 0.8])
def test_low_resolution_equals_torch(shape, factor):
    import torch
    from torch.nn.functional import interpolate

    image = np.random.default_rng(0).normal(0, 1, shape).astype(np.float32)
    small = interpolate(torch.from_numpy(image)[None, None], [round(n * factor) for n in shape], mode="nearest-exact")
    mode = "bilinear" if len(shape) == 2 else "trilinear"
    theirs = interpolate(small, shape, mode=mode, align_corners=False)[0, 0].numpy()
    np.testing.assert_allclose(coarsened(image, factor), theirs, atol=1e-5)


def test_mirroring_flips_half_of_the_time_and_both_together():
    image, labels = disc(16, 5)
    image[0, 0, 0], labels[0, 0] = 7, 3
    seen = [Augmenter(OFF, (0, 1))(image, labels, (0, 0), (16, 16), np.random.default_rng(k)) for k in range(200)]
    for x, y in seen:
        np.testing.assert_array_equal(x[0] == 7, y == 3)
    rows, columns = zip(*(divmod(int(x[0].argmax()), 16) for x, _ in seen), strict=True)
    for places in (rows, columns):
        assert set(places) == {0, 15}
        assert np.mean(places) == pytest.approx(7.5, abs=1.8)


def test_a_masked_norm_keeps_zero_outside():
    image, labels = disc(24, 8)
    labels = np.where(labels > 0, labels, OUTSIDE).astype(np.int16)
    for k in range(4):
        plan = on(noise=1.0, brightness=1.0, gamma=1.0)
        x, y = Augmenter(plan, (), masked=True)(image, labels, (0, 0), (24, 24), np.random.default_rng(k))
        assert (x[0][y == OUTSIDE] == 0).all()
        assert (x[0][y != OUTSIDE] != 0).any()
