"""``lsnet evolve --all-labels``: the same labels as Python and replay, tables for single labels, refusals."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from src_models.cli import main
from src_models.files import read_segmentation
from src_models.levelset import LevelSetParameters, evolve_labels
from src_models.progress import finish
from src_models.record import Record
from tests.scenes import ball

SHAPE = (50, 70)
REGION = ["--speed", "region", "--lower", "50", "--upper", "150", "--steps", "60", "--no-auto-stop"]


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A picture with two bright discs, seeds 2 and 5 in them and 9 between, and a label that is there already."""
    grey = np.full(SHAPE, 10.0)
    for x in (20.0, 50.0):
        grey += 90 / (1 + np.exp(-ball(SHAPE, (1.0, 1.0), 13.0, (25.0, x))))
    seeds = np.zeros(SHAPE, np.uint8)
    for number, x in ((2, 20.0), (5, 50.0), (9, 35.0)):
        seeds[ball(SHAPE, (1.0, 1.0), 3.0, (25.0, x)) > 0] = number
    there = np.zeros(SHAPE, np.uint8)
    there[10:40, 24:27] = 7
    for name, array in (("image", grey.round().astype(np.uint8)), ("seeds", seeds), ("there", there)):
        Image.fromarray(array).save(tmp_path / f"{name}.png")
    (tmp_path / "labels.toml").write_text("curvature = 0.1\n[label.9]\nlower = 5.0\nupper = 40.0\n", encoding="utf-8")
    return tmp_path


def evolve(folder: Path, *more: str) -> int:
    words = ["evolve", folder / "image.png", "--seeds", folder / "seeds.png", "--out", folder / "out.png", *more]
    return main([str(word) for word in words])


def read(path: Path) -> np.ndarray:
    return np.asarray(read_segmentation(path).labels).reshape(SHAPE)


def test_every_label_grows_and_keeps_its_number(files, capsys):
    more = ["--all-labels", "--parameters", str(files / "labels.toml"), "--protect", str(files / "there.png"), *REGION]
    assert evolve(files, *more) == 0
    said = capsys.readouterr().out
    assert "3 labels" in said
    found = read(files / "out.png")
    assert set(np.unique(found)) == {0, 2, 5, 9}
    common = LevelSetParameters(speed="region", lower=50, upper=150, steps=60, auto_stop=False, curvature=0.1)
    own = {2: common, 5: common, 9: common.model_copy(update={"lower": 5.0, "upper": 40.0})}
    image, seeds, there = (read(files / f"{name}.png") for name in ("image", "seeds", "there"))
    python = finish(evolve_labels(image, seeds, (1.0, 1.0), own, protected=there))
    assert np.array_equal(found, python.labels)
    assert not found[there > 0].any()
    assert (found == 9).sum() > 200

    assert main(["replay", str(files / "out.lsnet.json"), "--out", str(files / "again.png")]) == 0
    assert "labels are the same, bit for bit" in capsys.readouterr().out
    assert np.array_equal(read(files / "again.png"), found)
    assert main(["info", str(files / "out.lsnet.json")]) == 0
    assert "label 9" in capsys.readouterr().out


def test_programs_get_one_entry_a_label(files, capsys):
    assert evolve(files, "--all-labels", "--json", *REGION) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[-1]["event"] == "result"
    assert {k: v["voxels"] for k, v in lines[-1]["labels"].items()} == {
        str(k): int((read(files / "out.png") == k).sum()) for k in (2, 5, 9)
    }
    assert lines[0]["event"] == "progress"
    assert "label_2_mm2" in lines[0]


def test_a_replay_that_differs_says_so(files, capsys):
    assert evolve(files, "--all-labels", *REGION) == 0
    path = files / "out.lsnet.json"
    record = Record.read(path)
    steps = {k: values | {"steps": 50} for k, values in record.parameters["labels"].items()}
    path.write_text(record.model_copy(update={"parameters": {"labels": steps}}).to_json(), encoding="utf-8")
    capsys.readouterr()
    assert main(["replay", str(path)]) == 1
    assert "differs in" in capsys.readouterr().out


def test_protected_labels_are_walls_for_one_front_too(files):
    assert evolve(files, "--label", "2", "--protect", str(files / "there.png"), *REGION) == 0
    found, there = read(files / "out.png"), read(files / "there.png")
    assert not found[there > 0].any()
    assert (found == 2).sum() > 50
    assert main(["replay", str(files / "out.lsnet.json")]) == 0


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--distance", "d.nrrd"], "--distance does not go with --all-labels"),
        (["--speed-image", "s.nrrd"], "--speed-image does not go with --all-labels"),
        (["--parameters", "wrong.toml"], "not a parameter"),
        (["--parameters", "nowhere.toml"], "no label 4"),
        (["--parameters", "bare.toml"], "without a number"),
        (["--parameters", "value.toml"], r"lower of \[label.9\]"),
    ],
)
def test_refusals(files, monkeypatch, capsys, more, said):
    monkeypatch.chdir(files)
    for name, text in (
        ("wrong", "[label.9]\nlowr = 3\n"),
        ("nowhere", "[label.4]\nlower = 3\n"),
        ("bare", "label = 3\n"),
        ("value", '[label.9]\nlower = "much"\n'),
    ):
        (files / f"{name}.toml").write_text(text, encoding="utf-8")
    assert evolve(files, "--all-labels", *more) == 2
    assert re.search(said, capsys.readouterr().err)
    assert not (files / "out.png").exists()


def test_label_tables_want_all_labels(files, capsys):
    assert evolve(files, "--label", "2", "--parameters", str(files / "labels.toml"), *REGION) == 2
    assert "'label', which is not a parameter" in capsys.readouterr().err
