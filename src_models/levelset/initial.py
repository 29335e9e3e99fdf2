"""Starts of the level set: seeds drawn in mm, labels, thresholds. Every start is positive inside."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from src_models.errors import InputError
from src_models.geometry import check_spacing


class Sphere(BaseModel):
    """A bubble: centre in mm along the array axes from the centre of the first voxel, radius in mm."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    centre: tuple[float, ...] = Field(min_length=2, max_length=3)
    radius: float = Field(gt=0)


class Stroke(BaseModel):
    """A polyline in mm along the array axes, with a thickness; it may run through slices."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    points: tuple[tuple[float, ...], ...] = Field(min_length=1)
    radius: float = Field(gt=0)


class Seeds(BaseModel):
    """Everything drawn as a start; the inside is the union."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    spheres: tuple[Sphere, ...] = ()
    strokes: tuple[Stroke, ...] = ()


def default_radius(shape: Sequence[int], spacing: Sequence[float]) -> float:
    """1/8 of the smallest side in mm of the axes longer than 1: a seed that is seen and seldom too large."""
    sides = [n * h for n, h in zip(shape, spacing, strict=True) if n > 1]
    return min(sides, default=min(spacing)) / 8


def band_width(spacing: Sequence[float], shape: Sequence[int], band: float) -> float:
    """w in mm: `band` times the largest voxel side of the axes longer than 1."""
    return band * max((h for h, n in zip(spacing, shape, strict=True) if n > 1), default=max(spacing))


def from_seeds(
    seeds: Seeds,
    shape: Sequence[int],
    spacing: Sequence[float],
    band_width_mm: float | None = None,
    dtype: str = "float64",
) -> tuple[NDArray[Any], tuple[str, ...]]:
    """u of spheres and strokes: radius minus distance, the maximum over all, in mm.

    Parameters
    ----------
    seeds : Seeds
        What was drawn.
    shape, spacing : sequence
        Of the array; mm.
    band_width_mm : float, optional
        Clip to +-w; then only the surroundings of each seed are computed. Without it, distances are exact everywhere.
    dtype : str
        "float32" or "float64".

    Returns
    -------
    u : ndarray
        Of that type.
    notes : tuple of str
        A seed too small to cover a voxel claims its nearest one; that is said here.

    Raises
    ------
    InputError
        Where there is no seed, or one lies outside the image.
    """
    check_spacing(tuple(spacing), len(shape))
    drawn = check_seeds(seeds, shape, spacing)
    u = np.full(tuple(shape), -np.inf if band_width_mm is None else -band_width_mm, dtype)
    smallest = min((h for h, n in zip(spacing, shape, strict=True) if n > 1), default=min(spacing))
    notes: list[str] = []
    for points, radius in drawn:
        reach = math.inf if band_width_mm is None else radius + band_width_mm
        box = _box_around(points, reach, shape, spacing)
        axes = [np.arange(part.start, part.stop) * h for part, h in zip(box, spacing, strict=True)]
        grid = np.meshgrid(*axes, indexing="ij", sparse=True)
        distance = _distance_to_polyline(grid, points)
        np.maximum(u[box], (radius - distance).astype(u.dtype), out=u[box])
        nearest = tuple(int(np.clip(round(x / h), 0, n - 1)) for x, h, n in zip(points[0], spacing, shape, strict=True))
        if u[nearest] <= 0 and not (distance < radius).any():
            u[nearest] = max(u[nearest], 0.5 * smallest)
            notes.append(f"A seed of radius {radius:g} mm covers no voxel; it claims the nearest one.")
    if band_width_mm is not None:
        np.clip(u, -band_width_mm, band_width_mm, out=u)
    return u, tuple(notes)


def check_seeds(
    seeds: Seeds, shape: Sequence[int], spacing: Sequence[float]
) -> list[tuple[tuple[tuple[float, ...], ...], float]]:
    """The points and the radius of everything drawn.

    Raises
    ------
    InputError
        Where there is no seed, or one lies outside the image.
    """
    drawn: list[tuple[tuple[tuple[float, ...], ...], float]]
    drawn = [((sphere.centre,), sphere.radius) for sphere in seeds.spheres]
    drawn += [(stroke.points, stroke.radius) for stroke in seeds.strokes]
    if not drawn:
        raise InputError(
            "seeds-none", "There is no seed", "", "Click a point, paint a label or draw a line inside the structure."
        )
    for points, _ in drawn:
        _check_inside(points, shape, spacing)
    return drawn


def _check_inside(points: Sequence[Sequence[float]], shape: Sequence[int], spacing: Sequence[float]) -> None:
    for point in points:
        if len(point) != len(shape):
            raise InputError(
                "seed-axes",
                f"A seed has {len(point)} coordinates but the image {len(shape)} axes",
                "",
                "Give one value in mm per array axis.",
            )
        for axis, (x, h, n) in enumerate(zip(point, spacing, shape, strict=True)):
            if not -0.5 * h <= x <= (n - 0.5) * h:
                raise InputError(
                    "seed-outside",
                    f"A seed lies outside the image: {x:g} mm along axis {axis}",
                    f"the image runs from 0 to {(n - 1) * h:g} mm there",
                    "Move the seed into the structure.",
                )


def _box_around(
    points: Sequence[Sequence[float]], reach: float, shape: Sequence[int], spacing: Sequence[float]
) -> tuple[slice, ...]:
    if math.isinf(reach):
        return tuple(slice(0, n) for n in shape)
    low = [min(point[axis] for point in points) - reach for axis in range(len(shape))]
    high = [max(point[axis] for point in points) + reach for axis in range(len(shape))]
    return tuple(
        slice(max(0, math.floor(a / h)), min(n, math.ceil(b / h) + 1))
        for a, b, h, n in zip(low, high, spacing, shape, strict=True)
    )


