"""What a class of kernels does for the result: it is taken away or replaced, and so are as many others at random.

The change of the score is paired by patient, with a bootstrap interval over patients. Without controls no effect is
told: any part of a network is missed when it is gone.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import asdict, dataclass
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from src_models.errors import InputError
from src_models.kernels.changes import Operation, applied, modified
from src_models.kernels.draws import generator
from src_models.kernels.result import KernelReport, Layer
from src_models.kernels.selection import Selection, controls, select
from src_models.metrics.table import bootstrap
from src_models.progress import Progress

Scores = Mapping[str, float]
Evaluate = Callable[[Any], Generator[Progress, None, Scores]]
"""From a network to a generator that returns the score of each patient; larger is better."""
DOSES = (0.25, 0.5, 0.75, 1.0)
QUICK_CONTROLS = 20


@dataclass(frozen=True)
class Effect:
    """What one change of the kernels did.

    Attributes
    ----------
    selection, operation : str
        What was changed, and how.
    kernels, layers : int
        How many, in how many layers.
    energy : float
        Share of the squared weights of the analysed kernels that lies in the selection.
    before, after : mapping of str to float
        Score of each patient.
    change, low, high : float
        Mean of after - before over patients, with its 95 % interval.
    controls : tuple of float
        Mean change of each random selection of as many kernels.
    excess, excess_low, excess_high : float
        Mean over patients of the change minus the mean change of the controls, paired, with its 95 % interval:
        negative where these kernels matter more than others do.
    p : float
        (1 + controls that are at least as harmful) / (1 + controls). The interval of the excess is over patients alone;
        how much random selections differ among themselves shows here.
    p_spared : float
        (1 + controls that are at most as harmful) / (1 + controls): small where these kernels matter less than others.
    doses : tuple of (float, float)
        Strength and mean change.
    """

    selection: str
    operation: str
    kernels: int
    layers: int
    energy: float
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
    doses: tuple[tuple[float, float], ...] = ()

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
    runs = 1 + sum(1 + draws + len(doses) for _ in picked)
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
            scores = after if dose == self.operation.strength else (yield from self.scored(name, rows, weaker, 0))
            curve.append((float(dose), _mean(scores, before)))
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
        curve: tuple[tuple[float, float], ...],
    ) -> Effect:
        patients = list(before)
        change = np.array([after[patient] - before[patient] for patient in patients])
        random = np.array([[scores[patient] - before[patient] for patient in patients] for scores in others])
        excess = change - random.mean(axis=0)
        low, high = bootstrap(change, patients)
        excess_low, excess_high = bootstrap(excess, patients)
        means = np.nanmean(random, axis=1)
        mean = float(np.nanmean(change))
        norm = self.report.table.numbers("norm").astype(np.float64)
        return Effect(
            selection=name,
            operation=self.operation.name,
            kernels=len(rows),
            layers=sum(bool(((rows >= e.rows.start) & (rows < e.rows.stop)).any()) for e in self.report.layers),
            energy=float((norm[rows] ** 2).sum() / (norm**2).sum()),
            before=dict(before),
            after=dict(after),
            change=mean,
            low=low,
            high=high,
            controls=tuple(means.tolist()),
            excess=float(np.nanmean(excess)),
            excess_low=excess_low,
            excess_high=excess_high,
            p=float((1 + np.count_nonzero(means <= mean)) / (1 + len(means))),
            p_spared=float((1 + np.count_nonzero(means >= mean)) / (1 + len(means))),
            doses=curve,
        )


def _mean(after: Scores, before: Scores) -> float:
    return float(np.nanmean([after[patient] - before[patient] for patient in before]))


def effects_csv(effects: Sequence[Effect]) -> bytes:
    """One row a selection."""
    target = io.StringIO()
    writer = csv.writer(target, lineterminator="\n")
    names = ("selection", "operation", "kernels", "layers", "energy", "change", "low", "high")
    more = ("excess", "excess_low", "excess_high", "p", "p_spared")
    writer.writerow((*names, "control_mean", "control_low", "control_high", *more, "per_kernel", "patients"))
    for one in effects:
        told = asdict(one)
        around = (float(np.mean(one.controls)), *np.percentile(one.controls, (2.5, 97.5)).tolist())
        row = [
            *(told[name] for name in names),
            *around,
            *(told[name] for name in more),
            one.per_kernel,
            len(one.before),
        ]
        writer.writerow([f"{value:.6g}" if isinstance(value, float) else value for value in row])
    return target.getvalue().encode()


def effects_section(effects: Sequence[Effect], metric: str) -> str:
    """A section of the page: effect against control."""
    head = (
        "<tr><th>changed</th><th>kernels</th><th>share of energy</th><th>change (95 %)</th><th>random kernels</th>"
        "<th>beyond random (95 %)</th><th>p: more, less than random</th></tr>"
    )
    rows = "".join(
        f"<tr><td>{escape(one.selection)}, {escape(one.operation)}</td><td>{one.kernels}</td><td>{one.energy:.3f}</td>"
        f"<td>{one.change:+.4f} ({one.low:+.4f} to {one.high:+.4f})</td><td>{np.mean(one.controls):+.4f}</td>"
        f"<td>{one.excess:+.4f} ({one.excess_low:+.4f} to {one.excess_high:+.4f})</td>"
        f"<td>{one.p:.3f}, {one.p_spared:.3f}</td></tr>"
        for one in effects
    )
    text = (
        f"Each row is the mean change of {escape(metric)} over patients when these kernels are changed, beside the "
        "change when as many of the same layers and norms, drawn at random, are changed in the same way. Only what "
        "goes beyond random kernels says that these kernels matter more than others."
    )
    return f"<h2>What kernels do for the result</h2><p>{text}</p><table>{head}{rows}</table>"
