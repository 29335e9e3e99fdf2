"""Every setting of a prediction, defined once: form, command line, Python and record read it from here."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

Group = Literal["basic", "advanced", "run"]


def _setting(
    default: Any,
    title: str,
    description: str,
    group: Group,
    *,
    unit: str = "",
    soft: tuple[float, float] | None = None,
    **bounds: Any,
) -> Any:
    """A field with its hints for forms: `soft` is the range of a slider, the bounds are what may be typed."""
    hints: dict[str, Any] = {"group": group, "unit": unit}
    if soft is not None:
        hints["soft"] = list(soft)
    return Field(default, title=title, description=description, json_schema_extra=hints, **bounds)


class PredictionParameters(BaseModel):
    """How a trained network is applied to an image, and what is made of its result."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    step: float = _setting(
        0.5,
        "Step between windows",
        "As a share of the window. Smaller gives smoother seams and takes longer: half the step, up to 8 times in 3D.",
        "basic",
        soft=(0.25, 1),
        gt=0,
        le=1,
    )
    mirror: Literal["none", "all"] = _setting(
        "none",
        "Mirroring",
        "all: also predict mirrored images and take the mean. Each mirrored axis doubles the time.",
        "basic",
    )
    mirror_axes: tuple[int, ...] | None = _setting(
        None,
        "Mirrored axes",
        "Axes of the network's input that are mirrored, counted from 0. Empty means those that were in training.",
        "advanced",
    )
    tile: Literal["auto", "exact"] = _setting(
        "auto",
        "Windows",
        "auto: overlapping windows, weighted towards their centre. exact: tiles that give what the whole image gives, "
        "for networks without normalisation over the window.",
        "advanced",
    )
    window: tuple[int, ...] | None = _setting(
        None,
        "Size of a window",
        "Per axis of the network's input, or one for all. Empty means that of the training.",
        "advanced",
        unit="voxels",
    )
    probabilities: bool = _setting(False, "Probabilities", "Also give the probability of each class.", "basic")
    entropy: bool = _setting(
        False, "Uncertainty", "Also give the entropy of the probabilities, 0 (sure) to 1 (all classes alike).", "basic"
    )
    disagreement: bool = _setting(
        False,
        "Disagreement",
        "Also give how far folds and mirrored images are apart: half the mean distance of their probabilities from "
        "their mean, 0 to 1.",
        "advanced",
    )
    attention: bool = _setting(
        False, "Attention maps", "Also give the attention maps of networks that have them.", "advanced"
    )
    post: Literal["auto", "none", "largest", "largest_each", "crf"] = _setting(
        "auto",
        "Afterwards",
        "auto: as the model's card says. largest: keep the largest part of all labels together; largest_each: of each "
        "label. crf: labels follow the edges of the image.",
        "basic",
    )
    minimum_volume: float = _setting(
        0.0,
        "Smallest part",
        "Parts of a label that are smaller are removed; in mm2 for one slice.",
        "basic",
        unit="ml",
        soft=(0, 10),
        ge=0,
    )
    refine: Literal["none", "levelset"] = _setting(
        "none",
        "Last step",
        "levelset: each label goes on as a level set whose speed is the network's probability; labels never overlap.",
        "basic",
    )
    neck: float = _setting(
        1.0,
        "Smallest neck",
        "The level set of the last step does not enter necks thinner than about this; spikes that are thinner go.",
        "advanced",
        unit="mm",
        soft=(0, 5),
        ge=0,
    )
    crf_width: float = _setting(
        3.0, "CRF: reach", "Standard deviation of what counts as near.", "advanced", unit="mm", gt=0
    )
    crf_contrast: float = _setting(
        0.1,
        "CRF: contrast",
        "Difference in grey value, as a share of the image's range, at which two voxels stop pulling at each other.",
        "advanced",
        gt=0,
    )
    skip: Literal["none", "constant", "body"] = _setting(
        "constant",
        "Skip windows",
        "constant: windows of one value are background; body: also windows with nothing brighter than -500 HU.",
        "advanced",
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = _setting(
        "auto",
        "Precision",
        "auto: bf16 on a graphics card that has it, else fp16 there; fp32 on the processor. Sums are always fp32.",
        "run",
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = _setting(
        "auto", "Device", "auto: a graphics card where there is one, else the processor.", "run"
    )
    max_memory: float | None = _setting(
        None,
        "Most memory",
        "A prediction that would need more is refused before it starts. Empty means what is free.",
        "run",
        unit="GB",
        gt=0,
    )
    nan: Literal["refuse", "fill"] = _setting(
        "refuse",
        "Values that are not numbers",
        "refuse: say how many there are; fill: take the smallest value of the image in their place, and say so.",
        "advanced",
    )

    @field_validator("window")
    @classmethod
    def _positive(cls, value: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if value is not None and (not value or min(value) < 1):
            raise ValueError("at least 1 voxel per axis")
        return value

    @field_validator("mirror_axes")
    @classmethod
    def _counted(cls, value: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if value is not None and (not value or min(value) < 0 or max(value) > 2 or len(set(value)) < len(value)):
            raise ValueError("axes from 0 to 2, each once")
        return value
