"""Several labels at once in a real viewer: grown together, shown together, accepted and taken back together."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtWidgets import QApplication, QFileDialog

from napari_lsnet.jobs import JobState
from napari_lsnet.levelset.panel import LevelSetPanel

SHAPE = (48, 72)
CENTRES = {3: (24, 14), 5: (24, 36), 260: (24, 58)}


def discs(radius=9.0) -> np.ndarray:
    """Three bright discs on dark ground, by their label."""
    y, x = np.ogrid[: SHAPE[0], : SHAPE[1]]
    labels = np.zeros(SHAPE, np.uint16)
    for number, (cy, cx) in CENTRES.items():
        labels[np.hypot(y - cy, x - cx) < radius] = number
    return labels


@pytest.fixture
def panel(npe2pm, make_napari_viewer_proxy, qtbot, tmp_path, monkeypatch):
    """A viewer with the discs, a start in each of them, and the panel."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    viewer = make_napari_viewer_proxy()
    viewer.add_image(100 * (discs() > 0).astype(np.float32), name="discs", units="mm")
    starts = viewer.add_labels(discs(3), name="starts", units="mm")
    panel = LevelSetPanel(viewer)
    viewer.window.add_dock_widget(panel, name="Level set")
    panel.viewer = viewer
    panel.inputs.start.combo.choose(starts)
    panel.inputs.start.several.setChecked(True)
    panel.form.set_value(panel.form.value().model_copy(update={"speed": "region", "lower": 50.0}))
    yield panel
    panel.level_set_run.cancel()
    qtbot.waitUntil(lambda: not panel.level_set_run.is_busy)


def run_to_end(panel, qtbot):
    panel.run()
    qtbot.waitUntil(lambda: panel.level_set_run.state.ended, timeout=60_000)
    return panel.level_set_run.result


def run_some(panel, qtbot, steps=3):
    panel.step(steps)
    qtbot.waitUntil(lambda: panel.level_set_run.state is JobState.PAUSED, timeout=60_000)


def test_all_labels_grow_are_accepted_with_their_numbers_and_taken_back(panel, qtbot):
    result = run_to_end(panel, qtbot)
    assert panel.controls.status.text().startswith("At rest: labels 3, 5, 260.")
    for number in CENTRES:
        mask, wanted = result.labels == number, discs() == number
        assert 2 * (mask & wanted).sum() / (mask.sum() + wanted.sum()) > 0.95
    np.testing.assert_array_equal(panel.viewer.layers["Level set (live)"].data, result.labels)
    panel.accept()
    labels = panel.viewer.layers["Level set"]
    np.testing.assert_array_equal(labels.data, result.labels)
    assert labels.features["index"].tolist() == [3, 5, 260]
    assert labels.features["area (mm2)"].tolist() == [(result.labels == k).sum() for k in CENTRES]
    assert not panel.viewer.layers["Level set (live)"].visible
    labels.data[24, 14] = 9
    panel.undo()
    assert np.argwhere(labels.data).tolist() == [[24, 14]]


def test_the_picture_follows_and_pause_change_and_rewind_work(panel, qtbot):
    run_some(panel, qtbot)
    live = panel.viewer.layers["Level set (live)"]
    before = np.array(live.data)
    assert set(np.unique(before)) == {0, *CENTRES}
    panel.form.set_value(panel.form.value().model_copy(update={"curvature": 0.5}))
    run_some(panel, qtbot)
    assert ((live.data > 0).sum(), panel.controls.status.text()[:7]) > ((before > 0).sum(), "Step 6,")
    panel.cancel()
    qtbot.waitUntil(lambda: panel.level_set_run.state is JobState.CANCELLED)
    assert {change.label for change in panel.level_set_run.result.record.changes} == set(CENTRES)
    reached = (panel.level_set_run.result.labels > 0).sum()
    result = run_to_end(panel, qtbot)  # Continue
    assert (result.labels > 0).sum() > reached
    panel.rewind()
    assert panel.controls.run_button.text() == "Run"


def test_labels_of_the_target_are_walls_and_are_kept(panel, qtbot):
    there = np.zeros(SHAPE, np.uint16)
    there[:, 41:] = 7
    target = panel.viewer.add_labels(there.copy(), name="organs", units="mm")
    panel.controls.targets.choose(target)
    starts = panel.inputs.start.combo.layer
    starts.data = np.where(starts.data == 260, 0, starts.data)
    result = run_to_end(panel, qtbot)
    assert not result.labels[:, 41:].any()
    panel.accept()
    np.testing.assert_array_equal(target.data[:, 41:], there[:, 41:])
    assert (target.data == 5).sum() == (result.labels == 5).sum()


def test_a_pin_is_of_the_label_that_was_painted_and_the_script_makes_the_same_labels(
    panel, qtbot, monkeypatch, tmp_path
):
    panel.steering.paint("pins")
    pins = panel.steering.layer("pins")
    pins.data_setitem((np.array([24]), np.array([25])), 5)
    result = run_to_end(panel, qtbot)
    assert result.labels[24, 25] == 5
    record = tmp_path / "result.lsnet.json"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(record), ""))
    panel.controls.record_button.click()
    panel.controls.python_button.click()
    script = QApplication.clipboard().text()
    assert "several labels grew at once" in script
    from src_models.files import write_volume
    from src_models.geometry import Grid, Volume

    image = tmp_path / "image.nii.gz"
    write_volume(image, Volume(panel.inputs.image.layer.data, Grid(SHAPE, (1.0, 1.0))))
    names: dict = {}
    script = script.replace("'image.nii.gz'", repr(str(image))).replace("'result.lsnet.json'", repr(str(record)))
    exec(compile(script, "<copied>", "exec"), names)
    np.testing.assert_array_equal(names["labels"], result.labels)
