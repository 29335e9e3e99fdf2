"""One structure in a prediction and in its reference: the counts and distances that every formula is made of."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from src_models.errors import GeometryError, InputError
from src_models.geometry import check_spacing
from src_models.metrics.surface import Distances, bounding_box, directed_distances, surface_voxels

Unit = Literal["mm", "px"]
Empties = Literal["standard", "nnunet"]


@dataclass(frozen=True, eq=False)
class Pair:
    """Two masks in the box that holds both, for distances that are computed when they are asked for."""

    prediction: NDArray[np.bool_]
    reference: NDArray[np.bool_]
    spacing: tuple[float, ...]

    @cached_property
    def distances(self) -> tuple[Distances, Distances, Distances, Distances]:
        """See `directed_distances`; of nothing where one is empty."""
        if not self.prediction.any() or not self.reference.any():
            return (np.empty(0),) * 4
        return directed_distances(self.prediction, self.reference, self.spacing)


@dataclass(frozen=True, eq=False)
class Comparison:
    """What one or several pairs of masks have in common.

    Attributes
    ----------
    tp, fp, fn, tn : int
        Voxels. `tn`, and with it accuracy and specificity, depends on how much is stored around the structure.
    pairs : tuple of Pair
        One per case or slice.
    ndim : int
        Axes of the arrays.
    unit : str
        "mm" or "px", of all distances.
    predicted_size, reference_size : float
        Volumes in unit^ndim.
    """

    tp: int
    fp: int
    fn: int
    tn: int
    pairs: tuple[Pair, ...]
    ndim: int
    unit: Unit
    predicted_size: float
    reference_size: float

    @classmethod
    def of(
        cls,
        prediction: NDArray[Any],
        reference: NDArray[Any],
        spacing: Sequence[float],
        unit: Unit = "mm",
        *,
        voxel_size: float | None = None,
    ) -> Comparison:
        """Compare two masks.

        Parameters
        ----------
        prediction, reference : ndarray, (z, y, x) or (y, x)
            Everything that is not 0 is inside.
        spacing : sequence of float
            Per axis, in the order of the axes.
        unit : str
            Of the spacing: "mm", or "px" where the size of a voxel is not known.
        voxel_size : float, optional
            Of one voxel in unit^ndim, where it is not the product of the spacing because the axes are oblique.

        Raises
        ------
        GeometryError
            Where the shapes differ or the spacing does not fit.
        InputError
            Where there are no voxels at all.
        """
        if prediction.shape != reference.shape:
            raise GeometryError(
                "metrics-shape",
                "The prediction does not lie on the grid of the reference",
                f"their shapes are {prediction.shape} and {reference.shape}",
                "Bring both to one grid.",
            )
        if reference.size == 0:
            raise InputError("metrics-empty", "There is nothing to compare", "the arrays hold no voxels", "")
        h = tuple(float(size) for size in spacing)
        check_spacing(h, reference.ndim)
        p, r = np.asarray(prediction) != 0, np.asarray(reference) != 0
        tp = int(np.count_nonzero(p & r))
        fp, fn = int(np.count_nonzero(p)) - tp, int(np.count_nonzero(r)) - tp
        box = bounding_box(p | r)
        inside = (slice(0, 0),) * p.ndim if box is None else box
        voxel = math.prod(h) if voxel_size is None else voxel_size
        return cls(
            tp=tp,
            fp=fp,
            fn=fn,
            tn=reference.size - tp - fp - fn,
            pairs=(Pair(p[inside].copy(), r[inside].copy(), h),),
            ndim=reference.ndim,
            unit=unit,
            predicted_size=(tp + fp) * voxel,
            reference_size=(tp + fn) * voxel,
        )

    @property
    def both_empty(self) -> bool:
        """Whether neither holds the structure."""
        return self.tp + self.fp + self.fn == 0

    @property
    def missed(self) -> bool:
        """Whether the reference holds the structure and the prediction does not."""
        return self.tp + self.fp == 0 and self.fn > 0

    @property
    def invented(self) -> bool:
        """Whether the prediction holds a structure that is not there."""
        return self.tp + self.fn == 0 and self.fp > 0

    @property
    def without_distance(self) -> int:
        """Pairs in which one of the two is empty: no distance is defined there, and they are never left unsaid."""
        return sum(bool(pair.prediction.any()) != bool(pair.reference.any()) for pair in self.pairs)

    @cached_property
    def surface_distances(self) -> tuple[Distances, Distances]:
        """From every surface voxel of the prediction to the reference's surface, and the other way, over all pairs."""
        return self._joined(0), self._joined(1)

    @cached_property
    def lone_surface(self) -> int:
        """Surface voxels of pairs in which the other mask is empty: no distance, and within no tolerance."""
        lone = [pair for pair in self.pairs if pair.prediction.any() != pair.reference.any()]
        return sum(int(np.count_nonzero(surface_voxels(pair.prediction | pair.reference))) for pair in lone)

    @cached_property
    def volume_means(self) -> tuple[float, float]:
        """Mean distance of all voxels of the prediction to the reference, and the other way; a voxel in both has 0."""
        both = [pair for pair in self.pairs if pair.prediction.any() and pair.reference.any()]
        predicted = sum(int(np.count_nonzero(pair.prediction)) for pair in both)
        referred = sum(int(np.count_nonzero(pair.reference)) for pair in both)
        return float(self._joined(2).sum()) / predicted, float(self._joined(3).sum()) / referred

    def _joined(self, which: int) -> Distances:
        return np.concatenate([pair.distances[which] for pair in self.pairs])


def pool(parts: Iterable[Comparison]) -> Comparison:
    """Several comparisons of one structure as one: the voxels and surfaces of all of them, such as a patient's slices.

    Raises
    ------
    InputError
        Where there are none, or they differ in unit or number of axes.
    """
    several = tuple(parts)
    if not several:
        raise InputError("metrics-pool", "There is nothing to compare", "no case was given", "Give at least one.")
    if len({(part.unit, part.ndim) for part in several}) > 1:
        raise InputError(
            "metrics-units",
            "Cases with and without a voxel size, or slices and volumes, cannot be pooled",
            "their distances have different units",
            "Evaluate them apart.",
        )
    if len(several) == 1:
        return several[0]
    return Comparison(
        tp=sum(part.tp for part in several),
        fp=sum(part.fp for part in several),
        fn=sum(part.fn for part in several),
        tn=sum(part.tn for part in several),
        pairs=tuple(pair for part in several for pair in part.pairs),
        ndim=several[0].ndim,
        unit=several[0].unit,
        predicted_size=sum(part.predicted_size for part in several),
        reference_size=sum(part.reference_size for part in several),
    )
