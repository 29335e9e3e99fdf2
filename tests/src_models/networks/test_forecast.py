"""Operations beside torch's own counter and closed forms, memory beside what the allocator then hands out."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import prod
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from src_models.networks.zoo import build
from tests.src_models.networks.tiny import EVERY, tiny

NAMES = pytest.mark.parametrize("case", EVERY, ids=lambda case: "-".join([case[0], *map(str, case[1].values())]))
SIZE = {2: (96, 64), 3: (16, 32, 32)}
SLOW = pytest.mark.slow
BOTH = pytest.mark.parametrize("ndim", [pytest.param(2, marks=SLOW), 3])


@contextmanager
def silent() -> Iterator[None]:
    """The profiler's library writes lines of its own to the error stream of the process."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def allocated(work: Callable[[], object]) -> int:
    """Most bytes at once that torch's allocator hands out while the work is done."""
    gc.disable()  # what is left from before must not be freed, and counted, during the work
    try:
        with silent(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
            work()
    finally:
        gc.enable()
    live = most = 0
    for event in watched.profiler.kineto_results.events():
        if event.name() == "[memory]":
            live += event.nbytes()
            most = max(most, live)
    return most


def entropy(output: Any) -> Tensor:
    """A loss that lives on meta tensors and on real ones."""
    total = torch.zeros((), device=output.logits.device)
    for logits in (output.logits, *output.aux):
        labels = torch.zeros(logits.shape[0], *logits.shape[2:], dtype=torch.long, device=logits.device)
        total = total + functional.cross_entropy(logits, labels)
    return total


@NAMES
@BOTH
def test_operations_are_those_that_torch_counts(case: tuple[str, dict[str, Any]], ndim: int) -> None:
    net = tiny(*case, ndim).eval()
    size = tuple(2 * s for s in net.stride)
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        net(torch.zeros(1, 1, *size))
    assert net.forecast(size).flops == counter.get_total_flops() > 0


def test_each_layer_has_its_closed_form() -> None:
    """2 x kernel x inputs x outputs x voxels of the result; transposed: of the input."""
    net = build("nnunet", 1, 2, 3, features_per_stage=[4, 6], strides=[1, [1, 2, 2]], kernel_sizes=[[1, 3, 3], 3])
    layers = {layer.name: layer.flops for layer in net.forecast((4, 8, 12)).layers}
    fine, coarse = 4 * 8 * 12, 4 * 4 * 6
    assert layers == {
        "encoder.stages.0.0.convs.0.conv.weight": 2 * 9 * 1 * 4 * fine,
        "encoder.stages.0.0.convs.1.conv.weight": 2 * 9 * 4 * 4 * fine,
        "encoder.stages.1.0.convs.0.conv.weight": 2 * 27 * 4 * 6 * coarse,
        "encoder.stages.1.0.convs.1.conv.weight": 2 * 27 * 6 * 6 * coarse,
        "decoder.transpconvs.0.weight": 2 * 4 * 6 * 4 * coarse,
        "decoder.stages.0.convs.0.conv.weight": 2 * 9 * 8 * 4 * fine,
        "decoder.stages.0.convs.1.conv.weight": 2 * 9 * 4 * 4 * fine,
        "decoder.seg_layers.0.weight": 2 * 1 * 4 * 2 * fine,
    }


def test_the_reference_network_takes_954_gflop_at_once_and_in_a_moment() -> None:
    with torch.device("meta"):
        net = build("nnunet", 1, 2, 3)
    first = net.forecast((128, 128, 128))
    assert int(first.flops / 1e9) == 954
    assert round(first.flops / first.voxels / 1e3) == 455
    start = time.process_time()
    net.forecast((128, 128, 128))
    assert time.process_time() - start < 1


def test_training_takes_three_times_the_operations_but_for_the_image() -> None:
    """Backward: one pass for the weights, one for the input of each layer, and nobody asks for the image's."""
    net = build("unet-paper", 1, 1, 2)
    predict, train = (net.forecast((32, 32), mode, batch=2) for mode in ("predict", "train"))
    first = predict.layers[0].flops
    assert predict.forward_flops == train.forward_flops
    assert train.flops == 3 * predict.flops - first


@NAMES
@pytest.mark.parametrize(
    ("ndim", "batch"), [(2, 2), (3, 1), pytest.param(2, 1, marks=SLOW), pytest.param(3, 2, marks=SLOW)]
)
def test_memory_of_a_prediction_is_within_20_percent(case: tuple[str, dict[str, Any]], ndim: int, batch: int) -> None:
    net = tiny(*case, ndim).eval()

    def predict() -> None:
        with torch.no_grad():
            net(torch.zeros(batch, 1, *SIZE[ndim]))

    told = net.forecast(SIZE[ndim], batch=batch).activations_bytes
    assert told == pytest.approx(allocated(predict), rel=0.2)


@NAMES
@BOTH
def test_memory_of_a_training_step_is_within_20_percent(case: tuple[str, dict[str, Any]], ndim: int) -> None:
    net = tiny(*case, ndim).train()
    optimiser = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)

    def step() -> None:
        loss = entropy(net.forward_full(torch.zeros(2, 1, *SIZE[ndim])))
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()

    step()  # the optimiser makes its state
    told = net.forecast(SIZE[ndim], "train", batch=2, loss=entropy)
    assert told.peak_bytes - told.weights_bytes - told.optimiser_bytes == pytest.approx(allocated(step), rel=0.2)


def test_weights_gradients_and_state_are_counted_by_their_numbers() -> None:
    net = build("unet-paper", 1, 1, 2)
    weights = 4 * 131_938
    for optimiser, states in (("sgd", 1), ("adamw", 2), ("adadelta", 2), ("none", 0)):
        told = net.forecast((32, 32), "train", optimiser=optimiser)
        assert (told.weights_bytes, told.gradients_bytes) == (weights, weights)
        assert told.optimiser_bytes == states * weights
        assert told.peak_bytes >= (2 + states) * weights
    low = net.forecast((32, 32), precision="bf16")
    assert low.weights_bytes == weights + weights // 2


def test_low_precision_halves_the_activations() -> None:
    net = tiny("nnunet", {"features_per_stage": [4, 8]}, 2)
    full, half = (net.forecast((64, 64), precision=p, device="cuda") for p in ("fp32", "bf16"))
    assert half.activations_bytes == pytest.approx(full.activations_bytes / 2, rel=0.05)
    assert [layer.name for layer in half.layers] == [layer.name for layer in full.layers]
    assert half.flops == full.flops


def test_windows_cost_what_they_hold() -> None:
    net = build("unet-paper", 1, 1, 2)
    one, four = net.forecast((64, 64)), net.forecast((64, 64), batch=4)
    assert four.flops == 4 * one.flops
    assert four.voxels == 4 * prod((64, 64))
    assert set(one.summary()) == {"gflops", "weights_mb", "activations_mb", "peak_mb"}
