"""What is saved comes back bit for bit, and nothing damaged or foreign is loaded, not even in part."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from src_models.errors import FileError, InputError, LsnetError, SaveError
from src_models.weights import store
from src_models.weights.manifest import Manifest
from tests.src_models.weights.models import card_for, small_network

NOTHING = Manifest()


def _load(name: str | Path, folder: Path) -> store.Model:
    return store.load(name, folder, manifest=NOTHING, shipped=folder / "none")


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    network = small_network()
    store.save(network, card_for(network), tmp_path)
    return tmp_path / "unet-phantom-2d@1.safetensors"


def test_weights_and_card_come_back_exactly(tmp_path: Path) -> None:
    network = small_network().eval()
    written = store.save(network, card_for(network), tmp_path)
    model = _load("unet-phantom-2d", tmp_path)
    assert model.card == written
    assert model.card.size_bytes == (tmp_path / "unet-phantom-2d@1.safetensors").stat().st_size
    assert not model.network.training
    x = torch.randn(1, 1, 37, 41)
    assert torch.equal(model.network(x), network(x))


@pytest.mark.parametrize("way", ["name", "name@version", "weights", "card", "folder"])
def test_a_model_is_found_by_name_file_and_folder(saved: Path, way: str) -> None:
    asked = {
        "name": "unet-phantom-2d",
        "name@version": "unet-phantom-2d@1",
        "weights": saved,
        "card": saved.with_name("unet-phantom-2d@1.json"),
        "folder": saved.parent,
    }[way]
    assert _load(asked, saved.parent).card.name == "unet-phantom-2d"


def test_equal_weights_have_equal_hashes_and_others_not(tmp_path: Path) -> None:
    network, other = small_network(), small_network(seed=1)
    first = store.save(network, card_for(network, name="a"), tmp_path)
    second = store.save(network, card_for(network, name="b"), tmp_path)
    third = store.save(other, card_for(other, name="c"), tmp_path)
    assert first.sha256 == second.sha256 != third.sha256


def test_loading_leaves_the_random_numbers_of_the_caller_alone(saved: Path) -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    store.load(saved)
    assert torch.equal(torch.rand(4), expected)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def _flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 4
    path.write_bytes(bytes(content))


def _lose_the_card(path: Path) -> None:
    path.with_name("unet-phantom-2d@1.json").unlink()


def _change_card(**changes: object) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        file = path.with_name("unet-phantom-2d@1.json")
        content = json.loads(file.read_text(encoding="utf-8"))
        file.write_text(json.dumps(content | changes), encoding="utf-8")

    return change


def _cut_the_card(path: Path) -> None:
    file = path.with_name("unet-phantom-2d@1.json")
    file.write_bytes(file.read_bytes()[:100])


def _deep_card(path: Path) -> None:
    path.with_name("unet-phantom-2d@1.json").write_text("[" * 100_000, encoding="utf-8")


def _not_safetensors(path: Path) -> None:
    import hashlib

    content = b"\xff" * 1000
    path.write_bytes(content)
    _change_card(sha256=hashlib.sha256(content).hexdigest(), size_bytes=1000)(path)


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (_cut, "weights-length"),
        (_flip_a_bit, "weights-hash"),
        (_lose_the_card, "weights-no-card"),
        (_cut_the_card, "weights-card"),
        (_deep_card, "weights-card"),
        (_not_safetensors, "weights-safetensors"),
        (Path.unlink, "weights-missing"),
        (_change_card(schema_number=99), "weights-schema"),
        (_change_card(colour="red"), "weights-card"),
        (_change_card(sha256=""), "weights-no-hash"),
        (_change_card(network=small_network(base_width=8).config), "weights-network"),
        (_change_card(network=small_network(depth=3).config), "weights-network"),
        (_change_card(network={"name": "os.system"}), "network-config"),
        (_change_card(network=small_network().config | {"name": "no-such"}), "network-name"),
    ],
)
def test_damaged_and_foreign_models_are_refused_in_one_sentence(
    saved: Path, damage: Callable[[Path], None], code: str
) -> None:
    damage(saved)
    with pytest.raises(LsnetError) as told:
        store.load(saved)
    assert told.value.code == code
    assert "\n" not in str(told.value)


def test_a_described_giant_is_refused_before_it_is_built(saved: Path) -> None:
    giant = small_network().config
    giant["options"] = giant["options"] | {"base_width": 4096}
    _change_card(network=giant)(saved)
    with pytest.raises(LsnetError, match=r"another network|must be|less than"):
        store.load(saved)


def test_saving_replaces_only_when_asked_and_keeps_the_old_model_otherwise(saved: Path) -> None:
    before = {path.name: path.read_bytes() for path in saved.parent.iterdir()}
    other = small_network(seed=1)
    with pytest.raises(SaveError, match="exists"):
        store.save(other, card_for(other), saved)
    assert {path.name: path.read_bytes() for path in saved.parent.iterdir()} == before
    store.save(other, card_for(other), saved, overwrite=True)
    assert torch.equal(next(iter(store.load(saved).network.parameters())), next(iter(other.parameters())))
    assert sorted(path.name for path in saved.parent.iterdir()) == sorted(before)


def test_a_full_disk_leaves_the_old_model_whole(saved: Path) -> None:
    """The limit on the size of files stands for a disk: the weights fit, and the card after them does not."""
    before = {path.name: path.read_bytes() for path in saved.parent.iterdir()}
    code = f"""
