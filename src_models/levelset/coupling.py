"""Several level sets that never overlap: what one does to another between the two halves of a step. The definition.

With u_k the moved level set of a label and m the largest one of the other moving labels at the same voxel,

    u_k <- (u_k - m) / 2   where u_k + m > 0,   then   u_k <- -f   where u_k + f > 0,

f being the largest of the labels at rest, which give no way. It acts on the band of each label (|u_k| < w before the
move). Two fronts that meet share the ground between them; a label whose neighbours are farther than its band is not
touched, as then m = -w. If at most one label is positive at a voxel before, at most one is after: in floating point
too, as a sum and a difference of two numbers always have the right sign. Redistancing changes no sign after it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray


def coupled(
    moved: Mapping[int, NDArray[Any]], moving: Collection[int], bands: Mapping[int, NDArray[np.bool_]]
) -> dict[int, NDArray[Any]]:
    """The coupling on whole arrays.

    Parameters
    ----------
    moved : mapping of int to ndarray
        u of every label, those that move after the move; all of one shape and type.
    moving : collection of int
        The labels that move; the others keep their u.
    bands : mapping of int to ndarray of bool
        Of every moving label: where |u| < w before the move.

    Returns
    -------
    dict of int to ndarray
        u of every label, before redistancing.
    """
    result = dict(moved)
    for number in moving:
        u = moved[number]
        nothing = np.full_like(u, -np.inf)
        others = _largest([moved[k] for k in moved if k in moving and k != number], nothing)
        resting = _largest([moved[k] for k in moved if k not in moving], nothing)
        shared = np.where(u + others > 0, (u - others) / 2, u)
        kept = np.where(shared + resting > 0, -resting, shared)
        result[number] = np.where(bands[number], kept, u)
    return result


def _largest(arrays: list[NDArray[Any]], nothing: NDArray[Any]) -> NDArray[Any]:
    for array in arrays:
        nothing = np.maximum(nothing, array)
    return nothing


def label_array(
    level_sets: Mapping[int, tuple[tuple[slice, ...], NDArray[Any]]], box: tuple[slice, ...]
) -> NDArray[Any]:
    """The label of every voxel of a region: where its u > 0, else 0.

    A front that lies exactly on a voxel leaves it outside. Where two fronts do so from both sides, the voxel is half of
    each; it gets the lower number, so that a contact has no gap.

    Parameters
    ----------
    level_sets : mapping of int to (box, ndarray)
        Where in the whole array the level set of each label lies, and its values there; outside it is negative.
    box : tuple of slice
        The region.
    """
    shape = tuple(part.stop - part.start for part in box)
    labels = np.zeros(shape, np.min_scalar_type(max(level_sets, default=1)))
    halves: list[tuple[int, NDArray[Any]]] = []
    for number in sorted(level_sets):
        place, u = level_sets[number]
        common = overlap(place, box)
        if common is None:
            continue
        here = u[moved_box(common, place)]
        target = labels[moved_box(common, box)]
        target[here > 0] = number
        at_zero = np.argwhere(here == 0)
        if at_zero.size:
            corner = [part.start - origin.start for part, origin in zip(common, box, strict=True)]
            halves.append((number, np.ravel_multi_index(tuple((at_zero + corner).T), shape)))
    if len(halves) > 1:
        places, counts = np.unique(np.concatenate([found for _, found in halves]), return_counts=True)
        ties = places[(counts > 1) & (labels.reshape(-1)[places] == 0)]
        for number, found in reversed(halves):
            labels.reshape(-1)[np.intersect1d(ties, found)] = number
    return labels


def overlap(a: tuple[slice, ...], b: tuple[slice, ...]) -> tuple[slice, ...] | None:
    """The part common to two boxes; None where there is none."""
    common = tuple(slice(max(p.start, q.start), min(p.stop, q.stop)) for p, q in zip(a, b, strict=True))
    return common if all(part.start < part.stop for part in common) else None


def moved_box(box: tuple[slice, ...], origin: tuple[slice, ...]) -> tuple[slice, ...]:
    """A box counted from the first voxel of another one."""
    return tuple(slice(p.start - q.start, p.stop - q.start) for p, q in zip(box, origin, strict=True))
