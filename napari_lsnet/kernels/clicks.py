"""Clicks on the canvas that are no drags, whichever layer is selected."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari.components import ViewerModel


class Clicks:
    """Tells where the canvas was clicked, until it is released.

    Parameters
    ----------
    viewer : ViewerModel
        Whose canvas.
    tell : callable
        Given the place in the world.
    """

    def __init__(self, viewer: ViewerModel, tell: Callable[[Any], object]) -> None:
        self._callbacks = viewer.mouse_drag_callbacks
        self._tell = tell
        self._callbacks.append(self._hear)

    def release(self) -> None:
        """Hear no more."""
        if self._hear in self._callbacks:
            self._callbacks.remove(self._hear)

    def _hear(self, _viewer: Any, event: Any) -> Iterator[None]:
        place = tuple(event.position)
        first = getattr(event, "button", 1) in (1, None)
        yield
        if event.type == "mouse_move":
            return
        if first:
            self._tell(place)
