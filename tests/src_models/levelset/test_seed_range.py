"""Thresholds about the grey values under the start: numbers from the first step on, for every kind of run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from src_models.levelset import LevelSetParameters, evolve
from src_models.levelset.arrival import arrival_preview
from src_models.levelset.coupled import evolve_labels
from src_models.levelset.evolution import replay
from src_models.levelset.initial import Seeds, Sphere
from src_models.levelset.recipes import ClusterSpeed
from src_models.record import Record
from tests.runs import finish
from tests.scenes import Array, ball, dice, picture

SHAPE, H = (48, 52), (1.0, 1.0)
MIDDLE = (23.5, 25.5)
BODY = ball(SHAPE, H, 15.0)
IMAGE = picture(BODY, H, 6.0, seed=2)
CLICK = Seeds(spheres=(Sphere(centre=MIDDLE, radius=5.0),))
UNDER = ball(SHAPE, H, 5.0) > 0
WIDTH = 7.0
P = LevelSetParameters(speed="region", seed_width=WIDTH)


def expected(image: Array, width: float, under: Array = UNDER) -> tuple[float, float]:
    grey = image[under].astype(np.float64)
    return grey.mean() - width * grey.std(), grey.mean() + width * grey.std()


def numbers_of(result: Any) -> tuple[float, float]:
    return result.record.parameters["lower"], result.record.parameters["upper"]


@pytest.mark.parametrize("start", [CLICK, UNDER, UNDER.astype(np.int16), ball(SHAPE, H, 5.0)], ids=str)
def test_one_click_finds_the_body_and_the_record_holds_the_numbers(start: Any) -> None:
    result = finish(evolve(IMAGE, start, H, P))
    assert numbers_of(result) == pytest.approx(expected(IMAGE, WIDTH))
    assert dice(result.mask, BODY > 0) > 0.96
    lower, upper = numbers_of(result)
    typed = finish(evolve(IMAGE, start, H, LevelSetParameters(speed="region", lower=lower, upper=upper)))
    np.testing.assert_array_equal(typed.level_set, result.level_set)
    again = finish(replay(Record.model_validate_json(result.record.to_json()), IMAGE))
    np.testing.assert_array_equal(again.level_set, result.level_set)


def test_another_unit_of_the_grey_values_changes_nothing() -> None:
    """By a power of two, which rounds nothing: the same bits."""
    first, second = (finish(evolve(image, CLICK, H, P)) for image in (IMAGE, -4 * IMAGE))
    np.testing.assert_array_equal(first.mask, second.mask)


def test_a_given_threshold_wins() -> None:
    result = finish(evolve(IMAGE, CLICK, H, P.model_copy(update={"lower": 110.0})))
    assert numbers_of(result) == (110.0, None)


def test_where_nothing_reads_thresholds_none_are_made() -> None:
    for p, speed in ((P.model_copy(update={"speed": "edge"}), None), (P, ClusterSpeed()), (P, np.ones(SHAPE))):
        assert numbers_of(finish(evolve(IMAGE, CLICK, H, p.model_copy(update={"steps": 2}), speed))) == (None, None)


def test_sent_during_a_run_it_looks_at_the_drawn_start() -> None:
    run = evolve(IMAGE, CLICK, H, LevelSetParameters(speed="region", lower=110.0))
    for _ in range(12):
        state = next(run)
    assert state.result().mask.sum() > 1.5 * UNDER.sum()
    run.send(P.model_copy(update={"seed_width": 2.0}))
    result = finish(run)
    sent = result.record.changes[0].parameters
    assert sent is not None
    assert (sent["lower"], sent["upper"]) == pytest.approx(expected(IMAGE, 2.0))
    again = finish(replay(Record.model_validate_json(result.record.to_json()), IMAGE))
    np.testing.assert_array_equal(again.level_set, result.level_set)


def test_coarse_to_fine_takes_the_thresholds_of_the_finest_grid() -> None:
    shape = (128, 128)
    body, under = ball(shape, H, 40.0), ball(shape, H, 6.0) > 0
    image = picture(body, H, 10.0, seed=5)
    result = finish(evolve(image, under, H, P.model_copy(update={"pyramid": True})))
    assert numbers_of(result) == pytest.approx(expected(image, WIDTH, under))
    assert dice(result.mask, body > 0) > 0.96


def test_each_label_has_its_own() -> None:
    left, right = (ball(SHAPE, H, 8.0, (23.5, x)) for x in (14.0, 38.0))
    image = picture(left, H, 4.0, seed=1) + 2 * picture(right, H, 4.0, seed=3)
    starts = {1: ball(SHAPE, H, 4.0, (23.5, 14.0)) > 0, 2: ball(SHAPE, H, 4.0, (23.5, 38.0)) > 0}
    result = finish(evolve_labels(image, starts, H, P))
    for number, body in ((1, left), (2, right)):
        made = LevelSetParameters(**result.record.parameters["labels"][str(number)])
        assert (made.lower, made.upper) == pytest.approx(expected(image, WIDTH, starts[number]))
        assert dice(result.labels == number, body > 0) > 0.95


def test_the_preview_shows_the_same_place() -> None:
    low, high = expected(IMAGE, WIDTH)
    typed = finish(arrival_preview(IMAGE, UNDER, H, LevelSetParameters(speed="region", lower=low, upper=high)))
    np.testing.assert_array_equal(finish(arrival_preview(IMAGE, UNDER, H, P)).at_level, typed.at_level)


def test_a_flat_patch_has_a_range_still_and_a_constant_image_none() -> None:
    flat = np.where(BODY > 0, 200.0, 72.0)
    result = finish(evolve(flat, CLICK, H, P))
    assert numbers_of(result) == pytest.approx((200 - WIDTH * 128 / 256, 200 + WIDTH * 128 / 256))
    assert dice(result.mask, BODY > 0) > 0.96
    constant = finish(evolve(np.full(SHAPE, 7.0), CLICK, H, P.model_copy(update={"steps": 3})))
    assert numbers_of(constant) == (None, None)
