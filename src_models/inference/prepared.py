"""An image as the networks see it, and the way back: crop, normalise, resample, pad, turn the swept axis to the front.

Inside this room every image has three spatial axes; a picture has one plane. The axes are those of the network, and
then that one is brought to the front along which the ring of logits is smallest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from src_models.inference.export import AxisMap
from src_models.preprocessing.normalisation import normalise
from src_models.preprocessing.parameters import Preprocessing
from src_models.weights.card import ModelCard


@dataclass(frozen=True, eq=False)
class Layout:
    """How the grid of the networks lies in the image. All axes are in swept order unless said otherwise.

    Attributes
    ----------
    shape : tuple of int
        Of the image, (z, y, x), in array order.
    order : tuple of int
        Swept axis k is array axis ``order[k]``.
    network_order : tuple of int
        Axis k of the network's input is swept axis ``network_order[k]``.
    box : tuple of slice
        What is not cropped away, in array order.
    maps : tuple of AxisMap
        From the grid of the networks to the cropped image.
    before : tuple of int
        Planes of padding in front of each axis.
    padded : tuple of int
        Size that windows are laid on.
    patch : tuple of int
        Window.
    """

    shape: tuple[int, ...]
    order: tuple[int, ...]
    network_order: tuple[int, ...]
    box: tuple[slice, ...]
    maps: tuple[AxisMap, ...]
    before: tuple[int, ...]
    padded: tuple[int, ...]
    patch: tuple[int, ...]

    @property
    def coarse(self) -> tuple[int, ...]:
        """Size of the grid of the networks, without padding."""
        return tuple(one.coarse for one in self.maps)

    def view(self, array: NDArray[np.generic]) -> NDArray[np.generic]:
        """The cropped part of an array of the image (leading axes stay in front), in swept order; writes go through."""
        lead = array.ndim - 3
        part = array[(slice(None),) * lead + self.box]
        return part.transpose(*range(lead), *(lead + axis for axis in self.order))


def lay_out(
    shape: Sequence[int],
    box: Sequence[slice],
    spacing: Sequence[float],
    card: ModelCard,
    window: Sequence[int] | None = None,
) -> Layout:
    """Where everything lies, from sizes alone.

    Parameters
    ----------
    shape : sequence of int
        (z, y, x) of the image.
    box : sequence of slice
        What the crop leaves.
    spacing : sequence of float
        mm per axis, in array order.
    card : ModelCard
        Target spacing, axis order and window.
    window : sequence of int, optional
        In place of the card's, per axis of the network's input.
    """
    pre = card.preprocessing
    axes = network_axes(pre)
    sizes = [part.stop - part.start for part in box]
    target = target_spacing(pre, spacing, card.ndim)
    coarse = [max(1, int(np.round(h / t * n))) for h, t, n in zip(spacing, target, sizes, strict=True)]
    nearest = nearest_axis(target, spacing)
    size = tuple(window or card.patch)
    if len(size) == 1:
        size *= card.ndim
    patch = {axis: p for axis, p in zip(axes[3 - card.ndim :], size, strict=True)}
    padded = [max(n, patch.get(axis, 1)) for axis, n in enumerate(coarse)]
    if card.ndim == 2:
        sweep = axes[0]
    else:
        sweep = min(axes, key=lambda axis: patch[axis] * np.prod(padded) / padded[axis])
    order = (sweep, *(axis for axis in axes if axis != sweep))
    return Layout(
        shape=tuple(shape),
        order=order,
        network_order=tuple(order.index(axis) for axis in axes),
        box=tuple(box),
        maps=tuple(AxisMap.between(coarse[a], sizes[a], nearest=a == nearest) for a in order),
        before=tuple((padded[a] - coarse[a]) // 2 for a in order),
        padded=tuple(padded[a] for a in order),
        patch=tuple(patch.get(a, 1) for a in order),
    )


def network_axes(pre: Preprocessing) -> tuple[int, int, int]:
    """Axis k of the network's input is array axis ``network_axes[k]``; a picture's own order is behind its one plane."""
    given = pre.axis_order or (0, 1, 2)
    if len(given) == 2:
        given = (0, *(axis + 1 for axis in given))
    return given[0], given[1], given[2]


def target_spacing(pre: Preprocessing, spacing: Sequence[float], ndim: int) -> tuple[float, ...]:
    """Voxel size of the grid of the networks, in array order; slices keep their distance where the plan says so."""
    if pre.spacing is None:
        return tuple(spacing)
    target = [float(h) for h in pre.spacing]
    if len(target) == 2:
        target = [float(spacing[0]), *target]
    if ndim == 2 and (pre.keep_slice_distance or len(pre.spacing) == 2):
        through = network_axes(pre)[0]
        target[through] = float(spacing[through])
    return tuple(target)


def nearest_axis(current: Sequence[float], new: Sequence[float]) -> int | None:
    """The axis along which slices are so far apart that values are not mixed across them; None where there is none."""
    for spacing in (current, new):
        if max(spacing) / min(spacing) > 3:
            coarsest = [axis for axis, h in enumerate(spacing) if h == max(spacing)]
            return coarsest[0] if len(coarsest) == 1 else None
    return None


def crop_box(image: NDArray[np.generic], wanted: bool) -> tuple[slice, ...]:
    """The smallest box that holds everything but zeros of a (C, z, y, x) image; all of it where all is zero."""
    whole = tuple(slice(0, n) for n in image.shape[1:])
    if not wanted:
        return whole
    box = []
    for axis in range(1, image.ndim):
        others = tuple(k for k in range(image.ndim) if k != axis)
        there = np.flatnonzero((image != 0).any(others))
        if there.size == 0:
            return whole
        box.append(slice(int(there[0]), int(there[-1]) + 1))
    return tuple(box)


def prepare(image: NDArray[np.generic], layout: Layout, pre: Preprocessing) -> Tensor:
    """The input of the networks: (C, *padded), float32, axes in swept order, padding 0.

    Parameters
    ----------
    image : ndarray of shape (C, z, y, x)
        As in the file.
    layout : Layout
        Where it lies.
    pre : Preprocessing
        Of the card.
    """
    part = image[(slice(None), *layout.box)]
    mask = None
    if pre.use_mask_for_norm:
        from scipy.ndimage import binary_fill_holes

        mask = np.asarray(binary_fill_holes((part != 0).any(0)))
    normal = normalise(part, pre.channels, mask)
    normal = normal.transpose(0, *(axis + 1 for axis in layout.order))
    data = torch.zeros((len(normal), *layout.padded))
    inner = tuple(slice(b, b + n) for b, n in zip(layout.before, layout.coarse, strict=True))
    for channel, values in enumerate(normal):
        data[(channel, *inner)] = torch.from_numpy(np.ascontiguousarray(_resampled(values, layout, pre.order_image)))
    return data


def _resampled(values: NDArray[np.float32], layout: Layout, order: int) -> NDArray[np.float32]:
    from scipy.ndimage import zoom

    if values.shape == layout.coarse:
        return values
    factors = [m / n for m, n in zip(layout.coarse, values.shape, strict=True)]
    result = zoom(values, factors, order=order, mode="nearest", grid_mode=True)
    return np.asarray(np.clip(result, values.min(), values.max()))
