"""The sample images of File > Open Sample, each with its label, placed in mm."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

from src_models.sample_data import sample_folder

LayerData: TypeAlias = tuple[Any, dict[str, Any], str]

# Level 50, width 400: the window in which the abdomen is read.
_ABDOMEN = (-150.0, 250.0)


def liver_ct() -> list[LayerData]:
    """Abdominal CT, 3 mm, with the liver as found by a network."""
    folder = sample_folder() / "liver_ct"
    return _pair(
        folder / "liver_ct.nii.gz",
        folder / "liver_ct_liver.nii.gz",
        names=("Liver CT", "Liver (by a network)"),
        window=_ABDOMEN,
        value_unit="HU",
    )


def liver_slices() -> list[LayerData]:
    """Six CT slices of six patients with the liver; a stack of pictures, not a volume."""
    import numpy as np

    from napari_lsnet.layers import layer_arguments
    from src_models.files import read_segmentation, read_volume
    from src_models.geometry import Segmentation

    folder = sample_folder() / "liver_slices"
    paths = sorted((folder / "images").glob("*.png"))
    pictures = [read_volume(path) for path in paths]
    labels = [read_segmentation(folder / "labels" / path.name) for path in paths]
    # One picture per slider step: an axis that is no axis in space.
    image = replace(pictures[0], array=np.stack([one.array for one in pictures]), leading_axis="t")
    mask = Segmentation(np.stack([one.labels for one in labels]), image.grid)
    shown = {"name": "Liver CT slices", "contrast_limits": (0.0, 255.0), "colormap": "gray"}
    return [
        (image.array, layer_arguments(image) | shown, "image"),
        (mask.labels, layer_arguments(mask) | {"name": "Liver (drawn)"}, "labels"),
    ]


def hippocampus_mr() -> list[LayerData]:
    """T1 MR cut out around one hippocampus, 1 mm, with its front and back part."""
    folder = sample_folder() / "hippocampus_mr"
    return _pair(
        folder / "hippocampus_001.nii.gz",
        folder / "hippocampus_001_label.nii.gz",
        names=("Hippocampus MR", "Hippocampus, front and back (drawn)"),
    )


def _pair(
    image: Path,
    label: Path,
    *,
    names: tuple[str, str],
    window: tuple[float, float] | None = None,
    value_unit: str = "",
) -> list[LayerData]:
    from napari_lsnet.layers import layer_arguments
    from src_models.files import read_segmentation, read_volume

    volume = replace(read_volume(image), value_unit=value_unit)
    mask = read_segmentation(label, like=volume.grid)
    shown: dict[str, Any] = {"name": names[0], "colormap": "gray"}
    if window is not None:
        shown["contrast_limits"] = window
    return [
        (volume.array, layer_arguments(volume) | shown, "image"),
        (mask.labels, layer_arguments(mask) | {"name": names[1]}, "labels"),
    ]
