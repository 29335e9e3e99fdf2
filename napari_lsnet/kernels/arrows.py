"""Where each kernel moves features, as arrows on the tiles of the montage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_lsnet.kernels.colours import MARK

if TYPE_CHECKING:
    from napari_lsnet.kernels.tiles import Tiling
    from src_models.kernels.result import KernelTable

_REACH = 0.48
"""Of the longest arrow, in sides of a tile."""
_LEAST = 0.06
"""Arrows below this share of the longest are no more than dots, and are left out."""


def arrows_of(tiling: Tiling, table: KernelTable, rows: slice) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Arrows -b on one scale, in the coordinates of the montage.

    Parameters
    ----------
    tiling : Tiling
        Of the layer.
    table : KernelTable
        Of the network.
    rows : slice
        Of the layer.

    Returns
    -------
    arrows : ndarray of shape (N, 2, 2)
        Start and direction of each, (y, x): of 3D kernels the part in the plane.
    kernels : ndarray of shape (N,)
        Which kernels have them, counted within the layer.
    """
    velocity = -np.stack([table.numbers("b_y")[rows], table.numbers("b_x")[rows]], axis=1).astype(np.float64)
    velocity[~np.isfinite(velocity)] = 0
    length = np.linalg.norm(velocity, axis=1)
    longest = float(length.max(initial=0))
    kernels = np.flatnonzero(length > _LEAST * longest) if longest > 0 else np.zeros(0, np.intp)
    side = np.array(tiling.size[-2:], float)
    corners = np.array([tiling.corner(int(kernel)) for kernel in kernels], float).reshape(-1, 2)
    steps = velocity[kernels] / (longest or 1.0) * _REACH * side.min()
    return np.stack([corners + (side - 1) / 2, steps], axis=1), kernels


def arrow_look(montage: Any) -> dict[str, Any]:
    """Keyword arguments of a vectors layer on a montage."""
    return {
        "name": "Advection (where features move)",
        "vector_style": "arrow",
        "edge_color": MARK,
        "edge_width": 0.22,
        "length": 1.0,
        "scale": montage.scale[-2:],
        "translate": montage.translate[-2:],
        "units": tuple(montage.units)[-2:],
    }
