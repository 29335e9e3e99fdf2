"""Every network by its name: an explicit table, imported one by one when asked for."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from src_models.errors import InputError
from src_models.networks.network import Network
from src_models.refusals import problem_of

NAMES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "unet": ("unet", "UNet", {}),
    "unet-paper": ("unet", "PaperUNet", {}),
    "nnunet": ("nnunet", "PlainNNUNet", {}),
    "nnunet-residual": ("nnunet", "ResidualNNUNet", {}),
    "vnet": ("vnet", "VNet", {}),
    "attention-unet": ("attention_unet", "AttentionUNet", {}),
    "segnet": ("segnet", "SegNet", {}),
    "deconvnet": ("deconvnet", "DeconvNet", {}),
    "fcn32s": ("fcn", "FCN", {"skips": 0}),
    "fcn16s": ("fcn", "FCN", {"skips": 1}),
    "fcn8s": ("fcn", "FCN", {"skips": 2}),
    "lsn": ("lsn", "LevelSetNetwork", {}),
}
"""Name: file, class, and the options that make the name."""


def build(name: str, in_channels: int, num_classes: int, ndim: int, **options: Any) -> Network:
    """A fresh network.

    Parameters
    ----------
    name : str
        One of `NAMES`.
    in_channels, num_classes, ndim : int
        See `Network`.
    **options
        Of the architecture; plain values.

    Raises
    ------
    InputError
        Unknown name or option, with the nearest valid one.
    """
    if name not in NAMES:
        raise InputError(
            "network-name",
            f"There is no network named {name}",
            _nearest(name, NAMES),
            f"Choose one of: {', '.join(NAMES)}.",
        )
    file, cls, fixed = NAMES[name]
    network: type[Network] = getattr(importlib.import_module(f"src_models.networks.{file}"), cls)
    unknown = [key for key in options if key not in network.Options.model_fields]
    if unknown:
        raise InputError(
            "network-option",
            f"{name} has no option {unknown[0]}",
            _nearest(unknown[0], network.Options.model_fields),
            f"Its options: {', '.join(network.Options.model_fields)}.",
        )
    try:
        chosen = network.Options(**(fixed | options))
    except ValidationError as error:
        raise InputError(
            "network-option-value", f"{name} cannot be built", problem_of(error).sentence, "Give a valid value."
        ) from error
    return network(in_channels, num_classes, ndim, chosen)


def from_config(config: Mapping[str, Any]) -> Network:
    """The network that a `Network.config` describes, with fresh weights.

    Raises
    ------
    InputError
        Where it is not such a description.
    """
    try:
        name, numbers = str(config["name"]), [int(config[key]) for key in ("in_channels", "num_classes", "ndim")]
        options = dict(config.get("options", {}))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            "network-config", "This is not the description of a network", str(error), "Use an undamaged model."
        ) from error
    return build(name, numbers[0], numbers[1], numbers[2], **options)


def _nearest(word: str, known: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {close[0]}?" if close else ""
