"""Labels that do not say what the data set says: found before training, told in one sentence."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_models.errors import InputError
from src_models.files.gate import shown
from src_models.training.case import Case, DataSet


def check_values(case: Case, labels: NDArray[Any], data: DataSet) -> None:
    """Refuse label values that are not declared.

    Raises
    ------
    InputError
        With the values and the file, and a map that may be meant.
    """
    unknown = sorted(set(np.unique(labels).tolist()) - set(data.declared_values))
    if not unknown:
        return
    inside = [value for value in data.declared_values if value not in (0, data.ignore_label)]
    offered = f"{unknown[0]}:{inside[-1] if inside else 1}"
    listed = ", ".join(str(value) for value in unknown[:8]) + (", ..." if len(unknown) > 8 else "")
    where = shown(case.files[-1].name) if case.files else f"case {shown(case.id)}"
    raise InputError(
        "labels-undeclared",
        f"The labels of {where} hold {listed}",
        f"declared are {', '.join(str(value) for value in data.declared_values)}",
        f"Declare them, or read them as others with --map, such as --map {offered}.",
    )


def parse_map(texts: list[str] | str | None) -> dict[int, int]:
    """The label map of ``--map 255:1`` or ``--map 4:3,5:3``.

    Raises
    ------
    InputError
        Where it cannot be read.
    """
    if not texts:
        return {}
    parts = texts.split(",") if isinstance(texts, str) else [part for text in texts for part in text.split(",")]
    result: dict[int, int] = {}
    for part in parts:
        old, _, new = part.partition(":")
        try:
            result[int(old)] = int(new)
        except ValueError as error:
            raise InputError(
                "map", f"--map {shown(part)} cannot be read", "", "Write old:new, such as --map 255:1."
            ) from error
    return result
