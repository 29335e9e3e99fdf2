"""How inner loops are compiled: without the lock of the interpreter, kept on disk, and with the same bits everywhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """Compile at the first call. No fast mathematics: sums keep their order, so a result has the same bits anywhere."""
    return cast(Function, njit(cache=True, nogil=True, error_model="numpy")(function))
