"""A conditional random field over the network's probabilities: near voxels of like grey value pull at each other.

Mean field inference of a field with Potts terms between all near pairs of voxels: a Gaussian term in space alone, and a
bilateral one in space and grey value. The Gaussian is a separable convolution; the bilateral sum runs over the offsets
of a truncated window, so it is exact within it, in two and three dimensions and with voxels of any shape.

References
----------
P. Kraehenbuehl, V. Koltun, Efficient inference in fully connected CRFs with Gaussian edge potentials, NIPS 2011.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Generator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from src_models.progress import Progress

ITERATIONS = 5
SMOOTHNESS = 3.0
"""Weight of the Gaussian term, and below of the bilateral one: in units of the logits."""
APPEARANCE = 6.0
RADIUS = 3
"""Voxels of the bilateral window to each side; a wide field leaves voxels out rather than being cut short."""
SURE = 1e-4
"""Probabilities are kept this far from 0: the networks' float16 knows no smaller ones, and no voxel is beyond doubt."""


def mean_field(
    probabilities: NDArray[Any],
    image: NDArray[Any],
    spacing: Sequence[float],
    width: float,
    contrast: float,
    iterations: int = ITERATIONS,
) -> Generator[Progress, None, NDArray[np.float32]]:
    """Probabilities after mean field inference.

    Parameters
    ----------
    probabilities : ndarray of shape (K, z, y, x) or (K, y, x)
        Of the network; they are the unary term, ``-log p``.
    image : ndarray of shape (C, z, y, x) or (C, y, x)
        Grey values.
    spacing : sequence of float
        mm per axis.
    width : float
        Standard deviation of the bilateral term in space, in mm; the Gaussian term has a third of it.
    contrast : float
        Standard deviation in grey value, as a share of the range from the 0.5 to the 99.5 percentile.
    iterations : int
        Of the mean field.

    Yields
    ------
    Progress
        After each share of a pass.

    Returns
    -------
    ndarray of float32, of the shape of `probabilities`
    """
    start = torch.from_numpy(np.clip(probabilities.astype(np.float32), SURE, None))
    unary = start.log()
    field = start / start.sum(0, keepdim=True)
    values = _scaled(image, contrast)
    offsets = _offsets(spacing, width)
    kernels = [_gaussian(width / 3 / h) for h in spacing]
    total = iterations * len(offsets)
    for step in range(iterations):
        message = SMOOTHNESS * _smoothed(field, kernels)
        pulled, weights = torch.zeros_like(field), torch.zeros_like(field[0])
        for number, (offset, near) in enumerate(offsets):
            _pull(pulled, weights, field, values, offset, near)
            if number % 16 == 0:
                yield Progress(
                    phase="crf",
                    fraction=(step * len(offsets) + number) / total,
                    message=f"CRF: pass {step + 1} of {iterations}",
                )
        message += APPEARANCE * pulled / weights.clamp(min=1e-6)
        field = torch.softmax(unary + message, 0)
    return field.numpy()


def _scaled(image: NDArray[Any], contrast: float) -> Tensor:
    """Grey values in units of the contrast: their squared differences stand in the exponent."""
    scaled = []
    for channel in image.astype(np.float32):
        low, high = np.percentile(channel, (0.5, 99.5))
        scaled.append(channel / max(float(high - low) * contrast, 1e-12))
    return torch.from_numpy(np.stack(scaled))


def _offsets(spacing: Sequence[float], width: float) -> list[tuple[tuple[int, ...], float]]:
    """Offsets of the bilateral window without the voxel itself, with their weight in space."""
    axes = []
    for h in spacing:
        # two standard deviations, with gaps between the voxels looked at where that is wide
        reach = max(1, math.ceil(2 * width / h))
        gap = max(1, math.ceil(reach / RADIUS))
        axes.append([gap * k for k in range(-(reach // gap), reach // gap + 1)])
    found = []
    for offset in itertools.product(*axes):
        squared = sum((k * h / width) ** 2 for k, h in zip(offset, spacing, strict=True))
        if any(offset) and squared <= 4.0 + 1e-9:
            found.append((offset, math.exp(-0.5 * squared)))
    return found


def _pull(pulled: Tensor, weights: Tensor, field: Tensor, values: Tensor, offset: tuple[int, ...], near: float) -> None:
    """Add what the neighbours at one offset say; a voxel at the border has fewer of them."""
    here, there = [], []
    for k, n in zip(offset, weights.shape, strict=True):
        here.append(slice(max(0, -k), max(max(0, -k), n - max(0, k))))
        there.append(slice(max(0, k), max(max(0, k), n + min(0, k))))
    apart = (values[(slice(None), *here)] - values[(slice(None), *there)]).square_().sum(0)
    alike = apart.mul_(-0.5).exp_().mul_(near)
    weights[tuple(here)] += alike
    pulled[(slice(None), *here)].addcmul_(field[(slice(None), *there)], alike)


def _gaussian(sigma: float) -> Tensor:
    radius = max(1, math.ceil(3 * sigma))
    place = torch.arange(-radius, radius + 1, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (place / max(sigma, 1e-3)) ** 2)
    return kernel / kernel.sum()


def _smoothed(field: Tensor, kernels: Sequence[Tensor]) -> Tensor:
    """Separable Gaussian of every class; the edge is repeated."""
    for axis, kernel in enumerate(kernels, 1):
        moved = field.movedim(axis, -1)
        rows = moved.reshape(-1, 1, moved.shape[-1])
        padded = functional.pad(rows, (len(kernel) // 2, len(kernel) // 2), mode="replicate")
        field = functional.conv1d(padded, kernel.view(1, 1, -1)).view(moved.shape).movedim(-1, axis)
    return field
