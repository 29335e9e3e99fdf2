"""NIfTI-1 and NIfTI-2 in one file, ``.nii`` and ``.nii.gz``.

The position is the sform where its code is above 0, else the qform, else the voxel size alone; image and mask by the
same rule. On writing, a mask on the grid of its source gets both forms and their codes as they were.
"""

from __future__ import annotations

import gzip
import math
from collections.abc import Mapping
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
    little_endian_bytes,
    read_voxels,
    unreadable,
)
from src_models.files.header import FileHeader, kept_geometry
from src_models.geometry import Grid, Segmentation, Volume, from_file_affine, store_grid, to_file_affine

SUFFIXES = (".nii", ".nii.gz")
_GZIP = b"\x1f\x8b"
_NIFTI1_BYTES = 348
_NIFTI2_BYTES = 540
_EXTENSION_BYTES = 16 * 2**20
_LABEL_INTENT = 1002
_SCANNER = 1
_MM_PER_UNIT = {1: 1000.0, 2: 1.0, 3: 1e-3}
_SECONDS_PER_UNIT = {8: 1.0, 16: 1e-3, 24: 1e-6}
_COLOURS = {128: 3, 2304: 4}
_TYPES = {
    2: "u1",
    4: "i2",
    8: "i4",
    16: "f4",
    32: "c8",
    64: "f8",
    128: "u1",
    256: "i1",
    512: "u2",
    768: "u4",
    1024: "i8",
    1280: "u8",
    1792: "c16",
    2304: "u1",
}


def recognise(path: Path) -> bool:
    """Whether the first bytes are those of a NIfTI file, also inside gzip."""
    start = first_bytes(path, 2)
    return _version(first_bytes(path, _NIFTI1_BYTES, decompress=start == _GZIP)) != 0


def read_header(path: Path, options: ReadOptions) -> FileHeader:
    """Read and check the header; no voxels.

    Raises
    ------
    FileError
        Where it is damaged, or declares what cannot be.
    """
    zipped = first_bytes(path, 2) == _GZIP
    raw = first_bytes(path, _NIFTI2_BYTES, decompress=zipped)
    version = _version(raw)
    fields = _fields(path, raw, version)
    dim = [int(n) for n in fields["dim"]]
    check_axes(path, dim[0])
    if dim[0] < 2:
        raise unreadable("axes", path, "it holds a single row of values, no image", "Choose an image.")
    sizes = dim[1 : dim[0] + 1]
    code = int(fields["datatype"])
    if code not in _TYPES:
        raise unreadable(
            "type", path, f"values of its type (code {code}) are not read", "Export it as integer or float."
        )
    dtype = np.dtype(_TYPES[code]).newbyteorder(fields.dtype["datatype"].byteorder)
    if int(fields["bitpix"]) != 8 * dtype.itemsize * _COLOURS.get(code, 1):
        raise unreadable("type-bits", path, "type and bits of its values contradict each other")
    lead, lead_length, trailing = _leading(path, sizes)
    shape = tuple(reversed(sizes[:3]))
    stored_shape = ((lead_length,) if lead else ()) + shape + ((_COLOURS[code],) if code in _COLOURS else ())
    voxels = Voxels(
        path=path,
        offset=0 if zipped else _offset(path, fields, version),
        skip=_offset(path, fields, version) if zipped else 0,
        shape=stored_shape,
        dtype=dtype,
        compression="gzip" if zipped else "",
    )
    check_declared_size(path, voxels, options)
    if code in _COLOURS and lead:
        raise unreadable("colour-time", path, "colour images with a time axis are not read", "Save one time point.")
    grid, notes = _grid(path, fields, shape, options)
    scale, time_step = _scale(path, fields), _time_step(fields, lead)
    if code == 2304:
        notes += ("The transparency of the image was left out.",)
    if bytes(fields["descrip"]).strip(b"\0") or bytes(fields["intent_name"]).strip(b"\0"):
        notes += ("Free text of the header is not taken over; it can name a patient.",)
    return FileHeader(
        path=path,
        format=f"NIfTI-{version}",
        grid=grid,
        dtype=dtype.newbyteorder("="),
        load=partial(_load, path, voxels, options, code),
        leading_axis="c" if code in _COLOURS else lead,
        leading_length=3 if code in _COLOURS else lead_length,
        channels_last=code in _COLOURS,
        scale=scale if code not in _COLOURS else None,
        time_step=time_step,
        labels=int(fields["intent_code"]) == _LABEL_INTENT,
        geometry=_geometry(fields, version, trailing, options),
        notes=notes,
    )


