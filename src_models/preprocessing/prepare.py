"""From an image to what a network sees, and back: one pair of functions for training and prediction alike.

The order is nnU-Net's: the axes are brought into the network's order, the image is cropped to its nonzero part,
normalised, and only then resampled. `Way` is what is needed to go back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_models.errors import InputError
from src_models.geometry import check_spacing
from src_models.preprocessing.checks import NanRule, finite
from src_models.preprocessing.cropping import OUTSIDE, bounding_box, filled, nonzero
from src_models.preprocessing.normalisation import check_channels, normalise
from src_models.preprocessing.parameters import Preprocessing
from src_models.preprocessing.resampling import new_shape, resample, resample_labels, separate_axis


@dataclass(frozen=True)
class Way:
    """How an image was brought to the network; all but the first three in the order of the network's axes.

    Attributes
    ----------
    shape : tuple of int
        Of the image, spatial axes in its own order.
    spacing : tuple of float
        mm per axis of the image, in its own order.
    axis_order : tuple of int
        Axis k of the network is axis ``axis_order[k]`` of the image.
    box : tuple of slice
        The nonzero part.
    cropped : tuple of int
        Its shape.
    resampled : tuple of int
        Shape of the prepared array.
    from_spacing, to_spacing : tuple of float
        Before and after resampling.
    """

    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    axis_order: tuple[int, ...]
    box: tuple[slice, ...]
    cropped: tuple[int, ...]
    resampled: tuple[int, ...]
    from_spacing: tuple[float, ...]
    to_spacing: tuple[float, ...]

    @property
    def axis_there(self) -> int | None:
        """The axis that is not interpolated on the way to the network."""
        return separate_axis(self.from_spacing, self.to_spacing)

    @property
    def axis_back(self) -> int | None:
        """The axis that is not interpolated on the way back: judged by the network's spacing first."""
        return separate_axis(self.to_spacing, self.from_spacing)


@dataclass(frozen=True, eq=False)
class Prepared:
    """An image as a network sees it.

    Attributes
    ----------
    array : ndarray of float32, shape (C, *way.resampled)
        Normalised and resampled.
    way : Way
        The way back.
    nonzero : ndarray of bool, shape way.cropped
        Voxels that are not zero, before resampling.
    notes : tuple of str
        What was changed in the image, in words.
    """

    array: NDArray[np.float32]
    way: Way
    nonzero: NDArray[np.bool_]
    notes: tuple[str, ...] = ()

    @cached_property
    def mask(self) -> NDArray[np.bool_]:
        """The nonzero part with its holes; found when it is asked for, since in a large CT that takes long."""
        return filled(self.nonzero)


def prepare(
    image: NDArray[Any], spacing: Sequence[float], preprocessing: Preprocessing, *, nan: NanRule = "error"
) -> Prepared:
    """Bring an image to a network.

    Parameters
    ----------
    image : ndarray of shape (C, z, y, x) or (C, y, x)
        In the units of the file.
    spacing : sequence of float
        mm per spatial axis, in the order of the array.
    preprocessing : Preprocessing
        Of the plan or of the model's card.
    nan : str
        ``"error"`` refuses values that are not numbers, ``"fill"`` puts the channel's minimum in their place.

    Raises
    ------
    InputError, GeometryError
        Wrong number of channels or axes, an empty axis, values that are not finite, a spacing that cannot be.
    """
    way, there, cropped, notes = _cropped(image, tuple(float(h) for h in spacing), preprocessing, nan)
    normalised = normalise(cropped, preprocessing.channels, filled(there) if preprocessing.use_mask_for_norm else None)
    array = resample(normalised, way.resampled, order=preprocessing.order_image, axis=way.axis_there)
    return Prepared(np.ascontiguousarray(array, dtype=np.float32), way, there, notes)


def prepare_labels(labels: NDArray[Any], prepared: Prepared, preprocessing: Preprocessing) -> NDArray[Any]:
    """Bring the labels of a prepared image to the network.

    Parameters
    ----------
    labels : ndarray of shape (z, y, x) or (y, x), integer
        On the grid of the image.
    prepared : Prepared
        The image.
    preprocessing : Preprocessing
        As for the image.

    Returns
    -------
    ndarray of shape `prepared.way.resampled`, signed
        Background outside the nonzero part is -1.
    """
    way = prepared.way
    cropped = labels.transpose(way.axis_order)[way.box]
    signed = cropped.astype(np.result_type(cropped.dtype, np.int8), copy=True)
    signed[~prepared.mask & (signed == 0)] = OUTSIDE
    result = resample_labels(signed, way.resampled, order=preprocessing.order_labels, axis=way.axis_there)
    return np.ascontiguousarray(result)


