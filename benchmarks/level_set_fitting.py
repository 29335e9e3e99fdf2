"""Learned weights against the defaults on liver slices of patients that were not learned from.

Writes ``docs/level_set_fitting.md``; every figure there comes from here. Takes about five minutes on one core.

    python benchmarks/level_set_fitting.py FOLDER

FOLDER holds ``images/pPPP_sSSS.png`` and ``labels/pPPP_sSSS.png``, several slices a patient (PPP). Without the liver
slices of the Medical Segmentation Decathlon the six of ``sample_data/liver_slices`` show how it works; the page is not
written then.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
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
LEARNING_PATIENTS, TEST_PATIENTS = 6, 22
SPACING = (1.0, 1.0)
RESAMPLINGS = 20_000
ITERATIONS = 8
LEARNED = {
    "learned": (LevelSetParameters(speed="region"), False),
    "learned, from the click": (LevelSetParameters(speed="region"), True),
    "learned edge": (LevelSetParameters(), False),
}
"""Where each learning starts, and whether its grey values count from the mean of the click."""


@dataclass(frozen=True, eq=False)
class Patient:
    """The slice of a patient that shows most liver, and one click in it."""

    name: str
    image: NDArray[Any]
    label: NDArray[np.bool_]
    click: Seeds
    mean: float
    deviation: float


def read_patient(folder: Path, names: Sequence[str]) -> Patient:
    """The slice with the largest label; the click is a small disc at the label's innermost point."""
    from PIL import Image
    from scipy.ndimage import distance_transform_edt

    labels = {name: np.asarray(Image.open(folder / "labels" / name)) > 0 for name in names}
    name = max(names, key=lambda one: int(labels[one].sum()))
    image = np.asarray(Image.open(folder / "images" / name)).astype(np.float32)
    depth = distance_transform_edt(labels[name])
    centre = np.unravel_index(int(depth.argmax()), depth.shape)
    rows, columns = np.ogrid[: image.shape[0], : image.shape[1]]
    disc = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2
    grey = image[disc <= CLICK_RADIUS**2]
    click = Seeds(spheres=(Sphere(centre=tuple(float(c) for c in centre), radius=CLICK_RADIUS),))
    return Patient(name.removesuffix(".png"), image, labels[name], click, float(grey.mean()), float(grey.std()))


def patients_of(folder: Path) -> list[Patient]:
    """One slice of as many patients as are wanted, spread over the whole set."""
    slices: dict[str, list[str]] = {}
    for path in sorted((folder / "images").glob("p*_s*.png")):
        slices.setdefault(path.name.split("_")[0], []).append(path.name)
    names = sorted(slices)
    count = min(len(names), LEARNING_PATIENTS + TEST_PATIENTS)
    chosen = [names[k] for k in np.linspace(0, len(names) - 1, count).astype(int)]
    return [read_patient(folder, slices[name]) for name in chosen]


def around_click(patient: Patient, deviations: float) -> LevelSetParameters:
    """Region speed, all defaults, thresholds from the click."""
    reach = deviations * max(patient.deviation, 1.0)
    return LevelSetParameters(speed="region", lower=patient.mean - reach, upper=patient.mean + reach)


DEFAULTS: dict[str, Callable[[Patient], LevelSetParameters]] = {
    "edge": lambda _: LevelSetParameters(),
    "region, click ± 2 sd": lambda patient: around_click(patient, 2),
    "region, click ± 3 sd": lambda patient: around_click(patient, 3),
}


