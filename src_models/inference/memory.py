"""The peak of memory of a prediction, from sizes alone: told before it starts, and kept."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from src_models.errors import OutOfMemoryError
from src_models.inference.finishing import finishing_bytes, needs_probabilities
from src_models.inference.parameters import PredictionParameters
from src_models.inference.prepared import Layout
from src_models.inference.ring import CHUNK, chunk_planes
from src_models.inference.windows import Window

FREE_SHARE = 0.9
"""Of the memory that is free, what a prediction may take."""
WORKSPACE = 64 * 2**20
"""What libraries take for themselves while they compute: threads, small buffers."""


@dataclass(frozen=True)
class MemoryForecast:
    """What a prediction takes beside the image that is already there, in bytes.

    Attributes
    ----------
    preparation : int
        Crop, normalisation and resampling; given back before the networks run.
    image : int
        The prepared image.
    sums : int
        The ring of logits: classes x thickness of a window x area of a plane.
    window : int
        One window in the networks: weights are not counted, they are there already.
    slabs : int
        Planes on their way from the networks' grid to the image's.
    results : int
        Labels and what else was asked for.
    finishing : int
        What follows the networks: parts, CRF, level set.
    """

    preparation: int
    image: int
    sums: int
    window: int
    slabs: int
    results: int
    finishing: int = 0

    @property
    def peak(self) -> int:
        """Never exceeded."""
        running = self.image + self.sums + max(self.window, self.slabs)
        return self.results + max(self.preparation, running, self.finishing) + WORKSPACE

    @property
    def sentence(self) -> str:
        """For the person, before the run."""
        return f"Needs up to {gigabytes(self.peak)} of memory beside the image."


def preparation_bytes(channels: int, shape: Sequence[int], cropped: Sequence[int], resampled: Sequence[int]) -> int:
    """Largest need of crop, normalisation and resampling.

    Parameters
    ----------
    channels : int
        Of the image.
    shape, cropped, resampled : sequence of int
        Sizes before, after the crop, and on the grid of the networks.
    """
    voxels, inside, made = math.prod(shape), math.prod(cropped), math.prod(resampled)
    # masks of what is finite and not zero, one byte a voxel each, and the labels of the hole filling
    masks = voxels * (channels + 6)
    # one float copy of all channels, and of one channel the values, the clipped ones and the quotient
    normal = 4 * inside * (channels + 3)
    # resampling goes axis by axis: an array of either size or between, before and after one axis, and their clip
    largest = max(inside, made, *(inside // cropped[k] * resampled[k] for k in range(len(cropped))))
    resampling = 4 * channels * (inside + 2 * largest)
    return max(masks, normal, resampling) + 4 * channels * made


def stage_bytes(values: int, channels: int, shape: Sequence[int], resampled: Sequence[int]) -> int:
    """Largest need while labels of a first stage become channels beside the prepared image.

    Parameters
    ----------
    values, channels : int
        Of the labels, and of the image.
    shape, resampled : sequence of int
        Of the image, and on the grid of the networks.
    """
    voxels, made = math.prod(shape), math.prod(resampled)
    # the hole filling and the signed labels on one side; shares in float64, masks and the nearest label on the other
    return 16 * voxels + 64 * made + 4 * made * (2 * channels + 2 * values)


def foresee(
    layout: Layout,
    groups: Sequence[Sequence[Window]],
    parameters: PredictionParameters,
    *,
    channels: int,
    classes: int,
    extras: int,
    label_bytes: int,
    network_bytes: int,
    shape: Sequence[int],
    stage: int = 0,
) -> MemoryForecast:
    """The peak of a prediction.

    Parameters
    ----------
    layout : Layout
        Where windows lie.
    groups : sequence of sequence of Window
        The windows.
    parameters : PredictionParameters
        Which results are wanted.
    channels, classes, extras : int
        Of the input, of the logits, and of what is stitched beside them.
    label_bytes : int
        Of one voxel of the labels.
    network_bytes : int
        Peak of a window inside a network.
    shape : sequence of int
        Of the image.
    stage : int
        Channels that the first stage of a cascade adds to those of the image.
    """
    area, lanes = math.prod(layout.padded[1:]), classes + extras
    thickness = max(group[0].write[0].stop - group[0].write[0].start for group in groups)
    reading = max(math.prod(part.stop - part.start for part in window.read) for group in groups for window in group)
    fine = tuple(one.fine for one in layout.maps)
    made = math.prod(layout.coarse)
    padded = math.prod(layout.padded)
    # mean of members, their flips, and the shares that a disagreement is made of
    window = network_bytes + 4 * reading * lanes * (4 if parameters.disagreement else 3)
    planes = chunk_planes(lanes, layout.padded[1:])
    chunk = max(CHUNK, 4 * lanes * area * planes)
    fine_planes = 4 * lanes * fine[1] * fine[2]
    per_voxel = label_bytes + 2 * (classes * needs_probabilities(parameters) + parameters.entropy + extras)
    preparation = preparation_bytes(channels, shape, fine, layout.coarse)
    if stage:
        preparation = max(preparation, stage_bytes(stage, channels, shape, layout.coarse))
    return MemoryForecast(
        preparation=preparation,
        image=4 * (channels + stage) * (made if padded == made else made + padded),
        sums=4 * area * thickness * (lanes + 1),
        window=window,
        slabs=4 * chunk + 4 * fine_planes,
        results=math.prod(shape) * per_voxel,
        finishing=math.prod(shape) * finishing_bytes(parameters, classes),
    )


def check_limit(forecast: MemoryForecast, limit_gb: float | None) -> None:
    """Refuse a prediction that would take more than is allowed, or free.

    Raises
    ------
    OutOfMemoryError
        Before anything is computed.
    """
    import psutil

    free = int(psutil.virtual_memory().available * FREE_SHARE)
    limit = free if limit_gb is None else int(limit_gb * 1e9)
    if forecast.peak > limit:
        allowed = "are free" if limit_gb is None else "are allowed"
        raise OutOfMemoryError(
            "memory-forecast",
            f"The prediction would need {gigabytes(forecast.peak)} of memory",
            f"{gigabytes(limit)} {allowed}",
            "Ask for labels only, crop the image, choose a smaller window, or allow more (--max-memory).",
        )


def gigabytes(count: int) -> str:
    """Bytes for people."""
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
