"""Images larger than memory: prepared slab by slab as windows ask for it, labels written slab by slab.

A first pass over the slabs finds what normalisation and the crop need. In the second, planes of the networks' grid are
made from as many planes of the image as a spline reaches, so that they are those of the whole image to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from src_models.errors import InputError
from src_models.inference.prepared import Layout
from src_models.preprocessing.normalisation import normalise
from src_models.preprocessing.parameters import Channel, ChannelStatistics, Preprocessing
from src_models.preprocessing.prepare import Way
from src_models.preprocessing.resampling import along_axis, centres, nearest

REACH = 14
"""Planes beside a slab that a cubic spline still feels: 0.27 to this power is below the rounding of fp32."""


class ArrayLike(Protocol):
    """What is read: a zarr or dask array, or any other with these."""

    shape: tuple[int, ...]
    dtype: Any

    def __getitem__(self, key: Any) -> Any:
        """A part of it."""
        ...


@dataclass(frozen=True)
class Summary:
    """What the first pass finds.

    Attributes
    ----------
    box : tuple of slice
        The smallest that holds everything but zeros, in array order.
    means, stds, lows, highs : tuple of float
        Per channel, inside the box; of values clipped to the channel's window where that is used.
    """

    box: tuple[slice, ...]
    means: tuple[float, ...]
    stds: tuple[float, ...]
    lows: tuple[float, ...]
    highs: tuple[float, ...]


def read_slab(source: ArrayLike, spatial: int, start: int, stop: int) -> NDArray[Any]:
    """Planes of an image as (C, planes, y, x)."""
    if len(source.shape) == spatial:
        return np.asarray(source[start:stop])[None]
    return np.asarray(source[:, start:stop])


def summarise(
    source: ArrayLike, thickness: int, crop: bool, windows: Sequence[tuple[float, float] | None] = ()
) -> Generator[float, None, Summary]:
    """Go over all slabs once.

    Parameters
    ----------
    source : array-like of shape (z, y, x) or (C, z, y, x)
        The image.
    thickness : int
        Planes that are read at a time.
    crop : bool
        Whether the box is wanted.
    windows : sequence of (float, float) or None
        Of the channels; see `Channel.window`.

    Yields
    ------
    float
        Share that is done.

    Raises
    ------
    InputError
        Where a value is not finite.
    """
    depth = source.shape[-3]
    there = [np.zeros(n, bool) for n in source.shape[-3:]]
    channels = 1 if len(source.shape) == 3 else source.shape[0]
    views = [_Values(channels), _Values(channels, windows)]
    for start in range(0, depth, thickness):
        slab = read_slab(source, 3, start, min(start + thickness, depth))
        if slab.dtype.kind == "f" and not np.isfinite(slab).all():
            raise InputError(
                "image-nan",
                "The image holds values that are not numbers",
                f"between planes {start} and {start + slab.shape[1]}",
                "Repair the image; filling them needs an image that fits in memory.",
            )
        filled = (slab != 0).any(0)
        there[0][start : start + slab.shape[1]] = filled.any((1, 2))
        there[1] |= filled.any((0, 2))
        there[2] |= filled.any((0, 1))
        wide = slab.reshape(len(slab), -1).astype(np.float64)
        for view in views if any(windows) else views[:1]:
            view.add(wide)
        yield min(1.0, (start + thickness) / depth)
    marked = [np.flatnonzero(line) for line in there]
    whole = tuple(slice(0, n) for n in source.shape[-3:])
    box = tuple(slice(int(m[0]), int(m[-1]) + 1) for m in marked) if crop and all(m.size for m in marked) else whole
    inside = math.prod(part.stop - part.start for part in box)
    raw, clipped = (view.within(inside, math.prod(source.shape[-3:]) - inside) for view in views)
    found = [
        clipped[k] if window is not None and raw[k][2] < window[0] else raw[k]
        for k, window in enumerate(windows or [None] * channels)
    ]
    means, stds, lows, highs = zip(*found, strict=True)
    return Summary(box, means, stds, lows, highs)


class _Values:
    """What is gathered of the values of each channel, clipped to its window where there is one.

    Outside the box all channels are 0, which is taken out again in the end.
    """

    def __init__(self, channels: int, windows: Sequence[tuple[float, float] | None] = ()) -> None:
        ends = [window or (-np.inf, np.inf) for window in windows or [None] * channels]
        self._low, self._high = np.array(ends).T[:, :, None]
        self._sums = np.zeros((2, channels))
        self._lows, self._highs = np.full(channels, np.inf), np.full(channels, -np.inf)
        self._zeros = np.zeros(channels)

    def add(self, wide: NDArray[np.float64]) -> None:
        """Take the values of a slab, (C, voxels)."""
        there = wide != 0
        wide = np.clip(wide, self._low, self._high)
        self._sums += wide.sum(1), (wide**2).sum(1)
        self._lows = np.minimum(self._lows, wide.min(1, initial=np.inf, where=there))
        self._highs = np.maximum(self._highs, wide.max(1, initial=-np.inf, where=there))
        self._zeros += (~there).sum(1)

    def within(self, inside: int, outside: int) -> list[tuple[float, float, float, float]]:
        """Mean, standard deviation, lowest and highest value of each channel in a box of so many voxels."""
        zero = np.clip(0.0, self._low, self._high)[:, 0]
        mean = (self._sums[0] - outside * zero) / inside
        std = np.sqrt(np.maximum((self._sums[1] - outside * zero**2) / inside - mean**2, 0))
        has_zero = self._zeros > outside
        low = np.where(has_zero, np.minimum(self._lows, zero), self._lows)
        high = np.where(has_zero, np.maximum(self._highs, zero), self._highs)
        return [(float(m), float(s), float(a), float(b)) for m, s, a, b in zip(mean, std, low, high, strict=True)]


def fixed_normalisation(pre: Preprocessing, summary: Summary) -> Preprocessing:
    """Channels whose normalisation needs no look at the image any more: its numbers stand in the statistics."""
    channels = []
    for k, channel in enumerate(pre.channels):
        mean, std, low, high = summary.means[k], summary.stds[k], summary.lows[k], summary.highs[k]
        if channel.normalisation == "rescale_to_0_1":
            mean, std = low, high - low
        elif channel.normalisation == "nonorm":
            mean, std = 0.0, 1.0
        elif channel.normalisation == "ct" and channel.statistics is not None:
            known = channel.statistics
            mean, std = known.mean, known.std
            low, high = (min(max(end, known.percentile_00_5), known.percentile_99_5) for end in (low, high))
        if channel.normalisation != "rgb_to_0_1":
            # the clip to these ends is the clip to the window, and splines do not leave them
            known = ChannelStatistics(
                mean=mean, median=mean, std=std, minimum=low, maximum=high, percentile_00_5=low, percentile_99_5=high
            )
            channel = Channel(name=channel.name, normalisation="ct", statistics=known)
        channels.append(channel)
    return pre.model_copy(update={"channels": tuple(channels)})


class SlabInput:
    """The prepared image, made for the planes that a group of windows reads; used by a sweep in place of a tensor.

    Parameters
    ----------
    source : array-like
        The image, (z, y, x) or (C, z, y, x).
    way : Way
        How it is brought to the networks.
    layout : Layout
        Swept along the first axis of the array.
    pre : Preprocessing
        With a fixed normalisation; see `fixed_normalisation`.
    """

    def __init__(self, source: ArrayLike, way: Way, layout: Layout, pre: Preprocessing) -> None:
        self._source, self._way, self._layout, self._pre = source, way, layout, pre
        self._along = way.axis_order.index(0)
        low, high = self._limits()
        self._low, self._high = low, high
        self._planes: Tensor | None = None
        self._start = 0

    def _limits(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Range of each channel after normalisation, that splines must not leave."""
        ends = []
        for channel in self._pre.channels:
            known = channel.statistics
            if known is None:
                ends.append((-np.inf, np.inf))
                continue
            std = max(known.std, 1e-8)
            ends.append(((known.percentile_00_5 - known.mean) / std, (known.percentile_99_5 - known.mean) / std))
        pair = np.array(ends, np.float32).T.reshape(2, -1, 1, 1, 1)
        return pair[0], pair[1]

    def __getitem__(self, key: tuple[slice, slice, slice, slice]) -> Tensor:
        """A window in swept order; windows come in order of their first plane."""
        planes = key[1]
        if self._planes is None or planes.start < self._start or planes.stop > self._start + self._planes.shape[1]:
            self._make(planes.start, planes.stop)
        assert self._planes is not None
        inner = slice(planes.start - self._start, planes.stop - self._start)
        return self._planes[(key[0], inner, *key[2:])]

    def _make(self, start: int, stop: int) -> None:
        """Planes of the padded grid; those that are known already are kept."""
        layout = self._layout
        made = torch.zeros((len(self._pre.channels), stop - start, *layout.padded[1:]))
        first = start
        if self._planes is not None and self._start <= start < self._start + self._planes.shape[1]:
            known = self._planes[:, start - self._start :]
            made[:, : known.shape[1]] = known
            first = start + known.shape[1]
        before, coarse = layout.before, layout.coarse
        low, high = max(first, before[0]) - before[0], min(stop, before[0] + coarse[0]) - before[0]
        if high > low:
            inner = tuple(slice(b, b + n) for b, n in zip(before[1:], coarse[1:], strict=True))
            place = slice(low + before[0] - start, high + before[0] - start)
            made[(slice(None), place, *inner)] = torch.from_numpy(self._prepared(low, high))
        self._planes, self._start = made, start

    def _prepared(self, low: int, high: int) -> NDArray[np.float32]:
        """Planes low to high - 1 of the networks' grid, in swept order."""
        box = self._way.box[self._along]
        count, size = box.stop - box.start, self._way.resampled[self._along]
        order = 0 if self._way.axis_there == self._along else self._pre.order_image
        places = centres(count, size)[low:high]
        wanted, weights = _taps(places, count, size, order, low, high)
        planes: NDArray[Any] = self._normal(wanted, box)
        alone = self._way.axis_there == self._along
        low_high = self._low, self._high
        if alone:
            # slices that are not mixed keep their own range each
            low_high = planes.min((2, 3), keepdims=True), planes.max((2, 3), keepdims=True)
        for axis in range(1, 3):
            target = self._layout.coarse[axis]
            if planes.shape[axis + 1] != target:
                own = 0 if self._is_separate(axis) else self._pre.order_image
                planes = along_axis(planes, axis + 1, target, own)
        if weights is not None:
            if order > 1:
                planes = ndimage.spline_filter1d(planes, 3, axis=1, mode="mirror", output=np.float64)
            planes = np.tensordot(weights, planes, axes=([1], [1])).swapaxes(0, 1)
        if self._pre.order_image > 1:
            planes = np.clip(planes, *low_high)
        return np.ascontiguousarray(planes, dtype=np.float32)

    def _is_separate(self, swept: int) -> bool:
        return self._way.axis_there is not None and self._layout.network_order[self._way.axis_there] == swept

    def _normal(self, wanted: NDArray[np.intp], box: slice) -> NDArray[np.float32]:
        """Normalised planes of the image, (C, planes, ...) in swept order; the edge planes are repeated."""
        low, high = int(wanted.min()), int(wanted.max()) + 1
        slab = read_slab(self._source, 3, box.start + low, box.start + high)
        turned = slab.transpose(0, *(axis + 1 for axis in self._layout.axes))
        turned = turned[(slice(None), slice(None), *self._layout.box[1:])]
        return normalise(turned, self._pre.channels)[:, wanted - low]


