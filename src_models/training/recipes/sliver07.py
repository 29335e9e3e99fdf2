"""Sliver07: 20 CT with livers (Heimann et al., IEEE Transactions on Medical Imaging 28, 1251, 2009)."""

from __future__ import annotations

from pathlib import Path

from src_models.training.layouts import Found
from src_models.training.recipes.recipe import Recipe, classes, paired, visible
from src_models.weights.card import TrainingData


def find(folder: Path) -> Found:
    """`liver-origNNN.mhd` with `liver-segNNN.mhd`, which may lie in another folder."""
    labels = {path.name: path for path in visible(folder, "liver-seg*.mhd")}
    cases, notes = paired(
        visible(folder, "liver-orig*.mhd"),
        r"(liver-orig\d+)\.mhd",
        lambda _path, match: labels.get(f"{match[1].replace('orig', 'seg')}.mhd"),
    )
    return Found(cases, ("CT",), classes(liver=1), notes=notes)


RECIPE = Recipe(
    name="sliver07",
    layout="liver-origNNN.mhd and liver-segNNN.mhd with their .raw files",
    find=find,
    about=TrainingData(
        name="SLIVER07",
        citation="Heimann et al., Comparison and evaluation of methods for liver segmentation from CT datasets, IEEE "
        "Transactions on Medical Imaging 28, 1251 (2009)",
    ),
    confirmed=False,
)
