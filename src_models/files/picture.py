"""2D pictures: PNG and TIFF, grey or colour, and label pictures whose values are the label numbers.

Colours become channels in front: (c, y, x). The pixel size is taken from TIFF metadata that state a length (OME,
ImageJ, pixels per centimetre); dots per inch, as also PNG has them, are about printing and no pixel size.
"""

from __future__ import annotations

import logging
import math
import re
import struct
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray

from src_models.errors import FileError, LsnetError, SaveError
from src_models.files.gate import (
    ReadOptions,
    check_file,
    check_picture_size,
    check_voxel_size,
    first_bytes,
    too_large,
    unreadable,
)
from src_models.files.header import FileHeader
from src_models.geometry import Grid, Segmentation, Volume

SUFFIXES = (".png", ".tif", ".tiff")
_PNG = b"\x89PNG\r\n\x1a\n"
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
# Uncompressed, LZW, Deflate (two numbers), PackBits.
_COMPRESSIONS = (1, 5, 8, 32946, 32773)
_DEFLATE = (8, 32946)
_MM_PER_UNIT = {
    "mm": 1.0, "millimeter": 1.0, "cm": 10.0, "m": 1000.0, "micron": 1e-3, "microns": 1e-3, "um": 1e-3, "µm": 1e-3,
    "μm": 1e-3, "\\u00b5m": 1e-3, "nm": 1e-6,
}  # fmt: skip
_MAX_TAGS = 4096
_NO_SIZE = "The picture gives no pixel size."
_NO_ALPHA = "The transparency of the picture was left out."


def recognise_png(path: Path) -> bool:
    """Whether the file starts as a PNG does."""
    return first_bytes(path, 8) == _PNG


def recognise_tiff(path: Path) -> bool:
    """Whether the file starts as a TIFF or BigTIFF does."""
    return first_bytes(path, 4) in _TIFF


def read_png_header(path: Path, options: ReadOptions) -> FileHeader:
    """Read and check the header of a PNG; no pixels.

    Raises
    ------
    FileError
        Where it is damaged, or declares what cannot be.
    """
    start = first_bytes(path, 33)
    if len(start) < 33 or start[12:16] != b"IHDR" or zlib.crc32(start[12:29]) != int.from_bytes(start[29:33], "big"):
        raise unreadable("damaged", path, "its header is cut short or damaged")
    width, height, bits, colour = struct.unpack(">IIBB", start[16:26])
    if colour not in _PNG_CHANNELS or bits not in (1, 2, 4, 8, 16):
        raise unreadable("type", path, "its pixels are of a kind that PNG does not have")
    if bits == 16 and _PNG_CHANNELS[colour] > 1:
        raise unreadable("type", path, "colours of 16 bit are not read from PNG", "Save it as TIFF, or with 8 bit.")
    # Pillow decodes into bytes, whatever the depth.
    decoded = _PNG_CHANNELS[colour] * (2 if bits == 16 else 1)
    check_picture_size(path, (height, width), decoded, options)
    channels = 3 if colour in (2, 6) else 1
    dtype = np.dtype(bool if (bits, colour) == (1, 0) else np.uint16 if bits == 16 else np.uint8)
    notes: tuple[str, ...] = (_NO_SIZE, *((_NO_ALPHA,) if colour in (4, 6) else ()))
    if colour == 3:
        notes += ("The picture has a palette; its numbers are read, not its colours.",)
    return FileHeader(
        path=path,
        format="PNG",
        grid=Grid((height, width), (1.0, 1.0), spacing_known=False),
        dtype=dtype,
        load=partial(_load_png, path, dtype, channels),
        leading_axis="c" if channels == 3 else "",
        leading_length=channels,
        channels_last=channels == 3,
        notes=notes,
    )


