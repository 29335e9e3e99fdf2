"""The card of a model: all that is needed to use it rightly, and to know what it is worth."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from src_models.preprocessing.click import Click
from src_models.preprocessing.parameters import Preprocessing
from src_models.record import RESEARCH_USE

CARD_SCHEMA = 1


class Label(BaseModel):
    """One class of the output. `value` is the number in a label image; `channel` that of the logits.

    With a sigmoid head each label is a region: `members` are the label values it is the union of, in the order in
    which regions are painted over each other.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    value: int
    channel: int
    colour: str | None = None
    members: tuple[int, ...] = ()


class StageModel(BaseModel):
    """A model of the first stage of a cascade, named by the hash of its weights.

    `way` leads from the folder of the second stage to the file; where it is not there any more, the file is looked for
    among the models of the user.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = ""
    version: str = "1"
    fold: str = ""
    sha256: str
    way: str = ""


class TrainingData(BaseModel):
    """What a model was trained on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = ""
    patients: int | None = None
    cases: int | None = None
    citation: str = ""
    licence: str = ""
    source: str = ""


class ModelCard(BaseModel):
    """Card of a model; stored as JSON beside its safetensors file, same stem.

    `network` is `Network.config`. `patch` is the window in voxels of the resampled image, `stride` the network's.
    `metrics` holds the figures of unseen patients: one row per fold or set. The second stage of a cascade has a
    `first_stage`: the mean of its models is what further input channels, one per foreground value, are made of.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_number: int = CARD_SCHEMA
    name: str
    version: str = "1"
    changelog: str = ""
    task: str = ""
    intended_use: str = RESEARCH_USE
    modality: str = ""
    network: dict[str, Any]
    ndim: Literal[2, 3]
    orientation: Literal["presented", "stored", "RAS"] = Field(
        "presented",
        description="How the network sees a volume. presented: axes grow towards Inferior, Posterior and Left; stored: "
        "as in its file, slowest axis first; RAS: towards Superior, Anterior and Right.",
    )
    preprocessing: Preprocessing
    patch: tuple[int, ...]
    labels: tuple[Label, ...]
    head: Literal["softmax", "sigmoid"] = "softmax"
    mirror_axes: tuple[int, ...] = Field((), description="Axes along which mirroring was used in training.")
    inference: dict[str, Any] = Field(default_factory=dict)
    training_data: TrainingData = TrainingData()
    weights_licence: str = ""
    fold: str = ""
    seed: int | None = None
    budget: str = ""
    plan_hash: str = ""
    metrics: tuple[dict[str, Any], ...] = ()
    metrics_note: str = ""
    versions: dict[str, str] = Field(default_factory=dict)
    created: str = ""
    parents: tuple[str, ...] = ()
    first_stage: tuple[StageModel, ...] = ()
    sha256: str = ""
    size_bytes: int = 0

    @property
    def click(self) -> Click | None:
        """How the model takes a click: its network has one channel more than `preprocessing`. None for most models."""
        return Click.of(self.network)

    def for_unit(self, unit: str) -> ModelCard:
        """The card for images whose spacing is in ``"mm"`` or ``"px"``; see `Preprocessing.for_unit`."""
        return self.model_copy(update={"preprocessing": self.preprocessing.for_unit(unit)})

    @property
    def stage_values(self) -> tuple[int, ...]:
        """Label values that have an input channel of their own behind those of the image; empty without a cascade."""
        return foreground_values(self.labels) if self.first_stage else ()


def foreground_values(labels: Iterable[Label]) -> tuple[int, ...]:
    """Every value but the background that labels, or the members of regions, are made of; ascending.

    The order of the channels that a cascade has for its first stage, which is nnU-Net's.
    """
    return tuple(sorted({value for label in labels for value in (label.members or (label.value,))} - {0}))
