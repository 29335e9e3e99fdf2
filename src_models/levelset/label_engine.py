"""The compiled engine of one label among others: it lives in a box that can grow, and meets its neighbours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_models.levelset import band_kernels as kernels
from src_models.levelset.band import BandEngine
from src_models.levelset.band_kernels import LANES
from src_models.levelset.label_box import Box

Neighbour = tuple["LabelEngine", tuple[int, int, int], bool]
"""Another label, what to add to a place in this box to get it in its box, and whether it moves."""


class LabelEngine(BandEngine):
    """`BandEngine` in a box of the array; see there for the parameters."""

    name = "band"

    def __init__(self, u: NDArray[Any], spacing: Sequence[float], width: float | None) -> None:
        super().__init__(u, spacing, width)
        self._place = np.zeros(0, np.int64)
        self._values = np.zeros((0, LANES), u.dtype)
        self._touched = np.zeros(0, np.int64)
        self._met = 0
        self._contact_rows = np.zeros((0, kernels.COLUMNS), np.int64)
        self._contact_bits = np.zeros(0, np.int64)
        self._contacts = 0

    def list_box(self) -> Box | None:
        """Smallest box around the segments that the next step visits."""
        return self._band.box

    # -- meeting others

    def meet(self, neighbours: Sequence[Neighbour]) -> None:
        """After `move`: find out what the neighbours make of this label; nothing is written yet."""
        band = self._band
        self._contacts = self._met = 0
        segments = band.segments[: band.count]
        if not neighbours or band.count == 0:
            return
        if self._place.size < band.count:
            self._place = np.zeros(band.count + band.count // 4, np.int64)
        place = self._place[: band.count]
        place[:] = -1
        count = 0
        for them, shift, _ in neighbours:
            theirs = them._band
            count = int(
                kernels.count_beside(segments, np.array(shift), theirs.bits, theirs._inside, theirs.whole, place, count)
            )
        if count == 0:
            return
        others, resting = (np.full((count, LANES), -math.inf, band.u.dtype) for _ in range(2))
        for them, shift, moves in neighbours:
            theirs = them._band
            their_u, largest = (theirs.other, others) if moves else (theirs.u, resting)
            kernels.largest_beside(segments, np.array(shift), their_u, theirs.origin, theirs.whole, place, largest)
        self._values = np.zeros((count, LANES), band.u.dtype)
        self._touched = np.zeros(count, np.int64)
        kernels.shared_ground(
            segments, place, band.u, band.other, others, resting, self._values, self._touched, band.whole, band.numbers
        )
        self._met = count

    def share(self) -> None:
        """Write what `meet` has found."""
        band = self._band
        if self._met == 0:
            return
        changed = int(np.count_nonzero(self._touched))
        if changed > len(self._contact_rows):
            self._contact_rows = np.zeros((changed + changed // 4, kernels.COLUMNS), np.int64)
            self._contact_bits = np.zeros(len(self._contact_rows), np.int64)
        self._contacts = int(
            kernels.write_shared(
                band.segments[: band.count],
                self._place[: band.count],
                band.other,
                self._values,
                self._touched,
                self._contact_rows,
                self._contact_bits,
                band.whole,
            )
        )

    def contact(self, threshold: float) -> tuple[float, float]:
        """Area of the front that another label held in the last step, and of it where |balloon| S is above a threshold.

        Both in mm^(n-1), after a `look`.
        """
        if self._contacts == 0:
            return 0.0, 0.0
        band = self._band
        scratch = np.zeros((kernels.SCRATCH_ROWS, LANES), band.u.dtype)
        area, blocked = kernels.contact(
            self._contact_rows[: self._contacts],
            self._contact_bits,
            band.bits,
            band.u,
            self._primary,
            self._edge,
            self._pull,
            self._walls,
            threshold,
            scratch,
            np.zeros(LANES, np.int64),
            LANES,
            band.whole,
            band.numbers,
        )
        voxel = math.prod(self.spacing)
        return float(area) * voxel, float(blocked) * voxel

    def write(self, u: NDArray[Any]) -> None:
        """Take another u of the same shape, without redistancing; what was saved is forgotten."""
        band = self._band
        band.view[...] = u
        band.take_over()
        self._contacts = 0
        self._epoch = self._logged = 0
        self._epochs[:] = 0
        self._looked = False

    # -- growing

    def grown(
        self,
        shape: Sequence[int],
        offset: Sequence[int],
        walls: NDArray[Any] | None,
        pins: NDArray[Any] | None,
    ) -> LabelEngine:
        """The same level set in a larger box, with its way back.

        Parameters
        ----------
        shape : sequence of int
            Of the larger box.
        offset : sequence of int
            Where this box begins in it.
        walls, pins : ndarray of bool or None
            Of the larger box; already enforced in this one.
        """
        if self.width is None:
            raise ValueError("without a band a label has the whole array from the start")
        u = np.full(tuple(shape), -self.width, self._band.u.dtype)
        inner = tuple(slice(a, a + n) for a, n in zip(offset, self.shape, strict=True))
        u[inner] = self.level_set()
        larger = LabelEngine(u, self.spacing, self.width)
        band = larger._band
        nothing = np.zeros(1, np.bool_)
        larger._walls = nothing if walls is None else np.ascontiguousarray(walls, np.bool_).reshape(-1)
        larger._pins = nothing if pins is None else np.ascontiguousarray(pins, np.bool_).reshape(-1)
        band.whole[kernels.WALLS], band.whole[kernels.PINS] = walls is not None, pins is not None
        larger._contact_rows = larger._placed(self._contact_rows[: self._contacts], offset)
        larger._contact_bits = self._contact_bits[: self._contacts].copy()
        larger._contacts = self._contacts
        if self._epoch:
            larger.save()
            larger._log_rows = larger._placed(self._log_rows[: self._logged], offset)
            larger._log_values = self._log_values[: self._logged].copy()
            larger._logged = self._logged
            larger._epochs[larger._log_rows[:, kernels.NUMBER]] = larger._epoch
        return larger

    def _placed(self, rows: NDArray[Any], offset: Sequence[int]) -> NDArray[Any]:
        """Segments of a smaller box as segments of this one."""
        w = self._band.whole
        z, y, x = (0,) * (3 - len(offset)) + tuple(offset)
        placed = rows.copy()
        placed[:, kernels.Z] += z
        placed[:, kernels.Y] += y
        placed[:, kernels.X] += x
        inner = placed[:, kernels.Z] * w[kernels.SZ] + placed[:, kernels.Y] * w[kernels.SY] + placed[:, kernels.X]
        placed[:, kernels.BASE] = self._band.origin + inner
        row = placed[:, kernels.Z] * w[kernels.NY] + placed[:, kernels.Y]
        placed[:, kernels.NUMBER] = row * w[kernels.ROW_SEGMENTS] + placed[:, kernels.X] // LANES
        placed[:, kernels.AT_BORDER] = 1  # the replication looks itself at which border a segment lies
        return placed
