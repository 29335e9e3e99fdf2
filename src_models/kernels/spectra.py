"""Singular values of a kernel as an operator on images.

With periodic boundaries the matrix of a kernel is diagonal under the Fourier transform, and its singular values are
|K^(theta)|, ``K^(theta) = sum_o K[o] exp(i o . theta)`` at theta_d = 2 pi j_d / n_d. With zeros beyond the border there
is no such form: the dense matrix is built and decomposed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import product
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from src_models.errors import InputError

Boundary = Literal["periodic", "zero"]
DENSE_LIMIT = {2: 32, 3: 8}
"""Largest grid of the dense matrix without saying so: beyond it a decomposition takes minutes."""
LARGEST_MATRIX = 10**9


@dataclass(frozen=True, eq=False)
class Frequencies:
    """Half of the frequencies of a grid: the others have the same values, since kernels are real.

    Attributes
    ----------
    cosines : ndarray of shape (half + 1, F)
        Row 0 belongs to the centre; row k to the sum of the k-th pair of opposite entries.
    sines : ndarray of shape (half, F)
        To their difference.
    singles : int
        How many of the F, at their end, are their own mirror image and count once; the others count twice.
    """

    cosines: NDArray[np.float64]
    sines: NDArray[np.float64]
    singles: int

    @property
    def count(self) -> int:
        """Of all values, with those that count twice."""
        return 2 * int(self.cosines.shape[1]) - self.singles

    @cached_property
    def single_precision(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Both tables as float32."""
        return self.cosines.astype(np.float32), self.sines.astype(np.float32)


def singular_values(
    kernel: NDArray[Any], shape: Sequence[int], boundary: Boundary = "periodic", *, most_bytes: int = LARGEST_MATRIX
) -> NDArray[np.float64]:
    """All singular values of the operator that a kernel is on images of a size.

    Parameters
    ----------
    kernel : ndarray of shape (..., k_1, .., k_d)
        Odd sizes; leading axes are kernels of their own.
    shape : sequence of int
        Of the images, d numbers, each at least the kernel's.
    boundary : {"periodic", "zero"}
        What lies beyond the border. ``"zero"`` decomposes a matrix of ``prod(shape)`` squared numbers; on larger grids
        `zero_padding.largest_singular_values` finds the largest without it.
    most_bytes : int
        That the decomposition of one matrix may take; `matrix_bytes` tells beforehand.

    Returns
    -------
    ndarray of shape (..., prod(shape))
        float64, falling.

    Raises
    ------
    InputError
        Where sizes are even or larger than the image, numbers are not finite, or the matrix would need more than that.
    """
    array, grid = np.asarray(kernel, np.float64), tuple(int(n) for n in shape)
    size = array.shape[array.ndim - len(grid) :]
    check_kernel(array, size, grid)
    flat = array.reshape(-1, math.prod(size))
    if boundary == "periodic":
        values = _periodic(flat, size, grid)
    elif boundary == "zero":
        values = np.stack([_dense(one.reshape(size), grid, most_bytes) for one in flat])
    else:
        raise InputError("kernels-boundary", f"There is no boundary named {boundary}", "", "Choose periodic or zero.")
    return values.reshape(*array.shape[: array.ndim - len(grid)], math.prod(grid))


def check_kernel(array: NDArray[np.float64], size: tuple[int, ...], grid: tuple[int, ...]) -> None:
    """Refuse kernels that are no operator on images of a size.

    Raises
    ------
    InputError
        Even sizes, sizes above the image's, numbers that are not finite.
    """
    if array.ndim < len(grid) or len(size) != len(grid) or not grid:
        why = f"the kernel has {array.ndim} axes, the image {len(grid)}"
        raise InputError("kernels-axes", "The kernel does not fit the image", why, "Give one size per axis.")
    if any(k % 2 == 0 for k in size) or any(k > n for k, n in zip(size, grid, strict=True)):
        why = f"its size is {size}, the grid {grid}"
        raise InputError("kernels-size", "This kernel has no spectrum here", why, "Take odd kernels and a larger grid.")
    if not np.isfinite(array).all():
        raise InputError("kernels-finite", "The kernel holds values that are not finite", "", "Check the weights.")


