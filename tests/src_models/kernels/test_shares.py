"""Counts beside chance: intervals that stay where shares are, and mean what they say."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom, fisher_exact

from src_models.kernels import shares


@pytest.mark.parametrize("n", [0, 1, 2, 6, 50, 3000])
def test_a_share_and_its_interval_lie_between_0_and_1(n: int) -> None:
    for k in {0, 1, n // 2, n - 1, n} & set(range(n + 1)):
        low, high = shares.interval(k, n)
        assert 0 <= low <= (k / n if n else 0.5) <= high <= 1
        # the definition: at either end what was counted is just improbable
        if k:
            assert binom.sf(k - 1, n, low) == pytest.approx(0.025)
        if k < n:
            assert binom.cdf(k, n, high) == pytest.approx(0.025)


@pytest.mark.parametrize("n", [1, 2, 6, 50, 3000])
@pytest.mark.parametrize("null", [(0, 1000), (3, 1000), (540, 1000), (1000, 1000)])
def test_the_enrichment_never_stands_for_more_than_all_kernels(n: int, null: tuple[int, int]) -> None:
    k0, m = null
    for k in range(0, n + 1, max(1, n // 7)):
        one = shares.share("edge", k, n, k0, m)
        assert 0 < one.low <= one.enrichment <= one.high
        assert one.high * (k0 + 0.5) / (m + 1) <= 1 + 1e-12
        assert one.p == pytest.approx(fisher_exact([[k, n - k], [k0, m - k0]]).pvalue, rel=1e-6)


def test_the_interval_of_the_enrichment_holds_in_95_of_100() -> None:
    random = np.random.default_rng(0)
    truth = 0.15 / 0.05
    hits = 0
    for _ in range(400):
        one = shares.share("edge", int(random.binomial(300, 0.15)), 300, int(random.binomial(2000, 0.05)), 2000)
        hits += one.low <= truth <= one.high
    assert 0.92 <= hits / 400 <= 0.985
