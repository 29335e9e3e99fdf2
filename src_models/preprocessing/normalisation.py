"""Intensities to what a network is trained on, channel by channel and before resampling (nnU-Net's rules)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_models.errors import InputError
from src_models.preprocessing.parameters import Channel, Normalisation

_SMALLEST_STD = 1e-8
_BY_NAME: dict[str, Normalisation] = {
    "ct": "ct",
    "nonorm": "nonorm",
    "zscore": "zscore",
    "rescale_to_0_1": "rescale_to_0_1",
    "rgb_to_0_1": "rgb_to_0_1",
}


def normalisation_of(channel_name: str) -> Normalisation:
    """The normalisation that the name of a channel asks for: z-score for every name but the few that say otherwise."""
    return _BY_NAME.get(channel_name.casefold(), "zscore")


def normalise(
    image: NDArray[Any], channels: Sequence[Channel], mask: NDArray[np.bool_] | None = None
) -> NDArray[np.float32]:
    """Normalise each channel.

    Parameters
    ----------
    image : ndarray of shape (C, z, y, x) or (C, y, x)
        In the unit of the file; it is not changed.
    channels : sequence of Channel
        One for each channel.
    mask : ndarray of bool, optional
        z-scores use these voxels alone and leave 0 outside.

    Returns
    -------
    ndarray of float32
        Of the same shape.

    Raises
    ------
    InputError
        Where the number of channels, or the range of an RGB image, does not fit.

    Notes
    -----
    ``ct``: clip to the 0.5 and 99.5 percentiles of the training labels, subtract their mean, divide by their std.
    ``zscore``: mean and std of the image. ``rescale_to_0_1``: its minimum to 0 and maximum to 1. ``rgb_to_0_1``: / 255.
    Before it values are clipped to the window of the channel, where they reach below it.
    """
    check_channels(image.shape[0], channels)
    result = image.astype(np.float32)
    for values, channel in zip(result, channels, strict=True):
        if channel.window is not None and values.min() < channel.window[0]:
            np.clip(values, *channel.window, out=values)
        _normalise(values, channel, mask)
    return result


def check_channels(count: int, channels: Sequence[Channel]) -> None:
    """Refuse another number of channels than the network was trained on.

    Raises
    ------
    InputError
        With the names of the channels expected.
    """
    if count != len(channels):
        names = ", ".join(channel.name for channel in channels)
        expected = "1 is" if len(channels) == 1 else f"{len(channels)} are"
        raise InputError(
            "channels-count",
            f"The image has {count} channel{'s' if count != 1 else ''}, {expected} expected",
            f"in this order: {names}",
            "Give one image per channel, in this order.",
        )


def _normalise(values: NDArray[np.float32], channel: Channel, mask: NDArray[np.bool_] | None) -> None:
    """In place: a large CT is not copied more often than needed."""
    if channel.normalisation == "ct":
        _ct(values, channel)
    elif channel.normalisation == "rgb_to_0_1":
        if values.min() < 0 or values.max() > 255:
            raise InputError(
                "rgb-range",
                f"Channel {channel.name} is no 8-bit colour",
                f"its values run from {values.min():g} to {values.max():g}",
                "Use another normalisation.",
            )
        values /= np.float32(255)
    elif channel.normalisation == "rescale_to_0_1":
        values -= values.min()
        values /= np.float32(max(float(values.max()), _SMALLEST_STD))
    elif channel.normalisation == "zscore":
        inside = values if mask is None else values[mask]
        if inside.size == 0:
            return
        mean, std = inside.mean(dtype=np.float64), inside.std(dtype=np.float64)
        values -= np.float32(mean)
        values /= np.float32(max(std, _SMALLEST_STD))
        if mask is not None:
            values[~mask] = 0


def _ct(values: NDArray[np.float32], channel: Channel) -> None:
    known = channel.statistics
    if known is None:
        raise InputError(
            "ct-statistics",
            f"Channel {channel.name} is normalised as CT without the intensities of the training data",
            "",
            "Use a plan or a model card that holds them.",
        )
    np.clip(values, np.float32(known.percentile_00_5), np.float32(known.percentile_99_5), out=values)
    values -= np.float32(known.mean)
    values /= np.float32(max(known.std, _SMALLEST_STD))