def dice(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """2 |A and B| / (|A| + |B|)."""
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def run(patient: Patient, parameters: LevelSetParameters) -> tuple[float, float]:
    """Dice against the label, and seconds of the processor."""
    began = time.process_time()
    result = finish(evolve(patient.image, patient.click, SPACING, parameters))
    return dice(result.mask, patient.label), time.process_time() - began


def learn(patients: Sequence[Patient], start: LevelSetParameters, from_click: bool) -> tuple[FitResult, float]:
    """What is learned from some patients, and seconds of the processor; grey values as they are or from the click's."""
    began = time.process_time()
    slices = [
        AcceptedSlice(p.image - (p.mean if from_click else 0.0), p.click, p.label, SPACING, name=p.name)
        for p in patients
    ]
    result = finish(fit(slices, start, FitParameters(iterations=ITERATIONS)))
    return result, time.process_time() - began


def applied(parameters: LevelSetParameters, from_click: bool, patient: Patient) -> LevelSetParameters:
    """Learned parameters for one patient: thresholds that count from the click move with it."""
    if not from_click or parameters.lower is None or parameters.upper is None:
        return parameters
    moved = {"lower": parameters.lower + patient.mean, "upper": parameters.upper + patient.mean}
    return parameters.model_copy(update=moved)


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


def summary_rows(scores: dict[str, NDArray[np.float64]], seconds: dict[str, float], best: str) -> list[list[str]]:
    """One row a method: mean, median, quarters, failures, seconds, and the paired difference to the best default."""
    rows = []
    for name, found in scores.items():
        quarter, middle, three = np.quantile(found, (0.25, 0.5, 0.75))
        row = [
            name,
            f"{found.mean():.3f}",
            f"{middle:.3f} ({quarter:.3f} to {three:.3f})",
            str(int((found < 0.7).sum())),
        ]
        if name in DEFAULTS:
            difference = "the best default" if name == best else ""
        else:
            low, high = interval(found - scores[best])
            difference = f"{(found - scores[best]).mean():+.3f} ({low:+.3f} to {high:+.3f})"
        rows.append([*row, f"{seconds[name]:.2f}", difference])
    return rows


def page(
    learned: dict[str, tuple[FitResult, float]],
    learning: Sequence[Patient],
    tests: Sequence[Patient],
    scores: dict[str, NDArray[np.float64]],
    seconds: dict[str, float],
) -> str:
    """The page as Markdown."""
    best = max(DEFAULTS, key=lambda name: float(scores[name].mean()))
    head = ["settings", "mean Dice", "median (quarters)", "below 0.7", "s a slice", f"against {best} (95 %)"]
    fits = [
        [
            name,
            shown(result.parameters),
            f"{np.mean(result.dice_before):.3f}",
            f"{np.mean(result.dice_after):.3f}",
            f"{result.losses[0]:.3f} to {result.losses[-1]:.3f}",
            f"{taken:.0f}",
        ]
        for name, (result, taken) in learned.items()
    ]
    tried = [
        [name, ", ".join(f"{k} {v:.3g}" for k, v in one.items() if k != "dice"), f"{np.mean(one['dice']):.4f}"]
        for name, (result, _) in learned.items()
        for one in result.record.result["tried"]
    ]
    each = [[patient.name, *(f"{scores[name][number]:.3f}" for name in scores)] for number, patient in enumerate(tests)]
    return f"""# Learned weights against the defaults

Written by `python benchmarks/level_set_fitting.py FOLDER`: do not edit. Liver in portal-venous CT, slices of the
Medical Segmentation Decathlon (Task03) at 256 x 256, pixel size unknown and taken as 1. One slice a patient, the one
with most liver. Every run begins with one click, a disc of radius {CLICK_RADIUS:g} at the innermost point of the label,
and stops by itself. Learned from {len(learning)} patients, tested on {len(tests)} others. The thresholds of the region
defaults come from the click of each slice (mean and standard deviation of its grey values). "Learned" has the same
thresholds for all patients; "from the click" has learned distances from the mean grey value of the click, so that it
knows what the defaults know. Which default is the best was decided on the test patients, in its favour. The interval is
a bootstrap of the paired difference over patients. Seconds are of the processor, one core.

## {len(tests)} patients that were not learned from

{table(head, summary_rows(scores, seconds, best))}
## What was learned

Patients: {", ".join(patient.name for patient in learning)}. Dice here is of plain runs on the slices that were learned
from.

{table(["settings", "learned", "Dice at the start", "Dice learned", "loss", "seconds"], fits)}
All that was tried by plain runs on these slices, in turn: the start, other starts, and what the descent from the best
of them found. The best row was taken.

{table(["settings", "numbers", "Dice"], tried)}
## Dice per patient

{table(["slice", *scores], each)}"""


def main() -> None:
    """Learn, test, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=SAMPLES)
    parser.add_argument("--edge", action="store_true", help="Learn edge speed too; twice as long.")
    parser.add_argument("--out", type=Path, help="The page to write. Default: docs/level_set_fitting.md, with FOLDER.")
    arguments = parser.parse_args()
    patients = patients_of(arguments.folder)
    stride = max(2, len(patients) // LEARNING_PATIENTS)
    learning = patients[::stride][:LEARNING_PATIENTS]
    tests = [patient for patient in patients if patient not in learning]
    learned: dict[str, tuple[FitResult, float]] = {}
    methods: dict[str, Callable[[Patient], LevelSetParameters]] = dict(DEFAULTS)
    for name, (start, from_click) in LEARNED.items():
        if name == "learned edge" and not arguments.edge:
            continue
        result, took = learned[name] = learn(learning, start, from_click)
        methods[name] = partial(applied, result.parameters, from_click)
        print(name, shown(result.parameters), f"{took:.0f} s", flush=True)
    scores: dict[str, list[float]] = {name: [] for name in methods}
    spent = dict.fromkeys(methods, 0.0)
    for patient in tests:
        for name, choose in methods.items():
            score, took = run(patient, choose(patient))
            scores[name].append(score)
            spent[name] += took / len(tests)
        print(patient.name, *(f"{scores[name][-1]:.3f}" for name in methods), sep="  ", flush=True)
    text = page(learned, learning, tests, {name: np.array(found) for name, found in scores.items()}, spent)
    out = arguments.out or (None if arguments.folder == SAMPLES else RESULTS)
    if out is not None:
        out.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
