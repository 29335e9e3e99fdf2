"""Sub-voxel measures against the sizes of balls."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from src_models.levelset import LevelSetParameters, evolve
from src_models.levelset.initial import Seeds, Sphere
from src_models.levelset.measures import occupancy, volume_mm3
from src_models.levelset.stencils import around
from tests.runs import states
from tests.scenes import ball, band_of, sphere_content

SPACINGS = [(1.0, 1.0), (3.0, 1.0), (1.0, 1.0, 1.0), (2.0, 2.0, 2.0), (3.0, 1.0, 1.0), (1.5, 0.7, 1.0)]


def volume_error(spacing, voxels, shift):
    """Relative error of the volume of a ball whose centre lies `shift` voxels from the middle of the grid."""
    radius = voxels * max(spacing)
    shape = tuple(int(2 * (radius + 4 * max(spacing)) / h) for h in spacing)
    middle = np.array([(n - 1) / 2 * h for n, h in zip(shape, spacing, strict=True)])
    u = band_of(ball(shape, spacing, radius, tuple(middle + np.asarray(shift) * spacing)), spacing)
    return abs(volume_mm3(torch.from_numpy(u), spacing) / sphere_content(radius, len(spacing)) - 1)


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("voxels", [5.0, 5.7, 8.0])
def test_the_volume_of_a_ball(spacing, voxels):
    """Within 0.5 % from a radius of 5 voxels on, wherever its centre lies between the voxels."""
    random = np.random.default_rng(0)
    for _ in range(6):
        assert volume_error(spacing, voxels, random.uniform(-0.5, 0.5, len(spacing))) <= 0.005


@pytest.mark.xfail(strict=True, reason="0.74 % at this place: the errors of all octants add up under the formula")
def test_the_volume_of_a_ball_centred_like_the_lattice():
    assert volume_error((2.0, 2.0, 2.0), 5.25, (0.0, 0.0, 0.0)) <= 0.005


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (3.0, 1.0, 0.7)])
def test_the_occupancy_of_a_plane_is_exact_along_an_axis(spacing):
    shape = (9, 8, 7)[: len(spacing)]
    for axis, h in enumerate(spacing):
        for front in (3.2, 3.5, 3.9):
            x = np.arange(shape[axis]) - front
            profile = np.clip(0.5 - x, 0, 1)
            u = np.moveaxis(np.broadcast_to(-x * h, np.moveaxis(np.empty(shape), axis, -1).shape), -1, axis)
            o = occupancy(around(torch.from_numpy(u.copy()), spacing))
            inside = (slice(None),) * axis + (slice(1, -1),)
            expected = np.moveaxis(np.broadcast_to(profile, np.moveaxis(np.empty(shape), axis, -1).shape), -1, axis)
            np.testing.assert_allclose(o[inside], expected[inside], atol=1e-12)


def test_the_occupancy_is_full_and_empty_away_from_the_front():
    u = torch.from_numpy(band_of(ball((30, 30), (1.0, 1.0), 9.0), (1.0, 1.0)))
    o = occupancy(around(u, (1.0, 1.0)))
    assert bool((o[u >= 1.5] == 1).all())
    assert bool((o[u <= -1.5] == 0).all())
    assert bool(((o >= 0) & (o <= 1)).all())


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (3.0, 1.0), (1.0, 1.0, 1.0), (3.0, 1.0, 1.0)])
def test_rate_and_area_of_a_growing_ball(spacing):
    """The rate is the front's mean speed, 1 here; the area is that of the sphere."""
    shape = tuple(int(44 / h) for h in spacing)
    centre = tuple((n - 1) / 2 * h for n, h in zip(shape, spacing, strict=True))
    p = LevelSetParameters(speed="region", curvature=0.0, time=3.0, auto_stop=False, dtype="float64")
    seen, _ = states(
        evolve(np.zeros(shape), Seeds(spheres=(Sphere(centre=centre, radius=13.0),)), spacing, p, np.ones(shape))
    )
    for state in seen[1:]:
        radius = 13.0 + state.time
        sphere = 2 * np.pi * radius if len(spacing) == 2 else 4 * np.pi * radius**2
        assert state.rate == pytest.approx(1.0, rel=0.06)
        assert state.area == pytest.approx(sphere, rel=0.03)
        assert state.free_area == pytest.approx(state.area, rel=1e-6)
        assert state.edge_on_front == pytest.approx(1.0)
        assert state.size == pytest.approx(sphere_content(radius, len(spacing)), rel=0.01)
        assert state.volume_ml == (pytest.approx(state.size / 1000) if len(spacing) == 3 else None)
    assert sum(s.rate * s.dt for s in seen[1:]) == pytest.approx(3.0, rel=0.05)
