"""What a class of kernels does for the result: it is taken away or replaced, and so are as many others at random.

The change of the score is paired by patient, with a bootstrap interval over patients; beside it stands the change of
the distance of the surfaces, where it is measured. Without controls no effect is told: any part of a network is missed
when it is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import nn

from src_models.errors import InputError
from src_models.kernels.changes import Operation, applied, modified
from src_models.kernels.draws import generator
from src_models.kernels.evaluation import PatientScores
from src_models.kernels.result import KernelReport, Layer
from src_models.kernels.selection import Selection, controls, select
from src_models.metrics.table import bootstrap
from src_models.progress import Progress

Scores = Mapping[str, float]
Evaluate = Callable[[Any], Generator[Progress, None, Scores]]
"""From a network to a generator that returns the score of each patient; larger is better."""
DOSES = (0.0, 0.25, 0.5, 0.75, 1.0)
QUICK_CONTROLS = 20


class Dose(NamedTuple):
    """The change at one strength, mean over patients with its 95 % interval; that of the distance where measured."""

    strength: float
    change: float
    low: float
    high: float
    distance: float | None = None


@dataclass(frozen=True)
class CaseChange:
    """One case before and after; distances are NaN where none is defined."""

    id: str
    patient: str
    before: float
    after: float
    distance_before: float
    distance_after: float


@dataclass(frozen=True, kw_only=True)
class Paired:
    """Patients before and after a change, beside random changes of as many kernels.

    Attributes
    ----------
    before, after : mapping of str to float
        Of each patient.
    change, low, high : float
        Mean of after - before over patients, with its 95 % interval.
    controls : tuple of float
        Mean change of each random selection of as many kernels.
    excess, excess_low, excess_high : float
        Mean over patients of the change minus the mean change of the controls, paired, with its 95 % interval.
    p : float
        (1 + controls that are at least as harmful) / (1 + controls). The interval of the excess is over patients alone;
        how much random selections differ among themselves shows here.
    p_spared : float
        (1 + controls that are at most as harmful) / (1 + controls): small where these kernels matter less than others.
    """

    before: Scores
    after: Scores
    change: float
    low: float
    high: float
    controls: tuple[float, ...]
    excess: float
    excess_low: float
    excess_high: float
    p: float
    p_spared: float


@dataclass(frozen=True, kw_only=True)
class DistanceEffect(Paired):
    """Of the mean distance of the surfaces, larger is worse; patients without one before or after are left out.

    Attributes
    ----------
    unit : str
        ``"mm"``, or ``"px"`` where the spacing is not known.
    lost_before, lost_after : int
        Structures that the prediction or the reference has alone. They have no distance, so where many are lost the
        change tells only of those that are still there.
    """

    unit: str
    lost_before: int
    lost_after: int


@dataclass(frozen=True, kw_only=True)
class Effect(Paired):
    """What one change of the kernels did to the score; the larger it is, the better.

    Attributes
    ----------
    selection, operation : str
        What was changed, and how.
    kernels, layers : int
        How many, in how many layers.
    energy : float
        Share of the squared weights of the analysed kernels that lies in the selection.
    doses : tuple of Dose
        At rising strengths.
    distance : DistanceEffect or None
        Where distances were measured.
    cases : tuple of CaseChange
        Where the scores came with their cases.
    """

    selection: str
    operation: str
    kernels: int
    layers: int
    energy: float
    doses: tuple[Dose, ...] = ()
    distance: DistanceEffect | None = None
    cases: tuple[CaseChange, ...] = ()

    @property
    def per_kernel(self) -> float:
        """Mean change divided by the number of kernels."""
        return self.change / self.kernels


def knock_out(
    network: nn.Module,
    report: KernelReport,
    selections: Sequence[Selection],
    evaluate: Evaluate,
    operation: Operation | None = None,
    *,
    draws: int = QUICK_CONTROLS,
    doses: Sequence[float] = (),
    seed: int = 0,
) -> Generator[Progress, None, tuple[Effect, ...]]:
    """Change classes of kernels one after the other, and score the network each time.

    Parameters
    ----------
    network : Module
        The network that was analysed; its weights are the same bits afterwards, also after an error or ``close``.
    report : KernelReport
        Of it, without folded gains.
    selections : sequence of Selection
        What is changed, each on its own.
    evaluate : callable
        Such as ``Evaluation(card, cases).run``.
    operation : Operation, optional
        Removal by default.
    draws : int
        Random controls of each selection, at least 1; 20 are quick, 200 for reports.
    doses : sequence of float
        Strengths in between for a curve, such as `DOSES`.
    seed : int
        Of the controls.

    Yields
    ------
    Progress
        After each scored case.

    Returns
    -------
    tuple of Effect
        In the order of the selections.

    Raises
    ------
    InputError
        Where a selection takes nothing, the analysis folded gains, or no control is asked for.
    """
    if draws < 1:
        raise InputError("kernels-controls", "An effect without controls means nothing", "", "Ask for at least one.")
    if any(each.layer.gain for each in report.layers):
        raise InputError(
            "kernels-gain", "These kernels were multiplied by a gain", "", "Analyse the network without fold_norm."
        )
    chosen = operation or Operation()
    picked = [select(report, selection) for selection in selections]
    between = sum(dose not in (0, chosen.strength) for dose in doses)
    runs = 1 + len(picked) * (1 + draws + between)
    counter = _Counter(runs)
    before = yield from counter.told("unchanged", evaluate(network))
    found = []
    for number, (selection, rows) in enumerate(zip(selections, picked, strict=True)):
        job = _Job(network, report, chosen, evaluate, counter, (seed, number))
        found.append((yield from job.run(selection.name, rows, before, draws, doses)))
    return tuple(found)


class _Counter:
    """Turns the progress of single scorings into that of the whole."""

    def __init__(self, runs: int) -> None:
        self.runs, self.done = runs, 0

    def told(self, name: str, work: Generator[Progress, None, Scores]) -> Generator[Progress, None, Scores]:
        """Run one scoring."""
        while True:
            try:
                step = next(work)
            except StopIteration as end:
                self.done += 1
                scores: Scores = end.value
                return scores
            text = f"{name}: run {self.done + 1} of {self.runs}, {step.message}"
            yield Progress(phase="knock-out", fraction=self.done / self.runs, message=text)


@dataclass(eq=False)
class _Job:
    network: nn.Module
    report: KernelReport
    operation: Operation
    evaluate: Evaluate
    counter: _Counter
    seed: tuple[int, int]

    def run(
        self, name: str, rows: NDArray[np.intp], before: Scores, draws: int, doses: Sequence[float]
    ) -> Generator[Progress, None, Effect]:
        after = yield from self.scored(name, rows, self.operation, 0)
        curve = []
        for dose in doses:
            weaker = self.operation.model_copy(update={"strength": dose})
            scores = before if dose == 0 else after
            if dose not in (0, self.operation.strength):
                scores = yield from self.scored(f"{name} at {dose:g}", rows, weaker, 0)
            curve.append(_dose(dose, before, scores))
        others: list[Scores] = []
        for draw in range(draws):
            random = generator(*self.seed, "control", draw)
            drawn = controls(self.report, rows, random)
            others.append((yield from self.scored(f"control {draw + 1}", drawn, self.operation, draw + 1)))
        return self.effect(name, rows, before, after, others, tuple(curve))

    def scored(
        self, name: str, rows: NDArray[np.intp], operation: Operation, draw: int
    ) -> Generator[Progress, None, Scores]:
        random = generator(*self.seed, "operation", draw)
        changes: list[tuple[Layer, NDArray[np.intp], NDArray[Any]]] = []
        for each in self.report.layers:
            mine = rows[(rows >= each.rows.start) & (rows < each.rows.stop)] - each.first_row
            if mine.size:
                flat = each.layer.flat[mine]
                changes.append((each.layer, mine, applied(flat, each.layer.size, operation, random)))
        with modified(self.network, changes):
            return (yield from self.counter.told(name, self.evaluate(self.network)))

    def effect(
        self,
        name: str,
        rows: NDArray[np.intp],
        before: Scores,
        after: Scores,
        others: Sequence[Scores],
        curve: tuple[Dose, ...],
    ) -> Effect:
        norm = self.report.table.numbers("norm").astype(np.float64)
        return Effect(
            **paired(before, after, others),
            selection=name,
            operation=self.operation.name,
            kernels=len(rows),
            layers=sum(bool(((rows >= e.rows.start) & (rows < e.rows.stop)).any()) for e in self.report.layers),
            energy=float((norm[rows] ** 2).sum() / (norm**2).sum()),
            doses=curve,
            distance=_distance(before, after, others),
            cases=_cases(before, after),
        )


def paired(before: Scores, after: Scores, others: Sequence[Scores], *, larger_is_better: bool = True) -> dict[str, Any]:
    """The fields of `Paired`.

    Parameters
    ----------
    before, after : mapping of str to float
        Of each patient; NaN is left out.
    others : sequence of mapping
        After each random change.
    larger_is_better : bool
        Which direction is harm.
    """
    patients = list(before)
    change = _changes(before, after)
    random = np.array([_changes(before, scores) for scores in others])
    # a patient whom no control could measure has nothing to be compared with
    excess = change - np.array([_mean(column) for column in random.T])
    means = np.array([_mean(row) for row in random])
    mean, worse = _mean(change), -1.0 if larger_is_better else 1.0
    low, high = bootstrap(change, patients)
    excess_low, excess_high = bootstrap(excess, patients)
    return {
        "before": dict(before),
        "after": dict(after),
        "change": mean,
        "low": low,
        "high": high,
        "controls": tuple(means.tolist()),
        "excess": _mean(excess),
        "excess_low": excess_low,
        "excess_high": excess_high,
        # where a control left nothing to measure it harmed as much as can be
        "p": _rank((worse * means >= worse * mean) | np.isnan(means), mean),
        "p_spared": _rank(worse * means <= worse * mean, mean),
    }


def _rank(controls: NDArray[np.bool_], mean: float) -> float:
    return float("nan") if np.isnan(mean) else float((1 + np.count_nonzero(controls)) / (1 + len(controls)))


def _distance(before: Scores, after: Scores, others: Sequence[Scores]) -> DistanceEffect | None:
    if not isinstance(before, PatientScores) or not isinstance(after, PatientScores) or not before.distance:
        return None
    apart = [scores.distance for scores in others if isinstance(scores, PatientScores)]
    return DistanceEffect(
        **paired(before.distance, after.distance, apart, larger_is_better=False),
        unit=before.unit,
        lost_before=sum(case.lost for case in before.cases),
        lost_after=sum(case.lost for case in after.cases),
    )


def _cases(before: Scores, after: Scores) -> tuple[CaseChange, ...]:
    if not isinstance(before, PatientScores) or not isinstance(after, PatientScores):
        return ()
    return tuple(
        CaseChange(old.id, old.patient, old.score, new.score, old.distance, new.distance)
        for old, new in zip(before.cases, after.cases, strict=True)
    )


def _dose(strength: float, before: Scores, after: Scores) -> Dose:
    change = _changes(before, after)
    low, high = bootstrap(change, list(before))
    apart = None
    if isinstance(before, PatientScores) and isinstance(after, PatientScores) and before.distance:
        apart = _mean(_changes(before.distance, after.distance))
    return Dose(float(strength), _mean(change), low, high, apart)


def _changes(before: Scores, after: Scores) -> NDArray[np.float64]:
    return np.array([after[patient] - before[patient] for patient in before], np.float64)


def _mean(values: NDArray[np.float64]) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else float("nan")
