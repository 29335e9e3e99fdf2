"""Our run and the peer's on one scene, made comparable: at rest, or at equal volume. Tests and tables use the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_models.levelset import LevelSetParameters, LevelSetResult, evolve
from src_models.levelset.speed import speed_image
from tests.peers.programs import convert3d_at_rest, geodesic_active_contour
from tests.runs import finish
from tests.scenes import Scene, dice, surface_distance


@dataclass(frozen=True, eq=False)
class AtRest:
    """Region mode beside Convert3D, both at rest.

    Attributes
    ----------
    rest : float
        Dice of the peer's N and 2N iterations.
    agreement : float
        Dice of the two programs.
    distance : float
        Mean distance of their borders, mm.
    ours, theirs : float
        Dice with the truth.
    """

    rest: float
    agreement: float
    distance: float
    ours: float
    theirs: float


def region_at_rest(scene: Scene, curvature: float) -> AtRest:
    """Run both from the scene's start until nothing moves."""
    speed = scene.region_speed
    # The front needs about six iterations a voxel; curvature shortens their step as it does ours.
    iterations = int((100 + 8 * scene.reach / min(scene.spacing)) * (1 + 2 * curvature))
    peer, rest = convert3d_at_rest(speed, scene.start, scene.spacing, curvature, iterations)
    # The guard would rightly stop at the neck of the dumbbell; here both fill what the speed allows.
    parameters = LevelSetParameters(speed="region", curvature=curvature, guard="off", steps=5000)
    mask = finish(evolve(scene.image, scene.start, scene.spacing, parameters, speed)).mask
    return AtRest(
        rest,
        dice(mask, peer.mask),
        surface_distance(mask, peer.mask, scene.spacing),
        dice(mask, scene.truth),
        dice(peer.mask, scene.truth),
    )


@dataclass(frozen=True, eq=False)
class AtEqualVolume:
    """Edge mode beside SimpleITK's geodesic active contour, at equal volume.

    Attributes
    ----------
    agreement : float
        Dice of the two.
    volumes : tuple of int
        Voxels inside, ours and theirs.
    theirs : float
        Dice of the peer with the truth, to see whether it is still contained.
    """

    agreement: float
    volumes: tuple[int, int]
    theirs: float


def edge_at_equal_volume(scene: Scene, iterations: int, curvature: float = 0.2) -> AtEqualVolume:
    """Run the peer for a number of iterations, and ours until it holds as many voxels.

    Both get the same g and the same start; g is blurred by 1 mm before its gradient, as the peer does.
    """
    parameters = LevelSetParameters(
        speed="edge", curvature=curvature, convection_sigma=1.0, auto_stop=False, steps=1500
    )
    edge = speed_image(scene.image, scene.spacing, parameters)
    run = evolve(scene.image, scene.start, scene.spacing, parameters, edge)
    state = next(run)
    peer = geodesic_active_contour(edge, state.level_set.copy(), scene.spacing, iterations, curvature=curvature).mask
    wanted = int(peer.sum())
    before = mask = state.mask
    for state in run:
        before, mask = mask, state.mask
        if mask.sum() >= wanted:
            break
    run.close()
    mask = min((before, mask), key=lambda m: abs(int(m.sum()) - wanted))
    return AtEqualVolume(dice(mask, peer), (int(mask.sum()), wanted), dice(peer, scene.truth))


def edge_to_its_own_stop(scene: Scene) -> LevelSetResult:
    """Edge mode with default settings and automatic stop."""
    return finish(evolve(scene.image, scene.start, scene.spacing, LevelSetParameters(speed="edge")))


def edge_peer_left_running(scene: Scene, iterations: int) -> NDArray[Any]:
    """The peer on our default g, from our start, for a number of iterations: it has no rule to stop by."""
    parameters = LevelSetParameters(speed="edge")
    edge = speed_image(scene.image, scene.spacing, parameters)
    start = next(evolve(scene.image, scene.start, scene.spacing, parameters, edge)).level_set
    return np.asarray(geodesic_active_contour(edge, start.copy(), scene.spacing, iterations).mask)
