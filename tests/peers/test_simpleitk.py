"""Edge mode against SimpleITK's geodesic active contour: the same shapes at equal volume, and where it has no stop."""

from __future__ import annotations

import pytest

from tests.peers.comparing import edge_at_equal_volume, edge_peer_left_running, edge_to_its_own_stop
from tests.scenes import (
    ball_scene,
    dice,
    dumbbell_scene,
    star_scene,
    thick_slices_scene,
    two_balls_scene,
)

SCENES = {"ball": ball_scene, "two balls": two_balls_scene, "dumbbell": dumbbell_scene, "star": star_scene}


@pytest.mark.parametrize("curvature", [0.2, 1.0])
@pytest.mark.parametrize("name", SCENES)
@pytest.mark.parametrize("iterations", [100, pytest.param(200, marks=pytest.mark.slow)])
def test_equal_shapes_at_equal_volume(name, curvature, iterations):
    """3:1 voxels are left to the table: the peer's balloon is 8 to 14 % slow there."""
    scene = SCENES[name](4.0)
    found = edge_at_equal_volume(scene, iterations, curvature)
    assert abs(found.volumes[0] - found.volumes[1]) < 0.02 * found.volumes[1]
    assert found.volumes[1] > 1.5 * scene.start.sum()
    assert found.agreement >= 0.98


EARLY = pytest.mark.xfail(strict=True, reason="0.941: rolled back from the leak at the contact to a front still short")


@pytest.mark.parametrize(
    ("make", "noise"),
    [
        (thick_slices_scene, 10.0),
        (star_scene, 10.0),
        (two_balls_scene, 10.0),
        (thick_slices_scene, 4.0),
        (star_scene, 4.0),
        pytest.param(two_balls_scene, 4.0, marks=EARLY),
    ],
)
def test_default_settings_find_the_truth_and_stop(make, noise):
    """Where the peer, left running, runs out of two of them."""
    scene = make(noise)
    assert dice(edge_to_its_own_stop(scene).mask, scene.truth) >= 0.95


def test_the_peer_left_running_leaves_the_first_ball():
    scene = two_balls_scene()
    assert dice(edge_peer_left_running(scene, 1000), scene.truth) < 0.8
