"""A run of several labels at once: the same request, with one front per label of the start."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_lsnet.levelset.engine_preparation import prepared
from napari_lsnet.levelset.request import Request
from napari_lsnet.seeds import labels_of_region
from src_models.errors import InputError

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_lsnet.levelset.labels_picture import LabelsWatch, LiveLabels
    from src_models.levelset.coupled import LabelsResult, LabelsState
    from src_models.levelset.parameters import LevelSetParameters
    from src_models.progress import Progress

_STILL_SHOWN = 4


@dataclass(frozen=True, eq=False)
class LabelsRequest(Request):
    """A run of every label of the start at once.

    Attributes
    ----------
    protected : ndarray or None
        Labels that are there already, in the layer that the result goes to; no front enters them.
    """

    protected: NDArray[Any] | None = None

    @property
    def several(self) -> bool:
        """Whether each label has a front of its own."""
        return True

    @property
    def numbers(self) -> tuple[int, ...]:
        """The labels."""
        return tuple(int(k) for k in np.unique(np.asarray(self.initial)) if k)

    def make(self) -> Generator[Progress, Any, LabelsResult]:
        """The generator of the run; called in the worker, because it loads the engine."""
        from src_models.processor import let_waiting_threads_sleep

        let_waiting_threads_sleep()
        yield from prepared()
        from src_models.levelset.coupled import evolve_labels

        labels = evolve_labels(
            self.image,
            np.asarray(self.initial),
            self.spacing,
            self.parameters,
            protected=self.protected,
            walls=self.walls,
            pins=self.pins,
        )
        return (yield from labels)

    def after(self, result: LabelsResult, parameters: LevelSetParameters) -> LabelsRequest:
        """The same, from the labels that another run reached."""
        return replace(self, initial=result.labels, parameters=parameters)

    def protecting(self, target: Any) -> LabelsRequest:
        """The same, with the labels of a layer as walls; not where the labels to grow are in that layer."""
        if target is None or target is self.start.layer:
            return self
        there = labels_of_region(target, self.source, self.region)
        return replace(self, protected=np.where(np.asarray(self.initial) == 0, there, 0))

    # ---- what is shown and said

    def watch(self, before: Any) -> LabelsWatch:  # noqa: ARG002 - such a run has no timeline to go on with
        """Takes the pictures."""
        from napari_lsnet.levelset.labels_picture import LabelsWatch

        return LabelsWatch()

    def live(self, viewer: ViewerModel, picture: Any) -> LiveLabels:
        """The layer that shows the run."""
        from napari_lsnet.levelset.labels_picture import LiveLabels

        return LiveLabels(viewer, self.source, self.region, picture)

    def running_text(self, state: LabelsState) -> str:
        """One line on a run that is under way."""
        moving = sum(report.stop_reason is None for report in state.reports.values())
        size = sum(report.size for report in state.reports.values())
        return (
            f"Step {state.iteration}, time {state.time:.1f} (+{state.dt:.2f}), {self.size_text(size)} in "
            f"{len(state.reports)} labels, {moving} still moving"
        )

    def stop_text(self, result: LabelsResult) -> tuple[str, bool]:
        """How the run ended, with the next step; and whether it needs attention."""
        by_reason: dict[str, list[int]] = {}
        for number, report in result.reports.items():
            by_reason.setdefault(str(report.stop_reason), []).append(number)
        told = [f"{_WORDS.get(reason, reason)}: {_listed(numbers)}" for reason, numbers in by_reason.items()]
        size = self.size_text(sum(report.size for report in result.reports.values()))
        attention = bool({"leak", "vanished", "filled", "stalled"} & set(by_reason))
        return f"{'; '.join(told)}. {size} in all. Accept writes every label.", attention

    def leaks(self, result: LabelsResult) -> tuple[tuple[float, ...], ...]:
        """Where labels stopped before a leak, in voxels of the array."""
        stopped = (report for report in result.reports.values() if report.stop_reason == "leak")
        return tuple(report.leak_at for report in stopped if report.leak_at is not None)


_WORDS = {
    "converged": "At rest",
    "leak": "Stopped before a leak",
    "time": "Time is up",
    "steps": "Out of steps",
    "vanished": "Vanished",
    "filled": "Filled the image",
    "stalled": "No speed",
    "cancelled": "Cancelled",
}


def _listed(numbers: list[int]) -> str:
    """Some numbers in words."""
    if len(numbers) > _STILL_SHOWN:
        return f"{len(numbers)} labels"
    return ("label " if len(numbers) == 1 else "labels ") + ", ".join(map(str, numbers))


def read_labels(layer: Any, source: Any, region: Any) -> NDArray[Any]:
    """The starts of several labels.

    Raises
    ------
    InputError
        Where nothing is painted inside the region.
    """
    labels = labels_of_region(layer, source, region).copy()
    if not labels.any():
        raise InputError("seeds-empty", "Nothing is painted inside the image", "", "Paint into the structures.")
    if labels.dtype.kind != "u":
        labels = labels.astype(np.uint32 if labels.max() > np.iinfo(np.uint16).max else np.uint16)
    return labels
