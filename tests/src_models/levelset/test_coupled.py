"""Several labels at once: what they are held to is the dense definition, and laws that need no engine at all."""

from __future__ import annotations

import itertools
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from src_models.levelset import LevelSetParameters, evolve, evolve_labels, label_box
from src_models.levelset.coupling import coupled, label_array
from src_models.levelset.equation import constrained, rate_of_change
from src_models.levelset.fields import SpeedFields, speed_images
from src_models.levelset.initial import band_width, from_labels
from src_models.levelset.redistancing import redistance
from src_models.levelset.speed import as_image, with_range
from src_models.levelset.stencils import around
from src_models.progress import finish
from tests.scenes import ball, grid

GRIDS = [
    ((44, 48), (1.0, 1.0)),
    ((30, 52), (3.0, 1.0)),
    ((24, 26, 30), (1.0, 1.0, 1.0)),
    ((12, 26, 30), (3.0, 1.0, 1.0)),
]


def noise_image(shape, sigma=2.0, seed=0):
    """Smooth noise from 0 to 1: fronts grow and shrink everywhere, and no two voxels are alike."""
    from scipy.ndimage import gaussian_filter

    image = gaussian_filter(np.random.default_rng(seed).normal(0, 1, shape), sigma)
    return (image - image.min()) / (image.max() - image.min())


