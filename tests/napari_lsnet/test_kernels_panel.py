"""Analyse kernels, in a real viewer with real models: the right kernel everywhere, the person's layers unchanged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from qtpy.QtWidgets import QApplication

from napari_lsnet.jobs import JobState
from napari_lsnet.kernels.panel import KernelsPanel
from napari_lsnet.kernels.place import ROLE
from napari_lsnet.roles import role_of
from tests.napari_lsnet.kernel_models import QUICK, analyse, click, content_of, save_random_model, tile_place
from tests.napari_lsnet.models import save_bright_model


@pytest.fixture
def models(kernel_folder) -> Path:
    """A folder of models of the user's own: one in 2D, one in 3D."""
    return kernel_folder


@pytest.fixture
def panel(kernel_panel):
    """A viewer with a turned picture of 0.5 x 2 mm pixels, and the panel."""
    return kernel_panel


def test_an_analysis_shows_layers_shares_montage_and_components(panel, qtbot):
    image = panel.viewer.layers["scan"]
    before = content_of(image)
    report = analyse(panel, qtbot)
    assert panel.controls.status.text().startswith("Done in")
    results = panel.results
    found = results.found
    assert results.layers.place == 0
    montage, points = results.shown.layer("montage"), results.shown.layer("components")
    np.testing.assert_array_equal(montage.data[:3, :3], found.layer.kernels[0, 0])
    largest = np.abs(found.layer.kernels).max()
    assert tuple(montage.contrast_limits) == pytest.approx((-largest, largest))
    table = report.table.rows(found.rows.start, found.rows.stop)
    np.testing.assert_allclose(
        points.data, np.stack([-table.numbers("pc2"), table.numbers("pc1")], 1), rtol=1e-6, atol=1e-7
    )
    assert list(points.features.columns) == list(report.table.columns)
    np.testing.assert_array_equal(points.features["label"].astype(str), table.words("label"))
    known = results.shown.layer("known")
    projection = found.projection
    np.testing.assert_allclose(known.data[:, 1], projection.known_points[:, 0])
    np.testing.assert_allclose(known.features["plane_distance"], projection.known_distances)
    assert content_of(image) == before
    assert all(role_of(layer) == ROLE for layer in panel.viewer.layers if layer is not image)
    # beside the image, not on it
    assert np.asarray(montage.extent.world)[0, -1] > np.asarray(image.extent.world)[1, -1]


def test_a_click_on_a_tile_and_on_a_point_shows_that_kernel_in_both_views(panel, qtbot):
    report = analyse(panel, qtbot)
    results = panel.results
    results.layers.choose(1)
    found = results.found
    points = results.shown.layer("components")
    row = found.first_row + 4
    click(panel, tile_place(panel, row))
    assert results.row == row
    np.testing.assert_array_equal(results.card.facts.kernel, report.kernel(row))
    assert results.tabs.tabText(results.tabs.currentIndex()) == "Kernel"
    mark = results.shown.layer("mark")
    ring = mark.data[1].mean(axis=0)
    np.testing.assert_allclose(ring, points.data_to_world(points.data[4]), rtol=1e-5)
    np.testing.assert_allclose(mark.data[0].mean(axis=0), tile_place(panel, row), rtol=1e-5)
    other = found.first_row + 7
    click(panel, points.data_to_world(points.data[7]))
    assert results.row == other
    np.testing.assert_allclose(results.shown.layer("mark").data[0].mean(axis=0), tile_place(panel, other), rtol=1e-5)
    click(panel, tile_place(panel, row), drag=True)
    click(panel, (1e5, 1e5))
    assert results.row == other


def test_every_tile_is_the_kernel_that_the_table_says(panel, qtbot):
    report = analyse(panel, qtbot)
    results = panel.results
    for place, found in enumerate(report.layers):
        results.layers.choose(place)
        montage = results.shown.layer("montage")
        for row in range(found.rows.start, found.rows.stop):
            assert results.shown.row_at(tile_place(panel, row)) == row
            status = montage.get_status(tile_place(panel, row), world=True)
            told = report.table.row(row)
            value = report.kernel(row)[1, 1]
            assert f"output {told['out']}, input {told['in']}, entry (1, 1): {value:.4g}" in status["coordinates"]


