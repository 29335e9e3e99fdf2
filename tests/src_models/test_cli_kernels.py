"""``lsnet kernels``: what it writes, and what it says to what it cannot use."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from src_models.cli import main
from src_models.kernels.exchange import read_terms
from src_models.kernels.report import from_csv, read_parquet
from src_models.record import Record
from src_models.weights.store import save
from tests.src_models.kernels.networks import seeded
from tests.src_models.weights.models import card_for, small_network

FLAGS = ["--n", "16", "--null-draws", "200", "--cluster-draws", "2", "--threads", "1"]


def _weights(folder: Path, seed: int = 0) -> Path:
    network = seeded(nn.Sequential(nn.Conv2d(1, 6, 3), nn.Conv2d(6, 4, 3), nn.Conv2d(4, 1, 1)), seed)
    path = folder / f"weights{seed}.pth"
    torch.save(network.state_dict(), path)
    return path


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_the_command_writes_table_summary_figures_and_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    words = ["kernels", str(_weights(tmp_path)), "--compare", str(_weights(tmp_path, 1)), "--out", str(out), *FLAGS]
    assert main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["event"] == "result"
    assert told["kernels"] == 30
    assert sorted(told["files"]) == sorted(path.name for path in out.iterdir())
    expected = {"kernels.csv", "kernels.parquet", "kernels.json", "kernels.html", "kernels.lsnet.json", "changes.csv"}
    assert expected <= set(told["files"])
    one, other = from_csv((out / "kernels.csv").read_bytes()), read_parquet(out / "kernels.parquet")
    assert len(one) == len(other) == 30
    assert np.array_equal(one.words("label"), other.words("label"))
    page = (out / "kernels.html").read_text(encoding="utf-8")
    assert "Change from weights1 to weights0" in page
    assert "Change by layer" in page
    assert "changes.png" in told["files"]
    assert Record.read(out / "kernels.lsnet.json").parameters["null_draws"] == 200
    assert main(["replay", str(out / "kernels.lsnet.json")]) == 0
    assert "same table, bit for bit" in capsys.readouterr().out
    assert main(["replay", str(out / "kernels.lsnet.json"), "--weights", str(_weights(tmp_path, 1))]) == 2
    assert "not the one of the record" in capsys.readouterr().err
    assert main(words) == 2, "an earlier result is not replaced"
    assert "--overwrite" in capsys.readouterr().err
    log = tmp_path / "log.csv"
    log.write_text("epoch,drift_level0_rho_0\n1,0\n2,0.25\n")
    assert main([*words, "--overwrite", "--log", str(tmp_path / "weights0.pth")]) == 2
    assert "not the log of a training" in capsys.readouterr().err
    assert main([*words, "--overwrite", "--no-figures", "--log", str(log)]) == 0
    assert "Drift in training" in (out / "kernels.html").read_text(encoding="utf-8")
    said = capsys.readouterr().out
    assert "30 kernels in 2 layers" in said
    assert "laplacian" in said
    assert "1 x 1 kernels have no shape" in said


def _data(folder: Path) -> Path:
    random = np.random.default_rng(0)
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True)
    for patient in range(3):
        for k in range(2):
            grey = random.integers(0, 60, (40, 40)).astype(np.uint8)
            mask = np.zeros((40, 40), np.uint8)
            grey[8:30, 8:30] += 120
            mask[8:30, 8:30] = 1
            name = f"p{patient}_s{k}.png"
            Image.fromarray(grey).save(folder / "images" / name)
            Image.fromarray(mask).save(folder / "labels" / name)
    return folder


def test_a_knock_out_is_written_beside_its_controls(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    network = small_network()
    save(network, card_for(network, patch=(32, 32)), tmp_path)
    model = str(tmp_path / "unet-phantom-2d@1.safetensors")
    words = ["kernels", model, "--out", str(out), "--no-figures", *FLAGS]
    assert main([*words, "--knock-out", "labels"]) == 2
    assert "Give --data FOLDER" in capsys.readouterr().err
    assert main([*words, "--knock-out", "colour=red", "--data", str(tmp_path)]) == 2
    data = ["--data", str(_data(tmp_path / "data")), "--groups", "^(p[0-9]+)_", "--most", "1", "--patients", "p0,p2"]
    assert main([*words, *data, "--knock-out", "layer=encoder.0.0*", "--controls", "2", "--doses"]) == 0
    capsys.readouterr()
    written = {path.name for path in out.iterdir()}
    assert {"effects.csv", "effects_cases.csv", "effects.json", "effects.html"} <= written
    assert not any(name.endswith(".png") for name in written), "none was wanted"
    told = json.loads((out / "effects.json").read_text(encoding="utf-8"))
    assert [dose[0] for dose in told["effects"][0]["doses"]] == [0, 0.25, 0.5, 0.75, 1]
    assert told["effects"][0]["distance"]["unit"] == "px"
    assert len((out / "effects_cases.csv").read_text(encoding="utf-8").splitlines()) == 3
    (head, row) = (out / "effects.csv").read_text(encoding="utf-8").splitlines()
    values = dict(zip(head.split(","), row.split(","), strict=True))
    assert values["patients"] == "2"
    assert values["kernels"] == "4"
    assert float(values["change"]) == pytest.approx(float(values["control_mean"])), "a whole layer has no other control"
    assert main([*words, "--regions"]) == 2
    assert "Give --data FOLDER" in capsys.readouterr().err
    assert main([*words, *data, "--regions", "--band", "0"]) == 2
    assert main([*words, *data, "--overwrite", "--regions", "--band", "2"]) == 0
    rows = list(csv.DictReader((out / "regions.csv").read_text(encoding="utf-8").splitlines()))
    assert {row["region"] for row in rows} == {"inside", "boundary", "outside"}
    assert {row["patients"] for row in rows} == {"2"}
    assert "Where kernels answer" in (out / "kernels.html").read_text(encoding="utf-8")
    assert main([*words, *data, "--overwrite", "--patients", "p9", "--knock-out", "labels"]) == 2
    assert "no patient p9" in capsys.readouterr().err
    assert main([*words, *data, "--overwrite", "--renormalise", "--knock-out", "labels"]) == 2
    assert "no batch norm" in capsys.readouterr().err


def test_kernels_are_written_as_terms_of_the_solver(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, file = tmp_path / "out", tmp_path / "terms.safetensors"
    words = ["kernels", str(_weights(tmp_path)), "--out", str(out), "--no-figures", "--overwrite", *FLAGS]
    assert main([*words, "--rho", "rows=1"]) == 2
    assert "Give it with --terms FILE" in capsys.readouterr().err
    assert main([*words, "--terms", str(file)]) == 2
    assert "Say with --rho" in capsys.readouterr().err
    assert not file.exists()
    assert main([*words, "--terms", str(file), "--rho", "rows=1,2", "--project", "--json"]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert {"terms.safetensors", "terms.json"} <= set(told["files"])
    assert any("eigenvalues" in note for note in told["notes"])
    terms = read_terms(file)
    assert terms.rho.shape == (2, 3, 3)
    assert np.abs(terms.rho.sum((1, 2))).max() < 1e-12
    assert main([*words, "--terms", str(file), "--rho", "rows=1,2", "--project"]) == 0
    said = capsys.readouterr().out
    assert f"Saved {len(list(out.iterdir()))} files in {out}" in said
    assert f"Saved the terms in {tmp_path}: terms.safetensors, terms.json." in said
    assert main([word for word in [*words, "--terms", str(file), "--rho", "rows=1"] if word != "--overwrite"]) == 2
    assert "terms.safetensors exists already" in capsys.readouterr().err


class _Evil:
    def __reduce__(self) -> Any:
        return (print, ("run",))


def test_bad_models_are_one_sentence_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "linear.pth")
    state = nn.Conv2d(1, 2, 3).state_dict()
    state["weight"][0, 0, 0, 0] = float("nan")
    torch.save(state, tmp_path / "nan.pth")
    torch.save({"state_dict": _Evil()}, tmp_path / "evil.pth")
    (tmp_path / "broken.safetensors").write_bytes(b"no")
    cases = {
        "linear.pth": (2, "no kernels to analyse"),
        "nan.pth": (2, "1 of 18 weights of"),
        "evil.pth": (2, "was not opened"),
        "broken.safetensors": (2, "safetensors"),
        "unet-livre-2d": (2, "did you mean unet-liver-2d"),
    }
    for name, (code, words) in cases.items():
        path = tmp_path / name
        assert main(["kernels", str(path) if path.exists() else name, "--out", str(tmp_path / "out"), *FLAGS]) == code
        said = capsys.readouterr().err.strip()
        assert words in said, name
        assert said.count("\n") == 0, name
