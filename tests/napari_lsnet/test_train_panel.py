"""Train a network, in a real viewer: from a folder or from layers to a model that is listed and can segment."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_lsnet.jobs import JobState
from napari_lsnet.train.panel import TrainPanel
from napari_lsnet.train.run import shared_run

WAIT = 200_000

# Loading torch in a worker resets the filters of warnings (one set for all threads before Python 3.14) while napari
# hides this one from itself.
pytestmark = pytest.mark.filterwarnings("ignore:Conversion from CIE-LAB:UserWarning")


def picture(number: int, size: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """A bright disc on noise, somewhere else in each picture, and where it is."""
    random = np.random.default_rng(number)
    y, x = np.mgrid[:size, :size]
    cy, cx = random.uniform(10, size - 10, 2)
    disc = (y - cy) ** 2 + (x - cx) ** 2 < 36
    return (random.normal(60, 10, (size, size)) + 120 * disc).clip(0, 255).astype(np.uint8), disc.astype(np.uint8)


@pytest.fixture
def folder(tmp_path) -> Path:
    """Six pictures of six patients."""
    data = tmp_path / "discs"
    for number in range(6):
        image, mask = picture(number)
        for part, array in (("images", image), ("labels", mask)):
            (data / part).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(data / part / f"p{number:02}.png")
    return data


@pytest.fixture
def panel(make_napari_viewer, qtbot, tmp_path, monkeypatch):
    monkeypatch.setenv("LSNET_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    shared_run.cache_clear()
    viewer = make_napari_viewer()
    panel = TrainPanel(viewer)
    viewer.window.add_dock_widget(panel, name="Train a network")
    panel.viewer = viewer
    panel.plan.out.setText(str(tmp_path / "run"))
    choose(panel, epochs=2, iterations=2, batch=2, patch=(32, 32), device="cpu", workers=0)
    yield panel
    panel.cancel()
    panel.train_run.may_kill = True
    panel.cancel()
    qtbot.waitUntil(lambda: not panel.train_run.is_busy and not panel.planning.is_busy, timeout=20_000)


def choose(panel, **values) -> None:
    panel.plan.form.set_value(panel.plan.form.value().model_copy(update=values))


def plan(panel, qtbot) -> None:
    panel.main_button.click()
    qtbot.waitUntil(lambda: not panel.planning.is_busy, timeout=WAIT)


def test_a_folder_becomes_a_model_that_is_listed(panel, folder, qtbot):
    panel.data.folder.setText(str(folder))
    panel.data.check_button.click()
    qtbot.waitUntil(lambda: not panel.data.is_checking, timeout=20_000)
    assert panel.data.summary.text().startswith("6 cases of 6 patients: all can be used.")
    assert panel.data.table.rowCount() == 6
    assert panel.main_button.text() == "Plan"
    plan(panel, qtbot)
    assert panel.main_button.text() == "Train", panel.status.text()
    assert panel.plan.words.text().startswith("unet, 2d: patches of 32 x 32, 2 a step; 2 epochs of 2 steps")
    assert "on this computer" in panel.plan.words.text()
    panel.main_button.click()
    assert panel.tabs.currentIndex() == 2
    qtbot.waitUntil(lambda: panel.train_run.state.ended, timeout=WAIT)
    assert panel.train_run.state is JobState.DONE, panel.status.text()
    assert len(panel.progress.dice.x) == 2
    assert panel.progress.loss.x
    assert not panel.progress.sample.is_empty
    assert "listed as unet-discs" in panel.status.text()
    from napari_lsnet.model_list import usable_models

    assert [choice.title for choice in usable_models()] == ["unet-discs"]
