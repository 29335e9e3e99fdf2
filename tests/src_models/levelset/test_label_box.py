"""The box of a label: its speeds, its growth and its way back are those of the whole array."""

from __future__ import annotations

import numpy as np
import pytest

from src_models.levelset import LevelSetParameters, evolve_labels
from src_models.levelset.fields import SpeedImages, speed_images
from src_models.levelset.label_box import aligned, grown, holds, speeds_in, widened
from src_models.levelset.label_engine import LabelEngine
from src_models.levelset.speed import with_range
from src_models.progress import finish
from tests.scenes import ball, band_of


@pytest.mark.parametrize(
    "settings",
    [
        {"speed": "edge", "sigma": 1.5, "convection_sigma": 2.0},
        {"speed": "edge", "sigma": (2.0, 0.5, 1.0)},
        {"speed": "edge", "edge_preset": "paper"},
        {"speed": "region", "lower": 0.2, "convection": 1.0, "convection_sigma": 1.0},
        {"speed": "region", "region": "probability"},
    ],
    ids=str,
)
def test_the_speeds_of_a_box_are_cut_out_of_those_of_the_image(settings):
    spacing = (2.0, 1.0, 0.7)
    image = np.random.default_rng(0).uniform(0, 1, (30, 40, 64)).astype(np.float32)
    p = with_range(image, LevelSetParameters(**settings))
    everywhere = speed_images(image, spacing, p)
    for box in ((slice(9, 20), slice(11, 30), slice(16, 48)), (slice(0, 5), slice(31, 40), slice(48, 64))):
        here = speeds_in(image, spacing, p, box)
        for name in ("primary", "edge", "pull"):
            part, whole = getattr(here, name), getattr(everywhere, name)
            assert (part is None) == (whole is None)
            assert part is None or np.array_equal(part, whole[box])


@pytest.mark.parametrize("shape", [(40, 70), (36, 40, 70)])
def test_a_front_finds_back_in_a_box_that_has_grown(shape):
    """Saved in a small box, moved, grown, moved on, rolled back: the bits that were saved; and the next step too."""
    spacing = (1.0,) * len(shape)
    box = (*(slice(4, n - 4) for n in shape[:-1]), slice(16, 64))
    u = band_of(ball(shape, spacing, 6.0), spacing)
    images, p = SpeedImages(np.ones(shape), None, None, None), LevelSetParameters(speed="region")
    cut = SpeedImages(np.ascontiguousarray(images.primary[box]), None, None, None)
    small = LabelEngine(u[box], spacing, 4.0)
    small.set_problem(cut, p)
    large = LabelEngine(u, spacing, 4.0)
    large.set_problem(images, p)
    for engine in (small, large):
        engine.step(0.3, True)
        engine.save()
        engine.step(0.3, True)
    saved = large.level_set().copy()
    engine = small.grown(shape, [part.start for part in box], None, None)
    engine.set_problem(images, p)
    assert np.array_equal(engine.level_set(), saved)
    for one in (engine, large):
        for _ in range(4):
            one.step(0.3, True)
        one.roll_back()
    assert np.array_equal(engine.level_set(), large.level_set())
    assert engine.look(0.5) == large.look(0.5)
    for one in (engine, large):
        one.step(0.3, True)
    assert np.array_equal(engine.level_set(), large.level_set())


def test_boxes_hold_what_they_must():
    shape = (20, 30, 100)
    box = aligned((3, 5, 20), (9, 31, 50), shape)
    assert box == (slice(3, 9), slice(5, 30), slice(16, 64))
    assert widened(box, (4, 4, 4), shape) == (slice(0, 13), slice(1, 30), slice(0, 80))
    need = (slice(2, 9), slice(5, 30), slice(16, 80))
    larger = grown(box, need, shape)
    assert holds(larger, box)
    assert holds(larger, need)
    assert larger[2].start == 16


def test_a_label_between_two_others_does_not_leak_while_it_gets_out():
    """Three slabs side by side in a disc: the outer ones, soon at rest, hold most of the front of the middle one."""
    shape, spacing = (100, 100), (1.0, 1.0)
    body = ball(shape, spacing, 40.0)
    starts = np.zeros(shape, np.uint8)
    for number in (1, 2, 3):
        starts[38:62, 40 + 5 * number : 45 + 5 * number] = number
    p = LevelSetParameters(speed="region", lower=50, steps=400)
    short = p.model_copy(update={"steps": 2})
    result = finish(evolve_labels(100 / (1 + np.exp(-body)), starts, spacing, {1: short, 2: p, 3: short}))
    assert [result.reports[number].stop_reason for number in (1, 2, 3)] == ["steps", "converged", "steps"]
    inside = body > 2
    assert (result.labels[inside] != 0).mean() > 0.99
    assert (result.labels == 2).sum() > 20 * (starts == 2).sum()
