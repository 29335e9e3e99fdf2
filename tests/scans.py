"""Small scans with a dark surrounding, coarse slices and labels, the same wherever they are made."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Scan:
    """What is prepared, and how.

    Attributes
    ----------
    shape, spacing : tuple
        (z, y, x), mm.
    target : tuple of float
        Spacing of the network in the image's order; two numbers for a 2D network.
    axis_order : tuple of int
        Of the network.
    kinds : tuple of str
        Normalisation per channel.
    masked : bool
        z-scores within the nonzero part.
    """

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    target: tuple[float, ...]
    axis_order: tuple[int, int, int] = (0, 1, 2)
    kinds: tuple[str, ...] = ("zscore",)
    masked: bool = False


PREPARED = {
    "isotropic": Scan((14, 17, 16), (1.0, 1.0, 1.0), (1.3, 0.9, 1.0)),
    "thick_slices": Scan((8, 18, 20), (5.0, 1.0, 1.0), (4.0, 1.3, 1.3), kinds=("ct",)),
    "to_thick_slices": Scan((16, 14, 15), (1.0, 1.0, 1.0), (3.5, 0.8, 0.8)),
    "thick_in_x": Scan((16, 17, 8), (0.9, 0.8, 4.0), (1.1, 1.1, 3.2), (2, 0, 1), masked=True),
    "two_channels": Scan((12, 13, 14), (1.2, 1.0, 1.0), (1.0, 1.0, 1.0), kinds=("zscore", "ct"), masked=True),
    "slices": Scan((9, 15, 16), (2.0, 1.0, 1.0), (1.4, 0.8)),
}


def scan(one: Scan) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Image (C, z, y, x) and labels."""
    rng = np.random.default_rng(sum(one.shape))
    z, y, x = np.meshgrid(*[(np.arange(n) + 0.5) / n - 0.5 for n in one.shape], indexing="ij")
    body = z**2 + y**2 + x**2 < 0.22
    image = np.stack(
        [50 + 60 * np.sin(4 * y + c) + 30 * z + rng.normal(0, 8, one.shape) for c in range(len(one.kinds))]
    )
    labels = np.zeros(one.shape, np.uint8)
    labels[(z - 0.05) ** 2 + (y + 0.1) ** 2 + x**2 < 0.05] = 1
    labels[z**2 + (y - 0.2) ** 2 + (x - 0.1) ** 2 < 0.015] = 2
    return np.where(body, image, 0).astype(np.float32), labels
