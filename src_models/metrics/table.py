"""Many comparisons as a table: mean, median and an interval over patients, with what could not be measured counted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from src_models.errors import InputError
from src_models.metrics.comparison import Comparison, Empties, pool
from src_models.metrics.formulas import Measurement, measure

DRAWS = 10_000
SEED = 12345


@dataclass(frozen=True)
class Row:
    """One structure in one slice, case or patient.

    Attributes
    ----------
    unit, group, label : str
        What was measured, the patient it belongs to, and the structure.
    measurements : dict
        By name of the metric.
    status : str
        "" where both hold the structure; "both empty", "missed" or "invented".
    without_distance : int
        Pooled parts, such as slices, in which one of the two is empty, so that they have no distance.
    parts : int
        How many were pooled.
    """

    unit: str
    group: str
    label: str
    measurements: dict[str, Measurement]
    status: str
    without_distance: int
    parts: int


@dataclass(frozen=True)
class Score:
    """One metric of one structure over all units.

    Attributes
    ----------
    label, metric, unit, formula : str
        What it is.
    mean, std, median : float
        Over the units that have a value; NaN where none has.
    low, high : float
        95 % bootstrap interval of the mean over groups; NaN with fewer than two groups.
    n, defined, both_empty, missed, invented : int
        Units; those with a value; those of each status.
    """

    label: str
    metric: str
    unit: str
    formula: str
    mean: float
    std: float
    median: float
    low: float
    high: float
    n: int
    defined: int
    both_empty: int
    missed: int
    invented: int


@dataclass(frozen=True)
class Table:
    """Rows and what they come to."""

    rows: tuple[Row, ...]
    scores: tuple[Score, ...]


def row_of(
    unit: str,
    group: str,
    label: str,
    parts: Sequence[Comparison],
    metrics: Sequence[str],
    *,
    nsd_tolerance: float | None = None,
    empties: Empties = "standard",
) -> Row:
    """Measure one unit, pooled from its parts."""
    whole = pool(parts)
    status = "both empty" if whole.both_empty else "missed" if whole.missed else "invented" if whole.invented else ""
    return Row(
        unit=unit,
        group=group,
        label=label,
        measurements=measure(whole, metrics, nsd_tolerance=nsd_tolerance, empties=empties),
        status=status,
        without_distance=whole.without_distance,
        parts=len(parts),
    )


def summarise(rows: Sequence[Row], *, draws: int = DRAWS, seed: int = SEED) -> Table:
    """Mean, spread and interval of every metric and structure.

    Parameters
    ----------
    rows : sequence of Row
        Of one kind of unit.
    draws : int
        Of the bootstrap; 0 leaves the intervals out.
    seed : int
        Of its random numbers.

    Raises
    ------
    InputError
        Where there are no rows, or a metric has different units in them.
    """
    if not rows:
        raise InputError("metrics-rows", "There is nothing to compare", "no case was found", "Check the folders.")
    scores = []
    for label in dict.fromkeys(row.label for row in rows):
        mine = [row for row in rows if row.label == label]
        for name, first in mine[0].measurements.items():
            if len({row.measurements[name].unit for row in mine}) > 1:
                raise InputError(
                    "metrics-units",
                    f"{name} has different units in these cases",
                    "some have a voxel size and some have none",
                    "Evaluate them apart.",
                )
            values = np.array([row.measurements[name].value for row in mine])
            defined = values[np.isfinite(values)]
            low, high = bootstrap(values, [row.group for row in mine], draws=draws, seed=seed)
            scores.append(
                Score(
                    label=label,
                    metric=name,
                    unit=first.unit,
                    formula=first.formula,
                    mean=float(defined.mean()) if defined.size else math.nan,
                    std=float(defined.std(ddof=1)) if defined.size > 1 else math.nan,
                    median=float(np.median(defined)) if defined.size else math.nan,
                    low=low,
                    high=high,
                    n=len(mine),
                    defined=int(defined.size),
                    both_empty=sum(row.status == "both empty" for row in mine),
                    missed=sum(row.status == "missed" for row in mine),
                    invented=sum(row.status == "invented" for row in mine),
                )
            )
    return Table(tuple(rows), tuple(scores))


def bootstrap(
    values: NDArray[np.float64], groups: Sequence[str], *, draws: int = DRAWS, seed: int = SEED
) -> tuple[float, float]:
    """95 % interval of the mean: whole groups are drawn with replacement, since a patient's slices are alike.

    Parameters
    ----------
    values : ndarray of shape (n,)
        NaN is left out.
    groups : sequence of str
        The group of each value.
    draws, seed : int
        How many, and of which random numbers.

    Returns
    -------
    tuple of float
        2.5th and 97.5th percentile of the means; NaN with fewer than two groups.

    References
    ----------
    B. Efron, Bootstrap methods: another look at the jackknife, Annals of Statistics 7, 1979 (percentile method).
    """
    kept = np.isfinite(values)
    names = np.array(groups, dtype=str)[kept]
    unique, which = np.unique(names, return_inverse=True)
    if draws < 1 or unique.size < 2:
        return math.nan, math.nan
    sums = np.bincount(which, weights=values[kept], minlength=unique.size)
    counts = np.bincount(which, minlength=unique.size)
    random = np.random.default_rng(seed)
    means = np.empty(draws)
    for start in range(0, draws, 1000):
        drawn = random.integers(0, unique.size, (min(1000, draws - start), unique.size))
        means[start : start + len(drawn)] = sums[drawn].sum(1) / counts[drawn].sum(1)
    low, high = np.percentile(means, (2.5, 97.5))
    return float(low), float(high)
