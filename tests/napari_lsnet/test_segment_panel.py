"""Segment with a network, in a real viewer: the right voxels, on the right place, and the person's layers unchanged."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from napari_lsnet.segment.panel import SegmentPanel
from tests.napari_lsnet.models import save_bright_model


def scene(shape=(6, 40, 36)) -> np.ndarray:
    """Dark with a bright box that lies in no symmetric place; all values above 0, as the model takes them."""
    image = np.full(shape, 10.0, np.float32)
    image[..., 5:17, 8:30] = 90.0
    image[:2] = 10.0
    return image


@pytest.fixture
def models(tmp_path, monkeypatch) -> Path:
    """A folder of models of the user's own, with one model in it."""
    folder = tmp_path / "models"
    monkeypatch.setenv("LSNET_MODELS", str(folder))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    save_bright_model(folder)
    return folder


@pytest.fixture
def panel(models, make_napari_viewer, qtbot):
    """A viewer with a turned and shifted image of 3 x 0.8 x 0.8 mm voxels, and the panel."""
    viewer = make_napari_viewer()
    viewer.add_image(
        scene(), name="scan", scale=(3, 0.8, 0.8), translate=(-7, 20, 4), units="mm", rotate=np.eye(3)[:, [0, 1, 2]]
    )
    panel = SegmentPanel(viewer)
    viewer.window.add_dock_widget(panel, name="Segment with a network")
    panel.viewer = viewer
    panel.inputs.models.refresh()
    panel.inputs.models.choose("unet-bright-2d")
    set_parameters(panel, device="cpu")
    yield panel
    panel.cancel()
    qtbot.waitUntil(lambda: not panel.segment_run.is_busy)
    qtbot.waitUntil(lambda: not panel.foresight.is_busy)


def set_parameters(panel, **values) -> None:
    panel.form.set_value(panel.form.value().model_copy(update=values))


def run_to_end(panel, qtbot):
    panel.run()
    qtbot.waitUntil(lambda: panel.segment_run.state.ended, timeout=60_000)
    return panel.segment_run.result


def content_of(layer) -> tuple:
    place = (*layer.scale, *layer.translate, *np.ravel(layer.affine.affine_matrix), *np.ravel(layer.rotate))
    return hashlib.sha256(np.asarray(layer.data).tobytes()).hexdigest(), place, dict(layer.metadata), layer.name


def test_labels_lie_on_the_voxels_of_the_image_and_it_is_unchanged(panel, qtbot):
    image = panel.viewer.layers["scan"]
    before = content_of(image)
    run_to_end(panel, qtbot)
    labels = panel.segment_run.layers["labels"]
    np.testing.assert_array_equal(labels.data, scene() > 50)
    corner = (3, 5, 8)
    np.testing.assert_allclose(labels.data_to_world(corner), image.data_to_world(corner))
    assert [str(unit) for unit in labels.units] == ["millimeter"] * 3
    assert content_of(image) == before
    assert labels.metadata["lsnet"]["record"]["status"] == "done"
    row = labels.features.iloc[0]
    assert (row["name"], row["voxels"]) == ("bright part", 4 * 12 * 22)
    assert row["volume (ml)"] == pytest.approx(4 * 12 * 22 * 3 * 0.8 * 0.8 / 1000)
    assert panel.controls.status.text().startswith("Done in")
    assert "bright part 2.0 ml" in panel.controls.status.text()
    assert "Segmentation (running)" not in panel.viewer.layers
    np.testing.assert_allclose(labels.get_color(1), (0x56 / 255, 0xB4 / 255, 0xE9 / 255, 1), atol=1e-6)
