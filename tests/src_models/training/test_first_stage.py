"""Training a cascade: no case's channel comes from a network that saw it, and nothing begins without a first stage."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from src_models.errors import FileError, InputError
from src_models.inference.parameters import PredictionParameters
from src_models.inference.predict import predict
from src_models.preprocessing.prepare import prepare as prepare_image
from src_models.preprocessing.prepare import prepare_labels
from src_models.training.crossval import crossval
from src_models.training.first_stage import LABELS, open_first_stage
from src_models.training.loop import RunSettings, TrainingProgress, fold_of, train
from src_models.training.prepared import prepare
from src_models.weights import store
from tests.runs import finish, states
from tests.src_models.training.cascades import LOW, SECOND, balls, cascade_plan

CPU = RunSettings(device="cpu", workers=0)
DATA = balls(5, ("one", "two", "three", "four", "five"))
PLAN = cascade_plan(DATA)


@pytest.fixture(scope="module")
def low(tmp_path_factory) -> Path:
    """The cross-validation of the first stage."""
    out = tmp_path_factory.mktemp("cascade") / LOW
    finish(crossval(PLAN, DATA, out, configuration=LOW, settings=CPU))
    return out


def marked_by_fold(low: Path, out: Path) -> Path:
    """A copy whose fold N finds the label N + 1 everywhere."""
    shutil.copytree(low, out)
    for fold in range(5):
        model = store.load(out / f"fold_{fold}")
        with torch.no_grad():
            parameters = list(model.network.parameters())
            for one in parameters:
                one.zero_()
            parameters[-1][fold + 1] = 1
        store.save(model.network, model.card, out / f"fold_{fold}" / "model.safetensors", overwrite=True)
    return out


def prepared(low: Path, fold: int | str = 0):
    chosen = PLAN.configuration(SECOND)
    stage = open_first_stage(PLAN, chosen, low, DATA.groups, "cpu")
    sides = fold_of(PLAN, fold, DATA.groups)
    cases = [[DATA.case(name) for name in side] for side in sides]
    return finish(prepare(PLAN, chosen, *cases, first_stage=stage))


@pytest.mark.parametrize("fold", [0, 3, "all"])
def test_no_channel_comes_from_a_network_that_saw_its_case(low, tmp_path, fold):
    """Each fold signs what it predicts with a label of its own."""
    found = prepared(marked_by_fold(low, tmp_path / "marked"), fold)
    cases = [*found.training, *found.validation]
    assert sorted(case.id for case in cases) == sorted(case.id for case in DATA.cases)
    for case in cases:
        (signature,) = np.unique(case.stage.labels)
        number = int(signature) - 1
        assert case.id in PLAN.folds[number]["val"]
        assert case.id not in PLAN.folds[number]["train"]


def test_a_channel_is_the_resampled_one_hot_of_what_that_fold_predicts(low):
    chosen = PLAN.configuration(SECOND)
    for case in prepared(low).training:
        (fold,) = [k for k, sides in enumerate(PLAN.folds) if case.id in sides["val"]]
        volume = DATA.case(case.id).volume()
        settings = PredictionParameters(device="cpu", precision="fp32", post="none")
        labels = finish(predict(store.load(low / f"fold_{fold}"), volume.array, volume.grid.spacing, settings)).labels
        image = prepare_image(volume.array, volume.grid.spacing, chosen.preprocessing)
        expected = prepare_labels(labels, image, chosen.preprocessing)
        np.testing.assert_array_equal(case.stage.labels, expected)
        assert case.network_input.shape == (6, *expected.shape)
        for value, channel in zip((1, 2, 3, 4, 5), case.network_input[1:], strict=True):
            np.testing.assert_array_equal(channel > 0, expected == value)


def test_what_was_predicted_is_kept_and_not_taken_for_that_of_another_network(low, tmp_path):
    first = prepared(low).training[0]
    kept = sorted((low / LABELS).iterdir())
    assert len(kept) == 5
    times = [path.stat().st_mtime_ns for path in kept]
    again = prepared(low).training[0]
    assert [path.stat().st_mtime_ns for path in kept] == times
    np.testing.assert_array_equal(first.stage.labels, again.stage.labels)
    other = marked_by_fold(low, tmp_path / "marked")
    assert not np.array_equal(prepared(other).training[0].stage.labels, first.stage.labels)
    assert len(list((other / LABELS).iterdir())) == 10
    kept[0].write_bytes(kept[0].read_bytes()[:50])
    np.testing.assert_array_equal(prepared(low).training[0].stage.labels, first.stage.labels)


def test_a_case_on_the_disk_has_its_first_stage_there(low, tmp_path, monkeypatch):
    from src_models.training import prepared as room

    whole = prepared(low)
    monkeypatch.setattr(room, "SHARE_OF_MEMORY", 0.0)
    chosen = PLAN.configuration(SECOND)
    stage = open_first_stage(PLAN, chosen, low, DATA.groups, "cpu")
    cases = [DATA.case(name) for name in PLAN.folds[0]["train"]]
    mapped = finish(prepare(PLAN, chosen, cases, [], tmp_path / "cache", stage))
    for one, other in zip(mapped.training, whole.training, strict=True):
        assert isinstance(one.stage.labels, np.memmap)
        np.testing.assert_array_equal(one.network_input, other.network_input)


def test_the_card_names_the_first_stage_and_the_left_out_case_was_judged_by_what_has_not_seen_it(low, tmp_path):
    settings = replace(CPU, first_stage=low)
    result = finish(train(PLAN, DATA, tmp_path / "run", configuration=SECOND, fold=2, settings=settings))
    hashes = [store.load(low / f"fold_{fold}").card.sha256 for fold in range(5)]
    assert [stage.sha256 for stage in result.card.first_stage] == hashes
    model = store.load(tmp_path / "run")
    assert [stage.card.sha256 for stage in model.first_stage] == hashes
    (score,) = result.cases
    only = model.card.model_copy(update={"first_stage": model.card.first_stage[2:3]})
    alone = replace(model, card=only, first_stage=model.first_stage[2:3])
    volume, truth = DATA.case(score.case).read()
    work = predict(alone, volume.array, volume.grid.spacing, PredictionParameters(device="cpu", post="none"))
    labels = finish(work).labels
    for label in PLAN.labels[1:]:
        assert score.predicted[label.name] == int((labels == label.value).sum())
        assert score.right[label.name] == int(((labels == label.value) & (truth.labels == label.value)).sum())


def test_cross_validation_trains_the_first_stage_first_and_keeps_it(tmp_path):
    data = balls(5)
    plan = cascade_plan(data)
    seen, result = states(crossval(plan, data, tmp_path, configuration=SECOND, folds=(1,), settings=CPU))
    assert any("3d_cascade_fullres builds on 3d_lowres" in note for step in seen for note in step.notes)
    assert sorted(path.name for path in (tmp_path / LOW).glob("fold_*")) == [f"fold_{k}" for k in range(5)]
    assert set(result.folds) == {1}
    assert store.load(tmp_path / "fold_1").card.name.endswith(SECOND)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / LOW).rglob("model.safetensors")}
    seen, _ = states(crossval(plan, data, tmp_path, configuration=SECOND, folds=(1, 2), settings=CPU))
    assert {step.message[:7] for step in seen if isinstance(step, TrainingProgress)} == {"Fold 2:"}
    assert {path: path.stat().st_mtime_ns for path in before} == before
    other = shutil.copytree(tmp_path / LOW, tmp_path / "other")
    model = store.load(other / "fold_0")
    with torch.no_grad():
        next(model.network.parameters()).zero_()
    store.save(model.network, model.card, other / "fold_0" / "model.safetensors", overwrite=True)
    with pytest.raises(FileError, match="another first stage"):
        finish(
            crossval(plan, data, tmp_path, configuration=SECOND, folds=(1,), settings=replace(CPU, first_stage=other))
        )


def test_a_finished_fold_of_full_resolution_is_not_taken_for_one_of_the_cascade(low, tmp_path):
    finish(crossval(PLAN, DATA, tmp_path, configuration="3d_fullres", folds=(0,), settings=CPU))
    settings = replace(CPU, first_stage=low)
    with pytest.raises(FileError, match="another configuration"):
        finish(crossval(PLAN, DATA, tmp_path, configuration=SECOND, folds=(0,), settings=settings))


def test_a_training_does_not_go_on_with_another_first_stage(low, tmp_path):
    settings = replace(CPU, first_stage=low)
    work = train(PLAN, DATA, tmp_path / "run", configuration=SECOND, settings=settings)
    while not isinstance(next(work), TrainingProgress):
        pass
    work.close()
    other = replace(CPU, first_stage=marked_by_fold(low, tmp_path / "marked"), resume=True)
    with pytest.raises(FileError, match="another fold, cases or first stage"):
        finish(train(PLAN, DATA, tmp_path / "run", configuration=SECOND, settings=other))
    result = finish(train(PLAN, DATA, tmp_path / "run", configuration=SECOND, settings=replace(settings, resume=True)))
    whole = finish(train(PLAN, DATA, tmp_path / "whole", configuration=SECOND, settings=settings))
    assert result.card.sha256 == whole.card.sha256


def remove(folder: Path) -> None:
    shutil.rmtree(folder / "fold_3")


def unfinished(folder: Path) -> None:
    (folder / "fold_3" / "validation.csv").unlink()


def other_plan(folder: Path) -> None:
    """A plan of other folds beside the model: what the model has seen is not known."""
    file = folder / "fold_3" / "plan.json"
    content = json.loads(file.read_text())
    content["folds"] = content["folds"][::-1]
    file.write_text(json.dumps(content))


def other_configuration(folder: Path) -> None:
    file = folder / "fold_3" / "model.json"
    content = json.loads(file.read_text())
    content["patch"] = [16, 16, 16]
    file.write_text(json.dumps(content))


def other_fold(folder: Path) -> None:
    shutil.rmtree(folder / "fold_3")
    shutil.copytree(folder / "fold_2", folder / "fold_3")


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (shutil.rmtree, "there is no folder"),
        (remove, "fold_3 in .* is not there or not finished"),
        (unfinished, "fold_3 in .* is not there or not finished"),
        (other_plan, "do not belong together"),
        (other_fold, "do not belong together"),
        (other_configuration, "another configuration"),
    ],
)
def test_without_a_whole_first_stage_nothing_begins(low, tmp_path, damage, told):
    folder = shutil.copytree(low, tmp_path / LOW)
    damage(folder)
    settings = replace(CPU, first_stage=folder)
    with pytest.raises(
        InputError, match=f"3d_cascade_fullres needs the results of 3d_lowres as input: .*{told}"
    ) as said:
        next(train(PLAN, DATA, tmp_path / "run", configuration=SECOND, settings=settings))
    assert "\n" not in str(said.value)
    assert "lsnet crossval --config 3d_lowres" in str(said.value)
    assert not (tmp_path / "run").exists()


def test_a_case_that_no_fold_left_out_is_named(low, tmp_path):
    more = balls(6, ("one", "two", "three", "four", "five"))
    settings = replace(CPU, first_stage=low)
    with pytest.raises(InputError, match="left out the case case05"):
        next(train(PLAN, more, tmp_path / "run", configuration=SECOND, fold="all", settings=settings))


def test_a_network_of_too_few_channels_is_refused(low, tmp_path):
    chosen = PLAN.configuration(SECOND)
    wrong = chosen.model_copy(update={"network": chosen.network | {"in_channels": 2}})
    plan = PLAN.model_copy(update={"configurations": (*PLAN.configurations[:2], wrong)})
    settings = replace(CPU, first_stage=low)
    with pytest.raises(InputError, match="takes 2 channels: the image and the labels of 3d_lowres make 6"):
        next(train(plan, DATA, tmp_path / "run", configuration=SECOND, settings=settings))
