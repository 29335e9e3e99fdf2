"""Learned weights against the defaults on liver slices of patients that were not learned from.

Writes ``docs/level_set_fitting.md``; every figure there comes from here. Takes about ten minutes on one core.

    python benchmarks/level_set_fitting.py FOLDER

FOLDER holds ``images/pPPP_sSSS.png`` and ``labels/pPPP_sSSS.png``, several slices a patient (PPP). Without the liver
slices of the Medical Segmentation Decathlon the six of ``sample_data/liver_slices`` show how it works; the page is not
written then.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from src_models.levelset import LevelSetParameters, evolve  # noqa: E402
from src_models.levelset.fitting import AcceptedSlice, FitParameters, FitResult, fit  # noqa: E402
from src_models.levelset.initial import Seeds, Sphere  # noqa: E402
from src_models.progress import finish  # noqa: E402

RESULTS = ROOT / "docs" / "level_set_fitting.md"
SAMPLES = ROOT / "sample_data" / "liver_slices"
CLICK_RADIUS = 4.0
DEVELOPMENT_PATIENTS = 28
"""The method was developed on these, spread over the set, and learns from them; all others are for the test."""
SPACING = (1.0, 1.0)
RESAMPLINGS = 20_000
FAILED = 0.7
DEFAULTS = {
    "edge": LevelSetParameters(),
    "region, thirds of the range": LevelSetParameters(speed="region"),
    "region, click ± 2 sd": LevelSetParameters(speed="region", seed_width=2),
    "region, click ± 3 sd": LevelSetParameters(speed="region", seed_width=3),
}
START = LevelSetParameters(speed="region", seed_width=2, convection=2)
"""Convection of edge speed, so that it can be learned too."""
SETTINGS = FitParameters(iterations=1, voxels=1500, trials=48)
LEARNED, SAME = "learned", "learned range, default weights"


@dataclass(frozen=True, eq=False)
class Patient:
    """The slice of a patient that shows most liver, and one click in it."""

    name: str
    image: NDArray[Any]
    label: NDArray[np.bool_]
    click: Seeds


def read_patient(folder: Path, names: Sequence[str]) -> Patient:
    """The slice with the largest label; the click is a small disc at the label's innermost point."""
    from PIL import Image
    from scipy.ndimage import distance_transform_edt

    labels = {name: np.asarray(Image.open(folder / "labels" / name)) > 0 for name in names}
    name = max(names, key=lambda one: int(labels[one].sum()))
    image = np.asarray(Image.open(folder / "images" / name)).astype(np.float32)
    depth = distance_transform_edt(labels[name])
    centre = np.unravel_index(int(depth.argmax()), depth.shape)
    click = Seeds(spheres=(Sphere(centre=tuple(float(c) for c in centre), radius=CLICK_RADIUS),))
    return Patient(name.removesuffix(".png"), image, labels[name], click)


