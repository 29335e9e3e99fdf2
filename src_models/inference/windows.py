"""Where windows lie on an image, and how much each of their voxels counts where they overlap.

Positions and weights are those of nnU-Net: as many windows per axis as the step asks for, evenly spaced again and
rounded; a Gaussian that falls towards the border of the window, where a network sees the least context.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SIGMA = 1 / 8
"""Standard deviation of the Gaussian, as a share of the window."""
PEAK = 10.0


@dataclass(frozen=True)
class Window:
    """One piece of the image that goes through the network.

    Attributes
    ----------
    read : tuple of slice
        What the network is given.
    write : tuple of slice
        What is kept of its result; equal to `read`, or less where a halo is thrown away.
    """

    read: tuple[slice, ...]
    write: tuple[slice, ...]

    @property
    def inner(self) -> tuple[slice, ...]:
        """`write` counted from the start of `read`."""
        return tuple(slice(w.start - r.start, w.stop - r.start) for r, w in zip(self.read, self.write, strict=True))


def positions(size: int, patch: int, step: float) -> list[int]:
    """Starts of the windows along one axis.

    Parameters
    ----------
    size, patch : int
        Voxels of the image and of the window; the image is not smaller.
    step : float
        Share of the window, in (0, 1].
    """
    # a plane of a 2D network has no half: windows are a voxel apart at least
    count = math.ceil((size - patch) / max(patch * step, 1)) + 1
    if count == 1:
        return [0]
    apart = (size - patch) / (count - 1)
    return [int(np.round(apart * k)) for k in range(count)]


def gaussian(patch: Sequence[int]) -> NDArray[np.float32]:
    """Weight of each voxel of a window: a Gaussian about its centre, 10 at the peak, never 0.

    Parameters
    ----------
    patch : sequence of int
        Size of the window.
    """
    weight = np.full((1,) * len(patch), PEAK)
    for axis, n in enumerate(patch):
        apart = (np.arange(n) - n // 2) / (n * SIGMA)
        shape = [1] * len(patch)
        shape[axis] = n
        weight = weight * np.exp(-0.5 * apart**2).reshape(shape)
    narrow = weight.astype(np.float32)
    narrow[narrow == 0] = narrow[narrow > 0].min()
    return narrow


def overlapping(shape: Sequence[int], patch: Sequence[int], step: float) -> list[list[Window]]:
    """Windows of one size, in groups that share their place along axis 0, in order.

    Parameters
    ----------
    shape : sequence of int
        Of the image, nowhere smaller than the window.
    patch : sequence of int
        Of the window.
    step : float
        Share of the window.
    """
    starts = [positions(n, p, step) for n, p in zip(shape, patch, strict=True)]

    def windows(first: int) -> Iterator[Window]:
        for rest in itertools.product(*starts[1:]):
            box = tuple(slice(a, a + p) for a, p in zip((first, *rest), patch, strict=True))
            yield Window(box, box)

    return [list(windows(first)) for first in starts[0]]


def exact(
    shape: Sequence[int], core: Sequence[int], halo: Sequence[tuple[int, int]], stride: Sequence[int]
) -> list[list[Window]]:
    """Tiles that together give what the whole image gives, for a network that sees no further than its reach.

    A tile starts on the stride grid, so that pooling falls on the same voxels as in the whole image; it reads as much
    around what it writes as the network reaches; at the border of the image it sees what the whole pass sees there.

    Parameters
    ----------
    shape : sequence of int
        Of the image.
    core : sequence of int
        What a tile writes, per axis; rounded up to the stride.
    halo : sequence of (int, int)
        How far the network reaches before and behind a voxel, per axis.
    stride : sequence of int
        Of the network.
    """
    axes = []
    for n, c, (before, behind), s in zip(shape, core, halo, stride, strict=True):
        length = -(-c // s) * s
        lead, trail = -(-before // s) * s, -(-behind // s) * s
        spans = []
        for start in range(0, n, length):
            stop = min(start + length, n)
            spans.append((slice(max(0, start - lead), min(n, stop + trail)), slice(start, stop)))
        axes.append(spans)
    return [
        [
            Window(tuple(read for read, _ in spans), tuple(write for _, write in spans))
            for spans in itertools.product([first], *axes[1:])
        ]
        for first in axes[0]
    ]
