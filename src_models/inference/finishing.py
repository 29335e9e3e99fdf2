"""What follows the networks, in this order: the CRF, parts that are kept or removed, and the level set as last step."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_models.inference.parameters import PredictionParameters
from src_models.progress import Progress
from src_models.weights.card import ModelCard

Notes = list[str]


def needs_probabilities(parameters: PredictionParameters) -> bool:
    """Whether the probability of every class has to be kept on the grid of the image."""
    return parameters.probabilities or parameters.post == "crf" or parameters.refine == "levelset"


def finishing_bytes(parameters: PredictionParameters, classes: int) -> int:
    """Peak per voxel of the image, roughly from above."""
    parts = 0
    if parameters.post in ("largest", "largest_each") or parameters.minimum_volume > 0:
        # numbered parts, masks and the copy that is returned
        parts = 12
    crf = 4 * (4 * classes + 8) if parameters.post == "crf" else 0
    # one front at a time, in float32 with the arrays of its engine
    front = 60 if parameters.refine == "levelset" else 0
    return max(parts, crf, front)


def finish_labels(
    labels: NDArray[Any],
    probabilities: NDArray[np.float16] | None,
    image: NDArray[Any],
    spacing: Sequence[float],
    card: ModelCard,
    parameters: PredictionParameters,
) -> Generator[Progress, None, tuple[NDArray[Any], Notes]]:
    """Apply what was asked for, and what the card asks for.

    Parameters
    ----------
    labels : ndarray of shape (z, y, x) or (y, x)
        Of the networks.
    probabilities : ndarray of shape (K, *labels.shape) or None
        Where `needs_probabilities` says so.
    image : ndarray of shape (C, *labels.shape)
        As given, for the CRF.
    spacing : sequence of float
        mm per axis.
    card : ModelCard
        ``inference["keep_largest"]``: sets of labels of which the largest part is kept, one after the other;
        ``inference["keep_largest_in_volumes"]``: the same, where a 2D network went through the slices of a volume.
    parameters : PredictionParameters
        What was asked for.

    Returns
    -------
    (ndarray, list of str)
        Labels, and what was decided.
    """
    from src_models.inference.postprocess import keep_largest, keep_largest_of_each, remove_small

    notes: Notes = []
    if parameters.post == "crf" and probabilities is not None:
        labels = yield from _crf(labels, probabilities, image, spacing, card, parameters)
    elif parameters.post == "largest":
        labels = keep_largest(labels)
    elif parameters.post == "largest_each":
        labels = keep_largest_of_each(labels)
    elif parameters.post == "auto":
        for together in largest_parts(card, labels.shape):
            labels = keep_largest(labels, together)
    if parameters.minimum_volume > 0:
        labels = remove_small(labels, spacing, parameters.minimum_volume)
    if parameters.refine == "levelset" and probabilities is not None:
        from src_models.inference.refine import refine

        shares = _shares(probabilities, card)
        names = {label.value: label.name for label in card.labels}
        done = yield from refine(labels, shares, spacing, parameters.neck, names)
        labels = done.labels
        notes += done.notes
    return labels, notes


def largest_parts(card: ModelCard, shape: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """Sets of labels of which the card keeps the largest part alone, in an image of that shape.

    Slices of an organ may be several parts where its volume is one, so that a 2D network has a rule for each.
    """
    sets = list(card.inference.get("keep_largest", ()))
    if card.ndim == 2 and len(shape) == 3 and shape[0] > 1:
        sets += card.inference.get("keep_largest_in_volumes", ())
    return tuple(tuple(int(value) for value in together) for together in sets)


def _shares(probabilities: NDArray[np.float16], card: ModelCard) -> dict[int, NDArray[np.float16]]:
    """Probability of each label number; that of a region without the regions that are painted over it."""
    if card.head == "softmax":
        return {label.value: probabilities[label.channel] for label in card.labels if label.value != 0}
    shares: dict[int, NDArray[np.float16]] = {}
    free: NDArray[np.float16] | None = None
    for label in reversed(card.labels):
        own = probabilities[label.channel]
        shares[label.value] = own if free is None else np.minimum(own, free)
        free = 1 - own if free is None else np.minimum(free, 1 - own)
    return shares


def _crf(
    labels: NDArray[Any],
    probabilities: NDArray[np.float16],
    image: NDArray[Any],
    spacing: Sequence[float],
    card: ModelCard,
    parameters: PredictionParameters,
) -> Generator[Progress, None, NDArray[Any]]:
    """The field of the CRF; regions of a sigmoid head have no common field and stay as they are."""
    from src_models.inference.crf import mean_field

    if card.head != "softmax":
        return labels
    field = yield from mean_field(probabilities, image, spacing, parameters.crf_width, parameters.crf_contrast)
    numbers = np.zeros(len(card.labels), labels.dtype)
    for label in card.labels:
        numbers[label.channel] = label.value
    result: NDArray[Any] = numbers[field.argmax(0)]
    return result
