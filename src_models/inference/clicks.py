"""Clicks of a prediction: from mm in the image to the input channel of a network that begins at one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_models.errors import InputError
from src_models.preprocessing.prepare import Way
from src_models.weights.card import ModelCard

Points = tuple[tuple[float, ...], ...]


def check_points(points: Any, card: ModelCard, shape: Sequence[int], spacing: Sequence[float]) -> Points:
    """Clicks as given, where the model takes them and they lie in the image.

    Parameters
    ----------
    points : sequence of sequence of float
        mm from the centre of the first voxel, axes as in the array.
    card : ModelCard
        Of the model.
    shape, spacing : sequence
        Of the image's axes in space.

    Raises
    ------
    InputError
        Where the model takes a click and there is none, or the other way round, or one lies outside.
    """
    found = tuple(tuple(float(x) for x in point) for point in points)
    if card.click is None and found:
        raise InputError("click-unused", "This model takes no click", "", "Leave out the point.")
    if card.click is not None and not found:
        raise InputError(
            "click-missing",
            "This model begins at a click, and none was given",
            "",
            "Give a point inside the structure, such as --point 80,120.",
        )
    for point in found:
        if len(point) != len(shape):
            raise InputError(
                "click-axes", f"A click of {len(point)} coordinates does not fit {len(shape)} axes", "", "Give all."
            )
        inside = all(-0.5 * h <= x <= (n - 0.5) * h for x, n, h in zip(point, shape, spacing, strict=True))
        if not inside:
            text = ", ".join(f"{x:g}" for x in point)
            raise InputError("click-outside", f"The click {text} lies outside the image", "", "Move it inside.")
    return found


def unclicked(points: Points, card: ModelCard, shape: Sequence[int], spacing: Sequence[float]) -> list[str]:
    """What has to be said of the slices that a 2D network looks at without a click."""
    click = card.click
    if click is None or not points or len(shape) == len(click.spacing):
        return []
    clicked = len({click.slice_of(point[0] / spacing[0], shape[0]) for point in points})
    if clicked == shape[0]:
        return []
    return [
        f"The model works slice by slice and begins at a click: {clicked} of {shape[0]} slices "
        f"{'holds' if clicked == 1 else 'hold'} one, the others are left as background."
    ]


def with_channel(array: NDArray[np.float32], way: Way, points: Points, card: ModelCard) -> NDArray[np.float32]:
    """A prepared image (C, *way.resampled) with the channel of the clicks, where the model takes one."""
    click = card.click
    if click is None:
        return array
    on_grid = [_on_network_grid(point, way) for point in points]
    return np.concatenate((array, click.placed(way.resampled, on_grid)[None]))


def _on_network_grid(point: Sequence[float], way: Way) -> tuple[float, ...]:
    """A place in mm of the image as voxels of the prepared array; voxels keep their centres when they are resampled."""
    voxels = [x / h for x, h in zip(point, way.spacing[-len(point) :], strict=True)]
    voxels = [0.0] * (len(way.shape) - len(voxels)) + voxels
    placed = []
    for axis, part, fine, coarse in zip(way.axis_order, way.box, way.cropped, way.resampled, strict=True):
        placed.append((voxels[axis] - part.start + 0.5) * coarse / fine - 0.5)
    return tuple(placed)
