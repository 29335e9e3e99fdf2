"""Cross-validation: a training per fold, each patient left out once, and a table of how the unseen ones came out.

Every fold is an ordinary training in a folder of its own. A fold that is finished is not trained again, one that was
stopped goes on. Files: ``folds.json``, ``per_case.csv``, ``per_fold.csv``, ``table.md``, ``table.json``.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Generator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from src_models.errors import FileError, InputError, LsnetError
from src_models.metrics.table import bootstrap
from src_models.progress import Progress
from src_models.training.case import DataSet
from src_models.training.first_stage import open_first_stage
from src_models.training.loop import RunSettings, TrainingProgress, train
from src_models.training.outcome import SCORES, score_table
from src_models.training.plan import TrainingPlan
from src_models.training.plan_file import plan_hash
from src_models.training.run_folder import WEIGHTS, write_text
from src_models.training.validation import CaseScore, by_patient
from src_models.weights.pairs import read_card

ALL = "all"


@dataclass(frozen=True)
class FoldRow:
    """One class in one fold, or over several.

    Attributes
    ----------
    fold : str
        Its number, ``"all"``, or ``"all but N"`` without the worst.
    name : str
        The class; ``"mean"`` for the mean over classes of each patient.
    dice, low, high : float
        Mean over patients, and its 95 % bootstrap interval over them; NaN with one patient.
    patients, cases : int
        How many.
    """

    fold: str
    name: str
    dice: float
    low: float
    high: float
    patients: int
    cases: int


@dataclass(frozen=True)
class CrossvalResult:
    """What a cross-validation gives.

    Attributes
    ----------
    folds : mapping of int to tuple of CaseScore
        Left-out cases of each fold.
    rows : tuple of FoldRow
        The table.
    out : Path
        Where it lies.
    first_stage : Path or None
        Of a cascade: where the cross-validation of its first stage lies.
    """

    folds: Mapping[int, tuple[CaseScore, ...]]
    rows: tuple[FoldRow, ...]
    out: Path
    first_stage: Path | None = None


def crossval(
    plan: TrainingPlan,
    data: DataSet,
    out: Path,
    *,
    configuration: str | None = None,
    folds: Sequence[int] | None = None,
    seed: int = 0,
    settings: RunSettings | None = None,
) -> Generator[Progress, None, CrossvalResult]:
    """Train every fold and put their left-out patients in one table; of a cascade first the folds of its first stage.

    Parameters
    ----------
    plan : TrainingPlan
        With folds.
    data : DataSet
        All cases.
    out : Path
        A folder; fold N is trained in its ``fold_N``.
    configuration : str, optional
        By default the first of the plan.
    folds : sequence of int, optional
        Which; by default all.
    seed, settings
        As in `train`; a fold that is there goes on whether or not `settings` say so.

    Yields
    ------
    Progress
        Of the trainings, with the fold in the message. ``close`` as in `train`.

    Raises
    ------
    InputError, FileError, SaveError, DeviceError
        One sentence each, such as where there are no folds.
    """
    settings = replace(settings or RunSettings(), resume=True)
    _check_folds(plan, data, folds)
    settings = yield from with_first_stage(plan, data, out, configuration=configuration, seed=seed, settings=settings)
    chosen = tuple(range(len(plan.folds))) if folds is None else tuple(folds)
    found: dict[int, tuple[CaseScore, ...]] = {}
    for place, fold in enumerate(chosen):
        folder = out / f"fold_{fold}"
        scores = finished_scores(plan, folder, fold, seed, configuration)
        if scores is not None and settings.first_stage is not None:
            _check_first_stage(plan, folder, data, settings.first_stage, configuration)
        if scores is None:
            work = train(plan, data, folder, configuration=configuration, fold=fold, seed=seed, settings=settings)
            scores = (yield from _told(work, fold, place, len(chosen))).cases
        found[fold] = scores
        yield Progress(phase="fold", fraction=(place + 1) / len(chosen), message=f"Fold {fold} is finished")
    rows = table_rows(found)
    write_tables(out, plan, found, rows)
    return CrossvalResult(found, rows, out, settings.first_stage)


def _check_folds(plan: TrainingPlan, data: DataSet, folds: Sequence[int] | None) -> None:
    if not plan.folds:
        count = len(set(data.groups.values()))
        raise InputError(
            "crossval-folds",
            "There are no folds",
            "1 patient is too few" if count == 1 else f"{count} patients are too few",
            "Use five patients or more, or train with --fold all.",
        )
    wrong = [k for k in folds or () if not 0 <= k < len(plan.folds)]
    if wrong:
        raise InputError("crossval-fold", f"The plan has no fold {wrong[0]}", f"it has {len(plan.folds)}", "")


def with_first_stage(
    plan: TrainingPlan,
    data: DataSet,
    out: Path,
    *,
    configuration: str | None = None,
    seed: int = 0,
    settings: RunSettings | None = None,
) -> Generator[Progress, None, RunSettings]:
    """Find the first stage that a configuration builds on, or train it; without one nothing happens.

    Parameters
    ----------
    plan, data, configuration, seed
        As in `crossval`.
    out : Path
        Of the second stage: all folds of the first one lie in a folder of its name there.
    settings : RunSettings, optional
        A `first_stage` that it names is taken as it is.

    Returns
    -------
    RunSettings
        With the folder of the first stage.

    Raises
    ------
    InputError, FileError, SaveError, DeviceError
        As in `crossval`.
    """
    settings = settings or RunSettings()
    chosen = plan.configuration(configuration)
    if chosen.previous is None or settings.first_stage is not None:
        return settings
    folder = out / chosen.previous
    try:
        open_first_stage(plan, chosen, folder, data.groups)
    except InputError:
        note = f"{chosen.name} builds on {chosen.previous}: all its folds are trained first, in {folder.name}."
        yield Progress(phase="fold", message=note, notes=(note,))
        # weights to begin with are those of the second stage
        first = replace(settings, init_from=None, resume=True)
        yield from crossval(plan, data, folder, configuration=chosen.previous, seed=seed, settings=first)
    return replace(settings, first_stage=folder)


def _told(work: Generator[Progress, None, Any], fold: int, place: int, count: int) -> Generator[Progress, None, Any]:
    try:
        while True:
            try:
                progress = next(work)
            except StopIteration as end:
                return end.value
            fraction = (place + (progress.fraction or 0.0)) / count if isinstance(progress, TrainingProgress) else None
            yield replace(progress, fraction=fraction, message=f"Fold {fold}: {progress.message}")
    finally:
        work.close()


def finished_scores(
    plan: TrainingPlan, folder: Path, fold: int, seed: int, configuration: str | None = None
) -> tuple[CaseScore, ...] | None:
    """Scores of a fold that is finished; None where it is not there or not done.

    Raises
    ------
    FileError
        Where the folder holds a fold of another plan, configuration or seed.
    """
    if not (folder / SCORES).exists():
        return None
    try:
        card = read_card(folder / WEIGHTS)
    except LsnetError:
        return None
    if (card.plan_hash, card.seed, card.fold) != (plan_hash(plan), seed, str(fold)):
        raise FileError(
            "crossval-other", f"{folder.name} holds a fold of another plan or seed", "", "Choose another --out."
        )
    chosen = plan.configuration(configuration)
    other = (card.patch, card.preprocessing) != (chosen.patch, chosen.preprocessing)
    if other or bool(card.first_stage) != (chosen.previous is not None):
        raise FileError(
            "crossval-configuration",
            f"{folder.name} holds a fold of another configuration than {chosen.name}",
            "",
            "Choose another --out.",
        )
    return read_scores(folder / SCORES)


def _check_first_stage(
    plan: TrainingPlan, folder: Path, data: DataSet, first_stage: Path, configuration: str | None
) -> None:
    """A finished fold of a cascade must have been trained on the first stage that the others are trained on."""
    chosen = plan.configuration(configuration)
    if chosen.previous is None:
        return
    there = open_first_stage(plan, chosen, first_stage, data.groups)
    if [one.sha256 for one in read_card(folder / WEIGHTS).first_stage] != [one.sha256 for one in there.folds]:
        raise FileError(
            "crossval-first-stage",
            f"{folder.name} was trained on another first stage than the one in {first_stage.name}",
            "",
            "Choose another --out, or give the first stage of that training by --first-stage.",
        )


def read_scores(path: Path) -> tuple[CaseScore, ...]:
    """The scores that `outcome.score_table` wrote.

    Raises
    ------
    FileError
        Where the file cannot be read.
    """
    cases: dict[str, CaseScore] = {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                one = cases.setdefault(row["case"], CaseScore(row["case"], row["patient"], {}, {}, {}))
                counts = ((one.right, row["both"]), (one.predicted, row["predicted"]), (one.true, row["true"]))
                for place, text in counts:
                    place[row["class"]] = int(text)  # type: ignore[index]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FileError("scores-file", f"{path.name} cannot be read as scores", "", "Train the fold again.") from error
    return tuple(cases.values())


def table_rows(found: Mapping[int, Sequence[CaseScore]]) -> tuple[FoldRow, ...]:
    """Rows for every fold and class, for all folds together, and for all without the worst."""
    rows: list[FoldRow] = []
    for fold, scores in sorted(found.items()):
        rows += _rows(str(fold), scores)
    if len(found) > 1:
        rows += _rows(ALL, [score for scores in found.values() for score in scores])
        means = {row.fold: row.dice for row in rows if row.name == "mean" and row.fold != ALL}
        worst = min(means, key=lambda fold: means[fold])
        rest = [score for fold, scores in found.items() if str(fold) != worst for score in scores]
        rows += _rows(f"all but {worst}", rest)
    return tuple(rows)


def _rows(fold: str, scores: Sequence[CaseScore]) -> list[FoldRow]:
    patients = by_patient(scores)
    names = [patient.group for patient in patients]
    values = {name: np.array([patient.dice[name] for patient in patients]) for name in patients[0].right}
    values["mean"] = np.mean(list(values.values()), 0)
    rows = []
    for name, dice in values.items():
        low, high = bootstrap(dice, names)
        rows.append(FoldRow(fold, name, float(dice.mean()), low, high, len(patients), len(scores)))
    return rows


def write_tables(
    out: Path, plan: TrainingPlan, found: Mapping[int, Sequence[CaseScore]], rows: Sequence[FoldRow]
) -> None:
    """Write all files of a cross-validation; see the module.

    Raises
    ------
    SaveError
        Where one cannot be written.
    """
    write_text(out / "folds.json", json.dumps([dict(fold) for fold in plan.folds], indent=1) + "\n")
    parts = [(fold, score_table(scores)) for fold, scores in sorted(found.items())]
    head = parts[0][1].partition("\n")[0]
    lines = [f"{fold},{line}" for fold, text in parts for line in text.splitlines()[1:]]
    write_text(out / "per_case.csv", "\n".join([f"fold,{head}", *lines]) + "\n")
    text = io.StringIO()
    table = csv.DictWriter(text, list(asdict(rows[0])), lineterminator="\n")
    table.writeheader()
    table.writerows(asdict(row) for row in rows)
    write_text(out / "per_fold.csv", text.getvalue())
    plain = [{k: None if isinstance(v, float) and math.isnan(v) else v for k, v in asdict(row).items()} for row in rows]
    write_text(out / "table.json", json.dumps({"plan": plan_hash(plan), "rows": plain}, indent=1) + "\n")
    write_text(out / "table.md", as_markdown(rows))


def as_markdown(rows: Sequence[FoldRow]) -> str:
    """The table as Markdown: one line a fold, one column a class."""
    names = list(dict.fromkeys(row.name for row in rows))
    if len(names) == 2:
        # with one class the mean over classes says the same again
        names = names[:1]
    lines = [
        "Dice of unseen patients, all voxels of a patient together: mean [95 % interval, bootstrap over patients].",
        "",
        "| fold | patients | " + " | ".join(names) + " |",
        "| --- | --- |" + " --- |" * len(names),
    ]
    for fold in dict.fromkeys(row.fold for row in rows):
        mine = {row.name: row for row in rows if row.fold == fold}
        cells = [_cell(mine[name]) for name in names]
        lines.append(f"| {fold} | {mine[names[0]].patients} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(row: FoldRow) -> str:
    interval = "" if math.isnan(row.low) else f" [{row.low:.4f}, {row.high:.4f}]"
    return f"{row.dice:.4f}{interval}"
