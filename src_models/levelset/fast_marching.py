"""Fast marching: the eikonal equation |DT| = 1/F solved once per voxel, in the order of arrival, on a heap.

Sethian (1996), second order as in Sethian (1999): ``sum_d max(D-_d T, -D+_d T, 0)^2 = 1/F^2`` with one-sided
differences ``(3 T - 4 T_1 + T_2) / (2 h)`` where the two voxels behind have arrived in that order, else
``(T - T_1) / h``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_models.levelset.compiled import compiled

FAR, WAITING, ARRIVED, SEED = 0, 1, 2, 3

Array = NDArray[Any]


class March:
    """A march that can be carried on in portions.

    Parameters
    ----------
    speed : ndarray of shape (z, y, x)
        S, any real type; where ``balloon * S`` is not positive nothing arrives.
    start : ndarray of shape (z, y, x)
        Bool: the seed; or u, positive inside.
    spacing : tuple of float
        mm per array axis.
    balloon : float
        F = balloon S.
    order : int
        Of the differences.
    """

    def __init__(self, speed: Array, start: Array, spacing: tuple[float, ...], balloon: float, order: int) -> None:
        self.times = np.full(speed.shape, np.inf, np.float32)
        self._speed, self._balloon, self._order = speed, balloon, order
        self._spacing = np.array(spacing, np.float64)
        self._status = np.zeros(speed.shape, np.uint8)
        self._heap = np.empty(1024, np.uint64)
        self.waiting = 0
        graded = start.dtype.kind == "f"
        whole = start if graded else start.view(np.uint8)
        self.reachable, count, self.fastest = _mark(whole, speed, balloon, self._status)
        self._reserve(count)
        self.waiting = _begin(whole, graded, speed, balloon, self._spacing, self.times, self._status, self._heap)
        self.arrived = 0
        self.latest = 0.0

    def _reserve(self, more: int) -> None:
        if self.waiting + more > self._heap.size:
            larger = np.empty(max(self.waiting + more, 2 * self._heap.size), np.uint64)
            larger[: self.waiting] = self._heap[: self.waiting]
            self._heap = larger

    def go_on(self, voxels: int, until: float) -> bool:
        """Let so many more voxels arrive, none later than `until`; False when there is nothing left to do."""
        self._reserve(7 * voxels)
        self.waiting, arrived, self.latest, more = _march(
            self._speed,
            self._balloon,
            self._spacing,
            self._order,
            self.times,
            self._status,
            self._heap,
            self.waiting,
            voxels,
            until,
            self.latest,
        )
        self.arrived += arrived
        return bool(more)

    def forget_the_waiting(self) -> None:
        """What was estimated but has not arrived is infinite."""
        _forget(self.times, self._status)


@compiled
def _mark(start: Array, speed: Array, balloon: float, status: Array) -> tuple[int, int, float]:
    """Flag the seed; how many voxels could be reached, how many at most lie beside the seed, and the largest speed."""
    nz, ny, nx = status.shape
    reachable, seeds, fastest = 0, 0, 0.0
    for z in range(nz):
        for y in range(ny):
            for x in range(nx):
                if start[z, y, x] > 0:
                    status[z, y, x] = SEED
                    seeds += 1
                elif balloon * speed[z, y, x] > 0:
                    reachable += 1
                    fastest = max(fastest, balloon * speed[z, y, x])
    return reachable, 6 * seeds, fastest


@compiled
def _slope_axis(start: Array, graded: bool, at: tuple[int, int, int], axis: int, h: float) -> float:
    """|difference| of u along one axis: the larger one across the front, else the central one."""
    n = start.shape[axis]
    here = _value(start, graded, at)
    low, high = _shifted(at, axis, -1), _shifted(at, axis, 1)
    behind = _value(start, graded, low) if at[axis] > 0 else here
    ahead = _value(start, graded, high) if at[axis] < n - 1 else here
    across = 0.0
    if behind > 0:
        across = abs(here - behind)
    if ahead > 0:
        across = max(across, abs(ahead - here))
    return across / h if across > 0 else abs(ahead - behind) / (2 * h)


@compiled
def _value(start: Array, graded: bool, at: tuple[int, int, int]) -> float:
    if graded:
        return float(start[at])
    return 1.0 if start[at] > 0 else -1.0


@compiled
def _shifted(at: tuple[int, int, int], axis: int, by: int) -> tuple[int, int, int]:
    if axis == 0:
        return at[0] + by, at[1], at[2]
    if axis == 1:
        return at[0], at[1] + by, at[2]
    return at[0], at[1], at[2] + by


@compiled
def _entry(time: float, place: int) -> np.uint64:
    """One word for the heap: non-negative float32 numbers are ordered as their bits, equal times by place."""
    return (np.uint64(np.float32(time).view(np.uint32)) << np.uint64(32)) | np.uint64(place)


@compiled
def _push(heap: Array, size: int, entry: np.uint64) -> int:
    """A heap of four children a node: half as deep, and the four lie together."""
    child = size
    while child > 0:
        parent = (child - 1) >> 2
        if heap[parent] <= entry:
            break
        heap[child] = heap[parent]
        child = parent
    heap[child] = entry
    return size + 1


@compiled
def _pop(heap: Array, size: int) -> int:
    """Take the first one away."""
    size -= 1
    entry = heap[size]
    parent = 0
    while True:
        child = 4 * parent + 1
        if child >= size:
            break
        least = child
        for other in range(child + 1, min(child + 4, size)):
            if heap[other] < heap[least]:
                least = other
        if heap[least] >= entry:
            break
        heap[parent] = heap[least]
        parent = least
    heap[parent] = entry
    return size


@compiled
def _begin(
    start: Array,
    graded: bool,
    speed: Array,
    balloon: float,
    spacing: Array,
    times: Array,
    status: Array,
    heap: Array,
) -> int:
    """The seed at 0, and the voxels beside it at their distance over their speed."""
    nz, ny, nx = status.shape
    size = 0
    for z in range(nz):
        for y in range(ny):
            for x in range(nx):
                if status[z, y, x] == SEED:
                    times[z, y, x] = 0
                    continue
                f = balloon * speed[z, y, x]
                if f <= 0:
                    continue
                beside = (
                    (z > 0 and status[z - 1, y, x] == SEED)
                    or (z < nz - 1 and status[z + 1, y, x] == SEED)
                    or (y > 0 and status[z, y - 1, x] == SEED)
                    or (y < ny - 1 and status[z, y + 1, x] == SEED)
                    or (x > 0 and status[z, y, x - 1] == SEED)
                    or (x < nx - 1 and status[z, y, x + 1] == SEED)
                )
                if not beside:
                    continue
                square = 0.0
                for axis in range(3):
                    if start.shape[axis] > 1:
                        square += _slope_axis(start, graded, (z, y, x), axis, spacing[axis]) ** 2
                # abs: a voxel exactly on the front would be at -0.0, which the heap takes for the last of all
                times[z, y, x] = abs(_value(start, graded, (z, y, x))) / np.sqrt(square) / f
                status[z, y, x] = WAITING
                size = _push(heap, size, _entry(times[z, y, x], (z * ny + y) * nx + x))
    return size


@compiled
def _upwind(
    flat: Array, status: Array, i: int, stride: int, k: int, n: int, order: int, h: float
) -> tuple[float, float]:
    """Weight a and value t of one axis, so that its difference squared is a (T - t)^2; weight 0 where none arrived."""
    first, side = np.inf, 0
    if k > 0 and status[i - stride] == ARRIVED:
        first, side = flat[i - stride], -1
    if k < n - 1 and status[i + stride] == ARRIVED and flat[i + stride] < first:
        first, side = flat[i + stride], 1
    if side == 0:
        return 0.0, 0.0
    if order == 2 and 0 <= k + 2 * side < n:
        j = i + 2 * side * stride
        if status[j] == ARRIVED and flat[j] <= first:
            return 2.25 / (h * h), (4 * first - flat[j]) / 3
    return 1 / (h * h), first


@compiled
def _arrival(a: tuple[float, float, float], t: tuple[float, float, float], f: float) -> float:
    """The root of sum a (T - t)^2 = 1/f^2; an axis that is reached only later is left out."""
    a0, a1, a2 = a
    t0, t1, t2 = t
    if a0 == 0 or (a1 > 0 and t1 < t0):
        a0, a1, t0, t1 = a1, a0, t1, t0
    if a1 == 0 or (a2 > 0 and t2 < t1):
        a1, a2, t1, t2 = a2, a1, t2, t1
    if a0 == 0 or (a1 > 0 and t1 < t0):
        a0, a1, t0, t1 = a1, a0, t1, t0
    # From here t0 <= t1 <= t2, as far as there are any; times are counted from t0.
    slowness = 1 / (f * f)
    found = np.sqrt(slowness / a0)
    if a1 > 0 and found > t1 - t0:
        d1 = t1 - t0
        weight, middle = a0 + a1, a1 * d1
        found = (middle + np.sqrt(max(middle * middle - weight * (a1 * d1 * d1 - slowness), 0.0))) / weight
        if a2 > 0 and found > t2 - t0:
            d2 = t2 - t0
            weight, middle = weight + a2, middle + a2 * d2
            rest = a1 * d1 * d1 + a2 * d2 * d2 - slowness
            found = (middle + np.sqrt(max(middle * middle - weight * rest, 0.0))) / weight
    return float(t0 + found)


@compiled
def _march(
    speed: Array,
    balloon: float,
    spacing: Array,
    order: int,
    times: Array,
    status: Array,
    heap: Array,
    size: int,
    voxels: int,
    until: float,
    latest: float,
) -> tuple[int, int, float, bool]:
    """Portions of the march: heap size, voxels arrived, latest time, and whether there is more."""
    nz, ny, nx = times.shape
    flat, flags, speeds = times.reshape(-1), status.reshape(-1), speed.reshape(-1)
    strides = (ny * nx, nx, 1)
    arrived = 0
    while size > 0 and arrived < voxels:
        i = np.int64(heap[0] & np.uint64(0xFFFFFFFF))
        if flags[i] == ARRIVED:
            size = _pop(heap, size)
            continue
        if flat[i] > until:
            return size, arrived, latest, False
        size = _pop(heap, size)
        flags[i] = ARRIVED
        arrived += 1
        latest = flat[i]
        z, rest = i // (ny * nx), i % (ny * nx)
        y, x = rest // nx, rest % nx
        for side in range(6):
            axis, way = side >> 1, 2 * (side & 1) - 1
            pz, py, px = _shifted((z, y, x), axis, way)
            if pz < 0 or py < 0 or px < 0 or pz >= nz or py >= ny or px >= nx:
                continue
            j = i + way * strides[axis]
            if flags[j] >= ARRIVED:
                continue
            f = balloon * speeds[j]
            if f <= 0:
                continue
            a0, t0 = _upwind(flat, flags, j, strides[0], pz, nz, order, spacing[0])
            a1, t1 = _upwind(flat, flags, j, strides[1], py, ny, order, spacing[1])
            a2, t2 = _upwind(flat, flags, j, strides[2], px, nx, order, spacing[2])
            new = np.float32(_arrival((a0, a1, a2), (t0, t1, t2), f))
            if new < flat[j]:
                flat[j] = new
                flags[j] = WAITING
                size = _push(heap, size, _entry(new, j))
    return size, arrived, latest, size > 0


@compiled
def _forget(times: Array, status: Array) -> None:
    flat, flags = times.reshape(-1), status.reshape(-1)
    for i in range(flat.size):
        if flags[i] == WAITING:
            flat[i] = np.inf
