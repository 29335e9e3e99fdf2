"""Drop a file on napari: medical images open in mm, in their place, with labels as labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

LayerData: TypeAlias = tuple[Any, dict[str, Any], str]

# napari reads pictures itself.
SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")


def get_reader(path: str | Sequence[str]) -> Callable[[str | Sequence[str]], list[LayerData]] | None:
    """The reader for medical images; None for everything else, so that napari asks others."""
    paths = [path] if isinstance(path, str) else list(path)
    if not paths or not all(str(one).lower().endswith(SUFFIXES) for one in paths):
        return None
    return read_layers


def read_layers(path: str | Sequence[str]) -> list[LayerData]:
    """One layer for each file.

    Raises
    ------
    LsnetError
        In one sentence, which napari shows.
    """
    paths = [path] if isinstance(path, str) else list(path)
    return [_read_layer(Path(one)) for one in paths]


def _read_layer(path: Path) -> LayerData:
    from napari_lsnet import settings
    from napari_lsnet.layers import layer_arguments
    from src_models.files import ReadOptions, describe, read_segmentation, read_volume
    from src_models.geometry import passport

    name = {"name": _layer_name(path)}
    options = ReadOptions(max_bytes=int(settings.current().file_size_limit_gb * 2**30))
    if describe(path, options).labels:
        mask = read_segmentation(path, options)
        return mask.labels, _noted(layer_arguments(mask) | name, passport(mask), mask.notes), "labels"
    volume = read_volume(path, options)
    arguments = layer_arguments(volume) | name
    return volume.array, _noted(arguments, passport(volume), volume.notes), "image"


def _noted(arguments: dict[str, Any], line: str, notes: tuple[str, ...]) -> dict[str, Any]:
    arguments["metadata"]["lsnet"] |= {"passport": line, "notes": list(notes)}
    return arguments


def _layer_name(path: Path) -> str:
    suffix = max((one for one in SUFFIXES if path.name.lower().endswith(one)), key=len)
    return path.name[: -len(suffix)] or path.name
