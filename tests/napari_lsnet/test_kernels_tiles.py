"""The montage as arrays: every pixel belongs to the kernel that it says, and the filter picks the right rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_lsnet.kernels.filtering import Filter, shown_rows
from napari_lsnet.kernels.tiles import GAP, Tiling

SIZES = st.sampled_from([(3, 3), (5, 5), (3, 3, 3)])


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 20), st.integers(1, 6), SIZES)
def test_every_entry_is_found_where_it_is_drawn(out: int, inside: int, size: tuple[int, ...]) -> None:
    tiling = Tiling(out, inside, size)
    kernels = np.random.default_rng(0).normal(size=(out, inside, *size)).astype(np.float32)
    picture = tiling.picture(kernels)
    assert picture.shape == tiling.shape
    seen = np.zeros((out * inside, *size[-2:]), int)
    for y, x in np.ndindex(picture.shape[-2:]):
        found = tiling.at(y + 0.3, x - 0.3)
        if found is None:
            assert np.isnan(picture[..., y, x]).all()
            continue
        kernel, entry = found
        np.testing.assert_array_equal(picture[..., y, x], kernels.reshape(-1, *size)[kernel][(..., *entry)])
        assert tuple(np.add(tiling.corner(kernel), entry)) == (y, x)
        seen[(kernel, *entry)] += 1
    assert (seen == 1).all()


def test_rows_are_outputs_and_columns_inputs_one_pixel_apart() -> None:
    tiling = Tiling(4, 5, (3, 3))
    assert tiling.shape == (4 * 4 - 1, 5 * 4 - 1)
    assert tiling.corner(2 * 5 + 3) == (2 * (3 + GAP), 3 * (3 + GAP))


def test_a_layer_of_one_input_is_no_strip() -> None:
    high, wide = Tiling(64, 1, (3, 3)).shape
    assert 0.5 < high / wide < 2


def test_nothing_lies_outside() -> None:
    tiling = Tiling(5, 1, (3, 3))
    for place in ((-1.0, 0.0), (0.0, -1.0), (1e6, 0.0), (0.0, 1e6)):
        assert tiling.at(*place) is None
    # the last row of the last block holds no kernel: 5 kernels do not fill it
    assert sum(tiling.at(y, x) is not None for y, x in np.ndindex(tiling.shape)) == 5 * 9


def test_the_veil_covers_what_is_hidden_and_nothing_else() -> None:
    tiling = Tiling(6, 2, (3, 3, 3))
    hidden = np.arange(12) % 3 == 0
    cover = tiling.cover(hidden)
    assert cover.shape == tiling.shape[-2:]
    for y, x in np.ndindex(cover.shape):
        found = tiling.at(y, x)
        assert cover[y, x] == (found is not None and hidden[found[0]])


@pytest.fixture(scope="module")
def report():
    from src_models.kernels import KernelAnalysisParameters, analyse
    from src_models.progress import finish

    rng = np.random.default_rng(3)
    import torch

    state = {"a.weight": torch.from_numpy(rng.normal(size=(12, 3, 3, 3))), "b.weight": torch.zeros(9, 2, 3, 3)}
    state["b.weight"][0, 0, 1, 1] = 1.0
    return finish(analyse(state, KernelAnalysisParameters(n=8, null_draws=100, cluster_draws=0)))


def test_words_and_p_values_choose_rows(report) -> None:
    table = report.table
    rows = slice(0, len(table))
    labels, p = table.words("label"), table.numbers("p_any")
    names = frozenset({"laplacian", "dead"})
    np.testing.assert_array_equal(shown_rows(table, rows, Filter("label", names)), np.isin(labels, list(names)))
    rare = shown_rows(table, rows, Filter(largest_p=0.3))
    # what is dead is not rare
    np.testing.assert_array_equal(rare, np.nan_to_num(p, nan=1) <= 0.3)
    assert shown_rows(table, rows, Filter()).all()
    both = shown_rows(table, rows, Filter("label", names, 0.3))
    np.testing.assert_array_equal(both, rare & np.isin(labels, list(names)))


def test_counts_stand_beside_chance(report) -> None:
    from napari_lsnet.kernels.filtering import words_of

    found = report.layers[0]
    words = {word.name: word for word in words_of(report, found, "label")}
    for share in found.labels:
        if share.count:
            assert (words[share.name].count, words[share.name].null_share) == (share.count, share.null_share)
    assert sum(word.count for word in words.values()) == found.layer.count
    dead = {word.name: word for word in words_of(report, report.layers[1], "label")}["dead"]
    assert dead.count == 17
    assert np.isnan(dead.null_share)
    clusters = words_of(report, found, "cluster")
    assert sum(word.count for word in clusters) == found.layer.count
    assert all(np.isnan(word.null_share) for word in clusters)


def test_the_card_says_the_same_as_the_table(report) -> None:
    from napari_lsnet.kernels.facts import facts_of

    row = 7
    told, facts = report.table.row(row), facts_of(report, row)
    np.testing.assert_array_equal(facts.kernel, report.kernel(row))
    np.testing.assert_allclose(facts.velocity, [-told["b_y"], -told["b_x"]], rtol=1e-5)
    np.testing.assert_allclose(np.linalg.eigvalsh(facts.diffusion)[::-1], [told["D_1"], told["D_2"]], rtol=1e-4)
    np.testing.assert_allclose(sum(facts.energy), 1, rtol=1e-5)
    assert f"output {told['out']}, input {told['in']}" in facts.title
    identity = facts_of(report, report.row_of(1, 0, 0))
    assert identity.label.startswith("identity: distance 0, p")
    dead = facts_of(report, report.row_of(1, 3, 1))
    assert dead.label.startswith("dead")
