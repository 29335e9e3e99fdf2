"""Why here, in a real viewer: the right voxel, the right numbers, the right tiles; the person's layers unchanged."""

from __future__ import annotations

import numpy as np
import pytest

from napari_lsnet.kernels.clicks import Clicks
from tests.napari_lsnet.kernel_models import analyse, click, content_of, save_random_lsn, save_random_model


@pytest.fixture
def panel(kernel_panel):
    """A viewer with a turned picture of 0.5 x 2 mm pixels, and the panel."""
    return kernel_panel


def why(panel, qtbot, position):
    part = panel.on_image.why
    part.button.click()
    assert part.button.isChecked()
    click(panel, position)
    assert not part.button.isChecked()
    qtbot.waitUntil(lambda: not part.is_busy, timeout=60_000)
    return part


def logits_at(panel, data, voxel):
    import torch

    network = panel.analysis_run.result.source.network
    pads = [(0, 0), *((0, 0) for _ in data.shape)]
    with torch.no_grad():
        return network(torch.from_numpy(np.pad(data[None], pads))[None])[(0, slice(None), *voxel)].numpy()


def test_a_click_lists_kernels_by_their_effect_and_marks_their_tiles(kernel_folder, panel, qtbot):
    save_random_model(kernel_folder, "wide-2d", 2, patch=(32, 32))
    panel.models.refresh()
    image = panel.viewer.layers["scan"]
    before = content_of(image)
    report = analyse(panel, qtbot, "wide-2d")
    voxel = (13, 9)
    part = why(panel, qtbot, np.asarray(image.data_to_world(voxel)) + 0.1)
    # what is smaller than the window lies in its middle
    lead = logits_at(panel, np.pad(image.data, ((1, 1), (6, 6))), (14, 15))
    assert part.found.logit == pytest.approx(float(lead[1] - lead[0]), abs=1e-4)
    assert "First order only" in part.line.text()
    who = "part wins over background" if lead[1] > lead[0] else "part loses to background"
    assert part.line.text().startswith(f"Here {who}: logit")
    values = [abs(line.value) for line in part.lines]
    assert values == sorted(values, reverse=True)
    assert len(values) == part.tree.topLevelItemCount() == 40
    line = part.lines[7]
    found = report.layer_of(line.row)
    effects = part.found.first_order.effects[found.layer.name]
    assert line.value == effects.ravel()[line.row - found.first_row]
    part.tree.setCurrentItem(part.tree.topLevelItem(7))
    assert panel.results.row == line.row
    assert panel.results.found is found
    np.testing.assert_array_equal(part.picture._kernel, report.kernel(line.row))
    tiling, montage = panel.results.shown.layer("montage").tiling, panel.results.shown.layer("montage")
    middle = np.array(tiling.corner(line.row - found.first_row)) + 1
    np.testing.assert_allclose(
        panel.results.shown.layer("mark").data[0].mean(axis=0), montage.data_to_world(middle), rtol=1e-5
    )
    np.testing.assert_allclose(part.layer.data_to_world(part.layer.data[0]), image.data_to_world(voxel))
    assert content_of(image) == before
    part.tree.itemDoubleClicked.emit(part.tree.topLevelItem(7), 0)
    assert panel.results.tabs.tabText(panel.results.tabs.currentIndex()) == "Kernel"


def test_of_a_level_set_network_the_terms_sum_to_what_u_did(kernel_folder, panel, qtbot):
    save_random_lsn(kernel_folder, "random-lsn")
    panel.models.refresh()
    report = analyse(panel, qtbot, "random-lsn")
    image = panel.viewer.layers["scan"]
    part = why(panel, qtbot, image.data_to_world((12, 7)))
    moved = part.found.increments
    terms = {line.text: line for line in part.lines}
    others = terms.pop("start and edges, first order only")
    assert set(terms) == {"balloon", "curvature", "convection"}
    assert sum(line.value for line in terms.values()) == pytest.approx(moved.end - moved.start, abs=1e-12)
    edge = report.table.row(others.parts[0].row)
    assert edge["layer"] == "levels.0.edge.kernels"
    # in mm of u: the effect on the logit times the temperature
    effects = part.found.first_order.effects["levels.0.edge.kernels"].ravel()
    temperature = panel.analysis_run.result.source.network.temperature
    assert others.parts[0].value == pytest.approx(temperature * effects[np.abs(effects).argmax()], rel=1e-5)
    assert sum(pair.value for pair in terms["curvature"].parts) == pytest.approx(terms["curvature"].value, abs=1e-12)
    lead = logits_at(panel, image.data, (12, 7))
    assert part.found.logit == pytest.approx(float(lead[1] - lead[0]), rel=1e-4, abs=1e-5)
    pair = terms["curvature"].parts[0]
    number = int(pair.text.split()[1])
    for kernel, layer, out, inside in zip(pair.parts, ("rho", "sigma"), (number, 0), (0, number), strict=True):
        told = report.table.row(kernel.row)
        assert (told["layer"], told["out"], told["in"]) == (f"levels.0.steps.0.{layer}", out, inside)
    assert "sum to the change" in part.line.text()


