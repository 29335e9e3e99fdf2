"""Eight organs of one CT at once: Dice, seconds and memory, beside each organ grown alone.

Writes ``docs/eight_labels.md``; every figure there comes from here. Takes about a minute on two cores.

    python benchmarks/eight_labels.py CT ORGANS

CT and ORGANS are the 3 mm CT of the tests of TotalSegmentator (``ct_3mm.nii.gz``, Apache-2.0; the image is in
``sample_data`` too) and its organs merged into one label file: 1 liver, 2 spleen, 3 right kidney, 4 left kidney,
5 stomach, 6 gallbladder, 8 aorta, 9 inferior vena cava, 14 and 15 lower lobes of the lungs.
"""

from __future__ import annotations

import os
import sys
import time
import tracemalloc
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from src_models.files import read_segmentation, read_volume  # noqa: E402
from src_models.levelset import LabelsResult, LevelSetParameters, evolve, evolve_labels  # noqa: E402
from src_models.progress import finish  # noqa: E402
from tests.scenes import ball, dice  # noqa: E402

RESULTS = ROOT / "docs" / "eight_labels.md"
ORGANS = {
    1: "liver",
    2: "spleen",
    3: "right kidney",
    4: "left kidney",
    8: "aorta",
    9: "inferior vena cava",
    14: "left lung, lower lobe",
    15: "right lung, lower lobe",
}
MIB = 2**20
AIR = -300
"""HU below which an organ is a lung."""

CURVATURE = 1.5
"""Keeps the front of a soft organ out of necks of less than 3 mm radius, and there are many without contrast agent."""


def seeds_and_parameters(
    image: NDArray[Any], truth: NDArray[Any], spacing: tuple[float, ...]
) -> tuple[NDArray[Any], dict[int, LevelSetParameters]]:
    """A small ball at the innermost point of each organ, and thresholds around its grey values."""
    from scipy.ndimage import binary_erosion, distance_transform_edt

    seeds = np.zeros(truth.shape, np.uint8)
    parameters = {}
    for number in ORGANS:
        inside = truth == number
        depth = distance_transform_edt(inside, sampling=spacing)
        centre = [i * h for i, h in zip(np.unravel_index(depth.argmax(), depth.shape), spacing, strict=True)]
        seeds[ball(truth.shape, spacing, 0.6 * float(depth.max()), centre) > 0] = number
        low, middle, high = (float(x) for x in np.percentile(image[binary_erosion(inside)], (10, 50, 90)))
        reach = 0.75 * (high - low)
        lower, upper = (middle - reach, middle + reach) if middle > AIR else (None, middle / 2)
        parameters[number] = LevelSetParameters(
            speed="region", lower=lower, upper=upper, curvature=CURVATURE if middle > AIR else 0.2, steps=600
        )
    return seeds, parameters


def measured(work: Any) -> tuple[Any, float]:
    """A run and its seconds."""
    began = time.perf_counter()
    result = finish(work)
    return result, time.perf_counter() - began


def peak(work: Any) -> float:
    """Largest memory in MiB that a run takes beyond what was there before."""
    tracemalloc.start()
    finish(work)
    found = tracemalloc.get_traced_memory()[1] / MIB
    tracemalloc.stop()
    return found


def rows(
    truth: NDArray[Any], together: LabelsResult, alone: Mapping[int, NDArray[np.bool_]], spent: Mapping[int, float]
) -> list[list[str]]:
    """One line an organ."""
    found = []
    for number, name in ORGANS.items():
        report = together.reports[number]
        taken = sum(int((alone[number] & alone[other]).sum()) for other in ORGANS if other != number)
        found.append(
            [
                name,
                f"{(truth == number).sum() * 0.027:.0f}",
                f"{report.volume_ml:.0f}",
                f"{dice(together.labels == number, truth == number):.3f}",
                f"{dice(alone[number], truth == number):.3f}",
                str(taken),
                str(report.stop_reason),
                f"{spent[number]:.2f}",
            ]
        )
    return found


def owned_twice(result: LabelsResult) -> int:
    """Voxels where more than one level set is positive."""
    owners = np.zeros(result.labels.shape, np.uint8)
    for box, u in result.level_sets.values():
        owners[box] += u > 0
    return int((owners > 1).sum())


def main(image_path: Path, labels_path: Path) -> None:
    """Measure and write the page."""
    from scipy.ndimage import gaussian_filter

    volume = read_volume(image_path)
    truth = np.asarray(read_segmentation(labels_path, like=volume.grid).labels)
    h = volume.grid.spacing
    image = gaussian_filter(volume.array.astype(np.float32), 0.7)
    seeds, parameters = seeds_and_parameters(image, truth, h)
    two = {k: p.model_copy(update={"steps": 2}) for k, p in parameters.items()}
    finish(evolve_labels(image, seeds, h, two))  # compiled now, so that it is not measured
    together, seconds = measured(evolve_labels(image, seeds, h, parameters))
    alone: dict[int, NDArray[np.bool_]] = {}
    spent: dict[int, float] = {}
    most = 0
    for number, p in parameters.items():
        result, spent[number] = measured(evolve(image, seeds == number, h, p))
        alone[number] = result.mask
        most = max(most, result.iteration)
    overlap = sum(mask.astype(int) for mask in alone.values()) > 1
    several = peak(evolve_labels(image, seeds, h, parameters))
    one = peak(evolve(image, seeds == 1, h, parameters[1]))
    boxes = sum(u.size for _, u in together.level_sets.values()) / image.size
    head = ["organ", "ml", "found, ml", "Dice", "Dice alone", "claimed twice", "end", "alone, s"]
    table = [head, ["---"] * len(head), *rows(truth, together, alone, spent)]
    size = " x ".join(map(str, image.shape))
    lines = "\n".join("| " + " | ".join(line) + " |" for line in table)
    threads = os.environ.get("NUMBA_NUM_THREADS", str(os.cpu_count()))
    page = f"""# Eight organs at once

Written by `python benchmarks/eight_labels.py CT ORGANS`; do not edit. A CT of {size} voxels of 3 mm, without contrast
agent, blurred by 0.7 voxel. Each organ starts from a small ball at its innermost point. Soft organs grow around their
median grey value, -+ three quarters of the span from the 10th to the 90th percentile of their core, with curvature
{CURVATURE}; lungs below half their median with curvature 0.2. The organs to compare with were drawn by a network, and
the thresholds are theirs: the table shows what the labels do to one another, not how well unseen organs are found.

*Dice alone* is the same start with the same parameters in a run of one; *claimed twice* counts the voxels of that run
that the run of another organ claims too. In the common run no voxel belongs to two.

{lines}

| | eight at once | eight runs of one |
| --- | --- | --- |
| seconds, {threads} thread(s) | {seconds:.1f} | {sum(spent.values()):.1f} |
| steps | {together.iteration} | up to {most} |
| voxels with more than one owner | {owned_twice(together)} | {int(overlap.sum())} |
| peak memory beyond the image, MiB | {several:.0f} | {one:.0f} (the liver) |

The boxes of the eight organs together hold {boxes:.2f} times the voxels of the image at the end.
"""
    RESULTS.write_text(page, encoding="utf-8")
    print(page)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        main(Path(sys.argv[1]), Path(sys.argv[2]))
    else:
        print(__doc__)
