"""Responses by region: the sums are those of the feature maps themselves, regions lie where they should."""

from __future__ import annotations

import csv
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from src_models.errors import InputError
from src_models.inference.feature_map import kernel_response
from src_models.kernels import KernelAnalysisParameters, analyse
from src_models.kernels.collect import collect_module
from src_models.kernels.evaluation import EvaluationCase
from src_models.kernels.region_masks import on_grid, region_masks
from src_models.kernels.region_sums import RegionSums
from src_models.kernels.regions import region_responses
from src_models.kernels.regions_report import draw_regions, kernels_csv, regions_csv, regions_section
from src_models.networks.placement import Placement
from src_models.preprocessing.parameters import Channel, Preprocessing
from src_models.progress import finish
from tests.src_models.kernels.networks import seeded
from tests.src_models.weights.models import card_for, small_network

LAYERS: list[nn.Module] = [
    nn.Conv2d(3, 4, 3, padding=1),
    nn.Conv2d(2, 3, 3, padding=1, stride=2, padding_mode="replicate"),
    nn.Conv2d(2, 3, 3, padding=2, dilation=2, padding_mode="reflect"),
    nn.Conv2d(4, 6, 3, groups=2),
    nn.Conv2d(2, 2, 5, padding=2),
    nn.ConvTranspose2d(3, 2, 3, stride=2, padding=1, output_padding=1),
    nn.ConvTranspose2d(4, 6, 3, groups=2, dilation=2),
    nn.Conv3d(2, 3, (1, 3, 3), padding=(0, 1, 1)),
    nn.Conv3d(2, 2, 3, padding=1, stride=(1, 2, 2)),
    nn.ConvTranspose3d(2, 2, 3, stride=2, padding=1),
]


@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_means_and_effects_are_those_of_the_feature_maps(layer: Any) -> None:
    seeded(layer, 3)
    random = torch.Generator().manual_seed(0)
    size = (9, 8) if len(layer.kernel_size) == 2 else (5, 6, 7)
    images = [torch.randn((1, layer.in_channels, *size), generator=random) for _ in range(2)]
    (collected,) = collect_module(layer).layers
    sums = RegionSums(collected, 4, 3)
    maps, masks = [], []
    with torch.no_grad():
        for image in images:
            shape = layer(image).shape[2:]
            part = np.random.default_rng(1).integers(0, 3, shape)
            regions = np.stack([part == 0, part == 1, part == 2, part != 1])
            # two voxels beyond the image belong to no region
            regions.reshape(4, -1)[:, :2] = False
            sums.add(layer, image, regions)
            outs, ins = collected.channels()
            several = [
                kernel_response(layer, image, int(o), int(i)).double().numpy() for o, i in zip(outs, ins, strict=True)
            ]
            maps.append(np.stack(several))
            masks.append(regions)
    mean, effect = sums.responses(collected.flat)
    for row in range(collected.count):
        everything = np.concatenate([m[row][regions[:3].any(0)] for m, regions in zip(maps, masks, strict=True)])
        for region in range(4):
            values = np.concatenate([m[row][regions[region]] for m, regions in zip(maps, masks, strict=True)])
            rest = np.concatenate(
                [m[row][regions[:3].any(0) & ~regions[region]] for m, regions in zip(maps, masks, strict=True)]
            )
            pooled = np.sqrt((values.var() * len(values) + rest.var() * len(rest)) / len(everything))
            assert mean[row, region] == pytest.approx(values.mean(), abs=1e-5)
            assert effect[row, region] == pytest.approx((values.mean() - rest.mean()) / pooled, abs=1e-5)


def test_effects_do_not_depend_on_scale_and_turn_with_the_sign() -> None:
    layer = seeded(nn.Conv2d(1, 5, 3, padding=1))
    (collected,) = collect_module(layer).layers
    sums = RegionSums(collected, 3, 3)
    part = np.arange(64).reshape(8, 8) % 3
    sums.add(
        layer,
        torch.randn((1, 1, 8, 8), generator=torch.Generator().manual_seed(1)),
        np.stack([part == k for k in range(3)]),
    )
    (mean, effect), (more, other) = sums.responses(collected.flat), sums.responses(-7 * collected.flat)
    assert more == pytest.approx(-7 * mean)
    assert other == pytest.approx(-effect)
    zero = sums.responses(np.zeros_like(collected.flat))[1]
    assert np.isnan(zero).all(), "a constant response has no effect size"


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (2.0, 0.5)])
def test_regions_part_the_image_and_the_band_has_its_width(spacing: tuple[float, float]) -> None:
    labels = np.zeros((40, 60), np.int16)
    labels[10:30] = 2
    found = region_masks(labels, (2,), spacing, 3.0)
    assert sum(mask.astype(int) for mask in found.values()).min() == 1
    assert sum(mask.astype(int) for mask in found.values()).max() == 1
    width = int(3 / spacing[0])
    assert np.flatnonzero(found["boundary"][:, 0]).tolist() == [
        *range(10 - width, 10 + width),
        *range(30 - width, 30 + width),
    ]
    assert not (found["inside"] & (labels != 2)).any()
    nothing = region_masks(np.zeros((4, 4), int), (2,), spacing, 3.0)
    assert nothing["outside"].all()


