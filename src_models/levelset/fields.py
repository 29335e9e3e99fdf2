"""The speed images as the equation reads them: at the voxel, or at the closest point of the front.

Reading at the front stops u from feeling a fast region behind a weak edge before the front gets there, keeps both sides
of the front at one speed, and is what a sparse-field solver does.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from src_models.errors import InputError
from src_models.levelset import speed as speed_room
from src_models.levelset.equation import Speeds
from src_models.levelset.parameters import LevelSetParameters
from src_models.levelset.stencils import Neighbourhood, around, central, central_norm


def _power(values: Tensor, exponent: float) -> Tensor:
    """sign(x) |x|^exponent, without rounding for the exponents 0 and 1."""
    if exponent == 1:
        return values
    if exponent == 0:
        return values.sign()
    return values.sign() * values.abs() ** exponent


@dataclass(frozen=True, eq=False)
class SpeedImages:
    """What the image gives to the equation, as arrays of its shape.

    Attributes
    ----------
    primary : ndarray
        g (edge mode) or s (region mode); where it follows the means, zeros until the front is known.
    edge : ndarray or None
        g where a term needs it; in edge mode the primary image itself.
    pull : ndarray or None
        The g whose gradient the convection follows, blurred by `convection_sigma`; None without convection.
    follows : ndarray or None
        The image whose means make s anew in every step (Chan-Vese); None otherwise.
    """

    primary: NDArray[Any]
    edge: NDArray[Any] | None
    pull: NDArray[Any] | None
    follows: NDArray[Any] | None


def speed_images(
    image: NDArray[Any],
    spacing: Sequence[float],
    parameters: LevelSetParameters,
    given: NDArray[Any] | None = None,
) -> SpeedImages:
    """The speed images of a run.

    Parameters
    ----------
    image : ndarray
        Checked grey values (`speed.as_image`).
    spacing : sequence of float
        mm per array axis.
    parameters : LevelSetParameters
        With its value range filled in.
    given : ndarray, optional
        Replaces the computed g or s.
    """
    in_edge_mode = parameters.speed == "edge"
    follows = not in_edge_mode and parameters.region == "chan_vese" and given is None
    if given is not None:
        primary = given
    elif follows:
        primary = np.zeros_like(image)
    else:
        primary = speed_room.speed_image(image, spacing, parameters)
    weighted = parameters.convection_weight > 0
    edge: NDArray[Any] | None = None
    if in_edge_mode:
        edge = primary
    elif parameters.curvature_power > 0 or weighted:
        edge = speed_room.edge_indicator(image, spacing, parameters)
    pull: NDArray[Any] | None = None
    if weighted and edge is not None:
        sigma = parameters.convection_sigma
        pull = speed_room.blurred(edge, spacing, sigma) if sigma > 0 else edge
    return SpeedImages(primary, edge, pull, image if follows else None)


class SpeedFields:
    """S, W and v of a run, ready to be read at any front.

    Parameters
    ----------
    images : SpeedImages
        Of the run.
    spacing : sequence of float
        mm per array axis.
    parameters : LevelSetParameters
        Of the run.
    like : Tensor
        An empty tensor of the type and device to work in.
    """

    def __init__(
        self,
        images: SpeedImages,
        spacing: Sequence[float],
        parameters: LevelSetParameters,
        like: Tensor,
    ) -> None:
        self._spacing = tuple(spacing)
        self._parameters = parameters
        self._like = like
        self._walls: Tensor | None = None
        self._needs_edge = images.edge is not None
        self._follows = images.follows
        self.follows_the_means = images.follows is not None
        columns = [self._tensor(images.primary)]
        if images.edge is not None and images.edge is not images.primary:
            columns.append(self._tensor(images.edge))
        self._slopes_from = len(columns)
        if images.pull is not None:
            columns += self._slopes(self._tensor(images.pull))
        self._table = torch.stack([column.reshape(-1) for column in columns], dim=1).contiguous()

    @property
    def table(self) -> Tensor:
        """Shape (V, columns): the primary image, the edge image where it is another one, D0_d g per axis if wanted."""
        return self._table

    def _tensor(self, array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self._like)

    def _slopes(self, edge: Tensor) -> list[Tensor]:
        """D0_d g per array axis."""
        n = around(edge, self._spacing)
        return [central(n, axis) if axis in n.axes else torch.zeros_like(edge) for axis in range(edge.ndim)]

    def follow_means(self, occupancy: Tensor) -> None:
        """Renew the Chan-Vese speed from the share of each voxel that is inside now."""
        if self._follows is None:
            return
        shares = occupancy.cpu().numpy().astype(self._follows.dtype)
        fresh = self._tensor(speed_room.chan_vese_speed(self._follows, shares, self._spacing, self._parameters))
        self._table[:, 0] = fresh.reshape(-1)
        if self._walls is not None:
            self._table[:, 0][self._walls] = 0

    def set_walls(self, walls: Tensor | None) -> None:
        """Take the speed away on walls (a flat bool tensor): S = W = v = 0 there.

        Walls can only be added to these images; a new `SpeedFields` is made when one is taken away.
        """
        self._walls = walls
        if walls is not None:
            self._table[walls] = 0

    def at_voxels(self, n: Neighbourhood) -> Speeds:
        """The speeds of the voxels themselves, for the time step."""
        columns = [n.pick(self._table[:, k].reshape(n.shape)) for k in range(self._table.shape[1])]
        return self._speeds(n, columns)

    def at_front(self, n: Neighbourhood) -> Speeds:
        """The speeds at the front point closest to each voxel, by multilinear interpolation.

        The point is ``i_d - u D0_d u / ((|Du| + eps) h_d)`` in voxels, clamped to the array; powers come after.
        """
        u = n.centre
        norm = central_norm(n, self._parameters.root_epsilon) + self._parameters.eps
        step = torch.where(norm > 0, u / torch.where(norm > 0, norm, torch.ones_like(norm)), torch.zeros_like(u))
        index = torch.zeros_like(u, dtype=torch.int64)
        corners: list[tuple[int, Tensor]] = []
        strides = [int(torch.Size(n.shape[axis + 1 :]).numel()) for axis in range(len(n.shape))]
        for axis in n.axes:
            size = n.shape[axis]
            # Relative to the voxel, so that its place in the array rounds nothing: a crop has the same bits.
            here = n.coordinate(axis)
            way = (-step * central(n, axis) / n.spacing[axis]).clamp(min=-here, max=(size - 1) - here)
            below = torch.minimum(way.detach().floor(), (size - 2) - here)
            index = index + (here + below).to(torch.int64) * strides[axis]
            corners.append((strides[axis], way - below))
        total: Tensor | None = None
        for choice in itertools.product((0, 1), repeat=len(corners)):
            offset, weight = 0, torch.ones_like(u)
            for upper, (stride, share) in zip(choice, corners, strict=True):
                offset += stride if upper else 0
                weight = weight * (share if upper else 1 - share)
            rows = self._table.index_select(0, (index + offset).reshape(-1)).reshape(*u.shape, self._table.shape[1])
            part = weight.unsqueeze(-1) * rows
            total = part if total is None else total + part
        sampled = total if total is not None else self._table.reshape(*u.shape, self._table.shape[1])
        return self._speeds(n, list(sampled.unbind(-1)))

    def _speeds(self, n: Neighbourhood, columns: list[Tensor]) -> Speeds:
        p = self._parameters
        primary = columns[0]
        edge = primary if p.speed == "edge" else (columns[1] if self._needs_edge else None)
        weight = torch.ones_like(primary) if edge is None else _unsigned_power(edge, p.curvature_power)
        slopes = columns[self._slopes_from :]
        if slopes and edge is not None and p.convection_exponent != 0:
            slopes = [_unsigned_power(edge, p.convection_exponent) * slope for slope in slopes]
        balloon = (
            _unsigned_power(primary, p.balloon_exponent) if p.speed == "edge" else _power(primary, p.balloon_exponent)
        )
        if self._walls is not None:
            free = ~n.pick(self._walls.reshape(n.shape))
            balloon, weight = balloon * free, weight * free
            slopes = [slope * free for slope in slopes]
        return Speeds(balloon, weight, tuple(slopes))


def _unsigned_power(values: Tensor, exponent: float) -> Tensor:
    """g^exponent for g >= 0, exactly 1 for exponent 0."""
    if exponent == 1:
        return values
    if exponent == 0:
        return torch.ones_like(values)
    return values**exponent


def check_speed_image(speed_image: NDArray[Any], shape: Sequence[int], parameters: LevelSetParameters) -> NDArray[Any]:
    """A given speed image as floating point.

    Raises
    ------
    InputError
        Where it has another shape, holds no real finite numbers, or is an edge image with negative values.
    """
    array = np.asarray(speed_image)
    if tuple(array.shape) != tuple(shape):
        raise InputError(
            "speed-grid",
            f"Speed image and image lie on different grids, {tuple(array.shape)} and {tuple(shape)} voxels",
            "",
            "Give a speed image on the image's grid.",
        )
    plain = speed_room.as_image(array, (1.0,) * array.ndim)
    if parameters.speed == "edge" and plain.min() < 0:
        raise InputError(
            "speed-negative",
            f"The speed image falls to {plain.min():g}",
            "an edge image is 0 or more",
            "Use region speed for an image with both signs.",
        )
    return plain
