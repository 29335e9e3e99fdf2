"""Statistics of batch norms, taken anew from images: a network whose kernels were changed has other means than before.

Instance and group norms measure each image when it comes and hold no statistics; they need nothing of this.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from src_models.errors import InputError


def tracked(network: nn.Module) -> list[tuple[str, Any]]:
    """The batch norms of a network that hold a running mean and variance, by name."""
    return [
        (name, module)
        for name, module in network.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None
    ]


def check_norms(network: nn.Module) -> list[tuple[str, Any]]:
    """`tracked`, where there is any.

    Raises
    ------
    InputError
        Where there is none.
    """
    norms = tracked(network)
    if not norms:
        raise InputError(
            "renormalise-none",
            "This network has no batch norm with statistics",
            "instance and group norms measure each image anew",
            "Leave --renormalise out.",
        )
    return norms


@contextmanager
def restored(network: nn.Module) -> Iterator[nn.Module]:
    """Inside the ``with`` block statistics may change; afterwards they are what they were, bit by bit."""
    kept = [
        (buffer, buffer.detach().clone())
        for _, module in tracked(network)
        for buffer in (module.running_mean, module.running_var, module.num_batches_tracked)
        if buffer is not None
    ]
    try:
        yield network
    finally:
        with torch.no_grad():
            for buffer, before in kept:
                buffer.copy_(before)


def renormalise(network: nn.Module, passes: Iterable[Callable[[], object]]) -> Generator[None, None, int]:
    """Give every batch norm the mean and variance of what it meets in these passes.

    In a pass each norm uses the statistics of its own batch, as in training; what it keeps in the end are mean and
    variance over all values of all passes.

    Parameters
    ----------
    network : Module
        Its statistics change, nothing else does; see `restored`.
    passes : iterable of callable
        Each runs the network on something.

    Yields
    ------
    None
        After each pass.

    Returns
    -------
    int
        How many norms were measured.

    Raises
    ------
    InputError
        Where the network has no norm that holds statistics.
    """
    norms = check_norms(network)
    sums = {name: _Sums() for name, _ in norms}
    held = [(module, module.training, module.track_running_stats) for _, module in norms]
    handles = [module.register_forward_pre_hook(sums[name]) for name, module in norms]
    try:
        for module, _, _ in held:
            # in training and untracked, a norm takes the statistics of its batch and keeps none
            module.train()
            module.track_running_stats = False
        for one in passes:
            one()
            yield
    finally:
        for handle in handles:
            handle.remove()
        for module, training, tracking in held:
            module.train(training)
            module.track_running_stats = tracking
    measured = 0
    with torch.no_grad():
        for name, module in norms:
            if sums[name].count > 1:
                mean, variance = sums[name].statistics()
                module.running_mean.copy_(mean)
                module.running_var.copy_(variance)
                measured += 1
    return measured


class _Sums:
    """Count, sum and squared deviations of each channel, as a hook before a norm, in float64.

    Deviations are joined batch by batch (Chan, Golub, LeVeque 1979): sums of squares would lose the digits.
    """

    def __init__(self) -> None:
        self.count = 0
        self._mean: Tensor | None = None
        self._square: Tensor | None = None

    def __call__(self, _module: nn.Module, inputs: tuple[Any, ...]) -> None:
        values = inputs[0].detach().double().transpose(0, 1).flatten(1)
        count, mean = values.shape[1], values.mean(1)
        square = (values - mean[:, None]).square().sum(1)
        if self._mean is None or self._square is None:
            self.count, self._mean, self._square = count, mean, square
            return
        total, apart = self.count + count, mean - self._mean
        self._square = self._square + square + apart.square() * (self.count * count / total)
        self._mean = self._mean + apart * (count / total)
        self.count = total

    def statistics(self) -> tuple[Tensor, Tensor]:
        """Mean, and variance as torch keeps it (divided by n - 1)."""
        assert self._mean is not None
        assert self._square is not None
        return self._mean, self._square / (self.count - 1)