def test_regions_are_found_again_on_the_voxels_of_a_layer() -> None:
    """A strided layer's voxel k lies at start + jump k; a window and a resampling move it; beyond is nothing."""
    mask = np.zeros((1, 20, 20), bool)
    mask[0, 10:, :] = True
    place = Placement((0.5, 0.5), (2.0, 2.0))
    found = on_grid(mask, place, ((0, 0), (20, 20)), (1.0, 1.0), (10, 11))
    assert np.flatnonzero(found[0, :, 0]).tolist() == [5, 6, 7, 8, 9]
    assert not found[0, :, 10].any(), "padding lies outside the image"
    moved = on_grid(mask, place, ((6, 0), (12, 20)), (1.0, 1.0), (6, 10))
    assert np.flatnonzero(moved[0, :, 0]).tolist() == [2, 3, 4, 5]
    half = on_grid(mask, place, ((0, 0), (10, 20)), (2.0, 1.0), (5, 10))
    # voxel 2 of the layer lies at 4.5 of the prepared and at 9.5 of the image: at the border's far side
    assert np.flatnonzero(half[0, :, 0]).tolist() == [2, 3, 4]


def _cases(count: int, spacing: tuple[float, float] = (1.0, 1.0)) -> list[EvaluationCase]:
    made = []
    for k in range(count):
        y, x = np.indices((48, 48))
        mask = (y - 22 - k) ** 2 + (x - 24) ** 2 < 144
        labels = mask.astype(np.int16)
        labels[40:, 40:] = 2
        image = 100.0 * mask + np.random.default_rng(k).normal(size=mask.shape)
        made.append(EvaluationCase(f"c{k}", f"p{k}", image[None].astype(np.float32), spacing, labels))
    return made


def _first_layer_of(*kernels: Any) -> Any:
    network: Any = small_network()
    first = next(module for module in network.modules() if isinstance(module, nn.Conv2d))
    with torch.no_grad():
        for out, kernel in enumerate(kernels):
            first.weight[out, 0] = torch.tensor(kernel)
    return network


def _card(network: Any) -> Any:
    return card_for(
        network,
        patch=(48, 48),
        preprocessing=Preprocessing(channels=(Channel(name="CT", normalisation="nonorm"),), unit="mm"),
    )


def test_averages_see_the_inside_and_differences_the_boundary() -> None:
    blur, slope = np.full((3, 3), 1 / 9), np.outer([1.0, 2, 1], [-1, 0, 1])
    laplacian = np.array([[0, 1.0, 0], [1, -4, 1], [0, 1, 0]])
    network = _first_layer_of(blur, slope, laplacian)
    report = finish(analyse(network, KernelAnalysisParameters(n=16, null_draws=100, cluster_draws=0, threads=1)))
    state = {key: value.clone() for key, value in network.state_dict().items()}
    cases = _cases(3)
    found = finish(region_responses(network, _card(network), report, cases, band=2.0))
    assert found.regions == ("inside", "boundary", "outside", "liver", "label 2")
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())
    inside, _, outside = found.effect[0, :3]
    assert inside > 1
    assert outside < -1
    assert found.mean[0, 0] == pytest.approx(100, abs=1)
    assert found.mean[0, 2] == pytest.approx(0, abs=1)
    # a slope has both signs along a circle, so its mean is nothing there; second differences are not that even
    assert abs(found.effect[1, 1]) < 0.2
    assert abs(found.mean[2, 0]) < 1
    assert np.isfinite(found.effect).all()
    every = [one for one in found.classes if one.kind == "all"]
    assert [one.region for one in every] == list(found.regions)
    assert every[0].kernels == len(report.table)
    assert every[0].patients == 3
    assert every[0].low <= every[0].effect <= every[0].high
    assert every[0].absolute == pytest.approx(np.abs(found.effect[:, 0]).mean(), rel=0.05)
    again = finish(region_responses(network, _card(network), report, cases, band=2.0))
    assert again.classes == found.classes
    rows = list(csv.DictReader(regions_csv(found).decode().splitlines()))
    assert len(rows) == len(found.classes)
    assert rows[0]["band"] == "2"
    of_kernels = list(csv.DictReader(kernels_csv(found, report).decode().splitlines()))
    assert len(of_kernels) == len(report.table)
    assert float(of_kernels[0]["effect_inside"]) == pytest.approx(inside, rel=1e-5)
    section = regions_section(found, draw_regions(found))
    assert "within 2 mm" in section
    assert draw_regions(found) == draw_regions(again)


def test_random_kernels_are_no_more_than_chance() -> None:
    """A layer of random kernels: what goes beyond random kernels is small beside what there is."""
    network = seeded(small_network(base_width=8))
    report = finish(analyse(network, KernelAnalysisParameters(n=16, null_draws=100, cluster_draws=0, threads=1)))
    found = finish(region_responses(network, _card(network), report, _cases(2)))
    for one in found.classes:
        if one.kind == "all":
            assert abs(one.excess) < 0.15 * one.absolute


def test_what_cannot_be_looked_at_is_told() -> None:
    network = small_network()
    report = finish(analyse(network, KernelAnalysisParameters(n=16, null_draws=100, cluster_draws=0, threads=1)))
    card, cases = _card(network), _cases(1)
    alone = EvaluationCase("a", "a", cases[0].image, (1, 1), None)
    other = EvaluationCase("a", "a", cases[0].image, (1, 1), np.full((48, 48), 7, np.int16))
    pixels = EvaluationCase("b", "b", cases[0].image, (1, 1), cases[0].labels, "px")
    for several, band, words in (
        ([], 3.0, "no case"),
        ([alone], 3.0, "need labels"),
        ([other], 3.0, "none of the labels 1"),
        (cases, 0.0, "width above 0"),
        ([*cases, pixels], 3.0, "cannot be mixed"),
    ):
        with pytest.raises(InputError, match=words):
            finish(region_responses(network, card, report, several, band=band))
