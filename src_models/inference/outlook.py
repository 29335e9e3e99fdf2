"""What a prediction will cost, from the card of a model and the size of an image alone: no weights, no voxels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from src_models.inference.export import Classes
from src_models.inference.memory import MemoryForecast, foresee
from src_models.inference.parameters import PredictionParameters
from src_models.inference.prepared import lay_out, preprocessing_for, uncropped
from src_models.inference.tiling import Tiling, lay_windows
from src_models.networks.network import Network
from src_models.networks.zoo import from_config
from src_models.weights.card import ModelCard


@dataclass(frozen=True)
class Outlook:
    """The cost of one prediction.

    Attributes
    ----------
    memory : MemoryForecast
        Its peak, as `predict` states it before it begins.
    windows : int
        Pieces of the image that go through the network.
    passes : int
        Windows times mirrored forms times folds.
    flops : float
        Multiplications and additions of all passes.
    """

    memory: MemoryForecast
    windows: int
    passes: int
    flops: float


def outlook(
    card: ModelCard,
    shape: Sequence[int],
    spacing: Sequence[float],
    parameters: PredictionParameters | None = None,
    *,
    folds: int = 1,
    unit: str = "mm",
) -> Outlook:
    """The cost of a prediction; nothing of it is computed. Of a cascade it is that of the second stage.

    Parameters
    ----------
    card : ModelCard
        Of the model.
    shape, spacing : sequence
        Of the axes in space of the image, in array order.
    parameters : PredictionParameters, optional
        Of the prediction.
    folds : int
        Models whose mean counts.
    unit : str
        Of the spacing: ``"mm"``, or ``"px"`` where voxels have no size.

    Raises
    ------
    InputError
        Where the card describes no network.
    """
    wanted, card = parameters or PredictionParameters(), card.for_unit(unit)
    size, steps = tuple(shape), tuple(float(h) for h in spacing)
    if len(size) == 2 and card.ndim == 3:
        through = 1.0 if card.preprocessing.spacing is None else card.preprocessing.spacing[0]
        size, steps = (1, *size), (through, *steps)
    with torch.device("meta"):
        network = from_config(card.network)
    tiling = _tiling(network, wanted)
    way = uncropped(size, steps, preprocessing_for(card, len(size)))
    window = wanted.window if card.click is None else way.resampled[-card.ndim :]
    layout = lay_out(way, card, window, pad=tiling.halo is None and not network.replicates)
    groups = lay_windows(layout, layout.patch, tiling)
    every = [window for group in groups for window in group]
    largest = max(every, key=lambda window: math.prod(part.stop - part.start for part in window.read))
    sides = [largest.read[k].stop - largest.read[k].start for k in layout.network_order][3 - card.ndim :]
    inside = network.forecast(sides)
    classes = Classes(card.labels, card.head)
    memory = foresee(
        layout,
        groups,
        wanted,
        channels=network.in_channels,
        classes=classes.count,
        extras=int(wanted.disagreement) + (_attention_maps(network, sides) if wanted.attention else 0),
        label_bytes=classes.dtype.itemsize,
        network_bytes=inside.activations_bytes,
        shape=(1,) * (3 - len(size)) + size,
        stage=len(card.stage_values),
    )
    axes: tuple[int, ...] = ()
    if wanted.mirror == "all":
        axes = card.mirror_axes if wanted.mirror_axes is None else wanted.mirror_axes
    passes = len(every) * 2 ** len(axes) * folds
    return Outlook(memory, len(every), passes, float(inside.flops) * passes)


def _tiling(network: Network, wanted: PredictionParameters) -> Tiling:
    if wanted.tile == "auto" or not network.norm_free:
        return Tiling(wanted.step)
    return Tiling(wanted.step, tuple(network.receptive_field().reach), network.stride)


def _attention_maps(network: Network, sides: Sequence[int]) -> int:
    with torch.no_grad():
        found = network.forward_full(torch.empty((1, network.in_channels, *sides), device="meta"))
    return len(found.attention)