def read_tiff_header(path: Path, options: ReadOptions) -> FileHeader:
    """Read and check the header of a TIFF with one page; no pixels.

    Raises
    ------
    FileError
        Where it is damaged, declares what cannot be, or holds more than one page.
    """
    import tifffile

    _check_single_page(path)
    try:
        with _quiet_library(), tifffile.TiffFile(path) as tiff:
            page = tiff.pages.first
            layout = _layout(path, page)
            check_picture_size(path, layout.shape, layout.channels * layout.dtype.itemsize, options)
            _check_segments(path, page)
            spacing = _pixel_size(page, tiff.imagej_metadata or {})
    except LsnetError:
        raise
    except Exception as error:  # the library meets damaged tags with whatever its own code happens to raise
        raise _broken_tiff(path) from error
    if spacing is not None:
        check_voxel_size(path, spacing)
    notes: tuple[str, ...] = () if spacing is not None else (_NO_SIZE,)
    if layout.alpha:
        notes += (_NO_ALPHA,)
    colours = layout.channels - layout.alpha
    return FileHeader(
        path=path,
        format="TIFF",
        grid=Grid(layout.shape, spacing or (1.0, 1.0), spacing_known=spacing is not None),
        dtype=layout.dtype,
        load=partial(_load_tiff, path, layout),
        leading_axis="c" if colours > 1 else "",
        leading_length=colours,
        notes=notes,
    )


def write_png(file: IO[bytes], _image: Volume | Segmentation, array: NDArray[Any], name: str) -> None:
    """Write a grey, colour or label PNG; parameters as for NIfTI. A PNG cannot hold the pixel size."""
    from PIL import Image

    if array.dtype not in (np.uint8, np.uint16) or (array.ndim == 3 and array.dtype != np.uint8):
        raise SaveError(
            "save-png-type",
            f"{name} was not saved",
            "a PNG holds whole numbers from 0 to 65535, and colours from 0 to 255",
            "Save it as .tif.",
        )
    if array.ndim == 3:
        array = np.ascontiguousarray(np.moveaxis(array, 0, -1))
    Image.fromarray(array).save(file, format="PNG")


def write_tiff(file: IO[bytes], image: Volume | Segmentation, array: NDArray[Any], _name: str) -> None:
    """Write a grey, colour or label TIFF with its pixel size; parameters as for NIfTI."""
    import tifffile

    colour = array.ndim == 3
    if colour:
        array = np.ascontiguousarray(np.moveaxis(array, 0, -1))
    known = image.grid.spacing_known
    tifffile.imwrite(
        file,
        array,
        photometric="rgb" if colour else "minisblack",
        compression="zlib",
        metadata=None,
        software=False,
        resolution=(10 / image.grid.spacing[1], 10 / image.grid.spacing[0]) if known else None,
        resolutionunit="CENTIMETER" if known else None,
    )


@dataclass(frozen=True)
class _Layout:
    """How the pixels of a TIFF page are laid out; `channels` counts the transparency too."""

    shape: tuple[int, int]
    dtype: np.dtype[Any]
    channels: int
    alpha: bool
    channels_last: bool
    lzw: bool


def check_flat(image: Volume | Segmentation, name: str) -> None:
    """Refuse to save anything but one slice, grey or in three colours, as a picture."""
    array = image.array if isinstance(image, Volume) else image.labels
    colours = isinstance(image, Volume) and image.leading_axis == "c" and array.shape[0] == 3
    if image.grid.ndim != 2 or (array.ndim != 2 and not colours):
        raise SaveError(
            "save-flat",
            f"{name} was not saved",
            "a picture holds one slice",
            "Save the volume as .nii.gz, .nrrd or .mha.",
        )


