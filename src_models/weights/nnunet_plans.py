"""What the plans and the data set of an nnU-Net model say, as the network and the card of a model here."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from src_models.errors import FileError
from src_models.files.gate import shown, shown_name
from src_models.preprocessing.parameters import Channel, ChannelStatistics, Normalisation, Preprocessing
from src_models.weights.card import Label, foreground_values

LARGEST_JSON = 64 * 2**20
_CLASSES = {
    "dynamic_network_architectures.architectures.unet.PlainConvUNet": ("nnunet", "n_conv_per_stage"),
    "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet": ("nnunet-residual", "n_blocks_per_stage"),
    "dynamic_network_architectures.architectures.residual_unet.ResidualEncoderUNet": (
        "nnunet-residual",
        "n_blocks_per_stage",
    ),
}
_SHORT_CLASSES = {"PlainConvUNet": "unet", "ResidualEncoderUNet": "residual_unet"}
_NORMALISATIONS: dict[str, Normalisation] = {
    "CTNormalization": "ct",
    "ZScoreNormalization": "zscore",
    "NoNormalization": "nonorm",
    "RescaleTo01Normalization": "rescale_to_0_1",
    "RGBTo01Normalization": "rgb_to_0_1",
}

_READERS: dict[str, tuple[Literal["stored", "RAS"], Literal["mm", "px"]]] = {
    "SimpleITKIO": ("stored", "mm"),
    "NibabelIO": ("stored", "mm"),
    "Tiff3DIO": ("stored", "mm"),
    "NibabelIOWithReorient": ("RAS", "mm"),
    "SimpleITKIOWithReorient": ("RAS", "mm"),
    "NaturalImage2DIO": ("stored", "px"),
}
_PICTURES = (".png", ".bmp", ".tif")


@dataclass(frozen=True)
class NNUNetModel:
    """One configuration of an nnU-Net model.

    Attributes
    ----------
    data_name : str
        Of the data set, without its number.
    configuration : str
        Such as "3d_fullres".
    network : dict
        As `Network.config`.
    orientation, preprocessing, patch, labels, head, modality
        As on a `ModelCard`.
    previous : str
        The configuration whose labels are further inputs, of the second stage of a cascade; else "".
    """

    data_name: str
    configuration: str
    network: dict[str, Any]
    orientation: Literal["stored", "RAS"]
    preprocessing: Preprocessing
    patch: tuple[int, ...]
    labels: tuple[Label, ...]
    head: Literal["softmax", "sigmoid"]
    modality: str
    previous: str = ""


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file that holds a table.

    Raises
    ------
    FileError
        Where it is missing, too large or something else.
    """
    name = shown_name(path)
    try:
        if path.stat().st_size > LARGEST_JSON:
            raise FileError("nnunet-json", f"{name} cannot be read", "it is larger than 64 MB", "")
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise FileError("nnunet-json", f"{name} cannot be read", (error.strerror or "").lower(), "") from error
    except (ValueError, RecursionError) as error:
        raise FileError("nnunet-json", f"{name} is no JSON file", "it is damaged", "Copy it again.") from error
    if not isinstance(content, dict):
        raise FileError("nnunet-json", f"{name} is not what nnU-Net writes", "it holds no table", "Copy it again.")
    return content


def model_from(plans: Mapping[str, Any], dataset: Mapping[str, Any], configuration: str) -> NNUNetModel:
    """The model that plans and data set describe.

    Parameters
    ----------
    plans, dataset : mapping
        Of ``plans.json``, also as written before nnU-Net 2.5, and ``dataset.json``.
    configuration : str
        Which of the plans'.

    Raises
    ------
    FileError
        Where they are damaged, or the network is of a kind that is not known.
    """
    try:
        chosen = _configuration(plans, configuration)
        channels = _channels(plans, dataset, chosen)
        labels, head = labels_from(dataset)
        patch = tuple(int(n) for n in chosen["patch_size"])
        previous = str(chosen.get("previous_stage") or "")
        name, options = _architecture(chosen, len(patch))
        orientation, unit = seen_by_reader(plans, dataset)
        network = {
            "name": name,
            "in_channels": len(channels) + (len(foreground_values(labels)) if previous else 0),
            "num_classes": len(labels),
            "ndim": len(patch),
            "options": options | {"head": head},
        }
        return NNUNetModel(
            data_name=re.sub(r"^(Dataset|Task)\d+_", "", str(plans["dataset_name"])),
            configuration=configuration,
            network=network,
            orientation=orientation,
            preprocessing=_preprocessing(plans, chosen, channels).model_copy(update={"unit": unit}),
            patch=patch,
            labels=labels,
            head=head,
            modality=", ".join(channel.name for channel in channels),
            previous=previous,
        )
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        why = f"{type(error).__name__}: {shown(str(error).splitlines()[0] if str(error) else '')}"
        raise FileError(
            "nnunet-plans", "The plans or the data set are not as nnU-Net writes them", why, "Use undamaged copies."
        ) from error


