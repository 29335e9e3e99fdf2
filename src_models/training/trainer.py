"""One training under way: its network, its optimiser and where it stands. `loop.train` drives it step by step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from src_models.errors import FileError, InputError
from src_models.networks.network import NetOutput, Network
from src_models.networks.zoo import from_config
from src_models.record import versions
from src_models.training.checkpoint import (
    BEST,
    CURRENT,
    PREVIOUS,
    Checkpoint,
    also_named,
    load_checkpoint,
    save_checkpoint,
)
from src_models.training.devices import Devices
from src_models.training.loader import Batch
from src_models.training.losses import SegmentationLoss, deep_supervision_weights, supervised_loss
from src_models.training.optimisers import build_optimiser, learning_rate, set_rate
from src_models.training.plan import Configuration, TrainingPlan
from src_models.training.plan_file import departure, plan_hash
from src_models.training.run_folder import PLAN
from src_models.training.sampling import random_stream
from src_models.weights.card import StageModel


def fresh_network(configuration: Configuration, seed: int) -> Network:
    """A network with weights that depend on the seed alone; the caller's random numbers stay as they were."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_torch_seed(seed, 0))
        return from_config(configuration.network)


def _torch_seed(seed: int, number: int) -> int:
    return int(random_stream(seed, "start", number).integers(2**63))


@dataclass
class Position:
    """Where a training stands, besides weights and optimiser; plain values, kept in the checkpoint.

    Attributes
    ----------
    step : int
        Steps done.
    history : list of dict
        One row per epoch done; the log.
    loss_sum, loss_count : float, int
        Of the epoch under way.
    ema : float or None
        Running mean of the Dice of validation patches.
    best : float or None
        Highest of these.
    """

    step: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    loss_sum: float = 0.0
    loss_count: int = 0
    ema: float | None = None
    best: float | None = None


