"""Resampling as nnU-Net does it, by one small matrix per axis: order 3 for images, 1 per label, 1 for logits.

Interpolation on a rectangular grid is separable: the prefilter of the spline, the half-pixel centres and the edges that
are repeated all go into one matrix per axis, which is made once. The result is scikit-image's ``resize(mode="edge",
anti_aliasing=False)`` to rounding, on any device. Where voxels are much longer along one axis, slices are resampled in
their plane and taken as they are along that axis (`separate_axis`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from src_models.preprocessing.cropping import bounding_box

ANISOTROPY = 3.0
"""Voxels longer than this many times their shortest side are not interpolated along their longest side."""

_TIE = 1e-9
# Shares closer than this are equal, whatever the last bits of a sum are.
Numbers: TypeAlias = Sequence[float] | NDArray[np.float64]
AnyArray = TypeVar("AnyArray", bound=Any)
"""A numpy array or a torch tensor."""


def new_shape(shape: Numbers, spacing: Numbers, target: Numbers) -> tuple[int, ...]:
    """The number of voxels per axis at another spacing: round(spacing / target x size), at least 1."""
    return tuple(max(1, round(h / t * n)) for n, h, t in zip(shape, spacing, target, strict=True))


def separate_axis(current: Sequence[float], target: Sequence[float]) -> int | None:
    """The axis along which slices are not interpolated; None where the axes are alike.

    Parameters
    ----------
    current, target : sequence of float
        Spacing of the array, and the one it is brought to.

    Returns
    -------
    int or None
        The coarsest axis of the current spacing where its largest exceeds its smallest more than 3 times, else that of
        the target; None also where two axes tie as the coarsest, and for a picture, which has no slices.
    """
    if len(current) < 3:
        return None
    for spacing in (current, target):
        coarsest = max(spacing)
        if coarsest / min(spacing) > ANISOTROPY:
            axes = [axis for axis, h in enumerate(spacing) if h == coarsest]
            return axes[0] if len(axes) == 1 else None
    return None


def resample(array: AnyArray, shape: Sequence[int], *, order: int, axis: int | None = None) -> AnyArray:
    """Resample the last axes of an array to another shape.

    Parameters
    ----------
    array : ndarray or Tensor of shape (..., *spatial), float
        Leading axes, such as channels, are treated one by one. float64 and float32 stay what they are.
    shape : sequence of int
        The new spatial shape.
    order : int
        Of the spline: 0 nearest, 1 linear, 3 cubic.
    axis : int, optional
        Spatial axis along which slices are taken as they are: order 0 there, and each slice by itself in its plane.

    Returns
    -------
    ndarray or Tensor
        Within the range of the input (of each slice, with `axis`): splines of higher order would overshoot.

    Notes
    -----
    Centres of voxels lie at half-integers, the edge is repeated, nothing is smoothed before sizes shrink.
    """
    lead = array.ndim - len(shape)
    sizes = tuple(array.shape[lead:])
    if sizes == tuple(shape):
        return array
    plane = [k for k in range(len(shape)) if k != axis and sizes[k] != shape[k]]
    if plane:
        inner = tuple(lead + k for k in range(len(shape)) if k != axis)
        low, high = _range(array, inner) if order > 1 else (None, None)
        # The axis that shrinks most comes first: less is left to do for the others.
        for k in sorted(plane, key=lambda k: shape[k] / sizes[k]):
            array = along_axis(array, lead + k, shape[k], order)
        if low is not None:
            array = array.clip(low, high)
    if axis is not None and sizes[axis] != shape[axis]:
        array = along_axis(array, lead + axis, shape[axis], 0)
    return array


def resample_labels(
    labels: NDArray[Any], shape: Sequence[int], *, order: int = 1, axis: int | None = None
) -> NDArray[Any]:
    """Resample a label image: each label by itself, and the one with the largest share of a voxel gets it.

    Parameters
    ----------
    labels : ndarray of shape (z, y, x) or (y, x), integer
        Any values, negative ones too.
    shape : sequence of int
        The new shape.
    order : int
        Of the spline; 0 takes the nearest voxel.
    axis : int, optional
        As in `resample`.

    Returns
    -------
    ndarray
        Of the same type. Between labels of equal share the one of the nearest voxel stands, or the smallest where that
        is none of them: ties are common, since a doubled image has them along every border.
    """
    if labels.shape == tuple(shape):
        return labels
    near = resample(labels, shape, order=0, axis=axis)
    values, counts = np.unique(labels, return_counts=True)
    if order == 0 or len(values) == 1:
        return near
    # The most frequent label, mostly the background, is never resampled: it has what the others leave.
    most = values[counts.argmax()]
    best, rest = np.zeros(tuple(shape)), np.zeros(tuple(shape))
    result = np.full(tuple(shape), most, labels.dtype)
    near_leads = np.zeros(tuple(shape), bool)
    for value in values[values != most]:
        mask = labels == value
        if order == 1:
            share, window = _linear_share(mask, shape, axis)
        else:
            share, window = resample(mask.astype(np.float64), shape, order=order, axis=axis), (slice(None),) * mask.ndim
        _contest(result[window], best[window], near_leads[window], share, value, near[window])
        rest[window] += share
    if order == 1:
        share = np.subtract(1.0, rest, out=rest)
    else:
        share = resample((labels == most).astype(np.float64), shape, order=order, axis=axis)
    _contest(result, best, near_leads, share, most, near)
    return np.where(near_leads, near, result)


def _contest(
    result: NDArray[Any],
    best: NDArray[np.float64],
    near_leads: NDArray[np.bool_],
    share: NDArray[np.float64],
    value: Any,
    near: NDArray[Any],
) -> None:
    """Let a label take, in place, the voxels where its share is the largest so far."""
    larger, level = share > best + _TIE, share >= best - _TIE
    level &= share > _TIE
    near_leads &= ~larger
    near_leads |= level & (near == value)
    result[larger | (level & (result > value))] = value
    np.maximum(best, share, out=best)


def _linear_share(
    mask: NDArray[np.bool_], shape: Sequence[int], axis: int | None
) -> tuple[NDArray[np.float64], tuple[slice, ...]]:
    """A mask resampled linearly, and the window it is not zero in: most labels fill a small part of an image."""
    box = bounding_box(mask)
    share = mask[box].astype(np.float64)
    window = []
    for k, (part, count, size) in enumerate(zip(box, mask.shape, shape, strict=True)):
        if count == size:
            window.append(part)
            continue
        if k == axis:
            lower = upper = nearest(count, size)
            weight = np.zeros(size)
        else:
            lower, weight = linear(count, size)
            upper = np.minimum(lower + 1, count - 1)
        reached = np.flatnonzero((upper >= part.start) & (lower < part.stop))
        window.append(slice(int(reached[0]), int(reached[-1]) + 1) if reached.size else slice(0, 0))
        # One voxel of zeros on either side stands for all that lies outside the box.
        padded = np.pad(share, [(1, 1) if other == k else (0, 0) for other in range(mask.ndim)])
        first, second = (
            np.take(padded, np.clip(index[window[-1]] - part.start + 1, 0, padded.shape[k] - 1), axis=k)
            for index in (lower, upper)
        )
        weight = weight[window[-1]].reshape([-1 if other == k else 1 for other in range(mask.ndim)])
        share = first * (1 - weight) + second * weight
    return share, tuple(window)


def along_axis(array: AnyArray, axis: int, size: int, order: int) -> AnyArray:
    """Resample one axis of an array or tensor; without the clip to its range."""
    count = int(array.shape[axis])
    moved: AnyArray
    if order == 0:
        moved = _take(array, nearest(count, size), axis)
        return moved
    if order == 1:
        lower, weight = linear(count, size)
        upper = np.minimum(lower + 1, count - 1)
        ends = tuple(size if k == axis else 1 for k in range(array.ndim))
        share = _like(weight.reshape(ends), array)
        moved = _take(array, lower, axis) * (1 - share) + _take(array, upper, axis) * share
        return moved
    matrix = _like(spline(count, size, order), array)
    before, after = int(np.prod(array.shape[:axis])), int(np.prod(array.shape[axis + 1 :]))
    # One product of matrices where the axis is the last: a batch of tiny ones would be slow.
    moved = array.reshape(before, count) @ matrix.T if after == 1 else matrix @ array.reshape(before, count, after)
    moved = moved.reshape((*array.shape[:axis], size, *array.shape[axis + 1 :]))
    return moved


def centres(count: int, size: int) -> NDArray[np.float64]:
    """Where the centres of `size` voxels lie among `count` voxels that fill the same length."""
    places: NDArray[np.float64] = (count / size) * (np.arange(size, dtype=np.float64) + 0.5) - 0.5
    return places


@lru_cache(maxsize=256)
def nearest(count: int, size: int) -> NDArray[np.intp]:
    """Index of the nearest of `count` voxels for each of `size` voxels."""
    return np.clip(np.floor(centres(count, size) + 0.5).astype(np.intp), 0, count - 1)


@lru_cache(maxsize=256)
def linear(count: int, size: int) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """The lower of two neighbours, and the share of the upper one, for each of `size` voxels."""
    place = np.clip(centres(count, size), 0, count - 1)
    lower = np.minimum(np.floor(place).astype(np.intp), max(count - 2, 0))
    return lower, place - lower


@lru_cache(maxsize=64)
def spline(count: int, size: int, order: int) -> NDArray[np.float64]:
    """The matrix of shape (size, count) that resamples one axis by a spline, its prefilter included.

    Made by resampling every unit vector, so that edges are treated as SciPy treats them.
    """
    from scipy.ndimage import zoom

    factors = np.array([size / count, 1.0])
    result: NDArray[np.float64] = zoom(np.eye(count), factors, order=order, mode="nearest", grid_mode=True)  # type: ignore[call-overload]
    # Along the second axis nothing is resampled; what rounding leaves there is far below the rest.
    result[np.abs(result) < 1e-15] = 0
    return result


def _range(array: Any, axes: tuple[int, ...]) -> tuple[Any, Any]:
    if _is_tensor(array):
        return array.amin(axes, keepdim=True), array.amax(axes, keepdim=True)
    return array.min(axis=axes, keepdims=True), array.max(axis=axes, keepdims=True)


def _take(array: Any, index: NDArray[np.intp], axis: int) -> Any:
    if _is_tensor(array):
        import torch

        return array.index_select(axis, torch.from_numpy(index).to(array.device))
    return np.take(array, index, axis=axis)


def _like(numbers: NDArray[np.float64], array: Any) -> Any:
    if _is_tensor(array):
        import torch

        return torch.from_numpy(numbers).to(device=array.device, dtype=array.dtype)
    return numbers.astype(array.dtype, copy=False)


def _is_tensor(array: Any) -> bool:
    return type(array).__module__.partition(".")[0] == "torch"