def random_starts(shape, count, seed, spacing, radius=3.0):
    """Small balls at random places, none on another: an array of labels."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, np.uint8)
    for number in range(1, count + 1):
        centre = [rng.uniform(0, (n - 1) * h) for n, h in zip(shape, spacing, strict=True)]
        inside = ball(shape, spacing, radius * max(spacing), centre) > 0
        labels[inside & (labels == 0)] = number
    return labels


def level_sets(state, shape):
    """u of every label on the whole array."""
    found = {}
    for number in state.reports:
        box, u = state.level_set_of(number)
        found[number] = np.full(shape, u.min(), u.dtype)
        found[number][box] = u
    return found


def owners(sets):
    """How many labels hold each voxel."""
    return sum((u > 0).astype(int) for u in sets.values())


def dense_step(u, fields, spacing, parameters, dt, width, walls, moving):
    """One step of several labels on whole arrays, from the terms of the equation: the definition."""
    moved, bands = {}, {}
    for number, before in u.items():
        moved[number] = before
        if number not in moving:
            continue
        n = around(torch.from_numpy(before), spacing)
        after = n.centre + dt * rate_of_change(n, fields[number].at_front(n), parameters[number]).total
        bands[number] = np.abs(before) < width
        after = torch.where(n.centre.abs() < width, after.clamp(-width, width), n.centre)
        moved[number] = constrained(after, n.active_spacing, torch.from_numpy(walls), None).numpy()
    met = coupled(moved, moving, bands)
    for number in moving:
        settled = redistance(torch.from_numpy(met[number]), spacing, width, order=parameters[number].order)
        met[number] = constrained(settled, spacing, torch.from_numpy(walls), None).numpy()
    return met


@pytest.mark.parametrize(("shape", "spacing"), [*GRIDS, ((90, 70), (1.0, 0.7))])
def test_a_run_is_the_dense_definition(shape, spacing):
    """Three labels with thresholds of their own, one of which rests early, beside protected voxels."""
    image = noise_image(shape)
    seeds = np.zeros(shape, int)
    for number, along in enumerate(((0.5, 0.3), (0.5, 0.6), (0.25, 0.45), (0.8, 0.5)), start=1):
        centre = [f * (n - 1) * h for f, n, h in zip((0.5, *along)[-len(shape) :], shape, spacing, strict=True)]
        seeds[(ball(shape, spacing, 1.5 + max(spacing), centre) > 0) & (seeds == 0)] = number
    protected = seeds == 4
    seeds[protected] = 0
    common = {"speed": "region", "auto_stop": False, "dtype": "float64", "curvature": 0.1}
    parameters = {
        1: LevelSetParameters(lower=0.1, upper=0.9, steps=40, **common),
        2: LevelSetParameters(lower=0.2, upper=0.95, steps=40, **common),
        3: LevelSetParameters(lower=0.0, upper=0.9, steps=12, **common),
    }
    run = evolve_labels(image, seeds, spacing, parameters, protected=protected)
    u = level_sets(next(run), shape)
    width = band_width(spacing, shape, 4.0)
    plain = as_image(image, spacing)
    like = torch.empty(0, dtype=torch.float64)
    fields = {}
    for k, p in parameters.items():
        fields[k] = SpeedFields(speed_images(plain, spacing, with_range(plain, p)), spacing, p, like)
        fields[k].set_walls(torch.from_numpy(protected.reshape(-1)))
    met = 0
    for state in run:
        moving = [k for k in u if state.iteration <= parameters[k].steps]
        u = dense_step(u, fields, spacing, parameters, state.dt, width, protected, moving)
        for number, here in level_sets(state, shape).items():
            assert np.abs(here - u[number]).max() <= 1e-10
        met += owners({k: v + 1.0 for k, v in u.items()}).max() > 1
    assert state.iteration == 40
    assert met > 5


@settings(max_examples=12, deadline=None)
@given(
    case=st.sampled_from(GRIDS),
    seed=st.integers(0, 1000),
    speed=st.sampled_from(["edge", "region"]),
    order=st.sampled_from([1, 2]),
    balloon=st.sampled_from([1.0, -0.3]),
)
def test_no_voxel_ever_belongs_to_two(case, seed, speed, order, balloon):
    shape, spacing = case
    image = noise_image(shape, seed=seed)
    starts = random_starts(shape, 5, seed, spacing, radius=4.0)
    p = LevelSetParameters(speed=speed, balloon=balloon, order=order, steps=25, auto_stop=False, lower=0.2)
    parameters = dict.fromkeys(range(1, 6), p) | {2: p.model_copy(update={"steps": 8, "balloon": 1.0})}
    for state in evolve_labels(image, starts, spacing, parameters):
        assert owners(level_sets(state, shape)).max() <= 1


@given(st.integers(0, 10**6), st.sampled_from(["float32", "float64"]))
@settings(max_examples=30, deadline=None)
def test_the_coupling_keeps_apart_what_was_apart(seed, dtype):
    """Random numbers of all sizes, equal ones among them; at most one positive before, moved anywhere, one after."""
    rng = np.random.default_rng(seed)
    before = (rng.normal(0, 1, (4, 200)) * 10.0 ** rng.integers(-30, 2, (4, 200))).astype(dtype)
    largest = before.max(axis=0)
    before = np.where((before == largest) | (before <= 0), before, -before)
    before[:, :20] = -1
    width = dtype_width = np.dtype(dtype).type(4)
    before = np.clip(before, -width, width)
    moving = [0, 1, 2] if seed % 2 else [0, 1, 2, 3]
    moved = {k: before[k] for k in range(4)}
    bands = {k: np.abs(before[k]) < dtype_width for k in moving}
    for k in moving:
        change = rng.choice([0, 1e-30, 0.5, 3.0], 200).astype(dtype) * rng.choice([-1, 1], 200)
        moved[k] = np.where(bands[k], np.clip(before[k] + change, -width, width), before[k]).astype(dtype)
    after = coupled(moved, moving, bands)
    assert owners(after).max() <= 1
    for k in range(4):
        if k not in moving:
            assert np.array_equal(after[k], before[k])


@pytest.mark.parametrize("length", [40, 41])
@pytest.mark.parametrize(("spacing", "axis"), [((1.0, 1.0), 0), ((1.0, 1.0), 1), ((3.0, 1.0, 1.0), 2)])
def test_two_half_planes_meet_in_the_middle(length, spacing, axis):
    shape = [12] * len(spacing)
    shape[axis] = length
    place = np.moveaxis(np.broadcast_to(np.arange(length), np.moveaxis(np.zeros(shape), axis, -1).shape), -1, axis)
    starts = np.where(place < 6, 1, np.where(place >= length - 6, 2, 0))
    p = LevelSetParameters(speed="region", lower=0.0, value_range=(0.0, 1.0), time=40 * spacing[axis], auto_stop=False)
    result = finish(evolve_labels(np.ones(shape), starts, spacing, p))
    middle = (length - 1) / 2
    assert np.array_equal(result.labels, np.where(place <= middle, 1, 2))
    first, second = result.level_set(1), result.level_set(2)
    assert np.array_equal(first, np.flip(second, axis))
    assert np.abs(first - np.clip((middle - place) * spacing[axis], -4 * max(spacing), 4 * max(spacing))).max() < 0.05


@pytest.mark.parametrize(("shape", "spacing"), [((60, 80), (1.0, 1.0)), ((34, 34, 52), (1.0, 1.0, 1.0))])
def test_two_balls_share_a_larger_one_in_its_middle(shape, spacing):
    """Seeds mirrored in a bright ball: it is filled without a gap, each holds its half, and both come to rest."""
    body = ball(shape, spacing, 0.4 * min(shape))
    image = 100 / (1 + np.exp(-body)).astype(np.float32)
    x = grid(shape, spacing)[-1]
    centres = [[(n - 1) / 2 for n in shape] for _ in range(2)]
    centres[0][-1] -= 7
    centres[1][-1] += 7
    starts = sum((k + 1) * (ball(shape, spacing, 4.0, centre) > 0) for k, centre in enumerate(centres))
    p = LevelSetParameters(speed="region", lower=50, steps=400)
    result = finish(evolve_labels(image, starts, spacing, p))
    assert {report.stop_reason for report in result.reports.values()} == {"converged"}
    inside = body > 1.5
    assert np.array_equal(np.where(inside, result.labels, 0), np.where(inside, np.where(x < 0, 1, 2), 0))


def test_a_free_front_does_not_know_of_the_others():
    """Two labels meet, a third is far away and stays, bit for bit, what it is alone."""
    shape, spacing = (70, 130), (1.0, 1.0)
    starts = np.zeros(shape, int)
    for number, centre in ((1, (35, 20)), (2, (35, 40)), (3, (35, 105))):
        starts[ball(shape, spacing, 5.0, centre) > 0] = number
    p = LevelSetParameters(speed="region", lower=0.2, time_step=0.25, steps=60, auto_stop=False)
    image = noise_image(shape, 3.0)
    together = finish(evolve_labels(image, starts, spacing, p))
    alone = finish(evolve(image, starts == 3, spacing, p))
    assert np.array_equal(together.level_set(3), alone.level_set)
    assert not np.array_equal(together.level_set(1), finish(evolve(image, starts == 1, spacing, p)).level_set)


@pytest.mark.parametrize(("shape", "spacing"), GRIDS)
def test_names_do_not_matter(shape, spacing):
    image = noise_image(shape)
    starts = random_starts(shape, 4, 11, spacing)
    names = {1: 7, 2: 3, 3: 300, 4: 2}
    renamed = np.zeros(shape, np.uint16)
    for old, new in names.items():
        renamed[starts == old] = new
    p = LevelSetParameters(speed="region", lower=0.2, upper=0.9, steps=30, auto_stop=False)
    first, second = (finish(evolve_labels(image, labels, spacing, p)) for labels in (starts, renamed))
    for old, new in names.items():
        assert np.array_equal(first.level_set(old), second.level_set(new))
        assert np.array_equal(first.labels == old, second.labels == new)


@pytest.mark.parametrize(
    ("shape", "spacing", "speed"),
    [
        ((100, 110), (1.0, 0.7), "region"),
        ((100, 110), (1.0, 0.7), "edge"),
        ((70, 66, 90), (1.0, 1.0, 1.0), "region"),
        ((40, 100, 128), (3.0, 1.0, 1.0), "edge"),
        ((1, 90, 110), (5.0, 1.0, 1.0), "region"),
    ],
)
def test_one_label_is_evolve(shape, spacing, speed):
    """Box, growth of the box and meeting nobody change no bit: not of u, nor of what is measured."""
    body = ball(shape, spacing, 20.0, [0.55 * (n - 1) * h for n, h in zip(shape, spacing, strict=True)])
    image = 60 + 100 / (1 + np.exp(-body / 0.9)) + np.random.default_rng(2).normal(0, 4, shape)
    start = body > 15
    p = LevelSetParameters(speed=speed, lower=110 if speed == "region" else None, steps=70, convection_sigma=0.8)
    one = evolve_labels(image, {9: start}, spacing, p)
    first = next(one)
    first_box = first.level_set_of(9)[0]
    for alone, state in zip(evolve(image, start, spacing, p), itertools.chain([first], one), strict=True):
        report = state.reports[9]
        measured = (report.size, report.area, report.rate, report.free_area, report.stop_reason)
        assert measured == (alone.size, alone.area, alone.rate, alone.free_area, alone.stop_reason)
        assert state.time == alone.time
    box, u = state.level_set_of(9)
    assert np.array_equal(u, alone.level_set[box])
    assert np.array_equal(state.labels > 0, alone.mask)
    assert box != first_box


@pytest.mark.parametrize(
    "changes",
    [
        {"speed": "region", "region": "chan_vese"},
        {"speed": "region", "region": "chan_vese", "local_sigma": 6.0},
        {"order": 1, "redistance_every": 0, "curvature_form": "nested", "speed_at": "voxel", "time_step": 0.1},
    ],
    ids=["means", "local means", "no band"],
)
def test_one_label_that_needs_the_whole_array_is_evolve(changes):
    shape, spacing = (50, 60), (1.0, 1.0)
    image = noise_image(shape, 4.0)
    start = image > 0.7
    p = LevelSetParameters(steps=40, auto_stop=False, **changes)
    result = finish(evolve_labels(image, {4: start}, spacing, p))
    assert np.array_equal(result.level_set(4), finish(evolve(image, start, spacing, p)).level_set)


@pytest.mark.parametrize(
    ("shape", "spacing", "speed"),
    [((96, 120), (1.0, 0.7), "edge"), ((96, 120), (1.0, 1.0), "region"), ((30, 110, 140), (3.0, 1.0, 1.0), "region")],
)
def test_boxes_change_no_bit(shape, spacing, speed, monkeypatch):
    """Four labels that meet, each in its box, and each on the whole array."""
    image = noise_image(shape, 2.5)
    middle = [0.5 * (n - 1) * h for n, h in zip(shape, spacing, strict=True)]
    starts = np.zeros(shape, np.uint8)
    for number, (dy, dx) in enumerate(((-9, -9), (-8, 9), (9, -8), (9, 9)), start=1):
        centre = [*middle[:-2], middle[-2] + dy, middle[-1] + dx]
        starts[ball(shape, spacing, 4.0, centre) > 0] = number
    p = LevelSetParameters(speed=speed, lower=0.1, steps=40, auto_stop=False)
    small = finish(evolve_labels(image, starts, spacing, p))
    monkeypatch.setattr(label_box, "needs_everything", lambda parameters: True)
    large = finish(evolve_labels(image, starts, spacing, p))
    for number in range(1, 5):
        assert large.level_sets[number][1].shape == shape
        assert small.level_sets[number][1].size < 0.8 * image.size
        assert np.array_equal(small.level_set(number), large.level_set(number))
        assert small.reports[number] == replace(large.reports[number], changed_box=small.reports[number].changed_box)


def test_memory_goes_with_the_labels_not_with_the_volume():
    shape, spacing = (128, 128, 128), (1.0, 1.0, 1.0)
    starts = np.zeros(shape, np.uint8)
    corners = itertools.product((30.0, 98.0), repeat=3)
    for number, centre in enumerate(corners, start=1):
        starts[ball(shape, spacing, 4.0, centre) > 0] = number
    p = LevelSetParameters(speed="region", lower=0.0, value_range=(0.0, 1.0), steps=3)
    image = np.ones(shape, np.float32)
    finish(evolve_labels(image, starts, spacing, p))
    tracemalloc.start()
    for _ in evolve_labels(image, starts, spacing, p):
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2.5 * image.nbytes  # eight level sets with two buffers on whole arrays are 16, their speeds 8 more


def test_labels_without_a_band_do_not_overlap_either():
    shape, spacing = (40, 44), (1.0, 1.0)
    starts = random_starts(shape, 4, 3, spacing, 4.0)
    p = LevelSetParameters(order=1, redistance_every=0, steps=60, auto_stop=False, speed="region", lower=0.1)
    for state in evolve_labels(noise_image(shape), starts, spacing, p):
        assert owners(level_sets(state, shape)).max() <= 1
    assert (state.labels > 0).mean() > 0.6


def test_a_leak_is_undone_in_a_box_that_has_grown():
    """A bright disc with a hole into a bright field: the front goes back to before it, as in a run of one."""
    shape, spacing = (128, 160), (1.0, 1.0)
    body = ball(shape, spacing, 18.0, (64.0, 50.0))
    y, x = np.meshgrid(*[np.arange(n) for n in shape], indexing="ij")
    dark = (np.abs(body) < 2.0) & ~((np.abs(y - 64) <= 4) & (x > 50))
    image = np.where(dark, 0.0, 100.0)
    start = ball(shape, spacing, 5.0, (64.0, 50.0)) > 0
    p = LevelSetParameters(speed="region", lower=50, steps=400)
    alone = finish(evolve(image, start, spacing, p))
    one = finish(evolve_labels(image, {1: start}, spacing, p))
    assert alone.stop_reason == one.reports[1].stop_reason == "leak"
    assert np.array_equal(one.level_set(1), alone.level_set)
    assert one.reports[1].leak_at == pytest.approx(alone.leak_at)


def test_a_voxel_that_two_fronts_cut_in_half_has_an_owner():
    u = np.array([[1.0, 0.0, -1.0, -2.0], [-1.0, 0.0, 1.0, -2.0], [-2.0, -2.0, 0.0, 0.0]])
    box = (slice(2, 6),)
    found = label_array({5: (box, u[0]), 3: (box, u[1]), 4: (box, u[2])}, (slice(0, 6),))
    assert found.tolist() == [0, 0, 5, 3, 3, 0]


def test_starts_are_distances():
    """A start made in its box is the one made on the whole array."""
    shape, spacing = (60, 80), (1.0, 0.7)
    starts = random_starts(shape, 3, 4, spacing, 5.0)
    p = LevelSetParameters(dtype="float64", speed="region")
    state = next(evolve_labels(noise_image(shape), starts, spacing, p))
    for number, u in level_sets(state, shape).items():
        assert np.abs(u - from_labels(starts == number, spacing, 4.0)).max() <= 1e-12
        assert np.array_equal(u > 0, starts == number)
