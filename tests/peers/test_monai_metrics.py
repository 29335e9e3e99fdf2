"""Our metrics and MONAI's, to 4 decimals, wherever both define the same thing."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from src_models.metrics import Comparison, measure

with warnings.catch_warnings():
    # what MONAI imports warns about itself
    warnings.simplefilter("ignore")
    import torch
    from monai.metrics import (
        compute_average_surface_distance,
        compute_dice,
        compute_hausdorff_distance,
        compute_iou,
        compute_surface_dice,
    )


def _masks(kind: str) -> tuple[np.ndarray, np.ndarray, tuple[float, ...]]:
    random = np.random.default_rng(0)
    if kind == "islands":
        # many parts, so that the 95th percentile lies between distances
        pair = [gaussian_filter(random.standard_normal((20, 24, 22)), 1.2) > 0.12 for _ in range(2)]
        return pair[0], pair[1], (3.0, 1.0, 0.8)
    if kind == "ball":
        z, y, x = np.meshgrid(*[np.arange(n) for n in (18, 30, 30)], indexing="ij")
        one = (3 * (z - 9)) ** 2 + (y - 14) ** 2 + (x - 15) ** 2 < 100
        other = (3 * (z - 8)) ** 2 + (y - 16) ** 2 + (x - 15) ** 2 < 81
        return one, other, (3.0, 1.0, 1.0)
    if kind == "border":
        one, other = np.zeros((2, 10, 12, 9), bool)
        one[:4, :6], other[:5, 2:9] = True, True
        return one, other, (2.0, 0.5, 1.5)
    if kind == "voxel":
        one, other = np.zeros((2, 10, 12, 9), bool)
        one[2, 3, 4], other[5, 6:8, 7] = True, True
        return one, other, (2.0, 0.5, 1.5)
    pair = [gaussian_filter(random.standard_normal((40, 50)), 2) > 0.05 for _ in range(2)]
    return pair[0], pair[1], (0.7, 1.3)


# MONAI calls itself in a way that it has deprecated
@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")
@pytest.mark.parametrize("kind", ["islands", "ball", "border", "voxel", "flat"])
def test_equal_to_monai(kind: str) -> None:
    a, b, spacing = _masks(kind)
    p, r = (torch.from_numpy(np.stack([~m, m])[None].astype(np.float32)) for m in (a, b))
    options = {"include_background": False, "spacing": list(spacing)}
    expected = {
        "dice": compute_dice(p, r, include_background=False),
        "jaccard": compute_iou(p, r, include_background=False),
        "hd": compute_hausdorff_distance(p, r, **options),
        "hd95": compute_hausdorff_distance(p, r, percentile=95, **options),
        "assd": compute_average_surface_distance(p, r, symmetric=True, **options),
        "nsd": compute_surface_dice(p, r, [1.5], **options),
    }
    found = measure(Comparison.of(a, b, spacing), list(expected), nsd_tolerance=1.5)
    for name, value in expected.items():
        assert found[name].value == pytest.approx(float(value), abs=5e-5), name
    there = compute_average_surface_distance(p, r, symmetric=False, **options)
    back = compute_average_surface_distance(r, p, symmetric=False, **options)
    assert measure(Comparison.of(a, b, spacing), ["masd"])["masd"].value == pytest.approx(
        float(there + back) / 2, abs=5e-5
    )
    assert measure(Comparison.of(a, b, spacing), ["avd_max"])["avd_max"].value == pytest.approx(
        float(torch.maximum(there, back)), abs=5e-5
    )
