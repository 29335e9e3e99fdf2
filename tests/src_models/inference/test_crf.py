"""The mean field on noise over shapes of known size."""

from __future__ import annotations

import numpy as np
import pytest

from src_models.inference.crf import mean_field
from src_models.progress import finish


def noisy_ball(
    shape: tuple[int, ...], radius: float, spacing: tuple[float, ...], noise: float = 1.6
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A ball, a grey image of it with a little noise, and probabilities so noisy that few voxels are right."""
    rng = np.random.default_rng(11)
    axes = np.meshgrid(*[(np.arange(n) - (n - 1) / 2) * h for n, h in zip(shape, spacing, strict=True)], indexing="ij")
    ball = sum(a**2 for a in axes) < radius**2
    image = np.where(ball, 100.0, 0.0) + rng.normal(0, 10, shape)
    logit = np.where(ball, 1.0, -1.0) + rng.normal(0, noise, shape)
    inside = 1 / (1 + np.exp(-logit))
    return ball, image[None], np.stack([1 - inside, inside])


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def test_a_noisy_sphere_is_found_again() -> None:
    ball, image, shares = noisy_ball((64, 64, 64), 18.0, (1.0, 1.0, 1.0), 1.2)
    before = dice(shares[1] > 0.5, ball)

    field = finish(mean_field(shares, image, (1.0, 1.0, 1.0), 3.0, 0.2))

    assert before == pytest.approx(0.42, abs=0.05)
    assert dice(field[1] > 0.5, ball) >= 0.95


@pytest.mark.parametrize(("shape", "spacing"), [((90, 90), (1.0, 1.0)), ((16, 48, 48), (3.0, 1.0, 1.0))])
def test_also_in_2d_and_with_long_voxels(shape: tuple[int, ...], spacing: tuple[float, ...]) -> None:
    ball, image, shares = noisy_ball(shape, 17.0, spacing)

    field = finish(mean_field(shares, image, spacing, 3.0, 0.2))

    assert dice(shares[1] > 0.5, ball) < 0.8
    assert dice(field[1] > 0.5, ball) >= 0.95
    np.testing.assert_allclose(field.sum(0), 1, atol=1e-5)


def test_the_border_follows_the_image_and_not_the_smoothing() -> None:
    """A corner stays a corner: without the grey values the Gaussian term alone rounds it off."""
    square = np.zeros((60, 60), bool)
    square[20:40, 20:40] = True
    rng = np.random.default_rng(0)
    logit = np.where(square, 1.5, -1.5) + rng.normal(0, 1.5, square.shape)
    shares = np.stack([1 / (1 + np.exp(logit)), 1 / (1 + np.exp(-logit))])
    image = np.where(square, 1.0, 0.0)[None]

    seeing = finish(mean_field(shares, image, (1.0, 1.0), 3.0, 0.1))[1] > 0.5
    blind = finish(mean_field(shares, 0 * image, (1.0, 1.0), 3.0, 0.1))[1] > 0.5

    assert (seeing != square).mean() < (blind != square).mean()
    assert dice(seeing, square) > 0.98


def test_transposed_input_gives_the_transposed_result() -> None:
    _, image, shares = noisy_ball((20, 24, 28), 7.0, (1.5, 1.0, 1.0))

    straight = finish(mean_field(shares, image, (1.5, 1.0, 1.0), 3.0, 0.2, 2))
    turned = finish(mean_field(shares.transpose(0, 3, 1, 2), image.transpose(0, 3, 1, 2), (1.0, 1.5, 1.0), 3.0, 0.2, 2))

    np.testing.assert_allclose(turned, straight.transpose(0, 3, 1, 2), atol=1e-5)


def test_a_certain_network_is_believed() -> None:
    rng = np.random.default_rng(1)
    labels = np.zeros((30, 30), int)
    labels[8:20, 8:20] = 1
    shares = np.where(np.arange(2)[:, None, None] == labels, 1.0, 0.0)

    field = finish(mean_field(shares, rng.normal(size=(1, 30, 30)), (1.0, 1.0), 3.0, 0.1))

    assert (field.argmax(0) == labels).mean() > 0.98