def test_the_filter_hides_points_and_dims_tiles(panel, qtbot):
    report = analyse(panel, qtbot)
    results = panel.results
    results.layers.choose(1)
    found = results.found
    labels = report.table.words("label")[found.rows]
    word = labels[0]
    results.shares.tick_only(frozenset({word}))
    points, veil = results.shown.layer("components"), results.shown.layer("veil")
    np.testing.assert_array_equal(points.shown, labels == word)
    np.testing.assert_array_equal(np.asarray(points.face_color)[:, 3] > 0, labels == word)
    np.testing.assert_array_equal(veil.data, results.shown.layer("montage").tiling.cover(labels != word))
    np.testing.assert_allclose(veil.extent.world, results.shown.layer("montage").extent.world)
    assert f"{int((labels == word).sum())} of {found.layer.count}" in results.count_line.text()
    # a hidden point cannot be clicked
    hidden = int(np.flatnonzero(labels != word)[0])
    alone = np.linalg.norm(points.data - points.data[hidden], axis=1)
    alone[labels != word] = np.inf
    if alone.min() > 0.1 * results.shown._span:
        assert results.shown.row_at(points.data_to_world(points.data[hidden])) is None
    results.all_button.click()
    assert points.shown.all()
    assert not veil.visible
    results.largest_p.setValue(0.5)
    np.testing.assert_array_equal(points.shown, report.table.numbers("p_any")[found.rows] <= 0.5)
    results.column.setCurrentIndex(results.column.findData("pde_class"))
    assert set(results.shares.ticks) >= set(report.table.words("pde_class")[found.rows])


def test_arrows_stand_on_their_tiles_and_point_against_b(panel, qtbot):
    report = analyse(panel, qtbot)
    results = panel.results
    results.layers.choose(1)
    results.arrows.setChecked(True)
    arrows, montage = results.shown.layer("arrows"), results.shown.layer("montage")
    rows = results.found.rows
    against = -np.stack([report.table.numbers("b_y")[rows], report.table.numbers("b_x")[rows]], axis=1)
    for start, step in arrows.data:
        kernel, entry = montage.tiling.at(*start)
        assert entry == (1, 1)
        assert step[0] * against[kernel][1] == pytest.approx(step[1] * against[kernel][0], abs=1e-5)
        assert step @ against[kernel] > 0
    lengths = np.linalg.norm(arrows.data[:, 1], axis=1)
    assert lengths.max() == pytest.approx(0.48 * 3)
    np.testing.assert_allclose(arrows.scale, montage.scale)
    results.arrows.setChecked(False)
    assert not arrows.visible


def test_three_dimensional_kernels_have_their_planes_along_the_slider(panel, qtbot):
    volume = np.random.default_rng(1).normal(size=(12, 16, 14)).astype(np.float32)
    panel.viewer.add_image(volume, name="volume", scale=(3, 1, 1), units="mm")
    report = analyse(panel, qtbot, "random-3d")
    results = panel.results
    results.layers.choose(1)
    montage = results.shown.layer("montage")
    assert montage.data.shape[0] == 3
    row = results.found.first_row + 5
    tiling = montage.tiling
    y, x = tiling.corner(5)
    np.testing.assert_array_equal(montage.data[:, y : y + 3, x : x + 3], report.kernel(row))
    # the planes share the depth of the volume between them
    low, high = np.asarray(montage.extent.world)[:, 0]
    deep = montage.scale[0]
    assert (low - deep / 2, high + deep / 2) == pytest.approx((0, 11 * 3))
    click(panel, tile_place(panel, row))
    assert results.row == row
    assert "z" in results.card.lines.text()


def impulse_model(models, qtbot, panel):
    """A 2D model whose kernels are all positive, so that one bright pixel gives a heap about it."""
    import torch

    from src_models.weights import store

    loaded = store.load("random-2d")
    with torch.no_grad():
        for name, parameter in loaded.network.named_parameters():
            parameter.fill_(0.0 if name.endswith("bias") else 0.1)
    store.save(loaded.network, loaded.card.model_copy(update={"name": "heap"}), models)
    panel.models.refresh()
    return analyse(panel, qtbot, "heap")


def show_map(panel, qtbot, row, stage="kernel"):
    features = panel.on_image.features
    panel.results.show_row(row)
    panel.on_image.stage.setCurrentIndex(panel.on_image.stage.findData(stage))
    panel.on_image.map_tick.setChecked(True)
    name = panel.results.found.layer.name
    qtbot.waitUntil(lambda: features.layer is not None and name in features.layer.name, timeout=60_000)
    qtbot.waitUntil(lambda: not features.is_busy, timeout=60_000)
    return features.layer


