"""Which configuration and which largest parts: nnU-Net's rules."""

from __future__ import annotations

import json

import numpy as np
import pytest

from src_models.training.cases import open_data_set
from src_models.training.crossval import crossval
from src_models.training.loop import RunSettings
from src_models.training.selection import (
    Scores,
    add_variants,
    best_of,
    decide,
    mean_dice_of,
    select_postprocessing,
)
from src_models.training.validation import CaseScore
from src_models.weights import store
from tests.runs import finish
from tests.src_models.training.tiny import discs, tiny_plan, write_pictures


def truth() -> np.ndarray:
    """Label 1 around label 2, in one piece."""
    labels = np.zeros((20, 30), np.uint8)
    labels[5:15, 5:15] = 1
    labels[8:12, 8:12] = 2
    return labels


def variants(*found: np.ndarray) -> Scores:
    scores: Scores = {}
    for labels in found:
        add_variants(scores, labels, truth(), (1, 2))
    return scores


def test_a_good_prediction_is_left_alone():
    assert decide(variants(truth(), truth()), (1, 2)) == ()


def test_an_island_far_away_goes_with_the_whole_foreground():
    island = truth()
    island[2:5, 25:28] = 1
    assert decide(variants(truth(), island), (1, 2)) == ((1, 2),)


def test_an_island_inside_the_foreground_goes_by_its_class():
    island = truth()
    island[13:15, 13:15] = 2
    assert decide(variants(truth(), island), (1, 2)) == ((2,),)


def test_a_rule_that_harms_one_class_is_not_taken():
    """The structure of label 2 is found apart from label 1: the largest part alone would lose it."""
    reference = truth()
    reference[reference == 2] = 1
    reference[2:5, 24:28] = 2
    island = reference.copy()
    island[17:19, 1:3] = 1
    scores: Scores = {}
    add_variants(scores, island, reference, (1, 2))
    assert decide(scores, (1, 2)) == ((1,),)


def scores(*right: int) -> dict[int, tuple[CaseScore, ...]]:
    """One fold whose cases, of one patient each, have so many right voxels of ten."""
    return {0: tuple(CaseScore(str(k), str(k), {"a": n}, {"a": 10}, {"a": 10}) for k, n in enumerate(right))}


def test_the_best_has_the_highest_mean_and_a_pair_must_be_better_than_its_halves():
    alone = {("2d",): scores(5, 7), ("3d_fullres",): scores(8, 8), ("3d_lowres",): scores(7, 9)}
    assert best_of(alone) == ("3d_fullres",)
    assert best_of(alone | {("2d", "3d_fullres"): scores(8, 8)}) == ("3d_fullres",)
    assert best_of(alone | {("2d", "3d_fullres"): scores(8, 9)}) == ("2d", "3d_fullres")
    # patients count alike, whatever fold they are in: these are two, one of them with two cases
    assert mean_dice_of({0: scores(5)[0], 1: scores(6, 7)[0]}) == pytest.approx((0.55 + 0.7) / 2)


def test_the_decision_reaches_the_cards(tmp_path):
    data = discs(5, (20, 20), ("disc", "core"), patients=5)
    plan = tiny_plan(data, options={"depth": 1, "base_width": 2}, epochs=1, iterations=1)
    result = finish(crossval(plan, data, tmp_path, folds=(0, 1), settings=RunSettings(device="cpu", workers=0)))
    kept = finish(select_postprocessing(plan, data, {"2d": result}, device="cpu"))
    assert json.loads((tmp_path / "selection.json").read_text())["keep_largest"] == [list(one) for one in kept]
    for model in store.load_folds(tmp_path):
        assert model.card.inference["keep_largest"] == [list(one) for one in kept]


def test_pictures_without_a_size_are_judged_at_the_size_they_were_trained_at(tmp_path):
    """The card knows about how large a pixel was; that is for images in mm, and not for the pictures themselves."""
    folder = write_pictures(tmp_path / "data", discs(5, (40, 40)))
    data = open_data_set(folder)
    plan = tiny_plan(data, options={"depth": 1, "base_width": 2}, epochs=1, iterations=1)
    chosen = plan.configuration()
    pixels = chosen.preprocessing.model_copy(update={"spacing": None, "unit": "px", "pixel_mm": 0.2})
    plan = plan.model_copy(update={"configurations": (chosen.model_copy(update={"preprocessing": pixels}),)})
    result = finish(crossval(plan, data, tmp_path / "out", settings=RunSettings(device="cpu", workers=0)))
    finish(select_postprocessing(plan, data, {"2d": result}, device="cpu"))
    unseen = [score.dice for cases in result.folds.values() for score in cases]
    dice = json.loads((tmp_path / "out" / "selection.json").read_text())["dice"]["raw"]
    assert dice["1"] == pytest.approx(np.mean([next(iter(one.values())) for one in unseen]), abs=1e-3)
    assert dice["1"] > 0
