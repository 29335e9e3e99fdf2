"""A pixel classifier painted by the user: a random forest on image features, and the region speed it gives.

A few strokes in two or more classes train it in a fraction of a second; then every voxel has a probability for each
class. The forest (Breiman 2001) is scikit-learn's. One thread grows it and adds up its votes: with more of them the
order of the sums, and so the last bit, would depend on which was first.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from src_models.errors import InputError
from src_models.levelset.features import (
    Box,
    active_axes,
    blocks,
    feature_names,
    feature_sigmas,
    feature_steps,
    pixel_features,
)
from src_models.levelset.speed import as_image
from src_models.progress import Progress, finish

ROWS = 2**15
"""Voxels that the forest judges between two reports of progress: less than 200 ms."""


class ClassifierParameters(BaseModel):
    """The forest and what it sees."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    trees: int = Field(
        50,
        title="Trees",
        description="Trees in the forest: more make smoother probabilities and take longer.",
        ge=1,
        le=1000,
        json_schema_extra={"group": "classifier", "unit": "", "soft": [10, 200], "preview": True},
    )
    depth: int = Field(
        30,
        title="Depth",
        description="Decisions in a row at most. Smaller generalises more from few strokes.",
        ge=1,
        le=100,
        json_schema_extra={"group": "classifier", "unit": "", "soft": [2, 30], "preview": True},
    )
    feature_sigmas: tuple[Annotated[float, Field(gt=0)], ...] | None = Field(
        None,
        title="Scales of the features",
        description="Widths of the Gaussians at which brightness, edges, ridges and texture are measured. "
        "Empty means 1, 2, 4 and 8 times the smallest voxel side.",
        min_length=1,
        max_length=8,
        json_schema_extra={"group": "classifier", "unit": "mm", "preview": True},
    )
    training_voxels: int = Field(
        20_000,
        title="Voxels to learn from",
        description="Painted voxels that are used at most; of more, a fixed random choice with a share of each class.",
        ge=10,
        json_schema_extra={"group": "classifier", "unit": "voxels", "preview": True},
    )
    forest_seed: int = Field(
        0,
        title="Seed of the forest",
        description="Start of the random numbers: the same seed gives the same forest.",
        ge=0,
        le=999_999,
        json_schema_extra={"group": "classifier", "unit": "", "preview": True},
    )


