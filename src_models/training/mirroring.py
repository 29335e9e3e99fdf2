"""Which axes a training mirrors: none across which left and right are told apart."""

from __future__ import annotations

import re

from src_models.training.plan import Configuration, TrainingPlan

_SIDE = re.compile(r"(?<![a-z])(left|right|l|r)(?![a-z])", re.IGNORECASE)
# where a word begins in a name like leftKidney or KidneyL
_WORD = re.compile(r"(?<=[a-z])(?=[A-Z])")
_LEFT, _RIGHT = {"left", "l"}, {"right", "r"}


def tells_sides(plan: TrainingPlan) -> bool:
    """Whether labels are named for a left and a right: a mirrored image would have the wrong names."""
    names = [_WORD.sub(" ", label.name.replace("_", " ")) for label in plan.labels]
    found = {match.lower() for name in names for match in _SIDE.findall(name)}
    return bool(found & _LEFT) and bool(found & _RIGHT)


def mirror_axes(plan: TrainingPlan, configuration: Configuration) -> tuple[int, ...]:
    """Spatial axes of the patch that are mirrored in training; also the ones that may be in prediction.

    Where the plan does not say: all of them, but not the one from left to right where labels tell the sides apart.
    """
    ndim = len(configuration.patch)
    if plan.augmentation is None:
        return ()
    if plan.augmentation.mirror_axes is not None:
        return tuple(axis for axis in plan.augmentation.mirror_axes if 0 <= axis < ndim)
    if not tells_sides(plan):
        return tuple(range(ndim))
    order = configuration.preprocessing.axis_order or tuple(range(ndim))
    # images are presented with their last axis from right to left
    across = order.index(len(order) - 1) - (len(order) - ndim)
    return tuple(axis for axis in range(ndim) if axis != across)
