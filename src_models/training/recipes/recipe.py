"""What a recipe is: how the files of one public data set lie, who its patients are and what its labels mean."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from src_models.errors import FileError
from src_models.files.gate import shown
from src_models.training.case import Case, case_from_files
from src_models.training.layouts import Found
from src_models.weights.card import Label, TrainingData


@dataclass(frozen=True)
class Recipe:
    """A public data set as its owners give it out. Nothing is ever downloaded.

    Attributes
    ----------
    name : str
        On the command line.
    layout : str
        Where the files lie, in one line, for help and messages.
    find : callable
        The cases of a folder.
    about : TrainingData
        Name, citation and licence.
    confirmed : bool
        False until it has read a real copy.
    note : str
        What whoever trains on it must know.
    """

    name: str
    layout: str
    find: Callable[[Path], Found]
    about: TrainingData
    confirmed: bool = True
    note: str = ""

    def cases(self, folder: Path) -> Found:
        """The cases of a folder, with what the recipe knows about them.

        Raises
        ------
        FileError
            Where nothing lies as the recipe says.
        """
        found = self.find(folder)
        if not found.cases:
            raise FileError(
                "recipe-empty",
                f"{shown(folder.name)} is no copy of {self.about.name}",
                f"it should hold {self.layout}",
                "Give the folder as it was unpacked.",
            )
        said: tuple[str, ...] = (self.note,) if self.note else ()
        if not self.confirmed:
            said += (f"The recipe {self.name} has not been tried on a real copy yet: look at its cases first.",)
        return Found(
            found.cases,
            found.channels,
            found.labels,
            found.head,
            found.ignore_label,
            found.groups or {case.id: case.id for case in found.cases},
            (*found.notes, *said),
            self.about,
        )


def classes(**names: int) -> tuple[Label, ...]:
    """Labels under a softmax head, the background added."""
    pairs = sorted((value, name) for name, value in names.items())
    return (
        Label(name="background", value=0, channel=0),
        *(Label(name=name.replace("_", " "), value=value, channel=k + 1) for k, (value, name) in enumerate(pairs)),
    )


def visible(folder: Path, pattern: str) -> Iterator[Path]:
    """Files below a folder whose names match a pattern of the shell, sorted; hidden ones are passed over."""
    return (path for path in sorted(folder.rglob(pattern)) if not path.name.startswith(".") and path.is_file())


def paired(
    images: Iterable[Path], name: str, label_of: Callable[[Path, re.Match[str]], Path | None]
) -> tuple[tuple[Case, ...], tuple[str, ...]]:
    """Cases of one image file each, and a note on those without labels.

    Parameters
    ----------
    images : iterable of Path
        Candidates.
    name : str
        Regular expression for their names; its first bracket is the id.
    label_of : callable
        The label file of an image, or None.
    """
    cases, alone = [], []
    for path in images:
        match = re.fullmatch(name, path.name)
        if match is None:
            continue
        label = label_of(path, match)
        if label is None or not label.is_file():
            alone.append(match[1])
        else:
            cases.append(case_from_files(match[1], (path,), label))
    note = f"{len(alone)} images without labels left out: {', '.join(shown(n, 40) for n in alone[:8])}."
    return tuple(sorted(cases, key=lambda case: case.id)), (note,) if alone else ()


def first_of(folder: Path, *names: str) -> Path | None:
    """The first of these files that a folder holds."""
    return next((folder / name for name in names if (folder / name).is_file()), None)
