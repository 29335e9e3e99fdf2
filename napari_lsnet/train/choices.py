"""What is chosen about a training: the flags of ``lsnet train`` that decide its plan and how it runs, once each."""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

Group = Literal["basic", "advanced", "run"]


def _choice(default: Any, title: str, description: str, group: Group, *, unit: str = "", **bounds: Any) -> Any:
    hints: dict[str, Any] = {"group": group, "unit": unit}
    return Field(default, title=title, description=description, json_schema_extra=hints, **bounds)


class TrainingChoices(BaseModel):
    """Empty fields are decided by the plan."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    network: Literal[
        "auto",
        "unet",
        "unet-paper",
        "nnunet",
        "nnunet-residual",
        "vnet",
        "attention-unet",
        "segnet",
        "deconvnet",
        "fcn32s",
        "fcn16s",
        "fcn8s",
        "lsn",
    ] = _choice(
        "unet",
        "Network",
        "auto: network, patch and batch follow from the data by nnU-Net's rules; it needs a graphics card to be quick. "
        "lsn: the level set equation with learned kernels.",
        "basic",
    )
    lsn_start: Literal["stem", "seed", "threshold", "ones"] = _choice(
        "stem",
        "Level set begins",
        "stem: by a few convolutions; seed: at a click, which every prediction then asks for; threshold: in a learned "
        "range of grey values; ones: everywhere.",
        "basic",
    )
    lsn_edge: Literal["kernels", "unet"] = _choice(
        "kernels", "Edges", "kernels: learned ones of three voxels a side; unet: a small UNet gives them.", "basic"
    )
    lsn_steps: tuple[int, ...] | None = _choice(
        None,
        "Level set steps",
        "One number per level, coarsest first, such as 20, 10, 5: a front then crosses an organ in few steps. Empty "
        "for the usual ones.",
        "basic",
    )
    configuration: Literal["auto", "2d", "3d_fullres", "3d_lowres"] = _choice(
        "auto", "Resolution", "2d trains volumes slice by slice; auto: what the images are.", "basic"
    )
    epochs: int | None = _choice(
        None, "Epochs", "Rounds of training; after each one the network is judged.", "basic", ge=1
    )
    iterations: int | None = _choice(None, "Steps per epoch", "Batches in a round.", "basic", ge=1)
    fold: Literal["0", "1", "2", "3", "4", "all"] = _choice(
        "0",
        "Fold left out",
        "A fifth of the patients is left out to judge the network on; all: none, so that nothing is known of others.",
        "basic",
    )
    batch: int | None = _choice(None, "Batch", "Samples per step.", "advanced", ge=1)
    patch: tuple[int, ...] | None = _choice(None, "Patch", "Size of a sample, per axis.", "advanced", unit="voxels")
    loss: Literal["auto", "dice_ce", "dice", "ce", "dice-paper"] = _choice(
        "auto", "Loss", "dice_ce: Dice and cross entropy together.", "advanced"
    )
    optimiser: Literal["auto", "sgd", "adam", "adamw", "adadelta"] = _choice(
        "auto",
        "Optimiser",
        "Adaptive ones come to a good result soon; where unseen patients lag behind, try sgd.",
        "advanced",
    )
    rate: float | None = _choice(None, "Learning rate", "At the beginning.", "advanced", gt=0)
    seed: int = _choice(0, "Seed", "Of weights and samples: the same seed gives the same network.", "advanced", ge=0)
    device: Literal["auto", "cpu", "cuda", "mps"] = _choice(
        "auto", "Device", "auto: a graphics card where there is one, else the processor.", "run"
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = _choice(
        "auto", "Precision", "auto: half precision on graphics cards that have it, else fp32.", "run"
    )
    workers: int = _choice(1, "Threads for samples", "They make the next batches while one is learnt.", "run", ge=0)

    @field_validator("patch")
    @classmethod
    def _positive(cls, value: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if value is not None and (len(value) not in (2, 3) or min(value) < 1):
            raise ValueError("needs 2 or 3 numbers of at least 1")
        return value

    @field_validator("lsn_steps")
    @classmethod
    def _some_steps(cls, value: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if value is not None and (not 1 <= len(value) <= 6 or min(value) < 0 or sum(value) < 1):
            raise ValueError("needs 1 to 6 numbers, coarsest level first, with at least one step")
        return value

    def plan_words(self) -> list[str]:
        """Flags of ``lsnet train`` that make the plan."""
        words: list[str] = []
        for flag, value in (
            ("--net", self.network),
            ("--config", self.configuration),
            ("--loss", self.loss),
            ("--optim", self.optimiser),
        ):
            if value != "auto":
                words += [flag, value]
        numbers: tuple[tuple[str, Any], ...] = (
            ("--epochs", self.epochs),
            ("--iters", self.iterations),
            ("--batch", self.batch),
            ("--lr", self.rate),
            ("--patch", None if self.patch is None else ",".join(str(n) for n in self.patch)),
        )
        for flag, value in numbers:
            if value is not None:
                words += [flag, str(value)]
        if self.network == "lsn":
            words += ["--set", f"network.start={self.lsn_start}", "--set", f"network.edge={self.lsn_edge}"]
            if self.lsn_steps is not None:
                words += ["--set", f"network.steps={json.dumps(self.lsn_steps)}"]
        return words

    def run_words(self) -> list[str]:
        """Flags of ``lsnet train`` that say how a plan is run."""
        words = ["--fold", self.fold, "--seed", str(self.seed), "--workers", str(self.workers)]
        words += ["--device", self.device, "--precision", self.precision]
        return words if self.configuration == "auto" else [*words, "--config", self.configuration]


def named(name: str) -> list[str]:
    """The flag that gives the model its name; quoted, because a name may look like a number."""
    return ["--set", f"data_name={json.dumps(name)}"] if name else []
