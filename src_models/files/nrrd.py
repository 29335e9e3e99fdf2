"""NRRD, ``.nrrd`` and ``.nhdr``: raw, gzip and bzip2 voxels after a text header in UTF-8, or in a file beside it."""

from __future__ import annotations

import gzip
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from src_models.errors import SaveError
from src_models.files.gate import (
    Compression,
    ReadOptions,
    Voxels,
    check_axes,
    check_declared_size,
    check_matrix,
    check_voxel_size,
    first_bytes,
    inside_folder,
    little_endian_bytes,
    read_voxels,
    shown,
    text_header,
    unreadable,
)
from src_models.files.header import FileHeader, kept_geometry
from src_models.geometry import Grid, Segmentation, Space, Volume, from_file_affine, store_grid, to_file_affine

SUFFIXES = (".nrrd", ".nhdr")
_SPACES: dict[str, Space] = {
    "lps": "LPS",
    "left-posterior-superior": "LPS",
    "ras": "RAS",
    "right-anterior-superior": "RAS",
    "las": "LAS",
    "left-anterior-superior": "LAS",
}
_LONG_NAMES = {"LPS": "left-posterior-superior", "RAS": "right-anterior-superior", "LAS": "left-anterior-superior"}
_MM_PER_UNIT = {"mm": 1.0, "millimeter": 1.0, "um": 1e-3, "µm": 1e-3, "μm": 1e-3, "micron": 1e-3, "cm": 10.0, "m": 1e3}
_SECONDS_PER_UNIT = {"s": 1.0, "sec": 1.0, "ms": 1e-3, "msec": 1e-3}
_ENCODINGS: dict[str, Compression] = {"raw": "", "gzip": "gzip", "gz": "gzip", "bzip2": "bzip2", "bz2": "bzip2"}
_TYPES = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i8": ("longlong", "long long", "long long int", "signed long long", "signed long long int", "int64", "int64_t"),
    "u8": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "f4": ("float",),
    "f8": ("double",),
}
_TYPE_OF_NAME = {name: code for code, names in _TYPES.items() for name in names}
_NAME_OF_TYPE = {
    "i1": "int8", "u1": "uint8", "i2": "int16", "u2": "uint16", "i4": "int32", "u4": "uint32",
    "i8": "int64", "u8": "uint64", "f4": "float", "f8": "double",
}  # fmt: skip
_OTHER_SPACES = ("scanner-xyz", "3d-right-handed", "3d-left-handed")
_COLOUR_KINDS = re.compile(r".*-color|vector|covariant-vector|normal|point|[234]-vector|[34]-gradient|3-normal")
_LABELS_CONTENT = "labels"


def recognise(path: Path) -> bool:
    """Whether the file starts as a NRRD does."""
    return re.fullmatch(rb"NRRD\d{4}", first_bytes(path, 8)) is not None


def read_header(path: Path, options: ReadOptions) -> FileHeader:
    """Read and check the header; no voxels.

    Raises
    ------
    FileError
        Where it is damaged, or declares what cannot be.
    """
    lines, offset = text_header(path, ends_at="")
    fields = _fields(path, lines)
    sizes = _integers(path, fields, "sizes")
    check_axes(path, len(sizes))
    if _integers(path, fields, "dimension") != [len(sizes)]:
        raise unreadable("dimension", path, "its dimension and its sizes contradict each other")
    lead_axis, lead, notes = _leading_axis(path, fields, len(sizes))
    dtype = _dtype(path, fields)
    encoding = fields.get("encoding", "").lower()
    if encoding not in _ENCODINGS:
        raise unreadable(
            "encoding", path, f"its encoding {shown(encoding, 20)!r} is not read", "Save it as gzip or raw."
        )
    data, offset = _data_place(path, fields, offset)
    voxels = Voxels(data, offset, tuple(reversed(sizes)), dtype, _ENCODINGS[encoding])
    voxels = _skipped(path, fields, voxels)
    check_declared_size(path, voxels, options)
    spatial = [axis for axis in range(len(sizes)) if axis != lead_axis]
    grid, geometry, grid_notes = _grid(path, fields, spatial, tuple(sizes[axis] for axis in reversed(spatial)))
    return FileHeader(
        path=path,
        format="NRRD",
        grid=grid,
        dtype=dtype.newbyteorder("="),
        load=partial(read_voxels, path, voxels, options),
        leading_axis=lead,
        leading_length=1 if lead_axis is None else sizes[lead_axis],
        channels_last=lead_axis == 0,
        time_step=_time_step(fields, lead_axis) if lead == "t" and lead_axis is not None else None,
        labels=fields.get("content") == _LABELS_CONTENT,
        geometry=geometry,
        notes=notes + grid_notes,
    )


