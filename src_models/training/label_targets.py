"""Label values of the data as what a loss compares with: a channel per voxel, or 0 and 1 per region."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from src_models.errors import InputError
from src_models.preprocessing.click import Click
from src_models.preprocessing.cropping import OUTSIDE
from src_models.training.losses import IGNORED
from src_models.training.plan import Configuration, TrainingPlan


@dataclass(frozen=True, eq=False)
class Targets:
    """A table from label values to targets.

    Attributes
    ----------
    table : ndarray of int8, shape (values,) or (values, K)
        Row v - `OUTSIDE` belongs to the label value v.
    head : str
        ``"softmax"`` or ``"sigmoid"``.
    """

    table: NDArray[np.int8]
    head: str

    @classmethod
    def of(cls, plan: TrainingPlan) -> Targets:
        """The table of a plan; what is outside the image counts as background, the ignore label counts nowhere."""
        ignore = plan.ignore_label
        values = [v for label in plan.labels for v in (label.members or (label.value,))]
        highest = max([*values, 0 if ignore is None else ignore])
        sigmoid = plan.head == "sigmoid"
        channels = max(label.channel for label in plan.labels) + 1
        table = np.zeros((highest - OUTSIDE + 1, channels) if sigmoid else highest - OUTSIDE + 1, np.int8)
        for label in plan.labels:
            for value in label.members or (label.value,):
                if sigmoid:
                    table[value - OUTSIDE, label.channel] = 1
                else:
                    table[value - OUTSIDE] = label.channel
        if ignore is not None:
            table[ignore - OUTSIDE] = IGNORED
        return cls(table, plan.head)

    def __call__(self, labels: NDArray[np.integer]) -> NDArray[np.int8]:
        """Targets of labels (B, *spatial): (B, *spatial) under a softmax head, (B, K, *spatial) under a sigmoid one.

        Raises
        ------
        InputError
            Where a value has no place in the plan.
        """
        if labels.max(initial=0) >= len(self.table) + OUTSIDE:
            raise InputError(
                "label-undeclared",
                f"The labels hold the value {int(labels.max())}",
                "the plan does not name it",
                "Name it in the data set, or map it to another one.",
            )
        target = self.table[labels.astype(np.intp) - OUTSIDE]
        return np.moveaxis(target, -1, 1) if self.head == "sigmoid" else target


def foreground_classes(plan: TrainingPlan) -> Mapping[int, Sequence[int]]:
    """Channel of each foreground class or region, with the label values it consists of."""
    return {
        label.channel: label.members or (label.value,)
        for label in plan.labels
        if label.members or label.value != 0 or plan.head == "sigmoid"
    }


def click_of(plan: TrainingPlan, configuration: Configuration) -> tuple[Click | None, Sequence[int]]:
    """How the network takes a click, and the label values of the structure it is set on.

    Raises
    ------
    InputError
        Where there are several structures: one click cannot be on all of them.
    """
    click = Click.of(configuration.network)
    if click is None:
        return None, ()
    classes = foreground_classes(plan)
    if len(classes) != 1:
        raise InputError(
            "click-classes",
            "A network that begins at a click finds one structure",
            f"the data names {len(classes)}",
            "Train on one label, or begin without a click: --set start=stem.",
        )
    (values,) = classes.values()
    return click, values
