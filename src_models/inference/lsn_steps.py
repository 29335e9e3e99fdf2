"""A level set network on an image, its level set told after every step: what a viewer shows while it predicts.

The steps run side by side in all windows, so that every one of them is stitched, brought to the grid of the image and
decided as the last one is; the last one is the prediction.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from src_models.errors import InputError, OutOfMemoryError
from src_models.geometry import StoredOrder
from src_models.inference.ensemble import grouped
from src_models.inference.export import Export, Targets
from src_models.inference.job import Job
from src_models.inference.memory import MemoryForecast
from src_models.inference.orientation import with_plane
from src_models.inference.parameters import PredictionParameters
from src_models.inference.passes import Passes
from src_models.inference.prediction import Prediction, PredictionProgress
from src_models.inference.prepared import Layout, uncropped
from src_models.inference.sweep import Sweep
from src_models.inference.tiling import Tiling, lay_windows
from src_models.networks.lsn import LevelSetNetwork
from src_models.networks.network import Network
from src_models.preprocessing.parameters import Preprocessing
from src_models.weights.model import Model

_FLOAT = 4
_GRIDS = {0: "whole grid", 1: "half grid", 2: "quarter grid"}


@dataclass(frozen=True, kw_only=True, eq=False)
class LevelSetStep(PredictionProgress):
    """The level set after a step.

    Attributes
    ----------
    number, count : int
        0 is the start; the last is `count`.
    halvings : int
        How often the grid of the image that the network sees is halved for this step.
    found : ndarray of the shape of the image
        Labels; valid until the next report.
    """

    number: int
    count: int
    halvings: int
    found: NDArray[Any]

    @property
    def grid(self) -> str:
        """The grid of the step in words."""
        return _GRIDS.get(self.halvings, f"1/{2**self.halvings} grid")


def predict_steps(
    models: Model | Sequence[Model],
    image: NDArray[Any],
    spacing: Sequence[float],
    parameters: PredictionParameters | None = None,
    *,
    unit: str = "mm",
    value_unit: str = "",
    stored_order: StoredOrder | None = None,
    points: Sequence[Sequence[float]] = (),
    interrupt: Callable[[], bool] | None = None,
) -> Generator[PredictionProgress, None, Prediction]:
    """As `predict`, for level set networks, with a report of the labels after each of their steps.

    Parameters
    ----------
    models, image, spacing, parameters, unit, value_unit, stored_order, points, interrupt
        As for `predict`; one network, or the folds of one training.

    Yields
    ------
    PredictionProgress
        Windows, and a `LevelSetStep` for the start and after every step. The last one holds the labels that are
        returned, with all that is done to them afterwards.

    Returns
    -------
    Prediction
        That of `predict`.

    Raises
    ------
    InputError
        Where a model is no level set network, or they are not of one training.
    OutOfMemoryError
        Where the steps of all windows do not fit into the memory side by side.
    """
    folds = (models,) if isinstance(models, Model) else tuple(models)
    check_watchable(folds)
    wanted = parameters or PredictionParameters()
    job = StepsJob(folds, image, tuple(spacing), wanted, unit, value_unit, stored_order, points)
    found = yield from job.run(interrupt)
    if found.complete:
        yield job.told(job.count, found.labels, 1.0)
    return found


def check_watchable(models: Sequence[Model]) -> None:
    """Refuse models that have no steps to be watched.

    Raises
    ------
    InputError
        One sentence.
    """
    if any(not isinstance(model.network, LevelSetNetwork) for model in models):
        raise InputError(
            "steps-none", "This model has no steps to watch", "it is no level set network", "Run it without watching."
        )
    if len(grouped(models)) > 1 or len({network_of(model).halvings for model in models}) > 1:
        raise InputError(
            "steps-several", "Models of several configurations have no steps in common", "", "Watch one of them."
        )


def network_of(model: Model) -> LevelSetNetwork:
    """The network of a model that `check_watchable` let through."""
    assert isinstance(model.network, LevelSetNetwork)
    return model.network


class StepPasses(Passes):
    """Passes that go one step of the level set further in every sweep over the windows."""

    def __init__(self, *models: Any, **how: Any) -> None:
        super().__init__(*models, **how)
        self.begin()

    def begin(self) -> None:
        """Forget every level set: the next sweep makes the starts."""
        self._running: list[tuple[tuple[int, ...], Iterator[Tensor]]] = []
        self._place, self._starts = 0, True

    def next_sweep(self) -> None:
        """All windows have been through: the next sweep goes on with the first one."""
        self._place, self._starts = 0, False

    def _one(self, network: Network, x: Tensor) -> tuple[Tensor, dict[int, Tensor]]:
        assert isinstance(network, LevelSetNetwork)
        if self._starts:
            self._running.append((tuple(x.shape), network.watch(x)))
        shape, steps = self._running[self._place] if self._place < len(self._running) else ((), None)
        if steps is None or shape != tuple(x.shape):
            # the sweep has halved its windows
            raise too_large()
        self._place += 1
        return next(steps).to(torch.float32), {}


class StepsJob(Job):
    """A prediction whose level sets are told after every step.

    Parameters
    ----------
    models, image, spacing, parameters, unit, value_unit, stored_order, points
        As for `predict`.
    """

    kind = StepPasses
    passes: StepPasses

    @property
    def halvings(self) -> tuple[int, ...]:
        """Of the grid of every step."""
        return network_of(self.models[0]).halvings

    @property
    def count(self) -> int:
        """Number of the last step."""
        return len(self.halvings) - 1

    def told(self, number: int, labels: NDArray[Any], fraction: float) -> LevelSetStep:
        """The report of a step."""
        text = f"step {number} of {self.count}" if number else "the start"
        step = LevelSetStep(
            phase="watch",
            fraction=fraction,
            number=number,
            count=self.count,
            halvings=self.halvings[number],
            found=labels,
            labels=labels,
            result=lambda: self._result("partial", None),
        )
        return replace(step, message=f"Level set: {text}, {step.grid}")

    def _first(
        self, data: Tensor, layout: Layout, tiling: Tiling, begun: float
    ) -> Generator[PredictionProgress, None, float]:
        """Every step but the last: the windows once each, and what they give."""
        passes, share = self.passes, (1 - begun) / (self.count + 1)
        passes.begin()
        for number in range(self.count):
            export = Export(layout.maps, self.classes, self._only_labels(layout))
            sweep = Sweep(data, layout, passes, tiling, export, self._skip(tiling), self._dark(), bool(self.points))
            for window in sweep.run():
                if sweep.rescues:
                    raise too_large()
                done = begun + share * (number + window.tile / window.tiles)
                yield self._report(
                    "watch", done, f"Step {number} of {self.count}", result=lambda: self._result("partial", None)
                )
            passes.next_sweep()
            yield self.told(number, self._flat(self.arrays.labels), begun + share * (number + 1))
        return begun + share * self.count

    def _only_labels(self, layout: Layout) -> Targets:
        """The labels of the job: those of the newest step are what a person who stops it keeps."""
        extras = [np.zeros_like(extra) for extra in self.arrays.extras]
        turn = with_plane(self.turn)
        return Targets(
            layout.view(turn.store(self.arrays.labels)), extras=[layout.view(turn.store(extra)) for extra in extras]
        )

    def _forecast(self, preprocessing: Preprocessing, tiling: Tiling) -> MemoryForecast:
        """That of a prediction, and what the level sets of all windows keep from step to step."""
        found = super()._forecast(preprocessing, tiling)
        layout = self._layout(uncropped(self.seen.shape[1:], self.seen_spacing, preprocessing), tiling)
        windows = [window for group in lay_windows(layout, layout.patch, tiling) for window in group]
        voxels = sum(math.prod(part.stop - part.start for part in window.read) for window in windows)
        network = network_of(self.models[0])
        # u, g, its padded form and its gradient, per state; the image
        kept = voxels * (network.states * (4 + network.ndim) + network.in_channels) * _FLOAT * self.passes.members
        return replace(found, image=found.image + kept)


def too_large() -> OutOfMemoryError:
    """The error where the steps do not fit."""
    return OutOfMemoryError(
        "steps-memory",
        "There is too little memory to watch the steps",
        "the level sets of all windows are kept side by side",
        "Draw a box, or run it without watching.",
    )
