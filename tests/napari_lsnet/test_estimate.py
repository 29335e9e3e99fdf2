"""The arrival estimate, and speeds learned from strokes and clusters, in a real viewer."""

from __future__ import annotations

import numpy as np
import pytest

from napari_lsnet.jobs import JobState
from napari_lsnet.levelset.panel import LevelSetPanel
from src_models.levelset.evolution import replay
from src_models.progress import finish

SHAPE = (48, 64)


def disc(radius=16.0) -> np.ndarray:
    y, x = np.ogrid[: SHAPE[0], : SHAPE[1]]
    return np.hypot(y - 24, x - 32) < radius


def two_greys() -> np.ndarray:
    """A disc of 100 on ground of 40, with noise."""
    return (40 + 60 * disc() + np.random.default_rng(0).normal(0, 6, SHAPE)).astype(np.float32)


@pytest.fixture
def panel(npe2pm, make_napari_viewer_proxy, qtbot, tmp_path, monkeypatch):
    """A viewer with a noisy disc of 2 mm pixels, a seed in it, and the panel."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    viewer = make_napari_viewer_proxy()
    viewer.add_image(two_greys(), name="disc", scale=(2, 2), units="mm")
    panel = LevelSetPanel(viewer)
    viewer.window.add_dock_widget(panel, name="Level set")
    panel.viewer = viewer
    panel.inputs.start.draw_points()
    panel.inputs.start.combo.layer.data = [[24, 32]]
    panel.inputs.start.radius.setValue(9)
    set_parameters(panel, speed="region", lower=70.0, curvature=0.0)
    yield panel
    panel.level_set_run.cancel()
    panel.arrival.hide_estimate()
    qtbot.waitUntil(lambda: not panel.level_set_run.is_busy)


def set_parameters(panel, **values) -> None:
    panel.form.set_value(panel.form.value().model_copy(update=values))


def run_to_end(panel, qtbot):
    panel.run()
    qtbot.waitUntil(lambda: panel.level_set_run.state.ended, timeout=60_000)
    return panel.level_set_run.result


def dice(a, b) -> float:
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def estimate(panel, qtbot):
    qtbot.waitUntil(lambda: panel.arrival.layer is not None and not panel.arrival.is_busy, timeout=60_000)
    return panel.arrival.layer


def test_the_estimate_moves_with_the_slider_and_the_fields_and_goes_with_a_run(panel, qtbot):
    set_parameters(panel, lower=-1000.0)  # the same speed everywhere: arrival is the distance to the seed
    panel.arrival.button.click()
    layer = estimate(panel, qtbot)
    assert "without smoothing and edges' pull" in panel.arrival.line.text()
    np.testing.assert_allclose(layer.data_to_world((3, 5)), (6, 10))
    y, x = np.ogrid[: SHAPE[0], : SHAPE[1]]
    distance = np.maximum(2 * np.hypot(y - 24, x - 32) - 9, 0)
    np.testing.assert_allclose(-layer.data, distance, atol=1.0)
    panel.arrival.slider.setValue(500)
    half = np.mean(layer.contrast_limits)
    assert -half == pytest.approx(distance.max() / 2, rel=0.03)
    assert layer.iso_threshold == pytest.approx(half)
    wanted = (distance <= -half).sum() * 4
    told = panel.arrival.line.text().split(", ")[1].split(" ")[0].replace(",", "")
    assert float(told) == pytest.approx(wanted, rel=0.03)
    set_parameters(panel, balloon=2.0)
    qtbot.waitUntil(lambda: not panel.arrival.is_busy, timeout=20_000)
    np.testing.assert_allclose(-panel.arrival.layer.data, distance / 2, atol=0.5)
    panel.step(1)
    qtbot.waitUntil(lambda: panel.level_set_run.state is JobState.PAUSED, timeout=60_000)
    assert panel.arrival.layer is None
    assert not panel.arrival.button.isChecked()


def test_the_estimate_stays_within_walls_and_says_what_is_missing(panel, qtbot):
    panel.steering.paint("walls")
    walls = np.zeros(SHAPE, bool)
    walls[:, 40:42] = True
    panel.steering.layer("walls").data_setitem(np.nonzero(walls), 1)
    set_parameters(panel, lower=-1000.0)
    panel.arrival.button.click()
    layer = estimate(panel, qtbot)
    beyond = np.asarray(layer.data)[:, 43:]
    assert beyond.max() < -panel.arrival._times.latest
    panel.arrival.button.click()
    assert panel.arrival.layer is None
    panel.inputs.start.combo.layer.data = np.empty((0, 2))
    panel.arrival.button.click()
    assert "no seed points" in panel.controls.status.text()
    assert not panel.arrival.button.isChecked()


def test_strokes_make_the_speed_of_the_preview_and_of_the_run(panel, qtbot):
    set_parameters(panel, lower=500.0)  # grey values alone would grow nothing
    panel.speed_source.choose("strokes")
    panel.run()
    assert "Paint some of the structure with label 1" in panel.controls.status.text()
    panel.speed_source.paint_button.click()
    strokes = panel.viewer.layers["Strokes"]
    assert strokes.mode == "paint"
    assert panel.inputs.start.combo.layer is not strokes
    inside, outside = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    inside[20:28, 24:40], outside[2:5, 4:60], outside[40:, 4:10] = True, True, True
    strokes.data_setitem(np.nonzero(inside), 1)
    strokes.data_setitem(np.nonzero(outside), 2)
    panel.tools.preview_button.click()
    qtbot.waitUntil(lambda: "Speed (preview)" in panel.viewer.layers, timeout=60_000)
    shown = np.array(panel.viewer.layers["Speed (preview)"].data)
    panel.tools.preview_button.click()
    assert shown[disc(14)].mean() > 0.5
    assert shown[~disc(18)].mean() < -0.5
    result = run_to_end(panel, qtbot)
    assert dice(result.mask, disc()) > 0.93
    from src_models.levelset.classifier import train

    speed = train(two_greys(), np.asarray(strokes.data), (2.0, 2.0)).speed(two_greys(), (2.0, 2.0))
    np.testing.assert_allclose(shown, speed, atol=1e-6)
    again = finish(replay(result.record, two_greys()))
    np.testing.assert_array_equal(again.mask, result.mask)


def test_clusters_at_the_start_make_the_speed(panel, qtbot):
    set_parameters(panel, lower=500.0)
    panel.speed_source.choose("clusters")
    result = run_to_end(panel, qtbot)
    assert dice(result.mask, disc()) > 0.93
    assert any("Clusters at grey values" in note for note in result.notes)
    panel.rewind()
    set_parameters(panel, speed="edge")
    assert panel.speed_source.isHidden()
    assert panel._request(panel.form.value()).speed is None
