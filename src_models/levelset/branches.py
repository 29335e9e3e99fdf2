"""One line of a timeline: every step in numbers, some of them as key frames, and what was changed on the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_models.levelset.packing import Box, PackedLevelSet
from src_models.record import Change


@dataclass(frozen=True)
class Moment:
    """One step of a run in numbers.

    Attributes
    ----------
    iteration : int
        Steps done since the start.
    time : float
        In the units of the equation.
    size : float
        mm^3 inside (mm^2 for a picture).
    volume_ml : float or None
        ml inside; None for a picture.
    rate : float
        Mean speed of the front, mm per unit of time.
    """

    iteration: int
    time: float
    size: float
    volume_ml: float | None
    rate: float


@dataclass(eq=False)
class Branch:
    """One line of a timeline.

    Attributes
    ----------
    name : str
        For people.
    parent : Branch or None
        From which it was branched; None for the first run.
    at : int
        The iteration it begins with, which is also one of its parent.
    moments : list of Moment
        Every step, in order and without gaps, from `at` on.
    keys : dict of int to PackedLevelSet
        Key frames by iteration.
    changes : sequence of Change
        From the drawn start on, those of the parents first.
    box : tuple of slice
        Outside of it u is still that of the first run's start.
    stop_reason : str or None
        Why it ended, once it has.
    end : int
        The iteration that it ended with, or has come to. After a leak there are moments behind it.
    leak_at : tuple of float or None
        Centre of the leak, in voxels.
    notes : tuple of str
        What was noticed.
    """

    name: str
    parent: Branch | None
    at: int
    box: Box
    moments: list[Moment] = field(default_factory=list)
    keys: dict[int, PackedLevelSet] = field(default_factory=dict)
    changes: Sequence[Change] = ()
    stop_reason: str | None = None
    end: int = 0
    leak_at: tuple[float, ...] | None = None
    notes: tuple[str, ...] = ()

    @property
    def last(self) -> int:
        """The last iteration there is; with a leak it lies behind the end."""
        return self.at + len(self.moments) - 1

    @property
    def has_leak(self) -> bool:
        """Whether there are steps of a leak behind the end."""
        return self.stop_reason == "leak"

    def owner(self, iteration: int) -> Branch:
        """Whose step an iteration on the way to here is: this branch's, or that of one of its parents."""
        of = self
        while of.parent is not None and iteration <= of.at:
            of = of.parent
        return of

    def way(self) -> list[Moment]:
        """Every step from the drawn start to the last of this branch, in numbers."""
        before = [] if self.parent is None else [m for m in self.parent.way() if m.iteration < self.at]
        return before + self.moments

    def moment(self, iteration: int) -> Moment:
        """One step in numbers."""
        return self.moments[iteration - self.at]

    def is_leaking(self, iteration: int) -> bool:
        """Whether the step was taken back, because a leak followed."""
        return self.has_leak and iteration > self.end

    def key_before(self, iteration: int) -> int:
        """The newest key frame that is not later than an iteration."""
        return max(k for k in tuple(self.keys) if k <= iteration)

    def key_near(self, iteration: int) -> int:
        """The key frame closest to an iteration."""
        return min(tuple(self.keys), key=lambda k: (abs(k - iteration), k))

    def changes_until(self, iteration: int) -> tuple[Change, ...]:
        """Those that had a part in u at an iteration."""
        return tuple(change for change in self.changes if change.step < iteration)


def every_second(branches: Sequence[Branch]) -> bool:
    """Drop every second key frame of every branch; whether there was one to drop.

    The first of a branch stays for good, its last as long as there are others: it is what people come back to.
    """
    dropped = False
    for branch in branches:
        order = sorted(branch.keys)
        inner = order[1:-1]
        gone = set(inner[::2])
        dropped = dropped or bool(gone)
        # A new dictionary, so that whoever reads the old one meanwhile is not disturbed.
        branch.keys = {k: branch.keys[k] for k in order if k not in gone}
    if dropped:
        return True
    for branch in branches:
        if len(branch.keys) > 1:
            first = min(branch.keys)
            branch.keys = {first: branch.keys[first]}
            dropped = True
    return dropped


def joined(a: Box, b: Box) -> Box:
    """The smallest box around two boxes."""
    return tuple(slice(min(x.start, y.start), max(x.stop, y.stop)) for x, y in zip(a, b, strict=True))


def empty_box(shape: Sequence[int]) -> Box:
    """A box that any other one replaces in `joined`."""
    return tuple(slice(n, 0) for n in shape)


@dataclass(frozen=True, eq=False)
class Nearby:
    """A key frame close to an iteration: a picture that is there at once.

    Attributes
    ----------
    iteration : int
        Of the key frame.
    box : tuple of slice
        Outside of it u is that of the start.
    values : ndarray
        u in the box.
    """

    iteration: int
    box: Box
    values: NDArray[Any]


def values_of(key: PackedLevelSet, width: float | None, dtype: Any) -> NDArray[Any]:
    """u of a key frame in its box."""
    whole = np.empty(tuple(max(s.stop - s.start, 0) for s in key.box), dtype)
    key.write_into(whole, width)
    return whole
