"""How weights are changed: the optimisers of a plan, every number of them stated, and the learning rate over epochs.

Adaptive methods (Adam, AdamW, Adadelta) come to a good result soon; where patients that were not seen lag behind those
that were, SGD with momentum is worth its longer way.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from src_models.training.plan import Optimiser


def build_optimiser(parameters: Iterable[nn.Parameter], plan: Optimiser) -> torch.optim.Optimizer:
    """The optimiser of a plan; SGD is Nesterov's wherever it has momentum."""
    learned = [p for p in parameters if p.requires_grad]
    if plan.name == "sgd":
        return torch.optim.SGD(
            learned,
            lr=plan.rate,
            momentum=plan.momentum,
            weight_decay=plan.weight_decay,
            nesterov=plan.momentum > 0,
        )
    if plan.name == "adam":
        return torch.optim.Adam(learned, lr=plan.rate, weight_decay=plan.weight_decay)
    if plan.name == "adamw":
        return torch.optim.AdamW(learned, lr=plan.rate, weight_decay=plan.weight_decay)
    return torch.optim.Adadelta(learned, lr=plan.rate, rho=plan.rho, eps=plan.epsilon, weight_decay=plan.weight_decay)


PAPER = Optimiser(name="adadelta", rate=1.0, rho=0.95, epsilon=1e-7, weight_decay=0.0, schedule="constant", clip=None)
"""Adadelta with the numbers that Keras had in the years of the paper; torch's own are rho 0.9 and epsilon 1e-6."""


UNROLLED = PAPER.model_copy(update={"schedule": "cosine", "clip": 1.0})
"""For the level set network: the same, with a rate that ends at 0, and gradients that cannot throw a kernel far off:
through many steps of one kernel they grow large at times."""


def recommended(name: str) -> Optimiser:
    """Numbers that are a good start for an optimiser, by its name in `Optimiser.name`."""
    return {
        "sgd": Optimiser(),
        "adam": Optimiser(name="adam", rate=1e-3, weight_decay=0.0),
        "adamw": Optimiser(name="adamw", rate=1e-3, weight_decay=1e-2),
        "adadelta": PAPER,
    }[name]


def learning_rate(plan: Optimiser, epoch: int, epochs: int) -> float:
    """The rate of an epoch, counted from 0: rate (1 - epoch / epochs)^0.9 for ``"poly"``."""
    done = epoch / epochs
    if plan.schedule == "poly":
        return float(plan.rate * (1 - done) ** 0.9)
    if plan.schedule == "cosine":
        return plan.rate * 0.5 * (1 + math.cos(math.pi * done))
    return plan.rate


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Give all parameters one learning rate."""
    for group in optimiser.param_groups:
        group["lr"] = rate
