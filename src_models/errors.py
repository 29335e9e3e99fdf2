"""The project's own exceptions: what happened, why, and what to do next.

Every message is one line for the person at the screen. Each family has an exit code for the command line.
"""

from __future__ import annotations


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

    exit_code = 1

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

    exit_code = 3


class FileError(LsnetError):
    """A file is missing, broken, hostile or of a kind that is not read."""

    exit_code = 4


class GeometryError(LsnetError):
    """Grids that differ, spacing that makes no sense, a position that is not known."""

    exit_code = 5


class SaveError(LsnetError):
    """A result could not be written; what was there before is untouched."""

    exit_code = 6


class DeviceError(LsnetError):
    """The device asked for is not there, or has not enough memory."""

    exit_code = 7
