"""A cascade from the command line on a real scan: planned, trained, predicted, replayed, selected, given away.

Five parts of the sample CT, every other voxel each, stand for five patients: enough to go through every file and
command; how good a cascade is does not show here.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from src_models.cli import main
from src_models.files import read_segmentation
from src_models.record import Record
from src_models.weights import store

SAMPLE = Path(__file__).parents[2] / "sample_data" / "liver_ct"
FIRST = ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1))
RUN = ["--device", "cpu", "--workers", "0"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Cases of 6 mm around the liver."""
    top = tmp_path_factory.mktemp("data")
    for name, file, kind in (("images", "liver_ct", np.int16), ("labels", "liver_ct_liver", np.uint8)):
        (top / name).mkdir()
        whole = np.asarray(nib.load(SAMPLE / f"{file}.nii.gz").dataobj)
        for number, (i, j, k) in enumerate(FIRST):
            part = whole[30 + i : 110 : 2, 20 + j : 90 : 2, 60 + k : 112 : 2].astype(kind)
            nib.save(
                nib.Nifti1Image(np.ascontiguousarray(part), np.diag([6.0, 6, 6, 1])), top / name / f"p{number}.nii.gz"
            )
    return top


@pytest.fixture(scope="module")
def plan(folder, tmp_path_factory) -> Path:
    """The plan that the data call for in very little memory, with fewer features and two steps."""
    out = tmp_path_factory.mktemp("plan")
    words = ["train", str(folder), "--out", str(out), "--plan-only", "--channels", "ct", "--labels", "1=liver"]
    assert main([*words, "--gpu-gb", "0.01"]) == 0
    content = json.loads((out / "plan.json").read_text())
    names = [each["name"] for each in content["configurations"]]
    assert names == ["3d_fullres", "3d_lowres", "3d_cascade_fullres", "2d"]
    for each in content["configurations"]:
        options = each["network"]["options"]
        options["features_per_stage"] = [2 + stage for stage in range(len(options["features_per_stage"]))]
        options["n_conv_per_stage"] = [1] * len(options["n_conv_per_stage"])
    content |= {"epochs": 1, "iterations": 2}
    (out / "plan.json").write_text(json.dumps(content))
    return out / "plan.json"


@pytest.fixture(scope="module")
def trained(folder, plan, tmp_path_factory) -> Path:
    """One fold of the cascade; all folds of its first stage came before it."""
    out = tmp_path_factory.mktemp("run")
    words = ["crossval", str(folder), "--out", str(out), "--plan", str(plan), "--config", "3d_cascade_fullres", *RUN]
    assert main([*words, "--folds", "1"]) == 0
    return out


def test_the_first_stage_is_trained_beside_the_cascade_and_named_on_its_card(trained):
    hashes = [store.load(trained / "3d_lowres" / f"fold_{fold}").card.sha256 for fold in range(5)]
    model = store.load(trained)
    assert [stage.sha256 for stage in model.card.first_stage] == hashes
    assert (model.card.fold, model.network.in_channels) == ("1", 2)
    assert model.card.metrics[0]["patients"] == 1


def test_train_takes_the_first_stage_that_is_there_and_says_what_is_missing(folder, plan, trained, tmp_path, capsys):
    words = ["train", str(folder), "--plan", str(plan), "--config", "3d_cascade_fullres", *RUN]
    stage = ["--first-stage", str(trained / "3d_lowres")]
    assert main([*words, "--out", str(tmp_path / "run"), "--fold", "1", *stage]) == 0
    assert "are trained first" not in capsys.readouterr().out
    assert store.load(tmp_path / "run").card.sha256 == store.load(trained).card.sha256
    assert main([*words, "--out", str(tmp_path / "other"), "--first-stage", str(tmp_path / "run")]) == 2
    told = capsys.readouterr().err.strip().splitlines()
    assert "3d_cascade_fullres needs the results of 3d_lowres as input" in told[-1]
    assert "lsnet crossval --config 3d_lowres" in told[-1]
    assert not (tmp_path / "other").exists()


