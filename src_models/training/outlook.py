"""What a training will take, before it starts: memory from a pass without numbers, time from two small real steps."""

from __future__ import annotations

import time
from dataclasses import dataclass
from math import prod

import torch

from src_models.networks.network import Network
from src_models.networks.zoo import from_config
from src_models.training.plan import Configuration, TrainingPlan

MOST_FLOPS = 3e10
"""Of a step that is timed: about a second on one core. Larger patches are cut, and their time counts by voxels."""
SMALLEST_SIDE = 16
VALIDATION = 0.2 / 3
"""Share of an epoch's steps that its validation patches take: a fifth as many, forward only."""


@dataclass(frozen=True)
class TrainingOutlook:
    """The cost of one training.

    Attributes
    ----------
    memory_bytes : int
        Weights, gradients, optimiser and maps of a step, with the prepared cases.
    steps : int
        Of all epochs.
    step_seconds : float
        On this machine, now.
    """

    memory_bytes: int
    steps: int
    step_seconds: float

    @property
    def seconds(self) -> float:
        """Of the whole training, without preparation and the last validation."""
        return self.steps * self.step_seconds * (1 + VALIDATION)


def outlook(plan: TrainingPlan, configuration: Configuration, *, cases: int, device: str = "cpu") -> TrainingOutlook:
    """Look ahead at a training.

    Parameters
    ----------
    plan, configuration
        What is trained.
    cases : int
        That are held in memory.
    device : str
        Of torch, such as ``"cpu"`` or ``"cuda"``.
    """
    with torch.device("meta"):
        twin = from_config(configuration.network)
    step = twin.forecast(
        configuration.patch,
        mode="train",
        batch=configuration.batch,
        optimiser=plan.optimiser.name,
        device="cpu" if device == "cpu" else "cuda",
    )
    voxels = prod(configuration.median_shape) if configuration.median_shape else prod(configuration.patch)
    held = cases * voxels * (4 * twin.in_channels + 2)
    patch = _timed_patch(twin, configuration.patch)
    one = _seconds(from_config(configuration.network), patch, torch.device(device))
    seconds = one * configuration.batch * prod(configuration.patch) / prod(patch)
    return TrainingOutlook(step.peak_bytes + held, plan.epochs * plan.iterations, seconds)


def _timed_patch(network: Network, patch: tuple[int, ...]) -> tuple[int, ...]:
    """The patch, halved along its longest axis until a step of one sample is short."""
    size = tuple(patch)
    while network.forecast(size, mode="train").flops > MOST_FLOPS and max(size) >= 2 * SMALLEST_SIDE:
        longest = size.index(max(size))
        size = tuple(n // 2 if axis == longest else n for axis, n in enumerate(size))
    return size


def _seconds(network: Network, patch: tuple[int, ...], device: torch.device) -> float:
    """Seconds of a step of one sample; the first of two warms up."""
    network = network.to(device).train()
    x = torch.zeros((1, network.in_channels, *patch), device=device)
    seconds = 0.0
    for _ in range(2):
        began = time.perf_counter()
        loss = network.forward_full(x).logits.square().mean()
        loss.backward()  # type: ignore[no-untyped-call]
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds = time.perf_counter() - began
    return seconds
