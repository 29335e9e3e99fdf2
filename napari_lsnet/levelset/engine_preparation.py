"""The engine compiled in the background: a child process of the lowest priority, once after installation or update.

Opening the panel loads neither numba nor torch; a run that begins meanwhile waits for the child and says so.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Generator
from functools import cache
from pathlib import Path

from qtpy.QtCore import QCoreApplication, QObject, QProcess, QProcessEnvironment

from src_models.levelset.warm import is_ready
from src_models.progress import Progress

MESSAGE = "Preparing the engine, once: 10 to 20 s. Runs after this one begin at once."
_LOOK_EVERY_S = 0.1

_compiling = threading.Event()


class EnginePreparation(QObject):
    """Starts the child where it is needed, and ends it with the application."""

    def __init__(self) -> None:
        super().__init__()
        self._process: QProcess | None = None

    @property
    def is_running(self) -> bool:
        """Whether the child is at work."""
        return _compiling.is_set()

    def begin(self) -> None:
        """Compile in a child process, unless that was done before or cannot be done here."""
        python = Path(sys.executable or "")
        if self._process is not None or not python.stem.lower().startswith("python") or is_ready():
            return
        process = self._process = QProcess(self)
        environment = QProcessEnvironment.systemEnvironment()
        # An editable checkout is found by its path alone; one thread leaves the others to the person.
        environment.insert("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
        environment.insert("OMP_NUM_THREADS", "1")
        environment.insert("NUMBA_NUM_THREADS", "1")
        process.setProcessEnvironment(environment)
        process.finished.connect(lambda *_: _compiling.clear())
        process.errorOccurred.connect(lambda *_: _compiling.clear())
        application = QCoreApplication.instance()
        if application is not None:
            application.aboutToQuit.connect(self.end)
        _compiling.set()
        process.setStandardOutputFile(QProcess.nullDevice())
        process.setStandardErrorFile(QProcess.nullDevice())
        process.start(str(python), ["-m", "src_models.levelset.warm"])

    def end(self) -> None:
        """End the child; what it has compiled until now is kept."""
        if self._process is not None and self._process.state() != QProcess.ProcessState.NotRunning:
            self._process.kill()
            self._process.waitForFinished(2000)
        _compiling.clear()


@cache
def engine_preparation() -> EnginePreparation:
    """The one of this napari."""
    return EnginePreparation()


def prepared() -> Generator[Progress, None, None]:
    """Wait, in a worker, for the child that compiles; one report tells where this run has to compile for itself."""
    if is_ready():
        return
    yield Progress(phase="prepare", message=MESSAGE)
    while _compiling.is_set():
        time.sleep(_LOOK_EVERY_S)
        yield Progress(phase="prepare", message=MESSAGE)
