"""The gate for broken and hostile files: every file passes it before anything is made of its voxels.

The header comes first and alone; sizes are exact integers that are checked before memory is asked for; compressed data
are streamed to their end, with their checksum, into the space the header declared and not one byte further; data files
named in a header stay inside its folder. A bad file is told in one sentence with its base name.
"""

from __future__ import annotations

import bz2
import gzip
import io
import math
import os
import unicodedata
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from src_models.errors import FileError, FileMemoryError

Compression = Literal["", "gzip", "zlib", "bzip2"]

TEXT_HEADER_BYTES = 2**20
MAX_AXES = 7
MIN_SPACING_MM = 1e-5
MAX_SPACING_MM = 100.0
_FARTHEST_MM = 1e8
_CHUNK = 2**20
# Deflate cannot expand further than this; a file that promises more is cut short.
_DEFLATE_LIMIT = 1032
_SUSPICIOUS_EXPANSION = 1000
_SUSPICIOUS_BYTES = 32 * 2**20
_SHOWN_CHARACTERS = 60


@dataclass(frozen=True)
class ReadOptions:
    """What a reader may do.

    Attributes
    ----------
    max_bytes : int
        Largest image that is read, in bytes of its voxels.
    allow_expansion : bool
        Read files that grow more than 1000-fold when decompressed.
    nifti_form : str
        ``"auto"`` takes the sform where its code is set, else the qform; ``"sform"`` and ``"qform"`` take that one,
        for files in which the other is damaged.
    """

    max_bytes: int = 4 * 2**30
    allow_expansion: bool = False
    nifti_form: Literal["auto", "sform", "qform"] = "auto"


@dataclass(frozen=True)
class Voxels:
    """Where the voxels of a file are.

    Attributes
    ----------
    path : Path
        The file that holds them.
    offset : int
        Bytes before them in that file; for compressed data, before the compressed stream.
    skip : int
        Bytes before them in the decompressed stream.
    shape : tuple of int
        Slowest axis first, as stored.
    dtype : numpy.dtype
        With its byte order.
    compression : str
        "" for none.
    """

    path: Path
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    compression: Compression = ""
    skip: int = 0

    @property
    def size(self) -> int:
        """Bytes of all voxels, as an exact integer."""
        return math.prod(self.shape) * self.dtype.itemsize


def shown(text: str, characters: int = _SHOWN_CHARACTERS) -> str:
    """Text from outside, safe to show in one line: no control characters, shortened in the middle."""
    clean = "".join("?" if unicodedata.category(c)[0] == "C" else c for c in text)
    if len(clean) <= characters:
        return clean
    half = (characters - 3) // 2
    return f"{clean[:half]}...{clean[-half:]}"


def shown_name(path: Path) -> str:
    """The base name of a file as messages show it."""
    return shown(path.name)


def unreadable(code: str, path: Path, why: str, next_step: str = "Use an undamaged copy.") -> FileError:
    """The error for a file that cannot be read."""
    return FileError(code, f"{shown_name(path)} cannot be read", why, next_step)


def too_large(path: Path, why: str = "the memory is not enough") -> FileMemoryError:
    """The error for a file that does not fit into memory."""
    return FileMemoryError(
        "size-memory", f"{shown_name(path)} cannot be read", why, "Close other programs, or crop it."
    )


def check_file(path: Path) -> int:
    """The size of a file in bytes.

    Raises
    ------
    FileError
        Where it is missing, empty, or no ordinary file.
    """
    name = shown_name(path)
    try:
        if not path.exists():
            raise FileError("file-missing", f"{name} was not found", "", "Check the name and the folder.")
        if not path.is_file():
            raise FileError("file-kind", f"{name} is not a file", "", "Choose one image file.")
        size = path.stat().st_size
        with path.open("rb"):
            pass
    except (OSError, ValueError) as error:
        raise FileError(
            "file-access", f"{name} cannot be opened", _reason(error), "Check its access rights."
        ) from error
    if size == 0:
        raise FileError("file-empty", f"{name} is empty", "it has 0 bytes", "Copy or export it again.")
    return size


def first_bytes(path: Path, count: int, *, decompress: bool = False) -> bytes:
    """The first bytes of a file, or of the gzip stream in it; fewer where it ends before."""
    try:
        with path.open("rb") as file:
            if not decompress:
                return file.read(count)
            with gzip.GzipFile(fileobj=file) as stream:
                return stream.read(count)
    except (EOFError, OSError, zlib.error) as error:
        raise _damaged(path) from error


