"""Records: lossless, whole on disk, free of anything that names a person or a place, and safe to read."""

from __future__ import annotations

import base64
import json
import math
import tracemalloc
import zlib
from pathlib import Path

import hypothesis.extra.numpy as array_strategies
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from src_models.errors import FileError, SaveError
from src_models.levelset import LevelSetParameters
from src_models.record import (
    SCHEMA,
    Change,
    Record,
    Source,
    StoredArray,
    content_hash,
    record_path,
    versions,
    write_record,
)


def full_record() -> Record:
    """A record with every block filled, as a steered run on a crop leaves it."""
    parameters = LevelSetParameters(
        speed="region", lower=-20.0, upper=180.0, sigma=(3.0, 1.0, 1.0), value_range=(-1024.0, 0.1)
    )
    walls = np.zeros((3, 4, 5), bool)
    walls[1, 2] = True
    return Record(
        task="evolve",
        status="complete",
        parameters=parameters.model_dump(mode="json"),
        changes=(Change(step=7, parameters={"balloon": 0.5}), Change(step=9, walls=StoredArray.of(walls))),
        inputs={"initial": StoredArray.of(walls).model_dump(mode="json")},
        source=Source(
            content_hash="ab" * 32,
            shape=(3, 4, 5),
            dtype="<i2",
            spacing=(3.0, 0.7, 0.7),
            index_to_patient=np.eye(4).tolist(),
            region=[2, (0, 3), (1, 5), (0, 5)],
        ),
        result={"volume_ml": 12.5, "stop_reason": "converged"},
        versions=versions("pydantic"),
        notes=("A seed claims the nearest voxel.",),
        local={"source": "../images/case.nii.gz"},
    )


@settings(max_examples=60, deadline=None)
@given(
    array_strategies.arrays(
        dtype=st.sampled_from([np.bool_, np.uint8, np.int16, np.dtype(">i4"), np.float32, np.float64]),
        shape=array_strategies.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=5),
    )
)
def test_a_stored_array_comes_back_bit_for_bit(array: np.ndarray) -> None:
    restored = StoredArray.model_validate_json(StoredArray.of(array).model_dump_json()).array()
    assert restored.dtype == array.dtype
    assert restored.shape == array.shape
    assert restored.tobytes() == np.ascontiguousarray(array).tobytes()


def test_a_mask_takes_less_than_a_bit_a_voxel() -> None:
    mask = np.zeros((64, 64, 64), bool)
    mask[20:40, 20:40, 20:40] = True
    assert len(StoredArray.of(mask).data) < mask.size / 8


def test_the_hash_sees_values_type_and_shape_and_not_the_layout_in_memory() -> None:
    array = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    assert content_hash(array) == content_hash(np.asfortranarray(array))
    assert content_hash(array) == content_hash(array[::-1, ::-1, ::-1][::-1, ::-1, ::-1])
    changed = array.copy()
    changed[1, 2, 3] += 1
    others = [changed, array.astype(np.int32), array.astype(">i2"), array.reshape(3, 2, 4)]
    assert len({content_hash(a) for a in [array, *others]}) == 5
    assert content_hash(array.astype(complex)) != content_hash(array)


@pytest.mark.parametrize(
    "damage",
    [
        {"shape": (2, 2)},
        {"shape": (-2, -4)},
        {"shape": (2**40, 2**40)},
        {"dtype": "<i4"},
        {"dtype": "nonsense"},
        {"dtype": "O"},
        {"dtype": "V8"},
        {"sha256": "0" * 64},
        {"data": "not base64!"},
        {"data": base64.b64encode(b"not zlib").decode()},
        {"data": base64.b64encode(zlib.compress(bytes(2**26))).decode()},
    ],
    ids=str,
)
def test_a_damaged_array_is_refused_in_one_sentence(damage: dict[str, object]) -> None:
    stored = StoredArray.of(np.arange(8, dtype=np.int16).reshape(2, 4))
    with pytest.raises(FileError, match=r"The record is damaged"):
        stored.model_copy(update=damage).array()


