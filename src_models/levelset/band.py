"""The band engine: the step of the definition, compiled, at the voxels that can change. The one for a processor.

What it computes is written in `equation`, `fields`, `redistancing` and `measures`; tests hold it to them in every mode.
Memory: two buffers of u; speeds are read from their images as they are, and their slopes made where they are needed.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_models.levelset import band_kernels as kernels
from src_models.levelset.band_kernels import LANES
from src_models.levelset.band_storage import BandStorage, cuts, shared
from src_models.levelset.engine import Engine, Look
from src_models.levelset.equation import FLAT_SLOPE
from src_models.levelset.fields import SpeedImages
from src_models.levelset.parameters import LevelSetParameters
from src_models.levelset.redistancing import TOLERANCE

CHUNK = 256
"""Segments whose sums are added up in one piece, whatever the number of threads."""

_GRADIENTS = {
    "godunov": kernels.GODUNOV,
    "osher_sethian": kernels.OSHER_SETHIAN,
    "central": kernels.CENTRAL,
    "none": kernels.NONE,
}


class BandEngine(Engine):
    """Processor, float32 or float64.

    Parameters
    ----------
    u : ndarray of shape (z, y, x) or (y, x)
        The start; copied. A mask, or what `redistance` says, is made a signed distance first.
    spacing : sequence of float
        mm per array axis.
    width : float or None
        w in mm.
    redistance : int, optional
        Make a signed distance of the start, with one-sided differences of this order.
    dtype : str, optional
        For a mask.
    threads : int, optional
        As many as numba would use by default; the result does not depend on it.
    """

    name = "band"

    def __init__(
        self,
        u: NDArray[Any],
        spacing: Sequence[float],
        width: float | None,
        *,
        redistance: int | None = None,
        dtype: str | None = None,
        threads: int | None = None,
    ) -> None:
        self.shape, self.spacing, self.width = tuple(u.shape), tuple(float(h) for h in spacing), width
        self._band = BandStorage(u, self.spacing, width, dtype, threads)
        if redistance is not None:
            self._band.redistance(redistance)
        else:
            self._band.survey_all()
            self._band.list_all()
        self._changed: tuple[slice, ...] | None = None
        self._walls = self._pins = np.zeros(1, np.bool_)
        self._rate = self._near = np.zeros(0, self._band.u.dtype)
        self._looked = False
        self._images: SpeedImages | None = None
        self._epochs = np.zeros(0, np.int32)
        self._epoch = 0
        self._log_rows = np.zeros((0, kernels.COLUMNS), np.int64)
        self._log_values = np.zeros((0, LANES), self._band.u.dtype)
        self._logged = 0

    # -- what is asked

    def set_problem(self, images: SpeedImages, parameters: LevelSetParameters) -> None:
        """Take speed images and parameters."""
        p, w, k = parameters, self._band.whole, self._band.numbers
        self._images, self._parameters = images, parameters
        self._primary = self._image(images.primary)
        separate = images.edge is not None and images.edge is not images.primary
        self._edge = self._image(images.edge) if separate and images.edge is not None else self._primary
        self._pull = self._primary
        if images.pull is not None and images.pull is not images.primary:
            self._pull = self._edge if images.pull is images.edge else self._image(images.pull)
        w[kernels.ORDER], w[kernels.GRADIENT] = p.order, _GRADIENTS[p.gradient]
        w[kernels.FORM] = kernels.QUOTIENT if p.curvature_form == "quotient" else kernels.NESTED
        w[kernels.AT_FRONT] = p.speed_at == "front"
        w[kernels.IMAGES], w[kernels.EDGE_MODE] = separate, p.speed == "edge"
        w[kernels.PULL] = images.pull is not None
        w[kernels.ONE_IMAGE] = w[kernels.PULL] and self._pull is self._primary
        k[kernels.EPS], k[kernels.DELTA2], k[kernels.FLAT] = p.eps, p.root_epsilon**2, FLAT_SLOPE
        k[kernels.BALLOON], k[kernels.CURVATURE] = p.balloon, p.curvature
        k[kernels.CONVECTION] = p.convection_weight if images.pull is not None else 0.0
        k[kernels.BALLOON_POWER] = p.balloon_exponent
        k[kernels.CURVATURE_POWER], k[kernels.CONVECTION_POWER] = p.curvature_power, p.convection_exponent
        squares = sum(1 / h**2 for h, n in zip(self.spacing, self.shape, strict=True) if n > 1)
        k[kernels.RATE_ROOT] = math.sqrt(squares) * (math.sqrt(2) if p.gradient == "osher_sethian" else 1)
        k[kernels.RATE_SQUARES] = 2 * p.curvature * squares
        k[kernels.LEAST], k[kernels.MOST] = 1 - TOLERANCE, 1 + TOLERANCE
        self._looked = False

    def _image(self, image: NDArray[Any]) -> NDArray[Any]:
        return np.ascontiguousarray(image, dtype=self._band.u.dtype).reshape(-1)

    def set_walls_and_pins(self, walls: NDArray[Any] | None, pins: NDArray[Any] | None) -> None:
        """Take walls and pins and enforce them everywhere."""
        band = self._band
        nothing = np.zeros(1, np.bool_)
        self._walls = nothing if walls is None else np.ascontiguousarray(walls, np.bool_).reshape(-1)
        self._pins = nothing if pins is None else np.ascontiguousarray(pins, np.bool_).reshape(-1)
        band.whole[kernels.WALLS], band.whole[kernels.PINS] = walls is not None, pins is not None
        half = band.numbers[kernels.FLOOR]
        before = band.view.copy()
        if walls is not None:
            np.minimum(band.view, -half, out=band.view, where=walls)
        if pins is not None:
            np.maximum(band.view, half, out=band.view, where=pins)
        self._changed = _box_of(band.view != before)
        band.take_over()
        self._epoch = self._logged = 0
        self._epochs[:] = 0
        self._looked = False

    def look(self, free_threshold: float) -> Look:
        """Measure u, and prepare the next step."""
        band = self._band
        self._follow_means()
        if self._rate.size < band.count * LANES:
            self._rate = np.zeros((band.count + band.count // 4) * LANES, band.u.dtype)
        chunks = -(-band.count // CHUNK)
        sums = np.zeros((chunks, kernels.SUMS))
        segments = band.segments[: band.count]

        def work(first: int, last: int) -> None:
            scratch = np.zeros((kernels.SCRATCH_ROWS, LANES), band.u.dtype)
            kernels.look(
                first,
                last,
                CHUNK,
                LANES,
                segments,
                band.bits,
                band.u,
                self._rate,
                self._primary,
                self._edge,
                self._pull,
                self._walls,
                free_threshold,
                scratch,
                np.zeros(LANES, np.int64),
                sums,
                band.whole,
                band.numbers,
            )

        shared(work, chunks, band.pieces(8 * band.count))
        self._looked = True
        voxel = math.prod(self.spacing)
        density = float(sums[:, kernels.SUM_DENSITY].sum())
        largest = float(sums[:, kernels.MAX_RATE].max()) if chunks else 0.0
        return Look(
            size=voxel * (float(sums[:, kernels.SUM_SHARE].sum()) + band.beyond),
            area=density * voxel,
            free_area=float(sums[:, kernels.SUM_FREE].sum()) * voxel,
            speed_on_front=float(sums[:, kernels.SUM_SPEED].sum()) / density if density > 0 else 0.0,
            fastest=float(sums[:, kernels.MAX_SPEED].max()) if chunks else 0.0,
            largest_rate=largest,
            is_empty=band.inside == 0,
            is_full=band.inside == math.prod(self.shape),
        )

    def _follow_means(self) -> None:
        """Renew the Chan-Vese speed from the share of each voxel that is inside now."""
        if self._images is None or self._images.follows is None or self._looked:
            return
        from src_models.levelset.speed import chan_vese_speed

        image = self._images.follows
        shares = self._band.shares(image.dtype)
        self._primary = self._image(chan_vese_speed(image, shares, self.spacing, self._parameters))

    def step(self, dt: float, redistancing: bool) -> None:
        """One step."""
        self.move(dt)
        self.settle(redistancing)

    def move(self, dt: float) -> None:
        """The first half of a step: u + dt times its rate of change, walls and pins; it stands in the other buffer."""
        band = self._band
        if not self._looked:
            self.look(math.inf)
        self._keep_log()
        w, k, segments = band.whole, band.numbers, band.segments
        k[kernels.DT] = dt
        band.passed(
            lambda a, b: kernels.move(
                a, b, LANES, segments, band.u, band.other, self._rate, self._walls, self._pins, w, k
            )
        )

    def settle(self, redistancing: bool) -> None:
        """The second half: redistancing, walls and pins again, and the list of the next step."""
        band = self._band
        w, k, segments = band.whole, band.numbers, band.segments
        scaled = redistancing and self.width is not None
        if scaled:
            if self._near.size < band.count * LANES:
                self._near = np.zeros((band.count + band.count // 4) * LANES, band.u.dtype)
            near = self._near
            band.passed(lambda a, b: kernels.rescale_near(a, b, LANES, segments, band.other, band.u, near, w, k))
            band.passed(lambda a, b: kernels.sweep(a, b, LANES, segments, band.u, band.other, near, w, k))
            band.passed(lambda a, b: kernels.sweep(a, b, LANES, segments, band.other, band.u, near, w, k))
            if w[kernels.WALLS] or w[kernels.PINS]:
                kernels.constrain(segments, band.count, band.u, self._walls, self._pins, w, k)
        else:
            kernels.copy_list(segments, band.count, band.other, band.u, w)
        self._changed = band.box
        band.survey(segments, band.count, scaled=scaled)
        if self.width is not None:
            band.list_anew()
        self._looked = False

    def level_set(self) -> NDArray[Any]:
        """U now, not a copy."""
        return self._band.view

    def changed_box(self) -> tuple[slice, ...] | None:
        """Smallest box around the segments visited by the last step."""
        return self._changed

    def largest_free_patch(self, free_threshold: float) -> tuple[float, ...] | None:
        """Centre of the largest free part of the front."""
        from scipy.ndimage import center_of_mass, label

        band = self._band
        flags = np.zeros(math.prod(self.shape), np.bool_)
        scratch = np.zeros((kernels.SCRATCH_ROWS, LANES), band.u.dtype)
        kernels.free_voxels(
            band.segments[: band.count],
            band.bits,
            LANES,
            band.u,
            self._primary,
            self._edge,
            self._pull,
            self._walls,
            free_threshold,
            scratch,
            np.zeros(LANES, np.int64),
            flags,
            band.whole,
            band.numbers,
        )
        parts, count = label(flags.reshape(self.shape), np.ones((3,) * len(self.shape)))
        if count == 0:
            return None
        sizes = np.bincount(parts.reshape(-1))
        sizes[0] = 0
        return tuple(float(x) for x in center_of_mass(parts == int(sizes.argmax())))

    def finish(self) -> None:
        """Give back the second buffer and what is kept for the way back."""
        nothing = np.zeros(0, self._band.u.dtype)
        self._band.other = self._rate = self._near = nothing
        self._log_values, self._log_rows = np.zeros((0, LANES), nothing.dtype), np.zeros((0, kernels.COLUMNS), np.int64)

    # -- the way back

    def save(self) -> None:
        """Remember u: from now on, what a step is about to change is logged first."""
        if self._epochs.size == 0:
            self._epochs = np.zeros(self._band.bits.size, np.int32)
        self._epoch += 1
        self._logged = 0

    def _keep_log(self) -> None:
        if self._epoch == 0:
            return
        band = self._band
        segments, epochs, epoch = band.segments, self._epochs, self._epoch
        counts = band.passed(lambda a, b: int(kernels.unsaved(a, b, segments, epochs, epoch)))
        *filled, wanted = itertools.accumulate(counts, initial=self._logged)
        if wanted > len(self._log_rows):
            rows = np.zeros((wanted + wanted // 2, kernels.COLUMNS), np.int64)
            values = np.zeros((len(rows), LANES), band.u.dtype)
            rows[: self._logged] = self._log_rows[: self._logged]
            values[: self._logged] = self._log_values[: self._logged]
            self._log_rows, self._log_values = rows, values
        row_of = dict(zip((a for a, _ in cuts(band.count, len(filled))), filled, strict=True))
        band.passed(
            lambda a, b: kernels.log(a, b, segments, band.u, epochs, epoch, self._log_rows, self._log_values, row_of[a])
        )
        self._logged = wanted

    def roll_back(self) -> None:
        """Go back to the remembered u."""
        if self._epoch == 0:
            return
        band = self._band
        rows = self._log_rows[: self._logged]
        kernels.restore(rows, self._log_values, self._logged, band.u, band.other, band.whole)
        band.survey(rows, self._logged)
        self._changed = _box_of_rows(rows, self.shape)
        band.list_anew(rows[:, kernels.NUMBER])
        self.save()
        self._looked = False


def _box_of(flags: NDArray[Any]) -> tuple[slice, ...] | None:
    """Smallest box around the set flags."""
    box = []
    for axis in range(flags.ndim):
        along = np.flatnonzero(flags.any(axis=tuple(other for other in range(flags.ndim) if other != axis)))
        if along.size == 0:
            return None
        box.append(slice(int(along[0]), int(along[-1]) + 1))
    return tuple(box)


def _box_of_rows(rows: NDArray[Any], shape: Sequence[int]) -> tuple[slice, ...] | None:
    """Smallest box around the segments of a list."""
    if len(rows) == 0:
        return None
    low = rows[:, kernels.Z : kernels.X + 1].min(axis=0)
    high = np.add(rows[:, kernels.Z : kernels.X + 1].max(axis=0), (1, 1, LANES))
    box = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))[3 - len(shape) :]
    return tuple(slice(part.start, min(part.stop, n)) for part, n in zip(box, shape, strict=True))
