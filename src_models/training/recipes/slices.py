"""Slice and cut-out collections in `images/` and `labels/`: who their patients are and what their labels mean."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from src_models.training.layouts import Found, find
from src_models.training.recipes.recipe import Recipe, classes
from src_models.weights.card import Label, TrainingData

_MSD = "Antonelli et al., The Medical Segmentation Decathlon, Nature Communications 13, 4128 (2022)"
_BY_SA = "CC-BY-SA 4.0"


def find_pairs(folder: Path, *, patient: Callable[[str], str], channel: str, labels: tuple[Label, ...]) -> Found:
    """Pairs whose names say the patient."""
    found = find(folder)
    return Found(
        found.cases,
        (channel,),
        labels,
        groups={case.id: patient(case.id) for case in found.cases},
        notes=found.notes,
    )


def before(mark: str, name: str) -> str:
    """The part of a name before a mark."""
    return name.split(mark)[0]


def itself(name: str) -> str:
    """Each case is a patient."""
    return name


def _recipe(
    name: str, pattern: Callable[[str], str], channel: str, labels: tuple[Label, ...], about: TrainingData
) -> Recipe:
    return Recipe(
        name=name,
        layout="images/ and labels/ with the same names",
        find=partial(find_pairs, patient=pattern, channel=channel, labels=labels),
        about=about,
    )


RECIPES = (
    _recipe(
        "msd_liver_slices",
        partial(before, "_"),
        "CT",
        classes(liver=1),
        TrainingData(name="MSD Task03 Liver, slices", citation=_MSD, licence=_BY_SA),
    ),
    _recipe(
        "msd_hippocampus",
        itself,
        "MRI",
        classes(anterior=1, posterior=2),
        TrainingData(name="MSD Task04 Hippocampus", citation=_MSD, licence=_BY_SA),
    ),
    _recipe(
        "msd_hepaticvessel_slices",
        partial(before, "_"),
        "CT",
        classes(vessel=1, tumour=2),
        TrainingData(name="MSD Task08 HepaticVessel, slices", citation=_MSD, licence=_BY_SA),
    ),
    _recipe(
        "curvas_slices",
        partial(before, "_"),
        "CT",
        classes(pancreas=1, kidney=2, liver=3),
        TrainingData(name="CURVAS, slices", licence="CC BY-NC"),
    ),
    _recipe(
        "sunnybrook_lv",
        partial(before, "_"),
        "MRI",
        classes(left_ventricle=1),
        TrainingData(name="Sunnybrook Cardiac Data, slices", licence="CC0 1.0"),
    ),
)
