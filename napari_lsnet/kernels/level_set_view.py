"""*To the level set*: kernels on show as terms of the equation, with the frame test before anything is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal  # type: ignore[attr-defined]
from qtpy.QtWidgets import QComboBox, QFileDialog, QVBoxLayout, QWidget

from napari_lsnet.kernels.to_level_set import ROLES, SCALES, Basket, Choice, choose, frame_words, save
from napari_lsnet.run_controls import push_button, row_of
from napari_lsnet.section import wrapped_line
from src_models.errors import LsnetError

if TYPE_CHECKING:
    from napari_lsnet.image_input import ImageInput
    from napari_lsnet.kernels.results import Results

KERNEL, SHOWN = "kernel", "shown"
_NOTHING = "Kernels as terms of the level set equation: choose which, and what they shall be."
_ENDS = {".rho": "rho", ".sigma": "sigma", ".edge.kernels": "e"}
"""Layers of a level set network are there already."""
_LISTED = 2


class LevelSetView(QWidget):
    """Fills the roles and saves them.

    Parameters
    ----------
    results : Results
        What is on show.
    image : ImageInput
        Whose voxel size counts, where the analysis was not given one.
    parent : QWidget, optional
        The usual.

    Attributes
    ----------
    told, refused : Signal(str)
        For the status line.
    """

    told = Signal(str)
    refused = Signal(str)

    def __init__(self, results: Results, image: ImageInput, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._results, self._image = results, image
        self.basket = Basket()
        self._pending: tuple[str, Choice] | None = None
        self._layer = ""
        self._build()
        self.set_button.clicked.connect(lambda: self.set_role())
        self.project_button.clicked.connect(lambda: self.set_role(project=True))
        self.leave_button.clicked.connect(self._take_pending)
        self.clear_button.clicked.connect(self.clear)
        self.save_button.clicked.connect(self._ask_save)
        self.follow()

    def _build(self) -> None:
        self.what, self.role, self.scale = QComboBox(), QComboBox(), QComboBox()
        for combo, content in ((self.role, ROLES), (self.scale, SCALES)):
            for key, title in content.items():
                combo.addItem(title, key)
        for combo in (self.what, self.role, self.scale):
            combo.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
            combo.setMinimumContentsLength(8)
        self.what.setToolTip("Which kernels")
        self.role.setToolTip("What they shall be; what is left open is a finite difference, or what its partner is")
        self.scale.setToolTip("How strong slopes and divergences shall be")
        self.set_button = push_button("Set", "Give these kernels this role")
        self.project_button = push_button("Project them", "Take the sums of those that are no differences away")
        self.leave_button = push_button("Leave them out", "Take the others alone")
        self.clear_button = push_button("Clear", "Finite differences in every role again")
        self.save_button = push_button("Save...", "Write the exchange file: safetensors, and JSON beside it")
        self.line = wrapped_line()
        self.frame_line = wrapped_line()
        rows = QVBoxLayout(self)
        rows.setContentsMargins(0, 0, 0, 0)
        rows.setSpacing(3)
        rows.addWidget(self.what)
        rows.addLayout(row_of((self.role, 1), (self.scale, 1)))
        rows.addLayout(row_of((self.set_button, 1), (self.save_button, 1), (self.clear_button, 1)))
        rows.addLayout(row_of((self.project_button, 1), (self.leave_button, 1)))
        rows.addWidget(self.line)
        rows.addWidget(self.frame_line)

    # ---- what the person does

    def set_role(self, *, project: bool = False) -> None:
        """Give the chosen kernels their role, or say why they cannot have it."""
        analysis = self._results.analysis
        if analysis is None:
            return
        role, spacing = str(self.role.currentData()), self._spacing()
        if self.basket.spacing != spacing:
            self.basket = Basket(spacing)
        try:
            choice = choose(
                analysis.report, self._rows(), role, str(self.scale.currentData()), spacing, project=project
            )
        except LsnetError as error:
            self.refused.emit(str(error))
            return
        self._pending = (role, choice) if choice.refused else None
        if choice.refused:
            self._tell_refused(choice)
        else:
            self.basket.chosen[role] = choice
        self._tell()

    def clear(self) -> None:
        """Nothing is chosen any more."""
        self.basket = Basket(self._spacing())
        self._pending = None
        self._tell()

    def save(self, path: Path) -> None:
        """Write the exchange file."""
        try:
            self.told.emit(save(self.basket.terms(), path))
        except LsnetError as error:
            self.refused.emit(str(error))

    def _ask_save(self) -> None:
        chosen, _ = QFileDialog.getSaveFileName(
            self, "Kernels for the level set", "kernels_for_level_set.safetensors", "Kernels (*.safetensors)"
        )
        if chosen:
            self.save(Path(chosen))

    def _take_pending(self) -> None:
        if self._pending is not None:
            role, choice = self._pending
            self.basket.chosen[role] = replace(choice, refused=())
        self._pending = None
        self._tell()

    # ---- what it causes

    def follow_analysis(self) -> None:
        """Another network: what was chosen stays in no role."""
        self.clear()
        self.follow()

    def follow(self) -> None:
        """Another kernel or filter is on show."""
        results, before = self._results, self.what.currentData()
        self.what.clear()
        found = results.found
        if found is not None:
            if results.row is not None:
                self.what.addItem("the kernel on show", KERNEL)
            count = len(results.shown_rows())
            self.what.addItem(f"the {count:,} shown of this layer", SHOWN)
            self.what.setCurrentIndex(max(self.what.findData(before), 0))
            if found.layer.name != self._layer:
                self._layer = found.layer.name
                role = next((role for end, role in _ENDS.items() if self._layer.endswith(end)), None)
                if role is not None:
                    # all kernels of such a layer belong together
                    self.role.setCurrentIndex(self.role.findData(role))
                    self.scale.setCurrentIndex(self.scale.findData("raw"))
                    self.what.setCurrentIndex(self.what.findData(SHOWN))
        self.set_button.setEnabled(found is not None)
        self._tell()

    def _rows(self) -> Sequence[int]:
        if self.what.currentData() == KERNEL and self._results.row is not None:
            return (self._results.row,)
        return [int(row) for row in self._results.shown_rows()]

    def _spacing(self) -> tuple[float, ...]:
        """The voxel size of the analysis, else that of the image, else 1."""
        analysis, found = self._results.analysis, self._results.found
        if analysis is None or found is None:
            return self.basket.spacing
        ndim = found.layer.ndim
        given = analysis.report.parameters.spacing
        volume: Any = self._image.volume
        if given is not None and len(given) == ndim:
            return tuple(float(h) for h in given)
        if volume is not None and volume.spacing_known and len(volume.spacing) >= ndim:
            return tuple(float(h) for h in volume.spacing[-ndim:])
        return (1.0,) * ndim

    def _tell_refused(self, choice: Choice) -> None:
        first = "; ".join(f"{each.name} {each.reason}" for each in choice.refused[:_LISTED])
        more = f"; and {len(choice.refused) - _LISTED} more" if len(choice.refused) > _LISTED else ""
        self.refused.emit(
            f"Refused, {len(choice.refused)} of {len(choice.refused) + len(choice.kernels)}: {first}{more}."
        )

    def _tell(self) -> None:
        pending = self._pending
        helps = pending is not None and any(each.helps for each in pending[1].refused)
        self.project_button.setVisible(helps)
        self.leave_button.setVisible(pending is not None and len(pending[1].kernels) > 0)
        any_chosen = bool(self.basket.chosen)
        self.line.setText(self.basket.words() if any_chosen else _NOTHING)
        text, fits = "", False
        if any_chosen:
            from src_models.kernels.exchange import frame

            try:
                text, fits = frame_words(frame(self.basket.terms())), True
            except LsnetError as error:
                text = str(error)
        self.frame_line.setText(text)
        self.frame_line.setVisible(bool(text))
        self.save_button.setEnabled(fits)
        self.clear_button.setEnabled(any_chosen)
