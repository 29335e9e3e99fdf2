"""The card of one kernel: everything that is known of it, for a person who clicked it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_models.kernels.dictionary import Dictionary
from src_models.kernels.labels import bank, checked, decide, spectral_distances
from src_models.kernels.moments import (
    LEARNED_TOLERANCE,
    dc_index,
    energy_dimensions,
    energy_p,
    energy_shares,
    moments,
)
from src_models.kernels.operators import CLASSES, effective_diffusion, operators

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Reading:
    """A kernel as one of the two kinds of step; vectors and tensors in array order and in the units of the spacing.

    Attributes
    ----------
    gain : float
        c_0 (the reaction) of a generator, m_0 of an update.
    velocity : ndarray of shape (d,)
        Of features.
    diffusion, eigenvalues, axes : ndarray of shape (d, d), (d,), (d, d)
        The tensor; its eigenvalues, falling, and the eigenvector of each as a row.
    """

    gain: float
    velocity: Floats
    diffusion: Floats
    eigenvalues: Floats
    axes: Floats


@dataclass(frozen=True, eq=False)
class Card:
    """What one kernel is.

    Attributes
    ----------
    kernel : ndarray
        Its entries.
    pde_class : str
        One of `operators.CLASSES`.
    order_p, order_r : int
        Of its operator, and of its consistency; -1: none, and exact.
    generator, update : Reading, Reading or None
        u_t = K * u, and u_new = K * u; the second is None where the gain is 0.
    moments : ndarray of the shape of the kernel
        In index units.
    energy, energy_null, energy_p : ndarray of shape (degrees,)
        Shares by degree, what chance expects, and two-sided p-values.
    dc : float
        |sum K| / sum |K|.
    nearest : tuple of (str, float)
        Labels with their spectral distance, nearest first.
    templates : tuple of (str, float)
        Known kernels in their orientation, with the cosine, largest magnitude first.
    spacing : tuple of float or None
        mm per axis; None: index units.
    """

    kernel: Floats
    pde_class: str
    order_p: int
    order_r: int
    generator: Reading
    update: Reading | None
    moments: Floats
    energy: Floats
    energy_null: Floats
    energy_p: Floats
    dc: float
    nearest: tuple[tuple[str, float], ...]
    templates: tuple[tuple[str, float], ...]
    spacing: tuple[float, ...] | None


def card(
    kernel: NDArray[Any],
    known: Dictionary,
    grid: Sequence[int] | None = None,
    *,
    spacing: Sequence[float] | None = None,
    tolerance: float = LEARNED_TOLERANCE,
    count: int = 3,
) -> Card:
    """Everything about one kernel.

    Parameters
    ----------
    kernel : ndarray of shape (k, k) or (k, k, k)
        Odd k.
    known : Dictionary
        Of that size.
    grid : sequence of int, optional
        Of the spectra; 64 points per axis in 2D, 16 in 3D by default.
    spacing : sequence of float, optional
        mm per axis.
    tolerance : float
        Of a moment that counts as zero.
    count : int
        Labels and templates that are named.

    Raises
    ------
    InputError
        Where the kernel is not finite, or has no spectrum on the grid.
    """
    array = np.asarray(kernel, np.float64)
    flat, size = array.reshape(1, -1), array.shape
    _, points = checked(array[None], grid)
    found = operators(flat, size, tolerance, spacing)
    shares, dimensions = energy_shares(array), energy_dimensions(size)
    distances = spectral_distances(flat, size, points, known)
    labels = decide(distances, known, 1.0, np.array([not array.any()]))
    order = np.argsort(labels.all_distances[0], kind="stable")[:count]
    return Card(
        kernel=array,
        pde_class=CLASSES[int(found.codes[0])],
        order_p=int(found.p[0]),
        order_r=int(found.r[0]),
        generator=_reading(float(found.reaction[0]), -found.advection[0], found.diffusion[0]),
        update=_update(found.reaction, found.advection, found.diffusion) if found.p[0] == 0 else None,
        moments=moments(array),
        energy=shares,
        energy_null=dimensions / dimensions.sum(),
        energy_p=np.array([float(energy_p(shares[k], k, size)) for k in range(len(shares))]),
        dc=float(dc_index(flat)[0]),
        nearest=tuple((known.labels[k], float(labels.all_distances[0, k])) for k in order),
        templates=_templates(flat[0], known, spacing, count),
        spacing=None if spacing is None else tuple(map(float, spacing)),
    )


def _reading(gain: float, velocity: Floats, diffusion: Floats) -> Reading:
    values, vectors = np.linalg.eigh(diffusion)
    axes = vectors.T[::-1]
    # the largest entry of each axis positive: an axis has no sign
    largest = np.abs(axes).argmax(axis=1)
    axes = axes * np.sign(axes[np.arange(len(axes)), largest])[:, None]
    return Reading(gain, velocity, diffusion, values[::-1], axes)


def _update(reaction: Floats, advection: Floats, diffusion: Floats) -> Reading:
    tensor = effective_diffusion(reaction, advection, diffusion)[0]
    return _reading(float(reaction[0]), -advection[0] / reaction[0], tensor)


def _templates(
    row: Floats, known: Dictionary, spacing: Sequence[float] | None, count: int
) -> tuple[tuple[str, float], ...]:
    norm = float(np.linalg.norm(row))
    if norm == 0:
        return ()
    templates = bank(known, spacing)
    cosines = templates.rows @ row / norm
    order = np.argsort(-np.abs(cosines), kind="stable")[:count]
    return tuple((templates.names[int(templates.orientation[k])][2:], float(cosines[k])) for k in order)
