"""Models of others come over with the same logits, and nothing that comes with them is run."""

from __future__ import annotations

import collections
import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from src_models.errors import FileError, InputError, LsnetError
from src_models.progress import finish
from src_models.weights import store
from src_models.weights.archives import unpack
from src_models.weights.bundle import METADATA, bundle_files
from src_models.weights.checkpoints import read_checkpoint
from src_models.weights.importers import ImportOptions, import_model
from src_models.weights.listing import Entry
from src_models.weights.manifest import Manifest
from tests.src_models.weights.models import card_for, small_network

NNUNET = Path(__file__).parents[2] / "data" / "nnunet"


def _import(source: Path, folder: Path, **options: Any) -> tuple[Entry, ...]:
    return finish(import_model(source, folder, ImportOptions(**options)))


def _copy(tmp_path: Path, name: str = "plain") -> Path:
    copied = tmp_path / "model" / name
    shutil.copytree(NNUNET / name, copied)
    return copied


# ---- nnU-Net


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("plain", ["nnunet-plain-3d_fullres-fold0", "nnunet-plain-3d_fullres-fold1"]),
        ("regions", ["nnunet-residual-regions-2d-fold0", "nnunet-residual-regions-2d-fold1"]),
    ],
)
def test_logits_are_those_of_nnunets_own_predictor(tmp_path: Path, kind: str, names: list[str]) -> None:
    entries = _import(NNUNET / kind, tmp_path, licence="CC-BY-4.0")
    assert [entry.name for entry in entries] == names
    kept = np.load(NNUNET / kind / "nnunet_logits.npz")
    for fold, name in enumerate(names):
        model = store.load(name, tmp_path, manifest=Manifest(), shipped=tmp_path / "none")
        with torch.no_grad():
            found = model.network(torch.from_numpy(kept["input"])).numpy()
        np.testing.assert_allclose(found, kept[f"logits_{fold}"], atol=1e-5)
        assert model.card.fold == str(fold)
        assert model.card.weights_licence == "CC-BY-4.0"
    assert len(store.load_folds(names[0][:-6], tmp_path, manifest=Manifest(), shipped=tmp_path / "none")) == 2


def test_the_card_says_what_the_plans_say(tmp_path: Path) -> None:
    card = _import(NNUNET / "plain", tmp_path)[0].card
    plans = json.loads((NNUNET / "plain" / "plans.json").read_text(encoding="utf-8"))
    measured = plans["foreground_intensity_properties_per_channel"]["0"]
    assert card is not None
    (channel,) = card.preprocessing.channels
    assert (channel.name, channel.normalisation) == ("CT", "ct")
    assert channel.statistics is not None
    assert channel.statistics.percentile_99_5 == measured["percentile_99_5"]
    assert channel.statistics.minimum == measured["min"]
    assert card.preprocessing.spacing == (2.0, 1.0, 1.0)
    assert (card.preprocessing.order_image, card.preprocessing.order_logits) == (3, 1)
    assert [(label.name, label.value, label.channel) for label in card.labels] == [
        ("background", 0, 0),
        ("liver", 1, 1),
        ("tumour", 2, 2),
    ]
    assert (card.patch, card.head, card.mirror_axes) == ((12, 16, 16), "softmax", (0, 1, 2))
    assert "2 epochs" in card.budget


def test_regions_are_painted_in_nnunets_order(tmp_path: Path) -> None:
    card = _import(NNUNET / "regions", tmp_path)[0].card
    assert card is not None
    assert card.head == "sigmoid"
    told = [(label.name, label.channel, label.value, label.members) for label in card.labels]
    assert told == [("whole", 0, 1, (1, 2)), ("core", 1, 2, (2,))]
    assert card.preprocessing.keep_slice_distance
    assert [channel.normalisation for channel in card.preprocessing.channels] == ["zscore", "zscore"]


