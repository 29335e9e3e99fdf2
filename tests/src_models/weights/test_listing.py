"""The list of models: what is here, what could be, what is damaged; without torch, hashing or a network."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from src_models.errors import FileError
from src_models.weights import store
from src_models.weights.manifest import MANIFEST, Manifest, Offer, read_manifest
from tests.src_models.weights.models import card_for, small_network


def _offer(**changes: object) -> Offer:
    card = card_for(small_network(), sha256="a" * 64, size_bytes=10, name="far-away")
    content = {
        "urls": ("https://models.invalid/far.safetensors",),
        "sha256": "a" * 64,
        "size_bytes": 10,
        "licence": "CC-BY-SA-4.0",
        "card": card,
    }
    return Offer.model_validate(content | changes)


def test_every_state_is_listed(tmp_path: Path) -> None:
    network = small_network()
    shipped, folder = tmp_path / "shipped", tmp_path / "folder"
    for place in (shipped, folder):
        place.mkdir()
    store.save(network, card_for(network, name="ours"), shipped)
    store.save(network, card_for(network, name="theirs"), folder)
    store.save(network, card_for(network, name="short"), folder)
    store.save(network, card_for(network, name="no-card"), folder)
    store.save(network, card_for(network, name="no-weights"), folder)
    short = folder / "short@1.safetensors"
    short.write_bytes(short.read_bytes()[:-1])
    (folder / "no-card@1.json").unlink()
    (folder / "no-weights@1.safetensors").unlink()
    (folder / "notes.json").write_text("{}", encoding="utf-8")
    entries = store.available(folder, manifest=Manifest(models=(_offer(),)), shipped=shipped)
    assert {entry.name: entry.state for entry in entries} == {
        "far-away": "available",
        "no-card": "damaged",
        "no-weights": "damaged",
        "ours": "shipped",
        "short": "damaged",
        "theirs": "installed",
    }
    problems = {entry.name: entry.problem for entry in entries if entry.state == "damaged"}
    assert "cut short" in problems["short"]
    assert "no card" in problems["no-card"]
    assert "was not found" in problems["no-weights"]
    told = next(entry for entry in entries if entry.name == "theirs")
    assert (told.task, told.licence, len(told.sha256)) == ("liver in CT slices", "CC-BY-SA-4.0", 64)


def test_an_installed_offer_is_not_listed_twice(tmp_path: Path) -> None:
    network = small_network()
    store.save(network, card_for(network, name="far-away"), tmp_path)
    entries = store.available(tmp_path, manifest=Manifest(models=(_offer(),)), shipped=tmp_path / "none")
    assert [entry.state for entry in entries] == ["installed"]


def test_what_can_be_downloaded_says_how_and_damage_is_told(tmp_path: Path) -> None:
    manifest = Manifest(models=(_offer(),))
    with pytest.raises(FileError, match="lsnet weights get far-away"):
        store.find("far-away", tmp_path, manifest=manifest, shipped=tmp_path)
    network = small_network()
    store.save(network, card_for(network), tmp_path)
    file = tmp_path / "unet-phantom-2d@1.safetensors"
    file.write_bytes(b"short")
    with pytest.raises(FileError, match=r"is damaged: .*cut short"):
        store.find("unet-phantom-2d", tmp_path, manifest=manifest, shipped=tmp_path / "none")


def test_the_manifest_of_the_package_is_valid() -> None:
    assert read_manifest(MANIFEST).schema_number == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"sha256": ""},
        {"sha256": "b" * 64},
        {"urls": ()},
        {"urls": ("ftp://models.invalid/x",)},
        {"urls": ("http://models.invalid/x",)},
        {"licence": ""},
        {"licence": "CC0"},
        {"size_bytes": 11},
    ],
)
def test_an_offer_without_hash_licence_or_safe_address_is_an_error(tmp_path: Path, changes: dict[str, object]) -> None:
    content = Manifest(models=(_offer(),)).model_dump(mode="json")
    content["models"][0] |= changes
    file = tmp_path / "manifest.json"
    import json

    file.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(FileError, match="not a list of models"):
        read_manifest(file)


def test_listing_loads_no_torch() -> None:
    code = (
        "import sys\nfrom src_models.weights.store import available\navailable()\n"
        "print(sorted({'torch', 'monai', 'safetensors', 'pooch', 'requests'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3]
    )
    assert done.stdout.strip() == "[]"
