"""The level set as the last step: every label goes on from the network's mask, with its probability as the speed.

``u_t = F |Du| + curvature kappa |Du|`` with the region speed F = 2 p - 1 of the network's probability p: the front
rests where p is one half, but for what curvature smooths. There is one front per label; where two end up on one voxel
it goes to the one that lies deeper inside.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_models.levelset.evolution import evolve
from src_models.levelset.parameters import LevelSetParameters
from src_models.progress import Progress

MARGIN = 8
"""Voxels around a label that its front may use."""
CHANGE = 0.3
"""Share of the volume from which on the front is not trusted."""


@dataclass(frozen=True, eq=False)
class Refined:
    """Labels after the level set.

    Attributes
    ----------
    labels : ndarray
        Of the type given.
    notes : tuple of str
        Which labels kept the network's mask, and why.
    """

    labels: NDArray[Any]
    notes: tuple[str, ...]


def refine(
    labels: NDArray[Any],
    probabilities: Mapping[int, NDArray[Any]],
    spacing: Sequence[float],
    neck: float,
    names: Mapping[int, str] | None = None,
) -> Generator[Progress, None, Refined]:
    """Let each label go on as a level set.

    Parameters
    ----------
    labels : ndarray of shape (z, y, x) or (y, x)
        Of the networks; 0 is background.
    probabilities : mapping of int to ndarray
        By label number, on the same grid.
    spacing : sequence of float
        mm per axis.
    neck : float
        mm: necks thinner than this are not entered, and thinner spikes go; 0 leaves curvature out.
    names : mapping of int to str, optional
        For messages.

    Yields
    ------
    Progress
        Every step of every front.

    Returns
    -------
    Refined
        A label whose volume would change by more than 30 %, or vanish, keeps the network's mask, with a note.
    """
    numbers = [n for n in probabilities if n != 0 and (labels == n).any()]
    depth = np.zeros(labels.shape, np.float32)
    result = np.zeros_like(labels)
    notes: list[str] = []
    kept: list[int] = []
    # no leak guard: the speed is below 0 wherever the network says no, and a tip that draws back looks like a leak
    parameters = LevelSetParameters(
        speed="region",
        region="probability",
        curvature=neck / 2 / (labels.ndim - 1),
        balloon=1.0,
        guard="off",
    )
    for position, number in enumerate(numbers):
        name = (names or {}).get(number, str(number))
        start = labels == number
        box = _box(start, labels.shape)
        share = probabilities[number][box].astype(np.float32)
        level_set: NDArray[Any] | None = None
        inside = start[box] & (share > 0.5)
        # a label that wins without a majority anywhere gives the front nowhere to start
        if inside.any():
            level_set = yield from _front(share, inside, spacing, parameters, (position, len(numbers)), name)
        before = int(start.sum())
        after = 0 if level_set is None else int((level_set > 0).sum())
        if level_set is None or abs(after - before) > CHANGE * before:
            what = "vanish" if after == 0 else f"change from {before} to {after} voxels"
            notes.append(f"The level set would make {name} {what}: the network's mask was kept.")
            kept.append(number)
            continue
        wins = (level_set > 0) & (level_set > depth[box])
        result[box][wins] = number
        depth[box][wins] = level_set[wins]
    for number in kept:
        result[(labels == number) & (result == 0)] = number
    return Refined(result, tuple(notes))


def _front(
    share: NDArray[np.float32],
    start: NDArray[np.bool_],
    spacing: Sequence[float],
    parameters: LevelSetParameters,
    place: tuple[int, int],
    name: str,
) -> Generator[Progress, None, NDArray[Any]]:
    work = evolve(share, start, spacing, parameters)
    while True:
        try:
            state = next(work)
        except StopIteration as end:
            level_set: NDArray[Any] = end.value.level_set
            return level_set
        fraction = (place[0] + (state.fraction or 0.0)) / place[1]
        yield Progress(phase="refine", fraction=fraction, message=f"Level set of {name}: {state.message}")


def _box(mask: NDArray[np.bool_], shape: Sequence[int]) -> tuple[slice, ...]:
    box = []
    for axis, n in enumerate(shape):
        there = np.flatnonzero(mask.any(tuple(k for k in range(mask.ndim) if k != axis)))
        box.append(slice(max(0, int(there[0]) - MARGIN), min(n, int(there[-1]) + 1 + MARGIN)))
    return tuple(box)
