"""Several configurations together: the mean of their probabilities, on the grid of the image.

Folds of one configuration see the same input, and the mean of their logits counts (`job`). Configurations differ in
grid and window: each is brought to the image first, as nnU-Net does it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_models.errors import InputError
from src_models.geometry import StoredOrder
from src_models.inference import finishing
from src_models.inference.checks import as_channels
from src_models.inference.export import Classes
from src_models.inference.job import Job
from src_models.inference.memory import WORKSPACE, MemoryForecast, check_limit
from src_models.inference.parameters import PredictionParameters
from src_models.inference.prediction import Prediction, PredictionProgress
from src_models.record import content_hash
from src_models.weights.card import ModelCard
from src_models.weights.model import Model


def grouped(models: Sequence[Model]) -> tuple[tuple[Model, ...], ...]:
    """Models by configuration, in their order: those of a group share the whole input of their networks.

    Raises
    ------
    InputError
        Where labels or kind of output differ, so that no mean can be taken.
    """
    groups: dict[tuple[Any, ...], list[Model]] = {}
    for model in models:
        card = model.card
        stage = tuple(one.sha256 for one in card.first_stage)
        groups.setdefault((card.ndim, card.orientation, card.preprocessing.model_dump_json(), stage), []).append(model)
    if len(groups) > 1:
        first = models[0].card
        if any((model.card.labels, model.card.head) != (first.labels, first.head) for model in models):
            raise InputError(
                "ensemble-labels", "These models have different labels", "no mean can be taken", "Choose one of them."
            )
    return tuple(tuple(group) for group in groups.values())


def decided_labels(probabilities: NDArray[Any], card: ModelCard) -> NDArray[Any]:
    """Label numbers of probabilities (K, *shape); of equals the lower channel, regions painted in their order."""
    classes = Classes(card.labels, card.head)
    if card.head == "softmax":
        labels: NDArray[Any] = np.array(classes.values, classes.dtype)[probabilities.argmax(0)]
        return labels
    labels = np.zeros(probabilities.shape[1:], classes.dtype)
    for channel, number in classes.painted:
        labels[probabilities[channel] > 0.5] = number
    return labels


@dataclass(frozen=True, eq=False)
class EnsembleJob:
    """One image and the groups of models that see it.

    Attributes
    ----------
    groups : tuple of tuple of Model
        See `grouped`.
    image, spacing, parameters, unit, value_unit, stored_order, points
        As for `predict`.
    """

    groups: tuple[tuple[Model, ...], ...]
    image: NDArray[Any]
    spacing: tuple[float, ...]
    parameters: PredictionParameters
    unit: str
    value_unit: str
    stored_order: StoredOrder | None = None
    points: Sequence[Sequence[float]] = ()

    def run(self, interrupt: Callable[[], bool] | None) -> Generator[PredictionProgress, None, Prediction]:
        """The prediction; see `predict`. It has no partial results: the mean needs every configuration."""
        began = time.perf_counter()
        self._check()
        forecast = self._forecast()
        check_limit(forecast, self.parameters.max_memory)
        told = {"peak_memory_gb": forecast.peak / 1e9}
        yield PredictionProgress(phase="prepare", fraction=0.0, message=forecast.sentence, values=told)
        done: list[Prediction] = []
        total: NDArray[np.float32] | None = None
        for number in range(len(self.groups)):
            made = yield from self._one(number, interrupt)
            if not made.complete or made.probabilities is None:
                return replace(made, labels=np.zeros_like(made.labels), probabilities=None)
            # one sum, so that no more than one configuration's probabilities lie beside it
            total = made.probabilities.astype(np.float32) if total is None else total + made.probabilities
            done.append(replace(made, probabilities=None))
        assert total is not None
        total /= np.float32(len(done))
        labels, notes = yield from self._finished(total)
        return self._result(done, total, labels, notes, forecast.peak, time.perf_counter() - began)

    def _check(self) -> None:
        wanted = self.parameters
        asked = {
            "entropy": wanted.entropy,
            "disagreement": wanted.disagreement,
            "attention maps": wanted.attention,
        }
        for what, is_asked in asked.items():
            if is_asked:
                raise InputError(
                    "ensemble-outputs",
                    f"Several configurations together give labels and probabilities, not {what}",
                    "",
                    "Choose one configuration for that.",
                )

    def _job(self, number: int) -> Job:
        alone = {"probabilities": True, "post": "none", "minimum_volume": 0.0, "refine": "none", "window": None}
        wanted = self.parameters.model_copy(update=alone)
        models, order = self.groups[number], self.stored_order
        points = self.points if models[0].card.click is not None else ()
        return Job(models, self.image, self.spacing, wanted, self.unit, self.value_unit, order, points)

    def _forecast(self) -> MemoryForecast:
        """The largest of the configurations, with the sum beside it."""
        peaks = []
        for number in range(len(self.groups)):
            job = self._job(number)
            work = job.run(None)
            next(work)
            peaks.append(job.peak)
            work.close()
        card = self.groups[0][0].card
        voxels = int(np.prod(self.image.shape[-len(self.spacing) :]))
        # the sum twice, while a part is added to it
        held = 8 * voxels * len(card.labels)
        after = voxels * finishing.finishing_bytes(self.parameters, len(card.labels)) + held
        return MemoryForecast(0, 0, 0, 0, 0, results=max(max(peaks) + held, after) - WORKSPACE)

    def _one(
        self, number: int, interrupt: Callable[[], bool] | None
    ) -> Generator[PredictionProgress, None, Prediction]:
        """One configuration."""
        count = len(self.groups)
        work = self._job(number).run(interrupt)
        while True:
            try:
                step = next(work)
            except StopIteration as end:
                made: Prediction = end.value
                return made
            yield replace(
                step,
                fraction=None if step.fraction is None else (number + step.fraction) / count,
                message=f"Configuration {number + 1} of {count}: {step.message}",
                labels=None,
                slab=None,
                result=None,
            )

    def _finished(
        self, total: NDArray[np.float32]
    ) -> Generator[PredictionProgress, None, tuple[NDArray[Any], list[str]]]:
        card = self.groups[0][0].card
        work = finishing.finish_labels(
            decided_labels(total, card),
            total.astype(np.float16) if finishing.needs_probabilities(self.parameters) else None,
            as_channels(self.image, card, len(self.spacing)),
            self.spacing,
            card,
            self.parameters,
        )
        while True:
            try:
                step = next(work)
            except StopIteration as end:
                labels, notes = end.value
                return labels, notes
            yield PredictionProgress(phase=step.phase, fraction=step.fraction, message=step.message)

    def _result(
        self,
        done: Sequence[Prediction],
        total: NDArray[np.float32],
        labels: NDArray[Any],
        notes: Sequence[str],
        peak: int,
        seconds: float,
    ) -> Prediction:
        said = tuple(dict.fromkeys([note for one in done for note in one.notes] + list(notes)))
        values, counts = np.unique(labels, return_counts=True)
        last = done[-1].record
        inputs = {
            "models": [model for one in done for model in one.record.inputs["models"]],
            "configurations": [len(group) for group in self.groups],
        }
        record = last.model_copy(
            update={
                "parameters": self.parameters.model_dump(mode="json"),
                "inputs": inputs,
                "result": {
                    "labels_hash": content_hash(labels),
                    "peak_memory_bytes": peak,
                    "voxels": {str(v): int(n) for v, n in zip(values.tolist(), counts.tolist(), strict=True) if v},
                    "windows": sum(int(one.record.result.get("windows", 0)) for one in done),
                },
                "duration_s": round(seconds, 3),
                "notes": said,
            }
        )
        return Prediction(
            labels=labels,
            classes=done[0].classes,
            record=record,
            probabilities=total.astype(np.float16) if self.parameters.probabilities else None,
            notes=said,
        )
