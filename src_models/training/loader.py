"""Batches of samples, made ahead by threads; what they hold does not depend on how many there are.

Threads suffice: almost all of the work on a sample happens in NumPy, SciPy and torch, which let other threads run.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from src_models.training.label_targets import Targets
from src_models.training.sampling import Sample, Sampler

AHEAD = 2
"""Batches that are made before they are asked for."""


@dataclass(frozen=True, eq=False)
class Batch:
    """The samples of one step that belong to this process.

    Attributes
    ----------
    step : int
        Of the training.
    image : ndarray of float32, shape (B, C, *patch)
        Inputs.
    target : ndarray of int8
        See `Targets`.
    labels : ndarray of int16, shape (B, *patch)
        Label values.
    """

    step: int
    image: NDArray[np.float32]
    target: NDArray[np.int8]
    labels: NDArray[np.int16]


def sample_numbers(step: int, batch: int, rank: int = 0, world: int = 1) -> range:
    """The samples of a step that one process of several takes: every world-th."""
    return range(step * batch + rank, (step + 1) * batch, world)


def batches(
    sampler: Sampler, targets: Targets, steps: range, *, workers: int = 1, rank: int = 0, world: int = 1
) -> Iterator[Batch]:
    """The batches of some steps, in order.

    Parameters
    ----------
    sampler : Sampler
        Makes samples.
    targets : Targets
        Makes what they are compared with.
    steps : range
        Which steps.
    workers : int
        Threads; 0 makes each batch when it is asked for.
    rank, world : int
        This process among several.
    """
    if workers < 1:
        for step in steps:
            numbers = sample_numbers(step, sampler.batch, rank, world)
            yield _joined(step, [sampler.sample(k) for k in numbers], targets)
        return
    pool = ThreadPoolExecutor(workers, "samples")
    waiting: deque[tuple[int, list[Future[Sample]]]] = deque()
    ahead = iter(steps)
    try:
        while True:
            while len(waiting) < AHEAD and (coming := next(ahead, None)) is not None:
                numbers = sample_numbers(coming, sampler.batch, rank, world)
                waiting.append((coming, [pool.submit(sampler.sample, k) for k in numbers]))
            if not waiting:
                return
            step, parts = waiting.popleft()
            yield _joined(step, [part.result() for part in parts], targets)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _joined(step: int, samples: list[Sample], targets: Targets) -> Batch:
    labels = np.stack([sample.labels for sample in samples])
    return Batch(step, np.stack([sample.image for sample in samples]), targets(labels), labels)
