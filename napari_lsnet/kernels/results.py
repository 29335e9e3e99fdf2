"""The middle of the panel: layers of the network, label shares that filter, the two pictures, and the card."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import Qt, QTimer, Signal  # type: ignore[attr-defined]
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFrame,
    QLabel,
    QMainWindow,
    QPushButton,
    QScrollArea,
    QTabWidget,
    QVBoxLayout,
    QWidget,
)

from napari_lsnet.kernels.card import KernelCard
from napari_lsnet.kernels.clicks import Clicks
from napari_lsnet.kernels.compare_view import CompareView
from napari_lsnet.kernels.facts import facts_of, number
from napari_lsnet.kernels.filtering import COLUMNS, STATE_COLUMNS, Filter, shown_rows, words_of
from napari_lsnet.kernels.layer_list import LayerList
from napari_lsnet.kernels.place import ROLE, look_at
from napari_lsnet.kernels.run import Analysis
from napari_lsnet.kernels.share_list import ShareList
from napari_lsnet.kernels.shown_layers import ShownLayers
from napari_lsnet.roles import role_of
from napari_lsnet.run_controls import push_button, row_of
from napari_lsnet.section import Section, section_title, wrapped_line

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from src_models.kernels.result import KernelReport, LayerReport

HOW, LAYERS, KERNEL = "How", "Layers", "Kernel"


class Results(QWidget):
    """What was found, in tabs that are closed until there is something.

    Parameters
    ----------
    viewer : ViewerModel
        Where the layers are shown.
    parent : QWidget, optional
        The usual.

    Attributes
    ----------
    told, refused : Signal(str)
        For the status line.
    row_changed : Signal(object)
        Another kernel is on show: its row, or None.
    filter_changed : Signal()
        Other kernels are shown.
    table_changed : Signal(object)
        The `Analysis` has other columns in its table.
    """

    told = Signal(str)
    refused = Signal(str)
    row_changed = Signal(object)
    filter_changed = Signal()
    table_changed = Signal(object)

    def __init__(self, viewer: ViewerModel, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self.analysis: Analysis | None = None
        self.row: int | None = None
        self.shown = ShownLayers(viewer)
        self._build()
        self._connect()

    def _build(self) -> None:
        self.layers = LayerList()
        self.column = QComboBox()
        for key, title in COLUMNS.items():
            self.column.addItem(title, key)
        self.column.setToolTip("What the list below counts, and what the points are coloured by")
        self.all_button = QPushButton("All")
        self.all_button.setToolTip("Show every kernel again")
        self.shares = ShareList()
        self.largest_p = QDoubleSpinBox()
        self.largest_p.setRange(0.001, 1.0)
        self.largest_p.setDecimals(3)
        self.largest_p.setSingleStep(0.01)
        self.largest_p.setValue(1.0)
        self.largest_p.setToolTip("Show only kernels that are nearer to a known kernel than this share of random ones")
        self.count_line = wrapped_line()
        self.scale = QComboBox()
        self.scale.addItem("colours of this layer", False)
        self.scale.addItem("colours of the network", True)
        self.scale.setToolTip("What the ends of the colour scale are: the largest weight of the layer, or of all")
        self.montage_button = push_button("Kernels", "Move the view to the montage of kernels")
        self.components_button = push_button("Components", "Move the view to the principal components")
        self.both_button = push_button("Both", "Move the view to both pictures")
        self.image_button = push_button("Image", "Move the view back to your layers")
        self.components_line = wrapped_line()
        self.card = KernelCard()
        self.compare = CompareView()
        self.tabs = QTabWidget()
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(self.tabs)
        network = QWidget()
        rows = QVBoxLayout(network)
        rows.setContentsMargins(2, 4, 6, 2)
        rows.setSpacing(4)
        rows.addWidget(self.layers)
        looks = ((self.montage_button, 3), (self.components_button, 4), (self.both_button, 2), (self.image_button, 3))
        rows.addLayout(row_of((QLabel("View"), 0), *looks))
        self.arrows = QCheckBox("arrows")
        self.arrows.setToolTip("Where each kernel moves features, on its tile; one scale for the layer")
        self.ellipses = QCheckBox("ellipses")
        self.ellipses.setToolTip(
            "How each kernel spreads features, on its tile: blue smooths, orange sharpens; many tiles and 3D: the axes"
        )
        rows.addLayout(row_of((self.scale, 1), (self.arrows, 0), (self.ellipses, 0)))
        rows.addLayout(row_of((section_title("Show"), 0), (self.column, 1), (self.all_button, 0)))
        rows.addWidget(self.shares)
        rows.addLayout(row_of((QLabel("Only with p up to"), 0), (self.largest_p, 0), (self.count_line, 1)))
        rows.addWidget(self.components_line)
        self.compare_section = Section("Compare with another state", self.compare)
        rows.addWidget(self.compare_section)
        rows.addStretch(1)
        self.add_tab(network, LAYERS)
        self.add_tab(self.card, KERNEL)

    def add_tab(self, content: QWidget, title: str, *, first: bool = False) -> None:
        """One more tab, which scrolls where it is too long."""
        scroll = QScrollArea()
        scroll.setWidgetResizable(True)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scroll.setFrameShape(QFrame.Shape.NoFrame)
        scroll.setWidget(content)
        self.tabs.insertTab(0 if first else self.tabs.count(), scroll, title)

    def open_tab(self, title: str) -> None:
        """Bring a tab to the front."""
        self.tabs.setCurrentIndex(self._titles().index(title))

    def allow(self, allowed: bool) -> None:
        """Whether there is something on the tabs of results."""
        for place, title in enumerate(self._titles()):
            self.tabs.setTabEnabled(place, allowed or title == HOW)

    def _titles(self) -> list[str]:
        return [self.tabs.tabText(place) for place in range(self.tabs.count())]

    def _connect(self) -> None:
        self.layers.chosen.connect(self.show_layer)
        self.compare.joined.connect(self._on_joined)
        self.compare.refused.connect(self.refused)
        self.column.currentIndexChanged.connect(self._on_column)
        self.all_button.clicked.connect(self._show_all)
        self.shares.changed.connect(self._on_filter)
        self.largest_p.valueChanged.connect(self._on_filter)
        self.scale.currentIndexChanged.connect(self._redraw)
        self.arrows.toggled.connect(self.shown.overlays.show_arrows)
        self.ellipses.toggled.connect(self.shown.overlays.show_diffusion)
        self.montage_button.clicked.connect(lambda: self._fit("montage"))
        self.components_button.clicked.connect(lambda: self._fit("components", "known"))
        self.both_button.clicked.connect(lambda: self._fit("montage", "components", "known"))
        self.image_button.clicked.connect(self._fit_image)
        clicks = Clicks(self._viewer, self._on_click)
        self.destroyed.connect(clicks.release)
        # Layers that come and go move the free room beside them; several at once count once.
        self._place_timer = QTimer(self)
        self._place_timer.setSingleShot(True)
        self._place_timer.setInterval(50)
        self._place_timer.timeout.connect(self._move)
        for event in (self._viewer.layers.events.inserted, self._viewer.layers.events.removed):
            event.connect(self._on_layers)

    # ---- what is shown

    @property
    def found(self) -> LayerReport | None:
        """The layer on show."""
        return self.shown.found

    @property
    def filter(self) -> Filter:
        """What is shown of it."""
        return Filter(str(self.column.currentData()), self.shares.names, self.largest_p.value())

    def show_analysis(self, analysis: Analysis) -> None:
        """Another report; its first layer is shown."""
        self.analysis = analysis
        self.compare.follow(analysis.report)
        self._offer_columns()
        self.allow(True)
        if self.tabs.tabText(self.tabs.currentIndex()) == HOW:
            self.open_tab(LAYERS)
        self.layers.show_report(analysis.report)
        self._fit("montage", "components", "known")

    def _on_joined(self, report: KernelReport) -> None:
        """The table has other columns; what is on show stays."""
        if self.analysis is None:
            return
        self.analysis = replace(self.analysis, report=report)
        self.shown.adopt(report)
        self._offer_columns()
        if "drift" in report.table.columns:
            self.column.setCurrentIndex(self.column.findData("drift"))
        self._tell_components()
        row = self.row
        self.card.show_facts(None if row is None else facts_of(report, row))
        self.table_changed.emit(self.analysis)

    def _offer_columns(self) -> None:
        """Columns of words that this table has."""
        columns = {} if self.analysis is None else self.analysis.report.table.columns
        for key, title in STATE_COLUMNS.items():
            place = self.column.findData(key)
            if key in columns and place < 0:
                self.column.addItem(title, key)
            elif key not in columns and place >= 0:
                if self.column.currentIndex() == place:
                    self.column.setCurrentIndex(0)
                self.column.removeItem(place)

    def show_layer(self, place: int) -> None:
        """Another layer of the report."""
        if self.analysis is None:
            return
        self._draw(place)
        self._count_words(None)
        self._tell_components()
        self._set_row(None)

    def show_row(self, row: int) -> None:
        """The kernel of a row, of whatever layer."""
        if self.analysis is None:
            return
        report = self.analysis.report
        found = report.layer_of(row)
        if found is not self.found:
            self.layers.choose(report.layers.index(found))
        self._set_row(row)

    def shown_rows(self) -> Any:
        """Rows of the table of the layer on show that the filter lets through."""
        found = self.found
        if found is None or self.analysis is None:
            return []
        shown = shown_rows(self.analysis.report.table, found.rows, self.filter)
        return shown.nonzero()[0] + found.first_row

    def _draw(self, place: int) -> None:
        assert self.analysis is not None
        high, wide = self._canvas()
        same = self.found is self.analysis.report.layers[place]
        self.shown.show(
            self.analysis.report,
            place,
            whole_scale=bool(self.scale.currentData()),
            colour_by=str(self.column.currentData()),
            stacked=high > wide,
            chosen=self.filter if same else Filter(str(self.column.currentData())),
        )

    def _redraw(self) -> None:
        place = self.layers.place
        if self.analysis is not None and place is not None and self.found is not None:
            self._draw(place)
            self.shown.mark(self.row)

    def _move(self) -> None:
        """Where the pictures stand depends on the layers beside them; what was removed does not come back."""
        if self.shown.layer("montage") is not None:
            self._redraw()

    def _count_words(self, kept: frozenset[str] | None) -> None:
        if self.analysis is None or self.found is None:
            return
        column = str(self.column.currentData())
        names = self.analysis.report.table[column].names  # type: ignore[union-attr]
        self.shares.show_words(words_of(self.analysis.report, self.found, column), names, kept)
        self._tell_count()

    def _on_column(self) -> None:
        self.shown.colour(str(self.column.currentData()))
        self._count_words(None)
        self._on_filter()

    def _show_all(self) -> None:
        self.largest_p.blockSignals(True)
        self.largest_p.setValue(1.0)
        self.largest_p.blockSignals(False)
        self.shares.tick_only(None)

    def _on_filter(self) -> None:
        self.shown.filter(self.filter)
        self._tell_count()
        self.filter_changed.emit()

    def _tell_count(self) -> None:
        found = self.found
        if found is not None:
            count = len(self.shown_rows())
            all_of = f"all {count:,}" if count == found.layer.count else f"{count:,} of {found.layer.count:,}"
            self.count_line.setText(f"{all_of} kernels")

    def _tell_components(self) -> None:
        found = self.found
        if found is None:
            return
        one, two = 100 * found.projection.explained[:2]
        text = f"Components: {one:.0f} % and {two:.0f} % of the variance."
        scores = found.clusters
        if scores is not None and scores.p == scores.p:
            chance = sum(scores.null) / len(scores.null)
            verdict = "no clusters to speak of" if scores.p > 0.05 else "tighter than chance"
            text += (
                f" {scores.k} clusters: silhouette {number(scores.tested)}, by chance {number(chance)} "
                f"(p = {scores.p:.2g}): {verdict}."
            )
        table = None if self.analysis is None else self.analysis.report.table.rows(found.rows.start, found.rows.stop)
        if table is not None and "drift" in table.columns:
            text += _drift_of(table)
        self.components_line.setText(" ".join([text, *self.shown.notes]))

    # ---- one kernel

    def _on_click(self, position: Any) -> None:
        row = self.shown.row_at(position)
        if row is None:
            return
        self._set_row(row)
        # whoever looks at feature maps goes on doing so
        if self.tabs.tabText(self.tabs.currentIndex()) == LAYERS:
            self.open_tab(KERNEL)

    def _set_row(self, row: int | None) -> None:
        self.row = row
        self.shown.mark(row)
        self.card.show_facts(None if row is None or self.analysis is None else facts_of(self.analysis.report, row))
        self.row_changed.emit(row)

    # ---- the view

    def _fit(self, *names: str) -> None:
        look_at(self._viewer, self.shown.layers(*names), self._canvas())

    def _fit_image(self) -> None:
        others = [layer for layer in self._viewer.layers if role_of(layer) != ROLE]
        if not others:
            self.told.emit("There is no other layer to look at: open an image.")
        look_at(self._viewer, others, self._canvas())

    def _canvas(self) -> tuple[float, float]:
        """Height and width of the canvas."""
        window = self.window()
        central = window.centralWidget() if isinstance(window, QMainWindow) else None
        return (600.0, 800.0) if central is None else (float(central.height()), float(central.width()))

    def _on_layers(self, event: Any) -> None:
        layer = getattr(event, "value", None)
        # what we made lies on an image or is a picture of kernels: it takes no room
        if layer is None or role_of(layer):
            return
        try:
            if self.found is not None:
                self._place_timer.start()
        except RuntimeError:  # the dock is gone
            return


def _drift_of(table: Any) -> str:
    """The drift of a layer in a sentence."""
    way, turn = (table.numbers(name) for name in ("drift_relative", "drift_turn"))
    way, turn = way[np.isfinite(way)], turn[np.isfinite(turn)]
    changed = int((table.words("order_change") == "other order").sum())
    if not len(way) or not len(turn):
        return f" Drift: it began at 0; {changed:,} of another order."
    return (
        f" Drift of this layer: median {number(float(np.median(way)))} of the length, "
        f"1\N{MINUS SIGN}cos {number(float(np.median(turn)))}; {changed:,} of another order."
    )
