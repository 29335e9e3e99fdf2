"""An imported nnU-Net sees a file as nnU-Net's own reader gives it, whichever way round the file is stored.

The answers are those of nnunetv2 2.8.1 for networks it has trained (`tests/data/nnunet/make_turned.py`).
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from src_models.errors import FileError, InputError
from src_models.files import read_segmentation, read_volume, write_segmentation
from src_models.geometry import Segmentation, StoredOrder, Volume
from src_models.inference import job
from src_models.inference.export import Export
from src_models.inference.orientation import turn_for
from src_models.inference.parameters import PredictionParameters
from src_models.inference.predict import predict
from src_models.progress import finish
from src_models.weights import store
from src_models.weights.importers import ImportOptions, import_model
from src_models.weights.manifest import Manifest
from src_models.weights.model import Model
from tests.turned import ORIENTATIONS
from tests.turned import store as store_scan

DATA = Path(__file__).parents[2] / "data" / "nnunet"
READERS = ("SimpleITKIO", "NibabelIO", "NibabelIOWithReorient")
CONFIGURATIONS = ("3d_fullres", "2d")
EVERY = 203
PARAMETERS = PredictionParameters(device="cpu", precision="fp32", skip="none", probabilities=True)


def imported(configuration: str, reader: str, folder: Path) -> Model:
    """The model as its plans would be had nnU-Net trained it with this reader."""
    copy = folder / f"{configuration}_{reader}"
    shutil.copytree(DATA / f"hippocampus_{configuration}", copy)
    plans = json.loads((copy / "plans.json").read_text(encoding="utf-8"))
    (copy / "plans.json").write_text(json.dumps(plans | {"image_reader_writer": reader}), encoding="utf-8")
    (entry,) = finish(import_model(copy, folder / "models" / reader, ImportOptions()))
    return store.load(entry.name, folder / "models" / reader, manifest=Manifest(), shipped=folder / "none")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Model]:
    folder = tmp_path_factory.mktemp("imported")
    return {(c, r): imported(c, r, folder) for c in CONFIGURATIONS for r in READERS}


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("scans")
    return {orientation: store_scan(orientation, folder / f"{orientation}.nii.gz") for orientation in ORIENTATIONS}


@pytest.fixture(scope="module")
def theirs() -> dict[str, Any]:
    found = {}
    for configuration in CONFIGURATIONS:
        with np.load(DATA / f"hippocampus_{configuration}" / "nnunet_answers.npz") as stored:
            found |= {f"{configuration}.{key}": value for key, value in stored.items()}
    return found


def labels_of(model: Model, volume: Volume) -> np.ndarray:
    work = predict(model, volume.array, volume.grid.spacing, PARAMETERS, stored_order=volume.stored_order)
    return finish(work).labels


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_labels_are_nnunets_however_the_file_is_stored(models, scans, theirs, configuration, reader) -> None:
    for orientation in ORIENTATIONS:
        volume = read_volume(scans[orientation])
        ours = volume.stored_order.store(labels_of(models[configuration, reader], volume))
        key = f"{configuration}.{reader}.{orientation}"
        assert ours.any(), "nothing to compare"
        assert (ours == theirs[f"{key}.labels32"]).mean() >= 0.9999, key
        # nnU-Net keeps its sums in float16: labels of nearly equal logits come out differently
        assert (ours == theirs[f"{key}.labels"]).mean() >= 0.999, key


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_logits_are_nnunets(models, scans, theirs, monkeypatch, configuration, reader) -> None:
    kept: list[torch.Tensor] = []

    class Kept(Export):
        def add(self, planes: torch.Tensor) -> tuple[int, int]:
            kept.append(planes.clone())
            return super().add(planes)

    monkeypatch.setattr(job, "Export", Kept)
    for orientation in ORIENTATIONS:
        kept.clear()
        labels_of(models[configuration, reader], read_volume(scans[orientation]))
        key = f"{configuration}.{reader}.{orientation}"
        shape = tuple(theirs[f"{key}.logits_shape"])
        swept = torch.cat(kept, 1)
        # planes come in the order of the sweep: its axis stands in front
        (ours,) = [turned for axis in (1, 2, 3) if (turned := swept.movedim(1, axis)).shape == shape][:1]
        np.testing.assert_allclose(ours.numpy().ravel()[::EVERY], theirs[f"{key}.logits"], atol=1e-4)


@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_a_network_that_sees_the_world_does_not_see_the_file(models, scans, theirs, configuration) -> None:
    """What nnU-Net turns before it looks comes out the same in the world; what it does not turn does not."""
    by_reader = {}
    for reader in ("SimpleITKIO", "NibabelIOWithReorient"):
        found = [labels_of(models[configuration, reader], read_volume(scans[name])) for name in ORIENTATIONS]
        by_reader[reader] = [float((found[0] == other).mean()) for other in found[1:]]
    assert min(by_reader["NibabelIOWithReorient"]) >= 0.9999
    assert max(by_reader["SimpleITKIO"]) < 0.999


def test_finished_planes_are_told_where_they_lie(models, scans) -> None:
    """While it runs, what is said to be finished is what it is in the end, also where axes are turned and swapped."""
    for orientation in ORIENTATIONS:
        volume = read_volume(scans[orientation])
        model = models["3d_fullres", "SimpleITKIO"]
        work = predict(model, volume.array, volume.grid.spacing, PARAMETERS, stored_order=volume.stored_order)
        seen, boxes = [], []
        try:
            while True:
                step = next(work)
                if step.slab is not None:
                    box = tuple(slice(*step.slab) if axis == step.axis else slice(None) for axis in range(3))
                    boxes.append((step.axis, *step.slab))
                    seen.append((box, step.labels[box].copy()))
        except StopIteration as end:
            whole = end.value.labels
        assert all(np.array_equal(whole[box], part) for box, part in seen)
        assert sum(stop - start for _, start, stop in boxes) == whole.shape[boxes[0][0]]


def test_probabilities_lie_where_labels_do(models, scans) -> None:
    volume = read_volume(scans["PSR"])
    work = predict(
        models["3d_fullres", "SimpleITKIO"],
        volume.array,
        volume.grid.spacing,
        PARAMETERS,
        stored_order=volume.stored_order,
    )
    found = finish(work)
    assert (found.probabilities.argmax(0) == found.labels).mean() > 0.999


def test_labels_are_saved_on_the_file_they_belong_to(models, scans, theirs, tmp_path) -> None:
    volume = read_volume(scans["IAL"])
    labels = labels_of(models["3d_fullres", "SimpleITKIO"], volume)
    out = tmp_path / "labels.nii.gz"
    write_segmentation(out, Segmentation(labels, volume.grid, stored_order=volume.stored_order, header=volume.header))
    back = read_segmentation(out)
    assert back.stored_order == volume.stored_order
    stored = back.stored_order.store(back.labels)
    assert (stored == theirs["3d_fullres.SimpleITKIO.IAL.labels32"]).mean() >= 0.9999


# ---- the rule


@pytest.mark.parametrize(
    ("plans", "dataset", "orientation", "unit"),
    [
        ({"image_reader_writer": "SimpleITKIO"}, {}, "stored", "mm"),
        ({"image_reader_writer": "NibabelIO"}, {"overwrite_image_reader_writer": "SimpleITKIO"}, "stored", "mm"),
        ({"image_reader_writer": "Tiff3DIO"}, {"file_ending": ".tif"}, "stored", "mm"),
        ({"image_reader_writer": "NaturalImage2DIO"}, {"file_ending": ".png"}, "stored", "px"),
        ({"image_reader_writer": "SimpleITKIOWithReorient"}, {}, "RAS", "mm"),
        ({}, {"overwrite_image_reader_writer": "NibabelIOWithReorient"}, "RAS", "mm"),
        ({}, {"overwrite_image_reader_writer": "None", "file_ending": ".png"}, "stored", "px"),
        ({}, {"file_ending": ".nii.gz"}, "stored", "mm"),
    ],
)
def test_the_card_carries_the_rule_of_the_reader(tmp_path, plans, dataset, orientation, unit) -> None:
    folder = tmp_path / "model"
    shutil.copytree(DATA / "hippocampus_2d", folder)
    for name, changes in (("plans.json", plans), ("dataset.json", dataset)):
        content = json.loads((folder / name).read_text(encoding="utf-8"))
        content.pop("image_reader_writer", None)
        (folder / name).write_text(json.dumps(content | changes), encoding="utf-8")
    (entry,) = finish(import_model(folder, tmp_path / "out", ImportOptions()))
    assert (entry.card.orientation, entry.card.preprocessing.unit) == (orientation, unit)


def test_an_unknown_reader_is_refused(tmp_path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(DATA / "hippocampus_2d", folder)
    plans = json.loads((folder / "plans.json").read_text(encoding="utf-8"))
    (folder / "plans.json").write_text(json.dumps(plans | {"image_reader_writer": "MineIO"}), encoding="utf-8")
    with pytest.raises(FileError, match="MineIO"):
        finish(import_model(folder, tmp_path / "out", ImportOptions()))


def test_an_array_from_nowhere_is_taken_as_it_is_and_that_is_said(models, scans) -> None:
    volume = read_volume(scans["RAS"])
    model = models["2d", "SimpleITKIO"]
    found = finish(predict(model, volume.array, volume.grid.spacing, PARAMETERS))
    assert any("how this one lies is not known" in note for note in found.notes)
    still = StoredOrder.identity(3)
    same = finish(predict(model, volume.array, volume.grid.spacing, PARAMETERS, stored_order=still))
    assert np.array_equal(found.labels, same.labels)
    assert not any("how this one lies" in note for note in same.notes)
    with pytest.raises(InputError, match="has 2 axes"):
        turn_for(model.card.orientation, StoredOrder.identity(2), 3)


def test_a_slice_keeps_the_order_of_its_axes_in_the_file() -> None:
    order = StoredOrder((2, 0, 1), (True, False, True))
    volume = np.arange(2 * 3 * 4).reshape(2, 3, 4)
    stored = order.store(volume)
    # presented axis 1 is stored axis 0: a plane along it is a plane of the file
    plane = order.of_axes([0, 2]).store(volume[:, 2])
    assert np.array_equal(plane, stored[2])
