"""Another state of the analysed network: chosen, read in a worker, and joined with the table as columns of drift."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from qtpy.QtCore import Signal  # type: ignore[attr-defined]
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_lsnet.background import Background
from napari_lsnet.kernels.source_chooser import SourceChooser
from napari_lsnet.run_controls import push_button, row_of
from napari_lsnet.section import wrapped_line
from src_models.errors import LsnetError

if TYPE_CHECKING:
    from src_models.kernels.result import KernelReport

_WHAT = "An older state F of the network: how far each kernel K has gone from it."


class CompareView(QWidget):
    """Asks for the state before.

    Parameters
    ----------
    parent : QWidget, optional
        The usual.

    Attributes
    ----------
    joined : Signal(object)
        The report with its columns of drift, or without them.
    refused : Signal(str)
        Why the two cannot be compared.
    """

    joined = Signal(object)
    refused = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._report: KernelReport | None = None
        self.models = SourceChooser()
        self.compare_button = push_button("Compare", "Read the other model and join its kernels with the table")
        self.forget_button = push_button("Forget", "Take the columns of drift out of the table again")
        self.line = wrapped_line()
        rows = QVBoxLayout(self)
        rows.setContentsMargins(0, 0, 0, 0)
        rows.setSpacing(3)
        rows.addWidget(self.models)
        rows.addLayout(row_of((self.compare_button, 2), (self.forget_button, 1)))
        rows.addWidget(self.line)
        self._work = Background(self, wait_ms=0)
        self._work.answered.connect(self._on_answer)
        self._work.failed.connect(self._on_failed)
        self.compare_button.clicked.connect(self.compare)
        self.forget_button.clicked.connect(self.forget)
        self.follow(None)

    @property
    def is_busy(self) -> bool:
        """Whether the other model is being read."""
        return self._work.is_busy

    def follow(self, report: KernelReport | None) -> None:
        """Another analysis."""
        self._work.forget()
        self._report = report
        self._tell("")

    def compare(self) -> None:
        """Compare with the chosen model."""
        choice = self.models.choice
        if self._report is None or choice is None:
            return
        self.line.setText(f"Reading {choice.title}...")
        self._work.ask(partial(_joined, self._report, choice.source))

    def forget(self) -> None:
        """Show the analysis alone again."""
        if self._report is None:
            return
        from src_models.kernels.two_states import without_state

        self._work.forget()
        self._report = without_state(self._report)
        self._tell("")
        self.joined.emit(self._report)

    def _tell(self, text: str) -> None:
        joined = self._report is not None and "drift" in self._report.table.columns
        self.forget_button.setEnabled(joined)
        self.compare_button.setEnabled(self._report is not None)
        self.line.setText(text or (_WHAT if not joined else "Compared; see Drift under Show."))

    def _on_answer(self, answer: tuple[KernelReport, KernelReport, str]) -> None:
        before, report, text = answer
        if before is not self._report:
            return
        self._report = report
        self._tell(text)
        self.joined.emit(report)

    def _on_failed(self, error: Exception) -> None:
        said = str(error) if isinstance(error, LsnetError) else "The other model could not be read; nothing is changed."
        self._tell(said)
        self.refused.emit(said)


def _joined(report: KernelReport, source: str) -> tuple[KernelReport, KernelReport, str]:
    """For the worker: the report before and after, and a sentence."""
    import numpy as np

    from src_models.kernels.sources import open_source
    from src_models.kernels.two_states import join_state

    other = open_source(source)
    made = join_state(report, other)
    way, turn = (made.table.numbers(name) for name in ("drift_relative", "drift_turn"))
    if not np.isfinite(way).any():
        return report, made, f"Compared with {other.name}, whose kernels are all 0."
    changed = int((made.table.words("order_change") == "other order").sum())
    text = (
        f"Compared with {other.name}: the median kernel moved {100 * np.nanmedian(way):.2g} % of its length "
        f"(1\N{MINUS SIGN}cos {np.nanmedian(turn):.2g}); {changed:,} of {len(way):,} are of another order."
    )
    return report, made, text
