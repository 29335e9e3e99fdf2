"""The choice of a model, with what its card says and what does not fit the image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qtpy.QtCore import QTimer, Signal  # type: ignore[attr-defined]
from qtpy.QtWidgets import QComboBox, QFileDialog, QHBoxLayout, QPushButton, QSizePolicy, QVBoxLayout, QWidget

from napari_lsnet import model_list
from napari_lsnet.model_list import ModelChoice
from napari_lsnet.section import Section, wrapped_line
from napari_lsnet.segment import words
from src_models.errors import LsnetError


class ModelChooser(QWidget):
    """Choose a model.

    Parameters
    ----------
    parent : QWidget, optional
        The usual.

    Attributes
    ----------
    changed : Signal()
        Another model.
    refused : Signal(str)
        Why a file is no model.
    """

    changed = Signal()
    refused = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._choices: list[ModelChoice] = []
        self._opened: list[ModelChoice] = []
        self._chosen: ModelChoice | None = None
        self.combo = QComboBox()
        self.combo.setToolTip("Models that came with the program and those that you added")
        self.combo.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.combo.setMinimumContentsLength(8)
        self.combo.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.open_button = QPushButton("Open...")
        self.open_button.setToolTip("Use a model from a file: NAME.safetensors with its card NAME.json")
        self.finds = wrapped_line()
        self.about = wrapped_line()
        self.about_section = Section("About this model", self.about)
        rows = QVBoxLayout(self)
        rows.setContentsMargins(0, 0, 0, 0)
        rows.setSpacing(3)
        row = QHBoxLayout()
        row.setSpacing(3)
        row.addWidget(self.combo, 1)
        row.addWidget(self.open_button)
        rows.addLayout(row)
        rows.addWidget(self.finds)
        rows.addWidget(self.about_section)
        self.combo.activated.connect(self._on_activated)
        self.open_button.clicked.connect(self._ask)
        end = model_list.on_change(self.refresh)
        self.destroyed.connect(end)
        self._show()
        # Building a panel looks into no folder.
        later = QTimer(self)
        later.setSingleShot(True)
        later.timeout.connect(self.refresh)
        later.start(0)

    def enterEvent(self, event: Any) -> None:  # noqa: N802
        """Whoever is about to choose sees models that came from elsewhere, too."""
        super().enterEvent(event)
        if self.isEnabled():
            self.refresh()

    @property
    def choice(self) -> ModelChoice | None:
        """The chosen model, or None."""
        return self._chosen

    @property
    def choices(self) -> tuple[ModelChoice, ...]:
        """Every model in the list."""
        return tuple(self._choices)

    def refresh(self) -> None:
        """Look again which models there are; what is chosen stays where it is still there."""
        found = [*model_list.usable_models(), *self._opened]
        if found and _same(found, self._choices):
            return
        self._choices = found
        before = self._chosen
        wanted = None if before is None else before.paths
        chosen = next((choice for choice in self._choices if choice.paths == wanted), None)
        self._chosen = chosen or first_choice(self._choices)
        self.combo.clear()
        for choice in self._choices:
            self.combo.addItem(choice.title)
        if not self._choices:
            self.combo.addItem("no model yet")
        self.combo.setEnabled(bool(self._choices))
        if self._chosen is not None:
            self.combo.setCurrentIndex(self._choices.index(self._chosen))
        self._show()
        if (None if self._chosen is None else self._chosen.paths) != wanted:
            self.changed.emit()

    def open(self, path: Path) -> None:
        """Use a model from a file.

        Raises
        ------
        FileError
            Where it is none.
        """
        found = model_list.model_in(path)
        self._opened = [choice for choice in self._opened if choice.paths != found.paths] + [found]
        self.refresh()
        self.choose(found)

    def choose(self, wanted: ModelChoice | str) -> None:
        """Choose a model of the list, by itself or by its title."""
        for place, choice in enumerate(self._choices):
            if choice is wanted or choice.title == wanted:
                self.combo.setCurrentIndex(place)
                self._on_activated(place)

    def _on_activated(self, place: int) -> None:
        if place < len(self._choices) and self._choices[place] is not self._chosen:
            self._chosen = self._choices[place]
            self._show()
            self.changed.emit()

    def _ask(self) -> None:
        chosen, _ = QFileDialog.getOpenFileName(self, "Open a model", "", "Models (*.safetensors)")
        if not chosen:
            return
        try:
            self.open(Path(chosen))
        except LsnetError as error:
            self.refused.emit(str(error))

    def _show(self) -> None:
        choice: Any = self._chosen
        self.about_section.setVisible(choice is not None)
        if choice is None:
            self.finds.setText("There is no model on this computer: open a file, or train one.")
            return
        scores = words.score_text(choice.card)
        self.finds.setText(words.finds_text(choice.card) + (f"; {scores}" if scores else ""))
        self.about.setText(words.about_text(choice.card))
        self.combo.setToolTip(choice.title)


def _same(a: list[ModelChoice], b: list[ModelChoice]) -> bool:
    told = [[(one.title, one.paths, one.card.sha256) for one in choices] for choices in (a, b)]
    return told[0] == told[1]


def first_choice(choices: Sequence[ModelChoice]) -> ModelChoice | None:
    """What stands there before a person has chosen: the best scored of those that need nothing but an image."""

    def rank(choice: ModelChoice) -> tuple[bool, float]:
        known = words.unseen_score(choice.card)
        return choice.card.click is None, -1.0 if known is None else known[0]

    return max(choices, key=rank, default=None)
