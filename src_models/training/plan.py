"""The plan of a training: every number that decides what is trained and how, in one file that may be edited.

`planning` makes it from a data set by nnU-Net's rules; `loop.train` follows it; the card of a model is made from it.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from src_models.errors import InputError
from src_models.preprocessing.parameters import Preprocessing
from src_models.weights.card import Label

PLAN_SCHEMA = 1
ConfigurationName = Literal["2d", "3d_fullres", "3d_lowres", "3d_cascade_fullres"]


class Frozen(BaseModel):
    """Unknown keys are refused: a misspelt number must not pass in silence."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Optimiser(Frozen):
    """How weights are changed. Torch's own defaults of Adadelta are not the paper's: all numbers stand here."""

    name: Literal["sgd", "adam", "adamw", "adadelta"] = "sgd"
    rate: float = Field(0.01, gt=0)
    momentum: float = Field(0.99, ge=0, lt=1)
    weight_decay: float = Field(3e-5, ge=0)
    rho: float = Field(0.95, gt=0, lt=1)
    epsilon: float = Field(1e-7, gt=0)
    schedule: Literal["poly", "constant", "cosine"] = "poly"
    clip: float | None = Field(12.0, gt=0)


class Augmentation(Frozen):
    """Which changes training images undergo, with their probabilities; 0 is off."""

    rotation: float = Field(0.2, ge=0, le=1)
    rotation_degrees: tuple[float, ...] | None = None
    scaling: float = Field(0.2, ge=0, le=1)
    scaling_range: tuple[float, float] = (0.7, 1.4)
    noise: float = Field(0.1, ge=0, le=1)
    blur: float = Field(0.2, ge=0, le=1)
    brightness: float = Field(0.15, ge=0, le=1)
    contrast: float = Field(0.15, ge=0, le=1)
    low_resolution: float = Field(0.25, ge=0, le=1)
    gamma_inverted: float = Field(0.1, ge=0, le=1)
    gamma: float = Field(0.3, ge=0, le=1)
    mirror_axes: tuple[int, ...] | None = Field(
        None, description="None: all axes, but not across left and right labels."
    )
    morphology: float = Field(0.4, ge=0, le=1, description="Of a cascade: parts of the first stage grow or shrink.")
    dropped_components: float = Field(0.2, ge=0, le=1, description="Of a cascade: parts of the first stage vanish.")


class Configuration(Frozen):
    """One network on one resolution."""

    name: ConfigurationName
    preprocessing: Preprocessing
    network: dict[str, Any]
    patch: tuple[int, ...]
    batch: int = Field(ge=1)
    batch_dice: bool = True
    median_shape: tuple[int, ...] = ()
    previous: ConfigurationName | None = None
    forecast: dict[str, float] = Field(default_factory=dict)


class TrainingPlan(Frozen):
    """All of it. `labels` are those of the data; background is value 0 and listed first under a softmax head."""

    schema_number: int = PLAN_SCHEMA
    code_version: str = ""
    data_name: str = ""
    data_hash: str = ""
    labels: tuple[Label, ...]
    head: Literal["softmax", "sigmoid"] = "softmax"
    ignore_label: int | None = None
    modality: str = ""
    fingerprint: dict[str, Any] = Field(default_factory=dict)
    folds: tuple[dict[str, tuple[str, ...]], ...] = ()
    configurations: tuple[Configuration, ...]
    loss: Literal["dice_ce", "dice", "ce", "dice-paper"] = "dice_ce"
    deep_supervision: bool = True
    optimiser: Optimiser = Optimiser()
    augmentation: Augmentation | None = Augmentation()
    epochs: int = Field(1000, ge=1)
    iterations: int = Field(250, ge=1, description="Steps per epoch.")
    sampling: Literal["random", "in_turn"] = Field(
        "random", description="Cases are drawn with replacement, or all of them once before any comes again."
    )
    foreground: float = Field(0.33, ge=0, le=1, description="Share of a batch that must contain foreground.")
    ema: float = Field(0.9, ge=0, lt=1)
    inference: dict[str, Any] = Field(default_factory=dict)

    def configuration(self, name: str | None = None) -> Configuration:
        """One configuration by name; the first where none is named.

        Raises
        ------
        InputError
            Where there is none of that name.
        """
        for each in self.configurations:
            if name is None or each.name == name:
                return each
        raise InputError(
            "plan-configuration",
            f"The plan has no configuration {name}",
            "",
            f"It has: {', '.join(each.name for each in self.configurations)}.",
        )
