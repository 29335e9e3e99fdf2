"""A network that begins at a click: where its channel comes from in training, in validation and in prediction."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from src_models.cli import main
from src_models.errors import InputError
from src_models.inference.predict import predict
from src_models.preprocessing.click import Click
from src_models.training.label_targets import click_of
from src_models.training.loop import RunSettings, sampler_of, train
from src_models.training.optimisers import recommended
from src_models.training.outcome import TrainingResult
from src_models.training.prepared import prepare
from src_models.weights import store
from tests.runs import finish
from tests.src_models.training.tiny import discs, tiny_plan, write_pictures

CPU = RunSettings(device="cpu", workers=0)
OPTIONS = {"start": "seed", "steps": [6, 3], "seed_radius": 3.0}


def clicked_plan(data, **changes):
    given = {"patch": (32, 32), "batch": 2, "epochs": 1, "iterations": 2, "augmentation": None} | changes
    return tiny_plan(data, "lsn", options=OPTIONS, **given)


def test_the_channel_is_the_signed_distance_to_the_ball():
    u = Click(3.0, (2.0, 0.5)).channel((9, 11), [(4, 3)])
    assert u[4, 3] == 3
    assert u[6, 3] == pytest.approx(-1)
    assert u[4, 9] == pytest.approx(0)
    assert u.dtype == np.float32


def test_several_clicks_are_the_union_of_their_balls_and_none_is_far_outside():
    click = Click(2.0, (1.0, 1.0))
    one, other = click.channel((9, 30), [(4, 3)]), click.channel((9, 30), [(4, 25)])
    assert np.array_equal(click.channel((9, 30), [(4, 3), (4, 25)]), np.maximum(one, other))
    assert click.channel((9, 30), []).max() < -30


def test_a_volume_is_clicked_slice_by_slice_for_a_2d_network():
    click = Click(2.0, (1.0, 1.0))
    channel = click.placed((4, 9, 9), [(2, 4, 5)])
    assert np.array_equal(channel[2], click.channel((9, 9), [(4, 5)]))
    assert (channel[[0, 1, 3]] < 0).all()


@pytest.mark.parametrize(("z", "slice_there"), [(-0.5, 0), (0.49, 0), (0.5, 1), (1.5, 2), (2.5, 3), (3.0, 3), (3.5, 3)])
def test_every_place_in_the_image_is_a_click_in_one_slice(z, slice_there):
    """Also between two slices, and on the outer faces, which a command line lets through."""
    channel = Click(2.0, (1.0, 1.0)).placed((4, 9, 9), [(z, 4, 5)])
    assert [k for k in range(4) if (channel[k] > 0).any()] == [slice_there]


def test_the_innermost_voxel_is_taken_and_drawn_ones_are_deep():
    inside = np.zeros((20, 30), bool)
    inside[5:16, 4:21] = True
    click = Click(2.0, (1.0, 1.0))
    assert click.point(inside)[0] == 10
    drawn = {click.point(inside, np.random.default_rng(k)) for k in range(40)}
    assert len(drawn) > 20
    assert all(7 <= y <= 13 and 6 <= x <= 18 for y, x in drawn)
    assert click.point(np.zeros((4, 4), bool)) is None


def test_a_structure_that_the_image_cuts_is_not_clicked_at_the_border():
    inside = np.zeros((20, 30), bool)
    inside[:, :10] = True
    assert Click(2.0, (1.0, 1.0)).point(inside)[1] in (4, 5)


def test_depth_is_measured_in_mm():
    """A slab thin in mm along the first axis, thick in voxels."""
    inside = np.zeros((30, 30), bool)
    inside[4:24, 10:18] = True
    assert Click(1.0, (0.2, 1.0)).point(inside)[0] in (13, 14)


def test_samples_hold_the_click_inside_the_structure():
    data = discs(4, (32, 32), patients=2)
    plan = clicked_plan(data)
    chosen = plan.configuration()
    cases = finish(prepare(plan, chosen, data.cases, ())).training
    sampler = sampler_of(plan, chosen, cases, seed=0)
    judged = sampler_of(plan, chosen, cases, seed=0, validation=True)
    places = set()
    for k in range(12):
        sample = sampler.sample(k)
        assert sample.image.shape == (2, 32, 32)
        assert np.array_equal(sample.image, sampler.sample(k).image)
        place = np.unravel_index(sample.image[1].argmax(), (32, 32))
        assert sample.labels[place] == 1
        places.add((sample.case, place))
    assert len(places) > 8
    first = [judged.sample(k) for k in range(12)]
    assert len({(s.case, int(s.image[1].argmax())) for s in first}) == len({s.case for s in first})


def test_several_structures_cannot_have_one_click():
    data = discs(2, labels=("disc", "core"))
    plan = clicked_plan(data)
    with pytest.raises(InputError, match="one structure"):
        click_of(plan, plan.configuration())


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> TrainingResult:
    data = discs(10, (30, 33), patients=5)
    out = tmp_path_factory.mktemp("clicked") / "run"
    plan = clicked_plan(data, epochs=2, iterations=15, batch=4)
    plan = plan.model_copy(update={"optimiser": recommended("adam").model_copy(update={"rate": 0.02})})
    result = finish(train(plan, data, out, settings=CPU))
    return replace(result, notes=(str(out),))


def test_a_training_from_clicks_learns_and_logs_the_drift_of_every_kernel(trained):
    assert trained.dice["disc"] > 0.9
    rows = [json.loads(line) for line in (Path(trained.notes[0]) / "log.jsonl").read_text().splitlines()]
    drifts = [name for name in rows[-1] if name.startswith("drift_")]
    assert len(drifts) == 2 * 3 * 4
    assert any(rows[-1][name] != rows[0][name] for name in drifts)
    assert all(np.isfinite(rows[-1][name]) for name in drifts)
    assert {"balloon_level0", "curvature_level1", "convection_level1"} <= set(rows[0])


def test_the_model_says_that_it_takes_a_click_and_predicts_what_was_validated(trained):
    model = store.load(trained.weights)
    assert model.card.click == Click(3.0, (1.0, 1.0))
    assert model.card.network["in_channels"] == 1 + len(model.card.preprocessing.channels)
    data = discs(10, (30, 33), patients=5)
    for score in trained.cases:
        volume, segmentation = data.case(score.case).read()
        points = model.card.click.places(segmentation.labels == 1, (1.0, 1.0))
        found = finish(predict(model, volume.array[0], (1.0, 1.0), unit="px", points=points))
        assert found.record.inputs["points"] == [list(point) for point in points]
        assert int((found.labels > 0).sum()) == score.predicted["disc"]


def test_a_click_is_asked_for_and_refused_where_there_is_no_use_for_it(trained):
    model = store.load(trained.weights)
    image = np.random.default_rng(0).normal(size=(30, 33))
    for points, words in (((), "begins at a click"), (((99, 0),), "outside"), (((3,),), "coordinates")):
        with pytest.raises(InputError, match=words):
            finish(predict(model, image, (1.0, 1.0), points=points))


def test_a_volume_is_found_in_the_clicked_slice_alone(trained):
    model = store.load(trained.weights)
    data = discs(10, (30, 33), patients=5)
    image = np.stack([case.volume().array[0] for case in data.cases[:3]])
    inside = data.cases[1].segmentation().labels == 1
    ((y, x),) = model.card.click.places(inside, (1.0, 1.0))
    found = finish(predict(model, image, (5.0, 1.0, 1.0), points=[(5.0, y, x)]))
    assert found.labels[1].any()
    assert not found.labels[[0, 2]].any()
    assert any("1 of 3 slices holds one" in note for note in found.notes)
    everywhere = finish(predict(model, image, (5.0, 1.0, 1.0), points=[(z, y, x) for z in (0.0, 5.0, 12.5)]))
    assert not any("slice by slice" in note for note in everywhere.notes)


def test_the_command_takes_the_click_and_replays_it(trained, tmp_path, capsys):
    folder = write_pictures(tmp_path / "data", discs(1, (30, 33)))
    words = ["predict", str(folder / "images" / "case00.png"), "--weights", str(trained.weights), "--out"]
    assert main([*words, str(tmp_path / "none")]) == 2
    assert "--point" in capsys.readouterr().err
    assert main([*words, str(tmp_path / "out"), "--point", "14,16:3"]) == 2
    capsys.readouterr()
    for text, says in (
        ("14", "2 coordinates in px"),
        ("nan,16", "2 coordinates in px"),
        ("14,99", "coordinate 2 runs from 0 to 32 px"),
    ):
        assert main([*words, str(tmp_path / "out"), "--point", text]) == 2
        told = capsys.readouterr().err
        assert f"--point {text} " in told
        assert says in told
        # what it proposes is a click, without the radius that a click cannot have
        assert ":" not in told.split("--point", 1)[1].replace("image:", "").replace("read:", "").replace("this:", "")
    assert main([*words, str(tmp_path / "out"), "--point", "14,16"]) == 0
    record = next((tmp_path / "out").glob("*.json"))
    assert json.loads(record.read_text())["inputs"]["points"] == [[14.0, 16.0]]
    capsys.readouterr()
    assert main(["replay", str(record)]) == 0
    assert "bit for bit" in capsys.readouterr().out


def test_the_start_of_a_plan_may_be_changed_to_a_click(tmp_path, capsys):
    folder = write_pictures(tmp_path / "data", discs(6, (22, 24)))
    words = ["train", str(folder), "--net", "lsn", "--device", "cpu", "--patch", "16,16", "--batch", "2"]
    words += ["--epochs", "1", "--iters", "1", "--set", "network.steps=[1,1]", "--set", "network.start=seed"]
    assert main([*words, "--out", str(tmp_path / "run")]) == 0
    assert store.load(tmp_path / "run").card.click is not None