import resource, signal
from pathlib import Path
from src_models.errors import SaveError
from src_models.files.saving import save_together
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
saved = Path({str(saved)!r})
try:
    save_together({{saved: b"new", saved.with_name("unet-phantom-2d@1.json"): b"x" * 8192}}, overwrite=True)
except SaveError as error:
    print(error.code)
"""
    if sys.platform == "win32":
        pytest.skip("files have no size limit of the process there")
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3]
    )
    assert done.stdout.strip() == "save-full"
    assert {path.name: path.read_bytes() for path in saved.parent.iterdir()} == before


def test_a_second_file_that_cannot_take_its_place_undoes_the_first(saved: Path, tmp_path: Path) -> None:
    """A link to nowhere has the name of the card: it is seen only when the card is to take its place."""
    from src_models.files.saving import save_together

    new, taken = tmp_path / "new.safetensors", tmp_path / "new.json"
    taken.symlink_to(tmp_path / "nowhere" / "card.json")
    with pytest.raises(SaveError, match="exists"):
        save_together({new: b"new", taken: b"new"}, overwrite=False)
    assert not new.exists()
    assert taken.is_symlink()
    assert not list(tmp_path.glob(".lsnet*"))


def test_a_disk_that_fails_between_the_two_brings_the_old_file_back(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    from src_models.files.saving import save_together

    before = {path.name: path.read_bytes() for path in saved.parent.iterdir()}
    replace, calls = os.replace, []

    def failing(source: Path, target: Path) -> None:
        calls.append(target)
        if len(calls) == 2:
            raise OSError(errno.EIO, "input/output error")
        replace(source, target)

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(SaveError, match="was not saved"):
        save_together({saved: b"new", saved.with_name("unet-phantom-2d@1.json"): b"new"}, overwrite=True)
    assert {path.name: path.read_bytes() for path in saved.parent.iterdir()} == before


def test_the_card_must_describe_the_network_that_is_saved(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="another network"):
        store.save(small_network(base_width=8), card_for(small_network()), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["../escaped", "a/b", "", ".hidden", "a\nb", "x" * 200])
def test_a_name_never_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    network = small_network()
    with pytest.raises(InputError, match="no name"):
        store.save(network, card_for(network, name=name), tmp_path)


def test_the_newest_version_is_meant_unless_one_is_named(tmp_path: Path) -> None:
    for version in ("9", "10"):
        network = small_network(seed=int(version))
        store.save(network, card_for(network, version=version), tmp_path)
    assert _load("unet-phantom-2d", tmp_path).card.version == "10"
    assert _load("unet-phantom-2d@9", tmp_path).card.version == "9"


def test_folds_are_loaded_together_and_never_by_accident(tmp_path: Path) -> None:
    for fold in (0, 1):
        network = small_network(seed=fold)
        store.save(network, card_for(network, name=f"unet-phantom-2d-fold{fold}", fold=str(fold)), tmp_path)
    models = store.load_folds("unet-phantom-2d", tmp_path, manifest=NOTHING, shipped=tmp_path / "none")
    assert [model.card.fold for model in models] == ["0", "1"]
    for asked in ("unet-phantom-2d", tmp_path):
        with pytest.raises(InputError, match="2 models"):
            _load(asked, tmp_path)


def test_the_folder_of_a_training_holds_its_model_and_checkpoints_that_are_none(saved: Path) -> None:
    saved.with_name("checkpoint.safetensors").write_bytes(saved.read_bytes())
    saved.with_name("plan.json").write_text("{}", encoding="utf-8")
    assert store.load(saved.parent).card.name == "unet-phantom-2d"
    saved.unlink()
    saved.with_name("unet-phantom-2d@1.json").unlink()
    with pytest.raises(FileError, match=r"no model in .* 1 file\(s\) of weights there have no card"):
        store.load(saved.parent)


def test_the_folder_of_a_cross_validation_means_all_its_folds(tmp_path: Path) -> None:
    for fold in (10, 9):
        network = small_network(seed=fold)
        (tmp_path / f"fold_{fold}").mkdir()
        store.save(network, card_for(network, fold=str(fold)), tmp_path / f"fold_{fold}" / "model.safetensors")
    assert [model.card.fold for model in store.load_folds(tmp_path)] == ["9", "10"]


def test_models_with_other_labels_are_no_ensemble(tmp_path: Path) -> None:
    network = small_network()
    first = card_for(network, name="m-fold0")
    store.save(network, first, tmp_path)
    store.save(network, card_for(network, name="m-fold1", labels=first.labels[::-1]), tmp_path)
    with pytest.raises(InputError, match="no folds of one model"):
        store.load_folds(tmp_path)


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ("unet-phantm-2d", "weights-unknown"),
        ("gone.safetensors", "weights-missing"),
        ("some/where", "weights-missing"),
        ("unet-phantom-2d@7", "weights-unknown"),
    ],
)
def test_unknown_names_are_told_with_the_nearest(saved: Path, asked: str, code: str) -> None:
    with pytest.raises(LsnetError) as told:
        _load(asked, saved.parent)
    assert told.value.code == code
    if asked == "unet-phantm-2d":
        assert "did you mean unet-phantom-2d?" in str(told.value)


def test_pickles_and_empty_folders_are_told_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "model.pth").write_bytes(b"PK")
    with pytest.raises(FileError, match="lsnet weights import"):
        store.load(tmp_path / "model.pth")
    with pytest.raises(FileError, match="There is no model in"):
        store.load(tmp_path)
    (tmp_path / "plans.json").write_text("{}", encoding="utf-8")
    with pytest.raises(FileError, match="nnU-Net"):
        store.load(tmp_path)


def test_nothing_is_written_by_loading_and_no_variable_is_needed(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    monkeypatch.delenv("LSNET_MODELS", raising=False)
    package = Path(store.__file__).parent
    before = sorted(path for path in package.rglob("*") if "__pycache__" not in path.parts)
    store.load(saved)
    store.available()
    assert not list(elsewhere.iterdir())
    assert sorted(path for path in package.rglob("*") if "__pycache__" not in path.parts) == before


def test_the_folder_comes_from_argument_then_variable_then_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LSNET_MODELS", str(tmp_path / "variable"))
    assert store.models_folder(tmp_path / "argument") == tmp_path / "argument"
    assert store.models_folder() == tmp_path / "variable"
    monkeypatch.delenv("LSNET_MODELS")
    assert "napari-lsnet" in os.fspath(store.models_folder())