@pytest.mark.parametrize("name", ["encoder.0.0.conv", "encoder.1.0.conv", "decoder.0.0.conv"])
def test_the_feature_map_lies_where_the_bright_pixel_is(models, panel, qtbot, name):
    """On a turned picture with pixels that are no squares, through pool, stride and up-sampling."""
    image = panel.viewer.layers["scan"]
    apart = []
    report = impulse_model(models, qtbot, panel)
    place = next(k for k, each in enumerate(report.layers) if each.layer.name == name)
    for shift in ((0, 0), (0, 1), (1, 0), (1, 1)):
        pixel = np.array([14, 8]) + shift
        data = np.zeros((30, 20), np.float32)
        data[tuple(pixel)] = 1.0
        image.data = data
        layer = show_map(panel, qtbot, report.layers[place].first_row, "channel")
        weight = np.abs(np.asarray(layer.data, float))
        centre = np.indices(weight.shape).reshape(2, -1) @ weight.ravel() / weight.sum()
        apart.append(np.asarray(layer.data_to_world(centre)) - image.data_to_world(pixel))
    np.testing.assert_allclose(np.mean(apart, axis=0), 0, atol=0.03)
    np.testing.assert_allclose(layer.rotate, image.rotate)
    assert [str(unit) for unit in layer.units] == ["millimeter"] * 2


def test_the_first_map_is_the_correlation_and_follows_clicks_and_slices(panel, qtbot):
    from scipy.ndimage import correlate

    stack = np.random.default_rng(2).normal(size=(4, 16, 18)).astype(np.float32)
    volume = panel.viewer.add_image(stack, name="stack", scale=(5, 1, 1), units="mm")
    panel.on_image.image.combo.choose(volume)
    report = analyse(panel, qtbot)
    layer = show_map(panel, qtbot, 2)
    panel.viewer.dims.set_point(0, 10)
    qtbot.waitUntil(lambda: not panel.on_image.features.is_busy, timeout=60_000)
    assert layer.data.shape == (1, 16, 18)
    wanted = correlate(stack[2], report.kernel(2), mode="constant")
    np.testing.assert_allclose(layer.data[0][:-1, :-1], wanted[:-1, :-1], atol=1e-5)
    np.testing.assert_allclose(layer.data_to_world((0, 3, 4)), volume.data_to_world((2, 3, 4)))
    click(panel, tile_place(panel, 1)[-2:] if panel.viewer.dims.ndim == 2 else (10, *tile_place(panel, 1)[-2:]))
    qtbot.waitUntil(lambda: not panel.on_image.features.is_busy, timeout=60_000)
    wanted = correlate(stack[2], report.kernel(1), mode="constant")
    np.testing.assert_allclose(layer.data[0][:-1, :-1], wanted[:-1, :-1], atol=1e-5)
    panel.on_image.map_tick.setChecked(False)
    assert layer not in panel.viewer.layers


def test_knocking_out_the_kernel_that_counts_loses_the_labels(models, panel, qtbot):
    save_bright_model(models)
    panel.models.refresh()
    scene = np.full((32, 36), 10.0, np.float32)
    scene[5:17, 8:30] = 90.0
    image = panel.viewer.add_image(scene, name="scene", scale=(2, 3), units="mm")
    reference = panel.viewer.add_labels((scene > 50).astype(np.uint8), name="right", scale=(2, 3), units="mm")
    report = analyse(panel, qtbot, "unet-bright-2d")
    part = panel.on_image
    part.image.combo.choose(image)
    part.reference.choose(reference)
    part.draws.setValue(2)
    row = report.row_of(0, 0, 0)
    panel.results.show_row(row)
    weights = {key: value.clone() for key, value in panel.analysis_run.result.source.network.state_dict().items()}
    part.knock_button.click()
    qtbot.waitUntil(lambda: part.experiment_run.state.ended, timeout=60_000)
    outcome = part.experiment_run.outcome
    layers = part.experiment_run.layers
    np.testing.assert_array_equal(layers["before"].data, scene > 50)
    assert not np.asarray(layers["after"].data).any()
    np.testing.assert_array_equal(layers["changed"].data, (scene > 50) * 1)
    np.testing.assert_allclose(layers["after"].data_to_world((3, 4)), image.data_to_world((3, 4)))
    assert (outcome.effect.before["the image"], outcome.effect.after["the image"]) == (1.0, 0.0)
    assert part.effect_line.text().startswith("Dice: 1.000 before, 0.000 after (\N{MINUS SIGN}1.000) with 1 kernel")
    after = panel.analysis_run.result.source.network.state_dict()
    assert all((after[key] == weights[key]).all() for key in weights)
    # without a reference, the labels before are what is right
    part.reference.choose(None)
    part.knock_button.click()
    qtbot.waitUntil(lambda: part.experiment_run.state.ended and not part.experiment_run.is_busy, timeout=60_000)
    assert part.effect_line.text().startswith("Agreement with the unchanged labels (Dice): 1.000 before, 0.000 after")


