"""The lower part of the panel: the kernel's answer on an image, and what its labels lose without some kernels."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer, Signal  # type: ignore[attr-defined]
from qtpy.QtWidgets import QCheckBox, QComboBox, QLabel, QScrollArea, QSpinBox, QVBoxLayout, QWidget

from napari_lsnet.extent import ExtentChooser
from napari_lsnet.image_input import ImageInput
from napari_lsnet.jobs import Ending, JobState, Update
from napari_lsnet.kernels.experiment import OPERATIONS, ExperimentRun, experiment_for
from napari_lsnet.kernels.feature_view import STAGES, FeatureView, question_for
from napari_lsnet.kernels.level_set_view import LevelSetView
from napari_lsnet.kernels.why_view import WhyView
from napari_lsnet.layer_combo import LayerCombo
from napari_lsnet.roles import is_image, is_labels, role_of
from napari_lsnet.run_controls import push_button, row_of
from napari_lsnet.section import Section, wrapped_line
from src_models.errors import LsnetError

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_lsnet.kernels.results import Results

KERNEL, SHOWN, EVERYWHERE = "kernel", "shown", "everywhere"
_DRAWS = 20


class OnImage(QWidget):
    """Feature maps and experiments on the person's image.

    Parameters
    ----------
    viewer : ViewerModel
        With the image.
    results : Results
        What is on show.
    parent : QWidget, optional
        The usual.

    Attributes
    ----------
    told, refused : Signal(str)
        For the status line.
    changed : Signal()
        An experiment began or ended.
    """

    told = Signal(str)
    refused = Signal(str)
    changed = Signal()

    def __init__(self, viewer: ViewerModel, results: Results, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._results = results
        self.features = FeatureView(viewer, self)
        self.experiment_run = ExperimentRun(viewer)
        self._build()
        self._wanted = KERNEL
        self._connect()
        self._on_image()
        self.follow()

    def _build(self) -> None:
        self.image = ImageInput(self._viewer, _is_input, "The image that kernels are tried on")
        self.map_tick = QCheckBox("Feature map of")
        self.map_tick.setToolTip("A layer with what the kernel on show answers; it follows your clicks")
        self.stage = QComboBox()
        for key, title in STAGES.items():
            self.stage.addItem(title, key)
        self.extent = ExtentChooser(self._viewer)
        self.reference = LayerCombo(
            self._viewer, is_labels, nothing="no reference: agreement with before", may_be_empty=True
        )
        self.reference.setToolTip("Labels of this image that are right; without them the labels before are compared")
        self.what = QComboBox()
        self.what.setToolTip("Which kernels are changed")
        self.operation = QComboBox()
        for key, title in OPERATIONS.items():
            self.operation.addItem(title, key)
        self.draws = QSpinBox()
        self.draws.setRange(1, 1000)
        self.draws.setValue(_DRAWS)
        self.draws.setToolTip("How often as many other kernels are drawn and changed in the same way; 200 for reports")
        self.knock_button = push_button("Knock out", "Label the image without these kernels")
        self.stop_button = push_button("Stop", "Stop the experiment; the model is unchanged")
        self.effect_line = wrapped_line()
        self.why = WhyView(self._viewer, self._results, self.image)
        rows = QVBoxLayout(self)
        rows.setContentsMargins(2, 4, 6, 2)
        rows.setSpacing(4)
        rows.addWidget(self.image)
        rows.addLayout(row_of((self.map_tick, 0), (self.stage, 1)))
        rows.addWidget(self.why)
        self.knock_out_section = Section("Knock out", self._knock_out_part())
        self.knock_out_section.header.setChecked(True)
        rows.addWidget(self.knock_out_section)
        self.level_set = LevelSetView(self._results, self.image)
        self.level_set_section = Section("To the level set", self.level_set)
        rows.addWidget(self.level_set_section)
        self._opened = self.knock_out_section
        self._reveal_timer = QTimer(self)
        self._reveal_timer.setSingleShot(True)
        self._reveal_timer.timeout.connect(lambda: reveal(self._opened))
        for section in (self.knock_out_section, self.level_set_section):
            section.header.toggled.connect(partial(self._reveal, section))
        rows.addStretch(1)

    def _knock_out_part(self) -> QWidget:
        part = QWidget()
        rows = QVBoxLayout(part)
        rows.setContentsMargins(0, 0, 0, 0)
        rows.setSpacing(4)
        for combo in (self.what, self.operation):
            combo.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
            combo.setMinimumContentsLength(8)
            rows.addWidget(combo)
        rows.addWidget(self.extent)
        rows.addWidget(self.reference)
        rows.addLayout(
            row_of((QLabel("Random controls"), 0), (self.draws, 1), (self.knock_button, 2), (self.stop_button, 1))
        )
        rows.addWidget(self.effect_line)
        return part

    def _connect(self) -> None:
        self.image.changed.connect(self._on_image)
        self.image.refused.connect(self.refused)
        self.extent.refused.connect(self.refused)
        self.map_tick.toggled.connect(self._on_tick)
        self.stage.currentIndexChanged.connect(self._ask)
        self.what.activated.connect(self._on_what)
        self.features.told.connect(self.told)
        self.features.refused.connect(self._on_no_map)
        self.knock_button.clicked.connect(self.knock_out)
        for part in (self.why, self.level_set):
            part.told.connect(self.told)
            part.refused.connect(self.refused)
        self.stop_button.clicked.connect(self.experiment_run.cancel)
        self.experiment_run.changed.connect(self._on_run)
        self.experiment_run.updated.connect(self._on_updated)
        self.experiment_run.ended.connect(self._on_ended)
        self._results.row_changed.connect(lambda _row: self._on_row())
        self._results.filter_changed.connect(self.follow)
        dims = self._viewer.dims.events
        for event in (dims.current_step, dims.order):
            event.connect(self._on_dims)

    # ---- what the person does

    def knock_out(self) -> None:
        """Run the experiment."""
        analysis = self._results.analysis
        if analysis is None or self.experiment_run.is_busy:
            return
        reason = self.image.why_not()
        try:
            if reason:
                self.refused.emit(reason)
                return
            request = experiment_for(
                self._viewer,
                analysis,
                self._rows(),
                self.what.currentText(),
                str(self.operation.currentData()),
                self.draws.value(),
                self.image.layer,
                self.extent.mode,
                self.extent.box_slices(),
                self.reference.layer,
            )
        except LsnetError as error:
            self.refused.emit(str(error))
            return
        self.effect_line.setText("")
        self.experiment_run.start(request)

    # ---- what it causes

    def follow_analysis(self) -> None:
        """Another analysis: other labels, other kernels."""
        self.why.follow()
        self.level_set.follow_analysis()
        self.follow()

    def follow(self) -> None:
        """Lists and buttons follow what is on show."""
        results = self._results
        self.what.blockSignals(True)
        self.what.clear()
        if results.found is not None:
            shown = results.shown_rows()
            if results.row is not None:
                self.what.addItem("the kernel on show", KERNEL)
            self.what.addItem(f"the {len(shown):,} kernels shown of this layer", SHOWN)
            names = results.filter.names
            if names:
                words = ", ".join(sorted(names)[:3]) + (", ..." if len(names) > 3 else "")
                self.what.addItem(f"{words} of all layers ({len(self._everywhere()):,})", EVERYWHERE)
        place = self.what.findData(self._wanted)
        self.what.setCurrentIndex(max(place, 0))
        self.what.blockSignals(False)
        self.level_set.follow()
        busy = self.experiment_run.is_busy
        self.knock_button.setEnabled(results.found is not None and not busy)
        self.stop_button.setEnabled(busy)
        self.image.lock(busy)

    def _rows(self) -> tuple[int, ...]:
        what = self.what.currentData()
        if what == KERNEL and self._results.row is not None:
            return (self._results.row,)
        found = self._everywhere() if what == EVERYWHERE else self._results.shown_rows()
        return tuple(int(row) for row in found)

    def _everywhere(self) -> Any:
        """Rows of all layers that the filter lets through."""
        from napari_lsnet.kernels.filtering import shown_rows

        analysis = self._results.analysis
        if analysis is None:
            return ()
        table = analysis.report.table
        dead = table.numbers("dead").astype(bool)
        return (shown_rows(table, slice(0, len(table)), self._results.filter) & ~dead).nonzero()[0]

    def _reveal(self, section: Section, is_open: bool) -> None:
        """What was opened below the edge of the tab is moved into sight, once it has its place."""
        if is_open:
            self._opened = section
            self._reveal_timer.start()

    def _on_what(self, _place: int) -> None:
        self._wanted = str(self.what.currentData())

    def _on_row(self) -> None:
        self.follow()
        self._ask()

    def _on_tick(self, on: bool) -> None:
        if on:
            self._ask(aloud=True)
        else:
            self.features.remove()

    def _ask(self, _index: int = 0, *, aloud: bool = False) -> None:
        """The feature map of the kernel on show, where it is wanted."""
        results = self._results
        if not self.map_tick.isChecked() or results.analysis is None:
            return
        if results.row is None:
            if aloud:
                self.told.emit("Click a tile or a point: its feature map will appear on the image.")
            return
        reason = self.image.why_not()
        if reason:
            self._on_no_map(reason)
            return
        report = results.analysis.report
        found = report.layer_of(results.row)
        told = report.table.row(results.row)
        try:
            question = question_for(
                self._viewer,
                results.analysis.source,
                found.layer.name,
                (told["out"], told["in"]),
                str(self.stage.currentData()),
                self.image.layer,
            )
        except LsnetError as error:
            self._on_no_map(str(error))
            return
        self.features.ask(question)

    def _on_no_map(self, message: str) -> None:
        self._no_map()
        self.refused.emit(message)

    def _no_map(self) -> None:
        self.map_tick.blockSignals(True)
        self.map_tick.setChecked(False)
        self.map_tick.blockSignals(False)
        self.features.remove()

    def _on_image(self) -> None:
        self.extent.follow(self.image.layer, self.image.volume)
        self.features.forget()
        self.why.forget()
        if self.image.layer is None:
            self._no_map()
        else:
            self._ask()

    def _on_dims(self, _event: Any = None) -> None:
        with suppress(RuntimeError):  # the dock may be gone before the viewer
            analysis = self._results.analysis
            network = None if analysis is None else analysis.source.network
            if self.map_tick.isChecked() and getattr(network, "ndim", 3) == 2:
                self._ask()

    def _on_run(self) -> None:
        with suppress(RuntimeError):
            self.follow()
            self.changed.emit()

    def _on_updated(self, update: Update) -> None:
        with suppress(RuntimeError):
            self.effect_line.setText(update.report.message)

    def _on_ended(self, ending: Ending) -> None:
        with suppress(RuntimeError):
            if ending.state is JobState.FAILED:
                self.effect_line.setText("")
                self.refused.emit(ending.message)
            elif ending.result is None:
                self.effect_line.setText(
                    "Stopped: without its controls an effect means nothing. The model is unchanged."
                )
            else:
                self.effect_line.setText(ending.result.text)
                self.told.emit("Knock-out done: its labels are layers, before as a line and after.")


def _is_input(layer: Any) -> bool:
    return is_image(layer) and not role_of(layer)


def reveal(part: QWidget) -> None:
    """Scroll to a part of a tab."""
    around = part.parentWidget()
    while around is not None and not isinstance(around, QScrollArea):
        around = around.parentWidget()
    if around is not None:
        around.ensureWidgetVisible(part)
