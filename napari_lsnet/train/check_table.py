"""The cases of a data set as rows, with what is wrong with them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QAbstractItemView, QTableWidget, QTableWidgetItem, QWidget

from napari_lsnet.theme import colours

if TYPE_CHECKING:
    from src_models.training.survey import CaseRow, Survey

_COLUMNS = ("Case", "What to know", "Patient", "Fold", "Size", "Labels")
_REMARK = 1
_WIDEST_REMARK = 220
_TINT = 0.35


class CheckTable(QTableWidget):
    """One row a case; those with something to know come first."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(0, len(_COLUMNS), parent)
        self.setHorizontalHeaderLabels(_COLUMNS)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setWordWrap(False)
        header, rows = self.horizontalHeader(), self.verticalHeader()
        if header is not None and rows is not None:
            header.setStretchLastSection(False)
            rows.setVisible(False)
            rows.setDefaultSectionSize(self.fontMetrics().lineSpacing() + 6)
        self.setMinimumHeight(120)
        self.hide()

    def show_survey(self, survey: Survey) -> None:
        """Fill the table."""
        ordered = sorted(survey.rows, key=lambda row: (not row.problem, not row.remark))
        self.setRowCount(len(ordered))
        now = colours()
        for place, row in enumerate(ordered):
            colour = now.error if row.problem else now.warning if row.remark else ""
            for column, text in enumerate(_cells(row)):
                item: Any = QTableWidgetItem(text)
                item.setToolTip(row.problem or row.remark or text)
                item.setFlags(item.flags() & ~Qt.ItemFlag.ItemIsEditable)
                if colour:
                    tint = QColor(colour)
                    tint.setAlphaF(_TINT)
                    item.setBackground(tint)
                self.setItem(place, column, item)
        self.resizeColumnsToContents()
        self.setColumnHidden(_REMARK, not survey.problems and not survey.remarks)
        self.setColumnWidth(_REMARK, min(self.columnWidth(_REMARK), _WIDEST_REMARK))
        self.show()

    def forget(self) -> None:
        """Nothing is known any more."""
        self.setRowCount(0)
        self.hide()


def _cells(row: CaseRow) -> tuple[str, ...]:
    return (
        row.case,
        row.problem or row.remark,
        row.patient,
        "" if row.fold is None else str(row.fold),
        " x ".join(str(n) for n in row.shape),
        ", ".join(str(value) for value in row.values[:6]) + (", ..." if len(row.values) > 6 else ""),
    )
