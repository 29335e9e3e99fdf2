"""Tables of metrics as CSV, Markdown and JSON; each says the formula and counts what has no value."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from src_models.metrics.table import Row, Score, Table


def to_csv(rows: Sequence[Row]) -> str:
    """One line per unit and structure; a value that is not defined is an empty cell."""
    columns: dict[str, str] = {}
    for row in rows:
        for name, found in row.measurements.items():
            columns.setdefault(name, f"{name}_{found.unit}" if found.unit else name)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["unit", "group", "structure", "status", "parts", "parts_without_distance", *columns.values()])
    for row in rows:
        cells = [_exact(row.measurements[name].value) if name in row.measurements else "" for name in columns]
        writer.writerow([row.unit, row.group, row.label, row.status, row.parts, row.without_distance, *cells])
    return out.getvalue()


def to_markdown(table: Table, heading: str = "") -> str:
    """The scores, with intervals and counts, and the formulas below."""
    lines = [heading, ""] if heading else []
    titles = ("structure", "metric", "mean", "95 % interval", "std", "median", "n", "defined")
    counts = ("both empty", "missed", "invented")
    lines += ["| " + " | ".join(titles + counts) + " |", "| --- " * 2 + "| ---: " * (len(titles) + 1) + "|"]
    for score in table.scores:
        interval = "-" if math.isnan(score.low) else f"{_short(score.low)} to {_short(score.high)}"
        cells = [
            _cell(score.label),
            f"{score.metric} ({score.unit})" if score.unit else score.metric,
            _short(score.mean),
            interval,
            _short(score.std),
            _short(score.median),
            *(str(number) for number in (score.n, score.defined, score.both_empty, score.missed, score.invented)),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    lines.append("")
    formulas = dict.fromkeys((score.metric, score.formula) for score in table.scores)
    lines += [f"- {metric} = {formula}" for metric, formula in formulas]
    lines += [
        "- A is the prediction, B the reference, S their surface voxels: those without all face neighbours inside.",
        "- n: units; defined: those with a value. A structure in only one of the two has no distance and is counted.",
        "- Interval: percentile bootstrap of the mean over patients.",
    ]
    return "\n".join(lines) + "\n"


def to_plain(table: Table) -> dict[str, Any]:
    """Scores and rows as plain JSON; what is not defined is null."""
    return {
        "scores": [_nulls(asdict(score)) for score in table.scores],
        "rows": [
            {
                "unit": row.unit,
                "group": row.group,
                "structure": row.label,
                "status": row.status,
                "parts": row.parts,
                "parts_without_distance": row.without_distance,
                "values": _nulls({name: found.value for name, found in row.measurements.items()}),
            }
            for row in table.rows
        ],
    }


def to_json(table: Table) -> str:
    """`to_plain` as text."""
    return json.dumps(to_plain(table), indent=2, ensure_ascii=False) + "\n"


def score_of(table: Table, label: str, metric: str) -> Score:
    """One score; KeyError where there is none."""
    for score in table.scores:
        if (score.label, score.metric) == (label, metric):
            return score
    raise KeyError((label, metric))


def _exact(value: float) -> str:
    return repr(float(value)) if math.isfinite(value) else ""


def _short(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else "-"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _nulls(values: dict[str, Any]) -> dict[str, Any]:
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in values.items()
    }
