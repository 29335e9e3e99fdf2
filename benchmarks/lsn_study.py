"""The level set equation, the level set network and the UNet on images of patients that were left out.

    python benchmarks/lsn_study.py liver FOLDER --out FOLDER [--folds 0,1,2,3,4] [--methods lse,...] [--unet FOLDER]
    python benchmarks/lsn_study.py hippocampus FOLDER --out FOLDER [--folds 0,1,2,3,4] [--methods lse,...]

FOLDER of the data is ``msd_liver_slices`` (2D) or ``msd_hippocampus`` (3D); ``--unet`` that of a finished
cross-validation (``python benchmarks/shipped_models.py liver``), whose scores are read. Patients are cut into five
folds, the same for all methods. What is finished in the output folder is not computed again; a training that was
stopped goes on. Writes ``docs/lsn_liver.md`` or ``docs/lsn_hippocampus.md`` from all that is there.

The click is the innermost place of the reference: the same for the equation and the network. It is taken from what is
to be found, as a person would set it, so a row with a click stands beside others with a click.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from textwrap import fill

os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import torch  # noqa: E402

from benchmarks.lsn_plans import FIT_PATIENTS, STUDIES, Study  # noqa: E402
from benchmarks.shipped_models import INIT_FROM, SEED  # noqa: E402
from src_models.levelset import LevelSetParameters, evolve  # noqa: E402
from src_models.levelset.fitting import AcceptedSlice, fit  # noqa: E402
from src_models.levelset.initial import Seeds, Sphere  # noqa: E402
from src_models.metrics.table import bootstrap  # noqa: E402
from src_models.networks.network import count_parameters  # noqa: E402
from src_models.networks.zoo import from_config  # noqa: E402
from src_models.progress import finish  # noqa: E402
from src_models.training.case import Case, DataSet  # noqa: E402
from src_models.training.crossval import crossval, read_scores  # noqa: E402
from src_models.training.label_targets import Targets, click_of  # noqa: E402
from src_models.training.loop import RunSettings  # noqa: E402
from src_models.training.outcome import SCORES, score_table  # noqa: E402
from src_models.training.plan import TrainingPlan  # noqa: E402
from src_models.training.prepared import prepare  # noqa: E402
from src_models.training.run_folder import write_text  # noqa: E402
from src_models.training.trainer import fresh_network  # noqa: E402
from src_models.training.validation import CaseScore, Validation, by_patient  # noqa: E402

Scores = dict[str, dict[int, tuple[CaseScore, ...]]]

TITLES = {
    "lse": "equation, click",
    "lse-fitted": "equation, click, fitted on the training patients",
    "untrained-lsn-click": "LSN, click, before its training",
    "lsn-click": "LSN, click",
    "lsn-unet-click": "LSN, click, a small UNet as g",
    "lsn-unet-click-20": "LSN, click, UNet as g, trained twice as long",
    "lsn": "LSN, no click, begun with that with a click",
    "unet": "UNet, no click",
}
PAIRS = (
    ("lsn-click", "untrained-lsn-click"),
    ("lsn-click", "lse"),
    ("lsn-click", "lse-fitted"),
    ("lsn-unet-click", "untrained-lsn-click"),
    ("lsn-unet-click", "lse"),
    ("lsn-unet-click", "lse-fitted"),
    ("lsn-unet-click", "lsn-click"),
    ("lsn-unet-click-20", "lse-fitted"),
    ("lsn-unet-click-20", "lsn-unet-click"),
    ("lsn", "lse"),
    ("lsn", "lse-fitted"),
    ("unet", "lsn"),
    ("unet", "lsn-unet-click-20"),
)


def fold_cases(plan: TrainingPlan, data: DataSet, fold: int, side: str) -> list[Case]:
    """Cases of one side of a fold: ``"train"`` or ``"val"``."""
    return [data.case(name) for name in plan.folds[fold][side]]


def solved(study: Study, case: Case, parameters: LevelSetParameters) -> CaseScore:
    """The solver on one image, begun at the click."""
    image, true = case.volume().array[0], case.segmentation().labels > 0
    mask = np.zeros_like(true)
    if true.any():
        mask = finish(evolve(image.astype(np.float32), click(study, true), study.click.spacing, parameters)).mask
    counts = [{study.structure: int(part.sum())} for part in (mask & true, mask, true)]
    return CaseScore(case.id, case.group, *counts)


def click(study: Study, true: np.ndarray) -> Seeds:
    """The ball about the innermost place."""
    (place,) = study.click.places(true, study.click.spacing)
    return Seeds(spheres=(Sphere(centre=place, radius=study.click.radius),))


def fitted(study: Study, plan: TrainingPlan, data: DataSet, fold: int, out: Path) -> LevelSetParameters:
    """Parameters learned from the largest image of some training patients; kept in a file."""
    kept = out / f"fitted_{fold}.json"
    if kept.exists():
        return LevelSetParameters.model_validate_json(kept.read_text(encoding="utf-8"))
    largest: dict[str, tuple[int, Case]] = {}
    for case in fold_cases(plan, data, fold, "train"):
        size = int((case.segmentation().labels > 0).sum())
        largest[case.group] = max(largest.get(case.group, (0, case)), (size, case), key=lambda one: one[0])
    patients = sorted(largest)
    chosen = [patients[k] for k in np.linspace(0, len(patients) - 1, min(FIT_PATIENTS, len(patients))).astype(int)]
    accepted = []
    for patient in chosen:
        case = largest[patient][1]
        label = case.segmentation().labels > 0
        image = case.volume().array[0].astype(np.float32)
        accepted.append(AcceptedSlice(image, click(study, label), label, study.click.spacing, name=case.id))
    found = finish(fit(accepted, study.fit_start, study.fit)).parameters
    write_text(kept, found.model_dump_json(indent=1) + "\n")
    return found


def by_equation(
    study: Study, plan: TrainingPlan, data: DataSet, fold: int, out: Path, *, learn: bool
) -> tuple[CaseScore, ...]:
    """All left-out images of a fold by the solver."""
    parameters = fitted(study, plan, data, fold, out) if learn else study.lse
    return tuple(solved(study, case, parameters) for case in fold_cases(plan, data, fold, "val"))


def before_training(study: Study, plan: TrainingPlan, data: DataSet, fold: int) -> tuple[CaseScore, ...]:
    """The network as it begins: the equation of the paper with finite differences, from the same click."""
    chosen = plan.configuration()
    cases = finish(
        prepare(plan, chosen, fold_cases(plan, data, fold, "train")[:1], fold_cases(plan, data, fold, "val"))
    )
    judge = Validation(
        chosen.patch,
        Targets.of(plan),
        (study.structure,),
        {case.id: case.group for case in data.cases},
        chosen.preprocessing.order_logits,
        *click_of(plan, chosen),
    )
    network = fresh_network(chosen, SEED)
    return tuple(finish(judge.run(network, cases.validation, torch.device("cpu"))))


def trained(plan: TrainingPlan, data: DataSet, fold: int, out: Path) -> tuple[CaseScore, ...]:
    """A training of one fold, or what is left of it."""
    told = time.monotonic()
    first = INIT_FROM.get(out.name)
    begun = None if first is None else out.parent / first / f"fold_{fold}" / "model.safetensors"
    settings = RunSettings(device="auto", workers=0, init_from=begun)
    work = crossval(plan, data, out, folds=(fold,), seed=SEED, settings=settings)
    while True:
        try:
            step = next(work)
        except StopIteration as end:
            scores: tuple[CaseScore, ...] = end.value.folds[fold]
            return scores
        if getattr(step, "row", None) is not None or time.monotonic() - told > 60:
            told = time.monotonic()
            print(out.name, step.message, flush=True)


def computed(study: Study, method: str, folder: Path, fold: int, out: Path, epochs: int) -> tuple[CaseScore, ...]:
    """One method on one fold; found again where it is finished."""
    variant = method.removeprefix("untrained-")
    plan, data = study.plan(folder, variant if variant in study.variants else "lsn-click", epochs)
    if method in study.variants:
        return trained(plan, data, fold, out / method)
    kept = out / method / f"fold_{fold}" / SCORES
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        if method.startswith("untrained-"):
            scores = before_training(study, plan, data, fold)
        else:
            scores = by_equation(study, plan, data, fold, out / method, learn=method == "lse-fitted")
        write_text(kept, score_table(scores))
    return read_scores(kept)


def read_finished(out: Path, unet: Path | None) -> Scores:
    """All scores that are there, by method and fold."""
    found: Scores = {}
    for method in TITLES:
        root = unet if method == "unet" else out / method
        paths = sorted(root.glob(f"fold_*/{SCORES}")) if root is not None else []
        for path in paths:
            found.setdefault(method, {})[int(path.parent.name.removeprefix("fold_"))] = read_scores(path)
    return found


def patients(scores: Mapping[int, Sequence[CaseScore]]) -> dict[str, float]:
    """Dice of every patient, all voxels of his images together."""
    return {one.group: float(np.mean(list(one.dice.values()))) for part in scores.values() for one in by_patient(part)}


def shown(values: np.ndarray, names: Sequence[str], sign: str = "") -> str:
    """Mean and its interval."""
    low, high = bootstrap(values, names)
    return f"{values.mean():{sign}.4f} [{low:{sign}.4f}, {high:{sign}.4f}]"


def methods_table(found: Scores, folds: Sequence[int]) -> Iterator[str]:
    """One row a method: its folds, all patients, the worst."""
    yield "| method | " + " | ".join(f"fold {k}" for k in folds) + " | all [95 %] | patients | below 0.7 | worst |"
    yield "| --- |" + " --- |" * (len(folds) + 4)
    for method, scores in found.items():
        means = [f"{np.mean(list(patients({k: scores[k]}).values())):.4f}" if k in scores else "" for k in folds]
        every = patients(scores)
        values = np.array(list(every.values()))
        cells = [*means, shown(values, list(every)), str(len(every)), str(int((values < 0.7).sum()))]
        yield f"| {TITLES[method]} | " + " | ".join(cells) + f" | {values.min():.3f} |"


def pairs_table(found: Scores) -> Iterator[str]:
    """Paired differences over the patients that both have."""
    yield "| difference | mean [95 %] | better in | patients |"
    yield "| --- | --- | --- | --- |"
    for one, other in PAIRS:
        if one not in found or other not in found:
            continue
        mine, theirs = patients(found[one]), patients(found[other])
        names = sorted(set(mine) & set(theirs))
        if len(names) < 2:
            continue
        gain = np.array([mine[name] - theirs[name] for name in names])
        label = f"{TITLES[one]} less {TITLES[other]}"
        yield f"| {label} | {shown(gain, names, '+')} | {int((gain > 0).sum())} | {len(names)} |"


def networks_table(study: Study, found: Scores, folder: Path, epochs: int) -> Iterator[str]:
    """What was trained."""
    yield "| network | numbers learned | options | training |"
    yield "| --- | --- | --- | --- |"
    for variant in (name for name in study.variants if name in found):
        plan, _ = study.plan(folder, variant, epochs)
        chosen, optimiser = plan.configuration(), plan.optimiser
        count = count_parameters(from_config(chosen.network))
        options = ", ".join(f"{name} {value}" for name, value in study.variants[variant].items())
        how = f"{plan.epochs} epochs of {plan.iterations} steps of {chosen.batch}, {optimiser.name} {optimiser.rate:g}"
        yield f"| {TITLES[variant]} | {count:,} | {options} | {how}, {optimiser.schedule}, {plan.loss} |"


def page(study: Study, found: Scores, folder: Path, out: Path, epochs: int) -> str:
    """The page as Markdown."""
    folds = sorted({fold for scores in found.values() for fold in scores})
    learned = [
        f"- fold {path.stem.removeprefix('fitted_')}: `{json.dumps(_changed(path))}`"
        for path in sorted((out / "lse-fitted").glob("fitted_*.json"))
    ]
    join: Callable[[Iterator[str]], str] = "\n".join
    fit = f"""
