"""`lsnet fit` and `lsnet evolve` on a folder: from accepted masks to a parameter file to a table of outcomes."""

from __future__ import annotations

import csv
import json
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from src_models.cli import main
from src_models.files import read_segmentation
from src_models.levelset import LevelSetParameters, evolve
from src_models.progress import finish
from src_models.record import Record
from tests.scenes import ball, dice, picture

SHAPE, H = (40, 40), (1.0, 1.0)
CENTRES = {"a": (18.0, 19.0), "b": (21.0, 17.0), "c": (20.0, 22.0)}


def body(name: str, radius: float) -> np.ndarray:
    return ball(SHAPE, H, radius, CENTRES[name]) > 0


def folders(tmp_path: Path, names: str = "abc") -> tuple[Path, Path, Path]:
    """Bright discs of radius 9 in a dimmer ring, their masks, and seeds of radius 4, as PNG."""
    made = tuple(tmp_path / kind for kind in ("images", "masks", "seeds"))
    for folder in made:
        folder.mkdir()
    for name in names:
        disc = picture(ball(SHAPE, H, 9.0, CENTRES[name]), H, 0.0, 0, blur_voxels=0.6)
        ring = picture(ball(SHAPE, H, 14.0, CENTRES[name]), H, 3.0, ord(name), blur_voxels=1.5)
        grey = np.clip(disc + 0.5 * ring - 60, 0, 255)
        for folder, array in zip(made, (grey, body(name, 9.0), body(name, 4.0)), strict=True):
            Image.fromarray(np.asarray(array).astype(np.uint8)).save(folder / f"{name}.png")
    return made[0], made[1], made[2]


REGION = ["--speed", "region", "--lower", "74", "--upper", "400"]
QUICK = ["--iterations", "5", "--rate", "0.4", "--unrolled-steps", "60"]


def rows_of(table: Path) -> list[dict[str, str]]:
    with table.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def fails(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str]:
    code = main([str(word) for word in words])
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1, captured.err
    return code, captured.err


