"""Logits of a network's grid to labels of the image's grid, a few planes at a time.

Each plane is brought to the image's grid class by class and reduced at once by a running maximum, so that neither grid
ever holds all classes. A larger value must be strictly larger to win: ties go to the lower class, as in argmax.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from src_models.weights.card import Label

if TYPE_CHECKING:
    from src_models.inference.fused import FusedPlanes

WORTH_COMPILING = 2_000_000
"""Voxels times classes from which on the compiled pass is used: below, starting its compiler takes longer."""


@dataclass(frozen=True)
class Classes:
    """What the channels of the logits mean.

    Attributes
    ----------
    labels : tuple of Label
        As in the card.
    head : str
        ``"softmax"`` or ``"sigmoid"``.
    extras : int
        Channels behind the logits that are only carried along: disagreement, attention maps.
    """

    labels: tuple[Label, ...]
    head: str
    extras: int = 0

    @property
    def count(self) -> int:
        """Channels of the logits."""
        return len(self.labels)

    @property
    def background(self) -> int:
        """Channel of the background, of a softmax."""
        return next((label.channel for label in self.labels if label.value == 0), 0)

    @property
    def values(self) -> list[int]:
        """Number in the label image, by channel."""
        by_channel = sorted(self.labels, key=lambda label: label.channel)
        return [label.value for label in by_channel]

    @property
    def painted(self) -> list[tuple[int, int]]:
        """Channel and label number of each region, in the order in which they are painted over each other."""
        return [(label.channel, label.value) for label in self.labels]

    @property
    def dtype(self) -> np.dtype[Any]:
        """The smallest type of label images that holds every number."""
        return np.min_scalar_type(max(self.values, default=0))


class Planes(Protocol):
    """What labels are written to: an array, or something that passes planes on."""

    @property
    def size(self) -> int:
        """Voxels."""
        ...

    def __setitem__(self, plane: Any, values: Any) -> None:
        """Take the labels of a plane."""
        ...


@dataclass
class Targets:
    """Arrays of the image's grid that are filled; each axis order is that of the sweep.

    Attributes
    ----------
    labels : ndarray of shape (planes, rows, columns), or what takes its planes in order
        Of a type that holds the labels.
    probabilities : ndarray of shape (K, planes, rows, columns) or None
        float16.
    entropy : ndarray or None
        float16.
    extras : list of ndarray
        One per extra channel, float16.
    """

    labels: Planes
    probabilities: NDArray[np.float16] | None = None
    entropy: NDArray[np.float16] | None = None
    extras: list[NDArray[np.float16]] = field(default_factory=list)


@dataclass(frozen=True)
class AxisMap:
    """Where the voxels of the image lie between those of the network, along one axis.

    Attributes
    ----------
    low : ndarray of int
        Voxel of the network at or before each voxel of the image.
    share : ndarray of float32
        How much the next one counts.
    coarse : int
        Voxels of the network.
    """

    low: NDArray[np.int64]
    share: NDArray[np.float32]
    coarse: int

    @classmethod
    def between(cls, coarse: int, fine: int, *, nearest: bool = False) -> AxisMap:
        """Linear (or nearest) interpolation with half-pixel centres; the edge voxel goes on beyond the edge."""
        place = np.clip((np.arange(fine) + 0.5) * (coarse / fine) - 0.5, 0, coarse - 1)
        if nearest:
            return cls(np.floor(place + 0.5).astype(np.int64).clip(0, coarse - 1), np.zeros(fine, np.float32), coarse)
        low = np.floor(place).astype(np.int64)
        return cls(low, (place - low).astype(np.float32), coarse)

    @property
    def fine(self) -> int:
        """Voxels of the image."""
        return len(self.low)

    @property
    def high(self) -> NDArray[np.int64]:
        """The voxel behind `low`; itself where it does not count."""
        return np.minimum(self.low + (self.share > 0), self.coarse - 1)

    @property
    def identity(self) -> bool:
        """Whether the voxels are the same."""
        return self.fine == self.coarse and not self.share.any()

    @property
    def triple(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
        """Low and high voxel, and the share of the high one."""
        return self.low, self.high, self.share

    @property
    def linear(self) -> bool:
        """Whether torch's own linear interpolation gives the same."""
        return bool(self.share.any())