def logits_back(logits: Any, way: Way, *, order: int = 1) -> Any:
    """Logits of shape (K, *way.resampled) on the cropped grid before resampling: (K, *way.cropped); numpy or torch."""
    return resample(logits, way.cropped, order=order, axis=way.axis_back)


def restore(cropped: NDArray[Any], way: Way, fill: float = 0) -> NDArray[Any]:
    """Put a result on the cropped grid back into the image's own grid and axis order.

    Parameters
    ----------
    cropped : ndarray of shape (..., *way.cropped)
        Labels, or probabilities with classes in front.
    way : Way
        Of the image.
    fill : float
        Outside the nonzero part.

    Returns
    -------
    ndarray of shape (..., *way.shape)
        A new array.
    """
    lead = cropped.ndim - len(way.cropped)
    turned = tuple(way.shape[axis] for axis in way.axis_order)
    whole = np.full((*cropped.shape[:lead], *turned), fill, cropped.dtype)
    place: tuple[Any, ...] = (..., *way.box)
    whole[place] = cropped
    back = tuple(way.axis_order.index(axis) for axis in range(len(way.shape)))
    return whole.transpose((*range(lead), *(lead + axis for axis in back)))


def axis_order_of(preprocessing: Preprocessing, ndim: int) -> tuple[int, ...]:
    """The order in which the axes of an image go to the network."""
    order = preprocessing.axis_order
    return order if order is not None and len(order) == ndim else tuple(range(ndim))


def target_spacing(preprocessing: Preprocessing, own: Sequence[float], order: Sequence[int]) -> tuple[float, ...]:
    """The spacing an image is brought to, in the network's order; slices for a 2D network keep their distance.

    Parameters
    ----------
    preprocessing : Preprocessing
        Its spacing is in the order of the image's axes.
    own : sequence of float
        Spacing of the image, in the network's order.
    order : sequence of int
        See `axis_order_of`.

    Raises
    ------
    InputError
        Where the network wants more axes than the image has.
    """
    wanted = preprocessing.spacing
    if wanted is None:
        return tuple(own)
    if len(wanted) > len(own):
        raise InputError(
            "prepare-axes",
            f"The network takes {len(wanted)}D images",
            f"this one has {len(own)} axes",
            "Give a volume, or use a 2D network.",
        )
    if len(wanted) == len(own):
        return tuple(wanted[axis] for axis in order)
    # In a slice the axes stay in order, so theirs is the image's and the network's alike.
    return (*own[: len(own) - len(wanted)], *wanted)


def _cropped(
    image: NDArray[Any], spacing: tuple[float, ...], preprocessing: Preprocessing, nan: NanRule
) -> tuple[Way, NDArray[np.bool_], NDArray[Any], tuple[str, ...]]:
    check_channels(image.shape[0], preprocessing.channels)
    shape = image.shape[1:]
    check_spacing(spacing, len(shape))
    if 0 in shape:
        raise InputError("image-empty", "The image has no voxels", f"its shape is {shape}", "Choose another.")
    image, notes = finite(image, nan)
    order = axis_order_of(preprocessing, len(shape))
    turned = image.transpose((0, *(axis + 1 for axis in order)))
    own = tuple(spacing[axis] for axis in order)
    if preprocessing.crop_to_nonzero:
        whole = nonzero(turned)
        box = bounding_box(whole)
        there, turned = whole[box], turned[(slice(None), *box)]
    else:
        box = tuple(slice(0, n) for n in turned.shape[1:])
        there = np.ones(turned.shape[1:], bool)
    cropped = turned.shape[1:]
    target = target_spacing(preprocessing, own, order)
    resampled = cropped if preprocessing.spacing is None else new_shape(cropped, own, target)
    return Way(shape, spacing, order, box, cropped, resampled, own, target), there, turned, notes
