"""What must not matter: axes, directions, empty surroundings, one slice or two dimensions, threads, file order."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from src_models.levelset import LevelSetParameters, evolve
from src_models.levelset.initial import Seeds, Sphere
from tests.runs import finish, states
from tests.scenes import ball, radii

MODES = {
    "edge": {"speed": "edge"},
    "region": {"speed": "region", "curvature": 0.5},
    "osher_sethian": {"speed": "edge", "gradient": "osher_sethian", "order": 1},
    "paper": {
        "speed": "edge", "gradient": "godunov", "order": 1, "curvature_form": "nested", "speed_at": "voxel",
        "redistance_every": 0, "convection": 1.0,
    },
    "means": {"speed": "region", "region": "chan_vese"},
}  # fmt: skip


def picture(shape, spacing, seed=0):
    """A soft body without any symmetry, and a start inside it."""
    random = np.random.default_rng(seed)
    middle = [(0.45 + 0.05 * k) * n * h for k, (n, h) in enumerate(zip(shape, spacing, strict=True))]
    body = ball(shape, spacing, 8.0, middle)
    image = 60 + 100 / (1 + np.exp(-body)) + random.normal(0, 6, shape)
    return image, ball(shape, spacing, 4.5, [m + 0.7 for m in middle]) > 0


def run(image, start, spacing, mode, **settings):
    parameters = LevelSetParameters(**({"steps": 12, "auto_stop": False, "dtype": "float64"} | MODES[mode] | settings))
    return finish(evolve(image, start, spacing, parameters))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("axes", [(1, 0, 2), (2, 1, 0), (1, 2, 0)])
def test_transposed_in_transposed_out(mode, axes):
    """Spacing belongs to array axes, never to the order of a file; every axis pairs its own differences."""
    shape, spacing = (9, 20, 26), (3.0, 1.3, 1.0)
    image, start = picture(shape, spacing)
    plain = run(image, start, spacing, mode)
    turned = run(image.transpose(axes).copy(), start.transpose(axes).copy(), tuple(spacing[a] for a in axes), mode)
    np.testing.assert_allclose(turned.level_set, plain.level_set.transpose(axes), rtol=0, atol=1e-12)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_flipped_in_flipped_out(mode, axis):
    shape, spacing = (9, 20, 26), (3.0, 1.3, 1.0)
    image, start = picture(shape, spacing)
    plain = run(image, start, spacing, mode)
    turned = run(np.flip(image, axis), np.flip(start, axis), spacing, mode)
    np.testing.assert_allclose(turned.level_set, np.flip(plain.level_set, axis), rtol=0, atol=1e-12)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("thickness", [0.3, 5.0])
def test_one_slice_is_the_two_dimensional_problem(mode, axis, thickness):
    """Whatever the slice's thickness: it enters no sum, no minimum and no stop rule."""
    shape, spacing = (24, 26), (1.3, 1.0)
    image, start = picture(shape, spacing)
    walls = np.zeros(shape, dtype=bool)
    walls[:, 8] = True
    flat_settings = {"steps": 25, "auto_stop": True, "guard": "note"}
    parameters = LevelSetParameters(**({"dtype": "float64"} | MODES[mode] | flat_settings))
    flat_states, flat = states(evolve(image, start, spacing, parameters, walls=walls))
    lift = (*spacing[:axis], thickness, *spacing[axis:])
    thin_states, thin = states(
        evolve(
            np.expand_dims(image, axis), np.expand_dims(start, axis), lift, parameters,
            walls=np.expand_dims(walls, axis),
        )
    )  # fmt: skip
    np.testing.assert_allclose(np.squeeze(thin.level_set, axis), flat.level_set, rtol=0, atol=1e-12)
    assert thin.stop_reason == flat.stop_reason
    assert len(thin_states) == len(flat_states)
    for a, b in zip(thin_states, flat_states, strict=True):
        assert a.time == pytest.approx(b.time, abs=1e-12)
        assert a.rate == pytest.approx(b.rate, abs=1e-9)
        assert a.note == b.note


