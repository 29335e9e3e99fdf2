"""Sums of weighted logits for the part of a sweep that windows still touch: a ring as thick as one window.

Windows come in groups along axis 0. Once no later window touches a plane, its sum is divided by its weight and given
away, and the ring moves on. There is never a buffer of all classes over the whole image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from src_models.errors import InputError

SURE = 20.0
"""Logit of background where no window was computed: its probability is 1 to 1e-8 per other class."""
CHUNK = 32 * 2**20
"""Bytes of the planes that are exported at a time, at least one plane."""


def chunk_planes(channels: int, area: Sequence[int]) -> int:
    """Planes that are exported at a time."""
    return max(1, CHUNK // (channels * math.prod(area) * 4))


class Ring:
    """Accumulators of a sweep along axis 0.

    Parameters
    ----------
    channels : int
        Of the logits, and of what is stitched with them.
    thickness : int
        Planes that a group of windows writes at most.
    area : sequence of int
        Size of a plane.
    background : sequence of float
        Per channel, what a voxel gets that no window was computed for.
    start : int
        First plane of the sweep.
    device : str or torch.device
        Where the sums lie. They are fp32 whatever the precision of the network.
    """

    def __init__(
        self,
        channels: int,
        thickness: int,
        area: Sequence[int],
        background: Sequence[float],
        start: int = 0,
        device: str | torch.device = "cpu",
    ) -> None:
        self._sums = torch.zeros((channels, thickness, *area), device=device)
        self._weights = torch.zeros((thickness, *area), device=device)
        self._background = torch.tensor(background, device=device).view(-1, 1, 1, 1)
        self.start = start

    @property
    def device(self) -> torch.device:
        """Where the sums lie."""
        return self._sums.device

    @property
    def chunk(self) -> int:
        """Planes that are divided and exported at a time."""
        return chunk_planes(self._sums.shape[0], self._sums.shape[2:])

    @property
    def nbytes(self) -> int:
        """Memory of the sums and weights."""
        return (self._sums.numel() + self._weights.numel()) * 4

    def add(self, box: Sequence[slice], values: Tensor, weight: Tensor | None) -> None:
        """Add the result of a window.

        Parameters
        ----------
        box : sequence of slice
            Where it lies on the grid of the sweep.
        values : Tensor of shape (channels, *box)
            Logits.
        weight : Tensor of the size of the box, optional
            How much each voxel counts; 1 without it.
        """
        first = slice(box[0].start - self.start, box[0].stop - self.start)
        behind = first.start
        if behind < 0:
            # a sweep that goes on after a rescue has these planes already
            first, values = slice(0, first.stop), values[:, -behind:]
            weight = None if weight is None else weight[-behind:]
        where = (first, *box[1:])
        target = self._sums[(slice(None), *where)]
        values = values.to(target.device)
        if weight is None:
            target += values
            self._weights[where] += 1.0
        else:
            weight = weight.to(target.device)
            target.addcmul_(values.to(torch.float32), weight)
            self._weights[where] += weight

    def means(self, start: int, stop: int) -> Tensor:
        """Weighted means of planes that no later window touches.

        Parameters
        ----------
        start, stop : int
            On the grid of the sweep.

        Returns
        -------
        Tensor of shape (channels, planes, *area)
            A copy.

        Raises
        ------
        InputError
            Where the network gave values that are not finite.
        """
        part = slice(start - self.start, stop - self.start)
        weights = self._weights[part]
        done = self._sums[:, part] / weights.clamp(min=torch.finfo(torch.float32).tiny)
        if not bool(weights.all()):
            done = torch.where(weights > 0, done, self._background)
        # one sum finds every nan and inf; a label is never taken from such a value
        if not bool(torch.isfinite(done.sum())) and not bool(torch.isfinite(done).all()):
            raise InputError(
                "logits-not-finite",
                "The network gave values that are not numbers",
                "its weights are damaged, or the precision is too low for it",
                "Predict with precision fp32, or use an undamaged model.",
            )
        return done

    def advance(self, start: int) -> None:
        """Forget the planes before `start`; the ring then begins there."""
        count = start - self.start
        left = self._sums.shape[1] - count
        for ring in (self._sums.transpose(0, 1), self._weights):
            # plane by plane in this order nothing is overwritten before it was read
            for plane in range(max(left, 0)):
                ring[plane] = ring[plane + count]
            ring[max(left, 0) :] = 0
        self.start = start
