"""Folds of a cross-validation: every patient is left out exactly once.

The rule is nnU-Net's, which is scikit-learn's ``KFold(5, shuffle=True, random_state=12345)`` over the sorted groups:
results can be compared with published ones only if the folds are the same.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from src_models.errors import FileError, InputError
from src_models.files.gate import shown

Split = Literal["nnunet", "contiguous"]
FOLDS, SEED = 5, 12345


@dataclass(frozen=True)
class Fold:
    """Cases to train on and cases left out, by id, each sorted as given."""

    train: tuple[str, ...]
    validation: tuple[str, ...]

    def as_dict(self) -> dict[str, tuple[str, ...]]:
        """As `TrainingPlan.folds` and nnU-Net's ``splits_final.json`` hold it: ``train`` and ``val``."""
        return {"train": self.train, "val": self.validation}


def make_folds(groups: Mapping[str, str], *, split: Split = "nnunet", count: int = FOLDS) -> tuple[Fold, ...]:
    """Cut the cases into folds by their groups.

    Parameters
    ----------
    groups : mapping of str to str
        Case id to group (patient).
    split : str
        ``"nnunet"`` shuffles the sorted groups with the seed 12345; ``"contiguous"`` cuts them in their natural order
        (patient 2 before patient 10), as the paper's split.
    count : int
        Number of folds.

    Raises
    ------
    InputError
        Where there are fewer groups than folds.
    """
    names = sorted(set(groups.values()))
    if count < 2:
        raise InputError("folds-count", f"{count} folds cannot be made", "", "Use at least two.")
    if len(names) < count:
        raise InputError(
            "folds-few",
            f"{len(names)} patient{'s' if len(names) != 1 else ''} cannot be cut into {count} folds",
            "each fold leaves out at least one",
            "Use fewer folds or more patients; `train --fold all` trains on everything without unseen data.",
        )
    if split == "contiguous":
        names = sorted(names, key=natural_key)
        blocks = np.array_split(np.arange(len(names)), count)
    else:
        order = np.arange(len(names))
        np.random.RandomState(SEED).shuffle(order)
        # The first n mod count blocks are one longer, as array_split has it.
        blocks = np.array_split(order, count)
    folds = []
    for block in blocks:
        left_out = {names[k] for k in block}
        folds.append(_fold(groups, left_out))
    return tuple(folds)


def everything(cases: Iterable[str]) -> Fold:
    """The fold ``all``: train on every case; there is no unseen data."""
    return Fold(tuple(sorted(cases)), ())


def write_folds(path: Path, folds: Iterable[Fold]) -> None:
    """Store folds as JSON in the layout of nnU-Net's ``splits_final.json``.

    Raises
    ------
    SaveError
        Where it cannot be written.
    """
    from src_models.files.saving import save_whole

    text = json.dumps([fold.as_dict() for fold in folds], indent=1).encode()
    save_whole(path, lambda file: _write(file, text), lambda part: part.read_bytes() == text, overwrite=True)


def read_folds(path: Path, groups: Mapping[str, str]) -> tuple[Fold, ...]:
    """Folds from a file, checked against the cases.

    Parameters
    ----------
    path : Path
        As `write_folds` writes it.
    groups : mapping of str to str
        Case id to group.

    Raises
    ------
    FileError, InputError
        Where it cannot be read, names cases that are not there, or has a patient on both sides.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        folds = tuple(Fold(tuple(map(str, one["train"])), tuple(map(str, one["val"]))) for one in content)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise FileError(
            "folds-file",
            f"{shown(path.name)} cannot be read as folds",
            "",
            'Give a list of {"train": [...], "val": [...]}.',
        ) from error
    check_folds(folds, groups)
    return folds


def check_folds(folds: Iterable[Fold], groups: Mapping[str, str]) -> None:
    """Refuse folds with unknown cases or with a patient on both sides.

    Raises
    ------
    InputError
        Naming the fold.
    """
    for k, fold in enumerate(folds):
        unknown = [name for name in (*fold.train, *fold.validation) if name not in groups]
        if unknown:
            raise InputError(
                "folds-unknown",
                f"Fold {k} names cases that the data set does not have",
                f"such as {shown(unknown[0])}",
                "Use the folds of this data set.",
            )
        both = {groups[name] for name in fold.train} & {groups[name] for name in fold.validation}
        if both:
            raise InputError(
                "folds-leak",
                f"In fold {k} a patient is on both sides",
                f"such as {shown(sorted(both)[0])}",
                "Keep all cases of a patient together.",
            )


def natural_key(name: str) -> list[tuple[int, Any]]:
    """Sorts numbers in names by their value: volume-2 before volume-10."""
    return [(0, int(part)) if part.isdigit() else (1, part) for part in re.split(r"(\d+)", name) if part]


def _fold(groups: Mapping[str, str], left_out: set[str]) -> Fold:
    cases = sorted(groups)
    return Fold(
        tuple(name for name in cases if groups[name] not in left_out),
        tuple(name for name in cases if groups[name] in left_out),
    )


def _write(file: Any, text: bytes) -> None:
    file.write(text)