def test_a_network_that_begins_at_a_click_takes_points(kernel_folder, panel, qtbot):
    save_random_lsn(kernel_folder, "click-lsn", start="seed")
    panel.models.refresh()
    assert panel.on_image.why.clicks.isHidden()
    analyse(panel, qtbot, "click-lsn")
    image = panel.viewer.layers["scan"]
    part = panel.on_image.why
    assert not part.clicks.isHidden()
    part.button.click()
    click(panel, image.data_to_world((11, 10)))
    assert "begins at a click" in panel.controls.status.text()
    panel.on_image.knock_button.click()
    assert panel.controls.status.text().startswith("This model begins at a click: what it finds depends")
    assert not panel.on_image.experiment_run.is_busy
    panel.viewer.add_points([image.data_to_world((11, 8))], units="mm", name="inside")
    part = why(panel, qtbot, image.data_to_world((11, 10)))
    # two voxels beside the middle of a ball of 4
    assert part.found.increments.start == pytest.approx(2, abs=1e-6)
    assert part.found.increments.start + part.found.increments.sum == pytest.approx(
        part.found.increments.end, abs=1e-12
    )


@pytest.mark.parametrize("name", ["random-3d", "stored-3d"])
def test_in_a_volume_the_voxel_is_that_of_the_click_however_it_is_turned(kernel_folder, panel, qtbot, name):
    from napari_lsnet.layers import layer_arguments
    from src_models.geometry import Grid, StoredOrder, Volume

    save_random_model(kernel_folder, "stored-3d", 3, orientation="stored")
    panel.models.refresh()
    turn = StoredOrder((2, 0, 1), (True, False, True))
    data = np.random.default_rng(4).normal(size=(12, 14, 16)).astype(np.float32)
    matrix = np.eye(4)
    matrix[:3, :3] = np.array([[0, 0, 1], [0, 1, 0], [-1, 0, 0]]) * (3.0, 1.0, 2.0)
    volume = Volume(data, Grid(data.shape, (3.0, 1.0, 2.0), matrix, orientation_known=True), stored_order=turn)
    image = panel.viewer.add_image(data, name="file", **layer_arguments(volume))
    panel.on_image.image.combo.choose(image)
    analyse(panel, qtbot, name)
    voxel = (4, 9, 13)
    part = why(panel, qtbot, image.data_to_world(voxel))
    numbers = np.arange(data.size).reshape(data.shape)
    if name == "stored-3d":
        seen, number = turn.store(data), numbers[voxel]
        voxel = tuple(np.argwhere(turn.store(numbers) == number)[0])
    else:
        seen = data
    size = np.array(seen.shape)
    before = (np.maximum(16 - size, 0)) // 2
    padded = np.pad(seen, [(b, max(16 - n, 0) - b) for b, n in zip(before, size, strict=True)])
    lead = logits_at(panel, padded, tuple(np.array(voxel) + before))
    assert part.found.logit == pytest.approx(float(lead[1] - lead[0]), abs=1e-4)


def test_what_cannot_be_asked_is_one_sentence_and_waits_no_more(panel, qtbot):
    part = panel.on_image.why
    part.button.click()
    assert not part.button.isChecked()
    analyse(panel, qtbot)
    image = panel.viewer.layers["scan"]
    part.button.click()
    click(panel, image.data_to_world((-40, 7)))
    assert "lies outside the image" in panel.controls.status.text()
    panel.viewer.dims.ndisplay = 3
    part.button.click()
    click(panel, (0.0, *image.data_to_world((12, 7))))
    assert "Switch to 2D" in panel.controls.status.text()
    panel.viewer.dims.ndisplay = 2
    # a click while nothing waits asks nothing
    click(panel, image.data_to_world((12, 7)))
    assert part.found is None
    assert not part.is_busy
    part = why(panel, qtbot, image.data_to_world((12, 7)))
    assert part.layer in panel.viewer.layers
    panel.viewer.layers.remove(part.layer)
    part = why(panel, qtbot, image.data_to_world((3, 4)))
    assert part.layer in panel.viewer.layers
    panel.viewer.layers.remove(image)
    assert part.layer is None
    assert part.tree.isHidden()
    panel.viewer.layers.clear()
    part.button.click()
    assert not part.button.isChecked()
    assert "Open an image" in panel.controls.status.text()


def test_a_closed_panel_hears_no_more_clicks(panel, qtbot):
    analyse(panel, qtbot)
    ours = [call for call in panel.viewer.mouse_drag_callbacks if isinstance(getattr(call, "__self__", None), Clicks)]
    assert len(ours) == 2
