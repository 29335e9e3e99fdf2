"""`evolve_labels`: several labels grow at once and never overlap. `replay_labels`: the same again.

Each label has its own level set in its own box, its own parameters and its own end; `coupling` says how they meet.
Time is the same for all of them: the step is the smallest of those that the moving labels ask for. A label that has
ended keeps its place, and the others out of it, until every label has ended.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_models.errors import InputError
from src_models.levelset.coupled_run import LabelsRun, Message
from src_models.levelset.coupled_states import ENDED, LabelReport, LabelsResult, LabelsState
from src_models.levelset.initial import Seeds
from src_models.levelset.parameters import LevelSetParameters
from src_models.levelset.states import Constraints
from src_models.record import Change, Record, StoredArray, content_hash

__all__ = ["ENDED", "TASK", "LabelReport", "LabelsResult", "LabelsState", "evolve_labels", "replay_labels"]

TASK = LabelsRun.TASK
"""The task of the records."""


def evolve_labels(
    image: NDArray[Any],
    initials: Mapping[int, NDArray[Any] | Seeds] | NDArray[Any],
    spacing: Sequence[float],
    parameters: LevelSetParameters | Mapping[int, LevelSetParameters],
    *,
    protected: NDArray[Any] | None = None,
    walls: NDArray[Any] | None = None,
    pins: NDArray[Any] | None = None,
) -> Generator[LabelsState, Message, LabelsResult]:
    """Run the level set equation for several labels at once; no voxel ever belongs to two of them.

    Parameters
    ----------
    image : ndarray of shape (z, y, x) or (y, x)
        Grey values, any real type.
    initials : mapping of int to ndarray or Seeds, or ndarray of int
        The start of each label by its number, as for `evolve`; or one array of labels, of which every number grows.
        Starts may touch but not overlap.
    spacing : sequence of float
        mm per array axis, in array order.
    parameters : LevelSetParameters, or mapping of int to LevelSetParameters
        The equation and when to stop: the same for all labels, or one for each. All share ``dtype``, ``band`` and
        whether there is redistancing.
    protected : ndarray, optional
        Labels that are there already; anything but 0 is a wall.
    walls : ndarray of bool, optional
        Where no label must go.
    pins : ndarray of int, optional
        The number of the label that a voxel must stay in; 0 for none. It is a wall to the other labels.

    Yields
    ------
    LabelsState
        The start, then every step. In place of ``next``, ``send`` a mapping of label numbers to `LevelSetParameters`, a
        `LevelSetParameters` for all, or `Constraints` (whose pins hold label numbers); a label that had ended goes on
        with its new parameters. Pause by not calling, cancel by ``close``.

    Returns
    -------
    LabelsResult
        Labels, level sets, why each label ended, record.

    Raises
    ------
    InputError, GeometryError, DeviceError
        One sentence each, before the first step.

    Notes
    -----
    The time step is the smallest of those of the moving labels, so that all share one time. Memory grows with the boxes
    around the labels, not with labels times volume; Chan-Vese speeds and runs without redistancing need whole arrays.
    Where two fronts lie exactly on one voxel the lower number gets it. ``pyramid`` is not used.
    """
    run = LabelsRun(image, initials, spacing, parameters, protected, walls, pins)
    state = run.start()
    while state.stop_reason is None:
        message = yield state
        state = run.step(message)
    yield state
    return run.result(state)


def replay_labels(record: Record, image: NDArray[Any]) -> Generator[LabelsState, None, LabelsResult]:
    """The run of a record again, with its changes at the same steps; bit for bit.

    Parameters
    ----------
    record : Record
        Of several labels.
    image : ndarray
        The array the record was made from (after its region was cut out).

    Raises
    ------
    InputError
        Where the record is of another task, or the image is not that of the record.
    """
    if record.task != TASK or record.source is None:
        raise InputError("record-task", "This record is not of several labels", "", "Choose another record.")
    if content_hash(np.asarray(image)) != record.source.content_hash:
        raise InputError(
            "record-source", "The image is not the one of the record", "its content differs", "Give the original image."
        )
    inputs = record.inputs
    masks = {k: StoredArray(**inputs[k]).array() for k in ("protected", "walls", "pins") if k in inputs}
    again = evolve_labels(
        image,
        _stored_starts(inputs["initials"]),
        record.source.spacing,
        {int(k): LevelSetParameters(**values) for k, values in record.parameters["labels"].items()},
        **masks,
    )
    steps = int(record.result["steps"])
    state = next(again)
    while state.stop_reason is None and not (record.status == "cancelled" and state.iteration >= steps):
        yield state
        state = again.send(_message([change for change in record.changes if change.step == state.iteration]))
    yield state
    return state.result()


def _stored_starts(stored: Mapping[str, Any]) -> dict[int, NDArray[Any] | Seeds]:
    starts: dict[int, NDArray[Any] | Seeds] = {}
    if "labels" in stored:
        labels = StoredArray(**stored["labels"]).array()
        starts |= {int(k): labels == k for k in np.unique(labels) if k}
    for number, start in stored.get("others", {}).items():
        starts[int(number)] = Seeds(**start["seeds"]) if "seeds" in start else StoredArray(**start["array"]).array()
    return dict(sorted(starts.items()))


def _message(due: Sequence[Change]) -> Message:
    """The changes of one step as what was sent."""
    if not due:
        return None
    if due[0].parameters is None:
        walls, pins = due[0].walls, due[0].pins
        return Constraints(walls=None if walls is None else walls.array(), pins=None if pins is None else pins.array())
    return {int(c.label or 0): LevelSetParameters(**c.parameters) for c in due if c.parameters is not None}
