"""`evolve`: the level set equation from a start until it rests, a generator of states. `replay`: the same again."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_models.errors import InputError
from src_models.levelset.conditions import going_on, messages
from src_models.levelset.initial import Seeds
from src_models.levelset.parameters import LevelSetParameters
from src_models.levelset.pyramid import Beginning, coarse_to_fine, is_worth_it
from src_models.levelset.recipes import GivenSpeed, restored_speed
from src_models.levelset.states import REASONS, Constraints, LevelSetResult, LevelSetState, Resume
from src_models.record import Change, Record, StoredArray, content_hash

__all__ = ["REASONS", "Constraints", "LevelSetResult", "LevelSetState", "Resume", "evolve", "replay"]


def evolve(
    image: NDArray[Any],
    initial: NDArray[Any] | Seeds | Resume,
    spacing: Sequence[float],
    parameters: LevelSetParameters,
    speed_image: GivenSpeed | None = None,
    *,
    walls: NDArray[Any] | None = None,
    pins: NDArray[Any] | None = None,
    contributions: bool = False,
) -> Generator[LevelSetState, LevelSetParameters | Constraints | None, LevelSetResult]:
    """Run the level set equation from a start until it rests.

    Parameters
    ----------
    image : ndarray of shape (z, y, x) or (y, x)
        Grey values, any real type.
    initial : ndarray, Seeds or Resume
        Labels (bool or integer; anything but 0 is inside), u itself (float, > 0 inside), seeds in mm, or a moment of
        another run to go on from as it is.
    spacing : sequence of float
        mm per array axis, in array order.
    parameters : LevelSetParameters
        The equation and when to stop.
    speed_image : ndarray, ClassifierSpeed, ClusterSpeed or PreparedSpeed, optional
        Replaces the computed edge image g (>= 0) or region speed s; or how to make s from the image, see `recipes`.
    walls, pins : ndarray of bool, optional
        Where the front must not go, and what must be inside.
    contributions : bool
        Also sum what each term added to u.

    Yields
    ------
    LevelSetState
        The start, then every step; before these the coarse levels, where `pyramid` asks for them. ``send`` a
        `LevelSetParameters` or `Constraints` in place of ``next`` to change them from the next step on; pause by not
        calling, cancel by ``close``.

    Returns
    -------
    LevelSetResult
        Mask, level set, reason of the stop, record.

    Raises
    ------
    InputError, GeometryError, DeviceError
        One sentence each, before the first step.
    """
    begun = Beginning(image, initial, spacing, parameters, speed_image, walls, pins)
    if is_worth_it(parameters, np.shape(image), initial):
        begun = yield from coarse_to_fine(begun)
    run = begun.run(contributions)
    del begun  # its level set is the size of the image, and the run has its own
    state = run.start()
    while state.stop_reason is None:
        message = yield state
        state = run.step(message)
    yield state
    run.engine.finish()
    return run.result(state)


def replay(
    record: Record, image: NDArray[Any], speed_image: NDArray[Any] | None = None
) -> Generator[LevelSetState, None, LevelSetResult]:
    """The run of a record again, with its changes at the same steps; bit for bit on the CPU.

    Parameters
    ----------
    record : Record
        Of an evolution.
    image : ndarray
        The array the record was made from (after its region was cut out).
    speed_image : ndarray, optional
        Where the record says that one was given.

    Raises
    ------
    InputError
        Where the record is of another task, or the arrays are not those of the record.
    """
    if record.task != "evolve" or record.source is None:
        raise InputError("record-task", "This record is not of a level set run", "", "Choose another record.")
    if content_hash(np.asarray(image)) != record.source.content_hash:
        raise InputError(
            "record-source", "The image is not the one of the record", "its content differs", "Give the original image."
        )
    wanted = record.inputs.get("speed_image")
    if wanted is not None and (speed_image is None or content_hash(np.asarray(speed_image)) != wanted):
        raise InputError(
            "record-speed",
            "The record was made with a speed image",
            "it is missing or differs",
            "Give that speed image.",
        )
    inputs = record.inputs
    walls, pins = (StoredArray(**inputs[k]).array() if k in inputs else None for k in ("walls", "pins"))
    speed = restored_speed(inputs) or speed_image
    again = evolve(
        image,
        _stored_start(inputs["initial"]),
        record.source.spacing,
        LevelSetParameters(**record.parameters),
        speed,
        walls=walls,
        pins=pins,
    )
    changes = list(record.changes)
    steps = int(record.result["steps"])
    state = next(again)
    while state.phase != "evolve":
        yield state
        state = next(again)
    while not (record.status == "cancelled" and state.iteration >= steps):
        due = [change for change in changes if change.step == state.iteration]
        changes = changes[len(due) :]
        if state.stop_reason is not None and not due:
            break
        yield state
        sent = [message for change in due for message in messages(change)]
        if state.stop_reason is not None or len(sent) > 1:
            again = _gone_on(state, due, image, speed)
            state = next(again)
            sent = []
        state = again.send(sent[0] if sent else None)
    yield state
    return state.result()


def _gone_on(
    state: LevelSetState, due: Sequence[Change], image: NDArray[Any], speed: GivenSpeed | None
) -> Generator[LevelSetState, LevelSetParameters | Constraints | None, LevelSetResult]:
    """A run that goes on from where another ended or was branched, with changes made at that moment."""
    reached = state.result()
    before = reached.record.model_copy(update={"changes": (*reached.record.changes, *due)})
    begin = _stored_start(before.inputs["initial"])
    origin = np.asarray(begin.level_set > 0) if isinstance(begin, Resume) else begin
    resume, acting = going_on(reached.level_set, state.iteration, state.time, before, origin)
    spacing = before.source.spacing if before.source is not None else ()
    return evolve(image, resume, spacing, acting.parameters, speed, walls=acting.walls, pins=acting.pins)


def _stored_start(stored: dict[str, Any]) -> NDArray[Any] | Seeds | Resume:
    if "resume" in stored:
        u, moment = StoredArray(**stored["resume"]).array(), (int(stored["iteration"]), float(stored["time"]))
        return Resume(u, *moment, free_speed=stored.get("free_speed"))
    if "seeds" in stored:
        return Seeds(**stored["seeds"])
    return StoredArray(**stored["array"]).array()
