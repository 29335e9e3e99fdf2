"""Cutting a patch out of an image, straight or turned and scaled in one interpolation; labels move with the image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

from src_models.preprocessing.cropping import OUTSIDE

MOST_LABELS = 6
"""With more labels in a patch each voxel takes the nearest one: a map for each would take too long."""


def cut(
    image: NDArray[np.float32], labels: NDArray[np.integer], low: Sequence[int], size: Sequence[int]
) -> tuple[NDArray[np.float32], NDArray[np.int16]]:
    """A part of an image (C, *shape) and its labels (*shape); 0 and `OUTSIDE` where it reaches over the border.

    Parameters
    ----------
    image, labels : ndarray
        The whole image; it is not changed.
    low : sequence of int
        First voxel, may be negative.
    size : sequence of int
        Voxels per axis.
    """
    inside = tuple(slice(max(a, 0), max(min(a + n, m), 0)) for a, n, m in zip(low, size, labels.shape, strict=True))
    there = tuple(slice(part.start - a, part.stop - a) for part, a in zip(inside, low, strict=True))
    if all(part.stop - part.start == n for part, n in zip(there, size, strict=True)):
        return np.array(image[(slice(None), *inside)], np.float32), np.array(labels[inside], np.int16)
    new_image = np.zeros((image.shape[0], *size), np.float32)
    new_labels = np.full(tuple(size), OUTSIDE, np.int16)
    if all(part.stop > part.start for part in inside):
        new_image[(slice(None), *there)] = image[(slice(None), *inside)]
        new_labels[there] = labels[inside]
    return new_image, new_labels


def rotation_matrix(angles: Sequence[float]) -> NDArray[np.float64]:
    """The rotation by one angle in the plane, or by three about the first, second and third array axis in turn.

    Parameters
    ----------
    angles : sequence of float
        Radians.
    """
    if len(angles) == 1:
        return _in_plane(2, 0, 1, angles[0])
    planes = ((1, 2), (0, 2), (0, 1))
    turned = [_in_plane(3, *plane, angle) for plane, angle in zip(planes, angles, strict=True)]
    return turned[0] @ turned[1] @ turned[2]


def _in_plane(ndim: int, a: int, b: int, angle: float) -> NDArray[np.float64]:
    matrix = np.eye(ndim)
    matrix[a, a] = matrix[b, b] = math.cos(angle)
    matrix[a, b], matrix[b, a] = -math.sin(angle), math.sin(angle)
    return matrix


def moved(
    image: NDArray[np.float32],
    labels: NDArray[np.integer],
    low: Sequence[int],
    size: Sequence[int],
    matrix: NDArray[np.float64],
) -> tuple[NDArray[np.float32], NDArray[np.int16]]:
    """A patch whose voxel at distance d from its middle shows the image at distance `matrix` d from that place.

    Image and labels are interpolated linearly; a voxel takes the label that weighs most. Only the part of the image
    that the patch shows is touched.

    Parameters
    ----------
    image, labels, low, size
        See `cut`.
    matrix : ndarray of shape (ndim, ndim)
        Rotation, scaling.
    """
    middle = (np.array(size) - 1) / 2
    offset = np.array(low) + middle - matrix @ middle
    corners = np.array(list(product(*((0, n - 1) for n in size)))) @ matrix.T + offset
    first = np.clip(np.floor(corners.min(0)).astype(int), 0, np.array(labels.shape) - 1)
    last = np.clip(np.ceil(corners.max(0)).astype(int), 0, np.array(labels.shape) - 1)
    box = tuple(slice(a, b + 1) for a, b in zip(first, last, strict=True))
    part, names = np.asarray(image[(slice(None), *box)], np.float32), np.asarray(labels[box])
    if 1 in names.shape:
        # along an axis of one voxel every place would show that voxel: one of nothing beside it has places of its own
        more = [(0, int(n == 1)) for n in names.shape]
        part, names = np.pad(part, [(0, 0), *more]), np.pad(names, more, constant_values=OUTSIDE)
    grid = _sampling_grid(size, matrix, offset - first, names.shape)
    return _sampled(part, names, grid)


def _sampling_grid(
    size: Sequence[int], matrix: NDArray[np.float64], offset: NDArray[np.float64], shape: Sequence[int]
) -> NDArray[np.float32]:
    """Positions in an array of at least 2 voxels a side, -1 to 1 between the middles of its ends, last axis first."""
    ndim = len(size)
    grid = np.empty((*size, ndim), np.float32)
    for axis in range(ndim):
        unit = 2 / (shape[axis] - 1)
        total = np.float32(0)
        for other, n in enumerate(size):
            line = matrix[axis, other] * np.arange(n) * unit
            if other == 0:
                line += offset[axis] * unit - 1
            total = total + line.astype(np.float32).reshape([-1 if a == other else 1 for a in range(ndim)])
        grid[..., ndim - 1 - axis] = total
    return grid


def _sampled(
    image: NDArray[np.float32], labels: NDArray[np.integer], grid: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.int16]]:
    import torch
    from torch.nn.functional import grid_sample

    where = torch.from_numpy(grid)[None]
    channels = image.shape[0]
    values = [int(v) for v in np.unique(labels) if v != OUTSIDE]
    if not channels and not values:
        return np.empty((0, *grid.shape[:-1]), np.float32), np.full(grid.shape[:-1], OUTSIDE, np.int16)
    if len(values) > MOST_LABELS:
        x = grid_sample(torch.from_numpy(image)[None], where, align_corners=True) if channels else torch.empty(1, 0)
        shifted = torch.from_numpy((labels - OUTSIDE).astype(np.float32))[None, None]
        nearest = grid_sample(shifted, where, mode="nearest", align_corners=True)
        return x[0].numpy(), (nearest[0, 0].numpy() + OUTSIDE).astype(np.int16)
    stack = np.empty((channels + len(values), *labels.shape), np.float32)
    stack[:channels] = image
    for place, value in enumerate(values):
        np.equal(labels, value, out=stack[channels + place], casting="unsafe")
    sampled = grid_sample(torch.from_numpy(stack)[None], where, align_corners=True)[0].numpy()
    weights = sampled[channels:]
    names = np.full(weights.shape[1:], OUTSIDE, np.int16)
    # what no label covers is outside the image
    most = 1 - weights.sum(0)
    for value, weight in zip(values, weights, strict=True):
        heavier = weight >= most
        names[heavier] = value
        np.maximum(most, weight, out=most)
    return np.ascontiguousarray(sampled[:channels]), names
