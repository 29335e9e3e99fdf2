"""u and its band during a run: one step of it, and what is measured on it.

The band holds the voxels with |u| < w. Outside it u = +-w and nothing can change, so a step visits the band and one
face layer per redistancing sweep; the result is that of the same step on every voxel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from src_models.levelset.equation import Speeds, Terms, constrained
from src_models.levelset.measures import VoxelFit, front_density, total, voxel_fit
from src_models.levelset.parameters import LevelSetParameters
from src_models.levelset.redistancing import SWEEPS, redistance_at
from src_models.levelset.sites import Flags, true_positions
from src_models.levelset.stencils import Dense, Neighbourhood, Packed, Sites


class Front:
    """The level set of a run.

    Parameters
    ----------
    u : Tensor of shape (z, y, x) or (y, x)
        The start; taken over, not copied.
    spacing : sequence of float
        mm per array axis.
    width : float or None
        w in mm; None for no band: then every voxel is visited and nothing is clipped.
    """

    def __init__(self, u: Tensor, spacing: Sequence[float], width: float | None) -> None:
        self.shape = tuple(u.shape)
        self.spacing = tuple(spacing)
        self._active_spacing = tuple(h for h, n in zip(self.spacing, self.shape, strict=True) if n > 1) or self.spacing
        self.width = width
        self.flat = u.contiguous().reshape(-1)
        self.walls: Tensor | None = None
        self.pins: Tensor | None = None
        self._flags = Flags(self.shape, u.device)
        self._fit: VoxelFit | None = None
        self._unsaved: list[Tensor] = []
        self._saved: Tensor | None = None
        self.rebuild()

    def rebuild(self) -> None:
        """Find the band anew, after u was changed from outside."""
        self.changed = Sites(torch.arange(0, device=self.flat.device), self.shape)
        if self.width is not None:
            self._far_inside = int((self.flat >= self.width).sum())
            self._look_at(true_positions(self.flat.abs() < self.width))
        else:
            self._far_inside = 0
            self._look_at(None)
        self._unsaved = []
        self._saved = None

    def _look_at(self, band: Tensor | None) -> None:
        self.neighbourhood: Neighbourhood = (
            Dense(self.flat.reshape(self.shape), self.spacing)
            if band is None
            else Packed(self.flat, Sites(band, self.shape), self.spacing)
        )
        self._fit = None

    @property
    def u(self) -> Tensor:
        """The whole array."""
        return self.flat.reshape(self.shape)

    @property
    def fit(self) -> VoxelFit:
        """Sub-voxel fit on the band."""
        if self._fit is None:
            self._fit = voxel_fit(self.neighbourhood)
        return self._fit

    @property
    def is_empty(self) -> bool:
        """Nothing inside."""
        return self._far_inside == 0 and not bool((self.neighbourhood.centre > 0).any())

    @property
    def is_full(self) -> bool:
        """Nothing outside."""
        return not bool((self.neighbourhood.centre <= 0).any()) and (
            self._far_inside + self.neighbourhood.centre.numel() == self.flat.numel()
        )

    def size(self) -> float:
        """mm^n inside."""
        return math.prod(self.spacing) * (total(self.fit.occupancy()) + self._far_inside)

    def density(self) -> Tensor:
        """Front in each voxel of the band, in mm^(n-1)."""
        n = self.neighbourhood
        return front_density(self.fit, n.active_spacing or n.spacing) * math.prod(self.spacing)

    def occupancy(self) -> Tensor:
        """Share of every voxel that is inside, over the whole array."""
        return voxel_fit(Dense(self.u, self.spacing)).occupancy()

    def constrain(self, walls: Tensor | None, pins: Tensor | None) -> None:
        """Take new walls and pins (flat bool tensors) and enforce them everywhere."""
        self.walls, self.pins = walls, pins
        self._replace(constrained(self.flat, self._active_spacing, walls, pins))

    def _replace(self, fresh: Tensor) -> None:
        """Take another u, and tell where it differs."""
        differs = true_positions(fresh != self.flat)
        self.flat.copy_(fresh)
        self.rebuild()
        self.changed = Sites(differs, self.shape)

    def step(
        self,
        terms: Terms,
        dt: float,
        parameters: LevelSetParameters,
        redistancing: bool,
        parts: Sequence[Tensor] | None,
    ) -> None:
        """Add ``dt`` times the terms on the band, enforce constraints, redistance, enforce again.

        `parts`, if given, are four flat tensors that gather the increments of balloon, curvature, convection and of
        redistancing and constraints.
        """
        active = self._active_sites()
        index = active.positions
        before = self.flat.index_select(0, index)
        moved = self.neighbourhood.centre + dt * terms.total
        if self.width is not None:
            moved = moved.clamp(-self.width, self.width)
        if isinstance(self.neighbourhood, Packed):
            self.flat.index_copy_(0, self.neighbourhood.sites.positions, moved)
        else:
            self.flat.copy_(moved.reshape(-1))
        self._enforce(index)
        if redistancing and self.width is not None:
            redistance_at(self.flat, active, self.spacing, self.width, order=parameters.order)
            self._enforce(index)
        after = self.flat.index_select(0, index)
        if parts is not None:
            self._gather(parts, terms, dt, index, after - before)
        self.changed = active
        if self.width is None:
            self._look_at(None)
        else:
            self._far_inside += int((after >= self.width).sum()) - int((before >= self.width).sum())
            self._look_at(index[after.abs() < self.width])
        self._note_unsaved(index)

    def _note_unsaved(self, index: Tensor) -> None:
        if self._saved is None:
            return
        self._unsaved.append(index)
        if sum(part.numel() for part in self._unsaved) > self.flat.numel():
            self._unsaved = [torch.unique(torch.cat(self._unsaved))]

    def _active_sites(self) -> Sites:
        if isinstance(self.neighbourhood, Packed):
            # Beside pins and walls a voxel at +-w has a neighbour on the other side: redistancing begins there.
            constrained = self.walls is not None or self.pins is not None
            return self._flags.grown(self.neighbourhood.sites, SWEEPS + constrained)
        return Sites(torch.arange(self.flat.numel(), device=self.flat.device), self.shape)

    def _enforce(self, index: Tensor) -> None:
        if self.walls is None and self.pins is None:
            return
        walls, pins = (None if m is None else m.index_select(0, index) for m in (self.walls, self.pins))
        self.flat.index_copy_(
            0, index, constrained(self.flat.index_select(0, index), self._active_spacing, walls, pins)
        )

    def _gather(self, parts: Sequence[Tensor], terms: Terms, dt: float, index: Tensor, change: Tensor) -> None:
        at = self.neighbourhood.sites.positions if isinstance(self.neighbourhood, Packed) else index
        rest = parts[3]
        rest.index_add_(0, index, change)
        for part, term in zip(parts[:3], (terms.balloon, terms.curvature, terms.convection), strict=True):
            increment = (dt * term).reshape(-1)
            part.index_add_(0, at, increment)
            rest.index_add_(0, at, -increment)

    def save(self) -> None:
        """Remember u, to come back to with `roll_back`; costs as much as the voxels touched since the last time."""
        if self._saved is None:
            self._saved = self.flat.clone()
        else:
            for index in self._unsaved:
                self._saved.index_copy_(0, index, self.flat.index_select(0, index))
        self._unsaved = []

    def roll_back(self) -> None:
        """Go back to the remembered u."""
        if self._saved is not None:
            self._replace(self._saved)

    def changed_box(self) -> tuple[slice, ...] | None:
        """Smallest box around the voxels visited by the last step; None where there were none."""
        if self.changed.index.numel() == 0:
            return None
        if self.changed.index.numel() == self.flat.numel():
            return tuple(slice(0, n) for n in self.shape)
        box = []
        for axis in range(len(self.shape)):
            low, high = torch.aminmax(self.changed.coordinate(axis))
            box.append(slice(int(low), int(high) + 1))
        return tuple(box)

    def largest_patch(self, chosen: Tensor) -> tuple[float, ...] | None:
        """Centre, in voxels, of the largest connected part of the chosen band voxels."""
        from scipy.ndimage import center_of_mass, label

        flags = torch.zeros_like(self.flat, dtype=torch.bool)
        if isinstance(self.neighbourhood, Packed):
            flags[self.neighbourhood.sites.positions] = chosen
        else:
            flags = chosen.reshape(-1)
        parts, count = label(flags.reshape(self.shape).cpu().numpy(), np.ones((3,) * len(self.shape)))
        if count == 0:
            return None
        sizes = np.bincount(parts.reshape(-1))
        sizes[0] = 0
        place = center_of_mass(parts == int(sizes.argmax()))
        return tuple(float(x) for x in place)

    def measure(self, speeds: Speeds, threshold: float, balloon: float) -> tuple[float, float, Tensor]:
        """Area of the front, the free part of it, and which band voxels are free."""
        density = self.density()
        free = abs(balloon) * speeds.balloon > threshold
        return total(density), total(torch.where(free, density, torch.zeros_like(density))), free & (density > 0)