def test_spacing_is_brought_back_to_the_order_of_the_image(tmp_path: Path) -> None:
    """Plans count axes as the network does: with the coarse axis last in the image, the image has it last again."""
    folder = _copy(tmp_path)
    plans = json.loads((folder / "plans.json").read_text(encoding="utf-8"))
    plans |= {"transpose_forward": [2, 0, 1], "transpose_backward": [1, 2, 0]}
    plans["configurations"]["3d_fullres"]["spacing"] = [5.0, 0.7, 0.8]
    (folder / "plans.json").write_text(json.dumps(plans), encoding="utf-8")
    card = _import(folder, tmp_path / "out")[0].card
    assert card is not None
    assert card.preprocessing.axis_order == (2, 0, 1)
    assert card.preprocessing.spacing == (0.7, 0.8, 5.0)


def test_old_plans_give_the_same_network(tmp_path: Path) -> None:
    folder = _copy(tmp_path)
    shutil.copy(NNUNET / "old_plans.json", folder / "plans.json")
    old, new = _import(folder, tmp_path / "old")[0].card, _import(NNUNET / "plain", tmp_path / "new")[0].card
    assert old is not None
    assert new is not None
    assert (old.network, old.sha256, old.preprocessing) == (new.network, new.sha256, new.preprocessing)


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "module._orig_mod."])
def test_prefixes_of_wrappers_are_taken_off(tmp_path: Path, prefix: str) -> None:
    folder = _copy(tmp_path)
    shutil.rmtree(folder / "fold_1")
    file = folder / "fold_0" / "checkpoint_final.pth"
    content = read_checkpoint(file)
    content["network_weights"] = {prefix + key: value for key, value in content["network_weights"].items()}
    torch.save(content, file)
    (entry,) = _import(folder, tmp_path / "out")
    assert entry.sha256 == _import(NNUNET / "plain", tmp_path / "plain")[0].sha256


def test_numbers_of_numpy_1_and_2_are_read(tmp_path: Path) -> None:
    """The same checkpoint with the names that numpy 1 writes."""
    file = NNUNET / "plain" / "fold_0" / "checkpoint_final.pth"
    renamed = tmp_path / "old.pth"
    with zipfile.ZipFile(file) as source, zipfile.ZipFile(renamed, "w") as target:
        for part in source.infolist():
            content = source.read(part)
            if part.filename.endswith("data.pkl"):
                assert b"cnumpy._core.multiarray\nscalar" in content
                content = content.replace(b"cnumpy._core.multiarray\nscalar", b"cnumpy.core.multiarray\nscalar")
            target.writestr(part.filename, content)
    one, other = read_checkpoint(file), read_checkpoint(renamed)
    assert one["_best_ema"] == other["_best_ema"]


def test_a_zip_of_the_folder_is_the_folder(tmp_path: Path) -> None:
    archive = shutil.make_archive(str(tmp_path / "model"), "zip", NNUNET, "plain")
    entries = _import(Path(archive), tmp_path / "out", folds=("1",))
    assert [entry.name for entry in entries] == ["nnunet-plain-3d_fullres-fold1"]


def _edit_plans(**changes: Any) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        file = folder / "plans.json"
        plans = json.loads(file.read_text(encoding="utf-8"))
        chosen = plans["configurations"]["3d_fullres"]
        for key, value in changes.items():
            place = chosen["architecture"] if key == "network_class_name" else chosen
            place = chosen["architecture"]["arch_kwargs"] if key in chosen["architecture"]["arch_kwargs"] else place
            place[key] = value
        file.write_text(json.dumps(plans), encoding="utf-8")

    return edit


def _write_plans(text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / "plans.json").write_text(text, encoding="utf-8") and None


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (_write_plans("{"), "nnunet-json"),
        (_write_plans("[]"), "nnunet-json"),
        (_write_plans("{}"), "nnunet-plans"),
        (_edit_plans(network_class_name="os.system"), "nnunet-class"),
        (_edit_plans(features_per_stage=[4, 8, 16]), "weights-network"),
        (_edit_plans(nonlin="torch.nn.ReLU"), "nnunet-layers"),
        (_edit_plans(norm_op_kwargs={"eps": 1e-3, "affine": True}), "nnunet-layers"),
        (_edit_plans(normalization_schemes=["Mine"]), "nnunet-normalisation"),
        (_edit_plans(previous_stage="3d_lowres"), "nnunet-cascade"),
        (_edit_plans(inherits_from="3d_fullres"), "nnunet-plans"),
        (_edit_plans(strides=[[1, 1]] * 3), "nnunet-plans"),
        (_edit_plans(n_stages=10**9), "network-option-value"),
        (lambda folder: (folder / "dataset.json").unlink(), "nnunet-json"),
        (lambda folder: shutil.rmtree(folder / "fold_0") or shutil.rmtree(folder / "fold_1"), "nnunet-folds"),
    ],
)
def test_foreign_and_damaged_folders_are_refused_and_nothing_is_installed(
    tmp_path: Path, damage: Callable[[Path], None], code: str
) -> None:
    folder = _copy(tmp_path)
    damage(folder)
    with pytest.raises(LsnetError) as told:
        _import(folder, tmp_path / "out")
    assert told.value.code == code
    assert "\n" not in str(told.value)
    assert not (tmp_path / "out").exists()


