"""PROMISE12: 50 T2 MR of the prostate with thick slices (Litjens et al., Medical Image Analysis 18, 359, 2014)."""

from __future__ import annotations

from pathlib import Path

from src_models.training.layouts import Found
from src_models.training.recipes.recipe import Recipe, classes, paired, visible
from src_models.weights.card import TrainingData


def find(folder: Path) -> Found:
    """`CaseNN.mhd` beside `CaseNN_segmentation.mhd`."""
    cases, notes = paired(
        visible(folder, "Case*.mhd"),
        r"(Case\d+)\.mhd",
        lambda path, match: path.with_name(f"{match[1]}_segmentation.mhd"),
    )
    return Found(cases, ("T2",), classes(prostate=1), notes=notes)


RECIPE = Recipe(
    name="promise12",
    layout="CaseNN.mhd and CaseNN_segmentation.mhd with their .raw files",
    find=find,
    about=TrainingData(
        name="PROMISE12",
        citation="Litjens et al., Evaluation of prostate segmentation algorithms for MRI: the PROMISE12 challenge, "
        "Medical Image Analysis 18, 359 (2014)",
    ),
)
