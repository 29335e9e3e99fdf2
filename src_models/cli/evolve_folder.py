"""``lsnet evolve FOLDER``: the same run on every image of a folder, and one table of how each of them ended.

Every image is an ordinary ``lsnet evolve`` with its own mask and record. What goes wrong with one file is a sentence in
the table, and the others go on.
"""

from __future__ import annotations

import argparse
import csv
import io
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from src_models.cli import outputs, report
from src_models.errors import CANCELLED, FileError, InputError, LsnetError, SaveError
from src_models.record import SUFFIX, record_path

TABLE = "outcomes.csv"
COLUMNS = ("image", "outcome", "mask", "steps", "time", "volume_ml", "voxels", "seconds", "message")
SOME_FAILED = 1
"""Exit code where at least one image has no result."""
_PAIRED = ("seeds", "walls", "pins", "speed_image")
"""Inputs that may be a folder: then each image takes the file of its own name."""


def run(arguments: argparse.Namespace, one: Callable[[argparse.Namespace], Mapping[str, Any]]) -> int:
    """Run every image of the folder; the table is complete after each of them.

    Parameters
    ----------
    arguments : Namespace
        The words of ``lsnet evolve``, with folders.
    one : callable
        Runs the words for one image, saves what it gives, and tells the cells of its row.
    """
    images = images_in(arguments.image)
    folder = _made_ready(arguments)
    rows: list[dict[str, Any]] = []
    taken: set[str] = set()
    for number, image in enumerate(images, 1):
        began = time.perf_counter()
        row: dict[str, Any] = dict.fromkeys(COLUMNS, "") | {"image": image.name}
        try:
            name = stem(image)
            if name in taken:
                raise InputError(
                    "folder-same-name",
                    f"{image.name} would be saved with the record of another image",
                    f"two images are called {name}",
                    "Rename one of them.",
                )
            taken.add(name)
            row |= one(_for_image(arguments, image, folder))
        except LsnetError as error:
            row |= {"outcome": "failed", "message": " ".join(str(error).split())}
        except MemoryError:
            row |= {"outcome": "failed", "message": "There is not enough memory for this image."}
        row["seconds"] = round(time.perf_counter() - began, 2)
        rows.append(row)
        outputs.write_whole(folder / TABLE, _table(rows))
        if arguments.json:
            report.write_json({"event": "image", "number": number, "of": len(images), **row})
        else:
            report.say(f"{number} of {len(images)}  {image.name}: {_told(row)}")
        if row["outcome"] == "cancelled":
            # Ctrl-C means the command, not only this image; the table says how far it came
            return CANCELLED
    failed = sum(row["outcome"] == "failed" for row in rows)
    if arguments.json:
        done = {"images": len(rows), "failed": failed, "table": str(folder / TABLE)}
        report.write_json({"event": "result", **done})
    else:
        report.say(f"{len(rows) - failed} of {len(rows)} images done. Saved the table {folder / TABLE}.")
    return SOME_FAILED if failed else 0


def images_in(folder: Path) -> list[Path]:
    """The files of a folder that look like images, by name.

    Raises
    ------
    FileError
        Where it cannot be read or holds none.
    """
    from src_models.files import READABLE_SUFFIXES

    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise FileError(
            "folder-unreadable", f"The folder {folder.name} cannot be read", error.strerror or "", "Choose another one."
        ) from error
    found = [
        folder / name
        for name in names
        if not name.startswith(".") and name.lower().endswith(READABLE_SUFFIXES) and (folder / name).is_file()
    ]
    if not found:
        raise FileError(
            "folder-empty",
            f"The folder {folder.name} holds no image",
            "",
            f"Images end in {', '.join(READABLE_SUFFIXES)}.",
        )
    return found


def stem(path: Path) -> str:
    """The name without the suffix of its format: ``a.nii.gz`` is ``a``."""
    return record_path(path).name.removesuffix(SUFFIX)


def partner(folder: Path, image: Path, what: str) -> Path:
    """The file of a folder that belongs to an image: it has the same name, suffix aside.

    Raises
    ------
    FileError
        Where there is none, or more than one.
    """
    same = [path for path in images_in(folder) if stem(path) == stem(image)]
    if len(same) != 1:
        found = "none" if not same else " and ".join(path.name for path in same)
        raise FileError(
            "folder-partner",
            f"{folder.name} must hold the {what} of {image.name}",
            f"one file named {stem(image)} is needed, there is {found}",
            "Give it the name of the image.",
        )
    return same[0]


def _made_ready(arguments: argparse.Namespace) -> Path:
    """The folder to write to, made where it is missing; refused where it is one that is read."""
    folder: Path = arguments.out
    read = [arguments.image, *(getattr(arguments, name) for name in _PAIRED)]
    for source in read:
        if source is not None and source.is_dir() and folder.resolve() == source.resolve():
            raise SaveError(
                "target-is-input", f"Not saved: {folder.name} is a folder that is read", "", "Choose another folder."
            )
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise SaveError(
            "target-folder",
            f"The folder {folder.name} cannot be made",
            error.strerror or "",
            "With a folder of images, --out is a folder.",
        ) from error
    if arguments.distance is not None:
        raise InputError("folder-distance", "--distance is for one image", "", "Leave it out for a folder of images.")
    outputs.check_targets([folder / TABLE], [], overwrite=arguments.overwrite)
    return folder


def _for_image(arguments: argparse.Namespace, image: Path, folder: Path) -> argparse.Namespace:
    """The words of ``lsnet evolve`` for one image."""
    from src_models.files import WRITABLE_SUFFIXES

    suffix = image.name[len(stem(image)) :]
    name = image.name if suffix.lower() in WRITABLE_SUFFIXES else f"{stem(image)}.nii.gz"
    own: dict[str, Any] = {"image": image, "out": folder / name}
    for what in _PAIRED:
        path = getattr(arguments, what)
        if path is not None and path.is_dir():
            own[what] = partner(path, image, what.replace("_", " "))
    return argparse.Namespace(**(vars(arguments) | own))


def _table(rows: Sequence[dict[str, Any]]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    # a file name is untrusted: a spreadsheet takes a cell that begins with such a sign for a formula
    writer.writerows({name: _plain_cell(value) for name, value in row.items()} for row in rows)
    return text.getvalue().encode()


def _plain_cell(value: Any) -> Any:
    return "'" + value if isinstance(value, str) and value[:1] in ("=", "+", "-", "@") else value


def _told(row: dict[str, Any]) -> str:
    if row["outcome"] == "failed":
        return str(row["message"])
    return f"{row['outcome']}, {row['voxels']} voxels after {row['steps']} steps in {row['seconds']} s"
