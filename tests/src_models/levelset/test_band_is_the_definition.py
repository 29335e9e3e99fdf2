"""The reference visits few voxels and must give what the dense step gives on all of them, bit for bit."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from src_models.levelset import LevelSetParameters, evolve
from src_models.levelset.equation import explicit_step
from src_models.levelset.fields import SpeedFields, speed_images
from src_models.levelset.initial import band_width, from_labels
from src_models.levelset.redistancing import rescaled_near, sweep_step, swept
from src_models.levelset.speed import as_image, with_range
from src_models.levelset.stencils import around

MODES = list(
    itertools.product(
        ("edge", "region"),
        ("godunov", "osher_sethian", "central", "none"),
        (1, 2),
        ("quotient", "nested"),
        ("front", "voxel"),
    )
)
GRIDS = [
    ((34, 30), (1.0, 1.0)),
    ((20, 34), (3.0, 1.0)),
    ((18, 20, 22), (1.0, 1.0, 1.0)),
    ((12, 20, 22), (3.0, 1.0, 1.0)),
    ((18, 26, 22), (1.5, 0.7, 1.0)),
    ((1, 30, 28), (5.0, 1.0, 0.7)),
]


def noisy_ball(shape: tuple[int, ...], spacing: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """A blurred bright ball of radius 7 mm off the centre, with noise, and a seed inside it that crosses its border."""
    axes = [(np.arange(n) - 0.45 * n) * h for n, h in zip(shape, spacing, strict=True)]
    r = np.sqrt(sum(x**2 for x in np.meshgrid(*axes, indexing="ij")))
    noise = np.random.default_rng(1).normal(0, 4, shape)
    return 60 + 100 / (1 + np.exp((r - 7) / 0.9)) + noise, r < 4


@pytest.mark.parametrize(("shape", "spacing"), GRIDS)
@pytest.mark.parametrize("mode", MODES, ids=str)
def test_a_run_equals_dense_steps(shape, spacing, mode):
    speed, gradient, order, form, speed_at = mode
    p = LevelSetParameters(
        speed=speed,
        gradient=gradient,
        order=order,
        curvature_form=form,
        speed_at=speed_at,
        time_step=0.05,
        steps=5,
        auto_stop=False,
        dtype="float64",
        engine="reference",
    )
    image, seed = noisy_ball(shape, spacing)
    walls = np.zeros(shape, bool)
    walls[..., 9] = True
    run = evolve(image, seed, spacing, p, walls=walls)
    u = torch.from_numpy(next(run).level_set.copy())
    plain = as_image(image, spacing)
    fields = SpeedFields(
        speed_images(plain, spacing, with_range(plain, p)), spacing, p, torch.empty(0, dtype=torch.float64)
    )
    fields.set_walls(torch.from_numpy(walls.reshape(-1)))
    for state in run:
        n = around(u, spacing)
        speeds = fields.at_front(n) if speed_at == "front" else fields.at_voxels(n)
        u = explicit_step(
            u,
            spacing,
            speeds,
            state.dt,
            p,
            band_width_mm=band_width(spacing, shape, p.band),
            walls=torch.from_numpy(walls),
        )
    np.testing.assert_array_equal(state.level_set, u.numpy())


@pytest.mark.parametrize("engine", ["reference", "band"])
@pytest.mark.parametrize(("shape", "spacing"), GRIDS)
def test_a_pin_far_from_the_front_is_felt_as_far_as_redistancing_reaches(shape, spacing, engine):
    """Beside a lone pin the level set is still at -w: redistancing begins one layer outside the band."""
    p = LevelSetParameters(speed="region", time_step=0.05, steps=4, auto_stop=False, dtype="float64", engine=engine)
    image, seed = noisy_ball(shape, spacing)
    pins = np.zeros(shape, bool)
    pins[..., -2, -2] = True
    run = evolve(image, seed, spacing, p, pins=pins)
    u = torch.from_numpy(next(run).level_set.copy())
    plain = as_image(image, spacing)
    fields = SpeedFields(speed_images(plain, spacing, with_range(plain, p)), spacing, p, u[:0, :0].reshape(-1))
    for state in run:
        u = explicit_step(
            u,
            spacing,
            fields.at_front(around(u, spacing)),
            state.dt,
            p,
            band_width_mm=band_width(spacing, shape, p.band),
            pins=torch.from_numpy(pins),
        )
        np.testing.assert_allclose(state.level_set, u.numpy(), atol=1e-12)


@pytest.mark.parametrize(("shape", "spacing"), GRIDS)
def test_full_redistancing_equals_dense_sweeps(shape, spacing):
    _, seed = noisy_ball(shape, spacing)
    width = band_width(spacing, shape, 4.0)
    start = torch.from_numpy(np.where(seed, width, -width))
    near, u = rescaled_near(around(start, spacing), 0.0)
    u = u.clamp(-width, width)
    for _ in range(int(np.ceil(2 * width / sweep_step(spacing, shape)))):
        u = swept(around(u, spacing), near, width, 2)
    np.testing.assert_array_equal(from_labels(seed, spacing, width), u.numpy())


def test_rolling_back_restores_every_voxel():
    """After a leak the level set is the one that the state of that step had, not only near the front."""
    y, x = np.mgrid[:64, :110]
    chamber = np.hypot(y - 31.5, x - 31.5)
    speed = np.where((chamber < 24) | (chamber > 27) | ((np.abs(y - 31.5) < 2.2) & (x > 40)), 1.0, -1.0)
    seed = np.hypot(y - 31.5, x - 12) < 3
    kept = {}
    for state in evolve(speed, seed, (1.0, 1.0), LevelSetParameters(speed="region", steps=600), speed_image=speed):
        if state.stop_reason is None:
            kept[state.iteration] = state.level_set.copy()
    assert state.stop_reason == "leak"
    assert max(kept) > state.iteration
    np.testing.assert_array_equal(state.level_set, kept[state.iteration])
    assert state.mask[chamber < 24].all()
    assert state.mask[chamber > 27].sum() < 10
    assert np.hypot(state.leak_at[0] - 31.5, state.leak_at[1] - 60) < 5
