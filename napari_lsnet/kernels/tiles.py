"""A layer's kernels as one picture, rows of tiles for outputs and columns for inputs, and the way from pixel to kernel.

One pixel of nothing lies between two tiles. A layer with many more outputs than inputs is folded: its rows go on in a
second block to the right, three pixels away, so that 32 kernels of one input are no strip that cannot be seen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

GAP = 1
BLOCK_GAP = 3
_FOLD_FROM = 3
"""Outputs per input from which rows are folded."""


@dataclass(frozen=True)
class Tiling:
    """Where each kernel of a layer lies in its picture.

    Attributes
    ----------
    out, inside : int
        Output channels, and input channels of one group.
    size : tuple of int
        Of a kernel, (y, x) or (z, y, x): the leading axis of 3D kernels is the leading axis of the picture.
    """

    out: int
    inside: int
    size: tuple[int, ...]

    @cached_property
    def blocks(self) -> int:
        """How many pieces the rows are folded into."""
        if self.out < _FOLD_FROM * self.inside:
            return 1
        return round(math.sqrt(self.out / self.inside))

    @cached_property
    def rows(self) -> int:
        """Rows of tiles in a block."""
        return -(-self.out // self.blocks)

    @property
    def _steps(self) -> tuple[int, int, int]:
        """Pixels from tile to tile down and across, and from block to block."""
        high, wide = self.size[-2:]
        return high + GAP, wide + GAP, self.inside * (wide + GAP) - GAP + BLOCK_GAP

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the picture."""
        down, _, block = self._steps
        return (*self.size[:-2], self.rows * down - GAP, self.blocks * block - BLOCK_GAP)

    def corner(self, kernel: int) -> tuple[int, int]:
        """First row and column of a kernel's tile; kernels count by output, then input."""
        out, inside = divmod(kernel, self.inside)
        block, row = divmod(out, self.rows)
        down, across, step = self._steps
        return row * down, block * step + inside * across

    def at(self, row: float, column: float) -> tuple[int, tuple[int, int]] | None:
        """The kernel at a pixel and its entry there; None in a gap and outside.

        Parameters
        ----------
        row, column : float
            In pixels, whole numbers at their centres.
        """
        y, x = math.floor(row + 0.5), math.floor(column + 0.5)
        down, across, step = self._steps
        block, x = divmod(x, step)
        place, entry = zip(divmod(y, down), divmod(x, across), strict=True)
        out = block * self.rows + place[0]
        inside_tile = entry[0] < self.size[-2] and entry[1] < self.size[-1]
        there = 0 <= place[0] < self.rows and 0 <= place[1] < self.inside and 0 <= block < self.blocks
        if not (inside_tile and there and out < self.out):
            return None
        return out * self.inside + place[1], (entry[0], entry[1])

    def picture(self, kernels: NDArray[Any]) -> NDArray[np.float32]:
        """The picture of kernels in an array (out, in / groups, *size); gaps are NaN."""
        return self._laid_out(np.asarray(kernels, np.float32), np.float32(np.nan))

    def cover(self, dim: NDArray[Any]) -> NDArray[np.float32]:
        """How much each tile is covered, 0 to 1 or a truth value a kernel; two axes also for 3D kernels."""
        flat = Tiling(self.out, self.inside, self.size[-2:])
        wide = np.broadcast_to(dim.reshape(self.out, self.inside, 1, 1), (self.out, self.inside, *flat.size))
        return flat._laid_out(wide.astype(np.float32), np.float32(0))

    def _laid_out(self, kernels: NDArray[Any], gap: Any) -> NDArray[Any]:
        lead = len(self.size) - 2
        high, wide = self.size[-2:]
        down, across, step = self._steps
        whole = np.full((*self.size[:-2], self.rows * down, self.blocks * step), gap, kernels.dtype)
        for block in range(self.blocks):
            part = kernels[block * self.rows : (block + 1) * self.rows]
            padded = np.full((len(part), self.inside, *self.size[:-2], down, across), gap, kernels.dtype)
            padded[..., :high, :wide] = part
            # (out, in, z, y, x) to (z, out, y, in, x)
            turned = np.moveaxis(padded, (0, 1), (lead, lead + 2))
            flat = turned.reshape(*self.size[:-2], len(part) * down, self.inside * across)
            whole[..., : len(part) * down, block * step : block * step + self.inside * across] = flat
        return np.ascontiguousarray(whole[..., : self.rows * down - GAP, : self.blocks * step - BLOCK_GAP])
