"""The reference engine: the definition, in eager torch at the sites of the band. The oracle of the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from src_models.levelset.engine import Engine, Look
from src_models.levelset.equation import Speeds, largest_rate, rate_of_change
from src_models.levelset.fields import SpeedFields, SpeedImages
from src_models.levelset.front import Front
from src_models.levelset.measures import total
from src_models.levelset.parameters import LevelSetParameters


class ReferenceEngine(Engine):
    """Any device, any float type.

    Parameters
    ----------
    u : ndarray of shape (z, y, x) or (y, x)
        The start.
    spacing : sequence of float
        mm per array axis.
    width : float or None
        w in mm.
    like : Tensor
        An empty tensor of the type and device to work in.
    contributions : bool
        Sum what each term adds to u.
    """

    name = "reference"

    def __init__(
        self,
        u: NDArray[Any],
        spacing: Sequence[float],
        width: float | None,
        like: Tensor,
        *,
        contributions: bool = False,
    ) -> None:
        self._like = like
        self._front = Front(torch.from_numpy(np.ascontiguousarray(u)).to(like, copy=True), spacing, width)
        self.shape, self.spacing, self.width = self._front.shape, self._front.spacing, width
        self._parts = [torch.zeros_like(self._front.flat) for _ in range(4)] if contributions else None
        self._saved_parts = self._parts
        self._walls: Tensor | None = None
        self._at_front: Speeds | None = None

    def set_problem(self, images: SpeedImages, parameters: LevelSetParameters) -> None:
        """Take speed images and parameters."""
        self._parameters = parameters
        self._fields = SpeedFields(images, self.spacing, parameters, self._like)
        self._fields.set_walls(self._walls)
        self._at_front = None

    def set_walls_and_pins(self, walls: NDArray[Any] | None, pins: NDArray[Any] | None) -> None:
        """Take walls and pins and enforce them everywhere; new speeds must follow."""
        flat = [None if m is None else torch.from_numpy(m.reshape(-1)).to(self._like.device) for m in (walls, pins)]
        self._walls = flat[0]
        unconstrained = self._front.flat.clone()
        self._front.constrain(*flat)
        if self._parts is not None:
            self._parts[3] += self._front.flat - unconstrained
        self._at_front = None

    def _speeds(self) -> Speeds:
        if self._at_front is None:
            n = self._front.neighbourhood
            if self._fields.follows_the_means:
                self._fields.follow_means(self._front.occupancy())
            at_front = self._parameters.speed_at == "front"
            self._at_front = self._fields.at_front(n) if at_front else self._fields.at_voxels(n)
        return self._at_front

    def look(self, free_threshold: float) -> Look:
        """Measure u."""
        front, p = self._front, self._parameters
        speeds = self._speeds()
        area, free_area, _ = front.measure(speeds, free_threshold, p.balloon)
        at_voxels = speeds if p.speed_at == "voxel" else self._fields.at_voxels(front.neighbourhood)
        return Look(
            size=front.size(),
            area=area,
            free_area=free_area,
            speed_on_front=total(front.density() * speeds.balloon) / area if area > 0 else 0.0,
            fastest=float(speeds.balloon.abs().max()) if speeds.balloon.numel() else 0.0,
            largest_rate=largest_rate(front.neighbourhood, at_voxels, p),
            is_empty=front.is_empty,
            is_full=front.is_full,
        )

    def step(self, dt: float, redistancing: bool) -> None:
        """One step."""
        terms = rate_of_change(self._front.neighbourhood, self._speeds(), self._parameters)
        self._front.step(terms, dt, self._parameters, redistancing, self._parts)
        self._at_front = None

    def level_set(self) -> NDArray[Any]:
        """U now; on the CPU not a copy."""
        u: NDArray[Any] = self._front.u.detach().cpu().numpy()
        return u

    def changed_box(self) -> tuple[slice, ...] | None:
        """Smallest box around the voxels visited by the last step."""
        return self._front.changed_box()

    def largest_free_patch(self, free_threshold: float) -> tuple[float, ...] | None:
        """Centre of the largest free part of the front."""
        _, _, free = self._front.measure(self._speeds(), free_threshold, self._parameters.balloon)
        return self._front.largest_patch(free)

    def save(self) -> None:
        """Remember u and the contributions."""
        self._front.save()
        self._saved_parts = None if self._parts is None else [part.clone() for part in self._parts]

    def roll_back(self) -> None:
        """Go back to what was remembered."""
        self._front.roll_back()
        self._parts = self._saved_parts
        self._at_front = None

    def contributions(self) -> Sequence[NDArray[Any]] | None:
        """What each term has added to u."""
        if self._parts is None:
            return None
        return [part.reshape(self.shape).cpu().numpy().copy() for part in self._parts]
