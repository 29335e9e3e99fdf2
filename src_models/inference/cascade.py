"""The first stage of a cascade: checked before a prediction begins, and applied as the second stage wants it."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace

from src_models.errors import InputError
from src_models.files.gate import shown
from src_models.inference.memory import MemoryForecast
from src_models.inference.parameters import PredictionParameters
from src_models.inference.prediction import Prediction, PredictionProgress
from src_models.weights.card import foreground_values
from src_models.weights.model import Model

NAME = "First stage"


@dataclass(frozen=True, eq=False)
class FirstStageRun:
    """A first stage that has been begun: its memory is known, nothing is computed yet.

    Attributes
    ----------
    work : generator
        Goes on to its prediction.
    peak : int
        Of its memory, bytes.
    held : int
        Its labels, which lie there until they are in the input of the second stage, bytes.
    """

    work: Generator[PredictionProgress, None, Prediction]
    peak: int
    held: int

    def added_to(self, forecast: MemoryForecast) -> MemoryForecast:
        """The memory of both stages: the results of the second are there already while the first runs."""
        more = max(self.held, self.peak + forecast.results - forecast.peak)
        return replace(forecast, results=forecast.results + more)


def check_stages(models: Sequence[Model]) -> tuple[Model, ...]:
    """The first stage that the models of one configuration share; empty where they are no cascade.

    Raises
    ------
    InputError
        Where it is missing, is not that of every model, or does not give what the networks take.
    """
    card, stage = models[0].card, models[0].first_stage
    hashes = [one.sha256 for one in card.first_stage]
    if hashes and [model.card.sha256 for model in stage] != hashes:
        raise InputError(
            "cascade-first-stage",
            f"{shown(card.name)} is the second stage of a cascade",
            "its first stage was not loaded with it",
            "Load it by src_models.weights.store.load.",
        )
    if not hashes:
        return ()
    wanted = len(card.preprocessing.channels) + len(card.stage_values)
    given = {foreground_values(model.card.labels) for model in stage}
    nested = any(model.card.first_stage for model in stage)
    if given != {card.stage_values} or any(model.network.in_channels != wanted for model in models) or nested:
        raise InputError(
            "cascade-labels",
            f"{shown(card.name)} and its first stage do not fit together",
            "its network takes other labels than the first stage gives",
            "Train or import them together.",
        )
    return stage


def stage_parameters(parameters: PredictionParameters) -> PredictionParameters:
    """How the first stage is applied: as the whole is, for its labels alone and without anything afterwards.

    What follows the networks belongs to the result: in training the second stage sees plain labels of the first, too.
    """
    return parameters.model_copy(
        update={
            "window": None,
            "mirror_axes": None,
            "tile": "auto",
            "probabilities": False,
            "entropy": False,
            "disagreement": False,
            "attention": False,
            "post": "none",
            "minimum_volume": 0.0,
            "refine": "none",
        }
    )
