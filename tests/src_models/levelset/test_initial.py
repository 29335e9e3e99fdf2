"""Starts: exact distances of what was drawn, in mm, with per-axis spacing."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.ndimage import label

from src_models.levelset import LevelSetParameters, evolve
from src_models.levelset.initial import Seeds, Sphere, Stroke, default_radius, from_labels, from_seeds
from tests.scenes import ball

H = (3.0, 1.0, 0.7)
SHAPE = (10, 24, 30)


def test_a_bubble_is_its_exact_distance():
    centre = (13.2, 11.0, 9.1)
    u, notes = from_seeds(Seeds(spheres=(Sphere(centre=centre, radius=5.5),)), SHAPE, H)
    np.testing.assert_allclose(u, ball(SHAPE, H, 5.5, centre), rtol=0, atol=1e-12)
    assert notes == ()
    clipped, _ = from_seeds(Seeds(spheres=(Sphere(centre=centre, radius=5.5),)), SHAPE, H, 4.0)
    np.testing.assert_allclose(clipped, np.clip(u, -4, 4), rtol=0, atol=1e-12)


def test_the_union_is_the_maximum():
    spheres = (Sphere(centre=(6.0, 8.0, 6.0), radius=5.0), Sphere(centre=(20.0, 14.0, 14.0), radius=6.0))
    together, _ = from_seeds(Seeds(spheres=spheres), SHAPE, H)
    alone = [from_seeds(Seeds(spheres=(s,)), SHAPE, H)[0] for s in spheres]
    np.testing.assert_array_equal(together, np.maximum(*alone))


def test_a_stroke_runs_through_slices():
    points = ((3.0, 4.0, 4.0), (24.0, 18.0, 15.0), (24.0, 20.0, 4.0))
    u, _ = from_seeds(Seeds(strokes=(Stroke(points=points, radius=2.5),)), SHAPE, H)
    # A chain of many small bubbles along the line is the same body.
    many = []
    for a, b in itertools.pairwise(points):
        many += [tuple(np.asarray(a) + t * (np.asarray(b) - np.asarray(a))) for t in np.linspace(0, 1, 400)]
    chain = np.max([ball(SHAPE, H, 2.5, p) for p in many], axis=0)
    np.testing.assert_allclose(u, chain, atol=0.01)
    assert label(u > 0, np.ones((3, 3, 3)))[1] == 1


@pytest.mark.parametrize("points", [((6.0, 5.0, 5.0),), ((6.0, 5.0, 5.0), (6.0, 5.0, 5.0))])
def test_a_stroke_of_one_place_is_a_bubble(points):
    u, _ = from_seeds(Seeds(strokes=(Stroke(points=points, radius=4.0),)), SHAPE, H)
    np.testing.assert_allclose(u, ball(SHAPE, H, 4.0, points[0]), atol=1e-12)


def test_two_hundred_bubbles_stay_two_hundred():
    """However small: a bubble that covers no voxel claims its nearest one, and says so."""
    places = [(3.0 * z, 2.0 * y, 2.1 * x) for z in (1, 4, 7, 9) for y in range(1, 11) for x in range(1, 6)]
    assert len(places) == 200
    seeds = Seeds(spheres=tuple(Sphere(centre=tuple(c + 0.3 for c in p), radius=0.05) for p in places))
    u, notes = from_seeds(seeds, (12, 24, 20), H, 4 * 3.0)
    assert label(u > 0)[1] == 200
    assert len(notes) == 200
    result = next(evolve(np.zeros((12, 24, 20)), seeds, H, LevelSetParameters()))
    assert label(result.mask)[1] == 200


def test_seeds_are_clipped_to_the_band_and_exact_beside_the_front():
    state = next(evolve(np.zeros(SHAPE), Seeds(spheres=(Sphere(centre=(13.0, 12.0, 10.0), radius=7.0),)), H,
                        LevelSetParameters(dtype="float64")))  # fmt: skip
    exact = ball(SHAPE, H, 7.0, (13.0, 12.0, 10.0))
    np.testing.assert_allclose(state.level_set, np.clip(exact, -12, 12), atol=1e-12)


def test_labels_of_any_kind_are_one_mask():
    mask = ball((20, 20), (1.0, 1.0), 6.0) > 0
    expected = from_labels(mask, (1.0, 1.0), 4.0)
    for drawn in (mask, mask.astype(np.uint8) * 7, mask.astype(np.int64) * -1):
        state = next(evolve(np.zeros((20, 20)), drawn, (1.0, 1.0), LevelSetParameters(dtype="float64")))
        np.testing.assert_array_equal(state.mask, mask)
        np.testing.assert_allclose(state.level_set, expected, atol=1e-12)


def test_a_float_array_is_u_and_keeps_its_front():
    """Scaled or not: the zero crossing counts."""
    exact = ball((24, 24), (1.0, 1.0), 7.3)
    for scale in (1.0, 5.0, 0.2):
        state = next(evolve(np.zeros((24, 24)), scale * exact, (1.0, 1.0), LevelSetParameters(dtype="float64")))
        np.testing.assert_array_equal(state.mask, exact > 0)
        # The voxels are 1 mm: the crossing may move by what the linear fit of a circle misses.
        band = np.abs(exact) < 2
        np.testing.assert_allclose(state.level_set[band], exact[band], atol=0.2)


def test_the_default_radius_is_an_eighth_of_the_smallest_side():
    assert default_radius((10, 24, 30), H) == pytest.approx(30 * 0.7 / 8)
    assert default_radius((1, 24, 30), H) == pytest.approx(21.0 / 8)
