"""Finite-difference stencils: the only place where they are written down.

A `Neighbourhood` gives the values of u at a voxel and around it, with indices clamped to the array (edge replication).
`around` makes the dense one, over a whole array and differentiable; `Packed` the same at a list of sites, for a front
that touches few voxels of a volume. Every difference below is written once, on either.

Weights at offsets (-1, 0, +1) along an axis with voxel size h: forward (0, -1, 1)/h, backward (-1, 1, 0)/h, central
(-1, 0, 1)/(2h), second (1, -2, 1)/h^2.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor

Gradient: TypeAlias = Literal["godunov", "osher_sethian", "central", "none"]
Move: TypeAlias = tuple[int, int]

REACH = 2  # the second-order one-sided differences look two voxels away


class Neighbourhood(ABC):
    """Values of u around voxels.

    Attributes
    ----------
    spacing : tuple of float
        mm, one per array axis.
    shape : tuple of int
        Of the array, spatial axes only.
    axes : tuple of int
        The axes longer than 1; the others drop out of every sum.
    """

    spacing: tuple[float, ...]
    shape: tuple[int, ...]
    axes: tuple[int, ...]

    @abstractmethod
    def at(self, *moves: Move) -> Tensor:
        """Values at the clamped neighbours reached by `moves`, pairs of (axis, voxels); none is the voxel itself."""

    @abstractmethod
    def central_of(self, derived: Callable[[Neighbourhood], Tensor], axis: int) -> Tensor:
        """Central difference along `axis` of an array that is computed from u; that array is edge-replicated."""

    @abstractmethod
    def coordinate(self, axis: int) -> Tensor:
        """Index of the voxels along `axis`, in the type of u, ready to broadcast."""

    @abstractmethod
    def pick(self, field: Tensor) -> Tensor:
        """Values of another array (of `shape`) at the same voxels."""

    @property
    def centre(self) -> Tensor:
        """u at the voxels themselves."""
        return self.at()

    @property
    def active_spacing(self) -> tuple[float, ...]:
        """Spacing of the axes that count."""
        return tuple(self.spacing[axis] for axis in self.axes)


class Dense(Neighbourhood):
    """Every voxel of an array; the spatial axes are the last ones, leading axes are a batch."""

    def __init__(self, u: Tensor, spacing: Sequence[float]) -> None:
        self.spacing = tuple(float(h) for h in spacing)
        self.shape = tuple(u.shape[u.ndim - len(self.spacing) :])
        self.axes = tuple(axis for axis, n in enumerate(self.shape) if n > 1)
        self._lead = u.ndim - len(self.shape)
        padded = u
        for axis in self.axes:
            n = self.shape[axis]
            clamped = torch.arange(-REACH, n + REACH, device=u.device).clamp(0, n - 1)
            padded = padded.index_select(self._lead + axis, clamped)
        self._padded = padded
        # one view a place: the way back of a derivative then visits each place once, not once per difference
        self._views: dict[tuple[int, ...], Tensor] = {}

    def at(self, *moves: Move) -> Tensor:
        """Values at the clamped neighbours, a view."""
        shift = dict.fromkeys(self.axes, 0)
        for axis, k in moves:
            shift[axis] += k
        place = tuple(shift.values())
        if place not in self._views:
            view = self._padded
            for axis in self.axes:
                view = view.narrow(self._lead + axis, REACH + shift[axis], self.shape[axis])
            self._views[place] = view
        return self._views[place]

    def central_of(self, derived: Callable[[Neighbourhood], Tensor], axis: int) -> Tensor:
        """Central difference of a derived array."""
        return central(Dense(derived(self), self.spacing), axis)

    def coordinate(self, axis: int) -> Tensor:
        """Index along `axis`, broadcastable."""
        centre = self.centre
        size = [1] * len(self.shape)
        size[axis] = self.shape[axis]
        return torch.arange(self.shape[axis], dtype=centre.dtype, device=centre.device).reshape(size)

    def pick(self, field: Tensor) -> Tensor:
        """The field itself."""
        return field


class Sites:
    """A sorted list of voxels of an array, with the index steps to their clamped neighbours.

    Parameters
    ----------
    index : Tensor of shape (N,)
        Flat indices in C order; kept as int32 where that holds every voxel.
    shape : tuple of int
        Of the array.
    """

    def __init__(self, index: Tensor, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self.strides = tuple(int(torch.Size(shape[axis + 1 :]).numel()) for axis in range(len(shape)))
        narrow = torch.int32 if torch.Size(shape).numel() < 2**31 else torch.int64
        self.index = index.to(narrow)
        self._positions: Tensor | None = index if index.dtype == torch.int64 else None
        self._coordinates: dict[int, Tensor] = {}
        self._steps: dict[Move, Tensor] = {}
        self._reached: dict[tuple[Move, ...], Tensor] = {(): self.index}

    def coordinate(self, axis: int) -> Tensor:
        """Index along `axis`."""
        if axis not in self._coordinates:
            self._coordinates[axis] = (self.index // self.strides[axis]) % self.shape[axis]
        return self._coordinates[axis]

    @property
    def positions(self) -> Tensor:
        """Flat indices as int64, which writing needs."""
        if self._positions is None:
            self._positions = self.index.to(torch.int64)
        return self._positions

    def neighbour(self, *moves: Move) -> Tensor:
        """Flat indices of the clamped neighbours."""
        if moves not in self._reached:
            self._reached[moves] = self.neighbour(*moves[:-1]) + self._step(moves[-1])
        return self._reached[moves]

    def _step(self, move: Move) -> Tensor:
        if move not in self._steps:
            axis, k = move
            here = self.coordinate(axis)
            self._steps[move] = ((here + k).clamp(0, self.shape[axis] - 1) - here) * self.strides[axis]
        return self._steps[move]


class Packed(Neighbourhood):
    """The voxels of a list of sites; values are read from the flat array when first asked for, and kept.

    Parameters
    ----------
    flat : Tensor of shape (V,)
        The whole array, contiguous. It must not change while this neighbourhood is in use.
    sites : Sites
        Where to look.
    spacing : sequence of float
        mm, one per array axis.
    """

    def __init__(self, flat: Tensor, sites: Sites, spacing: Sequence[float]) -> None:
        self.spacing = tuple(float(h) for h in spacing)
        self.shape = sites.shape
        self.axes = tuple(axis for axis, n in enumerate(self.shape) if n > 1)
        self.sites = sites
        self._flat = flat
        self._kept: dict[tuple[Move, ...], Tensor] = {}

    def at(self, *moves: Move) -> Tensor:
        """Values at the clamped neighbours, shape (N,)."""
        if moves not in self._kept:
            self._kept[moves] = self._flat.index_select(0, self.sites.neighbour(*moves))
        return self._kept[moves]

    def central_of(self, derived: Callable[[Neighbourhood], Tensor], axis: int) -> Tensor:
        """Central difference of a derived array, computed at the two neighbours."""
        ends = []
        for k in (1, -1):
            moved = Sites(self.sites.neighbour((axis, k)), self.shape)
            ends.append(derived(Packed(self._flat, moved, self.spacing)))
        return (ends[0] - ends[1]) / (2 * self.spacing[axis])

    def coordinate(self, axis: int) -> Tensor:
        """Index along `axis`, shape (N,)."""
        return self.sites.coordinate(axis).to(self._flat.dtype)

    def pick(self, field: Tensor) -> Tensor:
        """Values of another array at the sites."""
        return field.reshape(-1).index_select(0, self.sites.index)


def around(u: Tensor, spacing: Sequence[float]) -> Neighbourhood:
    """The dense neighbourhood of an array, differentiable.

    Parameters
    ----------
    u : Tensor of shape (..., z, y, x) or (..., y, x)
        The spatial axes are the last ``len(spacing)``.
    spacing : sequence of float
        mm, one per spatial axis.
    """
    return Dense(u, spacing)


def forward(n: Neighbourhood, axis: int) -> Tensor:
    """D+ u along `axis`, per mm."""
    return (n.at((axis, 1)) - n.centre) / n.spacing[axis]


def backward(n: Neighbourhood, axis: int) -> Tensor:
    """D- u along `axis`, per mm."""
    return (n.centre - n.at((axis, -1))) / n.spacing[axis]


def central(n: Neighbourhood, axis: int) -> Tensor:
    """D0 u along `axis`, per mm."""
    return (n.at((axis, 1)) - n.at((axis, -1))) / (2 * n.spacing[axis])


def second(n: Neighbourhood, axis: int, offset: int = 0) -> Tensor:
    """D2 u along `axis`, per mm^2, at the voxel that lies `offset` further (-1, 0 or 1); u is index-clamped."""
    left, mid, right = (n.at((axis, k)) if k else n.centre for k in (offset - 1, offset, offset + 1))
    return (left - 2 * mid + right) / n.spacing[axis] ** 2


def mixed(n: Neighbourhood, a: int, b: int) -> Tensor:
    """D_ab u = D0_a D0_b u for two different axes, per mm^2."""
    corners = (n.at((a, 1), (b, 1)) - n.at((a, 1), (b, -1))) - (n.at((a, -1), (b, 1)) - n.at((a, -1), (b, -1)))
    return corners / (4 * n.spacing[a] * n.spacing[b])


def minmod(a: Tensor, b: Tensor) -> Tensor:
    """0 where the signs differ, else the one of smaller magnitude."""
    return torch.minimum(a, b).clamp(min=0) + torch.maximum(a, b).clamp(max=0)


def one_sided(n: Neighbourhood, axis: int, order: Literal[1, 2]) -> tuple[Tensor, Tensor]:
    """The pair (D-, D+) of first order, or its second-order ENO form (Osher and Shu, 1991).

    Returns
    -------
    (minus, plus) : tuple of Tensor
        ``minus + (h/2) minmod(s_0, s_-1)`` and ``plus - (h/2) minmod(s_0, s_+1)`` with s_k the second difference at
        the k-th neighbour.
    """
    minus, plus = backward(n, axis), forward(n, axis)
    if order == 1:
        return minus, plus
    half = n.spacing[axis] / 2
    bend = second(n, axis)
    return minus + half * minmod(bend, second(n, axis, -1)), plus - half * minmod(bend, second(n, axis, 1))


def root(squares: Tensor) -> Tensor:
    """Square root with slope 0 at 0, its limit under a small delta; plain autograd gives NaN where u is flat."""
    if not squares.requires_grad:
        return squares.sqrt()
    flat = squares == 0
    return torch.where(flat, torch.zeros_like(squares), torch.where(flat, torch.ones_like(squares), squares).sqrt())


def upwind_norm(
    n: Neighbourhood,
    growing: Tensor,
    gradient: Literal["godunov", "osher_sethian"] = "godunov",
    order: Literal[1, 2] = 1,
) -> Tensor:
    """|Du| seen from upwind: where the front grows from neighbours with larger u, else from those with smaller u.

    Parameters
    ----------
    n : Neighbourhood
        Around u, positive inside.
    growing : Tensor of bool
        Per voxel, whether the speed there makes the inside grow.
    gradient : {"godunov", "osher_sethian"}
        The larger of the two sides per axis, or their sum.
    order : {1, 2}
        Of the one-sided differences.
    """
    total = torch.zeros_like(n.centre)
    towards = torch.where(growing, torch.ones_like(total), -torch.ones_like(total))
    for axis in n.axes:
        minus, plus = one_sided(n, axis, order)
        from_plus = (towards * plus).clamp(min=0).square()
        from_minus = (-towards * minus).clamp(min=0).square()
        total = total + (torch.maximum(from_plus, from_minus) if gradient == "godunov" else from_plus + from_minus)
    return root(total)


def central_norm(n: Neighbourhood, root_epsilon: float = 0.0) -> Tensor:
    """|Du| = sqrt(sum (D0 u)^2 + delta^2) from central differences."""
    total = torch.zeros_like(n.centre)
    for axis in n.axes:
        total = total + central(n, axis).square()
    return root(total + root_epsilon**2)
