"""`lsnet evolve --strokes` and `--clusters`: the mask that Python makes, made again by `replay`, and refusals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from src_models.cli import main
from src_models.files import read_segmentation
from src_models.levelset import LevelSetParameters, evolve
from src_models.levelset.classifier import ClassifierParameters
from src_models.levelset.clustering import ClusterParameters
from src_models.levelset.recipes import ClassifierSpeed, ClusterSpeed
from src_models.progress import finish
from src_models.record import Record, record_path
from tests.scenes import dice, star_scene

STAR = star_scene(12.0, size=96)
FOREST = ["--trees", "9", "--feature-sigmas", "1,3"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An image, seeds and strokes with label 2 on the structure and 5 on the rest, as pictures."""
    strokes = np.zeros(STAR.image.shape, np.uint8)
    strokes[44:50, 36:60], strokes[4:8, :] = 2, 5
    for name, array in {
        "image": np.clip(np.rint(STAR.image), 0, 255).astype(np.uint8),
        "seeds": STAR.start.astype(np.uint8),
        "strokes": strokes,
        "small": strokes[1:],
        "nothing": np.zeros_like(strokes),
    }.items():
        Image.fromarray(array).save(tmp_path / f"{name}.png")
    return tmp_path


def read(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def words(folder: Path, *more: object, out: str = "out.png") -> list[str]:
    begin = ["evolve", folder / "image.png", "--seeds", folder / "seeds.png", "--out", folder / out]
    return [str(word) for word in (*begin, *more)]


RECIPES = {
    "strokes": (
        ["--strokes", "strokes.png", "--stroke-label", "2", *FOREST],
        lambda folder, cut: ClassifierSpeed(
            read(folder / "strokes.png")[cut], ClassifierParameters(trees=9, feature_sigmas=(1.0, 3.0)), label=2
        ),
    ),
    "clusters": (
        ["--clusters", "2", "--cluster-sigma", "0.5"],
        lambda folder, cut: ClusterSpeed(ClusterParameters(clusters=2, cluster_sigma=0.5)),
    ),
}


@pytest.mark.parametrize("crop", [None, "2:96,0:90"])
@pytest.mark.parametrize("name", RECIPES)
def test_the_command_makes_the_mask_of_python_and_replay_makes_it_again(
    name: str, crop: str | None, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    flags, recipe = RECIPES[name]
    cut = (slice(None), slice(None)) if crop is None else (slice(2, 96), slice(0, 90))
    assert main(words(folder, "--speed", "region", *flags, *(["--crop", crop] if crop else []))) == 0
    mask = read_segmentation(folder / "out.png").labels > 0
    image, seeds = read(folder / "image.png")[cut], read(folder / "seeds.png")[cut] > 0
    result = finish(evolve(image, seeds, (1.0, 1.0), LevelSetParameters(speed="region"), recipe(folder, cut)))
    np.testing.assert_array_equal(mask[cut], result.mask)
    assert dice(mask, STAR.truth) > 0.9
    record = Record.read(record_path(folder / "out.png"))
    assert record.inputs == result.record.inputs
    for drawn in ("strokes.png", "seeds.png"):
        (folder / drawn).unlink()
    assert main(["replay", str(folder / "out.lsnet.json")]) == 0
    assert main(["info", str(folder / "out.lsnet.json")]) == 0
    assert "speed     from" in capsys.readouterr().out


def test_programs_hear_of_the_preparation(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--strokes", folder / "strokes.png", "--stroke-label", 2, *FOREST, "--speed", "region", "--steps", 2]
    assert main(words(folder, *flags, "--json")) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    wanted = {"event": "preparing", "phase": "classifier", "fraction": 0.0, "message": "Training the classifier"}
    assert events[0] == wanted | {"notes": []}
    assert events[-1]["event"] == "result"


REFUSED = {
    "edges": (["--strokes", "strokes.png"], "Strokes and clusters give a region speed"),
    "edges and clusters": (["--clusters", "3"], "Strokes and clusters give a region speed"),
    "two sources": (
        ["--speed", "region", "--strokes", "strokes.png", "--clusters", "3"],
        "--strokes and --clusters cannot be used together",
    ),
    "a file too": (
        ["--speed", "region", "--strokes", "strokes.png", "--speed-image", "image.png"],
        "--speed-image and --strokes cannot be used together",
    ),
    "trees alone": (["--speed", "region", "--trees", "9"], "--trees does nothing without --strokes"),
    "label alone": (["--speed", "region", "--stroke-label", "2"], "--stroke-label does nothing without --strokes"),
    "blur alone": (["--speed", "region", "--cluster-sigma", "1"], "--cluster-sigma does nothing without --clusters"),
    "one cluster": (["--speed", "region", "--clusters", "1"], "--clusters cannot be 1"),
    "no trees": (["--speed", "region", "--strokes", "strokes.png", "--trees", "0"], "--trees cannot be 0"),
    "no label": (["--speed", "region", "--strokes", "strokes.png"], "No stroke has label 1"),
    "nothing painted": (["--speed", "region", "--strokes", "nothing.png"], "There are no strokes"),
    "another grid": (["--speed", "region", "--strokes", "small.png"], "different grids"),
    "no file": (["--speed", "region", "--strokes", "missing.png"], "missing.png"),
    "over an input": (["--speed", "region", "--strokes", "strokes.png", "--overwrite"], "strokes.png is an input"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused_in_one_sentence(
    case: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    flags, sentence = REFUSED[case]
    before = sorted(path.name for path in folder.iterdir())
    assert main(words(folder, *flags, out="strokes.png" if case == "over an input" else "out.png")) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert sentence in told.err
    assert told.err.count("\n") == 1
    assert sorted(path.name for path in folder.iterdir()) == before
