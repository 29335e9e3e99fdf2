"""What a run of the level set tells and gives: states, changes sent to it, and the result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from src_models.levelset.initial import Seeds
from src_models.progress import Progress
from src_models.record import Record

REASONS = {
    "converged": "The front rests.",
    "leak": "The front found a way out; this is the moment before.",
    "time": "The time asked for is reached.",
    "steps": "The limit of steps is reached.",
    "vanished": "Nothing is inside any more: the speed shrinks the front, or the start is too small for the smoothing.",
    "filled": "The whole image is inside: nothing slowed the front. Try region speed, or a smaller edge contrast.",
    "stalled": "The speed is zero everywhere on the front.",
    "cancelled": "Cancelled.",
}
"""What each stop reason means, for the person at the screen."""


@dataclass(frozen=True, eq=False)
class Constraints:
    """Walls and pins, to send to a running evolution; None leaves what was there, an empty mask takes it away.

    Attributes
    ----------
    walls : ndarray of bool or None
        The front never enters them: u <= -min(h)/2 there.
    pins : ndarray of bool or None
        Always inside: u >= min(h)/2 there.
    """

    walls: NDArray[np.bool_] | None = None
    pins: NDArray[np.bool_] | None = None


@dataclass(frozen=True, eq=False)
class Resume:
    """A level set to go on from in place of a start: as it is, unless `redistance` asks for a distance.

    Attributes
    ----------
    level_set : ndarray of shape (z, y, x) or (y, x)
        u, positive inside, in the precision of the run; with redistancing a distance within +-w.
    iteration : int
        Steps done before.
    time : float
        In the units of the equation.
    origin : ndarray, Seeds or None
        The drawn start this level set was made from, where the parameters alone lead from there to here; the record
        keeps it in place of the level set.
    before : Record or None
        The record that leads from the drawn start to here, with what is changed here as its last change: the record of
        the run that goes on continues it. That run equals one to which the change was sent at this moment.
    free_speed : float or None
        v_ref of the run it comes from (`Run.free_speed`), by which the stop rules measure: a front at rest no longer
        shows how fast it was free to run. None takes it from this front.
    speed : ndarray or None
        The speed image of the image and the parameters of the run, where it has been computed already.
    redistance : bool
        Whether the run makes it a distance first; then it need not keep to +-w.
    """

    level_set: NDArray[Any]
    iteration: int = 0
    time: float = 0.0
    origin: NDArray[Any] | Seeds | None = None
    before: Record | None = None
    free_speed: float | None = None
    speed: NDArray[Any] | None = None
    redistance: bool = False


@dataclass(frozen=True, eq=False)
class LevelSetResult:
    """The end of a run.

    Attributes
    ----------
    mask : ndarray of bool
        ``level_set > 0``.
    level_set : ndarray
        u, a signed distance in mm near the front, positive inside.
    stop_reason : str
        One of `REASONS`.
    record : Record
        How it was made.
    iteration : int
        Steps done.
    time : float
        In the units of the equation.
    leak_at : tuple of float or None
        Centre of the leak, in voxels of the array.
    notes : tuple of str
        Warnings of the whole run, in words.
    contributions : dict of str to ndarray, or None
        Where asked for: what each term added to u; together with the start they give the end.
    """

    mask: NDArray[np.bool_]
    level_set: NDArray[Any]
    stop_reason: str
    record: Record
    iteration: int
    time: float
    leak_at: tuple[float, ...] | None = None
    notes: tuple[str, ...] = ()
    contributions: dict[str, NDArray[Any]] | None = None


class _HoldsLevelSet(Protocol):
    """The run behind a state."""

    def level_set(self) -> NDArray[Any]:
        """U as it is now, not a copy."""
        ...

    def result(self, state: LevelSetState) -> LevelSetResult:
        """Result and record as they stand."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class LevelSetState(Progress):
    """One step of a run.

    Attributes
    ----------
    iteration : int
        0 for the start.
    time, dt : float
        In the units of the equation.
    size : float
        mm^3 inside (mm^2 for a picture).
    volume_ml : float or None
        ml inside; None for a picture.
    area : float
        mm^2 of front (mm for a picture).
    rate : float
        Mean speed of the front, mm per unit of time.
    free_area : float
        The part of the area where the image would let the front run.
    edge_on_front : float
        Mean of g (edge) or s (region) on the front.
    changed_box : tuple of slice or None
        Where u may have changed in this step.
    note : str
        What was noticed in this step.
    stop_reason : str or None
        Set on the last state; one of `REASONS`.
    leak_at : tuple of float or None
        Centre of the leak, in voxels.
    """

    iteration: int
    time: float
    dt: float
    size: float
    volume_ml: float | None
    area: float
    rate: float
    free_area: float
    edge_on_front: float
    changed_box: tuple[slice, ...] | None
    note: str = ""
    stop_reason: str | None = None
    leak_at: tuple[float, ...] | None = None
    run: _HoldsLevelSet

    @property
    def level_set(self) -> NDArray[Any]:
        """u as a read-only view that the next step will change; copy it to keep it."""
        view: NDArray[Any] = self.run.level_set().view()
        view.setflags(write=False)
        return view

    @property
    def mask(self) -> NDArray[np.bool_]:
        """The inside now, a copy."""
        return np.asarray(self.level_set > 0)

    def result(self) -> LevelSetResult:
        """The result as it stands; for the newest state of a run, also after the generator was closed."""
        return self.run.result(self)
