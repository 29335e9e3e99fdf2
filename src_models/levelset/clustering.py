"""Clusters of grey values: a mixture of Gaussians, and the region speed that grows in those at the seed.

The mixture is fitted by expectation and maximisation (Dempster, Laird and Rubin 1977) to at most 10,000 grey values. It
is written out here, in a few lines for one dimension, so that its bits do not depend on the number of threads, as
matrix products and k-means in libraries do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from src_models.errors import InputError
from src_models.levelset.classifier import class_speed
from src_models.levelset.speed import as_image, blurred

STARTS = 8
"""Fits from different means; the likeliest is kept. Two are spread evenly, the others are drawn."""
ITERATIONS = 500
TOLERANCE = 1e-9
"""A fit ends when the mean log likelihood rises by less."""
NARROWEST = 1e-3
"""Smallest standard deviation, as a share of the grey-value range."""
WIDEST_STEP = 0.02
"""Images of whole numbers: the deviation is at least one step between grey values, but no more than this share."""
CHUNK = 2**18


class ClusterParameters(BaseModel):
    """The mixture of Gaussians."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    clusters: int = Field(
        3,
        title="Clusters",
        description="Number of tissues or materials by grey value; the front grows in those at the seed.",
        ge=2,
        le=20,
        json_schema_extra={"group": "clusters", "unit": "", "soft": [2, 8], "preview": True},
    )
    cluster_sigma: float = Field(
        0.0,
        title="Blur before clustering",
        description="Width of the Gaussian applied to the grey values. Larger ignores noise and blunts thin parts.",
        ge=0,
        json_schema_extra={"group": "clusters", "unit": "mm", "soft": [0, 3], "preview": True},
    )
    cluster_voxels: int = Field(
        10_000,
        title="Voxels to fit to",
        description="Of more voxels, a fixed random choice.",
        ge=100,
        json_schema_extra={"group": "clusters", "unit": "voxels", "preview": True},
    )
    cluster_seed: int = Field(
        0,
        title="Seed of the choice",
        description="Start of the random numbers: the same seed gives the same clusters.",
        ge=0,
        json_schema_extra={"group": "clusters", "unit": "", "preview": True},
    )


