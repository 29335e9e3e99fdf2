"""What a run will cost on this machine: looked for in a worker, with the pace of the runs before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_lsnet.layers import LayerVolume
from napari_lsnet.model_list import ModelChoice
from napari_lsnet.network_image import space_seen
from napari_lsnet.transforms import Region
from src_models.geometry import StoredOrder
from src_models.inference.parameters import PredictionParameters

if TYPE_CHECKING:
    from src_models.inference.outlook import Outlook
    from src_models.record import Record

_paces: dict[str, float] = {}
"""Seconds per floating point operation of the networks, by device, from finished runs."""


@dataclass(frozen=True, eq=False)
class Costs:
    """Of one run.

    Attributes
    ----------
    outlook : Outlook
        Of one image.
    frames : int
        Images.
    device : str
        As asked for.
    """

    outlook: Outlook
    frames: int
    device: str


def costs_of(
    choice: ModelChoice,
    volume: LayerVolume,
    region: Region,
    parameters: PredictionParameters,
    order: StoredOrder | None = None,
) -> Costs:
    """For a worker: it loads torch.

    Raises
    ------
    InputError
        Where the model cannot be built.
    """
    from src_models.inference.outlook import outlook

    shape, spacing = space_seen(choice.card, order, volume, region)
    found = outlook(choice.card, shape, spacing, parameters, folds=len(choice.paths), unit=volume.unit)
    times = [part for part, role in zip(region, volume.roles, strict=True) if role == "t" and isinstance(part, slice)]
    frames = times[0].stop - times[0].start if times else 1
    return Costs(found, frames, parameters.device)


def learn_pace(record: Record, costs: Costs) -> None:
    """Remember how long a finished run took."""
    operations = costs.outlook.flops * costs.frames
    if operations > 0 and record.duration_s > 0:
        _paces[costs.device] = record.duration_s / operations


def seconds_for(costs: Costs) -> float | None:
    """How long a run will take; None before the first one on this device."""
    pace = _paces.get(costs.device)
    return None if pace is None else pace * costs.outlook.flops * costs.frames
