"""The timeline in the viewer: which step is on show, its picture, and what it is compared with.

While the handle moves, the nearest key frame is drawn at once; when it rests, a worker makes the step itself.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, QTimer, Signal  # type: ignore[attr-defined]

from napari_lsnet.jobs import Ending, Job, JobState
from napari_lsnet.levelset import words
from napari_lsnet.levelset.difference import DifferenceLayer, painted
from napari_lsnet.levelset.picture import Picture
from napari_lsnet.levelset.request import Frame, Request
from napari_lsnet.levelset.run import LevelSetRun
from napari_lsnet.levelset.timeline_bar import TimelineBar
from napari_lsnet.views import CurvePlot

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from src_models.levelset.branches import Branch
    from src_models.progress import Progress

_REST_MS = 120
_FOLLOW_MS = 150


class Scrubbing(QObject):
    """Leads the bar, the curve and the contour through the steps of a run.

    Parameters
    ----------
    viewer : ViewerModel
        Where comparisons are shown.
    run : LevelSetRun
        Whose timeline.
    bar : TimelineBar
        With the slider.
    plot : CurvePlot
        Size and rate over time.
    parent : QObject
        The panel.

    Attributes
    ----------
    changed : Signal()
        Another step is on show.
    refused : Signal(str)
        Something could not be done; one sentence.
    """

    changed = Signal()
    refused = Signal(str)

    def __init__(
        self, viewer: ViewerModel, run: LevelSetRun, bar: TimelineBar, plot: CurvePlot, parent: QObject
    ) -> None:
        super().__init__(parent)
        self._run, self._bar, self._plot = run, bar, plot
        self._difference = DifferenceLayer(viewer)
        self._shown: Frame | None = None
        self._held: Frame | None = None
        self._job: Job | None = None
        self._rest = self._timer(_REST_MS, self._make_exact)
        self._follow_later = self._timer(_FOLLOW_MS, self._follow)
        bar.moved.connect(self._on_moved)
        bar.branch_chosen.connect(self._on_branch)
        bar.compare.connect(self._on_compare)
        run.updated.connect(self._on_updated)
        run.changed.connect(self._follow)
        run.ended.connect(self._on_ended)
        run.looks_back = False
        newest = self.newest
        if newest is not None:  # the panel was opened again: the run went on without it
            self._load_curve(newest.branch, newest.branch.last)
            self._follow()

    def _timer(self, milliseconds: int, action: Callable[[], None]) -> QTimer:
        timer = QTimer(self)
        timer.setSingleShot(True)
        timer.setInterval(milliseconds)
        timer.timeout.connect(action)
        return timer

    # ---- what is on show

    @property
    def frame(self) -> Frame | None:
        """The step on show; None where no run has begun."""
        return self._shown if self.is_away else self.newest

    @property
    def newest(self) -> Frame | None:
        """The step that the run has come to."""
        timeline = self._run.timeline
        return None if timeline is None else Frame(timeline, timeline.current, timeline.current.end)

    @property
    def is_away(self) -> bool:
        """Whether another step than the newest is on show."""
        return self._run.looks_back

    @property
    def is_busy(self) -> bool:
        """Whether a step or a comparison is being made."""
        return self._rest.isActive() or (self._job is not None and not self._job.state.ended)

    def place_text(self, goes_on: bool) -> tuple[str, bool]:
        """Which step is on show, or how the run ended, with what the buttons do; and whether it needs attention."""
        frame, request, result = self.frame, self._run.request, self._run.result
        if frame is not None and self.is_away:
            return words.earlier_text(frame.iteration, frame.branch.last, goes_on), False
        if request is not None and result is not None:
            return request.stop_text(result)
        return "" if frame is None else words.newest_text(frame.iteration), False

    def begin(self, frame: Frame | None) -> None:
        """A run begins, from the seeds or from a step: the curve leads up to it, and new steps are drawn again."""
        self._stop_making()
        self._run.looks_back = False
        self._shown = None
        if frame is None:
            self.forget()
        else:
            self._load_curve(frame.branch, frame.iteration)
            self._plot.mark(None, None)

    def forget(self) -> None:
        """There is no run any more."""
        self._plot.clear()
        self._close()

    def _close(self) -> None:
        self._stop_making()
        self._run.looks_back = False
        self._shown = self._held = None
        self._bar.compare_button.setChecked(False)
        self._plot.mark(None, None)
        self._bar.show_steps(0, 0)
        self._bar.show_branches((), 0)

    def accept(self, frame: Frame, then: Callable[[Request, Any], None]) -> None:
        """Make a step the result, with its record, in a worker; then `then(request, result)`."""
        request = self._run.request
        if request is None:
            return
        self._start(
            lambda: frame.timeline.accepting(frame.iteration, frame.branch), lambda result: then(request, result)
        )

    # ---- what the person does

    def _on_moved(self, iteration: int) -> None:
        if self._run.state is JobState.RUNNING:
            self._run.pause()
        frame = self.frame
        if frame is not None:
            self._go_to(frame._replace(iteration=iteration))

    def _on_branch(self, index: int) -> None:
        timeline = self._run.timeline
        if timeline is None:
            return
        if self._run.state is JobState.RUNNING:
            self._run.pause()
        branch = timeline.branches[index]
        self._load_curve(branch, branch.last)
        self._go_to(Frame(timeline, branch, branch.end))

    def _on_compare(self, on: bool) -> None:
        self._held = self.frame if on else None
        if self._held is None:
            self._difference.remove()
            self._bar.tell_comparison("")
        else:
            self._bar.tell_comparison(f"Held: {_name(self._held)}. Choose another step or branch.")

    def _go_to(self, frame: Frame) -> None:
        newest = self.newest
        self._shown = frame
        self._run.looks_back = newest is None or (frame.branch, frame.iteration) != (newest.branch, newest.iteration)
        near = frame.timeline.nearest(frame.iteration, frame.branch)
        self._run.show(near.values, near.box, near.iteration)
        self._stop_making()
        self._rest.start()
        self._follow()
        self.changed.emit()

    # ---- the worker

    def _make_exact(self) -> None:
        frame, request, held = self._shown, self._run.request, self._held
        if frame is None or request is None:
            return

        def make() -> Generator[Progress, Any, tuple[Picture | None, Any]]:
            return _exact(self._run, frame, held)

        self._start(make, lambda made: self._show_exact(frame, request, made))

    def _show_exact(self, frame: Frame, request: Request, made: tuple[Picture | None, Any]) -> None:
        if frame != self._shown:
            return
        picture, difference = made
        if picture is not None:
            self._run.draw(picture)
        if difference is not None and self._held is not None:
            comparison, values = difference
            self._difference.draw(values, request)
            self._bar.tell_comparison(
                words.comparison_text(comparison, _name(self._held), _name(frame), request.volume.spacing_known)
            )

    def _start(self, make: Callable[[], Any], then: Callable[[Any], None]) -> None:
        self._stop_making()
        request = self._run.request
        device = "auto" if request is None else request.parameters.device
        job = Job(make, title="The timeline", device=device)

        def ended(ending: Ending) -> None:
            if job is not self._job:
                return
            if ending.state is JobState.FAILED:
                self.refused.emit(ending.message)
            elif ending.state is JobState.DONE:
                then(ending.result)

        job.ended.connect(ended)
        self._job = job
        job.start()

    def _stop_making(self) -> None:
        self._rest.stop()
        if self._job is not None:
            self._job.cancel()
            self._job = None

    # ---- following the run

    def _on_updated(self, _update: Any) -> None:
        if not self._follow_later.isActive():
            self._follow_later.start()

    def _on_ended(self, _ending: Any) -> None:
        """What is held is compared with what the run has come to."""
        if self._held is not None and not self.is_away:
            self._shown = self.newest
            self._make_exact()

    def _follow(self) -> None:
        """The bar shows the run as it stands."""
        frame = self.frame
        if frame is None:
            self._close()
            return
        if not self.is_away:
            self._shown = frame
        self._bar.show_branches([b.name for b in frame.timeline.branches], frame.timeline.branches.index(frame.branch))
        self._bar.show_steps(frame.branch.last, frame.iteration)
        self._tell(frame)

    def _tell(self, frame: Frame) -> None:
        request = self._run.request
        if request is None:
            return
        moment = frame.moment
        size = words.size_text(moment.size, moment.volume_ml, request.volume, request.image.ndim)
        leaking = frame.owner.is_leaking(frame.iteration)
        self._bar.tell(f"Step {frame.iteration}: {size}{', leaking' if leaking else ''}")
        self._bar.compare_button.setEnabled(self._run.state is not JobState.RUNNING or self._held is not None)
        branch = frame.branch
        self._plot.mark(
            moment.time if self.is_away or branch.has_leak else None,
            branch.moment(branch.end).time if branch.has_leak and branch.last > branch.end else None,
        )

    def _load_curve(self, branch: Branch, until: int) -> None:
        """The curve of everything that led to a step."""
        request = self._run.request
        factor = 1.0 if request is None else request.size_factor
        self._plot.clear()
        for moment in branch.way():
            if moment.iteration <= until:
                self._plot.add(moment.time, moment.size * factor, moment.rate)
        self._plot.update()


def _exact(run: LevelSetRun, frame: Frame, held: Frame | None) -> Generator[Progress, Any, tuple[Picture | None, Any]]:
    """The picture of a step, and where it differs from another; in the worker."""
    timeline, branch, iteration = frame
    difference = None
    if held is not None and held != frame:
        comparison = yield from timeline.comparing((held.branch, held.iteration), (branch, iteration))
        difference = (comparison, painted(comparison.only_a, comparison.only_b, comparison.both))
    u = yield from timeline.going_to(iteration, branch)
    return run.picture_at(u, iteration), difference


def _name(frame: Frame) -> str:
    """A step in words."""
    return f"step {frame.iteration} of {frame.branch.name}"