@dataclass(eq=False)
class Trainer:
    """A training under way.

    Attributes
    ----------
    plan, configuration
        What is trained.
    devices : Devices
        Where.
    network : Network
        Its weights.
    seed : int
        Of everything random.
    identity : mapping
        What a checkpoint must agree in: fold, configuration, cases; of a cascade also its first stage.
    first_stage : tuple of StageModel
        Of a cascade, for the card.
    """

    plan: TrainingPlan
    configuration: Configuration
    devices: Devices
    network: Network
    seed: int
    identity: Mapping[str, Any]
    position: Position = field(default_factory=Position)
    first_stage: tuple[StageModel, ...] = ()

    def __post_init__(self) -> None:
        plan = self.plan
        self.network.train()
        self.optimiser = build_optimiser(self.network.parameters(), plan.optimiser)
        self.module, self.wrapped = self.devices.setup(self.network, self.optimiser)
        self.loss = SegmentationLoss(plan.loss, plan.head, batch_dice=self.configuration.batch_dice)
        self._pending: list[Tensor] = []

    @property
    def epoch(self) -> int:
        """Epochs done, with their validation."""
        return len(self.position.history)

    @property
    def steps(self) -> int:
        """Of the whole training."""
        return self.plan.epochs * self.plan.iterations

    @property
    def at_end_of_epoch(self) -> bool:
        """All steps of an epoch are done and its validation is not."""
        return self.position.step == (self.epoch + 1) * self.plan.iterations

    def advance(self, batch: Batch) -> Tensor:
        """One step; gives its loss, still on the device."""
        plan, devices = self.plan, self.devices
        step = self.position.step
        if step % plan.iterations == 0 or not self.position.loss_count:
            set_rate(self.optimiser, learning_rate(plan.optimiser, step // plan.iterations, plan.epochs))
        self.network.train()
        self.wrapped.zero_grad(set_to_none=True)
        # dropout repeats when a training goes on; the caller's random numbers stay as they were
        with torch.random.fork_rng(devices=[devices.device] if devices.device.type == "cuda" else []):
            torch.manual_seed(_torch_seed(self.seed, step + 1))
            output = self._outputs(batch)
        weights = None
        if plan.deep_supervision and output.aux:
            weights = deep_supervision_weights(1 + len(output.aux), distributed=devices.world > 1)
        target = torch.from_numpy(batch.target).to(devices.device)
        loss = supervised_loss(self.loss, output, target, weights, devices.add)
        devices.backward(loss)
        if plan.optimiser.clip is not None:
            devices.clip(self.module, self.wrapped, plan.optimiser.clip)
        self.wrapped.step()
        self.position.step = step + 1
        self._pending.append(loss.detach())
        return self._pending[-1]

    def read_losses(self) -> float:
        """Fetch the losses that are still on the device; gives the last one.

        Raises
        ------
        InputError
            Where one is not a number.
        """
        last = float("nan")
        for offset, value in enumerate(self._pending):
            last = float(value)
            if not np.isfinite(last):
                step = self.position.step - len(self._pending) + offset + 1
                raise InputError(
                    "training-diverged",
                    f"The training diverged: the loss of step {step} is not a number",
                    "the weights grew beyond all bounds" if step > 1 else "",
                    "Lower --lr, or train in fp32.",
                )
            self.position.loss_sum += last
            self.position.loss_count += 1
        self._pending.clear()
        return last

    @torch.no_grad()
    def count(self, batch: Batch) -> Tensor:
        """Voxels per class of a batch: predicted rightly, predicted, true; shape (3, K), summed over processes."""
        self.network.eval()
        logits = self._outputs(batch).logits
        target = torch.from_numpy(batch.target).to(logits.device)
        found = decided(logits, self.plan.head)
        return self.devices.add(class_counts(found, target, self.plan.head, logits.shape[1]))

    def _outputs(self, batch: Batch) -> NetOutput:
        image = torch.from_numpy(batch.image).to(self.devices.device, non_blocking=True)
        logits, *aux = self.module(image)
        return NetOutput(logits, tuple(aux))

    def finish_epoch(self, counts: Tensor | None, seconds: float) -> dict[str, Any]:
        """Close an epoch with the counts of its validation patches; gives its row."""
        place = self.position
        row: dict[str, Any] = {
            "epoch": self.epoch + 1,
            "step": place.step,
            "loss": place.loss_sum / max(place.loss_count, 1),
            "rate": self.optimiser.param_groups[0]["lr"],
        }
        if counts is not None:
            right, predicted, true = counts.double().tolist()
            dice = [2 * r / (p + t) if p + t else 1.0 for r, p, t in zip(right, predicted, true, strict=True)]
            mean = sum(dice) / len(dice)
            place.ema = mean if place.ema is None else self.plan.ema * place.ema + (1 - self.plan.ema) * mean
            row |= {"dice": mean, "ema": place.ema}
            names = self.class_names()
            row |= {f"dice_{name}": value for name, value in zip(names, dice, strict=True)}
        row |= {name: round(value, 6) for name, value in self.network.watched().items()}
        place.history.append(row | {"seconds": round(seconds, 3)})
        place.loss_sum, place.loss_count = 0.0, 0
        return place.history[-1]

    def class_names(self) -> list[str]:
        """Foreground classes or regions in the order of their channels."""
        labels = sorted(self.plan.labels, key=lambda label: label.channel)
        return [label.name for label in labels if self.plan.head == "sigmoid" or label.channel > 0]

    def is_best(self) -> bool:
        """Whether the running mean has never been as high; remembers it."""
        place = self.position
        if place.ema is None or (place.best is not None and place.ema <= place.best):
            return False
        place.best = place.ema
        return True

    def save(self, out: Path) -> None:
        """Write where the training stands."""
        save_checkpoint(out / CURRENT, Checkpoint.of(self.network, self.optimiser, self._state()))

    def save_best(self, out: Path) -> None:
        """Write the weights alone, as the best so far."""
        save_checkpoint(out / BEST, Checkpoint.of(self.network, None, self._state()), keep_previous=False)

    def _state(self) -> dict[str, Any]:
        return {
            "position": dict(vars(self.position)),
            "seed": self.seed,
            "plan_hash": plan_hash(self.plan),
            "identity": dict(self.identity),
            "scaler": self.devices.scaler_state,
            "versions": versions("torch", "safetensors", "lightning-fabric"),
        }

    def go_on(self, out: Path) -> str:
        """Go on from the checkpoint of a folder, or from the one before it where it is damaged or gone.

        Returns
        -------
        str
            What had to be done for it, as a sentence; empty where the training just goes on or begins.

        Raises
        ------
        FileError
            Where they belong to another training, or both are damaged.
        """
        current, previous = out / CURRENT, out / PREVIOUS
        try:
            if current.exists() or not previous.exists():
                if current.exists():
                    self.restore(current)
                return ""
        except FileError as error:
            if error.code != "checkpoint-broken" or not previous.exists():
                raise
        self.restore(previous)
        if self.devices.rank == 0:
            # the next one that is written makes this one the previous: it must not be the damaged one
            also_named(previous, current)
        step = self.position.step
        return f"{CURRENT} is damaged or gone: the training goes on from the one before it, after step {step}."

    def restore(self, path: Path) -> None:
        """Go on from a checkpoint.

        Raises
        ------
        FileError
            Where it belongs to another plan, fold, seed or network.
        """
        found = load_checkpoint(path)
        sides = "fold, cases or first stage" if self.first_stage else "fold or cases"
        same: dict[str, Callable[[], bool]] = {
            "plan": lambda: found.state["plan_hash"] == plan_hash(self.plan),
            "seed": lambda: found.state["seed"] == self.seed,
            sides: lambda: found.state["identity"] == dict(self.identity),
            "network": lambda: _shapes(found.network) == _shapes(self.network.state_dict()),
        }
        for what, holds in same.items():
            if not holds():
                departs = departure(path.parent / PLAN, self.plan) if what == "plan" else ""
                raise FileError(
                    "checkpoint-other",
                    f"The training in {path.parent.name} has another {what}",
                    departs or "it cannot go on with this one",
                    "Give the same plan, fold and seed, or choose another --out.",
                )
        self.network.load_state_dict(dict(found.network))
        self.optimiser.load_state_dict(dict(found.optimiser))
        self.devices.load_scaler(found.state["scaler"])
        self.position = Position(**found.state["position"])
        rate = learning_rate(self.plan.optimiser, self.position.step // self.plan.iterations, self.plan.epochs)
        set_rate(self.optimiser, rate)


def _shapes(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in state.items()}


def decided(logits: Tensor, head: str) -> Tensor:
    """What a network says: the channel of each voxel (B, *spatial), or under a sigmoid head 0 or 1 per region."""
    return (logits > 0).to(torch.int8) if head == "sigmoid" else logits.argmax(1)


def class_counts(found: Tensor, target: Tensor, head: str, channels: int) -> Tensor:
    """Voxels per foreground class: in both, found, true; shape (3, classes).

    Parameters
    ----------
    found : Tensor
        Of `decided`.
    target : Tensor
        Of the same shape; see `SegmentationLoss`.
    head : str
        ``"softmax"`` or ``"sigmoid"``.
    channels : int
        Of the network.
    """
    known = target >= 0
    if head == "sigmoid":
        axes = (0, *range(2, target.ndim))
        parts = ((found > 0) & (target > 0), (found > 0) & known, target > 0)
        return torch.stack([part.sum(axes).double() for part in parts])
    pairs = [((found == c) & known, target == c) for c in range(1, channels)]
    rows = [[(there & true).sum(), there.sum(), true.sum()] for there, true in pairs]
    return torch.stack([torch.stack(row) for row in rows], 1).double()
