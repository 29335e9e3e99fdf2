"""Small data sets and plans that train in seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from src_models.training.case import DataSet
from src_models.training.cases import case_from_arrays, data_set_from_arrays
from src_models.training.defaults import default_plan
from src_models.training.plan import TrainingPlan


def discs(
    count: int = 6, shape: tuple[int, ...] = (34, 40), labels: tuple[str, ...] = ("disc",), patients: int | None = None
) -> DataSet:
    """Bright discs or balls with noise; each further label is a brighter one inside. Patients have equal shares."""
    cases = []
    for k in range(count):
        rng = np.random.default_rng(k)
        centre = [n * rng.uniform(0.35, 0.65) for n in shape]
        away = sum(np.square(np.indices(shape)[a] - c) for a, c in enumerate(centre)) ** 0.5
        label = np.zeros(shape, np.uint8)
        for value in range(1, len(labels) + 1):
            label[away < min(shape) * 0.3 / value] = value
        image = (100 + 40 * label + rng.normal(0, 15, shape)).astype(np.float32)
        group = "" if patients is None else f"patient{k % patients}"
        cases.append(case_from_arrays(f"case{k:02}", image, label, (1.0,) * len(shape), group))
    return data_set_from_arrays("discs", cases, dict(enumerate(labels, 1)))


def tiny_plan(data: DataSet, net: str = "unet", **changes: Any) -> TrainingPlan:
    """Two epochs of two steps of a network with few features."""
    options = changes.pop("options", {"depth": 2, "base_width": 4} if net == "unet" else None)
    ndim = data.cases[0].volume().grid.ndim
    given = {"patch": (16,) * ndim, "batch": 2, "epochs": 2, "iterations": 2, "options": options}
    for name in ("patch", "batch", "epochs", "iterations", "ndim", "protocol"):
        if name in changes:
            given[name] = changes.pop(name)
    return default_plan(data, net, **given).model_copy(update=changes)


def write_pictures(folder: Path, data: DataSet) -> Path:
    """The data set as folders `images` and `labels` of PNG files."""
    from PIL import Image

    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for case in data.cases:
        volume, segmentation = case.read()
        pixels = np.clip(volume.array[0], 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{case.id}.png")
        Image.fromarray(segmentation.labels.astype(np.uint8)).save(folder / "labels" / f"{case.id}.png")
    return folder
