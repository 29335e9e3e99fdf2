"""The table of models: one row each, sorted by name, the state in words and not in colour alone."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import Qt, Signal  # type: ignore[attr-defined]
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QTableWidget, QTableWidgetItem, QWidget

from napari_lsnet.models.words import STATES, size_text
from src_models.weights.listing import Entry

COLUMNS = ("Name", "State", "Size", "Task", "Licence", "SHA-256")
"""What decides first, since a dock is narrow."""
_WIDTHS = (148, 76, 66, 150, 110, 120)


class ModelTable(QTableWidget):
    """Read-only; one row is chosen at a time.

    Parameters
    ----------
    parent : QWidget, optional
        The usual.
    """

    chosen = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(0, len(COLUMNS), parent)
        self._entries: tuple[Entry, ...] = ()
        self.setHorizontalHeaderLabels(list(COLUMNS))
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setWordWrap(False)
        self.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        self.setHorizontalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        rows, titles = self.verticalHeader(), self.horizontalHeader()
        if rows is not None:
            rows.hide()
        if titles is not None:
            titles.setSectionResizeMode(QHeaderView.ResizeMode.Interactive)
            titles.setStretchLastSection(True)
            titles.setDefaultAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
        for column, width in enumerate(_WIDTHS):
            self.setColumnWidth(column, width)
        self.itemSelectionChanged.connect(self.chosen)

    @property
    def entries(self) -> tuple[Entry, ...]:
        """What is listed."""
        return self._entries

    @property
    def entry(self) -> Entry | None:
        """The chosen one."""
        row = self.currentRow()
        return self._entries[row] if self.selectedItems() and 0 <= row < len(self._entries) else None

    def height_of_rows(self) -> int:
        """What titles, rows and the bar below them take, in pixels."""
        titles, bar = self.horizontalHeader(), self.horizontalScrollBar()
        around = sum(part.sizeHint().height() for part in (titles, bar) if part is not None)
        return around + sum(self.rowHeight(row) for row in range(self.rowCount()))

    def show_entries(self, entries: Sequence[Entry], select: tuple[str, str] | None = None) -> None:
        """List other models; the row that was chosen, or `select`, stays chosen where it is still there."""
        before = self.entry
        wanted = select or (None if before is None else (before.name, before.version))
        self._entries = tuple(entries)
        self.blockSignals(True)
        self.clearSelection()
        self.setRowCount(len(entries))
        for row, entry in enumerate(entries):
            self._fill(row, entry)
        self.blockSignals(False)
        names = [(entry.name, entry.version) for entry in entries]
        if wanted in names:
            self.selectRow(names.index(wanted))
        else:
            self.chosen.emit()

    def _fill(self, row: int, entry: Entry) -> None:
        cells = (
            f"{entry.name}@{entry.version}",
            entry.state,
            size_text(entry.size_bytes),
            entry.task,
            entry.licence or "not stated",
            entry.sha256,
        )
        for column, text in enumerate(cells):
            item = QTableWidgetItem(text)
            item.setToolTip(text)
            if COLUMNS[column] == "Size":
                item.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
            if COLUMNS[column] == "State":
                item.setToolTip(entry.problem or STATES[entry.state])
                font = item.font()
                font.setBold(entry.state == "damaged")
                item.setFont(font)
            if entry.state == "available":
                font = item.font()
                font.setItalic(True)
                item.setFont(font)
            self.setItem(row, column, item)
