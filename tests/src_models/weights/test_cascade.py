"""A cascade through files: its first stage is found by its hash, wherever it lies, or missed in one sentence."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from src_models.errors import FileError, InputError, LsnetError
from src_models.inference.parameters import PredictionParameters
from src_models.inference.predict import predict
from src_models.networks.network import Network
from src_models.networks.zoo import build
from src_models.progress import finish
from src_models.weights import store
from src_models.weights.card import Label, ModelCard, foreground_values
from src_models.weights.cascade import stage_model
from src_models.weights.checkpoints import read_checkpoint
from src_models.weights.exporting import export
from src_models.weights.importers import ImportOptions, import_model
from src_models.weights.listing import Entry
from src_models.weights.manifest import Manifest
from tests.src_models.weights.models import card_for

NNUNET = Path(__file__).parents[2] / "data" / "nnunet"
IMAGE = np.random.default_rng(0).normal(100, 30, (12, 14, 16)).astype(np.float32)


def network(channels: int, seed: int) -> Network:
    torch.manual_seed(seed)
    return build("unet", in_channels=channels, num_classes=2, ndim=3, depth=1, base_width=2)


def card(one: Network, **changes: Any) -> ModelCard:
    return card_for(one, **({"patch": (8, 8, 8), "name": "second"} | changes))


def written(folder: Path, stages: int = 2) -> Path:
    """A cascade as a training leaves it: the first stage in folders of its folds, the second beside them."""
    named = []
    for fold in range(stages):
        low = network(1, fold)
        path = folder / "3d_lowres" / f"fold_{fold}" / "model.safetensors"
        path.parent.mkdir(parents=True)
        saved = store.save(low, card(low, name="first", fold=str(fold)), path)
        named.append(stage_model(saved, path, folder / "fold_0"))
    second = network(2, 9)
    (folder / "fold_0").mkdir()
    path = folder / "fold_0" / "model.safetensors"
    store.save(second, card(second, first_stage=tuple(named), fold="0"), path)
    return path


def labels_of(path: Path, **options: Any) -> np.ndarray:
    models = store.load_folds(path, **options)
    return finish(predict(models, IMAGE, (1, 1, 1), PredictionParameters(device="cpu"), unit="px")).labels


def brought(source: Path, folder: Path, **options: Any) -> tuple[Entry, ...]:
    return finish(import_model(source, folder, ImportOptions(**options)))


def test_it_is_loaded_with_its_first_stage_and_moves_as_a_whole(tmp_path):
    path = written(tmp_path / "run")
    model = store.load(path)
    assert [one.card.fold for one in model.first_stage] == ["0", "1"]
    assert [one.card.sha256 for one in model.first_stage] == [one.sha256 for one in model.card.first_stage]
    assert not Path(model.card.first_stage[0].way).is_absolute()
    expected = labels_of(path)
    shutil.move(tmp_path / "run", tmp_path / "elsewhere")
    np.testing.assert_array_equal(labels_of(tmp_path / "elsewhere"), expected)


def test_its_first_stage_is_found_by_its_hash_beside_it_or_among_the_models(tmp_path):
    path = written(tmp_path / "run", 1)
    expected = labels_of(path)
    for place in ("beside", "models"):
        alone = tmp_path / place / "deep" / "down"
        alone.mkdir(parents=True)
        for suffix in (".safetensors", ".json"):
            shutil.copy(path.with_suffix(suffix), alone / f"second@1{suffix}")
        folder = alone if place == "beside" else tmp_path / "installed"
        folder.mkdir(exist_ok=True)
        for suffix in (".safetensors", ".json"):
            stage = tmp_path / "run" / "3d_lowres" / "fold_0" / "model"
            shutil.copy(stage.with_suffix(suffix), folder / f"any name{suffix}")
        # one of the same name that is another network is not taken
        other = network(1, 77)
        store.save(other, card(other, name="first", fold="0"), folder / "first@1.safetensors")
        found = labels_of(alone / "second@1.safetensors", folder=tmp_path / "installed")
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("form", ["file", "folder", "folds"])
def test_without_its_first_stage_it_is_refused_in_one_sentence(tmp_path, form):
    path = written(tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "3d_lowres" / "fold_1")
    load = store.load_folds if form == "folds" else store.load
    meant = {"file": path, "folder": path.parent, "folds": tmp_path / "run"}[form]
    with pytest.raises(FileError) as told:
        load(meant, tmp_path / "models")
    assert told.value.code == "cascade-first-stage"
    assert "second is the second stage of a cascade and its first stage was not found: first, fold 1" in str(told.value)
    assert "\n" not in str(told.value)


def test_a_first_stage_that_was_changed_is_refused(tmp_path):
    path = written(tmp_path / "run", 1)
    stage = tmp_path / "run" / "3d_lowres" / "fold_0" / "model.safetensors"
    content = bytearray(stage.read_bytes())
    content[-1] ^= 1
    stage.write_bytes(content)
    with pytest.raises(FileError, match="not the file that it should be"):
        store.load(path)
    # the card too: then it is another model
    model_card = stage.with_suffix(".json")
    changed = json.loads(model_card.read_text()) | {"sha256": "0" * 64}
    model_card.write_text(json.dumps(changed))
    with pytest.raises(FileError, match="first stage was not found"):
        store.load(path, tmp_path / "models")


def test_folds_of_different_first_stages_are_no_folds_of_one_model(tmp_path):
    for number in range(2):
        written(tmp_path / str(number), 1 + number)
        shutil.copytree(tmp_path / str(number), tmp_path / "both", dirs_exist_ok=True)
        if number == 0:
            shutil.move(tmp_path / "both" / "fold_0", tmp_path / "both" / "fold_1")
    with pytest.raises(InputError, match="first stages differ"):
        store.load_folds(tmp_path / "both")


def test_it_is_imported_with_its_first_stage_and_exported_with_it(tmp_path):
    path = written(tmp_path / "run")
    expected = labels_of(path)
    models = tmp_path / "models"
    names = [entry.name for entry in brought(path, models, name="mine")]
    assert names == ["mine", "mine-first-stage-fold0", "mine-first-stage-fold1"]
    shutil.rmtree(tmp_path / "run")
    quiet: dict[str, Any] = {"folder": models, "manifest": Manifest(), "shipped": tmp_path / "none"}
    loaded = store.load("mine", **quiet)
    assert all(stage.way == "" for stage in loaded.card.first_stage)
    np.testing.assert_array_equal(labels_of("mine", **quiet), expected)
    files = export(models / "mine@1.safetensors", tmp_path / "given")
    assert len(files) == 6
    np.testing.assert_array_equal(labels_of(tmp_path / "given" / "mine@1.safetensors", folder=tmp_path / "x"), expected)
    again = brought(tmp_path / "given", tmp_path / "third")
    assert len(again) == 3
    with pytest.raises(InputError, match="bundle holds one network"):
        export(models / "mine@1.safetensors", tmp_path / "bundle", "bundle")


def test_values_that_have_a_channel_are_those_of_labels_and_members():
    named = (Label(name="background", value=0, channel=0), Label(name="b", value=7, channel=1))
    assert foreground_values(named) == (7,)
    regions = (
        Label(name="whole", value=1, channel=0, members=(1, 2, 3)),
        Label(name="core", value=3, channel=1, members=(3, 2)),
    )
    assert foreground_values(regions) == (1, 2, 3)


# ---- nnU-Net


def nnunet_cascade(folder: Path) -> Path:
    """Two folders as nnU-Net leaves them: 3d_lowres and, with channels for its two labels, the cascade."""
    first, second = folder / "T__P__3d_lowres", folder / "T__P__3d_cascade_fullres"
    for one in (first, second):
        shutil.copytree(NNUNET / "plain", one)
        plans = json.loads((one / "plans.json").read_text(encoding="utf-8"))
        full = plans["configurations"]["3d_fullres"]
        plans["configurations"]["3d_lowres"] = {
            "inherits_from": "3d_fullres",
            "spacing": [h * 2 for h in full["spacing"]],
        }
        plans["configurations"]["3d_cascade_fullres"] = {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"}
        (one / "plans.json").write_text(json.dumps(plans), encoding="utf-8")
        for fold in (0, 1):
            file = one / f"fold_{fold}" / "checkpoint_final.pth"
            content = read_checkpoint(file)
            content["init_args"]["configuration"] = one.name.rpartition("__")[2]
            if one == second:
                for key, value in content["network_weights"].items():
                    if "stages.0.0.convs.0" in key and value.ndim == 5 and "encoder" in key:
                        content["network_weights"][key] = torch.cat([value, value.flip(0), 0.5 * value], 1)
            torch.save(content, file)
    return second


def test_an_nnunet_cascade_comes_with_its_first_stage(tmp_path):
    second = nnunet_cascade(tmp_path / "results")
    entries = brought(second, tmp_path / "models")
    assert [entry.name for entry in entries] == [
        "nnunet-plain-3d_lowres-fold0",
        "nnunet-plain-3d_lowres-fold1",
        "nnunet-plain-3d_cascade_fullres-fold0",
        "nnunet-plain-3d_cascade_fullres-fold1",
    ]
    quiet: dict[str, Any] = {"folder": tmp_path / "models", "manifest": Manifest(), "shipped": tmp_path / "none"}
    models = store.load_folds("nnunet-plain-3d_cascade_fullres", **quiet)
    assert [model.network.in_channels for model in models] == [3, 3]
    assert [stage.card.sha256 for stage in models[0].first_stage] == [entry.sha256 for entry in entries[:2]]
    assert models[0].first_stage[0].card.preprocessing.spacing == (4.0, 2.0, 2.0)
    found = finish(predict(models, IMAGE, (2, 1, 1), PredictionParameters(device="cpu", mirror="none")))
    assert found.record.inputs["models"][0]["first_stage"] == [entry.sha256 for entry in entries[:2]]


def test_a_zip_of_both_folders_is_the_cascade(tmp_path):
    nnunet_cascade(tmp_path / "results" / "Dataset001")
    archive = shutil.make_archive(str(tmp_path / "both"), "zip", tmp_path / "results")
    assert len(brought(Path(archive), tmp_path / "models", name="liver", folds=("1",))) == 3
    assert sorted(path.stem for path in (tmp_path / "models").glob("*.json")) == [
        "liver-first-stage-fold0@1",
        "liver-first-stage-fold1@1",
        "liver-fold1@1",
    ]


def gone(first: Path) -> None:
    shutil.rmtree(first)


def of_other_labels(first: Path) -> None:
    file = first / "dataset.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    names = [name for name in content["labels"] if name != "background"]
    content["labels"] = {"background": 0} | {f"{name} of another set": k for k, name in enumerate(names, 1)}
    file.write_text(json.dumps(content), encoding="utf-8")


@pytest.mark.parametrize(("damage", "told"), [(gone, "no such folder lies beside"), (of_other_labels, "labels differ")])
def test_an_nnunet_cascade_without_its_first_stage_is_refused_and_nothing_is_installed(
    tmp_path: Path, damage: Callable[[Path], None], told: str
) -> None:
    second = nnunet_cascade(tmp_path / "results")
    damage(second.with_name("T__P__3d_lowres"))
    with pytest.raises(LsnetError, match=told) as said:
        brought(second, tmp_path / "models")
    assert said.value.code == "nnunet-cascade"
    assert "\n" not in str(said.value)
    assert not (tmp_path / "models").exists()