@dataclass(frozen=True, eq=False)
class PixelClassifier:
    """A trained forest; made by `train`.

    Attributes
    ----------
    forest : RandomForestClassifier
        scikit-learn's.
    labels : tuple of int
        The classes, as painted, ascending.
    sigmas : tuple of float
        Scales of the features in mm.
    value_range : tuple of float
        Smallest and largest grey value of the image it was trained on.
    axes : int
        Number of axes longer than 1 of that image.
    """

    forest: Any
    labels: tuple[int, ...]
    sigmas: tuple[float, ...]
    value_range: tuple[float, float]
    axes: int

    @property
    def importance(self) -> dict[str, float]:
        """How much each feature took part in the decisions; the sum is 1."""
        names = feature_names(self.axes, self.sigmas)
        return dict(zip(names, map(float, self.forest.feature_importances_), strict=True))

    def probability(self, image: NDArray[Any], spacing: Sequence[float], box: Box | None = None) -> NDArray[np.float32]:
        """The probability of every class.

        Parameters
        ----------
        image : ndarray of shape (z, y, x) or (y, x)
            Grey values: the image it was trained on, or one like it.
        spacing : sequence of float
            mm per array axis.
        box : tuple of slice, optional
            Only there, such as one slice for a preview; what lies around it counts all the same, so that the values are
            those of the whole image, bit for bit.

        Returns
        -------
        ndarray of shape (classes, *box)
            float32 in the order of `labels`; the sum over the classes is 1.

        Raises
        ------
        InputError, GeometryError
            One sentence each.
        """
        return finish(self._block_by_block(image, spacing, box, None))

    def speed(
        self, image: NDArray[Any], spacing: Sequence[float], label: int = 1, box: Box | None = None
    ) -> NDArray[np.float32]:
        """The region speed s in [-1, 1] that grows in a class: its probability less the largest of the others.

        Parameters
        ----------
        image, spacing, box
            As in `probability`.
        label : int
            The class.
        """
        return finish(self.speed_steps(image, spacing, label, box))

    def speed_steps(
        self, image: NDArray[Any], spacing: Sequence[float], label: int = 1, box: Box | None = None
    ) -> Generator[Progress, None, NDArray[np.float32]]:
        """`speed` as a generator of progress."""
        return self._block_by_block(image, spacing, box, self.index_of(label))

    def _block_by_block(
        self, image: NDArray[Any], spacing: Sequence[float], box: Box | None, index: int | None
    ) -> Generator[Progress, None, NDArray[np.float32]]:
        """The probabilities of all classes, or with an index the speed of one."""
        plain = as_image(image, spacing)
        axes = len(active_axes(plain.shape))
        if axes != self.axes:
            raise InputError(
                "classifier-axes",
                f"The classifier was trained on an image with {self.axes} axes longer than 1, this one has {axes}",
                "",
                "Train it on this image.",
            )
        wanted = (slice(None),) * plain.ndim if box is None else box
        whole = tuple(slice(*part.indices(n)[:2]) for part, n in zip(wanted, plain.shape, strict=True))
        shape = tuple(part.stop - part.start for part in whole)
        found = np.empty((len(self.labels), *shape) if index is None else shape, np.float32)
        todo, done = math.prod(shape), 0
        for block in blocks(plain.shape, whole):
            steps = feature_steps(plain, spacing, self.sigmas, self.value_range, block)
            features = yield from _told(steps, done / todo)
            rows = features.reshape(-1, features.shape[-1])
            votes = np.empty((len(self.labels), len(rows)), np.float32)
            for first in range(0, len(rows), ROWS):
                part = slice(first, min(first + ROWS, len(rows)))
                votes[:, part] = self.forest.predict_proba(rows[part]).T
                done += part.stop - part.start
                yield Progress(phase="classifier", fraction=done / todo, message="Classifying voxels")
            place = tuple(slice(b.start - w.start, b.stop - w.start) for b, w in zip(block, whole, strict=True))
            if index is None:
                found[(slice(None), *place)] = votes.reshape(-1, *features.shape[:-1])
            else:
                found[place] = class_speed(votes, index).reshape(features.shape[:-1])
        return found

    def index_of(self, label: int) -> int:
        """The place of a class in `labels`.

        Raises
        ------
        InputError
            Where it was not painted.
        """
        if label not in self.labels:
            raise InputError(
                "strokes-label",
                f"No stroke has label {label}",
                f"the labels painted are {', '.join(map(str, self.labels))}",
                "Paint some of the structure with it.",
            )
        return self.labels.index(label)


def _told(
    work: Generator[Progress, None, NDArray[np.float32]], fraction: float
) -> Generator[Progress, None, NDArray[np.float32]]:
    """The features of a block, with the progress of the whole in place of their own."""
    while True:
        try:
            step = next(work)
        except StopIteration as end:
            features: NDArray[np.float32] = end.value
            return features
        yield Progress(phase="classifier", fraction=fraction, message=step.message)


def class_speed(probability: NDArray[Any], index: int) -> NDArray[np.float32]:
    """s = p_k - max of the others; with two classes 2 p - 1.

    Parameters
    ----------
    probability : ndarray of shape (classes, ...)
        At least two classes.
    index : int
        k.
    """
    others = np.delete(probability, index, axis=0).max(axis=0)
    return np.asarray(probability[index] - others, np.float32)


