"""What looks at every step of a run, in the worker: the pictures for the screen, and the timeline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from napari_lsnet.levelset.picture import FrontWatch, Picture, is_step

if TYPE_CHECKING:
    from src_models.levelset.evolution import LevelSetState
    from src_models.levelset.timeline import Timeline


class RunWatch(FrontWatch):
    """Pictures and timeline of a run.

    Parameters
    ----------
    spacing : sequence of float
        mm per axis of the array.
    before : RunWatch, optional
        Of the run that this one goes on from, with its timeline.

    Attributes
    ----------
    timeline : Timeline or None
        There from the first step on.
    base : Picture or None
        Of the first step of the timeline; where no branch has been, every step looks like it.
    """

    def __init__(self, spacing: Sequence[float], before: RunWatch | None = None) -> None:
        super().__init__(spacing)
        self.timeline: Timeline | None = None if before is None else before.timeline
        self._making = self.timeline  # coarse levels come before the first step, and a timeline holds none of them
        self.base: Picture | None = None if before is None else before.base

    def see(self, report: LevelSetState) -> None:
        """Keep the step, and remember where u has changed."""
        if not is_step(report):
            return
        timeline = self._making
        if timeline is None:
            from src_models.levelset.timeline import Timeline  # here, because it brings torch along

            timeline = self._making = Timeline()
        timeline.see(report)
        is_first = self.start is None
        super().see(report)
        if self.base is None and timeline.branches:
            self.base = self.start if is_first else self.whole(report.level_set, report.iteration)
        self.timeline = timeline if timeline.branches else None
