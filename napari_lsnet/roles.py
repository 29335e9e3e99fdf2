"""What a layer that we made is for, as it says in ``metadata["lsnet"]["role"]``."""

from __future__ import annotations

from typing import Any


def role_of(layer: Any) -> str:
    """The role of a layer; "" for layers of the person and for results."""
    return str(dict(layer.metadata).get("lsnet", {}).get("role", ""))


def is_live(layer: Any) -> bool:
    """Whether a layer only shows a run or a preview: it is no input."""
    return role_of(layer).startswith("live")


def is_image(layer: Any) -> bool:
    """Whether a layer is an image that may be worked on."""
    from napari.layers import Image

    return isinstance(layer, Image) and not is_live(layer)


def is_labels(layer: Any) -> bool:
    """Whether a layer holds labels of a person or a result, and not what steers a run."""
    from napari.layers import Labels

    return isinstance(layer, Labels) and not role_of(layer)