def test_predict_runs_both_stages_and_replay_makes_the_same(folder, trained, tmp_path, capsys):
    out = tmp_path / "out"
    assert (
        main(["predict", str(folder / "images"), "--weights", str(trained), "--out", str(out), "--device", "cpu"]) == 0
    )
    made = sorted(out.glob("*.nii.gz"))
    assert [path.name for path in made] == [f"p{k}.nii.gz" for k in range(5)]
    assert all(read_segmentation(path).labels.shape == (26, 35, 40) for path in made)
    record = out / "p2.lsnet.json"
    assert Record.read(record).inputs["models"][0]["first_stage"] == [
        stage.sha256 for stage in store.load(trained).card.first_stage
    ]
    capsys.readouterr()
    assert main(["replay", str(record)]) == 0
    assert "bit for bit" in capsys.readouterr().out


def test_a_replay_with_another_first_stage_is_refused(folder, trained, tmp_path, capsys):
    run = shutil.copytree(trained, tmp_path / "run")
    words = ["predict", str(folder / "images" / "p0.nii.gz"), "--weights", str(run), "--device", "cpu"]
    assert main([*words, "--out", str(tmp_path / "out")]) == 0
    card = run / "fold_1" / "model.json"
    content = json.loads(card.read_text())
    content["first_stage"] = content["first_stage"][:2]
    card.write_text(json.dumps(content))
    capsys.readouterr()
    assert main(["replay", str(tmp_path / "out" / "p0.lsnet.json")]) == 2
    assert "not the one of the record" in capsys.readouterr().err


def test_an_imported_cascade_predicts_by_its_name(folder, trained, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("LSNET_MODELS", str(tmp_path / "models"))
    assert main(["weights", "import", str(trained / "fold_1"), "--name", "two-stages"]) == 0
    # folds of equal weights are one file
    different = len({stage.sha256 for stage in store.load(trained).card.first_stage})
    assert len(list((tmp_path / "models").glob("two-stages-first-stage-fold*.json"))) == different
    words = ["predict", str(folder / "images" / "p0.nii.gz"), "--device", "cpu"]
    assert main([*words, "--weights", "two-stages", "--out", str(tmp_path / "a")]) == 0
    assert main([*words, "--weights", str(trained), "--out", str(tmp_path / "b")]) == 0
    found = [read_segmentation(tmp_path / name / "p0.nii.gz").labels for name in "ab"]
    np.testing.assert_array_equal(*found)
    assert main(["weights", "export", "two-stages", "--out", str(tmp_path / "given")]) == 0
    assert len(list((tmp_path / "given").glob("*.safetensors"))) == 1 + different


def test_select_tries_every_configuration_and_every_pair(folder, plan, tmp_path, capsys):
    out = tmp_path / "study"
    words = ["crossval", str(folder), "--out", str(out), "--plan", str(plan), "--select", *RUN]
    # the cascade needs every fold of its first stage, which is one of the configurations
    assert main([*words, "--folds", "1"]) == 0
    assert len(list((out / "3d_lowres").glob("fold_*"))) == 5
    assert len(list((out / "3d_cascade_fullres").glob("fold_*"))) == 1
    said = capsys.readouterr().out
    told = json.loads((out / "selection.json").read_text())
    assert len(told["dice"]) == 4 + 6
    assert "lsnet predict --weights" in said
    words = ["predict", str(folder / "images" / "p0.nii.gz"), "--weights", str(out), "--device", "cpu"]
    for names in (told["configurations"], ["3d_cascade_fullres", "2d"]):
        (out / "selection.json").write_text(json.dumps(told | {"configurations": names}))
        target = tmp_path / "-".join(names)
        assert main([*words, "--out", str(target)]) == 0
        assert main(["replay", str(target / "p0.lsnet.json")]) == 0
