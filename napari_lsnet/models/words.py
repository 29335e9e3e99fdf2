"""What the models widget says: sizes, states, and the card of a model in short."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

from src_models.weights.listing import Entry

STATES = {
    "shipped": "comes with the plugin",
    "installed": "installed",
    "available": "can be downloaded",
    "damaged": "damaged",
}


def size_text(count: int) -> str:
    """Bytes as people say them; "" for none."""
    if not count:
        return ""
    return f"{count / 1e6:.1f} MB" if count >= 1e5 else f"{count / 1e3:.1f} kB"


def card_html(entry: Entry) -> str:
    """All that a person needs to choose a model, as rich text; nothing from a card is read as mark-up."""
    card = entry.card
    title = f"<b>{html.escape(entry.name)}</b>, version {html.escape(entry.version)}"
    if card is None:
        return f"{title}<br>{html.escape(entry.problem)}"
    preparation = card.preprocessing
    channels = ", ".join(f"{channel.name} ({channel.normalisation})" for channel in preparation.channels)
    spacing = " x ".join(f"{h:.3g}" for h in preparation.spacing) if preparation.spacing else ""
    rows = {
        "Task": card.task,
        "State": STATES[entry.state] + (f": {entry.problem}" if entry.problem else ""),
        "Use": card.intended_use,
        "Network": f"{card.network.get('name', '?')}, {card.ndim}D",
        "Input": channels + (f", voxels of {spacing} {preparation.unit}" if spacing else ""),
        "Labels": ", ".join(f"{label.value} {label.name}" for label in card.labels),
        "Trained on": _data(entry),
        "Licence": entry.licence or "not stated",
        "SHA-256": entry.sha256,
        "Scores": card.metrics_note if card.metrics else "",
    }
    lines = [f"<b>{name}:</b> {html.escape(value)}" for name, value in rows.items() if value.strip()]
    return "<br>".join([title, *lines]) + _scores(card.metrics)


def _data(entry: Entry) -> str:
    card = entry.card
    if card is None or not card.training_data.name:
        return "not stated"
    data = card.training_data
    counted = f", {data.patients} patients" if data.patients else f", {data.cases} cases" if data.cases else ""
    return data.name + counted + (f", {data.licence}" if data.licence else "")


def _scores(rows: Sequence[dict[str, Any]]) -> str:
    """What the card says of unseen patients, one line for each set and label."""
    return "".join(f"<br>- {html.escape(_score(row))}" for row in rows)


def _score(row: dict[str, Any]) -> str:
    """Trainings of this program give Dice with its interval; what others give is told as it is."""
    if not {"fold", "name", "dice", "low", "high", "patients"} <= row.keys():
        return ", ".join(f"{k} {v:.3f}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items())
    fold = f"fold {row['fold']}" if str(row["fold"]).isdigit() else f"{row['fold']}"
    values = f"{row['dice']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"
    return f"{fold}, {row['name']}: Dice {values}, {row['patients']} patients"
