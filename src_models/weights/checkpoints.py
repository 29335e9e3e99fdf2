"""Tensors out of files that torch wrote, without running what is in them.

Only torch's restricted unpickler reads them. Beyond its own list it may build numpy's plain numbers, which nnU-Net's
log of a training holds; anything else is refused by name before it is touched.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src_models.errors import FileError
from src_models.files.gate import check_file, shown, shown_name

if TYPE_CHECKING:
    from torch import Tensor

SUFFIXES = (".pth", ".pt", ".ckpt", ".bin")
_REFUSED = re.compile(r"GLOBAL ([\w.]+)")
# a file of torch before version 1.6 is so many pickles in a row, followed by numbers
_LEGACY_PICKLES = 5
_STATE_KEYS = ("network_weights", "state_dict", "model_state_dict", "model", "net")
_PREFIXES = ("module.", "_orig_mod.")


def read_checkpoint(path: Path) -> Any:
    """What a file written by ``torch.save`` holds: tensors, plain numbers, text, lists and dictionaries.

    Raises
    ------
    FileError
        Where it is damaged, or holds an object of any other kind, which is named and not built.
    """
    import torch

    check_file(path)
    _check_container(path)
    _check_protocol(path)
    try:
        with torch.serialization.safe_globals(_numbers_of_numpy()):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch's advice to load it unrestrictedly is not passed on
        found = _REFUSED.search(str(error))
        raise _refused(path, found[1] if found else "") from error
    except MemoryError:
        raise
    except Exception as error:  # a damaged file can make the reader fail in any way
        raise FileError(
            "checkpoint-damaged",
            f"{shown_name(path)} cannot be read",
            "it is damaged or of another kind",
            "Copy it again.",
        ) from error


def state_in(content: Any, name: str) -> dict[str, Tensor]:
    """The tensors of a network in what a checkpoint holds, by name, without the prefixes of wrappers.

    Raises
    ------
    FileError
        Where there are none.
    """
    import torch

    found = content
    if isinstance(found, Mapping):
        for key in _STATE_KEYS:
            if isinstance(found.get(key), Mapping):
                found = found[key]
                break
    if not isinstance(found, Mapping) or not found:
        raise _no_tensors(name)
    state: dict[str, Tensor] = {}
    for key, value in found.items():
        if not isinstance(value, torch.Tensor) or not isinstance(key, str):
            raise _no_tensors(name)
        state[without_prefixes(key)] = value.detach()
    return state


def without_prefixes(key: str) -> str:
    """The name of a tensor without what data-parallel and compiled wrappers put before it."""
    while key.startswith(_PREFIXES):
        key = key.partition(".")[2]
    return key


def _check_container(path: Path) -> None:
    """Torch stores its parts as they are; a file that grows when it is opened is no checkpoint."""
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            parts = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise FileError(
            "checkpoint-damaged", f"{shown_name(path)} cannot be read", "it is cut short or damaged", "Copy it again."
        ) from error
    if any(part.compress_type != zipfile.ZIP_STORED for part in parts):
        raise FileError(
            "checkpoint-packed",
            f"{shown_name(path)} was not opened",
            "its parts are compressed, which torch never does",
        )
    if sum(part.file_size for part in parts) > path.stat().st_size:
        raise FileError("checkpoint-packed", f"{shown_name(path)} was not opened", "it declares more than it holds")


def _check_protocol(path: Path) -> None:
    """Refuse pickles of another protocol than torch writes, naming what they want to build; they are read, not run."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                streams = [archive.read(part) for part in archive.infolist() if part.filename.endswith("data.pkl")]
        else:
            streams = [path.read_bytes()]
        for content in streams:
            stream = io.BytesIO(content)
            for _ in range(_LEGACY_PICKLES):
                _check_operations(path, stream)
    except (ValueError, IndexError, zipfile.BadZipFile, OSError):
        # no pickle at all, or its end: the reader itself tells
        return


def _check_operations(path: Path, stream: io.BytesIO) -> None:
    words = ["", ""]
    for operation, argument, _ in pickletools.genops(stream):
        if operation.name in ("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"):
            words = [words[1], str(argument)]
        elif operation.name in ("STACK_GLOBAL", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4"):
            raise _refused(path, ".".join(words).strip("."))


def _refused(path: Path, named: str) -> FileError:
    why = f"it wants to build {shown(named)}, which could run a program" if named else "it holds more than tensors"
    return FileError(
        "checkpoint-pickle", f"{shown_name(path)} was not opened", why, "Ask for the tensors alone, as safetensors."
    )


def _numbers_of_numpy() -> list[Any]:
    """Numpy's constructor of scalars under the names that numpy 1 and 2 give it, and three types of number."""
    import numpy as np

    scalar = np.float64(0).__reduce__()[0]
    names = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
    kinds = [type(np.dtype(kind)) for kind in (np.float64, np.float32, np.int64)]
    return [*((scalar, name) for name in names), np.dtype, *kinds]


def _no_tensors(name: str) -> FileError:
    return FileError(
        "checkpoint-content",
        f"{shown(name)} holds no plain table of tensors",
        "",
        "Give a file of a network's state_dict, or a safetensors file.",
    )
