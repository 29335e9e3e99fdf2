"""`plan.json`: comes back as it was, may be edited, and is refused where it cannot be trained with."""

from __future__ import annotations

import json

import numpy as np
import pytest

from src_models.errors import FileError, InputError
from src_models.training.cases import case_from_arrays, data_set_from_arrays
from src_models.training.fingerprint import fingerprint_now
from src_models.training.folds import make_folds
from src_models.training.plan_file import plan_hash, read_plan, write_plan
from src_models.training.planning import plan_data_set


@pytest.fixture(scope="module")
def plan():
    rng = np.random.default_rng(0)
    labels = np.zeros((24, 30, 32), np.uint8)
    labels[4:12, 5:20, 6:20] = 1
    cases = [case_from_arrays(f"c{k}", rng.normal(size=labels.shape), labels, (1.5, 1.0, 1.0)) for k in range(6)]
    data = data_set_from_arrays("blocks", cases, {1: "block"}, ["ct"])
    return plan_data_set(data, fingerprint_now(data), folds=make_folds(data.groups))


@pytest.fixture
def path(plan, tmp_path):
    write_plan(tmp_path / "plan.json", plan)
    return tmp_path / "plan.json"


def edited(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return read_plan(path)


def test_a_plan_comes_back_as_it_was(path, plan):
    back, said = read_plan(path)
    assert back == plan
    assert said == ()
    assert plan_hash(back) == plan_hash(plan)
    assert [one.name for one in back.configurations] == ["3d_fullres", "2d"]
    assert back.configurations[0].preprocessing.channels[0].normalisation == "ct"
    assert len(back.folds) == 5
    assert back.modality == "CT"


def test_what_was_edited_is_said(path, plan):
    def change(content):
        content["configurations"][0]["batch"] = 3
        content["configurations"][0]["preprocessing"]["spacing"] = [2.0, 1.0, 1.0]
        del content["configurations"][1]

    back, said = edited(path, change)
    assert back.configurations[0].batch == 3
    assert said == (
        "3d_fullres: preprocessing.spacing is [2.0, 1.0, 1.0], planned was [1.5, 1.0, 1.0].",
        f"3d_fullres: batch is 3, planned was {plan.configurations[0].batch}.",
        "2d was taken out.",
    )
    assert plan_hash(back) != plan_hash(plan)


def test_a_patch_that_does_not_fit_the_network_is_refused_with_its_neighbours(path):
    def change(content):
        content["configurations"][0]["patch"][1] += 1

    with pytest.raises(InputError, match=r"3d_fullres: patch 33 along axis 1 is no multiple of 8.*Use 32 or 40"):
        edited(path, change)


def test_unknown_keys_and_wrong_values_are_refused(path):
    with pytest.raises(InputError, match=r"configurations.0.batsh"):
        edited(path, lambda content: content["configurations"][0].update(batsh=3))


def test_values_out_of_range_are_refused(path):
    with pytest.raises(InputError, match=r"optimiser.rate"):
        edited(path, lambda content: content["optimiser"].update(rate=-1))


def test_other_files_are_refused(tmp_path):
    for text in ("", "{", "[]", '{"schema_number": 99}'):
        (tmp_path / "plan.json").write_text(text)
        with pytest.raises(FileError):
            read_plan(tmp_path / "plan.json")
