"""BraTS: gliomas on four MR sequences, scored as nested regions (Baid et al., arXiv:2107.02314).

Labels are 1 necrosis, 2 oedema and 4 enhancing tumour until 2021, 3 for the last from 2023 on. The whole tumour is all
of them, the core is without oedema.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

from src_models.training.case import Case, case_from_files
from src_models.training.layouts import Found
from src_models.training.recipes.recipe import Recipe, first_of
from src_models.weights.card import Label, TrainingData

_ENDINGS = (".nii.gz", ".nii")


def find(folder: Path, *, joint: str, sequences: tuple[str, ...], enhancing: int) -> Found:
    """One folder per scan, with one file per sequence and one of labels, all starting with the folder's name."""
    cases: list[Case] = []
    groups: dict[str, str] = {}
    incomplete = []
    for part in sorted(path for path in folder.rglob("BraTS*") if path.is_dir()):
        name = part.name
        images = [first_of(part, *(f"{name}{joint}{one}{end}" for end in _ENDINGS)) for one in sequences]
        labels = first_of(part, *(f"{name}{joint}seg{end}" for end in _ENDINGS))
        there = tuple(image for image in images if image is not None)
        if not there:
            continue
        if labels is None or len(there) < len(sequences):
            incomplete.append(name)
            continue
        cases.append(case_from_files(name, there, labels))
        # From 2023 on a number of the visit follows that of the patient.
        groups[name] = re.sub(r"^(BraTS-[A-Z]+-\d+)-\d+$", r"\1", name)
    regions = (
        Label(name="whole tumour", value=2, channel=0, members=(1, 2, enhancing)),
        Label(name="tumour core", value=1, channel=1, members=(1, enhancing)),
        Label(name="enhancing tumour", value=enhancing, channel=2, members=(enhancing,)),
    )
    return Found(
        tuple(sorted(cases, key=lambda case: case.id)),
        sequences,
        regions,
        "sigmoid",
        groups=groups,
        notes=(f"{len(incomplete)} scans without labels or sequences left out.",) if incomplete else (),
    )


def _recipe(name: str, title: str, joint: str, sequences: tuple[str, ...], enhancing: int) -> Recipe:
    return Recipe(
        name=name,
        layout=f"ID/ID{joint}{{{','.join(sequences)},seg}}.nii.gz",
        find=partial(find, joint=joint, sequences=sequences, enhancing=enhancing),
        about=TrainingData(
            name=title, citation="Baid et al., The RSNA-ASNR-MICCAI BraTS 2021 Benchmark, arXiv:2107.02314 (2021)"
        ),
    )


RECIPES = (
    _recipe("brats21", "BraTS 2021", "_", ("flair", "t1", "t1ce", "t2"), 4),
    _recipe("brats23", "BraTS 2023", "-", ("t2f", "t1n", "t1c", "t2w"), 3),
)
