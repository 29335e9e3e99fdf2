"""Pairs of configurations: the mean of their probabilities, judged on the cases that neither has seen."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray

from src_models.inference.parameters import PredictionParameters
from src_models.inference.predict import predict
from src_models.inference.prediction import Prediction
from src_models.progress import Progress
from src_models.training.case import Case, DataSet
from src_models.training.crossval import CrossvalResult
from src_models.training.label_targets import Targets
from src_models.training.left_out import LeftOutModels, left_out_models
from src_models.training.plan import TrainingPlan
from src_models.training.trainer import class_counts
from src_models.training.validation import CaseScore
from src_models.weights.model import Model

Names = tuple[str, ...]
"""One configuration, or two."""


def candidates(names: Sequence[str]) -> tuple[Names, ...]:
    """Every configuration alone, then every pair."""
    return (*((name,) for name in names), *combinations(names, 2))


def score_candidates(
    plan: TrainingPlan, data: DataSet, results: Mapping[str, CrossvalResult], *, device: str = "auto"
) -> Generator[Progress, None, dict[Names, dict[int, tuple[CaseScore, ...]]]]:
    """Scores of all unseen cases for every configuration and every pair, by fold.

    Every case is predicted once by each configuration, by the fold that has not seen it. Single configurations are
    judged by their probabilities too, so that a pair is compared with its halves on equal terms.

    Parameters
    ----------
    plan : TrainingPlan
        Of the cross-validations.
    data : DataSet
        All cases.
    results : mapping of str to CrossvalResult
        By configuration, of the same folds.
    device : str
        For the predictions.
    """
    names = tuple(results)
    models = {name: models_of(plan, name, results[name]) for name in names}
    folds = results[names[0]].folds
    cases = [(fold, score) for fold, scores in sorted(folds.items()) for score in scores]
    found: dict[Names, dict[int, list[CaseScore]]] = {one: {fold: [] for fold in folds} for one in candidates(names)}
    targets = Targets.of(plan)
    for number, (fold, score) in enumerate(cases, 1):
        case = data.case(score.case)
        shares: dict[str, NDArray[np.float16]] = {}
        for name in names:
            made = yield from predicted(case, [models[name].model(fold, case.id)], device, probabilities=True)
            assert made.probabilities is not None
            shares[name] = made.probabilities
        target = torch.from_numpy(np.ascontiguousarray(targets(case.read()[1].labels[None])))
        for one in found:
            mean = sum((shares[name].astype(np.float32) for name in one), start=np.float32(0)) / np.float32(len(one))
            found[one][fold].append(_score(plan, score, np.asarray(mean), target))
        message = f"Configurations on case {number} of {len(cases)}: {case.id}"
        yield Progress(phase="select", fraction=number / len(cases), message=message)
    return {one: {fold: tuple(scores) for fold, scores in by.items()} for one, by in found.items()}


def models_of(plan: TrainingPlan, name: str, result: CrossvalResult) -> LeftOutModels:
    """The models of a cross-validation; see `left_out_models`."""
    return left_out_models(plan, name, result.out, result.folds, result.first_stage)


def predicted(
    case: Case, models: Sequence[Model], device: str, *, probabilities: bool = False
) -> Generator[Progress, None, Prediction]:
    """A case as models that have not seen it predict it, without anything afterwards."""
    volume = case.volume()
    parameters = PredictionParameters(
        device=device.partition(":")[0],
        precision="fp32",
        post="none",
        probabilities=probabilities,
        nan="fill" if case.nan == "fill" else "refuse",
    )
    unit = "mm" if volume.grid.spacing_known else "px"
    points = _clicks(case, models, volume.grid.spacing)
    work = predict(models, volume.array, volume.grid.spacing, parameters, unit=unit, points=points)
    while True:
        try:
            step = next(work)
        except StopIteration as end:
            made: Prediction = end.value
            return made
        yield Progress(phase="select", message=f"Case {case.id}: {step.message}")


def _clicks(case: Case, models: Sequence[Model], spacing: Sequence[float]) -> Sequence[Sequence[float]]:
    """Where a person would click, for models that begin at a click: the innermost places of the reference."""
    click = next((model.card.click for model in models if model.card.click is not None), None)
    if click is None:
        return ()
    values = [label.value for label in models[0].card.labels if label.value != 0]
    return click.places(np.isin(case.segmentation().labels, values), spacing)


def _score(plan: TrainingPlan, score: CaseScore, mean: NDArray[np.float32], target: torch.Tensor) -> CaseScore:
    """What a training's own validation counts, of probabilities in place of logits."""
    found = torch.from_numpy(mean > 0.5 if plan.head == "sigmoid" else mean.argmax(0))[None]
    counts = class_counts(found, target, plan.head, len(mean)).long().tolist()
    right, predicted_, true = (dict(zip(score.right, row, strict=True)) for row in counts)
    return CaseScore(score.case, score.group, right, predicted_, true)