## What was fitted for the equation

Balloon, curvature, convection, contrast and the width of the range were learned from the largest image of
{FIT_PATIENTS} training patients. As parameters, fold by fold:

{chr(10).join(learned)}
"""
    about = (
        f"Written by `python benchmarks/lsn_study.py {study.name} FOLDER --out FOLDER`; do not edit. {study.about} "
        "Patients are cut into five folds, the same for all rows; every figure is of patients that were left out: Dice "
        "of all voxels of a patient, mean over patients, 95 % bootstrap interval over them. " + study.chosen
    )
    click = (
        f"A click is a ball of radius {study.click.radius:g} {study.unit} at the innermost place of the reference: it "
        "uses the reference, as a person's click uses what he sees, and the same place serves the equation and the "
        "network. The equation's region speed takes its thresholds from the grey values under the click and stops by "
        "itself."
    )
    return f"""# {study.title}

{fill(about, 120)}

{fill(click, 120)}

{join(methods_table(found, folds))}

## Paired differences

{join(pairs_table(found))}

## The networks

The level set networks run from coarse to fine; `steps` counts the steps of each level, coarsest first. Before its
training the network with kernels is the equation of the paper (edge speed, finite differences) from the same click.

{join(networks_table(study, found, folder, epochs))}
{fit if learned else ""}"""


def _changed(path: Path) -> dict[str, object]:
    parameters = LevelSetParameters.model_validate_json(path.read_text(encoding="utf-8"))
    return {
        name: round(value, 4) if isinstance(value, float) else value
        for name, value in parameters.model_dump(exclude_defaults=True).items()
    }


def main() -> None:
    """Compute what is missing, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=sorted(STUDIES))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--folds", default="0,1,2,3,4")
    parser.add_argument("--methods", default=",".join(name for name in TITLES if name != "unet"))
    parser.add_argument("--unet", type=Path, help="A finished cross-validation of the UNet.")
    parser.add_argument("--epochs", type=int, help="By default those of the study.")
    parser.add_argument("--page", type=Path)
    given = parser.parse_args()
    study: Study = STUDIES[given.study]
    epochs = given.epochs or study.epochs
    results = given.page or ROOT / "docs" / f"lsn_{study.name}.md"
    torch.set_num_threads(1)

    def write() -> None:
        scores = read_finished(given.out, given.unet)
        write_text(results, page(study, scores, given.folder, given.out, epochs))

    for fold in map(int, given.folds.split(",")):
        for method in filter(None, given.methods.split(",")):
            began = time.monotonic()
            found = patients({fold: computed(study, method, given.folder, fold, given.out, epochs)})
            mean = np.mean(list(found.values()))
            print(f"fold {fold} {method}: Dice {mean:.4f}, {time.monotonic() - began:.0f} s", flush=True)
            write()
    write()


if __name__ == "__main__":
    main()
