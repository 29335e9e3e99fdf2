"""A trained network on whole images of left-out cases: Dice per case, and per patient over all of his slices."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from src_models.inference.whole_image import predict_logits
from src_models.networks.network import Network
from src_models.preprocessing.click import Click
from src_models.preprocessing.prepare import logits_back, restore
from src_models.progress import Progress
from src_models.training.label_targets import Targets
from src_models.training.sampling import PreparedCase
from src_models.training.trainer import class_counts, decided


@dataclass(frozen=True)
class CaseScore:
    """Voxels of each class in one case: in both, predicted, true."""

    case: str
    group: str
    right: Mapping[str, int]
    predicted: Mapping[str, int]
    true: Mapping[str, int]

    @property
    def dice(self) -> dict[str, float]:
        """2 TP / (2 TP + FP + FN) per class; 1 where both are empty."""
        return {name: _dice(self.right[name], self.predicted[name], self.true[name]) for name in self.right}


def by_patient(scores: Iterable[CaseScore]) -> list[CaseScore]:
    """Scores of groups: the voxels of all cases of a patient together."""
    groups: dict[str, list[CaseScore]] = {}
    for score in scores:
        groups.setdefault(score.group, []).append(score)

    def total(parts: Sequence[Mapping[str, int]]) -> dict[str, int]:
        return {name: sum(part[name] for part in parts) for name in parts[0]}

    return [
        CaseScore(
            group,
            group,
            total([part.right for part in parts]),
            total([part.predicted for part in parts]),
            total([part.true for part in parts]),
        )
        for group, parts in groups.items()
    ]


def mean_dice(scores: Sequence[CaseScore]) -> dict[str, float]:
    """Mean Dice of each class."""
    if not scores:
        return {}
    return {name: float(np.mean([score.dice[name] for score in scores])) for name in scores[0].right}


def _dice(right: int, predicted: int, true: int) -> float:
    return 2 * right / (predicted + true) if predicted + true else 1.0


@dataclass(frozen=True, eq=False)
class Validation:
    """What whole-image validation needs to know.

    Attributes
    ----------
    patch : tuple of int
        Window of the network.
    targets : Targets
        From label values.
    names : tuple of str
        Foreground classes in the order of their channels.
    groups : mapping of str to str
        Case to patient.
    order_logits : int
        Of the interpolation on the way back.
    click, clicked
        See `Sampler`; every image is clicked at its innermost place, and seen as a whole.
    """

    patch: tuple[int, ...]
    targets: Targets
    names: tuple[str, ...]
    groups: Mapping[str, str]
    order_logits: int = 1
    click: Click | None = None
    clicked: Sequence[int] = ()

    def score(self, network: Network, case: PreparedCase, device: torch.device) -> CaseScore:
        """The score of one case, on the grid of its image."""
        image, patch = case.network_input, self.patch
        if self.click is not None:
            image = self.click.marked(image, np.isin(case.labels, list(self.clicked)))
            patch = image.shape[-len(patch) :]
        elif network.replicates:
            patch = tuple(min(n, p) for n, p in zip(image.shape[-len(patch) :], patch, strict=True))
        logits: Any = predict_logits(network, image, patch, device)
        labels: NDArray[np.integer] = case.labels
        head = self.targets.head
        if case.way is None or case.source is None:
            found = decided(logits[None], head)
        else:
            cropped = decided(logits_back(logits, case.way, order=self.order_logits)[None], head)
            found = torch.from_numpy(restore(cropped[0].numpy(), case.way))[None]
            labels = case.source.segmentation().labels
        target = torch.from_numpy(np.ascontiguousarray(self.targets(labels[None])))
        counts = class_counts(found, target, head, network.num_classes).long().tolist()
        group = self.groups.get(case.id, case.id)
        right, predicted, true = (dict(zip(self.names, row, strict=True)) for row in counts)
        return CaseScore(case.id, group, right, predicted, true)

    def run(
        self, network: Network, cases: Sequence[PreparedCase], device: torch.device
    ) -> Generator[Progress, None, list[CaseScore]]:
        """Score all cases, one after the other."""
        scores = []
        network.eval()
        for number, case in enumerate(cases, 1):
            scores.append(self.score(network, case, device))
            dice = float(np.mean(list(scores[-1].dice.values())))
            yield Progress(
                phase="validate",
                fraction=number / len(cases),
                message=f"Whole case {number} of {len(cases)}: {case.id}, Dice {dice:.3f}",
            )
        return scores
