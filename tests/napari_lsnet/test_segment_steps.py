"""Level set networks in the segment panel: the click they begin at, and their contour step by step."""

from __future__ import annotations

import numpy as np
import pytest

from napari_lsnet.roles import is_labels, is_live
from napari_lsnet.segment.panel import SegmentPanel
from napari_lsnet.segment.steps import KeptStep
from tests.napari_lsnet.models import save_bright_model, save_level_set_model


def scene(shape=(3, 40, 36)) -> np.ndarray:
    """Dark with a bright box that lies in no symmetric place."""
    image = np.full(shape, 10.0, np.float32)
    image[..., 5:25, 8:30] = 90.0
    return image


@pytest.fixture
def panel(tmp_path, monkeypatch, make_napari_viewer, qtbot):
    """A viewer with a volume of 3 x 1 x 1 mm voxels, and models of three kinds."""
    folder = tmp_path / "models"
    monkeypatch.setenv("LSNET_MODELS", str(folder))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    save_level_set_model(folder)
    save_level_set_model(folder, name="lsn-range-2d", start="threshold")
    save_bright_model(folder)
    viewer = make_napari_viewer()
    viewer.add_image(scene(), name="scan", scale=(3, 1, 1), translate=(-7, 20, 4), units="mm")
    panel = SegmentPanel(viewer)
    viewer.window.add_dock_widget(panel, name="Segment with a network")
    panel.viewer = viewer
    panel.inputs.models.refresh()
    panel.form.set_value(panel.form.value().model_copy(update={"device": "cpu"}))
    yield panel
    panel.cancel()
    qtbot.waitUntil(lambda: not panel.segment_run.is_busy)
    qtbot.waitUntil(lambda: not panel.foresight.is_busy)


def to_end(panel, qtbot, begin):
    begin()
    qtbot.waitUntil(lambda: panel.segment_run.state.ended, timeout=120_000)
    assert panel.segment_run.result is not None, panel.controls.status.text()
    return panel.segment_run.result


def test_a_click_is_asked_for_and_the_structure_is_found_there(panel, qtbot):
    inputs, controls = panel.inputs, panel.controls
    inputs.models.choose("unet-bright-2d")
    assert inputs.click.isHidden()
    assert controls.watch_button.isHidden()
    inputs.models.choose("lsn-bright-2d")
    assert not inputs.click.isHidden()
    assert controls.status.text() == "This model begins at a click: press New click, then click inside the structure."
    assert not controls.run_button.isEnabled()
    assert not controls.watch_button.isEnabled()

    inputs.click.new_button.click()
    layer = panel.viewer.layers.selection.active
    assert inputs.click.layer is layer
    assert layer.mode == "add"
    assert controls.status.text() == "This model begins at a click: click inside the structure in the image."
    layer.add((1, 14, 18))
    assert controls.run_button.isEnabled()
    assert inputs.click.about.text() == "The structure is found in the slices that hold a click."

    found = to_end(panel, qtbot, panel.run)
    assert found.labels[1, 14, 18]
    assert found.labels[1].sum() > 50
    assert not (found.labels.astype(bool) & (scene() < 50)).any()
    assert not found.labels[[0, 2]].any()
    assert found.record.inputs["points"] == [[3.0, 14.0, 18.0]]
    assert "points=((3.0, 14.0, 18.0),)" in panel.segment_run.made.as_python()
    assert "--point 3,14,18" in panel.segment_run.made.as_command_line()
    layer.selected_data = {0}
    layer.remove_selected()
    assert not controls.run_button.isEnabled()


def test_a_step_counts_what_the_result_counts():
    class Report:
        number, count, grid = 1, 3, "half grid"

    for shape, counted in (((4, 5), "pixels"), ((2, 4, 5), "voxels")):
        Report.found = np.ones(shape, np.uint8)
        assert KeptStep.of(Report).counted == counted


