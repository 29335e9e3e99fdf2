"""Images that cannot be worked with, found before anything is made of them."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from src_models.errors import InputError

NanRule = Literal["error", "fill"]


def finite(
    image: NDArray[Any], rule: NanRule = "error", name: str = "The image"
) -> tuple[NDArray[Any], tuple[str, ...]]:
    """An image without values that are not finite numbers, and a note on what was changed.

    Parameters
    ----------
    image : ndarray of shape (C, ...)
        Not changed itself.
    rule : str
        ``"error"``, or ``"fill"``: the smallest finite value of the channel is put in their place.
    name : str
        What to call the image.

    Raises
    ------
    InputError
        With their number.
    """
    if image.dtype.kind not in "fc":
        return image, ()
    good = np.isfinite(image)
    count = int(image.size - np.count_nonzero(good))
    if not count:
        return image, ()
    if rule == "error" or count == image.size:
        raise InputError(
            "image-nan",
            f"{name} holds {count} voxel{'s' if count > 1 else ''} without a finite value",
            "NaN or infinity",
            "Put the minimum in their place with --nan fill." if count < image.size else "Export it again.",
        )
    filled = image.copy()
    for c in range(image.shape[0]):
        there = good[c]
        filled[c][~there] = image[c][there].min() if there.any() else 0
    said = "1 voxel without a finite value was" if count == 1 else f"{count} voxels without a finite value were"
    return filled, (f"{said} filled with the minimum.",)


def constant(image: NDArray[Any]) -> bool:
    """Whether every channel has one value only."""
    return bool((image.min(axis=tuple(range(1, image.ndim))) == image.max(axis=tuple(range(1, image.ndim)))).all())
