"""The matrices of layers: from voxels to the world, between units, and from one layer to another.

Everything here reads public attributes of a layer and changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from napari_lsnet.compat import locked_level
from src_models.errors import GeometryError

Region: TypeAlias = tuple[slice | int, ...]
"""One entry per data axis: a slice with start and stop, or the index of the one slice or time point taken."""

# Two grids are one where voxels lie within this share of a voxel of each other, as in `src_models.geometry.same_grid`.
SAME_VOXEL = 0.01


def compose(scale: Any, translate: Any, rotate: Any = None, shear: Any = None) -> NDArray[np.float64]:
    """Homogeneous ``rotate * shear * scale + translate`` from its parts, shear as napari gives it."""
    ndim = len(scale)
    matrix = np.eye(ndim + 1)
    skew = np.eye(ndim)
    if shear is not None:
        values = np.asarray(shear, dtype=np.float64)
        if values.ndim == 2:
            skew = values
        elif values.size == ndim * (ndim - 1) // 2:
            skew[np.triu_indices(ndim, 1)] = values
    turn = np.eye(ndim) if rotate is None else np.asarray(rotate, dtype=np.float64)
    matrix[:-1, :-1] = turn @ skew @ np.diag(np.asarray(scale, dtype=np.float64))
    matrix[:-1, -1] = np.asarray(translate, dtype=np.float64)
    return matrix


def physical_matrix(source: Any) -> NDArray[np.float64]:
    """Homogeneous ``rotate * shear * scale + translate`` of a layer, without its `affine`."""
    return compose(source.scale, source.translate, source.rotate, source.shear)


def world_matrix(layer: Any) -> NDArray[np.float64]:
    """Homogeneous data-to-world matrix of a layer, in the layer's own units."""
    matrix: NDArray[np.float64] = np.asarray(layer.affine.affine_matrix, dtype=np.float64) @ physical_matrix(layer)
    return matrix


def matrix_of(arguments: Mapping[str, Any]) -> NDArray[np.float64]:
    """The data-to-world matrix that a layer made with these keyword arguments has."""
    matrix = compose(arguments["scale"], arguments["translate"], arguments.get("rotate"), arguments.get("shear"))
    affine = arguments.get("affine")
    return matrix if affine is None else np.asarray(affine, dtype=np.float64) @ matrix


def millimetres(unit: Any) -> float | None:
    """Length of one unit in mm; None for a unit that is no length."""
    if isinstance(unit, str):
        from pint import application_registry

        unit = application_registry.Unit(unit)
    if dict(unit.dimensionality) != {"[length]": 1}:
        return None
    return float((1.0 * unit).to("millimeter").magnitude)


def unit_factors(layer: Any) -> NDArray[np.float64]:
    """Length of a unit in mm for every world axis; 1 where the unit is no length."""
    return np.array([millimetres(unit) or 1.0 for unit in layer.units])


def conversion(from_units: Sequence[Any], to_units: Sequence[Any]) -> NDArray[np.float64]:
    """Factor per axis from one unit to another; 1 where one of them is no length, so that numbers stay as they are."""
    factors = [
        (1.0 * one).to(other).magnitude if one.dimensionality == other.dimensionality else 1.0
        for one, other in zip(from_units, to_units, strict=True)
    ]
    return np.array(factors, dtype=np.float64)


def in_mm(layer: Any, axes: Sequence[int]) -> bool:
    """Whether these world axes of a layer have a unit of length."""
    units = tuple(layer.units)
    return all(millimetres(units[axis]) is not None for axis in axes)


def off_axes(directions: NDArray[np.float64]) -> float:
    """Largest angle in degrees between a column and its nearest axis."""
    unit = np.abs(directions) / np.linalg.norm(directions, axis=0)
    return float(np.degrees(np.arccos(np.clip(unit.max(axis=0), 0, 1))).max())


def holds_voxels(layer: Any) -> bool:
    """Whether a layer is an image or labels layer."""
    from napari.layers import Image, Labels

    return isinstance(layer, Image | Labels)


def level_of(layer: Any) -> int:
    """The resolution level to work on: the one the user fixed, else the finest."""
    if not layer.multiscale:
        return 0
    return locked_level(layer)


def shape_of(layer: Any, level: int) -> tuple[int, ...]:
    """Length of every data axis of a layer at a level, without the colours of an RGB image."""
    array = layer.data[level] if layer.multiscale else layer.data
    return tuple(int(n) for n in array.shape[: layer.ndim])


def level_factors(layer: Any, level: int) -> NDArray[np.float64]:
    """How many voxels of the finest level one voxel of this level spans, per data axis."""
    return np.array(shape_of(layer, 0), dtype=np.float64) / np.array(shape_of(layer, level), dtype=np.float64)


def corners(shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Homogeneous indices of the corner voxels."""
    grids = np.meshgrid(*[(0.0, n - 1.0) for n in shape], (1.0,), indexing="ij")
    return np.stack([axis.ravel() for axis in grids], axis=-1)


def same_place(a: NDArray[np.float64], b: NDArray[np.float64], shape: tuple[int, ...]) -> bool:
    """Whether all corners of an array lie within a hundredth of a voxel of each other under two matrices."""
    if a.shape != b.shape:
        return False
    apart = np.abs(corners(shape) @ (a - b)[:-1].T).max()
    return bool(apart <= SAME_VOXEL * np.linalg.norm(a[:-1, :-1], axis=0).min())


def aligned_matrix(layer: Any, source: Any, region: Region) -> NDArray[np.float64]:
    """Homogeneous matrix from the indices of a layer to those of the source, over the source's axes.

    The last axes of both belong together, as in napari. Leading axes that the layer does not have take one index,
    the one that the region pins; leading axes that only the layer has are left out.
    """
    ndim = source.ndim
    factors = np.append(level_factors(source, level_of(source)), 1.0)
    target = world_matrix(source) * factors
    own = world_matrix(layer)
    matrix = np.eye(ndim + 1)
    shared = min(ndim, layer.ndim)
    lead = ndim - shared
    cut = layer.ndim - shared
    convert = conversion(tuple(layer.units)[cut:], tuple(source.units)[lead:])
    matrix[lead:-1, lead:] = convert[:, None] * own[cut:-1, cut:]
    if holds_voxels(layer):
        matrix[:, lead:-1] *= level_factors(layer, level_of(layer))[cut:]
    for axis in range(lead):
        part = region[axis]
        if isinstance(part, slice):
            raise GeometryError(
                "seeds-axes",
                f"The seeds have {layer.ndim} axes and the image has {ndim}",
                "their slice is not known",
                "Make the seeds layer while the image is open, or work on one slice.",
            )
        matrix[axis, axis] = target[axis, axis]
        matrix[axis, -1] = target[axis, -1] + target[axis, axis] * part
    found: NDArray[np.float64] = np.linalg.solve(target, matrix)
    return found


def lattice_offset(matrix: NDArray[np.float64], shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """The whole-voxel shift between two layers whose voxels coincide; None where they do not."""
    offset = np.round(matrix[:-1, -1])
    moved = corners(shape) @ matrix[:-1].T
    wanted = corners(shape)[:, :-1] + offset
    return tuple(int(shift) for shift in offset) if np.abs(moved - wanted).max() <= SAME_VOXEL else None
