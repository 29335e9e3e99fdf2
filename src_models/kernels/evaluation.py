"""What a network scores on cases, per patient: the measure of every experiment with its kernels.

Images are prepared once; only the network runs again. Without a reference the unchanged prediction is the reference.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from src_models.errors import InputError
from src_models.inference.whole_image import predict_logits
from src_models.metrics import Comparison, measure, pool
from src_models.metrics.comparison import Unit
from src_models.networks.network import Network
from src_models.preprocessing.prepare import Prepared, logits_back, prepare, restore
from src_models.progress import Progress
from src_models.weights.card import Label, ModelCard

Scores = Mapping[str, float]
"""By patient."""


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
    ) -> None:
        if not cases:
            raise InputError("kernels-cases", "There is no case to score on", "", "Give a folder of images and labels.")
        self.metric, self.card, self.step = metric, card, step
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

    def run(self, network: Network) -> Generator[Progress, None, Scores]:
        """The score of each patient: all of his cases pooled, mean over labels.

        The first network that is scored gives the references of cases without labels.
        """
        if self._prepared is None:
            ready = []
            for case in self._cases:
                preprocessing = self.card.preprocessing.for_unit(case.unit)
                ready.append(prepare(case.image, case.spacing, preprocessing))
                yield Progress(phase="prepare", message=f"reading {case.id}")
            self._prepared = ready
        parts: dict[str, list[list[Comparison]]] = {patient: [] for patient in self.patients}
        network.to(self._device).eval()
        for case, ready_case in zip(self._cases, self._prepared, strict=True):
            window = self._window(network, ready_case)
            logits = predict_logits(network, ready_case.array, window, self._device, self.step)
            found = self._masks(logits, ready_case)
            self.found[case.id] = found
            reference = self._reference(case, found)
            parts[case.patient].append(
                [Comparison.of(a, b, case.spacing, case.unit) for a, b in zip(found, reference, strict=True)]
            )
            yield Progress(phase="score", message=f"scoring {case.id}")
        scores: dict[str, float] = {}
        for patient, several in parts.items():
            values = [
                measure(pool(of_label), (self.metric,))[self.metric].value for of_label in zip(*several, strict=True)
            ]
            scores[patient] = float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")
        return scores

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


def _mask(labels: NDArray[Any], label: Label) -> NDArray[np.bool_]:
    return np.isin(labels, label.members) if label.members else np.asarray(labels == label.value)