def test_an_array_that_is_longer_than_it_says_is_not_unpacked() -> None:
    bomb = base64.b64encode(zlib.compress(bytes(2**26))).decode()
    stored = StoredArray.of(np.zeros(8, np.uint8)).model_copy(update={"data": bomb})
    tracemalloc.start()
    try:
        with pytest.raises(FileError):
            stored.array()
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()


def test_a_record_comes_back_from_its_file(tmp_path: Path) -> None:
    record = full_record()
    path = tmp_path / "case.lsnet.json"
    write_record(path, record)
    again = Record.read(path)
    assert again == record
    parameters = LevelSetParameters(**again.parameters)
    assert parameters.sigma == (3.0, 1.0, 1.0)
    assert parameters.value_range == (-1024.0, 0.1)
    assert "Research use only" in path.read_text(encoding="utf-8")
    assert [entry.name for entry in tmp_path.iterdir()] == ["case.lsnet.json"]


@given(st.floats(allow_nan=False, allow_infinity=False, width=64))
@settings(max_examples=100, deadline=None)
def test_numbers_lose_nothing_in_the_text(value: float) -> None:
    record = Record(task="evolve", status="complete", parameters={"time_step": value})
    back = Record.model_validate(json.loads(record.to_json()))
    assert math.copysign(1, back.parameters["time_step"]) == math.copysign(1, value)
    assert back.parameters["time_step"] == value


def test_what_is_given_away_holds_nothing_of_this_computer(tmp_path: Path) -> None:
    path = tmp_path / "case.lsnet.json"
    write_record(path, full_record(), with_local=False)
    text = path.read_text(encoding="utf-8")
    assert "local" not in json.loads(text)
    assert "images/case" not in text
    assert Record.read(path).local == {}


def test_a_failed_write_leaves_the_old_record_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "case.lsnet.json"
    write_record(path, full_record())
    before = path.read_bytes()

    def full_disk(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(SaveError, match=r"case\.lsnet\.json was not saved: No space left on device\."):
        write_record(path, Record(task="evolve", status="complete", parameters={}))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_folder_is_told_without_its_path(tmp_path: Path) -> None:
    with pytest.raises(SaveError) as caught:
        write_record(tmp_path / "missing" / "case.lsnet.json", full_record())
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize(
    ("saved", "expected"),
    [
        ("liver.nii.gz", "liver.lsnet.json"),
        ("liver.NII.GZ", "liver.lsnet.json"),
        ("liver.seg.nrrd", "liver.lsnet.json"),
        ("a.b.nrrd", "a.b.lsnet.json"),
        ("mask.png", "mask.lsnet.json"),
        (".nii.gz", ".nii.lsnet.json"),
        ("plain", "plain.lsnet.json"),
    ],
)
def test_the_record_lies_beside_what_was_saved(saved: str, expected: str) -> None:
    assert record_path(Path("folder") / saved) == Path("folder") / expected


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"task": 3}', "\0\0", "[" * 100_000, '{"schema_number": 1, "task": "x"}']
)
def test_what_is_not_a_record_is_refused_in_one_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "other.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(FileError, match=r"other\.json is not a record of this program"):
        Record.read(path)


def test_a_newer_record_asks_for_an_update(tmp_path: Path) -> None:
    content = json.loads(full_record().to_json()) | {"schema_number": SCHEMA + 1, "news": True}
    path = tmp_path / "new.lsnet.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(FileError, match="newer version"):
        Record.read(path)


def test_a_missing_record_and_a_folder_are_told(tmp_path: Path) -> None:
    for path in (tmp_path / "none.lsnet.json", tmp_path):
        with pytest.raises(FileError, match="was not found"):
            Record.read(path)


def test_versions_name_what_is_not_installed() -> None:
    found = versions("pydantic", "surely-not-installed")
    assert found["surely-not-installed"] == "not installed"
    assert found["pydantic"][0].isdigit()
