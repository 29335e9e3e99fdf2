"""The card of one kernel: its tile, what it is near to, which operator it is, all beside chance."""

from __future__ import annotations

import html

from qtpy.QtWidgets import QLabel, QVBoxLayout, QWidget

from napari_lsnet.kernels.facts import Facts
from napari_lsnet.kernels.pictures import EnergyPicture, KernelPicture, OperatorPicture
from napari_lsnet.section import section_title, wrapped_line

NOTHING = "Click a tile or a point to see what its kernel is."
_NOTE = "One kernel as a linear operator; it does not say that the network solves an equation."


class KernelCard(QWidget):
    """What is known about one kernel.

    Parameters
    ----------
    parent : QWidget, optional
        The usual.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.facts: Facts | None = None
        self.title = section_title("")
        self.title.setWordWrap(True)
        self.label = wrapped_line()
        self.picture = KernelPicture()
        self.lines = wrapped_line()
        self.operator = OperatorPicture()
        self.energy_title = QLabel("Energy by degree; yellow lines: random kernels")
        self.energy = EnergyPicture()
        self.energy.setToolTip(
            "Degree 0 is the mean, 1 slopes, 2 curvatures, higher ones finer patterns; the shares sum to 100 %"
        )
        self.note = wrapped_line()
        rows = QVBoxLayout(self)
        rows.setContentsMargins(2, 4, 6, 2)
        rows.setSpacing(4)
        for part in (
            self.title,
            self.label,
            self.picture,
            self.operator,
            self.lines,
            self.energy_title,
            self.energy,
            self.note,
        ):
            rows.addWidget(part)
        rows.addStretch(1)
        self.show_facts(None)

    def show_facts(self, facts: Facts | None) -> None:
        """Another kernel, or none."""
        self.facts = facts
        parts = (self.title, self.picture, self.operator, self.lines, self.energy_title, self.energy, self.note)
        for part in parts:
            part.setVisible(facts is not None)
        if facts is None:
            self.label.setText(NOTHING)
            return
        self.title.setText(facts.title)
        self.label.setText(facts.label[:1].upper() + facts.label[1:] + ".")
        self.picture.show_kernel(facts.kernel, facts.largest, facts.nearest)
        self.operator.show_operator(facts.velocity, facts.diffusion)
        self.lines.setText(_table(facts.lines))
        self.energy.show_energy(facts.energy, facts.energy_null)
        self.note.setText(f"<i>{_NOTE}</i>")


def _table(lines: tuple[tuple[str, str], ...]) -> str:
    rows = [f"<tr><td style='padding-right:8px'>{word}</td><td>{html.escape(text)}</td></tr>" for word, text in lines]
    return f"<table cellspacing='0' cellpadding='1'>{''.join(rows)}</table>"
