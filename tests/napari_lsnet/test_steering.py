"""Walls, pins and the leak guard in a real viewer: the front obeys what is painted, and a leak is shown where it is."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtWidgets import QApplication

from napari_lsnet.jobs import JobState
from napari_lsnet.levelset.panel import LevelSetPanel
from src_models.levelset.evolution import replay
from src_models.progress import finish
from src_models.record import StoredArray

SHAPE = (64, 96)


def open_field() -> np.ndarray:
    """Bright everywhere but near the frame: nothing holds a front there but walls."""
    image = np.full(SHAPE, 100, np.float32)
    image[:4], image[-4:], image[:, :4], image[:, -4:] = 0, 0, 0, 0
    return image


def chamber() -> np.ndarray:
    """A bright room behind a wall with a gap, through which a front gets into the field."""
    image = np.full(SHAPE, 100, np.float32)
    image[:, 55:62] = 0
    image[29:36, 55:62] = 100
    image[:4], image[-4:], image[:, :4], image[:, -4:] = 0, 0, 0, 0
    return image


def ring(centre=(32, 40), radius=16.0, width=3.0) -> np.ndarray:
    y, x = np.ogrid[: SHAPE[0], : SHAPE[1]]
    return abs(np.hypot(y - centre[0], x - centre[1]) - radius) <= width / 2


def within(centre=(32, 40), radius=16.0) -> np.ndarray:
    y, x = np.ogrid[: SHAPE[0], : SHAPE[1]]
    return np.hypot(y - centre[0], x - centre[1]) < radius


@pytest.fixture
def open_panel(npe2pm, make_napari_viewer_proxy, qtbot, tmp_path, monkeypatch):
    """A function that opens an image with a seed in the middle of the ring, and the panel."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    opened = []

    def open_image(image, seed=(32, 40), **arguments):
        viewer = make_napari_viewer_proxy()
        viewer.add_image(image, name="image", units="mm", **arguments)
        panel = LevelSetPanel(viewer)
        viewer.window.add_dock_widget(panel, name="Level set")
        panel.viewer = viewer
        panel.inputs.start.draw_points()
        panel.inputs.start.combo.layer.data = [seed]
        panel.inputs.start.radius.setValue(4)
        set_parameters(panel, speed="region", lower=50.0)
        opened.append(panel)
        return panel

    yield open_image
    for panel in opened:
        panel.level_set_run.cancel()
        qtbot.waitUntil(lambda panel=panel: not panel.level_set_run.is_busy)


def set_parameters(panel, **values) -> None:
    panel.form.set_value(panel.form.value().model_copy(update=values))


def run_to_end(panel, qtbot):
    panel.run()
    qtbot.waitUntil(lambda: panel.level_set_run.state.ended, timeout=60_000)
    return panel.level_set_run.result


def run_some(panel, qtbot, steps=3):
    panel.step(steps)
    qtbot.waitUntil(lambda: panel.level_set_run.state is JobState.PAUSED, timeout=60_000)


def paint(layer, mask) -> None:
    """As a stroke of the brush does it: into the layer's history, with its events."""
    layer.data_setitem(np.nonzero(mask), 1)


def test_a_closed_wall_painted_ahead_of_the_front_holds_it(open_panel, qtbot):
    panel = open_panel(open_field())
    run_some(panel, qtbot)
    panel.steering.buttons["walls"].click()
    walls = panel.viewer.layers["Walls"]
    assert (walls.mode, panel.viewer.layers.selection.active) == ("paint", walls)
    assert panel.inputs.start.combo.layer is not walls
    paint(walls, ring())
    qtbot.waitUntil(lambda: not panel.steering._timer.isActive())
    result = run_to_end(panel, qtbot)
    assert (result.stop_reason, result.record.result["engine"]) == ("converged", "band")
    assert not (result.mask & ~within()).any()
    assert result.mask.sum() > 0.75 * within().sum()
    (change,) = result.record.changes
    assert change.step == 3
    np.testing.assert_array_equal(change.walls.array(), ring())
    np.testing.assert_array_equal(finish(replay(result.record, open_field())).mask, result.mask)
    panel.controls.python_button.click()
    assert "values were changed while it ran" in QApplication.clipboard().text()


