"""Losses of a segmentation network: Dice, cross entropy, both together, and the Dice of the paper.

The Dice term of a class is D = (2 sum p y + s) / (sum p + sum y + s), or with squares p^2 and y^2 below the line; the
loss is 1 - mean D over the foreground. Every loss is a function of sums over voxels, so that several processes get the
loss of the whole batch by adding their sums: `Add` does that, and is the identity where there is one process.

References: Milletari et al., V-Net, 3DV 2016 (squares); Isensee et al., nnU-Net, Nature Methods 18, 2021 (Dice and
cross entropy, deep supervision).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from src_models.networks.network import NetOutput

LossName = Literal["dice_ce", "dice", "ce", "dice-paper"]
Add = Callable[[Tensor], Tensor]
"""A sum over the voxels of this process made the sum over those of all; its gradient is that of this process."""

SMOOTH = 1e-5
IGNORED = -1
"""In a target: a voxel that counts nowhere."""
LOWEST_WEIGHT_DDP = 1e-6
"""A head with weight 0 has no gradient, and processes that exchange gradients wait for one."""


def alone(x: Tensor) -> Tensor:
    """The sum of one process is that of all."""
    return x


@dataclass(frozen=True)
class SegmentationLoss:
    """The loss of a training.

    Attributes
    ----------
    name : str
        ``"dice_ce"``, ``"dice"``, ``"ce"`` or ``"dice-paper"``.
    head : str
        ``"softmax"`` or ``"sigmoid"``.
    batch_dice : bool
        Dice over the whole batch in place of each sample by itself.
    squared : bool
        Squares below the line of the Dice term.
    """

    name: LossName = "dice_ce"
    head: Literal["softmax", "sigmoid"] = "softmax"
    batch_dice: bool = False
    squared: bool = False

    def __call__(self, logits: Tensor, target: Tensor, add: Add = alone) -> Tensor:
        """The loss, a number.

        Parameters
        ----------
        logits : Tensor of shape (B, K, *spatial)
            Of the network.
        target : Tensor of int
            Softmax: channel of each voxel, shape (B, *spatial). Sigmoid: 0 or 1 per region, shape (B, K, *spatial).
            `IGNORED` marks voxels that do not count.
        add : callable
            Adds sums of several processes.
        """
        logits = logits.float()
        if self.name == "ce":
            return cross_entropy(logits, target, self.head, add)
        if self.name == "dice_ce":
            entropy = cross_entropy(logits, target, self.head, add)
            return entropy + self._dice(logits, target, add)
        return self._dice(logits, target, add)

    def _dice(self, logits: Tensor, target: Tensor, add: Add) -> Tensor:
        paper = self.name == "dice-paper"
        p, y, counts = foreground(logits, target, self.head)
        parts = dice_sums(p, y, counts, squared=self.squared or paper)
        return paper_dice_loss(parts, add) if paper else dice_loss(parts, add, batch=self.batch_dice)


@dataclass(frozen=True)
class DiceSums:
    """Sums per sample and class, each of shape (B, K): of p y, of p (or p^2), of y."""

    both: Tensor
    predicted: Tensor
    true: Tensor


def foreground(logits: Tensor, target: Tensor, head: str) -> tuple[Tensor, Tensor, Tensor | None]:
    """Probabilities and reference of the foreground channels, and where they count (None: everywhere)."""
    known = target >= 0
    counts = None if bool(known.all()) else known
    if head == "sigmoid":
        return torch.sigmoid(logits), target.clamp_min(0).to(logits.dtype), counts
    p = torch.softmax(logits, 1)[:, 1:]
    channels = torch.arange(1, logits.shape[1], device=logits.device)
    y = (target[:, None] == channels.view(1, -1, *(1,) * (target.ndim - 1))).to(logits.dtype)
    return p, y, None if counts is None else counts[:, None]


def dice_sums(p: Tensor, y: Tensor, counts: Tensor | None = None, *, squared: bool = False) -> DiceSums:
    """What a Dice is made of.

    Parameters
    ----------
    p, y : Tensor of shape (B, K, *spatial)
        Probability and reference (0 or 1).
    counts : Tensor of bool, optional
        Voxels that count; broadcasts over K.
    squared : bool
        Sum p^2 in place of p (y^2 is y).
    """
    if counts is not None:
        p, y = p * counts, y * counts
    axes = tuple(range(2, p.ndim))
    return DiceSums((p * y).sum(axes), (p * p if squared else p).sum(axes), y.sum(axes))


def dice_loss(sums: DiceSums, add: Add = alone, *, batch: bool = False) -> Tensor:
    """1 - mean D over classes, and over samples unless `batch`: then D is one of the whole batch."""
    if batch:
        both, predicted, true = add(torch.stack([sums.both.sum(0), sums.predicted.sum(0), sums.true.sum(0)]))
        score: Tensor = ((2 * both + SMOOTH) / (predicted + true + SMOOTH)).mean()
        return 1 - score
    d = (2 * sums.both + SMOOTH) / (sums.predicted + sums.true + SMOOTH)
    return 1 - _mean(d.sum(), d.numel(), add)


def paper_dice_loss(sums: DiceSums, add: Add = alone) -> Tensor:
    """1 - 2 sum p y / (sum p^2 + sum y^2 + s) per slice and class, averaged: 1 where both masks are empty."""
    loss = 1 - 2 * sums.both / (sums.predicted + sums.true + SMOOTH)
    return _mean(loss.sum(), loss.numel(), add)


def cross_entropy(logits: Tensor, target: Tensor, head: str, add: Add = alone) -> Tensor:
    """Mean over the voxels that count; binary per region under a sigmoid head."""
    if head == "softmax":
        total = functional.cross_entropy(logits, target.long(), ignore_index=IGNORED, reduction="sum")
        return _mean(total, target.numel() if _all_known(target) else (target != IGNORED).sum(), add)
    known = (target != IGNORED).to(logits.dtype)
    each = functional.binary_cross_entropy_with_logits(logits, target.clamp_min(0).to(logits.dtype), reduction="none")
    return _mean((each * known).sum(), known.sum(), add)


def _all_known(target: Tensor) -> bool:
    return bool((target >= 0).all())


def _mean(total: Tensor, count: Tensor | int, add: Add) -> Tensor:
    pair = add(torch.stack([total, torch.as_tensor(count, dtype=total.dtype, device=total.device)]))
    return pair[0] / pair[1].clamp_min(1)


def deep_supervision_weights(outputs: int, *, distributed: bool = False) -> tuple[float, ...]:
    """Weights of the outputs of a decoder, finest first: 1/2^i, the coarsest 0, of sum 1.

    Parameters
    ----------
    outputs : int
        How many there are, with the full resolution.
    distributed : bool
        Several processes exchange gradients: the coarsest gets 1e-6, since a part without gradient stops them.
    """
    if outputs == 1:
        return (1.0,)
    raw = [0.5**i for i in range(outputs)]
    raw[-1] = LOWEST_WEIGHT_DDP if distributed else 0.0
    return tuple(w / sum(raw) for w in raw)


def supervised_loss(
    loss: SegmentationLoss, output: NetOutput, target: Tensor, weights: Sequence[float] | None, add: Add = alone
) -> Tensor:
    """The loss over all outputs of a decoder.

    Parameters
    ----------
    loss : SegmentationLoss
        Of one output.
    output : NetOutput
        Of the network in training.
    target : Tensor
        Of the finest output; see `SegmentationLoss`.
    weights : sequence of float or None
        Of `deep_supervision_weights`; None takes the finest output alone.
    add : callable
        Adds sums of several processes.
    """
    if weights is None or not output.aux:
        return loss(output.logits, target, add)
    total: Tensor = weights[0] * loss(output.logits, target, add)
    # also that of weight 0: its head then decays like all others, as it does where several processes train
    for weight, logits in zip(weights[1:], output.aux, strict=True):
        total = total + weight * loss(logits, coarser(target, logits.shape[2:]), add)
    return total


def coarser(target: Tensor, size: Sequence[int]) -> Tensor:
    """The reference at the size of a coarser output: of each block of voxels the one in its middle."""
    for axis, n in enumerate(size):
        dim = target.ndim - len(size) + axis
        full = target.shape[dim]
        stride = -(-full // n)
        if stride > 1:
            places = torch.arange(n, device=target.device) * stride + stride // 2
            target = target.index_select(dim, places.clamp_max(full - 1))
    return target