@dataclass(frozen=True)
class GaussianMixture:
    """A mixture of Gaussians of grey values, the darkest first; made by `fit_clusters`.

    Attributes
    ----------
    weights, means, deviations : tuple of float
        Of each cluster; means and standard deviations in grey values.
    """

    weights: tuple[float, ...]
    means: tuple[float, ...]
    deviations: tuple[float, ...]

    def posterior(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """The probability of each cluster given a grey value: ``w_k N(I; m_k, d_k) / sum_j w_j N(I; m_j, d_j)``.

        Parameters
        ----------
        values : ndarray
            Grey values of any shape.

        Returns
        -------
        ndarray of shape (clusters, *values.shape)
            float64, with the sum 1.
        """
        joint = _log_joint(np.asarray(values, np.float64), *map(np.array, (self.weights, self.means, self.deviations)))
        return np.asarray(np.exp(joint - _log_sum(joint)))


def fit_clusters(
    image: NDArray[Any], spacing: Sequence[float], parameters: ClusterParameters | None = None
) -> GaussianMixture:
    """Fit a mixture of Gaussians to the grey values.

    Parameters
    ----------
    image : ndarray of shape (z, y, x) or (y, x)
        Grey values.
    spacing : sequence of float
        mm per array axis, for the blur.
    parameters : ClusterParameters, optional
        How many clusters, and from what.

    Raises
    ------
    InputError, GeometryError
        Where the image is constant or has fewer voxels or grey values than clusters.
    """
    settings = parameters or ClusterParameters()
    plain = _smoothed(image, spacing, settings)
    low, high = float(plain.min()), float(plain.max())
    if low == high:
        raise InputError(
            "clusters-constant", "The image is constant", "it has no clusters", "Choose another image or region."
        )
    random = np.random.default_rng(settings.cluster_seed)
    flat = plain.reshape(-1)
    if flat.size > settings.cluster_voxels:
        flat = flat[np.sort(random.choice(flat.size, settings.cluster_voxels, replace=False))]
    distinct = np.unique(flat)
    if distinct.size < settings.clusters:
        what = f"{flat.size} voxels" if flat.size < settings.clusters else f"{distinct.size} different grey values"
        raise InputError(
            "clusters-few",
            f"{settings.clusters} clusters cannot be found in {what}",
            "",
            "Ask for fewer clusters, or choose a larger region.",
        )
    half = high / 2 - low / 2
    sample = (flat.astype(np.float64) / 2 - low / 2) / half
    step = min(float(np.diff(distinct.astype(np.float64) / 2).min()) / half, WIDEST_STEP)
    fits = [_fitted(sample, means, max(NARROWEST, step)) for means in _starts(sample, settings.clusters, random)]
    _, weights, means, deviations = max(fits, key=lambda fit: fit[0])
    order = np.argsort(means, kind="stable")
    return GaussianMixture(
        weights=tuple(map(float, weights[order])),
        means=tuple(float(2 * (low / 2 + m * half)) for m in means[order]),
        deviations=tuple(float(2 * d * half) for d in deviations[order]),
    )


def clusters_at(
    mixture: GaussianMixture,
    image: NDArray[Any],
    spacing: Sequence[float],
    inside: NDArray[Any],
    parameters: ClusterParameters | None = None,
) -> tuple[int, ...]:
    """The clusters at a seed: those with more than an even share of it, at least the largest.

    Parameters
    ----------
    mixture : GaussianMixture
        Of this image.
    image, spacing, parameters
        As in `fit_clusters`.
    inside : ndarray of bool
        The seed, on the grid of the image; not empty.
    """
    values = _smoothed(image, spacing, parameters or ClusterParameters())[inside]
    shares = np.zeros(len(mixture.means))
    for first in range(0, values.size, CHUNK):
        shares += mixture.posterior(values[first : first + CHUNK]).sum(axis=1)
    chosen = np.flatnonzero(shares / values.size > 1 / shares.size)
    return tuple(map(int, chosen)) if 0 < chosen.size < shares.size else (int(shares.argmax()),)


def cluster_speed(
    mixture: GaussianMixture,
    image: NDArray[Any],
    spacing: Sequence[float],
    chosen: Sequence[int],
    parameters: ClusterParameters | None = None,
) -> NDArray[np.float32]:
    """The region speed s in [-1, 1] that grows in some clusters: their probability less the largest of the others.

    Parameters
    ----------
    mixture : GaussianMixture
        From `fit_clusters`.
    image, spacing, parameters
        As there; a slice is enough for a preview without blur.
    chosen : sequence of int
        The clusters, counted from the darkest; not all of them.
    """
    plain = _smoothed(image, spacing, parameters or ClusterParameters())
    speed = np.empty(plain.shape, np.float32)
    values, found = plain.reshape(-1), speed.reshape(-1)
    rest = [k for k in range(len(mixture.means)) if k not in chosen]
    for first in range(0, values.size, CHUNK):
        p = mixture.posterior(values[first : first + CHUNK])
        found[first : first + CHUNK] = class_speed(np.vstack([p[list(chosen)].sum(axis=0), p[rest]]), 0)
    return speed


def _smoothed(image: NDArray[Any], spacing: Sequence[float], parameters: ClusterParameters) -> NDArray[Any]:
    return blurred(as_image(image, spacing), spacing, parameters.cluster_sigma)


def _starts(sample: NDArray[np.float64], count: int, random: np.random.Generator) -> list[NDArray[np.float64]]:
    """Means to start from: even in rank, even in grey value, and spread at random as in k-means++."""
    even = (np.arange(count) + 0.5) / count
    starts = [np.quantile(sample, even), even]
    while len(starts) < STARTS:
        means = [float(random.choice(sample))]
        while len(means) < count:
            square = np.min([(sample - m) ** 2 for m in means], axis=0)
            means.append(float(random.choice(sample, p=square / square.sum())))
        starts.append(np.array(means))
    return starts


def _log_joint(
    values: NDArray[np.float64],
    weights: NDArray[np.float64],
    means: NDArray[np.float64],
    deviations: NDArray[np.float64],
) -> NDArray[np.float64]:
    """log(w_k N(x; m_k, d_k)), clusters first."""
    with np.errstate(divide="ignore"):  # a cluster may have died out: weight 0
        constant = np.log(weights) - np.log(deviations) - 0.5 * math.log(2 * math.pi)
    wide = (slice(None),) + (None,) * values.ndim
    return np.asarray(constant[wide] - 0.5 * ((values - means[wide]) / deviations[wide]) ** 2)


def _log_sum(joint: NDArray[np.float64]) -> NDArray[np.float64]:
    largest = joint.max(axis=0)
    return np.asarray(largest + np.log(np.exp(joint - largest).sum(axis=0)))


def _fitted(
    sample: NDArray[np.float64], means: NDArray[np.float64], narrowest: float
) -> tuple[float, NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Mean log likelihood, weights, means and deviations where expectation and maximisation come to rest."""
    count = means.size
    weights = np.full(count, 1 / count)
    deviations = np.full(count, max(float(sample.std()) / count, narrowest))
    before = -math.inf
    for _ in range(ITERATIONS):
        joint = _log_joint(sample, weights, means, deviations)
        evidence = _log_sum(joint)
        likelihood = float(evidence.mean())
        if likelihood - before < TOLERANCE:
            break
        before = likelihood
        share = np.exp(joint - evidence)
        total = np.maximum(share.sum(axis=1), 1e-12)
        weights = total / total.sum()
        means = (share * sample).sum(axis=1) / total
        square = (share * (sample - means[:, None]) ** 2).sum(axis=1) / total
        deviations = np.sqrt(np.maximum(square, narrowest**2))
    return likelihood, weights, means, deviations
