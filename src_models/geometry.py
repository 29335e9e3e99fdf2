"""Arrays with their place in the patient: `Grid`, `Volume`, `Segmentation`. The currency of the house.

Array axes are (z, y, x), or (y, x) for a picture; spacing is in mm in the same order. ``index_to_patient`` maps array
indices to LPS mm (x towards the patient's Left, y towards Posterior, z towards Superior). This module alone knows the
flip between RAS and LPS and the change between array order and the x-y-z order of files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from src_models.errors import GeometryError

Space = Literal["LPS", "RAS", "LAS"]
"""The worlds that files use, by the side each axis grows towards."""

_SIGNS_TO_LPS: dict[Space, tuple[float, float, float]] = {
    "LPS": (1.0, 1.0, 1.0),
    "RAS": (-1.0, -1.0, 1.0),
    "LAS": (1.0, -1.0, 1.0),
}
# Rows: what the presented axes z, y, x grow towards, in LPS: Inferior, Posterior, Left.
_PRESENTED = np.array([[0.0, 0.0, -1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
_LETTERS = (("L", "R"), ("P", "A"), ("S", "I"))
_TOWARDS = (("left", "right"), ("back", "front"), ("head", "feet"))
_PLANES = ("Sagittal", "Coronal", "Axial")
# One degree: below it a tilt is neither seen on a screen nor meant by whoever set up the scan.
_TILT_DEGREES = 1.0


@dataclass(frozen=True)
class StoredOrder:
    """How the array that is presented relates to the array in the file (file order slowest axis first).

    Attributes
    ----------
    axes : tuple of int
        ``presented axis k = stored axis axes[k]``.
    flips : tuple of bool
        Whether presented axis k runs against its stored axis.
    """

    axes: tuple[int, ...]
    flips: tuple[bool, ...]

    @classmethod
    def identity(cls, ndim: int) -> StoredOrder:
        """The order that changes nothing."""
        return cls(tuple(range(ndim)), (False,) * ndim)

    def present(self, stored: NDArray[Any]) -> NDArray[Any]:
        """A view of the stored array in presented order; leading axes (time, channel) stay in front."""
        lead = stored.ndim - len(self.axes)
        view = stored.transpose(*range(lead), *(lead + axis for axis in self.axes))
        return view[self._flipping(lead)]

    def store(self, presented: NDArray[Any]) -> NDArray[Any]:
        """A view of the presented array in the file's order: the inverse of `present`."""
        lead = presented.ndim - len(self.axes)
        view = presented[self._flipping(lead)]
        return view.transpose(*range(lead), *(lead + self.axes.index(axis) for axis in range(len(self.axes))))

    def of_axes(self, kept: Sequence[int]) -> StoredOrder:
        """The order of some of the presented axes alone, as in a slice, counted from 0 again."""
        ranks = sorted(self.axes[k] for k in kept)
        return StoredOrder(tuple(ranks.index(self.axes[k]) for k in kept), tuple(self.flips[k] for k in kept))

    def present_index(self, stored: Sequence[float], shape: Sequence[int]) -> tuple[float, ...]:
        """Where a voxel of the stored array lies in the presented array of this shape; also between voxels."""
        moved = (stored[axis] for axis in self.axes)
        return tuple((n - 1) - i if flip else i for i, n, flip in zip(moved, shape, self.flips, strict=True))

    def _flipping(self, lead: int) -> tuple[slice, ...]:
        return (slice(None),) * lead + tuple(slice(None, None, -1 if flip else 1) for flip in self.flips)


