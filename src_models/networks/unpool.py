"""Max pooling that remembers, and the unpooling that puts each value back where it came from (Zeiler et al. 2011).

Windows are disjoint, so each voxel is written once: the result does not depend on an order of writing and exists on
every device, which torch's `max_unpool` does not. A place is counted inside its window, so that neither a batch nor
padding changes it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


def pool_with_indices(x: Tensor, factor: int = 2) -> tuple[Tensor, Tensor]:
    """Max pool over disjoint windows, and where in its window each largest value stood.

    Parameters
    ----------
    x : Tensor of shape (B, C, *spatial)
        Sizes are multiples of the factor.
    factor : int
        Width of a window along every axis.

    Returns
    -------
    values, places : Tensor of shape (B, C, *coarse spatial)
        `places` (uint8: they are kept until the way up) counts inside the window, last axis fastest; the first of equal
        values wins.
    """
    pool = functional.max_pool2d if x.ndim == 4 else functional.max_pool3d
    values, flat = pool(x, factor, return_indices=True)
    places = torch.zeros_like(flat)
    for k, size in enumerate(reversed(x.shape[2:])):
        places += flat % size % factor * factor**k
        flat = flat // size
    return values, places.to(torch.uint8)


class Unpool(nn.Module):
    """Puts each value back where `pool_with_indices` took it from; zero elsewhere.

    Parameters
    ----------
    factor : int
        Width of a window along every axis.
    """

    def __init__(self, factor: int = 2) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor, places: Tensor) -> Tensor:
        """Values and places of shape (B, C, *coarse spatial) to a tensor of shape (B, C, *spatial)."""
        ndim = x.ndim - 2
        empty = x.new_zeros((*x.shape, self.factor**ndim))
        spread = empty.scatter(-1, places.long().unsqueeze(-1), x.unsqueeze(-1))
        spread = spread.reshape(*x.shape, *(self.factor,) * ndim)
        order = [0, 1, *(axis for d in range(ndim) for axis in (2 + d, 2 + ndim + d))]
        return spread.permute(order).reshape(*x.shape[:2], *(n * self.factor for n in x.shape[2:]))