def _distance_to_polyline(grid: Sequence[NDArray[Any]], points: Sequence[Sequence[float]]) -> NDArray[Any]:
    """Distance in mm of every grid position to the nearest piece of the line."""
    if len(points) == 1:
        return np.asarray(np.sqrt(sum((g - x) ** 2 for g, x in zip(grid, points[0], strict=True))))
    best: NDArray[Any] | None = None
    for start, end in itertools.pairwise(points):
        along = [b - a for a, b in zip(start, end, strict=True)]
        length = sum(v * v for v in along)
        t: Any = 0.0
        if length > 0:
            t = np.clip(sum((g - a) * v for g, a, v in zip(grid, start, along, strict=True)) / length, 0, 1)
        square = sum((g - a - t * v) ** 2 for g, a, v in zip(grid, start, along, strict=True))
        best = square if best is None else np.minimum(best, square)
    return np.asarray(np.sqrt(np.asarray(best)))


def check_labels(initial: NDArray[Any], shape: Sequence[int]) -> None:
    """Refuse a drawn start that cannot be one.

    Raises
    ------
    InputError
        Where it has another shape than the image, holds no number, nothing inside or nothing outside.
    """
    if tuple(initial.shape) != tuple(shape):
        raise InputError(
            "seeds-grid",
            f"Seeds and image lie on different grids, {tuple(initial.shape)} and {tuple(shape)} voxels",
            "",
            "Draw the seeds on this image, or resample them to its grid.",
        )
    if initial.dtype.kind not in "buif":
        raise InputError("seeds-type", f"Seeds of type {initial.dtype} cannot be used", "", "Give labels or a mask.")
    if initial.dtype.kind == "f" and not np.isfinite(initial).all():
        raise InputError("seeds-not-finite", "The seeds hold NaN or infinite values", "", "Give labels or a mask.")
    inside = initial > 0 if initial.dtype.kind == "f" else initial != 0
    if not inside.any():
        raise InputError(
            "seeds-empty",
            "The seeds are empty",
            "no voxel is marked",
            "Paint or click inside the structure, then run again.",
        )
    if inside.all():
        raise InputError(
            "seeds-full", "The seeds fill the whole image", "there is no front to move", "Erase some of them."
        )


def start_mask(initial: NDArray[Any] | Seeds, shape: Sequence[int], spacing: Sequence[float]) -> NDArray[np.bool_]:
    """Where a drawn start is inside.

    Raises
    ------
    InputError
        For a start that does not fit the image.
    """
    if isinstance(initial, Seeds):
        return np.asarray(from_seeds(initial, shape, spacing, band_width(spacing, shape, 4.0))[0] > 0)
    array = np.asarray(initial)
    check_labels(array, shape)
    return np.asarray(array > 0 if array.dtype.kind == "f" else array != 0)


def check_mask(mask: NDArray[Any], shape: Sequence[int], name: str) -> NDArray[Any]:
    """Painted walls or pins as an array.

    Raises
    ------
    InputError
        Where they have another shape than the image.
    """
    array = np.asarray(mask)
    if array.shape != tuple(shape):
        raise InputError(
            f"{name}-grid",
            f"The {name} and the image lie on different grids, {array.shape} and {tuple(shape)} voxels",
            "",
            f"Paint the {name} on this image.",
        )
    return array


def ready_level_set(level_set: NDArray[Any], shape: Sequence[int], dtype: str, width: float | None) -> NDArray[Any]:
    """u of another moment, checked and otherwise as it is.

    Parameters
    ----------
    level_set : ndarray
        u, positive inside.
    shape : sequence of int
        Of the image.
    dtype : str
        ``"float32"`` or ``"float64"``: the precision of the run.
    width : float or None
        w in mm, which u must keep to; None without a band.

    Raises
    ------
    InputError
        Where it has another shape, is not finite, or was made with another band.
    """
    array = np.ascontiguousarray(level_set, dtype=dtype)
    if array.shape != tuple(shape) or not np.isfinite(array).all():
        raise InputError(
            "resume-grid",
            "The level set to go on from does not belong to this image",
            f"it has {array.shape} voxels for {tuple(shape)}, or values that are not finite",
            "Choose a state of a run on this image.",
        )
    if width is not None and float(np.abs(array).max()) > float(np.dtype(dtype).type(width)):
        raise InputError(
            "resume-band",
            "The level set to go on from leaves the band",
            f"it holds values beyond {width:g} mm",
            "Give it as a start instead, so that it is made a distance first.",
        )
    return array


def from_labels(mask: NDArray[Any], spacing: Sequence[float], band_width_mm: float) -> NDArray[np.float64]:
    """A signed distance whose sign is the mask's, bit for bit; clipped to +-w.

    Parameters
    ----------
    mask : ndarray
        Bool or integer; anything but 0 is inside.
    spacing : sequence of float
        mm per array axis.
    band_width_mm : float
        w.
    """
    import torch

    from src_models.levelset.redistancing import redistance_fully

    check_spacing(tuple(spacing), mask.ndim)
    start = torch.from_numpy(np.where(mask != 0, band_width_mm, -band_width_mm))
    distance: NDArray[np.float64] = redistance_fully(start, spacing, band_width_mm).numpy()
    return distance
