"""What a cross-validation decides: the best configuration or pair, and whether largest parts are kept alone.

nnU-Net's rules: the configuration, or the pair of them whose probabilities are averaged, with the highest mean Dice of
unseen cases; the largest part of all foreground where that raises the mean and lowers no class; then class by class
where that is strictly better. The result goes into the cards of the folds, or of a pair into the file of the
selection, from where prediction takes it.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_models.files.saving import save_whole
from src_models.inference.postprocess import keep_largest
from src_models.progress import Progress
from src_models.training.case import DataSet
from src_models.training.crossval import CrossvalResult
from src_models.training.pairs import Names, models_of, predicted, score_candidates
from src_models.training.plan import TrainingPlan
from src_models.training.run_folder import WEIGHTS, write_text
from src_models.training.validation import CaseScore, by_patient, mean_dice
from src_models.weights.pairs import card_path, card_text, read_card
from src_models.weights.selected import SELECTION

_RAW, _ALL = "raw", "all"
Scores = dict[str, dict[int, list[float]]]
"""Dice of each case by variant and label value: ``raw``, ``all``, and both with the class's largest part alone."""


def best_of(scores: Mapping[Names, Mapping[int, Sequence[CaseScore]]]) -> Names:
    """The configuration or pair with the highest mean Dice over all unseen patients; the first of equals.

    Single configurations come first, so a pair must be better than both of its halves.
    """
    return max(scores, key=lambda names: mean_dice_of(scores[names]))


def mean_dice_of(folds: Mapping[int, Sequence[CaseScore]]) -> float:
    """Mean over all patients of all folds, and over classes."""
    patients = by_patient([score for scores in folds.values() for score in scores])
    return float(np.mean(list(mean_dice(patients).values())))


def select_configuration(
    plan: TrainingPlan, data: DataSet, results: Mapping[str, CrossvalResult], out: Path, *, device: str = "auto"
) -> Generator[Progress, None, Names]:
    """Decide which configuration or pair of them is the best, and which largest parts are kept then.

    Parameters
    ----------
    plan : TrainingPlan
        Of the cross-validations.
    data : DataSet
        All cases.
    results : mapping of str to CrossvalResult
        By configuration, each in its folder of this name in `out`.
    out : Path
        Gets ``selection.json``, from where a prediction with this folder takes the models.
    device : str
        For the predictions.

    Returns
    -------
    tuple of str
        One configuration, or two.
    """
    scores = yield from score_candidates(plan, data, results, device=device)
    best = best_of(scores)
    kept = yield from select_postprocessing(plan, data, {name: results[name] for name in best}, device=device)
    dice = {" + ".join(names): mean_dice_of(folds) for names, folds in scores.items()}
    told = {"configurations": best, "keep_largest": kept, "dice": dice}
    write_text(out / SELECTION, json.dumps(told, indent=1) + "\n")
    return best


def select_postprocessing(
    plan: TrainingPlan, data: DataSet, results: Mapping[str, CrossvalResult], *, device: str = "auto"
) -> Generator[Progress, None, tuple[tuple[int, ...], ...]]:
    """Decide which largest parts are kept; of one configuration it is written into the cards of its folds.

    Parameters
    ----------
    plan : TrainingPlan
        Of the cross-validation.
    data : DataSet
        All cases.
    results : mapping of str to CrossvalResult
        One by the name of its configuration, or two whose probabilities are averaged.
    device : str
        For the predictions.

    Returns
    -------
    tuple of tuple of int
        Sets of labels of which the largest part is kept, one after the other: ``inference["keep_largest"]`` of the
        cards.
    """
    values = [label.value for label in plan.labels if label.value != 0]
    scores: Scores = {}
    folds = next(iter(results.values())).folds
    names = [(fold, score.case) for fold, cases in sorted(folds.items()) for score in cases]
    models = [models_of(plan, name, result) for name, result in results.items()]
    for number, (fold, name) in enumerate(names, 1):
        case = data.case(name)
        made = yield from predicted(case, [one.model(fold, name) for one in models], device)
        add_variants(scores, made.labels, case.read()[1].labels, values)
        yield Progress(phase="select", fraction=number / len(names), message=f"Case {number} of {len(names)}: {name}")
    kept = decide(scores, values)
    if len(results) == 1:
        (result,) = results.values()
        for fold in folds:
            _into_card(result.out / f"fold_{fold}" / WEIGHTS, kept)
        write_text(result.out / SELECTION, json.dumps({"keep_largest": kept, "dice": _means(scores)}, indent=1) + "\n")
    return kept


def add_variants(scores: Scores, labels: NDArray[Any], reference: NDArray[Any], values: Sequence[int]) -> None:
    """Add the Dice of one case under every variant."""
    for base, found in ((_RAW, labels), (_ALL, keep_largest(labels))):
        for value in values:
            alone = keep_largest(found, [value])
            for name, one in ((base, found), (f"{base}, each", alone)):
                dice = _dice(one == value, reference == value)
                scores.setdefault(name, {}).setdefault(value, []).append(dice)


def decide(scores: Scores, values: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """Which sets of labels keep their largest part alone."""
    mean = _means(scores)
    raw, together = mean[_RAW], mean[_ALL]
    better = sum(together.values()) > sum(raw.values()) and all(together[v] >= raw[v] for v in values)
    base = _ALL if better else _RAW
    kept: list[tuple[int, ...]] = [tuple(values)] if better else []
    kept += [(value,) for value in values if mean[f"{base}, each"][value] > mean[base][value]]
    return tuple(kept)


def _means(scores: Scores) -> dict[str, dict[int, float]]:
    return {name: {v: float(np.mean(dice)) for v, dice in by.items()} for name, by in scores.items()}


def _dice(found: NDArray[np.bool_], true: NDArray[np.bool_]) -> float:
    total = int(found.sum()) + int(true.sum())
    return 2 * int((found & true).sum()) / total if total else 1.0


def _into_card(weights: Path, kept: Sequence[Sequence[int]]) -> None:
    card = read_card(weights)
    changed = card.model_copy(update={"inference": {**card.inference, "keep_largest": [list(one) for one in kept]}})
    content = card_text(changed)
    save_whole(
        card_path(weights),
        lambda file: _write(file, content),
        lambda part: part.read_bytes() == content,
        overwrite=True,
    )


def _write(file: Any, content: bytes) -> None:
    file.write(content)