def labels_from(dataset: Mapping[str, Any]) -> tuple[tuple[Label, ...], Literal["softmax", "sigmoid"]]:
    """Classes, or regions in the order of the network's outputs with the values they are painted in."""
    entries = {str(name): value for name, value in dataset["labels"].items() if name != "ignore"}
    if not any(isinstance(value, list) and len(value) > 1 for value in entries.values()):
        numbers = {name: int(v[0] if isinstance(v, list) else v) for name, v in entries.items()}
        pairs = sorted((value, name) for name, value in numbers.items())
        return tuple(Label(name=name, value=value, channel=k) for k, (value, name) in enumerate(pairs)), "softmax"
    entries.pop("background", None)
    painted = [int(value) for value in dataset["regions_class_order"]]
    regions = []
    for channel, ((name, value), number) in enumerate(zip(entries.items(), painted, strict=True)):
        members = tuple(int(v) for v in (value if isinstance(value, list) else [value]))
        regions.append(Label(name=name, value=number, channel=channel, members=members))
    return tuple(regions), "sigmoid"


def seen_by_reader(
    plans: Mapping[str, Any], dataset: Mapping[str, Any]
) -> tuple[Literal["stored", "RAS"], Literal["mm", "px"]]:
    """How nnU-Net's reader of these images turns them, and whether it knows the size of a voxel.

    The plans name the reader that was used. Where they are older than such names, it is the one that nnU-Net
    takes: that of the data set, else the first that reads files with this ending.
    """
    named = str(plans.get("image_reader_writer") or dataset.get("overwrite_image_reader_writer") or "None")
    if named == "None":
        ending = str(dataset.get("file_ending", ".nii.gz")).lower()
        named = "NaturalImage2DIO" if ending in _PICTURES else "SimpleITKIO"
    if named not in _READERS:
        raise FileError(
            "nnunet-reader",
            f"The reader {shown(named)} of this nnU-Net is not known here",
            "so it is not known how its images were turned",
            "",
        )
    return _READERS[named]


def previous_stage(plans: Mapping[str, Any], name: str) -> str:
    """The configuration that one builds on; "" where it does not, or is not there."""
    try:
        return str(_configuration(plans, name).get("previous_stage") or "")
    except (KeyError, TypeError, AttributeError, ValueError):
        return ""


def _configuration(plans: Mapping[str, Any], name: str) -> dict[str, Any]:
    """One configuration with what it inherits."""
    every = plans["configurations"]
    merged: dict[str, Any] = {}
    seen: list[str] = []
    wanted: str | None = name
    while wanted is not None:
        if wanted in seen or wanted not in every:
            raise KeyError(wanted)
        seen.append(wanted)
        merged = dict(every[wanted]) | merged
        wanted = every[wanted].get("inherits_from")
    return merged


def _architecture(chosen: Mapping[str, Any], ndim: int) -> tuple[str, dict[str, Any]]:
    """Name and options of the network."""
    if "architecture" in chosen:
        full = str(chosen["architecture"]["network_class_name"])
        arguments = dict(chosen["architecture"]["arch_kwargs"])
    else:
        full, arguments = _old_architecture(chosen)
    if full not in _CLASSES:
        raise FileError(
            "nnunet-class",
            f"The network {shown(full.rpartition('.')[2])} of nnU-Net is not known here",
            "",
            "Only its plain and its residual-encoder U-Net can be imported.",
        )
    name, per_stage = _CLASSES[full]
    _check_layers(arguments, ndim)
    stages = int(arguments["n_stages"])

    def counts(value: Any, number: int) -> list[int]:
        return [int(v) for v in value] if isinstance(value, Sequence) else [int(value)] * number

    return name, {
        "n_stages": stages,
        "features_per_stage": counts(arguments["features_per_stage"], stages),
        "kernel_sizes": [_axes(kernel, ndim) for kernel in arguments["kernel_sizes"]],
        "strides": [_axes(stride, ndim) for stride in arguments["strides"]],
        per_stage: counts(arguments[per_stage], stages),
        "n_conv_per_stage_decoder": counts(arguments["n_conv_per_stage_decoder"], stages - 1),
        "conv_bias": bool(arguments.get("conv_bias", True)),
        "norm": "batch" if "BatchNorm" in str(arguments.get("norm_op")) else "instance",
        # the same weights; without it the coarser heads are not computed
        "deep_supervision": False,
    }


