"""Optimisers with the numbers of their plans; rates over epochs."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from src_models.training.optimisers import PAPER, build_optimiser, learning_rate, recommended
from src_models.training.plan import Optimiser


def built(plan: Optimiser) -> torch.optim.Optimizer:
    return build_optimiser(nn.Linear(3, 2).parameters(), plan)


def test_the_default_is_nnunets():
    group = built(Optimiser()).param_groups[0]
    assert isinstance(built(Optimiser()), torch.optim.SGD)
    assert (group["lr"], group["momentum"], group["nesterov"], group["weight_decay"]) == (0.01, 0.99, True, 3e-5)


def test_the_papers_adadelta_is_not_torchs():
    group = built(PAPER).param_groups[0]
    torchs = torch.optim.Adadelta(nn.Linear(3, 2).parameters()).param_groups[0]
    assert (group["lr"], group["rho"], group["eps"], group["weight_decay"]) == (1.0, 0.95, 1e-7, 0)
    assert (torchs["rho"], torchs["eps"]) == (0.9, 1e-6)


def test_adadelta_follows_its_formula():
    """One step: E[g2] = (1 - rho) g^2, dx = -sqrt(eps) / sqrt(E[g2] + eps) g."""
    weight = nn.Parameter(torch.tensor([2.0]))
    optimiser = build_optimiser([weight], PAPER)
    (3 * weight).sum().backward()
    optimiser.step()
    step = (1e-7**0.5) / ((0.05 * 9 + 1e-7) ** 0.5) * 3
    assert weight.item() == pytest.approx(2 - step, abs=1e-7)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("adam", torch.optim.Adam),
        ("adamw", torch.optim.AdamW),
        ("sgd", torch.optim.SGD),
        ("adadelta", torch.optim.Adadelta),
    ],
)
def test_each_name_has_its_optimiser(name, kind):
    assert type(built(recommended(name))) is kind


def test_plain_sgd_has_no_nesterov():
    assert built(Optimiser(momentum=0)).param_groups[0]["nesterov"] is False


def test_frozen_weights_stay_out():
    layer = nn.Linear(3, 2)
    layer.bias.requires_grad_(False)
    assert len(build_optimiser(layer.parameters(), Optimiser()).param_groups[0]["params"]) == 1


def test_poly():
    plan = Optimiser()
    assert learning_rate(plan, 0, 1000) == 0.01
    assert learning_rate(plan, 500, 1000) == pytest.approx(0.01 * 0.5**0.9)
    assert learning_rate(plan, 999, 1000) == pytest.approx(0.01 * 0.001**0.9)


def test_constant_and_cosine():
    assert learning_rate(Optimiser(schedule="constant"), 7, 10) == 0.01
    cosine = Optimiser(schedule="cosine")
    assert learning_rate(cosine, 0, 10) == 0.01
    assert learning_rate(cosine, 5, 10) == pytest.approx(0.005)


def test_a_warm_cosine_climbs_to_the_cosine():
    warm, cosine = Optimiser(schedule="warm_cosine"), Optimiser(schedule="cosine")
    shares = [learning_rate(warm, epoch, 20) / learning_rate(cosine, epoch, 20) for epoch in range(6)]
    assert shares == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1])
