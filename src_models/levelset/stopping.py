"""When a run ends by itself: the front rests, or it has begun to leak.

The *free* front is where the image would let it run at more than half its free speed, whatever the front does there. On
a structure with a closed border the free share falls and stays low (*arrived*); when a free patch opens again after
that, the front has found a hole.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from src_models.levelset.parameters import LevelSetParameters

PATCH_RADIUS_VOXELS = 3


@dataclass(frozen=True)
class FrontMeasures:
    """The front at one time.

    Attributes
    ----------
    time : float
        In the units of the equation.
    size : float
        mm^n inside.
    area : float
        mm^(n-1) of front.
    free_area : float
        The part of it that is free.
    rate : float
        Mean speed of the front over the last step, mm per unit of time.
    """

    time: float
    size: float
    area: float
    free_area: float
    rate: float

    @property
    def free_share(self) -> float:
        """Free part of the front in [0, 1]."""
        return self.free_area / self.area if self.area > 0 else 0.0


def patch_area(spacing: Sequence[float]) -> float:
    """Half a ball of radius 3 voxels: 3 pi (2D) or 18 pi (3D) times prod(h)^((n-1)/n); spacing of the active axes."""
    n = max(len(spacing), 1)
    r = PATCH_RADIUS_VOXELS
    half_ball = math.pi * r if n < 3 else 2 * math.pi * r * r
    return float(half_ball * math.prod(spacing) ** ((n - 1) / n))


class StopRules:
    """Watches the measures of a run.

    Parameters
    ----------
    parameters : LevelSetParameters
        ``auto_stop``, ``rate_tolerance``, ``guard``, ``balloon``.
    spacing : sequence of float
        mm, of the axes longer than 1.
    free_speed : float
        v_ref: |balloon| times the largest |S| over the first band.
    thickness : float
        mm of the axes that drop out: the front of one slice is measured as the strip it is.
    """

    def __init__(
        self, parameters: LevelSetParameters, spacing: Sequence[float], free_speed: float, thickness: float = 1.0
    ) -> None:
        self._parameters = parameters
        self._largest_spacing = max(spacing, default=1.0)
        self._patch = patch_area(spacing) * thickness
        self._driven = parameters.balloon != 0
        self.free_speed = free_speed
        self.arrived = not self._driven
        self.leaking = False
        self._recent: deque[FrontMeasures] = deque()
        self._least_area = math.inf
        self._least_share = math.inf

    def update(self, now: FrontMeasures) -> str | None:
        """Take the newest measures; ``"converged"`` or ``"leak"`` where that is so now."""
        if not self._driven:
            self.free_speed = max(self.free_speed, abs(now.rate))
        if self.free_speed <= 0:
            return None
        self.arrived = self.arrived or now.free_share < 0.5
        if not self.arrived:
            return None
        self._least_area = min(self._least_area, now.free_area)
        self._least_share = min(self._least_share, now.free_share)
        self.leaking = self._driven and (
            now.free_area > 3 * self._least_area + self._patch and now.free_share > 2 * self._least_share
        )
        if self.leaking:
            return "leak"
        return "converged" if self._resting(now) else None

    def is_tight(self, now: FrontMeasures) -> bool:
        """Whether a leak would be rolled back to this moment rather than to an earlier one."""
        return self.arrived and now.free_area <= 1.5 * self._least_area + self._patch / 4

    def _resting(self, now: FrontMeasures) -> bool:
        """Whether the front's mean speed over the last while is below the tolerance."""
        self._recent.append(now)
        window = 3 * self._largest_spacing / self.free_speed
        while len(self._recent) > 1 and self._recent[1].time <= now.time - window:
            self._recent.popleft()
        then = self._recent[0]
        elapsed = now.time - then.time
        if elapsed < window or now.area <= 0:
            return False
        speed = abs(now.size - then.size) / (now.area * elapsed)
        return speed < self._parameters.rate_tolerance * self.free_speed
