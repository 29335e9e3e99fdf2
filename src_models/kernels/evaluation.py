"""What a network scores on cases, per patient: the measure of every experiment with its kernels.

Images are prepared once; only the network runs again. Without a reference the unchanged prediction is the reference.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from src_models.errors import InputError
from src_models.inference.whole_image import predict_logits
from src_models.kernels.renormalise import renormalise, restored
from src_models.metrics import Comparison, measure, pool
from src_models.metrics.comparison import Unit
from src_models.networks.network import Network
from src_models.preprocessing.prepare import Prepared, logits_back, prepare, restore
from src_models.progress import Progress
from src_models.weights.card import Label, ModelCard

DISTANCE = "assd"
"""Of `metrics.FORMULAS`: how far two surfaces lie apart on average."""


@dataclass(frozen=True)
class CaseScore:
    """Of one case.

    Attributes
    ----------
    id, patient : str
        Which.
    score, distance : float
        Mean over labels; the distance in mm is NaN where none was asked for, or where one of both surfaces is empty.
    lost : int
        Labels that the prediction or the reference has alone: no distance is defined between nothing and something.
    """

    id: str
    patient: str
    score: float
    distance: float
    lost: int


class PatientScores(dict[str, float]):
    """The score of each patient, and what else was measured.

    Attributes
    ----------
    distance : dict of str to float
        Mean distance of the surfaces of each patient; empty where it was not asked for.
    unit : str
        Of it, ``"mm"``, or ``"px"`` where the spacing is not known.
    cases : tuple of CaseScore
        In the order of the cases.
    """

    def __init__(self, cases: Sequence[CaseScore], scores: dict[str, float], distance: dict[str, float], unit: Unit):
        super().__init__(scores)
        self.cases, self.distance, self.unit = tuple(cases), distance, unit


@dataclass(frozen=True, eq=False)
class EvaluationCase:
    """An image with its labels.

    Attributes
    ----------
    id, patient : str
        Patients are the unit of every interval.
    image : ndarray of shape (C, z, y, x) or (C, y, x)
        As in the file.
    spacing : tuple of float
        mm per axis.
    labels : ndarray of shape (z, y, x) or (y, x), or None
        Numbers of the card's labels.
    unit : str
        Of the spacing, ``"mm"`` or ``"px"``.
    """

    id: str
    patient: str
    image: NDArray[Any]
    spacing: tuple[float, ...]
    labels: NDArray[Any] | None
    unit: Unit = "mm"


class Evaluation:
    """Scores a network on cases.

    Parameters
    ----------
    card : ModelCard
        How images are prepared, and what the outputs mean.
    cases : sequence of EvaluationCase
        Of patients that the network has not seen, if the scores shall mean anything.
    metric : str
        Of `metrics.FORMULAS`; the mean over labels counts.
    device : str
        Where the network runs.
    step : float
        Between windows, as a share of one; 1 lays them side by side, which takes a quarter of the time in 2D.
    distances : bool
        Measure how far the surfaces lie apart, too.
    renormalise : bool
        Take the statistics of batch norms from these images, for each network that is scored; see `renormalise`.

    Attributes
    ----------
    found : dict of str to list of ndarray
        By case: the masks of the newest network that was scored, one per label of the card but the background.

    Raises
    ------
    InputError
        Where there is no case.
    """

    def __init__(
        self,
        card: ModelCard,
        cases: Sequence[EvaluationCase],
        metric: str = "dice",
        device: str = "cpu",
        step: float = 0.5,
        *,
        distances: bool = False,
        renormalise: bool = False,
    ) -> None:
        if not cases:
            raise InputError("kernels-cases", "There is no case to score on", "", "Give a folder of images and labels.")
        self.metric, self.card, self.step = metric, card, step
        self.distances, self.renormalise = distances, renormalise
        self._cases, self._device = tuple(cases), torch.device(device)
        self._prepared: list[Prepared] | None = None
        self._references: dict[str, NDArray[Any]] = {}
        self.found: dict[str, list[NDArray[np.bool_]]] = {}
        self._labels = [label for label in card.labels if label.members or label.value != 0]

    @property
    def agreement(self) -> bool:
        """Whether cases without labels are compared with the unchanged prediction."""
        return any(case.labels is None for case in self._cases)

    @property
    def patients(self) -> tuple[str, ...]:
        """Each once, in the order of the cases."""
        return tuple(dict.fromkeys(case.patient for case in self._cases))

    def run(self, network: Network) -> Generator[Progress, None, PatientScores]:
        """The score of each patient: all of his cases pooled, mean over labels.

        The first network that is scored gives the references of cases without labels. Weights and statistics of the
        network are afterwards what they were.
        """
        if self._prepared is None:
            ready = []
            for case in self._cases:
                preprocessing = self.card.preprocessing.for_unit(case.unit)
                ready.append(prepare(case.image, case.spacing, preprocessing))
                yield Progress(phase="prepare", message=f"reading {case.id}")
            self._prepared = ready
        network.to(self._device).eval()
        if not self.renormalise:
            return (yield from self._scored(network, self._prepared))
        with restored(network):
            for number, _ in enumerate(renormalise(network, self._all_windows(network))):
                yield Progress(phase="renormalise", message=f"statistics of the norms, image {number + 1}")
            return (yield from self._scored(network, self._prepared))

    def _all_windows(self, network: Network) -> Iterator[Callable[[], object]]:
        """A pass over each image."""
        for ready in self._prepared or ():
            window = self._window(network, ready)
            yield partial(predict_logits, network, ready.array, window, self._device, self.step)

    def _scored(self, network: Network, prepared: Sequence[Prepared]) -> Generator[Progress, None, PatientScores]:
        parts: dict[str, list[list[Comparison]]] = {patient: [] for patient in self.patients}
        told: list[CaseScore] = []
        for case, ready in zip(self._cases, prepared, strict=True):
            logits = predict_logits(network, ready.array, self._window(network, ready), self._device, self.step)
            found = self._masks(logits, ready)
            self.found[case.id] = found
            reference = self._reference(case, found)
            compared = [Comparison.of(a, b, case.spacing, case.unit) for a, b in zip(found, reference, strict=True)]
            parts[case.patient].append(compared)
            lost = sum(each.without_distance for each in compared)
            told.append(CaseScore(case.id, case.patient, *self._measured(compared), lost))
            yield Progress(phase="score", message=f"scoring {case.id}")
        scores: dict[str, float] = {}
        distance: dict[str, float] = {}
        for patient, several in parts.items():
            score, apart = self._measured([pool(of_label) for of_label in zip(*several, strict=True)])
            scores[patient] = score
            if self.distances:
                distance[patient] = apart
        return PatientScores(told, scores, distance, self._cases[0].unit)

    def _measured(self, compared: Sequence[Comparison]) -> tuple[float, float]:
        """Score and distance of one thing, mean over labels."""
        names = (self.metric, DISTANCE) if self.distances else (self.metric,)
        values = [[found.value for found in measure(each, names).values()] for each in compared]
        means = [_mean(column) for column in zip(*values, strict=True)]
        return means[0], means[1] if self.distances else float("nan")

    def _window(self, network: Network, ready: Prepared) -> tuple[int, ...]:
        """The window of the card; networks that replicate borders are not shown more than there is."""
        patch = self.card.patch
        if not getattr(network, "replicates", False):
            return patch
        size = ready.array.shape[-len(patch) :]
        return tuple(min(n, p) for n, p in zip(size, patch, strict=True))

    def _masks(self, logits: torch.Tensor, ready: Prepared) -> list[NDArray[np.bool_]]:
        """One mask per label on the grid of the image."""
        cropped = logits_back(logits, ready.way, order=self.card.preprocessing.order_logits)
        if self.card.head == "softmax":
            winner = restore(cropped.argmax(0).numpy().astype(np.int16), ready.way)
            return [winner == label.channel for label in self._labels]
        inside = restore((cropped > 0).numpy(), ready.way)
        return [inside[label.channel] for label in self._labels]

    def _reference(self, case: EvaluationCase, found: list[NDArray[np.bool_]]) -> list[NDArray[np.bool_]]:
        if case.labels is not None:
            return [_mask(case.labels, label) for label in self._labels]
        kept = self._references.setdefault(case.id, np.stack(found))
        return list(kept)


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if np.isfinite(value)]
    return float(np.mean(known)) if known else float("nan")


def _mask(labels: NDArray[Any], label: Label) -> NDArray[np.bool_]:
    return np.isin(labels, label.members) if label.members else np.asarray(labels == label.value)
