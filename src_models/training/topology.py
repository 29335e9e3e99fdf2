"""Which axes a network pools, how far, and with which kernels; and what its maps weigh (nnU-Net's rules 6 and 7).

An axis is halved while it has 8 voxels or more, and only together with axes whose voxels are less than twice as long as
the shortest of those: after some levels the voxels are about cubes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, prod

from src_models.preprocessing.resampling import Numbers

SMALLEST_MAP = 4
"""Voxels along an axis that pooling must leave."""


@dataclass(frozen=True)
class Topology:
    """The levels of a network.

    Attributes
    ----------
    pools : tuple of int
        How often each axis is halved.
    strides : tuple of tuple of int
        Per stage and axis; the first stage has stride 1.
    kernels : tuple of tuple of int
        Per stage and axis, 1 or 3; that of the bottleneck is 3.
    patch : tuple of int
        Padded up to multiples of `divisors`.
    divisors : tuple of int
        2 to the power of `pools`.
    """

    pools: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]
    kernels: tuple[tuple[int, ...], ...]
    patch: tuple[int, ...]
    divisors: tuple[int, ...]

    @property
    def stages(self) -> int:
        """Number of resolutions."""
        return len(self.strides)


def topology(spacing: Numbers, patch: Numbers) -> Topology:
    """The levels for a patch.

    Parameters
    ----------
    spacing : sequence of float
        Per axis of the network.
    patch : sequence of float
        Wanted size; medians of an even number of cases may be halves.

    Notes
    -----
    All comparisons are strict as in nnU-Net: exactly twice as long is too long.
    """
    axes = range(len(spacing))
    current, size = [float(h) for h in spacing], [float(n) for n in patch]
    pools, kernel = [0] * len(axes), [1] * len(axes)
    strides, kernels = [(1,) * len(axes)], []
    while True:
        large = [k for k in axes if size[k] >= 2 * SMALLEST_MAP]
        if not large:
            break
        finest = min(current[k] for k in large)
        pooled = [k for k in large if current[k] / finest < 2]
        if len(pooled) == 1 and size[pooled[0]] < 3 * SMALLEST_MAP:
            break
        shortest = min(current)
        kernel = [3 if width == 3 or h / shortest < 2 else 1 for width, h in zip(kernel, current, strict=True)]
        kernels.append(tuple(kernel))
        strides.append(tuple(2 if k in pooled else 1 for k in axes))
        for k in pooled:
            pools[k] += 1
            current[k] *= 2
            size[k] = ceil(size[k] / 2)
    kernels.append((3,) * len(axes))
    divisors = tuple(2**n for n in pools)
    padded = tuple(int(ceil(n / d) * d) for n, d in zip(patch, divisors, strict=True))
    return Topology(tuple(pools), tuple(strides), tuple(kernels), padded, divisors)


def features_per_stage(stages: int, ndim: int) -> tuple[int, ...]:
    """32, 64, ... and no more than 320 in 3D or 512 in 2D."""
    return tuple(min(512 if ndim == 2 else 320, 32 * 2**k) for k in range(stages))


def map_sizes(
    shape: Topology,
    features: Sequence[int],
    encoder: Sequence[int],
    decoder: Sequence[int],
    num_classes: int,
    *,
    residual: bool,
) -> int:
    """Sum of the sizes of all output maps, nnU-Net's stand-in for the memory of a training.

    Parameters
    ----------
    shape : Topology
        Whose patch it is for.
    features : sequence of int
        Per stage.
    encoder, decoder : sequence of int
        Convolutions (or residual blocks) per stage; the decoder has one stage less, coarsest first.
    num_classes : int
        Channels of the head, which counts at the finest level only.
    residual : bool
        A residual block counts two convolutions, and its shortcut where that changes size or channels.
    """
    size = list(shape.patch)
    voxels = []
    total = features[0] * prod(size) if residual else 0
    channels = features[0]
    for stride, wide, count in zip(shape.strides, features, encoder, strict=True):
        strided = any(step != 1 for step in stride)
        size = [n // step for n, step in zip(size, stride, strict=True)]
        voxels.append(prod(size))
        maps = 2 * count + int(strided or wide != channels) if residual else count
        total += maps * wide * voxels[-1]
        channels = wide
    for level, count in zip(reversed(range(shape.stages - 1)), decoder, strict=True):
        total += (count + 1) * features[level] * voxels[level]
    return total + num_classes * voxels[0]
