"""Other values to try by plain runs: spread over a box, then step by step around the best.

A descent finds the nearest hollow of a loss that knows no stop rule. Plain runs know them all, and on a processor cost
no more than the loss: so a few dozen are spent on a look around before the descent begins. Points are those of Halton
(1960), in the logarithm of each value, so that the same input tries the same.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping

from src_models.levelset.parameters import LevelSetParameters

BOX: dict[str, tuple[float, float]] = {
    "curvature": (0.5, 8.0),
    "convection": (0.5, 8.0),
    "contrast": (0.5, 2.0),
    "seed_width": (0.7, 2.0),
}
"""How many times its value each may be: the defaults of the weights are cautious ones, so there is more room above."""
PRIMES = (2, 3, 5, 7, 11, 13, 17)
FIRST_FACTOR, SMALLEST_FACTOR = 1.5, 1.1


def moving(values: Mapping[str, float], parameters: LevelSetParameters) -> tuple[str, ...]:
    """What is worth moving: not the balloon where every other weight moves, because only their ratios count."""
    weights = {"curvature": parameters.curvature, "convection": parameters.convection_weight}
    others = all(name in values for name, weight in weights.items() if weight > 0)
    return tuple(name for name in values if name != "balloon" or not others)


def spread(
    values: Mapping[str, float], names: tuple[str, ...], scale: float, count: int
) -> Generator[dict[str, float], None, None]:
    """Values spread evenly over the box about the given ones.

    Parameters
    ----------
    values : mapping of str to float
        The middle.
    names : tuple of str
        Which of them move.
    scale : float
        A change of grey value that matters: thresholds move by up to this.
    count : int
        How many.
    """
    for number in range(1, count + 1):
        found = dict(values)
        for name, base in zip(names, PRIMES, strict=False):
            share = _halton(number, base)
            if name in ("lower", "upper"):
                found[name] += scale * (2 * share - 1)
            else:
                low, high = BOX.get(name, (0.5, 2.0))
                found[name] *= low * (high / low) ** share
        if _in_order(found):
            yield found


def around(
    values: Mapping[str, float], names: tuple[str, ...], scale: float, count: int
) -> Generator[dict[str, float], bool, None]:
    """Neighbours of the best values, one at a time; after each, ``send`` says whether it is better (compass search).

    Parameters
    ----------
    values, names, scale, count
        As for `spread`.
    """
    best, factor, tried = dict(values), FIRST_FACTOR, 0
    while factor > SMALLEST_FACTOR:
        moved = False
        for name in names:
            for step in (factor, 1 / factor):
                found = dict(best)
                found[name] = found[name] + scale * math.log(step) if name in ("lower", "upper") else found[name] * step
                if not _in_order(found):
                    continue
                if tried == count:
                    return
                tried += 1
                if (yield found):
                    best, moved = found, True
                    break
        if not moved:
            factor = math.sqrt(factor)


def _in_order(values: Mapping[str, float]) -> bool:
    return "lower" not in values or "upper" not in values or values["lower"] < values["upper"]


def _halton(number: int, base: int) -> float:
    """The digits of a number mirrored at the point."""
    found, share = 0.0, 1.0
    while number:
        number, digit = divmod(number, base)
        share /= base
        found += share * digit
    return found