def test_learned_on_one_applied_to_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images, masks, seeds = folders(tmp_path)
    out = tmp_path / "learned.toml"
    words = [images / "a.png", "--accepted", masks / "a.png", "--point", "18,19:4", "--out", out, *REGION, *QUICK]
    assert main(["fit", *map(str, words), "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[-1]["event"] == "result"
    assert lines[-1]["dice_after"] > lines[-1]["dice_before"] + 0.1
    assert {"loss", "dice", "lower"} <= set(lines[-2])
    values = tomllib.loads(out.read_text())
    record = Record.read(tmp_path / "learned.lsnet.json")
    learned = LevelSetParameters(**values)
    assert learned == LevelSetParameters(**record.result["parameters"])
    assert record.local["source_1"] == "images/a.png"

    results = tmp_path / "results"
    words = [images, "--seeds", seeds, "--parameters", out, "--out", results]
    assert main(["evolve", *map(str, words)]) == 0
    rows = rows_of(results / "outcomes.csv")
    assert [row["image"] for row in rows] == ["a.png", "b.png", "c.png"]
    for name, row in zip("abc", rows, strict=True):
        found = read_segmentation(results / row["mask"]).labels != 0
        assert dice(found, body(name, 9.0)) > 0.9
        assert int(row["voxels"]) == found.sum()
        grey = np.asarray(Image.open(images / f"{name}.png"))
        plain = finish(evolve(grey, body(name, 4.0), H, learned))
        np.testing.assert_array_equal(found, plain.mask)
        assert row["outcome"] == plain.stop_reason
        assert Record.read(results / f"{name}.lsnet.json").result["steps"] == int(row["steps"])
    assert main(["info", str(tmp_path / "learned.lsnet.json")]) == 0


def test_folders_are_paired_by_name(tmp_path: Path) -> None:
    images, masks, seeds = folders(tmp_path, "ab")
    out = tmp_path / "p.toml"
    words = [images, "--accepted", masks, "--seeds", seeds, "--out", out, *REGION, "--iterations", "1"]
    words += ["--unrolled-steps", "10", "--no-screen", "--steps", "30"]
    assert main(["fit", *map(str, words)]) == 0
    assert len(Record.read(tmp_path / "p.lsnet.json").inputs["slices"]) == 2


def test_a_broken_file_is_a_row_and_the_rest_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images, _, seeds = folders(tmp_path)
    (images / "b.png").write_bytes(b"\x89PNG\r\n\x1a\n and then nothing")
    (images / "note.txt").write_text("no image")
    (seeds / "c.png").unlink()
    out = tmp_path / "results"
    assert main(["evolve", str(images), "--seeds", str(seeds), "--out", str(out), *REGION, "--steps", "5"]) == 1
    said = capsys.readouterr()
    assert "1 of 3 images done" in said.out
    rows = rows_of(out / "outcomes.csv")
    assert [row["outcome"] for row in rows] == ["steps", "failed", "failed"]
    assert "b.png" in rows[1]["message"]
    assert "one file named c is needed" in rows[2]["message"]
    assert not (out / "b.png").exists()
    again = ["evolve", str(images), "--seeds", str(seeds), "--out", str(out), *REGION]
    assert fails(capsys, *again)[0] == 2
    assert main([*again, "--steps", "3", "--overwrite", "--json"]) == 1
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert events[-1] == {"event": "result", "images": 3, "failed": 2, "table": str(out / "outcomes.csv")}
    assert sum(event["event"] == "image" for event in events) == 3


def test_a_file_name_is_no_formula(tmp_path: Path) -> None:
    images, _, seeds = folders(tmp_path, "a")
    for folder in (images, seeds):
        (folder / "a.png").rename(folder / "=1+2.png")
    out = tmp_path / "results"
    assert main(["evolve", str(images), "--seeds", str(seeds), "--out", str(out), "--steps", "2"]) == 0
    assert rows_of(out / "outcomes.csv")[0]["image"] == "'=1+2.png"


def test_two_images_of_one_name_do_not_share_a_record(tmp_path: Path) -> None:
    images, _, _ = folders(tmp_path, "a")
    Image.open(images / "a.png").save(images / "a.tif")
    out = tmp_path / "results"
    assert main(["evolve", str(images), "--point", "18,19:4", "--out", str(out), "--steps", "2"]) == 1
    assert [row["outcome"] for row in rows_of(out / "outcomes.csv")] == ["steps", "failed"]


def test_refusals_are_sentences(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images, masks, seeds = folders(tmp_path, "ab")
    both = [images / "a.png", images / "b.png"]
    out: list[Any] = ["--out", tmp_path / "p.toml"]

    def fit_fails(*words: object) -> str:
        code, said = fails(capsys, "fit", *words)
        assert code == 2
        assert not (tmp_path / "p.toml").exists()
        return said

    accepted = ["--accepted", masks]
    assert "2 images but 1 accepted masks" in fit_fails(*both, "--accepted", masks / "a.png", "--seeds", seeds, *out)
    assert "2 images but 1 points" in fit_fails(*both, *accepted, "--point", "18,19:4", *out)
    assert "must end in .toml" in fit_fails(*both, *accepted, "--seeds", seeds, "--out", tmp_path / "p.json")
    assert "lower cannot be learned" in fit_fails(*both, *accepted, "--seeds", seeds, *out, "--learn", "lower")
    assert "--rate cannot be 7" in fit_fails(*both, *accepted, "--seeds", seeds, *out, "--rate", "7")
    assert "lie outside its accepted mask" in fit_fails(both[0], *accepted, "--point", "1,1:1", *out)
    chan_vese = ["--speed", "region", "--region", "chan_vese"]
    assert "Chan-Vese" in fit_fails(*both, *accepted, "--seeds", seeds, *out, *chan_vese)
    assert "holds no image" in fails(capsys, "evolve", tmp_path, "--point", "1,1:1", "--out", tmp_path / "o")[1]
    assert "a folder that is read" in fails(capsys, "evolve", images, "--seeds", seeds, "--out", seeds)[1]
    lonely = tmp_path / "learned"
    assert (
        "for one image"
        in fails(capsys, "evolve", images, "--seeds", seeds, "--out", lonely, "--distance", tmp_path / "d.png")[1]
    )