def text_header(path: Path, *, ends_at: str) -> tuple[list[str], int]:
    """The lines of a text header, and the offset of the first byte after it.

    Parameters
    ----------
    path : Path
        The file.
    ends_at : str
        "" where an empty line ends the header; else the start of its last line. The end of the file ends it too.

    Raises
    ------
    FileError
        Where the header has no end within 1 MB.
    """
    lines: list[str] = []
    with path.open("rb") as file:
        while file.tell() < TEXT_HEADER_BYTES:
            raw = file.readline(TEXT_HEADER_BYTES - file.tell())
            line = raw.decode("utf-8", errors="replace").rstrip("\r\n")
            if not raw or (not line and not ends_at):
                return lines, file.tell()
            lines.append(line)
            if ends_at and line.startswith(ends_at):
                return lines, file.tell()
    raise unreadable("header-length", path, "its header has no end within 1 MB")


def check_declared_size(path: Path, voxels: Voxels, options: ReadOptions) -> None:
    """Refuse sizes that cannot be, do not fit into memory, or do not fit the length of the file.

    Raises
    ------
    FileError
        With the number that is wrong.
    """
    if any(n < 1 for n in voxels.shape):
        raise unreadable("size-sign", path, f"its header declares a size of {min(voxels.shape)} along one axis")
    if voxels.size > options.max_bytes:
        raise unreadable(
            "size-limit",
            path,
            f"its header declares {_amount(voxels.size)}, more than the limit of {_amount(options.max_bytes)}",
            "Crop it, or raise the file size limit.",
        )
    there = check_file(voxels.path) - voxels.offset
    if not voxels.compression:
        if there < voxels.size:
            raise _cut_short(path)
        if there > voxels.size:
            raise _too_long(path)
    elif voxels.compression != "bzip2" and voxels.skip + voxels.size > _DEFLATE_LIMIT * (there + 64):
        raise _cut_short(path)
    elif not options.allow_expansion and voxels.size > max(_SUSPICIOUS_BYTES, _SUSPICIOUS_EXPANSION * there):
        raise unreadable(
            "expansion",
            path,
            f"it grows from {_amount(there)} to {_amount(voxels.size)} when decompressed",
            "Allow expansion if you trust it.",
        )
    free = _free_memory()
    if voxels.size > free:
        raise too_large(path, f"it needs {_amount(voxels.size)} and {_amount(free)} of memory are free")


def check_picture_size(path: Path, shape: tuple[int, ...], bytes_per_pixel: int, options: ReadOptions) -> None:
    """The same for a picture, whose pixels a library decodes; it may be compressed in any way.

    Raises
    ------
    FileError
        With the number that is wrong.
    """
    pixels = Voxels(path, 0, shape, np.dtype((np.void, max(bytes_per_pixel, 1))), "bzip2")
    check_declared_size(path, pixels, options)


