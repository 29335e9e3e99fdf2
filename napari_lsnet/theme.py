"""Colours for what we draw ourselves, taken from napari's present theme."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

SEED_COLOUR = "#2ec4b6"
"""Of what a person draws for us; keeps apart from the contour, also for those who see no red or green."""


@dataclass(frozen=True)
class Colours:
    """Colours as ``#rrggbb``.

    Attributes
    ----------
    background, text, line, faint, warning, error : str
        Of the dock, its writing, a curve, a grid or an axis, and of what needs attention or went wrong.
    """

    background: str
    text: str
    line: str
    faint: str
    warning: str
    error: str


def colours() -> Colours:
    """The colours of the theme that napari shows now."""
    from napari.settings import get_settings
    from napari.utils.theme import get_theme

    theme = get_theme(get_settings().appearance.theme)
    return Colours(
        background=_hex(theme.background),
        text=_hex(theme.text),
        line=_hex(theme.current),
        faint=_hex(theme.primary),
        warning=_hex(theme.warning),
        error=_hex(theme.error),
    )


def on_theme_change(redraw: Callable[[], object]) -> Callable[[], None]:
    """Call `redraw` after the theme was changed; the function returned ends it."""
    from napari.settings import get_settings

    def told() -> None:
        redraw()

    signal = get_settings().appearance.events.theme
    signal.connect(told)
    return lambda: signal.disconnect(told)


def _hex(colour: object) -> str:
    red, green, blue = colour.as_rgb_tuple(alpha=False)  # type: ignore[attr-defined]
    return f"#{red:02x}{green:02x}{blue:02x}"
