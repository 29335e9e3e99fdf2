"""How windows are laid on an image: with a Gaussian and a step, or as tiles that are exact; mirrored or not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from src_models.errors import InputError
from src_models.inference.parameters import PredictionParameters
from src_models.inference.passes import Passes
from src_models.inference.prepared import Layout
from src_models.inference.windows import Window, exact, overlapping
from src_models.weights.card import ModelCard


@dataclass(frozen=True)
class Tiling:
    """How windows are laid: with a Gaussian and a step, or exactly, with the reach of the network as halo."""

    step: float = 0.5
    halo: tuple[tuple[int, int], ...] | None = None
    stride: tuple[int, ...] = ()


def lay_windows(layout: Layout, patch: Sequence[int], tiling: Tiling) -> list[list[Window]]:
    """The windows of an image, in groups that share their place along the swept axis."""
    size = [min(p, n) for p, n in zip(patch, layout.padded, strict=True)]
    if tiling.halo is None:
        return overlapping(layout.padded, size, tiling.step)
    order = layout.network_order
    back = [order.index(axis) for axis in range(3)]
    lead = 3 - len(tiling.halo)
    halo = ((0, 0),) * lead + tiling.halo
    stride = (1,) * lead + tuple(tiling.stride)
    return exact(layout.padded, size, [halo[axis] for axis in back], [stride[axis] for axis in back])


def tiling_for(wanted: PredictionParameters, passes: Passes, ndim: int) -> tuple[Tiling, list[str]]:
    """Overlapping windows; or exact tiles, where no network looks at the whole window; and what to say about it."""
    if wanted.tile == "auto":
        return Tiling(wanted.step), []
    networks = passes.networks
    if not all(network.norm_free for network in networks):
        said = "This network is normalised over its window, so no tiles are exact: windows of the training overlap."
        return Tiling(wanted.step), [said]
    reaches = [network.receptive_field().reach for network in networks]
    halo = tuple((max(r[k][0] for r in reaches), max(r[k][1] for r in reaches)) for k in range(ndim))
    return Tiling(wanted.step, halo, networks[0].stride), []


def forecast_window(passes: Passes, layout: Layout, groups: Sequence[Sequence[Window]], ndim: int) -> int:
    """Bytes that the largest window takes inside a network."""
    largest = max(
        (window for group in groups for window in group),
        key=lambda window: math.prod(part.stop - part.start for part in window.read),
    )
    sides = [largest.read[k].stop - largest.read[k].start for k in layout.network_order][3 - ndim :]
    return passes.networks[0].forecast(sides).activations_bytes


def mirrored_axes(wanted: PredictionParameters, card: ModelCard) -> tuple[tuple[int, ...], list[str]]:
    """Axes of the network's input that are mirrored, and what to say about them.

    Raises
    ------
    InputError
        Where there is no such axis.
    """
    if wanted.mirror == "none":
        return (), []
    axes = card.mirror_axes if wanted.mirror_axes is None else wanted.mirror_axes
    if not axes:
        return (), ["Mirroring was not used in the training of this model: nothing is mirrored."]
    if max(axes) >= card.ndim:
        raise InputError(
            "mirror-axes",
            f"Axis {max(axes)} cannot be mirrored",
            f"the network has {card.ndim} axes, counted from 0",
            "Choose fewer.",
        )
    return axes, []
