"""Which differential operator a kernel is: reaction, advection, diffusion, read from its moments.

Read as a *generator* (u_t = K * u): reaction c_0, advection b, so that features move with the velocity -b, diffusion
tensor D. Read as an *update* (u_new = K * u): gain m_0, velocity -b/m_0 per step, and
``D_eff = D/m_0 - (b/m_0)(b/m_0)^T / 2``, in which a pure shift has no diffusion. This describes the linear operator of
one kernel; it does not say that the network solves an equation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_models.kernels.moments import LEARNED_TOLERANCE, moments_of, orders

Floats = NDArray[np.float64]
CLASSES = (
    "identity",
    "shift",
    "averaging",
    "sharpening",
    "mixed",
    "advection, central",
    "advection, one-sided",
    "advection, with diffusion",
    "diffusion",
    "inverse diffusion",
    "indefinite diffusion",
    "directional diffusion",
    "higher order",
    "dead",
)
_CODE = {name: code for code, name in enumerate(CLASSES)}


@dataclass(frozen=True, eq=False)
class Operators:
    """Of kernels in rows, in the units of the spacing.

    Attributes
    ----------
    reaction : ndarray of shape (N,)
        c_0, which is the gain m_0 too.
    advection : ndarray of shape (N, d)
        b, in array order; features move with -b.
    diffusion : ndarray of shape (N, d, d)
        D.
    eigenvalues : ndarray of shape (N, d)
        Of D, falling.
    p, r : ndarray of shape (N,)
        Orders; see `moments.orders`.
    codes : ndarray of shape (N,)
        Places in `CLASSES`.
    """

    reaction: Floats
    advection: Floats
    diffusion: Floats
    eigenvalues: Floats
    p: NDArray[np.int8]
    r: NDArray[np.int8]
    codes: NDArray[np.int16]

    def angle(self) -> Floats:
        """In 2D: degrees from the x axis towards the y axis of the first eigenvector, in (-90, 90]; else NaN."""
        d = self.diffusion
        if d.shape[-1] != 2:
            return np.full(len(d), np.nan)
        return np.degrees(0.5 * np.arctan2(2 * d[:, 0, 1], d[:, 1, 1] - d[:, 0, 0]))


def operators(
    flat: NDArray[Any],
    size: Sequence[int],
    tolerance: float = LEARNED_TOLERANCE,
    spacing: Sequence[float] | None = None,
) -> Operators:
    """Orders, coefficients and classes of kernels in rows.

    Parameters
    ----------
    flat : ndarray of shape (N, entries)
        Kernels.
    size : sequence of int
        Of each, odd, 2 or 3 axes.
    tolerance : float
        What counts as zero: a share of the largest possible moment, of the largest eigenvalue, or of one voxel.
    spacing : sequence of float, optional
        mm per axis: coefficients are multiplied by h^a; nothing else changes.
    """
    reaction, advection, diffusion = low_moments(flat, size)
    found = orders(flat, size, tolerance)
    codes = _classes(reaction, advection, diffusion, found.p, tolerance)
    if spacing is not None:
        h = np.asarray(spacing, np.float64)
        advection, diffusion = advection * h, diffusion * np.outer(h, h)
    return Operators(reaction, advection, diffusion, eigenvalues(diffusion), found.p, found.r, codes)


def low_moments(flat: NDArray[Any], size: Sequence[int]) -> tuple[Floats, Floats, Floats]:
    """m_0, the vector of first moments, and the diffusion tensor of second ones, in index units."""
    ndim = len(size)
    values = moments_of(flat, size)
    unit = np.eye(ndim, dtype=np.int64)

    def of(exponents: NDArray[np.int64]) -> Floats:
        column: Floats = values[:, int(np.ravel_multi_index(tuple(exponents), tuple(size)))]
        return column

    diffusion = np.empty((len(values), ndim, ndim))
    for a in range(ndim):
        diffusion[:, a, a] = of(2 * unit[a])
    for a, b in combinations(range(ndim), 2):
        diffusion[:, a, b] = diffusion[:, b, a] = of(unit[a] + unit[b]) / 2
    return values[:, 0], np.stack([of(unit[a]) for a in range(ndim)], axis=1), diffusion


def effective_diffusion(reaction: Floats, advection: Floats, diffusion: Floats) -> Floats:
    """D_eff of the reading `update`; not a number where the gain is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        step = advection / reaction[:, None]
        found: Floats = diffusion / reaction[:, None, None] - step[:, :, None] * step[:, None, :] / 2
    return found


