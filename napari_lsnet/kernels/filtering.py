"""Which kernels are shown: by label, class or cluster, and by how seldom chance gives one as near. No Qt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from src_models.kernels.result import KernelReport, KernelTable, LayerReport

COLUMNS = {"label": "Label", "pde_class": "Operator", "cluster": "Cluster"}
"""Columns of words that kernels can be chosen and coloured by, and what they are called."""

STATE_COLUMNS = {"drift": "Drift", "order_change": "Order, before and now"}
"""Such columns of a table that was joined with another state of the network."""
DIMMED_BY = {"drift": "drift_relative"}
"""Columns of numbers that dim the tiles while their words are shown: the smaller, the dimmer."""
_DIMMEST = 0.9
_FULL = 95


@dataclass(frozen=True)
class Word:
    """One word of a column in one layer.

    Attributes
    ----------
    name : str
        The word.
    count : int
        Kernels with it.
    share, null_share : float
        Of the living kernels, and of random ones; NaN where there is no such thing.
    enrichment, low, high : float
        With its 95 % interval; NaN where there is none.
    p : float
        Of Fisher's test; NaN where there is none.
    """

    name: str
    count: int
    share: float
    null_share: float
    enrichment: float
    low: float
    high: float
    p: float


@dataclass(frozen=True)
class Filter:
    """What is shown.

    Attributes
    ----------
    column : str
        A key of `COLUMNS`.
    names : frozenset of str or None
        Words that are shown; None for all.
    largest_p : float
        Kernels whose `p_any` is larger are hidden; 1 hides none.
    """

    column: str = "label"
    names: frozenset[str] | None = None
    largest_p: float = 1.0

    @property
    def hides_something(self) -> bool:
        """Whether it is no filter at all."""
        return self.names is not None or self.largest_p < 1


def shown_rows(table: KernelTable, rows: slice, chosen: Filter) -> NDArray[np.bool_]:
    """Which of some rows of the table are shown."""
    count = rows.stop - rows.start
    shown = np.ones(count, bool)
    if chosen.names is not None:
        column = table[chosen.column]
        names = np.array([name in chosen.names for name in column.names])  # type: ignore[union-attr]
        shown &= names[column.codes[rows]]  # type: ignore[union-attr]
    if chosen.largest_p < 1:
        # dead kernels have no p and are not rarer than chance
        shown &= np.nan_to_num(table.numbers("p_any")[rows], nan=1.0) <= chosen.largest_p
    return shown


def dimness(table: KernelTable, rows: slice, column: str) -> NDArray[np.float32] | None:
    """How much the tiles of some rows are dimmed while a column is shown, 0 to 1; None where nothing is.

    All above the 95th percentile are bright: single kernels that went far do not hide the others.
    """
    numbers = DIMMED_BY.get(column)
    if numbers is None or numbers not in table.columns:
        return None
    values = table.numbers(numbers)[rows].astype(np.float32)
    known = values[np.isfinite(values)]
    largest = float(np.percentile(known, _FULL)) if known.size else 0.0
    if largest <= 0:
        return np.full(len(values), _DIMMEST, np.float32)
    dim: NDArray[np.float32] = _DIMMEST * (1 - np.clip(np.nan_to_num(values, nan=0.0) / np.float32(largest), 0, 1))
    return dim


def words_of(report: KernelReport, found: LayerReport, column: str) -> tuple[Word, ...]:
    """The words of a column in a layer with their counts, beside chance where that is known."""
    nan = float("nan")
    column_words = report.table[column]
    codes = column_words.codes[found.rows]  # type: ignore[union-attr]
    counts = dict(
        zip(column_words.names, np.bincount(codes, minlength=len(column_words.names)).tolist(), strict=True)  # type: ignore[union-attr]
    )
    living = found.layer.count - found.dead
    shares = {share.name: share for share in {"label": found.labels, "pde_class": found.pde_classes}.get(column, ())}
    made = []
    for name, count in counts.items():
        share = shares.get(name)
        if share is not None:
            made.append(
                Word(name, count, share.share, share.null_share, share.enrichment, share.low, share.high, share.p)
            )
        elif count:
            made.append(
                Word(name, count, count / living if living and name != "dead" else nan, nan, nan, nan, nan, nan)
            )
    return tuple(word for word in made if word.count or word.null_share > 0)
