"""What a cross-validation decides: the best configuration, and whether the largest part of a label is kept alone.

nnU-Net's rules: the configuration with the highest mean Dice of unseen cases; the largest part of all foreground where
that raises the mean and lowers no class; then class by class where that is strictly better. The result goes into the
cards of the folds, from where prediction takes it.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_models.files.saving import save_whole
from src_models.inference.parameters import PredictionParameters
from src_models.inference.postprocess import keep_largest
from src_models.inference.predict import predict
from src_models.progress import Progress
from src_models.training.case import DataSet
from src_models.training.crossval import CrossvalResult
from src_models.training.plan import TrainingPlan
from src_models.training.run_folder import WEIGHTS, write_text
from src_models.weights import store
from src_models.weights.pairs import card_path, card_text, read_card

SELECTION = "selection.json"
_RAW, _ALL = "raw", "all"
Scores = dict[str, dict[int, list[float]]]
"""Dice of each case by variant and label value: ``raw``, ``all``, and both with the class's largest part alone."""


def best_configuration(results: Mapping[str, CrossvalResult]) -> str:
    """The configuration with the highest mean Dice over all unseen patients; the first of equals."""
    return max(results, key=lambda name: mean_of(results[name]))


def mean_of(result: CrossvalResult) -> float:
    """Mean Dice over all folds that were trained."""
    rows = [row for row in result.rows if row.name == "mean"]
    together = [row for row in rows if row.fold == "all"]
    return (together or rows)[0].dice


def select_postprocessing(
    plan: TrainingPlan, data: DataSet, result: CrossvalResult, *, device: str = "auto"
) -> Generator[Progress, None, tuple[tuple[int, ...], ...]]:
    """Decide which largest parts are kept, and write it into the cards of all folds.

    Parameters
    ----------
    plan : TrainingPlan
        Of the cross-validation.
    data : DataSet
        All cases.
    result : CrossvalResult
        Its folds.
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
    parameters = PredictionParameters(device=device, precision="fp32", post="none")
    names = [(fold, score.case) for fold, cases in sorted(result.folds.items()) for score in cases]
    models = {fold: store.load(result.out / f"fold_{fold}" / WEIGHTS) for fold in result.folds}
    for number, (fold, name) in enumerate(names, 1):
        volume, segmentation = data.case(name).read()
        unit = "mm" if volume.grid.spacing_known else "px"
        spacing, click = volume.grid.spacing, models[fold].card.click
        points = [] if click is None else click.places(np.isin(segmentation.labels, values), spacing)
        work = predict(models[fold], volume.array, spacing, parameters, unit=unit, points=points)
        while True:
            try:
                next(work)
            except StopIteration as end:
                labels = end.value.labels
                break
        add_variants(scores, labels, segmentation.labels, values)
        yield Progress(phase="select", fraction=number / len(names), message=f"Case {number} of {len(names)}: {name}")
    kept = decide(scores, values)
    for fold in result.folds:
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
