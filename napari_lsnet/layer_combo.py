"""A combo box of layers that follows the viewer: it keeps layers, not names."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal  # type: ignore[attr-defined]
from qtpy.QtWidgets import QComboBox, QSizePolicy, QWidget

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer


class LayerCombo(QComboBox):
    """Choose one of the viewer's layers.

    Parameters
    ----------
    viewer : ViewerModel
        Whose layers.
    accepts : callable
        Which of them may be chosen.
    nothing : str
        What stands in the box while there is nothing to choose; with `may_be_empty` it is always the first choice.
    may_be_empty : bool
        Whether choosing no layer is possible where there are some.
    by_itself : callable, optional
        Which layers are chosen without a click, when none is chosen yet; by default all, or none with `may_be_empty`.
    parent : QWidget, optional
        The usual.

    Attributes
    ----------
    layer_changed : Signal(object)
        The chosen layer or None, when it is another one than before.
    """

    layer_changed = Signal(object)

    def __init__(
        self,
        viewer: ViewerModel,
        accepts: Callable[[Layer], bool],
        *,
        nothing: str,
        may_be_empty: bool = False,
        by_itself: Callable[[Layer], bool] | None = None,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._layers_of_viewer = viewer.layers
        self._accepts = accepts
        self._nothing = nothing
        self._may_be_empty = may_be_empty
        self._by_itself = by_itself
        self._listed: list[Layer | None] = []
        self._chosen: Layer | None = None
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(8)
        events = viewer.layers.events
        self._watched = (events.inserted, events.removed, events.reordered)
        for event in self._watched:
            event.connect(self._refresh)
        self.activated.connect(self._on_activated)
        self._refresh()

    @property
    def layer(self) -> Any:
        """The chosen layer, or None."""
        return self._chosen

    def choose(self, layer: Layer | None) -> None:
        """Choose a layer that the combo accepts."""
        if layer in self._listed and layer is not self._chosen:
            self._chosen = layer
            self.setCurrentIndex(self._listed.index(layer))
            self.layer_changed.emit(layer)

    def _on_activated(self, index: int) -> None:
        self.choose(self._listed[index])

    def _refresh(self, _event: Any = None) -> None:
        # psygnal and napari events hold a strong reference to no one; the box may be gone before the viewer.
        try:
            self.count()
        except RuntimeError:
            return
        found: list[Any] = [layer for layer in reversed(self._layers_of_viewer) if self._accepts(layer)]
        self._listed = [None, *found] if self._may_be_empty or not found else found
        chosen = self._chosen if self._chosen in self._listed else self._listed[0]
        if chosen is None and self._by_itself is not None:
            chosen = next(filter(self._by_itself, found), None)
        self.blockSignals(True)
        self.clear()
        for layer in self._listed:
            self.addItem(self._nothing if layer is None else layer.name)
        self.setCurrentIndex(self._listed.index(chosen))
        self.blockSignals(False)
        for layer in found:
            layer.events.name.connect(self._rename)
        if chosen is not self._chosen:
            self._chosen = chosen
            self.layer_changed.emit(chosen)

    def _rename(self, _event: Any = None) -> None:
        try:
            for index, layer in enumerate(self._listed):
                if layer is not None:
                    self.setItemText(index, layer.name)
        except RuntimeError:  # the box is gone
            return
