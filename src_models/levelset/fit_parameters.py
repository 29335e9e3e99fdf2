"""Every setting of learning, defined once, as light as `parameters.py`: forms and command line read it here."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

Learned: TypeAlias = Literal["balloon", "curvature", "convection", "contrast", "lower", "upper", "seed_width"]
"""The fields of `LevelSetParameters` that can be learned."""


def _setting(default: Any, title: str, description: str, **bounds: Any) -> Any:
    return Field(default, title=title, description=description, json_schema_extra={"group": "learning"}, **bounds)


class FitParameters(BaseModel):
    """How to learn the numbers of the equation from accepted slices."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    learn: tuple[Learned, ...] = _setting(
        (),
        "Learn",
        "Which numbers, such as balloon,curvature,contrast. Empty means all that have an influence in the chosen mode.",
    )
    iterations: int = _setting(25, "Iterations", "Steps of the optimiser at most.", ge=1, le=10_000)
    rate: float = _setting(
        0.1,
        "Learning rate",
        "Largest change in one iteration: of the balloon, of the logarithm of the contrast, of a threshold in standard "
        "deviations of the accepted voxels.",
        gt=0,
        le=1,
    )
    screen: bool = _setting(
        True, "Try other starts", "First compare a few other values to start from: thresholds, curvature, contrast."
    )
    trials: int = _setting(
        24,
        "Trials",
        "Other values that are tried by plain runs before the descent: half spread widely, half around the best.",
        ge=0,
        le=10_000,
    )
    unrolled_steps: int | None = _setting(
        None,
        "Length of the run",
        "Steps that are differentiated through. Empty means enough to cross each structure.",
        ge=1,
        le=5000,
    )
    voxels: int = _setting(
        2500,
        "Size of the run",
        "Slices are cut out around the structure and, where they have more voxels than this, computed in blocks.",
        ge=64,
        le=10**7,
    )