def _old_architecture(chosen: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Plans from before nnU-Net 2.5 gave the numbers of the network one by one."""
    short = str(chosen["UNet_class_name"])
    encoder = list(chosen["n_conv_per_stage_encoder"])
    base, most = int(chosen["UNet_base_num_features"]), int(chosen["unet_max_num_features"])
    per_stage = "n_conv_per_stage" if short == "PlainConvUNet" else "n_blocks_per_stage"
    full = f"dynamic_network_architectures.architectures.{_SHORT_CLASSES.get(short, '')}.{short}"
    return full, {
        "n_stages": len(encoder),
        "features_per_stage": [min(base * 2**stage, most) for stage in range(len(encoder))],
        "kernel_sizes": chosen["conv_kernel_sizes"],
        "strides": chosen["pool_op_kernel_sizes"],
        per_stage: encoder,
        "n_conv_per_stage_decoder": chosen["n_conv_per_stage_decoder"],
    }


def _check_layers(arguments: Mapping[str, Any], ndim: int) -> None:
    """Refuse layers that the networks here do not have: their weights might fit, and their results would not."""
    norm = arguments.get("norm_op_kwargs") or {"eps": 1e-5, "affine": True}
    act = arguments.get("nonlin_kwargs") or {}
    kind = str(arguments.get("norm_op", "InstanceNorm"))
    faults = {
        f"norm {kind}": not ("InstanceNorm" in kind or "BatchNorm" in kind),
        "a norm without weights": norm.get("affine", True) is not True or float(norm.get("eps", 1e-5)) != 1e-5,
        "another activation than LeakyReLU(0.01)": "LeakyReLU" not in str(arguments.get("nonlin", "LeakyReLU"))
        or float(act.get("negative_slope", 0.01)) != 0.01,
        "dropout": arguments.get("dropout_op") is not None,
        f"convolutions of other than {ndim} dimensions": str(arguments.get("conv_op", f"{ndim}d"))[-2:] != f"{ndim}d",
    }
    for fault, there in faults.items():
        if there:
            raise FileError(
                "nnunet-layers", "This network of nnU-Net is built in another way", f"it has {shown(fault)}", ""
            )


def _channels(plans: Mapping[str, Any], dataset: Mapping[str, Any], chosen: Mapping[str, Any]) -> tuple[Channel, ...]:
    names = dataset.get("channel_names") or dataset["modality"]
    ordered = [str(names[key]) for key in sorted(names, key=int)]
    measured = plans.get("foreground_intensity_properties_per_channel") or plans.get(
        "foreground_intensity_properties_by_modality", {}
    )
    schemes = list(chosen["normalization_schemes"])
    if len(schemes) != len(ordered):
        raise ValueError(f"{len(schemes)} normalisations for {len(ordered)} channels")
    channels = []
    for k, (name, scheme) in enumerate(zip(ordered, schemes, strict=True)):
        if scheme not in _NORMALISATIONS:
            raise FileError("nnunet-normalisation", f"The normalisation {shown(str(scheme))} is not known here", "", "")
        found = measured.get(str(k))
        channels.append(
            Channel(name=name, normalisation=_NORMALISATIONS[scheme], statistics=_statistics(found) if found else None)
        )
    return tuple(channels)


def _statistics(found: Mapping[str, Any]) -> ChannelStatistics:
    keys = {"minimum": "min", "maximum": "max"}
    return ChannelStatistics(**{name: float(found[keys.get(name, name)]) for name in ChannelStatistics.model_fields})


def _preprocessing(plans: Mapping[str, Any], chosen: Mapping[str, Any], channels: tuple[Channel, ...]) -> Preprocessing:
    forward = [int(axis) for axis in plans["transpose_forward"]]
    if sorted(forward) != list(range(3)):
        raise ValueError(f"transpose_forward is {forward}")
    spacing = [float(h) for h in chosen["spacing"]]
    flat = len(spacing) == 2
    masks = {bool(mask) for mask in chosen["use_mask_for_norm"]}
    if len(masks) != 1:
        raise FileError("nnunet-mask", "Only some channels of this model are normalised inside a mask", "", "")

    def order(kind: str, default: int) -> int:
        return int((chosen.get(f"resampling_fn_{kind}_kwargs") or {}).get("order", default))

    return Preprocessing(
        channels=channels,
        # plans count axes in the order of the network
        spacing=tuple(spacing) if flat else tuple(spacing[forward.index(axis)] for axis in range(3)),
        axis_order=tuple(forward),
        use_mask_for_norm=masks.pop(),
        order_image=order("data", 3),
        order_labels=order("seg", 1),
        order_logits=order("probabilities", 1),
        keep_slice_distance=flat,
    )


def _axes(value: Any, ndim: int) -> list[int]:
    numbers = [int(value)] * ndim if isinstance(value, int) else [int(v) for v in value]
    if len(numbers) != ndim:
        raise ValueError(f"{numbers} has not {ndim} axes")
    return numbers
