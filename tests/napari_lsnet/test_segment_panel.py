"""Segment with a network, in a real viewer: the right voxels, on the right place, and the person's layers unchanged."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from qtpy.QtWidgets import QApplication

from napari_lsnet.jobs import JobState
from napari_lsnet.model_list import usable_models
from napari_lsnet.segment.model_chooser import first_choice
from napari_lsnet.segment.panel import SegmentPanel
from napari_lsnet.segment.words import unseen_score
from tests.napari_lsnet.models import HU, save_bright_model


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


def test_probability_and_uncertainty_lie_on_the_image_too_and_say_how_they_were_made(panel, qtbot):
    set_parameters(panel, probabilities=True, entropy=True)
    run_to_end(panel, qtbot)
    layers = panel.segment_run.layers
    assert set(layers) == {"labels", "probability bright part", "entropy"}
    for layer in layers.values():
        np.testing.assert_allclose(layer.data_to_world((3, 5, 8)), panel.viewer.layers["scan"].data_to_world((3, 5, 8)))
        assert layer.metadata["lsnet"]["record"]["inputs"]["models"][0]["name"] == "unet-bright-2d"
    probability = np.asarray(layers["probability bright part"].data)
    np.testing.assert_array_equal(probability > 0.5, scene() > 50)


def test_slabs_appear_while_it_runs_and_pause_and_cancel_keep_them(panel, qtbot):
    shown = []

    def look(update):
        live = [layer for layer in panel.viewer.layers if layer.name == "Segmentation (running)"]
        if live:
            shown.append(int(np.asarray(live[0].data).sum()))

    panel.segment_run.updated.connect(look)
    set_parameters(panel, step=0.05)
    panel.run()
    qtbot.waitUntil(lambda: any(shown), timeout=60_000)
    panel.run()
    qtbot.waitUntil(lambda: panel.segment_run.state is JobState.PAUSED, timeout=5000)
    assert panel.controls.run_button.text() == "Resume"
    assert panel.controls.status.text().startswith("Paused")
    panel.controls.cancel_button.click()
    qtbot.waitUntil(lambda: panel.segment_run.state.ended, timeout=5000)
    labels = panel.segment_run.layers["labels"]
    assert 0 < np.asarray(labels.data).sum() < (scene() > 50).sum()
    assert labels.metadata["lsnet"]["record"]["status"] == "partial"
    assert labels.name.endswith("(not finished)")
    assert "Segmentation (running)" not in panel.viewer.layers


def test_one_slice_and_a_box_are_put_where_they_were_taken(panel, qtbot):
    panel.viewer.dims.set_point(0, -7 + 3 * 4)
    panel.inputs.extent.set_mode("slice")
    panel.inputs.extent.box.setText("0:6, 4:24, 6:36")
    run_to_end(panel, qtbot)
    labels = panel.segment_run.layers["labels"]
    assert labels.data.shape == (1, 20, 30)
    np.testing.assert_array_equal(labels.data[0], scene()[4, 4:24, 6:36] > 50)
    image = panel.viewer.layers["scan"]
    np.testing.assert_allclose(labels.data_to_world((0, 1, 2)), image.data_to_world((4, 5, 8)))
    assert "area (mm2)" in labels.features


def test_all_time_points_are_segmented_each_on_its_own(panel, qtbot):
    frames = np.stack([scene()[3], np.roll(scene()[3], 9, 1), scene()[0]])
    image = panel.viewer.add_image(frames, name="series", axis_labels=("t", "y", "x"), scale=(1, 2, 2))
    panel.inputs.image.combo.choose(image)
    assert panel.inputs.extent.mode == "series"
    run_to_end(panel, qtbot)
    np.testing.assert_array_equal(panel.segment_run.layers["labels"].data, frames > 50)


def test_nothing_found_is_said_with_the_largest_probability(panel, qtbot):
    panel.viewer.layers["scan"].data = np.full((6, 40, 36), 10.0, np.float32) + np.eye(40, 36, dtype=np.float32)
    run_to_end(panel, qtbot)
    assert panel.controls.status.text().startswith("No voxel was given a label; the largest probability")
    assert panel.controls.status.property("warning")


def test_what_does_not_fit_is_said_before_run(panel, models, qtbot):
    from src_models.preprocessing.parameters import Channel, Preprocessing

    card = Preprocessing(
        channels=(Channel(name="ct", normalisation="ct", statistics=HU),), spacing=(5.0, 5.0), crop_to_nonzero=False
    )
    save_bright_model(models, name="unet-hu", preprocessing=card)
    panel.inputs.models.refresh()
    panel.inputs.models.choose("unet-hu")
    assert "more than a factor 3 apart" in panel.inputs.mismatch.text()
    assert not panel.inputs.mismatch.isHidden()
    assert panel.controls.run_button.isEnabled()
    save_bright_model(models, name="unet-two", channels=2)
    panel.inputs.models.refresh()
    panel.inputs.models.choose("unet-two")
    assert "the model takes 2 channels (channel 0, channel 1)" in panel.controls.status.text()
    assert not panel.controls.run_button.isEnabled()
    panel.inputs.models.choose("unet-bright-2d")
    assert panel.controls.status.text() == "Ready: press Run."
    assert panel.controls.run_button.isEnabled()


def test_a_damaged_model_is_one_sentence_and_the_window_lives(panel, models, qtbot):
    weights = next(models.glob("*.safetensors"))
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(bytes(content))
    run_to_end(panel, qtbot)
    assert panel.segment_run.state is JobState.FAILED
    assert "is not the file that it should be" in panel.controls.status.text()
    assert "\n" not in panel.controls.status.text()
    assert panel.controls.run_button.text() == "Run"


def test_without_a_model_it_says_what_to_do(panel, models, monkeypatch):
    for path in models.iterdir():
        path.unlink()
    monkeypatch.setattr("src_models.weights.listing.SHIPPED", models)
    monkeypatch.setattr("src_models.weights.listing.available.__kwdefaults__", {"manifest": None, "shipped": models})
    panel.inputs.models.refresh()
    assert panel.inputs.models.choice is None
    assert "Open a model, or train one" in panel.controls.status.text()
    assert not panel.controls.run_button.isEnabled()


def test_the_card_is_told(panel):
    models = panel.inputs.models
    assert "bright part" in models.finds.text()
    assert "Dice 0.910 on 4 unseen patients" in models.finds.text()
    for text in ("phantoms, 12 patients", "CC0-1.0", "CT, 2D", "any voxel size"):
        assert text in models.about.text()


def test_the_probability_goes_on_in_the_level_set(npe2pm, panel, qtbot):
    from npe2 import PluginManifest

    npe2pm.register(PluginManifest.from_file(Path(__file__).parents[2] / "napari_lsnet" / "napari.yaml"))
    set_parameters(panel, probabilities=True)
    run_to_end(panel, qtbot)
    panel.controls.hand_over_button.click()
    docks = panel.viewer.window.dock_widgets
    level_set = next(widget for name, widget in docks.items() if name.startswith("Level set"))
    assert level_set.inputs.image.layer is panel.segment_run.layers["probability bright part"]
    assert level_set.inputs.start.combo.layer is panel.segment_run.layers["labels"]
    values = level_set.form.value()
    assert (values.speed, values.lower) == ("region", 0.5)
    level_set.form.set_value(values.model_copy(update={"engine": "reference"}))
    level_set.run()
    run = level_set.level_set_run
    qtbot.waitUntil(lambda: run.state.ended, timeout=60_000)
    inside = scene() > 50
    mask = run.result.mask
    assert 2 * (mask & inside).sum() / (mask.sum() + inside.sum()) > 0.9


def test_what_is_copied_makes_the_same_labels(panel, qtbot, tmp_path):
    from src_models.files import write_volume
    from src_models.geometry import Grid, Volume

    path = tmp_path / "scan.nii.gz"
    write_volume(path, Volume(scene(), Grid((6, 40, 36), (3, 0.8, 0.8))))
    from napari_lsnet.readers import get_reader

    (data, arguments, _), *_ = get_reader(str(path))(str(path))
    panel.viewer.add_image(data, **arguments)
    panel.viewer.layers[-1].source  # noqa: B018
    panel.inputs.image.combo.choose(panel.viewer.layers[-1])
    run_to_end(panel, qtbot)
    panel.controls.python_button.click()
    script = QApplication.clipboard().text().replace("image.nii.gz", str(path))
    session: dict = {}
    exec(compile(script, "copied", "exec"), session)
    np.testing.assert_array_equal(session["labels"], panel.segment_run.layers["labels"].data)
    panel.controls.command_button.click()
    assert "lsnet predict image.nii.gz --weights unet-bright-2d" in QApplication.clipboard().text()


def test_the_score_counts_every_patient_once():
    """Rows of labels stand beside their mean, and rows of folds beside that over all of them."""
    from napari_lsnet.segment.words import score_text
    from src_models.weights.listing import SHIPPED
    from src_models.weights.pairs import read_card

    cards = {path.stem: read_card(path) for path in SHIPPED.glob("*.safetensors")}
    liver = next(card for name, card in cards.items() if "liver" in name)
    over_all = [row for row in liver.metrics if row["fold"] == "all" and row["name"] == "mean"]
    assert score_text(liver) == f"Dice {over_all[0]['dice']:.3f} on {over_all[0]['patients']} unseen patients"
    folds = liver.model_copy(update={"metrics": tuple(row for row in liver.metrics if row["fold"] != "all")})
    assert score_text(folds).endswith(f" on {over_all[0]['patients']} unseen patients")
    clicked = next(card for card in cards.values() if card.click is not None)
    assert " with a click on 92 unseen patients" in score_text(clicked)


def test_a_new_user_finds_the_best_model_that_needs_no_click(monkeypatch, tmp_path):
    monkeypatch.setenv("LSNET_MODELS", str(tmp_path / "none"))
    choices = usable_models()
    chosen = first_choice(choices)
    clicked = {choice.title for choice in choices if choice.card.network["options"].get("start") == "seed"}
    assert clicked
    assert chosen.title not in clicked
    known = {choice.title: unseen_score(choice.card)[0] for choice in choices if choice.title not in clicked}
    assert chosen.title == max(known, key=known.get) != min(known, key=known.get)
    better = next(choice for choice in choices if choice.title in clicked)
    rows = ({"fold": "all", "name": "mean", "dice": 0.999, "patients": 3},)
    better = replace(better, card=better.card.model_copy(update={"metrics": rows}))
    assert first_choice((better, chosen)) is chosen
    assert first_choice((better,)) is better
    assert first_choice(()) is None
