"""Files to arrays with their place in the patient, and back: `read_volume`, `read_segmentation`, `describe`, `write_*`.

NIfTI, NRRD, MetaImage and 2D pictures (PNG, TIFF). The format is what both the suffix and the first bytes say. Every
file passes the gate (`src_models.files.gate`) before its voxels are read.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from src_models.errors import FileError, SaveError
from src_models.files import metaimage, nifti, nrrd, picture
from src_models.files.gate import ReadOptions, check_file, shown, shown_name
from src_models.files.header import FileHeader, as_labels, segmentation_from, volume_from
from src_models.files.saving import save_whole
from src_models.geometry import Grid, Segmentation, Volume, passport, present_grid, same_grid, store_grid

__all__ = [
    "READABLE_SUFFIXES",
    "WRITABLE_SUFFIXES",
    "FileFacts",
    "ReadOptions",
    "describe",
    "read_segmentation",
    "read_volume",
    "write_segmentation",
    "write_volume",
]

_Writer: TypeAlias = Callable[[IO[bytes], Volume | Segmentation, NDArray[Any], str], None]


@dataclass(frozen=True)
class _Format:
    name: str
    suffixes: tuple[str, ...]
    recognise: Callable[[Path], bool]
    read_header: Callable[[Path, ReadOptions], FileHeader]
    write: _Writer
    types: str
    check: Callable[[Volume | Segmentation, str], None] = lambda _image, _name: None


_INTEGERS = "u1 i1 u2 i2 u4 i4 u8 i8"
_FORMATS = (
    _Format("NIfTI", nifti.SUFFIXES, nifti.recognise, nifti.read_header, nifti.write, f"{_INTEGERS} f4 f8 c8 c16"),
    _Format("NRRD", nrrd.SUFFIXES, nrrd.recognise, nrrd.read_header, nrrd.write, f"{_INTEGERS} f4 f8"),
    _Format(
        "MetaImage",
        metaimage.SUFFIXES,
        metaimage.recognise,
        metaimage.read_header,
        metaimage.write,
        f"{_INTEGERS} f4 f8",
    ),
    _Format(
        "PNG", (".png",), picture.recognise_png, picture.read_png_header, picture.write_png, "u1 u2", picture.check_flat
    ),
    _Format(
        "TIFF",
        (".tif", ".tiff"),
        picture.recognise_tiff,
        picture.read_tiff_header,
        picture.write_tiff,
        f"{_INTEGERS} f4 f8",
        picture.check_flat,
    ),
)
READABLE_SUFFIXES: tuple[str, ...] = tuple(suffix for one in _FORMATS for suffix in one.suffixes)
WRITABLE_SUFFIXES: tuple[str, ...] = tuple(s for s in READABLE_SUFFIXES if s not in (".nhdr", ".mhd"))


@dataclass(frozen=True)
class FileFacts:
    """What the header of an image file says.

    Attributes
    ----------
    name : str
        Base name of the file.
    format : str
        Such as "NIfTI-1".
    shape, spacing : tuple
        Of the axes in space in the file's own order, slowest first, as `--point` and `--crop` count them.
    unit : str
        Of the spacing: "mm", or "px" where the voxel size is not known.
    orientation : str
        Letters of the sides that the axes grow towards, fastest axis first, as in "RAS"; "" where not known.
    dtype : str
        Of the stored values.
    leading_axis, leading_length : str, int
        "t" for time points, "c" for channels, "" for neither; and how many.
    time_step : float or None
        Seconds.
    labels : bool
        Whether the file says that its numbers are labels.
    passport : str
        One line on how the image lies.
    notes : tuple of str
        What a reader has to decide, in words.
    value_range : tuple of float or None
        Lowest and highest finite value, where asked for.
    """

    name: str
    format: str
    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    unit: str
    orientation: str
    dtype: str
    leading_axis: str
    leading_length: int
    time_step: float | None
    labels: bool
    passport: str
    notes: tuple[str, ...]
    value_range: tuple[float, float] | None = None


def read_volume(path: str | os.PathLike[str], options: ReadOptions | None = None) -> Volume:
    """Read an image.

    Parameters
    ----------
    path : path-like
        A file with one of `READABLE_SUFFIXES`, in capitals or not.
    options : ReadOptions, optional
        Limits, and which form of a NIfTI file is taken.

    Returns
    -------
    Volume
        Its array in presented order: axes grow towards Inferior, Posterior and Left, where the side is known. The scale
        of the file is applied.

    Raises
    ------
    FileError
        Where the file is missing, broken or not of a kind that is read.
    """
    return volume_from(_header(Path(path), options))


def read_segmentation(
    path: str | os.PathLike[str], options: ReadOptions | None = None, *, like: Grid | None = None
) -> Segmentation:
    """Read labels: whole numbers, never scaled.

    Parameters
    ----------
    path : path-like
        As in `read_volume`.
    options : ReadOptions, optional
        As in `read_volume`.
    like : Grid, optional
        Of the image that the labels belong to: a mask on it may grow more than 1000-fold when decompressed, as empty
        masks do.

    Raises
    ------
    FileError
        As in `read_volume`, and where the values are colours or no whole numbers.
    """
    if like is not None:
        header = _header(Path(path), replace(options or ReadOptions(), allow_expansion=True))
        if same_grid(present_grid(header.grid, header.order), like):
            return segmentation_from(header)
    return segmentation_from(_header(Path(path), options))


def describe(path: str | os.PathLike[str], options: ReadOptions | None = None, *, values: bool = False) -> FileFacts:
    """What the header of an image file says; its voxels are read only for the range of values.

    Parameters
    ----------
    path : path-like
        As in `read_volume`.
    options : ReadOptions, optional
        As in `read_volume`.
    values : bool
        Read the voxels too, for their range.

    Raises
    ------
    FileError
        As in `read_volume`.
    """
    header = _header(Path(path), options)
    grid = header.grid
    placed = Segmentation if header.labels else Volume
    empty = np.broadcast_to(np.uint8(0), present_grid(grid, header.order).shape)
    low_high = None
    if values:
        array = volume_from(header).array
        finite = array[np.isfinite(array)] if array.dtype.kind == "f" else array
        if finite.size and array.dtype.kind != "c":
            low_high = float(finite.min()), float(finite.max())
    return FileFacts(
        name=shown_name(Path(path)),
        format=header.format,
        shape=grid.shape,
        spacing=grid.spacing,
        unit="mm" if grid.spacing_known else "px",
        orientation="".join(reversed(grid.letters)) if grid.orientation_known else "",
        dtype=str(header.dtype),
        leading_axis=header.leading_axis,
        leading_length=header.leading_length,
        time_step=header.time_step,
        labels=header.labels,
        passport=passport(placed(empty, present_grid(grid, header.order), stored_order=header.order)),
        notes=header.notes,
        value_range=low_high,
    )


def write_segmentation(path: str | os.PathLike[str], segmentation: Segmentation, *, overwrite: bool = False) -> None:
    """Write labels in the axis order, and with the exact position, of the file that their image came from.

    Parameters
    ----------
    path : path-like
        A file with one of `WRITABLE_SUFFIXES`.
    segmentation : Segmentation
        bool becomes 0 and 1; 64-bit numbers become the smallest type that holds them.
    overwrite : bool
        Whether a file that is there may be replaced.

    Raises
    ------
    SaveError
        Where it cannot be written whole; a file that was there before is untouched.
    """
    name = shown_name(Path(path))
    labels, reason = as_labels(np.asarray(segmentation.labels))
    if labels is None:
        raise SaveError("save-labels", f"{name} was not saved", f"labels are whole numbers, but these hold {reason}")
    _write(Path(path), segmentation, labels, overwrite=overwrite)


def write_volume(path: str | os.PathLike[str], volume: Volume, *, overwrite: bool = False) -> None:
    """Write an image; as `write_segmentation`. Values are stored as they are, without a scale."""
    array = np.asarray(volume.array)
    if array.dtype == np.float16:
        array = array.astype(np.float32)
    _write(Path(path), volume, array.astype(np.uint8) if array.dtype == bool else array, overwrite=overwrite)


def _header(path: Path, options: ReadOptions | None) -> FileHeader:
    check_file(path)
    chosen = _format_of(path, READABLE_SUFFIXES)
    if chosen is None:
        raise FileError(
            "file-suffix",
            f"{shown_name(path)} cannot be read",
            f"files ending in {shown(path.suffix, 12)!r} are not supported"
            if path.suffix
            else "its name has no ending",
            f"Choose one of {', '.join(READABLE_SUFFIXES)}.",
        )
    if not chosen.recognise(path):
        found = next((one for one in _FORMATS if one.recognise(path)), None)
        content = f"its content is {found.name}" if found else "its content is something else, or damaged"
        raise FileError(
            "file-content",
            f"{shown_name(path)} is no {chosen.name} file",
            content,
            f"Rename it to end in {found.suffixes[0]}." if found else "Use an undamaged copy.",
        )
    return chosen.read_header(path, options or ReadOptions())


def _format_of(path: Path, suffixes: tuple[str, ...]) -> _Format | None:
    name = path.name.lower()
    for one in _FORMATS:
        if any(name.endswith(suffix) for suffix in one.suffixes if suffix in suffixes):
            return one
    return None


def _write(path: Path, image: Volume | Segmentation, array: NDArray[Any], *, overwrite: bool) -> None:
    name = shown_name(path)
    chosen = _format_of(path, WRITABLE_SUFFIXES)
    if chosen is None:
        raise SaveError(
            "save-suffix",
            f"{name} was not saved",
            f"files ending in {shown(path.suffix, 12)!r} are not written" if path.suffix else "its name has no ending",
            f"Choose one of {', '.join(WRITABLE_SUFFIXES)}.",
        )
    chosen.check(image, name)
    stored = _storable(image.stored_order.store(array), chosen, name, labels=isinstance(image, Segmentation))
    grid = store_grid(image.grid, image.stored_order)

    def verify(part: Path) -> bool:
        header = chosen.read_header(part, ReadOptions(max_bytes=2**62, allow_expansion=True))
        back = header.load()
        if header.channels_last:
            back = np.moveaxis(back, -1, 0)
        same = back.dtype == stored.dtype and np.array_equal(back, stored, equal_nan=stored.dtype.kind in "fc")
        if not header.grid.spacing_known or chosen.name in ("PNG", "TIFF"):
            return same
        placed = same_grid(header.grid, grid) if header.grid.orientation_known else True
        return same and placed and np.allclose(header.grid.spacing, grid.spacing, rtol=1e-5, atol=0)

    save_whole(path, lambda file: chosen.write(file, image, stored, name), verify, overwrite=overwrite)


def _storable(array: NDArray[Any], chosen: _Format, name: str, *, labels: bool) -> NDArray[Any]:
    """The array in C order, little-endian, of a type that the format holds."""
    types = chosen.types.split()
    code = array.dtype.str[1:]
    if labels and (array.dtype.itemsize == 8 or code not in types):
        low, high = (int(array.min()), int(array.max())) if array.size else (0, 0)
        for smaller in ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8"):
            if smaller in types and np.iinfo(smaller).min <= low and high <= np.iinfo(smaller).max:
                code = smaller
                break
    if code not in types:
        raise SaveError(
            "save-type",
            f"{name} was not saved",
            f"{chosen.name} does not hold these values of type {array.dtype}",
            "Choose another format, such as .nii.gz.",
        )
    return np.ascontiguousarray(array, dtype=np.dtype(code))
