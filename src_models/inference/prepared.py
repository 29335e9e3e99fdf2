"""An image as the networks see it, and the way back: the prepared array padded, its swept axis turned to the front.

Inside this room every image has three spatial axes; a picture has one plane. The axes are those of the network, and
then that one is brought to the front along which the ring of logits is smallest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from src_models.inference.export import AxisMap
from src_models.preprocessing.parameters import Preprocessing
from src_models.preprocessing.prepare import Way, axis_order_of, target_spacing
from src_models.preprocessing.resampling import new_shape
from src_models.weights.card import ModelCard


@dataclass(frozen=True, eq=False)
class Layout:
    """How windows lie on the grid of the networks, and that grid in the image. All axes are in swept order.

    Attributes
    ----------
    axes : tuple of int
        Swept axis k is array axis ``axes[k]`` of the image.
    network_order : tuple of int
        Axis k of the network's input is swept axis ``network_order[k]``.
    box : tuple of slice
        What is not cropped away.
    maps : tuple of AxisMap
        From the grid of the networks to the cropped image.
    before : tuple of int
        Planes of padding in front of each axis.
    padded : tuple of int
        Size that windows are laid on.
    patch : tuple of int
        Window.
    """

    axes: tuple[int, ...]
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

    def view(self, array: NDArray[Any]) -> NDArray[Any]:
        """The cropped part of an array (..., z, y, x) of the image in swept order; writes go through."""
        lead = array.ndim - 3
        turned = array.transpose(*range(lead), *(lead + axis for axis in self.axes))
        return turned[(slice(None),) * lead + self.box]

    def padded_input(self, array: NDArray[Any]) -> Tensor:
        """The prepared image, (C, ...) in the network's order, padded with 0 and in swept order."""
        spatial = array.reshape(len(array), *(1,) * (4 - array.ndim), *array.shape[1:])
        from_network = [self.network_order.index(k) for k in range(3)]
        turned = torch.from_numpy(spatial).permute(0, *(axis + 1 for axis in from_network))
        if self.padded == self.coarse:
            return turned
        data = torch.zeros((len(array), *self.padded))
        data[(slice(None), *(slice(b, b + n) for b, n in zip(self.before, self.coarse, strict=True)))] = turned
        return data


def lay_out(
    way: Way, card: ModelCard, window: Sequence[int] | None = None, *, pad: bool = True, along: int | None = None
) -> Layout:
    """Where everything lies, from sizes alone.

    Parameters
    ----------
    way : Way
        How the image was brought to the network.
    card : ModelCard
        Window and preprocessing.
    window : sequence of int, optional
        In place of the card's, per axis of the network's input, or one number for all.
    pad : bool
        Whether an image smaller than the window is padded to it; exact tiles see the image as the whole pass does.
    along : int, optional
        Axis of the network's input to sweep along; by default the one with the smallest ring.
    """
    flat = len(way.shape) == 2
    order = (0, *(axis + 1 for axis in way.axis_order)) if flat else way.axis_order
    box = (slice(0, 1), *way.box) if flat else way.box
    fine = (1, *way.cropped) if flat else way.cropped
    coarse = (1, *way.resampled) if flat else way.resampled
    nearest = way.axis_back if not flat or way.axis_back is None else way.axis_back + 1
    size = tuple(window or card.patch)
    if len(size) == 1:
        size *= card.ndim
    patch = (1,) * (3 - len(size)) + size
    if not pad:
        patch = tuple(min(n, p) for n, p in zip(coarse, patch, strict=True))
    padded = tuple(max(n, p) for n, p in zip(coarse, patch, strict=True))

    def ring(axis: int) -> float:
        return patch[axis] * padded[0] * padded[1] * padded[2] / padded[axis]

    sweep = 0 if card.ndim == 2 else min(range(3), key=ring) if along is None else along
    swept = (sweep, *(axis for axis in range(3) if axis != sweep))
    by_nearest = [axis == nearest or card.preprocessing.order_logits == 0 for axis in range(3)]
    return Layout(
        axes=tuple(order[k] for k in swept),
        network_order=tuple(swept.index(k) for k in range(3)),
        box=tuple(box[k] for k in swept),
        maps=tuple(AxisMap.between(coarse[k], fine[k], nearest=by_nearest[k]) for k in swept),
        before=tuple((padded[k] - coarse[k]) // 2 for k in swept),
        padded=tuple(padded[k] for k in swept),
        patch=tuple(patch[k] for k in swept),
    )


def preprocessing_for(card: ModelCard, spatial: int) -> Preprocessing:
    """The preprocessing of a card for images with so many axes: a picture has the last axes of a volume."""
    pre = card.preprocessing
    if spatial == 3:
        return pre
    axis_order = pre.axis_order if pre.axis_order is not None and len(pre.axis_order) == 2 else None
    spacing = None if pre.spacing is None else pre.spacing[-2:]
    return pre.model_copy(update={"spacing": spacing, "axis_order": axis_order})


def uncropped(shape: Sequence[int], spacing: Sequence[float], preprocessing: Preprocessing) -> Way:
    """How an image of a size is brought to the network when nothing is cropped away: the most that it can take."""
    order = axis_order_of(preprocessing, len(shape))
    turned = tuple(shape[axis] for axis in order)
    own = tuple(float(spacing[axis]) for axis in order)
    target = target_spacing(preprocessing, own, order)
    resampled = turned if preprocessing.spacing is None else new_shape(turned, own, target)
    box = tuple(slice(0, n) for n in turned)
    return Way(tuple(shape), tuple(spacing), order, box, turned, resampled, own, target)
