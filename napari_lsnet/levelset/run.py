"""One level set run in a viewer: job, moving contour, and what it reached. It can do without a panel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, ref

from napari_lsnet.jobs import Ending, Job, Update
from napari_lsnet.levelset.picture import Box, Picture, is_step, joined
from napari_lsnet.levelset.request import Request
from napari_lsnet.one_job import OneJob
from src_models.levelset.parameters import LevelSetParameters

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from src_models.levelset.states import Constraints
    from src_models.levelset.timeline import Timeline


class LevelSetRun(OneJob):
    """Runs requests one after the other and keeps the newest result.

    Parameters
    ----------
    viewer : ViewerModel
        Where the contour is drawn.

    Attributes
    ----------
    changed : Signal()
        The state, the result or the request is another.
    updated : Signal(object)
        An `Update` of the job; the contour is already drawn.
    ended : Signal(object)
        The `Ending` of the job; the contour shows the result.
    looks_back : bool
        Whether the contour shows an earlier step: then the run draws nothing.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__()
        self._viewer = ref(viewer)
        self._watch: Any = None  # a RunWatch or LabelsWatch
        self._front: Any = None  # a LiveFront or LiveLabels
        self._first: Picture | None = None
        self._last_step: tuple[int, float] | None = None
        self._rewinding = False
        self._is_aside = False
        self.looks_back = False
        self.request: Request | None = None
        self.result: Any = None  # a LevelSetResult or LabelsResult

    @property
    def timeline(self) -> Timeline | None:
        """Of this run; None before its first step."""
        return None if self._watch is None else self._watch.timeline

    def start(self, request: Request, *, steps: int | None = None) -> None:
        """Begin a run, from the seeds or from where the last one ended."""
        if self.is_busy:
            return
        goes_on = request.continues is not None and self._front is not None and self._front.is_shown
        if not goes_on and self._front is not None:
            self._front.remove()
            self._front = None
        self.call_back()
        if request.continues is None:
            self._first = None
        self.request, self.result = request, None
        self._last_step = None
        self._watch = request.watch(None if request.continues is None else self._watch)
        job = Job(
            request.make,
            title="The level set",
            device=request.parameters.device,
            watch=self._watch,
            counts=is_step,
        )
        self._begin(job, steps=steps)

    def step(self, count: int) -> None:
        """Take some steps, then rest."""
        if self._job is not None:
            self._job.step(count)

    def send(self, parameters: LevelSetParameters) -> None:
        """New parameters, from the next step on."""
        if self._job is not None and self.is_busy:
            self._job.send(self.request.counted(parameters) if self.request is not None else parameters)

    def constrain(self, constraints: Constraints) -> None:
        """Walls and pins, from the next step on."""
        if self._job is not None and self.is_busy:
            self._job.send(constraints)

    def rewind(self) -> None:
        """Back to the start level set; what was reached is given up."""
        if self.is_busy:
            self._rewinding = True
            self.cancel()
            return
        self._rewinding = False
        self.result, self._job, self._watch = None, None, None
        self.call_back()
        if self._first is not None and self._front is not None:
            self._front.draw(self._first)
        self.changed.emit()

    def set_aside(self) -> None:
        """Hide the contour until another step is drawn or it is called back: what was accepted lies under it."""
        self._is_aside = True
        self.hide(True)

    def call_back(self) -> None:
        """Show the contour again where it was set aside."""
        if self._is_aside:
            self._is_aside = False
            self.hide(False)

    def switch_outline(self) -> None:
        """Contour with a tint inside, or the contour alone."""
        if self._front is not None:
            self._front.switch_outline()

    def hide(self, hidden: bool) -> None:
        """Hide the contour while something under it is looked at."""
        if self._front is not None:
            self._front.layer.visible = not hidden

    def show(self, values: Any, box: Box, iteration: int) -> None:
        """Draw another step: u in a box, and the start around it."""
        self.call_back()
        if self._watch is not None and self._front is not None:
            self._front.draw(self._surrounded(self._watch.part(values, box, iteration)))

    def picture_at(self, level_set: Any, iteration: int) -> Picture | None:
        """The picture of another step, wherever any branch has been; for a worker."""
        if self._watch is None or self.timeline is None:
            return None
        picture: Picture = self._watch.part(level_set, tuple(slice(0, n) for n in level_set.shape), iteration)
        return picture

    def _surrounded(self, part: Picture) -> Picture:
        """A picture with the start around it, wherever any branch has been: outside of that nothing ever changed."""
        base = None if self._watch is None else self._watch.base
        if self.timeline is None or base is None:
            return part
        whole = part.box
        for branch in self.timeline.branches:
            whole = joined(whole, branch.box)
        values = base.values[whole].copy()
        inner = tuple(slice(p.start - w.start, p.stop - w.start) for p, w in zip(part.box, whole, strict=True))
        values[inner] = part.values
        return Picture(whole, values, part.iteration)

    def draw(self, picture: Picture) -> None:
        """Draw a picture that was made elsewhere."""
        if self._front is not None:
            self._front.draw(picture)

    def _on_updated(self, update: Update) -> None:
        if self._first is None and self._watch is not None:
            self._first = self._watch.start
        if self._rewinding:
            return
        if self._front is None and self._first is not None:
            self._show(self._first)
        if self._front is not None and update.picture is not None and not self.looks_back:
            self._front.draw(update.picture)
        self.updated.emit(update)

    def _show(self, first: Picture) -> None:
        request, viewer = self.request, self._viewer()
        if request is not None and viewer is not None:
            self._front = request.live(viewer, first)
            self._front.draw(first)

    def _on_ended(self, ending: Ending) -> None:
        self.result = ending.result
        if self._rewinding:
            self.rewind()
            return
        if self.result is not None and self._watch is not None and self._front is not None and not self.looks_back:
            self._front.draw(self._watch.last(self.result))
        self.ended.emit(ending)
        self.changed.emit()


_runs: WeakKeyDictionary[Any, LevelSetRun] = WeakKeyDictionary()


def run_of(viewer: Any) -> LevelSetRun:
    """The run of a viewer: a panel that is opened again finds the one that went on without it."""
    bare = getattr(viewer, "__wrapped__", viewer)
    if bare not in _runs:
        _runs[bare] = LevelSetRun(bare)
    return _runs[bare]