def _load_png(path: Path, dtype: np.dtype[Any], channels: int) -> NDArray[Any]:
    from PIL import Image

    _check_chunks(path)
    try:
        with Image.open(path, formats=["PNG"]) as picture:
            picture.load()
            if picture.mode in ("LA", "RGBA"):
                bands = [np.asarray(band) for band in picture.split()[:-1]]
                array = np.stack(bands, axis=-1) if channels == 3 else bands[0]
            else:
                array = np.asarray(picture)
    except MemoryError as error:
        raise too_large(path) from error
    except Exception as error:  # zlib, struct, syntax and value errors, as the damage may be
        raise unreadable("damaged", path, "its pixels are cut short or damaged") from error
    if array.dtype.kind == "i" and dtype == np.uint16 and array.size and array.min() >= 0:
        array = array.astype(np.uint16)
    if array.dtype != dtype or (array.shape[2:] or (1,)) != (channels,):
        raise unreadable("type", path, "its pixels are not of the kind that its header declares")
    return array


def _check_chunks(path: Path) -> None:
    """Compare the checksum of every chunk; the library is content once it has enough pixels."""
    size = check_file(path)
    with path.open("rb") as file:
        file.seek(8)
        kind = b""
        while kind != b"IEND":
            start = file.read(8)
            length, kind = int.from_bytes(start[:4], "big"), start[4:]
            if len(start) < 8 or file.tell() + length + 4 > size:
                raise unreadable("damaged", path, "its pixels are cut short or damaged")
            if zlib.crc32(file.read(length), zlib.crc32(kind)) != int.from_bytes(file.read(4), "big"):
                raise unreadable("damaged", path, "its pixels are cut short or damaged")


def _check_single_page(path: Path) -> None:
    """Refuse more than one page, before the library follows the chain of pages."""
    size = check_file(path)
    with path.open("rb") as file:
        start = file.read(16)
        order: Literal["little", "big"] = "little" if start[:2] == b"II" else "big"
        big = int.from_bytes(start[2:4], order) == 43
        word, count_size, tag_size = (8, 8, 20) if big else (4, 2, 12)
        first = int.from_bytes(start[8:16] if big else start[4:8], order)
        if not 8 <= first < size:
            raise _broken_tiff(path)
        file.seek(first)
        tags = int.from_bytes(file.read(count_size), order)
        if not 0 < tags <= _MAX_TAGS or first + count_size + tags * tag_size + word > size:
            raise _broken_tiff(path)
        file.seek(first + count_size + tags * tag_size)
        more = int.from_bytes(file.read(word), order)
    if more:
        raise unreadable("pages", path, "it holds more than one page", "Save one page, or the stack as .nrrd.")


def _layout(path: Path, page: Any) -> _Layout:
    if page.compression not in _COMPRESSIONS:
        raise unreadable("compression", path, "its compression is not read", "Save it uncompressed or with Deflate.")
    if (
        page.photometric not in (0, 1, 2, 3)
        or page.imagedepth != 1
        or page.dtype is None
        or page.dtype.kind not in "buif"
    ):
        raise unreadable("type", path, "its kind of pixels is not read", "Save it in grey or RGB, integer or float.")
    images = re.search(r"^images=(\d+)", page.description or "", re.MULTILINE)
    if images and images[1] != "1":
        raise unreadable("pages", path, "it holds more than one page", "Save one page, or the stack as .nrrd.")
    return _Layout(
        shape=(int(page.imagelength), int(page.imagewidth)),
        dtype=np.dtype(page.dtype).newbyteorder("="),
        channels=int(page.samplesperpixel),
        alpha=len(page.extrasamples) == 1 and int(page.extrasamples[0]) in (1, 2),
        channels_last=int(page.planarconfig) == 1,
        lzw=page.compression == 5,
    )