@pytest.mark.parametrize("speed", ["edge", "region"])
def test_a_leak_is_found_in_one_slice_as_in_two_dimensions(speed):
    """The guard compares areas: the thickness of the slice must not make a patch look larger or smaller."""
    shape = (50, 50)
    body = ball(shape, (1.0, 1.0), 12.0, (20.0, 20.0))
    y, x = np.indices(shape)
    hole = (abs(y - 20) <= 3) & (x > 20)
    given = np.tanh(body / 0.7)
    given[hole] = 1.0
    outside = body < -3
    given[outside] = 1.0
    if speed == "edge":
        given = np.clip(np.abs(given), 1e-3, 1)
    parameters = LevelSetParameters(speed=speed, convection=0.0, steps=600)
    start = ball(shape, (1.0, 1.0), 6.0, (20.0, 20.0)) > 0
    image = np.zeros(shape)
    flat = finish(evolve(image, start, (1.0, 1.0), parameters, given))
    assert flat.stop_reason == "leak"
    for thickness in (0.2, 8.0):
        thin = finish(evolve(image[None], start[None], (thickness, 1.0, 1.0), parameters, given[None]))
        assert (thin.stop_reason, thin.iteration) == (flat.stop_reason, flat.iteration)
        assert thin.leak_at[1:] == flat.leak_at


@pytest.mark.parametrize("speed", ["edge", "region"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_crop_far_from_the_front_changes_nothing(speed, dtype):
    """Bit for bit: no maximum and no mean over the image enters a step."""
    shape, spacing = (14, 46, 50), (2.0, 1.0, 1.0)
    image, _ = picture(shape, spacing)
    start = ball(shape, spacing, 5.0, (14.0, 23.0, 25.0)) > 0
    part = (slice(0, 14), slice(4, 42), slice(5, 45))
    p = LevelSetParameters(speed=speed, steps=6, auto_stop=False, dtype=dtype, sigma=0.0, value_range=(0.0, 200.0))
    whole = finish(evolve(image, start, spacing, p))
    crop = finish(evolve(image[part], start[part], spacing, p))
    np.testing.assert_array_equal(crop.level_set, whole.level_set[part])
    assert whole.mask[part].sum() == whole.mask.sum()
    assert (whole.mask != start).sum() > 50


def test_a_far_voxel_of_the_speed_changes_nothing():
    """g is never divided by its largest value; the time step looks at the band only."""
    shape = (40, 40)
    _, start = picture(shape, (1.0, 1.0))
    given = np.random.default_rng(0).uniform(0.1, 1, shape)
    louder = given.copy()
    louder[0, 0] = 1e3
    p = LevelSetParameters(speed="edge", steps=5, auto_stop=False, dtype="float64")
    ends = [finish(evolve(np.zeros(shape), start, (1.0, 1.0), p, g)) for g in (given, louder)]
    np.testing.assert_array_equal(ends[0].level_set, ends[1].level_set)
    assert ends[0].time == ends[1].time


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (3.0, 1.0, 0.7)])
@pytest.mark.parametrize("gradient", ["godunov", "osher_sethian"])
def test_the_time_step_looks_at_every_axis(spacing, gradient):
    """0.9 / (|balloon| S sqrt(sum 1/h^2) + 2 curvature W sum 1/h^2), not the smallest spacing alone."""
    shape = (16, 18, 20)[: len(spacing)]
    p = LevelSetParameters(
        speed="region", balloon=-0.7, curvature=0.3, gradient=gradient, steps=1, auto_stop=False, dtype="float64"
    )
    start = ball(shape, spacing, 6.0)
    seen, _ = states(evolve(np.zeros(shape), start, spacing, p, np.full(shape, 0.8)))
    squares = sum(1 / h**2 for h in spacing)
    root = np.sqrt(squares) * (np.sqrt(2) if gradient == "osher_sethian" else 1)
    assert seen[1].dt == pytest.approx(0.9 / (0.7 * 0.8 * root + 2 * 0.3 * squares), rel=1e-12)


def test_the_time_step_counts_convection():
    shape, spacing, slope = (20, 22), (2.0, 0.5), 0.05
    y = np.broadcast_to(np.arange(20)[:, None] * 2.0, shape)
    g = 0.2 + slope * y
    start = ball(shape, spacing, 3.0)
    p = LevelSetParameters(
        speed="edge", balloon=0.0, curvature=0.0, convection=1.5, steps=1, auto_stop=False, dtype="float64"
    )
    seen, _ = states(evolve(np.zeros(shape), start, spacing, p, g))
    assert seen[1].dt == pytest.approx(0.9 / (1.5 * slope / 2.0), rel=1e-12)


