"""What acts on the front at a moment of a run: parameters, walls and pins, told from its changes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_models.levelset.initial import Seeds
from src_models.levelset.parameters import LevelSetParameters
from src_models.levelset.states import Constraints, Resume
from src_models.record import Change, Record, StoredArray


@dataclass(frozen=True, eq=False)
class Conditions:
    """In force from one step to the next.

    Attributes
    ----------
    parameters : LevelSetParameters
        The equation.
    walls, pins : ndarray of bool or None
        Where the front must not go, and what must be inside.
    """

    parameters: LevelSetParameters
    walls: NDArray[Any] | None
    pins: NDArray[Any] | None


def conditions(first: Mapping[str, Any], inputs: Mapping[str, Any], changes: Iterable[Change]) -> Conditions:
    """The conditions after some changes.

    Parameters
    ----------
    first : mapping
        The parameters of the first step, as a record keeps them.
    inputs : mapping
        What was drawn before it, likewise.
    changes : iterable of Change
        In order.
    """
    parameters: Mapping[str, Any] = first
    masks = {name: StoredArray(**inputs[name]) if name in inputs else None for name in ("walls", "pins")}
    for change in changes:
        parameters = change.parameters or parameters
        for name in masks:
            masks[name] = getattr(change, name) or masks[name]
    walls, pins = (None if mask is None else mask.array() for mask in masks.values())
    return Conditions(LevelSetParameters(**parameters), walls, pins)


def messages(change: Change) -> tuple[LevelSetParameters | Constraints, ...]:
    """What to send to a run to make a change."""
    found: list[LevelSetParameters | Constraints] = []
    if change.walls is not None or change.pins is not None:
        walls, pins = (None if mask is None else mask.array() for mask in (change.walls, change.pins))
        found.append(Constraints(walls=walls, pins=pins))
    if change.parameters is not None:
        found.append(LevelSetParameters(**change.parameters))
    return tuple(found)


def change_at(step: int, parameters: LevelSetParameters, constraints: Constraints | None = None) -> Change:
    """New parameters, and new constraints where there are any, from the step after `step` on."""
    drawn = constraints or Constraints()
    stored = {
        name: None if mask is None else StoredArray.of(np.asarray(mask) != 0)
        for name, mask in (("walls", drawn.walls), ("pins", drawn.pins))
    }
    return Change(step=step, parameters=parameters.model_dump(mode="json"), **stored)


def going_on(
    level_set: NDArray[Any], iteration: int, time: float, before: Record, origin: NDArray[Any] | Seeds | None = None
) -> tuple[Resume, Conditions]:
    """A run that goes on from a moment, under the conditions after the last change of the record that leads to it.

    The drawn start (`origin`) is needed where a speed is still to be made from it.
    """
    acting = conditions(before.parameters, before.inputs, before.changes)
    return Resume(level_set, iteration, time, origin=origin, before=before), acting