def check_strokes(strokes: NDArray[Any], shape: Sequence[int]) -> NDArray[Any]:
    """Strokes as an array of integers.

    Raises
    ------
    InputError
        Where they have another shape than the image, hold no whole numbers from 0, nothing, or one class alone.
    """
    array = np.asarray(strokes)
    if tuple(array.shape) != tuple(shape):
        raise InputError(
            "strokes-grid",
            f"Strokes and image lie on different grids, {tuple(array.shape)} and {tuple(shape)} voxels",
            "",
            "Paint the strokes on this image.",
        )
    if array.dtype.kind not in "biu" or (array.size and int(array.min()) < 0):
        raise InputError(
            "strokes-type",
            "The strokes are not labels",
            "whole numbers are needed: 0 not painted, 1 the structure, 2 and above everything else",
            "Paint them in a Labels layer.",
        )
    painted = np.unique(array[array != 0])
    if painted.size == 0:
        raise InputError(
            "strokes-empty",
            "There are no strokes",
            "no voxel is painted",
            "Paint some of the structure with label 1 and some of the rest with label 2.",
        )
    if painted.size == 1:
        raise InputError(
            "strokes-one-class",
            f"Only label {painted[0]} is painted",
            "a classifier needs two classes",
            "Paint some of the structure with label 1 and some of the rest with label 2.",
        )
    return array


def train(
    image: NDArray[Any], strokes: NDArray[Any], spacing: Sequence[float], parameters: ClassifierParameters | None = None
) -> PixelClassifier:
    """Learn the classes from painted voxels.

    When the trees choose their decisions, every class has the same weight, however much of it was painted.

    Parameters
    ----------
    image : ndarray of shape (z, y, x) or (y, x)
        Grey values.
    strokes : ndarray of int, of the same shape
        0 not painted, 1 the structure, 2 and above other classes.
    spacing : sequence of float
        mm per array axis.
    parameters : ClassifierParameters, optional
        The forest and its features.

    Raises
    ------
    InputError, GeometryError
        One sentence each.
    """
    from sklearn.ensemble import RandomForestClassifier

    settings = parameters or ClassifierParameters()
    plain = as_image(image, spacing)
    labels = check_strokes(strokes, plain.shape)
    value_range = float(plain.min()), float(plain.max())
    if value_range[0] == value_range[1]:
        raise InputError(
            "classifier-constant",
            "The image is constant",
            "nothing tells the painted classes apart",
            "Choose another image or region.",
        )
    sigmas = feature_sigmas(settings.feature_sigmas, plain.shape, spacing)
    painted = _chosen(labels, settings)
    seen = _features_at(painted, plain, spacing, sigmas, value_range)
    forest = RandomForestClassifier(
        n_estimators=settings.trees,
        max_depth=settings.depth,
        class_weight="balanced",
        random_state=settings.forest_seed,
        n_jobs=1,
    )
    forest.fit(seen, labels.reshape(-1)[painted].astype(np.int64))
    return PixelClassifier(
        forest=forest,
        labels=tuple(int(label) for label in forest.classes_),
        sigmas=sigmas,
        value_range=value_range,
        axes=len(active_axes(plain.shape)),
    )


def _chosen(labels: NDArray[Any], parameters: ClassifierParameters) -> NDArray[np.int64]:
    """Flat positions of the painted voxels to learn from, ascending; a share of each class where there are too many."""
    flat = labels.reshape(-1)
    painted = np.flatnonzero(flat)
    share = parameters.training_voxels / painted.size
    if share >= 1:
        return painted
    random = np.random.default_rng(parameters.forest_seed)
    kept = []
    for label in np.unique(flat[painted]):
        members = painted[flat[painted] == label]
        kept.append(random.choice(members, max(1, int(share * members.size)), replace=False))
    return np.asarray(np.sort(np.concatenate(kept)))


def _features_at(
    positions: NDArray[np.int64],
    image: NDArray[Any],
    spacing: Sequence[float],
    sigmas: Sequence[float],
    value_range: tuple[float, float],
) -> NDArray[np.float32]:
    """The features at some voxels: of each block only the box around those in it is computed."""
    index = np.stack(np.unravel_index(positions, image.shape), axis=1)
    seen = np.empty((len(positions), len(feature_names(len(active_axes(image.shape)), sigmas))), np.float32)
    for block in blocks(image.shape):
        low, high = np.array([part.start for part in block]), np.array([part.stop for part in block])
        members = np.flatnonzero(((index >= low) & (index < high)).all(axis=1))
        if members.size:
            here = index[members]
            first, last = here.min(axis=0), here.max(axis=0) + 1
            box = tuple(slice(int(a), int(b)) for a, b in zip(first, last, strict=True))
            seen[members] = pixel_features(image, spacing, sigmas, value_range, box)[tuple((here - first).T)]
    return seen
