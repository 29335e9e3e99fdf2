"""Tiny cascades: balls, a coarse first stage and a second one, all trained in a second or two."""

from __future__ import annotations

from typing import Any

from src_models.preprocessing.parameters import Preprocessing
from src_models.training.case import DataSet
from src_models.training.plan import TrainingPlan
from tests.src_models.training.tiny import discs, tiny_plan

FULL, LOW, SECOND = "3d_fullres", "3d_lowres", "3d_cascade_fullres"


def balls(count: int = 5, labels: tuple[str, ...] = ("ball", "core")) -> DataSet:
    """One patient a case, voxels of 1 mm."""
    return discs(count, (12, 14, 16), labels, patients=count)


def cascade_plan(data: DataSet, **changes: Any) -> TrainingPlan:
    """Full and low resolution and the cascade of both, with networks of few features."""
    options = {"depth": 1, "base_width": 2}
    plan = tiny_plan(data, patch=(8, 8, 8), options=options, epochs=1, iterations=2).model_copy(update=changes)
    (full,) = plan.configurations
    known = {"unit": "mm", "axis_order": (0, 1, 2)}
    full = full.model_copy(update={"preprocessing": _at(full.preprocessing, 1.0, known)})
    low = full.model_copy(update={"name": LOW, "preprocessing": _at(full.preprocessing, 2.0, known)})
    values = len({v for label in data.labels for v in (label.members or (label.value,))} - {0})
    second = full.model_copy(
        update={
            "name": SECOND,
            "previous": LOW,
            "network": full.network | {"in_channels": len(data.channels) + values},
        }
    )
    return plan.model_copy(update={"configurations": (full, low, second)})


def _at(preprocessing: Preprocessing, spacing: float, known: dict[str, Any]) -> Preprocessing:
    return preprocessing.model_copy(update={"spacing": (spacing,) * 3, **known})