def test_a_second_fold_that_is_cut_short_stops_before_the_first_is_installed(tmp_path: Path) -> None:
    folder = _copy(tmp_path)
    file = folder / "fold_1" / "checkpoint_final.pth"
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(FileError, match="damaged"):
        _import(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_nothing_is_replaced_unless_asked(tmp_path: Path) -> None:
    _import(NNUNET / "plain", tmp_path, folds=("0",))
    with pytest.raises(InputError, match="there already"):
        _import(NNUNET / "plain", tmp_path)
    assert len(_import(NNUNET / "plain", tmp_path, overwrite=True)) == 2


# ---- hostile files


class _Evil:
    """Runs a program when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("where", ["network_weights", "logging", "plain pickle"])
def test_a_malicious_pickle_is_refused_unexecuted_and_named(tmp_path: Path, where: str) -> None:
    mark = tmp_path / "ran"
    folder = _copy(tmp_path)
    file = folder / "fold_0" / "checkpoint_final.pth"
    if where == "plain pickle":
        file.write_bytes(pickle.dumps(_Evil(mark)))
    else:
        torch.save(read_checkpoint(file) | {where: _Evil(mark)}, file)
    with pytest.raises(FileError) as told:
        _import(folder, tmp_path / "out")
    assert "mkdir" in str(told.value)
    assert not mark.exists()
    # it does what it says where it is let: the test would have seen it
    if where == "plain pickle":
        pickle.loads(file.read_bytes())
    else:
        torch.load(file, weights_only=False)
    assert mark.exists()


def test_classes_of_this_program_are_refused_too(tmp_path: Path) -> None:
    file = tmp_path / "whole.pt"
    torch.save(small_network(), file)
    with pytest.raises(FileError, match="wants to build"):
        _import(file, tmp_path / "out", net="unet")


@pytest.mark.parametrize(
    "name", ["../escaped.json", "/escaped.json", "a/../../escaped.json", "..\\escaped.json", "C:/escaped.json"]
)
def test_an_archive_that_leads_out_of_its_folder_is_refused(tmp_path: Path, name: str) -> None:
    file, inner = tmp_path / "model.zip", tmp_path / "one" / "two"
    inner.mkdir(parents=True)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("plans.json", "{}")
        archive.writestr(name, "{}")
    with pytest.raises(FileError, match="leads out"):
        unpack(file, inner)
    assert not list(inner.iterdir())
    assert not list(tmp_path.rglob("escaped.json"))
    with pytest.raises(FileError, match="leads out"):
        _import(file, tmp_path / "out")


def test_links_floods_and_repeated_names_are_refused(tmp_path: Path) -> None:
    def archive(fill: Callable[[zipfile.ZipFile], None]) -> Path:
        file = tmp_path / "model.zip"
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as made:
            fill(made)
        return file

    def link(made: zipfile.ZipFile) -> None:
        part = zipfile.ZipInfo("fold_0")
        part.external_attr = 0o120777 << 16
        made.writestr(part, "/etc")

    def flood(made: zipfile.ZipFile) -> None:
        made.writestr("zeros", bytes(64 * 2**20))

    def twice(made: zipfile.ZipFile) -> None:
        made.writestr("plans.json", "{}")
        made.writestr("PLANS.json", "{}")

    for fill, said in ((link, "a link"), (flood, "grows to"), (twice, "comes twice")):
        inner = tmp_path / said.replace(" ", "_")
        inner.mkdir()
        with pytest.raises(FileError, match=said):
            unpack(archive(fill), inner)
        assert not list(inner.iterdir())
    (tmp_path / "model.zip").write_bytes(b"PK\x03\x04 and nothing more")
    with pytest.raises(FileError, match="damaged"):
        unpack(tmp_path / "model.zip", tmp_path)


def test_a_checkpoint_whose_parts_are_compressed_is_refused(tmp_path: Path) -> None:
    """Torch never compresses; one that does is a flood in waiting."""
    file = tmp_path / "model.pth"
    with (
        zipfile.ZipFile(NNUNET / "plain" / "fold_0" / "checkpoint_final.pth") as source,
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for part in source.infolist():
            target.writestr(part.filename, source.read(part))
    with pytest.raises(FileError, match="compressed"):
        read_checkpoint(file)


# ---- files of tensors, bundles, our own


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
@pytest.mark.parametrize("wrapped", [False, True])
def test_tensors_of_a_named_network(tmp_path: Path, suffix: str, wrapped: bool) -> None:
    network = small_network().eval()
    state = collections.OrderedDict(network.state_dict())
    file = tmp_path / f"weights{suffix}"
    if suffix == ".safetensors":
        file.write_bytes(store.serialise(state))
    else:
        torch.save({"state_dict": state, "epoch": 3} if wrapped else state, file)
    (entry,) = _import(
        file, tmp_path / "out", net="unet", settings={"depth": 2, "base_width": 4}, name="mine", licence="MIT"
    )
    model = store.load("mine", tmp_path / "out", manifest=Manifest(), shipped=tmp_path / "none")
    x = torch.rand(1, 1, 17, 23)
    assert torch.equal(model.network(x), network(x))
    assert (entry.licence, model.card.network) == ("MIT", network.config)
    assert "was not said" in model.card.metrics_note


def test_what_the_card_of_the_person_says_is_kept(tmp_path: Path) -> None:
    network = small_network()
    file = tmp_path / "weights.pth"
    torch.save(network.state_dict(), file)
    card = json.loads(card_for(network).model_dump_json())
    settings = {"depth": 2, "base_width": 4}
    (entry,) = _import(file, tmp_path / "out", net="unet", settings=settings, card=card)
    assert entry.card is not None
    assert entry.card.labels == card_for(network).labels
    assert entry.card.preprocessing == card_for(network).preprocessing
    with pytest.raises(InputError, match="2 outputs"):
        _import(file, tmp_path / "o", net="unet", settings=settings, card=card | {"labels": card["labels"][:1]})


def test_another_network_or_none_is_told(tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    torch.save(small_network().state_dict(), file)
    with pytest.raises(InputError, match="--net"):
        _import(file, tmp_path / "out")
    with pytest.raises(FileError, match="another network"):
        _import(file, tmp_path / "out", net="unet")
    with pytest.raises(InputError, match="did you mean unet"):
        _import(file, tmp_path / "out", net="unett")
    torch.save({"a": torch.zeros(3)}, file)
    with pytest.raises(FileError, match="no convolutions"):
        _import(file, tmp_path / "out", net="unet")
    torch.save([1, 2], file)
    with pytest.raises(FileError, match="no plain table"):
        _import(file, tmp_path / "out", net="unet")
    (tmp_path / "notes.txt").write_text("hello", encoding="utf-8")
    with pytest.raises(FileError, match="no model that can be imported"):
        _import(tmp_path / "notes.txt", tmp_path / "out")


def _bundle(tmp_path: Path) -> tuple[Path, store.Model]:
    network = small_network()
    made = tmp_path / "made"
    made.mkdir()
    store.save(network, card_for(network), made)
    model = store.load(made)
    folder = tmp_path / "bundle"
    for name, content in bundle_files(model).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder, model


def test_a_bundle_of_ours_comes_back_whole(tmp_path: Path) -> None:
    folder, model = _bundle(tmp_path)
    (entry,) = _import(folder, tmp_path / "out")
    assert entry.card == model.card
    x = torch.rand(1, 1, 20, 20)
    assert torch.equal(store.load(tmp_path / "out").network(x), model.network(x))


def test_a_bundle_of_others_gives_what_its_metadata_says(tmp_path: Path) -> None:
    folder, model = _bundle(tmp_path)
    (folder / "configs" / "lsnet_card.json").unlink()
    with pytest.raises(InputError, match="--net"):
        _import(folder, tmp_path / "out")
    (entry,) = _import(folder, tmp_path / "out", net="unet", settings={"depth": 2, "base_width": 4})
    assert entry.card is not None
    assert entry.card.task == model.card.task
    assert [label.name for label in entry.card.labels] == ["background", "liver"]
    assert entry.card.patch == model.card.patch
    assert "Research use only" in entry.card.intended_use


def test_expressions_in_a_bundle_are_never_run(tmp_path: Path) -> None:
    folder, _ = _bundle(tmp_path)
    mark = tmp_path / "ran"
    evil = {
        "imports": [f"$__import__('os').mkdir({str(mark)!r})"],
        "network_def": f"$__import__('os').mkdir({str(mark)!r})",
    }
    (folder / "configs" / "inference.json").write_text(json.dumps(evil), encoding="utf-8")
    metadata = json.loads((folder / METADATA).read_text(encoding="utf-8"))
    (folder / METADATA).write_text(json.dumps(metadata | {"task": evil["network_def"]}), encoding="utf-8")
    assert _import(folder, tmp_path / "out")
    assert not mark.exists()


def test_monai_reads_the_network_of_our_bundle(tmp_path: Path) -> None:
    """MONAI's own parser builds it, and its weights fit."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from monai.bundle import ConfigParser

    folder, model = _bundle(tmp_path)
    parser = ConfigParser()
    parser.read_config(folder / "configs" / "inference.json")
    parser.read_meta(folder / METADATA)
    network = parser.get_parsed_content("network_def")
    network.load_state_dict(torch.load(folder / "models" / "model.pt", weights_only=True))
    x = torch.rand(1, 1, 20, 20)
    assert torch.equal(network.eval()(x), model.network(x))
    assert parser["_meta_"]["network_data_format"]["inputs"]["image"]["num_channels"] == 1


def test_a_model_of_this_program_is_copied_under_its_name(tmp_path: Path) -> None:
    network = small_network()
    store.save(network, card_for(network), tmp_path / "shared.safetensors")
    (entry,) = _import(tmp_path / "shared.safetensors", tmp_path / "out")
    assert (entry.name, entry.path) == ("unet-phantom-2d", tmp_path / "out" / "unet-phantom-2d@1.safetensors")
    file = tmp_path / "shared.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(FileError, match="cut short"):
        _import(file, tmp_path / "again")


def test_the_folds_of_a_cross_validation_are_installed_together(tmp_path: Path) -> None:
    for fold in (0, 1):
        network = small_network(seed=fold)
        (tmp_path / "cv" / f"fold_{fold}").mkdir(parents=True)
        store.save(network, card_for(network, fold=str(fold)), tmp_path / "cv" / f"fold_{fold}" / "model.safetensors")
    with pytest.raises(InputError, match="one name"):
        _import(tmp_path / "cv", tmp_path / "out")
    entries = _import(tmp_path / "cv", tmp_path / "out", name="mine")
    assert [entry.name for entry in entries] == ["mine-fold0", "mine-fold1"]


def test_a_folder_of_something_else_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="no model that can be imported"):
        _import(tmp_path, tmp_path / "out")
    for name in ("2d", "3d"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "plans.json").write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match="holds 2 models"):
        _import(tmp_path, tmp_path / "out")


def test_reading_torchs_own_files_gives_equal_numbers(tmp_path: Path) -> None:
    content = {"a": torch.arange(6.0).reshape(2, 3), "b": [1, 2.5, "x"], "c": np.float32(0.25), "d": np.int64(7)}
    torch.save(content, tmp_path / "a.pth")
    found = read_checkpoint(tmp_path / "a.pth")
    assert torch.equal(found["a"], content["a"])
    assert [found[key] for key in "bcd"] == [content[key] for key in "bcd"]
