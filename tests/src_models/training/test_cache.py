"""The cache of prepared cases: what comes back is what was prepared, whatever interrupted it."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest

from src_models.errors import SaveError
from src_models.preprocessing.parameters import Preprocessing
from src_models.preprocessing.prepare import prepare, prepare_labels
from src_models.training import cache
from src_models.training.cache import cached
from src_models.training.cases import case_from_arrays

PREPROCESSING = Preprocessing(spacing=(1.5, 1.0, 1.2), axis_order=(1, 0, 2))


@pytest.fixture
def case():
    rng = np.random.default_rng(0)
    image = np.zeros((9, 12, 14), np.float32)
    image[1:8, 2:11, 3:12] = rng.normal(50, 5, (7, 9, 9))
    labels = np.zeros(image.shape, np.uint8)
    labels[2:5, 3:6, 4:8] = 1
    return case_from_arrays("liver 1/2", image, labels, (2.0, 1.0, 1.0))


def test_it_holds_what_preparing_gives_and_maps_it(case, tmp_path):
    found = cached(case, PREPROCESSING, tmp_path / "cache")
    volume, segmentation = case.read()
    expected = prepare(volume.array, volume.grid.spacing, PREPROCESSING)
    np.testing.assert_array_equal(found.image, expected.array)
    np.testing.assert_array_equal(found.labels, prepare_labels(segmentation.labels, expected, PREPROCESSING))
    assert found.way == expected.way
    assert isinstance(found.image, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        found.image[0, 0, 0, 0] = 1


def test_it_is_prepared_once(case, tmp_path, monkeypatch):
    cached(case, PREPROCESSING, tmp_path)
    monkeypatch.setattr(cache, "prepare", lambda *_, **__: pytest.fail("prepared again"))
    cached(case, PREPROCESSING, tmp_path)


def test_other_parameters_or_labels_are_another_entry(case, tmp_path):
    cached(case, PREPROCESSING, tmp_path)
    cached(case, PREPROCESSING.model_copy(update={"order_image": 1}), tmp_path)
    cached(dataclasses.replace(case, label_map={1: 2}), PREPROCESSING, tmp_path)
    assert len(list(tmp_path.glob("*.json"))) == 3


def test_a_changed_file_is_prepared_again(tmp_path):
    from src_models.files import write_segmentation, write_volume
    from src_models.geometry import Grid, Segmentation, Volume
    from src_models.training.cases import open_data_set

    for name in ("images", "labels"):
        (tmp_path / "data" / name).mkdir(parents=True)
    grid = Grid((8, 9), (1.0, 1.0), spacing_known=False)
    mask = np.zeros((8, 9), np.uint8)
    mask[2:4] = 1
    picture = np.arange(1, 73, dtype=np.uint8).reshape(8, 9)
    write_volume(tmp_path / "data/images/a.png", Volume(picture, grid))
    write_segmentation(tmp_path / "data/labels/a.png", Segmentation(mask, grid))
    case = open_data_set(tmp_path / "data").cases[0]
    before = np.array(cached(case, Preprocessing(), tmp_path / "cache").image)
    other = cached(dataclasses.replace(case, label_map={1: 5}), Preprocessing(), tmp_path / "cache")
    assert set(np.unique(other.labels)) == {0, 5}
    write_volume(tmp_path / "data/images/a.png", Volume(picture[::-1], grid), overwrite=True)
    after = cached(case, Preprocessing(), tmp_path / "cache").image
    np.testing.assert_allclose(after[0], before[0, ::-1], atol=1e-6)


@pytest.mark.parametrize("broken", ["image.npy", "labels.npy", "json"])
def test_an_incomplete_entry_is_made_again(case, tmp_path, broken):
    cached(case, PREPROCESSING, tmp_path)
    whole = next(tmp_path.glob(f"*.{broken}"))
    content = whole.read_bytes()
    whole.write_bytes(content[: len(content) // 2])
    cached(case, PREPROCESSING, tmp_path)
    assert whole.read_bytes() == content


@pytest.mark.parametrize("step", [1, 2, 3])
def test_an_interruption_at_any_file_leaves_nothing_that_counts(case, tmp_path, monkeypatch, step):
    calls = iter(range(1, 10))
    replace = os.replace

    def stop(*paths):
        if next(calls) == step:
            raise KeyboardInterrupt
        replace(*paths)

    monkeypatch.setattr(os, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        cached(case, PREPROCESSING, tmp_path)
    monkeypatch.undo()
    assert not list(tmp_path.glob("*.json"))
    assert not list(tmp_path.glob(".*"))
    cached(case, PREPROCESSING, tmp_path)
    assert len(list(tmp_path.glob("*.json"))) == 1


def test_a_full_disk_is_told(case):
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    with pytest.raises(SaveError, match="Prepared cases cannot be stored"):
        cached(case, PREPROCESSING, Path("/dev/full"))
