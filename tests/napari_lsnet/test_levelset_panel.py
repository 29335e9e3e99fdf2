"""The level set panel in a real viewer: from drawn seeds to accepted labels, and everything on the way."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from npe2 import PluginManifest
from qtpy.QtWidgets import QApplication, QFileDialog

from napari_lsnet.jobs import JobState
from napari_lsnet.levelset.panel import LevelSetPanel
from napari_lsnet.levelset.picture import FrontWatch
from src_models.files import read_segmentation, read_volume, write_segmentation, write_volume
from src_models.geometry import Grid, Segmentation, Volume

ROOT = Path(__file__).parents[2]
RADIUS = 9


def ball(shape=(24, 28, 26), centre=(12, 14, 13), radius=RADIUS) -> np.ndarray:
    """A bright ball on dark ground: a front inside must stop at its border."""
    axes = np.meshgrid(*[np.arange(n) for n in shape], indexing="ij", sparse=True)
    distance = np.sqrt(sum((a - c) ** 2 for a, c in zip(axes, centre, strict=True)))
    return (100 / (1 + np.exp(2 * (distance - radius)))).astype(np.float32)


@pytest.fixture
def panel(npe2pm, make_napari_viewer, qtbot, tmp_path, monkeypatch):
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
    panel.level_set_run.cancel()
    qtbot.waitUntil(lambda: not panel.level_set_run.is_busy)


def set_parameters(panel, **values) -> None:
    panel.form.set_value(panel.form.value().model_copy(update=values))


def run_to_end(panel, qtbot):
    panel.run()
    qtbot.waitUntil(lambda: panel.level_set_run.state.ended, timeout=60_000)
    return panel.level_set_run.result


def run_some(panel, qtbot, steps=3):
    panel.step(steps)
    qtbot.waitUntil(lambda: panel.level_set_run.state is JobState.PAUSED, timeout=20_000)


def test_a_run_stops_at_the_border_and_says_so(panel, qtbot):
    result = run_to_end(panel, qtbot)
    assert result.stop_reason == "converged"
    inside = ball() > 50
    assert 2 * (result.mask & inside).sum() / (result.mask.sum() + inside.sum()) > 0.97
    assert panel.controls.status.text().startswith("Converged")
    assert " ml" in panel.controls.status.text()
    assert len(panel.controls.size_curve.x) > 5


def test_the_contour_moves_on_the_image_and_the_curve_follows(panel, qtbot):
    run_some(panel, qtbot)
    live = panel.viewer.layers["Level set (live)"]
    before = np.array(live.data)
    assert (before >= 128).sum() > 0
    np.testing.assert_allclose(live.scale, (3, 1, 1))
    run_some(panel, qtbot)
    assert (np.asarray(live.data) >= 128).sum() > (before >= 128).sum()
    assert panel.controls.size_curve.y[-1] > panel.controls.size_curve.y[0]
    assert "Step 6" in panel.controls.status.text()
    assert panel.viewer.layers.selection.active is panel.inputs.start.combo.layer


def test_a_picture_makes_up_for_those_that_were_never_shown():
    u = np.full((6, 8), -2.0, np.float32)
    watch = FrontWatch((1, 1))

    def step(iteration, box):
        if box is not None:
            u[box] += 2.5
        report = SimpleNamespace(level_set=u, changed_box=box, iteration=iteration)
        watch.see(report)
        return report

    shown = watch.take(step(0, None), None).values.copy()
    assert not (shown >= 128).any()
    missed = watch.take(step(1, (slice(0, 2), slice(0, 2))), None)
    step(2, (slice(4, 6), slice(0, 3)))
    picture = watch.take(step(3, (slice(5, 6), slice(6, 8))), missed)
    shown[picture.box] = picture.values
    np.testing.assert_array_equal(shown, watch.whole(u, 3).values)
    np.testing.assert_array_equal(shown > 128, u > 0)
    nothing = watch.take(step(4, None), None)
    assert nothing.values.size == 0


def test_step_takes_as_many_as_asked_for_from_the_first_click_on(panel, qtbot):
    run_some(panel, qtbot, 1)
    assert panel.controls.status.text().startswith("Step 1,")
    run_some(panel, qtbot, 4)
    assert panel.controls.status.text().startswith("Step 5,")


def test_buttons_follow_the_state(panel, qtbot):
    c = panel.controls
    assert (c.run_button.text(), c.cancel_button.isEnabled(), c.accept_button.isEnabled()) == ("Run", False, False)
    run_some(panel, qtbot)
    assert (c.run_button.text(), c.cancel_button.isEnabled(), c.accept_button.isEnabled()) == ("Resume", True, True)
    assert not panel.inputs.image.isEnabled()
    panel.viewer.add_points([[0, 0, 0]])
    assert not panel.inputs.image.isEnabled()
    c.run_button.click()
    assert c.run_button.text() == "Pause"
    c.cancel_button.click()
    assert c.run_button.text() == "Stopping..."
    qtbot.waitUntil(lambda: panel.level_set_run.state is JobState.CANCELLED, timeout=2000)
    assert (c.run_button.text(), c.rewind_button.isEnabled(), c.accept_button.isEnabled()) == ("Continue", True, True)
    assert "Cancelled at step" in c.status.text()


def test_rewind_goes_back_to_the_start(panel, qtbot):
    run_some(panel, qtbot, 1)
    panel.level_set_run.cancel()
    qtbot.waitUntil(lambda: not panel.level_set_run.is_busy)
    panel.rewind()
    first = np.array(panel.viewer.layers["Level set (live)"].data)
    distance = np.sqrt(sum((a - c) ** 2 for a, c in zip(np.indices(first.shape), (12, 14, 13), strict=True)))
    run_some(panel, qtbot, 5)
    panel.rewind()
    qtbot.waitUntil(lambda: panel.level_set_run.state is JobState.IDLE)
    np.testing.assert_array_equal(panel.viewer.layers["Level set (live)"].data, first)
    assert first[distance < 1].min() > 128
    assert first[distance > 5].max() < 128
    assert panel.controls.run_button.text() == "Run"
    assert not panel.controls.size_curve.x


def test_a_change_while_it_runs_reaches_the_run_and_its_record(panel, qtbot):
    run_some(panel, qtbot)
    set_parameters(panel, curvature=0.7)
    run_some(panel, qtbot)
    panel.cancel()
    qtbot.waitUntil(lambda: panel.level_set_run.state is JobState.CANCELLED)
    (change,) = panel.level_set_run.result.record.changes
    assert change.step == 3
    assert change.parameters["curvature"] == 0.7


def test_continue_goes_on_from_where_it_stopped(panel, qtbot):
    run_some(panel, qtbot, 4)
    panel.cancel()
    qtbot.waitUntil(lambda: panel.level_set_run.state is JobState.CANCELLED)
    before = panel.level_set_run.result.mask.sum()
    panel.run()
    qtbot.waitUntil(lambda: panel.level_set_run.state is JobState.DONE, timeout=60_000)
    assert panel.level_set_run.result.mask.sum() > before
    seeds = panel.inputs.start.combo.layer
    seeds.data = [[12, 14, 15]]
    assert panel.controls.run_button.text() == "Run"


def test_accept_keeps_other_labels_and_one_undo_takes_it_back(panel, qtbot):
    result = run_to_end(panel, qtbot)
    other = np.zeros(result.mask.shape, np.uint8)
    other[:, :13] = 5
    target = panel.viewer.add_labels(other.copy(), name="organs", scale=(3, 1, 1), units="mm")
    panel.controls.targets.choose(target)
    panel.controls.label.setValue(2)
    panel.accept()
    np.testing.assert_array_equal(target.data, np.where((other == 0) & result.mask, 2, other))
    assert f"{(result.mask & (other == 5)).sum():,} voxels of other labels were left alone" in (
        panel.controls.status.text()
    )
    row = target.features[target.features["index"] == 2].iloc[0]
    assert row["voxels"] == (target.data == 2).sum()
    assert row["volume (ml)"] == pytest.approx(row["voxels"] * 3 / 1000)
    assert target.metadata["lsnet"]["record"]["parameters"]["lower"] == 50
    assert not panel.viewer.layers["Level set (live)"].visible
    panel.undo()
    assert panel.viewer.layers["Level set (live)"].visible
    np.testing.assert_array_equal(target.data, other)
    assert "lsnet" not in target.metadata
    assert not len(target.features)


def test_undo_keeps_what_was_painted_afterwards(panel, qtbot):
    run_to_end(panel, qtbot)
    panel.accept()
    labels = panel.viewer.layers["Level set"]
    labels.data[12, 14, 13] = 7
    panel.undo()
    assert labels in panel.viewer.layers
    assert labels.data[12, 14, 13] == 7
    assert (labels.data != 0).sum() == 1


def test_accept_makes_a_layer_on_the_source_and_undo_takes_it_away(panel, qtbot):
    result = run_to_end(panel, qtbot)
    panel.accept()
    labels = panel.viewer.layers["Level set"]
    np.testing.assert_array_equal(labels.data == 1, result.mask)
    source = panel.inputs.image.layer
    for index in ((0, 0, 0), (7, 3, 9)):
        np.testing.assert_allclose(labels.data_to_world(index), source.data_to_world(index))
    panel.undo()
    assert labels not in panel.viewer.layers


def test_accept_while_it_runs_takes_what_is_seen(panel, qtbot):
    run_some(panel, qtbot, 3)
    panel.controls.accept_button.click()
    qtbot.waitUntil(lambda: "Level set" in panel.viewer.layers)
    assert panel.viewer.layers["Level set"].data.sum() > 0
    assert not panel.level_set_run.is_busy


def test_the_users_layers_are_not_touched(panel, qtbot):
    source, seeds = panel.inputs.image.layer, panel.inputs.start.combo.layer
    before = (source.data.copy(), dict(source.metadata), source.affine.affine_matrix.copy(), seeds.data.copy())
    told = []
    for name in ("set_data", "metadata", "scale", "translate", "contrast_limits"):
        getattr(source.events, name).connect(told.append)
    run_to_end(panel, qtbot)
    panel.accept()
    np.testing.assert_array_equal(source.data, before[0])
    assert dict(source.metadata) == before[1]
    np.testing.assert_array_equal(source.affine.affine_matrix, before[2])
    np.testing.assert_array_equal(seeds.data, before[3])
    assert not told


def test_layers_may_be_renamed_and_deleted_while_it_runs(panel, qtbot):
    source = panel.inputs.image.layer
    run_some(panel, qtbot)
    source.name = "another name"
    assert panel.inputs.image.currentText() == "another name"
    panel.viewer.layers.remove("Level set (live)")
    panel.viewer.layers.remove(panel.inputs.start.combo.layer)
    panel.viewer.layers.remove(source)
    panel.run()
    qtbot.waitUntil(lambda: panel.level_set_run.state is JobState.DONE, timeout=60_000)
    assert "Level set (live)" not in panel.viewer.layers
    panel.accept()
    assert panel.viewer.layers["Level set"].data.sum() == panel.kept.result.mask.sum()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda p: p.inputs.start.combo.layer.__setattr__("data", np.empty((0, 3))), "Click into the structure"),
        (lambda p: p.inputs.start.combo.layer.__setattr__("data", [[12, 14, 90]]), "outside the image"),
        (lambda p: p.inputs.image.layer.data.__setitem__((3, 3, 3), np.nan), "NaN"),
        (lambda p: p.viewer.layers.remove(p.inputs.start.combo.layer), "Mark the inside"),
        (lambda p: p.viewer.layers.remove(p.inputs.image.layer), "Open an image"),
        (lambda p: p.inputs.extent.box.setText("3:9"), "is no box inside the image"),
    ],
)
def test_what_is_missing_or_wrong_is_said_in_one_sentence(panel, qtbot, spoil, said):
    spoil(panel)
    if panel.controls.run_button.isEnabled():
        panel.run()
        qtbot.waitUntil(lambda: said in panel.controls.status.text(), timeout=20_000)
    assert said in panel.controls.status.text()
    assert "Level set (live)" not in panel.viewer.layers


def test_one_slice_of_a_volume(panel, qtbot):
    panel.inputs.extent.set_mode("slice")
    result = run_to_end(panel, qtbot)
    assert result.mask.shape == (28, 26)
    panel.accept()
    labels = panel.viewer.layers["Level set"]
    assert np.flatnonzero(labels.data.any(axis=(1, 2))).tolist() == [12]
    assert "area (mm2)" not in labels.features or labels.features["volume (ml)"].notna().all()


def test_a_time_point_of_a_series_that_is_turned_and_lazy(panel, qtbot):
    import dask.array as da

    angle = np.deg2rad(20)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    series = da.stack([da.zeros((28, 26), dtype=np.float32), da.from_array(ball()[12])])
    rotate = np.eye(3)
    rotate[1:, 1:] = turn
    layer = panel.viewer.add_image(
        series, name="series", scale=(2, 0.5, 0.5), translate=(0, 40, 30), rotate=rotate, axis_labels=("t", "y", "x")
    )
    for other in list(panel.viewer.layers):
        if other is not layer:
            panel.viewer.layers.remove(other)
    panel.viewer.dims.set_point(0, 2)
    panel.inputs.start.draw_points()
    panel.inputs.start.combo.layer.data = [[1, 14, 13]]
    panel.inputs.start.radius.setValue(3)
    result = run_to_end(panel, qtbot)
    inside = ball()[12] > 50
    assert 2 * (result.mask & inside).sum() / (result.mask.sum() + inside.sum()) > 0.95
    live = panel.viewer.layers["Level set (live)"]
    np.testing.assert_allclose(live.data_to_world((0, 5, 7)), layer.data_to_world((1, 5, 7)))
    panel.accept()
    labels = panel.viewer.layers["Level set"]
    np.testing.assert_array_equal(labels.data[1] == 1, result.mask)
    assert not labels.data[0].any()
    np.testing.assert_allclose(labels.data_to_world((1, 5, 7)), layer.data_to_world((1, 5, 7)))


def test_a_box_limits_the_run_and_its_result_lies_in_place(panel, qtbot):
    panel.inputs.extent.box.setText("8:16, 4:24, 0:26")
    result = run_to_end(panel, qtbot)
    assert result.mask.shape == (8, 20, 26)
    assert panel.level_set_run.request.complete(result.record).source.region == [(8, 16), (4, 24), (0, 26)]
    panel.accept()
    labels = panel.viewer.layers["Level set"]
    np.testing.assert_array_equal(labels.data[8:16, 4:24] == 1, result.mask)
    assert labels.data.sum() == result.mask.sum()


def test_a_drawn_rectangle_becomes_the_box(panel):
    panel.inputs.extent.draw()
    drawn = panel.viewer.layers["Region of interest"]
    drawn.add_rectangles(np.array([[12, 4.2, 3], [12, 4.2, 20.5], [12, 22, 20.5], [12, 22, 3]]))
    assert panel.inputs.extent.box.text() == "0:24, 5:23, 3:21"


def test_painted_labels_and_one_of_them_start_a_run(panel, qtbot):
    panel.inputs.start.draw_labels()
    painted = panel.inputs.start.combo.layer
    painted.data[12, 13:16, 12:15] = 3
    painted.data[2, 2, 2] = 4
    panel.inputs.start.label.setValue(3)
    result = run_to_end(panel, qtbot)
    assert result.mask[12, 14, 13]
    assert not result.mask[2, 2, 2]


def test_swap_starts_from_everything_but_the_seeds(panel, qtbot):
    panel.inputs.start.swap.click()
    run_some(panel, qtbot, 1)
    panel.cancel()
    qtbot.waitUntil(lambda: panel.level_set_run.state is JobState.CANCELLED)
    assert not panel.level_set_run.result.mask[12, 14, 13]
    assert panel.level_set_run.result.mask[12, 14, 25]


def test_the_speed_preview_is_the_speed_of_the_run(panel, qtbot):
    from src_models.levelset.speed import speed_image

    set_parameters(panel, speed="edge", sigma=3.0)
    panel.tools.preview_button.click()
    qtbot.waitUntil(lambda: "Speed (preview)" in panel.viewer.layers)
    shown = panel.viewer.layers["Speed (preview)"]
    whole = speed_image(ball(), (3, 1, 1), panel.form.value())
    np.testing.assert_allclose(shown.data[0], whole[12], atol=1e-5)
    np.testing.assert_allclose(shown.data_to_world((0, 4, 5)), panel.inputs.image.layer.data_to_world((12, 4, 5)))
    set_parameters(panel, contrast=0.15)
    qtbot.waitUntil(lambda: not np.allclose(shown.data[0], whole[12], atol=1e-3))
    panel.viewer.dims.set_point(0, 24)
    whole = speed_image(ball(), (3, 1, 1), panel.form.value())
    qtbot.waitUntil(lambda: np.allclose(panel.viewer.layers["Speed (preview)"].data[0], whole[8], atol=1e-5))
    panel.tools.preview_button.click()
    assert "Speed (preview)" not in panel.viewer.layers


def test_a_click_on_an_edge_sets_the_contrast_so_that_the_speed_is_one_half_there(panel):
    from src_models.levelset.speed import speed_image

    set_parameters(panel, speed="edge")
    before = list(panel.viewer.mouse_drag_callbacks)
    panel.tools.pick_button.setChecked(True)
    (pick,) = [each for each in panel.viewer.mouse_drag_callbacks if each not in before]
    event = type("Click", (), {"position": panel.inputs.image.layer.data_to_world((12, 14 + RADIUS, 13))})
    pick(panel.viewer, event)
    assert panel.viewer.mouse_drag_callbacks == before
    assert not panel.tools.pick_button.isChecked()
    there = speed_image(ball(), (3, 1, 1), panel.form.value())[12, 14 + RADIUS, 13]
    assert there == pytest.approx(0.5, abs=0.005)


def test_the_smallest_neck_and_the_memory_are_told(panel):
    set_parameters(panel, curvature=0.5, balloon=0.5)
    assert panel.neck_line.text() == "Smallest neck it will enter: radius 2 mm"
    panel.inputs.extent.set_mode("slice")
    assert panel.neck_line.text() == "Smallest neck it will enter: radius 1 mm"
    assert panel.forecast_line.text().startswith("728 voxels")


def test_closing_the_dock_leaves_the_run_and_a_new_panel_finds_it(panel, qtbot):
    run_some(panel, qtbot)
    viewer, run = panel.viewer, panel.level_set_run
    viewer.window.remove_dock_widget(panel)
    again = LevelSetPanel(viewer)
    qtbot.addWidget(again)
    assert again.level_set_run is run
    assert again.controls.run_button.text() == "Resume"
    again.run()
    qtbot.waitUntil(lambda: run.state is JobState.DONE, timeout=60_000)
    again.accept()
    assert viewer.layers["Level set"].data.sum() > 0


def test_a_failure_offers_a_report_and_the_next_run_works(panel, qtbot, monkeypatch):
    from napari_lsnet.levelset.request import Request

    place = "/home/someone/scan.nii"

    def fail(_request):
        raise ZeroDivisionError(f"nothing to divide by in {place}")

    with monkeypatch.context() as broken:
        broken.setattr(Request, "make", fail)
        panel.run()
        qtbot.waitUntil(lambda: panel.level_set_run.state is JobState.FAILED)
    assert panel.controls.status.text() == "The level set stopped; your layers are unchanged."
    assert not panel.controls.report_button.isHidden()
    panel.controls.report_button.click()
    report = QApplication.clipboard().text()
    assert "ZeroDivisionError" in report
    assert "someone" not in report
    assert run_to_end(panel, qtbot).stop_reason == "converged"
    assert panel.controls.report_button.isHidden()


def mask_of_script(text: str) -> np.ndarray:
    names: dict = {}
    exec(compile(text, "<copied>", "exec"), names)
    return names["mask"]


@pytest.fixture
def from_file(npe2pm, panel, tmp_path):
    """The ball in a file that stores its axes the other way round, opened by our reader."""
    matrix = np.array([[0, 0, 1.0, -40], [0, -1, 0, 30], [3, 0, 0, 7], [0, 0, 0, 1]])
    path = tmp_path / "a ball.nii.gz"
    write_volume(path, Volume(ball(), Grid((24, 28, 26), (3, 1, 1), matrix, orientation_known=True)))
    npe2pm.register(PluginManifest.from_file(ROOT / "napari_lsnet" / "napari.yaml"))
    panel.viewer.layers.clear()
    (layer,) = panel.viewer.open(str(path), plugin="napari-lsnet")
    assert any(layer.metadata["lsnet"]["stored_order"]["flips"])
    panel.inputs.start.draw_points()
    middle = np.unravel_index(np.argmax(layer.data), layer.data.shape)
    panel.inputs.start.combo.layer.data = [np.add(middle, (0, 0.3, 1 / 3))]
    panel.inputs.start.radius.setValue(4)
    return path


def copied(panel, button) -> str:
    button.click()
    return QApplication.clipboard().text()


def run_command(text: str, folder: Path) -> np.ndarray:
    """Run a copied command line in a folder; the mask as it was presented in the viewer."""
    words = shlex.split(text, comments=True)
    assert words[0] == "lsnet"
    done = subprocess.run(
        [sys.executable, "-m", "src_models.cli", *words[1:]],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return read_segmentation(folder / words[words.index("--out") + 1]).labels


@pytest.mark.parametrize("box", ["", "4:20, 2:25, 1:26"])
def test_copied_text_makes_the_same_mask(panel, from_file, qtbot, box):
    panel.inputs.extent.box.setText(box)
    run_some(panel, qtbot, 6)
    panel.cancel()
    qtbot.waitUntil(lambda: panel.level_set_run.state is JobState.CANCELLED)
    mask = panel.level_set_run.result.mask
    region = panel.level_set_run.request.region
    assert 0 < mask.sum() < mask.size
    script = copied(panel, panel.controls.python_button)
    assert str(from_file) in script
    np.testing.assert_array_equal(mask_of_script(script), mask)
    whole = run_command(copied(panel, panel.controls.command_button), from_file.parent)
    np.testing.assert_array_equal(whole[region] == 1, mask)
    assert whole.sum() == mask.sum()


def test_copied_text_of_a_slice_and_of_painted_seeds(panel, from_file, qtbot):
    seeds = from_file.parent / "seeds.nii.gz"
    panel.inputs.extent.set_mode("slice")
    panel.viewer.dims.set_point(0, panel.inputs.image.layer.data_to_world((10, 0, 0))[0])
    panel.inputs.start.draw_labels()
    painted = panel.inputs.start.combo.layer
    painted.data[10, 12:15, 11:14] = 1
    volume = read_volume(from_file)
    write_segmentation(seeds, Segmentation(painted.data, volume.grid, stored_order=volume.stored_order))
    result = run_to_end(panel, qtbot)
    text = copied(panel, panel.controls.command_button)
    assert text.startswith("# The seeds have no file yet: save the layer of the seeds as seeds.nii.gz first.")
    whole = run_command(text, from_file.parent)
    np.testing.assert_array_equal(whole[10] == 1, result.mask)
    assert whole.sum() == result.mask.sum()
    script = copied(panel, panel.controls.python_button).replace("'seeds.nii.gz'", repr(str(seeds)))
    np.testing.assert_array_equal(mask_of_script(script), result.mask)


def test_a_run_that_was_steered_is_replayed_from_its_record(panel, from_file, qtbot, monkeypatch):
    run_some(panel, qtbot, 3)
    set_parameters(panel, curvature=0.8)
    result = run_to_end(panel, qtbot)
    record = from_file.parent / "result.lsnet.json"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(record), ""))
    panel.controls.record_button.click()
    assert panel.controls.status.text() == "Saved: result.lsnet.json."
    text = copied(panel, panel.controls.command_button)
    assert "values were changed while it ran" in text
    np.testing.assert_array_equal(run_command(text, from_file.parent) == 1, result.mask)
    script = copied(panel, panel.controls.python_button).replace("'result.lsnet.json'", repr(str(record)))
    np.testing.assert_array_equal(mask_of_script(script), result.mask)


def test_without_a_file_the_text_says_what_to_save_first(panel, qtbot):
    run_some(panel, qtbot, 2)
    panel.cancel()
    qtbot.waitUntil(lambda: panel.level_set_run.state is JobState.CANCELLED)
    for button in (panel.controls.python_button, panel.controls.command_button):
        assert "# The image has no file yet: save the layer as image.nii.gz first." in copied(panel, button)