def write(file: IO[bytes], image: Volume | Segmentation, array: NDArray[Any], name: str) -> None:
    """Write a volume or labels.

    Parameters
    ----------
    file : binary file
        Open for writing.
    image : Volume or Segmentation
        Its grid, stored order and header.
    array : ndarray
        The values in stored order, of a type that the format has.
    name : str
        Of the final file; its suffix decides on gzip.
    """
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header

    if not image.grid.spacing_known:
        raise SaveError(
            "save-spacing",
            f"{name} was not saved",
            "the voxel size is not known",
            "Declare the voxel size, or save a picture as .png or .tif.",
        )
    colour = isinstance(image, Volume) and image.leading_axis == "c"
    if colour and (array.dtype != np.uint8 or array.shape[0] != 3):
        raise SaveError(
            "save-channels", f"{name} was not saved", "NIfTI holds colours as three channels of 8 bit only",
            "Save it as .nrrd, or one channel at a time.",
        )  # fmt: skip
    if colour:
        array = np.ascontiguousarray(np.moveaxis(array, 0, -1))
    stored = store_grid(image.grid, image.stored_order)
    kept = kept_geometry(image, "nifti", stored)
    sizes = [*reversed(stored.shape)]
    if not colour and array.ndim > stored.ndim:
        sizes += [1] * (3 - stored.ndim) + [array.shape[0]]
    else:
        sizes += [1] * int(kept.get("trailing", 0))
    large = max(sizes) > np.iinfo(np.int16).max
    kind: Any = Nifti2Header if large or kept.get("version") == 2 else Nifti1Header
    header = kind()
    if colour:
        header["datatype"], header["bitpix"] = 128, 24
    else:
        header.set_data_dtype(array.dtype)
    header["dim"] = [len(sizes), *sizes, *[1] * (7 - len(sizes))]
    header["pixdim"][1 : stored.ndim + 1] = stored.spacing[::-1]
    _place(header, stored, kept)
    if isinstance(image, Volume) and image.leading_axis == "t":
        header["pixdim"][4] = image.time_step or 0.0
        header["xyzt_units"] = (int(header["xyzt_units"]) & 7) | (8 if image.time_step else 0)
    header["scl_slope"], header["scl_inter"] = 1.0, 0.0
    header["intent_code"] = _LABEL_INTENT if isinstance(image, Segmentation) else 0
    header["vox_offset"] = header.single_vox_offset
    header["magic"] = header.single_magic
    block = header.binaryblock + bytes(int(header.single_vox_offset) - len(header.binaryblock))
    if name.lower().endswith(".gz"):
        # No name and no time inside: the same mask gives the same bytes.
        with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0, compresslevel=4) as stream:
            stream.write(block)
            stream.write(little_endian_bytes(array))
    else:
        file.write(block)
        file.write(little_endian_bytes(array))


def _version(raw: bytes) -> int:
    order: Literal["little", "big"]
    for order in ("little", "big"):
        size = int.from_bytes(raw[:4], order)
        if size == _NIFTI1_BYTES and raw[344:347] in (b"n+1", b"ni1"):
            return 1
        if size == _NIFTI2_BYTES and raw[4:7] in (b"n+2", b"ni2"):
            return 2
    return 0


def _fields(path: Path, raw: bytes, version: int) -> Any:
    """The header as a numpy record in the file's byte order."""
    from nibabel.nifti1 import header_dtype as nifti1
    from nibabel.nifti2 import header_dtype as nifti2

    layout = nifti1 if version == 1 else nifti2
    if len(raw) < layout.itemsize:
        raise unreadable("cut-short", path, "it is cut short within its header")
    if raw[344:346] == b"ni" if version == 1 else raw[4:6] == b"ni":
        raise unreadable("pair", path, "its voxels lie in another file", "Convert the pair to one .nii file.")
    order: Literal["<", ">"] = "<" if int.from_bytes(raw[:4], "little") == layout.itemsize else ">"
    return np.frombuffer(raw, layout.newbyteorder(order), count=1)[0]


