"""The engine is made ready in a child process: a run that begins meanwhile waits, says so, and obeys."""

from __future__ import annotations

import time

import numpy as np
import pytest

from napari_lsnet.jobs import Job, JobState
from napari_lsnet.levelset.engine_preparation import MESSAGE, EnginePreparation, prepared
from napari_lsnet.levelset.panel import LevelSetPanel
from src_models.levelset.warm import is_ready
from src_models.progress import Progress


@pytest.fixture
def preparation(qtbot, tmp_path, monkeypatch):
    """A child process at work, on an account where the engine was never made ready."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert not is_ready()
    child = EnginePreparation()
    child.begin()
    yield child
    child.end()
    assert not child.is_running


def test_a_run_waits_for_the_child_and_says_so_and_can_be_cancelled(
    preparation, npe2pm, make_napari_viewer_proxy, qtbot
):
    viewer = make_napari_viewer_proxy()
    image = np.zeros((32, 32), np.float32)
    image[6:26, 6:26] = 100
    viewer.add_image(image, name="square")
    panel = LevelSetPanel(viewer)
    viewer.window.add_dock_widget(panel, name="Level set")
    panel.inputs.start.draw_points()
    panel.inputs.start.combo.layer.data = [[16, 16]]
    panel.form.set_value(panel.form.value().model_copy(update={"speed": "region", "lower": 50.0}))
    panel.step(2)
    qtbot.waitUntil(lambda: panel.controls.status.text() == MESSAGE, timeout=5000)
    assert preparation.is_running
    began = time.monotonic()
    panel.cancel()
    qtbot.waitUntil(lambda: panel.level_set_run.state is JobState.CANCELLED, timeout=5000)
    assert time.monotonic() - began < 1.0
    assert panel.controls.status.text() == "Cancelled before the first step."
    panel.step(2)
    qtbot.waitUntil(lambda: panel.level_set_run.state is JobState.PAUSED, timeout=120_000)
    assert not preparation.is_running
    assert is_ready()
    assert panel.controls.status.text().startswith("Step 2,")
    again = EnginePreparation()
    again.begin()
    assert not again.is_running
    panel.cancel()
    qtbot.waitUntil(lambda: not panel.level_set_run.is_busy)


def test_a_child_that_is_ended_holds_nobody_up(preparation, qtbot):
    job = Job(prepared, title="Waiting", device="test")
    job.start()
    qtbot.waitUntil(lambda: job.state is JobState.RUNNING)
    preparation.end()
    qtbot.waitUntil(lambda: job.state is JobState.DONE, timeout=5000)


def test_what_comes_before_the_steps_spends_none_and_takes_no_change(qtbot):
    taken = []

    def work():
        for _ in range(20):
            time.sleep(0.01)
            taken.append((yield Progress(phase="prepare")))
        for _ in range(10):
            taken.append((yield Progress(phase="step")))

    job = Job(work, title="Work", device="test", counts=lambda report: report.phase == "step")
    job.start(steps=3)
    job.send("a change")
    qtbot.waitUntil(lambda: job.state is JobState.PAUSED, timeout=20_000)
    assert taken == [None] * 20 + ["a change", None]
    job.cancel()
    qtbot.waitUntil(lambda: job.state.ended)
