"""The models panel: list, download, import, verify and remove the weights of networks."""

from __future__ import annotations

from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QFileSystemWatcher, Qt, QTimer, QUrl
from qtpy.QtGui import QDesktopServices, QTextOption
from qtpy.QtWidgets import (
    QCheckBox,
    QFileDialog,
    QFrame,
    QGridLayout,
    QMessageBox,
    QProgressBar,
    QPushButton,
    QSplitter,
    QTextBrowser,
    QVBoxLayout,
    QWidget,
)

from napari_lsnet import settings
from napari_lsnet.jobs import Ending, Job, JobState, Update
from napari_lsnet.models.import_dialog import ImportDialog
from napari_lsnet.models.table import ModelTable
from napari_lsnet.models.words import card_html
from src_models.errors import LsnetError
from src_models.progress import Progress
from src_models.weights.listing import Entry, available, models_folder
from src_models.weights.manifest import Manifest

if TYPE_CHECKING:
    import napari.viewer

    from src_models.weights.importers import ImportOptions

_FILES = "Models (*.safetensors *.pth *.pt *.ckpt *.zip);;All files (*)"
_DEVICE = "disk"
"""Nothing here needs a device: no run waits for a download, and no download for a run."""
_LOOK_MS = 300
"""After a change in the folder: files come in pairs."""


