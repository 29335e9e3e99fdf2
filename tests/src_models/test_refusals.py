"""What is wrong with a value is told by its field and what it may be, never in the words of the checking library."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from src_models.inference.parameters import PredictionParameters
from src_models.levelset.parameters import LevelSetParameters
from src_models.refusals import problem_of
from src_models.training.plan import TrainingPlan
from src_models.weights.card import ModelCard

PLAN: dict[str, Any] = {
    "labels": [{"name": "background", "value": 0, "channel": 0}],
    "configurations": [{"name": "2d", "preprocessing": {}, "network": {}, "patch": [8, 8], "batch": 2}],
}
CARD: dict[str, Any] = {
    "name": "a",
    "network": {},
    "ndim": 2,
    "preprocessing": {},
    "patch": [8, 8],
    "labels": PLAN["labels"],
}


@pytest.mark.parametrize(
    ("model", "values", "sentence"),
    [
        (TrainingPlan, {"epochs": 0}, "epochs must be 1 or more, not 0"),
        (TrainingPlan, {"epochs": "many"}, "epochs must be a whole number, not many"),
        (TrainingPlan, {"epochs": 2.5}, "epochs must be a whole number, not 2.5"),
        (TrainingPlan, {"loss": "l2"}, "loss must be dice_ce, dice, ce or dice-paper, not l2"),
        (TrainingPlan, {"optimiser": {"rate": -1}}, "optimiser.rate must be above 0, not -1"),
        (TrainingPlan, {"optimiser": {"clip": "a"}}, "optimiser.clip must be a number, not a"),
        (TrainingPlan, {"optimiser": 3}, "optimiser must be a group of names with values, not 3"),
        (TrainingPlan, {"epoch": 3}, "epoch is not known here"),
        (TrainingPlan, {"labels": 3}, "labels must be a list, not 3"),
        (TrainingPlan, {"deep_supervision": "maybe"}, "deep_supervision must be true or false, not maybe"),
        (TrainingPlan, {"modality": 3}, "modality must be a text, not 3"),
        (TrainingPlan, {"configurations": [{}]}, "configurations.0.name is missing"),
        (TrainingPlan, {"ema": 1}, "ema must be below 1, not 1"),
        (TrainingPlan, {"foreground": 2}, "foreground must be 1 or less, not 2"),
        (
            TrainingPlan,
            {"augmentation": {"scaling_range": [1, 2, 3]}},
            "augmentation.scaling_range must have at most 2 entries",
        ),
        (ModelCard, {"ndim": 4}, "ndim must be 2 or 3, not 4"),
        (ModelCard, {"name": "a" * 999, "patch": "x\x1b[31m\n" + "y" * 999}, None),
        (PredictionParameters, {"step": float("nan")}, "step must be a finite number, not nan"),
        (PredictionParameters, {"window": (0,)}, "window must be at least 1 voxel per axis"),
        (LevelSetParameters, {"time_step": -1}, "time_step must be 'cfl' or a number above 0, got -1.0"),
        (LevelSetParameters, {"lower": 5, "upper": 4}, "lower (5) must be below upper (4)"),
    ],
)
def test_the_field_and_what_it_may_be_are_named(model: type[BaseModel], values: Any, sentence: str | None) -> None:
    base = {TrainingPlan: PLAN, ModelCard: CARD}.get(model, {})

    with pytest.raises(ValidationError) as caught:
        model(**(base | values))

    problem = problem_of(caught.value)
    assert "Input should" not in problem.sentence
    assert problem.sentence.isprintable()
    assert len(problem.sentence) < 130
    if sentence is not None:
        assert problem.sentence.startswith(sentence)
