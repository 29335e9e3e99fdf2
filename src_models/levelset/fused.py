"""The engine for graphics cards: the steps of the reference as a handful of Triton kernels on the tiles of the band.

u, the speed images and the list of tiles stay on the card for the whole run; a step sends one number there and fetches
the measures back, 16 numbers. The result is that of `reference` to the round-off of the float type, and the same bits
in every run on one card.

It knows the gradients ``godunov`` and ``osher_sethian``, both orders, the ``quotient`` curvature, both places of the
speed, edge and region mode, walls and pins. For ``central``, ``none``, ``nested``, Chan-Vese speed, runs without
redistancing and sums per term, `engines.chosen_engine` takes the reference, on the same card. So it does where Triton
is not installed or cannot compile.

In float32 it takes 12 bytes of the card per voxel, 4 more per column of speeds (1 in region mode, 4 in edge mode in 3D)
and 4 more for a moment to go back to.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from src_models.errors import InputError
from src_models.levelset.engine import Engine, Look
from src_models.levelset.equation import constrained
from src_models.levelset.fields import SpeedFields, SpeedImages
from src_models.levelset.front import Front
from src_models.levelset.parameters import LevelSetParameters

RESULTS = 16
COUNTED = 8
"""Sums and extremes that `look` writes per program."""


def can_be_fused(parameters: LevelSetParameters) -> bool:
    """Whether there are kernels for these forms of the equation."""
    return (
        parameters.gradient in ("godunov", "osher_sethian")
        and parameters.curvature_form == "quotient"
        and parameters.redistance_every > 0
        and not (parameters.speed == "region" and parameters.region == "chan_vese")
    )


@lru_cache
def kernels_work(device: torch.device) -> bool:
    """Whether Triton is there and makes kernels for this card; for that it needs a C compiler on the machine."""
    try:
        from src_models.levelset.fused_field import TiledField

        TiledField(torch.zeros((2, 2), device=device), (1.0, 1.0), 4.0)
    except Exception:  # whatever is wrong with a compiler or a driver: the reference does the run
        return False
    return True


class FusedEngine(Engine):
    """u of a run on a graphics card.

    Parameters
    ----------
    u : ndarray of shape (z, y, x) or (y, x)
        The start.
    spacing : sequence of float
        mm per array axis.
    width : float
        w in mm.
    like : Tensor
        An empty tensor of the type and device to work in.
    """

    name = "fused"

    def __init__(self, u: NDArray[Any], spacing: Sequence[float], width: float, like: Tensor) -> None:
        from src_models.levelset.fused_field import TiledField

        self._like = like
        self._field = TiledField(torch.from_numpy(np.ascontiguousarray(u)).to(like), spacing, width)
        self.shape, self.spacing, self.width = self._field.shape, self._field.spacing, width
        self._rate = torch.zeros_like(self._field.flat)
        self._sums = torch.zeros(COUNTED * self._field.looks, dtype=torch.float64, device=like.device)
        self._results = torch.zeros(RESULTS, dtype=torch.float64, device=like.device)
        on_card = like.device.type == "cuda"
        self._fetched = torch.zeros(RESULTS, dtype=torch.float64, pin_memory=on_card)
        self._recordings = _Recordings(like.device)
        self._walls: Tensor | None = None
        self._pins: Tensor | None = None
        self._saved: Tensor | None = None
        self._unsaved = torch.zeros_like(self._field.chosen)
        self._unsaved_running = torch.zeros_like(self._unsaved)
        self._unsaved_listing = torch.zeros_like(self._unsaved)
        self._box: tuple[slice, ...] | None = None
        self._stepped = False
        self._rate_is_fresh = False

    def device_level_set(self) -> Tensor:
        """U now, on the card, not a copy; the next step changes it."""
        return self._field.flat.reshape(self.shape)

    # -- the problem

    def set_problem(self, images: SpeedImages, parameters: LevelSetParameters) -> None:
        """Take speed images and parameters.

        Raises
        ------
        InputError
            Where a running engine is asked for a form of the equation that it does not have.
        """
        if not can_be_fused(parameters):
            raise InputError(
                "engine-form",
                "The engine of this run has no such form of the equation",
                "gradient central and none, nested curvature and Chan-Vese speed need the reference engine",
                "Start a new run from here.",
            )
        self._parameters = p = parameters
        self._fields = SpeedFields(images, self.spacing, parameters, self._like)
        self._fields.set_walls(None if self._walls is None else self._walls.to(torch.bool))
        sides = [h for h, n in zip(self.spacing, self.shape, strict=True) if n > 1]
        inverse_squares = sum(1 / h**2 for h in sides)
        root = inverse_squares**0.5 * (2**0.5 if p.gradient == "osher_sethian" else 1.0)
        self._field.set_constants(
            {
                "EPS": p.eps,
                "ROOT_EPSILON_SQUARE": p.root_epsilon**2,
                "BALLOON": p.balloon,
                "CURVATURE": p.curvature,
                "CONVECTION": p.convection_weight,
                "BALLOON_EXPONENT": p.balloon_exponent,
                "CURVATURE_EXPONENT": p.curvature_power,
                "CONVECTION_EXPONENT": p.convection_exponent,
                "BALLOON_BOUND": abs(p.balloon) * root,
                "CURVATURE_BOUND": 2 * p.curvature * inverse_squares,
            }
        )
        self._forms = _forms(p, images, len(self.shape))
        self._recordings.forget()
        self._rate_is_fresh = False

    def set_walls_and_pins(self, walls: NDArray[Any] | None, pins: NDArray[Any] | None) -> None:
        """Take walls and pins and enforce them everywhere; new speeds must follow."""
        flat = [
            None if mask is None else torch.from_numpy(mask.reshape(-1)).to(self._like.device) for mask in (walls, pins)
        ]
        sides = [h for h, n in zip(self.spacing, self.shape, strict=True) if n > 1] or list(self.spacing)
        self._replace(constrained(self._field.flat, sides, *flat))
        self._walls, self._pins = (None if mask is None else mask.to(torch.uint8) for mask in flat)

    def _replace(self, u: Tensor) -> None:
        """Take another u, and tell where it differs."""
        self._box = _box_around(u.reshape(self.shape) != self.device_level_set())
        self._field.replace(u)
        self._saved = None
        self._unsaved.zero_()
        self._stepped = False
        self._rate_is_fresh = False
        self._recordings.forget()

    # -- the step

    def look(self, free_threshold: float) -> Look:
        """Measure u, and find its rate of change."""
        values = self._measured(free_threshold)
        size, area, free_area, speed, fastest, largest_rate, inside, outside, far = values[:9]
        voxels = self._field.flat.numel()
        return Look(
            size=math.prod(self.spacing) * (size + far),
            area=area,
            free_area=free_area,
            speed_on_front=speed / area if area > 0 else 0.0,
            fastest=fastest,
            largest_rate=largest_rate,
            is_empty=inside == 0 and far == 0,
            is_full=outside == 0 and inside + far == voxels,
        )

    def _measured(self, free_threshold: float) -> list[float]:
        self._field.constant("THRESHOLD").fill_(free_threshold)
        self._recordings.play("look", self._look)
        self._rate_is_fresh = True
        self._fetched.copy_(self._results, non_blocking=True)
        if self._like.device.type == "cuda":
            torch.cuda.current_stream(self._like.device).synchronize()
        values: list[float] = self._fetched.tolist()
        if self._stepped:
            low, high = ([int(x) for x in values[k : k + 3]][3 - len(self.shape) :] for k in (9, 12))
            visited = all(a < b for a, b in zip(low, high, strict=True))
            self._box = tuple(slice(a, b) for a, b in zip(low, high, strict=True)) if visited else None
            self._stepped = False
        return values

    def _look(self) -> None:
        from src_models.levelset.fused_look import finish, look

        field = self._field
        field.launch(
            look, field.flat, self._fields.table, field.flat if self._walls is None else self._walls,
            self._rate, field.constants, field.listing, field.count, self._sums,
            WALLS=self._walls is not None, **self._forms,
        )  # fmt: skip
        finish[(1,)](
            self._sums, field.boxes, field.far_inside, self._results, LOOKS=field.looks, PROGRAMS=field.programs
        )

    def step(self, dt: float, redistancing: bool) -> None:
        """One step."""
        if not self._rate_is_fresh:
            self._measured(math.inf)
        self._field.constant("TIME_STEP").fill_(dt)
        self._recordings.play("step" if redistancing else "move", lambda: self._step(redistancing))
        self._stepped = True
        self._rate_is_fresh = False

    def _step(self, redistancing: bool) -> None:
        field = self._field
        field.move(self._rate, self._walls, self._pins, ends=not redistancing)
        if redistancing:
            field.redistance(self._parameters.order, self._walls, self._pins)
        torch.bitwise_or(self._unsaved, field.chosen, out=self._unsaved)
        field.relist()

    # -- what a run asks for between steps

    def level_set(self) -> NDArray[Any]:
        """U now, copied from the card."""
        u: NDArray[Any] = self.device_level_set().cpu().numpy()
        return u

    def changed_box(self) -> tuple[slice, ...] | None:
        """Smallest box around the tiles visited by the last step."""
        if self._stepped:
            self._measured(math.inf)
        return self._box

    def largest_free_patch(self, free_threshold: float) -> tuple[float, ...] | None:
        """Centre of the largest free part of the front, as the reference finds it; asked for once, at a leak."""
        front = Front(self.device_level_set().clone(), self.spacing, self.width)
        n = front.neighbourhood
        speeds = self._fields.at_front(n) if self._parameters.speed_at == "front" else self._fields.at_voxels(n)
        _, _, free = front.measure(speeds, free_threshold, self._parameters.balloon)
        return front.largest_patch(free)

    def save(self) -> None:
        """Remember u; copies only the tiles visited since the last time."""
        if self._saved is None:
            self._saved = self._field.flat.clone()
            self._unsaved.zero_()
        else:
            self._recordings.play("save", self._save_tiles)

    def _save_tiles(self) -> None:
        from src_models.levelset.fused_steps import copied

        field, listing, running = self._field, self._unsaved_listing, self._unsaved_running
        field.list_chosen(self._unsaved, running, listing)
        field.launch(copied, field.flat, self._saved, listing, running[-1:])
        self._unsaved.zero_()

    def roll_back(self) -> None:
        """Go back to what was remembered."""
        if self._saved is not None:
            self._replace(self._saved)


class _Recordings:
    """Sequences of kernels as CUDA graphs: a band of a small volume is stepped faster than kernels can be launched.

    The first time a sequence runs as it is, which compiles its kernels; the second time it is recorded.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._known: dict[str, Any] = {}

    def forget(self) -> None:
        """Drop all recordings, after an argument of a kernel has changed."""
        self._known = {}

    def play(self, name: str, launch: Callable[[], None]) -> None:
        """Run a sequence of kernels."""
        if self._device.type != "cuda" or name not in self._known:
            launch()
            self._known[name] = None
            return
        if self._known[name] is None:
            self._known[name] = self._recorded(launch)
        self._known[name].replay()

    def _recorded(self, launch: Callable[[], None]) -> Any:
        graph = torch.cuda.CUDAGraph()
        stream: Any = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(stream):
            # Other threads, such as the viewer's, may use the card meanwhile.
            graph.capture_begin(capture_error_mode="thread_local")
            launch()
            graph.capture_end()
        torch.cuda.current_stream(self._device).wait_stream(stream)
        return graph


