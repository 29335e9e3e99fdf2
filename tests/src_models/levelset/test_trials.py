"""Values to try: evenly spread, the same every time, and a search that finds what is best."""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping

import numpy as np

from src_models.levelset import LevelSetParameters
from src_models.levelset.trials import BOX, around, moving, spread

VALUES = {"balloon": 1.0, "curvature": 0.2, "convection": 2.0, "contrast": 0.04, "seed_width": 2.0}
NAMES = ("curvature", "convection", "contrast", "seed_width")


def test_they_fill_the_box_evenly_in_the_logarithm() -> None:
    found = list(spread(VALUES, NAMES, 1.0, 64))
    assert len(found) == 64
    for name in NAMES:
        low, high = (math.log(VALUES[name] * factor) for factor in BOX[name])
        shares = np.sort([(math.log(one[name]) - low) / (high - low) for one in found])
        assert np.abs(shares - (np.arange(64) + 0.5) / 64).max() < 0.08
    assert {one["balloon"] for one in found} == {1.0}


def test_thresholds_move_by_the_scale_and_stay_in_order() -> None:
    values = {"lower": 80.0, "upper": 90.0}
    found = list(spread(values, ("lower", "upper"), 20.0, 60))
    assert all(one["lower"] < one["upper"] for one in found)
    assert 30 < len(found) < 60
    assert all(abs(one[name] - values[name]) <= 20 for one in found for name in values)


def search(ways: Generator[dict[str, float], bool, None], target: Mapping[str, float]) -> tuple[float, int]:
    """Send better or not, by the distance to a target in the logarithm."""
    best, tried = math.inf, 0
    found = next(ways, None)
    while found is not None:
        tried += 1
        distance = sum(math.log(found[name] / value) ** 2 for name, value in target.items())
        better, best = distance < best, min(best, distance)
        try:
            found = ways.send(better)
        except StopIteration:
            break
    return best, tried


def test_the_search_around_finds_the_best_values_and_keeps_to_its_number() -> None:
    target = {"curvature": 0.5, "convection": 5.0, "seed_width": 3.1}
    best, tried = search(around(VALUES, tuple(target), 1.0, 200), target)
    assert best < 0.03
    assert tried < 200
    assert search(around(VALUES, tuple(target), 1.0, 7), target)[1] == 7
    assert search(around(VALUES, tuple(target), 1.0, 0), target)[1] == 0


def test_the_balloon_moves_only_where_another_weight_stays() -> None:
    p = LevelSetParameters(speed="region", convection=2.0)
    assert moving(VALUES, p) == NAMES
    assert "balloon" in moving({"balloon": 1.0, "curvature": 0.2}, p)
    assert "balloon" not in moving({"balloon": 1.0, "curvature": 0.2}, p.model_copy(update={"convection": 0.0}))
