"""What a command line names: images, masks on the image's grid, points and regions.

Points and regions are typed in the order in which the file stores its axes, slowest first, because that is what other
programs print; here, at the border, they are turned into the order in which arrays are presented.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from src_models.errors import GeometryError, InputError
from src_models.geometry import Grid, Segmentation, StoredOrder, Volume, same_grid
from src_models.levelset.initial import Seeds, Sphere

if TYPE_CHECKING:
    from src_models.files import ReadOptions

_DECIMALS = 9
"""Decimals of a place in mm: with fewer bits than a float has, turning an axis round and back gives the same number."""


@dataclass(frozen=True, eq=False)
class Frame:
    """The part of a file that a run works on.

    Attributes
    ----------
    volume : Volume
        The whole file.
    index : int or None
        Which time point or channel, where the file has several.
    box : tuple of slice or int
        The region of interest, in presented order: slices with start and stop; a number for one slice of a volume.
    """

    volume: Volume
    index: int | None
    box: tuple[slice | int, ...]

    @property
    def array(self) -> NDArray[Any]:
        """The voxels of the region."""
        return self._whole[self.box]

    @property
    def spacing(self) -> tuple[float, ...]:
        """mm per axis of `array`."""
        parts = zip(self.volume.grid.spacing, self.box, strict=True)
        return tuple(h for h, part in parts if isinstance(part, slice))

    @property
    def region(self) -> list[int | tuple[int, int]] | None:
        """The region as a record keeps it; None for all of a file."""
        whole = all(part == slice(0, n) for part, n in zip(self.box, self.volume.grid.shape, strict=True))
        if whole and self.index is None:
            return None
        lead: list[int | tuple[int, int]] = [] if self.index is None else [self.index]
        return lead + [(part.start, part.stop) if isinstance(part, slice) else part for part in self.box]

    @property
    def _whole(self) -> NDArray[Any]:
        return self.volume.array if self.index is None else self.volume.array[self.index]

    def paste(self, part: NDArray[Any], outside: float = 0) -> NDArray[Any]:
        """An array over the whole grid that holds `part` in the region and `outside` elsewhere."""
        whole = np.full(self.volume.grid.shape, outside, part.dtype)
        whole[self.box] = part
        return whole


def add_read_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of every command that reads images."""
    reading = parser.add_argument_group("reading")
    reading.add_argument(
        "--allow-expansion",
        action="store_true",
        help="Read files that grow more than 1000-fold when decompressed; files that do are refused otherwise.",
    )
    reading.add_argument(
        "--nifti-form",
        choices=("auto", "sform", "qform"),
        default="auto",
        help="Which position of NIfTI files to take. Default: auto, the sform where it is set.",
    )


def read_options(arguments: argparse.Namespace) -> ReadOptions:
    """What the flags of `add_read_flags` say."""
    from src_models.files import ReadOptions

    return ReadOptions(allow_expansion=arguments.allow_expansion, nifti_form=arguments.nifti_form)


def read_frame(
    path: Path,
    reading: ReadOptions,
    *,
    time_point: int | None = None,
    channel: int | None = None,
    crop: str | None = None,
) -> Frame:
    """Read an image and choose the time point or channel and the region of interest.

    Raises
    ------
    InputError, FileError, GeometryError
        One sentence each.
    """
    from src_models.files import read_volume

    volume = read_volume(path, reading)
    index = None
    if volume.array.ndim > volume.grid.ndim:
        of_time = volume.leading_axis != "c"
        index = _choose(path, volume.array.shape[0], of_time, time_point if of_time else channel)
    elif time_point is not None or channel is not None:
        flag = "--time-point" if channel is None else "--channel"
        raise InputError("frame-none", f"{path.name} holds a single image", "", f"Leave out {flag}.")
    return Frame(volume, index, read_box(crop, volume.grid, volume.stored_order))


def frame_of_region(path: Path, reading: ReadOptions, region: Sequence[int | tuple[int, int]] | None) -> Frame:
    """The frame of a file that a record speaks of.

    Raises
    ------
    InputError
        Where the file has no such region.
    """
    from src_models.files import read_volume

    volume = read_volume(path, reading)
    shape = volume.array.shape
    if region is None:
        region = [(0, n) for n in shape]
    fits = len(region) == len(shape) and all(
        0 <= part < n if isinstance(part, int) else 0 <= part[0] < part[1] <= n
        for part, n in zip(region, shape, strict=False)
    )
    several = len(shape) > volume.grid.ndim
    if not fits or (several and not isinstance(region[0], int)):
        raise InputError(
            "record-region",
            f"{path.name} has no such region as the record speaks of",
            f"it has {_times(shape)} voxels",
            "Give the original image with --source.",
        )
    box = tuple(part if isinstance(part, int) else slice(*part) for part in region)
    index = box[0] if several else None
    return Frame(volume, index if isinstance(index, int) else None, box[1:] if several else box)


