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

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from src_models.record import Record


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
    changed : Signal()
        The state is another.
    updated : Signal(object)
        An `Update` of the job.
    ended : Signal(object)
        The `Ending` of the job; the layers are there.
    """

    changed = Signal()
    updated = Signal(object)
    ended = Signal(object)

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__()
        self._viewer = ref(viewer)
        self._job: Job | None = None
        self._live: LiveLabels | None = None
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
        self._job = Job(
            request.make,
            title="The segmentation",
            device=request.parameters.device,
            watch=SlabWatch(result_shape(request), request.series),
        )
        self._job.state_changed.connect(lambda _: self.changed.emit())
        self._job.updated.connect(self._on_updated)
        self._job.ended.connect(self._on_ended)
        self._job.start()

    def pause(self) -> None:
        """Rest after the window that is under way."""
        if self._job is not None:
            self._job.pause()

    def resume(self) -> None:
        """Go on."""
        if self._job is not None:
            self._job.resume()

    def cancel(self) -> None:
        """Stop and keep what is finished."""
        if self._job is not None and self.request is not None:
            self.request.stop.set()
            self._job.cancel()

    def _on_updated(self, update: Update) -> None:
        viewer = self._viewer()
        if viewer is not None and self.request is not None and update.picture is not None:
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
        self.ended.emit(ending)
        self.changed.emit()

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