def _offset(path: Path, fields: Any, version: int) -> int:
    first = 352 if version == 1 else 544
    offset = float(fields["vox_offset"])
    if offset == 0:
        return first
    if not math.isfinite(offset) or offset != int(offset) or not first <= offset <= first + _EXTENSION_BYTES:
        raise unreadable("offset", path, f"its header places the voxels at byte {offset:g}")
    return int(offset)


def _leading(path: Path, sizes: list[int]) -> tuple[str, int, int]:
    """Kind and length of the axis beyond the third, and how many of length 1 were dropped."""
    beyond = sizes[3:]
    longer = [(axis, n) for axis, n in enumerate(beyond) if n != 1]
    if not longer:
        return "", 1, len(beyond)
    if len(longer) > 1:
        raise unreadable("axes", path, f"it has {3 + len(beyond)} axes", "Save one time point or one channel.")
    axis, length = longer[0]
    return ("t" if axis == 0 else "c"), length, 0


def _load(path: Path, voxels: Voxels, options: ReadOptions, code: int) -> NDArray[Any]:
    array = read_voxels(path, voxels, options)
    return array[..., :3] if code == 2304 else array


# Numbers of damaged files overflow on the way to the check that refuses them.
@np.errstate(all="ignore")
def _grid(path: Path, fields: Any, shape: tuple[int, ...], options: ReadOptions) -> tuple[Grid, tuple[str, ...]]:
    unit = int(fields["xyzt_units"]) & 7
    factor = _MM_PER_UNIT.get(unit, 1.0)
    notes: tuple[str, ...] = ()
    if unit not in _MM_PER_UNIT:
        notes += ("The file names no unit of length; millimetres are assumed.",)
    ndim = len(shape)
    codes = {"sform": int(fields["sform_code"]), "qform": int(fields["qform_code"])}
    form = options.nifti_form
    if form == "auto":
        form = "sform" if codes["sform"] > 0 else "qform"
    if codes[form] <= 0:
        spacing = tuple(float(h) * factor for h in reversed(fields["pixdim"][1 : ndim + 1]))
        check_voxel_size(path, spacing)
        return Grid(shape, spacing), (*notes, "The file does not say how it lies in the patient.")
    affine = _form(fields, form)
    next_step = "Export it again."
    if form == "sform" and codes["qform"] > 0:
        next_step = "Its qform may be usable: nifti_form='qform' in Python."
    if form == "sform" and ndim == 2 and np.isfinite(affine).all() and not affine[:3, 2].any():
        affine[:3, 2] = np.cross(affine[:3, 0], affine[:3, 1])
    check_matrix(path, affine, next_step)
    affine[:3] *= factor
    if ndim == 2:
        affine[:3, 2] /= np.linalg.norm(affine[:3, 2])
    matrix = from_file_affine(affine, "RAS")
    spacing = tuple(float(h) for h in np.linalg.norm(matrix[:3, 3 - ndim : 3], axis=0))
    check_voxel_size(path, spacing)
    grid = Grid(shape, spacing, matrix, orientation_known=True)
    if min(codes.values()) > 0 and options.nifti_form == "auto":
        notes += _disagreement(grid, _form(fields, "qform"), factor)
    return grid, notes


