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
    data = _columns(rows)
    part = np.ascontiguousarray(data[:, :tried])
    still = _STILL * float(part.var(axis=1).mean()) * k
    best = Clustering(np.empty((k, len(data))), np.zeros(part.shape[1], np.int16), float("inf"))
    for uniform in random.random((restarts, k)):
        centres, labels = np.empty((k, len(data))), np.zeros(part.shape[1], np.int16)
        _seed(part, uniform, centres)
        inertia = float(_lloyd(part, centres, labels, _STEPS, still))
        if inertia < best.inertia:
            best = Clustering(centres, labels, inertia)
    if part.shape[1] < data.shape[1]:
        labels = np.zeros(data.shape[1], np.int16)
        inertia = float(_lloyd(data, best.centres, labels, _STEPS, still))
        best = Clustering(best.centres, labels, inertia)
    return best


def assign(rows: Floats, centres: Floats) -> NDArray[np.int16]:
    """The nearest centre of each row."""
    labels = np.zeros(len(rows), np.int16)
    _nearest(_columns(rows), centres, labels, np.empty(len(rows)), np.empty(len(rows)))
    return labels


def _columns(rows: Floats) -> Floats:
    return np.ascontiguousarray(rows.T, np.float64)


def silhouette(rows: Floats, labels: NDArray[Any], k: int) -> float:
    """Mean over rows of (b - a) / max(a, b): a the mean distance to one's own cluster, b to the nearest other one.

    NaN where fewer than two clusters have rows.
    """
    counts = np.bincount(labels, minlength=k)
    if np.count_nonzero(counts) < 2:
        return float("nan")
    order = np.argsort(labels, kind="stable")
    return float(_silhouette(_columns(rows[order]), np.concatenate([[0], np.cumsum(counts)])))


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


# Rows stand in columns here, so that the inner loops run over kernels and are vectorised.


@summing
def _nearest(columns: Any, centres: Any, labels: Any, near: Any, work: Any) -> Any:
    """Fill labels and squared distances `near`; gives (their sum, changed labels)."""
    count = columns.shape[1]
    near[:] = np.inf
    changed = 0
    fresh = np.zeros(count, np.int16)
    for c in range(centres.shape[0]):
        work[:] = 0
        for j in range(columns.shape[0]):
            centre, column = centres[c, j], columns[j]
            for i in range(count):
                gap = column[i] - centre
                work[i] += gap * gap
        for i in range(count):
            closer = work[i] < near[i]
            near[i] = work[i] if closer else near[i]
            fresh[i] = c if closer else fresh[i]
    total = 0.0
    for i in range(count):
        total += near[i]
        changed += labels[i] != fresh[i]
    labels[:] = fresh
    return total, changed


@compiled
def _seed(columns: Any, uniform: Any, centres: Any) -> None:
    """k-means++: each further centre is a row, drawn with weights of its squared distance to the nearest centre."""
    count = columns.shape[1]
    centres[0] = columns[:, min(int(uniform[0] * count), count - 1)]
    weight = np.full(count, np.inf)
    distance = np.zeros(count)
    for c in range(1, centres.shape[0]):
        distance[:] = 0
        for j in range(columns.shape[0]):
            for i in range(count):
                gap = columns[j, i] - centres[c - 1, j]
                distance[i] += gap * gap
        total = 0.0
        for i in range(count):
            weight[i] = min(weight[i], distance[i])
            total += weight[i]
        target, place, running = uniform[c] * total, count - 1, 0.0
        for i in range(count):
            running += weight[i]
            if running > target:
                place = i
                break
        centres[c] = columns[:, place]


@summing
def _lloyd(columns: Any, centres: Any, labels: Any, steps: Any, still: Any) -> Any:
    labels[:] = -1
    count = columns.shape[1]
    near, work, mine = np.empty(count), np.empty(count), np.empty(count)
    for _ in range(steps):
        _, changed = _nearest(columns, centres, labels, near, work)
        if changed == 0:
            break
        moved = 0.0
        for c in range(centres.shape[0]):
            members = 0.0
            for i in range(count):
                mine[i] = 1.0 if labels[i] == c else 0.0
                members += mine[i]
            # a cluster that lost its rows stays where it is
            if members == 0:
                continue
            for j in range(columns.shape[0]):
                total, column = 0.0, columns[j]
                for i in range(count):
                    total += column[i] * mine[i]
                gap = total / members - centres[c, j]
                moved += gap * gap
                centres[c, j] += gap
        if moved <= still:
            break
    return _nearest(columns, centres, labels, near, work)[0]


@summing
def _silhouette(columns: Any, starts: Any) -> Any:
    """Of rows sorted by cluster; `starts` are the first of each cluster, then their number."""
    count, clusters = columns.shape[1], starts.shape[0] - 1
    distance = np.empty(count)
    total, own = 0.0, 0
    for i in range(count):
        while starts[own + 1] <= i:
            own += 1
        members = starts[own + 1] - starts[own]
        if members < 2:
            continue
        distance[:] = 0
        for j in range(columns.shape[0]):
            here, column = columns[j, i], columns[j]
            for other in range(count):
                gap = column[other] - here
                distance[other] += gap * gap
        inside, outside = 0.0, np.inf
        for c in range(clusters):
            size = starts[c + 1] - starts[c]
            if size == 0:
                continue
            part = 0.0
            for other in range(starts[c], starts[c + 1]):
                part += np.sqrt(distance[other])
            if c == own:
                inside = part / (members - 1)
            else:
                outside = min(outside, part / size)
        largest = max(inside, outside)
        if largest > 0:
            total += (outside - inside) / largest
    return total / count