def write(file: IO[bytes], image: Volume | Segmentation, array: NDArray[Any], name: str) -> None:
    """Write a volume or labels, attached and with gzip; parameters as for NIfTI."""
    if not image.grid.spacing_known:
        raise SaveError(
            "save-spacing",
            f"{name} was not saved",
            "the voxel size is not known",
            "Declare the voxel size, or save a picture as .png or .tif.",
        )
    stored = store_grid(image.grid, image.stored_order)
    lead = array.ndim > stored.ndim
    colour = lead and isinstance(image, Volume) and image.leading_axis == "c"
    if colour:
        array = np.ascontiguousarray(np.moveaxis(array, 0, -1))
    # Channels lie fastest, time points slowest.
    first, last = (1 if colour else 0), (1 if lead and not colour else 0)
    kinds = ["vector"] * first + ["domain"] * stored.ndim + ["list"] * last
    header = [
        "NRRD0005",
        f"type: {_NAME_OF_TYPE[array.dtype.str[1:]]}",
        f"dimension: {array.ndim}",
        f"sizes: {' '.join(str(n) for n in reversed(array.shape))}",
        f"kinds: {' '.join(kinds)}",
        "endian: little",
        "encoding: gzip",
    ]
    if isinstance(image, Segmentation):
        header.append(f"content: {_LABELS_CONTENT}")
    header += _place(image, stored, first, last)
    file.write(("\n".join(header) + "\n\n").encode())
    with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0, compresslevel=4) as stream:
        stream.write(little_endian_bytes(array))


def _fields(path: Path, lines: list[str]) -> dict[str, str]:
    """The fields of the header; key-value pairs and comments, which are free text, are left out."""
    fields: dict[str, str] = {}
    for line in lines[1:]:
        if line.startswith("#") or ":=" in line:
            continue
        name, colon, text = line.partition(": ")
        if not colon:
            raise unreadable("header-line", path, f"its header holds the line {shown(line, 40)!r}")
        name = name.strip().lower()
        fields[{"datafile": "data file", "lineskip": "line skip", "byteskip": "byte skip"}.get(name, name)] = (
            text.strip()
        )
    for name in ("dimension", "sizes", "type", "encoding"):
        if name not in fields:
            raise unreadable("header-field", path, f"its header has no field {name!r}")
    return fields


def _integers(path: Path, fields: dict[str, str], name: str) -> list[int]:
    words = fields[name].split()
    # Twenty digits are beyond 64 bits; Python itself refuses to read thousands of them.
    if not words or any(re.fullmatch(r"[+-]?\d{1,20}", word) is None for word in words):
        raise unreadable("header-number", path, f"its field {name!r} holds {shown(fields[name], 40)!r}")
    return [int(word) for word in words]


def _dtype(path: Path, fields: dict[str, str]) -> np.dtype[Any]:
    name = fields["type"].lower()
    if name not in _TYPE_OF_NAME:
        raise unreadable(
            "type", path, f"values of type {shown(name, 20)!r} are not read", "Save it as integer or float."
        )
    dtype = np.dtype(_TYPE_OF_NAME[name])
    endian = fields.get("endian", "").lower()
    if dtype.itemsize > 1 and endian not in ("little", "big"):
        raise unreadable("endian", path, "its header does not give the order of bytes")
    return dtype.newbyteorder(">" if endian == "big" else "<")


