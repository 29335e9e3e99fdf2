"""One prediction in a viewer: job, finished slabs on show, layers at its end. It can do without a panel."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, ref

from qtpy.QtCore import Signal  # type: ignore[attr-defined]

from napari_lsnet.jobs import Ending, Job, Update
from napari_lsnet.one_job import OneJob
from napari_lsnet.segment.outputs import add_outputs
from napari_lsnet.segment.replay_text import as_command_line, as_python
from napari_lsnet.segment.request import Request
from napari_lsnet.segment.slabs import LiveLabels, SlabWatch, result_shape
from napari_lsnet.segment.steps import KeptStep, StepsLayer, StepWatch

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from src_models.record import Record

UNDER_CONTOUR = 0.35
"""Opacity of labels below a contour."""


@dataclass(frozen=True)
class Made:
    """Labels with what made them, to take along.

    Attributes
    ----------
    request : Request
        What was asked for.
    result : Prediction
        What came of it.
    """

    request: Request
    result: Any

    def as_python(self) -> str:
        """A script that makes them again."""
        return as_python(self.request)

    def as_command_line(self) -> str:
        """A command line that makes them again."""
        return as_command_line(self.request)

    def record_for(self, folder: Path) -> Record:
        """Their record, to be saved in a folder."""
        return self.request.record_for(self.result.record, folder)


class SegmentRun(OneJob):
    """Runs requests one after the other and keeps the newest result.

    Parameters
    ----------
    viewer : ViewerModel
        Where results are shown.

    Attributes
    ----------
    stepped : Signal()
        Another step of a level set is on show, or there are more to choose from.
    shown : KeptStep or None
        The step on show of a run that is watched.
    """

    stepped = Signal()

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__()
        self._viewer = ref(viewer)
        self._live: LiveLabels | None = None
        self._watch: StepWatch | None = None
        self._steps: StepsLayer | None = None
        self._looks_back = False
        self.shown: KeptStep | None = None
        self.request: Request | None = None
        self.result: Any = None  # a Prediction
        self.layers: dict[str, Any] = {}

    @property
    def made(self) -> Made | None:
        """The newest result."""
        return None if self.request is None or self.result is None else Made(self.request, self.result)

    def start(self, request: Request) -> None:
        """Begin."""
        if self.is_busy:
            return
        self.request, self.result, self.layers = request, None, {}
        self._forget_steps()
        viewer = self._viewer()
        if request.watched and viewer is not None:
            self._watch, self._steps = StepWatch(), StepsLayer(viewer, request)
        job = Job(
            request.make,
            title="The segmentation",
            device=request.parameters.device,
            watch=self._watch or SlabWatch(result_shape(request), request.series),
        )
        self._begin(job)

    def cancel(self) -> None:
        """Stop and keep what is finished."""
        if self._job is not None and self.request is not None:
            self.request.stop.set()
        super().cancel()

    @property
    def steps(self) -> tuple[KeptStep, ...]:
        """Of the newest run, where it was watched."""
        return () if self._watch is None else tuple(self._watch.steps)

    def show_step(self, place: int) -> None:
        """Show another step, by its place in `steps`."""
        steps = self.steps
        if self._steps is not None and place < len(steps):
            self._looks_back = place < len(steps) - 1
            self._show(steps[place])

    def _show(self, step: KeptStep) -> None:
        assert self._steps is not None
        self.shown = step
        self._steps.draw(step)
        self.stepped.emit()

    def _forget_steps(self) -> None:
        if self._steps is not None:
            self._steps.remove()
        self._watch = self._steps = self.shown = None
        self._looks_back = False
        self.stepped.emit()

    def _on_updated(self, update: Update) -> None:
        viewer = self._viewer()
        if self._steps is not None:
            # whoever has gone back to look at a step is not torn away from it
            if update.picture is not None and not self._looks_back:
                self._show(update.picture)
            elif self.shown is not None:
                self.stepped.emit()
        elif viewer is not None and self.request is not None and update.picture is not None:
            if self._live is None:
                self._live = LiveLabels(viewer, self.request)
            self._live.draw(update.picture)
        self.updated.emit(update)

    def _on_ended(self, ending: Ending) -> None:
        if self._live is not None:
            self._live.remove()
            self._live = None
        self.result = ending.result
        viewer = self._viewer()
        if self.result is not None and self.request is not None and viewer is not None and self._worth_keeping():
            self.layers = add_outputs(viewer, self.request, self.result)
            self._below_the_contour()
        self.ended.emit(ending)
        self.changed.emit()

    def _below_the_contour(self) -> None:
        """The labels shine through, so that every step can be seen on them."""
        steps = self.steps
        if self._steps is not None and steps:
            self.layers["labels"].opacity = UNDER_CONTOUR
            if not self._looks_back:
                self._show(steps[-1])
            self._steps.to_top()

    def _worth_keeping(self) -> bool:
        """A run that was stopped before anything was finished leaves no layer."""
        return bool(self.result.complete or self.result.labels.any())


_runs: WeakKeyDictionary[Any, SegmentRun] = WeakKeyDictionary()


def run_of(viewer: Any) -> SegmentRun:
    """The run of a viewer: a panel that is opened again finds the one that went on without it."""
    bare = getattr(viewer, "__wrapped__", viewer)
    if bare not in _runs:
        _runs[bare] = SegmentRun(bare)
    return _runs[bare]
