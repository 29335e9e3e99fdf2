"""Learning: the unrolled run is the run, its gradient is the derivative, and known weights are found again."""

from __future__ import annotations

import math
from collections.abc import Generator
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from src_models.errors import LsnetError
from src_models.levelset import LevelSetParameters, evolve, paper_preset
from src_models.levelset.accepted import checked, prepared
from src_models.levelset.fitting import AcceptedSlice, FitParameters, FitResult, fit
from src_models.levelset.initial import Seeds, Sphere
from src_models.levelset.learnable import FreeNumbers, learnable
from src_models.levelset.speed import speed_image
from src_models.levelset.unrolled import UnrolledRun
from src_models.progress import finish
from src_models.record import Record, content_hash
from tests.runs import finish as end_of
from tests.scenes import REPOSITORY, Array, ball, dice, picture

DOUBLE = torch.empty(0, dtype=torch.float64)
SLICES = REPOSITORY / "sample_data" / "liver_slices"


def disc_slice(
    shape: tuple[int, ...] = (34, 36), radius: float = 9.0, spacing: Any = None, seeded: float = 0.4
) -> AcceptedSlice:
    """A noisy bright ball with a bulge on one side, the start a ball about its middle; float64."""
    h = spacing or (1.0,) * len(shape)
    aside = [(n - 1) / 2 * s + 7 for n, s in zip(shape, h, strict=True)]
    body = np.maximum(ball(shape, h, radius), ball(shape, h, 0.5 * radius, aside))
    image = picture(body, h, 8.0, seed=4).astype(np.float64)
    return AcceptedSlice(image, ball(shape, h, seeded * radius) > 0, body > 0, h)


def run_of(
    one: AcceptedSlice, p: LevelSetParameters, steps: int, voxels: int = 10**6, names: Any = None
) -> UnrolledRun:
    scene = prepared(checked(one, p, 1), p, voxels, DOUBLE)
    return UnrolledRun(scene, p, names or learnable(p), steps)


def values_of(p: LevelSetParameters) -> dict[str, float]:
    fields = {name: getattr(p, name) for name in learnable(p)}
    return {**fields, **({"convection": p.convection_weight} if "convection" in fields else {})}


def loss_of(run: UnrolledRun, values: dict[str, float]) -> float:
    return end_of(run.forwards(values)).loss


MODES = {
    "edge": LevelSetParameters(contrast=0.1, dtype="float64"),
    "edge, first order": LevelSetParameters(contrast=0.1, order=1, speed_at="voxel", gradient="osher_sethian"),
    "shrinking": LevelSetParameters(balloon=-0.4, convection=1.0, contrast=0.1, convection_sigma=1.0),
    "region": LevelSetParameters(speed="region", lower=100.0, upper=230.0),
    "region with edges": LevelSetParameters(speed="region", lower=90.0, upper=230.0, convection=1.5, contrast=0.1),
    "about the seed": LevelSetParameters(speed="region", seed_width=4.0, convection=1.5, contrast=0.1),
    "lower": LevelSetParameters(speed="region", lower=100.0),
    "upper": LevelSetParameters(speed="region", upper=300.0, balloon=0.3),
    "fixed time": LevelSetParameters(contrast=0.1, time=3.0),
    "no redistancing": paper_preset("central", edge_preset="normalised", contrast=0.2, steps=10),
}


@pytest.mark.parametrize("mode", MODES)
def test_gradient_is_the_derivative(mode: str) -> None:
    """Central differences in float64, every learned value, 1e-4 relative."""
    p = MODES[mode]
    _check_gradient(run_of(disc_slice(seeded=0.4 if p.balloon > 0 else 1.3), p, 14), values_of(p))


def test_gradient_is_the_derivative_in_a_volume_of_thick_slices_computed_in_blocks() -> None:
    p = MODES["region with edges"]
    one = disc_slice((10, 32, 34), 10.0, (3.0, 1.0, 1.0))
    run = run_of(one, p, 9, voxels=3000)
    _check_gradient(run, values_of(p))


