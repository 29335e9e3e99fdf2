"""The largest singular values of a kernel on images with zeros beyond the border, without a matrix.

Power iteration applies the operator and its transpose again and again; Lanczos keeps what power iteration forgets, and
needs hundreds of steps where it needs hundreds of thousands: near the largest value those of a kernel lie as close as
1/n^2. Small grids are decomposed exactly (`spectra`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_models.errors import InputError
from src_models.kernels.draws import generator
from src_models.kernels.spectra import DENSE_LIMIT, Boundary, check_kernel, singular_values

Floats = NDArray[np.float64]
TOLERANCE = 1e-10
_STEPS = 10_000
_BASIS = 40


def spectral_norm(kernel: NDArray[Any], shape: Sequence[int], boundary: Boundary = "periodic") -> float:
    """The largest factor by which a kernel lengthens an image of a size.

    Parameters
    ----------
    kernel : ndarray of shape (k_1, .., k_d)
        Odd sizes.
    shape : sequence of int
        Of the images.
    boundary : {"periodic", "zero"}
        What lies beyond the border. With zeros, grids above `spectra.DENSE_LIMIT` are not decomposed but iterated on.

    Raises
    ------
    InputError
        As `spectra.singular_values`.
    """
    grid = tuple(int(n) for n in shape)
    if boundary == "zero" and max(grid) > DENSE_LIMIT.get(len(grid), 8):
        return float(largest_singular_values(kernel, grid)[0])
    return float(singular_values(kernel, grid, boundary)[0])


def largest_singular_values(
    kernel: NDArray[Any], shape: Sequence[int], count: int = 1, *, tolerance: float = TOLERANCE
) -> Floats:
    """The largest singular values on images with zeros beyond the border.

    Parameters
    ----------
    kernel : ndarray of shape (k_1, .., k_d)
        Odd sizes.
    shape : sequence of int
        Of the images.
    count : int
        How many, fewer than the voxels of an image.
    tolerance : float
        Of each squared value, relative.

    Returns
    -------
    ndarray of shape (count,)
        Falling.

    Raises
    ------
    InputError
        Where the kernel does not fit, more values are wanted than there are, or the iteration does not settle.

    References
    ----------
    C. Lanczos, An iteration method for the solution of the eigenvalue problem, J. Res. Natl. Bur. Stand. 45, 1950;
    R. Lehoucq, D. Sorensen, C. Yang, ARPACK users' guide, SIAM 1998.
    """
    array, grid = np.asarray(kernel, np.float64), tuple(int(n) for n in shape)
    check_kernel(array, array.shape, grid)
    voxels = math.prod(grid)
    if not 1 <= count <= voxels:
        raise InputError("kernels-count", f"There are {voxels} singular values, not {count}", "", "Ask for fewer.")
    scale = float(np.abs(array).sum())
    if scale == 0:
        return np.zeros(count)
    if voxels <= max(64, 3 * count):
        return np.asarray(singular_values(array, grid, "zero")[:count], np.float64)
    return scale * np.sqrt(np.maximum(_lanczos(array / scale, grid, count, tolerance), 0))


def _lanczos(kernel: Floats, grid: tuple[int, ...], count: int, tolerance: float) -> Floats:
    """Largest eigenvalues of the operator's transpose times itself, falling.

    One after the other, each with those before it taken away: one vector alone never sees a value a second time.
    """
    from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

    flipped, voxels = np.flip(kernel), math.prod(grid)
    values, vectors = np.zeros(count), np.zeros((voxels, count))

    def squared(flat: Floats) -> Floats:
        whole = correlate(correlate(flat.reshape(grid), kernel), flipped).ravel()
        return whole - vectors @ (values * (vectors.T @ flat.ravel()))

    operator = LinearOperator((voxels, voxels), matvec=squared, dtype=np.float64)
    for place in range(count):
        start = generator(0, "lanczos", place).standard_normal(voxels)
        try:
            value, vector = eigsh(
                operator, k=1, which="LA", v0=start, ncv=min(voxels, _BASIS), tol=tolerance, maxiter=_STEPS
            )
        except ArpackNoConvergence as error:
            raise InputError(
                "kernels-lanczos",
                "The largest singular values of this kernel were not found",
                f"they did not settle in {_STEPS} steps",
                "Take a smaller grid or the periodic boundary.",
            ) from error
        # what is taken away is seen from here on
        vectors[:, place], values[place] = vector[:, 0], value[0]
    return np.asarray(np.sort(values)[::-1], np.float64)


def correlate(image: Floats, kernel: Floats) -> Floats:
    """``out[i] = sum_o K[o] u[i + o]`` with zeros beyond the border."""
    out = np.zeros_like(image)
    for entry in product(*(range(k) for k in kernel.shape)):
        weight = kernel[entry]
        if weight:
            offsets = [e - k // 2 for e, k in zip(entry, kernel.shape, strict=True)]
            target = tuple(slice(max(0, -o), n - max(0, o)) for o, n in zip(offsets, image.shape, strict=True))
            source = tuple(slice(max(0, o), n - max(0, -o)) for o, n in zip(offsets, image.shape, strict=True))
            out[target] += weight * image[source]
    return out
