"""A long job in a child process: the command line with JSON lines out and orders in. It never outlives napari.

The child ends by itself when its input is closed, so that it is not left behind even where this process is killed.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qtpy.QtCore import QCoreApplication, QObject, QProcess, QProcessEnvironment, Signal  # type: ignore[attr-defined]

from src_models.errors import DeviceError

AT_EXIT_MS = 3000
_TAIL = 4000


def can_start() -> bool:
    """Whether there is a Python to start: not so in frozen applications."""
    return Path(sys.executable or "").stem.lower().startswith("python")


class Child(QObject):
    """One run of ``lsnet`` with ``--json``.

    Parameters
    ----------
    parent : QObject, optional
        The usual.

    Attributes
    ----------
    said : Signal(object)
        A line of the child as a dict.
    ended : Signal(int, str)
        Its exit code, -1 where it was killed or broke down, and the last of what it wrote to standard error.
    """

    said = Signal(object)
    ended = Signal(int, str)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._process: QProcess | None = None
        self._rest = b""
        self._errors = b""

    @property
    def is_running(self) -> bool:
        """Whether the child is there."""
        return self._process is not None

    def start(self, words: Sequence[str]) -> None:
        """Start ``lsnet`` with these words.

        Raises
        ------
        DeviceError
            Where no Python can be started.
        """
        if not can_start():
            raise DeviceError(
                "child-python", "No Python was found to run it in", "", "Use lsnet train on the command line."
            )
        process = self._process = QProcess(self)
        environment = QProcessEnvironment.systemEnvironment()
        # An editable checkout is found by its path alone.
        environment.insert("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
        environment.insert("PYTHONUNBUFFERED", "1")
        process.setProcessEnvironment(environment)
        process.readyReadStandardOutput.connect(self._on_output)
        process.readyReadStandardError.connect(self._on_errors)
        process.finished.connect(self._on_finished)
        process.errorOccurred.connect(self._on_error)
        application = QCoreApplication.instance()
        if application is not None:
            application.aboutToQuit.connect(self.end)
        process.start(sys.executable, ["-m", "src_models.cli", *words])

    def send(self, order: str) -> None:
        """One line to its input."""
        if self._process is not None:
            self._process.write(f"{order}\n".encode())

    def kill(self) -> None:
        """End it at once; its last checkpoint stays."""
        if self._process is not None:
            self._process.kill()

    def end(self) -> None:
        """The application quits: close its input, which stops it, and kill it where that takes too long."""
        process = self._process
        if process is None:
            return
        process.closeWriteChannel()
        if not process.waitForFinished(AT_EXIT_MS):
            process.kill()
            process.waitForFinished(AT_EXIT_MS)

    def _on_output(self) -> None:
        if self._process is None:
            return
        *lines, self._rest = (self._rest + bytes(self._process.readAllStandardOutput().data())).split(b"\n")
        for line in lines:
            content = _parsed(line)
            if content is not None:
                self.said.emit(content)

    def _on_errors(self) -> None:
        if self._process is not None:
            self._errors = (self._errors + bytes(self._process.readAllStandardError().data()))[-_TAIL:]

    def _on_error(self, error: Any) -> None:
        if error == QProcess.ProcessError.FailedToStart:
            self._finish(-1)

    def _on_finished(self, code: int, status: Any) -> None:
        self._on_output()
        self._on_errors()
        self._finish(code if status == QProcess.ExitStatus.NormalExit else -1)

    def _finish(self, code: int) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.deleteLater()
        text, self._rest, self._errors = self._errors.decode(errors="replace"), b"", b""
        self.ended.emit(code, text)


def _parsed(line: bytes) -> dict[str, Any] | None:
    """A line as a dict; None for what is no JSON object, such as a stray warning."""
    try:
        content = json.loads(line)
    except ValueError:
        return None
    return content if isinstance(content, dict) else None
