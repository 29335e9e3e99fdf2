"""Experiments with kernels as files: CSV of selections and of cases, JSON with everything, and one page for people."""

from __future__ import annotations

import base64
import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from html import escape
from typing import Any

import numpy as np

from src_models.kernels.knockout import Effect, Paired

SCHEMA = 1
_NAMES = ("selection", "operation", "kernels", "layers", "energy", "change", "low", "high")
_MORE = ("excess", "excess_low", "excess_high", "p", "p_spared")
_STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:1100px;margin:2em auto;padding:0 1em;color:#222}
img{max-width:100%;border:1px solid #ddd}table{border-collapse:collapse;font-size:13px}
td,th{border-bottom:1px solid #ddd;padding:2px 8px;text-align:right}td:first-child,th:first-child{text-align:left}
.note{color:#666}"""


def effects_csv(effects: Sequence[Effect]) -> bytes:
    """One row a selection; columns of the distance are empty where it was not measured."""
    apart = ("unit", "before", "after", "change", "low", "high", "control_mean", "excess", "excess_low", "excess_high")
    last = ("p", "p_spared", "lost_before", "lost_after")
    head = [*_NAMES, "control_mean", "control_low", "control_high", *_MORE, "per_kernel", "patients"]
    head += [f"distance_{name}" for name in (*apart, *last)]
    rows = []
    for one in effects:
        told = vars(one)
        row = [*(told[name] for name in _NAMES), *_around(one), *(told[name] for name in _MORE)]
        row += [one.per_kernel, len(one.before)]
        far = one.distance
        if far is None:
            row += [""] * len((*apart, *last))
        else:
            row += [far.unit, _mean(far.before.values()), _mean(far.after.values()), far.change, far.low, far.high]
            row += [_around(far)[0], far.excess, far.excess_low, far.excess_high]
            row += [far.p, far.p_spared, far.lost_before, far.lost_after]
        rows.append(row)
    return _csv(head, rows)


def cases_csv(effects: Sequence[Effect]) -> bytes:
    """One row a selection and case: score and distance of the surfaces before and after."""
    head = ("selection", "operation", "case", "patient", "before", "after", "distance_before", "distance_after")
    return _csv(head, [[one.selection, one.operation, *vars(case).values()] for one in effects for case in one.cases])


def effects_json(effects: Sequence[Effect], metric: str, settings: Mapping[str, Any]) -> bytes:
    """Everything, with every control and dose; numbers that are not finite are null.

    Parameters
    ----------
    effects : sequence of Effect
        What was found.
    metric : str
        Name of the score.
    settings : mapping
        From which the run can be repeated: hash of the weights, selections, operation, seed.
    """
    told = [_plain(asdict(one)) | {"per_kernel": _plain(one.per_kernel)} for one in effects]
    content = {"schema": SCHEMA, "metric": metric, "settings": _plain(dict(settings)), "effects": told}
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()


def effects_section(effects: Sequence[Effect], metric: str, figures: Mapping[str, bytes] | None = None) -> str:
    """A section of the page: effect against control, the distance of the surfaces, and the dose curves."""
    text = (
        f"Each row is the mean change of {escape(metric)} over patients when these kernels are changed, beside the "
        "change when as many of the same layers and norms, drawn at random, are changed in the same way. Only what "
        "goes beyond random kernels says that these kernels matter more than others."
    )
    parts = [f"<h2>What kernels do for the result</h2><p>{text}</p>", _table(effects)]
    if any(one.distance is not None for one in effects):
        parts.append(_distances(effects))
    for key, content in (figures or {}).items():
        title, words = _EXPLAINED[key]
        picture = base64.b64encode(content).decode("ascii")
        parts.append(f"<h3>{title}</h3><p>{words}</p><p><img alt='{title}' src='data:image/png;base64,{picture}'></p>")
    return "\n".join(parts)


def effects_page(
    name: str, effects: Sequence[Effect], metric: str, figures: Mapping[str, bytes], told: Sequence[str] = ()
) -> str:
    """The experiment alone on one page; it stands by itself, every text escaped.

    Parameters
    ----------
    name : str
        Of the model.
    effects, metric, figures
        As `effects_section` takes them.
    told : sequence of str
        Further sentences: how it was made.
    """
    title = f"What the kernels of {escape(name)} do for the result"
    notes = "".join(f"<p class='note'>{escape(note)}</p>" for note in told)
    patients = len(effects[0].before) if effects else 0
    first = f"<p>{patients} patients; {len(effects[0].controls) if effects else 0} random selections each.</p>"
    return (
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'><title>{title}</title><style>{_STYLE}</style>"
        f"</head><body><h1>{title}</h1>{first}{effects_section(effects, metric, figures)}{notes}</body></html>\n"
    )


_EXPLAINED = {
    "effects": (
        "Effect against control",
        "Each dark point is the mean change over patients when the named kernels are changed, with its 95 % interval "
        "over patients. The pale points are as many kernels drawn at random: where the dark point lies among them, "
        "these kernels matter as others do.",
    ),
    "doses": (
        "Dose curve",
        "From the network as it is (0) to the full change (1), in steps between. The pale points at the right are the "
        "random selections at full strength.",
    ),
}


def _table(effects: Sequence[Effect]) -> str:
    head = (
        "<tr><th>changed</th><th>kernels</th><th>share of energy</th><th>change (95 %)</th><th>random kernels</th>"
        "<th>beyond random (95 %)</th><th>p: more, less than random</th></tr>"
    )
    rows = "".join(
        f"<tr><td>{escape(one.selection)}, {escape(one.operation)}</td><td>{one.kernels}</td><td>{one.energy:.3f}</td>"
        f"<td>{_signed(one.change, one.low, one.high)}</td><td>{_around(one)[0]:+.4f}</td>"
        f"<td>{_signed(one.excess, one.excess_low, one.excess_high)}</td>"
        f"<td>{one.p:.3f}, {one.p_spared:.3f}</td></tr>"
        for one in effects
    )
    return f"<table>{head}{rows}</table>"


def _distances(effects: Sequence[Effect]) -> str:
    unit = next(one.distance.unit for one in effects if one.distance is not None)
    text = (
        f"Mean distance of the surfaces in {unit}, over patients that have one before and after; larger is worse. "
        "Lost: structures that the prediction or the reference has alone, for which there is no distance; where many "
        "are lost, what is left flatters the change."
    )
    head = (
        "<tr><th>changed</th><th>before</th><th>after</th><th>change (95 %)</th><th>random kernels</th>"
        "<th>beyond random (95 %)</th><th>p: more, less than random</th><th>lost before, after</th></tr>"
    )
    rows = []
    for one in effects:
        far = one.distance
        if far is not None:
            before, after = _mean(far.before.values()), _mean(far.after.values())
            rows.append(
                f"<tr><td>{escape(one.selection)}, {escape(one.operation)}</td>"
                f"<td>{_number(before)}</td><td>{_number(after)}</td><td>{_signed(far.change, far.low, far.high, 2)}"
                f"</td><td>{_number(_around(far)[0])}</td>"
                f"<td>{_signed(far.excess, far.excess_low, far.excess_high, 2)}</td>"
                f"<td>{_number(far.p, 3)}, {_number(far.p_spared, 3)}</td>"
                f"<td>{far.lost_before}, {far.lost_after}</td></tr>"
            )
    return f"<h3>Distance of the surfaces</h3><p>{text}</p><table>{head}{''.join(rows)}</table>"


def _around(one: Paired) -> list[float]:
    """Mean of the controls, and the middle 95 % of them."""
    known = [value for value in one.controls if math.isfinite(value)]
    if not known:
        return [math.nan] * 3
    return [float(np.mean(known)), *np.percentile(known, (2.5, 97.5)).tolist()]


def _signed(value: float, low: float, high: float, digits: int = 4) -> str:
    """A change with its interval; a single patient has none."""
    if not math.isfinite(value):
        return "-"
    told = f"{value:+.{digits}f}"
    return told if not math.isfinite(low) else f"{told} ({low:+.{digits}f} to {high:+.{digits}f})"


def _number(value: float, digits: int = 2) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else "-"


def _mean(values: Any) -> float:
    known = [value for value in values if math.isfinite(value)]
    return float(np.mean(known)) if known else math.nan


def _csv(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> bytes:
    target = io.StringIO()
    writer = csv.writer(target, lineterminator="\n")
    writer.writerow(head)
    writer.writerows([[_text(value) for value in row] for row in rows])
    return target.getvalue().encode()


def _text(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.6g}" if math.isfinite(value) else ""


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
