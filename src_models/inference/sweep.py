"""All windows of an image in order, each finished slab exported at once; smaller windows where memory runs out."""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from src_models.errors import OutOfMemoryError, out_of_memory
from src_models.inference.export import Export
from src_models.inference.passes import Passes, free_memory
from src_models.inference.prepared import Layout
from src_models.inference.ring import Ring
from src_models.inference.tiling import Tiling, lay_windows
from src_models.inference.windows import Window, gaussian
from src_models.networks.network import softmax_or_sigmoid

SMALLEST = 16
"""Voxels along the longest side of a window below which it is not halved any more."""


@dataclass(frozen=True)
class SweepReport:
    """After a window: how many are done, and which planes of the image it finished."""

    tile: int
    tiles: int
    seconds_left: float | None
    slab: tuple[int, int] | None = None
    notes: tuple[str, ...] = ()


class Windowed(Protocol):
    """A tensor (C, *padded), or what gives its windows."""

    def __getitem__(self, key: Any) -> Tensor:
        """A window, (C, ...)."""
        ...


@dataclass
class Sweep:
    """The windows of one image through the networks.

    Parameters
    ----------
    data : Tensor of shape (C, *padded), or what gives its windows
        Prepared image, in swept order.
    layout : Layout
        Where it lies.
    passes : Passes
        The networks.
    tiling : Tiling
        How windows are laid.
    export : Export
        Where finished planes go.
    skip : str
        Which windows are not computed; see the parameters.
    dark : float or None
        Normalised value of the body's limit, for ``skip="body"``.
    clicked : bool
        Whether the last channel is that of the clicks: a window without one is background and is not computed. It is
        one slice of a volume, since such a network sees the whole of what it works on.
    """

    data: Windowed
    layout: Layout
    passes: Passes
    tiling: Tiling
    export: Export
    skip: str = "constant"
    dark: float | None = None
    clicked: bool = False
    patch: tuple[int, ...] = field(init=False)
    skipped: int = 0
    computed: int = 0
    rescues: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.patch = self.layout.patch
        self._host_ring = False
        self.seam: float | None = None
        self._neighbour: tuple[Window, Tensor] | None = None

    def groups(self) -> list[list[Window]]:
        """The windows, in groups that share their place along the swept axis."""
        return lay_windows(self.layout, self.patch, self.tiling)

    def run(self) -> Generator[SweepReport, None, None]:
        """Every window, with a rescue and another go at what is left where memory runs out.

        Raises
        ------
        OutOfMemoryError
            Where memory is not enough for the smallest window either.
        """
        while True:
            try:
                yield from self._go()
                return
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
            # outside of the handler the traceback, and with it the tensors of the failed pass, is gone
            note = self._rescue()
            self.export.restart()
            yield SweepReport(0, 1, None, notes=(note,))

    def _rescue(self) -> str:
        """Make the next go smaller, in this order; what was done is told and kept in the record."""
        device = self.passes.device
        free_memory(device)
        longest = max(range(3), key=lambda axis: self.patch[axis])
        half = -(-self.patch[longest] // 2)
        if device.type != "cpu" and not self._host_ring:
            self._host_ring = True
            note = "Memory of the graphics card ran out: sums are kept in the computer's memory."
        elif half >= SMALLEST:
            self.patch = tuple(half if axis == longest else p for axis, p in enumerate(self.patch))
            size = " x ".join(str(p) for p in self.patch)
            same = "" if self.tiling.halo is not None else "; labels may differ a little from those of the full window"
            note = f"Memory ran out: the window is halved to {size} voxels{same}."
        elif device.type != "cpu":
            self.passes.to(torch.device("cpu"))
            # half precision is for the card: many a processor is far slower in it
            self.passes.precision = torch.float32
            self.patch = self.layout.patch
            note = "Memory of the graphics card ran out with the smallest window: the processor goes on."
        else:
            raise OutOfMemoryError(
                "memory-smallest-window",
                "There is not enough memory even for the smallest window",
                "",
                "Close other programs, crop the image, or choose a smaller network.",
            )
        self.rescues.append(note)
        return note

    def _go(self) -> Generator[SweepReport, None, None]:
        begin = self.export.done_coarse + self.layout.before[0]
        groups = [group for group in self.groups() if group[0].write[0].stop > begin]
        tiles = sum(len(group) for group in groups)
        thickness = max(group[0].write[0].stop - max(group[0].write[0].start, begin) for group in groups)
        ring = Ring(
            self.passes.networks[0].num_classes + self.passes.extras,
            thickness,
            self.layout.padded[1:],
            self.passes.background,
            begin,
            "cpu" if self._host_ring else self.passes.device,
        )
        weight = None
        if self.tiling.halo is None:
            first = groups[0][0].write
            weight = torch.from_numpy(gaussian([part.stop - part.start for part in first])).to(ring.device)
        done, began = 0, time.perf_counter()
        for number, group in enumerate(groups):
            for window in group:
                self._one(window, ring, weight)
                done += 1
                left = (time.perf_counter() - began) / done * (tiles - done)
                if window is not group[-1]:
                    yield SweepReport(done, tiles, left)
            after = groups[number + 1][0].write[0].start if number + 1 < len(groups) else self.layout.padded[0]
            slab = self._export(ring, after) if after > ring.start else None
            yield SweepReport(done, tiles, left, slab)

    def _one(self, window: Window, ring: Ring, weight: Tensor | None) -> None:
        data = self.data[(slice(None), *window.read)]
        if self._has_no_click(data):
            return
        if self._is_skipped(data):
            self.skipped += 1
            return
        self.computed += 1
        order = self.layout.network_order
        there = data.permute(0, *(axis + 1 for axis in order))
        values = self.passes(there)
        back = [order.index(axis) + 1 for axis in range(3)]
        values = values.permute(0, *back)
        if self.seam is None and self.tiling.halo is None and not self.passes.networks[0].norm_free:
            self._compare(window, values[: self.passes.networks[0].num_classes])
        ring.add(window.write, values[(slice(None), *window.inner)], weight)

    def _has_no_click(self, data: Tensor) -> bool:
        """Distances to a click differ from voxel to voxel; without one they are the same everywhere."""
        return self.clicked and bool((data[-1] == data[-1].flatten()[0]).all())

    def _is_skipped(self, data: Tensor) -> bool:
        if self.skip == "none":
            return False
        flat = data.flatten(1)
        low, high = flat.aminmax(dim=1)
        if bool((low == high).all()):
            return True
        return self.skip == "body" and self.dark is not None and bool((high <= self.dark).all())

    def _export(self, ring: Ring, stop: int) -> tuple[int, int] | None:
        """Give the planes before `stop` to the export, a few at a time and without the padding."""
        before, coarse = self.layout.before, self.layout.coarse
        low, high = max(ring.start, before[0]), min(stop, before[0] + coarse[0])
        inner = [slice(b, b + n) for b, n in zip(before[1:], coarse[1:], strict=True)]
        began = self.export.done
        for first in range(low, high, ring.chunk):
            planes = ring.means(first, min(first + ring.chunk, high))
            self.export.add(planes[(slice(None), slice(None), *inner)])
        ring.advance(stop)
        return (began, self.export.done) if self.export.done > began else None

    def _compare(self, window: Window, values: Tensor) -> None:
        """How far two neighbouring windows are apart where they overlap, for networks that look at the whole window."""
        if self._neighbour is not None and self.seam is None:
            other, before = self._neighbour
            common = tuple(
                slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(window.read, other.read, strict=True)
            )
            if all(part.stop > part.start for part in common):
                shares = []
                for each, logits in ((window, values), (other, before)):
                    there = [slice(c.start - r.start, c.stop - r.start) for c, r in zip(common, each.read, strict=True)]
                    shares.append(softmax_or_sigmoid(logits[(None, slice(None), *there)], self.passes.head))
                self.seam = float((shares[0] - shares[1]).abs().mean())
        self._neighbour = (window, values.clone())
