"""A short answer from a worker: of several questions in a row the newest counts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.QtCore import QObject, QTimer, Signal  # type: ignore[attr-defined]


class Background(QObject):
    """Asks a function in a worker, one question at a time.

    Parameters
    ----------
    parent : QObject
        The usual.
    wait_ms : int
        How long the questions must have rested.

    Attributes
    ----------
    answered : Signal(object)
        What the newest question gave.
    failed : Signal(object)
        The error that it raised.
    """

    answered = Signal(object)
    failed = Signal(object)

    def __init__(self, parent: QObject, wait_ms: int = 300) -> None:
        super().__init__(parent)
        self._question: Callable[[], Any] | None = None
        self._worker: Any = None
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(wait_ms)
        self._timer.timeout.connect(self._ask)

    @property
    def is_busy(self) -> bool:
        """Whether an answer is on its way."""
        return self._worker is not None or self._timer.isActive()

    def ask(self, question: Callable[[], Any]) -> None:
        """Answer this soon, in place of what was asked before."""
        self._question = question
        self._timer.start()

    def forget(self) -> None:
        """Nothing is wanted any more."""
        self._question = None
        self._timer.stop()

    def _ask(self) -> None:
        if self._worker is not None or self._question is None:
            return
        from napari.qt.threading import create_worker

        question, self._question = self._question, None
        self._worker = create_worker(_Answer(question), _start_thread=False, _ignore_errors=True)
        self._worker.returned.connect(self._on_returned)
        self._worker.start()

    def _on_returned(self, found: tuple[Any, Exception | None]) -> None:
        self._worker = None
        answer, error = found
        if self._question is not None:
            # something else is wanted by now
            self._timer.start()
        elif error is None:
            self.answered.emit(answer)
        else:
            self.failed.emit(error)


class _Answer:
    """What the worker calls; an error is an answer too."""

    def __init__(self, question: Callable[[], Any]) -> None:
        self._question = question

    def __call__(self) -> tuple[Any, Exception | None]:
        try:
            return self._question(), None
        except Exception as error:  # the window must survive whatever happens in the work
            return None, error

    def __repr__(self) -> str:
        return "a short question"
