"""Colours of labels: those of the model's card, else ones that are told apart without red against green."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from src_models.weights.card import Label

# Okabe and Ito's colours for all kinds of colour vision, without black.
_PALETTE = ("#e69f00", "#56b4e9", "#cc79a7", "#009e73", "#f0e442", "#0072b2", "#d55e00")

CONTOUR = "#ffc71a"
"""Of a moving contour."""


def colour_of(labels: Sequence[Label], label: Label) -> str:
    """The colour of one of the labels, as ``#rrggbb``."""
    if label.colour is not None and re.fullmatch("#[0-9a-fA-F]{6}", label.colour):
        return label.colour
    inside = [one.value for one in labels if one.value != 0]
    return _PALETTE[inside.index(label.value) % len(_PALETTE)]


def colours_of(labels: Sequence[Label]) -> Any:
    """The colours of a labels layer; values that are no label are shown in grey."""
    from napari.utils.colormaps import DirectLabelColormap

    chosen: dict[int | None, Any] = {None: "#a0a0a0", 0: "transparent"}
    chosen |= {label.value: colour_of(labels, label) for label in labels if label.value != 0}
    return DirectLabelColormap(color_dict=chosen)


def contour_colours(labels: Sequence[Label]) -> Any:
    """Colours of moving contours that can be told from the finished labels below them: of one label, a yellow line."""
    from napari.utils.colormaps import DirectLabelColormap

    inside = [label.value for label in labels if label.value != 0]
    if len(inside) != 1:
        return colours_of(labels)
    return DirectLabelColormap(color_dict={None: CONTOUR, 0: "transparent", inside[0]: CONTOUR})
