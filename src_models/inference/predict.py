"""`predict`: trained networks on an image, a generator of progress that returns a `Prediction`."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_models.geometry import StoredOrder
from src_models.inference.ensemble import EnsembleJob, grouped
from src_models.inference.job import Job
from src_models.inference.parameters import PredictionParameters
from src_models.inference.prediction import Prediction, PredictionProgress
from src_models.record import Record, content_hash
from src_models.weights.model import Model


def predict(
    models: Model | Sequence[Model],
    image: NDArray[Any],
    spacing: Sequence[float],
    parameters: PredictionParameters | None = None,
    *,
    unit: str = "mm",
    value_unit: str = "",
    stored_order: StoredOrder | None = None,
    points: Sequence[Sequence[float]] = (),
    interrupt: Callable[[], bool] | None = None,
) -> Generator[PredictionProgress, None, Prediction]:
    """Apply trained networks to one image.

    Parameters
    ----------
    models : Model or sequence of Model
        One, or the folds of one training: the mean of their logits counts. Of several configurations it is the mean of
        their probabilities, on the grid of the image.
    image : ndarray of shape (z, y, x), (y, x), (C, z, y, x) or (C, y, x)
        Values as in the file; as many axes in space as there are spacings. A 2D network takes a volume slice by slice.
    spacing : sequence of float
        mm per axis in space, in array order.
    parameters : PredictionParameters, optional
        How, and what for.
    unit : str
        Of the spacing: ``"mm"``, or ``"px"`` where voxels have no size.
    value_unit : str
        ``"HU"`` where values are Hounsfield units.
    stored_order : StoredOrder, optional
        That of the `Volume` the image is of, where the sides of the patient are known: models of nnU-Net were mostly
        trained on images as they lie in their files (`ModelCard.orientation`) and are shown this one so. Results lie on
        the image as given.
    points : sequence of sequence of float
        Clicks inside the structure, for a model that begins at one: mm from the centre of the first voxel, axes in
        array order. A 2D network on a volume finds the structure in the slices that are clicked.
    interrupt : callable, optional
        Asked between the layers of a window, from the thread that runs it; the prediction ends with what is finished
        where it says yes.

    Yields
    ------
    PredictionProgress
        The plan with its peak of memory first, then every window. Cancel by ``close``; the last record's `result` gives
        what is finished, marked as partial.

    Returns
    -------
    Prediction
        Labels on the grid of the image, and what else was asked for.

    Raises
    ------
    InputError, GeometryError, DeviceError
        One sentence each.
    """
    folds = (models,) if isinstance(models, Model) else tuple(models)
    wanted, groups = parameters or PredictionParameters(), grouped(folds)
    if len(groups) > 1:
        together = EnsembleJob(
            groups, np.asarray(image), tuple(spacing), wanted, unit, value_unit, stored_order, points
        )
        return (yield from together.run(interrupt))
    job = Job(folds, image, tuple(spacing), wanted, unit, value_unit, stored_order, points)
    return (yield from job.run(interrupt))


def predict_series(
    models: Model | Sequence[Model],
    frames: NDArray[Any],
    spacing: Sequence[float],
    parameters: PredictionParameters | None = None,
    **options: Any,
) -> Generator[PredictionProgress, None, Prediction]:
    """Apply trained networks to a time series, frame by frame.

    Parameters
    ----------
    models, spacing, parameters, **options
        As for `predict`.
    frames : ndarray of shape (t, ...)
        Images as `predict` takes them.

    Returns
    -------
    Prediction
        Each array with the time in front. The record tells of all frames.
    """
    done: list[Prediction] = []
    count = len(frames)
    for number, frame in enumerate(frames):
        work = predict(models, frame, spacing, parameters, **options)
        while True:
            try:
                step = next(work)
            except StopIteration as end:
                done.append(end.value)
                break
            share = None if step.fraction is None else (number + step.fraction) / count
            yield replace(step, fraction=share, message=f"Frame {number + 1} of {count}: {step.message}")
        if not done[-1].complete:
            break
    return _joined(done, frames)


def _joined(done: Sequence[Prediction], frames: NDArray[Any]) -> Prediction:
    """Frames as one; those that were not reached are background."""
    last, count = done[-1], len(frames)

    def stacked(parts: Sequence[NDArray[Any] | None]) -> Any:
        found = [part for part in parts if part is not None]
        if len(found) < len(done):
            return None
        return np.stack([*found, *(np.zeros_like(found[0]) for _ in range(count - len(found)))])

    notes = tuple(dict.fromkeys(note for one in done for note in one.notes))
    labels = stacked([one.labels for one in done])
    return replace(
        last,
        labels=labels,
        probabilities=stacked([one.probabilities for one in done]),
        entropy=stacked([one.entropy for one in done]),
        disagreement=stacked([one.disagreement for one in done]),
        attention={level: stacked([one.attention[level] for one in done]) for level in last.attention},
        notes=notes,
        record=_record_of_all(done, frames, labels, notes),
    )


def _record_of_all(
    done: Sequence[Prediction], frames: NDArray[Any], labels: NDArray[Any], notes: tuple[str, ...]
) -> Record:
    """The record of a series: its source and labels are those of all frames."""
    last = done[-1].record
    voxels: dict[str, int] = {}
    for one in done:
        for number, count in one.record.result["voxels"].items():
            voxels[number] = voxels.get(number, 0) + count
    source = None
    if last.source is not None:
        whole = {"content_hash": content_hash(frames), "shape": frames.shape}
        source = last.source.model_copy(update=whole)
    result = last.result | {"labels_hash": content_hash(labels), "voxels": voxels, "frames": len(done)}
    seconds = round(sum(one.record.duration_s for one in done), 3)
    return last.model_copy(update={"notes": notes, "duration_s": seconds, "source": source, "result": result})
