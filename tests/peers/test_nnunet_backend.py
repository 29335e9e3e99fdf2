"""``lsnet predict --backend nnunet``: what it refuses, and with nnunetv2 at hand that its results are nnU-Net's.

nnunetv2 brings torchvision, so it lives in an environment of its own. Where there is one, its Python is named by the
variable LSNET_NNUNET_PYTHON, and the tests at the end run.
"""

from __future__ import annotations

import importlib.util
import json
import os
import pickle
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from src_models.cli import main
from src_models.errors import FileError
from src_models.files import read_segmentation, read_volume
from src_models.inference.nnunet import NNUNetProcess, NNUNetSettings
from src_models.progress import finish
from src_models.record import Record, record_path, write_record
from src_models.weights.importers import import_model
from tests.turned import ORIENTATIONS, store

DATA = Path(__file__).parents[1] / "data" / "nnunet"
MODEL = DATA / "hippocampus_3d_fullres"
NAMED = os.environ.get("LSNET_NNUNET_PYTHON", "")
with_nnunet = pytest.mark.skipif(not NAMED, reason="LSNET_NNUNET_PYTHON names no Python that has nnunetv2")
without = pytest.mark.skipif(importlib.util.find_spec("nnunetv2") is not None, reason="this Python has nnunetv2")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    return store("PSR", tmp_path / "images" / "scan.nii.gz")


def predict(image: Path, out: Path, *more: str, weights: Path = MODEL) -> int:
    return main(["predict", str(image), "--weights", str(weights), "--backend", "nnunet", "--out", str(out), *more])


@without
def test_a_python_without_nnunetv2_is_named(image, tmp_path, capsys) -> None:
    assert predict(image, tmp_path / "out") != 0
    said = capsys.readouterr().err
    assert "nnunetv2 is not installed for" in said
    assert "--nnunet-python" in said
    assert "\n" not in said.strip()
    assert not list((tmp_path / "out").iterdir())


def test_a_python_that_is_none_is_named(image, tmp_path, capsys) -> None:
    assert predict(image, tmp_path / "out", "--nnunet-python", str(tmp_path / "none")) != 0
    assert "is no Python that can be started" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "named"),
    [
        (["--outputs", "labels,entropy"], "Uncertainty"),
        (["--post", "largest"], "Afterwards"),
        (["--keep-partial"], "--keep-partial"),
        (["--tile", "exact"], "Windows"),
    ],
)
def test_what_nnunet_has_not_is_refused(image, tmp_path, capsys, more, named) -> None:
    assert predict(image, tmp_path / "out", *more) != 0
    assert named in capsys.readouterr().err


def test_only_a_folder_of_nnunet_will_do(image, tmp_path, capsys) -> None:
    assert predict(image, tmp_path / "out", weights=image.parent) != 0
    assert "no folder of a trained nnU-Net" in capsys.readouterr().err


def test_a_record_of_nnunet_is_not_replayed_by_us(tmp_path, capsys) -> None:
    path = tmp_path / "scan.lsnet.json"
    write_record(path, Record(task="predict", status="done", parameters={}, inputs={"backend": "nnunet", "models": []}))
    assert main(["replay", str(path)]) != 0
    assert "--backend nnunet" in capsys.readouterr().err


class Evil:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def test_a_checkpoint_that_runs_programs_never_reaches_nnunet(image, tmp_path, capsys) -> None:
    """nnU-Net would unpickle it; a Python is named that is none, so a start would be told in other words."""
    folder, mark = tmp_path / "model", tmp_path / "ran"
    shutil.copytree(MODEL, folder)
    (folder / "fold_all" / "checkpoint_final.pth").write_bytes(pickle.dumps(Evil(mark)))
    assert predict(image, tmp_path / "out", "--nnunet-python", str(tmp_path / "none"), weights=folder) != 0
    assert "mkdir" in capsys.readouterr().err
    assert not mark.exists()


def test_the_process_leaves_nothing_behind(tmp_path) -> None:
    """Also where the Python is stopped before it has answered: the folder that was made for it goes with it."""
    settings = NNUNetSettings(MODEL, ("all",), "checkpoint_final.pth", Path(sys.executable), device="cpu")
    with NNUNetProcess(settings) as process:
        private = process.private
        work = process.predict([tmp_path / "none.nii.gz"])
        next(work)
        assert (private / "run_nnunet.py").is_file()
        work.close()
    assert not private.exists()


# ---- with nnunetv2


