"""What a person meets who opens a sample and the level set for the first time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from npe2 import PluginManifest

from napari_lsnet.jobs import JobState
from napari_lsnet.levelset.panel import LevelSetPanel
from napari_lsnet.samples import hippocampus_mr

MANIFEST = Path(__file__).parents[2] / "napari_lsnet" / "napari.yaml"


@pytest.fixture
def viewer(npe2pm, make_napari_viewer, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    viewer = make_napari_viewer()
    for data, options, kind in hippocampus_mr():
        getattr(viewer, f"add_{kind}")(data, **options)
    return viewer


def test_a_finished_label_is_not_the_start_unless_chosen(viewer, qtbot):
    panel = LevelSetPanel(viewer)
    qtbot.addWidget(panel)
    assert panel.inputs.start.combo.layer is None
    assert "Mark the inside" in panel.controls.status.text()
    assert not panel.controls.run_button.isEnabled()
    panel.inputs.start.combo.choose(viewer.layers[1])
    assert panel.controls.status.text() == "Ready: press Run."


def test_points_without_a_point_ask_for_a_click(viewer, qtbot):
    panel = LevelSetPanel(viewer)
    qtbot.addWidget(panel)
    panel.inputs.start.draw_points()
    assert panel.controls.status.text() == "Click into the structure to set a seed point."
    assert not panel.controls.run_button.isEnabled()
    panel.inputs.start.combo.layer.add([17, 24, 17])
    assert panel.controls.run_button.isEnabled()


def test_a_dock_opened_by_name_runs_from_points(viewer, npe2pm, qtbot):
    """Such a dock gets the viewer, and all layers, inside napari's proxy for plugins."""
    npe2pm.register(PluginManifest.from_file(MANIFEST))
    _, panel = viewer.window.add_plugin_dock_widget("napari-lsnet", "Level set: grow a contour")
    panel.inputs.start.draw_points()
    panel.inputs.start.combo.layer.add([17, 24, 17])
    panel.step(2)
    qtbot.waitUntil(lambda: panel.level_set_run.state is JobState.PAUSED, timeout=30_000)
    assert panel.controls.status.text().startswith("Step 2,")
    assert np.asarray(viewer.layers["Level set (live)"].data).any()
    panel.level_set_run.cancel()
    qtbot.waitUntil(lambda: not panel.level_set_run.is_busy)


def test_undo_says_what_it_took_back(viewer, qtbot):
    panel = LevelSetPanel(viewer)
    viewer.window.add_dock_widget(panel)
    panel.inputs.start.draw_points()
    panel.inputs.start.combo.layer.add([17, 24, 17])
    panel.form.set_value(panel.form.value().model_copy(update={"steps": 3}))
    panel.run()
    qtbot.waitUntil(lambda: panel.level_set_run.state.ended, timeout=30_000)
    panel.accept()
    panel.undo()
    assert panel.controls.status.text().startswith("Taken back: label 1")
