"""How kernels moved from their start in a training, epoch by epoch: read from its log.

A training of a level set network writes the distance of each kernel from its stencil as columns ``drift_...`` of
``log.jsonl`` and ``log.csv``; `drift.json_lines` writes more, one line a kernel and epoch. All are read here.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from src_models.errors import FileError
from src_models.files.gate import check_file, shown_name

LARGEST = 2**28
_COLUMN = re.compile(r"drift_(\w+?)_(\d+)")


@dataclass(frozen=True, eq=False)
class Curves:
    """Distances from the start.

    Attributes
    ----------
    families : mapping of str to mapping of int to tuple of (float, float)
        By family, such as ``"level0_rho"`` or the name of a layer, and number of the kernel: epoch and |K - F| / |F|,
        by rising epoch.
    """

    families: Mapping[str, Mapping[int, tuple[tuple[float, float], ...]]]

    def __len__(self) -> int:
        return sum(len(kernels) for kernels in self.families.values())

    def last(self) -> list[tuple[str, int, float, float]]:
        """Family, kernel, newest epoch and distance of each, the farthest first."""
        found = [(name, k, *points[-1]) for name, several in self.families.items() for k, points in several.items()]
        return sorted(found, key=lambda each: -each[3])


def read_curves(path: Path) -> Curves:
    """The curves of a log.

    Parameters
    ----------
    path : Path
        ``log.jsonl`` or ``log.csv`` of a training, or lines of `drift.json_lines`.

    Raises
    ------
    FileError
        Where it is missing, is no log, or says nothing of kernels.
    """
    check_file(path)
    name = shown_name(path)
    if path.stat().st_size > LARGEST:
        raise FileError("drift-size", f"{name} is too large for a log", "", "Choose log.csv of a training.")
    try:
        text = path.read_text(encoding="utf-8")
        rows = (
            csv.DictReader(io.StringIO(text)) if path.suffix.lower() == ".csv" else map(json.loads, text.splitlines())
        )
        gathered = _gathered(rows)
    except (ValueError, TypeError, csv.Error) as error:
        raise FileError(
            "drift-log", f"{name} is not the log of a training", "", "Choose its log.jsonl or log.csv."
        ) from error
    if not gathered:
        raise FileError(
            "drift-none",
            f"{name} says nothing of how kernels moved",
            "only trainings of level set networks watch them",
            "Choose the log of such a training.",
        )
    return Curves(
        {
            family: {number: tuple(sorted(points.items())) for number, points in sorted(several.items())}
            for family, several in gathered.items()
        }
    )


def log_of(model: str) -> Path | None:
    """The log of the training that a folder or a file of weights is of, where it watched its kernels."""
    path = Path(model)
    for folder in (path, path.parent) if path.exists() else ():
        log = folder / "log.jsonl"
        if log.is_file() and log.stat().st_size <= LARGEST and "drift_" in log.read_text("utf-8", errors="replace"):
            return log
    return None


def _gathered(rows: Iterable[Any]) -> dict[str, dict[int, dict[float, float]]]:
    found: dict[str, dict[int, dict[float, float]]] = {}

    def put(family: str, number: int, epoch: Any, value: Any) -> None:
        if value in (None, ""):
            return
        at, distance = float(epoch), float(value)
        if math.isfinite(at) and math.isfinite(distance):
            # a training that went on from an earlier epoch tells some epochs twice: the newest holds
            found.setdefault(family, {}).setdefault(number, {})[at] = distance

    for row in rows:
        if not isinstance(row, Mapping) or "epoch" not in row:
            continue
        if "relative" in row and "kernel" in row:
            put(str(row.get("layer", "")), int(row["kernel"]), row["epoch"], row["relative"])
            continue
        for column, value in row.items():
            match = _COLUMN.fullmatch(str(column))
            if match is not None:
                put(match.group(1), int(match.group(2)), row["epoch"], value)
    return found


def curves_section(found: Curves) -> str:
    """A section of the page: the kernels that went farthest."""
    text = (
        "The distance of each kernel from the finite difference that it began as, in units of that difference's "
        "length (spare kernels began near 0). 0 is the solver's own kernel; 1 is as far from it as no kernel at all."
    )
    rows = "".join(
        f"<tr><td>{escape(name)} {number}</td><td>{epoch:g}</td><td>{distance:.4g}</td></tr>"
        for name, number, epoch, distance in found.last()[:12]
    )
    head = "<tr><th>kernel</th><th>epoch</th><th>|K - F| / |F|</th></tr>"
    return f"<h2>Drift in training</h2><p>{text}</p><table>{head}{rows}</table>"