def _leading_axis(path: Path, fields: dict[str, str], count: int) -> tuple[int | None, str, tuple[str, ...]]:
    """Which axis is not in space, fastest first, and what it is."""
    kinds = [kind.lower() for kind in fields.get("kinds", "").split()]
    if kinds and len(kinds) != count:
        raise unreadable("kinds", path, f"it has {count} axes and {len(kinds)} kinds")
    directions = _tokens(fields.get("space directions", ""))
    if directions:
        outside = [axis for axis, direction in enumerate(directions) if direction == "none"]
    else:
        outside = [axis for axis, kind in enumerate(kinds) if kind not in ("domain", "space", "???", "none")]
    notes: tuple[str, ...] = ()
    if not outside and count == 4:
        outside = [3]
        notes = ("The meaning of the fourth axis is not given; it is taken as time.",)
    if count - len(outside) not in (2, 3) or len(outside) > 1:
        raise unreadable("axes", path, f"it has {count} axes, {len(outside)} of them not in space", "Save one image.")
    if not outside:
        return None, "", notes
    axis = outside[0]
    kind = kinds[axis] if kinds else ""
    if kind == "complex":
        raise unreadable("type", path, "complex values are not read", "Save the magnitude or the phase.")
    if axis not in (0, count - 1):
        raise unreadable("axes", path, "an axis that is not in space lies between others", "Put it first or last.")
    return axis, "c" if _COLOUR_KINDS.fullmatch(kind) or (axis == 0 and not kind) else "t", notes


def _data_place(path: Path, fields: dict[str, str], offset: int) -> tuple[Path, int]:
    if "data file" in fields:
        return inside_folder(path, fields["data file"]), 0
    if path.name.lower().endswith(".nhdr"):
        raise unreadable("data-file-missing", path, "its header names no data file", "Rename it to end in .nrrd.")
    return path, offset


def _skipped(path: Path, fields: dict[str, str], voxels: Voxels) -> Voxels:
    """The voxels behind the bytes that the header says to skip; -1 means that they end with the file."""
    if fields.get("line skip", "0") != "0":
        raise unreadable("line-skip", path, "skipping lines of a data file is not supported", "Save it again.")
    skip = _integers(path, fields, "byte skip")[0] if "byte skip" in fields else 0
    if skip == 0:
        return voxels
    if voxels.compression or skip < -1 or skip > 2**62:
        raise unreadable("byte-skip", path, f"skipping {skip} bytes of its data is not possible", "Save it again.")
    if skip == -1:
        skip = max(voxels.path.stat().st_size - voxels.offset - voxels.size, 0)
    return replace(voxels, offset=voxels.offset + skip)


def _tokens(text: str) -> list[str]:
    return re.findall(r"none|\([^()]*\)", text.lower())


def _numbers(path: Path, name: str, text: str) -> list[float]:
    try:
        return [float(word) for word in text.strip("()").replace(",", " ").split()]
    except ValueError as error:
        raise unreadable("header-number", path, f"its field {name!r} holds {shown(text, 40)!r}") from error


def _unit(texts: list[str]) -> tuple[float, str]:
    """Millimetres per unit and a note where the unit had to be assumed."""
    units = set(texts) - {""}
    if len(units) == 1 and (unit := units.pop().strip().lower()) in _MM_PER_UNIT:
        return _MM_PER_UNIT[unit], ""
    return 1.0, "The unit of length is not given or not known; millimetres are assumed."


# Numbers of damaged files overflow on the way to the check that refuses them.
@np.errstate(all="ignore")
def _grid(
    path: Path, fields: dict[str, str], spatial: list[int], shape: tuple[int, ...]
) -> tuple[Grid, dict[str, Any], tuple[str, ...]]:
    geometry: dict[str, Any] = {"format": "nrrd"}
    directions = _tokens(fields.get("space directions", ""))
    if not directions:
        return _spacing_only(path, fields, spatial, shape, geometry)
    if len(directions) <= max(spatial):
        raise unreadable("directions", path, "it has more axes than space directions")
    vectors = [_numbers(path, "space directions", directions[axis]) for axis in spatial]
    space_name = fields.get("space", "").lower()
    dimension = 3 if space_name else _integers(path, fields, "space dimension")[0] if "space dimension" in fields else 3
    origin = _numbers(path, "space origin", fields.get("space origin", "")) or [0.0] * dimension
    if dimension not in (2, 3) or any(len(vector) != dimension for vector in [*vectors, origin]):
        raise unreadable("directions", path, "its space directions and its origin do not fit its space")
    units = re.findall(r'"([^"]*)"', fields.get("space units", ""))
    # Writers of medical images leave the unit out and mean millimetres.
    factor, note = _unit(units) if units else (1.0, "")
    notes = (note,) if note else ()
    geometry |= {"directions": vectors, "origin": origin, "units": units[:dimension]}
    geometry |= {
        "space": _LONG_NAMES.get(_SPACES.get(space_name, ""), space_name if space_name in _OTHER_SPACES else "")
    }
    affine = np.eye(4)
    affine[:dimension, : len(vectors)] = np.array(vectors).T * factor
    affine[:dimension, 3] = np.array(origin) * factor
    if len(vectors) == 2 and dimension == 3:
        affine[:3, 2] = np.cross(affine[:3, 0], affine[:3, 1])
        affine[:3, 2] /= np.linalg.norm(affine[:3, 2]) or 1.0
    check_matrix(path, affine)
    spacing = tuple(float(h) for h in np.linalg.norm(affine[:3, : len(vectors)], axis=0)[::-1])
    check_voxel_size(path, spacing)
    if space_name not in _SPACES or dimension != 3:
        return Grid(shape, spacing), geometry, (*notes, "The file does not say how it lies in the patient.")
    matrix = from_file_affine(affine, _SPACES[space_name])
    return Grid(shape, spacing, matrix, orientation_known=True), geometry, notes