class Export:
    """Takes planes of finished logits in order and fills the targets.

    Parameters
    ----------
    maps : sequence of AxisMap
        One per axis of the sweep.
    classes : Classes
        What the channels mean.
    targets : Targets
        What to fill.
    """

    def __init__(self, maps: Sequence[AxisMap], classes: Classes, targets: Targets) -> None:
        self._maps, self._classes, self._targets = maps, classes, targets
        only_labels = targets.probabilities is None and targets.entropy is None and classes.extras == 0
        self._fused: FusedPlanes | None = None
        if only_labels and classes.head == "softmax" and targets.labels.size * classes.count >= WORTH_COMPILING:
            from src_models.inference.fused import FusedPlanes

            self._fused = FusedPlanes(maps[1].triple, maps[2].triple, classes.values, torch.get_num_threads())
        self._kept: Tensor | None = None
        self._first = 0
        self._found = False
        self.done = 0
        """Planes of the image that are finished."""
        self.largest = 0.0
        """Largest probability of any class but background."""

    @property
    def done_coarse(self) -> int:
        """First plane of the network's grid that is still needed: where a new sweep has to begin."""
        along = self._maps[0]
        return int(along.low[self.done]) if self.done < along.fine else along.coarse

    def restart(self) -> None:
        """Forget planes of which a new sweep will give all that is needed."""
        self._kept, self._first = None, self.done_coarse

    def add(self, planes: Tensor) -> tuple[int, int]:
        """Take the next finished planes.

        Parameters
        ----------
        planes : Tensor of shape (channels, n, rows, columns)
            Logits, then extras.

        Returns
        -------
        (int, int)
            First and last + 1 of the planes of the image that were finished by them.
        """
        self._look(planes)
        held = planes if self._kept is None else torch.cat([self._kept, planes], 1)
        along, began = self._maps[0], self.done
        known = self._first + held.shape[1]
        stop = int(np.searchsorted(along.high, known))
        if stop > began:
            if self._fused is not None and held.device.type == "cpu":
                self._reduce_fused(held.numpy(), began, stop)
            else:
                for plane, values in self._interpolated(held, began, stop):
                    self._reduce(plane, values)
        self.done = stop
        keep = self.done_coarse
        self._kept = held[:, keep - self._first :].clone() if keep < known else None
        self._first = min(keep, known)
        return began, stop

    def _look(self, planes: Tensor) -> None:
        """Note the largest foreground probability, for the sentence about an empty result."""
        if self._found or planes.shape[1] == 0:
            return
        logits = planes[: self._classes.count]
        if self._classes.head == "softmax":
            logits = logits.log_softmax(0)
            logits[self._classes.background] = -math.inf
            self.largest = max(self.largest, float(logits.max().exp()))
        else:
            self.largest = max(self.largest, float(torch.sigmoid(logits.max())))
        # above one half it has won somewhere: the sentence is not needed, nor the work
        self._found = self.largest > 0.5

    def _interpolated(self, held: Tensor, began: int, stop: int) -> Iterator[tuple[int, Tensor]]:
        """Planes of the image with all channels, from those of the network."""
        along = self._maps[0]
        denser = along.fine >= along.coarse
        cache: dict[int, Tensor] = {}

        def plane(index: int) -> Tensor:
            if not denser:
                return held[:, index - self._first]
            if index not in cache:
                for old in [k for k in cache if k < index - 1]:
                    del cache[old]
                cache[index] = self._in_plane(held[:, index - self._first])
            return cache[index]

        for fine in range(began, stop):
            low, high, share = int(along.low[fine]), int(along.high[fine]), float(along.share[fine])
            values = plane(low)
            if high != low:
                values = torch.lerp(values, plane(high), share)
            yield fine, values if denser else self._in_plane(values)

    def _reduce_fused(self, held: NDArray[np.float32], began: int, stop: int) -> None:
        """Labels alone on a processor: interpolation and maximum in one pass."""
        assert self._fused is not None
        along, fused = self._maps[0], self._fused
        denser = along.fine >= along.coarse
        cache: dict[int, NDArray[np.float32]] = {}

        def widened(index: int) -> NDArray[np.float32]:
            if index not in cache:
                for old in [k for k in cache if k < index - 1]:
                    del cache[old]
                cache[index] = fused.widened(held[:, index - self._first])
            return cache[index]

        for fine in range(began, stop):
            low, high, share = int(along.low[fine]), int(along.high[fine]), along.share[fine]
            if denser or high == low:
                front, back = widened(low), widened(high)
                self._targets.labels[fine] = fused.labels(front, back, share)
            else:
                a, b = held[:, low - self._first], held[:, high - self._first]
                between = fused.widened(a + share * (b - a))
                self._targets.labels[fine] = fused.labels(between, between, 0.0)

    def _in_plane(self, values: Tensor) -> Tensor:
        rows, columns = self._maps[1], self._maps[2]
        if rows.identity and columns.identity:
            return values
        if rows.linear and columns.linear:
            size = (rows.fine, columns.fine)
            return functional.interpolate(values[None], size=size, mode="bilinear", align_corners=False)[0]
        for axis, one in ((1, rows), (2, columns)):
            if not one.identity:
                low = values.index_select(axis, torch.from_numpy(one.low).to(values.device))
                high = values.index_select(axis, torch.from_numpy(one.high).to(values.device))
                share = torch.from_numpy(one.share).to(values.device).view(-1, *(1,) * (2 - axis))
                values = torch.lerp(low, high, share)
        return values

    def _reduce(self, plane: int, values: Tensor) -> None:
        count, targets = self._classes.count, self._targets
        labels = self._largest(values) if self._classes.head == "softmax" else self._regions(values)
        targets.labels[plane] = labels.cpu().numpy()
        if targets.probabilities is not None or targets.entropy is not None:
            self._probabilities(plane, values[:count])
        for channel, extra in enumerate(targets.extras, count):
            extra[plane] = values[channel].cpu().numpy()

    def _largest(self, values: Tensor) -> Tensor:
        """Running maximum over the classes of one plane."""
        numbers = self._classes.values
        best = values[0].clone()
        labels = torch.full(best.shape, numbers[0], dtype=torch.int32, device=values.device)
        for channel in range(1, self._classes.count):
            larger = values[channel] > best
            labels.masked_fill_(larger, numbers[channel])
            torch.maximum(best, values[channel], out=best)
        return labels

    def _regions(self, values: Tensor) -> Tensor:
        labels = torch.zeros(values.shape[1:], dtype=torch.int32, device=values.device)
        for channel, number in self._classes.painted:
            labels.masked_fill_(values[channel] > 0, number)
        return labels

    def _probabilities(self, plane: int, logits: Tensor) -> None:
        targets = self._targets
        if self._classes.head == "softmax":
            logs = torch.log_softmax(logits, 0)
            shares = logs.exp()
            entropy = -(shares * logs).sum(0) / math.log(max(2, self._classes.count))
        else:
            shares = torch.sigmoid(logits)
            unsure = functional.binary_cross_entropy_with_logits(logits, shares, reduction="none")
            entropy = unsure.mean(0) / math.log(2)
        if targets.probabilities is not None:
            targets.probabilities[:, plane] = shares.cpu().numpy()
        if targets.entropy is not None:
            targets.entropy[plane] = entropy.clamp(0, 1).cpu().numpy()