def _taps(
    places: NDArray[np.float64], count: int, size: int, order: int, low: int, high: int
) -> tuple[NDArray[np.intp], NDArray[np.float64] | None]:
    """Planes of the image that planes of the networks are made of, and how much each counts."""
    if count == size:
        return np.arange(low, high), None
    if order == 0:
        return nearest(count, size)[low:high], None
    margin = 1 if order == 1 else REACH
    first, last = int(np.floor(places[0])) - margin, int(np.floor(places[-1])) + 1 + margin
    numbers = np.arange(first, last + 1)
    if order == 1:
        places = np.clip(places, 0, count - 1)
    apart = np.abs(places[:, None] - numbers[None])
    weights = np.maximum(0.0, 1 - apart) if order == 1 else _bspline(apart, order)
    return np.clip(numbers, 0, count - 1), weights


def _bspline(apart: NDArray[np.float64], order: int) -> NDArray[np.float64]:
    """The cubic B-spline; the only order above 1 that plans use here."""
    if order != 3:
        raise InputError("slab-order", f"Splines of order {order} are not read slab by slab", "", "Use order 3 or 1.")
    inner = 2 / 3 - apart**2 + apart**3 / 2
    outer = np.maximum(0.0, 2 - apart) ** 3 / 6
    return np.where(apart < 1, inner, outer)


