"""Pairs of configurations, judged on cases that neither has seen, and what a prediction takes of them afterwards."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from src_models.errors import FileError
from src_models.inference.parameters import PredictionParameters
from src_models.inference.predict import predict
from src_models.training.crossval import CrossvalResult, crossval
from src_models.training.loop import RunSettings
from src_models.training.pairs import candidates, models_of, score_candidates
from src_models.training.selection import mean_dice_of, select_configuration
from src_models.weights import store
from src_models.weights.selected import SELECTION, read_selected
from tests.runs import finish
from tests.src_models.training.cascades import FULL, LOW, SECOND, balls, cascade_plan

CPU = RunSettings(device="cpu", workers=0)
DATA = balls(5)
PLAN = cascade_plan(DATA)


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> tuple[Path, dict[str, CrossvalResult]]:
    """All three configurations; the cascade builds on the low resolution beside it."""
    out = tmp_path_factory.mktemp("pairs")
    results = {}
    for name in (FULL, LOW, SECOND):
        settings = RunSettings(device="cpu", workers=0, first_stage=out / LOW if name == SECOND else None)
        results[name] = finish(crossval(PLAN, DATA, out / name, configuration=name, settings=settings))
    return out, results


def test_every_configuration_comes_before_every_pair():
    assert candidates(("a", "b", "c")) == (("a",), ("b",), ("c",), ("a", "b"), ("a", "c"), ("b", "c"))
    assert candidates(("a",)) == (("a",),)


def shares(done, name: str, fold: int, case: str) -> np.ndarray:
    volume = DATA.case(case).volume()
    model = models_of(PLAN, name, done[1][name]).model(fold, case)
    settings = PredictionParameters(device="cpu", precision="fp32", post="none", probabilities=True)
    return finish(predict(model, volume.array, volume.grid.spacing, settings)).probabilities.astype(np.float64)


def test_a_pair_is_the_mean_of_probabilities_of_its_halves(done):
    _, results = done
    two = {name: results[name] for name in (FULL, LOW)}
    scores = finish(score_candidates(PLAN, DATA, two, device="cpu"))
    assert list(scores) == [(FULL,), (LOW,), (FULL, LOW)]
    for fold, sides in enumerate(PLAN.folds):
        (case,) = sides["val"]
        truth = DATA.case(case).read()[1].labels
        parts = {name: shares(done, name, fold, case) for name in two}
        for names, by_fold in scores.items():
            (score,) = by_fold[fold]
            found = sum(parts[name] for name in names).argmax(0)
            for label in PLAN.labels[1:]:
                assert score.predicted[label.name] == (found == label.value).sum()
                assert score.right[label.name] == ((found == label.value) & (truth == label.value)).sum()
                assert score.true[label.name] == (truth == label.value).sum()


def test_single_configurations_come_out_as_in_their_own_cross_validation(done):
    """But for voxels where two probabilities are equal in half precision."""
    _, results = done
    scores = finish(score_candidates(PLAN, DATA, results, device="cpu"))
    assert len(scores) == 6
    for name, result in results.items():
        (own,) = [row.dice for row in result.rows if (row.fold, row.name) == ("all", "mean")]
        assert mean_dice_of(scores[name,]) == pytest.approx(own, abs=2e-3)


def test_a_cascade_is_judged_with_the_first_stage_that_has_not_seen_the_case(done):
    models = models_of(PLAN, SECOND, done[1][SECOND])
    for fold, sides in enumerate(PLAN.folds):
        (case,) = sides["val"]
        (stage,) = models.model(fold, case).first_stage
        assert case in PLAN.folds[int(stage.card.fold)]["val"]
        assert [one.sha256 for one in models.model(fold, case).card.first_stage] == [stage.card.sha256]


def test_the_folder_of_a_selection_predicts_what_was_selected(done):
    out, results = done
    best = finish(select_configuration(PLAN, DATA, results, out, device="cpu"))
    told = json.loads((out / SELECTION).read_text())
    assert told["configurations"] == list(best)
    assert len(told["dice"]) == 6
    assert max(told["dice"], key=told["dice"].get) == " + ".join(best)
    assert len(store.load_folds(out)) == 5 * len(best)
    for names in ((FULL, SECOND), (LOW,)):
        (out / SELECTION).write_text(json.dumps(told | {"configurations": names, "keep_largest": [[1, 2], [2]]}))
        volume = DATA.cases[0].volume()
        settings = PredictionParameters(device="cpu", probabilities=True)
        found = finish(predict(store.load_folds(out), volume.array, volume.grid.spacing, settings))
        parts = [
            finish(predict(store.load_folds(out / name), volume.array, volume.grid.spacing, settings)).probabilities
            for name in names
        ]
        mean = np.mean([part.astype(np.float32) for part in parts], 0)
        np.testing.assert_allclose(found.probabilities.astype(np.float32), mean, atol=1e-3)
        rules = {json.dumps(model.card.inference.get("keep_largest")) for model in store.load_folds(out)}
        if len(names) == 2:
            assert rules == {"[[1, 2], [2]]"}
    (out / SELECTION).unlink()


@pytest.mark.parametrize(
    "text",
    ["{", "[]", '{"configurations": ["../../elsewhere"]}', '{"configurations": ["a", "a"]}', '{"configurations": 3}'],
)
def test_a_damaged_selection_is_refused_in_one_sentence(tmp_path, text):
    (tmp_path / SELECTION).write_text(text)
    with pytest.raises(FileError, match="not what a selection writes") as told:
        store.load_folds(tmp_path)
    assert "\n" not in str(told.value)


def test_a_selection_beside_its_own_folds_names_no_configuration(tmp_path):
    assert read_selected(tmp_path) is None
    (tmp_path / SELECTION).write_text('{"keep_largest": [[1]], "dice": {}}')
    assert read_selected(tmp_path) is None
