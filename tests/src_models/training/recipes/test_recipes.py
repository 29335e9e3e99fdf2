"""Each recipe on a tiny tree in the layout of its data set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from src_models.errors import FileError, InputError
from src_models.files import write_segmentation, write_volume
from src_models.geometry import Grid, Segmentation, Volume
from src_models.training.cases import open_data_set
from src_models.training.fingerprint import fingerprint_now
from src_models.training.folds import make_folds
from src_models.training.recipes import RECIPES

GRID = Grid((4, 6, 5), (2.0, 1.0, 1.0), np.array([[0, 0, 1.0, 0], [0, 1, 0, 0], [2, 0, 0, 0], [0, 0, 0, 1]]), True)
FLAT = Grid((6, 5), (1.0, 1.0), spacing_known=False)


def image(path: Path, grid: Grid = GRID) -> None:
    values = np.random.default_rng(len(path.name)).integers(1, 200, grid.shape)
    save(path, lambda to: write_volume(to, Volume(values.astype(np.uint8), grid)))


def labels(path: Path, *values: int, grid: Grid = GRID) -> None:
    array = np.zeros(grid.shape, np.uint8)
    for k, value in enumerate(values):
        array[..., k + 1] = value
    save(path, lambda to: write_segmentation(to, Segmentation(array, grid)))


def save(path: Path, write) -> None:
    """Also `.mhd` with its own data file, which is read but never written by the package."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix != ".mhd":
        write(path)
        return
    whole = path.with_suffix(".mha")
    write(whole)
    header, data = whole.read_bytes().split(b"ElementDataFile = LOCAL\n")
    whole.unlink()
    path.with_suffix(".zraw").write_bytes(data)
    path.write_bytes(header + f"ElementDataFile = {path.stem}.zraw\n".encode())


def lits(root: Path) -> None:
    for k in range(2):
        image(root / "Training Batch 1" / f"volume-{k}.nii")
        labels(root / "Training Batch 1" / f"segmentation-{k}.nii", 1, 2)
    image(root / "volume-7.nii")
    labels(root / "segmentations" / "segmentation-7.nii", 1, 2)
    image(root / "volume-9.nii")


def kits(root: Path) -> None:
    for k in range(3):
        image(root / f"case_{k:05d}" / "imaging.nii.gz")
        labels(root / f"case_{k:05d}" / "segmentation.nii.gz", 1, 2)
    image(root / "case_00300" / "imaging.nii.gz")


def brats21(root: Path) -> None:
    for k in range(3):
        name = f"BraTS2021_{k:05d}"
        for sequence in ("t1", "t1ce", "t2", "flair"):
            image(root / name / f"{name}_{sequence}.nii.gz")
        labels(root / name / f"{name}_seg.nii.gz", 1, 2, 4)
    image(root / "BraTS2021_00009" / "BraTS2021_00009_t1.nii.gz")


def brats23(root: Path) -> None:
    for name in ("BraTS-GLI-00001-000", "BraTS-GLI-00001-001", "BraTS-GLI-00002-000"):
        for sequence in ("t1n", "t1c", "t2w", "t2f"):
            image(root / name / f"{name}-{sequence}.nii.gz")
        labels(root / name / f"{name}-seg.nii.gz", 1, 2, 3)


def promise12(root: Path) -> None:
    for k in range(3):
        image(root / f"Case{k:02d}.mhd")
        labels(root / f"Case{k:02d}_segmentation.mhd", 1)


def sliver07(root: Path) -> None:
    for k in range(3):
        image(root / "scans" / f"liver-orig{k:03d}.mhd")
        labels(root / "label" / f"liver-seg{k:03d}.mhd", 1)


def isles22(root: Path) -> None:
    for k in range(3):
        base = f"sub-strokecase{k:04d}_ses-0001"
        subject, session = base.split("_")
        for kind in ("dwi", "adc"):
            image(root / subject / session / "dwi" / f"{base}_{kind}.nii.gz")
        image(root / subject / session / "anat" / f"{base}_flair.nii.gz")
        labels(root / "derivatives" / subject / session / f"{base}_msk.nii.gz", 1)


def slices(*values: int):
    def make(root: Path) -> None:
        for name in ("p001_s081", "p001_s095", "p002_s010"):
            image(root / "images" / f"{name}.png", FLAT)
            labels(root / "labels" / f"{name}.png", *values, grid=FLAT)

    return make


TREES = {
    "lits": (lits, 1, 3),
    "kits19": (kits, 1, 3),
    "kits21": (kits, 1, 3),
    "kits23": (kits, 1, 3),
    "brats21": (brats21, 4, 3),
    "brats23": (brats23, 4, 2),
    "promise12": (promise12, 1, 3),
    "sliver07": (sliver07, 1, 3),
    "isles22": (isles22, 2, 3),
    "msd_liver_slices": (slices(1), 1, 2),
    "msd_hepaticvessel_slices": (slices(1, 2), 1, 2),
    "curvas_slices": (slices(1, 2, 3), 1, 2),
    "sunnybrook_lv": (slices(1), 1, 2),
    "msd_hippocampus": (slices(1, 2), 1, 3),
}


def test_each_recipe_has_its_tree():
    assert set(TREES) == set(RECIPES)


@pytest.mark.parametrize("name", TREES)
def test_cases_patients_channels_and_labels(name, tmp_path):
    make, channels, patients = TREES[name]
    make(tmp_path)
    data = open_data_set(tmp_path, recipe=name)
    assert len(data.cases) == 3
    assert data.grouped
    assert len(set(data.groups.values())) == patients
    assert len(make_folds(data.groups, count=2)) == 2
    assert data.cases[0].volume().array.shape[0] == channels == len(data.channels)
    found = fingerprint_now(data)
    assert len(found.cases) == 3
    assert data.about.name
    assert RECIPES[name].confirmed == (not any("has not been tried" in note for note in data.notes))


def test_what_is_left_out_is_said(tmp_path):
    lits(tmp_path)
    data = open_data_set(tmp_path, recipe="lits")
    assert [case.id for case in data.cases] == ["volume-0", "volume-1", "volume-7"]
    assert any("volume-9" in note for note in data.notes)
    assert any("3Dircadb" in note for note in data.notes)


def test_the_regions_of_brats_are_nested(tmp_path):
    brats21(tmp_path)
    data = open_data_set(tmp_path, recipe="brats21")
    assert data.head == "sigmoid"
    assert [label.members for label in data.labels] == [(1, 2, 4), (1, 4), (4,)]
    assert data.declared_values == (0, 1, 2, 4)


def test_a_folder_of_something_else_is_told(tmp_path):
    with pytest.raises(FileError, match=r"no copy of LiTS.*volume-N.nii"):
        open_data_set(tmp_path, recipe="lits")
    with pytest.raises(InputError, match="Choose one of lits"):
        open_data_set(tmp_path, recipe="litss")