@dataclass(frozen=True, eq=False)
class Grid:
    """Shape, voxel size and place of an array.

    Parameters
    ----------
    shape : tuple of int
        (z, y, x), or (y, x) for a picture.
    spacing : tuple of float
        mm, in the order of `shape`.
    index_to_patient : ndarray of shape (4, 4), optional
        Array indices (z, y, x, 1) to LPS mm (x, y, z, 1). For a picture the first column is a unit normal. Without it
        the grid lies at the origin along the axes and `orientation_known` must be False.
    orientation_known : bool
        False where only the spacing is known: then no side of the patient may be named.
    spacing_known : bool
        False where voxels have no size in mm; spacing is then 1 per voxel and lengths are told in px.

    Raises
    ------
    GeometryError
        Where the numbers cannot be a place: spacing that is not positive, a singular or infinite matrix.
    """

    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    index_to_patient: NDArray[np.float64] = field(default=None)  # type: ignore[arg-type]
    orientation_known: bool = False
    spacing_known: bool = True

    def __post_init__(self) -> None:
        if len(self.shape) not in (2, 3) or len(self.shape) != len(self.spacing):
            raise GeometryError(
                "grid-axes",
                f"A grid needs 2 or 3 axes and one spacing for each, got shape {self.shape} and spacing {self.spacing}",
                next_step="Give one value in mm per array axis, in array order.",
            )
        if any(n < 1 for n in self.shape):
            raise GeometryError(
                "grid-empty", f"A grid of shape {self.shape} holds no voxels", next_step="Give at least one per axis."
            )
        check_spacing(self.spacing, len(self.shape))
        if self.index_to_patient is None:
            object.__setattr__(self, "index_to_patient", matrix_from_spacing(self.spacing))
        matrix = np.array(self.index_to_patient, dtype=np.float64)
        if matrix.shape != (4, 4) or not np.isfinite(matrix).all() or np.linalg.cond(matrix[:3, :3]) > 1e6:
            raise GeometryError(
                "grid-matrix",
                "The position of the image cannot be used",
                "its matrix is singular or holds values that are not numbers",
                "Export the image again, or load it without its position.",
            )
        lengths = np.linalg.norm(matrix[:3, 3 - self.ndim : 3], axis=0)
        if not np.allclose(lengths, self.spacing, rtol=1e-3, atol=0):
            raise GeometryError(
                "grid-spacing",
                f"The spacing {self.spacing} does not fit the position of the image",
                f"its matrix has steps of {', '.join(f'{h:g}' for h in lengths)} mm",
                "Give the lengths of the columns of the matrix.",
            )
        matrix.setflags(write=False)
        object.__setattr__(self, "index_to_patient", matrix)

    @property
    def ndim(self) -> int:
        """Number of spatial axes."""
        return len(self.shape)

    @property
    def letters(self) -> tuple[str, ...]:
        """The side of the patient that each axis grows towards: R, L, A, P, S or I; "?" where it is not known."""
        if not self.orientation_known:
            return ("?",) * self.ndim
        order = presenting_order(self.index_to_patient)
        letters = [""] * 3
        for presented, axis in enumerate(order.axes):
            patient_axis = 2 - presented
            letters[axis] = _LETTERS[patient_axis][int(self.index_to_patient[patient_axis, axis] < 0)]
        return tuple(letters[3 - self.ndim :])

    @property
    def sheared(self) -> bool:
        """Whether the axes are not perpendicular to each other, as in a CT with a tilted gantry."""
        directions = _directions(self.index_to_patient)
        return bool(np.abs(directions.T @ directions - np.eye(3)).max() > 1e-4)

    @property
    def tilt_degrees(self) -> float:
        """Largest angle between an axis of the array and the nearest axis of the patient."""
        fit = np.abs(_PRESENTED @ _directions(self.index_to_patient))
        order = presenting_order(self.index_to_patient)
        nearest = min(fit[k, order.axes[k]] for k in range(3))
        return float(np.degrees(np.arccos(min(1.0, nearest))))

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel in ml; right for sheared grids too. Only for 3D grids."""
        return float(abs(np.linalg.det(self.index_to_patient[:3, :3]))) / 1000.0

    def to_patient(self, indices: NDArray[np.float64]) -> NDArray[np.float64]:
        """LPS mm of array indices, shape (..., ndim) to (..., 3)."""
        points = np.asarray(indices, dtype=np.float64)
        matrix = self.index_to_patient[:3, 3 - self.ndim : 3]
        moved: NDArray[np.float64] = points @ matrix.T + self.index_to_patient[:3, 3]
        return moved

    def crop(self, box: tuple[slice, ...]) -> Grid:
        """The grid of a crop; each slice needs a start and a stop inside the shape and no step."""
        start = np.zeros(3)
        start[3 - self.ndim :] = [part.start for part in box]
        matrix = self.index_to_patient.copy()
        matrix[:3, 3] += matrix[:3, :3] @ start
        shape = tuple(part.stop - part.start for part in box)
        return replace(self, shape=shape, index_to_patient=matrix)


@dataclass(frozen=True, eq=False)
class Volume:
    """An image on its grid.

    Attributes
    ----------
    array : ndarray
        (z, y, x) or (y, x), with time or channels as one more axis in front.
    grid : Grid
        Of the spatial axes.
    leading_axis : str
        "" for none, "t" for time, "c" for channels.
    value_unit : str
        "HU" where values are Hounsfield units, else "".
    time_step : float or None
        Seconds between time points, where known.
    stored_order : StoredOrder
        How the array relates to the one in the file.
    header : mapping
        Fields of the file's header that a writer needs to keep the geometry exactly. No free text.
    source_hash : str
        SHA-256 of the voxels and geometry as read; "" for an array that came from nowhere.
    notes : tuple of str
        What the reader had to decide, in words.
    """

    array: NDArray[Any]
    grid: Grid
    leading_axis: str = ""
    value_unit: str = ""
    time_step: float | None = None
    stored_order: StoredOrder = field(default=None)  # type: ignore[assignment]
    header: Mapping[str, Any] = field(default_factory=dict)
    source_hash: str = ""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.stored_order is None:
            object.__setattr__(self, "stored_order", StoredOrder.identity(self.grid.ndim))
        if self.array.shape[self.array.ndim - self.grid.ndim :] != self.grid.shape:
            raise GeometryError(
                "volume-shape",
                f"The array of shape {self.array.shape} does not lie on a grid of shape {self.grid.shape}",
                next_step="Give the grid of this array.",
            )


@dataclass(frozen=True)
class Segment:
    """One labelled structure: its number in the array, its name and its colour (red, green, blue in [0, 1])."""

    value: int
    name: str = ""
    colour: tuple[float, float, float] | None = None


@dataclass(frozen=True, eq=False)
class Segmentation:
    """Labels on a grid: 0 is background, every other number a segment."""

    labels: NDArray[Any]
    grid: Grid
    segments: tuple[Segment, ...] = ()
    stored_order: StoredOrder = field(default=None)  # type: ignore[assignment]
    header: Mapping[str, Any] = field(default_factory=dict)
    source_hash: str = ""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.stored_order is None:
            object.__setattr__(self, "stored_order", StoredOrder.identity(self.grid.ndim))
        if self.labels.shape[self.labels.ndim - self.grid.ndim :] != self.grid.shape:
            raise GeometryError(
                "segmentation-shape",
                f"Labels of shape {self.labels.shape} do not lie on a grid of shape {self.grid.shape}",
                next_step="Give the grid of these labels.",
            )


def matrix_from_spacing(spacing: tuple[float, ...]) -> NDArray[np.float64]:
    """The index-to-patient matrix of a grid at the origin whose x, y, z axes point Left, Posterior, Superior."""
    full = (1.0,) * (3 - len(spacing)) + tuple(float(h) for h in spacing)
    matrix = np.zeros((4, 4))
    for axis in range(3):
        matrix[2 - axis, axis] = full[axis]
    matrix[3, 3] = 1.0
    return matrix


def check_spacing(spacing: tuple[float, ...], ndim: int) -> None:
    """Refuse a spacing that is missing, not finite, zero or negative.

    Raises
    ------
    GeometryError
        With the axis and the value that is wrong.
    """
    if len(spacing) != ndim:
        raise GeometryError(
            "spacing-count",
            f"The array has {ndim} axes but {len(spacing)} spacings were given",
            next_step="Give one value in mm per array axis, in array order (z, y, x).",
        )
    for axis, h in enumerate(spacing):
        if not np.isfinite(h) or h <= 0:
            raise GeometryError(
                "spacing-value",
                f"The voxel size along axis {axis} is {h:g} mm",
                "it must be above 0",
                "Correct the spacing, or declare the voxel size by hand.",
            )


def same_grid(a: Grid, b: Grid) -> bool:
    """Whether two grids have one shape and all corners within 1 % of the smallest spacing."""
    if a.shape != b.shape:
        return False
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in a.shape], indexing="ij")).reshape(a.ndim, -1).T
    apart = np.linalg.norm(a.to_patient(corners) - b.to_patient(corners), axis=-1).max()
    return bool(apart <= 0.01 * min(*a.spacing, *b.spacing))


def presenting_order(index_to_patient: NDArray[np.float64]) -> StoredOrder:
    """The order in which axes grow towards Inferior, Posterior and Left, by nearest axes.

    Parameters
    ----------
    index_to_patient : ndarray of shape (4, 4)
        Of the stored array, indices slowest axis first.

    Returns
    -------
    StoredOrder
        A tie goes to the earlier stored axis.
    """
    fit = _PRESENTED @ _directions(index_to_patient)
    order = max(_PERMUTATIONS, key=lambda p: round(sum(abs(fit[k, p[k]]) for k in range(3)), 9))
    return StoredOrder(order, tuple(bool(fit[k, order[k]] < 0) for k in range(3)))


_PERMUTATIONS: tuple[tuple[int, int, int], ...] = ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))


def present_grid(stored: Grid, order: StoredOrder) -> Grid:
    """The grid of the presented array, from the grid of the stored one."""
    matrix = stored.index_to_patient.copy()
    first = 3 - stored.ndim
    for k, (axis, flip) in enumerate(zip(order.axes, order.flips, strict=True)):
        step = stored.index_to_patient[:3, first + axis]
        matrix[:3, first + k] = -step if flip else step
        if flip:
            matrix[:3, 3] += step * (stored.shape[axis] - 1)
    return replace(
        stored,
        shape=tuple(stored.shape[axis] for axis in order.axes),
        spacing=tuple(stored.spacing[axis] for axis in order.axes),
        index_to_patient=matrix,
    )


def store_grid(presented: Grid, order: StoredOrder) -> Grid:
    """The grid of the stored array, from the grid of the presented one: the inverse of `present_grid`."""
    inverse_axes = tuple(order.axes.index(axis) for axis in range(presented.ndim))
    inverse = StoredOrder(inverse_axes, tuple(order.flips[axis] for axis in inverse_axes))
    return present_grid(presented, inverse)


def from_file_affine(affine: NDArray[np.float64], space: Space) -> NDArray[np.float64]:
    """The index-to-patient matrix from the affine of a file.

    Parameters
    ----------
    affine : ndarray of shape (4, 4)
        File indices, fastest axis first (i, j, k, 1), to mm in the world of the file.
    space : str
        The world of the file.
    """
    matrix = np.array(affine, dtype=np.float64)[:, [2, 1, 0, 3]]
    matrix[:3] *= np.array(_SIGNS_TO_LPS[space])[:, None]
    return matrix


def to_file_affine(index_to_patient: NDArray[np.float64], space: Space) -> NDArray[np.float64]:
    """The affine for a file, fastest axis first: the inverse of `from_file_affine`."""
    matrix = index_to_patient[:, [2, 1, 0, 3]].copy()
    matrix[:3] *= np.array(_SIGNS_TO_LPS[space])[:, None]
    return matrix


def passport(volume: Volume | Segmentation, kind: str = "") -> str:
    """One plain line on how an image lies: "Axial CT, 0.9 x 0.9 x 3.0 mm, tilted 4 degrees".

    Parameters
    ----------
    volume : Volume or Segmentation
        The slice axis is the one with clearly the largest voxel size, else the slowest axis of the file.
    kind : str, optional
        What it is, such as "CT"; found from the unit of the values where it is left out.
    """
    grid = volume.grid
    if not kind:
        kind = "mask" if isinstance(volume, Segmentation) else "CT" if volume.value_unit == "HU" else "image"
    if grid.ndim == 2:
        size = " x ".join(str(n) for n in reversed(grid.shape))
        pixel = f"{_lengths(grid.spacing[::-1])} mm" if grid.spacing_known else "pixel size unknown"
        return f"2D {kind}, {size}, {pixel}"
    if not grid.spacing_known:
        return f"{kind[:1].upper()}{kind[1:]}, voxel size unknown"
    axis = slice_axis(grid.spacing, volume.stored_order)
    size = _lengths([grid.spacing[k] for k in (2, 1, 0) if k != axis] + [grid.spacing[axis]]) + " mm"
    if not grid.orientation_known:
        return f"{kind[:1].upper()}{kind[1:]}, {size}, patient position unknown"
    plane = _PLANES[2 - presenting_order(grid.index_to_patient).axes.index(axis)]
    parts = [f"{plane} {kind}", size]
    if grid.tilt_degrees >= _TILT_DEGREES:
        parts.append(f"tilted {grid.tilt_degrees:.0f} degree{'' if round(grid.tilt_degrees) == 1 else 's'}")
    if grid.sheared:
        parts.append("sheared")
    return ", ".join(parts)


def compare_grids(mask: Grid, image: Grid) -> str:
    """How a mask lies on its image, in plain words: "mask lies 3.0 mm towards the feet of the image"."""
    if same_grid(mask, image):
        return "mask grid identical"
    if mask.shape != image.shape:
        return f"mask has {_counts(mask.shape)} voxels, the image {_counts(image.shape)}"
    if not np.allclose(mask.spacing, image.spacing, rtol=1e-3, atol=0):
        return f"mask voxels are {_lengths(mask.spacing)} mm, those of the image {_lengths(image.spacing)} mm"
    turn = _directions(image.index_to_patient).T @ _directions(mask.index_to_patient)
    degrees = float(np.degrees(np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1))))
    if degrees >= 0.1:
        return f"mask is turned by {degrees:.1f} degrees against the image"
    shift = mask.index_to_patient[:3, 3] - image.index_to_patient[:3, 3]
    if not (mask.orientation_known and image.orientation_known):
        return f"mask lies {np.linalg.norm(shift):.1f} mm beside the image"
    steps = [
        f"{abs(mm):.1f} mm towards the {_TOWARDS[axis][int(mm < 0)]}"
        for axis, mm in enumerate(shift)
        if abs(mm) >= max(0.05, 0.1 * np.abs(shift).max())
    ]
    return f"mask lies {' and '.join(steps)} of the image"


def _directions(index_to_patient: NDArray[np.float64]) -> NDArray[np.float64]:
    directions: NDArray[np.float64] = index_to_patient[:3, :3] / np.linalg.norm(index_to_patient[:3, :3], axis=0)
    return directions


def slice_axis(spacing: Sequence[float], order: StoredOrder) -> int:
    """The axis across the slices of a presented volume: clearly the thickest one, else the slowest of the file."""
    thickest = int(np.argmax(spacing))
    others = [h for axis, h in enumerate(spacing) if axis != thickest]
    return thickest if spacing[thickest] > 1.5 * max(others) else order.axes.index(0)


def _lengths(spacing: Sequence[float]) -> str:
    """Voxel sizes with one decimal where that is exact, else two, else what it takes."""
    return " x ".join(
        f"{h:.1f}" if abs(h - round(h, 1)) < 1e-3 else f"{h:.2f}" if h >= 0.1 else f"{h:.3g}" for h in spacing
    )


def _counts(shape: Sequence[int]) -> str:
    return " x ".join(str(n) for n in shape)
