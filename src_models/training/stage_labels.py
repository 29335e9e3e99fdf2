"""The labels of a first stage as input of the second, and what happens to them in training.

A network that was trained on its first stage's labels as they are would copy their faults: their borders are moved and
some of their parts left out at random. nnU-Net's rules (Isensee et al., Nature Methods 18, 2021): each class with a
probability of one half dilated, eroded, opened or closed by a ball of 1 to 8 voxels; each class with a probability of
one half without one of its parts that is smaller than 15 % of the patch. As for the image, everything is drawn first
(`draw_stage_changes`) and done afterwards without any random state.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from src_models.preprocessing.one_hot import one_hot
from src_models.training.plan import Augmentation

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]
Operator = Literal["dilate", "erode", "open", "close"]

EACH_CLASS = 0.5
RADIUS = (1.0, 8.0)
LARGEST_DROPPED = 0.15
_OPERATORS: tuple[Operator, ...] = ("dilate", "erode", "close", "open")


@dataclass(frozen=True, eq=False)
class StageLabels:
    """Labels of a first stage on the grid of the second.

    Attributes
    ----------
    labels : ndarray of int, shape (z, y, x)
        Of a network that has not seen the case.
    values : tuple of int
        Those that have a channel, in its order.
    """

    labels: NDArray[np.integer]
    values: tuple[int, ...]

    def channels(self, part: NDArray[np.integer] | None = None) -> Image:
        """One channel per value, of all labels or of a part that was cut out of them."""
        return one_hot(self.labels if part is None else part, self.values)


@dataclass(frozen=True)
class Morphology:
    """One class is changed at its border by a ball of a radius in voxels."""

    channel: int
    operator: Operator
    radius: float


@dataclass(frozen=True)
class Dropped:
    """One class loses a part: `which` in [0, 1) chooses it among those that are small enough."""

    channel: int
    which: float


@dataclass(frozen=True)
class StageChanges:
    """What is done to the channels of a first stage, in this order; the defaults do nothing."""

    morphology: tuple[Morphology, ...] = ()
    dropped: tuple[Dropped, ...] = ()


def draw_stage_changes(plan: Augmentation, rng: np.random.Generator, channels: int) -> StageChanges:
    """Draw what happens to the first stage's channels of one sample."""
    morphology: list[Morphology] = []
    dropped: list[Dropped] = []
    if rng.random() < plan.morphology:
        for channel in rng.permutation(channels):
            if rng.random() < EACH_CLASS:
                operator = _OPERATORS[int(rng.integers(len(_OPERATORS)))]
                morphology.append(Morphology(int(channel), operator, float(rng.uniform(*RADIUS))))
    if rng.random() < plan.dropped_components:
        for channel in rng.permutation(channels):
            if rng.random() < EACH_CLASS:
                dropped.append(Dropped(int(channel), float(rng.random())))
    return StageChanges(tuple(morphology), tuple(dropped))


def change_stage(channels: Image, changes: StageChanges) -> Image:
    """Channels (V, *shape) of 0 and 1 after the changes; where a class grows, no other class stays."""
    x = channels.copy()
    for one in changes.morphology:
        before = x[one.channel] > 0
        after = moved_border(before, one.operator, one.radius)
        x[:, after & ~before] = 0
        x[one.channel] = after
    for drop in changes.dropped:
        x[drop.channel][_part(x[drop.channel] > 0, drop.which)] = 0
    return x


def moved_border(mask: Mask, operator: Operator, radius: float) -> Mask:
    """A mask dilated, eroded, opened or closed by a ball {|d| <= radius}, in voxels.

    Nothing is known beyond the patch: what reaches its border neither grows in from there nor is eaten away.
    """
    steps: dict[Operator, tuple[bool, ...]] = {
        "dilate": (True,),
        "erode": (False,),
        "open": (False, True),
        "close": (True, False),
    }
    box = _around(mask, math.ceil(2 * radius) + 1)
    if box is None:
        return mask
    part = mask[box]
    for grows in steps[operator]:
        part = _near(part, radius) if grows else ~_near(~part, radius)
    result = np.zeros_like(mask)
    result[box] = part
    return result


def _near(mask: Mask, radius: float) -> Mask:
    """Voxels whose distance to the mask is at most the radius."""
    from scipy.ndimage import distance_transform_edt

    if mask.all() or not mask.any():
        return mask
    near: Mask = distance_transform_edt(~mask) <= radius
    return near


def _around(mask: Mask, margin: int) -> tuple[slice, ...] | None:
    """The box of a mask with a margin inside the array; None where it is empty."""
    box = []
    for axis in range(mask.ndim):
        line = np.flatnonzero(mask.any(axis=tuple(a for a in range(mask.ndim) if a != axis)))
        if not len(line):
            return None
        box.append(slice(max(int(line[0]) - margin, 0), min(int(line[-1]) + 1 + margin, mask.shape[axis])))
    return tuple(box)


def _part(mask: Mask, which: float) -> Mask:
    """One of the connected parts that are small enough; nothing where there is none."""
    from scipy.ndimage import generate_binary_structure, label

    numbered, count = label(mask, generate_binary_structure(mask.ndim, mask.ndim))
    sizes = np.bincount(numbered.ravel(), minlength=count + 1)[1:]
    small: Sequence[int] = np.flatnonzero(sizes < LARGEST_DROPPED * mask.size).tolist()
    if not small:
        return np.zeros_like(mask)
    chosen: Mask = numbered == small[int(which * len(small))] + 1
    return chosen
