"""k-means with k-means++ starts, and three scores of a clustering; compiled where it counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_models.kernels.rows import compiled, summing

Floats = NDArray[np.float64]
_STEPS = 100
_STILL = 1e-4
"""Centres that move by less than this share of the variance have arrived."""


@dataclass(frozen=True, eq=False)
class Clustering:
    """Centres (k, entries), the cluster of each row, and the sum of squared distances."""

    centres: Floats
    labels: NDArray[np.int16]
    inertia: float


def k_means(rows: Floats, k: int, restarts: int, random: np.random.Generator, tried: int | None = None) -> Clustering:
    """The best of several runs of Lloyd's algorithm, which stop when the centres hardly move.

    Parameters
    ----------
    rows : ndarray of shape (N, entries)
        At least k.
    k, restarts : int
        Clusters, and starts by k-means++.
    random : Generator
        Of the starts.
    tried : int, optional
        The starts are tried on that many of the first rows, and the best goes on with all.

    References
    ----------
    D. Arthur, S. Vassilvitskii, k-means++: the advantages of careful seeding, SODA 2007.
    """
    data = np.ascontiguousarray(rows, np.float64)
    part = data[:tried]
    still = _STILL * float(part.var(axis=0).mean()) * k
    best = Clustering(np.empty((k, data.shape[1])), np.zeros(len(data), np.int16), float("inf"))
    for uniform in random.random((restarts, k)):
        centres, labels = np.empty((k, data.shape[1])), np.zeros(len(part), np.int16)
        _seed(part, uniform, centres)
        inertia = float(_lloyd(part, centres, labels, _STEPS, still))
        if inertia < best.inertia:
            best = Clustering(centres, labels, inertia)
    if len(part) < len(data):
        labels = np.zeros(len(data), np.int16)
        inertia = float(_lloyd(data, best.centres, labels, _STEPS, still))
        best = Clustering(best.centres, labels, inertia)
    return best


def assign(rows: Floats, centres: Floats) -> NDArray[np.int16]:
    """The nearest centre of each row."""
    labels = np.zeros(len(rows), np.int16)
    _nearest(np.ascontiguousarray(rows, np.float64), centres, labels)
    return labels


def silhouette(rows: Floats, labels: NDArray[Any], k: int) -> float:
    """Mean over rows of (b - a) / max(a, b): a the mean distance to one's own cluster, b to the nearest other one.

    NaN where fewer than two clusters have rows.
    """
    counts = np.bincount(labels, minlength=k)
    if np.count_nonzero(counts) < 2:
        return float("nan")
    data = np.ascontiguousarray(rows, np.float64)
    return float(_silhouette(data, labels.astype(np.int64), counts))


def calinski_harabasz(rows: Floats, labels: NDArray[Any], k: int) -> float:
    """Variance between clusters over variance within, each by its degrees of freedom."""
    counts = np.bincount(labels, minlength=k)
    used = np.flatnonzero(counts)
    if used.size < 2 or len(rows) <= used.size:
        return float("nan")
    mean = rows.mean(axis=0)
    between = within = 0.0
    for cluster in used:
        mine = rows[labels == cluster]
        centre = mine.mean(axis=0)
        between += len(mine) * float(((centre - mean) ** 2).sum())
        within += float(((mine - centre) ** 2).sum())
    return between / within * (len(rows) - used.size) / (used.size - 1) if within > 0 else float("nan")


def davies_bouldin(rows: Floats, labels: NDArray[Any], k: int) -> float:
    """Mean over clusters of the worst (s_i + s_j) / d_ij: spreads over the distance of centres; small is good."""
    used = np.flatnonzero(np.bincount(labels, minlength=k))
    if used.size < 2:
        return float("nan")
    centres = np.stack([rows[labels == cluster].mean(axis=0) for cluster in used])
    spread = np.array(
        [np.linalg.norm(rows[labels == c] - centre, axis=1).mean() for c, centre in zip(used, centres, strict=True)]
    )
    apart = np.linalg.norm(centres[:, None] - centres[None], axis=2)
    np.fill_diagonal(apart, np.inf)
    with np.errstate(divide="ignore", invalid="ignore"):
        worst = ((spread[:, None] + spread[None]) / apart).max(axis=1)
    return float(worst.mean())


@summing
def _nearest(rows: Any, centres: Any, labels: Any) -> Any:
    """Fill `labels` and give (sum of squared distances, changed labels)."""
    total, changed = 0.0, 0
    for i in range(rows.shape[0]):
        best, place = np.inf, 0
        for c in range(centres.shape[0]):
            distance = 0.0
            for j in range(rows.shape[1]):
                gap = rows[i, j] - centres[c, j]
                distance += gap * gap
            if distance < best:
                best, place = distance, c
        total += best
        if labels[i] != place:
            labels[i] = place
            changed += 1
    return total, changed


@compiled
def _seed(rows: Any, uniform: Any, centres: Any) -> None:
    """k-means++: each further centre is a row, drawn with weights of its squared distance to the nearest centre."""
    count = rows.shape[0]
    centres[0] = rows[min(int(uniform[0] * count), count - 1)]
    weight = np.full(count, np.inf)
    for c in range(1, centres.shape[0]):
        total = 0.0
        for i in range(count):
            distance = 0.0
            for j in range(rows.shape[1]):
                gap = rows[i, j] - centres[c - 1, j]
                distance += gap * gap
            weight[i] = min(weight[i], distance)
            total += weight[i]
        target, place, running = uniform[c] * total, count - 1, 0.0
        for i in range(count):
            running += weight[i]
            if running > target:
                place = i
                break
        centres[c] = rows[place]


@compiled
def _lloyd(rows: Any, centres: Any, labels: Any, steps: Any, still: Any) -> Any:
    labels[:] = -1
    counts = np.zeros(centres.shape[0])
    for _ in range(steps):
        _, changed = _nearest(rows, centres, labels)
        if changed == 0:
            break
        moved = 0.0
        sums = np.zeros_like(centres)
        counts[:] = 0
        for i in range(rows.shape[0]):
            counts[labels[i]] += 1
            for j in range(rows.shape[1]):
                sums[labels[i], j] += rows[i, j]
        for c in range(centres.shape[0]):
            # a cluster that lost its rows stays where it is
            if counts[c] > 0:
                for j in range(rows.shape[1]):
                    gap = sums[c, j] / counts[c] - centres[c, j]
                    moved += gap * gap
                    centres[c, j] += gap
        if moved <= still:
            break
    return _nearest(rows, centres, labels)[0]


@summing
def _silhouette(rows: Any, labels: Any, counts: Any) -> Any:
    total = 0.0
    clusters = counts.shape[0]
    sums = np.zeros(clusters)
    for i in range(rows.shape[0]):
        own = labels[i]
        if counts[own] < 2:
            continue
        sums[:] = 0
        for other in range(rows.shape[0]):
            distance = 0.0
            for j in range(rows.shape[1]):
                gap = rows[i, j] - rows[other, j]
                distance += gap * gap
            sums[labels[other]] += np.sqrt(distance)
        inside = sums[own] / (counts[own] - 1)
        outside = np.inf
        for c in range(clusters):
            if c != own and counts[c] > 0:
                outside = min(outside, sums[c] / counts[c])
        largest = max(inside, outside)
        if largest > 0:
            total += (outside - inside) / largest
    return total / rows.shape[0]
