"""u on a graphics card in tiles, of which only those that hold the band are visited.

Two arrays take turns within a step; at its end both hold the same in every tile that is not listed, so that nothing
outside the list is ever touched. The list is made on the card: no step waits for the processor to learn its length.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from src_models.levelset import fused_constants, fused_look, fused_steps
from src_models.levelset.equation import FLAT_SLOPE
from src_models.levelset.redistancing import TOLERANCE, sweep_step

TILE_VOXELS = 256
LONGEST_SIDE = 16
PROGRAMS = 2048
"""Programs per kernel: enough for the largest cards, and a constant, so that sums have the same bits on all of them."""
LOOKS = 512
"""Programs of `look`, which needs many registers and ends in many sums: as many as run at the same time."""
WARPS = 4
TILES_PER_BLOCK = 256


def tile_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """A tile of 256 voxels in whole powers of 2, as compact as the axes allow; 1 along an axis of length 1."""
    sides = [1] * len(shape)
    while math.prod(sides) < TILE_VOXELS:
        open_axes = [axis for axis, n in enumerate(shape) if n > 1 and sides[axis] < LONGEST_SIDE]
        if not open_axes:
            break
        # The last axis first: its voxels are neighbours in memory.
        shortest = min(sides[axis] for axis in open_axes)
        sides[max(axis for axis in open_axes if sides[axis] == shortest)] *= 2
    return tuple(sides)


class TiledField:
    """The level set, its tiles and the constants of the equation, all on one card.

    Parameters
    ----------
    u : Tensor of shape (z, y, x) or (y, x)
        The start; not kept.
    spacing : sequence of float
        mm per array axis.
    width : float
        w in mm.
    """

    def __init__(self, u: Tensor, spacing: Sequence[float], width: float) -> None:
        self.shape = tuple(u.shape)
        self.spacing = tuple(float(h) for h in spacing)
        missing = 3 - u.ndim
        shape = (1,) * missing + self.shape
        self.tile = tile_shape(shape)
        self.grid = tuple(-(-n // side) for n, side in zip(shape, self.tile, strict=True))
        self.tiles = math.prod(self.grid)
        self.programs = min(PROGRAMS, 1 << (self.tiles - 1).bit_length())
        self.looks = min(LOOKS, self.programs)
        self.sizes = (*shape, *self.grid[1:])
        self.flat = u.contiguous().reshape(-1).clone()
        self.other = self.flat.clone()
        device = u.device
        self._options: dict[str, Any] = {"num_warps": WARPS, "enable_fp_fusion": u.dtype == torch.float32}
        # Fewer registers let more programs of `look` run at once; in float64 they would not hold its values.
        self._look_options = {"maxnreg": 128} if u.dtype == torch.float32 else {}
        self._meta = dict(zip(("TZ", "TY", "TX"), self.tile, strict=True)) | {"INDEX": _index_type(8 * u.numel())}
        self._bits = torch.zeros(self.tiles, dtype=torch.int32, device=device)
        self._far = torch.zeros_like(self._bits)
        self.far_inside = torch.zeros(1, dtype=torch.int64, device=device)
        self.chosen = torch.zeros_like(self._bits)
        self._running = torch.zeros_like(self._bits)
        self.listing = torch.zeros_like(self._bits)
        self.count = self._running[-1:]
        self.everywhere = torch.arange(self.tiles, dtype=torch.int32, device=device)
        self.all_tiles = torch.full_like(self.count, self.tiles)
        self.boxes = torch.zeros(6 * self.programs, dtype=torch.int32, device=device)
        self.constants = torch.zeros(32, dtype=u.dtype, device=device)
        sides = [h for h, n in zip(self.spacing, self.shape, strict=True) if n > 1] or list(self.spacing)
        count = sum(n > 1 for n in self.shape)
        self.set_constants(
            {
                "SPACING_Z": self.spacing[0] if missing == 0 else 1.0,
                "SPACING_Y": self.spacing[-2] if u.ndim > 1 else 1.0,
                "SPACING_X": self.spacing[-1],
                "WIDTH": width,
                "SWEEP_STEP": sweep_step(self.spacing, self.shape),
                "LIMIT": 1 / min(sides) if count else 1.0,
                "PEAK_SHARE": (count - 1) / max(count, 1),
                "HALF_VOXEL": max(sides) / 2,
                "VOXEL": math.prod(self.spacing),
                "CONSTRAINT": min(sides) / 2,
                "FLAT_SLOPE": FLAT_SLOPE,
                "LEAST_SLOPE": 1 - TOLERANCE,
                "LARGEST_SLOPE": 1 + TOLERANCE,
            }
        )
        self.survey()

    def set_constants(self, values: dict[str, float]) -> None:
        """Write constants, by their names in `fused_constants`, in one copy to the card."""
        table = self.constants.to("cpu", torch.float64)
        for name, value in values.items():
            table[getattr(fused_constants, name).value] = value
        self.constants.copy_(table)

    def constant(self, name: str) -> Tensor:
        """The place of one constant on the card, to be filled in anew in every step."""
        at: int = getattr(fused_constants, name).value
        return self.constants[at : at + 1]

    def launch(self, kernel: Any, *arguments: Any, **options: Any) -> None:
        """Run a kernel over the tiles."""
        programs = self.programs
        if kernel is fused_look.look:
            programs = self.looks
            options |= self._look_options
        kernel[(programs,)](*arguments, *self.sizes, **self._meta, **options, **self._options)

    def replace(self, u: Tensor) -> None:
        """Take another u."""
        self.flat.copy_(u.reshape(-1))
        self.other.copy_(self.flat)
        self.survey()

    def survey(self) -> None:
        """Find the tiles of the band anew, after u was changed from outside."""
        self._far.zero_()
        self.far_inside.zero_()
        self._note_what_they_hold(self.everywhere, self.all_tiles)
        self.relist()

    def _note_what_they_hold(self, listing: Tensor, count: Tensor) -> None:
        self.launch(
            fused_steps.survey, self.flat, self.constants, listing, count, self._bits, self._far, self.far_inside
        )  # fmt: skip

    def relist(self) -> None:
        """List the tiles that the next step can change."""
        blocks = (-(-self.tiles // TILES_PER_BLOCK),)
        fused_steps.touched[blocks](self._bits, self.chosen, self.tiles, *self.grid, BLOCK=TILES_PER_BLOCK)
        self.list_chosen(self.chosen, self._running, self.listing)

    def list_chosen(self, chosen: Tensor, running: Tensor, listing: Tensor) -> None:
        """Write the chosen tiles into `listing`; the last of `running` is their number."""
        torch.cumsum(chosen, 0, dtype=torch.int32, out=running)
        blocks = (-(-self.tiles // TILES_PER_BLOCK),)
        fused_steps.listed[blocks](chosen, running, listing, self.tiles, BLOCK=TILES_PER_BLOCK)

    def move(self, rate: Tensor, walls: Tensor | None, pins: Tensor | None, ends: bool) -> None:
        """Add dt times the rate of change: into the other array, or, where that ends the step, into both."""
        self.launch(
            fused_steps.move, self.flat, self.other, rate,
            self.flat if walls is None else walls, self.flat if pins is None else pins,
            self.constants, self.listing, self.count, self.boxes,
            WALLS=walls is not None, PINS=pins is not None, ENDS=ends,
        )  # fmt: skip
        if ends:
            self._note_what_they_hold(self.listing, self.count)

    def redistance(self, order: int, walls: Tensor | None, pins: Tensor | None) -> None:
        """Rescale beside the front and sweep, from the other array and back to u."""
        self.launch(fused_steps.rescale, self.other, self.flat, self.constants, self.listing, self.count, CLIPS=False)
        # SWEEPS is 2, and the list reaches two layers beyond the band.
        self.sweep(self.flat, self.other, order)
        self.sweep(self.other, self.flat, order, walls, pins, ends=True)

    def sweep(
        self,
        source: Tensor,
        target: Tensor,
        order: int,
        walls: Tensor | None = None,
        pins: Tensor | None = None,
        *,
        ends: bool = False,
    ) -> None:
        """One Jacobi sweep of the listed tiles; the one that ends a step enforces constraints and notes the band."""
        self.launch(
            fused_steps.sweep, source, target,
            self.flat if walls is None else walls, self.flat if pins is None else pins,
            self.constants, self.listing, self.count, self._bits, self._far, self.far_inside,
            ORDER=order, WALLS=walls is not None, PINS=pins is not None, ENDS=ends,
        )  # fmt: skip


def _index_type(reach: int) -> Any:
    """The type of an index into the largest table: int64 only where int32 cannot hold it, for it is slower."""
    import triton.language as tl

    return tl.int32 if reach < 2**31 else tl.int64


def redistanced(u: Tensor, spacing: Sequence[float], width: float, order: int) -> Tensor:
    """A signed distance from any u, on its card; see `redistancing.redistance_fully`, whose result this is."""
    field = TiledField(u, spacing, width)
    field.set_constants({"LEAST_SLOPE": 1.0, "LARGEST_SLOPE": 1.0})
    field.launch(
        fused_steps.rescale, field.flat, field.other, field.constants, field.everywhere, field.all_tiles, CLIPS=True
    )  # fmt: skip
    field.replace(field.other)
    sweeps = math.ceil(2 * width / sweep_step(field.spacing, field.shape))
    for _ in range(sweeps // 2):
        field.sweep(field.flat, field.other, order)
        field.sweep(field.other, field.flat, order, ends=True)
        field.relist()
    if sweeps % 2:
        field.sweep(field.flat, field.other, order)
        return field.other.reshape(field.shape)
    return field.flat.reshape(field.shape)
