"""What a front can reach through voxels where it grows: parts behind a thin wall that a coarse grid ran through.

The region speed of a coarse voxel is a mean, in which a wall of one voxel is lost. On the finer grid the wall is seen
again, but the other side is filled already and its own speed holds it filled.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_models.levelset.compiled import compiled

NOT_INSIDE, REACHED, HELD, GROWING, PART, BEHIND = range(6)
SMALLEST_SIDE = 3
"""A part of fewer voxels than a cube of this side is noise, not a chamber."""


def behind_walls(u: NDArray[Any], growth: NDArray[Any], start: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
    """The inside that the start does not reach by faces through voxels of growth, and what hangs together with it.

    Parameters
    ----------
    u : ndarray of shape (z, y, x) or (y, x)
        Positive inside.
    growth : ndarray
        balloon S; positive where the front grows.
    start : ndarray of bool
        What was drawn.

    Returns
    -------
    ndarray of bool or None
        None where everything is reached, or nothing of the start is inside any more.
    """
    status = np.where(u > 0, np.where(growth > 0, np.uint8(GROWING), np.uint8(HELD)), np.uint8(NOT_INSIDE))
    status = np.ascontiguousarray(status).reshape((1,) * (3 - u.ndim) + u.shape)
    seeds = np.flatnonzero(start & (u > 0))
    if seeds.size == 0:
        return None
    stack = np.empty(int(np.count_nonzero(status)), np.int64)
    _fill(status, seeds, stack, GROWING, GROWING, REACHED)
    sides = sum(n > 1 for n in u.shape)
    if not _find_parts(status, stack, SMALLEST_SIDE**sides):
        return None
    behind: NDArray[np.bool_] = (status == BEHIND).reshape(u.shape)
    return behind


@compiled
def _fill(status: NDArray[Any], seeds: NDArray[Any], stack: NDArray[Any], low: int, high: int, mark: int) -> int:
    """Flood by faces from the seeds through voxels whose status lies in [low, high]; how many were marked."""
    nz, ny, nx = status.shape
    flat = status.reshape(-1)
    size = 0
    for i in seeds:
        if flat[i] != mark:
            flat[i] = mark
            stack[size] = i
            size += 1
    count = size
    while size > 0:
        size -= 1
        i = stack[size]
        z, rest = i // (ny * nx), i % (ny * nx)
        y, x = rest // nx, rest % nx
        for side in range(6):
            if side == 0:
                there, j = z > 0, i - ny * nx
            elif side == 1:
                there, j = z < nz - 1, i + ny * nx
            elif side == 2:
                there, j = y > 0, i - nx
            elif side == 3:
                there, j = y < ny - 1, i + nx
            elif side == 4:
                there, j = x > 0, i - 1
            else:
                there, j = x < nx - 1, i + 1
            if there and low <= flat[j] <= high:
                flat[j] = mark
                stack[size] = j
                size += 1
                count += 1
    return count


@compiled
def _find_parts(status: NDArray[Any], stack: NDArray[Any], smallest: int) -> bool:
    """Mark every growing part that was not reached and is large enough, with all that hangs together with it."""
    flat = status.reshape(-1)
    seed = np.empty(1, np.int64)
    found = False
    for i in range(flat.size):
        if flat[i] == GROWING:
            seed[0] = i
            if _fill(status, seed, stack, GROWING, GROWING, PART) >= smallest:
                _fill(status, seed, stack, HELD, PART, BEHIND)
                found = True
    return found
