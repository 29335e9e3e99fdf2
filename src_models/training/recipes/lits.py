"""LiTS: 131 abdominal CT with liver and tumours (Bilic et al., Medical Image Analysis 84, 102680, 2023)."""

from __future__ import annotations

from pathlib import Path

from src_models.training.layouts import Found
from src_models.training.recipes.recipe import Recipe, classes, first_of, paired, visible
from src_models.weights.card import TrainingData


def find(folder: Path) -> Found:
    """`volume-N.nii` beside, or below the same folder as, `segmentation-N.nii`."""
    labels = {path.name.split(".")[0]: path for path in visible(folder, "segmentation-*.nii*")}
    cases, notes = paired(
        visible(folder, "volume-*.nii*"),
        r"(volume-\d+)\.nii(?:\.gz)?",
        lambda path, match: (
            first_of(path.parent, *(f"segmentation-{match[1][7:]}{end}" for end in (".nii", ".nii.gz")))
            or labels.get(f"segmentation-{match[1][7:]}")
        ),
    )
    return Found(cases, ("CT",), classes(liver=1, tumour=2), notes=notes)


RECIPE = Recipe(
    name="lits",
    layout="volume-N.nii and segmentation-N.nii, N from 0 to 130",
    find=find,
    about=TrainingData(
        name="LiTS",
        citation="Bilic et al., The Liver Tumor Segmentation Benchmark (LiTS), Medical Image Analysis 84, 102680 "
        "(2023)",
        licence="CC BY-NC-ND 4.0",
    ),
    note="3Dircadb is contained in LiTS: never train on one and test on the other.",
)
