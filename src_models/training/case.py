"""A case: one image with its labels and the patient it belongs to, read only when it is asked for; and a data set.

Nothing but names is held until `Case.volume` or `Case.segmentation` is called, so a data set may be larger than the
memory and a case may be sent to another process. Files are presented in canonical orientation (`src_models.files`), so
one case stored in two orientations gives one array.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from src_models.errors import FileError, GeometryError, InputError
from src_models.files import ReadOptions, describe, read_segmentation, read_volume
from src_models.files.gate import shown
from src_models.geometry import Grid, Segmentation, Volume
from src_models.preprocessing.checks import NanRule
from src_models.weights.card import Label, TrainingData

GRID_TOLERANCE = 1e-3
"""Largest difference of an entry of two index-to-patient matrices that are taken for the same, mm."""


@dataclass(frozen=True, eq=False)
class Case:
    """One labelled image.

    Attributes
    ----------
    id : str
        Unique in its data set.
    group : str
        The patient: all cases of a group are on one side of every fold.
    load_volume, load_segmentation : callable
        Read the image, of any number of channels, and its labels.
    label_map : mapping of int to int
        Label values of the file that become others.
    files : tuple of Path
        What is read, labels last; empty for arrays.
    fix_geometry : bool
        Bring labels that lie elsewhere onto the grid of the image (nearest neighbour in the patient's space).
    nan : str
        ``"fill"``: values of the image that are no numbers are taken for its smallest value; see `checks.finite`.
    """

    id: str
    group: str
    load_volume: Callable[[], Volume]
    load_segmentation: Callable[[], Segmentation]
    label_map: Mapping[int, int] = field(default_factory=dict)
    files: tuple[Path, ...] = ()
    fix_geometry: bool = False
    nan: NanRule = "error"

    def volume(self) -> Volume:
        """The image with channels in front: (C, z, y, x) or (C, y, x), spacing in mm in ``grid.spacing``.

        Raises
        ------
        FileError
            Where a file cannot be read.
        """
        volume = self.load_volume()
        lead = volume.array.ndim - volume.grid.ndim
        array = volume.array[None] if lead == 0 else volume.array
        if array.ndim != volume.grid.ndim + 1:
            raise InputError("case-axes", f"The image of case {shown(self.id)} has too many axes", f"{array.shape}", "")
        return replace(volume, array=array, leading_axis="c")

    def segmentation(self, grid: Grid | None = None) -> Segmentation:
        """The labels, (z, y, x) or (y, x), with `label_map` applied.

        Parameters
        ----------
        grid : Grid, optional
            Of the image, on which they must lie.

        Raises
        ------
        FileError, GeometryError
            Where the file cannot be read, holds fractions, or lies on another grid.
        """
        found = self.load_segmentation()
        labels = found.labels
        if labels.ndim == found.grid.ndim + 1 and labels.shape[0] == 1:
            labels = labels[0]
        if labels.ndim != found.grid.ndim:
            raise InputError(
                "labels-frames", f"The labels of case {shown(self.id)} have several frames", "", "Give one frame."
            )
        found = replace(found, labels=mapped(labels, self.label_map))
        return found if grid is None else on_grid(found, grid, self)

    def read(self) -> tuple[Volume, Segmentation]:
        """Image and labels on one grid."""
        volume = self.volume()
        return volume, self.segmentation(volume.grid)


@dataclass(frozen=True, eq=False)
class DataSet:
    """Cases with one kind of image and one list of labels.

    Attributes
    ----------
    name : str
        Of the folder or the recipe.
    cases : tuple of Case
        Sorted by id.
    channels : tuple of str
        Names of the input channels; they choose the normalisation (`ct`, ...).
    labels : tuple of Label
        With a softmax head the background first; with a sigmoid head the regions.
    head : str
        ``"softmax"`` or ``"sigmoid"``.
    ignore_label : int or None
        Voxels with it count neither for nor against.
    grouped : bool
        Whether patients were given; else each case is its own.
    notes : tuple of str
        What was decided or left out, in words.
    about : TrainingData
        Source, citation and licence, where known.
    """

    name: str
    cases: tuple[Case, ...]
    channels: tuple[str, ...]
    labels: tuple[Label, ...]
    head: Literal["softmax", "sigmoid"] = "softmax"
    ignore_label: int | None = None
    grouped: bool = False
    notes: tuple[str, ...] = ()
    about: TrainingData = field(default_factory=TrainingData)

    @property
    def groups(self) -> dict[str, str]:
        """Case id to group."""
        return {case.id: case.group for case in self.cases}

    @property
    def declared_values(self) -> tuple[int, ...]:
        """Every value a label image may hold, background and ignore label included."""
        values = {0} | {v for label in self.labels for v in (label.members or (label.value,))}
        return tuple(sorted(values | ({self.ignore_label} if self.ignore_label is not None else set())))

    def case(self, name: str) -> Case:
        """The case of this id.

        Raises
        ------
        InputError
            Where there is none.
        """
        for case in self.cases:
            if case.id == name:
                return case
        raise InputError("case-missing", f"The data set has no case {shown(name)}", "", "Check the name.")


def case_from_files(
    name: str, images: tuple[Path, ...], labels: Path, group: str = "", label_map: Mapping[int, int] | None = None
) -> Case:
    """A case from one image file per channel (or one with all of them) and a label file."""
    return Case(
        name,
        group or name,
        partial(read_channels, images),
        partial(_read_labels, labels, images[0]),
        dict(label_map or {}),
        (*images, labels),
    )


def case_from_arrays(
    name: str,
    image: NDArray[Any],
    labels: NDArray[Any],
    spacing: tuple[float, ...] | None = None,
    group: str = "",
) -> Case:
    """A case from arrays.

    Parameters
    ----------
    name : str
        Its id.
    image : ndarray of shape (z, y, x), (y, x), or these with channels in front
        Channels are there where it has one axis more than the labels.
    labels : ndarray of shape (z, y, x) or (y, x)
        Whole numbers.
    spacing : tuple of float, optional
        mm in the order of the axes of the labels; without it the voxel size counts as unknown.
    group : str
        The patient; the case itself by default.

    Raises
    ------
    InputError, GeometryError
        Where the shapes do not fit, or labels are fractions.
    """
    from src_models.files.header import as_labels

    whole, reason = as_labels(np.asarray(labels))
    if whole is None:
        raise InputError(
            "labels-fraction", f"The labels of {shown(name)} are not whole numbers", reason, "Give label numbers."
        )
    if 0 in whole.shape:
        raise InputError("case-empty", f"The image of case {shown(name)} has no voxels", "", "Leave it out.")
    grid = Grid(whole.shape, spacing or (1.0,) * whole.ndim, spacing_known=spacing is not None)
    image = np.asarray(image)
    if image.shape[image.ndim - whole.ndim :] != whole.shape or image.ndim - whole.ndim not in (0, 1):
        raise InputError(
            "case-shapes",
            f"Image and labels of {shown(name)} differ in shape",
            f"{image.shape} and {whole.shape}",
            "Give both on one grid.",
        )
    volume = Volume(image, grid, leading_axis="c" if image.ndim > whole.ndim else "")
    return Case(name, group or name, partial(_same, volume), partial(_same, Segmentation(whole, grid)))


def read_channels(paths: tuple[Path, ...]) -> Volume:
    """Several files of one channel each as one image (C, z, y, x), or one file with all channels.

    Raises
    ------
    FileError, GeometryError
        Where one cannot be read, or they lie on different grids.
    """
    first = read_volume(paths[0])
    if len(paths) == 1:
        array = first.array if first.array.ndim > first.grid.ndim else first.array[None]
        return replace(first, array=array, leading_axis="c")
    arrays = []
    for path in paths:
        volume = first if path == paths[0] else read_volume(path)
        array = volume.array
        if array.ndim == volume.grid.ndim + 1 and array.shape[0] == 1:
            array = array[0]
        if array.ndim != volume.grid.ndim:
            raise FileError(
                "channel-frames", f"{shown(path.name)} holds several frames", "it is one channel of several files", ""
            )
        why = difference(volume.grid, first.grid)
        if why:
            raise GeometryError(
                "channels-grid",
                f"{shown(path.name)} and {shown(paths[0].name)} lie on different grids",
                why,
                "Resample the channels of a case to one grid.",
            )
        arrays.append(array)
    return replace(first, array=np.stack(arrays), leading_axis="c")


def difference(a: Grid, b: Grid) -> str:
    """How two grids differ, in words; "" where shape, spacing and position agree within 1e-3."""
    if a.shape != b.shape:
        return f"{' x '.join(map(str, a.shape))} voxels against {' x '.join(map(str, b.shape))}"
    if a.spacing_known and b.spacing_known and not np.allclose(a.spacing, b.spacing, rtol=0, atol=GRID_TOLERANCE):
        return f"a voxel size of {_numbers(a.spacing)} against {_numbers(b.spacing)} mm"
    if a.orientation_known and b.orientation_known:
        apart = float(np.abs(a.index_to_patient - b.index_to_patient).max())
        if apart > GRID_TOLERANCE:
            return f"their positions differ by up to {apart:.3g} mm"
    return ""


def on_grid(found: Segmentation, grid: Grid, case: Case) -> Segmentation:
    """Labels on the grid of their image, refused or (`Case.fix_geometry`) resampled where they lie elsewhere."""
    why = difference(found.grid, grid)
    if not why:
        return replace(found, grid=grid)
    placed = found.grid.orientation_known and grid.orientation_known and found.grid.ndim == grid.ndim == 3
    if not case.fix_geometry or not (placed or found.grid.shape == grid.shape):
        # images and labels are mostly called alike: the name of the folder tells them apart
        paths = case.files[-1:] + case.files[:1]
        names = [shown(f"{path.absolute().parent.name}/{path.name}") for path in paths] or ["The labels", "the image"]
        raise GeometryError(
            "case-grid",
            f"{names[0]} and {names[-1]} of case {shown(case.id)} lie on different grids",
            why,
            "Export them on one grid, or resample the labels with --fix-geometry." if placed else "Export them again.",
        )
    if not placed:
        return replace(found, grid=grid)
    return replace(found, labels=resampled(found, grid), grid=grid)


def mapped(labels: NDArray[Any], label_map: Mapping[int, int]) -> NDArray[Any]:
    """Labels with some values replaced, all at once: a swap is possible."""
    if not label_map:
        return labels
    high = max(int(labels.max(initial=0)), *label_map.values())
    signed = np.min_scalar_type(-max(high, 1)) if labels.dtype.kind == "i" else np.min_scalar_type(high)
    result = labels.astype(np.promote_types(labels.dtype, signed), copy=True)
    for old, new in label_map.items():
        result[labels == old] = new
    return result


def resampled(found: Segmentation, grid: Grid) -> NDArray[Any]:
    """Labels on another grid, by the nearest voxel; background outside of their own."""
    from scipy.ndimage import affine_transform

    between = np.linalg.inv(found.grid.index_to_patient) @ grid.index_to_patient
    moved: NDArray[Any] = affine_transform(
        found.labels, between[:3, :3], between[:3, 3], output_shape=grid.shape, order=0, mode="constant", cval=0
    )
    return moved


def _read_labels(path: Path, image: Path) -> Segmentation:
    """Labels of an image. Empty masks grow more than 1000-fold when decompressed: the image says how far they may."""
    voxels = math.prod(describe(image).shape)
    return read_segmentation(path, ReadOptions(allow_expansion=True, max_bytes=max(64 * voxels, 2**20)))


def _same(value: Any) -> Any:
    return value


def _numbers(values: tuple[float, ...]) -> str:
    return " x ".join(f"{value:.4g}" for value in values)
