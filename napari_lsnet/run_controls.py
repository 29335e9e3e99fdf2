"""What the lower part of every panel that runs something has: run, cancel, status, and a result to take along."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from qtpy.QtCore import Signal  # type: ignore[attr-defined]
from qtpy.QtWidgets import QApplication, QFileDialog, QHBoxLayout, QLabel, QPushButton, QSizePolicy, QWidget

from napari_lsnet.jobs import JobState
from napari_lsnet.section import StatusLine
from src_models.errors import LsnetError

if TYPE_CHECKING:
    from src_models.record import Record

RUN_TEXT = {
    JobState.PREPARING: "Preparing...",
    JobState.RUNNING: "Pause",
    JobState.PAUSED: "Resume",
    JobState.STOPPING: "Stopping...",
}
"""What the run button says while something is under way."""


class RunControls(QWidget):
    """Buttons and a status line; panels lay them out and add their own.

    Parameters
    ----------
    makes : str
        What a run makes, such as "mask".
    run_tip, cancel_tip : str
        What the two buttons do.
    parent : QWidget, optional
        The usual.

    Attributes
    ----------
    run, cancel, copy_python, copy_command, save_record, copy_report : Signal()
        The button was clicked.
    """

    run = Signal()
    cancel = Signal()
    copy_python = Signal()
    copy_command = Signal()
    save_record = Signal()
    copy_report = Signal()

    def __init__(self, makes: str, run_tip: str, cancel_tip: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Maximum)
        self.run_button = push_button("Run", run_tip, self.run)
        self.cancel_button = push_button("Cancel", cancel_tip, self.cancel)
        self.python_button = push_button("Python", f"Copy a script that makes the same {makes}", self.copy_python)
        self.command_button = push_button(
            "Command", f"Copy a command line that makes the same {makes}", self.copy_command
        )
        self.record_button = push_button(
            "Save record...",
            f"A file with everything that was done; lsnet replay makes the {makes} again",
            self.save_record,
        )
        self.report_button = push_button("Copy report", "Versions and trace, without your data", self.copy_report)
        self.report_button.hide()
        self.status = StatusLine()

    def copy_row(self) -> QHBoxLayout:
        """The buttons that take a result along, in a row."""
        return row_of(
            (QLabel("Copy as"), 0), (self.python_button, 2), (self.command_button, 2), (self.record_button, 3)
        )

    def allow_copies(self, allowed: bool) -> None:
        """Whether there is a result to take along."""
        for button in (self.python_button, self.command_button, self.record_button):
            button.setEnabled(allowed)

    def tell(self, text: str, *, warning: bool = False, details: bool = False) -> None:
        """Write the status line; `details` offers the report."""
        self.status.tell(text, warning=warning)
        self.report_button.setVisible(details)


class Shareable(Protocol):
    """A result with what made it."""

    def as_python(self) -> str:
        """A script that makes it again."""

    def as_command_line(self) -> str:
        """A command line that makes it again."""

    def record_for(self, folder: Path) -> Record:
        """Its record, to be saved in a folder."""


class Sharing:
    """Does what the buttons of a result say.

    Parameters
    ----------
    controls : RunControls
        With the buttons and the status line.
    newest : callable
        The newest result, or None.
    refuse : callable
        Says what could not be done.

    Attributes
    ----------
    report : str
        Of the last failure.
    """

    def __init__(
        self, controls: RunControls, newest: Callable[[], Shareable | None], refuse: Callable[[str], None]
    ) -> None:
        self.report = ""
        self._controls, self._newest, self._refuse = controls, newest, refuse
        controls.copy_python.connect(self.copy_python)
        controls.copy_command.connect(self.copy_command)
        controls.save_record.connect(self.save_record)
        controls.copy_report.connect(self.copy_report)

    def copy_python(self) -> None:
        """The newest result as a Python script, to the clipboard."""
        result = self._newest()
        if result is not None:
            self._copy(result.as_python(), "The script is in the clipboard.")

    def copy_command(self) -> None:
        """The newest result as a command line, to the clipboard."""
        result = self._newest()
        if result is not None:
            self._copy(result.as_command_line(), "The command line is in the clipboard.")

    def save_record(self) -> None:
        """Ask for a file and write the record of the newest result."""
        result = self._newest()
        if result is None:
            return
        chosen, _ = QFileDialog.getSaveFileName(
            self._controls, "Save record", "result.lsnet.json", "Records (*.lsnet.json)"
        )
        if not chosen:
            return
        from src_models.record import write_record

        try:
            write_record(Path(chosen), result.record_for(Path(chosen).parent))
        except LsnetError as error:
            self._refuse(str(error))
            return
        self._controls.tell(f"Saved: {Path(chosen).name}.")

    def copy_report(self) -> None:
        """The report of the last failure, to the clipboard."""
        self._copy(self.report, "The report is in the clipboard.")

    def _copy(self, text: str, told: str) -> None:
        clipboard = QApplication.clipboard()
        if clipboard is not None:
            clipboard.setText(text)
        self._controls.tell(told)


def push_button(text: str, tip: str, signal: Signal | None = None) -> QPushButton:
    """A button that may grow and is never narrower than its text."""
    button = QPushButton(text)
    button.setToolTip(tip)
    button.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
    button.setMinimumWidth(button.fontMetrics().horizontalAdvance(text) + 14)
    if signal is not None:
        button.clicked.connect(lambda: signal.emit())
    return button


def row_of(*widgets: tuple[QWidget, int]) -> QHBoxLayout:
    """Widgets beside each other, each with its share of the width."""
    row = QHBoxLayout()
    row.setSpacing(3)
    for widget, stretch in widgets:
        row.addWidget(widget, stretch)
    return row
