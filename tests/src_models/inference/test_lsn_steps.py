"""The steps of a level set network on an image: each is what a network of so many predicts, the last is `predict`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from src_models.errors import InputError
from src_models.inference.lsn_steps import LevelSetStep, predict_steps
from src_models.inference.parameters import PredictionParameters
from src_models.inference.predict import predict
from src_models.networks.zoo import build
from src_models.weights.card import Label
from src_models.weights.model import Model
from tests.runs import finish, states
from tests.src_models.inference.nets import Smooth, model

PATCH = 16


def scene(*shape: int) -> np.ndarray:
    """A bright ball in noise, in no symmetric place."""
    away = sum((np.indices(shape)[k] - 0.42 * n) ** 2 for k, n in enumerate(shape)) ** 0.5
    return (np.random.default_rng(1).normal(0, 0.2, shape) + (away < 0.3 * min(shape))).astype(np.float32)


def lsn(ndim: int, *, classes: int = 2, seed: int = 4, spacing: Any = None, **options: Any) -> Model:
    """A level set network whose result is neither empty nor all."""
    torch.manual_seed(seed)
    given: dict[str, Any] = {"steps": [4, 3], "start": "threshold", "range": (0.5, 1.6), "noise": 0.3} | options
    channels = 1 + (given["start"] == "seed")
    network = build("lsn", channels, classes, ndim, **given)
    regions = {} if classes > 1 else {"labels": (Label(name="ball", value=1, channel=0),), "head": "sigmoid"}
    return model(network, (PATCH,) * ndim, spacing=spacing, **regions)


def steps_of(models: Any, image: np.ndarray, spacing: Any, points: Any = (), **parameters: Any):
    """Copies of the labels after every step, the reports, and the prediction."""
    found, reports = [], []
    work = predict_steps(models, image, spacing, PredictionParameters(**parameters), points=points)
    while True:
        try:
            report = next(work)
        except StopIteration as end:
            return found, reports, end.value
        if isinstance(report, LevelSetStep):
            found.append(report.found.copy())
            reports.append(report)


@pytest.mark.parametrize(
    ("shape", "spacing", "own", "options"),
    [
        ((29, 37), (1.0, 1.0), None, {}),
        ((29, 37), (1.0, 1.0), (0.7, 0.8), {}),  # on another grid than that of the network
        ((15, 20, 18), (2.0, 1.0, 1.0), None, {}),
        ((4, 30, 22), (3.0, 1.0, 1.0), None, {"ndim": 2}),  # slice by slice
        ((29, 37), (1.0, 1.0), None, {"edge": "unet", "edge_depth": 2, "steps": [3, 0, 2]}),
        ((29, 37), (1.0, 1.0), None, {"start": "seed"}),
        ((29, 37), (1.0, 1.0), None, {"classes": 3}),
        ((29, 37), (1.0, 1.0), None, {"head": "sigmoid", "classes": 1}),
    ],
)
def test_the_last_step_is_the_prediction_to_the_bit(shape, spacing, own, options):
    options = dict(options)
    one = lsn(options.pop("ndim", len(shape)), spacing=own, **options)
    image = scene(*shape)
    points = [tuple(0.42 * n * h for n, h in zip(shape, spacing, strict=True))] if one.card.click else ()
    wanted = PredictionParameters(probabilities=True, entropy=True)

    found, reports, result = steps_of(one, image, spacing, points, probabilities=True, entropy=True)
    plain = finish(predict(one, image, spacing, wanted, points=points))

    assert 0 < plain.labels.astype(bool).mean() < 1
    np.testing.assert_array_equal(found[-1], plain.labels)
    np.testing.assert_array_equal(result.labels, plain.labels)
    np.testing.assert_array_equal(result.probabilities, plain.probabilities)
    np.testing.assert_array_equal(result.entropy, plain.entropy)
    assert result.record.result["labels_hash"] == plain.record.result["labels_hash"]
    assert [report.number for report in reports] == list(range(reports[0].count + 1))
    assert len({part.tobytes() for part in found}) > 1
    assert [report.halvings for report in reports] == list(one.network.halvings)


@pytest.mark.parametrize("shape", [(29, 37), (13, 18, 17)])
def test_every_step_is_what_a_network_of_so_many_steps_predicts(shape):
    """Weights are shared over the steps: the first k steps of six are a network of k steps; windows overlap."""
    six = lsn(len(shape), steps=[6])
    image, spacing = scene(*shape), (1.0,) * len(shape)
    found, _, _ = steps_of(six, image, spacing)
    assert len(found) == 7
    for number in (1, 2, 5):
        shorter = lsn(len(shape), steps=[number])
        shorter.network.load_state_dict(six.network.state_dict())
        np.testing.assert_array_equal(found[number], finish(predict(shorter, image, spacing)).labels)


def test_a_coarse_step_lies_where_the_image_is():
    """Brought to the grid of the image, the coarse level set is near the fine one, and not shifted by a voxel."""
    one = lsn(2, steps=[4, 3], noise=0.0)
    found, reports, _ = steps_of(one, scene(48, 52), (1.0, 1.0))
    last_coarse = max(report.number for report in reports if report.halvings == 1)
    coarse, fine = found[last_coarse].astype(bool), found[last_coarse + 1].astype(bool)
    centres = [np.argwhere(part).mean(0) for part in (coarse, fine)]
    np.testing.assert_allclose(centres[0], centres[1], atol=0.25)
    assert reports[last_coarse].grid == "half grid"
    assert reports[-1].grid == "whole grid"


def test_folds_and_mirrored_images_are_averaged_in_every_step():
    folds = [lsn(2, seed=k) for k in (4, 5)]
    image = scene(29, 37)
    how = {"mirror": "all", "mirror_axes": (0, 1), "disagreement": True}
    found, _, result = steps_of(folds, image, (1.0, 1.0), **how)
    plain = finish(predict(folds, image, (1.0, 1.0), PredictionParameters(**how)))
    np.testing.assert_array_equal(found[-1], plain.labels)
    np.testing.assert_array_equal(result.disagreement, plain.disagreement)
    assert plain.disagreement.max() > 0


def test_stopped_in_the_middle_the_newest_step_is_kept():
    one, image = lsn(2), scene(29, 37)
    found, _, _ = steps_of(one, image, (1.0, 1.0))
    work = predict_steps(one, image, (1.0, 1.0))
    report = next(step for step in work if isinstance(step, LevelSetStep) and step.number == 2)
    work.close()
    kept = report.result()
    assert kept.record.status == "partial"
    np.testing.assert_array_equal(kept.labels, found[2])


def test_an_interrupt_ends_it_with_the_newest_step():
    asked = []

    def stop() -> bool:
        asked.append(1)
        return len(asked) > 40

    reports, result = states(predict_steps(lsn(2), scene(29, 37), (1.0, 1.0), interrupt=stop))
    assert not result.complete
    told = [report for report in reports if isinstance(report, LevelSetStep)]
    assert told[-1].number < told[-1].count
    assert result.labels.any()


def test_other_networks_are_refused():
    with pytest.raises(InputError, match="no steps to watch"):
        finish(predict_steps(model(Smooth(2), (PATCH, PATCH)), scene(29, 37), (1.0, 1.0)))
    with pytest.raises(InputError, match="no steps in common"):
        finish(predict_steps([lsn(2), lsn(2, steps=[3])], scene(29, 37), (1.0, 1.0)))


def test_what_is_kept_between_steps_is_in_the_forecast():
    one, image = lsn(3), scene(24, 40, 40)
    told = [next(work(one, image, (1.0, 1.0, 1.0))).values["peak_memory_gb"] for work in (predict, predict_steps)]
    assert told[1] - told[0] > 4 * image.size * (4 + 3) / 1e9


def test_slices_without_a_click_are_background_and_take_no_time():
    """Also for a network whose front would come from anywhere; its steps go on in the slices that are clicked."""
    one = lsn(2, start="seed")
    seen: list[torch.Tensor] = []
    one.network.register_forward_pre_hook(lambda _module, args: seen.append(args[0]))
    image, spacing = scene(5, 30, 22), (3.0, 1.0, 1.0)
    points = [(3.0 * z, 12.0, 9.0) for z in (1, 3)]
    plain = finish(predict(one, image, spacing, points=points))
    # the forecast of the memory asks for shapes alone
    assert sum(x.device.type == "cpu" for x in seen) == 2
    assert [bool(part.any()) for part in plain.labels] == [False, True, False, True, False]
    for z in (1, 3):
        alone = finish(predict(one, image[z], spacing[1:], points=[(12.0, 9.0)]))
        np.testing.assert_array_equal(plain.labels[z], alone.labels)
    found, _, watched = steps_of(one, image, spacing, points)
    np.testing.assert_array_equal(watched.labels, plain.labels)
    assert all(not step[[0, 2, 4]].any() for step in found)
    assert not any("skipped" in note for note in plain.notes)
