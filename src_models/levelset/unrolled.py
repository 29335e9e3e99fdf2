"""A run of fixed length whose end can be differentiated with respect to the numbers of the equation.

The loss is 1 - soft Dice of the occupancy against an accepted mask. Every step is `equation.explicit_step`, the
definition itself: the weights and the time step enter through the speeds, in which the equation is linear. The time
step is that of the stability bound and is differentiated too, so the loss is a function of the learned numbers alone
and its gradient is exact; all weights together have no influence but through the clock.

Only every `SEGMENT`-th level set is kept; on the way back each segment is done again, this time with its graph
(checkpointing, Griewank 1992). Work is handed back after every segment, so that a caller can stop.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from src_models.levelset import speed as speed_room
from src_models.levelset.equation import Speeds, explicit_step, rates
from src_models.levelset.fields import SpeedFields, speed_images
from src_models.levelset.learnable import uses_edges
from src_models.levelset.measures import occupancy
from src_models.levelset.parameters import LevelSetParameters
from src_models.levelset.stencils import around, central

SEGMENT = 8
SLOWEST = 1e-30


@dataclass(frozen=True, eq=False)
class Scene:
    """A slice made ready: cut out around the structure, its start and mask on the grid that is computed on.

    Attributes
    ----------
    grey : Tensor
        Grey values on the fine grid, or the given speed image.
    slope_squared : Tensor
        |D0 (G_sigma * I)|^2 / range^2 on the fine grid, per mm^2 (for the paper's preset not divided).
    value_range : tuple of float
        Of the whole image.
    given : bool
        `grey` is the speed image itself.
    factor : tuple of int
        Fine voxels per computed voxel, one per axis.
    spacing : tuple of float
        mm of the computed grid.
    start : Tensor
        u at the start, on the computed grid.
    target : Tensor
        Share of each computed voxel inside the accepted mask.
    seed : tuple of float or None
        Mean and spread of the grey values under the start, where the thresholds lie about them.
    """

    grey: Tensor
    slope_squared: Tensor
    value_range: tuple[float, float]
    given: bool
    factor: tuple[int, ...]
    spacing: tuple[float, ...]
    start: Tensor
    target: Tensor
    seed: tuple[float, float] | None = None


@dataclass(frozen=True, eq=False)
class Passage:
    """A run that was done: its loss, the values it was done with, and level set and time after every segment."""

    loss: float
    values: dict[str, float]
    kept: tuple[tuple[Tensor, Tensor], ...]


class UnrolledRun:
    """The loss of one scene as a function of the learned values.

    Parameters
    ----------
    scene : Scene
        The slice.
    parameters : LevelSetParameters
        Everything that is not learned.
    names : sequence of str
        What is learned.
    steps : int
        Steps of the run.
    """

    def __init__(self, scene: Scene, parameters: LevelSetParameters, names: Sequence[str], steps: int) -> None:
        self._scene = scene
        self._parameters = parameters
        self._names = tuple(names)
        self._steps = steps
        unit = {"balloon": 1.0, "curvature": 1.0, "root_epsilon": max(parameters.root_epsilon, 1e-6)}
        self._weighted = parameters.convection_weight > 0 or "convection" in self._names
        self._unit = parameters.model_copy(update=unit | {"convection": 1.0 if self._weighted else 0.0})
        self._fields = _LearnedFields(scene, self._unit)
        widest = max((h for h, n in zip(scene.spacing, scene.start.shape, strict=True) if n > 1), default=1.0)
        self._width = parameters.band * widest if parameters.redistance_every else None

    # -- values to tensors

    def _value(self, values: Mapping[str, Tensor], name: str) -> Tensor:
        if name in values:
            return values[name]
        p = self._parameters
        low, high = speed_room.thresholds(p, self._scene.value_range)
        fixed = {"balloon": p.balloon, "curvature": p.curvature, "convection": p.convection_weight}
        fixed |= {"contrast": p.contrast, "lower": low or 0.0, "upper": high or 0.0}
        fixed["seed_width"] = p.seed_width or 0.0
        return torch.as_tensor(fixed[name], dtype=self._scene.start.dtype, device=self._scene.start.device)

    def images(self, values: Mapping[str, Tensor]) -> list[Tensor]:
        """The speed images on the computed grid: a region speed averaged over blocks, an edge image their minimum."""
        p, scene = self._parameters, self._scene
        edge: Tensor | None = None
        if p.speed == "edge" and scene.given:
            edge = blocks(scene.grey, scene.factor).amin(-1)
        elif uses_edges(self._unit):
            edge = blocks(self._edge_indicator(values), scene.factor).amin(-1)
        if p.speed == "edge" and edge is not None:
            return [edge]
        speed = scene.grey if scene.given else self._region_speed(values)
        primary = blocks(speed, scene.factor).mean(-1)
        return [primary] if edge is None else [primary, edge]

    def _edge_indicator(self, values: Mapping[str, Tensor]) -> Tensor:
        """`speed.edge_indicator` with a contrast that has a gradient."""
        p, squared = self._parameters, self._scene.slope_squared
        if p.edge_preset == "paper":
            return 1 / (1 + squared)
        # the powers apart: where the image is flat, the derivative of a power of 0 is no number
        return 1 / (1 + squared ** (p.edge_power / 2) * self._value(values, "contrast") ** -p.edge_power)

    def _region_speed(self, values: Mapping[str, Tensor]) -> Tensor:
        """`speed.region_speed` with thresholds that have a gradient."""
        p, grey = self._parameters, self._scene.grey
        if p.region == "probability":
            return 2 * grey - 1
        low, high = self._scene.value_range
        if self._scene.seed is None:
            has_lower, has_upper = (t is not None for t in speed_room.thresholds(p, self._scene.value_range))
            lower, upper = self._value(values, "lower"), self._value(values, "upper")
        else:
            mean, spread = self._scene.seed
            reach = spread * self._value(values, "seed_width")
            has_lower, has_upper, lower, upper = True, True, mean - reach, mean + reach
        e = 10.0**-p.smoothness
        sharpness = math.log((2 - e) / e)
        if has_lower and has_upper:
            k = sharpness / (upper - lower)
            return (k * (grey - lower)).tanh() + (k * (upper - grey)).tanh() - 1
        slope = sharpness / max((high - low) / 3, SLOWEST)
        return (slope * (grey - lower)).tanh() if has_lower else (slope * (upper - grey)).tanh()

    # -- the run

    def _segment(self, u: Tensor, elapsed: Tensor, table: Tensor, weights: Tensor, count: int) -> tuple[Tensor, Tensor]:
        p, spacing = self._parameters, self._scene.spacing
        self._fields.take(table)
        for _ in range(count):
            n = around(u, spacing)
            voxels = _scaled(self._fields.at_voxels(n), *weights.unbind())
            front = voxels if p.speed_at == "voxel" else _scaled(self._fields.at_front(n), *weights.unbind())
            if isinstance(p.time_step, str):
                bound = rates(n, voxels, self._unit)
                if self._width is not None:
                    bound = torch.where(u.abs() < self._width, bound, torch.zeros_like(bound))
                dt = p.cfl / bound.max().clamp(min=SLOWEST)
            else:
                dt = torch.full_like(elapsed, p.time_step)
            if p.time is not None:
                dt = torch.minimum(dt, p.time - elapsed)
            elapsed = elapsed + dt
            u = explicit_step(u, spacing, _scaled(front, dt, dt, dt), 1.0, self._unit, band_width_mm=self._width)
        return u, elapsed

    def loss_of(self, u: Tensor) -> Tensor:
        """1 - soft Dice of the occupancy of a level set against the accepted mask."""
        share, target = occupancy(around(u, self._scene.spacing)), self._scene.target
        return 1 - 2 * (share * target).sum() / (share.sum() + target.sum())

    def forwards(self, values: Mapping[str, float]) -> Generator[float, None, Passage]:
        """The run and its loss, without graph.

        Yields
        ------
        float
            The share that is done, after every segment.
        """
        table, weights = (root.detach() for root in self._roots(self._leaf(values)))
        like = self._scene.start
        kept = [(like, torch.zeros((), dtype=like.dtype, device=like.device))]
        lengths = self._lengths()
        for number, count in enumerate(lengths, 1):
            with torch.no_grad():
                kept.append(self._segment(*kept[-1], table, weights, count))
            yield number / len(lengths)
        return Passage(float(self.loss_of(kept[-1][0])), dict(values), tuple(kept))

    def backwards(self, passage: Passage) -> Generator[float, None, Tensor]:
        """The gradient of the loss of a run with respect to the learned values, in the order of their names.

        Yields
        ------
        float
            The share that is done, after every segment.
        """
        leaf = self._leaf(passage.values).requires_grad_()
        table_root, weights_root = self._roots(leaf)
        table, weights = table_root.detach(), weights_root.detach()
        end = passage.kept[-1][0].detach().requires_grad_()
        (slope,) = torch.autograd.grad(self.loss_of(end), end)
        back = (slope, torch.zeros_like(passage.kept[-1][1]))
        into_table, into_weights = torch.zeros_like(table), torch.zeros_like(weights)
        lengths = self._lengths()
        for number in range(len(lengths) - 1, -1, -1):
            u, elapsed = (part.detach().requires_grad_() for part in passage.kept[number])
            roots = (u, elapsed, table.detach().requires_grad_(), weights.detach().requires_grad_())
            ends = self._segment(*roots, lengths[number])
            found = torch.autograd.grad(ends, roots, back, allow_unused=True, materialize_grads=True)
            back = (found[0], found[1])
            into_table, into_weights = into_table + found[2], into_weights + found[3]
            yield 1 - number / len(lengths)
        pairs = [(r, g) for r, g in ((table_root, into_table), (weights_root, into_weights)) if r.requires_grad]
        (total,) = torch.autograd.grad([r for r, _ in pairs], leaf, [g for _, g in pairs])
        return total

    def _lengths(self) -> list[int]:
        return [min(SEGMENT, self._steps - done) for done in range(0, self._steps, SEGMENT)]

    def _leaf(self, values: Mapping[str, float]) -> Tensor:
        like = self._scene.start
        return torch.tensor([values[name] for name in self._names], dtype=like.dtype, device=like.device)

    def _roots(self, leaf: Tensor) -> tuple[Tensor, Tensor]:
        """Speed table and weights from the learned values."""
        named = dict(zip(self._names, leaf.unbind(), strict=True))
        weights = [self._value(named, name) for name in ("balloon", "curvature", "convection")]
        return self._fields.table_of(self.images(named)), torch.stack(weights)


class _LearnedFields(SpeedFields):
    """The speed images of a run, from tensors through which a gradient flows."""

    def __init__(self, scene: Scene, parameters: LevelSetParameters) -> None:
        nothing = np.zeros(tuple(scene.start.shape), np.float64)
        images = speed_images(nothing, scene.spacing, parameters, nothing)
        super().__init__(images, scene.spacing, parameters, scene.start)

    def table_of(self, images: Sequence[Tensor]) -> Tensor:
        """The columns that a run reads from: the images and the slopes of the edge image."""
        columns = list(images)
        if self._parameters.convection_weight > 0:
            columns += self._differentiable_slopes(images[-1])
        return torch.stack([column.reshape(-1) for column in columns], dim=1)

    def take(self, table: Tensor) -> None:
        """Read from this table from now on."""
        self._table = table

    def _differentiable_slopes(self, edge: Tensor) -> list[Tensor]:
        sigma = self._parameters.convection_sigma
        if sigma > 0:
            from scipy.ndimage import gaussian_filter1d

            for axis, h in enumerate(self._spacing):
                if edge.shape[axis] > 1:
                    blur = gaussian_filter1d(np.eye(edge.shape[axis]), sigma / h, axis=0, mode="nearest")
                    matrix = torch.from_numpy(blur).to(edge)
                    edge = torch.tensordot(matrix, edge, dims=([1], [axis])).movedim(0, axis)
        n = around(edge, self._spacing)
        return [central(n, axis) if axis in n.axes else torch.zeros_like(edge) for axis in range(edge.ndim)]


def _scaled(speeds: Speeds, balloon: Tensor, curvature: Tensor, convection: Tensor) -> Speeds:
    return Speeds(
        speeds.balloon * balloon, speeds.curvature * curvature, tuple(v * convection for v in speeds.convection)
    )


def blocks(fine: Tensor, factor: Sequence[int]) -> Tensor:
    """The voxels of each block of `factor` voxels, along a last axis."""
    split: list[int] = []
    for n, k in zip(fine.shape, factor, strict=True):
        split += [n // k, k]
    axes = len(factor)
    order = [*range(0, 2 * axes, 2), *range(1, 2 * axes, 2)]
    return fine.reshape(split).permute(order).reshape(*split[::2], -1)
