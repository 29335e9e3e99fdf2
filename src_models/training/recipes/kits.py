"""KiTS: CT of kidneys, tumours and, from 2021 on, cysts (Heller et al., Medical Image Analysis 67, 101821, 2021)."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from src_models.training.case import case_from_files
from src_models.training.layouts import Found
from src_models.training.recipes.recipe import Recipe, classes, first_of
from src_models.weights.card import TrainingData


def find(folder: Path, *, cysts: bool) -> Found:
    """`case_NNNNN/imaging.nii.gz` and `segmentation.nii.gz`; test cases have no segmentation."""
    cases, alone = [], []
    for part in sorted(folder.rglob("case_*")):
        image = first_of(part, "imaging.nii.gz", "imaging.nii") if part.is_dir() else None
        if image is None:
            continue
        labels = first_of(part, "segmentation.nii.gz", "segmentation.nii")
        if labels is None:
            alone.append(part.name)
        else:
            cases.append(case_from_files(part.name, (image,), labels))
    named = classes(kidney=1, tumour=2, cyst=3) if cysts else classes(kidney=1, tumour=2)
    notes = (f"{len(alone)} cases without segmentation left out.",) if alone else ()
    return Found(tuple(sorted(cases, key=lambda case: case.id)), ("CT",), named, notes=notes)


def _recipe(year: str, *, cysts: bool) -> Recipe:
    return Recipe(
        name=f"kits{year}",
        layout="case_NNNNN/imaging.nii.gz and case_NNNNN/segmentation.nii.gz",
        find=partial(find, cysts=cysts),
        about=TrainingData(
            name=f"KiTS{year}",
            citation="Heller et al., The state of the art in kidney and kidney tumor segmentation in contrast-enhanced "
            "CT imaging, Medical Image Analysis 67, 101821 (2021)",
            licence="CC BY-NC-SA 4.0",
        ),
    )


RECIPES = (_recipe("19", cysts=False), _recipe("21", cysts=True), _recipe("23", cysts=True))
