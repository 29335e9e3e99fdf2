"""Bad input: one clear sentence with the way out, before the first step."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from src_models.errors import GeometryError, InputError, LsnetError
from src_models.levelset import Constraints, LevelSetParameters, evolve
from src_models.levelset.initial import Seeds, Sphere, Stroke
from tests.runs import finish
from tests.scenes import ball

SHAPE, H = (20, 22), (1.0, 1.0)
START = ball(SHAPE, H, 5.0) > 0


def image(dtype=np.float64, shape=SHAPE):
    return (np.random.default_rng(0).random(shape) * 200).astype(dtype)


def spoiled(value, count):
    array = image()
    array.reshape(-1)[:count] = value
    return array


def one_ball(*centre, radius=3.0):
    return Seeds(spheres=(Sphere(centre=centre, radius=radius),))


REFUSED = {
    "one NaN": (spoiled(np.nan, 1), START, H, "1 of 440 voxels"),
    "some NaN": (spoiled(np.nan, 17), START, H, "17 of 440 voxels"),
    "infinite": (spoiled(-np.inf, 3), START, H, "3 of 440 voxels"),
    "complex": (image().astype(complex), START, H, "complex"),
    "text": (np.full(SHAPE, "a"), START, H, "type"),
    "object": (np.full(SHAPE, None), START, H, "type"),
    "colour": (image(shape=(20, 22, 3)), START, H, "colour"),
    "colour and alpha": (image(shape=(20, 22, 4)), START, H, "colour"),
    "four axes": (image(shape=(2, 3, 20, 22)), START, (1.0,) * 4, "4 axes"),
    "one axis": (image(shape=(20,)), np.ones(20, bool), (1.0,), "1 axes"),
    "no voxels": (np.zeros((0, 22)), np.zeros((0, 22), bool), H, "no voxels"),
    "zero spacing": (image(), START, (1.0, 0.0), "axis 1 is 0 mm"),
    "negative spacing": (image(), START, (-2.0, 1.0), "axis 0 is -2 mm"),
    "infinite spacing": (image(), START, (np.inf, 1.0), "axis 0 is inf mm"),
    "NaN spacing": (image(), START, (1.0, np.nan), "axis 1 is nan mm"),
    "too few spacings": (image(), START, (1.0,), "2 axes but 1 spacing"),
    "too many spacings": (image(), START, (1.0, 1.0, 1.0), "2 axes but 3 spacing"),
    "empty seeds": (image(), np.zeros(SHAPE, bool), H, "empty"),
    "u without inside": (image(), np.full(SHAPE, -1.0), H, "empty"),
    "seeds everywhere": (image(), np.ones(SHAPE, bool), H, "whole image"),
    "seeds of another grid": (image(), np.ones((20, 21), bool), H, r"\(20, 21\) and \(20, 22\)"),
    "seeds of another dimension": (image(), np.ones((3, 20, 22), bool), H, "different grids"),
    "seeds with NaN": (image(), np.where(START, np.nan, -1.0), H, "NaN"),
    "complex seeds": (image(), START.astype(complex), H, "type"),
    "no drawn seed": (image(), Seeds(), H, "no seed"),
    "seed outside": (image(), one_ball(5.0, 40.0), H, "outside the image: 40 mm along axis 1"),
    "seed before the image": (image(), one_ball(-3.0, 4.0), H, "outside the image: -3 mm along axis 0"),
    "stroke outside": (
        image(), Seeds(strokes=(Stroke(points=((1.0, 1.0), (1.0, 99.0)), radius=1.0),)), H, "99 mm along axis 1",
    ),
    "seed with three coordinates": (image(), one_ball(5.0, 5.0, 5.0), H, "3 coordinates but the image 2 axes"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused_in_one_sentence(case):
    array, start, spacing, words = REFUSED[case]
    with pytest.raises(LsnetError, match=words) as refusal:
        next(evolve(array, start, spacing, LevelSetParameters()))
    error = refusal.value
    assert isinstance(error, GeometryError if "spacing" in case else InputError)
    assert error.next_step.endswith(".")
    assert "\n" not in str(error)
    assert error.code


@pytest.mark.parametrize("speed", ["edge", "region"])
@pytest.mark.parametrize(
    "given",
    [np.ones((20, 21)), np.full(SHAPE, np.nan), np.ones(SHAPE, complex)],
    ids=["grid", "NaN", "complex"],
)
def test_a_speed_image_that_cannot_be_one(speed, given):
    with pytest.raises(InputError):
        next(evolve(image(), START, H, LevelSetParameters(speed=speed), given))


def test_an_edge_image_is_never_negative():
    given = np.ones(SHAPE)
    given[3, 3] = -0.25
    with pytest.raises(InputError, match=r"falls to -0\.25"):
        next(evolve(image(), START, H, LevelSetParameters(speed="edge"), given))
    next(evolve(image(), START, H, LevelSetParameters(speed="region"), given))


@pytest.mark.parametrize("values", [(-0.1, 1.0), (0.0, 1.2), (0.0, 100.0)])
def test_probabilities_lie_between_0_and_1(values):
    p = LevelSetParameters(speed="region", region="probability")
    with pytest.raises(InputError, match="probabilit"):
        next(evolve(np.linspace(*values, 440).reshape(SHAPE), START, H, p))


@pytest.mark.parametrize("name", ["walls", "pins"])
def test_constraints_of_another_grid(name):
    with pytest.raises(InputError, match="different grids"):
        next(evolve(image(), START, H, LevelSetParameters(), **{name: np.ones((3, 3), bool)}))
    gen = evolve(image(), START, H, LevelSetParameters())
    next(gen)
    state = gen.send(Constraints(**{name: np.ones((3, 3), bool)}))
    assert "different grids" in state.note
    assert state.iteration == 1  # the run goes on without them


def test_a_blur_of_the_wrong_length():
    with pytest.raises(InputError, match="3 values but the image 2 axes"):
        next(evolve(image(), START, H, LevelSetParameters(sigma=(1.0, 1.0, 1.0))))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"redistance_every": 0}, "order"),
        ({"convection": -1.0}, "greater than or equal to 0"),
        ({"curvature": -0.1}, "greater than or equal to 0"),
        ({"cfl": 1.5}, "less than or equal to 1"),
        ({"time_step": 0.0}, "time_step"),
        ({"time_step": -1.0}, "time_step"),
        ({"time": 0.0}, "greater than 0"),
        ({"balloon": float("nan")}, "finite"),
        ({"balloon": float("inf")}, "finite"),
        ({"lower": 5.0, "upper": 5.0}, "below upper"),
        ({"ballon": 1.0}, "Extra inputs"),
        ({"sigma": -1.0}, "sigma"),
    ],
)
def test_parameters_that_make_no_sense(settings, words):
    with pytest.raises(ValidationError, match=words):
        LevelSetParameters(**settings)


def test_switching_the_band_during_a_run_is_refused():
    gen = evolve(image(), START, H, LevelSetParameters(order=1))
    next(gen)
    state = gen.send(LevelSetParameters(order=1, redistance_every=0, steps=2))
    assert "during a run" in state.note
    assert next(gen).stop_reason is None  # nor were its other settings taken
    assert state.result().record.changes == ()


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16, np.uint16, np.int32, np.uint64, np.float16, np.float32])
def test_every_real_type_is_an_image(dtype):
    array = (image() % 100).astype(dtype)
    p = LevelSetParameters(speed="region", steps=3)
    result = finish(evolve(array, START, H, p))
    same = finish(evolve(array.astype(np.float32), START, H, p))
    np.testing.assert_array_equal(result.level_set, same.level_set)
    assert result.record.source.dtype == np.dtype(dtype).str


def test_a_boolean_image_is_an_image():
    body = ball(SHAPE, H, 7.0) > 0
    p = LevelSetParameters(speed="region", lower=0.5, steps=200)
    result = finish(evolve(body, ball(SHAPE, H, 3.0) > 0, H, p))
    assert (result.mask == body).mean() > 0.97


def test_foreign_byte_order_and_strides():
    array = image(np.float32)
    p = LevelSetParameters(steps=4)
    expected = finish(evolve(array, START, H, p)).level_set
    for strange in (array.astype(">f4"), np.asfortranarray(array), np.flip(np.flip(array, 0).copy(), 0)):
        np.testing.assert_array_equal(finish(evolve(strange, START, H, p)).level_set, expected)


@pytest.mark.parametrize("speed", ["edge", "region"])
def test_a_constant_image_is_told(speed):
    result = finish(evolve(np.full(SHAPE, 3.0), START, H, LevelSetParameters(speed=speed, steps=30)))
    assert any("constant" in note for note in result.notes)
    if speed == "edge":
        assert result.mask.sum() > START.sum()  # g = 1: it runs freely
    else:
        assert result.mask.sum() <= START.sum()  # s = 0: only curvature acts


@pytest.mark.parametrize("shape", [(1, 20, 22), (20, 1, 22), (20, 22, 1), (1, 1, 30), (1, 30), (2, 2), (2, 20, 22)])
@pytest.mark.parametrize("speed", ["edge", "region"])
def test_thin_arrays_work(shape, speed):
    h = (1.0,) * len(shape)
    start = ball(shape, h, max(shape) / 4) > 0
    start.reshape(-1)[0] = False
    start.reshape(-1)[-1] = True
    array = image(shape=shape)
    result = finish(evolve(array, start, h, LevelSetParameters(speed=speed, steps=10)))
    assert np.isfinite(result.level_set).all()
    assert result.mask.shape == shape


@pytest.mark.parametrize("shape", [(1, 1), (1, 1, 1)])
def test_a_single_voxel_has_no_front(shape):
    h = (1.0,) * len(shape)
    with pytest.raises(InputError, match="whole image"):
        next(evolve(np.zeros(shape), np.ones(shape, bool), h, LevelSetParameters()))
    result = finish(evolve(np.zeros(shape), one_ball(*([0.0] * len(shape))), h, LevelSetParameters(steps=5)))
    assert result.stop_reason in ("filled", "stalled")
