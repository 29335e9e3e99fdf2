"""Lists of voxels that grow by face layers, in time proportional to the list."""

from __future__ import annotations

import torch
from torch import Tensor

from src_models.levelset.stencils import Sites


class Flags:
    """One reusable bit per voxel, to merge lists of voxels without sorting.

    Parameters
    ----------
    shape : tuple of int
        Of the array.
    device : torch.device
        Where the lists live.
    """

    def __init__(self, shape: tuple[int, ...], device: torch.device) -> None:
        self._shape = shape
        self._flags = torch.zeros(torch.Size(shape).numel(), dtype=torch.bool, device=device)

    def grown(self, sites: Sites, layers: int) -> Sites:
        """The sites and all voxels within `layers` face steps of them, sorted."""
        for _ in range(layers):
            if sites.index.numel() == 0:
                return sites
            self._flags[sites.index] = True
            for axis, n in enumerate(self._shape):
                if n > 1:
                    for k in (-1, 1):
                        self._flags[sites.neighbour((axis, k))] = True
            reach = max((s for s, n in zip(sites.strides, self._shape, strict=True) if n > 1), default=0)
            first = max(int(sites.index[0]) - reach, 0)
            last = min(int(sites.index[-1]) + reach + 1, self._flags.numel())
            grown = true_positions(self._flags[first:last]) + first
            self._flags[grown] = False
            sites = Sites(grown, self._shape)
        return sites


def true_positions(flags: Tensor) -> Tensor:
    """Indices of the set flags, sorted, int64."""
    if flags.device.type == "cpu":
        import numpy as np

        return torch.from_numpy(np.flatnonzero(flags.numpy()))
    return torch.nonzero(flags).reshape(-1)