def test_a_reference_on_other_voxels_is_refused(panel, qtbot):
    analyse(panel, qtbot)
    part = panel.on_image
    other = panel.viewer.add_labels(np.ones((30, 20), np.uint8), name="elsewhere")
    part.reference.choose(other)
    panel.results.show_row(0)
    part.knock_button.click()
    assert "does not lie on the voxels of the image" in panel.controls.status.text()
    assert part.experiment_run.state is JobState.IDLE


def test_bare_tensors_are_read_but_not_run(panel, qtbot, tmp_path):
    import torch

    path = tmp_path / "tensors.pt"
    torch.save({"conv.weight": torch.randn(4, 2, 3, 3)}, path)
    panel.models.open(path)
    report = analyse(panel, qtbot, "tensors.pt (opened)")
    assert "cannot be told apart" in panel.controls.status.text()
    assert len(report.table) == 8
    panel.results.show_row(1)
    panel.on_image.map_tick.setChecked(True)
    assert "tensors without their network" in panel.controls.status.text()
    assert not panel.on_image.map_tick.isChecked()
    panel.on_image.knock_button.click()
    assert "tensors without their network" in panel.controls.status.text()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("text.pt", b"this is no model"),
        ("empty.safetensors", b""),
        ("gone.pt", None),
        ("zip.zip", b"PK\x03\x04nothing"),
    ],
)
def test_what_is_no_model_is_one_sentence(panel, qtbot, tmp_path, name, content):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    panel.models.open(path)
    panel.run()
    qtbot.waitUntil(lambda: panel.analysis_run.state.ended, timeout=60_000)
    assert panel.analysis_run.state is JobState.FAILED
    text = panel.controls.status.text()
    assert text.endswith((".", "?"))
    assert "\n" not in text
    assert "Traceback" not in text
    assert not panel.controls.report_button.isVisible()
    assert panel.controls.run_button.text() == "Analyse"


def test_a_picture_for_a_3d_network_is_refused_and_layers_that_go_are_no_harm(panel, qtbot):
    analyse(panel, qtbot, "random-3d")
    panel.results.show_row(0)
    panel.on_image.map_tick.setChecked(True)
    assert "takes volumes" in panel.controls.status.text()
    panel.viewer.layers.remove(panel.results.shown.layer("montage"))
    panel.viewer.layers.remove(panel.results.shown.layer("components"))
    panel.results.layers.choose(1)
    panel.results.show_row(panel.results.found.first_row + 2)
    assert panel.results.shown.layer("montage") in panel.viewer.layers
    panel.viewer.layers.clear()
    panel.results.shares.tick_only(frozenset({"laplacian"}))
    panel.on_image.map_tick.setChecked(True)
    assert panel.controls.status.text() == "Open an image to begin."


def test_cancel_keeps_the_layers_that_are_finished(panel, qtbot):
    panel.form.set_value(QUICK.model_copy(update={"null_draws": 200_000, "n": 64}))
    panel.models.choose("random-2d")
    panel.run()
    qtbot.waitUntil(lambda: panel.analysis_run.state is JobState.RUNNING, timeout=60_000)
    panel.controls.cancel_button.click()
    qtbot.waitUntil(lambda: panel.analysis_run.state.ended, timeout=60_000)
    assert panel.analysis_run.state is JobState.CANCELLED
    assert panel.controls.status.text().startswith(("Cancelled before", "Stopped; finished layers are kept"))
    assert panel.controls.run_button.isEnabled()


def test_what_is_copied_makes_the_same_report(panel, qtbot):
    report = analyse(panel, qtbot)
    panel.controls.python_button.click()
    session: dict = {}
    script = QApplication.clipboard().text().replace("print(", "(")
    exec(compile(script, "copied", "exec"), session)
    again = session["report"].table
    for name in ("label", "pc1", "order_p", "p_any"):
        np.testing.assert_array_equal(again.numbers(name), report.table.numbers(name))
    panel.controls.command_button.click()
    assert "lsnet kernels random-2d" in QApplication.clipboard().text()


