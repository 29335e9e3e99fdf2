"""Speed images: where the front may run. Plain numpy, so that a preview needs no torch.

The edge indicator g in (0, 1] (Caselles, Kimmel, Sapiro 1997; normalised as in ITK-SNAP, Yushkevich et al. 2006) slows
the front where the image changes. The region speed s in [-1, 1] grows inside a grey-value range and shrinks outside.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_models.errors import GeometryError, InputError
from src_models.geometry import check_spacing
from src_models.levelset.parameters import LevelSetParameters

BLOCK_SIDE = 64
"""A speed image is made in blocks of this many voxels along each axis."""


def as_image(image: NDArray[Any], spacing: Sequence[float]) -> NDArray[Any]:
    """The image as floating point in (z, y, x) or (y, x), after the checks that every entry needs.

    float64 stays, everything else becomes float32.

    Raises
    ------
    InputError
        For an empty, complex, non-numeric or colour array, or one that holds NaN or infinite values.
    GeometryError
        For a spacing that is missing, zero or negative.
    """
    array = check_axes(image, spacing)
    plain = array.astype(np.float64 if array.dtype == np.float64 else np.float32, copy=False)
    bad = int(plain.size - np.isfinite(plain).sum())
    if bad:
        raise InputError(
            "image-not-finite",
            f"{bad} of {plain.size} voxels are NaN or infinite",
            "",
            "Replace them first, for example with the smallest value of the image.",
        )
    return plain


def check_axes(image: NDArray[Any], spacing: Sequence[float]) -> NDArray[Any]:
    """The image as an array, after the checks that need no look at its values.

    Raises
    ------
    InputError
        For an empty, complex, non-numeric or colour array.
    GeometryError
        For a spacing that is missing, zero or negative.
    """
    if spacing is None or np.ndim(spacing) != 1:
        raise GeometryError(
            "spacing-missing",
            "The voxel size is missing",
            "one value in mm per array axis is needed",
            "Give the spacing in array order (z, y, x).",
        )
    array = np.asarray(image)
    if array.dtype.kind not in "buif":
        kind = "complex numbers" if array.dtype.kind == "c" else f"values of type {array.dtype}"
        raise InputError(
            "image-type", f"The image holds {kind}", "", "Give one real number per voxel, for example the magnitude."
        )
    if array.ndim == len(spacing) + 1 and array.shape[-1] in (3, 4):
        raise InputError(
            "image-colour",
            "The image has colours",
            "one value per voxel is needed",
            "Choose a channel or its luminance.",
        )
    if array.ndim not in (2, 3):
        raise InputError(
            "image-axes",
            f"The image has {array.ndim} axes",
            "the level set works on 2 or 3",
            "Choose one time point, channel or slice.",
        )
    check_spacing(tuple(spacing), array.ndim)
    if array.size == 0:
        raise InputError("image-empty", "The image has no voxels", "", "Choose another image or region.")
    return array


def with_range(image: NDArray[Any], parameters: LevelSetParameters) -> LevelSetParameters:
    """The parameters with the grey-value range filled in from the image: a crop or replay then gives the same speed."""
    if parameters.value_range is not None:
        return parameters
    return parameters.model_copy(update={"value_range": (float(image.min()), float(image.max()))})


def _central(array: NDArray[Any], axis: int, h: float) -> NDArray[Any]:
    """D0 along `axis`, longer than 1, with edge replication."""
    a = np.moveaxis(array, axis, 0)
    out = np.empty_like(array)
    difference = np.moveaxis(out, axis, 0)
    np.subtract(a[2:], a[:-2], out=difference[1:-1])
    np.subtract(a[1], a[0], out=difference[0])
    np.subtract(a[-1], a[-2], out=difference[-1])
    out /= array.dtype.type(2 * h)
    return out


def _by_blocks(work: Callable[[NDArray[Any]], NDArray[Any]], image: NDArray[Any], reach: Sequence[int]) -> NDArray[Any]:
    """An array made block by block, with the same bits as at once: less memory, and all processors have work.

    Parameters
    ----------
    work : callable
        From a part of the image to its result, of the same shape; looks at most `reach` voxels beyond a voxel.
    image : ndarray
        Cut along all its axes.
    reach : sequence of int
        Voxels of neighbours along each.
    """
    if image.size <= BLOCK_SIDE**3:
        return work(image)
    out = np.empty_like(image)

    def one(corner: tuple[int, ...]) -> None:
        inner, outer, at = [], [], []
        for start, n, r in zip(corner, image.shape, reach, strict=True):
            stop, low, high = min(start + BLOCK_SIDE, n), max(start - r, 0), min(start + BLOCK_SIDE + r, n)
            inner.append(slice(start, stop))
            outer.append(slice(low, high))
            at.append(slice(start - low, stop - low))
        out[tuple(inner)] = work(image[tuple(outer)])[tuple(at)]

    corners = itertools.product(*(range(0, n, BLOCK_SIDE) for n in image.shape))
    with ThreadPoolExecutor(min(os.cpu_count() or 1, 4)) as pool:
        list(pool.map(one, corners))
    return out


def blurred(image: NDArray[Any], spacing: Sequence[float], sigma: float | Sequence[float]) -> NDArray[Any]:
    """Gaussian of width `sigma` mm (one, or one per axis), edge replication."""
    from scipy.ndimage import gaussian_filter

    widths = [float(sigma)] * image.ndim if isinstance(sigma, (int, float)) else [float(s) for s in sigma]
    if len(widths) != image.ndim:
        raise InputError(
            "sigma-count",
            f"sigma has {len(widths)} values but the image {image.ndim} axes",
            "",
            "Give one width in mm, or one per array axis.",
        )
    in_voxels = [w / h if n > 1 else 0.0 for w, h, n in zip(widths, spacing, image.shape, strict=True)]
    if not any(in_voxels):
        return image
    smooth: NDArray[Any] = gaussian_filter(image, in_voxels, mode="nearest")
    return smooth


def squared_gradient(image: NDArray[Any], spacing: Sequence[float], sigma: float | Sequence[float]) -> NDArray[Any]:
    """|D0 (G_sigma * I)|^2 per mm^2."""
    smooth = blurred(image, spacing, sigma)
    total = np.zeros_like(smooth)
    for axis, h in enumerate(spacing):
        if image.shape[axis] > 1:
            slope = _central(smooth, axis, h)
            slope *= slope
            total += slope
    return total


def _reach(spacing: Sequence[float], sigma: float | Sequence[float], shape: Sequence[int]) -> list[int]:
    """Voxels along each axis that the blurred gradient of a voxel looks at."""
    widths = [float(sigma)] * len(shape) if isinstance(sigma, (int, float)) else [float(s) for s in sigma]
    if len(widths) != len(shape):
        return [0] * len(shape)  # `blurred` says what is wrong
    return [int(4 * s / h + 0.5) + 1 if n > 1 else 0 for s, h, n in zip(widths, spacing, shape, strict=True)]


def gradient_magnitude(image: NDArray[Any], spacing: Sequence[float], sigma: float | Sequence[float]) -> NDArray[Any]:
    """|D0 (G_sigma * I)| per mm; at a clicked edge this is the lambda that halves the speed there.

    Parameters
    ----------
    image : ndarray of shape (z, y, x) or (y, x)
        Grey values.
    spacing : sequence of float
        mm per array axis.
    sigma : float or sequence of float
        Width of the Gaussian in mm.
    """
    return np.asarray(np.sqrt(squared_gradient(as_image(image, spacing), spacing, sigma)))


def edge_indicator(image: NDArray[Any], spacing: Sequence[float], parameters: LevelSetParameters) -> NDArray[Any]:
    """g = 1 / (1 + (|D0 (G_sigma * I)| / lambda)^p), in (0, 1]; 1 everywhere for a constant image.

    Parameters
    ----------
    image : ndarray of shape (z, y, x) or (y, x)
        Grey values.
    spacing : sequence of float
        mm per array axis.
    parameters : LevelSetParameters
        ``edge_preset``, ``sigma``, ``contrast``, ``edge_power``, ``value_range``.
    """
    plain = as_image(image, spacing)
    if parameters.edge_preset == "paper":
        return np.asarray(1 / (1 + squared_gradient(plain, spacing, 0.0)))
    low, high = with_range(plain, parameters).value_range or (0.0, 0.0)
    if high <= low:
        return np.ones_like(plain)
    scale = parameters.contrast * (high - low)
    if not 1e-15 < scale < 1e15:  # its square leaves float32
        plain, scale = (plain / scale).astype(plain.dtype), 1.0

    def indicator(part: NDArray[Any]) -> NDArray[Any]:
        relative = squared_gradient(part, spacing, parameters.sigma)
        relative /= plain.dtype.type(scale**2)
        with np.errstate(over="ignore"):  # a very steep edge gives infinity here and g = 0, as it should
            relative **= plain.dtype.type(parameters.edge_power / 2)
        relative += 1
        return np.asarray(np.reciprocal(relative, out=relative))

    return _by_blocks(indicator, plain, _reach(spacing, parameters.sigma, plain.shape))


def thresholds(parameters: LevelSetParameters, value_range: tuple[float, float]) -> tuple[float | None, float | None]:
    """Lower and upper threshold with the defaults filled in: a third and two thirds of the range."""
    lower, upper = parameters.lower, parameters.upper
    if lower is None and upper is None:
        low, high = value_range
        return low + (high - low) / 3, low + 2 * (high - low) / 3
    return lower, upper


def region_speed(image: NDArray[Any], parameters: LevelSetParameters) -> NDArray[Any]:
    """s from thresholds or from a probability, in [-1, 1]; positive grows.

    Thresholds: ``tanh(k (I - lower)) + tanh(k (upper - I)) - 1`` with ``k = ln((2 - e)/e) / range``,
    ``e = 10^-smoothness``; one-sided, the one tanh alone. Probability p: ``2 p - 1``.

    Parameters
    ----------
    image : ndarray
        Grey values, or probabilities in [0, 1] for ``region="probability"``.
    parameters : LevelSetParameters
        ``region``, ``lower``, ``upper``, ``smoothness``, ``value_range``.

    Raises
    ------
    InputError
        For probabilities outside [0, 1].
    """
    plain = as_image(image, (1.0,) * np.asarray(image).ndim)
    if parameters.region == "probability":
        if plain.min() < 0 or plain.max() > 1:
            raise InputError(
                "probability-range",
                f"The probability image runs from {plain.min():g} to {plain.max():g}",
                "probabilities lie between 0 and 1",
                "Scale it first, or use thresholds.",
            )
        return np.asarray(2 * plain - 1)
    low, high = with_range(plain, parameters).value_range or (0.0, 0.0)
    lower, upper = thresholds(parameters, (low, high))
    width = upper - lower if lower is not None and upper is not None else (high - low) / 3
    if width <= 0:
        return np.zeros_like(plain)
    e = 10.0**-parameters.smoothness
    k = math.log((2 - e) / e) / width

    def between(part: NDArray[Any]) -> NDArray[Any]:
        if lower is not None and upper is not None:
            return np.asarray(np.tanh(k * (part - lower)) + np.tanh(k * (upper - part)) - 1)
        return np.asarray(np.tanh(k * (part - lower)) if lower is not None else np.tanh(k * ((upper or 0.0) - part)))

    return _by_blocks(between, plain, (0,) * plain.ndim)


def chan_vese_speed(
    image: NDArray[Any], occupancy: NDArray[Any], spacing: Sequence[float], parameters: LevelSetParameters
) -> NDArray[Any]:
    """s = clip((l_out (I - c_out)^2 - l_in (I - c_in)^2) / (max(l) (c_in - c_out)^2), -1, 1); 0 where the means agree.

    Parameters
    ----------
    image : ndarray
        Grey values.
    occupancy : ndarray
        Share of each voxel that is inside, in [0, 1]; weighs the mean inside, its complement the mean outside.
    spacing : sequence of float
        mm per array axis.
    parameters : LevelSetParameters
        ``inside_weight``, ``outside_weight``, ``local_sigma``.

    References
    ----------
    Chan and Vese (2001); local means as in Lankton and Tannenbaum (2008).
    """
    inside: Any
    outside: Any
    rest = 1 - occupancy
    # By a power of two, which rounds nothing: squares then neither overflow nor vanish.
    image = np.ldexp(image, -int(np.frexp(np.abs(image).max())[1]))
    if parameters.local_sigma is None:
        inside = (image * occupancy).sum(dtype=np.float64) / max(occupancy.sum(dtype=np.float64), 1e-12)
        outside = (image * rest).sum(dtype=np.float64) / max(rest.sum(dtype=np.float64), 1e-12)
    else:
        sums = [
            blurred(part, spacing, parameters.local_sigma)
            for part in (image * occupancy, occupancy, image * rest, rest)
        ]
        inside = sums[0] / np.maximum(sums[1], 1e-6)
        outside = sums[2] / np.maximum(sums[3], 1e-6)
    spread = max(parameters.inside_weight, parameters.outside_weight) * (inside - outside) ** 2
    gain = parameters.outside_weight * (image - outside) ** 2 - parameters.inside_weight * (image - inside) ** 2
    agree = np.abs(inside - outside) <= 16 * np.finfo(image.dtype).eps
    spread = np.where(agree, 0, spread)
    speed = np.where(spread > 0, np.clip(gain / np.where(spread > 0, spread, 1), -1, 1), 0)
    return np.asarray(speed.astype(image.dtype))


def speed_image(image: NDArray[Any], spacing: Sequence[float], parameters: LevelSetParameters) -> NDArray[Any]:
    """The speed image of the chosen mode: g in (0, 1] for edges, s in [-1, 1] for regions.

    The preview in the viewer is this function on one slice. The Chan-Vese speed depends on the front and has no
    picture before the run; its image here is that of thresholds at the default place.

    Parameters
    ----------
    image : ndarray of shape (z, y, x) or (y, x)
        Grey values.
    spacing : sequence of float
        mm per array axis.
    parameters : LevelSetParameters
        Mode and settings.

    Returns
    -------
    ndarray
        float32, or float64 for a float64 image.
    """
    plain = as_image(image, spacing)
    resolved = with_range(plain, parameters)
    if parameters.speed == "edge":
        return edge_indicator(plain, spacing, resolved)
    return region_speed(plain, resolved)
