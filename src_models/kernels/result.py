"""What an analysis gives: a table with one row a kernel, a summary per layer, and what both were made from.

Kernels act by cross-correlation, ``(A u)[i] = sum_o K[o] u[i + o]``, axes in array order. A *row* is the kernel between
one input and one output channel of a layer; rows are ordered by layer, output, input.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from src_models.kernels.parameters import KernelAnalysisParameters
from src_models.progress import Progress
from src_models.record import Record

if TYPE_CHECKING:
    from src_models.kernels.dictionary import Dictionary
    from src_models.kernels.projection import Projection

Kind = Literal["conv", "transposed", "unknown"]


@dataclass(frozen=True, eq=False)
class Layer:
    """One convolution of a network.

    Attributes
    ----------
    name : str
        Of the module or tensor.
    index : int
        Among the layers that are analysed, in the order of the network, from 0.
    kind : str
        ``"conv"``, ``"transposed"`` (its kernels are flipped, so that they read as those of a convolution), or
        ``"unknown"`` for bare tensors: there the sign of odd moments, and which axis is the input, are not known.
    kernels : ndarray of shape (out, in / groups, *size)
        float32 or float64; axes of size 1 beside larger ones are filled up with zeros.
    size : tuple of int
        Of a kernel as analysed, the same odd number on each axis.
    stored_size : tuple of int
        Of a kernel in the network.
    stride, dilation : tuple of int
        Per axis.
    groups : int
        Of channels.
    input_size : tuple of int or None
        Of the layer's input for the image of the protocol; None where it was not traced.
    gain : bool
        Whether a normalisation's gain was multiplied in.
    """

    name: str
    index: int
    kind: Kind
    kernels: NDArray[Any]
    size: tuple[int, ...]
    stored_size: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int = 1
    input_size: tuple[int, ...] | None = None
    gain: bool = False

    @property
    def ndim(self) -> int:
        """2 or 3."""
        return len(self.size)

    @property
    def out_channels(self) -> int:
        """Of the layer."""
        return int(self.kernels.shape[0])

    @property
    def in_channels(self) -> int:
        """Of the layer, over all groups."""
        return int(self.kernels.shape[1]) * self.groups

    @property
    def count(self) -> int:
        """How many kernels."""
        return int(self.kernels.shape[0] * self.kernels.shape[1])

    @property
    def flat(self) -> NDArray[Any]:
        """One row a kernel, shape (count, entries)."""
        return self.kernels.reshape(self.count, -1)

    def channels(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Output and (global) input channel of each row."""
        out, per_group = self.kernels.shape[:2]
        outs = np.repeat(np.arange(out, dtype=np.int32), per_group)
        inside = np.tile(np.arange(per_group, dtype=np.int32), out)
        return outs, (outs // (out // self.groups)).astype(np.int32) * np.int32(per_group) + inside


@dataclass(frozen=True)
class Skipped:
    """A layer that is not analysed: its name, the size of its kernels, how many, and why."""

    name: str
    size: tuple[int, ...]
    count: int
    reason: str


@dataclass(frozen=True, eq=False)
class Categories:
    """A column of words: `codes` are places in `names`."""

    codes: NDArray[np.int16]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.codes)

    def words(self) -> NDArray[np.str_]:
        """One word a row."""
        return np.array(self.names, dtype=str)[self.codes]

    def counts(self) -> dict[str, int]:
        """How many rows each word has."""
        return dict(zip(self.names, np.bincount(self.codes, minlength=len(self.names)).tolist(), strict=True))


Column = NDArray[Any] | Categories