def _choose(path: Path, count: int, of_time: bool, wanted: int | None) -> int:
    name, flag = ("time points", "--time-point") if of_time else ("channels", "--channel")
    if wanted is None and count > 1:
        raise InputError("frame-choice", f"{path.name} has {count} {name}", "", f"Choose one with {flag} N.")
    index = wanted or 0
    if not 0 <= index < count:
        why = f"there are {count}, counted from 0"
        raise InputError("frame-outside", f"{path.name} has no frame {index}", why, f"Choose another with {flag}.")
    return index


def read_mask(path: Path, frame: Frame, reading: ReadOptions, what: str, label: int | None = None) -> NDArray[np.bool_]:
    """The voxels of a mask file inside the region of a frame.

    Parameters
    ----------
    path : Path
        A mask or labels on the grid of the image.
    frame : Frame
        The image.
    reading : ReadOptions
        What the reader may do.
    what : str
        What the mask is, for messages, such as ``"seeds"``.
    label : int, optional
        The label that counts; by default every one but 0.

    Raises
    ------
    GeometryError
        Where it lies on another grid.
    InputError
        Where nothing is marked.
    """
    labels = _read_labels(path, frame, reading, what)
    inside = labels != 0 if label is None else labels == label
    if not inside.any():
        there = np.unique(labels)[:8].tolist()
        why = "no voxel is marked" if label is None else f"no voxel has label {label}; there are {there}"
        raise InputError(
            f"{what}-empty", f"The {what} in {path.name} are empty", why, f"Give {what} with marked voxels."
        )
    part = np.asarray(inside[frame.box])
    if not part.any():
        raise InputError(f"{what}-outside", f"The {what} in {path.name} lie outside the region", "", "Enlarge --crop.")
    return part


def read_labels(path: Path, frame: Frame, reading: ReadOptions, what: str) -> NDArray[Any]:
    """The labels of a file inside the region of a frame, as they are.

    Raises
    ------
    GeometryError
        Where it lies on another grid.
    """
    return np.asarray(_read_labels(path, frame, reading, what)[frame.box])


def read_speed_image(path: Path, frame: Frame, reading: ReadOptions) -> NDArray[Any]:
    """A speed image on the grid of the image, inside the region of a frame.

    Raises
    ------
    GeometryError, InputError
        Where it lies on another grid or has several frames.
    """
    from src_models.files import read_volume

    volume = read_volume(path, reading)
    check_grid(volume.grid, frame.volume.grid, path, "speed image")
    array = volume.array
    if array.ndim > volume.grid.ndim:
        if frame.index is None or array.shape[0] <= frame.index:
            raise InputError(
                "speed-frames", f"The speed image {path.name} has several frames", "", "Give it one frame."
            )
        array = array[frame.index]
    return np.asarray(array[frame.box])


def check_grid(grid: Grid, image: Grid, path: Path, what: str) -> None:
    """Refuse what does not lie on the grid of the image.

    Raises
    ------
    GeometryError
        Saying how the two differ.
    """
    if grid.shape != image.shape:
        why = f"{_times(grid.shape)} voxels against {_times(image.shape)}"
    elif not same_grid(grid, image):
        why = "same number of voxels, but another place or voxel size"
    else:
        return
    raise GeometryError(
        f"{what.replace(' ', '-')}-grid",
        f"The {what} in {path.name} and the image lie on different grids",
        why,
        f"Resample the {what} to the grid of the image.",
    )


def read_points(texts: Sequence[str], frame: Frame) -> Seeds:
    """Bubbles from ``z,y,x:radius`` in mm, axes as the file stores them, from the centre of its first voxel.

    Raises
    ------
    InputError
        Where the text cannot be read or the point lies outside the image or its region.
    """
    return Seeds(spheres=tuple(_sphere(text, frame) for text in texts))


def read_clicks(texts: Sequence[str], volume: Volume) -> tuple[tuple[float, ...], ...]:
    """Points ``z,y,x`` in mm as `read_points` takes them, without a radius, in the axes of the presented array.

    Raises
    ------
    InputError
        Where one cannot be read or lies outside the image.
    """
    frame = Frame(volume, None, tuple(slice(0, n) for n in volume.grid.shape))
    for text in texts:
        if ":" in text:
            raise InputError(
                "point",
                f"--point {text} cannot be read",
                "the model decides the radius",
                "Leave out what follows the colon.",
            )
    return tuple(_place(text, text, frame, "80,120", "") for text in texts)


def _sphere(text: str, frame: Frame) -> Sphere:
    where, _, size = text.partition(":")
    try:
        radius = float(size)
    except ValueError:
        radius = 0.0
    if not (np.isfinite(radius) and radius > 0):
        where = ""
    centre = _place(where, text, frame, "80,120:10", " and a radius above 0 in mm")
    return Sphere(centre=centre, radius=radius)