def eigenvalues(tensors: Floats) -> Floats:
    """Of symmetric 2 x 2 or 3 x 3 tensors, falling."""
    if tensors.shape[-1] == 2:
        middle = (tensors[:, 0, 0] + tensors[:, 1, 1]) / 2
        reach = np.hypot((tensors[:, 0, 0] - tensors[:, 1, 1]) / 2, tensors[:, 0, 1])
        return np.stack([middle + reach, middle - reach], axis=1)
    return np.asarray(np.linalg.eigvalsh(tensors)[:, ::-1], np.float64)


def _classes(c: Floats, b: Floats, d: Floats, p: NDArray[np.int8], tolerance: float) -> NDArray[np.int16]:
    codes = np.full(len(c), _CODE["higher order"], np.int16)
    codes[p == -1] = _CODE["dead"]
    zero = np.flatnonzero(p == 0)
    codes[zero] = _averages(c[zero], b[zero], d[zero], tolerance)
    one = np.flatnonzero(p == 1)
    codes[one] = _advections(b[one], d[one])
    two = np.flatnonzero(p == 2)
    codes[two] = _diffusions(d[two], tolerance)
    return codes


def _averages(c: Floats, b: Floats, d: Floats, tolerance: float) -> NDArray[np.int16]:
    values = eigenvalues(effective_diffusion(c, b, d))
    largest = np.abs(values).max(axis=1, initial=0)
    up = (values > tolerance * largest[:, None]).any(axis=1)
    down = (values < -tolerance * largest[:, None]).any(axis=1)
    codes = np.where(up & down, _CODE["mixed"], np.where(up, _CODE["averaging"], _CODE["sharpening"]))
    # twice an eigenvalue is a variance in squared voxels
    still = 2 * largest <= tolerance
    moving = np.linalg.norm(b / c[:, None], axis=1) > tolerance
    return np.where(still, np.where(moving, _CODE["shift"], _CODE["identity"]), codes).astype(np.int16)


def _advections(b: Floats, d: Floats) -> NDArray[np.int16]:
    """One-sided differences carry the diffusion |b| / 2 along b; central ones none."""
    speed = np.linalg.norm(b, axis=1)
    along = np.einsum("ni,nij,nj->n", b, d, b)
    ratio = np.abs(along) / np.maximum(speed**3 / 2, np.finfo(np.float64).tiny)
    words = ("advection, central", "advection, one-sided", "advection, with diffusion")
    found: NDArray[np.int16] = np.array([_CODE[word] for word in words], np.int16)[np.digitize(ratio, (0.5, 1.5))]
    return found


def _diffusions(d: Floats, tolerance: float) -> NDArray[np.int16]:
    values = eigenvalues(d)
    size = np.abs(values)
    thin = size.min(axis=1, initial=np.inf) <= tolerance * size.max(axis=1, initial=0)
    codes = np.where((values > 0).all(axis=1), _CODE["diffusion"], _CODE["indefinite diffusion"])
    codes = np.where((values < 0).all(axis=1), _CODE["inverse diffusion"], codes)
    return np.where(thin, _CODE["directional diffusion"], codes).astype(np.int16)


@dataclass(frozen=True)
class Upwind:
    """Whether a pair of kernels acts like the two one-sided differences of an upwind scheme.

    `sum_odd` and `difference_even` are the shares of the norm that lie in the odd part of K+ + K- and in the even part
    of K+ - K-; `second` is the mean curvature tr D of K+ - K-.
    """

    like: bool
    sum_odd: float
    difference_even: float
    second: float


def upwind(plus: NDArray[Any], minus: NDArray[Any], tolerance: float = LEARNED_TOLERANCE) -> Upwind:
    """K+ + K- odd, and K+ - K- an even, positive second difference: max(a, 0) D+ + min(a, 0) D- = a D0 + |a| (h/2) D2.

    Parameters
    ----------
    plus, minus : ndarray of shape (k, k) or (k, k, k)
        Kernels that act where a speed is positive, and where it is negative.
    """
    total, gap = np.asarray(plus, np.float64) + minus, np.asarray(plus, np.float64) - minus
    odd, even = (total - np.flip(total)) / 2, (gap + np.flip(gap)) / 2
    share_odd, share_even = _share(odd, total), _share(even, gap)
    _, _, tensor = low_moments(gap.reshape(1, -1), gap.shape)
    second = float(np.trace(tensor[0]))
    order = orders(gap.reshape(1, -1), gap.shape, tolerance).p[0]
    like = share_odd >= 1 - tolerance and share_even >= 1 - tolerance and order == 2 and second > 0
    return Upwind(bool(like), share_odd, share_even, second)


def _share(part: Floats, whole: Floats) -> float:
    norm = float(np.linalg.norm(whole))
    return float(np.linalg.norm(part)) / norm if norm > 0 else 0.0
