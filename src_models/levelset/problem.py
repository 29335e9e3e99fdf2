"""The image of a run and the speed images made from it: what stays while u moves, shared by runs on one image."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_models.levelset.fields import SpeedImages, speed_images
from src_models.levelset.initial import Seeds
from src_models.levelset.parameters import LevelSetParameters
from src_models.levelset.recipes import GivenSpeed, given_speed
from src_models.levelset.seed_range import with_seed_range
from src_models.levelset.speed import as_image, with_range
from src_models.levelset.states import Resume

_KEPT = 2
_WITHOUT_EFFECT = (
    *("balloon", "curvature", "balloon_exponent", "convection_exponent", "gradient", "order", "curvature_form"),
    *("speed_at", "eps", "root_epsilon", "time_step", "cfl", "redistance_every", "band", "time", "steps", "auto_stop"),
    *("rate_tolerance", "guard", "engine", "device", "dtype", "pyramid"),
)
"""Parameters that no speed image depends on; whatever is not named here is taken to matter."""


class Problem:
    """An image in mm, with the speed images of the last few settings.

    Parameters
    ----------
    image : ndarray of shape (z, y, x) or (y, x)
        Grey values, any real type.
    spacing : sequence of float
        mm per array axis.
    parameters : LevelSetParameters
        A given speed image must suit them.
    speed : ndarray or recipe, optional
        Replaces the computed edge image g or region speed s.
    initial : ndarray, Seeds or Resume
        The start, which a recipe may learn from.

    Attributes
    ----------
    source, image : ndarray
        As given, and as the equation reads it.
    given_speed : ndarray or None
        What replaces the computed speed.
    notes : tuple of str
        What there is to say about it.
    """

    def __init__(
        self,
        image: NDArray[Any],
        spacing: Sequence[float],
        parameters: LevelSetParameters,
        speed: GivenSpeed | None,
        initial: NDArray[Any] | Seeds | Resume,
    ) -> None:
        self.source = np.asarray(image)
        self.image = as_image(image, spacing)
        self.spacing = tuple(float(h) for h in spacing)
        self.speed = speed
        self._initial = initial
        wanted = self.resolved(parameters)
        self.given_speed, self.notes = given_speed(speed, self.image, self.spacing, wanted, initial)
        self._made: dict[str, SpeedImages] = {}
        self._lock = threading.Lock()
        known = initial.speed if isinstance(initial, Resume) and self.given_speed is None else None
        if known is not None:
            self._made[_key(wanted)] = speed_images(self.image, self.spacing, wanted, known)

    def resolved(self, parameters: LevelSetParameters) -> LevelSetParameters:
        """The parameters with grey-value range, and thresholds about the seed, as numbers."""
        if self.speed is not None:
            return with_range(self.image, parameters)
        return with_seed_range(self.image, self._initial, self.spacing, parameters)

    def speed_images(self, parameters: LevelSetParameters) -> SpeedImages:
        """The speed images of these parameters; nobody writes to them, because other runs read them too."""
        key = _key(parameters)
        with self._lock:
            if key not in self._made:
                if len(self._made) >= _KEPT:
                    self._made.pop(next(iter(self._made)))
                self._made[key] = speed_images(self.image, self.spacing, parameters, self.given_speed)
            return self._made[key]


def _key(parameters: LevelSetParameters) -> str:
    """The same for parameters that make the same speed images."""
    settings = parameters.model_dump(mode="json", exclude=set(_WITHOUT_EFFECT))
    settings |= {"convection": parameters.convection_weight > 0, "curvature_exponent": parameters.curvature_power > 0}
    return repr(sorted(settings.items()))
