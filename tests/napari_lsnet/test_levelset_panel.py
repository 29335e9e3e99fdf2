"""The level set panel in a real viewer: from drawn seeds to accepted labels, and everything on the way."""

from __future__ import annotations

import numpy as np
import pytest

from napari_lsnet.jobs import JobState
from napari_lsnet.levelset.panel import LevelSetPanel

RADIUS = 9


def ball(shape=(24, 28, 26), centre=(12, 14, 13), radius=RADIUS) -> np.ndarray:
    """A bright ball on dark ground: a front inside must stop at its border."""
    axes = np.meshgrid(*[np.arange(n) for n in shape], indexing="ij", sparse=True)
    distance = np.sqrt(sum((a - c) ** 2 for a, c in zip(axes, centre, strict=True)))
    return (100 / (1 + np.exp(2 * (distance - radius)))).astype(np.float32)


@pytest.fixture
def panel(make_napari_viewer, qtbot, tmp_path, monkeypatch):
    """A viewer with a ball of 3 x 1 x 1 mm voxels, a seed point inside it, and the panel."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    viewer = make_napari_viewer()
    viewer.add_image(ball(), name="ball", scale=(3, 1, 1), units="mm")
    viewer.dims.set_point(0, 36)
    panel = LevelSetPanel(viewer)
    viewer.window.add_dock_widget(panel, name="Level set")
    panel.viewer = viewer
    panel.inputs.start.draw_points()
    seeds = panel.inputs.start.combo.layer
    seeds.data = [[12, 14, 13]]
    panel.inputs.start.radius.setValue(4)
    set_parameters(panel, speed="region", lower=50.0, engine="reference")
    yield panel
    panel._run.cancel()
    qtbot.waitUntil(lambda: not panel._run.is_busy)


def set_parameters(panel, **values) -> None:
    panel.form.set_value(panel.form.value().model_copy(update=values))


def run_to_end(panel, qtbot):
    panel.run()
    qtbot.waitUntil(lambda: panel._run.state.ended, timeout=60_000)
    return panel._run.result


def run_some(panel, qtbot, steps=3):
    panel.step(steps)
    qtbot.waitUntil(lambda: panel._run.state is JobState.PAUSED, timeout=20_000)


def test_a_run_stops_at_the_border_and_says_so(panel, qtbot):
    result = run_to_end(panel, qtbot)
    assert result.stop_reason == "converged"
    inside = ball() > 50
    assert 2 * (result.mask & inside).sum() / (result.mask.sum() + inside.sum()) > 0.97
    assert panel.controls.status.text().startswith("Converged")
    assert " ml" in panel.controls.status.text()
    assert len(panel.controls.size_curve.x) > 5
