"""MONAI bundles: what their metadata says of a model, and a model of ours written as one.

A bundle's configurations may hold Python expressions; they are neither read nor run here.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src_models.errors import FileError
from src_models.files.gate import shown_name
from src_models.record import RESEARCH_USE
from src_models.weights.card import ModelCard

if TYPE_CHECKING:
    from src_models.weights.model import Model

METADATA = "configs/metadata.json"
OUR_CARD = "configs/lsnet_card.json"
_WEIGHTS = ("models/model.safetensors", "models/model.pt", "models/model.pth")


def weights_of_bundle(bundle: Path) -> Path:
    """The file of the weights.

    Raises
    ------
    FileError
        Where there is none.
    """
    for name in _WEIGHTS:
        if (bundle / name).is_file():
            return bundle / name
    raise FileError(
        "bundle-weights",
        f"The bundle {shown_name(bundle)} holds no weights",
        "it has no models/model.pt",
        "Download it whole.",
    )


def card_from_metadata(metadata: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Fields of a card out of a bundle's ``metadata.json``; what is missing or odd there is left out."""
    fields: dict[str, Any] = {
        "name": re.sub(r"[^A-Za-z0-9._+-]+", "_", str(metadata.get("name") or name)).strip("._-").lower() or "bundle",
        "version": str(metadata.get("version") or "1"),
        "task": str(metadata.get("task") or ""),
        "changelog": "imported from a MONAI bundle",
        "training_data": {
            "name": str(metadata.get("data_type") or ""),
            "source": str(metadata.get("data_source") or ""),
            "citation": "; ".join(str(part) for part in _list(metadata.get("references"))),
        },
    }
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,29}", fields["version"]):
        fields["version"] = "1"
    use = str(metadata.get("intended_use") or "")
    fields["intended_use"] = f"{use.rstrip('.')}. {RESEARCH_USE}" if use else RESEARCH_USE
    scores = _table(metadata.get("eval_metrics"))
    if scores:
        fields["metrics"] = [{str(key): value for key, value in scores.items() if isinstance(value, int | float | str)}]
    formats = _table(metadata.get("network_data_format"))
    image = _first(formats.get("inputs"))
    output = _first(formats.get("outputs"))
    fields["modality"] = str(image.get("modality") or "")
    shape = [n for n in _list(image.get("spatial_shape")) if isinstance(n, int) and n > 0]
    if len(shape) in (2, 3):
        fields["patch"] = shape
    classes = _table(output.get("channel_def"))
    if classes and all(str(key).isdecimal() for key in classes):
        fields["labels"] = [
            {"name": str(classes[key]), "value": int(key), "channel": int(key)} for key in sorted(classes, key=int)
        ]
    return fields


def bundle_files(model: Model) -> dict[str, bytes]:
    """A model as the files of a MONAI bundle, by their names in it.

    Parameters
    ----------
    model : Model
        With its weights.
    """
    import torch

    card = model.card
    weights = io.BytesIO()
    torch.save(dict(model.network.state_dict()), weights)
    network = {"_target_": "src_models.networks.zoo.from_config", "config": card.network}
    return {
        METADATA: _text(metadata_from(card)),
        OUR_CARD: _text(card.model_dump(mode="json")),
        "configs/inference.json": _text({"bundle_root": ".", "network_def": network}),
        "models/model.pt": weights.getvalue(),
        "docs/README.md": _readme(card).encode(),
        "LICENSE": (card.weights_licence or "Licence of the weights: not stated").encode() + b"\n",
    }


def metadata_from(card: ModelCard) -> dict[str, Any]:
    """``metadata.json`` of a bundle, with MONAI's names of the fields."""
    channels = [channel.name for channel in card.preprocessing.channels]
    image = {
        "type": "image",
        "format": "magnitude",
        "modality": card.modality,
        "num_channels": len(channels),
        "spatial_shape": list(card.patch),
        "dtype": "float32",
        "is_patch_data": True,
        "channel_def": {str(k): name for k, name in enumerate(channels)},
    }
    output = {
        "type": "image",
        "format": "segmentation",
        "num_channels": len(card.labels),
        "spatial_shape": list(card.patch),
        "dtype": "float32",
        "is_patch_data": True,
        "channel_def": {str(label.channel): label.name for label in card.labels},
    }
    return {
        "schema": "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json",
        "version": card.version,
        "changelog": {card.version: card.changelog or "exported"},
        "name": card.name,
        "task": card.task,
        "description": card.task,
        "authors": "",
        "copyright": "",
        "monai_version": card.versions.get("monai", ""),
        "pytorch_version": card.versions.get("torch", ""),
        "numpy_version": card.versions.get("numpy", ""),
        "required_packages_version": {},
        "data_source": card.training_data.source or card.training_data.name,
        "data_type": card.training_data.name,
        "intended_use": card.intended_use,
        "references": [card.training_data.citation] if card.training_data.citation else [],
        "eval_metrics": {k: v for row in card.metrics[:1] for k, v in row.items() if isinstance(v, int | float)},
        "network_data_format": {"inputs": {"image": image}, "outputs": {"pred": output}},
    }


def _readme(card: ModelCard) -> str:
    return (
        f"# {card.name}\n\n{card.task}\n\n{card.intended_use}\n\n"
        f"Weights: {card.weights_licence or 'not stated'}. Trained on {card.training_data.name or 'unnamed data'}"
        f" ({card.training_data.licence or 'licence not stated'}).\n\n"
        "How images are prepared stands in `configs/lsnet_card.json`.\n"
    )


def _text(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()


def _table(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _first(value: Any) -> Mapping[str, Any]:
    return _table(next(iter(_table(value).values()), None))
