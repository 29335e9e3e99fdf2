"""Looking through a data set, looking ahead at a training, and samples as text."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from src_models.progress import finish
from src_models.training.cases import case_from_arrays, data_set_from_arrays
from src_models.training.defaults import default_plan
from src_models.training.loop import SamplePrediction
from src_models.training.outlook import outlook
from src_models.training.sample_text import pack, unpack
from src_models.training.survey import survey

RNG = np.random.default_rng(1)


def cases(count: int = 6) -> list:
    masks = np.zeros((count, 32, 32), np.uint8)
    masks[:, 4:20, 6:25] = 1
    return [case_from_arrays(f"c{k}", RNG.normal(size=(32, 32)).astype(np.float32), masks[k]) for k in range(count)]


def test_every_case_is_left_out_in_one_fold_and_fit_cases_have_no_remark() -> None:
    found = finish(survey(data_set_from_arrays("set", cases())))
    assert sorted(row.fold for row in found.rows) == [0, 0, 1, 2, 3, 4]
    assert not any(row.problem or row.remark for row in found.rows)
    assert found.sentence == "6 cases of 6 patients: all can be used."


def test_an_image_of_two_patients_is_found_and_numbers_that_are_none() -> None:
    given = cases()
    image = given[0].volume().array[0]
    mask = given[0].segmentation().labels
    broken = image.copy()
    broken[3, 3] = np.nan
    given[1] = case_from_arrays("c1", image, mask)
    given[2] = case_from_arrays("c2", broken, mask)
    given[3] = case_from_arrays("c3", image * 0, mask)
    found = {row.case: row for row in finish(survey(data_set_from_arrays("set", given))).rows}
    assert found["c1"].remark == "The image is that of case c0, of another patient."
    assert "1 voxels" in found["c2"].problem
    assert "one value only" in found["c3"].problem
    same = [given[0], replace(given[1], group="c0")]
    assert "of the same patient" in finish(survey(data_set_from_arrays("set", same))).rows[1].remark


def test_too_few_patients_for_folds_are_said() -> None:
    found = finish(survey(data_set_from_arrays("set", cases(2))))
    assert {row.fold for row in found.rows} == {None}
    assert any("too few patients" in note for note in found.notes)


def test_the_outlook_grows_with_the_batch_and_counts_the_steps() -> None:
    data = data_set_from_arrays("set", cases())
    small = default_plan(data, epochs=3, iterations=5, batch=2)
    large = default_plan(data, epochs=3, iterations=5, batch=8)
    ahead = [outlook(plan, plan.configuration(), cases=6) for plan in (small, large)]
    assert ahead[0].steps == 15
    network = ahead[0].memory_bytes
    assert network < ahead[1].memory_bytes < 4 * network
    assert ahead[0].seconds == pytest.approx(15 * ahead[0].step_seconds * (1 + 0.2 / 3))


def test_a_sample_survives_its_text_and_other_text_is_refused() -> None:
    reference = np.zeros((7, 9), np.int16)
    reference[2:5, 3:7] = 2
    sample = SamplePrediction(RNG.normal(size=(7, 9)).astype(np.float32), reference, reference.T.reshape(7, 9))
    packed = pack(sample)
    found = unpack(packed)
    assert found is not None
    np.testing.assert_array_equal(found.reference, reference)
    np.testing.assert_array_equal(found.prediction, sample.prediction)
    order = np.argsort(sample.image.ravel())[2:-2]
    assert (np.diff(found.image.ravel()[order].astype(int)) >= 0).all()
    assert unpack(packed | {"shape": [7, 10]}) is None
    assert unpack(packed | {"image": "not base64"}) is None
    assert unpack({}) is None
