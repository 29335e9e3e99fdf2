"""The first stage of a cascade in training: each case as the network sees it that never saw that case.

The earlier configuration was cross-validated; every case was left out in one fold, and that fold's network predicts it.
The second stage learns from what it will meet in new images: results on unseen cases, with their faults.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_models.errors import InputError, LsnetError, SaveError
from src_models.files.gate import shown, shown_name
from src_models.geometry import Volume
from src_models.inference.parameters import PredictionParameters
from src_models.inference.predict import predict
from src_models.progress import Progress
from src_models.record import content_hash
from src_models.training.case import Case
from src_models.training.outcome import SCORES
from src_models.training.plan import Configuration, TrainingPlan
from src_models.training.plan_file import plan_hash, read_plan
from src_models.training.run_folder import PLAN, WEIGHTS, write_arrays
from src_models.weights.card import StageModel, foreground_values
from src_models.weights.cascade import stage_model
from src_models.weights.model import Model
from src_models.weights.pairs import read_card
from src_models.weights.store import load_pair

LABELS = "next_stage"
"""Folder beside the folds where their results for the second stage are kept."""


@dataclass(frozen=True, eq=False)
class FirstStage:
    """A finished cross-validation of an earlier configuration.

    Attributes
    ----------
    folder : Path
        Fold N lies in its ``fold_N``.
    name : str
        Of the configuration.
    folds : tuple of StageModel
        The models, by fold.
    left_out : mapping of str to int
        Case to the fold that has not seen it.
    values : tuple of int
        Labels that have a channel in the second stage.
    device : str
        For the predictions.
    """

    folder: Path
    name: str
    folds: tuple[StageModel, ...]
    left_out: Mapping[str, int]
    values: tuple[int, ...]
    device: str = "auto"
    _loaded: dict[int, Model] = field(default_factory=dict, repr=False)

    def models_from(self, out: Path) -> tuple[StageModel, ...]:
        """The models as the card of a second stage in the folder `out` names them."""
        paths = [self.folder / f"fold_{one.fold}" / WEIGHTS for one in self.folds]
        return tuple(stage_model(read_card(path), path, out) for path in paths)

    def labels(self, case: Case, volume: Volume) -> Generator[Progress, None, NDArray[Any]]:
        """What the fold that has not seen a case makes of it, on the grid of its image; kept for the next time.

        Parameters
        ----------
        case : Case
            One of `left_out`.
        volume : Volume
            Its image, with channels in front.

        Returns
        -------
        ndarray of shape (z, y, x)
            Label values; nothing is done to them after the network.
        """
        fold = self.left_out[case.id]
        spacing, shape = volume.grid.spacing, volume.array.shape[1:]
        told = f"{self.folds[fold].sha256} {content_hash(volume.array)} {spacing} {volume.grid.spacing_known}"
        kept = self.folder / LABELS / f"{hashlib.sha256(told.encode()).hexdigest()[:32]}.npz"
        found = _read(kept, shape)
        if found is not None:
            return found
        work = predict(
            self._model(fold),
            volume.array,
            spacing,
            PredictionParameters(device=_device(self.device), precision="fp32", post="none"),
            unit="mm" if volume.grid.spacing_known else "px",
            value_unit=volume.value_unit,
        )
        while True:
            try:
                step = next(work)
            except StopIteration as end:
                labels: NDArray[Any] = end.value.labels
                break
            yield Progress(phase="first stage", message=f"{self.name} on case {case.id}: {step.message}")
        _keep(kept, labels)
        return labels

    def _model(self, fold: int) -> Model:
        if fold not in self._loaded:
            self._loaded[fold] = load_pair(self.folder / f"fold_{fold}" / WEIGHTS)
        return self._loaded[fold]


def open_first_stage(
    plan: TrainingPlan, configuration: Configuration, folder: Path | None, cases: Iterable[str], device: str = "auto"
) -> FirstStage:
    """The first stage that a configuration builds on; only cards and plans are read.

    Parameters
    ----------
    plan, configuration
        What is trained; ``configuration.previous`` names the earlier one.
    folder : Path or None
        Of its cross-validation.
    cases : iterable of str
        That are needed: each must have been left out by a fold.
    device : str
        For the predictions.

    Raises
    ------
    InputError
        Where there is none, a fold is missing or not finished, or it belongs to other data; one sentence.
    """
    name = str(configuration.previous)
    if folder is None or not folder.is_dir():
        why = "no folder was given" if folder is None else f"there is no folder {shown_name(folder)}"
        raise _missing(configuration, why)
    wanted = plan.configuration(name)
    values = foreground_values(plan.labels)
    left_out: dict[str, int] = {}
    folds: list[StageModel] = []
    for number in range(_count(folder)):
        fold = folder / f"fold_{number}"
        if not (fold / SCORES).is_file():
            raise _missing(configuration, f"{shown_name(fold)} in {shown_name(folder)} is not there or not finished")
        unseen, model = _fold(fold, number, configuration, (wanted.preprocessing, wanted.patch, plan.labels))
        folds.append(model)
        left_out |= dict.fromkeys(unseen, number)
    never = sorted(set(cases) - set(left_out))
    if never:
        why = f"no fold in {shown_name(folder)} left out the case {shown(never[0])}"
        raise _missing(configuration, why if len(never) == 1 else f"{why} and {len(never) - 1} more")
    return FirstStage(folder, name, tuple(folds), left_out, values, device)


def _count(folder: Path) -> int:
    """Folds that there should be: as many as the first one's plan has; one where there is none, to be missed."""
    try:
        return max(1, len(read_plan(folder / "fold_0" / PLAN)[0].folds))
    except LsnetError:
        return 1


