"""Counts beside chance: enrichment with its interval, Fisher's exact test, and false discovery rates."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from src_models.kernels.result import Share

Z_95 = 1.959963984540054


def shares(names: Sequence[str], counts: Sequence[int], null_counts: Sequence[int]) -> tuple[Share, ...]:
    """Each count among all of them, beside the same among random kernels.

    Parameters
    ----------
    names : sequence of str
        What is counted; every kernel has one.
    counts, null_counts : sequence of int
        Kernels of a layer, and random kernels.
    """
    total, null_total = sum(counts), sum(null_counts)
    return tuple(share(name, k, total, k0, null_total) for name, k, k0 in zip(names, counts, null_counts, strict=True))


def share(name: str, k: int, n: int, k0: int, m: int) -> Share:
    """One count of k in n, beside k0 in m.

    References
    ----------
    D. Katz et al., Obtaining confidence intervals for the risk ratio in cohort studies, Biometrics 34, 1978; with half
    a count added (S. Walter, Biometrika 62, 1975).
    """
    ratio = ((k + 0.5) / (n + 1)) / ((k0 + 0.5) / (m + 1))
    spread = math.sqrt(max(1 / (k + 0.5) - 1 / (n + 1) + 1 / (k0 + 0.5) - 1 / (m + 1), 0.0))
    low, high = ratio * math.exp(-Z_95 * spread), ratio * math.exp(Z_95 * spread)
    # beyond that more than all kernels would have the word: with few of them the logarithm knows no bound
    high = min(high, (m + 1) / (k0 + 0.5))
    return Share(name, k, n, k0, m, ratio, low, high, fisher_exact(k, n - k, k0, m - k0))


def interval(k: int, n: int) -> tuple[float, float]:
    """95 % interval of a share of k in n, exact and within 0 and 1; all of that where n is 0.

    References
    ----------
    C. Clopper, E. Pearson, The use of confidence or fiducial limits illustrated in the case of the binomial, Biometrika
    26, 1934.
    """
    from scipy.special import betaincinv

    low = float(betaincinv(k, n - k + 1, 0.025)) if k else 0.0
    high = float(betaincinv(k + 1, n - k, 0.975)) if k < n else 1.0
    return low, high


def fisher_exact(a: int, b: int, c: int, d: int) -> float:
    """Two-sided p-value of the table ((a, b), (c, d)): all tables of the same margins that are not more probable."""
    from scipy.special import gammaln

    first, column, total = a + b, a + c, a + b + c + d
    if 0 in (first, c + d, column, b + d):
        return 1.0
    low, high = max(0, first + column - total), min(first, column)
    # far from the observed count and from the mode the terms vanish: a window holds all that a double can show
    mode = (first + 1) * (column + 1) // (total + 2)
    reach = abs(a - mode) + 40 * math.isqrt(1 + high - low) + 1000
    x = np.arange(max(low, mode - reach), min(high, mode + reach) + 1, dtype=np.float64)

    def choose(n: float, k: NDArray[np.float64]) -> NDArray[np.float64]:
        found: NDArray[np.float64] = gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
        return found

    logs = choose(column, x) + choose(total - column, first - x)
    weights = np.exp(logs - logs.max())
    observed = weights[int(a - x[0])]
    return min(float(weights[weights <= observed * (1 + 1e-7)].sum() / weights.sum()), 1.0)


def benjamini_hochberg(p: NDArray[np.floating]) -> NDArray[np.float64]:
    """q-values: the smallest false discovery rate at which each would be found; NaN stays.

    References
    ----------
    Y. Benjamini, Y. Hochberg, Controlling the false discovery rate, J. R. Stat. Soc. B 57, 1995.
    """
    q = np.full(p.shape, np.nan)
    known = np.flatnonzero(np.isfinite(p))
    order = known[np.argsort(p[known], kind="stable")]
    scaled = p[order] * len(order) / np.arange(1, len(order) + 1)
    q[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return q


def tail(sorted_null: NDArray[np.floating], values: NDArray[np.floating]) -> NDArray[np.float64]:
    """(1 + random values that are at most as large) / (1 + random values), for each value."""
    below = np.searchsorted(sorted_null, values, side="right")
    return np.asarray((1.0 + below) / (1.0 + len(sorted_null)), np.float64)
