"""ISLES 2022: strokes on diffusion MR, in BIDS folders (Hernandez Petzsche et al., Scientific Data 9, 762, 2022)."""

from __future__ import annotations

from pathlib import Path

from src_models.training.case import case_from_files
from src_models.training.layouts import Found
from src_models.training.recipes.recipe import Recipe, classes, visible
from src_models.weights.card import TrainingData


def find(folder: Path) -> Found:
    """DWI and ADC of `sub-*/ses-*`, with the mask of the same names below `derivatives`."""
    cases, groups, alone = [], {}, 0
    for mask in visible(folder, "derivatives/**/*_msk.nii.gz"):
        subject, session = mask.parent.parent.name, mask.parent.name
        base = mask.name.removesuffix("_msk.nii.gz")
        place = folder / subject / session
        images = [next(visible(place, f"{base}_{kind}.nii.gz"), None) for kind in ("dwi", "adc")]
        there = tuple(image for image in images if image is not None)
        if len(there) < len(images):
            alone += 1
            continue
        name = f"{subject}_{session}"
        cases.append(case_from_files(name, there, mask))
        groups[name] = subject
    notes = (f"{alone} masks without DWI and ADC left out.",) if alone else ()
    return Found(tuple(cases), ("DWI", "ADC"), classes(stroke=1), groups=groups, notes=notes)


RECIPE = Recipe(
    name="isles22",
    layout="sub-*/ses-*/**/*_{dwi,adc}.nii.gz and derivatives/sub-*/ses-*/*_msk.nii.gz",
    find=find,
    about=TrainingData(
        name="ISLES 2022",
        citation="Hernandez Petzsche et al., ISLES 2022: A multi-center magnetic resonance imaging stroke lesion "
        "segmentation dataset, Scientific Data 9, 762 (2022)",
    ),
    confirmed=False,
)
