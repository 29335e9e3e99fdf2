"""A report joined with another state of its network: the definitions of drift, row by row, and honest refusals."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from src_models.errors import InputError
from src_models.kernels import KernelAnalysisParameters, analyse
from src_models.kernels.drift import compare
from src_models.kernels.report import from_csv, to_csv
from src_models.kernels.sources import open_source
from src_models.kernels.two_states import BANDS, COLUMNS, NO_START, join_state, without_state
from src_models.progress import finish
from tests.src_models.kernels.networks import seeded, small

QUICK = KernelAnalysisParameters(n=8, null_draws=100, cluster_draws=0)


def report_of(network: nn.Module):
    return finish(analyse(network, QUICK))


@pytest.mark.parametrize("ndim", [2, 3])
def test_the_columns_are_those_of_two_full_analyses(ndim: int) -> None:
    before, after = small(ndim), seeded(small(ndim), 1)
    joined = join_state(report_of(after), open_source(before))
    whole = compare(report_of(before), report_of(after))
    for name, part in (("drift_relative", "relative"), ("drift_turn", "turn"), ("drift_scale", "scale")):
        wanted = np.concatenate([getattr(each, part) for each in whole.drifts])
        np.testing.assert_allclose(joined.table.numbers(name), wanted, rtol=1e-6)
    changed = np.concatenate([each.order != each.start_order for each in whole.drifts])
    np.testing.assert_array_equal(joined.table.words("order_change") == "other order", changed)
    np.testing.assert_array_equal(
        joined.table.numbers("order_before"), np.concatenate([each.start_order for each in whole.drifts])
    )


def test_a_kernel_that_is_stronger_turned_or_new_says_so() -> None:
    before = nn.Sequential(nn.Conv2d(1, 4, 3, bias=False))
    laplacian = torch.tensor([[0, 1.0, 0], [1, -4, 1], [0, 1, 0]])
    with torch.no_grad():
        before[0].weight.copy_(torch.stack([laplacian, laplacian, laplacian, 0 * laplacian])[:, None])
        after = copy.deepcopy(before)
        after[0].weight[1] *= 1.05
        after[0].weight[2, 0, 1, 1] += 6.0
        after[0].weight[3] += 1.0
    joined = join_state(report_of(after), open_source(before))
    table = joined.table
    np.testing.assert_allclose(table.numbers("drift_relative"), [0, 0.05, 6 / 20**0.5, np.nan], atol=1e-6)
    np.testing.assert_allclose(table.numbers("drift_scale"), [1, 1.05, (4 - 8) / 20, np.nan], atol=1e-6)
    np.testing.assert_allclose(table.numbers("drift_turn")[:2], 0, atol=1e-6)
    words = [word for _, word in BANDS]
    assert table.words("drift").tolist() == [words[0], words[1], words[3], NO_START]
    assert table.words("order_change").tolist()[:3] == ["same order", "same order", "other order"]
    # the table is written and read with them, and they can be taken out
    again = from_csv(to_csv(table))
    for name in COLUMNS:
        np.testing.assert_array_equal(again.words(name), table.words(name))
    alone = without_state(joined).table
    assert set(table.columns) - set(alone.columns) == set(COLUMNS)
    assert list(join_state(joined, open_source(after)).table.columns) == list(table.columns)


def test_two_architectures_are_told_apart_in_a_sentence() -> None:
    report = report_of(small())
    conv = nn.Conv2d
    cases = (
        (nn.Sequential(conv(1, 6, 3)), "one has 2 layers with kernels, the other 1"),
        (nn.Sequential(conv(1, 6, 3), conv(6, 5, 3)), "has 6 inputs and 4 outputs here, and 6 inputs and 5 outputs in"),
        (nn.Sequential(conv(1, 6, 5), conv(6, 4, 3)), "has kernels of 3 x 3 here, and of 5 x 5 in the other"),
    )
    for other, sentence in cases:
        with pytest.raises(InputError, match="not of one architecture") as caught:
            join_state(report, open_source(other))
        assert sentence in str(caught.value)
