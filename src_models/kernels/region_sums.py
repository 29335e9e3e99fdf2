"""Means and variances of every kernel's response over regions of an image, without computing a single response.

The response of a kernel K at a voxel is the product of K with the patch of the input around it. So its mean over a
region is K with the mean patch, and its mean square is K with the mean product of patch entries: one mean and one small
matrix per input channel and region serve all kernels of the layer, exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from src_models.kernels.result import Layer

Floats = NDArray[np.float64]
_ENTRIES = 2**24
"""Numbers of patches that are held at a time."""


class RegionSums:
    """Of one layer: sums over the voxels of each region.

    Parameters
    ----------
    layer : Layer
        As collected.
    regions : int
        How many.
    parts : int
        The first so many of them do not overlap, and together are the image; the others are anything.

    Attributes
    ----------
    count : ndarray of shape (regions,)
        Voxels of the layer's output.
    """

    def __init__(self, layer: Layer, regions: int, parts: int) -> None:
        self.layer, self.parts = layer, parts
        entries = int(np.prod(layer.stored_size))
        self.count = np.zeros(regions)
        self._first = np.zeros((regions, layer.in_channels, entries))
        self._second = np.zeros((regions, layer.in_channels, entries, entries))

    def add(self, module: Any, source: Tensor, masks: NDArray[np.bool_]) -> None:
        """Add what a layer reads.

        Parameters
        ----------
        module : Conv2d, Conv3d, ConvTranspose2d or ConvTranspose3d
            The layer in its network.
        source : Tensor of shape (1, C, *spatial)
            Its input.
        masks : ndarray of bool, shape (regions, *output)
            Regions on the grid of its output.
        """
        wide, steps = _widened(module, source[0].detach().double(), masks.shape[1:])
        places = [np.flatnonzero(mask) for mask in masks]
        per = max(1, _ENTRIES // max(1, int(np.prod(masks.shape[1:])) * self._first.shape[2]))
        for start in range(0, len(wide), per):
            channels = slice(start, start + per)
            patches = _patches(wide[channels], module, steps, masks.shape[1:])
            for region, where in enumerate(places):
                part = patches[..., torch.from_numpy(where).to(patches.device)]
                self._first[region, channels] += part.sum(-1).cpu().numpy()
                self._second[region, channels] += (part @ part.transpose(1, 2)).cpu().numpy()
        self.count += [len(where) for where in places]

    def responses(self, kernels: NDArray[Any]) -> tuple[Floats, Floats]:
        """Mean of the response in each region, and its effect size against the rest of the image.

        Parameters
        ----------
        kernels : ndarray of shape (rows, *size)
            One for each row of the layer.

        Returns
        -------
        tuple of ndarray of shape (rows, regions)
            Means; and Cohen's d: mean inside minus mean outside over the pooled standard deviation. NaN where a region
            or its rest is empty, or the response is constant.
        """
        first, second = self._products(_stored(kernels, self.layer))
        count = self.count[:, None]
        all_count, all_first, all_second = (part[: self.parts].sum(0) for part in (count, first, second))
        with np.errstate(divide="ignore", invalid="ignore"):
            mean, other = first / count, (all_first - first) / (all_count - count)
            # sums of squares about both means: what is left of all of it
            within = all_second - first * mean - (all_first - first) * other
            spread = np.sqrt(np.maximum(within, 0) / all_count)
            constant = spread <= 1e-6 * np.sqrt(all_second / all_count)
            effect = np.where(constant, np.nan, (mean - other) / spread)
        return mean.T, np.where(np.isfinite(effect), effect, np.nan).T

    def _products(self, rows: Floats) -> tuple[Floats, Floats]:
        """Sums of the response and of its square, (regions, rows)."""
        groups, per_group = self.layer.groups, self.layer.in_channels // self.layer.groups
        outs = self.layer.out_channels // groups
        entries = rows.shape[1]
        # one block an input channel: all kernels on it
        by_input = rows.reshape(groups, outs, per_group, entries).swapaxes(1, 2).reshape(-1, outs, entries)
        first, second = np.empty((2, len(self.count), len(rows)))
        for region in range(len(self.count)):
            sums = by_input @ self._first[region][:, :, None]
            squares = ((by_input @ self._second[region]) * by_input).sum(-1)
            for kept, values in ((first, sums[..., 0]), (second, squares)):
                kept[region] = values.reshape(groups, per_group, outs).swapaxes(1, 2).reshape(-1)
        return first, second


def _stored(kernels: NDArray[Any], layer: Layer) -> Floats:
    """Kernels without the zeros that they were filled up with, in rows."""
    inside = tuple(slice((n - k) // 2, (n - k) // 2 + k) for n, k in zip(layer.size, layer.stored_size, strict=True))
    wide = np.asarray(kernels, np.float64).reshape(-1, *layer.size)
    return wide[(slice(None), *inside)].reshape(len(wide), -1)


def _widened(module: Any, x: Tensor, size: Sequence[int]) -> tuple[Tensor, tuple[int, ...]]:
    """The input with its border, so that a kernel read as a convolution runs over it; and its steps."""
    ndim = x.ndim - 1
    if module.transposed:
        # zeros between the voxels, and the border that a flipped kernel needs
        strides = module.stride
        made = x.new_zeros(len(x), *((n - 1) * s + 1 for n, s in zip(x.shape[1:], strides, strict=True)))
        made[(slice(None), *(slice(None, None, s) for s in strides))] = x
        before = [d * (k - 1) - p for d, k, p in zip(module.dilation, module.kernel_size, module.padding, strict=True)]
        reach = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
        after = [n + r - b - m for n, r, b, m in zip(size, reach, before, made.shape[1:], strict=True)]
        widths = [n for pair in zip(reversed(before), reversed(after), strict=True) for n in pair]
        return functional.pad(made, widths), (1,) * ndim
    widths = list(module._reversed_padding_repeated_twice)
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    return functional.pad(x[None], widths, mode=mode)[0] if any(widths) else x, tuple(module.stride)


def _patches(wide: Tensor, module: Any, steps: Sequence[int], size: Sequence[int]) -> Tensor:
    """(channels, entries of a kernel, voxels of the output)."""
    views = []
    for offset in product(*(range(k) for k in module.kernel_size)):
        where = tuple(
            slice(o * d, o * d + (n - 1) * s + 1, s)
            for o, d, n, s in zip(offset, module.dilation, size, steps, strict=True)
        )
        views.append(wide[(slice(None), *where)].flatten(1))
    return torch.stack(views, 1)