@cache
def frequencies(size: tuple[int, ...], grid: tuple[int, ...]) -> Frequencies:
    """The tables with which `symbol` becomes two small products of matrices."""
    offsets = np.array(list(product(*(range(-(k // 2), k // 2 + 1) for k in size))))
    half = len(offsets) // 2
    j = np.array(list(product(*(range(n) for n in grid))))
    mirrored = -j % np.array(grid)
    place = np.ravel_multi_index(tuple(j.T), grid)
    mirror = np.ravel_multi_index(tuple(mirrored.T), grid)
    chosen = np.concatenate([np.flatnonzero(place < mirror), np.flatnonzero(place == mirror)])
    # whole numbers are reduced before they become angles: the tables are exact to the last bit for large grids too
    whole = math.lcm(*grid)
    steps = np.array([whole // n for n in grid])
    turns = (offsets[half + 1 :] * steps) @ j[chosen].T % whole
    angle = 2 * np.pi * turns / whole
    cosines = np.concatenate([np.ones((1, len(chosen))), np.cos(angle)])
    return Frequencies(cosines, np.sin(angle), int(np.count_nonzero(place == mirror)))


def even_and_odd(flat: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Centre and sums, and differences, of opposite entries of kernels in rows, (N, half + 1) and (N, half)."""
    half = flat.shape[1] // 2
    after, before = flat[:, half + 1 :], flat[:, half - 1 :: -1] if half else flat[:, :0]
    return np.concatenate([flat[:, half : half + 1], after + before], axis=1), after - before


def _periodic(flat: NDArray[np.float64], size: tuple[int, ...], grid: tuple[int, ...]) -> NDArray[np.float64]:
    table = frequencies(size, grid)
    even, odd = even_and_odd(flat)
    found = np.empty((len(flat), table.count))
    for start in range(0, len(flat), 64):
        rows = slice(start, start + 64)
        values = np.hypot(even[rows] @ table.cosines, odd[rows] @ table.sines)
        twice = values[:, : values.shape[1] - table.singles]
        found[rows] = np.concatenate([values, twice], axis=1)
    found.sort(axis=1)
    return found[:, ::-1]


def symbol(kernel: NDArray[Any], grid: Sequence[int]) -> NDArray[np.complex128]:
    """K^(theta) on all frequencies of a grid, in the order of ``numpy.fft``; leading axes are kernels of their own.

    It is the eigenvalue of the periodic operator for the image exp(i theta x).
    """
    array = np.asarray(kernel, np.float64)
    lead, size = array.shape[: array.ndim - len(grid)], array.shape[array.ndim - len(grid) :]
    wide = np.zeros((*lead, *grid))
    corner: tuple[Any, ...] = (..., *(slice(0, k) for k in size))
    wide[corner] = array
    rolled = np.roll(wide, [-(k // 2) for k in size], axis=tuple(range(-len(grid), 0)))
    # numpy's transform has the other sign in its exponent
    return np.conj(np.fft.fftn(rolled, axes=tuple(range(-len(grid), 0))))


def dense_matrix(kernel: NDArray[Any], shape: Sequence[int], boundary: Boundary = "zero") -> NDArray[np.float64]:
    """The matrix of a kernel on images of a size, in C order: the definition that the fast ways are compared with."""
    array, grid = np.asarray(kernel, np.float64), tuple(shape)
    count = math.prod(grid)
    places = np.array(list(product(*(range(n) for n in grid))))
    matrix = np.zeros((count, count))
    for entry in product(*(range(k) for k in array.shape)):
        target = places + np.array(entry) - np.array(array.shape) // 2
        inside = np.all((target >= 0) & (target < np.array(grid)), axis=1)
        if boundary == "periodic":
            target, inside = target % np.array(grid), np.ones(count, bool)
        columns = np.ravel_multi_index(tuple(target[inside].T), grid)
        np.add.at(matrix, (np.flatnonzero(inside), columns), array[entry])
    return matrix


def matrix_bytes(shape: Sequence[int], outputs: int = 1, inputs: int = 1) -> int:
    """Memory that a dense decomposition takes: matrix, copy and workspace, 8 bytes a number."""
    return 3 * 8 * outputs * inputs * math.prod(shape) ** 2


def _dense(kernel: NDArray[np.float64], grid: tuple[int, ...], most_bytes: int) -> NDArray[np.float64]:
    need = matrix_bytes(grid)
    if need > most_bytes:
        raise InputError(
            "kernels-matrix",
            f"The matrix of a grid of {grid} is too large",
            f"its decomposition needs {need / 1e9:.1f} GB",
            f"Take at most {DENSE_LIMIT.get(len(grid), 8)} points per axis, the periodic boundary, or the norm alone.",
        )
    return np.asarray(np.linalg.svd(dense_matrix(kernel, grid), compute_uv=False), np.float64)
