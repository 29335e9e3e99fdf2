"""Learn the numbers of the equation from accepted slices, by differentiating through the evolution.

The loss is the mean over the slices of 1 - soft Dice after a run of fixed length (`unrolled`), lowered by Adam (Kingma
and Ba, 2015) on free numbers (`learnable`). What was found is tried by plain runs of `evolve` from the same starts,
beside the parameters that learning started from, and the best of them is the result: an ordinary `LevelSetParameters`.
"""

from __future__ import annotations

import math
import time as clock
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from src_models.levelset.accepted import (
    AcceptedSlice,
    Checked,
    check_mode,
    checked,
    grey_inside,
    prepared,
    smallest_seed,
    steps_to_arrive,
    with_thresholds,
)
from src_models.levelset.evolution import evolve
from src_models.levelset.fit_parameters import FitParameters, Learned
from src_models.levelset.initial import Seeds
from src_models.levelset.learnable import FreeNumbers, check_names, other_starts
from src_models.levelset.parameters import LevelSetParameters
from src_models.levelset.run import resolve_device
from src_models.levelset.speed import thresholds, with_range
from src_models.levelset.trials import around, moving, spread
from src_models.levelset.unrolled import Passage, UnrolledRun
from src_models.progress import Progress
from src_models.record import Record, content_hash, versions

__all__ = ["AcceptedSlice", "FitParameters", "FitProgress", "FitResult", "fit"]

LARGEST_GRADIENT = 1.0
"""One slice whose front is about to leak has a gradient that drowns all others: its length is cut here."""
SHORT_LIST = 3
"""So many of the other starts are tried by plain runs."""
SAFE_SHARE = 0.5
"""Curvature may hold the front out of necks of this share of the smallest seed's radius at most: a seed that is
smaller, or in a duller place, must not vanish with what was learned."""
SMALLEST_RATE = 0.02
"""Learning ends when the rate has fallen to this share of its start."""


Found = TypeVar("Found")


@dataclass(frozen=True, kw_only=True)
class FitProgress(Progress):
    """How far learning has come; `values` holds loss, dice and the learned numbers, once there are any."""

    iteration: int


@dataclass(frozen=True, eq=False)
class FitResult:
    """What was learned.

    Attributes
    ----------
    parameters : LevelSetParameters
        To run with; those of the start where nothing better was found.
    record : Record
        What was done: slices by content, settings, loss curve, Dice of plain runs before and after.
    losses : tuple of float
        Mean loss over all slices where the descent began, then after each iteration; it never rises.
    dice_before, dice_after : tuple of float
        Per slice, of plain runs.
    notes : tuple of str
        Warnings in words.
    """

    parameters: LevelSetParameters
    record: Record
    losses: tuple[float, ...]
    dice_before: tuple[float, ...]
    dice_after: tuple[float, ...]
    notes: tuple[str, ...] = ()


def fit(
    slices: Sequence[AcceptedSlice],
    parameters: LevelSetParameters,
    settings: FitParameters | None = None,
) -> Generator[FitProgress, None, FitResult]:
    """Learn weights from accepted slices.

    Parameters
    ----------
    slices : sequence of AcceptedSlice
        Images with accepted masks and the starts from which a run should find them.
    parameters : LevelSetParameters
        Where learning starts, and everything that is not learned. With region speed and no thresholds, learning starts
        at the mean of the accepted voxels and two standard deviations to either side.
    settings : FitParameters, optional
        How to learn.

    Yields
    ------
    FitProgress
        After every few steps of a run; cancel by ``close``.

    Returns
    -------
    FitResult
        Parameters and the record of the fit.

    Raises
    ------
    InputError, GeometryError, DeviceError
        One sentence each, before any work.

    Notes
    -----
    All weights times one number give the same run at another pace, so only their ratios are learned. The run is that of
    the definition without walls, pins, stop rules and leak guard; Chan-Vese speed, which follows the front, is refused.
    """
    work = _Fit(slices, parameters, settings or FitParameters())
    yield from work.learn()
    return (yield from work.choose())


@dataclass(frozen=True)
class _Tried:
    """Parameters tried by plain runs: Dice per slice, and the learned numbers."""

    parameters: LevelSetParameters
    dice: tuple[float, ...]
    shown: dict[str, float]


