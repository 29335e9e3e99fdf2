"""What is measured of each kernel alone, in blocks of rows, so that threads can share a layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_models.kernels.dictionary import Dictionary
from src_models.kernels.labels import bank, cosines, decide, spectral_curves, spectral_distances
from src_models.kernels.moments import dc_index, energy_dimensions, energy_of
from src_models.kernels.null import spread
from src_models.kernels.operators import operators
from src_models.kernels.parameters import KernelAnalysisParameters
from src_models.kernels.projection import row_norms
from src_models.kernels.result import Layer

Floats = NDArray[np.float32]
ROWS = 4096
DEAD = 1e-6
"""Below this share of the largest norm of its layer a kernel is dead."""


@dataclass(frozen=True, eq=False)
class Measured:
    """Of the kernels of a layer, one entry a row; see the columns of `KernelTable`."""

    norm: Floats
    dc: Floats
    codes: NDArray[np.int16]
    nearest: NDArray[np.int16]
    distance: Floats
    runner_up: NDArray[np.int16]
    margin: Floats
    cos_label: NDArray[np.int16]
    cos_distance: Floats
    orientation: NDArray[np.int16]
    p: NDArray[np.int8]
    r: NDArray[np.int8]
    classes: NDArray[np.int16]
    reaction: Floats
    advection: Floats
    eigenvalues: Floats
    angle: Floats
    energy: Floats
    orientations: tuple[str, ...]

    @classmethod
    def empty(cls, layer: Layer, orientations: tuple[str, ...]) -> Measured:
        """Room for a layer; `orientations` are the words that the column of that name counts in."""
        n, d = layer.count, layer.ndim
        shapes = {"advection": (n, d), "eigenvalues": (n, d), "energy": (n, len(energy_dimensions(layer.stored_size)))}
        words = ("codes", "nearest", "runner_up", "cos_label", "orientation", "classes")
        made: dict[str, Any] = {}
        for name in set(cls.__dataclass_fields__) - {"orientations"}:
            dtype: Any = np.int16 if name in words else np.int8 if name in ("p", "r") else np.float32
            made[name] = np.empty(shapes.get(name, (n,)), dtype)
        return cls(**made, orientations=orientations)

    def dead(self) -> NDArray[np.bool_]:
        """Kernels of zeros, or with hardly any norm beside the largest of the layer."""
        return is_dead(self.norm)


def is_dead(norm: NDArray[Any]) -> NDArray[np.bool_]:
    """Which of the norms of a layer belong to dead kernels."""
    found: NDArray[np.bool_] = norm <= DEAD * norm.max(initial=0)
    return found


class Measurer:
    """Measures the kernels of one layer.

    Parameters
    ----------
    layer : Layer
        Its kernels.
    known : Dictionary
        Of their size.
    grid : tuple of int
        Of the spectra.
    chosen : KernelAnalysisParameters
        What is asked.
    """

    def __init__(
        self, layer: Layer, known: Dictionary, grid: tuple[int, ...], chosen: KernelAnalysisParameters
    ) -> None:
        self._layer, self._known, self._grid, self._chosen = layer, known, grid, chosen
        self._spacing = chosen.spacing if chosen.spacing is not None and len(chosen.spacing) == layer.ndim else None
        self._bank = bank(known, self._spacing)

    def room(self) -> Measured:
        """For what is measured here."""
        return Measured.empty(self._layer, self._bank.names)

    def fill(self, target: Measured, part: slice) -> None:
        """Measure some rows."""
        layer, chosen = self._layer, self._chosen
        flat = layer.flat[part]
        zero = np.asarray(~flat.any(axis=1))
        found = spectral_distances(flat, layer.size, self._grid, self._known)
        labels = decide(found, self._known, chosen.threshold, zero)
        target.codes[part], target.nearest[part] = labels.codes, labels.nearest
        target.distance[part], target.margin[part] = labels.distance, labels.margin
        target.runner_up[part] = labels.runner_up
        target.norm[part], target.dc[part] = row_norms(flat), dc_index(flat)
        target.cos_label[part], target.cos_distance[part], target.orientation[part] = cosines(flat, self._bank)
        equation = operators(flat, layer.size, chosen.tolerance, self._spacing)
        target.p[part], target.r[part], target.classes[part] = equation.p, equation.r, equation.codes
        target.reaction[part], target.advection[part] = equation.reaction, equation.advection
        target.eigenvalues[part], target.angle[part] = equation.eigenvalues, equation.angle()
        target.energy[part] = energy_of(stored_rows(layer, part), layer.stored_size)

    def band(self, rows: NDArray[np.intp]) -> Floats:
        """Normalised spectra of some rows at 65 places."""
        return spectral_curves(self._layer.flat[rows], self._layer.size, self._grid, self._known)


def stored_rows(layer: Layer, part: slice = slice(None)) -> NDArray[Any]:
    """Kernels in rows without the zeros that fill them up."""
    flat = layer.flat[part]
    if layer.stored_size == layer.size:
        return flat
    inside = tuple(slice((n - k) // 2, (n - k) // 2 + k) for n, k in zip(layer.size, layer.stored_size, strict=True))
    return flat.reshape(-1, *layer.size)[(slice(None), *inside)].reshape(len(flat), -1)


def filled(rows: NDArray[Any], layer: Layer) -> NDArray[Any]:
    """The opposite of `stored_rows`."""
    return spread(rows, layer.stored_size, layer.size)
