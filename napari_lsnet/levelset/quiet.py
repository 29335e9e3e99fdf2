"""Layers that we add by ourselves must not take the selection away from what the person is painting on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari.components import ViewerModel


@contextmanager
def keeping_selection(viewer: ViewerModel) -> Iterator[None]:
    """Add layers inside; what was selected is selected again."""
    selection = viewer.layers.selection
    selected, active = set(selection), selection.active
    yield
    viewer.layers.selection = selected
    viewer.layers.selection.active = active
