"""Cases brought to what the network sees, before a training starts."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from src_models.preprocessing.prepare import prepare as prepare_image
from src_models.preprocessing.prepare import prepare_labels
from src_models.progress import Progress
from src_models.training.case import Case
from src_models.training.label_targets import foreground_classes
from src_models.training.plan import Configuration, TrainingPlan
from src_models.training.sampling import PreparedCase, foreground_places


@dataclass(frozen=True, eq=False)
class Prepared:
    """The cases of a training on the network's grid."""

    training: tuple[PreparedCase, ...]
    validation: tuple[PreparedCase, ...]


def prepare(
    plan: TrainingPlan,
    configuration: Configuration,
    training: Sequence[Case],
    validation: Sequence[Case],
) -> Generator[Progress, None, Prepared]:
    """Read and preprocess the cases of a fold.

    Parameters
    ----------
    plan, configuration
        What is trained.
    training, validation : sequence of Case
        Of the fold.

    Yields
    ------
    Progress
        After each case.

    Raises
    ------
    FileError, GeometryError, InputError
        Where a case cannot be used.
    """
    done: list[PreparedCase] = []
    cases = [*training, *validation]
    for number, case in enumerate(cases, 1):
        done.append(_prepared(plan, configuration, case))
        yield Progress(phase="prepare", fraction=number / len(cases), message=f"Case {number} of {len(cases)} is read")
    return Prepared(tuple(done[: len(training)]), tuple(done[len(training) :]))


def _prepared(plan: TrainingPlan, configuration: Configuration, case: Case) -> PreparedCase:
    volume, segmentation = case.read()
    preprocessing = configuration.preprocessing
    image = prepare_image(volume.array, volume.grid.spacing, preprocessing)
    labels: NDArray[np.integer] = prepare_labels(segmentation.labels, image, preprocessing).astype(np.int16)
    return PreparedCase(
        case.id, image.array, labels, foreground_places(labels, foreground_classes(plan)), image.way, case
    )
