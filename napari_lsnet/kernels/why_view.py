"""*Why here?*: a click on the image, and which terms and kernels led to the decision there, linked to their tiles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, Signal  # type: ignore[attr-defined]
from qtpy.QtGui import QBrush, QColor
from qtpy.QtWidgets import QComboBox, QHeaderView, QPushButton, QTreeWidget, QTreeWidgetItem, QVBoxLayout, QWidget

from napari_lsnet.background import Background
from napari_lsnet.kernels.clicks import Clicks
from napari_lsnet.kernels.colours import AGAINST, MARK, TOWARDS
from napari_lsnet.kernels.pictures import KernelPicture
from napari_lsnet.kernels.why import Line, WhyQuestion, lines_of, signed, why_question, words_of
from napari_lsnet.layer_combo import LayerCombo
from napari_lsnet.layers import result_transform
from napari_lsnet.roles import is_live
from napari_lsnet.run_controls import row_of
from napari_lsnet.section import wrapped_line
from src_models.errors import LsnetError

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_lsnet.image_input import ImageInput
    from napari_lsnet.kernels.results import Results
    from src_models.kernels.why_here import WhyHere

ROLE = "live why here"
_ROW = Qt.ItemDataRole.UserRole
_LIKELIEST = "the likeliest label"


class WhyView(QWidget):
    """Asks for one place at a time and lists what led to it.

    Parameters
    ----------
    viewer : ViewerModel
        With the image.
    results : Results
        What is on show.
    image : ImageInput
        The choice of the image.
    parent : QWidget, optional
        The usual.

    Attributes
    ----------
    told, refused : Signal(str)
        For the status line.
    """

    told = Signal(str)
    refused = Signal(str)

    def __init__(self, viewer: ViewerModel, results: Results, image: ImageInput, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer, self._results, self._image = viewer, results, image
        self.found: WhyHere | None = None
        self.lines: tuple[Line, ...] = ()
        self._layer: Any = None
        self._build()
        self._work = Background(self, wait_ms=0)
        self._work.answered.connect(self._on_answer)
        self._work.failed.connect(self._on_failed)
        self.button.toggled.connect(self._on_button)
        self.tree.currentItemChanged.connect(self._on_item)
        self.tree.itemDoubleClicked.connect(self._on_double)
        clicks = Clicks(viewer, self._on_click)
        self.destroyed.connect(clicks.release)

    def _build(self) -> None:
        self.button = QPushButton("Why here?")
        self.button.setCheckable(True)
        self.button.setToolTip("Click a place of the image, best on a boundary: what led to the decision there")
        self.label = QComboBox()
        self.label.setToolTip("Which label is asked about")
        self.label.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.label.setMinimumContentsLength(8)
        self.label.addItem(_LIKELIEST, None)
        self.clicks = LayerCombo(self._viewer, _is_points, nothing="this model begins at a click: add points")
        self.clicks.setToolTip("Points inside the structure, where this model begins")
        self.clicks.hide()
        self.line = wrapped_line()
        self.tree = QTreeWidget()
        self.tree.setColumnCount(2)
        self.tree.setUniformRowHeights(True)
        self.tree.setRootIsDecorated(True)
        self.tree.setIndentation(12)
        self.tree.setMinimumHeight(150)
        self.tree.setMaximumHeight(190)
        self.tree.setToolTip("Choose a line: its tile is marked. Double click: the view moves there, the card opens")
        header = self.tree.header()
        if header is not None:
            header.setStretchLastSection(False)
            header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
            header.setSectionResizeMode(1, QHeaderView.ResizeMode.ResizeToContents)
        self.picture = KernelPicture()
        self.kernel_line = wrapped_line()
        rows = QVBoxLayout(self)
        rows.setContentsMargins(0, 0, 0, 0)
        rows.setSpacing(4)
        rows.addLayout(row_of((self.button, 1), (self.label, 1)))
        for part in (self.clicks, self.line, self.tree, self.kernel_line, self.picture):
            rows.addWidget(part)
        self._say("")
        self._show_lines(())

    @property
    def is_busy(self) -> bool:
        """Whether an answer is on its way."""
        return self._work.is_busy

    @property
    def layer(self) -> Any:
        """The mark on the place, or None."""
        return self._layer if self._layer is not None and self._layer in self._viewer.layers else None

    # ---- what it causes

    def follow(self) -> None:
        """Another analysis: other labels, and no answer holds."""
        self.forget()
        self.label.clear()
        self.label.addItem(_LIKELIEST, None)
        analysis = self._results.analysis
        card = None if analysis is None else analysis.source.card
        for label in () if card is None else card.labels:
            self.label.addItem(label.name, label.channel)
        self.clicks.setVisible(card is not None and card.click is not None)

    def forget(self) -> None:
        """The answer is about what is no longer there."""
        self._work.forget()
        self.button.setChecked(False)
        self._say("")
        self.found = None
        self._show_lines(())
        if self.layer is not None:
            self._viewer.layers.remove(self.layer)
        self._layer = None

    def ask(self, world: Any) -> None:
        """Ask about a place in the world."""
        analysis = self._results.analysis
        if analysis is None:
            return
        reason = self._image.why_not()
        if reason:
            self.refused.emit(reason)
            return
        if self._viewer.dims.ndisplay == 3:
            self.refused.emit("In the 3D view a click is no single place. Switch to 2D, and ask again.")
            return
        try:
            question = why_question(
                self._viewer,
                analysis.source,
                self._image.layer,
                world,
                self.label.currentData(),
                self.clicks.layer,
            )
        except LsnetError as error:
            self.refused.emit(str(error))
            return
        self._mark(question)
        self._say("Looking at what led to this place...")
        self._work.ask(question.answer)

    def _on_button(self, on: bool) -> None:
        if not on:
            return
        reason = self._image.why_not()
        if self._results.analysis is None or reason:
            self.button.setChecked(False)
            if reason:
                self.refused.emit(reason)
        else:
            self.told.emit("Click a place of the image, best on the boundary of a label.")

    def _on_click(self, position: Any) -> None:
        # a tile or a point that is clicked meanwhile is looked at as always
        if not self.button.isChecked() or self._results.shown.row_at(position) is not None:
            return
        self.button.setChecked(False)
        self.ask(position)

    def _on_answer(self, answer: tuple[WhyQuestion, WhyHere]) -> None:
        question, found = answer
        analysis = self._results.analysis
        if analysis is None or analysis.source is not question.source:
            return
        self.found = found
        self._say(words_of(found))
        self._show_lines(lines_of(found, analysis.report))
        self.told.emit("Why here: choose a line below to see its kernel.")

    def _on_failed(self, error: Exception) -> None:
        said = str(error) if isinstance(error, LsnetError) else "This place could not be looked at; nothing is changed."
        self._say("")
        self.refused.emit(said)

    def _say(self, text: str) -> None:
        self.line.setText(text)
        self.line.setVisible(bool(text))

    # ---- the list

    def _show_lines(self, lines: tuple[Line, ...]) -> None:
        self.lines = lines
        self.tree.blockSignals(True)
        self.tree.clear()
        exact = self.found is not None and self.found.increments is not None
        self.tree.setHeaderLabels(
            ["Part", "mm of u"] if exact else ["Kernel: input \N{RIGHTWARDS ARROW} output", "effect"]
        )
        for line in lines:
            self.tree.addTopLevelItem(_item(line))
        self.tree.setRootIsDecorated(exact)
        if exact:
            self.tree.expandToDepth(0)
        self.tree.blockSignals(False)
        self.tree.setVisible(bool(lines))
        self._show_kernel(None)

    def _on_item(self, item: QTreeWidgetItem | None, _before: QTreeWidgetItem | None) -> None:
        row = None if item is None else item.data(0, _ROW)
        if row is not None:
            self._results.show_row(int(row))
        self._show_kernel(row)

    def _on_double(self, item: QTreeWidgetItem, _column: int) -> None:
        if item.data(0, _ROW) is not None:
            self._results.montage_button.click()
            self._results.open_tab("Kernel")

    def _show_kernel(self, row: int | None) -> None:
        facts = self._results.card.facts if row is not None else None
        self.picture.setVisible(facts is not None)
        self.kernel_line.setVisible(facts is not None)
        if facts is not None:
            self.picture.show_kernel(facts.kernel, facts.largest, facts.nearest)
            self.kernel_line.setText(f"{facts.title}: {facts.label}.")

    # ---- the mark

    def _mark(self, question: WhyQuestion) -> None:
        image, region = question.seen.image, question.seen.region
        inside = iter(question.place)
        spatial = [axis for axis, part in enumerate(region) if isinstance(part, slice)]
        point = [[next(inside) if axis in spatial else 0.0 for axis in range(len(region))]]
        place = result_transform(image, region)
        layer = self.layer
        if layer is not None and layer.ndim != len(region):
            self._viewer.layers.remove(layer)
            layer = None
        if layer is not None:
            layer.data = point
            for key, value in place.items():
                setattr(layer, key, value)
            return
        active, selected = self._viewer.layers.selection.active, set(self._viewer.layers.selection)
        self._layer = self._viewer.add_points(
            point,
            name="Why here",
            symbol="cross",
            face_color=MARK,
            border_color=MARK,
            border_width=0.05,
            size=1,
            canvas_size_limits=(12, 12),
            metadata={"lsnet": {"role": ROLE}},
            **place,
        )
        self._viewer.layers.selection = selected
        self._viewer.layers.selection.active = active


def _item(line: Line) -> QTreeWidgetItem:
    item = QTreeWidgetItem([line.text, signed(line.value)])
    item.setTextAlignment(1, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
    item.setForeground(1, QBrush(QColor(TOWARDS if line.value > 0 else AGAINST)))
    item.setData(0, _ROW, line.row)
    for part in line.parts:
        item.addChild(_item(part))
    return item


def _is_points(layer: Any) -> bool:
    from napari.layers import Points

    return isinstance(layer, Points) and not is_live(layer)