def read_voxels(path: Path, voxels: Voxels, options: ReadOptions) -> NDArray[Any]:
    """The voxels as an array of their own, in the machine's byte order.

    Raises
    ------
    FileError
        Where the data are cut short, damaged, or more than declared.
    """
    check_declared_size(path, voxels, options)
    try:
        raw = np.empty(voxels.size, np.uint8)
        with voxels.path.open("rb") as file:
            file.seek(voxels.offset)
            with _stream(file, voxels.compression) as stream:
                skipped = stream.read(voxels.skip) if voxels.skip else b""
                filled = _fill(stream, raw.data)
                # Reading past the end is also what makes gzip compare its checksum.
                extra = stream.read(1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise _damaged(path) from error
    except OSError as error:
        if voxels.compression == "bzip2" and error.errno is None:
            raise _damaged(path) from error
        raise unreadable(
            "file-access", path, _reason(error), "Check the disk or the network, then try again."
        ) from error
    except MemoryError as error:
        raise too_large(path) from error
    if len(skipped) < voxels.skip or filled < voxels.size:
        raise _cut_short(path)
    if extra:
        raise _too_long(path)
    array = raw.view(voxels.dtype).reshape(voxels.shape)
    if not voxels.dtype.isnative:
        array = array.astype(voxels.dtype.newbyteorder("="))
    return array


def check_axes(path: Path, count: int) -> None:
    """Refuse a number of axes outside 1 to 7."""
    if not 1 <= count <= MAX_AXES:
        raise unreadable("axes", path, f"its header declares {count} axes")


def check_matrix(path: Path, matrix: NDArray[np.float64], next_step: str = "Export it again.") -> None:
    """Refuse a position that is not finite, or that maps the volume onto a plane.

    Raises
    ------
    FileError
        Saying which of the two.
    """
    if np.isfinite(matrix).all() and np.abs(matrix).max() > _FARTHEST_MM:
        raise unreadable("position-far", path, "its position is more than a hundred kilometres away", next_step)
    if not np.isfinite(matrix).all():
        raise unreadable("position-finite", path, "its position holds values that are not finite numbers", next_step)
    lengths = np.linalg.norm(matrix[:3, :3], axis=0)
    if (lengths == 0).any() or np.linalg.cond(matrix[:3, :3] / lengths) > 1e6:
        raise unreadable("position-singular", path, "its position is singular: axes are parallel or zero", next_step)


def check_voxel_size(path: Path, spacing: Sequence[float]) -> None:
    """Refuse voxel sizes that are not positive or that no scanner or microscope makes.

    Raises
    ------
    FileError
        With the value.
    """
    for h in spacing:
        if not math.isfinite(h) or h <= 0:
            raise unreadable(
                "spacing-value", path, f"its header gives a voxel size of {h:g}", "Correct its voxel size."
            )
        if not MIN_SPACING_MM <= h <= MAX_SPACING_MM:
            raise unreadable(
                "spacing-range",
                path,
                f"its voxel size of {h:g} mm is outside {MIN_SPACING_MM:g} to {MAX_SPACING_MM:g} mm",
                "Correct its voxel size or its unit.",
            )


def inside_folder(header: Path, name: str) -> Path:
    """The data file that a header names, which must lie in the header's own folder, also after links.

    Raises
    ------
    FileError
        For absolute paths, other folders, lists, patterns and missing files.
    """
    plain = name.strip()
    separators = "/" in plain or "\\" in plain or ":" in plain or "\0" in plain
    if not plain or plain in (".", "..") or separators or "%" in plain or len(plain.split()) > 3:
        raise unreadable(
            "data-file-name",
            header,
            f"its header names {shown(plain, 40)!r} as data file",
            "The data file must lie in the same folder, under a plain name.",
        )
    folder = header.resolve().parent
    data = folder / plain
    if data.resolve().parent != folder:
        raise unreadable("data-file-folder", header, "its data file lies in another folder", "Put both in one folder.")
    if not data.is_file():
        raise unreadable(
            "data-file-missing",
            header,
            f"its data file {shown(plain, 40)} is missing",
            "Put both files in one folder.",
        )
    check_file(data)
    return data


def little_endian_bytes(array: NDArray[Any]) -> memoryview:
    """The bytes of an array in C order, lowest byte of each value first, without a copy where they are so already."""
    plain = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False)
    return plain.reshape(-1).view(np.uint8).data


def _stream(file: IO[bytes], compression: Compression) -> IO[bytes]:
    if compression == "gzip":
        return cast("IO[bytes]", gzip.GzipFile(fileobj=file))
    if compression == "bzip2":
        return bz2.BZ2File(file)
    if compression == "zlib":
        return io.BufferedReader(_Inflating(file), _CHUNK)
    return file


class _Inflating(io.RawIOBase):
    """A zlib stream, decompressed as it is read; its checksum is compared at its end."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        # 47: the header tells zlib or gzip; writers of this format use both.
        self._engine = zlib.decompressobj(47)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._engine.eof:
            packed = self._engine.unconsumed_tail or self._file.read(2**16)
            plain = self._engine.decompress(packed, len(buffer))
            if plain:
                buffer[: len(plain)] = plain
                return len(plain)
            if not packed:
                raise EOFError("the stream ends before its checksum")
        if self._engine.unused_data or self._file.read(1):
            raise zlib.error("bytes follow the stream")
        return 0


def _fill(stream: IO[bytes], target: memoryview) -> int:
    filled = 0
    while filled < len(target):
        part = stream.read(min(_CHUNK, len(target) - filled))
        if not part:
            break
        target[filled : filled + len(part)] = part
        filled += len(part)
    return filled


def _free_memory() -> int:
    import psutil

    return int(psutil.virtual_memory().available)


def _cut_short(path: Path) -> FileError:
    return unreadable("cut-short", path, "it is cut short: voxels that its header declares are missing")


def _too_long(path: Path) -> FileError:
    return unreadable("too-long", path, "it holds more data than its header declares")


def _damaged(path: Path) -> FileError:
    return unreadable("damaged", path, "its compressed data are cut short or damaged")


def _amount(count: int) -> str:
    for unit, size in (("TB", 2**40), ("GB", 2**30), ("MB", 2**20), ("kB", 2**10)):
        if count >= size:
            return f"{count / size:.3g} {unit}" if count < 1000 * 2**40 else "more than 1000 TB"
    return f"{count} bytes"


def _reason(error: Exception) -> str:
    number = getattr(error, "errno", None)
    return os.strerror(number).lower() if number else "its name or content is not usable"