def test_another_panel_finds_what_was_found(panel, qtbot):
    analyse(panel, qtbot)
    other = KernelsPanel(panel.viewer)
    qtbot.addWidget(other)
    assert other.results.analysis is panel.analysis_run.result
    assert other.results.tabs.isTabEnabled(1)


def test_pictures_make_room_for_a_new_image_and_do_not_come_back_once_removed(panel, qtbot):
    analyse(panel, qtbot)
    shown = panel.results.shown
    wide = panel.viewer.add_image(np.zeros((30, 400), np.float32), name="wide", units="mm")
    edge = np.asarray(wide.extent.world)[1, -1]
    qtbot.waitUntil(lambda: np.asarray(shown.layer("montage").extent.world)[0, -1] > edge, timeout=5000)
    for name in ("montage", "components", "known"):
        panel.viewer.layers.remove(shown.layer(name))
    panel.viewer.layers.remove(wide)
    qtbot.wait(150)
    assert [layer.name for layer in panel.viewer.layers] == ["scan"]


def test_the_tables_are_written_once(panel, qtbot, tmp_path):
    from src_models.kernels.report import from_csv

    report = analyse(panel, qtbot)
    panel.export(tmp_path)
    qtbot.waitUntil(lambda: not panel.exporting.is_busy, timeout=20_000)
    again = from_csv((tmp_path / "kernels.csv").read_bytes())
    np.testing.assert_array_equal(again.words("label"), report.table.words("label"))
    assert (tmp_path / "kernels.json").is_file()
    panel.export(tmp_path)
    qtbot.waitUntil(lambda: not panel.exporting.is_busy, timeout=20_000)
    assert "kernels.csv" in panel.controls.status.text()
    assert panel.controls.status.property("warning")


def test_a_model_of_images_as_they_lie_in_files_is_shown_them_so(models, panel, qtbot):
    """Axes exchanged and turned round on the way in, and the map turned back onto the voxels."""
    from scipy.ndimage import correlate

    from napari_lsnet.layers import layer_arguments
    from src_models.geometry import Grid, StoredOrder, Volume

    save_random_model(models, "stored-3d", 3, orientation="stored")
    panel.models.refresh()
    turn = StoredOrder((2, 0, 1), (True, False, True))
    data = np.random.default_rng(4).normal(size=(12, 14, 16)).astype(np.float32)
    matrix = np.eye(4)
    matrix[:3, :3] = np.array([[0, 0, 1], [0, 1, 0], [-1, 0, 0]]) * (3.0, 1.0, 2.0)
    grid = Grid(data.shape, (3.0, 1.0, 2.0), matrix, orientation_known=True)
    volume = Volume(data, grid, stored_order=turn)
    image = panel.viewer.add_image(data, name="file", **layer_arguments(volume))
    panel.on_image.image.combo.choose(image)
    report = analyse(panel, qtbot, "stored-3d")
    layer = show_map(panel, qtbot, 1)
    wanted = turn.present(correlate(turn.store(data), report.kernel(1), mode="constant"))
    np.testing.assert_allclose(layer.data, wanted, atol=1e-5)
    np.testing.assert_allclose(layer.data_to_world((1, 2, 3)), image.data_to_world((1, 2, 3)), atol=1e-9)
    coarse = next(each for each in report.layers if each.layer.name == "encoder.1.0.conv")
    layer = show_map(panel, qtbot, coarse.first_row)
    # behind a pool the voxels lie between two of the image, whichever way round it was
    np.testing.assert_allclose(layer.data_to_world((0, 0, 0)), image.data_to_world((0.5, 0.5, 0.5)), atol=1e-9)
    assert layer.data.shape == (6, 7, 8)


def test_the_view_takes_in_whole_pixels_of_a_small_montage():
    """Three pixels wide, half a pixel at either side is a third."""
    from napari.components import ViewerModel
    from napari.layers import Image

    from napari_lsnet.compat import camera_of
    from napari_lsnet.kernels.place import look_at

    viewer = ViewerModel()
    layer = viewer.add_layer(Image(np.zeros((3, 3)), scale=(2, 2)))
    look_at(viewer, [layer], (600.0, 600.0))
    assert camera_of(viewer).zoom * 6 == pytest.approx(0.86 * 600)
