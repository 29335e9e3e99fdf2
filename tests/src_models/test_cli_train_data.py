"""What ``lsnet train`` makes of data and plans that are not as they should be, and what it leaves on the disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import tifffile

from src_models.cli import main
from src_models.cli.report import amount
from src_models.training.cases import open_data_set
from src_models.training.checkpoint import CURRENT, PREVIOUS, load_checkpoint
from src_models.training.fingerprint import fingerprint_now
from src_models.weights import store
from tests.src_models.training.tiny import discs, write_pictures

TINY = [
    "--net",
    "unet",
    "--patch",
    "16,16",
    "--batch",
    "2",
    "--epochs",
    "2",
    "--iters",
    "2",
    "--set",
    "network.depth=1",
]
RUN = ["--device", "cpu", "--set", "network.base_width=2"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six pictures, the third with two voxels that hold no number."""
    data = write_pictures(tmp_path / "data", discs(6, (22, 24)))
    for path in (data / "images").iterdir():
        image = tifffile.imread(path) if path.suffix == ".tif" else np.asarray(_png(path), np.float32)
        if path.stem == "case02":
            image[3, 4], image[5, 6] = np.nan, np.inf
        path.unlink()
        tifffile.imwrite(path.with_suffix(".tif"), image)
    return data


def _png(path: Path) -> Any:
    from PIL import Image

    with Image.open(path) as picture:
        return picture.copy()


def _weights(out: Path) -> dict[str, Any]:
    return {name: value.numpy() for name, value in store.load(out).network.state_dict().items()}


def _same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return all(np.array_equal(a[name], b[name]) for name in a)


