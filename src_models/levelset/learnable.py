"""Which numbers of the equation can be learned, and the free numbers that an optimiser may move without a bound.

Curvature and convection are softplus of a free number, so they never fall below 0; contrast and the range
about the seed are its exponential; the balloon is free in sign; two thresholds are a lower one and a positive width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import softplus

from src_models.errors import InputError
from src_models.levelset.fit_parameters import Learned
from src_models.levelset.parameters import LevelSetParameters
from src_models.levelset.seed_range import follows_seed

SMALLEST_WEIGHT = 1e-3
"""Softplus never gives 0: a weight of 0 that is to be learned starts here."""


def uses_edges(parameters: LevelSetParameters) -> bool:
    """Whether an edge image takes part in the equation."""
    return parameters.speed == "edge" or parameters.convection_weight > 0 or parameters.curvature_power > 0


def learnable(parameters: LevelSetParameters, *, given_speed: bool = False) -> tuple[Learned, ...]:
    """What the chosen mode lets one learn: what has an influence, and a number to start from.

    Parameters
    ----------
    parameters : LevelSetParameters
        Where learning starts; a convection of 0 stays 0, a threshold that is empty beside a given one stays empty.
    given_speed : bool
        The speed image is given: nothing that shapes it can be learned.
    """
    names: list[Learned] = ["balloon", "curvature"]
    if parameters.convection_weight > 0:
        names.append("convection")
    own_edges = uses_edges(parameters) and not (given_speed and parameters.speed == "edge")
    if own_edges and parameters.edge_preset == "normalised":
        names.append("contrast")
    if parameters.speed == "region" and parameters.region == "threshold" and not given_speed:
        both = parameters.lower is None and parameters.upper is None
        if follows_seed(parameters):
            return (*names, "seed_width")
        if both or parameters.lower is not None:
            names.append("lower")
        if both or parameters.upper is not None:
            names.append("upper")
    return tuple(names)


def check_names(names: Sequence[str], parameters: LevelSetParameters, *, given_speed: bool) -> tuple[Learned, ...]:
    """The names to learn, in the order of `learnable`; all of them where none is named.

    Raises
    ------
    InputError
        For a name that has no influence in this mode, or is no learnable field.
    """
    possible = learnable(parameters, given_speed=given_speed)
    for name in names:
        if name not in possible:
            raise InputError("fit-name", f"{name} cannot be learned here", "", f"Choose among {', '.join(possible)}.")
    return tuple(name for name in possible if not names or name in names)


def other_starts(values: Mapping[str, float], inside: NDArray[np.float64] | None) -> list[dict[str, float]]:
    """Other values from which learning might begin: stronger curvature, other contrasts, other thresholds.

    Parameters
    ----------
    values : mapping of str to float
        Where it would begin, of what is learned.
    inside : ndarray or None
        Grey values of the accepted voxels; None where the thresholds were given and are to be believed.
    """
    found = [dict(values)]
    if inside is not None and "lower" in values and "upper" in values:
        middle, spread = float(np.median(inside)), 1.4826 * float(np.median(np.abs(inside - np.median(inside))))
        pairs = [(float(np.quantile(inside, 0.05)), float(np.quantile(inside, 0.99)))]
        pairs += [(middle - k * spread, middle + k * spread) for k in (2, 3)]
        found += [{**values, "lower": low, "upper": high} for low, high in pairs if low < high]
    if "contrast" in values:
        found += [{**one, "contrast": one["contrast"] * k} for one in found for k in (0.5, 2.0)]
    if "curvature" in values:
        found += [{**one, "curvature": 4 * max(one["curvature"], 0.05)} for one in found]
    return found[1:]


class FreeNumbers:
    """Between the values that are learned and unbounded numbers of about the same scale.

    Parameters
    ----------
    names : sequence of str
        What is learned.
    grey_scale : float
        A change of grey value that matters, such as the standard deviation inside the accepted masks.
    """

    def __init__(self, names: Sequence[Learned], grey_scale: float) -> None:
        self.names = tuple(names)
        self._scale = grey_scale
        self._width = "lower" in self.names and "upper" in self.names

    def of(self, values: Mapping[str, float]) -> Tensor:
        """The free numbers of given values, float64."""
        numbers = []
        for name in self.names:
            value = values[name]
            if name in ("curvature", "convection"):
                number = _inverse_softplus(max(value, SMALLEST_WEIGHT))
            elif name in ("contrast", "seed_width"):
                number = math.log(value)
            elif name == "upper" and self._width:
                number = math.log((value - values["lower"]) / self._scale)
            elif name in ("lower", "upper"):
                number = value / self._scale
            else:
                number = value
            numbers.append(number)
        return torch.tensor(numbers, dtype=torch.float64)

    def values(self, free: Tensor) -> dict[str, Tensor]:
        """The values of free numbers, differentiable."""
        found: dict[str, Tensor] = {}
        for name, number in zip(self.names, free.unbind(), strict=True):
            if name in ("curvature", "convection"):
                found[name] = softplus(number)
            elif name in ("contrast", "seed_width"):
                found[name] = number.exp()
            elif name == "upper" and self._width:
                found[name] = found["lower"] + self._scale * number.exp()
            elif name in ("lower", "upper"):
                found[name] = self._scale * number
            else:
                found[name] = number
        return found


def _inverse_softplus(value: float) -> float:
    return value + math.log(-math.expm1(-value))
