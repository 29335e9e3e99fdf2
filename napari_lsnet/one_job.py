"""What every run of a room has: at most one job at a time, and how it stands."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QObject, Signal  # type: ignore[attr-defined]

from napari_lsnet.jobs import Ending, Job, JobState, Update


class OneJob(QObject):
    """Base of runs; `_job` is the newest job, None before the first.

    Attributes
    ----------
    changed : Signal()
        The state is another.
    updated : Signal(object)
        An `Update` of the job.
    ended : Signal(object)
        The `Ending` of the job; what it made is there.
    """

    changed = Signal()
    updated = Signal(object)
    ended = Signal(object)

    _job: Job | None = None

    @property
    def state(self) -> JobState:
        """Of the job; idle where there is none."""
        return JobState.IDLE if self._job is None else self._job.state

    @property
    def is_busy(self) -> bool:
        """Whether a job has begun and not ended, be it paused or waiting."""
        return self._job is not None and not self._job.state.ended

    @property
    def waits_for(self) -> str:
        """Title of the job that holds the device; "" where none does."""
        other = None if self._job is None else self._job.waits_for
        return "" if other is None else other.title

    def pause(self) -> None:
        """Rest after the step that is under way."""
        if self._job is not None:
            self._job.pause()

    def resume(self) -> None:
        """Go on."""
        if self._job is not None:
            self._job.resume()

    def cancel(self) -> None:
        """Stop and keep what is finished."""
        if self._job is not None:
            self._job.cancel()

    def _begin(self, job: Job, *, steps: int | None = None) -> None:
        """Start a job whose signals come to this run; it rests after so many steps."""
        self._job = job
        job.state_changed.connect(self._on_state)
        job.updated.connect(self._on_updated)
        job.ended.connect(self._on_ended)
        job.start(steps=steps)

    def _on_state(self, _state: JobState) -> None:
        self.changed.emit()

    def _on_updated(self, update: Update) -> None:
        self.updated.emit(update)

    def _on_ended(self, ending: Ending) -> None:
        self._keep(ending.result)
        self.ended.emit(ending)
        self.changed.emit()

    def _keep(self, result: Any) -> None:
        """Take what a job made; None where it made nothing."""
