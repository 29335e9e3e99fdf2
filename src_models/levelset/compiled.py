"""How inner loops are compiled: without the interpreter's lock, kept on disk, and with the same bits everywhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit


def compiled(function: Callable[..., Any]) -> Any:
    """Compile at the first call. No fast mathematics: sums keep their order, so a result has the same bits anywhere."""
    return njit(cache=True, nogil=True, error_model="numpy")(function)
