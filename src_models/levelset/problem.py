"""The image of a run and the speed images made from it: what stays while u moves, shared by runs on one image."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_models.levelset.fields import SpeedImages, check_speed_image, speed_images
from src_models.levelset.parameters import LevelSetParameters
from src_models.levelset.recipes import GivenSpeed
from src_models.levelset.speed import as_image

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
    speed_image : ndarray, optional
        Replaces the computed edge image g or region speed s.
    given : GivenSpeed, optional
        How that speed image was given, where it was made by a recipe.
    """

    def __init__(
        self,
        image: NDArray[Any],
        spacing: Sequence[float],
        parameters: LevelSetParameters,
        speed_image: NDArray[Any] | None = None,
        given: GivenSpeed | None = None,
    ) -> None:
        self.given = speed_image if given is None else given
        self.source = np.asarray(image)
        self.image = as_image(image, spacing)
        self.spacing = tuple(float(h) for h in spacing)
        self.speed_image = speed_image
        self.given_speed = None if speed_image is None else check_speed_image(speed_image, self.image.shape, parameters)
        self._made: dict[str, SpeedImages] = {}
        self._lock = threading.Lock()

    def speed_images(self, parameters: LevelSetParameters) -> SpeedImages:
        """The speed images of these parameters; nobody writes to them, because other runs read them too."""
        settings = parameters.model_dump(mode="json", exclude=set(_WITHOUT_EFFECT))
        settings |= {
            "convection": parameters.convection_weight > 0,
            "curvature_exponent": parameters.curvature_power > 0,
        }
        key = repr(sorted(settings.items()))
        with self._lock:
            if key not in self._made:
                if len(self._made) >= _KEPT:
                    self._made.pop(next(iter(self._made)))
                self._made[key] = speed_images(self.image, self.spacing, parameters, self.given_speed)
            return self._made[key]
