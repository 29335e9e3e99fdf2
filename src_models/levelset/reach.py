"""What a front can reach through voxels where it grows.

The region speed of a coarse voxel is a mean, in which a wall of one voxel and an island of a few are lost. On the finer
grid they are seen again, but no front stands there any more: the other side of the wall holds itself filled, and an
island within the inside has nothing that would shrink it. So the inside is taken back to what the start reaches.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_models.levelset.compiled import compiled

CLOSED, OPEN, REACHED = 0, 1, 2


def reached(u: NDArray[Any], growth: NDArray[Any], start: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
    """The inside that hangs together with the start, by faces, through inside voxels of growth.

    Parameters
    ----------
    u : ndarray of shape (z, y, x) or (y, x)
        Positive inside.
    growth : ndarray
        balloon S; positive where the front grows.
    start : ndarray of bool
        What was drawn; its own voxels are reached whatever their growth.

    Returns
    -------
    ndarray of bool or None
        None where nothing of the start is inside any more.
    """
    seeds = np.flatnonzero(start & (u > 0))
    if seeds.size == 0:
        return None
    status = ((u > 0) & (growth > 0)).view(np.uint8).reshape((1,) * (3 - u.ndim) + u.shape)
    _fill(status, seeds, np.empty(seeds.size + int(np.count_nonzero(status)), np.int64))
    return np.asarray(status == REACHED).reshape(u.shape)


@compiled
def _fill(status: NDArray[Any], seeds: NDArray[Any], stack: NDArray[Any]) -> None:
    """Flood by faces from the seeds through open voxels."""
    nz, ny, nx = status.shape
    flat = status.reshape(-1)
    size = 0
    for i in seeds:
        flat[i] = REACHED
        stack[size] = i
        size += 1
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
            if there and flat[j] == OPEN:
                flat[j] = REACHED
                stack[size] = j
                size += 1
