"""The folder of a training: one run at a time, its checkpoints, its log as JSON lines and CSV, its model."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from src_models.errors import SaveError
from src_models.files.gate import shown_name
from src_models.files.saving import save_whole
from src_models.training.checkpoint import BEST, CURRENT

PLAN, LOG, TABLE, LOCK, WEIGHTS = "plan.json", "log.jsonl", "log.csv", ".lock", "model.safetensors"
SAMPLE, CACHE = "sample.npz", "cache"


@contextmanager
def taken(out: Path, *, resume: bool) -> Iterator[Path]:
    """The folder of a run, made where it is missing, for this process alone.

    The lock belongs to the process and is gone with it, however it ends. A training that is refused before it has a
    plan there leaves no folder that was not there before.

    Parameters
    ----------
    out : Path
        The folder.
    resume : bool
        Whether a training that is there goes on; otherwise it is refused.

    Raises
    ------
    SaveError
        Where another training uses it or has used it, or it cannot be written to.
    """
    name = shown_name(out)
    new = [folder for folder in (out, *out.parents) if not folder.exists()]
    used = (out / LOCK).exists()
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = (out / LOCK).open("a+b")
    except OSError as error:
        raise SaveError(
            "run-folder", f"The folder {name} cannot be used", error.strerror or "", "Choose another one with --out."
        ) from error
    try:
        with lock:
            _claim(out, lock, resume=resume)
            yield out
    except BaseException:
        if not used and not (out / PLAN).exists():
            _unmake(out, new)
        raise


def _claim(out: Path, lock: IO[bytes], *, resume: bool) -> None:
    name = shown_name(out)
    if not _locked(lock):
        raise SaveError(
            "run-busy", f"Another training is running in {name}", "", "Wait for it, or choose another --out."
        )
    if not resume and any((out / file).exists() for file in (CURRENT, BEST, WEIGHTS)):
        raise SaveError(
            "run-exists",
            f"{name} holds a training already",
            "",
            "Go on with it by --resume, or choose another --out.",
        )


def _unmake(out: Path, made: Sequence[Path]) -> None:
    """Take away what a run made before it began, folders the innermost first; what others have put there stays."""
    with suppress(OSError):
        (out / LOCK).unlink(missing_ok=True)
        if made:
            shutil.rmtree(out / CACHE, ignore_errors=True)
        for folder in made:
            folder.rmdir()


def _locked(file: IO[bytes]) -> bool:
    try:
        if os.name == "nt":
            import msvcrt

            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def write_text(path: Path, text: str) -> None:
    """A text file, whole or as it was.

    Raises
    ------
    SaveError
        Where it cannot be written.
    """
    _write_whole(path, text.encode())


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Arrays by name as an npz file, whole or as it was; NumPy reads it without unpickling.

    Raises
    ------
    SaveError
        Where it cannot be written.
    """
    content = io.BytesIO()
    np.savez_compressed(content, allow_pickle=False, **dict(arrays))
    _write_whole(path, content.getvalue())


def _write_whole(path: Path, content: bytes) -> None:
    def write(file: IO[bytes]) -> None:
        file.write(content)

    save_whole(path, write, lambda part: part.stat().st_size == len(content), overwrite=True)


def write_log(out: Path, history: Sequence[Mapping[str, Any]]) -> None:
    """Both logs, one row an epoch; written anew each time, so that they never hold more than the checkpoint knows."""
    if not history:
        return
    write_text(out / LOG, "".join(json.dumps(dict(row)) + "\n" for row in history))
    columns = list(dict.fromkeys(name for row in history for name in row))
    text = io.StringIO()
    table = csv.DictWriter(text, columns, lineterminator="\n", restval="")
    table.writeheader()
    table.writerows(history)
    write_text(out / TABLE, text.getvalue())
