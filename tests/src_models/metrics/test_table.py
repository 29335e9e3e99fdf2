"""Tables over cases and patients: nothing is averaged away, and the interval is that of patients."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from src_models.errors import InputError
from src_models.metrics import Comparison, Row, summarise
from src_models.metrics.table import bootstrap, row_of


def _row(unit: str, group: str, prediction: int, reference: int) -> Row:
    """Squares of so many pixels a side; 0 for none."""
    a, b = np.zeros((12, 12), bool), np.zeros((12, 12), bool)
    a[1 : 1 + prediction, 1 : 1 + prediction] = True
    b[1 : 1 + reference, 1 : 1 + reference] = True
    return row_of(unit, group, "liver", [Comparison.of(a, b, (1.0, 1.0))], ["dice", "hd"])


def test_what_has_no_value_is_counted() -> None:
    rows = [
        _row("a", "a", 4, 4),
        _row("b", "b", 0, 4),
        _row("c", "c", 4, 0),
        _row("d", "d", 0, 0),
        _row("e", "e", 5, 4),
    ]
    dice, hd = summarise(rows, draws=100).scores
    assert (dice.n, dice.defined, dice.both_empty, dice.missed, dice.invented) == (5, 5, 1, 1, 1)
    assert dice.mean == pytest.approx((1 + 0 + 0 + 1 + 32 / 41) / 5)
    assert (hd.n, hd.defined) == (5, 3)
    assert hd.mean == pytest.approx(math.sqrt(2) / 3)


def test_interval_of_many_normal_means_is_the_textbook_one() -> None:
    values = np.random.default_rng(0).normal(0.9, 0.05, 400)
    low, high = bootstrap(values, [str(k) for k in range(400)])
    half = 1.96 * values.std() / 20
    assert (low, high) == (pytest.approx(values.mean() - half, abs=3e-4), pytest.approx(values.mean() + half, abs=3e-4))


def test_slices_of_one_patient_are_drawn_together() -> None:
    """Ten equal slices say no more about other patients than one: the interval stays that of the patients."""
    values = np.array([0.7, 0.8, 0.95, 0.9, 0.85])
    names = list("abcde")
    assert bootstrap(np.repeat(values, 10), [name for name in names for _ in range(10)]) == pytest.approx(
        bootstrap(values, names)
    )
    assert bootstrap(values, names) == bootstrap(values, names)


def test_of_two_patients_either_may_be_drawn_twice() -> None:
    """Both draws are the same patient in a quarter of the cases each: far more than 2.5 %."""
    assert bootstrap(np.array([0.0, 1.0]), ["a", "b"]) == (0.0, 1.0)


def test_one_patient_has_no_interval() -> None:
    assert all(math.isnan(end) for end in bootstrap(np.array([0.5, 0.6]), ["a", "a"]))
    assert all(math.isnan(end) for end in bootstrap(np.array([math.nan, 0.6]), ["a", "b"]))


def test_nothing_is_an_error() -> None:
    with pytest.raises(InputError, match="nothing to compare"):
        summarise([])


def test_importing_metrics_is_light() -> None:
    code = "import sys, src_models.metrics\nprint(sorted({'torch', 'scipy', 'monai', 'skimage'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3]
    )
    assert done.stdout.strip() == "[]"
