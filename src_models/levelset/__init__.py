"""The level set equation: parameters, speed images, starts and the evolution itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from src_models.levelset.parameters import LevelSetParameters, paper_preset

if TYPE_CHECKING:
    from src_models.levelset.coupled import LabelsResult, LabelsState, evolve_labels
    from src_models.levelset.evolution import Constraints, LevelSetResult, LevelSetState, Resume, evolve

_SEVERAL = ("LabelsResult", "LabelsState", "evolve_labels")

__all__ = [
    "Constraints",
    "LabelsResult",
    "LabelsState",
    "LevelSetParameters",
    "LevelSetResult",
    "LevelSetState",
    "Resume",
    "evolve",
    "evolve_labels",
    "paper_preset",
]


def __getattr__(name: str) -> Any:
    """Load the engine, and torch with it, only when it is asked for."""
    if name in _SEVERAL:
        from src_models.levelset import coupled

        return getattr(coupled, name)
    if name in __all__:
        from src_models.levelset import evolution

        return getattr(evolution, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
