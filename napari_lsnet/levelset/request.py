"""What a run needs, read from the layers once, before it begins: nothing in it changes when layers do."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_lsnet.layers import LayerVolume
from napari_lsnet.levelset import words
from napari_lsnet.levelset.engine_preparation import prepared
from napari_lsnet.placed_record import beside, placed
from napari_lsnet.transforms import Region
from src_models.levelset.parameters import LevelSetParameters

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_lsnet.levelset.picture import Picture
    from src_models.levelset.branches import Branch, Moment
    from src_models.levelset.initial import Seeds
    from src_models.levelset.recipes import SpeedRecipe
    from src_models.levelset.timeline import Timeline
    from src_models.progress import Progress
    from src_models.record import Record

BYTES_PER_VOXEL = 60
"""Of a run, beside the image: u, speeds and their gradients, the band; an estimate, safe for small fronts."""


@dataclass(frozen=True, eq=False)
class Start:
    """Where the contour starts.

    Attributes
    ----------
    layer : Points, Shapes or Labels
        What was drawn.
    radius : float
        Of points and lines, in mm.
    label : int or None
        The label that counts; None for all.
    swapped : bool
        Whether the inside is everything but the seeds.
    several : bool
        Whether every label is a start of its own.
    """

    layer: Any
    radius: float
    label: int | None = None
    swapped: bool = False
    several: bool = False

    @property
    def kind(self) -> str:
        """What the layer is: "points", "shapes" or "labels"."""
        from napari.layers import Points, Shapes

        # By class and not by name: napari hands layers to plugins inside a proxy of another name.
        if isinstance(self.layer, Points):
            return "points"
        return "shapes" if isinstance(self.layer, Shapes) else "labels"


class Frame(NamedTuple):
    """A step of a timeline.

    Attributes
    ----------
    timeline : Timeline
        Which.
    branch : Branch
        On the way to which end.
    iteration : int
        Which step.
    """

    timeline: Timeline
    branch: Branch
    iteration: int

    @property
    def owner(self) -> Branch:
        """The branch that made the step."""
        return self.branch.owner(self.iteration)

    @property
    def moment(self) -> Moment:
        """The step in numbers."""
        return self.owner.moment(self.iteration)


@dataclass(frozen=True, eq=False)
class Request:
    """A run of the level set on part of a layer.

    Attributes
    ----------
    source : Image
        The layer the image was read from; only to place the result.
    volume : LayerVolume
        What it was when it was read.
    region : tuple of slice or int
        Which part, per data axis.
    image : ndarray
        Of the region, a copy.
    initial : ndarray or Seeds
        Where the front begins.
    start : Start
        From what it was drawn.
    parameters : LevelSetParameters
        Of the first step.
    continues : Frame or None
        The step of a timeline that the run goes on from.
    walls, pins : ndarray of bool or None
        Where the front must not go, and what must be inside, at the first step; going on, None leaves what was there.
    speed : ClassifierSpeed, ClusterSpeed or None
        How the region speed is made from strokes or clusters; None takes that of the parameters.
    """

    source: Any
    volume: LayerVolume
    region: Region
    image: NDArray[Any]
    initial: NDArray[Any] | Seeds
    start: Start
    parameters: LevelSetParameters
    continues: Frame | None = None
    walls: NDArray[np.bool_] | None = None
    pins: NDArray[np.bool_] | None = None
    speed: SpeedRecipe | None = None

    @property
    def spacing(self) -> tuple[float, ...]:
        """mm per axis of `image`."""
        return self.volume.spacing_of(self.region)

    @property
    def path(self) -> Path | None:
        """The file that the image layer came from, where it is one."""
        found = getattr(self.source.source, "path", None)
        return Path(str(found)) if found else None

    @property
    def size_factor(self) -> float:
        """From mm^n to the unit of the curve."""
        return 0.001 if self.image.ndim == 3 and self.volume.spacing_known else 1.0

    @property
    def several(self) -> bool:
        """Whether each label has a front of its own."""
        return False

    def make(self) -> Generator[Progress, Any, Any]:
        """The generator of the run; called in the worker, because it imports torch."""
        from src_models.processor import let_waiting_threads_sleep

        let_waiting_threads_sleep()
        if self.parameters.engine != "reference":
            yield from prepared()
        from src_models.levelset.states import Constraints

        if self.continues is not None:
            timeline, branch, iteration = self.continues
            drawn = None if self.walls is None and self.pins is None else Constraints(self.walls, self.pins)
            again = timeline.branch(iteration, self.counted(self.parameters), of=branch, constraints=drawn)
            return (yield from again)
        from src_models.levelset import evolve

        speed = None
        if self.speed is not None:
            from src_models.levelset.recipes import prepare

            speed = yield from prepare(self.speed, self.image, self.spacing, self.initial)
        run = evolve(self.image, self.initial, self.spacing, self.parameters, speed, walls=self.walls, pins=self.pins)
        return (yield from run)

    def counted(self, parameters: LevelSetParameters) -> LevelSetParameters:
        """The limits of steps and time count from where a run goes on."""
        if self.continues is None:
            return parameters
        begin = self.continues.moment
        time = None if parameters.time is None else parameters.time + begin.time
        return parameters.model_copy(update={"steps": parameters.steps + begin.iteration, "time": time})

    def going_on(self, frame: Frame, parameters: LevelSetParameters) -> Request:
        """The same, from a step of its timeline."""
        return replace(self, continues=frame, parameters=parameters)

    # ---- what is shown and said

    def watch(self, before: Any) -> Any:
        """Takes the pictures and keeps the timeline; `before` watched the run that this one goes on from, if any."""
        from napari_lsnet.levelset.watch import RunWatch

        return RunWatch(self.spacing, before)

    def live(self, viewer: ViewerModel, picture: Picture) -> Any:
        """The layer that shows the run."""
        from napari_lsnet.levelset.picture import LiveFront

        return LiveFront(viewer, self.source, self.region, picture.values.shape)

    def size_text(self, size: float) -> str:
        """An amount of inside, in mm^n, in the unit that is known."""
        ndim = self.image.ndim
        return words.size_text(size, size / 1000.0 if ndim == 3 else None, self.volume, ndim)

    def running_text(self, state: Any) -> str:
        """One line on a run that is under way."""
        return words.running_text(state, self.size_text(state.size))

    def stop_text(self, result: Any) -> tuple[str, bool]:
        """How the run ended, with the next step; and whether it needs attention."""
        size = self.size_text(float(result.record.result.get("size_mm", 0.0)))
        attention = result.stop_reason in ("leak", "vanished", "filled", "stalled")
        return words.stop_text(result, size), attention

    def leaks(self, result: Any) -> tuple[tuple[float, ...], ...]:
        """Where the run stopped before a leak, in voxels of the array."""
        return (result.leak_at,) if result.stop_reason == "leak" and result.leak_at is not None else ()

    # ---- the record

    def complete(self, record: Record) -> Record:
        """A record of the run with the place of the image and of its region."""
        return placed(record, self.source, self.region, self.volume.shape)

    def record_for(self, record: Record, folder: Path) -> Record:
        """The same, to be saved in a folder: it points to the image by a relative path, where there is a file."""
        return beside(self.complete(record), self.path, folder)


def memory_needed(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    """Bytes of a run on an image of this shape, the image included."""
    return int(np.prod(shape, dtype=np.int64)) * (dtype.itemsize + BYTES_PER_VOXEL)