def _place(where: str, text: str, frame: Frame, example: str, more: str) -> tuple[float, ...]:
    """The place in mm, axes as in the presented region, that `where` of the option `text` says."""
    grid, order = frame.volume.grid, frame.volume.stored_order
    unit = "mm" if grid.spacing_known else "px"
    try:
        point = [float(part) for part in where.split(",")]
    except ValueError:
        point = []
    if len(point) != grid.ndim or not np.isfinite(point).all():
        raise InputError(
            "point",
            f"--point {text} cannot be read",
            f"it needs {grid.ndim} coordinates{more or f' in {unit}'}",
            f"Write it like this: --point {'40,' * (grid.ndim - 2)}{example}",
        )
    stored_shape = [grid.shape[order.axes.index(axis)] for axis in range(grid.ndim)]
    stored_spacing = [grid.spacing[order.axes.index(axis)] for axis in range(grid.ndim)]
    for axis, (x, n, h) in enumerate(zip(point, stored_shape, stored_spacing, strict=True)):
        if not -0.5 * h <= x <= (n - 0.5) * h:
            raise InputError(
                "point-outside",
                f"--point {text} lies outside the image",
                f"coordinate {axis + 1} runs from 0 to {(n - 1) * h:g} {unit}",
                "Move the point into the structure.",
            )
    centre = []
    for x, part, h in zip(present_point(point, grid, order), frame.box, grid.spacing, strict=True):
        low, high = (part.start, part.stop) if isinstance(part, slice) else (part, part + 1)
        if not (low - 0.5) * h <= x <= (high - 0.5) * h:
            raise InputError(
                "point-outside-crop", f"--point {text} lies outside the region of --crop", "", "Enlarge --crop."
            )
        centre.append(round(x - low * h, _DECIMALS))
    return tuple(centre)


def present_point(point: Sequence[float], grid: Grid, order: StoredOrder) -> tuple[float, ...]:
    """A place in mm along the stored axes as mm along the axes of the presented array, whose grid this is."""
    return tuple(
        round((n - 1) * h - point[axis], _DECIMALS) if flip else float(point[axis])
        for axis, flip, n, h in zip(order.axes, order.flips, grid.shape, grid.spacing, strict=True)
    )


def read_box(text: str | None, grid: Grid, order: StoredOrder) -> tuple[slice | int, ...]:
    """The presented region of ``z0:z1,y0:y1,x0:x1``: voxels along the stored axes, the end not included.

    Either end may be left out. Without a text it is the whole grid.

    Raises
    ------
    InputError
        Where the text cannot be read or the region has no voxel in the image.
    """
    if text is None:
        return tuple(slice(0, n) for n in grid.shape)
    parts = [re.fullmatch(r"(\d*):(\d*)", part.strip()) for part in text.split(",")]
    if len(parts) != grid.ndim or not all(parts):
        raise InputError(
            "crop",
            f"--crop {text} cannot be read",
            f"it needs {grid.ndim} ranges of voxels",
            "Write it like this: --crop " + ",".join(["10:60", ":", "100:300"][-grid.ndim :]),
        )
    box: list[slice | int] = []
    for axis, flip, n in zip(order.axes, order.flips, grid.shape, strict=True):
        match = parts[axis]
        first, last = (match.group(1), match.group(2)) if match else ("", "")
        start, stop = int(first or 0), int(last or n)
        if not 0 <= start < stop <= n:
            raise InputError(
                "crop-outside",
                f"--crop {text} does not fit the image",
                f"range {axis + 1} must lie within 0:{n}",
                "Choose a smaller region.",
            )
        box.append(slice(n - stop, n - start) if flip else slice(start, stop))
    return tuple(box)


def _read_labels(path: Path, frame: Frame, reading: ReadOptions, what: str) -> NDArray[Any]:
    """The labels of a file on the whole grid of a frame."""
    from src_models.files import read_segmentation

    found = read_segmentation(path, reading, like=frame.volume.grid)
    check_grid(found.grid, frame.volume.grid, path, what)
    return _labels_of_frame(found, frame, path)


def _labels_of_frame(found: Segmentation, frame: Frame, path: Path) -> NDArray[Any]:
    if found.labels.ndim == found.grid.ndim:
        return found.labels
    if found.labels.shape[0] == 1:
        return np.asarray(found.labels[0])
    if frame.index is None or frame.index >= found.labels.shape[0]:
        raise InputError("mask-frames", f"{path.name} has several frames", "the image has not", "Give one frame.")
    return np.asarray(found.labels[frame.index])


def _times(shape: Sequence[int]) -> str:
    return " x ".join(str(n) for n in shape)
