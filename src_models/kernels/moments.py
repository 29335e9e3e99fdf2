"""Moments of a kernel, the differential operator they spell, its order, and how its energy lies over the degrees.

``m_a = sum_o K[o] prod_d o_d^(a_d) / a_d!`` gives ``K * u = sum_a m_a h^a d^a u``: with exponents below the size of the
kernel there are as many moments as entries, and the kernel follows from them again. Higher moments of a kernel of size
3 repeat lower ones (o^3 = o, o^4 = o^2); they count for the order of consistency.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_models.errors import InputError

Floats = NDArray[np.float64]
STENCIL_TOLERANCE = 1e-6
LEARNED_TOLERANCE = 0.05
EXACT = -1
"""Stands for the order of a kernel that has no further moment: it is its operator exactly."""
_LOOK_AHEAD = 4
_ROWS = 16384


def moments(kernel: NDArray[Any]) -> Floats:
    """All moments of a kernel whose exponents are below its size.

    Parameters
    ----------
    kernel : ndarray of shape (k, k) or (k, k, k)
        Odd k, axes in array order.

    Returns
    -------
    ndarray of the shape of the kernel
        ``m[a, b]`` belongs to the exponents (a, b), in index units.

    Raises
    ------
    InputError
        Where a size is even or the kernel has not 2 or 3 axes.
    """
    array = np.asarray(kernel, np.float64)
    return moments_of(array.reshape(1, -1), _checked(array.shape)).reshape(array.shape)


def moments_of(flat: NDArray[Any], size: Sequence[int]) -> Floats:
    """`moments` of kernels in rows, (N, entries)."""
    found: Floats = np.asarray(flat, np.float64) @ _products(tuple(size)).T
    return found


def from_moments(values: NDArray[Any]) -> Floats:
    """The kernel that has these moments, the inverse of `moments`."""
    array = np.asarray(values, np.float64)
    return from_moments_of(array.reshape(1, -1), _checked(array.shape)).reshape(array.shape)


def from_moments_of(values: NDArray[Any], size: Sequence[int]) -> Floats:
    """`from_moments` of moments in rows, (N, entries)."""
    inverse = _kron([np.asarray(np.linalg.inv(_weights(k)), np.float64) for k in size])
    found: Floats = np.asarray(values, np.float64) @ inverse.T
    return found


def coefficients(kernel: NDArray[Any], spacing: Sequence[float] | None = None) -> Floats:
    """Coefficients c_a = m_a prod h_d^(a_d) of the derivatives, for voxels of that size; the shape of the kernel."""
    values = moments(kernel)
    if spacing is not None:
        for axis, h in enumerate(spacing):
            shape = [1] * values.ndim
            shape[axis] = -1
            values = values * (float(h) ** np.arange(values.shape[axis])).reshape(shape)
    return values


def energy_shares(kernel: NDArray[Any]) -> Floats:
    """Shares of a kernel's squared norm by total degree of orthonormal polynomials.

    Parameters
    ----------
    kernel : ndarray of shape (k, k) or (k, k, k)
        Odd k.

    Returns
    -------
    ndarray of shape (d (k - 1) + 1,)
        They sum to 1; NaN for a kernel of zeros.
    """
    array = np.asarray(kernel, np.float64)
    found: Floats = energy_of(array.reshape(1, -1), _checked(array.shape))[0]
    return found


def energy_of(flat: NDArray[Any], size: Sequence[int]) -> Floats:
    """`energy_shares` of kernels in rows."""
    basis, degree = polynomials(tuple(size))
    wide = np.asarray(flat, np.float64)
    largest = np.abs(wide).max(axis=1, keepdims=True, initial=0)
    wide = np.divide(wide, largest, out=np.zeros_like(wide), where=largest > 0)
    squared = (wide @ basis.T) ** 2
    sums = squared @ (degree[:, None] == np.arange(degree.max() + 1)).astype(np.float64)
    total = sums.sum(axis=1, keepdims=True)
    shares: Floats = np.divide(sums, total, out=np.full_like(sums, np.nan), where=total > 0)
    return shares


def energy_dimensions(size: Sequence[int]) -> NDArray[np.int64]:
    """How many of the orthonormal polynomials have each total degree; over their sum it is the Gaussian expectation."""
    return np.bincount(polynomials(tuple(size))[1])


def energy_p(shares: NDArray[Any], degree: int, size: Sequence[int]) -> Floats:
    """Two-sided p-value of a share of energy: for Gaussian kernels it is Beta(q/2, (N - q)/2)."""
    from scipy.special import betainc

    dimensions = energy_dimensions(size)
    q, rest = int(dimensions[degree]), int(dimensions.sum() - dimensions[degree])
    below = betainc(q / 2, rest / 2, np.clip(np.asarray(shares, np.float64), 0, 1))
    found: Floats = np.minimum(2 * np.minimum(below, 1 - below), 1.0)
    return found


def dc_index(flat: NDArray[Any]) -> Floats:
    """|sum K| / sum |K| of kernels in rows: 0 for a difference, 1 for an average; NaN for zeros."""
    wide = np.asarray(flat, np.float64)
    weight = np.abs(wide).sum(axis=1)
    index: Floats = np.divide(np.abs(wide.sum(axis=1)), weight, out=np.full(len(wide), np.nan), where=weight > 0)
    return index


@dataclass(frozen=True, eq=False)
class Orders:
    """Of kernels in rows: order `p` of the operator (-1 for a kernel of zeros) and of consistency `r` (-1: exact)."""

    p: NDArray[np.int8]
    r: NDArray[np.int8]


def orders(flat: NDArray[Any], size: Sequence[int], tolerance: float = STENCIL_TOLERANCE) -> Orders:
    """The lowest degree of a moment that is not zero, and the distance to the next.

    Parameters
    ----------
    flat : ndarray of shape (N, entries)
        Kernels.
    size : sequence of int
        Of each.
    tolerance : float
        A moment is zero below this share of ``sum |K[o]| |o^a| / a!``; 1e-6 suits stencils, 0.05 learned kernels.
    """
    monomials, absolute, has = _monomials(tuple(size))
    p, r = np.empty(len(flat), np.int8), np.empty(len(flat), np.int8)
    for start in range(0, len(flat), _ROWS):
        wide = np.asarray(flat[start : start + _ROWS], np.float64)
        there = np.abs(wide @ monomials.T) > tolerance * (np.abs(wide) @ absolute.T)
        degrees = (there.astype(np.float32) @ has) > 0
        first = np.where(degrees.any(axis=1), degrees.argmax(axis=1), -1)
        later = degrees & (np.arange(degrees.shape[1]) > first[:, None])
        ahead = later.argmax(axis=1) - first
        near = later.any(axis=1) & (ahead <= _LOOK_AHEAD) & (first >= 0)
        p[start : start + _ROWS] = first
        r[start : start + _ROWS] = np.where(near, ahead, EXACT)
    return Orders(p, r)


def _checked(shape: tuple[int, ...]) -> tuple[int, ...]:
    if len(shape) not in (2, 3) or any(k % 2 == 0 for k in shape):
        raise InputError(
            "kernels-size", f"A kernel of shape {shape} has no moments here", "", "Give an odd size on 2 or 3 axes."
        )
    return shape


@cache
def _weights(k: int) -> Floats:
    """Row a: o^a / a!."""
    offset = np.arange(k) - k // 2
    return np.stack([offset.astype(np.float64) ** a / math.factorial(a) for a in range(k)])


@cache
def _products(size: tuple[int, ...]) -> Floats:
    """The moments of a kernel as one matrix on its entries."""
    return _kron([_weights(k) for k in size])


def _kron(parts: Sequence[Floats]) -> Floats:
    product_of: Floats = np.ones((1, 1))
    for part in parts:
        product_of = np.asarray(np.kron(product_of, part), np.float64)
    return product_of


@cache
def polynomials(size: tuple[int, ...]) -> tuple[Floats, NDArray[np.int64]]:
    """Orthonormal products of discrete (Gram) polynomials as rows, and the total degree of each."""
    axes: list[Floats] = []
    for k in size:
        q, r = np.linalg.qr(np.vander(np.arange(k) - k // 2, k, increasing=True).astype(np.float64))
        axes.append(np.asarray((q * np.sign(np.diag(r))).T, np.float64))
    basis = _kron(axes)
    degree = np.array([sum(a) for a in product(*(range(k) for k in size))])
    return basis, degree


@cache
def _monomials(size: tuple[int, ...]) -> tuple[Floats, Floats, NDArray[np.float32]]:
    """Different monomials on the offsets of a kernel, their absolute values, and which degrees each of them has.

    Whether a moment counts as zero does not depend on its scale, so o and o^3 are one monomial where o is -1, 0 or 1.
    """
    most = sum(k - 1 for k in size) + _LOOK_AHEAD
    offsets = np.array(list(product(*(range(-(k // 2), k // 2 + 1) for k in size))), np.float64)
    rows: dict[bytes, tuple[Floats, set[int]]] = {}
    for exponents in product(range(most + 1), repeat=len(size)):
        if sum(exponents) <= most:
            values = np.prod(offsets**exponents, axis=1)
            key = values / np.abs(values).max()
            rows.setdefault(key.tobytes(), (key, set()))[1].add(sum(exponents))
    monomials = np.stack([values for values, _ in rows.values()])
    has = np.zeros((len(rows), most + 1), np.float32)
    for row, (_, degrees) in enumerate(rows.values()):
        has[row, sorted(degrees)] = 1
    return monomials, np.abs(monomials), has
