"""What a prediction reports while it runs, and what it gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_models.progress import Progress
from src_models.record import Record
from src_models.weights.card import Label


@dataclass(frozen=True, eq=False)
class Prediction:
    """A finished prediction, or as much of it as was finished when it was stopped.

    Attributes
    ----------
    labels : ndarray of shape (z, y, x), (y, x), or with the time axis of the image in front
        On the grid of the image; numbers as in the card, 0 is background.
    classes : tuple of Label
        What the numbers mean.
    record : Record
        Model hashes, settings, device, rescue steps, time. Its status is ``"done"`` or ``"partial"``.
    probabilities : ndarray of shape (K, *labels.shape) or None
        float16, by channel of the network; behind a time axis where there is one: (t, K, ...).
    entropy : ndarray of the shape of labels or None
        float16 in [0, 1]: entropy of the probabilities over its largest possible value.
    disagreement : ndarray of the shape of labels or None
        float16 in [0, 1]: half the L1 distance of each fold's and mirrored image's probabilities from their mean,
        averaged over them.
    attention : mapping of int to ndarray
        By level of the network, 0 the finest: float16 in [0, 1], on the grid of the image.
    notes : tuple of str
        Warnings and what was decided on the way, in words.
    """

    labels: NDArray[Any]
    classes: tuple[Label, ...]
    record: Record
    probabilities: NDArray[np.float16] | None = None
    entropy: NDArray[np.float16] | None = None
    disagreement: NDArray[np.float16] | None = None
    attention: Mapping[int, NDArray[np.float16]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether all of the image was predicted."""
        return self.record.status == "done"


@dataclass(frozen=True, kw_only=True, eq=False)
class PredictionProgress(Progress):
    """One report.

    Attributes
    ----------
    tile, tiles : int
        Windows that have gone through the network, and how many there are.
    seconds_left : float or None
        From the pace so far.
    axis : int
        Axis of `labels` along which it is finished slab by slab.
    slab : tuple of (int, int) or None
        First and last + 1 plane along that axis which this report finished.
    labels : ndarray or None
        The labels so far, the array that is being filled; planes that are not finished are 0.
    result : callable or None
        Gives the partial `Prediction` as it stands.
    """

    tile: int = 0
    tiles: int = 0
    seconds_left: float | None = None
    axis: int = 0
    slab: tuple[int, int] | None = None
    labels: NDArray[Any] | None = None
    result: Callable[[], Prediction] | None = None