@with_nnunet
def test_a_folder_comes_out_as_nnunet_predicts_it_on_our_files(tmp_path) -> None:
    images, out, own = tmp_path / "images", tmp_path / "out", tmp_path / "own"
    images.mkdir()
    for name in ORIENTATIONS:
        store(name, images / f"{name}.nii.gz")
    assert predict(images, out, "--nnunet-python", NAMED, "--device", "cpu") == 0
    (entry,) = finish(import_model(MODEL, tmp_path / "models"))
    assert main(["predict", str(images), "--weights", str(entry.path), "--out", str(own), "--skip", "none"]) == 0
    answers = np.load(MODEL / "nnunet_answers.npz")
    assert sorted(p.name for p in out.iterdir()) == sorted(p.name for p in own.iterdir())
    for name in ORIENTATIONS:
        made, ours = (read_segmentation(folder / f"{name}.nii.gz") for folder in (out, own))
        stored = made.stored_order.store(made.labels)
        assert np.array_equal(stored, answers[f"SimpleITKIO.{name}.labels"])
        assert made.stored_order == ours.stored_order
        assert np.array_equal(made.grid.index_to_patient, ours.grid.index_to_patient)
        assert (made.labels == ours.labels).mean() >= 0.999
        record = Record.read(record_path(out / f"{name}.nii.gz"))
        assert record.inputs["backend"] == "nnunet"
        assert "nnunetv2 of nnunet" in record.versions


@with_nnunet
def test_other_kinds_of_files_and_probabilities(tmp_path) -> None:
    """nnU-Net with files of another kind than its own, turned by its reader: labels in the input's kind of file."""
    import SimpleITK

    folder, out = tmp_path / "model", tmp_path / "out"
    shutil.copytree(MODEL, folder)
    plans = json.loads((folder / "plans.json").read_text(encoding="utf-8"))
    changed = plans | {"image_reader_writer": "NibabelIOWithReorient"}
    (folder / "plans.json").write_text(json.dumps(changed), encoding="utf-8")
    scan = SimpleITK.ReadImage(str(store("PSR", tmp_path / "scan.nii.gz")))
    SimpleITK.WriteImage(scan, str(tmp_path / "scan.nrrd"))
    more = ("--nnunet-python", NAMED, "--device", "cpu", "--outputs", "labels,prob")
    assert predict(tmp_path / "scan.nrrd", out, *more, weights=folder) == 0
    made = read_segmentation(out / "scan.nrrd")
    answers = np.load(MODEL / "nnunet_answers.npz")
    assert np.array_equal(made.stored_order.store(made.labels), answers["NibabelIOWithReorient.PSR.labels"])
    names = ("background", "anterior", "posterior")
    shares = np.stack([read_volume(out / f"scan_prob_{name}.nii.gz").array for name in names])
    assert (shares.argmax(0) == made.labels).mean() > 0.999


@with_nnunet
def test_what_nnunet_cannot_read_is_one_sentence(tmp_path, capsys) -> None:
    settings = NNUNetSettings(MODEL, ("all",), "checkpoint_final.pth", Path(NAMED), device="cpu")
    (tmp_path / "broken.nii.gz").write_bytes(b"nothing")
    with NNUNetProcess(settings) as process, pytest.raises(FileError, match="nnU-Net could not predict") as told:
        finish(process.predict([tmp_path / "broken.nii.gz"]))
    assert "\n" not in str(told.value)


@with_nnunet
def test_pictures_are_those_of_its_reader_of_pictures(tmp_path) -> None:
    """No size of a pixel, no turn: one slice as PNG through both."""
    from PIL import Image

    folder = tmp_path / "model"
    shutil.copytree(DATA / "hippocampus_2d", folder)
    for name, changes in (
        ("plans.json", {"image_reader_writer": "NaturalImage2DIO"}),
        ("dataset.json", {"file_ending": ".png"}),
    ):
        content = json.loads((folder / name).read_text(encoding="utf-8"))
        (folder / name).write_text(json.dumps(content | changes), encoding="utf-8")
    plane = read_volume(store("RAS", tmp_path / "scan.nii.gz")).array[17, 1:, 3:]
    picture = tmp_path / "slice.png"
    Image.fromarray((255 * plane / plane.max()).astype(np.uint8)).save(picture)
    more = ("--nnunet-python", NAMED, "--device", "cpu", "--outputs", "labels,prob")
    assert predict(picture, tmp_path / "out", *more, weights=folder) == 0
    (entry,) = finish(import_model(folder, tmp_path / "models"))
    assert main(["predict", str(picture), "--weights", str(entry.path), "--out", str(tmp_path / "own")]) == 0
    made, ours = (read_segmentation(tmp_path / part / "slice.png").labels for part in ("out", "own"))
    assert made.any()
    assert (made == ours).mean() >= 0.999
    share = read_volume(tmp_path / "out" / "slice_prob_background.tif").array
    assert share.shape == made.shape


@with_nnunet
def test_a_prediction_that_is_given_up_ends_its_process(tmp_path) -> None:
    import psutil

    settings = NNUNetSettings(MODEL, ("all",), "checkpoint_final.pth", Path(NAMED), device="cpu")
    with NNUNetProcess(settings) as process:
        work = process.predict([store("RAS", tmp_path / "scan.nii.gz")])
        next(step for step in work if "windows" in step.message)
        (child,) = psutil.Process().children()
        work.close()
        assert not child.is_running()
