"""How far networks pool, on the cases of the specification and at the edges of the rules."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from src_models.training.topology import features_per_stage, map_sizes, topology


@pytest.mark.parametrize(
    ("spacing", "patch", "pools"),
    [
        ((1, 1, 1), (128, 128, 128), (5, 5, 5)),
        ((5, 1, 1), (40, 256, 256), (3, 6, 6)),
        ((2.5, 0.8, 0.8), (64, 192, 160), (4, 5, 5)),
        ((1, 1, 1), (35, 50, 35), (3, 3, 3)),
        ((1, 1), (256, 256), (6, 6)),
    ],
)
def test_pools_of_known_patches(spacing, patch, pools):
    assert topology(spacing, patch).pools == pools


def test_kernels_grow_with_the_voxels():
    found = topology((5, 1, 1), (40, 256, 256))
    assert found.kernels[:2] == ((1, 3, 3), (1, 3, 3))
    assert found.kernels[2:] == ((3, 3, 3),) * (found.stages - 2)


def test_twice_exactly_is_too_long():
    assert topology((2.0, 1.0, 1.0), (64, 64, 64)).strides[1] == (1, 2, 2)
    assert topology((1.9999, 1.0, 1.0), (64, 64, 64)).strides[1] == (2, 2, 2)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_an_axis_below_eight_voxels_is_judged_by_its_own_spacing(axis):
    patch = [64, 64, 64]
    patch[axis] = 7
    found = topology((1, 1, 1), patch)
    assert found.pools[axis] == 0
    assert [n for k, n in enumerate(found.pools) if k != axis] == [4, 4]
    assert found.patch[axis] == 7


def test_a_single_axis_needs_twelve():
    assert topology((1, 1), (12, 7)).pools == (1, 0)
    assert topology((1, 1), (11, 7)).pools == (0, 0)
    assert topology((1, 1), (8, 8)).pools == (1, 1)


def test_maps_end_with_four_to_seven_voxels_and_patches_are_padded_up():
    rng = np.random.default_rng(0)
    for _ in range(50):
        patch = rng.integers(8, 300, 3)
        found = topology((1, 1, 1), patch)
        assert all(n % d == 0 and n >= m for n, d, m in zip(found.patch, found.divisors, patch, strict=True))
        assert min(n // d for n, d in zip(found.patch, found.divisors, strict=True)) <= 7 or min(patch) < 12
    assert topology((1, 1, 1), (35.5, 51.5, 36)).patch == (40, 56, 40)


def test_features_double_and_stop():
    assert features_per_stage(7, 3) == (32, 64, 128, 256, 320, 320, 320)
    assert features_per_stage(7, 2) == (32, 64, 128, 256, 512, 512, 512)


def test_the_sum_of_map_sizes_is_what_a_network_of_that_shape_writes():
    """Count the elements that every convolution of a small U-Net writes."""
    shape = topology((2.5, 1, 1), (16, 64, 48))
    features = [2 * n // 32 for n in features_per_stage(shape.stages, 3)]
    counted = 0

    def count(_module, _inputs, output):
        nonlocal counted
        counted += output.numel()

    def conv(before, after, kernel, stride=1):
        layer = nn.Conv3d(before, after, kernel, stride, tuple(k // 2 for k in kernel))
        layer.register_forward_hook(count)
        return layer

    x, skips, channels = torch.zeros(1, 1, *shape.patch), [], 1
    with torch.no_grad():
        for wide, kernel, stride in zip(features, shape.kernels, shape.strides, strict=True):
            x = conv(wide, wide, kernel)(conv(channels, wide, kernel, stride)(x))
            channels = wide
            skips.append(x)
        for level in reversed(range(shape.stages - 1)):
            stride = shape.strides[level + 1]
            up = nn.ConvTranspose3d(channels, features[level], stride, stride)
            up.register_forward_hook(count)
            x = torch.cat([up(x), skips[level]], 1)
            x = conv(2 * features[level], features[level], shape.kernels[level])(x)
            x = conv(features[level], features[level], shape.kernels[level])(x)
            channels = features[level]
        conv(channels, 3, (1, 1, 1))(x)
    twos = (2,) * shape.stages
    assert map_sizes(shape, features, twos, twos[1:], 3, residual=False) == counted
