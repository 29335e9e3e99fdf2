"""A whole layer as one operator: per frequency the matrix of symbols between input and output channels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

from src_models.errors import InputError
from src_models.kernels.result import Layer, OperatorScores
from src_models.kernels.spectra import symbol

GRID = {2: 16, 3: 8}
"""Points per axis: a wide layer takes a decomposition per frequency."""
_POSITIONS = 65


def layer_singular_values(layer: Layer, grid: Sequence[int]) -> NDArray[np.float64]:
    """Singular values of a layer on periodic images, falling.

    Without stride there are prod(grid) x min(out, in) of them. With stride s, s^d aliases of a frequency meet in one
    coarse frequency: ``A = (A_1 .. A_m) / s^(d/2)``. Groups are blocks of their own.

    Parameters
    ----------
    layer : Layer
        2D or 3D.
    grid : sequence of int
        Of the input image, divisible by the stride.

    Raises
    ------
    InputError
        Where it is not.
    """
    n, stride = tuple(grid), layer.stride
    if any(size % step for size, step in zip(n, stride, strict=True)):
        raise InputError(
            "kernels-stride", f"A grid of {n} is not divisible by the stride {stride}", "", "Choose another grid."
        )
    per_group = layer.out_channels // layer.groups
    found = []
    for group in range(layer.groups):
        kernels = layer.kernels[group * per_group : (group + 1) * per_group]
        found.append(_values(np.asarray(kernels, np.float64), n, stride))
    return np.sort(np.concatenate(found))[::-1]


def channel_symbols(kernels: NDArray[np.float64], grid: Sequence[int]) -> NDArray[np.complex128]:
    """Matrices of symbols, (*grid, out, in)."""
    wide = symbol(kernels, grid)
    return np.moveaxis(wide, (0, 1), (-2, -1))


def _values(kernels: NDArray[np.float64], n: tuple[int, ...], stride: tuple[int, ...]) -> NDArray[np.float64]:
    matrices = channel_symbols(kernels, n)
    coarse = tuple(size // step for size, step in zip(n, stride, strict=True))
    aliases = []
    for shift in product(*(range(step) for step in stride)):
        part = tuple(slice(k * c, (k + 1) * c) for k, c in zip(shift, coarse, strict=True))
        aliases.append(matrices[part])
    joined = np.concatenate(aliases, axis=-1) / math.sqrt(math.prod(stride))
    return np.asarray(np.linalg.svd(joined, compute_uv=False).ravel(), np.float64)


def layer_operator(layer: Layer) -> OperatorScores:
    """Norm, condition, effective rank and sorted curve of a layer, on 16 points per axis in 2D and 8 in 3D."""
    grid = tuple(-(-max(GRID[layer.ndim], k) // step) * step for k, step in zip(layer.size, layer.stride, strict=True))
    values = layer_singular_values(layer, grid)
    share = values[values > 0] / max(values.sum(), np.finfo(np.float64).tiny)
    smallest = float(values[-1])
    places = np.linspace(0, len(values) - 1, _POSITIONS).round().astype(int)
    return OperatorScores(
        norm=float(values[0]),
        condition=float(values[0]) / smallest if smallest > 0 else math.inf,
        effective_rank=float(np.exp(-(share * np.log(share)).sum())) if share.size else 0.0,
        values=len(values),
        curve=tuple(values[places].tolist()),
    )
