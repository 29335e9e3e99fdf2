"""The end of a training: the best weights, judged on whole left-out cases, written as a model with its card."""

from __future__ import annotations

import csv
import io
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from src_models.progress import Progress
from src_models.record import versions
from src_models.training.checkpoint import BEST, load_checkpoint
from src_models.training.label_targets import Targets, click_of
from src_models.training.mirroring import mirror_axes
from src_models.training.plan_file import plan_hash
from src_models.training.run_folder import WEIGHTS, write_text
from src_models.training.sampling import PreparedCase
from src_models.training.trainer import Trainer
from src_models.training.validation import CaseScore, Validation, by_patient, mean_dice
from src_models.weights import store
from src_models.weights.card import ModelCard, TrainingData

SCORES = "validation.csv"
NOTHING_UNSEEN = "No unseen data: no patient was left out, and nothing is known about others."


@dataclass(frozen=True)
class TrainingResult:
    """What a training gives.

    Attributes
    ----------
    weights : Path
        The model; its card lies beside it.
    card : ModelCard
        As written.
    cases, patients : tuple of CaseScore
        Of the left-out cases, on their own grids; empty where none was left out.
    dice : mapping of str to float
        Mean over left-out patients, by class.
    notes : tuple of str
        What should be known, in words.
    """

    weights: Path
    card: ModelCard
    cases: tuple[CaseScore, ...]
    patients: tuple[CaseScore, ...]
    dice: Mapping[str, float]
    notes: tuple[str, ...] = ()


def finish_training(
    trainer: Trainer,
    validation: Sequence[PreparedCase],
    groups: Mapping[str, str],
    out: Path,
    fold: int | str,
    about: TrainingData,
) -> Generator[Progress, None, TrainingResult]:
    """Take the best weights, validate them on whole cases and write the model.

    Parameters
    ----------
    trainer : Trainer
        At the end, or where it was stopped.
    validation : sequence of PreparedCase
        Left-out cases.
    groups : mapping of str to str
        Case to patient.
    out : Path
        The folder of the run.
    fold : int or str
        For the card.
    about : TrainingData
        Of the data set.
    """
    network, chosen, plan = trainer.network, trainer.configuration, trainer.plan
    if (out / BEST).exists():
        network.load_state_dict(dict(load_checkpoint(out / BEST).network))
    names = tuple(trainer.class_names())
    judge = Validation(
        chosen.patch, Targets.of(plan), names, groups, chosen.preprocessing.order_logits, *click_of(plan, chosen)
    )
    scores = yield from judge.run(network, validation, trainer.devices.device)
    patients = by_patient(scores)
    dice = mean_dice(patients)
    notes = () if trainer.identity["cases"][1] else (NOTHING_UNSEEN,)
    card = make_card(trainer, fold, about, dice, scores, patients, notes)
    if trainer.devices.rank == 0:
        card = store.save(network, card, out / WEIGHTS, overwrite=True)
        if scores:
            write_text(out / SCORES, score_table(scores))
    trainer.devices.wait()
    return TrainingResult(out / WEIGHTS, card, tuple(scores), tuple(patients), dice, notes + network.remarks())


def make_card(
    trainer: Trainer,
    fold: int | str,
    about: TrainingData,
    dice: Mapping[str, float],
    scores: Sequence[CaseScore],
    patients: Sequence[CaseScore],
    notes: Sequence[str],
) -> ModelCard:
    """The card of a model as its training knows it."""
    plan, chosen, network = trainer.plan, trainer.configuration, trainer.network
    data = plan.data_name or about.name or "data"
    metrics: tuple[dict[str, Any], ...] = ()
    if patients:
        row: dict[str, Any] = {"fold": fold, "cases": len(scores), "patients": len(patients)}
        row |= {f"dice_{name}": round(value, 6) for name, value in dice.items()}
        metrics = (row | {"dice": round(float(np.mean(list(dice.values()))), 6)},)
    done = "" if trainer.epoch >= plan.epochs else f" (stopped after {trainer.epoch})"
    return ModelCard(
        name=f"{network.name}-{data}-{chosen.name}",
        modality=plan.modality,
        network=network.config,
        ndim=2 if len(chosen.patch) == 2 else 3,
        preprocessing=chosen.preprocessing,
        patch=chosen.patch,
        labels=plan.labels,
        head=plan.head,
        mirror_axes=mirror_axes(plan, chosen),
        inference=plan.inference,
        training_data=about.model_copy(
            update={
                "name": about.name or data,
                "cases": len(trainer.identity["cases"][0]),
                "patients": trainer.identity["patients"],
            }
        ),
        fold=str(fold),
        seed=trainer.seed,
        budget=f"{plan.epochs} epochs of {plan.iterations} steps of {chosen.batch}{done}",
        plan_hash=plan_hash(plan),
        metrics=metrics,
        metrics_note="Dice per unseen patient, all his voxels together." if metrics else " ".join(notes),
        versions=versions("torch", "safetensors", "lightning-fabric"),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        first_stage=trainer.first_stage,
    )


def score_table(scores: Sequence[CaseScore]) -> str:
    """Scores of cases as CSV: voxels in both, predicted and true, and Dice, by class."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["case", "patient", "class", "both", "predicted", "true", "dice"])
    for score in scores:
        for name, dice in score.dice.items():
            table.writerow(
                [
                    score.case,
                    score.group,
                    name,
                    score.right[name],
                    score.predicted[name],
                    score.true[name],
                    f"{dice:.6f}",
                ]
            )
    return text.getvalue()
