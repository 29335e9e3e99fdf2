"""``lsnet weights``: from an nnU-Net folder to a bundle, and what programs read."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from src_models.cli import main
from src_models.weights import store
from src_models.weights.manifest import Manifest, Offer
from tests.src_models.weights.models import card_for, small_network
from tests.src_models.weights.server import Server

NNUNET = Path(__file__).parents[1] / "data" / "nnunet"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder of models, as the environment names it."""
    place = tmp_path / "models"
    monkeypatch.setenv("LSNET_MODELS", str(place))
    return place


def _last(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out.strip().splitlines()[-1])


def test_the_list_is_one_json_list_of_objects_with_names(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network = small_network()
    folder.mkdir()
    store.save(network, card_for(network), folder)
    for words in (["weights", "list", "--json"], ["weights", "--json", "list"]):
        assert main(words) == 0
        out = capsys.readouterr().out
        listed = {entry["name"]: entry for entry in json.loads(out)}
        mine = listed["unet-phantom-2d"]
        assert (mine["state"], mine["licence"], len(mine["sha256"])) == ("installed", "CC-BY-SA-4.0", 64)
    assert main(["weights", "list"]) == 0
    assert "unet-phantom-2d@1" in capsys.readouterr().out


def test_import_show_verify_export(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["weights", "import", str(NNUNET / "plain"), "--licence", "CC-BY-4.0", "--folds", "0"]) == 0
    assert "nnunet-plain-3d_fullres-fold0@1" in capsys.readouterr().out
    assert main(["weights", "show", "nnunet-plain-3d_fullres-fold0"]) == 0
    shown = capsys.readouterr().out
    for words in ("Research use only", "CT (ct)", "2 x 1 x 1 mm", "1 liver", "CC-BY-4.0", "SHA-256"):
        assert words in shown
    assert main(["weights", "verify", "nnunet-plain-3d_fullres-fold0", "--json"]) == 0
    assert _last(capsys)["state"] == "installed"
    out = tmp_path / "bundle"
    words = ["weights", "export", "nnunet-plain-3d_fullres-fold0", "--to", "bundle", "--out", str(out)]
    assert main(words) == 0
    assert (out / "configs" / "metadata.json").is_file()
    assert main(["weights", "import", str(out), "--name", "again", "--json"]) == 0
    one, other = (store.load(name, folder) for name in ("again", "nnunet-plain-3d_fullres-fold0"))
    x = torch.rand(1, 1, 9, 14, 11)
    assert torch.equal(one.network(x), other.network(x))
    capsys.readouterr()
    assert main(words) != 0
    assert "--overwrite" in capsys.readouterr().err


def test_a_folder_for_others_holds_both_files(folder: Path, tmp_path: Path) -> None:
    network = small_network()
    folder.mkdir()
    store.save(network, card_for(network), folder)
    assert main(["weights", "export", "unet-phantom-2d", "--out", str(tmp_path / "shared")]) == 0
    assert store.load(tmp_path / "shared").card == store.load(folder).card


def test_damage_is_found(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network = small_network()
    folder.mkdir()
    store.save(network, card_for(network), folder)
    file = folder / "unet-phantom-2d@1.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(bytes(content))
    assert main(["weights", "verify", "unet-phantom-2d"]) == 2
    assert "not the file that it should be" in capsys.readouterr().out
    file.write_bytes(bytes(content[:-1]))
    assert main(["weights", "list"]) == 0
    assert "cut short" in capsys.readouterr().out
    assert main(["weights", "show", "unet-phantom-2d", "--json"]) == 0
    assert _last(capsys)["state"] == "damaged"


def test_a_file_of_tensors_with_options(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network = small_network()
    file = tmp_path / "weights.pth"
    torch.save(network.state_dict(), file)
    words = ["weights", "import", str(file), "--net", "unet", "--set", "depth=2", "--set", "base_width=4"]
    assert main([*words, "--json"]) == 0
    assert [model["name"] for model in _last(capsys)["models"]] == ["weights"]
    assert store.load("weights", folder).card.network == network.config


def test_get_downloads_what_a_list_names_and_offline_says_what_to_do(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    network = small_network()
    card = store.save(network, card_for(network, name="far-away"), tmp_path / "served.safetensors")
    server = Server((tmp_path / "served.safetensors").read_bytes())
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    offer = Offer(
        urls=(server.address(),), sha256=card.sha256, size_bytes=card.size_bytes, licence="CC-BY-SA-4.0", card=card
    )
    manifest = tmp_path / "list.json"
    manifest.write_text(Manifest(models=(offer,)).model_dump_json(), encoding="utf-8")
    try:
        assert main(["weights", "list", "--manifest", str(manifest), "--json"]) == 0
        assert [entry["state"] for entry in _last(capsys) if entry["name"] == "far-away"] == ["available"]
        assert main(["weights", "get", "far-away", "--manifest", str(manifest), "--offline"]) == 2
        said = capsys.readouterr().err
        assert all(word in said for word in ("far-away@1.safetensors", str(folder), card.sha256))
        assert server.asked == []
        assert main(["weights", "get", "far-away", "--manifest", str(manifest), "--json"]) == 0
        assert _last(capsys)["state"] == "installed"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert store.load("far-away", folder).card == card


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["show", "nothing-like-it"], "no model named"),
        (["get", "nothing-like-it"], "can be downloaded"),
        (["show", "liver"], "did you mean unet-liver-2d? See lsnet"),
        (["import", "missing"], "was not found"),
        (["export", "nothing-like-it", "--out", "x"], "no model named"),
        (["import", str(NNUNET / "plain"), "--set", "depth"], "cannot be read"),
    ],
)
def test_bad_requests_are_told_in_one_line(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["weights", *words]) not in (0, 70)
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_a_model_that_is_here_needs_no_download(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["weights", "get", "unet-liver-2d"]) == 0
    assert "is here already (shipped)" in capsys.readouterr().out
    assert main(["weights", "get", "unet-liver-2d", "--json"]) == 0
    assert _last(capsys)["state"] == "shipped"


def test_scores_of_a_single_label_are_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    """The mean over one label says again what the label says; over two it does not."""
    for name, twice in (("unet-liver-2d", False), ("nnunet-hippocampus-3d", True)):
        assert main(["weights", "show", name]) == 0
        rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  scores")]
        assert rows
        assert any("name mean" in row for row in rows) is twice
        assert len({row.replace("name liver", "name mean") for row in rows}) == len(rows)


def test_a_second_export_names_the_flag_that_allows_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["weights", "export", "unet-liver-2d", "--out", str(tmp_path / "out")]
    assert main(words) == 0
    assert main(words) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main([*words, "--overwrite"]) == 0


def test_the_path_is_told_and_not_made(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["weights", "path"]) == 0
    assert capsys.readouterr().out.strip() == str(folder)
    assert not folder.exists()
