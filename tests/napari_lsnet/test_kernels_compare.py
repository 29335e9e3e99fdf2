"""Two states of one network in the panel: columns, colours, dimming, and what cannot be compared."""

from __future__ import annotations

import numpy as np
import pytest

from src_models.kernels.two_states import BANDS, NO_START, ORDERS
from tests.napari_lsnet.kernel_models import analyse


@pytest.fixture
def panel(kernel_panel):
    """A viewer with a turned picture of 0.5 x 2 mm pixels, and the panel."""
    return kernel_panel


def moved_model(folder, panel):
    """The 2D model with one kernel of its second layer turned round and the others a little stronger."""
    import torch

    from src_models.weights import store

    loaded = store.load("random-2d")
    with torch.no_grad():
        for name, parameter in loaded.network.named_parameters():
            if name == "encoder.0.1.conv.weight":
                parameter *= 1.05
                parameter[1, 2] *= -1
    store.save(loaded.network, loaded.card.model_copy(update={"name": "older"}), folder)
    panel.models.refresh()
    panel.results.compare.models.refresh()


def compare(panel, qtbot, title):
    part = panel.results.compare
    part.models.choose(title)
    part.compare_button.click()
    qtbot.waitUntil(lambda: not part.is_busy, timeout=60_000)
    return part


def test_drift_joins_table_colours_points_and_dims_tiles(kernel_folder, panel, qtbot):
    moved_model(kernel_folder, panel)
    report = analyse(panel, qtbot)
    results = panel.results
    place = next(k for k, each in enumerate(report.layers) if each.layer.name == "encoder.0.1.conv")
    results.layers.choose(place)
    row = results.found.first_row + 2
    results.show_row(row)
    part = compare(panel, qtbot, "older")
    assert results.row == row, "what is on show stays"
    assert results.column.currentData() == "drift"
    found, table = results.found, results.analysis.report.table
    drift = table.numbers("drift_relative")[found.rows]
    turned = 1 * found.layer.in_channels + 2
    assert drift[turned] == pytest.approx(2.05 / 1.05, abs=1e-5)
    np.testing.assert_allclose(np.delete(drift, turned), 0.05 / 1.05, atol=1e-5)
    points, veil = results.shown.layer("components"), results.shown.layer("veil")
    np.testing.assert_array_equal(points.features["drift_relative"], drift)
    words = table.words("drift")[found.rows]
    assert set(results.shares.ticks) == {"moved 1 to 10 %", "moved over 50 %"}
    colours = {tuple(colour) for colour, word in zip(points.face_color, words, strict=True) if word == words[turned]}
    assert len(colours) == 1
    tiling = results.shown.layer("montage").tiling
    dim = np.array([veil.data[tiling.corner(kernel)] for kernel in range(len(drift))])
    assert dim[turned] == 0
    assert (np.delete(dim, turned) > 0.8).all() or np.percentile(drift, 95) < 1
    assert np.corrcoef(dim, drift)[0, 1] < -0.9
    # another layer and back: its tiles are dimmed by its own drift
    results.layers.choose(0)
    np.testing.assert_array_equal(results.shown.layer("veil").data.max(), np.float32(0.9))
    results.layers.choose(place)
    assert veil.visible
    np.testing.assert_array_equal([veil.data[tiling.corner(kernel)] for kernel in range(len(drift))], dim)
    # ticks hide entirely
    results.shares.tick_only(frozenset({"moved 1 to 10 %"}))
    assert veil.data[tiling.corner(turned)] == 1
    results.show_row(found.first_row + turned)
    assert "1.95" in results.card.lines.text()
    assert "median" in part.line.text()
    assert "Drift of this layer: median" in results.components_line.text()
    assert panel.analysis_run.result.report is results.analysis.report
    part.forget_button.click()
    assert results.column.currentData() == "label"
    assert results.column.findData("drift") < 0
    assert "drift" not in points.features.columns
    assert "Drift" not in results.card.lines.text()


def test_another_architecture_is_refused_and_nothing_changes(panel, qtbot):
    report = analyse(panel, qtbot)
    part = compare(panel, qtbot, "random-3d")
    assert "These two models are not of one architecture" in part.line.text()
    assert panel.controls.status.property("warning")
    assert panel.results.analysis.report is report
    # another analysis begins without the columns of the one before
    part = compare(panel, qtbot, "random-2d")
    assert panel.results.column.findData("drift") >= 0
    analyse(panel, qtbot, "random-3d")
    assert panel.results.column.findData("drift") < 0


def test_every_word_of_drift_has_a_colour_of_its_own() -> None:
    from napari_lsnet.kernels.colours import _FIXED, colours_of

    words = [word for _, word in BANDS]
    assert len(set(colours_of(words))) == len(words)
    assert {*words, NO_START, *ORDERS} <= set(_FIXED)