def patients_of(folder: Path) -> tuple[list[Patient], list[Patient]]:
    """One slice a patient: those to learn from, spread over the whole set, and all others."""
    slices: dict[str, list[str]] = {}
    for path in sorted((folder / "images").glob("p*_s*.png")):
        slices.setdefault(path.name.split("_")[0], []).append(path.name)
    names = sorted(slices)
    count = min(DEVELOPMENT_PATIENTS, len(names) // 2)
    chosen = {names[k] for k in np.linspace(0, len(names) - 1, count).astype(int)}
    learning = [read_patient(folder, slices[name]) for name in names if name in chosen]
    return learning, [read_patient(folder, slices[name]) for name in names if name not in chosen]


def dice(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """2 |A and B| / (|A| + |B|)."""
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def run(patient: Patient, parameters: LevelSetParameters) -> tuple[float, float]:
    """Dice against the label, and seconds of the processor."""
    began = time.process_time()
    result = finish(evolve(patient.image, patient.click, SPACING, parameters))
    return dice(result.mask, patient.label), time.process_time() - began


def learn(patients: Sequence[Patient]) -> tuple[FitResult, float]:
    """What is learned from some patients, and seconds of the processor."""
    began = time.process_time()
    slices = [AcceptedSlice(p.image, p.click, p.label, SPACING, name=p.name) for p in patients]
    return finish(fit(slices, START, SETTINGS)), time.process_time() - began


def interval(differences: NDArray[np.float64]) -> tuple[float, float]:
    """95 % bootstrap interval of the mean, patients resampled."""
    picks = np.random.default_rng(0).integers(0, differences.size, (RESAMPLINGS, differences.size))
    low, high = np.quantile(differences[picks].mean(axis=1), (0.025, 0.975))
    return float(low), float(high)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows as Markdown."""
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *rows]) + "\n"


def shown(parameters: LevelSetParameters) -> str:
    """What differs from the defaults."""
    values = parameters.model_dump(exclude_defaults=True)
    return ", ".join(
        f"{name} {value:.3g}" if isinstance(value, float) else str(value) for name, value in values.items()
    )


Scores = dict[str, NDArray[np.float64]]


def compared(learned: NDArray[np.float64], other: NDArray[np.float64]) -> str:
    """The paired difference in words."""
    low, high = interval(learned - other)
    better = int((learned > other).sum())
    return f"{(learned - other).mean():+.3f} ({low:+.3f} to {high:+.3f}), better in {better} of {other.size}"


def summary(scores: Scores, seconds: dict[str, float]) -> str:
    """One row a method: mean, median, quarters, failures, seconds, and how the learned ones differ from it."""
    head = ["settings", "mean Dice", "median (quarters)", f"below {FAILED:g}", "s a slice", "learned less this (95 %)"]
    rows = []
    for name, found in scores.items():
        quarter, middle, three = np.quantile(found, (0.25, 0.5, 0.75))
        difference = "" if name == LEARNED else compared(scores[LEARNED], found)
        spread = f"{middle:.3f} ({quarter:.3f} to {three:.3f})"
        failed = str(int((found < FAILED).sum()))
        rows.append([name, f"{found.mean():.3f}", spread, failed, f"{seconds[name]:.2f}", difference])
    return table(head, rows)


def verdict(scores: Scores) -> str:
    """One sentence on the best default, chosen on the test patients."""
    best = max((name for name in scores if name != LEARNED), key=lambda name: float(scores[name].mean()))
    low, high = interval(scores[LEARNED] - scores[best])
    gain = float((scores[LEARNED] - scores[best]).mean())
    says = (
        "The learned weights are better"
        if low > 0
        else "The learned weights are worse"
        if high < 0
        else "Whether the learned weights are better or worse cannot be told from these patients"
    )
    return (
        f'{says}: mean Dice {gain:+.3f} ({low:+.3f} to {high:+.3f}) against the best row of the others here, "{best}".'
    )


def page(
    result: FitResult, took: float, learning: Sequence[Patient], tests: Sequence[Patient], scores: Scores, rows: str
) -> str:
    """The page as Markdown."""
    tried = [
        [", ".join(f"{k} {v:.3g}" for k, v in one.items() if k != "dice"), f"{np.mean(one['dice']):.4f}"]
        for one in result.record.result["tried"]
    ]
    each = [[patient.name, *(f"{scores[name][number]:.3f}" for name in scores)] for number, patient in enumerate(tests)]
    losses = f"{result.losses[0]:.3f} to {result.losses[-1]:.3f}"
    return f"""# Learned weights against the defaults

Written by `python benchmarks/level_set_fitting.py FOLDER`: do not edit. Liver in portal-venous CT, slices of the
Medical Segmentation Decathlon (Task03) at 256 x 256, pixel size unknown and taken as 1. One slice a patient, the one
with most liver. Every run begins with one click, a disc of radius {CLICK_RADIUS:g} at the innermost point of the label,
and stops by itself. The method was developed on {len(learning)} patients and learned from them; the table is of the
{len(tests)} others, which were run once. "Click ± k sd" takes the thresholds of each slice from the grey values under
its click (`seed_width`); the learned settings do so too. The interval is a bootstrap of the paired difference over
patients. Seconds are of the processor, one core.

## {len(tests)} patients that were not learned from

{rows}
{verdict(scores)}

## What was learned

`{shown(result.parameters)}`, from {len(learning)} slices in {took:.0f} s: mean Dice of plain runs on them
{np.mean(result.dice_before):.3f} where learning began and {np.mean(result.dice_after):.3f} with what was learned; loss
of the descent {losses}. Patients: {", ".join(patient.name for patient in learning)}.

What was tried by plain runs on these slices, in turn: the start, other starts, values spread over a box, then around
the best, at last what the descent found. Rows that could no longer become the best were broken off and are missing.

{table(["numbers", "Dice"], tried)}
## Dice per patient

{table(["slice", *scores], each)}"""


def main() -> None:
    """Learn, test, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=SAMPLES)
    parser.add_argument("--out", type=Path, help="The page to write. Default: docs/level_set_fitting.md, with FOLDER.")
    arguments = parser.parse_args()
    learning, tests = patients_of(arguments.folder)
    result, took = learn(learning)
    print(LEARNED, shown(result.parameters), f"{took:.0f} s", flush=True)
    same = LevelSetParameters(speed="region", seed_width=result.parameters.seed_width)
    methods = {**DEFAULTS, SAME: same, LEARNED: result.parameters}
    found: dict[str, list[float]] = {name: [] for name in methods}
    spent = dict.fromkeys(methods, 0.0)
    for patient in tests:
        for name, parameters in methods.items():
            score, seconds = run(patient, parameters)
            found[name].append(score)
            spent[name] += seconds / len(tests)
        print(patient.name, *(f"{found[name][-1]:.3f}" for name in methods), sep="  ", flush=True)
    scores = {name: np.array(values) for name, values in found.items()}
    text = page(result, took, learning, tests, scores, summary(scores, spent))
    out = arguments.out or (None if arguments.folder == SAMPLES else RESULTS)
    if out is not None:
        out.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
