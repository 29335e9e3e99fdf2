"""The level set network: a solver of the level set equation, unrolled, whose kernels and weights are learned.

Begun with finite differences it is the solver under the paper preset (`levelset.equation`). Several levels make it run
from coarse to fine, as the solver's pyramid does: a front then crosses an organ in few steps.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import Any, Literal

import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn

from src_models.errors import InputError
from src_models.levelset.parameters import LevelSetParameters
from src_models.levelset.stencils import Gradient, central
from src_models.networks.blocks import halved, interpolate
from src_models.networks.lsn_edge import KernelEdge, UNetEdge
from src_models.networks.lsn_start import Ones, Range, Stem
from src_models.networks.lsn_terms import (
    WEIGHTS,
    KernelStart,
    Seen,
    StepWeights,
    Surroundings,
    Weight,
    drift,
    learned_step,
)
from src_models.networks.network import NetOutput, Network, NetworkOptions, pad_far

Start = Literal["ones", "seed", "threshold", "stem"]

STILL = (
    "No step moves the level set: g or the weights of all terms are 0, and the start alone decides. Begin with the "
    "weights of a network that was trained with a click (--init-from)."
)
_MODES = {"slides": "none", "upwind": "osher_sethian"}


class LSNOptions(NetworkOptions):
    """Of `LevelSetNetwork`. `steps` holds one number per level, coarsest first; each level halves the voxels."""

    steps: tuple[int, ...] = Field((10,), min_length=1, max_length=6)
    kernels: int | None = Field(None, ge=2, description="rho, sigma and e of a state; by default twice the axes.")
    shared: bool = Field(True, description="One set of kernels and weights for all steps of a level.")
    gradient: Gradient = "central"
    spacing: tuple[float, ...] | None = Field(None, description="mm per axis; 1 where it is not given.")
    balloon: float = 1.0
    curvature: float = Field(0.2, ge=0)
    convection: float = Field(2.0, ge=0)
    learned: tuple[Weight, ...] = ("balloon", "curvature", "convection")
    time_step: float | None = Field(None, gt=0, description="None: the stable one.")
    cfl: float = Field(0.9, gt=0, le=1)
    edge: Literal["kernels", "unet"] = "kernels"
    contrast: float = Field(1.0, gt=0, description="lambda: gradient per mm at which g is one half.")
    edge_depth: int = Field(3, ge=1, le=5)
    edge_width: int = Field(8, ge=1)
    start: Start = "stem"
    range: tuple[float, float] = Field((-1.0, 1.0), description="Grey values where start is threshold.")
    start_width: float | None = Field(None, gt=0, description="mm of u at the start: see Range and Stem.")
    seed_radius: float = Field(4.0, gt=0, description="Of the ball about a click in mm; see preprocessing.click.")
    stem_layers: int = Field(4, ge=1, le=8)
    stem_width: int = Field(8, ge=1)
    first_kernels: KernelStart = "differences"
    noise: float = Field(1e-3, ge=0, description="Norm of spare kernels at the start, as a share of D0's.")
    temperature: float = Field(1.0, gt=0, description="mm of u per unit of the logit.")
    learn_temperature: bool = Field(False, description="Begin at temperature and learn it.")
    eps: float = Field(1e-6, ge=0)
    root_epsilon: float = Field(1e-6, ge=0)

    @field_validator("steps", mode="before")
    @classmethod
    def _one_level(cls, value: Any) -> Any:
        return (value,) if isinstance(value, int) else value

    @field_validator("gradient", mode="before")
    @classmethod
    def _mode(cls, value: Any) -> Any:
        return _MODES.get(value, value) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _consistent(self) -> LSNOptions:
        if min(self.steps) < 0 or sum(self.steps) < 1:
            raise ValueError(f"at least one step is needed, got {self.steps}")
        if self.range[0] >= self.range[1]:
            raise ValueError(f"the range must go from a lower to a higher value, got {self.range}")
        if self.spacing is not None and min(self.spacing) <= 0:
            raise ValueError(f"spacing must be above 0, got {self.spacing}")
        return self


class Level(nn.Module):
    """The steps on one grid, and the edge indicator there.

    Parameters
    ----------
    channels, states : int
        Of the image; level sets.
    spacing : tuple of float
        mm per axis of this grid.
    steps : int
        Of this level.
    options : LSNOptions
        Of the network.
    """

    def __init__(self, channels: int, states: int, spacing: tuple[float, ...], steps: int, options: LSNOptions) -> None:
        super().__init__()
        self.spacing, self.count, self.options = spacing, steps, options
        kernels = options.kernels or 2 * len(spacing)
        weights: dict[Weight, float] = {
            "balloon": options.balloon,
            "curvature": options.curvature,
            "convection": options.convection,
        }
        self.edge: KernelEdge | None = None
        if options.edge == "kernels" and steps:
            self.edge = KernelEdge(
                channels, states, spacing, kernels, options.contrast, options.first_kernels, options.noise
            )
        self.steps = nn.ModuleList(
            StepWeights(states, spacing, kernels, weights, options.learned, options.first_kernels, options.noise)
            for _ in range(min(steps, 1) if options.shared else steps)
        )

    def families(self) -> Iterator[tuple[str, Tensor]]:
        """Every family of kernels of every state, shape (kernels, 3, ...), by name."""
        per_step = len(self.steps) > 1
        named = [] if self.edge is None else [("edge", self.edge.kernels.weight)]
        for number, step in enumerate(self.steps):
            assert isinstance(step, StepWeights)
            at = f"_step{number}" if per_step else ""
            named += [(f"rho{at}", step.rho.weight), (f"sigma{at}", step.sigma.weight)]
        count = self.options.kernels or 2 * len(self.spacing)
        for name, weight in named:
            for state, family in enumerate(weight.view(-1, count, *weight.shape[2:])):
                yield (name if state == 0 else f"{name}_{state}"), family

    def run(self, u: Tensor, g: Tensor, seen: Seen | None = None) -> Iterator[Tensor]:
        """u after every step."""
        around = Surroundings(g, self.spacing)
        velocity = [central(around, axis) for axis in range(len(self.spacing))]
        chosen = self.options
        for number in range(self.count):
            weights = self.steps[0 if chosen.shared else number]
            assert isinstance(weights, StepWeights)
            u = learned_step(
                u,
                g,
                velocity,
                weights,
                self.spacing,
                gradient=chosen.gradient,
                time_step=chosen.time_step,
                cfl=chosen.cfl,
                eps=chosen.eps,
                root_epsilon=chosen.root_epsilon,
                seen=seen,
            )
            yield u


class LevelSetNetwork(Network):
    """n steps of the level set equation with learned kernels; one level set u per foreground class, u > 0 inside.

    u / temperature is the logit of a class: under a softmax head the background has logit 0, so that two classes give
    sigmoid(u / temperature). The network computes in the number format of its weights, float32 or float64, also under
    autocast: updates of 1e-4 would vanish in half precision.

    Parameters
    ----------
    in_channels, num_classes, ndim : int
        See `Network`. With ``start="seed"`` the last input channel is the signed distance in mm to a ball about the
        click, positive inside.
    options : LSNOptions
        Of the architecture.

    References
    ----------
    J. A. Actor, D. T. Fuentes, B. Rivière, Identification of kernels in a convolutional neural network: connections
    between the level set equation and deep learning for image segmentation, Proc. SPIE 11313, 2020.
    """

    name = "lsn"
    Options = LSNOptions
    options: LSNOptions
    full_precision = True
    replicates = True

    def __init__(self, in_channels: int, num_classes: int, ndim: int, options: LSNOptions) -> None:
        super().__init__(in_channels, num_classes, ndim, options)
        self._check_options()
        self.states = num_classes - 1 if options.head == "softmax" else num_classes
        self.spacing = options.spacing or (1.0,) * ndim
        channels = in_channels - (options.start == "seed")
        finest = len(options.steps) - 1
        self.stride = (2 ** max(finest, options.edge_depth + self._edge_level if options.edge == "unet" else 0),) * ndim
        self.log_temperature = (
            nn.Parameter(torch.tensor(options.temperature).log()) if options.learn_temperature else None
        )
        coarse = tuple(h * 2**finest for h in self.spacing)
        width = options.start_width or max(coarse) * (4 if options.start == "threshold" else 1)
        self._moved: Tensor | None = None
        self.start: nn.Module | None = None
        if options.start == "ones":
            self.start = Ones(self.states)
        elif options.start == "threshold":
            self.start = Range(self.states, *options.range, width)
        elif options.start == "stem":
            self.start = Stem(channels, self.states, ndim, options.stem_layers, options.stem_width, width)
        self.edge = (
            UNetEdge(channels, self.states, ndim, options.edge_depth, options.edge_width)
            if options.edge == "unet"
            else None
        )
        self.levels = nn.ModuleList(
            Level(channels, self.states, tuple(h * 2 ** (finest - k) for h in self.spacing), steps, options)
            for k, steps in enumerate(options.steps)
        )

    @classmethod
    def from_parameters(
        cls,
        parameters: LevelSetParameters,
        ndim: int,
        spacing: Sequence[float],
        steps: int | Sequence[int],
        *,
        dtype: torch.dtype = torch.float32,
        **options: Any,
    ) -> LevelSetNetwork:
        """The network that is the solver: `steps` steps of `equation.explicit_step` under these parameters.

        One image channel and one channel with the start u0 (``start="seed"``) in, u out (a sigmoid head with
        temperature 1). Another start takes the image alone.

        Parameters
        ----------
        parameters : LevelSetParameters
            Of the paper preset's kind (`levelset.parameters.paper_preset`), with any weights and gradient.
        ndim : int
            2 or 3.
        spacing : sequence of float
            mm per axis.
        steps : int or sequence of int
            Of the network; of each level, coarsest first.
        dtype : torch.dtype
            Of its weights: float32 or float64.
        **options
            Of `LSNOptions`, such as ``kernels`` (spare ones are 0) or ``start``.

        Raises
        ------
        InputError
            Where the network has no such step: region speed, order 2, redistancing, blur, exponents.
        """
        chosen = _options_of(parameters, spacing, steps, options)
        network = cls(1 + (chosen.start == "seed"), 1, ndim, chosen).to(dtype)
        for part in network.modules():
            if isinstance(part, StepWeights | KernelEdge):
                part.begin()
        return network

    @property
    def temperature(self) -> Tensor | float:
        """Mm of u per unit of the logit.

        A front learns from voxels that it has not reached only about as far as this: a network that is to cross an
        organ begins with a large one and makes it smaller as it learns.
        """
        return self.options.temperature if self.log_temperature is None else self.log_temperature.exp()

    def watched(self) -> dict[str, float]:
        """How far each kernel has gone from its stencil (`lsn_terms.drift`), and the weights of the three terms."""
        found: dict[str, float] = {}
        if self.log_temperature is not None:
            found["temperature"] = float(self.log_temperature.detach().exp())
        for k, level in enumerate(self.levels):
            assert isinstance(level, Level)
            for name, family in level.families():
                for number, value in enumerate(drift(family.detach(), level.spacing).tolist()):
                    found[f"drift_level{k}_{name}_{number}"] = value
            for number, step in enumerate(level.steps):
                assert isinstance(step, StepWeights)
                at = f"_step{number}" if len(level.steps) > 1 else ""
                for weight in WEIGHTS:
                    for state, value in enumerate(step.weight(weight).detach().tolist()):
                        found[f"{weight}_level{k}{at}" + (f"_{state}" if state else "")] = value
        return found

    def remarks(self) -> tuple[str, ...]:
        """Whether all steps of the last training batch left every voxel as it was."""
        return () if self._moved is None or bool(self._moved) else (STILL,)

    @property
    def _edge_level(self) -> int:
        """How often the grid is halved where a UNet gives g: 0 unless the finest levels have no steps."""
        return next(k for k, steps in enumerate(reversed(self.options.steps)) if steps)

    def compute(self, x: Tensor) -> NetOutput:
        """See `Network`."""
        on_meta = x.device.type == "meta"
        if self.training:
            self._moved = None
        with nullcontext() if on_meta else torch.autocast(x.device.type, enabled=False):
            u = deque(self.evolve(x), maxlen=1)[0]
            self._check_finite(u, x)
            logits = self._logits(u)
        return NetOutput(logits)

    @property
    def halvings(self) -> tuple[int, ...]:
        """How often the grid of x is halved for each of the level sets that `evolve` gives."""
        finest = len(self.levels) - 1
        counts = [1 + self.options.steps[0], *(max(steps, 1) for steps in self.options.steps[1:])]
        return tuple(finest - k for k, count in enumerate(counts) for _ in range(count))

    def watch(self, x: Tensor) -> Iterator[Tensor]:
        """The logits that each level set of `evolve` stands for, on the grid of x; the last are those of `forward`.

        Parameters
        ----------
        x : Tensor of shape (B, C, *spatial)
            Of any size, as for `forward`. One level set is made per ``next``.
        """
        self._check(x)
        keep = (slice(None), slice(None), *(slice(0, n) for n in x.shape[2:]))
        padded = pad_far(x, self._padded(x.shape[2:]))
        states, last = self.evolve(padded), len(self.halvings) - 1
        for number, halvings in enumerate(self.halvings):
            # not around the yield: what is cast is a matter of the thread, and others run in between
            with torch.autocast(x.device.type, enabled=False):
                u = next(states)
                if number == last:
                    self._check_finite(u, padded)
                for _ in range(halvings):
                    u = interpolate(u, 2, "linear")
                logits = self._logits(u)[keep]
            yield logits

    def _logits(self, u: Tensor) -> Tensor:
        logits = u / self.temperature
        if self.options.head == "softmax":
            logits = torch.cat((torch.zeros_like(logits[:, :1]), logits), 1)
        return logits

    def evolve(self, x: Tensor, seen: Seen | None = None) -> Iterator[Tensor]:
        """The level sets, shape (B, states, *grid): the start, then after every step, at last on the grid of x.

        Parameters
        ----------
        x : Tensor of shape (B, C, *spatial)
            Sizes are multiples of the stride. Coarser levels give coarser grids.
        seen : callable, optional
            Is given what each term adds in every step.
        """
        x = x.to(next(self.parameters()).dtype)
        seeded = self.options.start == "seed"
        image = x[:, :-1] if seeded else x
        finest = len(self.levels) - 1
        u = x[:, -1:].expand(-1, self.states, *x.shape[2:]) if seeded else None
        u = halved(u, finest) if u is not None else self.start(halved(image, finest))  # type: ignore[misc]
        edge = None if self.edge is None else self.edge(halved(image, self._edge_level))
        yield u
        for k, level in enumerate(self.levels):
            assert isinstance(level, Level)
            if k:
                u = interpolate(u, 2, "linear")
            if level.count:
                if edge is None:
                    assert level.edge is not None
                    g = level.edge(halved(image, finest - k))
                else:
                    g = halved(edge, finest - k - self._edge_level)
                for after in level.run(u, g, seen):
                    if self.training:
                        moved = (after.detach() != u.detach()).any()
                        self._moved = moved if self._moved is None else self._moved | moved
                    u = after
                    yield u
            elif k:
                yield u

    def _check_finite(self, u: Tensor, x: Tensor) -> None:
        """Refuse a level set that grew beyond all bounds, and say at which step it did."""
        if u.device.type == "meta" or bool(torch.isfinite(u).all()):
            return
        where = "after its last step"
        with torch.no_grad():
            for number, each in enumerate(self.evolve(x)):
                if not bool(torch.isfinite(each).all()):
                    where = f"in step {number} of {sum(self.options.steps)}" if number else "at its start"
                    break
        raise InputError(
            "lsn-diverged",
            f"The level set of the network is not a number any more {where}",
            "the learned kernels or weights grew too large" if where != "at its start" else "",
            "Go back to an earlier checkpoint with a lower --lr, or check the image.",
        )

    def _check_options(self) -> None:
        options, ndim = self.options, self.ndim
        wrong = ""
        if options.spacing is not None and len(options.spacing) != ndim:
            wrong = f"spacing has {len(options.spacing)} numbers for {ndim} axes"
        elif options.kernels is not None and options.kernels < ndim:
            wrong = f"{options.kernels} kernels cannot hold the differences of {ndim} axes"
        elif options.start == "seed" and self.in_channels < 2:
            wrong = "start=seed takes the click as the last of at least 2 channels"
        elif options.head == "softmax" and self.num_classes < 2:
            wrong = "a softmax head takes the background and at least one class"
        if wrong:
            raise InputError("lsn-options", "This level set network cannot be built", wrong, "Change the option.")


def _options_of(
    parameters: LevelSetParameters, spacing: Sequence[float], steps: int | Sequence[int], more: dict[str, Any]
) -> LSNOptions:
    """Options of the network that is the solver."""
    p = parameters
    paper = p.edge_preset == "paper"
    wrong = {
        "speed": p.speed != "edge",
        "order": p.order != 1,
        "curvature_form": p.curvature_form != "nested",
        "speed_at": p.speed_at != "voxel",
        "redistance_every": p.redistance_every != 0,
        "balloon_exponent": p.balloon_exponent != 1,
        "curvature_exponent": p.curvature_power != 1,
        "convection_exponent": p.convection_exponent != 0,
        "convection_sigma": p.convection_sigma != 0,
        "time_step": isinstance(p.time_step, str),
        "sigma": not paper and p.sigma != 0,
        "edge_power": not paper and p.edge_power != 2,
        "value_range": not paper and p.value_range is None,
    }
    named = [name for name, is_wrong in wrong.items() if is_wrong]
    if named:
        raise InputError(
            "lsn-parameters",
            f"The level set network cannot take {named[0]}={getattr(p, named[0])}",
            "it is the equation of the paper preset, with a fixed time step and edge image",
            "Begin with paper_preset(gradient, time_step=...).",
        )
    contrast = 1.0
    if not paper and p.value_range is not None:
        contrast = p.contrast * (p.value_range[1] - p.value_range[0])
    settings: dict[str, Any] = {
        "head": "sigmoid",
        "steps": steps,
        "gradient": p.gradient,
        "spacing": tuple(float(h) for h in spacing),
        "balloon": p.balloon,
        "curvature": p.curvature,
        "convection": p.convection_weight,
        "time_step": p.time_step,
        "contrast": contrast,
        "start": "seed",
        "noise": 0.0,
        "eps": p.eps,
        "root_epsilon": p.root_epsilon,
    }
    return LSNOptions(**(settings | more))
