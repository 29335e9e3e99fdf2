"""The kernels for graphics cards give what the definition gives on the processor, whatever the form of the equation."""

from __future__ import annotations

import itertools
from importlib.util import find_spec

import numpy as np
import pytest
import torch

from src_models.errors import InputError
from src_models.levelset import LevelSetParameters, evolve
from src_models.levelset.engines import chosen_engine, make_engine, redistanced
from src_models.levelset.equation import constrained, explicit_step
from src_models.levelset.evolution import Constraints
from src_models.levelset.fields import SpeedFields, speed_images
from src_models.levelset.fused import FusedEngine, can_be_fused
from src_models.levelset.initial import band_width
from src_models.levelset.measures import volume_mm3
from src_models.levelset.parameters import paper_preset
from src_models.levelset.speed import as_image, with_range
from src_models.levelset.stencils import around
from tests.runs import finish, states
from tests.scenes import ball_scene, dice, star_scene, thick_slices_scene

HAS_KERNELS = torch.cuda.is_available() and find_spec("triton") is not None
on_a_card = pytest.mark.skipif(not HAS_KERNELS, reason="needs an NVIDIA graphics card and Triton")

FORMS = [
    {"speed": speed, "gradient": gradient, "order": order, "speed_at": speed_at}
    for speed, gradient, order, speed_at in itertools.product(
        ("edge", "region"), ("godunov", "osher_sethian"), (1, 2), ("front", "voxel")
    )
]
RARE_FORMS = [
    {"speed": "edge", "balloon": -0.4, "convection_exponent": 1.5, "balloon_exponent": 2.0, "curvature_exponent": 0.5},
    {"speed": "edge", "balloon": 0.0, "convection": 0.0, "curvature": 1.0, "curvature_exponent": 2.0},
    {"speed": "region", "curvature_exponent": 1.0, "convection": 1.0, "balloon_exponent": 1.5},
    {"speed": "region", "curvature": 0.0, "balloon_exponent": 0.0, "eps": 1e-3, "root_epsilon": 1e-4},
]
GRIDS = [
    ((34, 45), (1.0, 1.0)),
    ((20, 34), (3.0, 1.0)),
    ((18, 20, 37), (1.0, 1.0, 1.0)),
    ((12, 20, 22), (3.0, 1.0, 1.0)),
    ((18, 26, 22), (1.5, 0.7, 1.0)),
    ((1, 30, 28), (5.0, 1.0, 0.7)),
    ((30, 1, 28), (1.0, 5.0, 0.7)),
]


