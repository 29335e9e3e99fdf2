"""The first tab: what is trained on, and whether it is fit for it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import Signal  # type: ignore[attr-defined]
from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLineEdit,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_lsnet.jobs import Ending, Job, JobQueue, JobState, Update
from napari_lsnet.section import Section, section_title, wrapped_line
from napari_lsnet.train.check_table import CheckTable
from napari_lsnet.train.pairs import PairList
from napari_lsnet.train.source import Reading, Source, file_name
from src_models.errors import InputError, LsnetError

if TYPE_CHECKING:
    from napari.components import ViewerModel

_FOLDER_TIP = (
    "A folder with images/ and labels/ of equal names (PNG, TIFF, NIfTI, NRRD), or with the dataset.json of the "
    "Decathlon or of nnU-Net"
)


class DataTab(QWidget):
    """A folder or pairs of layers, how they are read, and the check.

    Parameters
    ----------
    viewer : ViewerModel
        For pairs of layers.
    parent : QWidget, optional
        The usual.

    Attributes
    ----------
    changed : Signal()
        Other data, or read otherwise.
    refused : Signal(str)
        Why something could not be done.
    told : Signal(str)
        A line for the person.
    """

    changed = Signal()
    refused = Signal(str)
    told = Signal(str)

    def __init__(self, viewer: ViewerModel, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._job: Job | None = None
        # Looking through files keeps no device busy: it waits for no run.
        self._queue = JobQueue()
        self.kind = QComboBox()
        self.kind.addItems(["A folder", "Open layers"])
        self.kind.setToolTip("Where images and labels come from")
        self.folder = QLineEdit()
        self.folder.setPlaceholderText("folder with images/ and labels/")
        self.folder.setToolTip(_FOLDER_TIP)
        self.browse = QPushButton("Browse...")
        self.pairs = PairList(viewer)
        self.groups = self._entry("such as (p[0-9]+)_", "Which cases are of one patient: a regular expression whose "
            "first bracket names him in the file name, or a CSV file with the columns case and group")  # fmt: skip
        self.labels = self._entry("such as 1=liver, 2=tumour", "Names of the label values")
        self.channels = self._entry("such as ct", "Names of the channels; ct keeps Hounsfield units comparable")
        self.label_map = self._entry("such as 255:1", "Label values that are read as others")
        self.check_button = QPushButton("Check data")
        self.check_button.setToolTip("Read every case and say what does not fit")
        self.summary = wrapped_line()
        self.table = CheckTable()
        self._lay_out()
        self.kind.currentIndexChanged.connect(self._on_kind)
        self.browse.clicked.connect(self._ask)
        self.check_button.clicked.connect(self.check)
        self.pairs.changed.connect(self._on_edited)
        self.pairs.refused.connect(self.refused)
        for entry in (self.folder, self.groups, self.labels, self.channels, self.label_map):
            entry.textChanged.connect(self._on_edited)
        self._on_kind()

    def _lay_out(self) -> None:
        self._folder_row = QWidget()
        row = QHBoxLayout(self._folder_row)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(3)
        row.addWidget(self.folder, 1)
        row.addWidget(self.browse)
        reading = QWidget()
        form = QFormLayout(reading)
        form.setContentsMargins(0, 0, 0, 0)
        form.setSpacing(3)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        for text, entry in (
            ("Patients", self.groups),
            ("Labels", self.labels),
            ("Channels", self.channels),
            ("Read as", self.label_map),
        ):
            form.addRow(text, entry)
        self.reading = Section("How it is read", reading)
        self.reading.header.setChecked(True)
        rows = QVBoxLayout(self)
        rows.setContentsMargins(4, 6, 4, 4)
        rows.setSpacing(4)
        rows.addWidget(section_title("Learn from"))
        rows.addWidget(self.kind)
        rows.addWidget(self._folder_row)
        rows.addWidget(self.pairs)
        rows.addWidget(self.reading)
        rows.addWidget(self.check_button)
        rows.addWidget(self.summary)
        rows.addWidget(self.table, 1)
        rows.addStretch(0)

    @property
    def is_checking(self) -> bool:
        """Whether the cases are being read."""
        return self._job is not None and not self._job.state.ended

    def why_not(self) -> str:
        """What is missing; "" where nothing is."""
        if self.kind.currentIndex() == 1:
            return "" if self.pairs.count else "Choose an image and its labels, then Add."
        if not self.folder.text().strip():
            return "Choose a folder with images and labels, or open layers."
        return ""

    def source(self) -> Source:
        """What is chosen, with layers read.

        Raises
        ------
        InputError, GeometryError
            One sentence each.
        """
        reason = self.why_not()
        if reason:
            raise InputError("data-none", "There is nothing to learn from", "", reason)
        texts = [entry.text().strip() for entry in (self.groups, self.labels, self.channels, self.label_map)]
        reading = Reading(texts[0], texts[1].replace(" ", ""), texts[2].replace(" ", ""), texts[3].replace(" ", ""))
        if self.kind.currentIndex() == 1:
            return Source("layers", None, self.pairs.examples(), reading)
        folder = Path(self.folder.text().strip()).expanduser().absolute()
        return Source(file_name(folder.name), folder, (), reading)

    def key(self) -> tuple[str, ...]:
        """What makes one choice another; read from the entries alone."""
        entries = (self.folder, self.groups, self.labels, self.channels, self.label_map)
        pairs = "" if self.kind.currentIndex() == 0 else f"{self.pairs.key()}"
        return (str(self.kind.currentIndex()), pairs, *(entry.text().strip() for entry in entries))

    def check(self) -> None:
        """Read every case, or stop reading."""
        if self.is_checking and self._job is not None:
            self._job.cancel()
            return
        try:
            source = self.source()
        except LsnetError as error:
            self.refused.emit(str(error))
            return
        self.summary.setText("Looking for the cases...")
        self._job = Job(source.look_through, title="The check", device="files", queue=self._queue)
        self._job.updated.connect(self._on_updated)
        self._job.ended.connect(self._on_ended)
        self._job.state_changed.connect(self._on_state)
        self._job.start()

    def lock(self, locked: bool) -> None:
        """While a training is under way, its data cannot be exchanged."""
        for part in (self.kind, self._folder_row, self.pairs, self.reading):
            part.setEnabled(not locked)

    def _on_state(self, state: JobState) -> None:
        self.check_button.setText("Check data" if state.ended else "Stop")

    def _on_updated(self, update: Update) -> None:
        self.summary.setText(update.report.message)

    def _on_ended(self, ending: Ending) -> None:
        if ending.state is JobState.CANCELLED:
            self.summary.setText("The check was stopped.")
        elif ending.result is None:
            self.summary.setText("")
            self.table.forget()
            self.refused.emit(ending.message)
        else:
            survey = ending.result
            self.table.show_survey(survey)
            self.summary.setText(" ".join([survey.sentence, *survey.notes]))

    def _on_kind(self, _index: int = 0) -> None:
        layers = self.kind.currentIndex() == 1
        self._folder_row.setVisible(not layers)
        self.pairs.setVisible(layers)
        # Layers carry their patient: one each, or one a time point.
        self.groups.setEnabled(not layers)
        self._on_edited()

    def _on_edited(self) -> None:
        self.summary.setText("")
        self.table.forget()
        self.changed.emit()

    def _ask(self) -> None:
        chosen = QFileDialog.getExistingDirectory(self, "Folder of images and labels")
        if chosen:
            self.folder.setText(chosen)

    def _entry(self, example: str, tip: str) -> QLineEdit:
        entry = QLineEdit()
        entry.setPlaceholderText(example)
        entry.setToolTip(tip)
        return entry