def _form(fields: Any, form: str) -> NDArray[np.float64]:
    """One of the two affines in the unit of the file; NaN where its numbers are no rotation."""
    affine = np.eye(4)
    if form == "sform":
        # Through Python's floats: numpy warns when it casts those NaN that damaged files may hold.
        affine[:3] = [[float(value) for value in fields[key]] for key in _SFORM]
        return affine
    b, c, d = (float(fields[key]) for key in ("quatern_b", "quatern_c", "quatern_d"))
    rest = 1.0 - (b * b + c * c + d * d)
    # float32 rounding leaves the sum of squares a little above 1; more than that is no rotation.
    a = math.sqrt(max(rest, 0.0)) if rest > -1e-5 else math.nan
    if not math.isfinite(a):
        return np.full((4, 4), math.nan)
    norm = math.sqrt(a * a + b * b + c * c + d * d)
    a, b, c, d = (part / norm for part in (a, b, c, d))
    affine[:3, :3] = [
        [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
        [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
        [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
    ]
    steps = np.array([float(h) for h in fields["pixdim"][1:4]])
    if int(fields["dim"][0]) == 2 and steps[2] == 0:
        steps[2] = 1.0
    if float(fields["pixdim"][0]) < 0:
        steps[2] = -steps[2]
    affine[:3, :3] *= steps
    affine[:3, 3] = [fields["qoffset_x"], fields["qoffset_y"], fields["qoffset_z"]]
    return affine


def _disagreement(grid: Grid, qform: NDArray[np.float64], factor: float) -> tuple[str, ...]:
    qform[:3] *= factor
    lengths = np.linalg.norm(qform[:3, :3], axis=0)
    if not np.isfinite(qform).all() or (lengths == 0).any():
        return ("The qform of the file is damaged; its sform is used.",)
    other = from_file_affine(qform, "RAS")
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in grid.shape], indexing="ij")).reshape(grid.ndim, -1).T
    placed = corners @ other[:3, 3 - grid.ndim : 3].T + other[:3, 3]
    apart = float(np.linalg.norm(placed - grid.to_patient(corners), axis=1).max())
    if apart <= 0.01 * min(grid.spacing):
        return ()
    first = grid.index_to_patient[:3, :3] / np.linalg.norm(grid.index_to_patient[:3, :3], axis=0)
    turn = first.T @ (other[:3, :3] / np.linalg.norm(other[:3, :3], axis=0))
    degrees = float(np.degrees(np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1))))
    return (f"sform and qform differ by {degrees:.1f} degrees and up to {apart:.1f} mm; the sform is used.",)


def _scale(path: Path, fields: Any) -> tuple[float, float] | None:
    slope, intercept = float(fields["scl_slope"]), float(fields["scl_inter"])
    if slope == 0 or (math.isnan(slope) and math.isnan(intercept)):
        return None
    if not (math.isfinite(slope) and math.isfinite(intercept)):
        raise unreadable("scale", path, "its scale for the values is not a finite number", "Export it again.")
    return None if (slope, intercept) == (1.0, 0.0) else (slope, intercept)


def _time_step(fields: Any, lead: str) -> float | None:
    unit = int(fields["xyzt_units"]) & 56
    step = float(fields["pixdim"][4]) * _SECONDS_PER_UNIT.get(unit, 0.0)
    return step if lead == "t" and math.isfinite(step) and step > 0 else None


def _geometry(fields: Any, version: int, trailing: int, options: ReadOptions) -> dict[str, Any]:
    numbers = {key: float(fields[key]) for key in _QFORM}
    return {
        # A file with a damaged form is no pattern for others.
        "format": "nifti" if options.nifti_form == "auto" else "",
        "version": version,
        "trailing": trailing,
        "sform_code": int(fields["sform_code"]),
        "qform_code": int(fields["qform_code"]),
        "xyzt_units": int(fields["xyzt_units"]) & 7,
        "pixdim": [float(h) for h in fields["pixdim"][:4]],
        "sform": [[float(v) for v in fields[key]] for key in _SFORM],
        **numbers,
    }


_SFORM = ("srow_x", "srow_y", "srow_z")
_QFORM = ("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z")


def _place(header: Any, stored: Grid, kept: Mapping[str, Any]) -> None:
    """Fill in both forms: those of the source where the grid is the source's, else new ones."""
    if kept:
        _copy_forms(header, kept)
        return
    header["xyzt_units"] = 2
    header["pixdim"][:4] = 1.0
    header["pixdim"][1 : stored.ndim + 1] = stored.spacing[::-1]
    header["sform_code"] = header["qform_code"] = 0
    if not stored.orientation_known:
        return
    affine = to_file_affine(stored.index_to_patient, "RAS")
    header.set_sform(affine, code=_SCANNER)
    if not stored.sheared:
        header.set_qform(affine, code=_SCANNER)
    header["pixdim"][1 : stored.ndim + 1] = stored.spacing[::-1]


def _copy_forms(header: Any, kept: Mapping[str, Any]) -> None:
    for key in ("sform_code", "qform_code", "xyzt_units", *_QFORM):
        header[key] = kept[key]
    for key, row in zip(_SFORM, kept["sform"], strict=True):
        header[key] = row
    header["pixdim"][:4] = kept["pixdim"]
