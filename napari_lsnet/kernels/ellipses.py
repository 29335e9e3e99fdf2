"""How each kernel spreads features: the ellipse of its diffusion tensor on its tile, or the axes of it as lines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_lsnet.kernels.colours import INDEFINITE, SHARPENING, SMOOTHING

if TYPE_CHECKING:
    from napari_lsnet.kernels.tiles import Tiling
    from src_models.kernels.result import Layer

MOST_ELLIPSES = 2000
"""Of more tiles only the axes are drawn."""
_REACH = 0.48
"""Of the longest half-axis, in sides of a tile."""
_LEAST = 0.06
"""Half-axes below this share of the longest are no more than dots: a line is left out, an ellipse stays this wide."""


@dataclass(frozen=True, eq=False)
class Spread:
    """Principal axes of the diffusion tensors of a layer's kernels, in the coordinates of its montage.

    Attributes
    ----------
    centres : ndarray of shape (N, 2)
        Of the tiles, (y, x).
    halves : ndarray of shape (N, d, 2)
        Half-axes, sqrt(abs(eigenvalue)) on one scale for the layer, falling by eigenvalue; of 3D kernels the part in
        the plane.
    values : ndarray of shape (N, d)
        Eigenvalues.
    kernels : ndarray of shape (N,)
        Which kernels, counted within the layer; those without any diffusion are left out.
    """

    centres: NDArray[np.float64]
    halves: NDArray[np.float64]
    values: NDArray[np.float64]
    kernels: NDArray[np.intp]

    def boxes(self) -> NDArray[np.float64]:
        """Corners of the boxes around the ellipses of 2D kernels, (N, 4, 2)."""
        one, two = self._visible(self.halves[:, 0], 0), self._visible(self.halves[:, 1], 1)
        centres = self.centres
        return np.stack([centres - one - two, centres - one + two, centres + one + two, centres + one - two], axis=1)

    def kinds(self) -> list[str]:
        """A colour per kernel: it smooths, it sharpens, or it does both."""
        lowest, highest = self.values.min(axis=1), self.values.max(axis=1)
        return [
            SMOOTHING if low >= 0 else SHARPENING if high <= 0 else INDEFINITE
            for low, high in zip(lowest.tolist(), highest.tolist(), strict=True)
        ]

    def lines(self) -> tuple[NDArray[np.float64], list[str]]:
        """All axes as lines through the centres, (M, 2, 2) start and direction, and a colour for each by its sign."""
        length = np.linalg.norm(self.halves, axis=2)
        seen = length > _LEAST * length.max(initial=0)
        half = self.halves[seen]
        centres = np.broadcast_to(self.centres[:, None], self.halves.shape)[seen]
        colours = [SMOOTHING if value >= 0 else SHARPENING for value in self.values[seen]]
        return np.stack([centres - half, 2 * half], axis=1), colours

    def _visible(self, halves: NDArray[np.float64], which: int) -> NDArray[np.float64]:
        """An axis of length 0 has no direction of its own: it is that across the other one."""
        other = self.halves[:, 1 - which]
        across = np.stack([-other[:, 1], other[:, 0]], axis=1)
        longest = np.linalg.norm(self.halves, axis=2).max()
        least = _LEAST * longest
        length = np.linalg.norm(halves, axis=1, keepdims=True)
        width = np.linalg.norm(across, axis=1, keepdims=True)
        direction = np.divide(across, width, out=np.zeros_like(across), where=width > 0)
        return np.where(length < least, least * direction, halves)


def spread_of(tiling: Tiling, layer: Layer) -> Spread:
    """Principal axes of the diffusion tensors of a layer's kernels.

    Parameters
    ----------
    tiling : Tiling
        Of the layer.
    layer : Layer
        With its kernels.
    """
    from src_models.kernels.operators import low_moments

    _, _, tensors = low_moments(np.asarray(layer.flat, np.float64), layer.size)
    values, vectors = np.linalg.eigh(tensors)
    values, vectors = values[:, ::-1], vectors[:, :, ::-1]
    halves = np.sqrt(np.abs(values))[:, :, None] * vectors.transpose(0, 2, 1)
    longest = float(np.sqrt(np.abs(values)).max(initial=0))
    kernels = np.flatnonzero(np.sqrt(np.abs(values).max(axis=1)) > _LEAST * longest)
    side = np.array(tiling.size[-2:], float)
    corners = np.array([tiling.corner(int(kernel)) for kernel in kernels], float).reshape(-1, 2)
    plane = halves[kernels][:, :, -2:] * (_REACH * side.min() / (longest or 1.0))
    return Spread(corners + (side - 1) / 2, plane, values[kernels], kernels)