def _check_gradient(run: UnrolledRun, values: dict[str, float]) -> None:
    found = end_of(run.backwards(end_of(run.forwards(values)))).tolist()
    largest = max(abs(x * values[name]) for x, name in zip(found, values, strict=True))
    assert largest > 1e-4, "a loss that depends on nothing would pass"
    for name, slope in zip(values, found, strict=True):
        h = 1e-6 * abs(values[name])
        up, down = (loss_of(run, {**values, name: values[name] + sign * h}) for sign in (1, -1))
        expected = (up - down) / (2 * h)
        assert slope == pytest.approx(expected, rel=1e-4, abs=1e-6 * largest / abs(values[name])), name


def test_gradient_of_a_growing_disc_in_closed_form() -> None:
    """r = r0 + balloon t, so the loss and its slope are known: 1 - 2 r^2 / (r^2 + R^2)."""
    shape, r0, t, big = (64, 64), 8.0, 6.0, 24.0
    start = Seeds(spheres=(Sphere(centre=(31.5, 31.5), radius=r0),))
    one = AcceptedSlice(np.zeros(shape), start, ball(shape, (1, 1), big) > 0, (1.0, 1.0), speed_image=np.ones(shape))
    p = LevelSetParameters(speed="region", curvature=0.0, time=t)
    run = run_of(one, p, 40, names=("balloon",))
    passage = end_of(run.forwards({"balloon": 1.0}))
    r = r0 + t
    assert passage.loss == pytest.approx(1 - 2 * r**2 / (r**2 + big**2), rel=0.01)
    slope = -4 * r * t * big**2 / (r**2 + big**2) ** 2
    assert float(end_of(run.backwards(passage))) == pytest.approx(slope, rel=0.02)


def test_all_weights_together_change_nothing() -> None:
    """The time step follows them: the loss is homogeneous of degree 0, and so is its gradient (Euler)."""
    p = MODES["edge"]
    run, values = run_of(disc_slice(), p, 14), values_of(p)
    weights = ("balloon", "curvature", "convection")
    passage = end_of(run.forwards(values))
    assert loss_of(run, {**values, **{name: 3 * values[name] for name in weights}}) == pytest.approx(
        passage.loss, rel=1e-9
    )
    slope = dict(zip(values, end_of(run.backwards(passage)).tolist(), strict=True))
    parts = [slope[name] * values[name] for name in weights]
    assert abs(sum(parts)) < 1e-8 * max(map(abs, parts))


@pytest.mark.parametrize("mode", ["edge", "region", "region with edges", "about the seed", "lower"])
def test_the_unrolled_run_is_the_run(mode: str) -> None:
    """Cut out and unrolled, yet the level set of `evolve` after as many steps."""
    p = MODES[mode].model_copy(update={"steps": 25, "auto_stop": False, "root_epsilon": 1e-6, "dtype": "float64"})
    one = disc_slice((70, 80))
    ready = checked(one, p, 1)
    scene = prepared(ready, p, 10**6, DOUBLE)
    u = end_of(UnrolledRun(scene, p, learnable(p), 25).forwards(values_of(p))).kept[-1][0].numpy()
    plain = finish(evolve(one.image, one.start, one.spacing, p)).level_set
    assert u.shape != plain.shape
    cut = tuple(slice(part.start, part.stop) for part in _place(u, plain))
    assert np.abs(u - plain[cut]).max() < 1e-9


def _place(part: Array, whole: Array) -> list[slice]:
    """Where the cut lies: its inside has its extent in the whole."""
    places = []
    for axis in range(whole.ndim):
        other = tuple(a for a in range(whole.ndim) if a != axis)
        shift = int(np.argmax((whole > 0).any(other))) - int(np.argmax((part > 0).any(other)))
        places.append(slice(shift, shift + part.shape[axis]))
    return places


