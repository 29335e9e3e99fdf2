"""Cascades: what the second stage sees of the first, and what is refused. The networks' effect is known exactly."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from src_models.errors import DeviceError, InputError
from src_models.geometry import StoredOrder
from src_models.inference.chunked import predict_chunked
from src_models.inference.outlook import outlook
from src_models.inference.parameters import PredictionParameters
from src_models.inference.predict import predict, predict_series
from src_models.preprocessing.one_hot import one_hot
from src_models.preprocessing.prepare import prepare, prepare_labels
from src_models.weights.card import StageModel
from src_models.weights.model import Model
from tests.runs import finish, states
from tests.src_models.inference.nets import Pointwise, model, run

CLASSES = 3


def nearest_label(x: Tensor) -> Tensor:
    """Logits whose largest is the whole number that is nearest to the image: labels as an image come out again."""
    return torch.cat([2 * k * x - k * k for k in range(CLASSES)], 1)


def as_first_stage(x: Tensor) -> Tensor:
    """The labels of the first stage, whatever the image is."""
    return torch.cat([torch.full_like(x[:, :1], 0.5), x[:, 1:]], 1)


def first(spacing: Sequence[float] = (1.0, 1.0, 1.0), sha256: str = "a" * 64, **card: Any) -> Model:
    return model(Pointwise(CLASSES, 3, nearest_label), (8, 8, 8), spacing=spacing, sha256=sha256, **card)


def cascade(
    function: Callable[[Tensor], Tensor], *stages: Model, patch: Sequence[int] = (8, 8, 8), **card: Any
) -> Model:
    named = tuple(StageModel(sha256=stage.card.sha256) for stage in stages)
    second = model(Pointwise(CLASSES, 3, function, channels=CLASSES), patch, first_stage=named, **card)
    return replace(second, first_stage=stages)


def labelled(shape: Sequence[int] = (13, 14, 15)) -> np.ndarray:
    """Blocks of labels 1 and 2, as a grey-value image."""
    image = np.zeros(shape, np.float32)
    image[2:9, 3:11, 4:12] = 1
    image[4:7, 5:9, 6:10] = 2
    return image


def test_the_second_stage_gets_the_labels_of_the_first():
    image = labelled()
    found = run(cascade(as_first_stage, first(), spacing=(1, 1, 1)), image, (1, 1, 1))
    np.testing.assert_array_equal(found.labels, image)
    assert found.complete


@pytest.mark.parametrize("stages", [("stored", "stored"), ("stored", "presented"), ("presented", "stored")])
def test_both_stages_see_the_image_each_its_own_way_round(stages):
    """Labels of the first lie on the voxels that they were found on, whichever way round the second sees them."""
    image, order = labelled(), StoredOrder((2, 0, 1), (True, False, True))
    pair = cascade(as_first_stage, first(orientation=stages[0]), spacing=(1, 1, 1), orientation=stages[1])
    found = finish(predict(pair, image, (1, 1, 1), PredictionParameters(), stored_order=order))
    np.testing.assert_array_equal(found.labels, image)


@pytest.mark.parametrize("crop", [False, True])
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.8, 0.9, 1.2), (2.0, 1.0, 1.0)])
def test_its_channels_are_the_resampled_one_hot(spacing, crop):
    """The first stage works on a grid of its own; its labels come to the second as those of a training do."""
    image, seen = labelled(), []

    def watching(x: Tensor) -> Tensor:
        seen.append(x.clone())
        return as_first_stage(x)

    stage = first(spacing=(2.0, 2.0, 2.0))
    second = cascade(watching, stage, patch=(32, 32, 32), spacing=(1, 1, 1), crop=crop)
    run(second, image, spacing)
    prepared = prepare(image[None], spacing, second.card.preprocessing)
    labels = run(stage, image, spacing, post="none").labels
    expected = one_hot(prepare_labels(labels, prepared, second.card.preprocessing), (1, 2))
    (window,) = [x for x in seen if x.shape[2:] == (32, 32, 32)][-1]
    inside = tuple(slice((32 - n) // 2, (32 - n) // 2 + n) for n in prepared.array.shape[1:])
    np.testing.assert_array_equal(window[(slice(1, None), *inside)].numpy(), expected)
    np.testing.assert_array_equal(window[(slice(0, 1), *inside)].numpy(), prepared.array)
    outside = window.numpy().copy()
    outside[(slice(None), *inside)] = 0
    assert not outside.any()


def test_the_first_stage_is_the_mean_of_its_models_and_the_record_names_them():
    image = labelled()

    def other_way(x: Tensor) -> Tensor:
        return -3 * nearest_label(x)

    stages = first(), replace(first(sha256="b" * 64), network=Pointwise(CLASSES, 3, other_way).eval())
    found = run(cascade(as_first_stage, *stages, spacing=(1, 1, 1)), image, (1, 1, 1))
    alone = run(stages, image, (1, 1, 1))
    np.testing.assert_array_equal(found.labels, alone.labels)
    assert not np.array_equal(found.labels, image)
    assert found.record.inputs["models"][0]["first_stage"] == ["a" * 64, "b" * 64]


def test_nothing_is_done_to_the_first_stage_after_its_networks():
    """Largest parts belong to the result: the second stage learned from plain labels."""
    image = labelled()
    image[11:13, 12:14, 13:15] = 1
    stage = first(inference={"keep_largest": [[1, 2]]})
    second = cascade(as_first_stage, stage, spacing=(1, 1, 1))
    np.testing.assert_array_equal(run(second, image, (1, 1, 1)).labels, image)
    kept = run(second, image, (1, 1, 1), post="largest").labels
    assert not kept[11:, 12:, 13:].any()
    np.testing.assert_array_equal(kept[:10], image[:10])


def test_progress_goes_once_from_0_to_1_and_tells_of_both_stages():
    seen, found = states(predict(cascade(as_first_stage, first(), spacing=(1, 1, 1)), labelled(), (1, 1, 1)))
    fractions = [step.fraction for step in seen]
    assert fractions == sorted(fractions)
    assert (fractions[0], fractions[-1]) == (0, 1)
    assert {"first stage", "predict"} <= {step.phase for step in seen}
    assert all(step.labels.shape == found.labels.shape for step in seen)


def test_stopping_in_the_first_stage_leaves_nothing_finished():
    calls = []

    def after_three() -> bool:
        calls.append(1)
        return len(calls) > 3

    work = predict(cascade(as_first_stage, first(), spacing=(1, 1, 1)), labelled(), (1, 1, 1), interrupt=after_three)
    found = finish(work)
    assert not found.complete
    assert not found.labels.any()
    work = predict(cascade(as_first_stage, first(), spacing=(1, 1, 1)), labelled(), (1, 1, 1))
    step = next(step for step in work if step.phase == "first stage")
    assert step.result().record.status == "partial"
    work.close()


def test_a_time_series_goes_through_both_stages_frame_by_frame():
    frames = np.stack([labelled(), labelled()[::-1]])
    found = finish(predict_series(cascade(as_first_stage, first(), spacing=(1, 1, 1)), frames, (1, 1, 1)))
    np.testing.assert_array_equal(found.labels, frames)


def test_memory_is_that_of_the_larger_stage():
    image = labelled((20, 40, 40))
    second = cascade(as_first_stage, first(spacing=(0.5, 0.5, 0.5)), spacing=(1, 1, 1))

    def peak(models: Model) -> float:
        work = predict(models, image, (1, 1, 1))
        step = next(work)
        work.close()
        return step.values["peak_memory_gb"]

    assert peak(second) > peak(first(spacing=(0.5, 0.5, 0.5)))
    alone = model(Pointwise(CLASSES, 3, nearest_label), (8, 8, 8), spacing=(1, 1, 1))
    assert peak(second) > peak(alone)
    more = outlook(
        second.card.model_copy(update={"network": alone.card.network | {"name": "unet"}}), (20, 40, 40), (1,) * 3
    )
    assert (
        more.memory.image
        > outlook(
            alone.card.model_copy(update={"network": alone.card.network | {"name": "unet"}}), (20, 40, 40), (1,) * 3
        ).memory.image
    )
    with pytest.raises(DeviceError, match="would need"):
        next(predict(second, image, (1, 1, 1), PredictionParameters(max_memory=peak(second) * 0.99)))


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda second: replace(second, first_stage=()), "cascade-first-stage"),
        (lambda second: replace(second, first_stage=(first(sha256="c" * 64),)), "cascade-first-stage"),
        (lambda second: replace(second, first_stage=(fewer(),)), "cascade-labels"),
        (lambda second: replace(second, network=Pointwise(CLASSES, 3, nearest_label).eval()), "cascade-labels"),
        (
            lambda second: replace(second, first_stage=(cascade(as_first_stage, first(), sha256="a" * 64),)),
            "cascade-labels",
        ),
    ],
)
def test_a_cascade_that_does_not_fit_is_refused_before_anything_is_computed(change, code):
    second = change(cascade(as_first_stage, first(), spacing=(1, 1, 1)))
    with pytest.raises(InputError) as told:
        next(predict(second, labelled(), (1, 1, 1)))
    assert told.value.code == code
    assert "\n" not in str(told.value)


def fewer() -> Model:
    """A first stage of one label."""
    return model(Pointwise(2, 3, lambda x: torch.cat([0.5 - x, x], 1)), (8, 8, 8), spacing=(1, 1, 1), sha256="a" * 64)


def test_arrays_in_chunks_are_refused(tmp_path):
    with pytest.raises(InputError, match="not cascades"):
        next(
            predict_chunked(
                cascade(as_first_stage, first(), spacing=(1, 1, 1)), labelled(), (1, 1, 1), tmp_path / "out.zarr"
            )
        )