def test_voxels_without_a_number_are_refused_or_filled_with_the_minimum(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", str(folder), *TINY, *RUN]

    assert main([*words, "--out", str(tmp_path / "deep" / "run")]) == 2
    said = capsys.readouterr().err
    assert "case02" in said
    assert "2 voxels" in said
    assert "--nan fill" in said
    assert not (tmp_path / "deep").exists(), "a refused training leaves no folder"

    assert main([*words, "--out", str(tmp_path / "filled"), "--nan", "fill"]) == 0
    told = capsys.readouterr().out
    assert told.count("case02: 2 voxels without a finite value were filled with the minimum") == 1

    path = folder / "images" / "case02.tif"
    image = tifffile.imread(path)
    tifffile.imwrite(path, np.where(np.isfinite(image), image, image[np.isfinite(image)].min()))
    assert main([*words, "--out", str(tmp_path / "by hand")]) == 0
    assert _same(_weights(tmp_path / "filled"), _weights(tmp_path / "by hand"))


def test_a_refused_training_leaves_the_folder_that_was_there_as_it_was(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    out.mkdir()
    (out / "notes.txt").write_text("mine")

    assert main(["train", str(folder), *TINY, *RUN, "--out", str(out)]) == 2

    assert [path.name for path in out.iterdir()] == ["notes.txt"]


def test_a_damaged_checkpoint_gives_way_to_the_one_before_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The training ends with the weights of one that was left alone, and the damaged one is never the spare one."""
    data, out = write_pictures(tmp_path / "data", discs(6, (22, 24))), tmp_path / "run"
    words = ["train", str(data), *TINY, *RUN, "--out", str(out)]
    assert main(words) == 0
    alone = _weights(out)
    spare = load_checkpoint(out / PREVIOUS).state["position"]["step"]
    (out / CURRENT).write_bytes((out / CURRENT).read_bytes()[:-50])
    capsys.readouterr()

    assert main([*words, "--resume"]) == 0

    said = capsys.readouterr().out
    assert f"the training goes on from the one before it, after step {spare}" in said
    assert "epoch 2 of 2" in said
    assert _same(alone, _weights(out))
    assert load_checkpoint(out / PREVIOUS).state["position"]["step"] == spare

    assert main([*words, "--resume", "--epochs", "3", "--lr", "0.5"]) == 2
    assert "its optimiser.rate is 0.001, not 0.5, and 1 more differs" in capsys.readouterr().err

    for name in (CURRENT, PREVIOUS):
        (out / name).write_bytes(b"broken")
    assert main([*words, "--resume"]) == 2
    assert "another --out" in capsys.readouterr().err


def _lits(folder: Path) -> Path:
    """Five small CT of the layout of LiTS; each is a patient of its own."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    for k in range(5):
        labels = np.zeros((12, 18, 20), np.uint8)
        labels[3:9, 4:12, 5:14] = 1
        labels[5:7, 6:9, 7:10] = 2
        image = (rng.normal(-200, 100, labels.shape) + 260 * (labels > 0) - 10 * k).astype(np.int16)
        for name, array in (("volume", image), ("segmentation", labels)):
            nib.save(nib.Nifti1Image(array, np.diag([2.0, 2.0, 3.0, 1])), folder / f"{name}-{k}.nii")
    return folder


def test_a_recipe_knows_the_layout_and_ct_is_normalised_by_what_is_marked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = _lits(tmp_path / "lits"), tmp_path / "plan"

    assert main(["train", str(data), "--recipe", "lits", "--net", "unet", "--plan-only", "--out", str(out)]) == 0

    plan = json.loads((out / "plan.json").read_text())
    assert plan["data_name"] == "LiTS"
    assert plan["modality"] == "CT"
    assert [label["name"] for label in plan["labels"]] == ["background", "liver", "tumour"]
    (channel,) = plan["configurations"][0]["preprocessing"]["channels"]
    (found,) = fingerprint_now(open_data_set(data, recipe="lits")).channels
    assert (channel["normalisation"], channel["statistics"]) == ("ct", found.model_dump())
    assert found.percentile_00_5 > -250, "of the organ, not of the air around it"
    capsys.readouterr()
    assert main(["train", str(data), "--recipe", "litz", "--out", str(out)]) == 2
    assert "Choose one of lits, " in capsys.readouterr().err


def test_a_plan_can_be_made_of_the_training_part_alone_and_for_other_networks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = _lits(tmp_path / "lits"), tmp_path / "plan"
    words = ["train", str(data), "--recipe", "lits", "--plan-only", "--out", str(out)]

    assert main([*words, "--fingerprint", "train", "--fold", "2", "--target", "residual", "--gpu-gb", "4"]) == 0

    plan = json.loads((out / "plan.json").read_text())
    assert sorted(plan["fingerprint"]["cases"]) == sorted(plan["folds"][2]["train"])
    assert len(plan["fingerprint"]["cases"]) == 4
    assert plan["fingerprint"]["gpu_gb"] == 4
    assert plan["configurations"][0]["network"]["name"] == "nnunet-residual"
    capsys.readouterr()
    for more, said in (
        (["--net", "unet", "--gpu-gb", "4"], "--gpu-gb changes nothing beside --net"),
        (["--net", "unet", "--target", "residual"], "--target changes nothing"),
        (["--budget", "modern", "--fingerprint", "train"], "--fingerprint changes nothing beside --budget"),
        (["--target", "huge"], "no planner named huge"),
        (["--gpu-gb", "0"], "--gpu-gb cannot be 0"),
        (["--fingerprint", "train", "--fold", "7"], "no fold 7"),
    ):
        assert main([*words, *more]) == 2
        assert said in capsys.readouterr().err
    assert main(["crossval", *words[1:], "--fingerprint", "train"]) == 2
    assert "lsnet train --fold N" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"epochs": 0}, "epochs must be 1 or more, not 0"),
        ({"optimiser": {"rate": "fast"}}, "optimiser.rate must be a number, not fast"),
        ({"loss": "l2"}, "loss must be dice_ce, dice, ce or dice-paper, not l2"),
        ({"epoch": 3}, "epoch is not known here"),
    ],
)
def test_a_plan_that_cannot_be_is_refused_by_its_field(
    change: dict[str, Any], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = write_pictures(tmp_path / "data", discs(2, (22, 24))), tmp_path / "plan"
    assert main(["train", str(data), "--net", "unet", "--plan-only", "--out", str(out)]) == 0
    plan = json.loads((out / "plan.json").read_text())
    (out / "plan.json").write_text(json.dumps(plan | change))
    capsys.readouterr()

    assert main(["train", str(data), "--plan", str(out / "plan.json"), "--out", str(tmp_path / "run")]) == 2

    line = capsys.readouterr().err
    assert said in line
    assert line.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("count", "unit", "text"),
    [
        (0, "B", "0 B"),
        (999, "B", "999 B"),
        (3_400_000, "B", "3.4 MB"),
        (999_700, "B", "1.0 MB"),
        (9_960_000, "B", "10 MB"),
        (1.26e9, "FLOP", "1.3 GFLOP"),
        (4.2e13, "FLOP", "42 TFLOP"),
    ],
)
def test_amounts_have_the_unit_that_suits_them(count: float, unit: str, text: str) -> None:
    assert amount(count, unit) == text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--epochs", "0"], "--epochs must be 1 or more, not 0"),
        (["--batch", "0"], "--batch must be 1 or more, not 0"),
        (["--lr", "0"], "--lr must be above 0, not 0"),
        (["--set", "epochs=0"], "epochs must be 1 or more, not 0"),
        (["--workers", "-1"], "--workers cannot be -1"),
    ],
)
def test_a_flag_that_cannot_be_is_named_as_it_was_written(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_pictures(tmp_path / "data", discs(2, (22, 24)))
    assert main(["train", str(data), "--net", "unet", *RUN, "--out", str(tmp_path / "run"), *words]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_labels_on_another_grid_are_told_from_their_image_of_the_same_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_pictures(tmp_path / "data", discs(2, (22, 24)))
    tifffile.imwrite(data / "labels" / "case00.tif", np.ones((20, 20), np.uint8))
    (data / "labels" / "case00.png").unlink()
    assert main(["train", str(data), *TINY, *RUN, "--out", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert "labels/case00.tif" in said
    assert "images/case00.png" in said


def test_the_cost_of_a_small_step_is_no_zero(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_pictures(tmp_path / "data", discs(2, (22, 24)))

    assert main(["train", str(data), *TINY, *RUN, "--out", str(tmp_path / "run")]) == 0

    (line,) = (line for line in capsys.readouterr().out.splitlines() if "A step takes" in line)
    assert "kB of memory" in line
    assert " 0" not in line
