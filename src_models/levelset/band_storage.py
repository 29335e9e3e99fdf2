"""Two padded buffers of u and the list of segments that a step visits, kept up to date from step to step."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
from numba import config
from numpy.typing import NDArray

from src_models.levelset import band_kernels as kernels
from src_models.levelset.band_kernels import LANES, PAD

WORTH_SHARING = 1500
"""Segments from which on a pass is shared between threads; below, handing it over takes longer than doing it."""


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads - 1, thread_name_prefix="level set")


def cuts(count: int, threads: int) -> list[tuple[int, int]]:
    """[0, count) in as many pieces as there are threads."""
    return [(count * part // threads, count * (part + 1) // threads) for part in range(threads)]


def shared(work: Callable[[int, int], Any], count: int, threads: int) -> list[Any]:
    """Do a pass over [0, count) in as many pieces as there are threads; what each piece returned, in order.

    A piece reads one buffer and writes its own part of another, so the number of threads changes nothing but the time.
    """
    first, *others = cuts(count, threads)
    waiting = [_pool(threads).submit(work, *piece) for piece in others]
    return [work(*first), *(piece.result() for piece in waiting)]


class BandStorage:
    """u of a run, as the compiled step wants it.

    Parameters
    ----------
    u : ndarray of shape (z, y, x) or (y, x)
        float32 or float64; copied. Or a mask, which becomes +-w.
    spacing : sequence of float
        mm per array axis.
    width : float or None
        w in mm; None for no band: then every segment is visited.
    dtype : str, optional
        "float32" or "float64" for a mask; that of u otherwise.
    threads : int, optional
        As many as numba would use by default.

    Attributes
    ----------
    whole, numbers : ndarray
        Whole numbers and floating point numbers that the kernels read; see `band_kernels`.
    u, other : ndarray
        The two padded buffers, flat; `u` is up to date between two steps.
    segments : ndarray of shape (N, 6)
        The list; its first `count` rows.
    bits : ndarray of uint16
        Per segment of the array, which of its voxels lie in the band.
    inside, beyond : int
        Voxels inside, and voxels at +w.
    """

    def __init__(
        self,
        u: NDArray[Any],
        spacing: Sequence[float],
        width: float | None,
        dtype: str | None = None,
        threads: int | None = None,
    ) -> None:
        number = np.dtype(dtype or u.dtype)
        self.shape = tuple(u.shape)
        self.threads = threads or int(vars(config)["NUMBA_NUM_THREADS"])
        self.width = width
        shape = (1,) * (3 - u.ndim) + self.shape
        sides = (1.0,) * (3 - u.ndim) + tuple(float(h) for h in spacing)
        pads = [PAD if n > 1 else 0 for n in shape[:2]]
        length = -(-shape[2] // LANES)
        row = length * LANES + 2 * PAD
        padded = (shape[0] + 2 * pads[0], shape[1] + 2 * pads[1], row)
        self._cut = (
            slice(pads[0], pads[0] + shape[0]),
            slice(pads[1], pads[1] + shape[1]),
            slice(PAD, PAD + shape[2]),
        )
        plane = padded[1] * row
        self.origin = pads[0] * plane + pads[1] * row + PAD
        self.rows = shape[0] * shape[1]
        self.whole = np.zeros(kernels.WHOLES, np.int64)
        self.whole[kernels.NZ : kernels.NX + 1] = shape
        self.whole[kernels.SZ] = plane if shape[0] > 1 else 0
        self.whole[kernels.SY] = row if shape[1] > 1 else 0
        self.whole[kernels.ROW_SEGMENTS] = length
        self.numbers = _numbers(shape, sides, width, number)
        squares = sum(1 / h**2 for h, n in zip(sides, shape, strict=True) if n > 1)
        self._sweep_step = 0.5 / math.sqrt(squares or 1 / min(spacing) ** 2)
        self.numbers[kernels.SWEEP] = self._sweep_step
        self.u = np.empty(math.prod(padded), number)
        self._view = self.u.reshape(padded)[self._cut]
        if u.dtype == np.bool_:
            self.u[:] = -self.numbers[kernels.WIDTH]
            np.copyto(self._view, self.numbers[kernels.WIDTH], where=u.reshape(shape))
        else:
            self.u[:] = 0
            self._view[...] = u.reshape(shape)
        kernels.pad_all(self.u, self.origin, self.whole)
        self.other = self.u.copy()
        count = self.rows * length
        self.bits = np.zeros(count, np.uint16)
        self._inside = np.zeros(count, np.uint8)
        self._far = np.zeros(count, np.uint8)
        self._words = np.zeros(-(-count // 8), np.uint64)
        self._marks = self._words.view(np.uint8)[:count]
        self._box = np.zeros((3, 2), np.int64)
        self.segments = np.zeros((0, kernels.COLUMNS), np.int64)
        self.count = 0
        self.visited: tuple[slice, ...] | None = None

    @property
    def view(self) -> NDArray[Any]:
        """u of the shape of the array, not a copy."""
        return self._view.reshape(self.shape) if len(self.shape) == 3 else self._view[0]

    @property
    def box(self) -> tuple[slice, ...] | None:
        """Smallest box around the segments of the list."""
        if self.count == 0:
            return None
        return tuple(slice(int(a), int(b)) for a, b in self._box)[3 - len(self.shape) :]

    def pieces(self, count: int) -> int:
        """How many threads a pass over so many segments is worth."""
        return min(self.threads, max(1, count // WORTH_SHARING))

    def passed(self, work: Callable[[int, int], Any]) -> list[Any]:
        """A pass over the list."""
        return shared(work, self.count, self.pieces(self.count))

    def survey_all(self) -> None:
        """Find bits and counts of the whole array anew.

        A voxel at +-w with a neighbour on the other side, as pins and walls make them, counts with the band: the next
        redistancing changes it.
        """

        def work(first: int, last: int) -> tuple[int, int]:
            found: tuple[int, int] = kernels.survey_all(
                first,
                last,
                self.u,
                self.bits,
                self._inside,
                self._far,
                self.origin,
                self.whole,
                self.numbers,
            )
            return found

        counts = shared(work, self.rows, self.pieces(self.bits.size))
        self.inside, self.beyond = (int(sum(part)) for part in zip(*counts, strict=True))

    def survey(self, segments: NDArray[Any], count: int, *, scaled: bool = False) -> None:
        """Renew bits and counts of the segments of a list.

        Where u was redistanced just now (`scaled`) only pins and walls leave a voxel at +-w beside the front.
        """
        fronts = (self.width is not None and not scaled) or bool(self.whole[kernels.WALLS] or self.whole[kernels.PINS])

        def work(first: int, last: int) -> tuple[int, int]:
            more: tuple[int, int] = kernels.survey(
                first, last, segments, self.u, self.bits, self._inside, self._far, fronts, self.whole, self.numbers
            )
            return more

        for inside, beyond in shared(work, count, self.pieces(count)):
            self.inside += int(inside)
            self.beyond += int(beyond)

    def list_anew(self, numbers: NDArray[Any] | None = None) -> None:
        """Make the list from the bits: of all segments whose bits may be set, which are those of the last list.

        Parameters
        ----------
        numbers : ndarray, optional
            More segments, by their number in the array, whose bits may be set.
        """
        old = self.segments[: self.count]
        if numbers is not None:
            self._mark(numbers)
        self._mark(old[:, kernels.NUMBER])
        kernels.follow(self.segments, self.count, self._marks, self.u, self.other, self.whole)
        size, threads = self._words.size, self.pieces(self.count)
        counts = shared(lambda a, b: int(kernels.marked(a, b, self._words)), size, threads)
        rows = list(itertools.accumulate(counts, initial=0))
        self.count = rows[-1]
        if self.count > len(self.segments):
            self.segments = np.zeros((self.count + self.count // 4, kernels.COLUMNS), np.int64)
        row_of = dict(zip((a for a, _ in cuts(size, threads)), rows, strict=False))

        def work(first: int, last: int) -> NDArray[np.int64]:
            box = np.zeros((3, 2), np.int64)
            kernels.collect(
                first, last, row_of[first], self._words, self._marks, self.segments, self.origin, box, self.whole
            )
            return box

        boxes = np.array(shared(work, size, threads))
        self._box = np.stack([boxes[..., 0].min(axis=0), boxes[..., 1].max(axis=0)], axis=1)

    def _mark(self, numbers: NDArray[Any]) -> None:
        # Two threads may write the same byte: both write a 1.
        shared(
            lambda a, b: kernels.mark(a, b, numbers, self.bits, self._marks, self.whole),
            numbers.size,
            self.pieces(numbers.size),
        )

    def list_all(self) -> None:
        """Make the list from all bits of the array."""
        self.count = 0
        self.list_anew(np.flatnonzero(self.bits))

    def take_over(self) -> None:
        """After u was written from outside: replicate, copy, survey and list."""
        kernels.pad_all(self.u, self.origin, self.whole)
        self.other[:] = self.u
        self.survey_all()
        self.list_all()

    def redistance(self, order: int) -> None:
        """Make u a signed distance: slopes beside the front scaled to 1, then sweeps across the band; no sign changes.

        Parameters
        ----------
        order : int
            1 or 2, of the one-sided differences.
        """
        w, k, width = self.whole, self.numbers, float(self.numbers[kernels.WIDTH])
        w[kernels.ORDER] = order
        k[kernels.LEAST] = k[kernels.MOST] = 1
        self.survey_all()
        self.list_all()
        near = np.zeros(self.count * LANES, self.u.dtype)
        self.passed(lambda a, b: kernels.rescale_near(a, b, LANES, self.segments, self.u, self.other, near, w, k))
        near_bits = np.zeros_like(self.bits)
        kernels.bits_of_flags(self.segments, self.count, near, near_bits)
        np.clip(self.other, -width, width, out=self.u)
        self.other[:] = self.u
        self.survey_all()
        self.bits |= near_bits
        self.list_all()
        for done in range(0, math.ceil(2 * width / self._sweep_step), 2):
            self._sweep_twice(near_bits, once=done + 1 >= 2 * width / self._sweep_step)
        self.survey_all()
        self.list_all()

    def _sweep_twice(self, near_bits: NDArray[Any], *, once: bool) -> None:
        w, k = self.whole, self.numbers
        near = np.zeros(self.count * LANES, self.u.dtype)
        kernels.flags_of_bits(self.segments, self.count, near_bits, near)
        self.passed(lambda a, b: kernels.sweep(a, b, LANES, self.segments, self.u, self.other, near, w, k))
        if once:
            kernels.copy_list(self.segments, self.count, self.other, self.u, w)
        else:
            self.passed(lambda a, b: kernels.sweep(a, b, LANES, self.segments, self.other, self.u, near, w, k))
        self.survey(self.segments, self.count, scaled=True)
        self.bits |= near_bits
        self.list_anew()

    def shares(self, dtype: Any) -> NDArray[Any]:
        """The share of every voxel that is inside, over the whole array."""
        out = np.empty(math.prod(self.shape), dtype)
        shared(
            lambda a, b: kernels.shares(a, b, self.u, out, self.origin, self.whole, self.numbers),
            self.rows,
            self.pieces(self.bits.size),
        )
        return out.reshape(self.shape)


def _numbers(shape: Sequence[int], sides: Sequence[float], width: float | None, dtype: np.dtype[Any]) -> NDArray[Any]:
    """The numbers of the geometry; those of a problem are filled in later."""
    active = [h for h, n in zip(sides, shape, strict=True) if n > 1]
    smallest = min(active, default=min(sides))
    k = np.zeros(kernels.NUMBERS, dtype)
    k[kernels.ONE], k[kernels.HALF], k[kernels.TWO] = 1, 0.5, 2
    k[kernels.WIDTH] = math.inf if width is None else width
    k[kernels.FLOOR] = smallest / 2
    k[kernels.SHIFT] = max(active, default=max(sides)) / 2
    k[kernels.BEND_LIMIT] = 1 / min(active, default=1.0)
    k[kernels.PEAK_SHARE] = (len(active) - 1) / max(len(active), 1)
    for axis, h in enumerate(sides):
        k[kernels.INVERSE + axis] = 1 / h
        k[kernels.SPACING + axis] = h
    return k


def redistanced(u: NDArray[Any], spacing: Sequence[float], width: float, order: int) -> NDArray[Any]:
    """A signed distance from any u; see `BandStorage.redistance`."""
    band = BandStorage(u, spacing, width)
    band.redistance(order)
    return band.view.copy()
