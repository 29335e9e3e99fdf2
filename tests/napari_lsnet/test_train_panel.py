"""Train a network, in a real viewer: from a folder or from layers to a model that is listed and can segment."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_lsnet.jobs import JobState
from napari_lsnet.train.drift_plot import DriftPlot
from napari_lsnet.train.panel import TrainPanel
from napari_lsnet.train.run import shared_run
from napari_lsnet.train.slices import MarkedSlices
from napari_lsnet.train.source import Example, slices_of

WAIT = 200_000


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


def test_stopped_in_the_middle_it_goes_on_to_the_end(panel, folder, qtbot):
    choose(panel, epochs=20, iterations=2)
    assert panel.status.text() == "Choose a folder with images and labels, or open layers."
    panel.data.folder.setText(str(folder))
    panel.plan.name.setText("my discs")
    assert panel.main_button.text() == "Plan"
    plan(panel, qtbot)
    assert panel.main_button.text() == "Train", panel.status.text()
    assert panel.plan.words.text().startswith("unet, 2d: patches of 32 x 32, 2 a step; 20 epochs of 2 steps")
    assert "on this computer" in panel.plan.words.text()
    panel.main_button.click()
    assert panel.tabs.currentIndex() == 2
    qtbot.waitUntil(lambda: panel.train_run.state is JobState.RUNNING, timeout=WAIT)
    assert not panel.data.folder.isEnabled()
    panel.main_button.click()
    assert panel.main_button.text() == "Pausing..."
    qtbot.waitUntil(lambda: panel.train_run.state is JobState.PAUSED, timeout=WAIT)
    assert panel.main_button.text() == "Resume"
    panel.main_button.click()
    qtbot.waitUntil(lambda: len(panel.train_run.curves.dice) >= 2, timeout=WAIT)
    panel.cancel_button.click()
    assert panel.main_button.text() == "Stopping..."
    qtbot.waitUntil(lambda: panel.train_run.state is JobState.CANCELLED, timeout=WAIT)
    done = len(panel.train_run.curves.dice)
    assert done < 20
    assert panel.status.text().startswith("Stopped; Go on continues it. The model is listed as my-discs")
    assert panel.resume_button.isEnabled()
    assert panel.main_button.text() == "Plan"
    panel.main_button.click()
    assert "holds a training already" in panel.status.text()
    panel.resume_button.click()
    qtbot.waitUntil(lambda: panel.train_run.state.ended, timeout=WAIT)
    assert panel.train_run.state is JobState.DONE, panel.status.text()
    assert "Dice on 2 unseen patients: label 1 " in panel.status.text()
    assert panel.progress.loss.x
    assert not panel.progress.sample.is_empty
    epochs = [x for x, _ in panel.train_run.curves.dice]
    assert epochs == list(range(1, 21))
    from napari_lsnet.model_list import usable_models

    mine = [choice for choice in usable_models() if choice.title.startswith("my-discs")]
    assert [choice.title for choice in mine] == ["my-discs@1", "my-discs@2"]
    assert mine[1].card.training_data.cases == 4


def test_open_layers_are_saved_beside_the_run_and_planned(panel, qtbot, tmp_path):
    frames = [picture(number) for number in range(6)]
    image = panel.viewer.add_image(np.stack([f[0] for f in frames]), name="discs", axis_labels=("t", "y", "x"))
    labels = panel.viewer.add_labels(np.stack([f[1] for f in frames]), name="drawn", axis_labels=("t", "y", "x"))
    before = (image.data.copy(), labels.data.copy())
    panel.data.kind.setCurrentIndex(1)
    assert panel.status.text() == "Choose an image and its labels, then Add."
    panel.data.pairs.image.choose(image)
    panel.data.pairs.labels.choose(labels)
    panel.data.pairs.add_button.click()
    panel.data.pairs.frames.setChecked(True)
    panel.data.check_button.click()
    qtbot.waitUntil(lambda: not panel.data.is_checking, timeout=20_000)
    assert panel.data.summary.text().startswith("6 cases of 6 patients: all can be used.")
    plan(panel, qtbot)
    assert "4 cases to train on, 2 left out (fold 0 of 5)" in panel.plan.words.text(), panel.status.text()
    from src_models.files import read_segmentation, read_volume

    saved = tmp_path / "run" / "data"
    np.testing.assert_array_equal(read_volume(saved / "images" / "discs-t3.tif").array, frames[3][0])
    np.testing.assert_array_equal(read_segmentation(saved / "labels" / "discs-t3.tif").labels, frames[3][1])
    np.testing.assert_array_equal(image.data, before[0])
    np.testing.assert_array_equal(labels.data, before[1])
    panel.viewer.layers.remove(labels)
    assert panel.data.pairs.count == 0
    assert panel.main_button.text() == "Plan"


def test_accepted_slices_of_a_volume_are_learnt_from_and_the_others_are_left_out(panel, qtbot, tmp_path):
    frames = [picture(number) for number in range(9)]
    where = (1, 4, 5, 8)
    marks = np.stack([f[1] if k in where else 0 * f[1] for k, f in enumerate(frames)])
    given = {"scale": (3, 0.5, 0.7), "units": "mm"}
    image = panel.viewer.add_image(np.stack([f[0] for f in frames]), name="scan", **given)
    labels = panel.viewer.add_labels(marks, name="accepted", **given)
    panel.data.kind.setCurrentIndex(1)
    pairs = panel.data.pairs
    pairs.image.choose(image)
    pairs.labels.choose(labels)
    pairs.add_button.click()
    assert pairs.marked.isChecked()
    assert pairs.left_out.text() == "scan: 4 of 9 slices hold labels; the other 5 are left out."
    examples = pairs.examples()
    assert [one.name for one in examples] == ["scan-z1", "scan-z4", "scan-z5", "scan-z8"]
    assert {one.patient for one in examples} == {"scan"}
    for one, k in zip(examples, where, strict=True):
        np.testing.assert_array_equal(one.image, frames[k][0])
        np.testing.assert_array_equal(one.labels, frames[k][1])
        assert one.grid.spacing == pytest.approx((0.5, 0.7))
    key = panel.data.key()
    pairs.marked.setChecked(False)
    assert panel.data.key() != key
    assert [one.labels.shape for one in pairs.examples()] == [(9, 32, 32)]
    assert pairs.left_out.isHidden()
    pairs.marked.setChecked(True)

    choose(panel, network="lsn", lsn_start="seed", lsn_steps=(3, 2), fold="all")
    plan(panel, qtbot)
    assert panel.plan.words.text().startswith("lsn, 2d: patches of 32 x 32, 2 a step"), panel.status.text()
    panel.main_button.click()
    qtbot.waitUntil(lambda: not panel.train_run.is_busy, timeout=WAIT)
    assert "The model is listed as lsn-layers" in panel.status.text(), panel.status.text()
    drift = panel.progress.drift
    assert not drift.isHidden()
    assert len(drift.lines) == 2 * 3 * 4
    assert all([x for x, _ in points] == [1, 2] for points in drift.lines.values())
    assert set(drift.largest()) == {"edge", "rho", "sigma"}
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    logged = max(value for name, value in rows[-1].items() if name.startswith("drift_") and "_rho_" in name)
    assert drift.largest()["rho"] == logged
    from src_models.weights.store import load

    card = load(tmp_path / "run" / "model.safetensors").card
    assert card.network["options"]["steps"] == [3, 2]
    assert card.click is not None
    # a dock that goes on with the folder reads the same lines
    from napari_lsnet.train.run import TrainRun

    again = TrainRun()
    again._read_log(tmp_path / "run")
    assert again.curves.drift == panel.train_run.curves.drift


@pytest.mark.parametrize(("axis", "letter"), [(0, "z"), (1, "y"), (2, "x")])
def test_slices_are_taken_across_the_axis_they_were_drawn_on(axis, letter):
    from src_models.geometry import Grid

    labels = np.zeros((20, 22, 24), np.uint8)
    labels.swapaxes(0, axis)[7, 3:16, 4:17] = 1
    image = np.random.default_rng(0).normal(size=labels.shape)
    (one,) = slices_of(Example("scan", "p", image, labels, Grid(labels.shape, (3.0, 2.0, 1.0))))
    assert one.name == f"scan-{letter}07"
    np.testing.assert_array_equal(one.image, image.take(7, axis))
    assert one.grid.spacing == tuple(h for k, h in enumerate((3.0, 2.0, 1.0)) if k != axis)


def test_a_volume_labelled_as_a_whole_stays_one_case(panel):
    """Empty slices at both ends are background, unless the layer says that slices were accepted into it."""
    labels = np.zeros((9, 20, 20), np.uint8)
    labels[3:6, 5:14, 5:14] = 1
    slices = MarkedSlices.of(labels)
    assert (slices.axis, slices.places, slices.has_gaps) == (0, (3, 4, 5), False)
    given = {"scale": (2, 1, 1), "units": "mm"}
    image = panel.viewer.add_image(np.zeros(labels.shape, np.float32), name="scan", **given)
    whole = panel.viewer.add_labels(labels, name="whole", **given)
    pairs = panel.data.pairs
    pairs.image.choose(image)
    pairs.labels.choose(whole)
    pairs.add()
    assert not pairs.marked.isChecked()
    assert len(pairs.examples()) == 1
    pairs.list.setCurrentRow(0)
    pairs.remove()
    record = {"source": {"region": [4, [0, 20], [0, 20]]}}
    whole.metadata = {"lsnet": {"record": record, "records": {"1": record}}}
    pairs.add()
    assert pairs.marked.isChecked()
    assert len(pairs.examples()) == 3


def test_a_line_of_the_drift_is_named_by_the_kernel_it_belongs_to(qtbot):
    from qtpy.QtCore import QPointF

    plot = DriftPlot()
    qtbot.addWidget(plot)
    plot.resize(300, 160)
    far, near = "drift_level0_rho_step4_1_3", "drift_level2_edge_0"
    plot.show_drift({far: [(1, 0.1), (2, 0.4)], near: [(1, 0.01), (2, 0.02)], "drift_other": [(1, 1.0)]})
    assert [kernel.text for kernel in plot.lines] == ["rho 4, level 1, step 5, class 2", "edge 1, level 3"]
    assert plot.largest() == {"edge": 0.02, "rho": 0.4}
    names = ["e edges 0.02", "ρ gradient 0.4"]
    assert list(plot.legend(len, sum(map(len, names)) + 10).values()) == names
    assert list(plot.legend(len, sum(map(len, names)) + 9).values()) == ["e 0.02", "ρ 0.4"]
    assert plot.nearest(QPointF(293, 38)).family == "rho"
    assert plot.nearest(QPointF(293, 133)).family == "edge"
    assert plot.nearest(QPointF(60, 60)) is None


def test_the_check_names_what_is_wrong(panel, folder, qtbot):
    image, mask = picture(1)
    Image.fromarray(np.zeros((32, 32), np.uint8)).save(folder / "labels" / "p00.png")
    Image.fromarray(mask[:, :30]).save(folder / "labels" / "p01.png")
    Image.fromarray(image).save(folder / "images" / "p02.png")
    Image.fromarray(image).save(folder / "images" / "p03.png")
    Image.fromarray(mask * 7).save(folder / "labels" / "p04.png")
    panel.data.folder.setText(str(folder))
    panel.data.labels.setText("1=disc")
    panel.data.check_button.click()
    qtbot.waitUntil(lambda: not panel.data.is_checking, timeout=20_000)
    table = panel.data.table
    told = {table.item(row, 0).text(): table.item(row, 1).text() for row in range(table.rowCount())}
    assert "The mask is empty." in told["p00"]
    assert "lie on different grids" in told["p01"]
    assert told["p03"] == "The image is that of case p02, of another patient."
    assert "hold 7" in told["p04"]
    assert not told["p05"]
    assert "2 cannot be used, see the rows." in panel.data.summary.text()


def test_what_cannot_be_read_is_one_sentence(panel, folder, qtbot):
    _, mask = picture(0)
    for number in range(6):
        Image.fromarray(mask * 255).save(folder / "labels" / f"p{number:02}.png")
    panel.data.folder.setText(str(folder))
    panel.data.check_button.click()
    qtbot.waitUntil(lambda: not panel.data.is_checking, timeout=20_000)
    assert "masks are often stored as 0 and 255" in panel.status.text()
    plan(panel, qtbot)
    assert "masks are often stored as 0 and 255" in panel.status.text()
    assert panel.main_button.text() == "Plan"
    panel.data.label_map.setText("255:1")
    panel.data.check_button.click()
    qtbot.waitUntil(lambda: not panel.data.is_checking, timeout=20_000)
    assert "all can be used" in panel.data.summary.text()


def test_a_child_that_is_killed_is_told_and_its_folder_can_go_on(panel, tmp_path):
    """What the run makes of an end without a word, as after a kill by the system."""
    run = panel.train_run
    ending = run._ending(-1, "Killed", stopping=False)
    assert ending.state is JobState.FAILED
    assert "most often because the memory was full" in ending.message


def test_every_network_can_be_chosen():
    from typing import get_args

    from napari_lsnet.train.choices import TrainingChoices
    from src_models.networks.zoo import NAMES

    offered = set(get_args(TrainingChoices.model_fields["network"].annotation))
    assert offered - {"auto"} == set(NAMES)
