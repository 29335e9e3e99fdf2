"""Accepted slices to learn from: checked, cut out around the structure and brought to a quick grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
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
from src_models.levelset.seed_range import follows_seed, grey_under_start
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
    start : ndarray of bool, or Seeds
        As it was given; a level set became the mask of its inside.
    speed_image : ndarray or None
        Floating point.
    spacing : tuple of float
        mm.
    """

    image: NDArray[Any]
    inside: NDArray[np.bool_]
    start: NDArray[np.bool_] | Seeds
    speed_image: NDArray[Any] | None
    spacing: tuple[float, ...]

    def level_set(self, width: float) -> NDArray[np.float64]:
        """u of the start as every run has it, clipped to +-width mm."""
        if isinstance(self.start, Seeds):
            return initial_room.from_seeds(self.start, self.image.shape, self.spacing, width)[0]
        return initial_room.from_labels(self.start, self.spacing, width)


def check_mode(slices: Sequence[AcceptedSlice], parameters: LevelSetParameters) -> None:
    """Refuse what cannot be learned from, or in this mode.

    Raises
    ------
    InputError
        For no slice, Chan-Vese speed, speed images for some slices only, or redistancing now and then.
    """
    if not slices:
        raise InputError(
            "fit-none", "There is no accepted slice to learn from", "", "Accept at least one result first."
        )
    given = any(one.speed_image is not None for one in slices)
    if parameters.speed == "region" and parameters.region == "chan_vese" and not given:
        raise InputError(
            "fit-chan-vese",
            "Weights cannot be learned with Chan-Vese speed",
            "it changes with the front at every step",
            "Choose thresholds, a probability or edge speed.",
        )
    if given and any(one.speed_image is None for one in slices):
        raise InputError(
            "fit-speed-mixed", "Some slices have a speed image and some have none", "", "Give it for all or for none."
        )
    if parameters.redistance_every > 1:
        raise InputError(
            "fit-redistancing",
            f"Weights cannot be learned with redistancing every {parameters.redistance_every} steps",
            "",
            "Set redistance_every to 1 or 0.",
        )


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
    start = given.start
    if not isinstance(start, Seeds):
        labels = np.asarray(start)
        initial_room.check_labels(labels, image.shape)
        start = np.asarray(labels > 0 if labels.dtype.kind == "f" and labels.min() < 0 else labels != 0)
    ready = Checked(image, inside, start, None, spacing)
    if not (inside & (ready.level_set(min(spacing)) > 0)).any():
        raise InputError(
            "fit-seeds-outside",
            f"The seeds of {name} lie outside its accepted mask",
            "no front would find it from there",
            "Give seeds inside the structure.",
        )
    speed_image = None if given.speed_image is None else check_speed_image(given.speed_image, image.shape, parameters)
    return replace(ready, speed_image=speed_image)


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
            "accepted-type",
            f"The accepted mask of {name} holds values that are no labels",
            "",
            "Give labels or a mask.",
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
    box = _surroundings(ready.inside | (ready.level_set(min(ready.spacing)) > 0))
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
    seed = None
    if follows_seed(parameters) and ready.speed_image is None and high > low:
        seed = grey_under_start(ready.image, ready.start, ready.spacing, (low, high))
    squared = np.zeros_like(ready.image)
    if high > low:
        scaled = ready.image if parameters.edge_preset == "paper" else (ready.image / (high - low))
        sigma = 0.0 if parameters.edge_preset == "paper" else parameters.sigma
        squared = speed_room.squared_gradient(scaled.astype(ready.image.dtype), ready.spacing, sigma)
    spacing = tuple(h * k for h, k in zip(ready.spacing, factor, strict=True))
    width = initial_room.band_width(spacing, ready.image.shape, parameters.band)
    target = blocks(cut(ready.inside), factor).mean(-1)
    start = cut(ready.level_set(width))
    if max(factor) > 1:
        start = _large_enough(blocks(start, factor).mean(-1), target, spacing)
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
        seed=seed,
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


def with_thresholds(parameters: LevelSetParameters, ready: Sequence[Checked]) -> LevelSetParameters:
    """Thresholds to start from where none is given: mean and two standard deviations of the accepted voxels."""
    wanted = parameters.speed == "region" and parameters.region == "threshold"
    given = parameters.lower is not None or parameters.upper is not None or ready[0].speed_image is not None
    if not wanted or given or follows_seed(parameters):
        return parameters
    inside = grey_inside(ready)
    reach = 2 * max(float(inside.std()), 1e-3 * max(1.0, abs(float(inside.mean()))))
    return parameters.model_copy(update={"lower": float(inside.mean() - reach), "upper": float(inside.mean() + reach)})


def smallest_seed(ready: Sequence[Checked]) -> float:
    """Radius in mm of the largest ball within a start, of the slice where it is smallest."""
    from scipy.ndimage import distance_transform_edt

    masks = [(initial_room.start_mask(one.start, one.image.shape, one.spacing), one.spacing) for one in ready]
    return min(float(distance_transform_edt(mask, sampling=spacing).max()) for mask, spacing in masks)


def grey_inside(ready: Sequence[Checked]) -> NDArray[np.float64]:
    """The grey values of all accepted voxels, a large slice thinned out."""
    parts = [one.image[one.inside].astype(np.float64) for one in ready]
    return np.concatenate([_spread(part, 20_000) for part in parts])


def _spread(values: NDArray[np.float64], most: int) -> NDArray[np.float64]:
    """The values, or as many evenly spread ones of their order."""
    picks = np.linspace(0, values.size - 1, min(most, values.size)).astype(int)
    return np.asarray(np.sort(values)[picks])


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
