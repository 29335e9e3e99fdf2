"""What is foretold of a prediction is what the prediction itself states and does."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from src_models.inference.outlook import outlook
from src_models.inference.parameters import PredictionParameters
from src_models.networks.zoo import build
from tests.src_models.inference.nets import model, run

RNG = np.random.default_rng(3)


@pytest.mark.parametrize(
    ("name", "ndim", "shape", "changed"),
    [
        ("unet", 2, (40, 52), {}),
        ("unet", 2, (5, 40, 33), {"step": 0.3, "probabilities": True}),
        ("unet", 3, (20, 36, 30), {"entropy": True, "window": (16, 16, 16)}),
        ("unet", 3, (33, 18), {}),
        ("attention-unet", 2, (40, 40), {"attention": True, "disagreement": True}),
    ],
)
def test_memory_and_windows_are_those_of_the_prediction(name, ndim, shape, changed) -> None:
    torch.manual_seed(0)
    options = {"base_width": 4} | ({"depth": 2} if name == "unet" else {})
    network = build(name, 1, 3, ndim, **options)
    made = model(network, (16,) * ndim)
    spacing = (1.0,) * len(shape)

    told = outlook(made.card, shape, spacing, PredictionParameters(skip="none", **changed))
    result = run(made, RNG.normal(size=shape).astype(np.float32), spacing, skip="none", **changed)

    assert told.memory.peak == result.record.result["peak_memory_bytes"]
    assert told.windows == told.passes == result.record.result["windows"]


def test_mirrored_forms_and_folds_multiply_the_passes() -> None:
    made = model(build("unet", 1, 2, 2, base_width=4, depth=1), (16, 16), mirror_axes=(0, 1))
    plain = outlook(made.card, (40, 40), (1, 1))
    many = outlook(made.card, (40, 40), (1, 1), PredictionParameters(mirror="all"), folds=5)
    assert many.passes == 20 * plain.passes
    assert many.flops == pytest.approx(20 * plain.flops)
