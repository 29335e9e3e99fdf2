"""The layers of a network in their order, each with what is most above chance in it; those left out stand below."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal  # type: ignore[attr-defined]
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QTreeWidget, QTreeWidgetItem, QWidget

if TYPE_CHECKING:
    from src_models.kernels.result import KernelReport, LayerReport

_SURE = 0.05
_PLACE = Qt.ItemDataRole.UserRole


class LayerList(QTreeWidget):
    """Choose a layer.

    Parameters
    ----------
    parent : QWidget, optional
        The usual.

    Attributes
    ----------
    chosen : Signal(int)
        Place of another layer in the report.
    """

    chosen = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setColumnCount(3)
        self.setHeaderLabels(["Layer", "Kernels", "Above chance"])
        self.setRootIsDecorated(False)
        self.setUniformRowHeights(True)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setTextElideMode(Qt.TextElideMode.ElideLeft)
        header = self.header()
        if header is not None:
            header.setStretchLastSection(False)
            header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
            for column in (1, 2):
                header.setSectionResizeMode(column, QHeaderView.ResizeMode.ResizeToContents)
        self.setMinimumHeight(120)
        self.setMaximumHeight(190)
        self.currentItemChanged.connect(self._on_current)

    @property
    def place(self) -> int | None:
        """Of the chosen layer in the report."""
        item = self.currentItem()
        found = None if item is None else item.data(0, _PLACE)
        return None if found is None else int(found)

    def show_report(self, report: KernelReport | None) -> None:
        """The layers of another report; the first is chosen."""
        self.blockSignals(True)
        self.clear()
        for place, found in enumerate(report.layers if report is not None else ()):
            layer = found.layer
            above = _above(found)
            texts = [_short(layer.name), f"{layer.count:,}", above]
            item = QTreeWidgetItem(texts)
            item.setData(0, _PLACE, place)
            item.setTextAlignment(1, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
            kind = "" if layer.kind == "conv" else f", {layer.kind}"
            dead = f", {found.dead} dead" if found.dead else ""
            channels = f"{layer.out_channels} outputs, {layer.in_channels} inputs"
            tip = f"{layer.name}: {_times(layer.stored_size)}, {channels}{kind}{dead}"
            for column in range(3):
                item.setToolTip(column, tip)
            self.addTopLevelItem(item)
        for skipped in report.skipped if report is not None else ():
            item = QTreeWidgetItem([_short(skipped.name), f"{skipped.count:,}", "left out"])
            item.setTextAlignment(1, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
            item.setFlags(Qt.ItemFlag.NoItemFlags)
            for column in range(3):
                item.setToolTip(column, f"{skipped.name} ({_times(skipped.size)}) is left out: {skipped.reason}")
            self.addTopLevelItem(item)
        self.blockSignals(False)
        if report is not None and report.layers:
            self.choose(0)

    def choose(self, place: int) -> None:
        """Choose a layer of the report."""
        item = self.topLevelItem(place)
        if item is not None:
            self.setCurrentItem(item)

    def _on_current(self, item: QTreeWidgetItem | None, _before: QTreeWidgetItem | None) -> None:
        place = None if item is None else item.data(0, _PLACE)
        if place is not None:
            self.chosen.emit(int(place))


def _above(found: LayerReport) -> str:
    """The label that is most certainly more frequent than by chance, with how much; "" where there is none."""
    sure = [
        share
        for share in found.labels
        if share.count and share.low > 1 and share.p < _SURE and share.name != "indeterminate"
    ]
    if not sure:
        return "\N{EN DASH}"
    best = max(sure, key=lambda share: share.low)
    return f"{best.name} \N{MULTIPLICATION SIGN}{best.enrichment:.2g}"


def _short(name: str) -> str:
    """Nearly every layer's name ends alike, which takes the room of what tells them apart."""
    return name.removesuffix(".conv")


def _times(size: tuple[int, ...]) -> str:
    return "\N{MULTIPLICATION SIGN}".join(str(n) for n in size)
