"""The compiled engine is held to the reference: every mode, both precisions, walls and pins, any number of threads."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from src_models.levelset import Constraints, LevelSetParameters, Resume, evolve
from src_models.levelset import band_kernels as kernels
from src_models.levelset.band import BandEngine
from src_models.levelset.band_storage import redistanced
from src_models.levelset.fields import speed_images
from src_models.levelset.initial import band_width
from src_models.levelset.redistancing import redistance, redistance_fully
from src_models.levelset.speed import as_image, with_range
from tests.runs import states

MODES = list(
    itertools.product(
        ("edge", "region"),
        ("godunov", "osher_sethian", "central", "none"),
        (1, 2),
        ("quotient", "nested"),
        ("front", "voxel"),
    )
)
# Lengths below, at and above multiples of 16, the length of a segment; every axis of length 1 once.
GRIDS = [
    ((34, 30), (1.0, 1.0)),
    ((20, 33), (3.0, 1.0)),
    ((18, 20, 22), (1.0, 1.0, 1.0)),
    ((12, 20, 32), (3.0, 1.0, 1.0)),
    ((18, 26, 16), (1.5, 0.7, 1.0)),
    ((1, 30, 28), (5.0, 1.0, 0.7)),
    ((30, 28, 1), (1.0, 0.7, 5.0)),
    ((30, 1, 28), (1.0, 5.0, 0.7)),
]


def picture(shape, spacing, seed=1):
    """A blurred bright ball of radius 7 mm off the centre, with noise, and a seed inside it that crosses its border."""
    axes = [(np.arange(n) - 0.45 * n) * h for n, h in zip(shape, spacing, strict=True)]
    r = np.sqrt(sum(x**2 for x in np.meshgrid(*axes, indexing="ij")))
    noise = np.random.default_rng(seed).normal(0, 4, shape)
    return 60 + 100 / (1 + np.exp((r - 7) / 0.9)) + noise, r < 4


def both(image, start, spacing, parameters, speed_image=None, sent=None, **more):
    """States and results of the two engines."""
    out = []
    for engine in ("reference", "band"):
        p = parameters.model_copy(update={"engine": engine})
        run = evolve(image, start, spacing, p, speed_image, **more)
        seen, message = [], None
        while True:
            try:
                state = next(run) if message is None else run.send(message)
            except StopIteration as end:
                out.append((seen, end.value))
                break
            assert state.run.engine.name == engine
            measures = (state.size, state.area, state.free_area, state.rate, state.edge_on_front, state.dt)
            seen.append((state.level_set.copy(), measures, state.changed_box, state.stop_reason, state.leak_at))
            message = (sent or {}).get(state.iteration)
    return out


def agree(reference, band, tolerance, relative=1e-9):
    """Every state of two runs."""
    assert len(reference) == len(band)
    for k, (ours, theirs) in enumerate(zip(band, reference, strict=True)):
        apart = np.abs(ours[0] - theirs[0])
        apart[np.abs(theirs[0]) < 1e-12] = 0  # a voxel on the front may change side by a rounding
        assert apart.max() <= tolerance * max(k, 1), k
        np.testing.assert_allclose(ours[1], theirs[1], rtol=relative, atol=1e-9)


@pytest.mark.parametrize(("number", "mode"), list(enumerate(MODES)), ids=str)
@pytest.mark.parametrize("turn", [0, 3])
def test_every_mode_steps_like_the_reference(number, mode, turn):
    shape, spacing = GRIDS[(number + turn) % len(GRIDS)]
    speed, gradient, order, form, speed_at = mode
    p = LevelSetParameters(
        speed=speed,
        gradient=gradient,
        order=order,
        curvature_form=form,
        speed_at=speed_at,
        curvature=0.3,
        steps=4,
        auto_stop=False,
        dtype="float64",
    )
    image, start = picture(shape, spacing)
    (reference, _), (band, _) = both(image, start, spacing, p)
    agree(reference, band, 1e-12)


@pytest.mark.parametrize(("shape", "spacing"), GRIDS, ids=str)
@pytest.mark.parametrize("speed", ["edge", "region"])
def test_fifty_steps_stay_together(shape, spacing, speed):
    p = LevelSetParameters(speed=speed, steps=50, auto_stop=False, dtype="float64")
    image, start = picture(shape, spacing)
    (reference, _), (band, _) = both(image, start, spacing, p)
    agree(reference, band, 1e-9 / 50, relative=1e-6)


@pytest.mark.parametrize(("shape", "spacing"), GRIDS[:6], ids=str)
@pytest.mark.parametrize("speed", ["edge", "region"])
def test_single_precision_keeps_the_front(shape, spacing, speed):
    """99.9 % of the band within a micrometre after 50 steps, and at most one voxel in ten thousand on another side."""
    p = LevelSetParameters(speed=speed, steps=50, auto_stop=False, dtype="float32")
    image, start = picture(shape, spacing)
    (reference, _), (band, _) = both(image, start, spacing, p)
    theirs, ours = reference[-1][0], band[-1][0]
    near = np.abs(theirs) < band_width(spacing, shape, 4.0)
    assert (np.abs(ours - theirs)[near] <= 1e-3).mean() >= 0.999
    assert ((ours > 0) != (theirs > 0)).sum() <= max(1e-4 * near.sum(), 0)


OTHERS = {
    "exponents of g": {"speed": "edge", "balloon_exponent": 2.0, "curvature_exponent": 0.5, "convection_exponent": 1.0},
    "exponents of s": {"speed": "region", "balloon_exponent": 0.5},
    "sign of s": {"speed": "region", "balloon_exponent": 0.0},
    "g in region mode": {"speed": "region", "curvature_exponent": 1.0, "convection": 1.5},
    "g pulls only": {"speed": "region", "convection": 1.0, "convection_exponent": 2.0},
    "blurred pull": {"speed": "edge", "convection_sigma": 1.0},
    "shrinking": {"speed": "edge", "balloon": -0.7},
    "no balloon": {"speed": "edge", "balloon": 0.0, "curvature": 0.5},
    "wide band": {"speed": "region", "band": 6.0},
    "guards": {"speed": "edge", "eps": 1e-3, "root_epsilon": 1e-3},
    "no guards": {"speed": "region", "eps": 0.0},
    "rare redistancing": {"speed": "region", "redistance_every": 3},
    "no band": {"speed": "edge", "redistance_every": 0, "order": 1},
    "means": {"speed": "region", "region": "chan_vese"},
    "local means": {"speed": "region", "region": "chan_vese", "local_sigma": 3.0},
}


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize(("shape", "spacing"), [GRIDS[1], GRIDS[4]], ids=str)
def test_every_other_setting(name, shape, spacing):
    p = LevelSetParameters(steps=12, auto_stop=False, dtype="float64", **OTHERS[name])
    image, start = picture(shape, spacing)
    (reference, _), (band, _) = both(image, start, spacing, p)
    agree(reference, band, 1e-11, relative=1e-7)


@pytest.mark.parametrize("speed", ["edge", "region"])
@pytest.mark.parametrize(("shape", "spacing"), [GRIDS[0], GRIDS[3], GRIDS[5]], ids=str)
def test_walls_and_pins_sent_on_the_way(shape, spacing, speed):
    image, start = picture(shape, spacing)
    walls, pins, later = (np.zeros(shape, bool) for _ in range(3))
    walls[..., 9, :] = True
    pins[..., 12:14, 12:14] = True
    later[..., 17] = True
    sent = {
        5: Constraints(walls=later, pins=pins),
        9: LevelSetParameters(speed=speed, lower=90.0, curvature=0.5, steps=20, auto_stop=False, dtype="float64"),
    }
    p = LevelSetParameters(speed=speed, lower=90.0, steps=20, auto_stop=False, dtype="float64")
    (reference, _), (band, _) = both(image, start, spacing, p, sent=sent, walls=walls)
    agree(reference, band, 1e-11, relative=1e-7)
    assert not (band[-1][0][later] > 0).any()
    assert (band[-1][0][pins] > 0).all()


def leaking_chamber():
    """A round chamber with a hole in its wall, seeded on the far side."""
    y, x = np.mgrid[:64, :110]
    chamber = np.hypot(y - 31.5, x - 31.5)
    speed = np.where((chamber < 24) | (chamber > 27) | ((np.abs(y - 31.5) < 2.2) & (x > 40)), 1.0, -1.0)
    return speed, np.hypot(y - 31.5, x - 12) < 3


@pytest.mark.parametrize("lead", [(), (1,)])
def test_a_leak_is_taken_back_like_in_the_reference(lead):
    speed, start = (array.reshape(*lead, *array.shape) for array in leaking_chamber())
    spacing = (1.0,) * speed.ndim
    p = LevelSetParameters(speed="region", steps=600, dtype="float64")
    (reference, theirs), (band, ours) = both(speed, start, spacing, p, speed)
    assert theirs.stop_reason == ours.stop_reason == "leak"
    assert theirs.iteration == ours.iteration
    agree(reference, band, 1e-10, relative=1e-6)
    np.testing.assert_allclose(ours.leak_at, theirs.leak_at)
    # Not only near the front: every voxel is the one of that step.
    np.testing.assert_array_equal(ours.level_set, band[ours.iteration][0])


@pytest.mark.parametrize("threads", [1, 3])
def test_a_run_goes_on_after_a_roll_back_as_from_that_state(threads, monkeypatch):
    from src_models.levelset import band_storage

    monkeypatch.setattr(band_storage, "WORTH_SHARING", 10)
    speed, start = leaking_chamber()
    p = LevelSetParameters(speed="region", guard="off", auto_stop=False, steps=40)
    images = speed_images(as_image(speed, (1.0, 1.0)), (1.0, 1.0), with_range(as_image(speed, (1.0, 1.0)), p), speed)
    u = redistanced(np.where(start, 4.0, -4.0).astype(np.float32), (1.0, 1.0), 4.0, 2)
    straight, wandering = (BandEngine(u, (1.0, 1.0), 4.0, threads=threads) for _ in range(2))
    for engine in (straight, wandering):
        engine.set_problem(images, p)
        for _ in range(5):
            engine.step(0.3, True)
    wandering.save()
    for _ in range(9):
        wandering.step(0.4, True)
    wandering.roll_back()
    np.testing.assert_array_equal(wandering.level_set(), straight.level_set())
    for _ in range(9):
        straight.step(0.4, True)
        wandering.step(0.4, True)
        assert straight.look(0.5) == wandering.look(0.5)
    np.testing.assert_array_equal(wandering.level_set(), straight.level_set())
    assert (wandering.level_set() != u).any()


@pytest.mark.parametrize("threads", [2, 3, 5])
def test_threads_change_no_bit(threads, monkeypatch):
    from src_models.levelset import band_storage

    monkeypatch.setattr(band_storage, "WORTH_SHARING", 10)
    shape, spacing = (26, 40, 50), (1.5, 0.7, 1.0)
    image, start = picture(shape, spacing)
    p = with_range(image, LevelSetParameters(speed="edge", convection=1.0))
    images = speed_images(as_image(image, spacing), spacing, p)
    u = redistanced(np.where(start, 6.0, -6.0).astype(np.float32), spacing, 6.0, 2)
    engines = [BandEngine(u, spacing, 6.0, threads=count) for count in (1, threads)]
    for engine in engines:
        engine.set_problem(images, p)
    for _ in range(12):
        looks = [engine.look(0.2) for engine in engines]
        assert looks[0] == looks[1]
        for engine in engines:
            engine.step(p.cfl / looks[0].largest_rate, True)
        assert engines[0].changed_box() == engines[1].changed_box()
    np.testing.assert_array_equal(engines[0].level_set(), engines[1].level_set())


@pytest.mark.parametrize("offset", [(0, 0, 0), (1, 2, 3), (3, 1, 11)])
def test_segments_begin_anywhere(offset):
    """The array cut differently lies differently on the segments: the front must not notice."""
    shape, spacing = (40, 44, 72), (1.0, 1.0, 1.0)
    image, start = picture(shape, spacing)
    p = with_range(image.astype(np.float32), LevelSetParameters(speed="edge", steps=25, auto_stop=False))
    whole = speed_images(as_image(image, spacing), spacing, p).primary
    *_, last = evolve(image, start, spacing, p, whole)
    cut = tuple(slice(a, n - 2) for a, n in zip(offset, shape, strict=True))
    *_, part = evolve(image[cut], start[cut], spacing, p, whole[cut])
    np.testing.assert_array_equal(part.level_set, last.level_set[cut])


@pytest.mark.parametrize(("shape", "spacing"), GRIDS, ids=str)
@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("kind", ["mask", "steep", "flat"])
def test_full_redistancing_like_the_reference(shape, spacing, order, kind):
    axes = [(np.arange(n) - 0.45 * n) * h for n, h in zip(shape, spacing, strict=True)]
    r = np.sqrt(sum(x**2 for x in np.meshgrid(*axes, indexing="ij")))
    width = band_width(spacing, shape, 4.0)
    u = {"mask": np.where(r < 6, width, -width), "steep": 3 * (6 - r), "flat": 0.2 * (6 - r) + 0.02 * np.sin(3 * r)}[
        kind
    ]
    theirs = redistance_fully(torch.from_numpy(u), spacing, width, order=order).numpy()
    np.testing.assert_allclose(redistanced(u, spacing, width, order), theirs, atol=1e-12)


def test_the_fast_engine_is_the_one_that_is_used():
    image, start = picture((20, 24), (1.0, 1.0))
    state = next(evolve(image, start, (1.0, 1.0), LevelSetParameters(device="cpu")))
    assert state.run.engine.name == "band"
    state = next(evolve(image, start, (1.0, 1.0), LevelSetParameters(device="cpu"), contributions=True))
    assert state.run.engine.name == "reference"
    seen, result = states(evolve(image, start, (1.0, 1.0), LevelSetParameters(device="cpu", steps=3)))
    assert len(seen) == 4
    assert result.record.versions["numba"]


@pytest.mark.parametrize("speed_at", ["front", "voxel"])
def test_nested_curvature_without_a_guard_is_zero_where_u_is_flat(speed_at):
    """0/0 there was no number; a front point computed from it was read from outside the image."""
    p = LevelSetParameters(
        curvature_form="nested", eps=0.0, steps=4, auto_stop=False, dtype="float64", speed_at=speed_at
    )
    start = np.zeros((40, 40), bool)
    start[12:27, 12:27] = True  # symmetric: u has a flat top
    ours, theirs = both(picture((40, 40), (1.0, 1.0))[0], start, (1.0, 1.0), p)[:2]
    for result in (ours, theirs):
        assert np.isfinite(result[1].level_set).all()
    np.testing.assert_allclose(ours[1].level_set, theirs[1].level_set, atol=1e-6)


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("x", [0, 32])
def test_a_slope_that_is_no_number_reads_nothing_outside_the_image(odd, x):
    """Where u overflows, its front point is anywhere; what is read there must lie in the array."""
    shape = (9, 10, 37)
    band = BandEngine(np.zeros(shape), (1.0, 1.0, 1.0), 4.0)._band
    scratch = np.full((kernels.SCRATCH_ROWS, kernels.LANES), odd)
    scratch[kernels.MASK], scratch[kernels.NORM] = 1, 1
    place = np.full(kernels.LANES, -(2**62))
    band.u[:] = 0.5
    kernels.places(band.u, band.origin, kernels.LANES, 4, 5, x, scratch, place, band.whole, band.numbers)
    corner = np.array(np.unravel_index(place, shape))
    assert (place >= 0).all()
    assert (corner < np.array(shape)[:, None] - 1).all()


@pytest.mark.parametrize(("shape", "spacing"), GRIDS)
def test_a_step_without_redistancing_loses_no_front(shape, spacing):
    """Voxels at +w beside voxels at -w: the next redistancing has to find them."""
    p = LevelSetParameters(
        speed="region", redistance_every=2, time_step=0.1, steps=2, auto_stop=False, dtype="float64", engine="band"
    )
    image, start = picture(shape, spacing)
    width = band_width(spacing, shape, p.band)
    u = np.where(start, width, -width)
    found = states(evolve(image, Resume(u), spacing, p, np.zeros(shape)))[1].level_set
    wanted = redistance(torch.from_numpy(u), spacing, width, order=p.order).numpy()
    np.testing.assert_allclose(found, wanted, atol=1e-9 * width)


def test_a_roll_back_finds_a_front_that_has_gone_far():
    """The front it comes back to lies many segments from the one it leaves."""
    shape, spacing, p = (90, 96), (1.0, 1.0), LevelSetParameters(speed="region", curvature=0, dtype="float64")
    r = np.hypot(*(np.indices(shape) - 45.0))
    width = band_width(spacing, shape, p.band)
    images = speed_images(np.zeros(shape), spacing, p, np.ones(shape))
    start = np.clip(8 - r, -width, width)
    engine, fresh = (BandEngine(start, spacing, width) for _ in range(2))
    for each in (engine, fresh):
        each.set_problem(images, p)
    engine.save()
    for _ in range(40):
        engine.step(0.6, redistancing=True)
    assert engine.level_set()[45, 45 + 30] > 0
    engine.roll_back()
    for each in (engine, fresh):
        each.step(0.6, redistancing=True)
    np.testing.assert_array_equal(engine.level_set(), fresh.level_set())
    assert engine.look(0.5) == fresh.look(0.5)


def test_walls_forget_the_way_back():
    """What was remembered before a wall was drawn must not come back through it."""
    image, start = picture((34, 30), (1.0, 1.0))
    p = with_range(image, LevelSetParameters(speed="region"))
    images = speed_images(as_image(image, (1.0, 1.0)), (1.0, 1.0), p, np.ones(start.shape))
    engine = BandEngine(redistanced(np.where(start, 4.0, -4.0), (1.0, 1.0), 4.0, 2), (1.0, 1.0), 4.0)
    engine.set_problem(images, p)
    engine.save()
    engine.step(0.3, True)
    walls = np.zeros(start.shape, bool)
    walls[:, 12:] = True
    engine.set_walls_and_pins(walls, None)
    after = engine.level_set().copy()
    engine.roll_back()
    np.testing.assert_array_equal(engine.level_set(), after)
    assert not (engine.level_set()[walls] > 0).any()