@pytest.mark.parametrize("mode", ["edge", "region", "lower", "upper"])
def test_differentiable_speed_is_the_speed(mode: str) -> None:
    p = MODES[mode]
    one = disc_slice((34, 36), 14.0)
    run = run_of(one, p, 1)
    values = {name: torch.tensor(v, dtype=torch.float64) for name, v in values_of(p).items()}
    found = run.images(values)[0].numpy()
    whole = speed_image(one.image, one.spacing, p)
    assert found.shape == whole.shape
    np.testing.assert_allclose(found, whole, atol=1e-12)


def made_with(p: LevelSetParameters) -> AcceptedSlice:
    """A slice accepted as known parameters segment it: a bright disc in a dimmer ring, blurred, with noise."""
    shape, h = (40, 40), (1.0, 1.0)
    disc = picture(ball(shape, h, 9.0), h, 0.0, 0, blur_voxels=2.0)
    image = (disc + 0.5 * picture(ball(shape, h, 14.0), h, 3.0, 2, blur_voxels=1.5)).astype(np.float32)
    start = ball(shape, h, 4.0) > 0
    return AcceptedSlice(image, start, finish(evolve(image, start, h, p)).mask, h)


KNOWN = (
    LevelSetParameters(speed="region", lower=150.0, upper=400.0),
    LevelSetParameters(contrast=0.03, time=12, auto_stop=False),
)
FROM = KNOWN[0].model_copy(update={"lower": 130.0}), KNOWN[1].model_copy(update={"contrast": 0.06, "curvature": 0.5})


@pytest.mark.parametrize(("known", "start"), list(zip(KNOWN, FROM, strict=True)), ids=["region", "edge"])
def test_known_weights_are_found_again(known: LevelSetParameters, start: LevelSetParameters) -> None:
    """As far as the mask goes: other weights may give the same one."""
    one = made_with(known)
    before = dice(finish(evolve(one.image, one.start, one.spacing, start)).mask, one.accepted)
    assert before < 0.93
    settings = FitParameters(iterations=6, rate=0.25, unrolled_steps=64, screen=False, trials=0)
    result = finish(fit([one], start, settings))
    after = dice(finish(evolve(one.image, one.start, one.spacing, result.parameters)).mask, one.accepted)
    assert result.dice_before == (pytest.approx(before),)
    assert result.dice_after == (pytest.approx(after),)
    assert after > max(0.96, before + 0.05)
    assert result.losses[-1] < 0.5 * result.losses[0]
    assert all(b <= a for a, b in zip(result.losses, result.losses[1:], strict=False))


def liver(name: str) -> AcceptedSlice:
    """A shipped slice, every fourth pixel, with one click at the innermost point of its label."""
    from scipy.ndimage import distance_transform_edt

    grey, label = (np.asarray(Image.open(SLICES / kind / f"{name}.png"))[::4, ::4] for kind in ("images", "labels"))
    depth = distance_transform_edt(label > 0)
    centre = tuple(float(c) for c in np.unravel_index(depth.argmax(), depth.shape))
    return AcceptedSlice(grey, Seeds(spheres=(Sphere(centre=centre, radius=2.0),)), label, (1.0, 1.0), name=name)


def quick() -> Generator[Any, None, FitResult]:
    slices = [liver(name) for name in ("p004_s130", "p085_s136")]
    return fit(slices, LevelSetParameters(speed="region"), FitParameters(iterations=2, voxels=800, unrolled_steps=40))