class _Fit:
    """Everything learning holds between two iterations."""

    def __init__(
        self, slices: Sequence[AcceptedSlice], parameters: LevelSetParameters, settings: FitParameters
    ) -> None:
        self._began = clock.perf_counter()
        check_mode(slices, parameters)
        self._given = tuple(slices)
        self._settings = settings
        ready = [checked(one, parameters, number) for number, one in enumerate(slices, 1)]
        self._ready = ready
        self.start = with_thresholds(parameters, ready)
        names = check_names(settings.learn, self.start, given_speed=any(r.speed_image is not None for r in ready))
        self._names = names
        dtype = torch.float32 if parameters.dtype == "float32" else torch.float64
        like = torch.empty(0, dtype=dtype, device=resolve_device(parameters.device, dtype))
        self._device = str(like.device.type)
        scenes = [prepared(one, self.start, settings.voxels, like) for one in ready]
        self._steps = [settings.unrolled_steps or steps_to_arrive(scene, self.start.cfl) for scene in scenes]
        self._runs = [
            UnrolledRun(scene, self.start, names, steps) for scene, steps in zip(scenes, self._steps, strict=True)
        ]
        self._blocks = [scene.factor for scene in scenes]
        self._scale = float(grey_inside(ready).std()) or 1.0
        self._free = FreeNumbers(names, self._scale)
        self._largest_neck = SAFE_SHARE * smallest_seed(ready)
        self._values = _values_of(self.start, names, ready)
        thresholds_are_ours = self.start is not parameters
        self._inside = grey_inside(ready) if thresholds_are_ours else None
        self._losses: list[float] = []
        self._found: list[tuple[float, Tensor]] = []
        self._tried: list[_Tried] = []
        self._notes: list[str] = []
        self._iteration = 0

    # -- learning

    def learn(self) -> Generator[FitProgress, None, None]:
        """Lower the loss by Adam; what raises it is taken back and tried again at half the rate."""
        settings = self._settings
        rate = settings.rate
        best, passages = yield from self._screen()
        slope = yield from self._slope(best, passages)
        if not bool((slope != 0).any()):
            self._note("The loss does not depend on what is to be learned: no front moved.")
            return
        optimiser = _adam(best, rate)
        for iteration in range(1, settings.iterations + 1):
            self._iteration = iteration
            trial = optimiser.param_groups[0]["params"][0]
            trial.grad = slope
            optimiser.step()
            passages = yield from self._run(trial.detach())
            loss = _mean_loss(passages)
            if loss < self._losses[-1]:
                best = trial.detach().clone()
                self._take(loss, best)
                if iteration < settings.iterations:
                    slope = yield from self._slope(best, passages)
            else:
                self._losses.append(self._losses[-1])
                rate /= 2
                if rate < settings.rate * SMALLEST_RATE:
                    self._note(f"No lower loss was found after {iteration} iterations.")
                    break
                optimiser = _adam(best, rate)

    def _screen(self) -> Generator[FitProgress, None, tuple[Tensor, list[Passage]]]:
        """Begin at the best of a few starts: a descent from one place easily ends in a small hollow.

        The loss makes a short list of them, plain runs choose: what the computed grid forgives, such as a seed that
        vanishes in noise, they do not.
        """
        starts = [self._free.of(self._values)]
        if self._settings.screen:
            starts += [self._free.of(values) for values in other_starts(self._values, self._inside)]
        ran = []
        for numbers in starts:
            ran.append((yield from self._run(numbers)))
        order = sorted(range(1, len(starts)), key=lambda k: _mean_loss(ran[k]))
        chosen = 0
        for k in (0, *order[:SHORT_LIST]):
            if (yield from self._try(self.start if k == 0 else self._parameters_of(starts[k]))):
                chosen = k
        numbers, passages = starts[chosen], ran[chosen]
        looked = yield from self._look_around(self._plain(numbers))
        if looked is not None:
            numbers = self._free.of(looked)
            passages = yield from self._run(numbers)
        self._take(_mean_loss(passages), numbers)
        return numbers, passages

    def _look_around(self, values: dict[str, float]) -> Generator[FitProgress, None, dict[str, float] | None]:
        """Try other values by plain runs; the best of them, or None where none is better than what was tried before."""
        names, count = moving(values, self.start), self._settings.trials
        best = None
        for found in spread(values, names, self._scale, (count + 1) // 2):
            if (yield from self._try(self._parameters_of(self._free.of(found)))):
                best = found
        ways = around(best or values, names, self._scale, count // 2)
        try:
            near = next(ways)
            while True:
                better = yield from self._try(self._parameters_of(self._free.of(near)))
                best = near if better else best
                near = ways.send(better)
        except StopIteration:
            return best

    def _take(self, loss: float, numbers: Tensor) -> None:
        self._losses.append(loss)
        self._found.append((loss, numbers))

    def _run(self, numbers: Tensor) -> Generator[FitProgress, None, list[Passage]]:
        """Run every slice."""
        plain = self._plain(numbers)
        passages = []
        for run in self._runs:
            passages.append((yield from self._watched(run.forwards(plain), plain)))
        return passages

    def _slope(self, numbers: Tensor, passages: Sequence[Passage]) -> Generator[FitProgress, None, Tensor]:
        """Mean gradient with respect to the free numbers; that of each slice is of limited length."""
        total = torch.zeros_like(numbers)
        plain = self._plain(numbers)
        for number, (run, passage) in enumerate(zip(self._runs, passages, strict=True)):
            found = yield from self._watched(run.backwards(passage), plain)
            leaf = numbers.clone().requires_grad_()
            values = self._free.values(leaf)
            upstream = found.to("cpu", torch.float64).unbind()
            (slope,) = torch.autograd.grad([values[name] for name in self._names], leaf, list(upstream))
            length = float(slope.norm())
            if math.isfinite(length):
                total += slope * min(1.0, LARGEST_GRADIENT / max(length, 1e-30))
            else:
                self._note(f"The gradient of {self._name(number)} was not finite and was left out.")
        return total / len(self._runs)

    def _watched(
        self, work: Generator[float, None, Found], plain: Mapping[str, float]
    ) -> Generator[FitProgress, None, Found]:
        while True:
            try:
                next(work)
            except StopIteration as end:
                found: Found = end.value
                return found
            yield self._progress("fit", self._iteration / (self._settings.iterations + 1), plain)

    # -- choosing

    def choose(self) -> Generator[FitProgress, None, FitResult]:
        """Try what the descent found by plain runs; the best of all that was tried is the result."""
        before = self._tried[0]
        steps = len(self._found) - 1
        for k in dict.fromkeys((steps, steps // 2)):
            if k > 0:
                yield from self._try(self._parameters_of(self._found[k][1]))
        best = max(self._tried, key=lambda one: float(np.mean(one.dice)))
        if best is before:
            self._note("Nothing better was found than the parameters that learning started from.")
        result = FitResult(
            parameters=best.parameters,
            record=self._record(best),
            losses=tuple(self._losses),
            dice_before=before.dice,
            dice_after=best.dice,
            notes=tuple(self._notes),
        )
        yield self._progress("fit", 1.0, best.shown, message=_summary(before.dice, best.dice))
        return result

    def _try(self, parameters: LevelSetParameters) -> Generator[FitProgress, None, bool]:
        """Whether plain runs have a higher mean Dice than all before; kept with all that was tried to the end.

        Curvature that would soon make seeds vanish is not tried.
        """
        axes = max(sum(n > 1 for n in ready.image.shape) for ready in self._ready)
        if self._tried and (parameters.smallest_neck(axes) or 0.0) > self._largest_neck:
            return False
        shown = {str(name): float(_field(parameters, name)) for name in self._names}
        highest = max((float(np.sum(one.dice)) for one in self._tried), default=-1.0)
        dice = yield from self._plain_runs(parameters, shown, highest)
        if len(dice) < len(self._given):
            return False
        self._tried.append(_Tried(parameters, tuple(dice), shown))
        return float(np.sum(dice)) > highest

    def _plain_runs(
        self, parameters: LevelSetParameters, shown: Mapping[str, float], highest: float
    ) -> Generator[FitProgress, None, list[float]]:
        """Dice of one slice after another, until it is certain that their sum stays below the highest."""
        found: list[float] = []
        for given, ready in zip(self._given, self._ready, strict=True):
            if sum(found) + len(self._given) - len(found) <= highest:
                break
            run = evolve(given.image, given.start, given.spacing, parameters, given.speed_image)
            while True:
                try:
                    next(run)
                except StopIteration as end:
                    found.append(_dice(end.value.mask, ready.inside))
                    break
                share = self._iteration / (self._settings.iterations + 1)
                yield self._progress("check", share, shown, message="Trying these numbers by plain runs")
        return found

    def _parameters_of(self, numbers: Tensor) -> LevelSetParameters:
        return LevelSetParameters(**(self.start.model_dump() | self._plain(numbers)))

    def _plain(self, numbers: Tensor) -> dict[str, float]:
        """Values as numbers of six digits: what is shown, saved and tried is one and the same."""
        return {name: float(f"{float(v):.6g}") for name, v in self._free.values(numbers).items()}

    # -- telling

    def _progress(
        self, phase: str, fraction: float, plain: Mapping[str, float], message: str | None = None
    ) -> FitProgress:
        shown = ", ".join(f"{name} {value:.4g}" for name, value in plain.items())
        dice = {"loss": self._losses[-1], "dice": 1 - self._losses[-1]} if self._losses else {}
        told = f"Iteration {self._iteration} of {self._settings.iterations}: {shown}" if message is None else message
        return FitProgress(
            phase=phase, fraction=fraction, message=told, values=dice | dict(plain), iteration=self._iteration
        )

    def _note(self, note: str) -> None:
        if note not in self._notes:
            self._notes.append(note)

    def _name(self, number: int) -> str:
        return self._given[number].name or f"slice {number + 1}"

    def _record(self, best: _Tried) -> Record:
        slices = [
            {
                "image": content_hash(np.asarray(one.image)),
                "accepted": content_hash(ready.inside),
                "start": _start_hash(one.start),
                "speed_image": None if one.speed_image is None else content_hash(np.asarray(one.speed_image)),
                "shape": list(ready.image.shape),
                "spacing": list(ready.spacing),
                "block": list(block),
                "steps": steps,
            }
            for one, ready, block, steps in zip(self._given, self._ready, self._blocks, self._steps, strict=True)
        ]
        return Record(
            task="fit",
            status="complete",
            parameters=self.start.model_dump(mode="json"),
            inputs={"slices": slices, "settings": self._settings.model_dump(mode="json")},
            result={
                "parameters": best.parameters.model_dump(mode="json"),
                "learned": list(self._names),
                "losses": self._losses,
                "iterates": [self._plain(numbers) for _, numbers in self._found],
                "dice_before": list(self._tried[0].dice),
                "dice_after": list(best.dice),
                "tried": [{**one.shown, "dice": list(one.dice)} for one in self._tried],
            },
            versions=versions("torch", "scipy"),
            device=self._device,
            dtype=self.start.dtype,
            threads=torch.get_num_threads(),
            duration_s=round(clock.perf_counter() - self._began, 3),
            notes=tuple(self._notes),
        )


def _adam(numbers: Tensor, rate: float) -> torch.optim.Adam:
    return torch.optim.Adam([numbers.clone().requires_grad_()], lr=rate)


def _mean_loss(passages: Sequence[Passage]) -> float:
    return float(np.mean([passage.loss for passage in passages]))


def _field(parameters: LevelSetParameters, name: str) -> float:
    return parameters.convection_weight if name == "convection" else float(getattr(parameters, name))


def _values_of(parameters: LevelSetParameters, names: Sequence[Learned], ready: Sequence[Checked]) -> dict[str, float]:
    low, high = with_range(ready[0].image, parameters).value_range or (0.0, 0.0)
    edges = dict(zip(("lower", "upper"), thresholds(parameters, (low, high)), strict=True))
    return {name: float(edges[name] or 0.0) if name in edges else _field(parameters, name) for name in names}


def _start_hash(start: NDArray[Any] | Seeds) -> str:
    if isinstance(start, Seeds):
        return content_hash(np.frombuffer(start.model_dump_json().encode(), np.uint8))
    return content_hash(np.asarray(start))


def _dice(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    return float(2 * np.logical_and(a, b).sum() / max(int(a.sum()) + int(b.sum()), 1))


def _summary(before: Sequence[float], after: Sequence[float]) -> str:
    return f"Mean Dice of plain runs: {np.mean(before):.3f} before, {np.mean(after):.3f} with what was learned"