class SlabOutput:
    """Labels that are written to a chunked array plane by plane, gathered to whole chunks.

    Parameters
    ----------
    target : array-like of shape (z, y, x)
        Written to.
    layout : Layout
        Swept along the first axis of the array.
    chunk : int
        Planes of a chunk.
    dtype : dtype
        Of the labels.
    """

    def __init__(self, target: Any, layout: Layout, chunk: int, dtype: np.dtype[Any]) -> None:
        self._target, self._layout, self._chunk = target, layout, chunk
        self._buffer = np.zeros((chunk, *target.shape[1:]), dtype)
        self.first = 0
        self.any = False
        rows = layout.box[1], layout.box[2]
        self._rows = rows if layout.axes[1] < layout.axes[2] else rows[::-1]
        self._turned = layout.axes[1] > layout.axes[2]

    @property
    def size(self) -> int:
        """Voxels that are exported."""
        return int(np.prod([one.fine for one in self._layout.maps]))

    def __setitem__(self, plane: int, values: NDArray[Any]) -> None:
        """Take the next plane, in the order of the sweep."""
        place = plane + self._layout.box[0].start
        while place >= self.first + self._chunk:
            self.flush()
        self._buffer[(place - self.first, *self._rows)] = values.T if self._turned else values
        self.any = self.any or bool(values.any())

    def finish(self) -> None:
        """Write all that is left; planes that were cropped away are background."""
        while self.first < self._target.shape[0]:
            self.flush()

    def flush(self) -> None:
        """Write the chunk that is gathered; its place moves on."""
        stop = min(self.first + self._chunk, self._target.shape[0])
        if stop > self.first:
            self._target[self.first : stop] = self._buffer[: stop - self.first]
        self.first += self._chunk
        self._buffer[:] = 0


def thickness_of(source: ArrayLike, spatial: Sequence[int]) -> int:
    """Planes that are read at a time: those of a chunk, or about 64 MB."""
    chunks: Any = getattr(source, "chunks", None)
    if chunks is not None:
        one: int | Sequence[int] = chunks[-3]
        return one if isinstance(one, int) else max(one)
    plane: int = int(np.prod(spatial[1:])) * np.dtype(source.dtype).itemsize
    return max(1, 64 * 2**20 // max(1, plane))