def _check_segments(path: Path, page: Any) -> None:
    """Refuse segments outside the file, and compressed ones that grow beyond the picture."""
    size = check_file(path)
    offsets, counts = [int(n) for n in page.dataoffsets], [int(n) for n in page.databytecounts]
    cut_short = unreadable("cut-short", path, "it is cut short: pixels that its header declares are missing")
    # The library fills segments that are missing with zeros, without a word.
    if not len(offsets) == len(counts) == math.prod(page.chunked):
        raise cut_short
    if any(start < 8 or count < 1 or start + count > size for start, count in zip(offsets, counts, strict=True)):
        raise cut_short
    needed = math.prod(page.shape) * page.bitspersample // 8
    if page.compression == 1 and sum(counts) < needed:
        raise cut_short
    if page.compression not in _DEFLATE:
        return
    declared = left = math.prod(page.chunked) * math.prod(page.chunks) * page.dtype.itemsize
    with path.open("rb") as file:
        for offset, count in zip(offsets, counts, strict=True):
            file.seek(offset)
            stream = zlib.decompressobj()
            left -= len(stream.decompress(file.read(count), left + 1))
            if left < 0 or not stream.eof:
                raise unreadable("damaged", path, "its compressed pixels do not fit the declared size")
    if declared - left < needed:
        raise cut_short


def _load_tiff(path: Path, layout: _Layout) -> NDArray[Any]:
    import tifffile
    from PIL import Image

    try:
        if layout.lzw:
            # tifffile has this decoder only together with a large package; Pillow brings its own.
            with Image.open(path, formats=["TIFF"]) as picture:
                array = np.asarray(picture)
        else:
            with _quiet_library(), tifffile.TiffFile(path) as tiff:
                array = tiff.pages.first.asarray()
    except MemoryError as error:
        raise too_large(path) from error
    except Exception as error:  # whatever damaged pixels make the libraries raise
        raise _broken_tiff(path) from error
    if array.dtype.newbyteorder("=") != layout.dtype or array.size != math.prod(layout.shape) * layout.channels:
        raise unreadable("type", path, "its pixels are not of the kind that its header declares")
    array = np.ascontiguousarray(array.astype(layout.dtype, copy=False))
    if layout.channels == 1:
        return array.reshape(layout.shape)
    if layout.channels_last or layout.lzw:
        array = np.moveaxis(array.reshape(*layout.shape, layout.channels), -1, 0)
    colours = array.reshape(layout.channels, *layout.shape)[: layout.channels - layout.alpha]
    return colours[0] if len(colours) == 1 else colours


def _pixel_size(page: Any, imagej: dict[str, Any]) -> tuple[float, float] | None:
    """Millimetres per pixel, (y, x); None where no length is stated."""
    description = str(page.description or "")
    if page.is_ome:
        # A search, no XML parser: entities of a hostile file are never expanded.
        sizes = [_ome_length(description, axis) for axis in "YX"]
        return None if None in sizes else (sizes[0], sizes[1])  # type: ignore[return-value]
    x, y = (float(n) for n in page.resolution)
    if not (math.isfinite(x) and math.isfinite(y) and x > 0 and y > 0):
        return None
    if "unit" in imagej:
        factor = _MM_PER_UNIT.get(str(imagej["unit"]).strip().lower())
    else:
        factor = 10.0 if int(page.resolutionunit) == 3 else None
    return None if factor is None else (factor / y, factor / x)


def _ome_length(description: str, axis: str) -> float | None:
    size = re.search(rf'\bPhysicalSize{axis}="([0-9.eE+-]{{1,32}})"', description)
    unit = re.search(rf'\bPhysicalSize{axis}Unit="([^"]{{1,16}})"', description)
    factor = _MM_PER_UNIT.get(unit[1].lower()) if unit else 1e-3
    try:
        return float(size[1]) * factor if size and factor else None
    except ValueError:
        return None


@contextmanager
def _quiet_library() -> Iterator[None]:
    """Keep the library's own lines about a damaged file from the screen; the error says it in one sentence."""
    logger = logging.getLogger("tifffile")
    thread = threading.get_ident()

    def other_threads_only(record: logging.LogRecord) -> bool:
        return record.thread != thread

    logger.addFilter(other_threads_only)
    try:
        yield
    finally:
        logger.removeFilter(other_threads_only)


def _broken_tiff(path: Path) -> FileError:
    return unreadable("damaged", path, "its header or its pixels are cut short or damaged")
