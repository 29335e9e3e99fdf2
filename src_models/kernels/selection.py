"""Which kernels an experiment takes: by layer, label, cluster, operator, order, or by hand."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from src_models.errors import InputError
from src_models.kernels.result import Categories, KernelReport

_COLUMNS = {"layer": "layer", "label": "label", "cluster": "cluster", "pde_class": "pde_class", "kind": "kind"}


class Selection(BaseModel):
    """Kernels that satisfy everything that is given; what is empty asks nothing.

    Words may hold ``*``, as in ``decoder*``. Dead kernels are never taken, except by `rows`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    layer: tuple[str, ...] = ()
    label: tuple[str, ...] = ()
    cluster: tuple[str, ...] = ()
    pde_class: tuple[str, ...] = ()
    kind: tuple[str, ...] = ()
    order: tuple[int, ...] = Field((), description="Orders p.")
    largest_p: float | None = Field(None, description="p_any at most.")
    rows: tuple[int, ...] = Field((), description="Rows of the table, as from the viewer.")

    @property
    def name(self) -> str:
        """Short, such as ``label=edge; layer=decoder*``."""
        parts = [f"{key}={','.join(map(str, value))}" for key, value in self if isinstance(value, tuple) and value]
        parts = [part if len(part) <= 60 else part[:57] + "..." for part in parts]
        if self.largest_p is not None:
            parts.append(f"p<={self.largest_p:g}")
        return "; ".join(parts) or "all"

    @classmethod
    def parse(cls, text: str) -> Selection:
        """From text such as ``label=edge,mean; layer=decoder*``.

        Raises
        ------
        InputError
            Where a part is not of that form.
        """
        values: dict[str, Any] = {}
        for part in filter(None, (piece.strip() for piece in text.split(";"))):
            key, _, words = part.partition("=")
            key = key.strip()
            if key not in cls.model_fields or not words.strip():
                known = ", ".join(name for name in cls.model_fields)
                raise InputError("kernels-select", f"{part!r} selects nothing", "", f"Write label=edge; of: {known}.")
            if key == "largest_p":
                values[key] = words.strip()
                continue
            # names of operators hold a comma themselves
            pieces = [words.strip()] if key == "pde_class" else [word.strip() for word in words.split(",")]
            values[key] = (*values.get(key, ()), *pieces)
        try:
            return cls.model_validate(values)
        except ValueError as error:
            raise InputError("kernels-select", f"{text!r} cannot be read", "", "Write label=edge; order=1.") from error


def select(report: KernelReport, selection: Selection) -> NDArray[np.intp]:
    """The rows of the table that a selection takes, rising.

    Raises
    ------
    InputError
        Where it takes none, or names something that is not there.
    """
    table = report.table
    if selection.rows:
        rows = np.unique(np.array(selection.rows, np.intp))
        if rows[0] < 0 or rows[-1] >= len(table):
            raise InputError("kernels-rows", f"There is no row {rows[-1]}", f"the table has {len(table)} rows", "")
        return rows
    taken = ~table.numbers("dead").astype(bool)
    for key, column in _COLUMNS.items():
        words: Sequence[str] = getattr(selection, key)
        if words:
            taken = taken & _matching(table[column], words, key)
    if selection.order:
        taken = taken & np.isin(table.numbers("order_p"), selection.order)
    if selection.largest_p is not None:
        taken = taken & (table.numbers("p_any") <= selection.largest_p)
    rows = np.flatnonzero(taken)
    if rows.size == 0:
        raise InputError("kernels-select-none", f"No kernel has {selection.name}", "", "Choose others.")
    return rows


def _matching(column: Any, words: Sequence[str], key: str) -> NDArray[np.bool_]:
    if not isinstance(column, Categories):
        raise InputError("kernels-select", f"{key} is no column of words", "", "")
    wanted = [code for code, name in enumerate(column.names) if any(fnmatch.fnmatchcase(name, word) for word in words)]
    if not wanted:
        raise InputError(
            "kernels-select-word",
            f"No {key} is named {', '.join(words)}",
            "",
            f"There are: {', '.join(column.names[:12])}.",
        )
    return np.isin(column.codes, wanted)


def controls(report: KernelReport, rows: NDArray[np.intp], random: np.random.Generator) -> NDArray[np.intp]:
    """As many living kernels drawn at random: equal numbers per layer, matched by decile of the norm.

    Parameters
    ----------
    rows : ndarray of int
        The selection.
    random : Generator
        Of this draw.
    """
    norm, dead = report.table.numbers("norm"), report.table.numbers("dead").astype(bool)
    drawn: list[NDArray[np.intp]] = []
    for each in report.layers:
        mine = rows[(rows >= each.rows.start) & (rows < each.rows.stop)]
        if mine.size == 0:
            continue
        living = np.flatnonzero(~dead[each.rows]) + each.rows.start
        edges = np.quantile(norm[living], np.linspace(0, 1, 11)[1:-1])
        bins, wanted = np.digitize(norm[living], edges), np.digitize(norm[mine], edges)
        for decile, count in _counts(wanted).items():
            pool = living[bins == decile]
            drawn.append(random.choice(pool, min(count, len(pool)), replace=False))
    return np.sort(np.concatenate(drawn)) if drawn else np.zeros(0, np.intp)


def _counts(values: NDArray[np.intp]) -> Mapping[int, int]:
    found, counts = np.unique(values, return_counts=True)
    return dict(zip(found.tolist(), counts.tolist(), strict=True))
