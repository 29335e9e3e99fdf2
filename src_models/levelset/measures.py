"""Sub-voxel measures of the inside and its front, from u alone.

With u_bar = u + sum h^2 D2 u / 24 (the mean of u over the voxel) and t = sqrt(sum (h D0 u)^2), the occupancy of a voxel
is clip(1/2 + u_bar / t, 0, 1): the share of it that lies inside.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from src_models.levelset.stencils import Neighbourhood, around, central, root, second


@dataclass(frozen=True)
class VoxelFit:
    """The linear fit of u in each voxel: mean value and width of its range, both mm."""

    mean: Tensor
    width: Tensor
    inside: Tensor

    def occupancy(self, shift: float = 0.0) -> Tensor:
        """Share of each voxel inside the front of u + shift."""
        safe = torch.where(self.width > 0, self.width, torch.ones_like(self.width))
        share = ((self.mean + shift) / safe + 0.5).clamp(0, 1)
        return torch.where(self.width > 0, share, self.inside.to(share.dtype))


def voxel_fit(n: Neighbourhood) -> VoxelFit:
    """Fit u in the voxels of a neighbourhood."""
    mean = n.centre
    squares = torch.zeros_like(mean)
    for axis in n.axes:
        h = n.spacing[axis]
        mean = mean + (h * h / 24) * second(n, axis)
        squares = squares + (h * central(n, axis)).square()
    return VoxelFit(mean, root(squares), n.centre > 0)


def occupancy(n: Neighbourhood) -> Tensor:
    """Share of each voxel that is inside, in [0, 1]."""
    return voxel_fit(n).occupancy()


def front_density(fit: VoxelFit, spacing: Sequence[float]) -> Tensor:
    """Front per voxel and voxel size: (o(u + e) - o(u - e)) / (2 e) with e half the largest spacing, per mm."""
    e = max(spacing) / 2
    return (fit.occupancy(e) - fit.occupancy(-e)) / (2 * e)


def total(values: Tensor) -> float:
    """Sum in float64 whose bits do not depend on the number of threads."""
    if values.device.type == "cpu":
        return float(values.detach().numpy().sum(dtype=np.float64))
    return float(values.detach().sum(dtype=torch.float64))


def volume_mm3(u: Tensor, spacing: Sequence[float]) -> float:
    """Volume inside in mm^3 (mm^2 for a picture).

    Parameters
    ----------
    u : Tensor of shape (z, y, x) or (y, x)
        Positive inside; a distance near the front.
    spacing : sequence of float
        mm per array axis.
    """
    return math.prod(spacing) * total(occupancy(around(u, spacing)))
