"""The project's own exceptions: what happened, why, and what to do next.

Every message is one line for the person at the screen. The exit codes of every command are decided here: 2 for
whatever was given and cannot be worked with (`BAD_INPUT`: words, values, files, grids, a target that cannot be written,
a device that is not there), 3 where memory is not enough (`OUT_OF_MEMORY`). Programs that need to know more read the
`code` of the error, which ``--json`` prints. Beside them stand 0 for done, 1 where only a part of what was asked for is
there or the same, 70 for an error that nobody foresaw, and 130 (`CANCELLED`) after Ctrl-C.
"""

from __future__ import annotations

BAD_INPUT = 2
"""As the parser of the command line ends where it cannot read its words."""
OUT_OF_MEMORY = 3
"""Refused before the run by a forecast, or run out in spite of every rescue."""
CANCELLED = 130
"""Ctrl-C, as shells tell it; what is there is usable: finished and marked as partial, or a model, or nothing new."""


class LsnetError(Exception):
    """An expected failure, told in one sentence with the way out.

    Parameters
    ----------
    code : str
        Short, stable name such as ``"seeds-empty"``; for tests and scripts, never shown alone.
    what : str
        What happened, without a final full stop.
    why : str
        The reason, without a final full stop; may be empty.
    next_step : str
        What the person can do now, as a full sentence.
    """

    exit_code = BAD_INPUT

    def __init__(self, code: str, what: str, why: str = "", next_step: str = "") -> None:
        self.code = code
        self.what = what
        self.why = why
        self.next_step = next_step
        reason = f": {why}" if why else ""
        ending = f" {next_step}" if next_step else ""
        stop = "" if reason.endswith("?") else "."
        super().__init__(f"{what}{reason}{stop}{ending}")


class InputError(LsnetError):
    """The values, seeds or parameters given cannot be worked with."""


class FileError(LsnetError):
    """A file is missing, broken, hostile or of a kind that is not read."""


class GeometryError(LsnetError):
    """Grids that differ, spacing that makes no sense, a position that is not known."""


class SaveError(LsnetError):
    """A result could not be written; what was there before is untouched."""


class DeviceError(LsnetError):
    """The device asked for is not there, or cannot do what is asked."""


class OutOfMemoryError(DeviceError):
    """There is not enough memory: known beforehand, or met while running and not to be helped."""

    exit_code = OUT_OF_MEMORY


class FileMemoryError(FileError):
    """A file is larger than the memory that is free."""

    exit_code = OUT_OF_MEMORY


def out_of_memory(error: BaseException) -> bool:
    """Whether an error of any library says that memory ran out, on the card or on the processor."""
    if isinstance(error, MemoryError):
        return True
    text = str(error).lower()
    said = ("out of memory", "not enough memory", "can't allocate memory")
    return isinstance(error, RuntimeError) and any(words in text for words in said)
