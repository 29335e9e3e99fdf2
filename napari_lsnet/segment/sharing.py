"""The last result to take along: as a script, as a command line, as a record, or as a report of what went wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QApplication, QFileDialog

from napari_lsnet.segment.controls import Controls
from napari_lsnet.segment.replay_text import as_command_line, as_python
from src_models.errors import LsnetError

if TYPE_CHECKING:
    from napari_lsnet.segment.run import SegmentRun


class Sharing:
    """Does what the buttons of the last row say.

    Parameters
    ----------
    controls : Controls
        With the buttons and the status line.
    run : SegmentRun
        Whose newest result is shared.
    refuse : callable
        Says what could not be done.

    Attributes
    ----------
    report : str
        Of the last failure.
    """

    def __init__(self, controls: Controls, run: SegmentRun, refuse: Callable[[str], None]) -> None:
        self.report = ""
        self._controls, self._run, self._refuse = controls, run, refuse
        controls.copy_python.connect(self.copy_python)
        controls.copy_command.connect(self.copy_command)
        controls.save_record.connect(self.save_record)
        controls.copy_report.connect(self.copy_report)

    def copy_python(self) -> None:
        """The last result as a Python script, to the clipboard."""
        if self._run.request is not None:
            self._copy(as_python(self._run.request), "The script is in the clipboard.")

    def copy_command(self) -> None:
        """The last result as a command line, to the clipboard."""
        if self._run.request is not None:
            self._copy(as_command_line(self._run.request), "The command line is in the clipboard.")

    def save_record(self) -> None:
        """Ask for a file and write the record of the last result."""
        request, result = self._run.request, self._run.result
        if request is None or result is None:
            return
        chosen, _ = QFileDialog.getSaveFileName(
            self._controls, "Save record", "result.lsnet.json", "Records (*.lsnet.json)"
        )
        if not chosen:
            return
        from src_models.record import write_record

        try:
            write_record(Path(chosen), request.record_for(result.record, Path(chosen).parent))
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
