"""The choice of a network whose kernels are read: one of the list, a file of any kind, or a folder of others."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from qtpy.QtCore import QTimer, Signal  # type: ignore[attr-defined]
from qtpy.QtWidgets import QComboBox, QFileDialog, QHBoxLayout, QMenu, QSizePolicy, QToolButton, QVBoxLayout, QWidget

from napari_lsnet import model_list
from napari_lsnet.section import wrapped_line

_FILES = "Models (*.safetensors *.pt *.pth *.ckpt *.bin *.zip);;All files (*)"
_FOLDS = " folds)"


@dataclass(frozen=True)
class SourceChoice:
    """A network in the list.

    Attributes
    ----------
    title : str
        As it stands there.
    source : str
        A name of the store, or a path: what `analyse` takes.
    name : str
        What the command line takes.
    about : str
        One line.
    """

    title: str
    source: str
    name: str
    about: str


class SourceChooser(QWidget):
    """Choose a network.

    Parameters
    ----------
    parent : QWidget, optional
        The usual.

    Attributes
    ----------
    changed : Signal()
        Another network.
    """

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._choices: list[SourceChoice] = []
        self._opened: list[SourceChoice] = []
        self._chosen: SourceChoice | None = None
        self.combo = QComboBox()
        self.combo.setToolTip("Models that came with the program, those that you added, and files that you opened")
        self.combo.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.combo.setMinimumContentsLength(8)
        self.combo.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.open_button = QToolButton()
        self.open_button.setText("Open")
        self.open_button.setMinimumWidth(self.open_button.fontMetrics().horizontalAdvance("Open") + 30)
        self.open_button.setToolTip("A model file, a checkpoint of torch, or a folder of nnU-Net; nothing in it is run")
        self.open_button.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        menu = QMenu(self)
        menu.addAction("File...", self._ask_file)
        menu.addAction("Folder of nnU-Net or MONAI...", self._ask_folder)
        self.open_button.setMenu(menu)
        self.about = wrapped_line()
        rows = QVBoxLayout(self)
        rows.setContentsMargins(0, 0, 0, 0)
        rows.setSpacing(3)
        row = QHBoxLayout()
        row.setSpacing(3)
        row.addWidget(self.combo, 1)
        row.addWidget(self.open_button)
        rows.addLayout(row)
        rows.addWidget(self.about)
        self.combo.activated.connect(self._on_activated)
        self.destroyed.connect(model_list.on_change(self.refresh))
        self._show()
        # Building a panel looks into no folder.
        later = QTimer(self)
        later.setSingleShot(True)
        later.timeout.connect(self.refresh)
        later.start(0)

    @property
    def choice(self) -> SourceChoice | None:
        """The chosen network, or None."""
        return self._chosen

    @property
    def choices(self) -> tuple[SourceChoice, ...]:
        """Every network in the list."""
        return tuple(self._choices)

    def refresh(self) -> None:
        """Look again which models there are; what is chosen stays where it is still there."""
        found = [_of_model(choice) for choice in model_list.usable_models() if not choice.title.endswith(_FOLDS)]
        found += self._opened
        if found and found == self._choices:
            return
        self._choices = found
        before = self._chosen
        self._chosen = before if before in found else (found[0] if found else None)
        self.combo.clear()
        self.combo.addItems([choice.title for choice in found] or ["no model yet"])
        self.combo.setEnabled(bool(found))
        if self._chosen is not None:
            self.combo.setCurrentIndex(found.index(self._chosen))
        self._show()
        if self._chosen != before:
            self.changed.emit()

    def open(self, path: Path) -> None:
        """Put a file or folder into the list and choose it; it is read when it is analysed."""
        about = "Opened from a folder" if path.is_dir() else "Opened from a file"
        made = SourceChoice(f"{path.name} (opened)", str(path), str(path), f"{about}; it is read when it is used.")
        self._opened = [choice for choice in self._opened if choice.source != made.source] + [made]
        self.refresh()
        self.choose(made)

    def choose(self, wanted: SourceChoice | str) -> None:
        """Choose a network of the list, by itself or by its title."""
        for place, choice in enumerate(self._choices):
            if choice == wanted or choice.title == wanted:
                self.combo.setCurrentIndex(place)
                self._on_activated(place)

    def _on_activated(self, place: int) -> None:
        if place < len(self._choices) and self._choices[place] != self._chosen:
            self._chosen = self._choices[place]
            self._show()
            self.changed.emit()

    def _ask_file(self) -> None:
        chosen, _ = QFileDialog.getOpenFileName(self, "Open a model", "", _FILES)
        if chosen:
            self.open(Path(chosen))

    def _ask_folder(self) -> None:
        chosen = QFileDialog.getExistingDirectory(self, "Open a model of nnU-Net or a MONAI bundle")
        if chosen:
            self.open(Path(chosen))

    def _show(self) -> None:
        chosen = self._chosen
        self.about.setText("There is no model on this computer: open a file." if chosen is None else chosen.about)
        self.combo.setToolTip("" if chosen is None else chosen.title)


def _of_model(choice: model_list.ModelChoice) -> SourceChoice:
    card = choice.card
    data = card.training_data.name
    parts = [f"{card.ndim}D {card.network.get('name', 'network')}", f"trained on {data}" if data else ""]
    return SourceChoice(choice.title, str(choice.paths[0]), choice.name, ", ".join(filter(None, parts)))
