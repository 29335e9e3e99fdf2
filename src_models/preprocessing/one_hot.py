"""Labels as channels: what a cascade sees of its first stage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_models.preprocessing.parameters import Preprocessing
from src_models.preprocessing.prepare import Prepared, prepare_labels


def one_hot(labels: NDArray[Any], values: Sequence[int]) -> NDArray[np.float32]:
    """One channel per value, 1 where the labels have it.

    Parameters
    ----------
    labels : ndarray of shape (z, y, x) or (y, x), integer
        Any values; those that are not listed, such as the background, have no channel.
    values : sequence of int
        In the order of the channels.

    Returns
    -------
    ndarray of float32, shape (len(values), *labels.shape)
    """
    channels = np.empty((len(values), *labels.shape), np.float32)
    for channel, value in zip(channels, values, strict=True):
        np.equal(labels, value, out=channel, casting="unsafe")
    return channels


def with_first_stage(
    prepared: Prepared, labels: NDArray[Any], preprocessing: Preprocessing, values: Sequence[int]
) -> NDArray[np.float32]:
    """The input of the second stage of a cascade: the prepared image, and behind it the first stage's labels.

    Parameters
    ----------
    prepared : Prepared
        The image as the second stage sees it.
    labels : ndarray of shape `prepared.way.shape`
        Of the first stage, on the grid of the image; they are resampled as labels of a training are.
    preprocessing : Preprocessing
        Of the second stage.
    values : sequence of int
        See `one_hot`.

    Returns
    -------
    ndarray of float32, shape (C + len(values), *prepared.way.resampled)
    """
    there = one_hot(prepare_labels(labels, prepared, preprocessing), values)
    return np.concatenate([prepared.array, there])