def _forms(p: LevelSetParameters, images: SpeedImages, ndim: int) -> dict[str, Any]:
    """What the kernel `look` is compiled for."""
    columns = 1
    edge_column = 0
    if images.edge is not None and images.edge is not images.primary:
        edge_column, columns = columns, columns + 1
    slopes = [-1, -1, -1]
    if images.pull is not None:
        slopes[3 - ndim :] = range(columns, columns + ndim)
        columns += ndim
    curvature_kind = _kind(p.curvature_power) if images.edge is not None else 0
    return {
        "COLUMNS": columns,
        "EDGE": edge_column,
        "Z": slopes[0],
        "Y": slopes[1],
        "X": slopes[2],
        "EDGE_MODE": p.speed == "edge",
        "AT_FRONT": p.speed_at == "front",
        "ORDER": int(p.order),
        "SUM": p.gradient == "osher_sethian",
        "BENDS": p.curvature != 0,
        "BALLOON_KIND": _kind(p.balloon_exponent),
        "CURVATURE_KIND": curvature_kind,
        "CONVECTION_KIND": _kind(p.convection_exponent),
    }


def _kind(exponent: float) -> int:
    """0, 1 and 2 have kernels of their own; -1 is any other exponent."""
    return int(exponent) if exponent in (0, 1, 2) else -1


def _box_around(differs: Tensor) -> tuple[slice, ...] | None:
    """Smallest box around the set voxels."""
    box = []
    for axis in range(differs.ndim):
        others = tuple(k for k in range(differs.ndim) if k != axis)
        found = torch.nonzero(differs.any(dim=others)).reshape(-1)
        if found.numel() == 0:
            return None
        box.append(slice(int(found[0]), int(found[-1]) + 1))
    return tuple(box)
