"""A prediction as layers, exactly on the voxels of its image, each with the record that repeats it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_lsnet.layers import LABELS_IN_3D, result_arguments, result_array
from napari_lsnet.network_image import in_layer_order, space_of
from napari_lsnet.segment.colours import colour_of, colours_of
from napari_lsnet.segment.request import Request

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from src_models.inference.prediction import Prediction
    from src_models.weights.card import Label

PROBABILITY = "probability"
"""Key in ``metadata["lsnet"]`` of a probability layer: the name of its class."""


def add_outputs(viewer: ViewerModel, request: Request, found: Prediction) -> dict[str, Any]:
    """Add everything that a prediction gives; labels on top.

    Returns
    -------
    dict of str to layer
        ``"labels"``; ``"probability NAME"`` per class; ``"entropy"``, ``"disagreement"``, ``"attention LEVEL"``.
    """
    record = request.complete(found.record).model_dump(mode="json")
    maker = _Maker(viewer, request, record)
    made: dict[str, Any] = {}
    for level, array in found.attention.items():
        made[f"attention {level}"] = maker.image(array, f"Attention, level {level}", "inferno")
    if found.disagreement is not None:
        made["disagreement"] = maker.image(found.disagreement, "Disagreement", "inferno")
    if found.entropy is not None:
        made["entropy"] = maker.image(found.entropy, "Uncertainty (entropy)", "inferno")
    if found.probabilities is not None and request.parameters.probabilities:
        lead = int(request.series)
        for label in found.classes:
            if label.value == 0:
                continue
            array = found.probabilities[(slice(None),) * lead + (label.channel,)]
            name = f"Probability of {label.name}"
            layer = maker.image(array, name, _ramp(label.name, colour_of(found.classes, label)))
            layer.metadata["lsnet"][PROBABILITY] = label.name
            made[f"probability {label.name}"] = layer
    made["labels"] = maker.labels(found)
    viewer.layers.selection.active = made["labels"]
    return made


class _Maker:
    """Adds layers of one run."""

    def __init__(self, viewer: ViewerModel, request: Request, record: dict[str, Any]) -> None:
        self._viewer, self._request, self._record = viewer, request, record

    def labels(self, found: Prediction) -> Any:
        names = [label.name for label in found.classes if label.value != 0]
        shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        part = "" if found.complete else " (not finished)"
        arguments = self._arguments()
        layer = self._viewer.add_labels(
            self._placed(found.labels),
            name=f"{shown[:1].upper()}{shown[1:]} of {self._request.source.name}{part}",
            colormap=colours_of(found.classes),
            **LABELS_IN_3D,
            **arguments,
        )
        layer.features = features_of(found.labels, found.classes, self._request)
        return layer

    def image(self, array: NDArray[Any], name: str, colours: Any) -> Any:
        return self._viewer.add_image(
            self._placed(array),
            name=name,
            rgb=False,
            contrast_limits=(0.0, 1.0),
            colormap=colours,
            blending="additive",
            visible=False,
            **self._arguments(),
        )

    def _placed(self, array: NDArray[Any]) -> NDArray[Any]:
        request = self._request
        return np.ascontiguousarray(result_array(request.region, in_layer_order(array, request.region, request.volume)))

    def _arguments(self) -> dict[str, Any]:
        arguments = result_arguments(self._request.source, self._request.region)
        arguments["metadata"]["lsnet"].pop("value_unit", None)
        arguments["metadata"]["lsnet"]["record"] = self._record
        return arguments


def features_of(labels: NDArray[Any], classes: tuple[Label, ...], request: Request) -> dict[str, list[Any]]:
    """One row per label: its number, name, voxels and size in ml or mm2."""
    size, spacing = space_of(request.volume, request.region)
    most = max(label.value for label in classes) + 1
    # plane by plane: counting makes wide numbers of all it is given
    counts = sum((np.bincount(plane.ravel(), minlength=most)[:most] for plane in labels), np.zeros(most, np.int64))
    rows = [label for label in sorted(classes, key=lambda label: label.value) if label.value != 0]
    table: dict[str, list[Any]] = {
        "index": [label.value for label in rows],
        "name": [label.name for label in rows],
        "voxels": [int(counts[label.value]) for label in rows],
    }
    if request.volume.spacing_known:
        voxel = float(np.prod(spacing))
        three = len(size) == 3
        title, factor = ("volume (ml)", 0.001) if three else ("area (mm2)", 1.0)
        table[title] = [int(counts[label.value]) * voxel * factor for label in rows]
    return table


def _ramp(name: str, colour: str) -> Any:
    from napari.utils import Colormap

    red, green, blue = (int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5))
    return Colormap(colors=[(0.0, 0.0, 0.0, 1.0), (red, green, blue, 1.0)], name=f"probability of {name}")
