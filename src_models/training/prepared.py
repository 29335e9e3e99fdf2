"""Cases brought to what the network sees, before a training starts; those larger than the memory stay on the disk.

A cache holds an image and a label file per case, which are mapped into memory. They are written to a temporary name and
renamed, and found again by what they depend on: the preprocessing, the labels, the content of the case.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from src_models.errors import InputError, SaveError
from src_models.files.gate import shown
from src_models.geometry import Segmentation, Volume
from src_models.preprocessing.checks import constant, finite
from src_models.preprocessing.prepare import prepare as prepare_image
from src_models.preprocessing.prepare import prepare_labels
from src_models.progress import Progress
from src_models.record import content_hash
from src_models.training.case import Case
from src_models.training.first_stage import FirstStage
from src_models.training.label_targets import foreground_classes
from src_models.training.plan import Configuration, TrainingPlan
from src_models.training.sampling import PreparedCase, foreground_places
from src_models.training.stage_labels import StageLabels

SHARE_OF_MEMORY = 0.3
"""Cases that take more of the free memory than this stay on the disk."""
EMPTY_SHOWN = 3


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
    cache: Path | None = None,
    first_stage: FirstStage | None = None,
) -> Generator[Progress, None, Prepared]:
    """Read and preprocess the cases of a fold.

    Parameters
    ----------
    plan, configuration
        What is trained.
    training, validation : sequence of Case
        Of the fold.
    cache : Path, optional
        A folder for cases that do not fit into the memory; by default all are held there.
    first_stage : FirstStage, optional
        Of a cascade.

    Yields
    ------
    Progress
        After each case, and while a first stage predicts it.

    Raises
    ------
    FileError, GeometryError, InputError
        Where a case cannot be used: another grid, labels that are not declared, an image of one value.
    """
    done: list[PreparedCase] = []
    cases = [*training, *validation]
    room = _free_bytes() * SHARE_OF_MEMORY if cache is not None else float("inf")
    for number, case in enumerate(cases, 1):
        one, notes = yield from _prepared(plan, configuration, case, first_stage)
        room -= one.image.nbytes + one.labels.nbytes + (0 if one.stage is None else one.stage.labels.nbytes)
        if room < 0 and cache is not None:
            one = _on_disk(one, cache, plan, configuration)
        done.append(one)
        message = f"Case {number} of {len(cases)} is read"
        yield Progress(phase="prepare", fraction=number / len(cases), message=message, notes=notes)
    empty = [case.id for case in done[: len(training)] if not case.places]
    if len(empty) == len(training):
        raise InputError(
            "training-empty", "No case to train on has a marked voxel", "", "Check the labels and their values."
        )
    if empty:
        names = ", ".join(shown(name) for name in empty[:EMPTY_SHOWN]) + (", ..." if len(empty) > EMPTY_SHOWN else "")
        note = f"{len(empty)} of {len(training)} cases to train on have no marked voxel: {names}."
        yield Progress(phase="prepare", fraction=1.0, message=note, notes=(note,))
    return Prepared(tuple(done[: len(training)]), tuple(done[len(training) :]))


def _prepared(
    plan: TrainingPlan, configuration: Configuration, case: Case, first_stage: FirstStage | None
) -> Generator[Progress, None, tuple[PreparedCase, tuple[str, ...]]]:
    volume, segmentation = case.read()
    array, notes = finite(volume.array, case.nan, f"The image of case {shown(case.id)}")
    volume = replace(volume, array=array)
    _check(plan, case, volume, segmentation)
    preprocessing = configuration.preprocessing
    image = prepare_image(volume.array, volume.grid.spacing, preprocessing)
    labels: NDArray[np.integer] = prepare_labels(segmentation.labels, image, preprocessing).astype(np.int16)
    places = foreground_places(labels, foreground_classes(plan))
    stage = None
    if first_stage is not None:
        earlier = yield from first_stage.labels(case, volume)
        there = prepare_labels(earlier, image, preprocessing)
        stage = StageLabels(there.astype(np.min_scalar_type(-max(first_stage.values))), first_stage.values)
    made = PreparedCase(case.id, image.array, labels, places, image.way, case, stage)
    return made, tuple(f"Case {shown(case.id)}: {note}" for note in notes)


def _check(plan: TrainingPlan, case: Case, volume: Volume, segmentation: Segmentation) -> None:
    if constant(volume.array):
        raise InputError(
            "training-constant", f"The image of case {shown(case.id)} has one value everywhere", "", "Leave it out."
        )
    declared = {0, plan.ignore_label} | {v for label in plan.labels for v in (label.members or (label.value,))}
    unknown = sorted(set(np.unique(segmentation.labels).tolist()) - declared)
    if unknown:
        where = shown(case.files[-1].name) if case.files else f"case {shown(case.id)}"
        raise InputError(
            "label-undeclared",
            f"The labels of {where} hold {', '.join(map(str, unknown[:8]))}",
            "the plan does not name that",
            f"Read it as another value, such as --map {unknown[0]}:1, or make a new plan.",
        )


def _on_disk(case: PreparedCase, cache: Path, plan: TrainingPlan, configuration: Configuration) -> PreparedCase:
    """The case with its arrays mapped from files."""
    key, stage = _key(case, plan, configuration), case.stage
    return PreparedCase(
        case.id,
        _mapped(cache / f"{key}-image.npy", case.image),
        _mapped(cache / f"{key}-labels.npy", case.labels),
        case.places,
        case.way,
        case.source,
        None if stage is None else replace(stage, labels=_mapped(cache / f"{key}-stage.npy", stage.labels)),
    )


def _key(case: PreparedCase, plan: TrainingPlan, configuration: Configuration) -> str:
    what = {
        "preprocessing": configuration.preprocessing.model_dump(mode="json"),
        "labels": [label.model_dump(mode="json") for label in plan.labels],
        "image": content_hash(case.image),
        "values": content_hash(case.labels),
        **({} if case.stage is None else {"stage": content_hash(case.stage.labels)}),
    }
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:32]


def _mapped(path: Path, array: NDArray[Any]) -> Any:
    part = path.with_name(f".{uuid4().hex}.part")
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            with part.open("xb") as file:
                np.save(file, array, allow_pickle=False)
            part.replace(path)
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise SaveError(
            "cache",
            "The prepared cases could not be kept on the disk",
            error.strerror or "",
            "Free some space, or choose another --out.",
        ) from error
    finally:
        part.unlink(missing_ok=True)


def _free_bytes() -> int:
    import psutil

    return int(psutil.virtual_memory().available)
