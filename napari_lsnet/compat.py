"""Everything that differs between the napari versions we run on, in one place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

PLUGIN = "napari-lsnet"


def plugin_settings() -> Any | None:
    """The settings that napari keeps for this plugin; None before napari 0.9, and where the plugin is not installed."""
    try:
        from napari.settings import get_plugin_settings
    except ImportError:
        return None
    try:
        return get_plugin_settings(PLUGIN)
    except KeyError:
        return None


def locked_level(layer: Any) -> int:
    """The resolution level that the user fixed on a multiscale layer (from napari 0.7.1), else the finest."""
    return int(getattr(layer, "locked_data_level", None) or 0)


def slider_units(viewer_dims: Any) -> Sequence[Any] | None:
    """The units that the sliders count in (from napari 0.9); None where they count in plain world numbers."""
    return getattr(viewer_dims, "units", None)


def camera_of(viewer: Any) -> Any:
    """The camera, which stands in the scene from napari 0.9."""
    scene = getattr(viewer, "scene", None)
    return viewer.camera if scene is None else scene.camera
