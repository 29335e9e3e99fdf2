"""A contour with what made it, to take along."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from napari_lsnet.levelset.replay_text import as_command_line, as_python
from napari_lsnet.levelset.request import Request

if TYPE_CHECKING:
    from src_models.levelset.evolution import LevelSetResult
    from src_models.record import Record


@dataclass(frozen=True)
class Kept:
    """What can be copied and saved.

    Attributes
    ----------
    request : Request
        What was asked for.
    result : LevelSetResult
        What came of it.
    """

    request: Request
    result: LevelSetResult

    def as_python(self) -> str:
        """A script that makes it again."""
        return as_python(self.request, self.result)

    def as_command_line(self) -> str:
        """A command line that makes it again."""
        return as_command_line(self.request, self.result)

    def record_for(self, folder: Path) -> Record:
        """Its record, to be saved in a folder."""
        return self.request.record_for(self.result.record, folder)