def _spacing_only(
    path: Path, fields: dict[str, str], spatial: list[int], shape: tuple[int, ...], geometry: dict[str, Any]
) -> tuple[Grid, dict[str, Any], tuple[str, ...]]:
    steps = _numbers(path, "spacings", fields.get("spacings", ""))
    unknown = ("The file does not say how it lies in the patient.",)
    if not steps:
        return Grid(shape, (1.0,) * len(shape), spacing_known=False), geometry, ("The file gives no voxel size.",)
    if len(steps) <= max(spatial):
        raise unreadable("spacings", path, "it has more axes than voxel sizes")
    units = re.findall(r'"([^"]*)"', fields.get("units", ""))
    factor, note = _unit([units[axis] for axis in spatial if axis < len(units)])
    spacing = tuple(steps[axis] * factor for axis in reversed(spatial))
    check_voxel_size(path, spacing)
    return Grid(shape, spacing), geometry, ((note,) if note else ()) + unknown


def _time_step(fields: dict[str, str], axis: int) -> float | None:
    words = fields.get("spacings", "").split()
    units = re.findall(r'"([^"]*)"', fields.get("units", ""))
    if axis >= len(words) or axis >= len(units):
        return None
    try:
        step = float(words[axis]) * _SECONDS_PER_UNIT.get(units[axis].lower(), 0.0)
    except ValueError:
        return None
    return step if math.isfinite(step) and step > 0 else None


def _place(image: Volume | Segmentation, stored: Grid, first: int, last: int) -> list[str]:
    """The lines on space: those of the source where the grid is the source's, else new ones."""
    step = image.time_step if isinstance(image, Volume) and last else None
    kept = kept_geometry(image, "nrrd", stored)
    if kept.get("directions"):
        space, directions, origin = kept["space"], kept["directions"], kept["origin"]
        units = list(kept["units"])
    elif stored.orientation_known:
        affine = to_file_affine(stored.index_to_patient, "LPS")
        space = _LONG_NAMES["LPS"]
        directions, origin = affine[:3, : stored.ndim].T.tolist(), affine[:3, 3].tolist()
        units = ["mm"] * 3
    else:
        steps = ["nan"] * first + [repr(float(h)) for h in reversed(stored.spacing)] + [repr(step or math.nan)] * last
        return [f"spacings: {' '.join(steps)}", f"units: {_quoted([''] * first + ['mm'] * stored.ndim + ['s'] * last)}"]
    vectors = ["none"] * first + [_vector(direction) for direction in directions] + ["none"] * last
    lines = [
        f"space: {space}" if space else f"space dimension: {len(origin)}",
        f"space directions: {' '.join(vectors)}",
        f"space origin: {_vector(origin)}",
    ]
    if units:
        lines.append(f"space units: {_quoted(units)}")
    if step:
        # Spacings and units belong to axes without a direction; "nan" and "" say so for the others.
        lines.append(f"spacings: {' '.join(['nan'] * stored.ndim + [repr(step)])}")
        lines.append(f"units: {_quoted([''] * stored.ndim + ['s'])}")
    return lines


def _vector(numbers: Sequence[float]) -> str:
    return f"({','.join(repr(float(number)) for number in numbers)})"


def _quoted(words: Sequence[str]) -> str:
    return " ".join(f'"{word}"' for word in words)