def test_two_livers_are_learned_and_the_record_says_how(tmp_path: Any) -> None:
    seen: list[Any] = []
    result = finish(quick(), seen.append)
    assert np.mean(result.dice_after) > np.mean(result.dice_before)
    assert result.parameters.lower is not None
    assert {step.phase for step in seen} == {"fit", "check"}
    last = seen[-1]
    assert last.fraction == 1.0
    assert {"loss", "dice", "balloon", "curvature", "lower", "upper"} <= set(last.values)
    fractions = [step.fraction for step in seen]
    assert fractions == sorted(fractions)
    path = tmp_path / "fit.lsnet.json"
    path.write_text(result.record.to_json())
    record = Record.read(path)
    assert record.task == "fit"
    assert LevelSetParameters(**record.result["parameters"]) == result.parameters
    assert tuple(record.result["losses"]) == result.losses
    assert record.inputs["slices"][0]["image"] == content_hash(np.asarray(liver("p004_s130").image))


def test_the_same_input_teaches_the_same() -> None:
    one = disc_slice((32, 32), 8.0)
    settings = FitParameters(iterations=2, screen=False, unrolled_steps=16)
    first, second = (finish(fit([one], LevelSetParameters(contrast=0.1), settings)) for _ in range(2))
    assert first.parameters == second.parameters
    assert first.losses == second.losses


def test_what_is_learned_about_the_seed_serves_slices_of_another_brightness() -> None:
    """Each slice has the thresholds of its own start, so two of them with grey values far apart teach one number."""
    good = disc_slice((40, 44), 10.0)
    slices = [
        AcceptedSlice(gain * good.image + offset, good.start, good.accepted, good.spacing)
        for gain, offset in ((1.0, 0.0), (3.0, 2000.0))
    ]
    start = LevelSetParameters(speed="region", seed_width=0.7)
    result = finish(fit(slices, start, FitParameters(iterations=1, unrolled_steps=30, trials=12)))
    learned = result.parameters
    assert min(result.dice_after) > max(0.9, max(result.dice_before) + 0.05)
    assert learned.seed_width is not None
    assert learned.seed_width > 1
    assert learned.lower is None
    unseen = finish(evolve(7 * good.image - 900, good.start, good.spacing, learned))
    assert dice(unseen.mask, good.accepted) > 0.9


def test_plain_runs_decide_about_trials() -> None:
    """Without a descent worth the name: nothing that was tried is better than the result."""
    one = made_with(KNOWN[0])
    settings = FitParameters(iterations=1, screen=False, unrolled_steps=8, trials=12)
    result = finish(fit([one], FROM[0], settings))
    tried = result.record.result["tried"]
    assert len(tried) > 2
    assert max(np.mean(each["dice"]) for each in tried) == np.mean(result.dice_after)
    assert np.mean(result.dice_after) > np.mean(result.dice_before) + 0.02
    assert dice(finish(evolve(one.image, one.start, one.spacing, result.parameters)).mask, one.accepted) == (
        pytest.approx(result.dice_after[0])
    )


def test_it_can_be_cancelled_at_any_step() -> None:
    work = quick()
    for _ in range(25):
        next(work)
    work.close()
    with pytest.raises(StopIteration):
        next(work)


def test_free_numbers_return_the_values_and_keep_the_bounds() -> None:
    names = ("balloon", "curvature", "convection", "contrast", "lower", "upper")
    values = dict(zip(names, (-0.3, 0.2, 2.0, 0.04, -50.0, 80.0), strict=True))
    free = FreeNumbers(names, 20.0)
    numbers = free.of(values)
    assert {k: float(v) for k, v in free.values(numbers).items()} == pytest.approx(values)
    far = {k: float(v) for k, v in free.values(numbers - 5).items()}
    assert far["balloon"] < -5
    assert min(far["curvature"], far["convection"], far["contrast"]) > 0
    assert far["lower"] < far["upper"]
    zero = free.values(free.of({**values, "curvature": 0.0}))["curvature"]
    assert 0 < float(zero) < 0.01


