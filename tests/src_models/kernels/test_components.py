"""Components, clusters, chance in counts: one transform, agreement with other programs, deterministic signs."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import fisher_exact as scipy_fisher
from scipy.stats import kstest
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.metrics import calinski_harabasz_score, davies_bouldin_score, silhouette_score

from src_models.kernels.clusters import cluster
from src_models.kernels.dictionary import dictionary
from src_models.kernels.kmeans import assign, calinski_harabasz, davies_bouldin, k_means, silhouette
from src_models.kernels.projection import fit, normalised
from src_models.kernels.shares import benjamini_hochberg, fisher_exact, share, tail

KNOWN = dictionary("paper-6", (3, 3))


def _kernels(count: int = 300, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return random.normal(size=(count, 9)) @ np.diag(np.linspace(2, 0.5, 9)) + 0.1


@pytest.mark.parametrize("how", ["raw", "unit", "unit+sign"])
def test_known_and_learned_kernels_that_are_equal_land_on_one_point(how: str) -> None:
    kernels = _kernels()
    found = fit([kernels], how, KNOWN)  # type: ignore[arg-type]
    for place, feature in enumerate(KNOWN.features):
        scale = np.median(np.linalg.norm(kernels, axis=1)) / np.linalg.norm(feature.kernel) if how == "raw" else 3.7
        sign = -1 if how == "unit+sign" else 1
        points, away = found.project(sign * scale * feature.kernel.reshape(1, -1))
        assert points[0] == pytest.approx(found.known_points[place], abs=1e-12)
        assert away[0] == pytest.approx(found.known_distances[place], abs=1e-12)


def test_the_paper_leaves_known_kernels_at_their_published_scale() -> None:
    found = fit([_kernels()], "raw", KNOWN, published=True)
    points, _ = found.project(KNOWN.flat)
    assert np.abs(points - found.known_points).max() < 1e-12


def test_components_are_those_of_another_program() -> None:
    kernels = _kernels()
    found, peer = fit([kernels[:100], kernels[100:]], "raw", KNOWN), PCA().fit(kernels)
    assert np.abs(found.explained - peer.explained_variance_ratio_).max() < 1e-12
    assert np.abs(np.abs(found.axes @ peer.components_.T) - np.eye(9)).max() < 1e-9
    largest = np.abs(found.axes).argmax(axis=1)
    assert (found.axes[np.arange(9), largest] > 0).all()


def test_the_distance_from_the_plane_is_what_two_components_leave() -> None:
    kernels = _kernels()
    found = fit([kernels], "raw", KNOWN)
    centred = kernels - found.mean
    flat = centred - centred @ found.axes[:2].T @ found.axes[:2]
    _, away = found.project(kernels)
    assert np.abs(away - np.linalg.norm(flat, axis=1)).max() < 1e-12
    assert found.project(found.mean + np.array([[2.0, -3.0]]) @ found.axes[:2])[1][0] == pytest.approx(0, abs=1e-12)


def test_a_sign_is_that_of_the_largest_entry_also_where_the_centre_is_zero() -> None:
    edge = KNOWN.features[3].kernel.reshape(1, -1)
    assert np.array_equal(normalised(edge, "unit+sign"), normalised(-edge, "unit+sign"))
    assert np.linalg.norm(normalised(edge, "unit+sign")) == pytest.approx(1)
    assert not normalised(np.zeros((1, 9)), "unit+sign").any()


def test_clusters_and_their_scores_are_those_of_another_program() -> None:
    random = np.random.default_rng(1)
    rows = np.concatenate([random.normal(size=(80, 9)) + centre for centre in (0, 3, 6)])
    found = k_means(rows, 3, 10, np.random.default_rng(0))
    peer = KMeans(3, n_init=10, random_state=0).fit(rows)
    assert found.inertia == pytest.approx(peer.inertia_, rel=1e-6)
    assert np.array_equal(assign(rows, found.centres), found.labels)
    labels = found.labels
    assert silhouette(rows, labels, 3) == pytest.approx(silhouette_score(rows, labels))
    assert davies_bouldin(rows, labels, 3) == pytest.approx(davies_bouldin_score(rows, labels))
    assert calinski_harabasz(rows, labels, 3) == pytest.approx(calinski_harabasz_score(rows, labels))


def test_clusters_are_claimed_where_they_are_and_not_in_one_cloud() -> None:
    random = np.random.default_rng(2)
    apart = np.concatenate([random.normal(size=(60, 9)) + centre for centre in (-4, 0, 4)])
    one = random.normal(size=(180, 9))
    found = [cluster(rows, "raw", 3, 19, (0, k)) for k, rows in enumerate((apart, one))]
    assert found[0] is not None
    assert found[1] is not None
    assert found[0][1].p == pytest.approx(1 / 20)
    assert found[1][1].p > 0.05
    assert sum(found[0][1].sizes) == 180
    assert cluster(one[:5], "raw", 3, 5, (0,)) is None


@pytest.mark.parametrize("table", [(3, 10, 40, 900), (50, 950, 100, 99900), (0, 10, 5, 995), (4, 0, 10, 3)])
def test_fishers_test_is_that_of_another_program(table: tuple[int, int, int, int]) -> None:
    a, b, c, d = table
    assert fisher_exact(a, b, c, d) == pytest.approx(scipy_fisher([[a, b], [c, d]])[1], rel=1e-6)


def test_enrichment_is_one_where_shares_are_equal_and_its_interval_holds_it() -> None:
    random = np.random.default_rng(3)
    inside = 0
    for _ in range(400):
        found = share("x", int(random.binomial(500, 0.1)), 500, int(random.binomial(5000, 0.1)), 5000)
        inside += found.low <= 1 <= found.high
    assert 0.92 <= inside / 400 <= 0.98
    assert share("x", 10, 100, 0, 1000).enrichment == pytest.approx((10.5 / 101) / (0.5 / 1001))


def test_false_discovery_rates_and_tails() -> None:
    from scipy.stats import false_discovery_control

    p = np.random.default_rng(4).random(200)
    assert benjamini_hochberg(p) == pytest.approx(false_discovery_control(p))
    assert np.isnan(benjamini_hochberg(np.array([0.1, np.nan]))[1])
    null = np.sort(np.random.default_rng(5).random(999))
    assert kstest(tail(null, np.random.default_rng(6).random(999)), "uniform").pvalue > 1e-3
    assert tail(null, np.array([-1.0, 2.0])) == pytest.approx([1 / 1000, 1])
