"""A sample prediction as plain JSON, for whoever follows a training from another process; nothing here needs torch."""

from __future__ import annotations

import base64
import math
import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from src_models.training.loop import SamplePrediction

LARGEST = 4096 * 4096
"""Pixels of a sample that is unpacked."""


class SamplePicture(NamedTuple):
    """A sample to be shown, all of shape (y, x)."""

    image: NDArray[np.uint8]
    reference: NDArray[np.uint8]
    prediction: NDArray[np.uint8]


def pack(sample: SamplePrediction) -> dict[str, Any]:
    """Grey values from their 0.5 to their 99.5 percentile as 0 to 255, labels as they are up to 255."""
    low, high = (float(x) for x in np.percentile(sample.image, (0.5, 99.5)))
    grey = np.clip((sample.image - low) / max(high - low, 1e-6) * 255, 0, 255)
    arrays = {"image": grey, "reference": sample.reference, "prediction": sample.prediction}
    packed: dict[str, Any] = {"shape": list(sample.image.shape)}
    for name, array in arrays.items():
        content = np.clip(array, 0, 255).astype(np.uint8).tobytes()
        packed[name] = base64.b64encode(zlib.compress(content, 6)).decode("ascii")
    return packed


def unpack(packed: Mapping[str, Any]) -> SamplePicture | None:
    """The arrays again; None where the text is not what `pack` makes."""
    try:
        shape = tuple(int(n) for n in packed["shape"])
        count = math.prod(shape)
        if len(shape) != 2 or not 0 < count <= LARGEST:
            return None
        found = []
        for name in SamplePicture._fields:
            stream = zlib.decompressobj()
            content = stream.decompress(base64.b64decode(packed[name], validate=True), count + 1)
            found.append(np.frombuffer(content, np.uint8).reshape(shape))
    except (KeyError, TypeError, ValueError, zlib.error):
        return None
    return SamplePicture(*found)
