"""A plan with sensible numbers for a network of the zoo, without self-configuration.

It suits pictures and slices of one size: no resampling, each channel normalised as its name says, a network of the
size that a computer without a graphics card trains. `planning` makes the self-configured plans.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from src_models.errors import InputError
from src_models.networks.zoo import NAMES
from src_models.preprocessing.click import START
from src_models.preprocessing.normalisation import normalisation_of
from src_models.preprocessing.parameters import Channel, Preprocessing
from src_models.training.case import DataSet
from src_models.training.fingerprint import fingerprint_now
from src_models.training.folds import Split, make_folds
from src_models.training.optimisers import PAPER, UNROLLED, recommended
from src_models.training.plan import Augmentation, Configuration, TrainingPlan

Protocol = Literal["modern", "paper"]
LARGEST_PATCH = {2: 256, 3: 64}
BATCH = {2: 8, 3: 2}
WIDTH = {2: 16, 3: 8}
EPOCHS = {"modern": 60, "paper": 40}
LSN = "lsn"
FROM_COARSE_TO_FINE: dict[str, Any] = {"steps": (20, 10, 5), "gradient": "godunov"}
"""Of a level set network, unless other options are given: a front that crosses an organ within its steps."""


def default_plan(
    data: DataSet,
    net: str = "unet",
    *,
    ndim: Literal[2, 3] | None = None,
    protocol: Protocol = "modern",
    split: Split = "nnunet",
    patch: Sequence[int] | None = None,
    batch: int | None = None,
    epochs: int | None = None,
    iterations: int | None = None,
    options: dict[str, Any] | None = None,
    modality: str = "",
) -> TrainingPlan:
    """A plan for a data set.

    Parameters
    ----------
    data : DataSet
        Its labels, channels and folds are taken.
    net : str
        A network of the zoo.
    ndim : int, optional
        2 trains volumes slice by slice; by default that of the images.
    protocol : str
        ``"modern"``: Dice and cross entropy, AdamW (Adadelta for the level set network), augmentation. ``"paper"``:
        Adadelta and the paper's Dice, batches of 4, no augmentation.
    split : str
        How patients are cut into folds; with too few of them there is only the fold ``all``.
    patch, batch, epochs, iterations, options
        Of the configuration and the network, in place of the defaults; an epoch sees as many samples as there are
        cases to train on.
    modality : str
        For the card, such as "CT".

    Raises
    ------
    InputError
        Where the network or the number of dimensions does not fit.
    """
    if net not in NAMES:
        raise InputError("network-name", f"There is no network named {net}", "", f"Choose one of: {', '.join(NAMES)}.")
    shapes = image_shapes(data)
    own = len(shapes[0])
    dims = ndim or own
    if dims > own:
        raise InputError(
            "plan-ndim", "A 3D network takes volumes", f"the images have {own} axes", "Train a 2D network."
        )
    paper = protocol == "paper"
    folds: tuple[dict[str, tuple[str, ...]], ...] = ()
    if len(set(data.groups.values())) >= 5:
        folds = tuple(fold.as_dict() for fold in make_folds(data.groups, split=split))
    count = batch or (4 if paper else BATCH[dims])
    chosen = _configuration(data, shapes, dims, network_config(data, net, dims, options), patch, count)
    if net == LSN:
        chosen = _centred_on_foreground(chosen, data)
    slices = sum(shape[0] if dims < own else 1 for shape in shapes) * (4 if folds else 5) // 5
    return TrainingPlan(
        data_name=data.about.name or data.name,
        modality=modality or ("CT" if any(normalisation_of(name) == "ct" for name in data.channels) else ""),
        labels=data.labels,
        head=data.head,
        ignore_label=data.ignore_label,
        folds=folds,
        configurations=(chosen.model_copy(update={"batch_dice": dims == 2 and not paper}),),
        loss="dice-paper" if paper else "dice_ce",
        deep_supervision=False,
        optimiser=PAPER if paper else UNROLLED if net == LSN else recommended("adamw"),
        augmentation=None if paper else Augmentation(),
        epochs=epochs or EPOCHS[protocol],
        iterations=iterations or max(-(-slices // count), 1),
        sampling="in_turn" if paper else "random",
        foreground=0.0 if paper else 0.33,
    )


def _configuration(
    data: DataSet,
    shapes: Sequence[tuple[int, ...]],
    ndim: int,
    network: dict[str, Any],
    patch: Sequence[int] | None,
    batch: int,
) -> Configuration:
    size = tuple(patch) if patch else default_patch(shapes, ndim)
    if len(size) != ndim:
        raise InputError("plan-patch", f"The patch has {len(size)} axes, not {ndim}", "", "Give one number per axis.")
    return Configuration(
        name="2d" if ndim == 2 else "3d_fullres",
        preprocessing=Preprocessing(
            channels=_channels(data),
            unit="px",
            crop_to_nonzero=False,
            keep_slice_distance=ndim < len(shapes[0]),
        ),
        network=network,
        patch=size,
        batch=batch,
        median_shape=tuple(int(n) for n in np.median(shapes, 0)),
    )


def _centred_on_foreground(configuration: Configuration, data: DataSet) -> Configuration:
    """CT values measured from those of the structure: the kernels of a level set network add up squares."""
    pre = configuration.preprocessing
    if not any(normalisation_of(channel.name) == "ct" for channel in pre.channels):
        return configuration
    from src_models.training.fingerprint import fingerprint_now

    known = fingerprint_now(data).channels
    channels = tuple(
        channel.model_copy(update={"normalisation": "ct", "statistics": found})
        if normalisation_of(channel.name) == "ct"
        else channel
        for channel, found in zip(pre.channels, known, strict=True)
    )
    return configuration.model_copy(update={"preprocessing": pre.model_copy(update={"channels": channels})})


def image_shapes(data: DataSet) -> list[tuple[int, ...]]:
    """Shape of each image without its channels.

    Raises
    ------
    InputError
        Where some have more axes than others.
    """
    shapes = [case.volume().grid.shape for case in data.cases]
    if len({len(shape) for shape in shapes}) > 1:
        raise InputError("plan-axes", "Some images are flat and some are volumes", "", "Train on one kind at a time.")
    return shapes


def default_patch(shapes: Sequence[tuple[int, ...]], ndim: int) -> tuple[int, ...]:
    """The median image, at most 256 pixels or 64 voxels a side, in multiples of 16 where it is that large."""
    median = np.median(np.array(shapes)[:, -ndim:], 0)
    sizes = [min(int(n), LARGEST_PATCH[ndim]) for n in median]
    return tuple(n // 16 * 16 if n >= 32 else 16 for n in sizes)


def network_config(data: DataSet, net: str, ndim: int, options: dict[str, Any] | None = None) -> dict[str, Any]:
    """`Network.config` of a network for the channels and labels of a data set.

    Raises
    ------
    InputError
        Where an option is not known.
    """
    import torch

    from src_models.networks.zoo import build

    chosen: dict[str, Any] = {"base_width": WIDTH[ndim]} if net == "unet" else {}
    if net == LSN:
        chosen = dict(FROM_COARSE_TO_FINE)
    chosen |= {"head": data.head} | (options or {})
    inputs = len(data.channels) + (chosen.get("start") == START)
    with torch.device("meta"):
        config = build(net, inputs, len(data.labels), ndim, **chosen).config
    if "deep_supervision" in config["options"] and "deep_supervision" not in chosen:
        config["options"]["deep_supervision"] = False
    return config


def _channels(data: DataSet) -> tuple[Channel, ...]:
    """Each channel by its name; the window of a CT comes from what is marked in all cases, for which they are read."""
    wanted = [normalisation_of(name) for name in data.channels]
    known = fingerprint_now(data).channels if "ct" in wanted else (None,) * len(wanted)
    return tuple(
        Channel(name=name, normalisation=way, statistics=statistics if way == "ct" else None)
        for name, way, statistics in zip(data.channels, wanted, known, strict=True)
    )
