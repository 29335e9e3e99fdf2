"""MetaImage, ``.mha`` and ``.mhd``: raw or zlib voxels after a text header or in a file beside it. Its world is LPS."""

from __future__ import annotations

import math
import re
import zlib
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray

from src_models.errors import SaveError
from src_models.files.gate import (
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
from src_models.geometry import Grid, Segmentation, Volume, from_file_affine, store_grid, to_file_affine

SUFFIXES = (".mha", ".mhd")
_FIRST_KEYS = ("objecttype", "ndims", "comment", "objectsubtype", "name", "id")
_TYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG": "i4",
    "MET_ULONG": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
_NAME_OF_TYPE = {code: name for name, code in _TYPES.items() if name not in ("MET_LONG", "MET_ULONG")}
_MM_PER_UNIT = {"mm": 1.0, "um": 1e-3, "cm": 10.0, "m": 1000.0}


def recognise(path: Path) -> bool:
    """Whether the first line is one of a MetaImage header."""
    key, equals, _ = first_bytes(path, 64).partition(b"=")
    return bool(equals) and key.strip().lower().decode("latin-1") in _FIRST_KEYS


def read_header(path: Path, options: ReadOptions) -> FileHeader:
    """Read and check the header; no voxels.

    Raises
    ------
    FileError
        Where it is damaged, or declares what cannot be.
    """
    lines, offset = text_header(path, ends_at="ElementDataFile")
    fields = _fields(path, lines)
    count = _integers(path, fields, "ndims")[0]
    check_axes(path, count)
    sizes = _integers(path, fields, "dimsize")
    if len(sizes) != count:
        raise unreadable("dimension", path, "its number of axes and its sizes contradict each other")
    if count not in (2, 3, 4):
        raise unreadable("axes", path, f"it has {count} axes", "Save one image.")
    channels = _integers(path, fields, "elementnumberofchannels")[0] if "elementnumberofchannels" in fields else 1
    if channels < 1:
        raise unreadable("channels", path, f"its header declares {channels} channels")
    if channels > 1 and count == 4:
        raise unreadable("axes", path, "channels together with a time axis are not read", "Save one time point.")
    voxels = _voxels(path, fields, offset, (*reversed(sizes), *((channels,) if channels > 1 else ())))
    check_declared_size(path, voxels, options)
    grid, geometry, notes = _grid(path, fields, count, tuple(reversed(sizes[:3])))
    return FileHeader(
        path=path,
        format="MetaImage",
        grid=grid,
        dtype=voxels.dtype.newbyteorder("="),
        load=partial(read_voxels, path, voxels, options),
        leading_axis="c" if channels > 1 else "t" if count == 4 else "",
        leading_length=channels if channels > 1 else sizes[3] if count == 4 else 1,
        channels_last=channels > 1,
        geometry=geometry,
        notes=notes,
    )


def write(file: IO[bytes], image: Volume | Segmentation, array: NDArray[Any], name: str) -> None:
    """Write a volume or labels, attached and compressed; parameters as for NIfTI."""
    stored = store_grid(image.grid, image.stored_order)
    if not stored.spacing_known or (stored.ndim == 3 and not stored.orientation_known):
        raise SaveError(
            "save-orientation",
            f"{name} was not saved",
            "a MetaImage must say how the image lies in the patient, and this is not known",
            "Save it as .nii.gz or .nrrd." if stored.spacing_known else "Declare the voxel size.",
        )
    if stored.sheared:
        raise SaveError(
            "save-sheared",
            f"{name} was not saved",
            "a MetaImage cannot hold a sheared grid",
            "Save it as .nii.gz or .nrrd.",
        )
    kept = kept_geometry(image, "metaimage", stored)
    count = stored.ndim
    colour = array.ndim > count and isinstance(image, Volume) and image.leading_axis == "c"
    if kept:
        directions, origin, spacing = kept["directions"], kept["origin"], kept["spacing"]
    else:
        affine = to_file_affine(stored.index_to_patient, "LPS")
        size = 3 if stored.orientation_known or count == 3 else 2
        spacing = list(reversed(stored.spacing))
        directions = (affine[:size, :count] / np.array(spacing)).T.tolist()
        origin = affine[:size, 3].tolist()
    if array.ndim > count and not colour:
        directions = [[*direction, 0.0] for direction in directions] + [[0.0] * count + [1.0]]
        step = image.time_step if isinstance(image, Volume) else None
        spacing, origin, count = [*spacing, step or 1.0], [*origin, 0.0], count + 1
    if any(len(direction) != count for direction in directions):
        # A slice in space: the format has no room for it but as a volume of one slice.
        raise SaveError(
            "save-slice", f"{name} was not saved", "a 2D MetaImage cannot lie in the patient", "Save it as .nii.gz."
        )
    if colour:
        array = np.ascontiguousarray(np.moveaxis(array, 0, -1))
    packed = zlib.compress(little_endian_bytes(array), 4)
    lines = [
        "ObjectType = Image",
        f"NDims = {count}",
        "BinaryData = True",
        "BinaryDataByteOrderMSB = False",
        "CompressedData = True",
        f"CompressedDataSize = {len(packed)}",
        f"TransformMatrix = {' '.join(repr(float(v)) for direction in directions for v in direction)}",
        f"Offset = {' '.join(repr(float(v)) for v in origin)}",
        f"CenterOfRotation = {' '.join(['0'] * count)}",
        f"ElementSpacing = {' '.join(repr(float(v)) for v in spacing)}",
        f"DimSize = {' '.join(str(n) for n in reversed(array.shape[:count]))}",
    ]
    if colour:
        lines.append(f"ElementNumberOfChannels = {array.shape[-1]}")
    lines += [f"ElementType = {_NAME_OF_TYPE[array.dtype.str[1:]]}", "ElementDataFile = LOCAL"]
    file.write(("\n".join(lines) + "\n").encode())
    file.write(packed)


def _fields(path: Path, lines: list[str]) -> dict[str, str]:
    fields: dict[str, str] = {}
    for line in lines:
        key, equals, text = line.partition("=")
        if not equals:
            if not line.strip():
                continue
            raise unreadable("header-line", path, f"its header holds the line {shown(line, 40)!r}")
        fields[key.strip().lower()] = text.strip()
    for key in ("ndims", "dimsize", "elementtype", "elementdatafile"):
        if key not in fields:
            raise unreadable("header-field", path, f"its header has no field {key!r}")
    return fields


def _integers(path: Path, fields: dict[str, str], key: str) -> list[int]:
    words = fields[key].split()
    if not words or any(re.fullmatch(r"[+-]?\d{1,20}", word) is None for word in words):
        raise unreadable("header-number", path, f"its field {key!r} holds {shown(fields[key], 40)!r}")
    return [int(word) for word in words]


def _numbers(path: Path, fields: dict[str, str], keys: tuple[str, ...], default: list[float]) -> list[float]:
    """The numbers of the first field that is there, as many as there are in `default`."""
    for key in keys:
        if key in fields:
            try:
                numbers = [float(word) for word in fields[key].split()]
            except ValueError:
                numbers = []
            if len(numbers) != len(default):
                raise unreadable("header-number", path, f"its field {key!r} holds {shown(fields[key], 40)!r}")
            return numbers
    return default


def _is_true(fields: dict[str, str], *keys: str) -> bool:
    return any(fields.get(key, "").lower() in ("true", "1") for key in keys)


def _voxels(path: Path, fields: dict[str, str], offset: int, shape: tuple[int, ...]) -> Voxels:
    name = fields["elementtype"].upper()
    if name not in _TYPES:
        raise unreadable(
            "type", path, f"values of type {shown(name, 20)!r} are not read", "Save it as integer or float."
        )
    if "binarydata" in fields and not _is_true(fields, "binarydata"):
        raise unreadable("encoding", path, "its voxels are written as text", "Save it in binary form.")
    order: Literal["<", ">"] = ">" if _is_true(fields, "binarydatabyteordermsb", "elementbyteordermsb") else "<"
    compressed = _is_true(fields, "compresseddata")
    data, start = path, offset
    if fields["elementdatafile"].upper() != "LOCAL":
        data, start = inside_folder(path, fields["elementdatafile"]), 0
    elif path.name.lower().endswith(".mhd") and data.stat().st_size == offset:
        raise unreadable(
            "data-file-missing", path, "its header names no data file", "Use the .mha file, or both files."
        )
    voxels = Voxels(data, start, shape, np.dtype(_TYPES[name]).newbyteorder(order), "zlib" if compressed else "")
    skip = _integers(path, fields, "headersize")[0] if "headersize" in fields else 0
    if skip == 0 or data == path:
        return voxels
    if compressed or not -1 <= skip <= 2**62:
        raise unreadable("byte-skip", path, f"skipping {skip} bytes of its data is not possible", "Save it again.")
    if skip == -1:
        skip = max(data.stat().st_size - voxels.size, 0)
    return replace(voxels, offset=skip)


# Numbers of damaged files overflow on the way to the check that refuses them.
@np.errstate(all="ignore")
def _grid(
    path: Path, fields: dict[str, str], count: int, shape: tuple[int, ...]
) -> tuple[Grid, dict[str, Any], tuple[str, ...]]:
    ndim = len(shape)
    steps = _numbers(path, fields, ("elementspacing", "elementsize"), [math.nan] * count)
    if all(math.isnan(h) for h in steps) and not {"elementspacing", "elementsize"} & fields.keys():
        return Grid(shape, (1.0,) * ndim, spacing_known=False), {}, ("The file gives no voxel size.",)
    unit = fields.get("distanceunits", "mm").lower()
    factor = _MM_PER_UNIT.get(unit, 1.0)
    notes = () if unit in _MM_PER_UNIT else ("The unit of length is not known; millimetres are assumed.",)
    spacing = tuple(h * factor for h in reversed(steps[:ndim]))
    check_voxel_size(path, spacing)
    identity = [float(i == j) for i in range(count) for j in range(count)]
    axes = np.array(_numbers(path, fields, ("transformmatrix", "rotation", "orientation"), identity))
    # Each row is the direction of one axis of the file.
    directions = axes.reshape(count, count)[:ndim, :ndim]
    origin = _numbers(path, fields, ("offset", "position", "origin"), [0.0] * count)[:ndim]
    affine = np.eye(4)
    affine[:ndim, :ndim] = directions.T
    affine[:ndim, 3] = np.array(origin) * factor
    check_matrix(path, affine)
    if np.abs(np.linalg.norm(directions, axis=1) - 1).max() > 1e-3:
        raise unreadable("directions", path, "the directions of its axes have no unit length", "Export it again.")
    affine[:ndim, :ndim] *= spacing[::-1]
    exact = tuple(float(h) for h in np.linalg.norm(affine[:3, :ndim], axis=0)[::-1])
    geometry = {"directions": directions.tolist(), "origin": origin, "spacing": steps[:ndim]}
    geometry |= {"format": "metaimage" if unit == "mm" else ""}
    grid = Grid(shape, exact, from_file_affine(affine, "LPS"), orientation_known=ndim == 3)
    return grid, geometry, notes
