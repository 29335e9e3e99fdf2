"""The model of each fold as it may judge a case: one that has not seen it, and neither has its first stage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from src_models.training.first_stage import open_first_stage
from src_models.training.plan import TrainingPlan
from src_models.training.run_folder import WEIGHTS
from src_models.weights import store
from src_models.weights.model import Model


@dataclass(frozen=True, eq=False)
class LeftOutModels:
    """The models of a cross-validation.

    Attributes
    ----------
    folds : mapping of int to Model
        One each.
    stage : mapping of str to int
        Of a cascade: case to the fold of the first stage that has not seen it.
    """

    folds: Mapping[int, Model]
    stage: Mapping[str, int]

    def model(self, fold: int, case: str) -> Model:
        """The model of a fold for a case that this fold left out; of a cascade with one model as its first stage."""
        model = self.folds[fold]
        if not model.first_stage:
            return model
        number = self.stage[case]
        only = slice(number, number + 1)
        card = model.card.model_copy(update={"first_stage": model.card.first_stage[only]})
        return replace(model, card=card, first_stage=model.first_stage[only])


def left_out_models(
    plan: TrainingPlan, configuration: str, out: Path, folds: Mapping[int, object], first_stage: Path | None = None
) -> LeftOutModels:
    """The models of a finished cross-validation.

    Parameters
    ----------
    plan : TrainingPlan
        Of it.
    configuration : str
        That was trained.
    out : Path
        Its folder.
    folds : mapping of int
        Which were trained.
    first_stage : Path, optional
        Of a cascade.

    Raises
    ------
    FileError, InputError
        Where a model or its first stage cannot be read.
    """
    models = {fold: store.load(out / f"fold_{fold}" / WEIGHTS) for fold in folds}
    chosen = plan.configuration(configuration)
    stage: Mapping[str, int] = {}
    if chosen.previous is not None:
        stage = open_first_stage(plan, chosen, first_stage, ()).left_out
    return LeftOutModels(models, stage)