def test_default_time_step_of_region_mode():
    shape = (24, 24, 24)
    p = LevelSetParameters(speed="region", steps=1, auto_stop=False, dtype="float64")
    seen, _ = states(evolve(np.zeros(shape), ball(shape, (1.0,) * 3, 6.0), (1.0,) * 3, p, np.ones(shape)))
    assert seen[1].dt == pytest.approx(0.307, abs=0.0005)


def test_the_front_does_not_start_at_the_border():
    """Replicated borders: a ball in the corner grows as its quarter would in the open."""
    shape, spacing = (40, 40), (1.0, 1.0)
    seeds = Seeds(spheres=(Sphere(centre=(0.0, 0.0), radius=8.0),))
    p = LevelSetParameters(speed="region", curvature=0.0, time=10.0, auto_stop=False, dtype="float64")
    result = finish(evolve(np.zeros(shape), seeds, spacing, p, np.ones(shape)))
    r = radii(result.level_set, spacing, (0.0, 0.0))
    assert r.mean() == pytest.approx(18.0, rel=0.01)
    assert r.std() < 0.2
    # A constant speed without a seed in reach leaves the far border alone.
    small = finish(evolve(np.zeros(shape), seeds, spacing, p.model_copy(update={"time": 1.0}), np.ones(shape)))
    assert not small.mask[20:].any()
    assert not small.mask[:, 20:].any()


def test_the_same_bits_for_any_number_of_threads():
    shape, spacing = (62, 62, 62), (1.0, 1.0, 1.0)
    random = np.random.default_rng(0)
    image = (60 + 100 * (ball(shape, spacing, 26.0) > 0) + random.normal(0, 8, shape)).astype(np.float32)
    start = ball(shape, spacing, 23.0) > 0
    before = torch.get_num_threads()
    ends = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            seen, result = states(evolve(image, start, spacing, LevelSetParameters(speed="region", steps=3)))
            ends.append((result.level_set, [(s.size, s.area, s.rate, s.dt) for s in seen]))
    finally:
        torch.set_num_threads(before)
    for u, numbers in ends[1:]:
        np.testing.assert_array_equal(u, ends[0][0])
        assert numbers == ends[0][1]


@pytest.mark.parametrize("speed", ["edge", "region"])
def test_single_precision_follows_double(speed):
    image, start = picture((30, 34), (1.0, 1.0))
    single, double = (run(image, start, (1.0, 1.0), speed, dtype=d, steps=50) for d in ("float32", "float64"))
    assert single.level_set.dtype == np.float32
    band = np.abs(double.level_set) < 4
    assert (np.abs(single.level_set - double.level_set)[band] < 1e-3).mean() > 0.999


def test_the_input_is_left_alone():
    image, start = picture((20, 22), (1.0, 1.0))
    u = ball((20, 22), (1.0, 1.0), 5.0)
    copies = image.copy(), start.copy(), u.copy()
    for array in (image, start, u):
        array.setflags(write=False)
    run(image, start, (1.0, 1.0), "edge")
    run(image, u, (1.0, 1.0), "edge")
    for array, copy in zip((image, start, u), copies, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_what_the_terms_added_is_what_changed():
    """Balloon, curvature, convection and the rest add up to u_T - u_0."""
    image, start = picture((9, 20, 26), (3.0, 1.3, 1.0))
    p = LevelSetParameters(speed="edge", steps=10, auto_stop=False, dtype="float64")
    walls = np.zeros(image.shape, dtype=bool)
    walls[:, :5] = True
    gen = evolve(image, start, (3.0, 1.3, 1.0), p, walls=walls, contributions=True)
    first = next(gen).level_set.copy()
    result = finish(gen)
    assert set(result.contributions) == {"balloon", "curvature", "convection", "redistancing and constraints"}
    total = sum(result.contributions.values())
    np.testing.assert_allclose(total, result.level_set - first, rtol=0, atol=1e-11)
    assert all(np.abs(part).max() > 0 for part in result.contributions.values())
