"""Clusters of grey values: known mixtures come back, posteriors are the closed form, scikit-learn is no likelier."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from src_models.errors import GeometryError, InputError
from src_models.levelset import LevelSetParameters, evolve
from src_models.levelset.clustering import ClusterParameters, GaussianMixture, cluster_speed, clusters_at, fit_clusters
from src_models.levelset.recipes import ClusterSpeed
from tests.runs import finish
from tests.scenes import ball, dice

H = (1.0, 1.0)
LEVELS, DEVIATIONS, SHARES = (40.0, 100.0, 180.0), (6.0, 8.0, 10.0), (0.5, 0.3, 0.2)


def three_levels(noise=1.0, shape=(130, 130)):
    random = np.random.default_rng(0)
    level = random.choice(3, size=shape, p=SHARES)
    return np.array(LEVELS)[level] + noise * np.array(DEVIATIONS)[level] * random.normal(size=shape), level


def log_likelihood(values, weights, means, deviations):
    """Mean of log sum_k w_k N(x; m_k, d_k)."""
    z = (values[:, None] - np.ravel(means)) / np.ravel(deviations)
    density = (np.ravel(weights) * np.exp(-0.5 * z * z) / np.ravel(deviations) / np.sqrt(2 * np.pi)).sum(axis=1)
    return float(np.log(density).mean())


def test_three_known_grey_levels_are_found():
    found = fit_clusters(three_levels()[0], H)
    np.testing.assert_allclose(found.means, LEVELS, atol=0.6)
    np.testing.assert_allclose(found.deviations, DEVIATIONS, atol=0.6)
    np.testing.assert_allclose(found.weights, SHARES, atol=0.02)
    assert sum(found.weights) == pytest.approx(1)


@pytest.mark.parametrize(
    ("levels", "shares"),
    [((40, 170, 180), (0.94, 0.03, 0.03)), ((10, 200, 205, 240), (0.9, 0.04, 0.03, 0.03))],
    ids=str,
)
def test_rare_clusters_close_together_are_found(levels, shares):
    """Means that are even in rank or in grey value lead to a worse fit here."""
    random = np.random.default_rng(0)
    image = np.array(levels)[random.choice(len(levels), size=(70, 70), p=shares)] + random.normal(0, 2, (70, 70))
    np.testing.assert_allclose(fit_clusters(image, H, ClusterParameters(clusters=len(levels))).means, levels, atol=1.5)


@pytest.mark.parametrize("dtype", [np.float64, np.uint8])
def test_levels_without_noise_are_exact(dtype):
    image, level = three_levels(noise=0.0)
    found = fit_clusters(image.astype(dtype), H)
    np.testing.assert_allclose(found.means, LEVELS, atol=1e-9)
    p = found.posterior(image)
    np.testing.assert_allclose(np.take_along_axis(p, level[None], 0), 1, atol=1e-9)


def test_the_posterior_is_that_of_the_mixture():
    """By Bayes, for a mixture that is given; and nearly, for one that is fitted to draws of it."""
    true = GaussianMixture((0.6, 0.4), (50.0, 90.0), (12.0, 20.0))
    x = np.linspace(10, 150, 71)
    joint = [
        w / d * np.exp(-((x - m) ** 2) / (2 * d * d))
        for w, m, d in zip(true.weights, true.means, true.deviations, strict=True)
    ]
    np.testing.assert_allclose(true.posterior(x), np.array(joint) / sum(joint), atol=1e-12)
    random = np.random.default_rng(3)
    second = random.random((200, 200)) < 0.4
    image = np.where(second, random.normal(90, 20, second.shape), random.normal(50, 12, second.shape))
    settings = ClusterParameters(clusters=2, cluster_voxels=40_000)
    assert abs(fit_clusters(image, H, settings).posterior(x) - true.posterior(x)).max() < 0.04


def test_probabilities_far_from_every_cluster_are_whole():
    p = fit_clusters(three_levels()[0], H).posterior(np.array([-1e6, 0.0, 1e6, 1e30]))
    np.testing.assert_allclose(p.sum(axis=0), 1, atol=1e-12)
    assert np.isfinite(p).all()


@pytest.mark.parametrize("overlap", [1.0, 2.5])
def test_scikit_learn_finds_nothing_likelier(overlap):
    """Of the same values, with its best of ten starts."""
    from sklearn.mixture import GaussianMixture as Peer

    image = three_levels(noise=overlap, shape=(70, 70))[0]
    ours = fit_clusters(image, H)
    peer = Peer(3, n_init=10, random_state=0, max_iter=500, tol=1e-8).fit(image.reshape(-1, 1))
    values = image.reshape(-1)
    likelihood = log_likelihood(values, ours.weights, ours.means, ours.deviations)
    assert likelihood >= log_likelihood(values, peer.weights_, peer.means_, np.sqrt(peer.covariances_)) - 1e-5
    np.testing.assert_allclose(ours.means, np.sort(peer.means_.ravel()), atol=0.3 * overlap**2)


def test_the_clusters_are_those_at_the_seed():
    image, level = three_levels()
    found = fit_clusters(image, H)
    for k in range(3):
        assert clusters_at(found, image, H, level == k) == (k,)
        s = cluster_speed(found, image, H, (k,))
        assert s.dtype == np.float32
        assert abs(s).max() <= 1
        assert ((s > 0) == (level == k)).mean() > 0.98
    assert clusters_at(found, image, H, level > 0) == (1, 2)
    both = cluster_speed(found, image, H, (1, 2))
    np.testing.assert_allclose(both, 1 - 2 * found.posterior(image)[0], atol=1e-6)


def test_another_unit_of_grey_values_changes_nothing():
    image = np.rint(three_levels()[0])
    other = 3 * image - 1024
    once, again = fit_clusters(image, H), fit_clusters(other, H)
    np.testing.assert_allclose(again.means, 3 * np.array(once.means) - 1024, atol=1e-9)
    np.testing.assert_allclose(cluster_speed(again, other, H, (1,)), cluster_speed(once, image, H, (1,)), atol=1e-6)


def test_the_blur_is_in_mm():
    """Noise as wide as the gap between two levels is seen through; half the voxel needs twice the voxels of blur."""
    truth = ball((90, 90), H, 30.0) > 0
    image = np.where(truth, 100.0, 60.0) + np.random.default_rng(0).normal(0, 40, truth.shape)

    def agreement(spacing, sigma):
        p = ClusterParameters(clusters=2, cluster_sigma=sigma)
        mixture = fit_clusters(image, spacing, p)
        return dice(cluster_speed(mixture, image, spacing, (1,), p) > 0, truth)

    assert agreement(H, 0.0) < 0.8
    assert agreement(H, 2.0) > 0.95
    assert agreement((0.5, 0.5), 1.0) == agreement(H, 2.0)


def test_a_run_finds_the_material_of_its_seed():
    """A shell between two others in 3D, 3:1 voxels."""
    shape, h = (22, 60, 60), (3.0, 1.0, 1.0)
    core, outer = ball(shape, h, 12.0) > 0, ball(shape, h, 22.0) > 0
    image = 40.0 + 60 * outer + 80 * core + np.random.default_rng(1).normal(0, 10, shape)
    seed = ball(shape, h, 3.0, (31.5, 29.5, 46.5)) > 0
    settings = LevelSetParameters(speed="region", curvature=0.1)
    result = finish(evolve(image, seed, h, settings, ClusterSpeed()))
    assert dice(result.mask, outer & ~core) > 0.95
    middle = float(result.notes[0].rstrip(".").rpartition(" ")[2])
    assert middle == pytest.approx(100, abs=2)


REFUSED = {
    "constant": (np.full((20, 20), 5), ClusterParameters(), "The image is constant: it has no clusters"),
    "few voxels": (np.arange(4).reshape(2, 2), ClusterParameters(clusters=5), "5 clusters cannot be found in 4 voxels"),
    "few levels": (np.eye(20), ClusterParameters(), "3 clusters cannot be found in 2 different grey values"),
    "NaN": (np.full((20, 20), np.nan), ClusterParameters(), "NaN or infinite"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_refused_in_one_sentence(case):
    image, settings, sentence = REFUSED[case]
    with pytest.raises(InputError, match=sentence) as refused:
        fit_clusters(image, H, settings)
    assert "\n" not in str(refused.value)


def test_spacing_and_parameters_have_bounds():
    with pytest.raises(GeometryError, match="axis 0 is 0 mm"):
        fit_clusters(np.eye(9), (0.0, 1.0))
    for wrong in ({"clusters": 1}, {"cluster_sigma": -1.0}, {"cluster_voxels": 0}, {"colours": 3}):
        with pytest.raises(ValidationError):
            ClusterParameters(**wrong)
