"""The one protocol for long work: a generator of frozen `Progress` records that returns its result.

A ``for`` loop is a complete driver. Pause is not calling ``next``; cancel is ``close()``; a change while it runs is
``send()``. There is no Qt, no thread and no global state in it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

Result = TypeVar("Result")
Step = TypeVar("Step", bound="Progress")


@dataclass(frozen=True, kw_only=True)
class Progress:
    """One report of a running job.

    Attributes
    ----------
    phase : str
        Name of the part of the work that is under way, such as ``"evolve"``.
    fraction : float or None
        Share done in [0, 1]; None where the end cannot be foreseen.
    message : str
        One line for the person at the screen.
    values : mapping of str to float
        Named numbers for plots, with the unit in the name, such as ``"volume_ml"``.
    notes : tuple of str
        Warnings in words that came up since the last report.
    """

    phase: str
    fraction: float | None = None
    message: str = ""
    values: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def finish(
    work: Generator[Step, Any, Result],
    on_progress: Callable[[Step], object] | None = None,
) -> Result:
    """Run a generator of progress to its end and give its result.

    Parameters
    ----------
    work : generator
        Any long job of this package.
    on_progress : callable, optional
        Called with each record, in order.

    Returns
    -------
    object
        What the generator returns.
    """
    while True:
        try:
            step = next(work)
        except StopIteration as end:
            result: Result = end.value
            return result
        if on_progress is not None:
            on_progress(step)
