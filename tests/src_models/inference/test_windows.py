"""Where windows lie and how they are weighted."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from src_models.inference.windows import exact, gaussian, overlapping, positions


@given(st.integers(1, 60), st.integers(0, 200), st.sampled_from([0.25, 0.5, 0.7, 1.0]))
def test_every_voxel_is_in_a_window_and_steps_are_no_larger_than_asked(patch: int, more: int, step: float) -> None:
    starts = positions(patch + more, patch, step)

    assert starts[0] == 0
    assert starts[-1] == more
    assert len(starts) == int(np.ceil(more / max(patch * step, 1))) + 1
    assert len(set(starts)) == len(starts)
    # rounding moves each window by half a voxel at most
    assert max(np.diff(starts), default=0) <= max(patch * step, 1) + 1
    assert all(b - a <= patch for a, b in pairwise(starts))


def test_the_weight_is_the_gaussian_of_a_point_in_the_middle() -> None:
    for patch in [(16, 9), (7, 12, 10), (1, 8)]:
        point = np.zeros(patch)
        point[tuple(n // 2 for n in patch)] = 1
        wide = gaussian_filter(point, [n / 8 for n in patch], mode="constant")

        mine = gaussian(patch)

        np.testing.assert_allclose(mine, wide / wide.max() * 10, rtol=1e-5)
        assert mine.min() > 0


def test_windows_come_in_order_of_the_first_axis() -> None:
    groups = overlapping((20, 9, 9), (8, 4, 9), 0.5)

    assert [group[0].read[0].start for group in groups] == sorted({w.read[0].start for g in groups for w in g})
    assert all(len({w.read[0].start for w in group}) == 1 for group in groups)


@pytest.mark.parametrize("shape", [(10, 13), (8, 8), (31, 5)])
def test_exact_tiles_write_every_voxel_once_and_start_on_the_stride(shape: tuple[int, int]) -> None:
    written = np.zeros(shape, int)

    for group in exact(shape, (6, 8), ((3, 5), (2, 2)), (4, 4)):
        for tile in group:
            written[tile.write] += 1
            assert all(part.start % 4 == 0 for part in tile.read)
            for read, write, n, (before, behind) in zip(tile.read, tile.write, shape, ((3, 5), (2, 2)), strict=True):
                assert read.start <= max(0, write.start - before)
                assert read.stop >= min(n, write.stop + behind)

    assert (written == 1).all()