@dataclass(frozen=True, eq=False)
class KernelTable:
    """One row a kernel. Numbers are float32 or whole numbers, words are `Categories`.

    Columns: layer, layer_index, kind, size, stride, dilation, groups, out, in, norm, dc_index, dead; label, distance,
    runner_up, margin, p_class, p_any, q; cos_label, cos_distance, orientation; pc1, pc2, plane_distance, cluster;
    order_p, order_r (-1 where there is none: dead, or exact), pde_class; c_0, b_x, b_y(, b_z), D_1, D_2(, D_3) (falling
    eigenvalues of the diffusion tensor), D_angle (2D, degrees from x to y of the first); energy_0 .. energy_4 (2D) or
    energy_6 (3D), p_energy_0. Where layers differ in dimension or size, what a row does not have is NaN.
    """

    columns: Mapping[str, Column]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()))) if self.columns else 0

    def __getitem__(self, name: str) -> Column:
        return self.columns[name]

    def numbers(self, name: str) -> NDArray[Any]:
        """A column as numbers; for words their codes."""
        column = self.columns[name]
        return column.codes if isinstance(column, Categories) else column

    def words(self, name: str) -> NDArray[np.str_]:
        """A column as text."""
        column = self.columns[name]
        return column.words() if isinstance(column, Categories) else column.astype(str)

    def row(self, number: int) -> dict[str, Any]:
        """One row as plain values."""
        return {
            name: column.names[int(column.codes[number])] if isinstance(column, Categories) else column[number].item()
            for name, column in self.columns.items()
        }

    def content_hash(self) -> str:
        """SHA-256 over names and content of all columns."""
        digest = hashlib.sha256()
        for name, column in self.columns.items():
            digest.update(name.encode())
            if isinstance(column, Categories):
                digest.update(repr(column.names).encode())
            digest.update(np.ascontiguousarray(self.numbers(name)).tobytes())
        return digest.hexdigest()

    def rows(self, start: int, stop: int) -> KernelTable:
        """Some rows, as a view."""
        return KernelTable({name: _part(column, slice(start, stop)) for name, column in self.columns.items()})


def _part(column: Column, where: slice) -> Column:
    if isinstance(column, Categories):
        return Categories(column.codes[where], column.names)
    return column[where]


@dataclass(frozen=True)
class Share:
    """How often a word occurs among the living kernels of a layer, and among random kernels.

    Attributes
    ----------
    name : str
        A label or a class.
    count, total : int
        Kernels with it, and all living ones of the layer.
    null_count, null_total : int
        Random kernels with it, and all drawn.
    enrichment, low, high : float
        ((k + 1/2) / (N + 1)) / ((k0 + 1/2) / (M + 1)) with its 95 % interval; at most what all kernels would give.
    p : float
        Of Fisher's exact test, two-sided. The kernels of a layer are not independent: read the enrichment first.
    """

    name: str
    count: int
    total: int
    null_count: int
    null_total: int
    enrichment: float
    low: float
    high: float
    p: float

    @property
    def share(self) -> float:
        """Of the living kernels; NaN where there are none."""
        return self.count / self.total if self.total else float("nan")

    @property
    def null_share(self) -> float:
        """Of the random kernels."""
        return self.null_count / self.null_total if self.null_total else float("nan")


@dataclass(frozen=True, eq=False)
class SpectrumBand:
    """Sorted singular values of a layer's kernels, each spectrum divided by its largest value.

    Attributes
    ----------
    position : ndarray of shape (P,)
        Place in the sorted spectrum, from 0 (largest) to 1.
    low, median, high : ndarray of shape (P,)
        5 %, 50 % and 95 % of the kernels.
    kernels : int
        How many were taken, a seeded sample of at most 1000.
    """

    position: NDArray[np.float32]
    low: NDArray[np.float32]
    median: NDArray[np.float32]
    high: NDArray[np.float32]
    kernels: int


@dataclass(frozen=True)
class ClusterScores:
    """How well k clusters describe a layer, beside Gaussian clouds of the same covariance.

    Attributes
    ----------
    k : int
        Clusters.
    sizes : tuple of int
        Kernels in each.
    silhouette, calinski_harabasz, davies_bouldin : float
        Of a seeded sample of at most 2000 kernels; NaN where they are not defined.
    tested, null : float, tuple of float
        Silhouette of a smaller sample, and of as large samples of the random clouds: the same procedure on both.
    p : float
        (1 + clouds with at least that silhouette) / (1 + clouds); NaN without clouds. Above 0.05 there are no clusters
        to speak of.
    """

    k: int
    sizes: tuple[int, ...]
    silhouette: float
    calinski_harabasz: float
    davies_bouldin: float
    tested: float
    null: tuple[float, ...]
    p: float


