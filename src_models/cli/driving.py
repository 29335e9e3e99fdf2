"""A run of the level set driven to its end: progress is shown, and Ctrl-C asked for between two steps."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from src_models.cli import report

if TYPE_CHECKING:
    from src_models.levelset.coupled import LabelsResult
    from src_models.levelset.evolution import LevelSetResult

Result = TypeVar("Result", "LevelSetResult", "LabelsResult")


def drive(
    work: Generator[Any, Any, Result],
    *,
    json_lines: bool,
    keep_partial: bool = False,
    also: Callable[[Any], object] | None = None,
) -> Result:
    """Run to the end under a progress bar or JSON lines.

    Parameters
    ----------
    work : generator
        The run.
    json_lines : bool
        Lines for programs in place of the bar.
    keep_partial : bool
        Ctrl-C ends the run with what is there, between two steps; otherwise it ends the command.
    also : callable, optional
        Called with each state.
    """
    with report.watch(json_lines) as show, interrupts(keep_partial) as interrupted:
        while True:
            try:
                state = next(work)
            except StopIteration as end:
                result: Result = end.value
                return result
            show(state)
            if also is not None:
                also(state)
            if interrupted():
                work.close()
                partial: Result = state.result()
                return partial


@contextmanager
def interrupts(keep_partial: bool) -> Iterator[Any]:
    """Turn the first Ctrl-C into a question that the loop asks between two steps; the second one ends at once."""
    if not keep_partial or threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    pressed = threading.Event()

    def note(*_: Any) -> None:
        if pressed.is_set():
            raise KeyboardInterrupt
        pressed.set()
        sys.stderr.write("\nStopping; once more to stop without saving.\n")

    before = signal.signal(signal.SIGINT, note)
    try:
        yield pressed.is_set
    finally:
        signal.signal(signal.SIGINT, before)
