"""The speed of the balloon on the grids of a pyramid, for arrival times."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_models.levelset.coarsening import Level, block_any, block_mean, block_mean_and_range
from src_models.levelset.compiled import compiled
from src_models.levelset.fields import check_speed_image
from src_models.levelset.parameters import LevelSetParameters
from src_models.levelset.speed import as_image, blurred, speed_image, with_range

EDGE_VOXELS, REGION_VOXELS = 2_100_000, 300_000
"""The first picture reads its speed on the finest grid up to this size: edges vanish sooner than grey values."""


class BalloonSpeeds:
    """Balloon speeds on the grids of a pyramid.

    Across an edge a front needs the time of all its slow voxels, so that a block of edge speeds has the harmonic mean
    as its speed; region speeds, which have both signs, have the mean.
    """

    def __init__(
        self,
        image: NDArray[Any],
        levels: Sequence[Level],
        parameters: LevelSetParameters,
        given: NDArray[Any] | None,
        walls: NDArray[Any] | None,
    ) -> None:
        self._image, self._levels, self._parameters = image, levels, parameters
        self._walls = None if walls is None else np.asarray(walls) != 0
        self._fine: NDArray[Any] | None = None
        if given is not None:
            self._fine = self._powered(check_speed_image(given, image.shape, parameters))

    def on(self, level: Level) -> NDArray[Any]:
        """The speed of the full image, on a level."""
        if self._fine is None:
            image = as_image(self._image, self._levels[0].spacing)
            settings = with_range(image, self._parameters)
            self._fine = self._powered(speed_image(image, self._levels[0].spacing, settings))
        return self._walled(self._mean(self._fine, level.factors), level)

    def at_once(self) -> NDArray[Any]:
        """The speed on the coarsest level, from blocks of the image and not from all its voxels."""
        if self._fine is not None:
            return self.on(self._levels[-1])
        most = EDGE_VOXELS if self._parameters.speed == "edge" else REGION_VOXELS
        # Never the finest: the mean of a block takes the place of the blur before edges.
        level = next((lev for lev in self._levels[1:] if math.prod(lev.shape) <= most), self._levels[-1])
        blocks, value_range = block_mean_and_range(self._image, level.factors)
        settings = self._parameters
        if settings.value_range is None:
            settings = settings.model_copy(update={"value_range": value_range})
        s = self._powered(self._of_blocks(as_image(blocks, level.spacing), level, settings))
        return self._walled(self._mean(s, self._levels[-1].within(level)), self._levels[-1])

    def _of_blocks(self, blocks: NDArray[Any], level: Level, settings: LevelSetParameters) -> NDArray[Any]:
        low, high = settings.value_range or (0.0, 0.0)
        if settings.speed == "region" or settings.edge_preset == "paper" or high <= low:
            return speed_image(blocks, level.spacing, settings)
        widths = settings.sigma if isinstance(settings.sigma, tuple) else (settings.sigma,) * blocks.ndim
        if any(w > 0.75 * h for w, h in zip(widths, level.spacing, strict=True)):
            blocks = blurred(blocks, level.spacing, settings.sigma)
        # The mean of a block has blurred already what a narrower Gaussian would blur.
        lead = (1,) * (3 - blocks.ndim)
        g = np.empty(lead + blocks.shape, blocks.dtype)
        step = np.array([1.0] * len(lead) + [2 * h * settings.contrast * (high - low) for h in level.spacing])
        _edge_indicator(blocks.reshape(g.shape), (1 / step).astype(g.dtype), settings.edge_power / 2, g)
        return g.reshape(blocks.shape)

    def _powered(self, speed: NDArray[Any]) -> NDArray[Any]:
        exponent = self._parameters.balloon_exponent
        return speed if exponent == 1 else np.asarray(np.sign(speed) * np.abs(speed) ** exponent)

    def _mean(self, speed: NDArray[Any], factors: Sequence[int]) -> NDArray[Any]:
        if max(factors) == 1:
            return speed
        if self._parameters.speed == "region":
            return block_mean(speed, factors)
        with np.errstate(divide="ignore"):
            return np.asarray(1 / block_mean(1 / speed, factors))

    def _walled(self, speed: NDArray[Any], level: Level) -> NDArray[Any]:
        if self._walls is None:
            return speed
        return np.where(block_any(self._walls, level.factors), speed.dtype.type(0), speed)


@compiled
def _edge_indicator(image: NDArray[Any], scale: NDArray[Any], power: float, g: NDArray[Any]) -> None:
    """1 / (1 + (sum (scale_d (I[i + e_d] - I[i - e_d]))^2)^power) in one pass, with edge replication."""
    nz, ny, nx = image.shape
    one = g.dtype.type(1)
    for z in range(nz):
        up, down = image[min(z + 1, nz - 1)], image[max(z - 1, 0)]
        for y in range(ny):
            above, below, line = up[y], down[y], image[z, y]
            right, left, row = image[z, min(y + 1, ny - 1)], image[z, max(y - 1, 0)], g[z, y]
            for x in range(nx):
                dz = scale[0] * (above[x] - below[x])
                dy = scale[1] * (right[x] - left[x])
                dx = scale[2] * (line[min(x + 1, nx - 1)] - line[max(x - 1, 0)])
                row[x] = dz * dz + dy * dy + dx * dx
            if power == 1.5:
                for x in range(nx):
                    row[x] = one / (one + row[x] * np.sqrt(row[x]))
            else:
                for x in range(nx):
                    row[x] = one / (one + row[x] ** power)
