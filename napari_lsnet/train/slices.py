"""Slices of a volume that hold labels, as pictures of one patient: accepted slices of a level set are learnt from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_FEWER = 2
# Labels lie in slices of another axis where these are so many times fewer than those of the first.


@dataclass(frozen=True)
class MarkedSlices:
    """Which slices of labels hold some.

    Attributes
    ----------
    axis : int
        Across the slices.
    places : tuple of int
        Of the slices that hold labels.
    count : int
        Slices along the axis.
    """

    axis: int
    places: tuple[int, ...]
    count: int

    @classmethod
    def of(cls, labels: NDArray[Any]) -> MarkedSlices:
        """Of labels (z, y, x); along z, unless another axis has far fewer slices with labels.

        Slices that were drawn across another axis are so taken as they were drawn.
        """
        inside = labels != 0
        held = [np.flatnonzero(inside.any(tuple(k for k in range(labels.ndim) if k != a))) for a in range(labels.ndim)]
        fewest = min(range(labels.ndim), key=lambda axis: len(held[axis]))
        axis = fewest if _FEWER * len(held[fewest]) < len(held[0]) else 0
        return cls(axis, tuple(int(place) for place in held[axis]), labels.shape[axis])

    @property
    def left_out(self) -> int:
        """Slices without labels."""
        return self.count - len(self.places)

    @property
    def has_gaps(self) -> bool:
        """Whether a slice without labels lies between two that hold some: nobody labels a whole organ so."""
        return bool(self.places) and self.places[-1] - self.places[0] + 1 > len(self.places)

    @property
    def sentence(self) -> str:
        """What is used and what is not."""
        used, others = len(self.places), self.left_out
        text = f"{used} of {self.count} slices hold{'s' if used == 1 else ''} labels"
        if not others:
            return f"{text}."
        return f"{text}; the other {others} {'is' if others == 1 else 'are'} left out."


def came_from_slices(layer: Any) -> bool:
    """Whether a labels layer says that a run on a single slice was accepted into it."""
    known = dict(layer.metadata).get("lsnet", {})
    records = [*known.get("records", {}).values(), *([known["record"]] if "record" in known else [])]
    regions = [(dict(record).get("source") or {}).get("region") or () for record in records]
    return any(isinstance(part, int) for region in regions for part in region)
