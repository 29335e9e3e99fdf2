"""Unpooling puts each value back where it came from, as torch's own does, for any batch and any padded size."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from src_models.networks.network import pad_far
from src_models.networks.unpool import Unpool, pool_with_indices

TORCH = {
    2: (functional.max_pool2d, functional.max_unpool2d),
    3: (functional.max_pool3d, functional.max_unpool3d),
}
SIZES = [(2, (8, 6)), (2, (37, 41)), (2, (1, 5)), (3, (4, 6, 8)), (3, (5, 1, 9))]


def noise(ndim: int, size: tuple[int, ...], multiple: int) -> torch.Tensor:
    """A batch of 3 with 4 channels, padded at the far ends as a network pads; padding makes equal values."""
    image = torch.randn(3, 4, *size, generator=torch.Generator().manual_seed(ndim))
    return pad_far(image, [-(-n // multiple) * multiple for n in size])


@pytest.mark.parametrize("factor", [2, 3])
@pytest.mark.parametrize(("ndim", "size"), SIZES)
def test_pool_and_unpool_equal_those_of_torch(ndim: int, size: tuple[int, ...], factor: int) -> None:
    image = noise(ndim, size, factor)
    pool, unpool = TORCH[ndim]
    values, indices = pool(image, factor, return_indices=True)
    own_values, places = pool_with_indices(image, factor)
    assert torch.equal(own_values, values)
    assert torch.equal(Unpool(factor)(own_values, places), unpool(values, indices, factor))


@pytest.mark.parametrize(("ndim", "size"), SIZES)
def test_each_value_returns_to_its_voxel_and_all_others_are_zero(ndim: int, size: tuple[int, ...]) -> None:
    image = noise(ndim, size, 2).abs() + 1
    values, places = pool_with_indices(image)
    back = Unpool()(values, places)
    kept = back != 0
    assert torch.equal(back[kept], image[kept])
    assert int(kept.sum()) == values.numel()
    assert torch.equal(pool_with_indices(back)[0], values)


def test_a_place_does_not_depend_on_what_lies_around_the_window() -> None:
    image = noise(3, (4, 6, 8), 2)
    _, places = pool_with_indices(image)
    _, alone = pool_with_indices(image[1:2, :, 2:, :4, 4:])
    assert torch.equal(alone, places[1:2, :, 1:, :2, 2:])


def test_the_gradient_goes_where_the_values_went() -> None:
    image = noise(2, (6, 8), 2).double().requires_grad_()
    weights = torch.randn(image.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    (Unpool()(*pool_with_indices(image)) * weights).sum().backward()
    largest = functional.interpolate(pool_with_indices(image)[0], scale_factor=2, mode="nearest") == image
    assert torch.equal(image.grad, torch.where(largest, weights, 0))
