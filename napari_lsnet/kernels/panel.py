"""The panel *Analyse kernels*: what the kernels of a network are, beside chance, and what they do on the image."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QFileDialog, QProgressBar, QSizePolicy, QVBoxLayout, QWidget

from napari_lsnet import settings
from napari_lsnet.background import Background
from napari_lsnet.forms import ParameterForm
from napari_lsnet.jobs import Ending, JobState, Update
from napari_lsnet.kernels.on_image import OnImage
from napari_lsnet.kernels.results import HOW, Results
from napari_lsnet.kernels.run import Analysis, AnalysisRequest, run_of, write_tables
from napari_lsnet.kernels.source_chooser import SourceChooser
from napari_lsnet.run_controls import RunControls, Sharing, push_button, row_of
from napari_lsnet.section import section_title
from src_models.errors import LsnetError
from src_models.kernels.parameters import KernelAnalysisParameters

if TYPE_CHECKING:
    import napari.viewer

_GROUPS = {"basic": "", "advanced": "Advanced", "run": "Run"}
_PARTS = 1000


class KernelsPanel(QWidget):
    """The dock widget *Analyse kernels*.

    Parameters
    ----------
    viewer : napari.Viewer
        Whose layers it works with.
    parent : QWidget, optional
        The usual.
    """

    def __init__(self, viewer: napari.viewer.Viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        # Docks opened by name get a proxy, docks from the menu the viewer: layers must be the same objects in both.
        viewer = getattr(viewer, "__wrapped__", viewer)
        self._viewer = viewer
        self.analysis_run = run_of(viewer)
        self._invalid = ""
        self._outcome = "Choose a model and press Analyse."
        self._build()
        self.sharing = Sharing(self.controls, lambda: self.analysis_run.result, self._refuse)
        self._connect()
        if self.analysis_run.result is not None:
            self._show(self.analysis_run.result)
        self._follow()

    # ---- layout

    def _build(self) -> None:
        self.models = SourceChooser()
        self.form = ParameterForm(KernelAnalysisParameters, group_titles=_GROUPS)
        self.form.set_value(settings.last_used(KernelAnalysisParameters))
        self.controls = RunControls("report", "Read every kernel of the model", "Stop and keep the finished layers")
        self.controls.run_button.setText("Analyse")
        self.bar = QProgressBar()
        self.bar.setRange(0, _PARTS)
        self.bar.setTextVisible(False)
        self.bar.setFixedHeight(8)
        self.results = Results(self._viewer)
        self.on_image = OnImage(self._viewer, self.results)
        self.results.add_tab(self.on_image, "On the image")
        self.results.add_tab(self.form, HOW, first=True)
        self.results.allow(False)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(6, 4, 6, 6)
        outer.setSpacing(4)
        outer.addWidget(section_title("Model"))
        outer.addWidget(self.models)
        outer.addWidget(self.results, 1)
        outer.addLayout(row_of((self.controls.run_button, 3), (self.controls.cancel_button, 2)))
        outer.addWidget(self.bar)
        outer.addWidget(self.controls.status)
        outer.addWidget(self.controls.report_button)
        self.export_button = push_button("Export...", "Write the table (CSV) and the summary of each layer (JSON)")
        last = self.controls.copy_row()
        last.addWidget(self.export_button, 2)
        outer.addLayout(last)
        self.setMinimumWidth(410)
        # a dock that does not say that it grows is given an empty half by napari
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Expanding)

    def _connect(self) -> None:
        self.models.changed.connect(self._follow)
        self.form.changed.connect(self._on_parameters)
        self.form.invalid.connect(self._on_invalid)
        self.controls.run.connect(self.run)
        self.controls.cancel.connect(self.cancel)
        self.analysis_run.changed.connect(self._follow)
        self.analysis_run.updated.connect(self._on_updated)
        self.analysis_run.ended.connect(self._on_ended)
        self.results.told.connect(self.controls.tell)
        self.results.table_changed.connect(self._on_table)
        for part in (self.results, self.on_image):
            part.refused.connect(self._refuse)
        self.on_image.told.connect(self.controls.tell)
        self.export_button.clicked.connect(self._ask_export)
        self.exporting = Background(self, wait_ms=0)
        self.exporting.answered.connect(lambda name: self.controls.tell(f"Saved in {name}: kernels.csv, kernels.json."))
        self.exporting.failed.connect(self._on_no_export)

    # ---- what the person does

    def run(self) -> None:
        """Analyse the chosen model."""
        if self.analysis_run.is_busy:
            return
        reason = self._why_not()
        choice = self.models.choice
        if reason or choice is None:
            self._refuse(reason)
            return
        try:
            parameters = self.form.value()
        except LsnetError as error:
            self._refuse(str(error))
            return
        settings.remember(parameters)
        self.controls.tell("Preparing: the model is read...")
        self.analysis_run.start(AnalysisRequest(choice, parameters))

    def cancel(self) -> None:
        """Stop and keep what is finished."""
        self.analysis_run.cancel()

    def export(self, folder: Path) -> None:
        """Write the table and the summary into a folder, in a worker."""
        found = self.analysis_run.result
        if found is not None:
            self.controls.tell("Saving...")
            self.exporting.ask(partial(write_tables, found, folder))

    def _ask_export(self) -> None:
        chosen = QFileDialog.getExistingDirectory(self, "Write the table and the summary into a folder")
        if chosen:
            self.export(Path(chosen))

    def _on_no_export(self, error: Exception) -> None:
        said = str(error) if isinstance(error, LsnetError) else "The table could not be written; nothing is half there."
        self._refuse(said)

    # ---- what it causes

    def _why_not(self) -> str:
        if self.models.choice is None:
            return "Open a model, or train one: there is none on this computer."
        return self._invalid

    def _on_parameters(self, _parameters: KernelAnalysisParameters) -> None:
        self._invalid = ""
        self._follow()

    def _on_invalid(self, message: str) -> None:
        self._invalid = message
        self._follow()

    def _on_updated(self, update: Update) -> None:
        report = update.report
        self.bar.setValue(int((report.fraction or 0.0) * _PARTS))
        words = {"collect": "Reading", "spectra": "Spectra of", "components": "Components of", "chance": "Chance for"}
        text = report.message
        if report.phase in words and report.message:
            text = f"{words[report.phase]} {report.message}"
        if text and self.analysis_run.state is JobState.RUNNING:
            self.controls.tell(text)

    def _on_ended(self, ending: Ending) -> None:
        self.bar.setValue(0)
        if ending.state is JobState.FAILED:
            self.sharing.report = ending.details
            self._outcome = ending.message
            self._refuse(ending.message, details=bool(ending.details))
            return
        found = ending.result
        if found is None or not found.report.layers:
            self._outcome = "Cancelled before a layer was finished."
            self.controls.tell(self._outcome)
            return
        report = found.report
        seconds = report.record.duration_s
        start = f"Done in {seconds:.0f} s" if report.complete else "Stopped; finished layers are kept"
        skipped = f", {len(report.skipped)} left out" if report.skipped else ""
        self._outcome = f"{start}: {len(report.table):,} kernels in {len(report.layers)} layers{skipped}."
        self._outcome = " ".join([self._outcome, *report.notes])
        self._show(found)
        self.controls.tell(self._outcome)

    def _show(self, found: Analysis) -> None:
        self.on_image.features.forget()
        self.results.show_analysis(found)
        self.on_image.follow_analysis()

    def _on_table(self, found: Analysis) -> None:
        """What is exported, and found by another panel, is what is on show."""
        self.analysis_run.result = found
        self.on_image.follow()

    def _follow(self) -> None:
        """Buttons and lines follow the state."""
        with suppress(RuntimeError):  # the dock may be gone before the run
            state, busy = self.analysis_run.state, self.analysis_run.is_busy
            reason = self._why_not()
            texts = {
                JobState.PREPARING: "Preparing...",
                JobState.RUNNING: "Running...",
                JobState.STOPPING: "Stopping...",
            }
            self.controls.run_button.setText(texts.get(state, "Analyse"))
            self.controls.run_button.setEnabled(not busy and not reason)
            self.controls.cancel_button.setEnabled(busy and state is not JobState.STOPPING)
            has_result = self.analysis_run.result is not None and not busy
            self.controls.allow_copies(has_result)
            self.export_button.setEnabled(has_result)
            self.models.setEnabled(not busy)
            self.form.setEnabled(not busy)
            if self.analysis_run.waits_for:
                self.controls.tell(f"Waiting: {self.analysis_run.waits_for} is running on this device.")
            elif not busy and reason:
                self.controls.tell(reason)
            elif not busy and state is JobState.IDLE:
                self.controls.tell(self._outcome)

    def _refuse(self, message: str, *, details: bool = False) -> None:
        from napari.utils.notifications import show_warning

        self.controls.tell(message, warning=True, details=details)
        show_warning(message)
