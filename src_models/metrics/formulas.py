"""Every metric by name, with the formula that is printed beside its value.

Letters: TP, FP, FN, TN over voxels; A the prediction, B the reference, S their surface voxels (see `surface`),
d(a, B) the distance of voxel centre a to the nearest one of B.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from src_models.errors import InputError
from src_models.metrics.comparison import Comparison, Empties, Unit

Kind = Literal["overlap", "background", "distance", "size"]


@dataclass(frozen=True)
class Formula:
    """How a metric is computed.

    Attributes
    ----------
    name, title, text : str
        Short name, name in tables, formula.
    kind : str
        "overlap" is 1 where both are empty and 0 where one is; "background" also counts voxels of neither;
        "distance" is 0 where both are empty and undefined where one is; "size" is plain volume.
    compute : callable
        From a comparison in which both hold something ("background", "size": any), and the tolerance.
    """

    name: str
    title: str
    text: str
    kind: Kind
    compute: Callable[[Comparison, float], float]
    needs_tolerance: bool = False


@dataclass(frozen=True)
class Measurement:
    """A number, its unit ("" for a share) and its formula."""

    name: str
    value: float
    unit: str
    formula: str


def _share(part: float, whole: float) -> float:
    # no voxel that the share could be taken of: nothing was done wrong
    return part / whole if whole else 1.0


def _directed(take: Callable[[NDArray[np.float64]], Any]) -> Callable[[Comparison, float], tuple[float, float]]:
    def both(c: Comparison, _: float) -> tuple[float, float]:
        a_to_b, b_to_a = c.surface_distances
        return float(take(a_to_b)), float(take(b_to_a))

    return both


_means = _directed(np.mean)
_maxima = _directed(np.max)
_percentiles = _directed(lambda d: np.percentile(d, 95))


def _assd(c: Comparison, _: float) -> float:
    return float(np.concatenate(c.surface_distances).mean())


def _nsd(c: Comparison, tolerance: float) -> float:
    # distances are sums of squares: one that equals the tolerance on paper may exceed it by a rounding
    distances = np.concatenate(c.surface_distances)
    # what lies in a slice that the other left empty is near nothing
    return int((distances <= tolerance * (1 + 1e-9)).sum()) / (distances.size + c.lone_surface)


def _relative(c: Comparison, _: float) -> float:
    if c.reference_size == 0:
        return 0.0 if c.predicted_size == 0 else math.nan
    return (c.predicted_size - c.reference_size) / c.reference_size


def _size(value: float, c: Comparison) -> float:
    return value / 1000 if c.unit == "mm" and c.ndim == 3 else value


_ALL = (
    Formula("dice", "Dice", "2 TP / (2 TP + FP + FN)", "overlap", lambda c, _: 2 * c.tp / (2 * c.tp + c.fp + c.fn)),
    Formula("jaccard", "IoU", "TP / (TP + FP + FN)", "overlap", lambda c, _: c.tp / (c.tp + c.fp + c.fn)),
    Formula(
        "accuracy",
        "Accuracy",
        "(TP + TN) / all voxels; depends on the stored extent",
        "background",
        lambda c, _: _share(c.tp + c.tn, c.tp + c.tn + c.fp + c.fn),
    ),
    Formula("recall", "Recall", "TP / (TP + FN)", "overlap", lambda c, _: c.tp / (c.tp + c.fn)),
    Formula(
        "specificity",
        "Specificity",
        "TN / (TN + FP); depends on the stored extent",
        "background",
        lambda c, _: _share(c.tn, c.tn + c.fp),
    ),
    Formula("precision", "Precision", "TP / (TP + FP)", "overlap", lambda c, _: c.tp / (c.tp + c.fp)),
    Formula(
        "avd_max",
        "AVD",
        "max(mean over a in S_A of d(a, S_B), mean over b in S_B of d(b, S_A))",
        "distance",
        lambda c, t: max(_means(c, t)),
    ),
    Formula(
        "avd_max_volume",
        "AVD of volumes",
        "max(mean over a in A of d(a, B), mean over b in B of d(b, A))",
        "distance",
        lambda c, _: max(c.volume_means),
    ),
    Formula("assd", "ASSD", "mean of all d(a, S_B) and d(b, S_A) together", "distance", _assd),
    Formula(
        "masd",
        "MASD",
        "(mean over a in S_A of d(a, S_B) + mean over b in S_B of d(b, S_A)) / 2",
        "distance",
        lambda c, t: sum(_means(c, t)) / 2,
    ),
    Formula("hd", "HD", "max of all d(a, S_B) and d(b, S_A)", "distance", lambda c, t: max(_maxima(c, t))),
    Formula(
        "hd95",
        "HD95",
        "max(95th percentile of d(a, S_B), 95th percentile of d(b, S_A)), linear interpolation",
        "distance",
        lambda c, t: max(_percentiles(c, t)),
    ),
    Formula("nsd", "NSD", "share of S_A and S_B together within the tolerance of the other", "overlap", _nsd, True),
    Formula("volume", "Volume", "voxels of A x voxel volume", "size", lambda c, _: _size(c.predicted_size, c)),
    Formula(
        "volume_diff",
        "Volume difference",
        "volume of A - volume of B",
        "size",
        lambda c, _: _size(c.predicted_size - c.reference_size, c),
    ),
    Formula(
        "rel_volume_diff",
        "Relative volume difference",
        "(volume of A - volume of B) / volume of B",
        "size",
        _relative,
    ),
)
FORMULAS: dict[str, Formula] = {formula.name: formula for formula in _ALL}


def measure(
    comparison: Comparison,
    names: Sequence[str] = ("dice", "hd95", "assd"),
    *,
    nsd_tolerance: float | None = None,
    empties: Empties = "standard",
) -> dict[str, Measurement]:
    """Compute metrics of a comparison.

    Parameters
    ----------
    comparison : Comparison
        Of one case, or pooled.
    names : sequence of str
        Of `FORMULAS`.
    nsd_tolerance : float, optional
        For "nsd", in the unit of the spacing; there is no default.
    empties : str
        "standard": both empty is an overlap of 1 and a distance of 0; "nnunet": both empty is NaN, as in tables made
        with nnU-Net. One empty is an overlap of 0 and a distance of NaN in both.

    Raises
    ------
    InputError
        Unknown name, or NSD without a tolerance.
    """
    found = {}
    for name in names:
        if name not in FORMULAS:
            raise InputError("metrics-name", f"There is no metric {name}", "", f"Choose from: {', '.join(FORMULAS)}.")
        formula = FORMULAS[name]
        if formula.needs_tolerance and (nsd_tolerance is None or not nsd_tolerance >= 0):
            raise InputError(
                "metrics-tolerance",
                "NSD needs a tolerance",
                "what counts as near depends on the structure",
                f"Give it in {comparison.unit}, with --nsd-tol.",
            )
        unit = _unit_of(formula, comparison)
        text = formula.text
        if formula.needs_tolerance:
            text += f" ({nsd_tolerance:g} {comparison.unit})"
        found[name] = Measurement(name, _value(formula, comparison, nsd_tolerance or 0.0, empties), unit, text)
    return found


def _value(formula: Formula, c: Comparison, tolerance: float, empties: Empties) -> float:
    if c.both_empty and empties == "nnunet" and formula.kind != "size":
        return math.nan
    if formula.kind in ("background", "size"):
        return float(formula.compute(c, tolerance))
    if c.both_empty:
        return 1.0 if formula.kind == "overlap" else 0.0
    if c.missed or c.invented:
        return 0.0 if formula.kind == "overlap" else math.nan
    if (formula.kind == "distance" or formula.needs_tolerance) and not c.surface_distances[0].size:
        # pooled pairs in each of which one is empty: nothing of one lies opposite the other
        return 0.0 if formula.kind == "overlap" else math.nan
    return float(formula.compute(c, tolerance))


def _unit_of(formula: Formula, c: Comparison) -> str:
    if formula.kind == "distance":
        unit: Unit = c.unit
        return unit
    if formula.kind == "size" and formula.name != "rel_volume_diff":
        if c.unit == "mm":
            return "ml" if c.ndim == 3 else "mm2"
        return f"px{c.ndim}"
    return ""