@dataclass(frozen=True)
class OperatorScores:
    """A whole layer as one operator on periodic images: largest singular value, condition, effective rank, curve.

    `effective_rank` is exp of the entropy of the singular values divided by their sum; `curve` are 65 values from the
    largest to the smallest.
    """

    norm: float
    condition: float
    effective_rank: float
    values: int
    curve: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class LayerReport:
    """What was found in one layer.

    Attributes
    ----------
    layer : Layer
        With its kernels.
    first_row : int
        Of the table; the rows up to ``first_row + layer.count`` are this layer's.
    grid : tuple of int
        On which spectra were computed.
    dead : int
        Kernels that are zero, or have less than a millionth of the norm of the layer's largest.
    labels, pde_classes : tuple of Share
        In the order of the dictionary, ``"indeterminate"`` last; and of the classes.
    spectrum : SpectrumBand
        Of its kernels.
    energy, energy_null : tuple of float
        Mean share by degree, and its expectation for Gaussian kernels.
    projection : Projection
        Principal components, and where the known kernels lie in them.
    clusters : ClusterScores or None
        None where there are too few kernels.
    operator : OperatorScores or None
        Where it was asked for.
    """

    layer: Layer
    first_row: int
    grid: tuple[int, ...]
    dead: int
    labels: tuple[Share, ...]
    pde_classes: tuple[Share, ...]
    spectrum: SpectrumBand
    energy: tuple[float, ...]
    energy_null: tuple[float, ...]
    projection: Projection
    clusters: ClusterScores | None
    operator: OperatorScores | None = None

    @property
    def rows(self) -> slice:
        """Of the table."""
        return slice(self.first_row, self.first_row + self.layer.count)


@dataclass(frozen=True, eq=False)
class KernelReport:
    """The result of `analyse`.

    Attributes
    ----------
    table : KernelTable
        One row a kernel, of all layers.
    layers : tuple of LayerReport
        In the order of the network.
    skipped : tuple of Skipped
        Layers that are not analysed, with the reason.
    dictionaries : mapping of tuple to Dictionary
        The known kernels, by the size of the kernels they are compared with, such as ``(3, 3)``.
    confusions : mapping of tuple to tuple of (str, str, float)
        By grid: pairs of labels whose distance is below the threshold.
    parameters : KernelAnalysisParameters
        As used.
    record : Record
        Source hash, settings, versions, duration. Its status is ``"done"`` or ``"partial"``.
    notes : tuple of str
        What was decided on the way, in words.
    """

    table: KernelTable
    layers: tuple[LayerReport, ...]
    skipped: tuple[Skipped, ...]
    dictionaries: Mapping[tuple[int, ...], Dictionary]
    confusions: Mapping[tuple[int, ...], tuple[tuple[str, str, float], ...]]
    parameters: KernelAnalysisParameters
    record: Record
    notes: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether every layer was analysed."""
        return self.record.status == "done"

    def layer_of(self, row: int) -> LayerReport:
        """The layer that a row of the table belongs to."""
        starts = [each.first_row for each in self.layers]
        return self.layers[int(np.searchsorted(starts, row, side="right")) - 1]

    def kernel(self, row: int) -> NDArray[Any]:
        """The kernel of a row, (z, y, x) or (y, x)."""
        found = self.layer_of(row)
        kernel: NDArray[Any] = found.layer.flat[row - found.first_row].reshape(found.layer.size)
        return kernel

    def row_of(self, layer: int, out: int, inside: int) -> int:
        """The row of the kernel between two channels of a layer.

        Raises
        ------
        KeyError
            Where the layer has no such pair, as between channels of two groups.
        """
        found = self.layers[layer]
        outs, ins = found.layer.channels()
        where = np.flatnonzero((outs == out) & (ins == inside))
        if where.size == 0:
            raise KeyError((layer, out, inside))
        return found.first_row + int(where[0])


@dataclass(frozen=True, kw_only=True, eq=False)
class AnalysisProgress(Progress):
    """One report of an analysis; `result` gives the layers that are finished, for a run that is stopped."""

    result: Callable[[], KernelReport] = field(repr=False)
