"""Principal components of kernels, with the known kernels in the same picture.

One transform serves both: ``z = (x - mu) V^T`` for learned and known kernels alike, after the same normalisation. Two
kernels that are equal after it land on one point.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_models.kernels.dictionary import Dictionary
from src_models.kernels.parameters import Normalisation

Floats = NDArray[np.float64]
_ROWS = 65536


@dataclass(frozen=True, eq=False)
class Projection:
    """Principal components of kernels.

    Attributes
    ----------
    mean : ndarray of shape (entries,)
        mu.
    axes : ndarray of shape (entries, entries)
        Components as rows, the strongest first; the entry of largest magnitude is positive.
    explained : ndarray of shape (entries,)
        Share of the variance of each.
    normalisation : str
        Applied to every kernel first.
    known : tuple of str
        Names of the known kernels.
    known_points : ndarray of shape (known, 2)
        Where they lie, first and second component.
    known_distances, known_relative : ndarray of shape (known,)
        How far they are from the plane of the picture, and as a share of their distance from the mean.
    """

    mean: Floats
    axes: Floats
    explained: Floats
    normalisation: Normalisation
    known: tuple[str, ...]
    known_points: Floats
    known_distances: Floats
    known_relative: Floats

    def project(self, flat: NDArray[Any]) -> tuple[Floats, Floats]:
        """Two components of kernels in rows, (N, 2), and their distances from that plane, (N,).

        The kernels are normalised here, as those of the fit were.
        """
        return _projected(flat, self.normalisation, self.mean, self.axes)


def _projected(flat: NDArray[Any], how: Normalisation, mean: Floats, axes: Floats) -> tuple[Floats, Floats]:
    points, away = np.empty((len(flat), 2)), np.empty(len(flat))
    for start in range(0, len(flat), _ROWS):
        part = slice(start, start + _ROWS)
        scores = (normalised(flat[part], how) - mean) @ axes.T
        points[part] = scores[:, :2]
        # by the other components: a difference of nearly equal vectors would lose what it measures
        away[part] = np.linalg.norm(scores[:, 2:], axis=1)
    return points, away


def normalised(flat: NDArray[Any], how: Normalisation) -> Floats:
    """Kernels in rows as the components see them."""
    wide = np.asarray(flat, np.float64)
    if how == "raw":
        return wide
    norm = np.linalg.norm(wide, axis=1, keepdims=True)
    wide = np.asarray(np.divide(wide, norm, out=np.zeros_like(wide), where=norm > 0), np.float64)
    if how == "unit+sign":
        wide *= _leading_sign(wide)[:, None]
    return wide


def _leading_sign(rows: Floats) -> Floats:
    """Sign of the entry of largest magnitude, of the first where several are as large."""
    # entries that are equal but for rounding count as equal, or the sign would hang on the last bit
    size = np.abs(rows)
    place = np.argmax(size >= size.max(axis=1, keepdims=True, initial=0) * (1 - 1e-9), axis=1)
    sign = np.sign(rows[np.arange(len(rows)), place])
    return np.where(sign == 0, 1.0, sign)


def row_norms(flat: NDArray[Any]) -> Floats:
    """Of kernels in rows, without overflow of half or single precision."""
    found = np.empty(len(flat))
    for start in range(0, len(flat), _ROWS):
        wide = flat[start : start + _ROWS].astype(np.float64)
        found[start : start + _ROWS] = np.sqrt(np.einsum("ij,ij->i", wide, wide))
    return found


def fit(
    layers: Sequence[NDArray[Any]], how: Normalisation, known: Dictionary, *, published: bool = False
) -> Projection:
    """Components of the kernels of one or several layers, and the known kernels in them.

    Parameters
    ----------
    layers : sequence of ndarray of shape (N, entries)
        Living kernels of one size.
    how : str
        Normalisation, applied to learned and known kernels alike.
    known : Dictionary
        Of that size.
    published : bool
        With ``"raw"``, leave the known kernels at absolute sum 1, as the paper did, in place of the median norm of the
        learned ones.
    """
    count = sum(len(flat) for flat in layers)
    entries = known.flat.shape[1]
    total, products = np.zeros(entries), np.zeros((entries, entries))
    for flat in layers:
        for start in range(0, len(flat), _ROWS):
            total += normalised(flat[start : start + _ROWS], how).sum(axis=0)
    mean = total / max(count, 1)
    for flat in layers:
        for start in range(0, len(flat), _ROWS):
            centred = normalised(flat[start : start + _ROWS], how) - mean
            products += centred.T @ centred
    variance, vectors = np.linalg.eigh(products)
    order = np.argsort(variance)[::-1]
    axes = vectors.T[order]
    axes = axes * _leading_sign(axes)[:, None]
    variance = np.maximum(variance[order], 0)
    explained = variance / variance.sum() if variance.sum() > 0 else np.zeros(entries)
    shown = known.flat
    if how == "raw" and not published and count:
        learned = np.concatenate([row_norms(flat) for flat in layers])
        shown = shown / np.linalg.norm(shown, axis=1, keepdims=True) * np.median(learned)
    points, away = _projected(shown, how, mean, axes)
    reach = np.linalg.norm(normalised(shown, how) - mean, axis=1)
    relative = np.divide(away, reach, out=np.zeros_like(away), where=reach > 0)
    names = tuple(feature.name for feature in known.features)
    return Projection(mean, axes, explained, how, names, points, away, relative)
