"""What looks at every step of a run, in the worker: the pictures for the screen, and the timeline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from napari_lsnet.levelset.picture import FrontWatch, is_step

if TYPE_CHECKING:
    from src_models.levelset.evolution import LevelSetState
    from src_models.levelset.timeline import Timeline


class RunWatch(FrontWatch):
    """Pictures and timeline of a run.

    Parameters
    ----------
    spacing : sequence of float
        mm per axis of the array.
    timeline : Timeline, optional
        Where the run goes on from a step of one.

    Attributes
    ----------
    timeline : Timeline or None
        There from the first step on.
    """

    def __init__(self, spacing: Sequence[float], timeline: Timeline | None = None) -> None:
        super().__init__(spacing)
        self.timeline = timeline

    def see(self, report: LevelSetState) -> None:
        """Keep the step, and remember where u has changed."""
        if not is_step(report):
            return
        timeline = self.timeline
        if timeline is None:
            from src_models.levelset.timeline import Timeline  # here, because it brings torch along

            timeline = Timeline()
        timeline.see(report)
        self.timeline = timeline
        super().see(report)
