"""What the panel says of models, costs and results."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING

from napari_lsnet.segment.colours import colour_of
from napari_lsnet.views import time_text

if TYPE_CHECKING:
    from src_models.inference.outlook import Outlook
    from src_models.inference.prediction import Prediction
    from src_models.weights.card import ModelCard


def finds_text(card: ModelCard) -> str:
    """What a model finds, with the colours of its labels; rich text."""
    parts = [
        f"<span style='color:{colour_of(card.labels, label)}'>\N{BLACK SQUARE}</span> {html.escape(label.name)}"
        for label in card.labels
        if label.value != 0
    ]
    return "Finds " + ", ".join(parts[:8]) + (f" and {len(parts) - 8} more" if len(parts) > 8 else "")


def score_text(card: ModelCard) -> str:
    """How good it was on patients that it had not seen; "" where nothing is known."""
    known = unseen_score(card)
    if known is None:
        return ""
    mean, patients = known
    how = "with a click " if card.click is not None else ""
    return f"Dice {mean:.3f} {how}on " + (f"{patients} unseen patients" if patients else "unseen patients")


def unseen_score(card: ModelCard) -> tuple[float, int] | None:
    """Mean Dice of patients that the training had not seen, and how many they were, 0 where that is not known."""
    rows = [row for row in card.metrics if isinstance(row.get("dice"), int | float)]
    # one row a label and one for their mean; of several folds, one over all of them; and rows of other data sets
    rows = [row for row in rows if str(row.get("name", "mean")) == "mean"]
    folds = [row for row in rows if str(row.get("fold")).isdigit()]
    rows = [row for row in rows if str(row.get("fold")) == "all"][:1] or folds or rows
    if not rows:
        return None
    counts = [max(int(row.get("patients") or 1), 1) for row in rows]
    mean = sum(float(row["dice"]) * count for row, count in zip(rows, counts, strict=True)) / sum(counts)
    return mean, sum(counts) if sum(counts) > len(rows) else 0


def about_lines(card: ModelCard) -> list[tuple[str, str]]:
    """What else is to be known of a model, as pairs of a word and a text."""
    data, pre = card.training_data, card.preprocessing
    trained = [data.name, f"{data.patients} patients" if data.patients else "", data.citation]
    channels = ", ".join(channel.name for channel in pre.channels)
    size = "any voxel size" if pre.spacing is None else " x ".join(f"{h:.3g}" for h in pre.spacing) + f" {pre.unit}"
    expects = [card.modality, f"{card.ndim}D", f"channels: {channels}" if len(pre.channels) > 1 else channels, size]
    lines = [
        ("Task", card.task),
        ("Trained on", ", ".join(part for part in trained if part)),
        ("Expects", ", ".join(dict.fromkeys(part for part in expects if part))),
        ("Window", " x ".join(str(n) for n in card.patch) + " voxels"),
        ("Network", str(card.network.get("name", ""))),
        ("Unseen patients", ". ".join(filter(None, (score_text(card), card.metrics_note))) or "nothing is known"),
        ("Licence", card.weights_licence or data.licence or "not stated"),
        ("SHA-256", card.sha256[:16]),
        ("Use", card.intended_use),
    ]
    return [(word, text) for word, text in lines if text]


def about_text(card: ModelCard) -> str:
    """The same as rich text."""
    rows = [
        f"<tr><td style='padding-right:6px'>{word}</td><td>{html.escape(text)}</td></tr>"
        for word, text in about_lines(card)
    ]
    return f"<table cellspacing='0' cellpadding='1'>{''.join(rows)}</table>"


def forecast_text(outlook: Outlook, free: int, frames: int, seconds: float | None) -> tuple[str, bool]:
    """Cost in one line, and whether the memory is too small.

    Parameters
    ----------
    outlook : Outlook
        Of one image.
    free : int
        Bytes.
    frames : int
        Images.
    seconds : float or None
        Where this machine's pace is known.
    """
    from src_models.inference.memory import FREE_SHARE, gigabytes

    passes = outlook.passes * frames
    parts = [f"{passes:,} window{'s' if passes != 1 else ''}"]
    if outlook.passes != outlook.windows:
        parts[0] += f" ({outlook.passes // outlook.windows} forms of {outlook.windows * frames:,})"
    parts.append(f"up to {gigabytes(outlook.memory.peak)} of {free / 1e9:.0f} GB free")
    if seconds is not None:
        parts.append(f"about {time_text(seconds)}")
    text = ", ".join(parts)
    if outlook.memory.peak > FREE_SHARE * free:
        return f"{text}: too little memory. Draw a box, or ask for labels only.", True
    return text, False


def done_text(found: Prediction, sizes: Sequence[tuple[str, int, float | None]], ndim: int) -> str:
    """What was found, in one line.

    Parameters
    ----------
    found : Prediction
        The result.
    sizes : sequence of (str, int, float or None)
        Per label its name, voxels, and size in ml or mm2 where it is known.
    ndim : int
        Axes in space.
    """
    unit = "ml" if ndim == 3 else "mm\N{SUPERSCRIPT TWO}"
    counted = "voxels" if ndim == 3 else "pixels"
    parts = [
        f"{name} {amount:,.1f} {unit}" if amount is not None else f"{name} {voxels:,} {counted}"
        for name, voxels, amount in sizes
        if voxels
    ]
    seconds = time_text(found.record.duration_s)
    if not parts:
        notes = [note for note in found.notes if note.startswith("No voxel")]
        return notes[0] if notes else "No voxel was given a label."
    start = f"Done in {seconds}" if found.complete else "Stopped; what was finished is kept"
    shown = ", ".join(parts[:4]) + (f" and {len(parts) - 4} more labels" if len(parts) > 4 else "")
    return f"{start}: {shown}."
