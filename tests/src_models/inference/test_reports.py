"""What a prediction reports on the way: planes that are finished, and where they lie."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from src_models.inference.predict import predict
from tests.src_models.inference.nets import Pointwise, model, stacked

RNG = np.random.default_rng(5)


@pytest.mark.parametrize(
    ("shape", "patch"),
    [((30, 9, 10), (8, 8, 8)), ((9, 10, 40), (8, 8, 8)), ((12, 40), (4, 8, 8)), ((40, 12), (4, 8, 8))],
)
def test_reported_slabs_are_finished_and_in_their_place(shape: tuple[int, ...], patch: tuple[int, ...]) -> None:
    """Of an image with a margin of zeros: slabs begin behind it, follow each other, and change no more."""
    image = np.zeros(shape, np.float32)
    inner = tuple(slice(3, n - 2) if n > 11 else slice(0, n) for n in shape)
    image[inner] = RNG.normal(size=image[inner].shape) + 3
    one = model(Pointwise(2, 3, stacked(lambda x: 3 - x, lambda x: x - 3)), patch, crop=True)
    work = predict(one, image, (1.0,) * len(shape))
    slabs, kept = [], []

    while True:
        try:
            step = next(work)
        except StopIteration as end:
            labels = end.value.labels
            break
        if step.slab is not None:
            slabs.append((step.axis, *step.slab))
            kept.append(np.take(step.labels, range(*step.slab), step.axis))

    axis = slabs[0][0]
    assert axis == int(np.argmax(shape))
    assert slabs[0][1] == inner[axis].start
    assert slabs[-1][2] == inner[axis].stop
    assert all(one[2] == other[1] for one, other in pairwise(slabs))
    for (_, first, last), part in zip(slabs, kept, strict=True):
        np.testing.assert_array_equal(part, np.take(labels, range(first, last), axis))
