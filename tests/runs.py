"""Drive a generator of states to its end: what a `for` loop does, with the returned result."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, TypeVar

Result = TypeVar("Result")


def finish(generator: Generator[Any, Any, Result]) -> Result:
    """Run to the end and give the generator's return value."""
    while True:
        try:
            next(generator)
        except StopIteration as end:
            return end.value


def states(generator: Generator[Any, Any, Result]) -> tuple[list[Any], Result]:
    """All states, and the return value; read a state's arrays from the last one only."""
    seen = []
    while True:
        try:
            seen.append(next(generator))
        except StopIteration as end:
            return seen, end.value
