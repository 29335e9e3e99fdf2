"""Grids of halves: exact places, blocks that are not full, the way back."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes

from src_models.errors import InputError
from src_models.levelset.coarsening import (
    Level,
    block_any,
    block_mean,
    block_mean_and_range,
    block_minimum,
    interpolate,
    pyramid_levels,
)

SHAPES = array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=13)


def blocks(array, factors):
    """Every block by its coarse index, cut out by plain slicing."""
    for index in np.ndindex(*(-(-n // f) for n, f in zip(array.shape, factors, strict=True))):
        yield index, array[tuple(slice(i * f, (i + 1) * f) for i, f in zip(index, factors, strict=True))]


@settings(deadline=None, max_examples=25)
@given(shape=SHAPES, data=st.data())
def test_blocks_hold_the_mean_minimum_and_any_of_their_voxels(shape, data):
    factors = tuple(data.draw(st.sampled_from([1, 2, 4])) for _ in shape)
    values = np.random.default_rng(1).normal(100, 30, shape).astype(np.float32)
    mask = values > 130
    mean, least, anywhere = block_mean(values, factors), block_minimum(values, factors), block_any(mask, factors)
    for index, block in blocks(values, factors):
        assert mean[index] == pytest.approx(block.mean(dtype=np.float64), rel=1e-6)
        assert least[index] == block.min()
    for index, block in blocks(mask, factors):
        assert anywhere[index] == block.any()


@pytest.mark.parametrize(
    "dtype", [bool, np.uint8, np.int16, np.int64, np.float16, np.float32, np.float64, ">i2", ">f4"]
)
def test_every_type_of_image_is_taken(dtype):
    values = np.random.default_rng(2).integers(0, 2 if dtype is bool else 90, (9, 10, 11)).astype(dtype)
    mean, (low, high) = block_mean_and_range(values, (2, 2, 4))
    assert mean.dtype == (np.float64 if dtype is np.float64 else np.float32)
    assert (low, high) == (values.min(), values.max())
    for index, block in blocks(values, (2, 2, 4)):
        assert mean[index] == pytest.approx(float(block.astype(float).mean()), rel=1e-6)


def test_a_constant_stays_that_constant_exactly():
    threes = np.full((7, 9, 5), 3, np.float32)
    assert (block_mean(threes, (4, 2, 4)) == 3).all()
    assert (interpolate(np.full((4, 5, 3), 0.1, np.float32), (2, 2, 2), threes.shape) == np.float32(0.1)).all()


@pytest.mark.parametrize("factors", [(2, 2, 2), (1, 4, 2), (8, 2, 1)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_linear_function_keeps_its_place(factors, dtype):
    """The half-voxel offsets: down by means and up by lines gives a linear function back, away from the border."""
    shape = (32, 24, 40)
    z, y, x = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    fine = (0.5 * z - 2 * y + 3 * x + 7).astype(dtype)
    level = Level((1, 1, 1), tuple(float(f) for f in factors), factors)
    coarse = block_mean(fine, factors)
    assert coarse[1, 2, 3] == pytest.approx(
        np.dot((0.5, -2, 3), [f * k + o for f, k, o in zip(factors, (1, 2, 3), level.offset, strict=True)]) + 7
    )
    again = interpolate(coarse, factors, shape)
    assert again.dtype == dtype
    inner = tuple(slice(f, n - f) for f, n in zip(factors, shape, strict=True))
    np.testing.assert_allclose(again[inner], fine[inner], atol=1e-4 if dtype == np.float32 else 1e-12)


@settings(deadline=None, max_examples=25)
@given(shape=SHAPES, data=st.data())
def test_interpolation_is_that_of_scipy(shape, data):
    from scipy.ndimage import map_coordinates

    factors = tuple(data.draw(st.sampled_from([1, 2, 4])) for _ in shape)
    coarse = np.random.default_rng(3).normal(size=[-(-n // f) for n, f in zip(shape, factors, strict=True)])
    at = np.meshgrid(*((np.arange(n) - (f - 1) / 2) / f for n, f in zip(shape, factors, strict=True)), indexing="ij")
    expected = map_coordinates(coarse, at, order=1, mode="nearest")
    np.testing.assert_allclose(interpolate(coarse, factors, shape), expected, atol=1e-12)


def test_axes_may_be_transposed():
    fine = np.random.default_rng(4).random((8, 12, 16), dtype=np.float32)
    there = block_minimum(fine.transpose(2, 0, 1), (4, 2, 1))
    assert np.array_equal(there, block_minimum(fine, (2, 1, 4)).transpose(2, 0, 1))
    back = interpolate(there, (4, 2, 1), (16, 8, 12))
    ordered = interpolate(np.ascontiguousarray(there.transpose(1, 2, 0)), (2, 1, 4), fine.shape)
    np.testing.assert_allclose(back, ordered.transpose(2, 0, 1), atol=1e-6)


def test_a_grid_that_does_not_belong_is_refused():
    with pytest.raises(InputError, match="do not make"):
        interpolate(np.zeros((4, 4)), (2, 2), (9, 8))


@pytest.mark.parametrize(
    ("shape", "spacing", "factors"),
    [
        ((256, 256, 256), (1, 1, 1), [(1, 1, 1), (2, 2, 2), (4, 4, 4), (8, 8, 8)]),
        ((96, 96, 96), (0.7, 0.7, 0.7), [(1, 1, 1), (2, 2, 2), (4, 4, 4)]),
        ((50, 512, 512), (3, 0.7, 0.7), [(1, 1, 1), (1, 2, 2), (1, 4, 4), (2, 8, 8)]),
        ((1, 256, 256), (9, 1, 1), [(1, 1, 1), (1, 2, 2), (1, 4, 4), (1, 8, 8)]),
        ((256, 256), (1, 1), [(1, 1), (2, 2), (4, 4), (8, 8)]),
        ((40, 40), (1, 1), [(1, 1)]),
        ((1, 1), (1, 1), [(1, 1)]),
    ],
)
def test_the_finest_axes_are_halved_first(shape, spacing, factors):
    levels = pyramid_levels(shape, spacing)
    assert [level.factors for level in levels] == factors
    for level in levels:
        assert level.shape == tuple(-(-n // f) for n, f in zip(shape, level.factors, strict=True))
        assert level.fine_spacing == pytest.approx(spacing)
        assert level.offset_mm == pytest.approx([(f - 1) / 2 * h for f, h in zip(level.factors, spacing, strict=True)])


@settings(deadline=None, max_examples=60)
@given(
    shape=st.tuples(*[st.integers(1, 600)] * 3),
    spacing=st.tuples(*[st.floats(0.1, 10)] * 3),
)
def test_levels_come_to_agree_and_never_get_too_small(shape, spacing):
    levels = pyramid_levels(shape, spacing)
    active = [axis for axis, n in enumerate(shape) if n > 1]
    for finer, coarser in itertools.pairwise(levels):
        sides = [finer.spacing[axis] for axis in active]
        if max(sides) / min(sides) <= 1.5:
            assert all(coarser.within(finer)[axis] == 2 for axis in active)
        else:
            assert coarser.within(finer)[finer.spacing.index(max(sides))] == 1
        assert all(n >= 8 for n, f in zip(coarser.shape, coarser.within(finer), strict=True) if f > 1)
        assert set(coarser.within(finer)) <= {1, 2}
