"""ZIP archives of models, unpacked into a folder of their own: no way out of it, no links, no flood."""

from __future__ import annotations

import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from src_models.errors import FileError
from src_models.files.gate import check_file, shown, shown_name

LARGEST = 16 * 2**30
_MOST_FILES = 10_000
_EXPANSION = 200
_CHUNK = 2**20


def unpack(path: Path, folder: Path, *, largest: int = LARGEST) -> None:
    """Unpack a ZIP archive; every name is checked before the first byte is written.

    Parameters
    ----------
    path : Path
        The archive.
    folder : Path
        An empty folder.
    largest : int
        Bytes that all files may have together.

    Raises
    ------
    FileError
        For paths that are absolute or lead upwards, links, devices, repeated names, and more bytes than allowed.
    """
    size = check_file(path)
    try:
        with zipfile.ZipFile(path) as archive:
            parts = archive.infolist()
            _check(path, parts, min(largest, max(size * _EXPANSION, 2**20)))
            for part in parts:
                if part.is_dir():
                    continue
                target = folder.joinpath(*PurePosixPath(part.filename).parts)
                target.parent.mkdir(parents=True, exist_ok=True)
                left = part.file_size
                with archive.open(part) as source, target.open("xb") as file:
                    while piece := source.read(_CHUNK):
                        left -= len(piece)
                        if left < 0:
                            raise _refused(path, f"{shown(part.filename)} is longer than it says")
                        file.write(piece)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise FileError(
            "archive-damaged",
            f"{shown_name(path)} cannot be unpacked",
            "it is damaged or no ZIP archive",
            "Copy it again.",
        ) from error


def _check(path: Path, parts: list[zipfile.ZipInfo], largest: int) -> None:
    if len(parts) > _MOST_FILES:
        raise _refused(path, f"it holds {len(parts)} files")
    names: set[str] = set()
    for part in parts:
        name = part.filename
        pieces = PurePosixPath(name).parts
        bad = name.startswith("/") or "\\" in name or ":" in name or "\0" in name or ".." in pieces or not pieces
        if bad:
            raise _refused(path, f"{shown(name)} leads out of its folder")
        kind = stat.S_IFMT(part.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise _refused(path, f"{shown(name)} is a link or a device")
        folded = "/".join(pieces).casefold()
        if not part.is_dir() and folded in names:
            raise _refused(path, f"{shown(name)} comes twice")
        names.add(folded)
    total = sum(part.file_size for part in parts)
    if total > largest:
        raise _refused(path, f"it grows to {total / 1e9:.1f} GB")


def _refused(path: Path, why: str) -> FileError:
    return FileError("archive-refused", f"{shown_name(path)} was not unpacked", why, "Do not use it.")
