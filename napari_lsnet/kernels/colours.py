"""Colours of this room: one for each word of a column, and the scale of the weights. No red beside green."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

KNOWN = "#d62728"
"""Of the known kernels, red squares as in the paper."""
MARK = "#ffd400"
"""Around the kernel on show."""
TOWARDS, AGAINST = "#f0913a", "#3d8fd1"
"""Of what speaks for a label, and against it: the two sides of the scale of the weights."""
SMOOTHING, SHARPENING, INDEFINITE = "#56b4e9", "#e69f00", "#cc79a7"
"""Of diffusion: both eigenvalues positive, both negative, one of each."""
_GREY = {"indeterminate": "#9aa0a6", "dead": "#55595e", "none": "#9aa0a6", "higher order": "#9aa0a6"}
_FIXED = _GREY | {
    "moved under 1 %": "#6c6fa8",
    "moved 1 to 10 %": "#3aa0d8",
    "moved 10 to 50 %": "#e6c229",
    "moved over 50 %": "#f4602a",
    "began at 0": "#9aa0a6",
    "same order": "#9aa0a6",
    "other order": "#f4602a",
}
"""Words with a meaning of their own: what is nothing special is grey, and what moved far is warm."""
# Okabe and Ito's without black, then lighter and darker relatives for long lists
_WORDS = (
    "#56b4e9",
    "#e69f00",
    "#009e73",
    "#cc79a7",
    "#f0e442",
    "#0072b2",
    "#d55e00",
    "#b19cd9",
    "#a6d854",
    "#8c564b",
    "#66c2a5",
    "#e5c494",
    "#e7298a",
    "#7570b3",
)
_WEIGHTS = ("#053a77", "#3d8fd1", "#f4f4f2", "#f0913a", "#8a3400")


def colours_of(names: Sequence[str]) -> tuple[str, ...]:
    """A colour per word; words for what has no name are grey, and those for how far a kernel moved have an order."""
    found, place = [], 0
    for name in names:
        if name in _FIXED:
            found.append(_FIXED[name])
        else:
            found.append(_WORDS[place % len(_WORDS)])
            place += 1
    return tuple(found)


def weight_colours() -> Any:
    """Blue is negative, white is 0, orange is positive."""
    from napari.utils import Colormap

    return Colormap([_rgba(colour) for colour in _WEIGHTS], name="kernel weights")


def weight_colour(value: float, largest: float) -> tuple[int, int, int]:
    """The same scale for one value: red, green, blue from 0 to 255."""
    place = (min(max(value / largest, -1.0), 1.0) + 1) / 2 * (len(_WEIGHTS) - 1) if largest > 0 else 2.0
    low = min(int(place), len(_WEIGHTS) - 2)
    share = place - low
    one, two = _rgba(_WEIGHTS[low]), _rgba(_WEIGHTS[low + 1])
    red, green, blue = (round(255 * (a + share * (b - a))) for a, b in zip(one[:3], two[:3], strict=True))
    return red, green, blue


def cover_colours(background: str) -> Any:
    """Nothing, and a veil of the canvas's colour."""
    from napari.utils import Colormap

    red, green, blue, _ = _rgba(background)
    return Colormap([(red, green, blue, 0.0), (red, green, blue, 0.88)], name="hidden by the filter")


def _rgba(colour: str) -> tuple[float, float, float, float]:
    red, green, blue = (int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5))
    return red, green, blue, 1.0
