"""Cross-validation: every patient left out once, finished folds kept, the table; whole-image validation."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from src_models.errors import FileError, InputError
from src_models.inference.parameters import PredictionParameters
from src_models.inference.predict import predict
from src_models.training.crossval import as_markdown, crossval, read_scores, table_rows
from src_models.training.loop import RunSettings, TrainingProgress, train
from src_models.training.outcome import score_table
from src_models.training.validation import CaseScore
from src_models.weights import store
from tests.runs import finish
from tests.src_models.training.tiny import discs, tiny_plan

CPU = RunSettings(device="cpu", workers=0)
DATA = discs(10, (20, 22), ("disc", "core"), patients=5)
PLAN = tiny_plan(DATA, options={"depth": 1, "base_width": 2}, epochs=1, iterations=1)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    out = tmp_path_factory.mktemp("crossval")
    return out, finish(crossval(PLAN, DATA, out, settings=CPU))


def test_every_patient_is_left_out_once(done):
    out, result = done
    left_out = [score.case for scores in result.folds.values() for score in scores]
    assert sorted(left_out) == sorted(case.id for case in DATA.cases)
    patients = [{score.group for score in scores} for scores in result.folds.values()]
    assert all(len(group) == 1 for group in patients)
    assert len(set.union(*patients)) == 5
    assert json.loads((out / "folds.json").read_text()) == [
        {side: list(names) for side, names in fold.items()} for fold in PLAN.folds
    ]


def test_the_table_is_that_of_the_patients(done):
    out, result = done
    rows = {(row.fold, row.name): row for row in result.rows}
    every = [rows[str(k), "disc"].dice for k in range(5)]
    assert rows["all", "disc"].dice == pytest.approx(np.mean(every))
    assert rows["all", "disc"].patients == 5
    assert rows["all", "disc"].cases == 10
    assert rows["all", "disc"].low <= rows["all", "disc"].dice <= rows["all", "disc"].high
    assert math.isnan(rows["0", "disc"].low)
    means = [rows[str(k), "mean"].dice for k in range(5)]
    worst = int(np.argmin(means))
    assert rows[f"all but {worst}", "mean"].dice == pytest.approx((sum(means) - means[worst]) / 4)
    assert (out / "table.md").read_text() == as_markdown(result.rows)
    kept = json.loads((out / "table.json").read_text())["rows"]
    assert [row["dice"] for row in kept] == [row.dice for row in result.rows]
    assert len((out / "per_case.csv").read_text().splitlines()) == 1 + 10 * 2


def test_finished_folds_are_not_trained_again(done):
    out, result = done
    seen = []
    work = crossval(PLAN, DATA, out, settings=CPU)
    while True:
        try:
            seen.append(next(work))
        except StopIteration as end:
            again = end.value
            break
    assert not any(isinstance(p, TrainingProgress) for p in seen)
    assert again.rows[0] == result.rows[0]
    assert again.folds == result.folds
    with pytest.raises(FileError, match="another plan or seed"):
        finish(crossval(PLAN, DATA, out, seed=1, settings=CPU))


def test_a_fold_of_another_configuration_is_not_taken_for_this_one(tmp_path):
    """Plan and seed are the same: 3d_fullres into the folder of 2d must not give the scores of 2d."""
    first = PLAN.configuration()
    second = first.model_copy(update={"name": "3d_lowres", "patch": tuple(2 * n for n in first.patch)})
    plan = PLAN.model_copy(update={"configurations": (first, second)})
    finish(crossval(plan, DATA, tmp_path, folds=(0,), settings=CPU))
    with pytest.raises(FileError, match="another configuration than 3d_lowres"):
        finish(crossval(plan, DATA, tmp_path, configuration="3d_lowres", folds=(0,), settings=CPU))


def test_a_stopped_fold_goes_on(tmp_path, done):
    plan = PLAN.model_copy(update={"iterations": 3})
    work = crossval(plan, DATA, tmp_path / "a", folds=(1,), settings=CPU)
    while not (isinstance(p := next(work), TrainingProgress) and p.step == 2):
        pass
    work.close()
    stopped = finish(crossval(plan, DATA, tmp_path / "a", folds=(1,), settings=CPU))
    whole = finish(crossval(plan, DATA, tmp_path / "b", folds=(1,), settings=CPU))
    assert stopped.folds == whole.folds
    cards = [store.load(tmp_path / name / "fold_1" / "model.safetensors").card.sha256 for name in "ab"]
    assert cards[0] == cards[1]


def test_folds_that_are_not_there(tmp_path):
    with pytest.raises(InputError, match="no fold 5"):
        next(crossval(PLAN, DATA, tmp_path, folds=(5,), settings=CPU))
    few = discs(3)
    with pytest.raises(InputError, match="3 patients are too few"):
        next(crossval(tiny_plan(few), few, tmp_path, settings=CPU))


def test_scores_are_read_as_they_were_written(tmp_path):
    one, two = {"a": 3, "b": 0}, {"a": 5, "b": 1}
    scores = (CaseScore("x", "p", one, two, two), CaseScore("y", "q", two, two, two))
    (tmp_path / "s.csv").write_text(score_table(scores))
    assert read_scores(tmp_path / "s.csv") == scores
    (tmp_path / "bad.csv").write_text("case,patient\n1,2\n")
    with pytest.raises(FileError):
        read_scores(tmp_path / "bad.csv")


def test_one_fold_has_no_summary():
    count = {"a": 2}
    rows = table_rows({3: (CaseScore("x", "p", count, count, count),)})
    assert [(row.fold, row.name) for row in rows] == [("3", "a"), ("3", "mean")]
    assert "| 3 | 1 | 1.0000 |" in as_markdown(rows)


@pytest.mark.parametrize("shape", [(30, 34), (11, 24, 26)])
def test_validation_is_the_prediction_that_users_get(tmp_path, shape):
    """Dice of whole cases, with windows and resampling, equals that of `predict` on the file."""
    data = discs(5, shape, ("disc", "core"), patients=5)
    plan = tiny_plan(data, epochs=1, iterations=2, options={"depth": 1, "base_width": 2})
    chosen = plan.configuration()
    spacing = tuple(1.3 for _ in shape)
    finer = chosen.preprocessing.model_copy(update={"spacing": spacing, "unit": "mm", "crop_to_nonzero": True})
    plan = plan.model_copy(update={"configurations": (chosen.model_copy(update={"preprocessing": finer}),)})
    result = finish(train(plan, data, tmp_path / "run", settings=CPU))
    model = store.load(result.weights)
    (score,) = result.cases
    case = data.case(score.case)
    volume, segmentation = case.read()
    parameters = PredictionParameters(device="cpu", precision="fp32", post="none", skip="none")
    with torch.no_grad():
        found = finish(predict(model, volume.array, volume.grid.spacing, parameters)).labels
    for value, name in ((1, "disc"), (2, "core")):
        a, b = found == value, segmentation.labels == value
        assert score.dice[name] == pytest.approx(2 * (a & b).sum() / (a.sum() + b.sum()), abs=2e-3)
