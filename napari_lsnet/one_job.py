"""What every run of a room has: at most one job at a time, and how it stands."""

from __future__ import annotations

from qtpy.QtCore import QObject

from napari_lsnet.jobs import Job, JobState


class OneJob(QObject):
    """Base of runs; `_job` is the newest job, None before the first."""

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
