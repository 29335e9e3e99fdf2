"""Clusters of the kernels of a layer, beside the clusters that k-means finds in one Gaussian cloud."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_models.kernels.draws import generator
from src_models.kernels.kmeans import Clustering, assign, calinski_harabasz, davies_bouldin, k_means, silhouette
from src_models.kernels.parameters import Normalisation
from src_models.kernels.projection import normalised
from src_models.kernels.result import ClusterScores

Floats = NDArray[np.float64]
FITTED = 20_000
"""Kernels of a layer that k-means is fitted on; all are assigned."""
SCORED = 2_000
TESTED = 400
_RESTARTS = 10


def cluster(
    flat: NDArray[Any], how: Normalisation, k: int, draws: int, seed: tuple[int, ...]
) -> tuple[NDArray[np.int16], ClusterScores] | None:
    """k-means of the kernels of a layer, with scores and the same scores of random clouds; None for fewer than 2 k.

    Parameters
    ----------
    flat : ndarray of shape (N, entries)
        Living kernels.
    how : str
        Normalisation.
    k : int
        Clusters.
    draws : int
        Gaussian clouds of the same mean and covariance.
    seed : tuple of int
        Of the random numbers.
    """
    if len(flat) < 2 * k:
        return None
    rows = normalised(flat, how)
    fitted = rows[generator(*seed, 0).permutation(len(rows))[:FITTED]]
    found = k_means(fitted, k, _RESTARTS, generator(*seed, 1), tried=SCORED)
    labels = assign(rows, found.centres)
    some = _some(len(rows), SCORED, (*seed, 2))
    sample, of = rows[some], labels[some]
    tested = rows[_some(len(rows), TESTED, (*seed, 3))]
    score = _test(tested, k, generator(*seed, 4))
    spread = _root(np.cov(rows.T))
    random = generator(*seed, 5)
    clouds = tuple(
        _test(rows.mean(axis=0) + random.standard_normal(tested.shape) @ spread, k, random) for _ in range(draws)
    )
    above = sum(cloud >= score for cloud in clouds)
    p = (1 + above) / (1 + draws) if draws and math.isfinite(score) else math.nan
    sizes = tuple(np.bincount(labels, minlength=k).tolist())
    scores = ClusterScores(
        k,
        sizes,
        silhouette(sample, of, k),
        calinski_harabasz(sample, of, k),
        davies_bouldin(sample, of, k),
        score,
        clouds,
        p,
    )
    return labels, scores


def _test(rows: Floats, k: int, random: np.random.Generator) -> float:
    found: Clustering = k_means(rows, k, 3, random)
    return silhouette(rows, found.labels, k)


def _root(covariance: Floats) -> Floats:
    variance, vectors = np.linalg.eigh(covariance)
    found: Floats = (vectors * np.sqrt(np.maximum(variance, 0))).T
    return found


def _some(count: int, most: int, seed: tuple[int, ...]) -> NDArray[np.intp]:
    """A seeded sample of rows, in their order."""
    if count <= most:
        return np.arange(count)
    return np.sort(generator(*seed).choice(count, most, replace=False))