def test_walls_and_pins_painted_before_are_there_at_the_first_step_and_in_the_copied_text(open_panel, qtbot):
    panel = open_panel(open_field())
    panel.steering.paint("walls")
    paint(panel.steering.layer("walls"), ring())
    panel.steering.paint("pins")
    pins = np.zeros(SHAPE, bool)
    pins[2, 10:20] = True  # dark, and beyond the wall
    paint(panel.steering.layer("pins"), pins)
    result = run_to_end(panel, qtbot)
    assert result.mask[pins].all()
    assert not result.record.changes
    np.testing.assert_array_equal(StoredArray(**result.record.inputs["walls"]).array(), ring())
    np.testing.assert_array_equal(StoredArray(**result.record.inputs["pins"]).array(), pins)
    assert not (result.mask & within(radius=18) & ~within()).any()
    panel.controls.command_button.click()
    assert "walls or pins were painted" in QApplication.clipboard().text()
    np.testing.assert_array_equal(finish(replay(result.record, open_field())).mask, result.mask)


def test_without_its_walls_the_front_goes_on(open_panel, qtbot):
    panel = open_panel(open_field())
    panel.steering.paint("walls")
    walls = panel.steering.layer("walls")
    paint(walls, ring())
    run_some(panel, qtbot, 10)
    panel.viewer.layers.remove(walls)
    assert not panel.steering.buttons["walls"].isChecked()
    qtbot.waitUntil(lambda: not panel.steering._timer.isActive())
    result = run_to_end(panel, qtbot)
    assert result.mask.sum() > 0.9 * (open_field() > 50).sum()


def test_undo_of_a_stroke_is_sent_and_other_slices_are_not(open_panel, qtbot):
    panel = open_panel(np.stack([open_field()] * 3), seed=(1, 32, 40))
    panel.viewer.dims.set_point(0, 1)
    panel.inputs.extent.set_mode("slice")
    run_some(panel, qtbot)
    panel.steering.paint("walls")
    walls = panel.steering.layer("walls")
    assert walls.n_edit_dimensions == 2
    other = np.zeros((3, *SHAPE), bool)
    other[2] = True
    here = np.zeros((3, *SHAPE), bool)
    here[1] = ring()
    for action in (lambda: paint(walls, other), lambda: paint(walls, here), walls.undo):
        action()
        qtbot.waitUntil(lambda: not panel.steering._timer.isActive())
        run_some(panel, qtbot, 1)
    panel.cancel()
    qtbot.waitUntil(lambda: panel.level_set_run.state is JobState.CANCELLED)
    assert [c.walls.array().sum() for c in panel.level_set_run.result.record.changes] == [0, ring().sum(), 0]


def test_any_labels_layer_can_be_a_wall(open_panel, qtbot):
    panel = open_panel(open_field(), scale=(0.5, 0.5))
    organs = panel.viewer.add_labels(7 * ring().astype(np.uint16), name="organs", scale=(0.5, 0.5), units="mm")
    panel.steering.choose("walls", organs)
    panel.inputs.start.radius.setValue(2)
    result = run_to_end(panel, qtbot)
    assert not (result.mask & ~within()).any()
    far = panel.viewer.add_labels(ring().astype(np.uint8), name="far", scale=(0.7, 0.5), units="mm")
    panel.rewind()
    panel.steering.choose("walls", far)
    panel.run()
    assert "another grid" in panel.controls.status.text()


def test_a_leak_is_said_and_marked_and_shown_and_accepted(open_panel, qtbot):
    panel = open_panel(np.stack([chamber()] * 3), seed=(2, 32, 28))
    panel.viewer.dims.set_point(0, 2)
    panel.inputs.extent.set_mode("slice")
    result = run_to_end(panel, qtbot)
    assert result.stop_reason == "leak"
    status = panel.controls.status
    assert status.text().startswith("Stopped before a leak")
    assert status.font().bold()
    mark = panel.viewer.layers["Leak"]
    np.testing.assert_allclose(mark.data_to_world(mark.data[0]), (2, *result.leak_at))
    assert abs(result.leak_at[0] - 32) < 4
    assert 55 < result.leak_at[1] < 84
    assert panel.viewer.layers.selection.active is not mark
    assert not panel.steering.leak_button.isHidden()
    panel.viewer.dims.set_point(0, 0)
    panel.steering.leak_button.click()
    assert panel.viewer.dims.point[0] == 2
    camera = getattr(panel.viewer, "scene", panel.viewer).camera
    np.testing.assert_allclose(camera.center[-2:], result.leak_at)
    before = result.mask.sum()
    through = run_to_end(panel, qtbot)
    assert through.mask.sum() > 1.3 * before
    assert "Leak" not in panel.viewer.layers
    assert panel.steering.leak_button.isHidden()
