"""The input channel of a click: where a level set network begins that is started by hand.

Its description declares it (``start="seed"``): the last channel that the network takes, named "seed", is the signed
distance to a ball about the click, positive inside, on the grid that the network sees. It is made after everything that
is done to the image, so that an image's file has no such channel.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

START = "seed"
"""Value of the network's option ``start``, and the name of the channel."""
INNER_HALF = 0.5
"""Clicks of a training lie at least this share of the greatest depth inside."""


@dataclass(frozen=True)
class Click:
    """How a network takes a click.

    Attributes
    ----------
    radius : float
        Of the ball, in the unit of the spacing.
    spacing : tuple of float
        Of the network's grid, per axis.
    """

    radius: float
    spacing: tuple[float, ...]

    @classmethod
    def of(cls, network: Mapping[str, Any]) -> Click | None:
        """What the description of a network (`Network.config`) says; None where it takes no click."""
        options = network.get("options", {})
        if options.get("start") != START:
            return None
        spacing = options.get("spacing") or (1.0,) * int(network["ndim"])
        return cls(float(options["seed_radius"]), tuple(float(h) for h in spacing))

    @staticmethod
    def counted(network: Mapping[str, Any], image_channels: int) -> dict[str, Any]:
        """A description of a network with as many input channels as image and click have together."""
        clicked = network.get("options", {}).get("start") == START
        return dict(network) | {"in_channels": image_channels + clicked}

    def channel(self, shape: Sequence[int], points: Sequence[Sequence[float]]) -> NDArray[np.float32]:
        """The channel on a grid.

        Parameters
        ----------
        shape : sequence of int
            (z, y, x) or (y, x), as many axes as the network has.
        points : sequence of sequence of float
            Clicks in voxels of that grid; the union of their balls counts. None leaves all outside, further away than
            the grid is wide.

        Returns
        -------
        ndarray of float32, of the shape
        """
        sides = [n * h for n, h in zip(shape, self.spacing, strict=True)]
        u = np.full(tuple(shape), -float(np.linalg.norm(sides)), np.float32)
        for point in points:
            square = np.zeros((1,) * len(shape))
            for axis, (n, h, x) in enumerate(zip(shape, self.spacing, point, strict=True)):
                along = ((np.arange(n) - x) * h) ** 2
                square = square + along.reshape([-1 if k == axis else 1 for k in range(len(shape))])
            np.maximum(u, (self.radius - np.sqrt(square)).astype(np.float32), out=u)
        return u

    def point(self, inside: NDArray[np.bool_], rng: np.random.Generator | None = None) -> tuple[int, ...] | None:
        """A click on a structure as a person would set it.

        Parameters
        ----------
        inside : ndarray of bool
            The structure, on the network's grid.
        rng : numpy Generator, optional
            Any voxel at least half as deep inside as the deepest; without it the innermost voxel of all.

        Returns
        -------
        tuple of int or None
            None where there is no structure.
        """
        from scipy.ndimage import distance_transform_edt

        if not inside.any():
            return None
        # the border of the image is no border of the structure, but a click there shows little of it
        padded = np.pad(inside, 1)
        depth = np.asarray(distance_transform_edt(padded, self.spacing))[(slice(1, -1),) * inside.ndim]
        if rng is None:
            return tuple(int(k) for k in np.unravel_index(int(depth.argmax()), depth.shape))
        places = np.flatnonzero(depth >= INNER_HALF * depth.max())
        return tuple(int(k) for k in np.unravel_index(int(places[rng.integers(len(places))]), depth.shape))

    def places(self, inside: NDArray[np.bool_], spacing: Sequence[float]) -> list[tuple[float, ...]]:
        """Innermost clicks on a known structure, in mm of an image: one, or one a slice of a volume for a 2D network.

        Parameters
        ----------
        inside : ndarray of bool
            On the image's own grid.
        spacing : sequence of float
            mm per axis of it.
        """
        own = Click(self.radius, tuple(spacing[-len(self.spacing) :]))
        if inside.ndim == len(self.spacing):
            found = [own.point(inside)]
        else:
            within = [own.point(part) for part in inside]
            found = [None if point is None else (z, *point) for z, point in enumerate(within)]
        return [tuple(k * h for k, h in zip(p, spacing, strict=True)) for p in found if p is not None]

    def marked(
        self, image: NDArray[np.float32], inside: NDArray[np.bool_], rng: np.random.Generator | None = None
    ) -> NDArray[np.float32]:
        """An image (C, *shape) with the channel of a click on a known structure behind its own.

        A volume for a 2D network is clicked in every slice that shows the structure.
        """

        def one(part: NDArray[np.bool_]) -> NDArray[np.float32]:
            found = self.point(part, rng)
            return self.channel(part.shape, () if found is None else (found,))

        channel = np.stack([one(part) for part in inside]) if inside.ndim > len(self.spacing) else one(inside)
        return np.concatenate((image, channel[None]))

    def placed(self, shape: Sequence[int], points: Sequence[Sequence[float]]) -> NDArray[np.float32]:
        """The channel for clicks on a grid that may have one axis more than a 2D network.

        A click then counts in its own slice alone; the others have none.
        """
        if len(shape) == len(self.spacing):
            return self.channel(shape, points)
        own = [self.slice_of(point[0], shape[0]) for point in points]
        slices = [[point[1:] for point, at in zip(points, own, strict=True) if at == z] for z in range(shape[0])]
        return np.stack([self.channel(shape[1:], there) for there in slices])

    @staticmethod
    def slice_of(z: float, count: int) -> int:
        """The slice that a place lies in; the outer faces of the image belong to its first and last slice."""
        return min(max(math.floor(z + 0.5), 0), count - 1)
