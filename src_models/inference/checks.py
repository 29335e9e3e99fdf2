"""What is wrong with an image for a model: an error where it cannot be predicted, a sentence where it may go badly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_models.errors import InputError
from src_models.geometry import check_spacing
from src_models.weights.card import ModelCard

FAR = 3.0
"""Factor between voxel sizes from which on a warning is given."""
AIR_HU = -500.0
"""Nothing but air in a CT is as dark; images of other kinds hold no such values."""
_SHARE = 0.005
_SAMPLE = 200_000


def as_channels(image: NDArray[Any], card: ModelCard, spatial: int) -> NDArray[Any]:
    """The image as (C, z, y, x) or (C, y, x), without a copy.

    Parameters
    ----------
    image : ndarray
        (z, y, x), (y, x), or with channels in front.
    card : ModelCard
        Of the model.
    spatial : int
        Axes in space: as many as there are spacings.

    Raises
    ------
    InputError
        Where axes or channels do not fit, or the image is empty.
    """
    names = [channel.name for channel in card.preprocessing.channels]
    if image.ndim not in (spatial, spatial + 1):
        raise InputError(
            "image-axes",
            f"An image of shape {image.shape} does not fit {spatial} voxel sizes",
            "",
            "Give (z, y, x) or (y, x), with channels in front, and one spacing for each axis in space.",
        )
    if 0 in image.shape:
        raise InputError("image-empty", "The image is empty", f"its shape is {image.shape}", "Choose another image.")
    channels = image[None] if image.ndim == spatial else image
    if channels.shape[0] != len(names):
        colours = " (a colour image)" if channels.shape[0] == 3 and len(names) == 1 else ""
        raise InputError(
            "image-channels",
            f"The image has {channels.shape[0]} channels{colours}, the model takes {len(names)}",
            f"in this order: {', '.join(names)}",
            "Convert it to grey values, or choose one channel."
            if len(names) == 1
            else "Give one image per channel, in this order.",
        )
    if channels.dtype.kind not in "buif":
        raise InputError("image-type", f"Values of type {image.dtype} cannot be predicted", "", "Give real numbers.")
    return channels


def warnings_for(
    card: ModelCard,
    shape: Sequence[int],
    spacing: Sequence[float],
    *,
    image: NDArray[Any] | None = None,
    unit: str = "mm",
    value_unit: str = "",
) -> list[str]:
    """What may go badly, before anything is computed; cheap enough for every change of a choice in the viewer.

    Parameters
    ----------
    card : ModelCard
        Of the model.
    shape, spacing : sequence
        Of the axes in space, in array order.
    image : ndarray, optional
        Its values, with or without channels; a sample of them is looked at.
    unit : str
        Of the spacing: ``"mm"``, or ``"px"`` where voxels have no size.
    value_unit : str
        ``"HU"`` where values are Hounsfield units.
    """
    check_spacing(tuple(spacing), len(shape))
    said = _of_the_geometry(card, shape, spacing, unit)
    modality = card.modality.upper()
    if value_unit == "HU" and modality and modality != "CT":
        said.append(f"The image is CT (Hounsfield units), the model was trained on {card.modality}.")
    elif image is not None and modality not in ("", "CT") and _has_air(image):
        said.append(f"Grey values reach below {AIR_HU:g}, as in CT; the model was trained on {card.modality}.")
    if image is not None:
        said += _of_the_values(card, image, len(shape))
    return said


def _has_air(image: NDArray[Any]) -> bool:
    """Whether a share of the voxels that counts is as dark as only the air of a CT: files do not say what they hold."""
    return bool((_sample(image) <= AIR_HU).mean() >= _SHARE)


def _sample(values: NDArray[Any]) -> NDArray[Any]:
    every = max(1, values.size // _SAMPLE)
    return np.asarray(values).reshape(-1)[::every].astype(np.float64)


def _of_the_geometry(card: ModelCard, shape: Sequence[int], spacing: Sequence[float], unit: str) -> list[str]:
    said = []
    suited = card.for_unit(unit).preprocessing
    target, ndim = suited.spacing, len(spacing)
    if card.ndim == 3 and (ndim == 2 or 1 in shape):
        said.append("The model is 3D and the image one slice: the slice is padded to the size of a window.")
    trained = card.preprocessing.spacing
    if trained is not None and suited.spacing is None and unit == "mm":
        said.append(
            "The model was trained on pictures whose pixels have no size in mm: the size of structures cannot be "
            "matched, pixels are taken as they are."
        )
    elif trained is not None and suited.spacing is None:
        sizes = " x ".join(f"{h:.3g}" for h in trained)
        said.append(
            f"The image has no voxel size and is not resampled: its voxels are taken for {sizes} mm, those of the "
            "model. State their size, on the command line with --spacing, to have structures matched."
        )
    if target is None:
        return said
    if ndim > len(target):
        # a 2D network on a volume: the distance of slices does not matter to it
        through = (card.preprocessing.axis_order or (0,))[0]
        spacing = [h for axis, h in enumerate(spacing) if axis != through]
    apart = [max(h / t, t / h) for h, t in zip(spacing[::-1], target[::-1], strict=False)]
    if max(apart) > FAR and not suited.keep_slice_distance:
        mine, theirs = (" x ".join(f"{h:.3g}" for h in sizes) for sizes in (spacing, target))
        said.append(f"Voxels are {mine} {unit}, the model was trained on {theirs}: more than a factor {FAR:g} apart.")
    return said


def _of_the_values(card: ModelCard, image: NDArray[Any], spatial: int) -> list[str]:
    channels = image[None] if image.ndim == spatial else image
    said = []
    for values, channel in zip(channels, card.preprocessing.channels, strict=False):
        known = channel.statistics
        if channel.window is not None and float(np.mean(_within(_sample(values), channel.window))) < _SHARE:
            sample, (low, high) = _sample(values), channel.window
            said.append(
                f"Grey values run from {sample.min():g} to {sample.max():g}; the model takes those from {low:g} to "
                f"{high:g}. The result may be meaningless."
            )
            continue
        if channel.normalisation != "ct" or known is None:
            continue
        sample = _sample(values)
        low, high = known.percentile_00_5, known.percentile_99_5
        inside = float(np.mean(_within(sample, (low, high))))
        if inside < _SHARE or np.ptp(sample) < 0.02 * (high - low):
            said.append(
                f"Grey values run from {sample.min():g} to {sample.max():g}; the model was trained on {card.modality} "
                f"with structures from {low:g} to {high:g}. The result may be meaningless.".replace("on  with", "with")
            )
    return said


def _within(sample: NDArray[Any], window: tuple[float, float]) -> NDArray[np.bool_]:
    return (sample >= window[0]) & (sample <= window[1])