def noisy_ball(shape: tuple[int, ...], spacing: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """A blurred bright ball of radius 7 mm off the centre, with noise, and a seed inside it."""
    axes = [(np.arange(n) - 0.45 * n) * h if n > 1 else np.zeros(1) for n, h in zip(shape, spacing, strict=True)]
    r = np.sqrt(sum(x**2 for x in np.meshgrid(*axes, indexing="ij")))
    noise = np.random.default_rng(1).normal(0, 4, shape)
    return 60 + 100 / (1 + np.exp((r - 7) / 0.9)) + noise, r < 4


class Both:
    """The same start in the definition, on every voxel in float64 on the processor, and in the engine on the card."""

    def __init__(self, shape, spacing, form, *, dtype="float64", constraints=True, pins=None):
        self.spacing = spacing
        image, seed = noisy_ball(shape, spacing)
        image = as_image(image, spacing)
        self.p = with_range(image, LevelSetParameters(**form, lower=110.0, dtype=dtype))
        self.width = band_width(spacing, shape, self.p.band)
        exact = torch.empty(0, dtype=torch.float64)
        start = redistanced("reference", np.where(seed, self.width, -self.width), spacing, self.width, 2, exact)
        walls = np.zeros(shape, bool)
        if pins is None:
            pins = np.zeros(shape, bool)
            pins[..., -3] = constraints
        walls[..., 5] = constraints
        self.masks = torch.from_numpy(walls), torch.from_numpy(pins)
        active = [h for h, n in zip(spacing, shape, strict=True) if n > 1]
        self.u = constrained(torch.from_numpy(start), active, *self.masks)
        images = speed_images(image, spacing, self.p)
        self.fields = SpeedFields(images, spacing, self.p, exact)
        self.fields.set_walls(self.masks[0].reshape(-1))
        like = torch.empty(0, dtype=getattr(torch, dtype), device=DEVICE)
        self.engine = make_engine("fused", start.astype(dtype), spacing, self.width, like)
        if constraints:
            self.engine.set_walls_and_pins(walls, pins)
        self.engine.set_problem(images, self.p)

    def step(self) -> None:
        dt = 0.9 / self.engine.look(0.5).largest_rate
        self.engine.step(dt, True)
        n = around(self.u, self.spacing)
        speeds = self.fields.at_front(n) if self.p.speed_at == "front" else self.fields.at_voxels(n)
        walls, pins = self.masks
        self.u = explicit_step(
            self.u, self.spacing, speeds, dt, self.p, band_width_mm=self.width, walls=walls, pins=pins
        )

    def difference(self) -> np.ndarray:
        return np.abs(self.engine.level_set() - self.u.numpy())


DEVICE = "cuda"


@pytest.mark.gpu
@on_a_card
@pytest.mark.parametrize(("shape", "spacing"), GRIDS)
@pytest.mark.parametrize("form", FORMS + RARE_FORMS, ids=str)
def test_in_float64_a_step_is_the_definition(shape, spacing, form):
    both = Both(shape, spacing, form)
    both.step()
    assert both.difference().max() <= 1e-12
    for _ in range(49):
        both.step()
    sure = np.abs(both.u.numpy()) > 1e-12
    assert both.difference()[sure].max() <= 1e-9


@pytest.mark.gpu
@on_a_card
@pytest.mark.parametrize(("shape", "spacing"), GRIDS)
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_in_float32_the_front_is_the_definition(shape, spacing, form):
    both = Both(shape, spacing, form, dtype="float32", constraints=False)
    for _ in range(50):
        both.step()
    expected = both.u.numpy()
    band = np.abs(expected) < both.width
    assert np.quantile(both.difference()[band], 0.999) <= 1e-3
    assert ((both.engine.level_set() > 0) != (expected > 0)).mean() <= 1e-4


@pytest.mark.gpu
@on_a_card
@pytest.mark.parametrize(
    ("shape", "first", "side"), [((48, 96), (16, 64), (16, 16)), ((12, 24, 64), (4, 8, 48), (4, 8, 8))]
)
def test_a_lone_pin_reaches_into_the_tiles_around_its_own(shape, first, side):
    """Near each corner of a tile, far from the front: the voxels beside it are in its tile, what they change is not."""
    for corner in itertools.product(*((1, n - 2) for n in side)):
        pins = np.zeros(shape, bool)
        pins[tuple(i + k for i, k in zip(first, corner, strict=True))] = True
        both = Both(shape, (1.0,) * len(shape), FORMS[0], pins=pins)
        for _ in range(2):
            both.step()
            assert both.difference().max() <= 1e-12


@pytest.mark.gpu
@on_a_card
def test_what_is_not_listed_is_the_same_in_both_arrays():
    """A ball shrinks to nothing and leaves its tiles behind one by one."""
    from src_models.levelset.fused_field import TiledField

    y, x = np.mgrid[:80, :90]
    start = np.clip(24.0 - np.hypot(y - 37, x - 49), -4, 4)
    field = TiledField(torch.from_numpy(start).to(DEVICE), (1.0, 1.0), 4.0)
    field.constant("TIME_STEP").fill_(0.6)
    rate = torch.full_like(field.flat, -1.0)
    counts = []
    for _ in range(55):
        field.move(rate, None, None, ends=False)
        field.redistance(2, None, None)
        field.relist()
        counts.append(int(field.count))
        listed = np.zeros(field.tiles, bool)
        listed[field.listing[: counts[-1]].cpu().numpy()] = True
        rows, columns = (np.arange(n) // side for n, side in zip(start.shape, field.tile[1:], strict=True))
        unlisted = ~listed.reshape(field.grid[1:])[rows][:, columns]
        u, other = (array.reshape(start.shape).cpu().numpy() for array in (field.flat, field.other))
        np.testing.assert_array_equal(u[unlisted], other[unlisted])
        assert (np.abs(u[unlisted]) == 4).all()
    assert counts[0] > 15
    assert counts[-1] == 0
    assert int(field.far_inside) == 0


@pytest.mark.gpu
@on_a_card
@pytest.mark.parametrize(("shape", "spacing"), [*GRIDS, ((40, 70, 90), (1.0, 1.0, 1.0))])
@pytest.mark.parametrize("order", [1, 2])
def test_full_redistancing_is_that_of_the_reference(shape, spacing, order):
    _, seed = noisy_ball(shape, spacing)
    width = band_width(spacing, shape, 4.5)  # an odd number of sweeps on some of the grids
    start = np.where(seed, width, -width)
    expected = redistanced("reference", start, spacing, width, order, torch.empty(0, dtype=torch.float64))
    like = torch.empty(0, dtype=torch.float64, device=DEVICE)
    np.testing.assert_allclose(redistanced("fused", start, spacing, width, order, like), expected, rtol=0, atol=1e-12)


@pytest.mark.gpu
@on_a_card
@pytest.mark.parametrize("form", [FORMS[4], FORMS[12], RARE_FORMS[0]], ids=str)
def test_measures_are_those_of_the_reference(form):
    """Also after steps without redistancing, which leave by another way."""
    both = Both((18, 26, 22), (1.5, 0.7, 1.0), form, constraints=False)
    images = speed_images(as_image(noisy_ball(both.engine.shape, both.spacing)[0], both.spacing), both.spacing, both.p)
    like = torch.empty(0, dtype=torch.float64)
    for k in range(6):
        reference = make_engine("reference", both.engine.level_set(), both.spacing, both.width, like)
        reference.set_problem(images, both.p)
        expected, seen = reference.look(0.3), both.engine.look(0.3)
        for name in ("size", "area", "free_area", "speed_on_front", "fastest", "largest_rate", "is_empty", "is_full"):
            assert getattr(seen, name) == pytest.approx(getattr(expected, name), rel=1e-11, abs=1e-11), name
        before = both.engine.level_set()
        both.engine.step(0.9 / seen.largest_rate, k % 3 == 0)
        box = both.engine.changed_box()
        outside = np.ones(before.shape, bool)
        outside[box] = False
        assert (both.engine.level_set() == before)[outside].all()
    assert both.engine.largest_free_patch(0.3) == reference_patch(both, images)


def reference_patch(both: Both, images) -> tuple[float, ...] | None:
    engine = make_engine(
        "reference", both.engine.level_set(), both.spacing, both.width, torch.empty(0, dtype=torch.float64)
    )
    engine.set_problem(images, both.p)
    return engine.largest_free_patch(0.3)


@pytest.mark.gpu
@on_a_card
@pytest.mark.parametrize("scene", [ball_scene(), thick_slices_scene(), star_scene()], ids=lambda s: s.name)
@pytest.mark.parametrize("speed", ["edge", "region"])
def test_a_run_ends_as_on_the_processor(scene, speed):
    given = scene.region_speed if speed == "region" else None
    ends = [
        finish(evolve(scene.image, scene.start, scene.spacing, LevelSetParameters(speed=speed, device=device), given))
        for device in ("cpu", DEVICE)
    ]
    assert ends[1].stop_reason == ends[0].stop_reason
    assert dice(ends[0].mask, ends[1].mask) >= 0.9999


@pytest.mark.gpu
@on_a_card
def test_a_leak_is_rolled_back_to_the_moment_before():
    y, x = np.mgrid[:64, :110]
    chamber = np.hypot(y - 31.5, x - 31.5)
    speed = np.where((chamber < 24) | (chamber > 27) | ((np.abs(y - 31.5) < 2.2) & (x > 40)), 1.0, -1.0)
    seed = np.hypot(y - 31.5, x - 12) < 3
    p = LevelSetParameters(speed="region", steps=600, device=DEVICE)
    seen, result = states(evolve(speed, seed, (1.0, 1.0), p, speed_image=speed))
    assert result.stop_reason == "leak"
    assert seen[-2].iteration > result.iteration
    kept = next(s for s in evolve(speed, seed, (1.0, 1.0), p, speed_image=speed) if s.iteration == result.iteration)
    np.testing.assert_array_equal(kept.level_set, result.level_set)
    assert np.hypot(result.leak_at[0] - 31.5, result.leak_at[1] - 60) < 5


@pytest.mark.gpu
@on_a_card
@pytest.mark.parametrize("curvature", [0.0, 0.5])
def test_a_closed_wall_holds(curvature):
    """A 45-degree diagonal one voxel thick, its corners closed, and the same walls taken away again."""
    y, x = np.mgrid[:60, :60]
    walls = (y == x) | (y == x + 1)
    seed = np.hypot(y - 15, x - 45) < 5
    p = LevelSetParameters(
        speed="region", curvature=curvature, time=120.0, steps=10_000, auto_stop=False, device=DEVICE
    )
    plain = np.ones(seed.shape, np.float32)
    result = finish(evolve(plain, seed, (1.0, 1.0), p, plain, walls=walls))
    assert not result.mask[y >= x].any()
    assert result.mask[x > y + 2].mean() > 0.98
    run = evolve(plain, seed, (1.0, 1.0), p, plain, walls=walls)
    for _ in range(100):
        next(run)
    run.send(Constraints(walls=np.zeros_like(walls)))
    assert finish(run).mask.all()


@pytest.mark.gpu
@on_a_card
def test_the_same_bits_twice():
    scene = ball_scene()
    p = LevelSetParameters(speed="edge", steps=80, auto_stop=False, device=DEVICE)
    first, second = (states(evolve(scene.image, scene.start, scene.spacing, p)) for _ in range(2))
    np.testing.assert_array_equal(first[1].level_set, second[1].level_set)
    for one, other in zip(first[0], second[0], strict=True):
        assert (one.time, one.size, one.area, one.free_area) == (other.time, other.size, other.area, other.free_area)
    expected = volume_mm3(torch.from_numpy(first[1].level_set).double(), scene.spacing)
    assert first[0][-1].size == pytest.approx(expected, rel=1e-6)


@pytest.mark.gpu
@on_a_card
def test_a_running_engine_refuses_what_it_cannot_do():
    both = Both((34, 45), (1.0, 1.0), FORMS[0])
    image = as_image(noisy_ball((34, 45), (1.0, 1.0))[0], (1.0, 1.0))
    p = both.p.model_copy(update={"curvature_form": "nested"})
    with pytest.raises(InputError, match="no such form"):
        both.engine.set_problem(speed_images(image, (1.0, 1.0), p), p)
    both.step()
    assert both.difference().max() <= 1e-12


@pytest.mark.parametrize("form", FORMS + RARE_FORMS, ids=str)
def test_these_forms_have_kernels(form):
    assert can_be_fused(LevelSetParameters(**form))


@pytest.mark.parametrize(
    "p",
    [
        LevelSetParameters(gradient="central"),
        LevelSetParameters(gradient="none"),
        LevelSetParameters(curvature_form="nested"),
        LevelSetParameters(speed="region", region="chan_vese"),
        LevelSetParameters(order=1, redistance_every=0),
        paper_preset("godunov"),
    ],
    ids=["central", "none", "nested", "chan_vese", "no band", "paper"],
)
def test_other_forms_are_left_to_the_reference(p):
    assert not can_be_fused(p)
    assert chosen_engine(p, torch.device("cuda"), False) == "reference"


def test_who_makes_a_run():
    cuda = torch.device("cuda")
    expected = "fused" if HAS_KERNELS else "reference"
    assert chosen_engine(LevelSetParameters(), cuda, False) == expected
    assert chosen_engine(LevelSetParameters(engine="reference"), cuda, False) == "reference"
    assert chosen_engine(LevelSetParameters(), cuda, True) == "reference"
    assert chosen_engine(LevelSetParameters(), torch.device("cpu"), False) != FusedEngine.name
