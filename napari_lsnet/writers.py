"""Save a layer as a medical image: on the grid and in the axis order of the file that it came from."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def write_image(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Save an image layer.

    Raises
    ------
    LsnetError
        In one sentence, which napari shows; a file that was there before is untouched.
    """
    from napari_lsnet.layers import volume_from_attributes
    from src_models.errors import SaveError
    from src_models.files import write_volume

    if attributes.get("rgb"):
        raise SaveError(
            "save-rgb",
            "The image was not saved",
            "colour layers have no place in these formats",
            "Choose one channel, or save it as .tif or .png.",
        )
    write_volume(path, volume_from_attributes(_finest(data), attributes), overwrite=True)
    return [path]


def write_labels(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Save a labels layer; errors as in `write_image`."""
    from napari_lsnet.layers import volume_from_attributes
    from src_models.files import write_segmentation
    from src_models.geometry import Segmentation

    placed = volume_from_attributes(_finest(data), attributes)
    labels = Segmentation(placed.array, placed.grid, stored_order=placed.stored_order, header=placed.header)
    write_segmentation(Path(path), labels, overwrite=True)
    return [path]


def _finest(data: Any) -> Any:
    """The finest level of a layer with several resolutions; napari hands over a list of arrays for those."""
    from collections.abc import Sequence

    return data[0] if isinstance(data, Sequence) else data