def test_what_has_no_influence_is_not_learned() -> None:
    assert learnable(LevelSetParameters()) == ("balloon", "curvature", "convection", "contrast")
    assert learnable(LevelSetParameters(convection=0.0)) == ("balloon", "curvature", "contrast")
    assert learnable(LevelSetParameters(speed="region")) == ("balloon", "curvature", "lower", "upper")
    assert learnable(LevelSetParameters(speed="region", seed_width=2.0)) == ("balloon", "curvature", "seed_width")
    assert learnable(LevelSetParameters(speed="region", seed_width=2.0, upper=3.0)) == ("balloon", "curvature", "upper")
    assert learnable(LevelSetParameters(speed="region", upper=3.0)) == ("balloon", "curvature", "upper")
    assert learnable(LevelSetParameters(speed="region"), given_speed=True) == ("balloon", "curvature")


def _refused(slices: list[AcceptedSlice], p: LevelSetParameters | None = None, **settings: Any) -> str:
    with pytest.raises(LsnetError) as caught:
        next(fit(slices, p or LevelSetParameters(), FitParameters(**settings)))
    return str(caught.value)


def test_bad_input_is_told_in_a_sentence() -> None:
    good = disc_slice()

    def but(**changes: Any) -> list[AcceptedSlice]:
        return [AcceptedSlice(**({**vars(good), "name": "case 7"} | changes))]

    assert "no accepted slice" in _refused([])
    assert "accepted mask of case 7 is empty" in _refused(but(accepted=np.zeros_like(good.accepted)))
    assert "fills the whole image" in _refused(but(accepted=np.ones_like(good.accepted)))
    assert "different grids" in _refused(but(accepted=good.accepted[1:]))
    assert "no labels" in _refused(but(accepted=np.where(good.accepted, np.nan, 0.0)))
    outside = np.zeros_like(good.start)
    outside[:3, :3] = True
    assert "seeds of case 7 lie outside" in _refused(but(start=outside))
    assert "outside" in _refused(but(start=Seeds(spheres=(Sphere(centre=(99.0, 1.0), radius=2.0),))))
    spoiled = good.image.copy()
    spoiled[3, 4] = np.nan
    assert "1 of 1224 voxels are NaN" in _refused(but(image=spoiled))
    assert "Chan-Vese" in _refused([good], LevelSetParameters(speed="region", region="chan_vese"))
    assert "every 3 steps" in _refused([good], LevelSetParameters(redistance_every=3))
    assert "lower cannot be learned" in _refused([good], learn=("lower",))
    assert "some have none" in _refused([good, *but(speed_image=np.ones_like(good.image))])


def test_a_start_that_nothing_moves_is_said() -> None:
    """A speed of 0 everywhere: no gradient, no change, and a note."""
    good = disc_slice()
    still = AcceptedSlice(good.image, good.start, good.accepted, good.spacing, speed_image=np.zeros_like(good.image))
    p = LevelSetParameters(speed="region", curvature=0.0)
    result = finish(fit([still], p, FitParameters(iterations=2, learn=("balloon",), unrolled_steps=5)))
    assert result.parameters == p
    assert any("does not depend" in note for note in result.notes)
    assert math.isfinite(result.losses[-1])


def test_nothing_is_learned_that_makes_smaller_seeds_vanish() -> None:
    """Strong curvature serves this slice best, and its seed just survives it; one a voxel smaller would not."""
    one = made_with(KNOWN[0])
    seed = ball(one.image.shape, one.spacing, 4.0) > 0
    start = LevelSetParameters(speed="region", lower=100.0, upper=400.0, curvature=0.8)
    result = finish(fit([one], start, FitParameters(iterations=1, learn=("curvature",), unrolled_steps=8, trials=24)))
    assert result.parameters.curvature <= 2.0 + 1e-6
    assert all(each["curvature"] <= 2.1 for each in result.record.result["tried"])
    for smaller in (seed, ball(one.image.shape, one.spacing, 3.0) > 0):
        assert finish(evolve(one.image, smaller, one.spacing, result.parameters)).stop_reason != "vanished"
