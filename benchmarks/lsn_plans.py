"""What `benchmarks/lsn_study.py` trains and solves: the liver in CT slices, the hippocampus in small MR volumes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.shipped_models import CHANGES, LEVEL_SETS, level_set
from src_models.levelset import LevelSetParameters
from src_models.levelset.fitting import FitParameters
from src_models.preprocessing.click import Click
from src_models.training.case import DataSet
from src_models.training.cases import open_data_set
from src_models.training.defaults import default_plan
from src_models.training.plan import Optimiser, TrainingPlan

FIT_PATIENTS = 24


@dataclass(frozen=True)
class Study:
    """One structure in one kind of image, by the equation and by networks.

    Attributes
    ----------
    name, title, about, chosen : str
        Of the page: the data, and on which patients the plans were worked out.
    structure : str
        Name of the label.
    plan : callable
        Training plan and data of a variant: folder, variant, epochs.
    variants : mapping
        Options of each network.
    lse, fit_start, fit : parameters
        Of the solver as it is, and where and how its fit begins.
    click : Click
        Ball and grid of the click.
    unit : str
        Of its radius.
    epochs : int
        Of every training.
    """

    name: str
    title: str
    about: str
    chosen: str
    structure: str
    plan: Callable[[Path, str, int], tuple[TrainingPlan, DataSet]]
    variants: Mapping[str, Mapping[str, Any]]
    lse: LevelSetParameters
    fit_start: LevelSetParameters
    fit: FitParameters
    click: Click
    unit: str
    epochs: int


HIPPOCAMPUS: dict[str, dict[str, Any]] = {
    "lsn-click": {"start": "seed", "seed_radius": 3.0, "steps": (10, 10, 5), "kernels": 8},
    "lsn-unet-click": {"start": "seed", "seed_radius": 3.0, "steps": (10, 10, 5), "edge": "unet", "edge_depth": 2},
}


def hippocampus(folder: Path, variant: str, epochs: int) -> tuple[TrainingPlan, DataSet]:
    """A level set network on whole volumes of the hippocampus, its two parts as one structure."""
    data = open_data_set(folder, label_map={2: 1}, label_names={1: "hippocampus"}, channels=["MR"])
    wide = {"temperature": 2.0, "learn_temperature": True}
    options = {"gradient": "godunov", "convection": 1.0} | wide | HIPPOCAMPUS[variant]
    plan = default_plan(data, "lsn", ndim=3, patch=(48, 56, 40), batch=2, epochs=epochs, iterations=80, options=options)
    adam = Optimiser(name="adamw", rate=5e-3, weight_decay=1e-4, schedule="warm_cosine", clip=1.0)
    settings = {"optimiser": adam, "augmentation": CHANGES, "sampling": "in_turn", "foreground": 0.0, "modality": "MR"}
    return plan.model_copy(update=settings), data


REGION = LevelSetParameters(speed="region", seed_width=2)
CONVECTED = LevelSetParameters(speed="region", seed_width=2, convection=2)
STUDIES = {
    "liver": Study(
        name="liver",
        title="The level set equation, the level set network and the UNet on liver slices",
        about="Liver in portal-venous CT, slices of the Medical Segmentation Decathlon (Task03) at 256 x 256, 8 bit.",
        chosen="The plans of the level set networks were worked out on fold 0.",
        structure="liver",
        plan=level_set,
        variants=LEVEL_SETS,
        lse=REGION,
        fit_start=CONVECTED,
        fit=FitParameters(iterations=1, voxels=1500, trials=48),
        click=Click(4.0, (1.0, 1.0)),  # the slices have no pixel size
        unit="pixels",
        epochs=10,
    ),
    "hippocampus": Study(
        name="hippocampus",
        title="The level set equation and the level set network on the hippocampus, in 3D",
        about="Hippocampus, both parts as one, in T1 MR cropped around it (Medical Segmentation Decathlon, Task04).",
        chosen="The plans of the level set networks were worked out on fold 0.",
        structure="hippocampus",
        plan=hippocampus,
        variants=HIPPOCAMPUS,
        lse=REGION,
        fit_start=CONVECTED,
        fit=FitParameters(iterations=1, voxels=1500, trials=48),
        click=Click(3.0, (1.0, 1.0, 1.0)),
        unit="mm",
        epochs=10,
    ),
}
