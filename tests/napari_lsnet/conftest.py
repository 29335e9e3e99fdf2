"""What several tests of one room of the viewer begin with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.napari_lsnet.kernel_models import QUICK, TURN, save_random_model


@pytest.fixture
def kernel_folder(tmp_path, monkeypatch) -> Path:
    """A folder of models of the user's own: one in 2D, one in 3D."""
    folder = tmp_path / "models"
    monkeypatch.setenv("LSNET_MODELS", str(folder))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    save_random_model(folder, "random-2d", 2)
    save_random_model(folder, "random-3d", 3)
    return folder


@pytest.fixture
def kernel_panel(kernel_folder, make_napari_viewer, qtbot):
    """A viewer with a turned picture of 0.5 x 2 mm pixels, and the panel *Analyse kernels*."""
    from napari_lsnet.kernels.panel import KernelsPanel

    viewer = make_napari_viewer()
    image = np.random.default_rng(0).normal(size=(30, 20)).astype(np.float32)
    viewer.add_image(image, name="scan", scale=(0.5, 2), translate=(5, -3), rotate=TURN, units="mm")
    panel = KernelsPanel(viewer)
    viewer.window.add_dock_widget(panel, name="Analyse kernels")
    panel.viewer = viewer
    panel.models.refresh()
    panel.form.set_value(QUICK)
    yield panel
    panel.cancel()
    panel.on_image.experiment_run.cancel()
    image = panel.on_image
    for part in (panel.analysis_run, image.experiment_run, image.features, image.why, panel.results.compare):
        qtbot.waitUntil(lambda part=part: not part.is_busy, timeout=20_000)
