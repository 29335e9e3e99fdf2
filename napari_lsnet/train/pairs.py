"""Pairs of open layers, an image and its labels, that are trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal  # type: ignore[attr-defined]
from qtpy.QtWidgets import QCheckBox, QHBoxLayout, QListWidget, QPushButton, QVBoxLayout, QWidget

from napari_lsnet.layer_combo import LayerCombo
from napari_lsnet.layers import describe_layer
from napari_lsnet.roles import is_image, is_labels
from napari_lsnet.section import wrapped_line
from napari_lsnet.train.slices import MarkedSlices, came_from_slices
from napari_lsnet.train.source import Example, examples_of, numbered
from src_models.errors import InputError, LsnetError

if TYPE_CHECKING:
    from napari.components import ViewerModel


class PairList(QWidget):
    """Choose pairs of layers.

    Parameters
    ----------
    viewer : ViewerModel
        Whose layers.
    parent : QWidget, optional
        The usual.

    Attributes
    ----------
    changed : Signal()
        Other pairs.
    refused : Signal(str)
        Why a pair cannot be added.
    """

    changed = Signal()
    refused = Signal(str)

    def __init__(self, viewer: ViewerModel, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._layers = viewer.layers
        self._pairs: list[tuple[Any, Any]] = []
        self.image = LayerCombo(viewer, is_image, nothing="open an image")
        self.image.setToolTip("An image to learn from")
        self.labels = LayerCombo(viewer, is_labels, nothing="paint labels")
        self.labels.setToolTip("Its labels, complete: what is not labelled is learnt as background")
        self.add_button = QPushButton("Add")
        self.add_button.setToolTip("Train on this pair, too")
        self.remove_button = QPushButton("Remove")
        self.remove_button.setToolTip("Leave the selected pair out; the layers stay")
        self.list = QListWidget()
        self.list.setMinimumHeight(56)
        self.frames = QCheckBox("each time point is another patient")
        self.frames.setToolTip("Only where a stack holds pictures of different patients")
        self.marked = QCheckBox("only slices that hold labels")
        self.marked.setToolTip(
            "For slices that were accepted or painted here and there: they are learnt from as pictures, the others are "
            "left out. Off: the volume is labelled completely, and what is not labelled is background"
        )
        self.left_out = wrapped_line()
        self._slices: dict[tuple[int, int], MarkedSlices] = {}
        rows = QVBoxLayout(self)
        rows.setContentsMargins(0, 0, 0, 0)
        rows.setSpacing(3)
        for parts in ((self.image, self.labels), (self.add_button, self.remove_button)):
            row = QHBoxLayout()
            row.setSpacing(3)
            for part in parts:
                row.addWidget(part, 1)
            rows.addLayout(row)
        rows.addWidget(self.list, 1)
        rows.addWidget(self.frames)
        rows.addWidget(self.marked)
        rows.addWidget(self.left_out)
        self.add_button.clicked.connect(self.add)
        self.remove_button.clicked.connect(self.remove)
        self.frames.toggled.connect(lambda _: self.changed.emit())
        self.marked.toggled.connect(self._on_marked)
        viewer.layers.events.removed.connect(self._on_removed)
        self._show()

    def add(self) -> None:
        """Add the pair that is chosen."""
        image, labels = self.image.layer, self.labels.layer
        if image is None or labels is None:
            self.refused.emit("A pair needs an image and a labels layer. Open or paint what is missing.")
            return
        if any(one is image for one, _ in self._pairs):
            self.refused.emit(f"{image.name!r} is in the list already. Remove it first to give it other labels.")
            return
        try:
            (*_, example) = examples_of(image, labels, frames_are_patients=False)
        except LsnetError as error:
            self.refused.emit(str(error))
            return
        self._pairs.append((image, labels))
        if example.labels.ndim == 3:
            slices = self._slices[(id(image), id(labels))] = MarkedSlices.of(example.labels)
            if slices.places and (slices.has_gaps or (slices.left_out and came_from_slices(labels))):
                self.marked.setChecked(True)
        self._show()
        self.changed.emit()

    def remove(self) -> None:
        """Leave the selected pair out."""
        place = self.list.currentRow()
        if 0 <= place < len(self._pairs):
            del self._pairs[place]
            self._show()
            self.changed.emit()

    @property
    def count(self) -> int:
        """Of pairs."""
        return len(self._pairs)

    def key(self) -> tuple[tuple[int, int], ...]:
        """Which layers, and whether time points are patients."""
        return (
            *((id(image), id(labels)) for image, labels in self._pairs),
            (int(self.frames.isChecked()), int(self.takes_slices)),
        )

    @property
    def takes_slices(self) -> bool:
        """Whether slices that hold labels are the cases."""
        return self.marked.isChecked() and not self.marked.isHidden()

    def examples(self) -> tuple[Example, ...]:
        """The pairs, read from their layers.

        Raises
        ------
        InputError, GeometryError
            Where there are none, or they do not fit any more.
        """
        if not self._pairs:
            raise InputError("pairs-none", "There is no pair to learn from", "", "Choose image and labels, then Add.")
        how = {"frames_are_patients": self.frames.isChecked(), "marked_slices": self.takes_slices}
        return numbered([one for pair in self._pairs for one in examples_of(*pair, **how)])

    def _on_marked(self) -> None:
        self._tell_left_out()
        self.changed.emit()

    def _tell_left_out(self) -> None:
        """Which slices are not learnt from."""
        said = [
            f"{image.name}: {self._slices[key].sentence}"
            for image, labels in self._pairs
            if (key := (id(image), id(labels))) in self._slices
        ]
        self.left_out.setText("\n".join(said) if self.takes_slices else "")
        self.left_out.setVisible(bool(self.left_out.text()))

    def _on_removed(self, _event: Any = None) -> None:
        try:
            kept = [pair for pair in self._pairs if all(layer in self._layers for layer in pair)]
            if len(kept) != len(self._pairs):
                self._pairs = kept
                self._show()
                self.changed.emit()
        except RuntimeError:  # the dock may be gone before the viewer
            return

    def _show(self) -> None:
        self.list.clear()
        timed = flat = False
        for image, labels in self._pairs:
            self.list.addItem(f"{image.name}  +  {labels.name}")
            timed = timed or "t" in describe_layer(image).roles
            key = (id(image), id(labels))
            flat = flat or (key in self._slices and self._slices[key].left_out > 0)
        self.frames.setVisible(timed)
        self.marked.setVisible(flat)
        self._tell_left_out()
