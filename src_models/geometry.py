"""Arrays with their place in the patient: `Grid`, `Volume`, `Segmentation`. The currency of the house.

Array axes are (z, y, x), or (y, x) for a picture; spacing is in mm in the same order. ``index_to_patient`` maps array
indices to LPS mm (x towards the patient's Left, y towards Posterior, z towards Superior). This module alone knows the
flip between RAS and LPS and the change between array order and the x-y-z order of files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_models.errors import GeometryError

RAS_FROM_LPS: NDArray[np.float64] = np.diag([-1.0, -1.0, 1.0, 1.0])


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
        return view[(Ellipsis, *(slice(None, None, -1 if flip else 1) for flip in self.flips))]

    def store(self, presented: NDArray[Any]) -> NDArray[Any]:
        """A view of the presented array in the file's order: the inverse of `present`."""
        lead = presented.ndim - len(self.axes)
        view = presented[(Ellipsis, *(slice(None, None, -1 if flip else 1) for flip in self.flips))]
        return view.transpose(*range(lead), *(lead + self.axes.index(axis) for axis in range(len(self.axes))))


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
    index_to_patient: NDArray[np.float64] = field(default=None)  # type: ignore[assignment]
    orientation_known: bool = False
    spacing_known: bool = True

    def __post_init__(self) -> None:
        if len(self.shape) not in (2, 3) or len(self.shape) != len(self.spacing):
            raise GeometryError(
                "grid-axes",
                f"A grid needs 2 or 3 axes and one spacing for each, got shape {self.shape} and spacing {self.spacing}",
                next_step="Give one value in mm per array axis, in array order.",
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
        matrix.setflags(write=False)
        object.__setattr__(self, "index_to_patient", matrix)

    @property
    def ndim(self) -> int:
        """Number of spatial axes."""
        return len(self.shape)

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
    directions = index_to_patient[:3, :3] / np.linalg.norm(index_to_patient[:3, :3], axis=0)
    wanted = np.array([[0.0, 0.0, -1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    fit = wanted @ directions
    order = max(_PERMUTATIONS, key=lambda p: round(sum(abs(fit[k, p[k]]) for k in range(3)), 9))
    return StoredOrder(order, tuple(bool(fit[k, order[k]] < 0) for k in range(3)))


_PERMUTATIONS: tuple[tuple[int, int, int], ...] = ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))


def present_grid(stored: Grid, order: StoredOrder) -> Grid:
    """The grid of the presented array, from the grid of the stored one."""
    step = stored.index_to_patient
    matrix = step.copy()
    for k in range(3):
        axis = order.axes[k]
        direction = step[:3, axis]
        matrix[:3, k] = -direction if order.flips[k] else direction
        if order.flips[k]:
            matrix[:3, 3] += direction * (stored.shape[axis] - 1)
    return replace(
        stored,
        shape=tuple(stored.shape[axis] for axis in order.axes),
        spacing=tuple(stored.spacing[axis] for axis in order.axes),
        index_to_patient=matrix,
    )


def store_grid(presented: Grid, order: StoredOrder) -> Grid:
    """The grid of the stored array, from the grid of the presented one: the inverse of `present_grid`."""
    inverse_axes = tuple(order.axes.index(axis) for axis in range(3))
    inverse = StoredOrder(inverse_axes, tuple(order.flips[axis] for axis in inverse_axes))
    return present_grid(presented, inverse)
