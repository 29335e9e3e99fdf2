"""Thresholds about the grey values under the start: one click in the structure, and nothing to type.

    lower, upper = mean -+ seed_width * max(standard deviation, range / 256)

A run asks once, where it begins; from then on, and in its record, they are numbers like any others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_models.levelset.initial import Seeds, start_mask
from src_models.levelset.parameters import LevelSetParameters
from src_models.levelset.speed import with_range
from src_models.levelset.states import Resume

SMALLEST_SHARE = 1 / 256
"""The spread is at least this share of the grey-value range: one step of a picture of 8 bits, so that a start within a
flat patch, or of a single voxel, still has a range."""


def follows_seed(parameters: LevelSetParameters) -> bool:
    """Whether the thresholds are still to be taken from the grey values under the start."""
    return (
        parameters.speed == "region"
        and parameters.region == "threshold"
        and parameters.seed_width is not None
        and parameters.lower is None
        and parameters.upper is None
    )


def grey_under_start(
    image: NDArray[Any],
    initial: NDArray[Any] | Seeds | Resume,
    spacing: Sequence[float],
    value_range: tuple[float, float],
) -> tuple[float, float]:
    """Mean and spread of the grey values under a start.

    Parameters
    ----------
    image : ndarray of shape (z, y, x) or (y, x)
        Checked grey values (`speed.as_image`).
    initial : ndarray, Seeds or Resume
        As `evolve` takes it; a level set that was made from a drawn start (`Resume.origin`) counts as that.
    spacing : sequence of float
        mm per array axis.
    value_range : tuple of float
        Smallest and largest grey value.

    Returns
    -------
    tuple of float
        The mean, and the standard deviation or 1/256 of the range, whichever is larger.
    """
    if isinstance(initial, Resume):
        initial = np.asarray(initial.level_set > 0) if initial.origin is None else initial.origin
    grey = image[start_mask(initial, image.shape, spacing)].astype(np.float64)
    low, high = value_range
    return float(grey.mean()), max(float(grey.std()), SMALLEST_SHARE * (high - low))


def with_seed_range(
    image: NDArray[Any],
    initial: NDArray[Any] | Seeds | Resume,
    spacing: Sequence[float],
    parameters: LevelSetParameters,
) -> LevelSetParameters:
    """The parameters with grey-value range and, where `seed_width` asks for them, thresholds as numbers.

    Parameters
    ----------
    image : ndarray of shape (z, y, x) or (y, x)
        Checked grey values (`speed.as_image`).
    initial : ndarray, Seeds or Resume
        As `evolve` takes it.
    spacing : sequence of float
        mm per array axis.
    parameters : LevelSetParameters
        Thresholds that are given stay as they are.
    """
    ranged = with_range(image, parameters)
    if not follows_seed(ranged) or ranged.seed_width is None:
        return ranged
    mean, spread = grey_under_start(image, initial, spacing, ranged.value_range or (0.0, 0.0))
    reach = ranged.seed_width * spread
    if not mean - reach < mean + reach:
        return ranged  # a constant image has no range to follow
    return ranged.model_copy(update={"lower": mean - reach, "upper": mean + reach})
