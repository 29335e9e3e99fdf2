"""What the kernels of the shipped liver UNet do for its result: each label taken away, beside as many at random.

The patients are those that the network has not seen (fold 0). The slices are not shipped; their folder is named.

    python benchmarks/kernel_knockout.py [--data FOLDER] [--controls 20] [--most 1] [--device cpu]

Each scored network is kept in ``--work``, so that a stopped run goes on. Writes ``docs/kernel_knockout.md``.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

from src_models.kernels import KernelAnalysisParameters, KernelReport, analyse  # noqa: E402
from src_models.kernels.changes import Operation  # noqa: E402
from src_models.kernels.evaluation import CaseScore, Evaluation, EvaluationCase, PatientScores  # noqa: E402
from src_models.kernels.knockout import DOSES, Effect, knock_out  # noqa: E402
from src_models.kernels.selection import Selection  # noqa: E402
from src_models.kernels.sources import hash_of  # noqa: E402
from src_models.progress import Progress, finish  # noqa: E402
from src_models.training.cases import open_data_set  # noqa: E402
from src_models.training.folds import make_folds  # noqa: E402
from src_models.weights.store import load  # noqa: E402

PAGE = ROOT / "docs" / "kernel_knockout.md"
MODEL = "unet-liver-2d"


class Kept:
    """An evaluation whose scores are kept by the content of the network."""

    def __init__(self, evaluation: Evaluation, path: Path) -> None:
        self._evaluation, self._path = evaluation, path
        self._scores: dict[str, PatientScores] = {}
        if path.is_file():
            for line in path.read_text(encoding="utf-8").splitlines():
                told = json.loads(line)
                cases = [CaseScore(*case) for case in told["cases"]]
                self._scores[told["network"]] = PatientScores(cases, told["scores"], told["distance"], told["unit"])

    def run(self, network: Any) -> Generator[Progress, None, PatientScores]:
        """Score and distance of the surfaces of each patient."""
        key = hash_of(network.state_dict())
        if key not in self._scores:
            found = yield from self._evaluation.run(network)
            self._scores[key] = found
            cases = [[case.id, case.patient, case.score, case.distance, case.lost] for case in found.cases]
            told = {"network": key, "scores": found, "distance": found.distance, "unit": found.unit, "cases": cases}
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(told) + "\n")
        return self._scores[key]


def unseen(folder: Path, most: int) -> list[EvaluationCase]:
    """Slices of the left-out patients of fold 0, evenly chosen in each."""
    data = open_data_set(folder, groups=r"^(p\d+)_", label_names={1: "liver"}, channels=["CT slice"])
    validation = make_folds(data.groups)[0].validation
    taken: list[EvaluationCase] = []
    by_patient: dict[str, list[Any]] = {}
    for case in data.cases:
        if case.id in validation:
            by_patient.setdefault(case.group, []).append(case)
    for patient, cases in by_patient.items():
        count = min(most, len(cases))
        for case in [cases[(2 * k + 1) * len(cases) // (2 * count)] for k in range(count)]:
            volume, labels = case.read()
            taken.append(EvaluationCase(case.id, patient, volume.array, (1.0, 1.0), labels.labels, "px"))
    return taken


def table(effects: Sequence[Effect], report: KernelReport) -> list[str]:
    """One row a selection."""
    lines = [
        "| taken away | kernels | times chance | change of Dice | at random | beyond random | p more | p less |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for one in effects:
        name = one.selection.removeprefix("label=")
        mine = [share for each in report.layers for share in each.labels if share.name == name]
        expected = sum(share.null_share * share.total for share in mine)
        times = f"{sum(share.count for share in mine) / expected:.2f}" if expected else "-"
        low, high = np.percentile(one.controls, (2.5, 97.5))
        lines.append(
            f"| {name} | {one.kernels} | {times} | {one.change:+.4f} [{one.low:+.4f}, {one.high:+.4f}] | "
            f"{np.mean(one.controls):+.4f} ({low:+.4f} to {high:+.4f}) | "
            f"{one.excess:+.4f} [{one.excess_low:+.4f}, {one.excess_high:+.4f}] | "
            f"{one.p:.3f} | {one.p_spared:.3f} |"
        )
    return lines


def distances(effects: Sequence[Effect]) -> list[str]:
    """The distance of the surfaces, one row a selection."""
    lines = [
        "| taken away | before | after | change | at random | beyond random | p more | lost before, after |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for one in effects:
        far = one.distance
        if far is not None:
            before, after = (float(np.nanmean(list(part.values()))) for part in (far.before, far.after))
            lines.append(
                f"| {one.selection.removeprefix('label=')} | {before:.2f} | {after:.2f} | "
                f"{far.change:+.2f} [{far.low:+.2f}, {far.high:+.2f}] | {np.nanmean(far.controls):+.2f} | "
                f"{far.excess:+.2f} [{far.excess_low:+.2f}, {far.excess_high:+.2f}] | {far.p:.3f} | "
                f"{far.lost_before}, {far.lost_after} |"
            )
    return lines


def doses(effects: Sequence[Effect]) -> list[str]:
    """The change of Dice at rising strength, one row a selection."""
    strengths = [dose.strength for dose in effects[0].doses]
    lines = ["| weakened | " + " | ".join(f"{s:g}" for s in strengths) + " |", "| --- |" + " ---: |" * len(strengths)]
    for one in effects:
        values = " | ".join(f"{dose.change:+.4f}" for dose in one.doses)
        lines.append(f"| {one.selection.removeprefix('label=')} | {values} |")
    return lines


def main() -> None:
    """Read the arguments, run, write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data" / "msd_liver_slices")
    parser.add_argument("--controls", type=int, default=20)
    parser.add_argument("--most", type=int, default=1, help="Slices of a patient.")
    parser.add_argument("--step", type=float, default=1.0, help="Between windows; 1 lays them side by side.")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--work", type=Path, default=Path("kernel_knockout.jsonl"), help="Where scores are kept.")
    chosen = parser.parse_args()
    if not chosen.data.is_dir():
        print(f"{chosen.data} is not there; name the folder of the slices with --data.")
        return
    model = load(MODEL)
    report = finish(analyse(model, KernelAnalysisParameters(preset="paper-6", null="gaussian", cluster_draws=0)))
    cases = unseen(chosen.data, chosen.most)
    patients = len({case.patient for case in cases})
    kept = Kept(Evaluation(model.card, cases, device=chosen.device, step=chosen.step, distances=True), chosen.work)
    counts = report.table["label"].counts()  # type: ignore[union-attr]
    selections = [Selection(label=(name,)) for name, count in counts.items() if count and name != "dead"]
    work = knock_out(model.network, report, selections, kept.run, Operation(), draws=chosen.controls, doses=DOSES)
    effects = list(finish(work, lambda step: print(step.message, flush=True)))
    before = float(np.mean(list(effects[0].before.values())))
    lines = [
        "# What the kernels do for the result",
        "",
        "Written by `python benchmarks/kernel_knockout.py`; do not edit.",
        "",
        f"Kernels of `{MODEL}`, {len(report.table)} in all, labelled by `paper-6` at 0.10. Each row takes all kernels",
        "of one label away, and, beside it, as many kernels drawn at random: equal numbers in each layer, matched by",
        f"norm. Dice of {patients} patients that the network has not seen, {len(cases)} slices; with all kernels it is",
        f"{before:.4f}. In square brackets: 95 % interval over patients, paired. In round ones: the middle 95 % of",
        f"{chosen.controls} random selections. `beyond random` is the change minus that of random kernels: negative",
        "where a label matters more than its number. `times chance`: how often the label occurs, over how often it",
        "does among Gaussian kernels. `p more`: share of random selections that do at least as much harm, the label's",
        "own counted in; `p less`: at most as much. The intervals are over patients alone: how much random selections",
        "differ among themselves shows in the round brackets and in p.",
        "",
        *table(effects, report),
        "",
        "## Distance of the surfaces",
        "",
        "Mean distance in pixels (the slices do not tell their size), over patients that have one before and after;",
        "larger is worse. `lost`: slices on which the liver is in the prediction or in the reference alone. They have",
        "no distance, so where many are lost what is left flatters the change.",
        "",
        *distances(effects),
        "",
        "## Dose",
        "",
        "Change of Dice when the kernels of a label are weakened by a factor of 1 - t.",
        "",
        *doses(effects),
    ]
    PAGE.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
