"""Folds equal scikit-learn's, and no patient is on both sides."""

from __future__ import annotations

import json

import pytest
from sklearn.model_selection import KFold

from src_models.errors import FileError, InputError
from src_models.training.folds import Fold, everything, make_folds, read_folds, write_folds


@pytest.mark.parametrize("count", [5, 10, 23, 92, 131, 200, 260])
def test_folds_are_those_of_kfold_over_sorted_names(count):
    names = sorted(f"case_{k:03d}" for k in range(count))
    ours = make_folds({name: name for name in reversed(names)})
    theirs = KFold(5, shuffle=True, random_state=12345).split(names)
    for fold, (train, validation) in zip(ours, theirs, strict=True):
        assert fold.train == tuple(names[k] for k in train)
        assert fold.validation == tuple(names[k] for k in validation)


def test_no_patient_is_on_both_sides_and_each_is_left_out_once():
    groups = {f"p{k % 13:02d}_s{k:03d}": f"p{k % 13:02d}" for k in range(97)}
    folds = make_folds(groups)
    for fold in folds:
        assert not {groups[name] for name in fold.train} & {groups[name] for name in fold.validation}
        assert sorted((*fold.train, *fold.validation)) == sorted(groups)
    assert sorted(name for fold in folds for name in fold.validation) == sorted(groups)


def test_the_contiguous_split_is_the_papers():
    groups = {f"volume-{k}": f"volume-{k}" for k in range(131)}
    folds = make_folds(groups, split="contiguous")
    numbers = [sorted(int(name.split("-")[1]) for name in fold.validation) for fold in folds]
    assert [(block[0], block[-1]) for block in numbers] == [(0, 26), (27, 52), (53, 78), (79, 104), (105, 130)]
    assert all(block == list(range(block[0], block[-1] + 1)) for block in numbers)


def test_fewer_patients_than_folds_are_refused():
    with pytest.raises(InputError, match="1 patient cannot be cut into 5 folds"):
        make_folds({"a": "one", "b": "one"})
    assert everything(["b", "a"]) == Fold(("a", "b"), ())


def test_folds_come_back_from_their_file(tmp_path):
    groups = {f"c{k}": f"c{k}" for k in range(7)}
    folds = make_folds(groups)
    write_folds(tmp_path / "folds.json", folds)
    assert read_folds(tmp_path / "folds.json", groups) == folds


def test_a_given_file_with_a_patient_on_both_sides_is_refused(tmp_path):
    path = tmp_path / "folds.json"
    path.write_text(json.dumps([{"train": ["p1_a"], "val": ["p1_b"]}]))
    with pytest.raises(InputError, match="on both sides"):
        read_folds(path, {"p1_a": "p1", "p1_b": "p1"})
    with pytest.raises(InputError, match="does not have"):
        read_folds(path, {"p1_a": "p1"})
    path.write_text("[1, 2]")
    with pytest.raises(FileError, match="cannot be read as folds"):
        read_folds(path, {"p1_a": "p1"})
