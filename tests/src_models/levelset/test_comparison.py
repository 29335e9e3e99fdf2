"""Two masks side by side, against closed forms; packed level sets come back as they were."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src_models.errors import GeometryError
from src_models.levelset.branches import values_of
from src_models.levelset.comparison import compare_masks
from src_models.levelset.packing import packed
from tests.scenes import ball


def test_two_slabs_are_as_far_apart_as_they_are_in_mm():
    a, b = np.zeros((20, 8, 6), bool), np.zeros((20, 8, 6), bool)
    a[:5] = True
    b[:9] = True
    found = compare_masks(a, b, (2.5, 1.0, 0.5))
    assert found.surface_mm == found.farthest_mm == 4 * 2.5
    assert found.difference_mm == 4 * 8 * 6 * 2.5 * 0.5
    assert found.difference_ml == found.difference_mm / 1000
    assert found.dice == 2 * 5 / 14
    assert not found.only_a.any()
    assert found.only_b.sum() == 4 * 8 * 6


def test_concentric_balls_are_as_far_apart_as_their_radii():
    spacing = (1.0, 1.0, 1.0)
    big, small = (ball((52, 52, 52), spacing, radius) > 0 for radius in (24, 18))
    found = compare_masks(big, small, spacing)
    assert found.surface_mm == pytest.approx(6, abs=0.5)
    assert found.difference_ml == pytest.approx(4 / 3 * np.pi * (18**3 - 24**3) / 1000, rel=0.01)


def test_exchanging_the_two_exchanges_the_answer():
    a, b = ball((30, 30), (1, 2), 9) > 0, ball((30, 30), (1, 2), 7, origin=(12, 30)) > 0
    one, other = compare_masks(a, b, (1, 2)), compare_masks(b, a, (1, 2))
    np.testing.assert_array_equal(one.only_a, other.only_b)
    assert (one.dice, one.surface_mm, one.farthest_mm) == (other.dice, other.surface_mm, other.farthest_mm)
    assert one.difference_mm == -other.difference_mm
    assert one.difference_ml is None


def test_nothing_and_everything_have_no_surface():
    nothing, everything = np.zeros((5, 5), bool), np.ones((5, 5), bool)
    assert compare_masks(nothing, nothing, (1, 1)).dice == 1
    for a, b in ((nothing, everything), (everything, everything), (nothing, np.eye(5, dtype=bool))):
        found = compare_masks(a, b, (1, 1))
        assert found.surface_mm is None
        assert found.farthest_mm is None


def test_masks_on_different_grids_are_refused():
    with pytest.raises(GeometryError) as refused:
        compare_masks(np.zeros((4, 4)), np.zeros((4, 5)), (1, 1))
    assert refused.value.code == "compare-grid"


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.lists(st.integers(1, 9), min_size=2, max_size=3),
    dtype=st.sampled_from(("float32", "float64")),
    banded=st.booleans(),
)
def test_a_packed_level_set_comes_back_bit_for_bit(seed, shape, dtype, banded):
    random = np.random.default_rng(seed)
    width = 4.2
    u = np.clip(random.normal(0, 4, shape), -width, width).astype(dtype)
    u[random.random(shape) < 0.1] = -0.0
    box = tuple(slice(a, random.integers(a, n, endpoint=True)) for a, n in ((random.integers(0, n), n) for n in shape))
    kept = packed(u, width if banded else None, box)
    again = values_of(kept, width if banded else None, u.dtype)
    assert again.tobytes() == u[box].tobytes()


def test_far_from_the_front_a_packed_level_set_needs_next_to_nothing():
    u = np.clip(ball((64, 64, 64), (1, 1, 1), 10), -4, 4).astype(np.float32)
    near = int((np.abs(u) < 4).sum())
    whole = tuple(slice(0, n) for n in u.shape)
    assert packed(u, 4.0, whole).nbytes < 1.1 * 4 * near < 0.06 * u.nbytes
