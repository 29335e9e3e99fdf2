"""Save a layer as a medical image: on the grid and in the axis order of the file that it came from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from src_models.geometry import Volume


def write_image(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Save an image layer.

    Raises
    ------
    LsnetError
        In one sentence, which napari shows; a file that was there before is untouched.
    """
    from src_models.errors import SaveError
    from src_models.files import write_volume

    if attributes.get("rgb"):
        raise SaveError(
            "save-rgb",
            "The image was not saved",
            "colour layers have no place in these formats",
            "Choose one channel, or save it as .tif or .png.",
        )
    write_volume(path, _placed(_finest(data), attributes), overwrite=True)
    return [path]


def write_labels(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Save a labels layer; errors as in `write_image`."""
    from src_models.files import write_segmentation
    from src_models.geometry import Segmentation

    placed = _placed(_finest(data), attributes)
    labels = Segmentation(placed.array, placed.grid, stored_order=placed.stored_order, header=placed.header)
    write_segmentation(Path(path), labels, overwrite=True)
    return [path]


def _placed(data: Any, attributes: dict[str, Any]) -> Volume:
    """The data with their place; that of an open image where the layer itself has none, as New labels have."""
    from napari_lsnet.layers import volume_from_attributes

    metadata = dict(attributes.get("metadata") or {})
    if "geometry" in metadata.get("lsnet", {}):
        return volume_from_attributes(data, attributes)
    known = _place_of_twin(data.shape, attributes)
    if known is None:
        return volume_from_attributes(data, attributes)
    return volume_from_attributes(data, attributes | {"metadata": metadata | {"lsnet": known}})


def _place_of_twin(shape: tuple[int, ...], attributes: dict[str, Any]) -> dict[str, Any] | None:
    """What is known about an open layer that has the same voxels at the same place.

    Raises
    ------
    GeometryError
        Where two such layers lie differently in the patient: then only the person can say which one is meant.
    """
    import napari
    import numpy as np

    from napari_lsnet.layers import patient_grid
    from napari_lsnet.transforms import matrix_of, same_place, world_matrix
    from src_models.errors import GeometryError
    from src_models.geometry import same_grid

    viewer = napari.current_viewer()
    found: list[tuple[Any, dict[str, Any]]] = []
    matrix = matrix_of({"scale": np.ones(len(shape)), "translate": np.zeros(len(shape))} | attributes)
    for layer in viewer.layers if viewer is not None else ():
        known = dict(layer.metadata).get("lsnet", {})
        if "geometry" not in known or layer.ndim != len(shape) or getattr(layer.data, "shape", ()) != shape:
            continue
        units = attributes.get("units")
        same_units = units is None or [str(u) for u in units] == [str(u) for u in layer.units]
        grid = patient_grid(layer)
        if grid is not None and same_units and same_place(world_matrix(layer), matrix, shape):
            found.append((grid, known))
    if any(not same_grid(grid, found[0][0]) for grid, _ in found):
        raise GeometryError(
            "layer-ambiguous",
            "The layer was not saved",
            "two open images of its size lie differently in the patient",
            "Close the one that it does not belong to.",
        )
    return found[0][1] if found else None


def _finest(data: Any) -> Any:
    """The finest level of a layer with several resolutions; napari hands over a list of arrays for those."""
    from collections.abc import Sequence

    return data[0] if isinstance(data, Sequence) else data