def test_on_one_slice_a_click_elsewhere_is_said(panel, qtbot):
    panel.inputs.models.choose("lsn-bright-2d")
    panel.inputs.click.new_button.click()
    panel.inputs.click.layer.add((1, 14, 18))
    panel.inputs.extent.set_mode("slice")
    panel.viewer.dims.set_current_step(0, 0)
    panel.run()
    assert panel.controls.status.text().startswith("The click does not lie on the slice on show.")
    panel.viewer.dims.set_current_step(0, 1)
    found = to_end(panel, qtbot, panel.run)
    assert found.record.inputs["points"] == [[14.0, 18.0]]
    assert "--point 3,14,18" in panel.segment_run.made.as_command_line()
    labels = panel.segment_run.layers["labels"]
    image = panel.viewer.layers["scan"]
    np.testing.assert_allclose(labels.data_to_world((0, 14, 18)), image.data_to_world((1, 14, 18)))


def test_a_model_with_a_click_works_on_the_time_point_on_show(panel, qtbot):
    image = panel.viewer.add_image(scene(), name="series", axis_labels=("t", "y", "x"))
    panel.viewer.layers.remove("scan")
    panel.inputs.models.choose("unet-bright-2d")
    panel.inputs.image.combo.choose(image)
    assert panel.inputs.extent.mode == "series"
    panel.inputs.models.choose("lsn-bright-2d")
    assert panel.inputs.extent.mode == "volume"
    panel.viewer.dims.set_current_step(0, 2)
    panel.inputs.click.new_button.click()
    panel.inputs.click.layer.add((2, 14, 18))
    found = to_end(panel, qtbot, panel.run)
    assert found.labels[14, 18]
    panel.inputs.extent.set_mode("series")
    assert "works on one time point at a time" in panel.controls.status.text()
    assert not panel.controls.run_button.isEnabled()


def test_every_step_is_shown_and_can_be_gone_back_to(panel, qtbot):
    panel.inputs.models.choose("lsn-range-2d")
    assert not panel.controls.watch_button.isHidden()
    assert panel.inputs.click.isHidden()
    panel.inputs.models.choose("lsn-bright-2d")
    panel.inputs.click.new_button.click()
    panel.inputs.click.layer.add((1, 14, 18))
    drawn = []
    panel.segment_run.stepped.connect(lambda: drawn.append(panel.segment_run.shown))
    found = to_end(panel, qtbot, panel.watch)

    run, bar = panel.segment_run, panel.steps
    assert [step.number for step in run.steps] == list(range(8))
    assert any(drawn)
    contour = next(layer for layer in panel.viewer.layers if is_live(layer))
    assert panel.viewer.layers[-1] is contour
    assert not is_labels(contour)
    np.testing.assert_array_equal(contour.data, found.labels)
    np.testing.assert_allclose(contour.data_to_world((1, 2, 3)), panel.viewer.layers["scan"].data_to_world((1, 2, 3)))
    assert contour.contour > 0
    assert (bar.slider.minimum(), bar.slider.maximum(), bar.slider.value()) == (0, 7, 7)

    bar.slider.setValue(2)
    np.testing.assert_array_equal(contour.data, run.steps[2].labels())
    assert not np.array_equal(contour.data, found.labels)
    inside = int(contour.data.astype(bool).sum())
    assert 0 < inside < found.labels.astype(bool).sum()
    assert bar.where.text() == f"Step 2 of 7, half grid: {inside:,} voxels"
    np.testing.assert_array_equal(panel.segment_run.layers["labels"].data, found.labels)

    panel.viewer.layers.remove(contour)
    bar.play()
    qtbot.waitUntil(lambda: not bar.is_playing, timeout=20_000)
    again = next(layer for layer in panel.viewer.layers if is_live(layer))
    np.testing.assert_array_equal(again.data, found.labels)

    # the same labels as without watching; the contour of the run before goes
    plain = to_end(panel, qtbot, panel.run)
    np.testing.assert_array_equal(plain.labels, found.labels)
    assert not any(is_live(layer) for layer in panel.viewer.layers)
    assert bar.isHidden()