def _fold(
    fold: Path, number: int, configuration: Configuration, expected: tuple[Any, ...]
) -> tuple[Sequence[str], StageModel]:
    """Cases that a fold has not seen, by the plan that its model names by hash."""
    try:
        card, own = read_card(fold / WEIGHTS), read_plan(fold / PLAN)[0]
    except LsnetError as error:
        raise _missing(configuration, f"{shown_name(fold)} cannot be used: {error.what}") from error
    if card.plan_hash != plan_hash(own) or card.fold != str(number) or number >= len(own.folds):
        raise _missing(configuration, f"the model and the plan in {shown_name(fold)} do not belong together")
    if (card.preprocessing, card.patch, card.labels) != expected:
        raise _missing(configuration, f"{shown_name(fold)} holds another configuration, or other labels")
    sides = own.folds[number]
    unseen = [case for case in sides["val"] if case not in set(sides["train"])]
    return unseen, stage_model(card)


def _missing(configuration: Configuration, why: str) -> InputError:
    return InputError(
        "cascade-first-stage",
        f"{configuration.name} needs the results of {configuration.previous} as input",
        why,
        f"Train all folds: lsnet crossval --config {configuration.previous}, and name its folder by --first-stage.",
    )


def check_channels(configuration: Configuration, stage: FirstStage) -> None:
    """Refuse a network that does not take the image with the channels of its first stage.

    Raises
    ------
    InputError
        With both numbers.
    """
    wanted = len(configuration.preprocessing.channels) + len(stage.values)
    given = int(configuration.network.get("in_channels", wanted))
    if given != wanted:
        raise InputError(
            "cascade-channels",
            f"The network of {configuration.name} takes {given} channels",
            f"the image and the labels of {stage.name} make {wanted}",
            "Correct the plan, or make a new one.",
        )


def _device(name: str) -> Any:
    """A device as predictions name it: without a number."""
    return name.partition(":")[0]


def _read(path: Path, shape: Sequence[int]) -> NDArray[Any] | None:
    """Kept labels; None where there are none, or they are damaged."""
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as content:
            labels: NDArray[Any] = content["labels"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return labels if labels.shape == tuple(shape) and labels.dtype.kind in "ui" else None


def _keep(path: Path, labels: NDArray[Any]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SaveError(
            "cascade-labels", f"{shown_name(path.parent)} cannot be made", error.strerror or "", "Free some space."
        ) from error
    write_arrays(path, {"labels": labels})
