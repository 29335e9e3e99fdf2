"""What a run of several labels tells and gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from src_models.progress import Progress
from src_models.record import Record

ENDED = "ended"
"""The stop reason of a run in which every label has ended; each label has its own, one of `states.REASONS`."""


@dataclass(frozen=True)
class LabelReport:
    """One label after a step.

    Attributes
    ----------
    number : int
        Its value in the label array.
    size : float
        mm^3 inside (mm^2 for a picture).
    volume_ml : float or None
        ml inside; None for a picture.
    area : float
        mm^2 of front (mm for a picture).
    rate : float
        Mean speed of the front, mm per unit of time.
    free_area : float
        The part of the area where the image would let the front run and no other label stands.
    edge_on_front : float
        Mean of g (edge) or s (region) on the front.
    changed_box : tuple of slice or None
        Where this label may have changed in this step.
    note : str
        What was noticed in this step.
    stop_reason : str or None
        Set once the label has ended; one of `states.REASONS`. It keeps its place, and others out of it.
    leak_at : tuple of float or None
        Centre of the leak, in voxels of the whole array.
    """

    number: int
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


@dataclass(frozen=True, eq=False)
class LabelsResult:
    """The end of a run of several labels.

    Attributes
    ----------
    labels : ndarray of unsigned int
        The label of every voxel, 0 outside.
    reports : mapping of int to LabelReport
        Each label as it ended; `stop_reason` is ``"cancelled"`` for those that had not ended.
    stop_reason : str
        ``"ended"`` or ``"cancelled"``.
    record : Record
        How it was made.
    iteration : int
        Steps done.
    time : float
        In the units of the equation.
    notes : tuple of str
        Warnings of the whole run, in words.
    level_sets : mapping of int to (box, ndarray)
        u of each label in its box of the array; outside the box it is -w.
    """

    labels: NDArray[Any]
    reports: Mapping[int, LabelReport]
    stop_reason: str
    record: Record
    iteration: int
    time: float
    notes: tuple[str, ...] = ()
    level_sets: Mapping[int, tuple[tuple[slice, ...], NDArray[Any]]] = field(default_factory=dict)

    @property
    def mask(self) -> NDArray[np.bool_]:
        """The voxels of any label."""
        return np.asarray(self.labels > 0)

    def level_set(self, number: int) -> NDArray[Any]:
        """u of a label on the whole array, in mm near its front, positive inside."""
        box, u = self.level_sets[number]
        everywhere = np.full(self.labels.shape, u.min(), u.dtype)
        everywhere[box] = u
        return everywhere


class _HoldsLabels(Protocol):
    """The run behind a state."""

    shape: tuple[int, ...]

    def labels_in(self, box: tuple[slice, ...]) -> NDArray[Any]:
        """The label array of a region as it is now."""
        ...

    def level_set_of(self, number: int) -> tuple[tuple[slice, ...], NDArray[Any]]:
        """Box and u of a label, not copied."""
        ...

    def result(self, state: LabelsState) -> LabelsResult:
        """Result and record as they stand."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelsState(Progress):
    """One step of a run of several labels.

    Attributes
    ----------
    iteration : int
        0 for the start.
    time, dt : float
        In the units of the equation, the same for all labels.
    reports : mapping of int to LabelReport
        Each label, by its number.
    changed_box : tuple of slice or None
        Where the label array may have changed in this step.
    note : str
        What was noticed in this step.
    stop_reason : str or None
        ``"ended"`` on the last state.
    """

    iteration: int
    time: float
    dt: float
    reports: Mapping[int, LabelReport]
    changed_box: tuple[slice, ...] | None
    note: str = ""
    stop_reason: str | None = None
    run: _HoldsLabels

    @property
    def labels(self) -> NDArray[Any]:
        """The label array now, made on asking; read it from the newest state only."""
        return self.run.labels_in(tuple(slice(0, n) for n in self.run.shape))

    def labels_in(self, box: tuple[slice, ...]) -> NDArray[Any]:
        """The label array of a region, such as `changed_box`; made on asking, from the newest state only."""
        return self.run.labels_in(box)

    def level_set_of(self, number: int) -> tuple[tuple[slice, ...], NDArray[Any]]:
        """The box in which a label lives and u there, a read-only view that the next step will change."""
        box, u = self.run.level_set_of(number)
        view: NDArray[Any] = u.view()
        view.setflags(write=False)
        return box, view

    def result(self) -> LabelsResult:
        """The result as it stands; for the newest state of a run, also after the generator was closed."""
        return self.run.result(self)