class ModelsPanel(QWidget):
    """The dock widget *Manage models*.

    Parameters
    ----------
    viewer : napari.Viewer
        The usual; no layer is touched.
    parent : QWidget, optional
        The usual.
    manifest : Manifest, optional
        What can be downloaded; the package's by default.
    """

    def __init__(
        self, viewer: napari.viewer.Viewer, parent: QWidget | None = None, *, manifest: Manifest | None = None
    ) -> None:
        super().__init__(parent)
        self._viewer = getattr(viewer, "__wrapped__", viewer)
        self._manifest = manifest
        self.job: Job | None = None
        self._then: Callable[[Any], None] | None = None
        self._message = ""
        self._looked = False
        self._placed = False
        self._damaged: dict[Path, tuple[int, Entry]] = {}
        self._watcher = QFileSystemWatcher(self)
        self._soon = QTimer(self)
        self._soon.setSingleShot(True)
        self._soon.setInterval(_LOOK_MS)
        self._build()
        self._connect()
        self._follow()

    def showEvent(self, event: Any) -> None:  # noqa: N802
        """The folder is looked at when the panel is seen, not when it is made."""
        super().showEvent(event)
        QTimer.singleShot(0, self.refresh)

    # ---- layout

    def _build(self) -> None:
        self.table = ModelTable()
        self.card = QTextBrowser()
        self.card.setWordWrapMode(QTextOption.WrapMode.WrapAtWordBoundaryOrAnywhere)
        self.card.setOpenLinks(False)
        self.card.setPlaceholderText("Choose a model to see what it is for.")
        split = QSplitter(Qt.Orientation.Vertical)
        split.addWidget(self.table)
        split.addWidget(self.card)
        split.setStretchFactor(1, 1)
        split.setChildrenCollapsible(False)
        split.splitterMoved.connect(lambda *_: setattr(self, "_placed", True))
        self._split = split
        self.download_button = _button("Download", "Fetch the chosen model and verify it")
        self.verify_button = _button("Verify", "Compare the hash of the chosen model, or of all, with its card")
        self.remove_button = _button("Remove...", "Take the files of the chosen model away")
        self.import_file_button = _button("Import file...", "A model file, a file of tensors, or a ZIP archive")
        self.import_folder_button = _button("Import folder...", "A model of nnU-Net, or a MONAI bundle")
        self.open_button = _button("Open folder", "Show the folder of the models")
        self.offline = QCheckBox("Work offline")
        self.offline.setToolTip("Nothing is downloaded; you are told which file to put where")
        self.cancel_button = _button("Cancel", "Stop; what was downloaded is kept for the next time")
        grid = QGridLayout()
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setSpacing(4)
        buttons = (
            (self.download_button, self.verify_button, self.remove_button),
            (self.import_file_button, self.import_folder_button, self.open_button),
        )
        for row, line in enumerate(buttons):
            for column, button in enumerate(line):
                grid.addWidget(button, row, column)
        grid.addWidget(self.offline, 2, 0, 1, 2)
        grid.addWidget(self.cancel_button, 2, 2)
        self.bar = QProgressBar()
        self.bar.setRange(0, 1000)
        self.bar.setTextVisible(False)
        self.bar.setFixedHeight(8)
        keep = self.bar.sizePolicy()
        keep.setRetainSizeWhenHidden(True)
        self.bar.setSizePolicy(keep)
        self.status = QTextBrowser()
        self.status.setWordWrapMode(QTextOption.WrapMode.WrapAtWordBoundaryOrAnywhere)
        self.status.setFrameShape(QFrame.Shape.NoFrame)
        self.status.setFixedHeight(92)
        self.status.setStyleSheet("background: transparent;")
        self.status.setOpenLinks(False)
        rows = QVBoxLayout(self)
        rows.setContentsMargins(6, 4, 6, 6)
        rows.setSpacing(4)
        rows.addWidget(split, 1)
        rows.addLayout(grid)
        rows.addWidget(self.bar)
        rows.addWidget(self.status)
        self.setMinimumWidth(320)

    def _connect(self) -> None:
        self.table.chosen.connect(self._follow)
        for button, action in (
            (self.download_button, self.download),
            (self.verify_button, self.verify),
            (self.remove_button, self.remove),
            (self.import_file_button, self._ask_file),
            (self.import_folder_button, self._ask_folder),
            (self.open_button, self.open_folder),
            (self.cancel_button, self.cancel),
        ):
            button.clicked.connect(lambda *_, action=action: action())
        self._watcher.directoryChanged.connect(lambda *_: self._soon.start())
        self._soon.timeout.connect(lambda: self.refresh())
        self.offline.setChecked(settings.current().offline)
        self.offline.toggled.connect(self._on_offline)
        end_listening = settings.on_change(self._on_settings)
        self.destroyed.connect(lambda *_: end_listening())

    # ---- what the person does

    @property
    def folder(self) -> Path:
        """Where models are kept."""
        return models_folder(settings.current().model_folder or None)

    @property
    def is_busy(self) -> bool:
        """Whether something is under way."""
        return self.job is not None and not self.job.state.ended

    def refresh(self, select: Entry | None = None) -> None:
        """Look at the folder again."""
        self._looked = True
        try:
            entries = available(self.folder, manifest=self._manifest)
        except LsnetError as error:
            self.tell(str(error), warning=True)
            return
        entries = tuple(self._as_verified(entry) for entry in entries)
        self._watch()
        self.table.show_entries(entries, None if select is None else (select.name, select.version))
        self._share_height()
        if not entries and not self._message:
            self.tell("There are no models yet. Import one, or train a network.")

    def _share_height(self) -> None:
        """As many rows as there are, up to half; the card takes the rest, until a person moves the border."""
        whole = sum(self._split.sizes())
        if self._placed or not whole:
            return
        rows = min(self.table.height_of_rows() + 8, whole // 2)
        self._split.setSizes([rows, whole - rows])

    def download(self) -> None:
        """Fetch the chosen model."""
        entry = self.table.entry
        if entry is None or entry.state not in ("available", "damaged"):
            return
        folder, offline, manifest = self.folder, self.offline.isChecked(), self._manifest

        def work() -> Generator[Progress, None, Entry]:
            from src_models.weights.download import download, offer_named

            return (
                yield from download(offer_named(f"{entry.name}@{entry.version}", manifest), folder, offline=offline)
            )

        self._start(work, f"Download of {entry.name}", lambda found: self._tell_done("Downloaded", (found,)))

    def verify(self) -> None:
        """Hash the chosen model, or every one that is here."""
        chosen = self.table.entry
        here = [entry for entry in self.table.entries if entry.path is not None]
        entries = [chosen] if chosen is not None and chosen.path is not None else here

        def work() -> Generator[Progress, None, tuple[Entry, ...]]:
            from src_models.weights.store import verify

            found = []
            for entry in entries:
                found.append((yield from verify(entry)))
            return tuple(found)

        self._start(work, "Verification", self._tell_verified)

    def remove(self) -> None:
        """Take the chosen model away, once the person has said yes."""
        entry = self.table.entry
        if entry is None or entry.path is None:
            return
        yes = QMessageBox.StandardButton.Yes
        asked = f"Remove {entry.name}@{entry.version}? Its files are deleted."
        if QMessageBox.question(self, "Remove a model", asked) != yes:
            return
        from src_models.weights.store import remove

        try:
            remove(entry)
        except LsnetError as error:
            self.tell(str(error), warning=True)
        else:
            self.tell(f"Removed {entry.name}@{entry.version}.")
        self.refresh()

    def import_path(self, path: Path, options: ImportOptions) -> None:
        """Take a model over; what is not known about it was asked before."""
        folder = self.folder

        def work() -> Generator[Progress, None, tuple[Entry, ...]]:
            from src_models.weights.importers import import_model

            return (yield from import_model(path, folder, options))

        self._start(work, "Import", lambda found: self._tell_done("Imported", found))

    def ask_about(self, path: Path) -> None:
        """Hash a file, then ask what it does not say."""

        def work() -> Generator[Progress, None, tuple[str, tuple[str, ...]]]:
            from src_models.networks.zoo import NAMES
            from src_models.weights.pairs import hash_file

            sha256 = (yield from hash_file(path)) if path.is_file() else ""
            return sha256, tuple(NAMES)

        self._start(work, "Look at the file", lambda found: self._ask(path, *found))

    def open_folder(self) -> None:
        """Show the folder in the file manager."""
        folder = self.folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            self.tell(f"The folder {folder} cannot be made: {(error.strerror or '').lower()}.", warning=True)
            return
        if QDesktopServices.openUrl(QUrl.fromLocalFile(str(folder))):
            self.tell(f"Models are kept in {folder}")
        else:
            self.tell(f"No file manager answers. Models are kept in {folder}", warning=True)

    def cancel(self) -> None:
        """Stop what is under way."""
        if self.job is not None:
            self.job.cancel()

    def tell(self, message: str, *, warning: bool = False) -> None:
        """Say something in the status line."""
        self._message = message
        font = self.status.font()
        font.setBold(warning)
        self.status.setFont(font)
        self.status.setPlainText(message)

    # ---- jobs

    def _start(
        self, work: Callable[[], Generator[Progress, None, Any]], title: str, then: Callable[[Any], None]
    ) -> None:
        if self.is_busy:
            return
        self._then = then
        self.job = Job(work, title=title, device=_DEVICE)
        self.job.state_changed.connect(lambda *_: self._follow())
        self.job.updated.connect(self._on_updated)
        self.job.ended.connect(self._on_ended)
        self.bar.setValue(0)
        self.tell(f"{title}...")
        self.job.start()

    def _on_updated(self, update: Update) -> None:
        self.bar.setValue(round(1000 * (update.report.fraction or 0)))
        if self.job is not None and update.report.message:
            self.tell(f"{self.job.title}: {update.report.message}")

    def _on_ended(self, ending: Ending) -> None:
        then, self._then = self._then, None
        self._follow()
        if ending.state is JobState.FAILED:
            self.tell(ending.message, warning=True)
            self.refresh()
        elif ending.state is JobState.CANCELLED:
            self.tell("Cancelled. What was downloaded is kept for the next time.")
            self.refresh()
        elif then is not None:
            then(ending.result)

    def _tell_done(self, what: str, entries: tuple[Entry, ...]) -> None:
        self.refresh(entries[0])
        names = ", ".join(f"{entry.name}@{entry.version}" for entry in entries)
        missing = "" if all(entry.licence for entry in entries) else " Its licence is not stated."
        self.tell(f"{what} {names}.{missing}")

    def _tell_verified(self, entries: tuple[Entry, ...]) -> None:
        damaged = [entry for entry in entries if entry.state == "damaged"]
        for entry in entries:
            if entry.path is not None:
                self._damaged.pop(entry.path, None)
                if entry.state == "damaged":
                    self._damaged[entry.path] = (_changed(entry.path), entry)
        self.refresh()
        if damaged:
            self.tell(damaged[0].problem, warning=True)
        else:
            self.tell(f"{len(entries)} model{'' if len(entries) == 1 else 's'} verified: every hash is right.")

    def _as_verified(self, entry: Entry) -> Entry:
        """What the last verification found, as long as the file is the same: a look at the folder hashes nothing."""
        if entry.path is None or entry.path not in self._damaged:
            return entry
        changed, found = self._damaged[entry.path]
        return found if changed == _changed(entry.path) else entry

    def _watch(self) -> None:
        """A model that a training or another program puts there is listed at once."""
        folder, watched = self.folder, self._watcher.directories()
        if str(folder) not in watched:
            if watched:
                self._watcher.removePaths(watched)
            if folder.is_dir():
                self._watcher.addPath(str(folder))

    # ---- questions

    def _ask_file(self) -> None:
        chosen, _ = QFileDialog.getOpenFileName(self, "Import a model", "", _FILES)
        if chosen:
            self.ask_about(Path(chosen))

    def _ask_folder(self) -> None:
        chosen = QFileDialog.getExistingDirectory(self, "Import a model of nnU-Net or a MONAI bundle")
        if chosen:
            self.ask_about(Path(chosen))

    def _ask(self, path: Path, sha256: str, networks: tuple[str, ...]) -> None:
        from src_models.weights.importers import ImportOptions

        self.tell("")
        dialog = ImportDialog(path.name, sha256, networks, self)
        dialog.accepted.connect(lambda: self.import_path(path, ImportOptions(**dialog.chosen())))
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.open()

    # ---- what follows

    def _follow(self) -> None:
        """Buttons and card follow the chosen row and what is under way."""
        entry, busy = self.table.entry, self.is_busy
        self.card.setHtml("" if entry is None else card_html(entry))
        offered = entry is not None and entry.state in ("available", "damaged")
        ours = entry is not None and entry.state == "shipped"
        self.download_button.setEnabled(not busy and offered)
        self.verify_button.setEnabled(not busy and any(e.path is not None for e in self.table.entries))
        self.verify_button.setText("Verify" if entry is not None and entry.path is not None else "Verify all")
        self.remove_button.setEnabled(not busy and entry is not None and entry.path is not None and not ours)
        self.import_file_button.setEnabled(not busy)
        self.import_folder_button.setEnabled(not busy)
        self.cancel_button.setEnabled(busy)
        self.bar.setVisible(busy)

    def _on_offline(self, offline: bool) -> None:
        try:
            settings.change(offline=offline)
        except LsnetError as error:
            self.tell(str(error), warning=True)

    def _on_settings(self, changed: settings.Settings) -> None:
        self.offline.blockSignals(True)
        self.offline.setChecked(changed.offline)
        self.offline.blockSignals(False)
        if self._looked:
            self.refresh()


def _changed(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _button(text: str, tip: str) -> QPushButton:
    button = QPushButton(text)
    button.setToolTip(tip)
    return button
