"""Several configurations: the mean of their probabilities on the grid of the image, in closed form."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from src_models.errors import DeviceError, InputError
from src_models.geometry import StoredOrder
from src_models.inference.chunked import predict_chunked
from src_models.inference.ensemble import decided_labels, grouped
from src_models.inference.parameters import PredictionParameters
from src_models.inference.predict import predict
from src_models.record import content_hash
from src_models.weights.card import Label
from src_models.weights.model import Model
from tests.runs import finish, states
from tests.src_models.inference.nets import Pointwise, model, run

IMAGE = np.random.default_rng(3).normal(0, 1, (10, 12, 14)).astype(np.float32)


def linear(*slopes: float):
    return lambda x: torch.cat([slope * x for slope in slopes], 1)


def configuration(*slopes: float, spacing: float = 1.0, ndim: int = 3, **card: Any) -> Model:
    keep = {"keep": True, "spacing": (spacing,) * 2} if ndim == 2 else {"spacing": (spacing,) * 3}
    return model(Pointwise(len(slopes), ndim, linear(*slopes)), (8,) * ndim, **(keep | card))


def softmax(logits: np.ndarray) -> np.ndarray:
    shares = np.exp(logits - logits.max(0))
    return shares / shares.sum(0)


def test_models_that_see_an_image_two_ways_round_are_two_configurations():
    pair = configuration(0, 0.5, -20.0), configuration(0, 0, 3.0, orientation="stored")
    assert len(grouped(pair)) == 2
    order = StoredOrder((2, 0, 1), (True, False, True))
    found = finish(predict(pair, IMAGE, (1, 1, 1), stored_order=order))
    still = finish(predict((pair[0], configuration(0, 0, 3.0, spacing=1.0 + 1e-9)), IMAGE, (1, 1, 1)))
    assert (found.labels == still.labels).mean() > 0.99


def test_the_mean_is_that_of_probabilities_and_not_of_logits():
    """One network is very sure and one is not: their logits would say something else."""
    slopes = (0, 0.5, -20.0), (0, 0, 3.0)
    pair = configuration(*slopes[0]), configuration(*slopes[1], spacing=1.0 + 1e-9)
    found = run(pair, IMAGE, (1, 1, 1), probabilities=True)
    first, second = (np.stack([s * IMAGE for s in each]) for each in slopes)
    mean = (softmax(first) + softmax(second)) / 2
    np.testing.assert_allclose(found.probabilities, mean, atol=2e-3)
    sharp = np.sort(mean, 0)
    clear = sharp[-1] - sharp[-2] > 5e-3
    assert clear.mean() > 0.9
    np.testing.assert_array_equal(found.labels[clear], mean.argmax(0)[clear])
    assert ((first + second).argmax(0) != found.labels).mean() > 0.1


def test_configurations_of_different_grids_and_dimensions_meet_on_the_grid_of_the_image():
    coarse, flat = configuration(0, 1.0, spacing=2.0), configuration(0, 2.0, ndim=2)
    found = run([coarse, flat], IMAGE, (1, 1, 1), probabilities=True)
    alone = [run(one, IMAGE, (1, 1, 1), probabilities=True).probabilities.astype(np.float32) for one in (coarse, flat)]
    np.testing.assert_array_equal(found.probabilities, ((alone[0] + alone[1]) / 2).astype(np.float16))
    np.testing.assert_array_equal(found.labels, ((alone[0] + alone[1]) / np.float32(2)).argmax(0))
    assert found.labels.shape == IMAGE.shape


def test_folds_stay_a_mean_of_logits_and_groups_count_alike():
    """Two folds of one configuration beside one of another: half of the weight each."""
    folds = [configuration(0, 1.0), configuration(0, 3.0)]
    other = configuration(0, -5.0, spacing=1.0 + 1e-9)
    assert [len(group) for group in grouped([folds[0], other, folds[1]])] == [2, 1]
    found = run([*folds, other], IMAGE, (1, 1, 1), probabilities=True)
    expected = (softmax(np.stack([0 * IMAGE, 2 * IMAGE])) + softmax(np.stack([0 * IMAGE, -5 * IMAGE]))) / 2
    np.testing.assert_allclose(found.probabilities, expected, atol=2e-3)


def test_regions_are_painted_in_their_order():
    shares = np.array([[0.9, 0.6, 0.4, 0.5], [0.2, 0.7, 0.8, 0.5]], np.float32)
    labels = (Label(name="whole", value=4, channel=0), Label(name="core", value=2, channel=1))
    card = configuration(0, 0).card.model_copy(update={"labels": labels, "head": "sigmoid"})
    assert decided_labels(shares, card).tolist() == [4, 2, 2, 0]


def test_what_follows_the_networks_follows_their_mean():
    image = np.zeros((12, 12, 12), np.float32)
    image[1:7, 1:7, 1:7] = image[9:11, 9:11, 9:11] = 1
    both = [
        model(Pointwise(2, 3, lambda x: torch.cat([0.5 - x, x - 0.5], 1)), (8, 8, 8), spacing=(h,) * 3, inference=rule)
        for h, rule in ((1.0, {"keep_largest": [[1]]}), (1.0 + 1e-9, {}))
    ]
    assert run(both, image, (1, 1, 1)).labels.sum() == 6**3
    assert run(both, image, (1, 1, 1), post="none").labels.sum() == 6**3 + 2**3
    assert run(both, image, (1, 1, 1), post="none", minimum_volume=0.05).labels.sum() == 6**3


def test_its_record_names_every_model_and_its_progress_goes_once_from_0_to_1():
    pair = [configuration(0, 1.0, sha256="a" * 64), configuration(0, 2.0, spacing=2.0, sha256="b" * 64)]
    seen, found = states(predict(pair, IMAGE, (1, 1, 1)))
    assert [one["sha256"] for one in found.record.inputs["models"]] == ["a" * 64, "b" * 64]
    assert found.record.inputs["configurations"] == [1, 1]
    assert found.record.result["labels_hash"] == content_hash(found.labels)
    assert found.record.result["voxels"] == {"1": int(found.labels.sum())}
    assert PredictionParameters(**found.record.parameters) == PredictionParameters()
    fractions = [step.fraction for step in seen if step.phase == "predict"]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1
    again = finish(predict(pair, IMAGE, (1, 1, 1)))
    np.testing.assert_array_equal(again.labels, found.labels)


def test_its_memory_is_stated_and_kept_to():
    pair = [configuration(0, 1.0), configuration(0, 2.0, spacing=0.5)]
    work = predict(pair, IMAGE, (1, 1, 1))
    peak = next(work).values["peak_memory_gb"]
    work.close()
    alone = next(predict(pair[1], IMAGE, (1, 1, 1), PredictionParameters(probabilities=True)))
    assert peak == pytest.approx(alone.values["peak_memory_gb"] + 8e-9 * 2 * IMAGE.size, rel=1e-9)
    with pytest.raises(DeviceError, match="would need"):
        next(predict(pair, IMAGE, (1, 1, 1), PredictionParameters(max_memory=peak * 0.99)))


def test_stopping_it_leaves_nothing_finished():
    calls: list[int] = []

    def soon() -> bool:
        calls.append(1)
        return len(calls) > 5

    pair = [configuration(0, 1.0), configuration(0, 2.0, spacing=2.0)]
    found = finish(predict(pair, IMAGE, (1, 1, 1), interrupt=soon))
    assert not found.complete
    assert not found.labels.any()


@pytest.mark.parametrize("output", ["entropy", "disagreement", "attention"])
def test_what_it_cannot_give_is_refused(output):
    pair = [configuration(0, 1.0), configuration(0, 2.0, spacing=2.0)]
    with pytest.raises(InputError, match="labels and probabilities, not"):
        next(predict(pair, IMAGE, (1, 1, 1), PredictionParameters(**{output: True})))


def test_different_labels_and_arrays_in_chunks_are_refused(tmp_path):
    def three(x: Tensor) -> Tensor:
        return torch.cat([x, -x, 0 * x], 1)

    other = model(Pointwise(3, 3, three), (8, 8, 8), spacing=(2, 2, 2))
    with pytest.raises(InputError, match="different labels"):
        next(predict([configuration(0, 1.0), other], IMAGE, (1, 1, 1)))
    pair = [configuration(0, 1.0), configuration(0, 2.0, spacing=2.0)]
    with pytest.raises(InputError, match="not several configurations"):
        next(predict_chunked(pair, IMAGE, (1, 1, 1), tmp_path / "out.zarr"))
