"""Closed forms, brute force, laws and the rules for empties."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from src_models.errors import GeometryError, InputError
from src_models.metrics import FORMULAS, Comparison, measure, pool
from src_models.metrics.surface import surface_voxels

Mask = NDArray[np.bool_]
DISTANCES = [name for name, formula in FORMULAS.items() if formula.kind == "distance"]
OVERLAPS = [name for name, formula in FORMULAS.items() if formula.kind == "overlap"]


def _values(a: Mask, b: Mask, spacing: tuple[float, ...], *names: str, **options: Any) -> list[float]:
    found = measure(Comparison.of(a, b, spacing), names, **options)
    return [found[name].value for name in names]


def _cube(shape: tuple[int, ...], start: tuple[int, ...], size: int) -> Mask:
    mask = np.zeros(shape, bool)
    mask[tuple(slice(s, s + size) for s in start)] = True
    return mask


def _blobs(seed: int, shape: tuple[int, ...], share: float = 0.3) -> Mask:
    from scipy.ndimage import gaussian_filter

    smooth = gaussian_filter(np.random.default_rng(seed).standard_normal(shape), 1.5)
    return smooth > np.quantile(smooth, 1 - share)


@pytest.mark.parametrize("shift", [0, 1, 3])
def test_shifted_cubes(shift: int) -> None:
    """n = 8 shifted by s along the axis of 3 mm: the overlap is (n - s) n^2, the far faces lie 3 s apart."""
    n, a, b = 8, _cube((20, 20, 20), (4, 5, 6), 8), _cube((20, 20, 20), (4 + shift, 5, 6), 8)
    spacing = (3.0, 1.0, 1.0)
    dice, iou, hd, hd95, difference = _values(a, b, spacing, "dice", "jaccard", "hd", "hd95", "volume_diff")
    assert dice == pytest.approx((n - shift) / n)
    assert iou == pytest.approx((n - shift) / (n + shift))
    # a face voxel of one cube has the same voxel of the other's face straight ahead, and more than 5 % are face
    assert hd == pytest.approx(3.0 * shift)
    assert hd95 == pytest.approx(3.0 * shift)
    assert difference == 0.0


def test_the_axis_of_the_thick_slices_counts_three_times() -> None:
    """The same shift by one voxel along each axis of 3 x 1 x 2 mm."""
    a = _cube((16, 16, 16), (5, 5, 5), 5)
    for axis, expected in enumerate((3.0, 1.0, 2.0)):
        assert _values(np.roll(a, 1, axis), a, (3.0, 1.0, 2.0), "hd") == [pytest.approx(expected)]


def test_single_voxels_are_as_far_apart_as_their_centres() -> None:
    a, b = np.zeros((2, 9, 9), bool), np.zeros((2, 9, 9), bool)
    a[0, 1, 1] = b[1, 5, 4] = True
    expected = math.sqrt(2.5**2 + (4 * 0.5) ** 2 + (3 * 2.0) ** 2)
    for value in _values(a, b, (2.5, 0.5, 2.0), "hd", "hd95", "assd", "masd", "avd_max", "avd_max_volume"):
        assert value == pytest.approx(expected)


def test_volumes_are_in_millilitres() -> None:
    a, b = _cube((10, 10, 10), (0, 0, 0), 10), _cube((10, 10, 10), (0, 0, 0), 5)
    found = measure(Comparison.of(a, b, (2.0, 1.0, 0.5)), ["volume", "volume_diff", "rel_volume_diff"])
    assert [(m.value, m.unit) for m in found.values()] == [(1.0, "ml"), (0.875, "ml"), (7.0, "")]
    flat = measure(Comparison.of(a[0], b[0], (2.0, 0.5), "px"), ["volume", "hd"])
    assert [(m.value, m.unit) for m in flat.values()] == [(100.0, "px2"), (pytest.approx(math.hypot(10, 2.5)), "px")]


def test_overlap_counts() -> None:
    a, b = np.zeros((4, 5), bool), np.zeros((4, 5), bool)
    a.flat[:6] = True
    b.flat[4:9] = True  # TP 2, FP 4, FN 3, TN 11
    names = ("dice", "jaccard", "accuracy", "recall", "specificity", "precision")
    assert _values(a, b, (1.0, 1.0), *names) == pytest.approx([4 / 11, 2 / 9, 13 / 20, 2 / 5, 11 / 15, 2 / 6])


@pytest.mark.parametrize("shape", [(7, 8, 9), (12, 13)])
@pytest.mark.parametrize("seed", [0, 1])
def test_distances_by_brute_force(shape: tuple[int, ...], seed: int) -> None:
    """Every formula from the table of all distances between all voxels."""
    a, b, spacing = _blobs(seed, shape), _blobs(seed + 10, shape), (3.0, 1.0, 0.7)[: len(shape)]

    def surface(mask: Mask) -> NDArray[np.float64]:
        padded = np.pad(mask, 1)
        inner = padded.copy()
        for axis in range(mask.ndim):
            inner &= np.roll(padded, 1, axis) & np.roll(padded, -1, axis)
        return np.argwhere(padded & ~inner) * np.array(spacing)

    def nearest(p: NDArray[np.float64], q: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        table = np.linalg.norm(p[:, None] - q[None], axis=-1)
        return table.min(1), table.min(0)

    s, t = nearest(surface(a), surface(b))
    u, v = nearest(np.argwhere(a) * np.array(spacing), np.argwhere(b) * np.array(spacing))
    expected = {
        "avd_max": max(s.mean(), t.mean()),
        "avd_max_volume": max(u.mean(), v.mean()),
        "assd": (s.sum() + t.sum()) / (len(s) + len(t)),
        "masd": (s.mean() + t.mean()) / 2,
        "hd": max(s.max(), t.max()),
        "hd95": max(np.percentile(s, 95), np.percentile(t, 95)),
        "nsd": ((s <= 1.0).sum() + (t <= 1.0).sum()) / (len(s) + len(t)),
    }
    assert _values(a, b, spacing, *expected, nsd_tolerance=1.0) == pytest.approx(list(expected.values()), abs=1e-12)


@pytest.mark.parametrize("name", FORMULAS)
def test_order_of_axes_and_empty_surroundings_change_nothing(name: str) -> None:
    a, b, spacing = _blobs(3, (8, 9, 10)), _blobs(4, (8, 9, 10)), (3.0, 1.0, 0.7)
    plain = _values(a, b, spacing, name, nsd_tolerance=1.0)
    turned = _values(a.transpose(2, 0, 1), b.transpose(2, 0, 1), (0.7, 3.0, 1.0), name, nsd_tolerance=1.0)
    assert turned == pytest.approx(plain, abs=1e-12)
    if FORMULAS[name].kind != "background":
        # background alone depends on what is stored around
        assert _values(np.pad(a, 3), np.pad(b, 3), spacing, name, nsd_tolerance=1.0) == pytest.approx(plain, abs=1e-12)


@pytest.mark.parametrize("name", [*DISTANCES, "dice", "jaccard", "accuracy", "nsd"])
def test_symmetric_metrics_are_symmetric(name: str) -> None:
    a, b = _blobs(5, (8, 9, 10)), _blobs(6, (8, 9, 10))
    one, other = (_values(*pair, (3.0, 1.0, 0.7), name, nsd_tolerance=1.0) for pair in ((a, b), (b, a)))
    assert one == pytest.approx(other, abs=1e-12)


@pytest.mark.parametrize("name", FORMULAS)
def test_a_mask_agrees_with_itself_perfectly(name: str) -> None:
    a = _blobs(7, (8, 9, 10))
    (value,) = _values(a, a, (3.0, 1.0, 0.7), name, nsd_tolerance=0.0)
    expected = {"distance": 0.0, "overlap": 1.0, "background": 1.0, "size": 0.0}[FORMULAS[name].kind]
    assert value == pytest.approx(a.sum() * 2.1 / 1000 if name == "volume" else expected)


def test_surface_of_a_solid_block_is_its_shell() -> None:
    assert surface_voxels(np.ones((5, 5, 5), bool)).sum() == 125 - 27
    assert surface_voxels(_cube((9, 9), (2, 2), 4)).sum() == 12


@pytest.mark.parametrize("empties", ["standard", "nnunet"])
def test_empties_in_all_four_combinations(empties: Any) -> None:
    full, empty = _cube((6, 6, 6), (1, 1, 1), 3), np.zeros((6, 6, 6), bool)
    options = {"nsd_tolerance": 1.0, "empties": empties}
    nan = pytest.approx(math.nan, nan_ok=True)
    for name in (*OVERLAPS, *DISTANCES):
        perfect = 1.0 if name in OVERLAPS else 0.0
        worst = 0.0 if name in OVERLAPS else nan
        assert _values(full, full, (1.0,) * 3, name, **options) == [perfect]
        assert _values(empty, full, (1.0,) * 3, name, **options) == [worst]
        assert _values(full, empty, (1.0,) * 3, name, **options) == [worst]
        assert _values(empty, empty, (1.0,) * 3, name, **options) == [perfect if empties == "standard" else nan]
    kinds = [Comparison.of(*pair, (1.0,) * 3) for pair in ((full, full), (empty, full), (full, empty), (empty, empty))]
    assert [(c.both_empty, c.missed, c.invented) for c in kinds] == [
        (False, False, False),
        (False, True, False),
        (False, False, True),
        (True, False, False),
    ]


def test_pooled_slices_count_as_one_body() -> None:
    a, b = _blobs(8, (6, 12, 12)), _blobs(9, (6, 12, 12))
    slices = [Comparison.of(p, r, (1.0, 0.7)) for p, r in zip(a, b, strict=True)]
    whole = pool(slices)
    volume = Comparison.of(a, b, (3.0, 1.0, 0.7))
    overlap = ["dice", "jaccard", "recall", "precision", "accuracy", "specificity"]
    assert measure(whole, overlap) == measure(volume, overlap)
    every = [np.concatenate(c.surface_distances) for c in slices]
    assert measure(whole, ["assd"])["assd"].value == pytest.approx(np.concatenate(every).mean())


def test_a_missed_slice_is_counted_and_a_missed_organ_has_no_distance() -> None:
    full, empty = _cube((8, 8), (2, 2), 3), np.zeros((8, 8), bool)
    good, missed = Comparison.of(full, full, (1.0, 1.0)), Comparison.of(empty, full, (1.0, 1.0))
    pooled = pool([good, missed])
    assert measure(pooled, ["dice", "hd"])["dice"].value == pytest.approx(2 / 3)
    assert (measure(pooled, ["hd"])["hd"].value, pooled.without_distance) == (0.0, 1)
    # 8 surface voxels of either mask of the good slice, 8 of the missed one
    assert measure(pooled, ["nsd"], nsd_tolerance=1.0)["nsd"].value == pytest.approx(2 / 3)
    invented = Comparison.of(full, empty, (1.0, 1.0))
    crossed = pool([missed, invented])
    assert math.isnan(measure(crossed, ["hd"])["hd"].value)
    assert measure(crossed, ["nsd"], nsd_tolerance=9.0)["nsd"].value == 0.0


def test_every_number_names_its_formula() -> None:
    a = _cube((6, 6), (1, 1), 3)
    found = measure(Comparison.of(a, a, (1.0, 1.0)), ["dice", "nsd"], nsd_tolerance=2.5)
    assert found["dice"].formula == "2 TP / (2 TP + FP + FN)"
    assert "2.5 mm" in found["nsd"].formula


def test_bad_input_is_told() -> None:
    a = np.ones((3, 3), bool)
    with pytest.raises(GeometryError, match="grid of the reference"):
        Comparison.of(a, np.ones((3, 4), bool), (1.0, 1.0))
    with pytest.raises(GeometryError):
        Comparison.of(a, a, (1.0,))
    with pytest.raises(GeometryError):
        Comparison.of(a, a, (1.0, 0.0))
    with pytest.raises(InputError, match="nothing to compare"):
        Comparison.of(a[:0], a[:0], (1.0, 1.0))
    same = Comparison.of(a, a, (1.0, 1.0))
    with pytest.raises(InputError, match="no metric"):
        measure(same, ["dise"])
    with pytest.raises(InputError, match="tolerance"):
        measure(same, ["nsd"])
    with pytest.raises(InputError, match="cannot be pooled"):
        pool([same, Comparison.of(a, a, (1.0, 1.0), "px")])
    with pytest.raises(InputError, match="nothing to compare"):
        pool([])
