"""An imported nnU-Net sees a file as nnU-Net's own reader gives it, whichever way round the file is stored.

The answers are those of nnunetv2 2.8.1 for networks it has trained (`tests/data/nnunet/make_turned.py`).
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from src_models.errors import FileError, InputError
from src_models.files import read_segmentation, read_volume, write_segmentation
from src_models.geometry import Segmentation, StoredOrder
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
PARAMETERS = PredictionParameters(device="cpu", precision="fp32", skip="none")


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


class Kept(Export):
    """Keeps the logits that go through it."""

    planes: ClassVar[list[torch.Tensor]] = []

    def add(self, planes: torch.Tensor) -> tuple[int, int]:
        self.planes.append(planes.clone())
        return super().add(planes)


class Ours:
    """What `predict` makes of a file, once for all tests: labels, logits on the network's grid, finished slabs."""

    def __init__(self, models: dict[tuple[str, str], Model], scans: dict[str, Path]) -> None:
        self._models, self._scans = models, scans
        self._done: dict[tuple[str, str, str], tuple[np.ndarray, torch.Tensor]] = {}
        self.slabs: dict[tuple[str, str, str], list[tuple[int, tuple[int, int], np.ndarray]]] = {}

    def __call__(self, *key: str) -> tuple[np.ndarray, torch.Tensor]:
        if key not in self._done:
            Kept.planes.clear()
            labels = finish(self._run(*key), lambda step: self._see(key, step))
            self._done[key] = labels.labels, torch.cat(Kept.planes, 1)
        return self._done[key]

    def _run(self, configuration: str, reader: str, orientation: str) -> Any:
        volume = read_volume(self._scans[orientation])
        model = self._models[configuration, reader]
        return predict(model, volume.array, volume.grid.spacing, PARAMETERS, stored_order=volume.stored_order)

    def _see(self, key: tuple[str, ...], step: Any) -> None:
        if step.slab is not None:
            part = step.labels.take(range(*step.slab), step.axis)
            self.slabs.setdefault(key, []).append((step.axis, step.slab, part))


@pytest.fixture(scope="module")
def ours(models, scans) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job, "Export", Kept)
        yield Ours(models, scans)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_labels_and_logits_are_nnunets_however_the_file_is_stored(ours, scans, theirs, configuration, reader) -> None:
    for orientation in ORIENTATIONS:
        labels, logits = ours(configuration, reader, orientation)
        stored = read_volume(scans[orientation]).stored_order.store(labels)
        key = f"{configuration}.{reader}.{orientation}"
        assert stored.any(), "nothing to compare"
        assert (stored == theirs[f"{key}.labels32"]).mean() >= 0.9999, key
        # nnU-Net keeps its sums in float16: labels of nearly equal logits come out differently
        assert (stored == theirs[f"{key}.labels"]).mean() >= 0.999, key
        shape = tuple(theirs[f"{key}.logits_shape"])
        # planes come in the order of the sweep: its axis stands in front
        swept = next(turned for axis in (1, 2, 3) if (turned := logits.movedim(1, axis)).shape == shape)
        np.testing.assert_allclose(swept.numpy().ravel()[::EVERY], theirs[f"{key}.logits"], atol=1e-4)


@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_what_nnunet_turns_before_it_looks_is_the_same_in_the_world(ours, configuration) -> None:
    """And what it does not turn is not: these networks do tell the ways round apart."""
    by_reader = {}
    for reader in ("SimpleITKIO", "NibabelIOWithReorient"):
        found = [ours(configuration, reader, orientation)[0] for orientation in ORIENTATIONS]
        by_reader[reader] = [float((found[0] == other).mean()) for other in found[1:]]
    assert min(by_reader["NibabelIOWithReorient"]) >= 0.9999
    assert max(by_reader["SimpleITKIO"]) < 0.999


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_finished_planes_are_told_where_they_lie(ours, orientation) -> None:
    """While it runs, what is said to be finished is what it is in the end, also where axes are turned and swapped."""
    key = ("3d_fullres", "SimpleITKIO", orientation)
    whole, _ = ours(*key)
    axis = ours.slabs[key][0][0]
    assert all(np.array_equal(whole.take(range(*slab), axis), part) for axis, slab, part in ours.slabs[key])
    assert sum(stop - start for _, (start, stop), _ in ours.slabs[key]) == whole.shape[axis]


def test_probabilities_lie_where_labels_do(models, scans, ours) -> None:
    volume = read_volume(scans["PSR"])
    work = predict(
        models["3d_fullres", "SimpleITKIO"],
        volume.array,
        volume.grid.spacing,
        PARAMETERS.model_copy(update={"probabilities": True}),
        stored_order=volume.stored_order,
    )
    found = finish(work)
    assert np.array_equal(found.labels, ours("3d_fullres", "SimpleITKIO", "PSR")[0])
    assert (found.probabilities.argmax(0) == found.labels).mean() > 0.999


def test_labels_are_saved_on_the_file_they_belong_to(ours, scans, theirs, tmp_path) -> None:
    volume = read_volume(scans["IAL"])
    labels, _ = ours("3d_fullres", "SimpleITKIO", "IAL")
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
