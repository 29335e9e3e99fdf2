"""What a cross-validation selected, as its folder says: one configuration or two, and which largest parts are kept."""

from __future__ import annotations

import json
import re
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from src_models.errors import FileError
from src_models.files.gate import shown_name

SELECTION = "selection.json"
_LARGEST = 2**20
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_]{0,59}\Z")


class Selected(BaseModel):
    """A selection.

    Attributes
    ----------
    configurations : tuple of str
        Folders beside the file: one, or two whose probabilities are averaged; empty where the folds lie beside it.
    keep_largest : tuple of tuple of int
        Sets of labels of which the largest part is kept, one after the other.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    configurations: tuple[str, ...] = Field((), max_length=2)
    keep_largest: tuple[tuple[int, ...], ...] = ()

    @field_validator("configurations")
    @classmethod
    def _plain(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not all(_NAME.match(name) for name in value) or len(set(value)) < len(value):
            raise ValueError("names of folders, each once")
        return value


def read_selected(folder: Path) -> Selected | None:
    """What was selected in a folder; None where nothing was, or its folds lie in the folder itself.

    Raises
    ------
    FileError
        Where the file is damaged.
    """
    path = folder / SELECTION
    if not path.is_file():
        return None
    try:
        if path.stat().st_size > _LARGEST:
            raise ValueError("it is too large")
        found = Selected.model_validate(json.loads(path.read_bytes()))
    except (OSError, ValueError, RecursionError, ValidationError) as error:
        raise FileError(
            "selection-file",
            f"{SELECTION} in {shown_name(folder)} is not what a selection writes",
            "it is damaged",
            "Run lsnet crossval --select again, or choose the folder of one configuration.",
        ) from error
    return found if found.configurations else None
