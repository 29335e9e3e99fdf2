"""Sample k of a training is a function of (seed, k) alone: which case, where it is cut, how it is changed.

Every random number of a sample comes from one Philox stream with the key (seed, stream) and the counter k. So samples
do not depend on the number of workers or processes, on what was drawn before, or on where a training was resumed.

Step s of a training with batches of B takes the samples s B ... s B + B - 1. The first round(B (1 - foreground)) of a
batch lie anywhere; the last ones are cut around a voxel of the foreground (nnU-Net's rule: a batch of 2 has one).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from src_models.preprocessing.click import Click
from src_models.preprocessing.prepare import Way
from src_models.training.augmentation import Augmenter
from src_models.training.case import Case
from src_models.training.spatial import cut
from src_models.training.stage_labels import StageLabels

Stream = Literal["training", "validation", "order", "start"]
_STREAMS: dict[Stream, int] = {"training": 1, "validation": 2, "order": 3, "start": 4}

MOST_PLACES = 10_000
LEAST_SHARE = 0.01


def random_stream(seed: int, stream: Stream, k: int) -> np.random.Generator:
    """The random numbers of one sample."""
    return np.random.Generator(np.random.Philox(key=[seed, _STREAMS[stream]], counter=[0, 0, 0, k]))


@dataclass(frozen=True, eq=False)
class PreparedCase:
    """A case as the network sees it: cropped, normalised, resampled.

    Attributes
    ----------
    id : str
        Of the case.
    image : ndarray of float32, shape (C, z, y, x) or (C, y, x)
        May be a memory map.
    labels : ndarray of int, shape (z, y, x) or (y, x)
        Values of the data; `spatial.OUTSIDE` outside its nonzero part.
    places : mapping of int to ndarray of int32, shape (n, ndim)
        Voxels of each label to cut samples around; see `foreground_places`.
    way : Way or None
        Back to the image; None where the image is prepared already.
    source : Case or None
        Where the labels on the image's own grid are read from.
    stage : StageLabels or None
        Of a cascade: what the first stage found, on the grid of `image`.
    """

    id: str
    image: NDArray[np.float32]
    labels: NDArray[np.integer]
    places: Mapping[int, NDArray[np.int32]] = field(default_factory=dict)
    way: Way | None = None
    source: Case | None = None
    stage: StageLabels | None = None

    @property
    def network_input(self) -> NDArray[np.float32]:
        """All channels of the network: the image, and behind it those of a first stage."""
        return self.image if self.stage is None else np.concatenate([self.image, self.stage.channels()])


def foreground_places(labels: NDArray[np.integer], wanted: Mapping[int, Sequence[int]]) -> dict[int, NDArray[np.int32]]:
    """Some voxels of each class, spread evenly over it: up to 10,000, and at least 1 % of them.

    Parameters
    ----------
    labels : ndarray of shape (z, y, x) or (y, x)
        Label values.
    wanted : mapping of int to sequence of int
        Class to the label values it consists of.

    Returns
    -------
    dict
        Only classes that are there.
    """
    found: dict[int, NDArray[np.int32]] = {}
    for name, values in wanted.items():
        inside = labels == values[0] if len(values) == 1 else np.isin(labels, list(values))
        flat = np.flatnonzero(inside)
        if len(flat) == 0:
            continue
        keep = min(len(flat), max(MOST_PLACES, int(np.ceil(len(flat) * LEAST_SHARE))))
        # a stride of the golden ratio visits a class evenly, without drawing
        chosen = flat[np.unique((np.arange(keep) * len(flat)) // keep)]
        found[name] = np.stack(np.unravel_index(chosen, labels.shape), 1).astype(np.int32)
    return found


@dataclass(frozen=True, eq=False)
class Sample:
    """One patch: image (C, *patch) float32 and labels (*patch) int16, and which case it is of."""

    image: NDArray[np.float32]
    labels: NDArray[np.int16]
    case: str


@dataclass(frozen=True, eq=False)
class Sampler:
    """Samples of some cases by their number.

    Attributes
    ----------
    cases : sequence of PreparedCase
        To draw from.
    patch : tuple of int
        Voxels; one axis fewer than the cases have draws slices of volumes.
    batch : int
        Samples of a step, over all processes.
    seed : int
        Of the training.
    foreground : float
        Share of a batch that must contain foreground.
    augmenter : Augmenter or None
        Changes the samples; None leaves them as they are.
    stream : str
        Training and validation draw different samples.
    in_turn : bool
        Every case once before any comes again, in an order of its own each time, in place of drawing with replacement.
    click : Click or None
        For a network that begins at one: its channel is made from the labels, anywhere deep inside in training and at
        the innermost place in validation.
    clicked : sequence of int
        Label values of the structure that is clicked.
    """

    cases: Sequence[PreparedCase]
    patch: tuple[int, ...]
    batch: int
    seed: int
    foreground: float = 0.33
    augmenter: Augmenter | None = None
    stream: Stream = "training"
    in_turn: bool = False
    click: Click | None = None
    clicked: Sequence[int] = ()

    def sample(self, k: int) -> Sample:
        """Sample k, the same every time."""
        rng = random_stream(self.seed, self.stream, k)
        case = self.cases[self._case(k, rng)]
        forced = k % self.batch >= free_samples(self.batch, self.foreground)
        centre = self._foreground_voxel(case, rng) if forced else None
        image, labels, stage = case.image, case.labels, case.stage
        if labels.ndim > len(self.patch):
            plane = int(rng.integers(labels.shape[0])) if centre is None else int(centre[0])
            image, labels = image[:, plane], labels[plane]
            stage = None if stage is None else replace(stage, labels=stage.labels[plane])
            centre = None if centre is None else centre[1:]
        low = self._corner(labels.shape, centre, rng)
        if self.augmenter is not None:
            x, y = self.augmenter(image, labels, low, self.patch, rng, stage)
        else:
            x, y = cut(image, labels, low, self.patch)
            if stage is not None:
                _, earlier = cut(image[:0], stage.labels, low, self.patch)
                x = np.concatenate([x, stage.channels(earlier)])
        if self.click is not None:
            inside = np.isin(y, list(self.clicked))
            x = self.click.marked(x, inside, rng if self.stream == "training" else None)
        return Sample(x, y, case.id)

    def _case(self, k: int, rng: np.random.Generator) -> int:
        count = len(self.cases)
        if not self.in_turn:
            return int(rng.integers(count))
        turn, place = divmod(k, count)
        return int(random_stream(self.seed, "order", turn).permutation(count)[place])

    @staticmethod
    def _foreground_voxel(case: PreparedCase, rng: np.random.Generator) -> NDArray[np.int32] | None:
        """A voxel of a class, every class that is there equally likely; None where there is no foreground."""
        if not case.places:
            return None
        classes = sorted(case.places)
        places = case.places[classes[int(rng.integers(len(classes)))]]
        return np.asarray(places[int(rng.integers(len(places)))])

    def _corner(
        self, shape: Sequence[int], centre: NDArray[np.int32] | None, rng: np.random.Generator
    ) -> tuple[int, ...]:
        """First voxel of the patch: inside the image, or centred over an image that is smaller."""
        low = []
        for axis, (n, size) in enumerate(zip(shape, self.patch, strict=True)):
            room = n - size
            if room <= 0:
                low.append(-(-room // 2))
            elif centre is None:
                low.append(int(rng.integers(room + 1)))
            else:
                low.append(min(max(int(centre[axis]) - size // 2, 0), room))
        return tuple(low)


def free_samples(batch: int, foreground: float) -> int:
    """How many samples of a batch lie anywhere; the others must contain foreground."""
    return round(batch * (1 - foreground))
