"""Memory that torch's convolutions on a processor take for a moment, beside their inputs and results.

Two routes exist. Most convolutions go to oneDNN, which copies input and result into blocks of channels as wide as the
processor's vectors. Small ones of a single sample go through a matrix product on columns: each voxel's neighbourhood
written out. Both were read off the allocator's events (`torch.profiler`); a graphics card's work space is not known
before the run.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

SMALL = 20480
"""A single sample whose batch x channels x first two axes count no more voxels than this goes by columns."""

WIDE = 16
"""Transposed kernels of this width or more go by columns."""


def block() -> int:
    """Channels are rounded up to a multiple of this."""
    return 16 if torch.backends.cpu.get_cpu_capability() == "AVX512" else 8


def convolution_workspace(x: Tensor, weight: Tensor, output: Tensor, stride: Sequence[int], transposed: bool) -> int:
    """Most bytes at once beside x and the weights, in a forward convolution; the output is part of them.

    Parameters
    ----------
    x, weight, output : Tensor
        Of the convolution; meta tensors do.
    stride : sequence of int
        Per axis.
    transposed : bool
        Whether it is a transposed convolution.
    """
    if _by_columns(x, weight, stride, transposed):
        return output.nbytes + _columns(weight, x if transposed else output, transposed)
    if transposed:
        return _transposed(x, weight, output, stride)
    inside = _blocked(x) if x.shape[1] >= block() else 0
    return _blocked(output) + max(inside + _blocked_weight(weight), output.nbytes)


def _transposed(x: Tensor, weight: Tensor, output: Tensor, stride: Sequence[int]) -> int:
    if max(weight.shape[2:]) >= WIDE:
        # by columns again, of one sample and one slice at a time
        return 2 * output.nbytes + _columns(weight, x, transposed=True) // (x.shape[2] if x.ndim == 5 else 1)
    if all(step == 1 for step in stride):
        return _blocked(x) + 2 * _blocked(output) + _blocked_weight(weight)
    # the result leaves its blocks, and is then copied once more to lie in order
    return max(x.nbytes + weight.nbytes + output.nbytes, 3 * output.nbytes)


def gradient_workspace(
    gradient: Tensor, x: Tensor, weight: Tensor, stride: Sequence[int], transposed: bool, wanted: bool
) -> int:
    """The same for the backward pass: the result's gradient is given, `wanted` says whether the input's is."""
    if _by_columns(x, weight, stride, transposed):
        return _columns(weight, x if transposed else gradient, transposed) + (x.nbytes if wanted else 0)
    if transposed and any(step > 1 for step in stride):
        return max(gradient.nbytes + 2 * x.nbytes, x.nbytes + 2 * weight.nbytes)
    copies = _blocked(gradient) + (_blocked(x) if wanted else 0) + _blocked_weight(weight)
    # then the gradient of the weights, first in blocks; the input's is there by now
    return max(copies, (x.nbytes if wanted else 0) + 2 * _blocked_weight(weight))


def _by_columns(x: Tensor, weight: Tensor, stride: Sequence[int], transposed: bool) -> bool:
    kernel = weight.shape[2:]
    grouped = not transposed and x.shape[1] != weight.shape[1]
    if x.dtype is not torch.float32 or grouped:
        return False
    point = all(k == 1 for k in kernel[-2:]) and all(s == 1 for s in stride)
    if point and x.shape[0] < 16 and torch.get_num_threads() == 1:
        return True
    wide = all(k > 3 for k in kernel[-2:])
    return x.shape[0] == 1 and not wide and prod(x.shape[:4]) <= SMALL


def _columns(weight: Tensor, grid: Tensor, transposed: bool) -> int:
    """Each voxel's neighbourhood written out, for one sample; a 1-wide kernel needs none: the input is its own."""
    kernel = prod(weight.shape[2:])
    if kernel == 1 and not transposed:
        return 0
    return grid.element_size() * weight.shape[1] * kernel * prod(grid.shape[2:])


def _blocked(tensor: Tensor) -> int:
    channels = -(-tensor.shape[1] // block()) * block()
    return tensor.element_size() * tensor.shape[0] * channels * prod(tensor.shape[2:])


def _blocked_weight(weight: Tensor) -> int:
    """Input channels are rounded up too where there are enough of them."""
    rows = -(-weight.shape[0] // block()) * block()
    columns = weight.shape[1]
    if columns >= block():
        columns = -(-columns // block()) * block()
    return weight.element_size() * rows * columns * prod(weight.shape[2:])
