"""Accepted slices to learn from: checked, cut out around the structure and brought to a grid that is quick to run on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from src_models.errors import InputError
from src_models.levelset import initial as initial_room
from src_models.levelset import speed as speed_room
from src_models.levelset.fields import check_speed_image
from src_models.levelset.initial import Seeds
from src_models.levelset.parameters import LevelSetParameters
from src_models.levelset.redistancing import redistance_fully
from src_models.levelset.unrolled import Scene, blocks

MARGIN_VOXELS = 10
MARGIN_SHARE = 0.25
"""Room around structure and seeds in which a front that has left the structure is seen."""
SMALLEST_START_VOXELS = 2.5


@dataclass(frozen=True, eq=False)
class AcceptedSlice:
    """A segmentation that a person has accepted, with what a run would have started from.

    Attributes
    ----------
    image : ndarray of shape (z, y, x) or (y, x)
        Grey values; a volume is taken as it is, one slice of it is an array with an axis of length 1, or a picture.
    start : ndarray or Seeds
        As `evolve` takes it.
    accepted : ndarray
        The mask: anything but 0 is inside.
    spacing : tuple of float
        mm per array axis.
    speed_image : ndarray, optional
        Replaces the computed speed image.
    name : str
        For messages.
    """

    image: NDArray[Any]
    start: NDArray[Any] | Seeds
    accepted: NDArray[Any]
    spacing: tuple[float, ...]
    speed_image: NDArray[Any] | None = None
    name: str = ""


@dataclass(frozen=True, eq=False)
class Checked:
    """A slice that passed every check.

    Attributes
    ----------
    image : ndarray
        Floating point.
    inside : ndarray of bool
        The accepted mask.
    level_set : ndarray
        u of the start, a distance in mm within `reach_mm` of the front.
    speed_image : ndarray or None
        Floating point.
    spacing : tuple of float
        mm.
    """

    image: NDArray[Any]
    inside: NDArray[np.bool_]
    level_set: NDArray[np.float64]
    speed_image: NDArray[Any] | None
    spacing: tuple[float, ...]


def checked(given: AcceptedSlice, parameters: LevelSetParameters, number: int) -> Checked:
    """Check one accepted slice.

    Raises
    ------
    InputError, GeometryError
        One sentence that names the slice.
    """
    name = given.name or f"slice {number}"
    image = speed_room.as_image(given.image, given.spacing)
    spacing = tuple(float(h) for h in given.spacing)
    inside = _accepted_mask(np.asarray(given.accepted), image.shape, name)
    widest = initial_room.band_width(spacing, image.shape, parameters.band) * 4
    if isinstance(given.start, Seeds):
        level_set, _ = initial_room.from_seeds(given.start, image.shape, spacing, widest)
    else:
        labels = np.asarray(given.start)
        initial_room.check_labels(labels, image.shape)
        marked = labels > 0 if labels.dtype.kind == "f" and labels.min() < 0 else labels != 0
        level_set = initial_room.from_labels(marked, spacing, widest)
    if not (inside & (level_set > 0)).any():
        raise InputError(
            "fit-seeds-outside",
            f"The seeds of {name} lie outside its accepted mask",
            "no front would find it from there",
            "Give seeds inside the structure.",
        )
    speed_image = None if given.speed_image is None else check_speed_image(given.speed_image, image.shape, parameters)
    return Checked(image, inside, level_set, speed_image, spacing)


def _accepted_mask(mask: NDArray[Any], shape: Sequence[int], name: str) -> NDArray[np.bool_]:
    if tuple(mask.shape) != tuple(shape):
        raise InputError(
            "accepted-grid",
            f"The accepted mask of {name} and its image lie on different grids",
            f"{tuple(mask.shape)} and {tuple(shape)} voxels",
            "Give the mask that belongs to this image.",
        )
    if mask.dtype.kind not in "buif" or (mask.dtype.kind == "f" and not np.isfinite(mask).all()):
        raise InputError(
            "accepted-type", f"The accepted mask of {name} holds values that are no labels", "", "Give labels or a mask."
        )
    inside = np.asarray(mask != 0)
    if not inside.any():
        raise InputError(
            "accepted-empty", f"The accepted mask of {name} is empty", "no voxel is marked", "Leave this slice out."
        )
    if inside.all():
        raise InputError(
            "accepted-full",
            f"The accepted mask of {name} fills the whole image",
            "it has no border to learn from",
            "Leave this slice out.",
        )
    return inside


def prepared(ready: Checked, parameters: LevelSetParameters, most_voxels: int, like: Tensor) -> Scene:
    """Cut out the surroundings of the structure and choose the grid to compute on.

    Parameters
    ----------
    ready : Checked
        The slice.
    parameters : LevelSetParameters
        How the speed image is made.
    most_voxels : int
        The computed grid has about as many at most; finer images are taken in blocks.
    like : Tensor
        Type and device to work in.
    """
    box = _surroundings(ready.inside | (ready.level_set > 0))
    factor = _factors([part.stop - part.start for part in box], ready.spacing, most_voxels)
    index = np.ix_(
        *(
            np.arange(part.start, part.start + -(-(part.stop - part.start) // k) * k).clip(0, n - 1)
            for part, k, n in zip(box, factor, ready.image.shape, strict=True)
        )
    )

    def cut(array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array[index])).to(like)

    low, high = speed_room.with_range(ready.image, parameters).value_range or (0.0, 0.0)
    squared = np.zeros_like(ready.image)
    if high > low:
        scaled = ready.image if parameters.edge_preset == "paper" else (ready.image / (high - low))
        sigma = 0.0 if parameters.edge_preset == "paper" else parameters.sigma
        squared = speed_room.squared_gradient(scaled.astype(ready.image.dtype), ready.spacing, sigma)
    spacing = tuple(h * k for h, k in zip(ready.spacing, factor, strict=True))
    width = initial_room.band_width(spacing, ready.image.shape, parameters.band)
    target = blocks(cut(ready.inside), factor).mean(-1)
    start = blocks(cut(ready.level_set), factor).mean(-1)
    if max(factor) > 1:
        start = _large_enough(start, target, spacing)
    start = start if parameters.redistance_every == 0 else redistance_fully(start, spacing, width)
    return Scene(
        grey=cut(ready.image if ready.speed_image is None else ready.speed_image),
        slope_squared=cut(squared),
        value_range=(low, high),
        given=ready.speed_image is not None,
        factor=factor,
        spacing=spacing,
        start=start,
        target=target,
    )


def _large_enough(start: Tensor, target: Tensor, spacing: Sequence[float]) -> Tensor:
    """A start grown, within the accepted mask, to a few computed voxels.

    Curvature on a grid makes a ball of a voxel or two vanish that the fine grid would keep.
    """
    widest = max((h for h, n in zip(spacing, start.shape, strict=True) if n > 1), default=max(spacing))
    missing = SMALLEST_START_VOXELS * widest - float(start.max())
    if missing <= 0:
        return start
    grown = torch.where(target >= 0.5, start + missing, start)
    if not bool((grown > 0).any()):
        grown.reshape(-1)[grown.argmax()] = widest / 2
    return grown


def steps_to_arrive(scene: Scene, cfl: float) -> int:
    """Steps in which a front at half the free speed crosses from the start to the farthest accepted voxel.

    A step of the stability bound moves a free front by about `cfl` / 2 of a voxel.
    """
    from scipy.ndimage import distance_transform_edt

    started = scene.start.cpu().numpy() > 0
    distance = distance_transform_edt(~started, sampling=scene.spacing)
    reach = float(distance[scene.target.cpu().numpy() >= 0.5].max(initial=0.0))
    return int(np.clip(4 / cfl * reach / min(scene.spacing), 40, 400))


def _surroundings(mask: NDArray[np.bool_]) -> tuple[slice, ...]:
    box = []
    for axis, n in enumerate(mask.shape):
        marked = np.flatnonzero(mask.any(axis=tuple(a for a in range(mask.ndim) if a != axis)))
        first, last = int(marked[0]), int(marked[-1]) + 1
        margin = max(MARGIN_VOXELS, int(MARGIN_SHARE * (last - first)))
        box.append(slice(max(0, first - margin), min(n, last + margin)))
    return tuple(box)


def _factors(shape: Sequence[int], spacing: Sequence[float], most_voxels: int) -> tuple[int, ...]:
    """Blocks that grow along the finest axes until the grid is small enough."""
    factor = [1] * len(shape)
    while np.prod([-(-n // k) for n, k in zip(shape, factor, strict=True)]) > most_voxels:
        sides = [h * k if n > 1 else np.inf for h, k, n in zip(spacing, factor, shape, strict=True)]
        finest = min(sides)
        factor = [k + 1 if side <= 1.001 * finest else k for k, side in zip(factor, sides, strict=True)]
    return tuple(factor)
