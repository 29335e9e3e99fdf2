"""The loop: what it reports and leaves behind, what may not go wrong, and every network of the zoo for two steps."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from src_models.errors import DeviceError, FileError, InputError, SaveError
from src_models.networks.zoo import NAMES
from src_models.training.cases import case_from_arrays, data_set_from_arrays
from src_models.training.checkpoint import load_checkpoint
from src_models.training.loop import RunSettings, TrainingProgress, fold_of, train
from src_models.training.mirroring import mirror_axes
from src_models.training.plan import Augmentation, Optimiser
from src_models.training.validation import CaseScore, by_patient, mean_dice
from src_models.weights import store
from src_models.weights.card import Label
from tests.runs import finish, states
from tests.src_models.training.tiny import discs, tiny_plan

CPU = RunSettings(device="cpu", workers=0)


def weights_of(path):
    return load_checkpoint(path).network


def test_a_training_reports_and_leaves_a_model(tmp_path):
    data = discs(10, patients=5)
    plan = tiny_plan(data)
    seen, result = states(train(plan, data, tmp_path / "run", settings=CPU))
    training = [p for p in seen if isinstance(p, TrainingProgress)]
    assert [p.step for p in training if p.phase == "train" and p.row is None] == [1, 2, 3, 4]
    fractions = [p.fraction for p in training]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1
    rows = [p for p in training if p.row is not None]
    assert [p.row["epoch"] for p in rows] == [1, 2]
    for p in rows:
        assert {"loss", "dice", "rate"} <= set(p.values)
        assert p.sample.image.shape == p.sample.reference.shape == p.sample.prediction.shape == (16, 16)
        assert set(np.unique(p.sample.reference)) <= {0, 1}
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert lines == [p.row for p in rows]
    with (tmp_path / "run" / "log.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [float(row["loss"]) for row in table] == [row["loss"] for row in lines]
    assert {score.case for score in result.cases} == set(plan.folds[0]["val"])
    assert len(result.patients) == 1
    model = store.load(result.weights)
    assert model.card == result.card
    assert model.card.training_data.patients == 4
    assert model.card.labels == data.labels
    assert model.card.metrics[0]["dice_disc"] == pytest.approx(result.dice["disc"], abs=1e-6)


def test_it_learns(tmp_path):
    """Bright discs on dark ground: some 40 steps suffice."""
    data = discs(10, (32, 32), patients=5)
    adam = Optimiser(name="adam", rate=0.01, weight_decay=0)
    plan = tiny_plan(data, patch=(32, 32), batch=4, epochs=4, iterations=12, augmentation=None, optimiser=adam)
    result = finish(train(plan, data, tmp_path / "run", settings=CPU))
    assert result.dice["disc"] > 0.9


def test_the_fold_all_knows_nothing_about_unseen_data(tmp_path):
    data = discs(2)
    result = finish(train(tiny_plan(data), data, tmp_path / "run", fold="all", settings=CPU))
    assert result.cases == ()
    assert "No unseen data" in result.notes[0]
    assert "No unseen data" in result.card.metrics_note


def test_equal_seeds_give_equal_weights_and_others_do_not(tmp_path):
    data = discs(3)
    plan = tiny_plan(data)
    hashes = [
        finish(train(plan, data, tmp_path / str(k), fold="all", seed=seed, settings=settings)).card.sha256
        for k, (seed, settings) in enumerate([(0, CPU), (0, RunSettings(device="cpu", workers=3)), (1, CPU)])
    ]
    assert hashes[0] == hashes[1]
    assert hashes[0] != hashes[2]


def test_the_callers_random_numbers_stay_as_they_were(tmp_path):
    data = discs(2)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    finish(train(tiny_plan(data), data, tmp_path / "run", fold="all", settings=CPU))
    torch.testing.assert_close(torch.rand(3), expected, rtol=0, atol=0)


def test_dropout_is_of_the_seed_and_not_of_the_caller(tmp_path):
    data = discs(2)
    plan = tiny_plan(data, options={"depth": 1, "base_width": 4, "dropout": 0.5})
    hashes = set()
    for caller in (1, 2):
        torch.manual_seed(caller)
        hashes.add(finish(train(plan, data, tmp_path / str(caller), fold="all", settings=CPU)).card.sha256)
    assert len(hashes) == 1


def test_stopping_leaves_a_checkpoint_and_a_model_and_going_on_is_exact(tmp_path):
    data = discs(3)
    plan = tiny_plan(data)
    whole = finish(train(plan, data, tmp_path / "whole", fold="all", settings=CPU))
    work = train(plan, data, tmp_path / "run", fold="all", settings=CPU)
    while True:
        progress = next(work)
        if isinstance(progress, TrainingProgress) and progress.step == 3:
            break
    work.close()
    assert "stopped after 1" in store.load(tmp_path / "run" / "model.safetensors").card.budget
    assert load_checkpoint(tmp_path / "run" / "checkpoint.safetensors").state["position"]["step"] == 3
    resumed = RunSettings(device="cpu", workers=0, resume=True)
    seen, result = states(train(plan, data, tmp_path / "run", fold="all", settings=resumed))
    assert next(p.step for p in seen if isinstance(p, TrainingProgress)) == 4
    assert result.card.sha256 == whole.card.sha256
    lines = [
        [json.loads(text) for text in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        for name in ("run", "whole")
    ]
    for rows in lines:
        for row in rows:
            row.pop("seconds")
    assert lines[0] == lines[1]


def test_two_runs_in_one_folder_are_refused(tmp_path):
    data = discs(2)
    plan = tiny_plan(data)
    first = train(plan, data, tmp_path / "run", fold="all", settings=CPU)
    next(first)
    resumed = RunSettings(device="cpu", workers=0, resume=True)
    for settings in (CPU, resumed):
        with pytest.raises(SaveError, match="Another training is running"):
            next(train(plan, data, tmp_path / "run", fold="all", settings=settings))
    finish(first)
    with pytest.raises(SaveError, match="holds a training already"):
        next(train(plan, data, tmp_path / "run", fold="all", settings=CPU))


@pytest.mark.parametrize("what", ["plan", "seed", "fold or cases"])
def test_another_training_cannot_go_on_here(tmp_path, what):
    data = discs(3)
    plan = tiny_plan(data, epochs=1, iterations=1)
    finish(train(plan, data, tmp_path / "run", fold="all", settings=CPU))
    resumed = RunSettings(device="cpu", workers=0, resume=True)
    other = {
        "plan": lambda: train(
            plan.model_copy(update={"foreground": 0.5}), data, tmp_path / "run", fold="all", settings=resumed
        ),
        "seed": lambda: train(plan, data, tmp_path / "run", fold="all", seed=1, settings=resumed),
        "fold or cases": lambda: train(plan, data.cases[:2], tmp_path / "run", fold="all", settings=resumed),
    }
    with pytest.raises(FileError, match=f"another {what}"):
        finish(other[what]())


def test_a_diverging_training_stops_with_its_step(tmp_path):
    data = discs(2)
    wild = Optimiser(name="sgd", rate=1e30, momentum=0, schedule="constant", clip=None)
    plan = tiny_plan(data, options={"depth": 2, "base_width": 4, "norm": "none"}, optimiser=wild, epochs=9)
    with pytest.raises(InputError, match=r"loss of step \d+ is not a number"):
        finish(train(plan, data, tmp_path / "run", fold="all", settings=CPU))


def test_the_best_epoch_is_kept(tmp_path):
    """The running mean of the Dice decides, not the last epoch."""
    data = discs(10, patients=5)
    plan = tiny_plan(data, epochs=5, iterations=2, ema=0.0, optimiser=Optimiser(name="adam", rate=0.03))
    seen, result = states(train(plan, data, tmp_path / "run", settings=CPU))
    dices = [p.row["dice"] for p in seen if isinstance(p, TrainingProgress) and p.row is not None]
    best = load_checkpoint(tmp_path / "run" / "checkpoint-best.safetensors")
    assert best.state["position"]["history"][-1]["dice"] == max(dices)
    model = store.load(result.weights).network.state_dict()
    assert all(torch.equal(model[name], value) for name, value in best.network.items())


def test_beginning_with_a_model(tmp_path):
    data, other = discs(2), discs(2, labels=("disc", "core"))
    first = finish(train(tiny_plan(data), data, tmp_path / "a", fold="all", settings=CPU))
    plan = tiny_plan(other, optimiser=Optimiser(rate=1e-12, momentum=0, weight_decay=0), epochs=1, iterations=1)
    begun = RunSettings(device="cpu", workers=0, init_from=first.weights)
    told, second = states(train(plan, other, tmp_path / "b", fold="all", settings=begun))
    old, new = (store.load(r.weights).network.state_dict() for r in (first, second))
    same = [name for name in new if new[name].shape == old[name].shape]
    assert len(same) < len(new)
    (note,) = (note for progress in told for note in progress.notes)
    assert note.startswith(
        f"It begins with {len(same)} of {len(new)} tensors of weights of model.safetensors; these begin"
    )
    for name in same:
        torch.testing.assert_close(new[name], old[name], rtol=0, atol=1e-6)


def test_names_that_are_not_there(tmp_path):
    data = discs(10, patients=5)
    plan = tiny_plan(data)
    with pytest.raises(InputError, match="no fold 7"):
        next(train(plan, data, tmp_path / "run", fold=7, settings=CPU))
    with pytest.raises(InputError, match="not in the data"):
        next(train(plan, data.cases[:4], tmp_path / "run", settings=CPU))
    with pytest.raises(InputError, match="configuration"):
        next(train(plan, data, tmp_path / "run", configuration="3d_lowres", settings=CPU))
    with pytest.raises((InputError, DeviceError), match="device"):
        next(train(plan, data, tmp_path / "run", settings=RunSettings(device="tpu")))
    assert not (tmp_path / "run").exists()
    assert fold_of(plan, "all", [case.id for case in data.cases])[1] == ()


def test_cases_on_the_disk_train_as_those_in_memory(tmp_path, monkeypatch):
    data = discs(3)
    plan = tiny_plan(data)
    held = finish(train(plan, data, tmp_path / "a", fold="all", settings=CPU))
    monkeypatch.setattr("src_models.training.prepared.SHARE_OF_MEMORY", 0.0)
    kept = RunSettings(device="cpu", workers=0, cache=tmp_path / "cache")
    mapped = finish(train(plan, data, tmp_path / "b", fold="all", settings=kept))
    assert mapped.card.sha256 == held.card.sha256
    assert len(list((tmp_path / "cache").iterdir())) == 6
    finish(train(plan, data, tmp_path / "c", fold="all", settings=kept))
    assert len(list((tmp_path / "cache").iterdir())) == 6


def bad_data(what: str):
    shape = (20, 20)
    cases = []
    for k in range(3):
        label = np.zeros(shape, np.uint8)
        label[5:9, 5:9] = 1
        image = np.random.default_rng(k).normal(size=shape).astype(np.float32)
        if what == "constant" and k == 1:
            image[:] = 4
        if what == "undeclared" and k == 1:
            label[0, 0] = 9
        if what == "nan" and k == 1:
            image[3, 3] = np.nan
        if what == "empty" or (what == "one empty" and k == 1):
            label[:] = 0
        cases.append(case_from_arrays(f"c{k}", image, label))
    return data_set_from_arrays("bad", cases, {1: "disc"})


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("constant", "case c1 has one value everywhere"),
        ("undeclared", r"case c1 hold 9.*--map 9:1"),
        ("nan", "1 voxel without a finite value"),
        ("empty", "No case to train on has a marked voxel"),
    ],
)
def test_bad_cases_are_told_in_one_sentence(tmp_path, what, said):
    data = bad_data(what)
    with pytest.raises(InputError, match=said):
        finish(train(tiny_plan(data), data, tmp_path / "run", fold="all", settings=CPU))


def test_an_empty_case_is_kept_and_said(tmp_path):
    data = bad_data("one empty")
    seen, _ = states(train(tiny_plan(data), data, tmp_path / "run", fold="all", settings=CPU))
    assert [note for p in seen for note in p.notes] == ["1 of 3 cases to train on have no marked voxel: c1."]


def test_half_precision_trains_and_keeps_full_weights(tmp_path):
    data = discs(2)
    settings = RunSettings(device="cpu", precision="bf16", workers=0)
    result = finish(train(tiny_plan(data), data, tmp_path / "run", fold="all", settings=settings))
    kept = weights_of(tmp_path / "run" / "checkpoint.safetensors").values()
    assert {value.dtype for value in kept} == {torch.float32}
    assert result.weights.exists()
    with pytest.raises(InputError, match="fp16 does not train on the processor"):
        next(train(tiny_plan(data), data, tmp_path / "x", fold="all", settings=replace(settings, precision="fp16")))


def test_scores_of_patients_pool_their_slices():
    one = {"disc": 10}
    scores = [
        CaseScore("a1", "a", one, {"disc": 10}, {"disc": 30}),
        CaseScore("a2", "a", {"disc": 0}, {"disc": 0}, one),
    ]
    (patient,) = by_patient(scores)
    assert patient.dice == {"disc": pytest.approx(20 / 50)}
    none = {"disc": 0}
    empty = CaseScore("b", "b", none, none, none)
    assert mean_dice([patient, empty]) == {"disc": pytest.approx((0.4 + 1) / 2)}


def test_left_and_right_are_not_mirrored():
    data = discs(2, (20, 22, 24))
    plan = tiny_plan(data, augmentation=Augmentation())
    sided = plan.model_copy(
        update={
            "labels": (
                Label(name="background", value=0, channel=0),
                Label(name="kidney_left", value=1, channel=1),
                Label(name="kidney_right", value=2, channel=2),
            )
        }
    )
    chosen = plan.configuration()
    assert mirror_axes(plan, chosen) == (0, 1, 2)
    assert mirror_axes(sided, chosen) == (0, 1)
    for one, other in (("LeftKidney", "RightKidney"), ("lungL", "lungR")):
        names = [label.model_copy(update={"name": n}) for label, n in zip(sided.labels[1:], (one, other), strict=True)]
        joined = sided.model_copy(update={"labels": (sided.labels[0], *names)})
        assert mirror_axes(joined, chosen) == (0, 1)
    # the network's axes may come in another order: its first is then the image's last
    turned = chosen.model_copy(
        update={"preprocessing": chosen.preprocessing.model_copy(update={"axis_order": (2, 0, 1)})}
    )
    assert mirror_axes(sided, turned) == (1, 2)
    # slices of a volume, along its first axis or along its last
    for order, axes in (((0, 1, 2), (0,)), ((2, 0, 1), (0, 1)), ((1, 0, 2), (0,))):
        preprocessing = chosen.preprocessing.model_copy(update={"axis_order": order})
        flat = chosen.model_copy(update={"patch": (16, 16), "preprocessing": preprocessing})
        assert mirror_axes(sided, flat) == axes
    asked = sided.model_copy(update={"augmentation": Augmentation(mirror_axes=(0, 1, 2))})
    assert mirror_axes(asked, chosen) == (0, 1, 2)
    only_left = plan.model_copy(update={"labels": (*plan.labels[:1], Label(name="left atrium", value=1, channel=1))})
    assert mirror_axes(only_left, chosen) == (0, 1, 2)


TINY = {
    "unet": {"depth": 2, "base_width": 4, "deep_supervision": True},
    "nnunet": {"n_stages": 3, "features_per_stage": (4, 8, 8), "deep_supervision": True},
    "nnunet-residual": {"n_stages": 3, "features_per_stage": (4, 8, 8), "deep_supervision": True},
    "vnet": {"width": 2},
    "attention-unet": {"levels": 3, "base_width": 4, "deep_supervision": True},
    "segnet": {"width": 2},
    "deconvnet": {"width": 2, "fc_width": 4},
    "fcn32s": {"width": 2, "fc_width": 4},
    "fcn16s": {"width": 2, "fc_width": 4},
    "fcn8s": {"width": 2, "fc_width": 4},
    "unet-paper": None,
    "lsn": {"steps": [2, 1], "stem_width": 2, "stem_layers": 2},
}


@pytest.mark.parametrize("net", list(NAMES))
def test_every_network_takes_two_steps(tmp_path, net):
    data = discs(2, (20, 20))
    plan = tiny_plan(data, net, options=TINY[net], epochs=1, deep_supervision=True, augmentation=None)
    seen, _ = states(train(plan, data, tmp_path / "run", fold="all", settings=CPU))
    losses = [p.values["step_loss"] for p in seen if isinstance(p, TrainingProgress) and "step_loss" in p.values]
    assert len(losses) == 2
    assert np.isfinite(losses).all()


def test_what_a_network_remarks_of_itself_is_a_note(tmp_path):
    data = discs(2, (20, 20))
    options = TINY["lsn"] | {"balloon": 0.0, "curvature": 0.0, "convection": 0.0, "learned": ()}
    plan = tiny_plan(data, "lsn", options=options, epochs=1, deep_supervision=False, augmentation=None)
    still = finish(train(plan, data, tmp_path / "still", fold="all", settings=CPU))
    assert any(note.startswith("No step moves the level set") for note in still.notes)
    plan = tiny_plan(data, "lsn", options=TINY["lsn"], epochs=1, deep_supervision=False, augmentation=None)
    moving = finish(train(plan, data, tmp_path / "moving", fold="all", settings=CPU))
    assert not any(note.startswith("No step moves the level set") for note in moving.notes)


def test_a_refused_resume_leaves_everything_as_it_was(tmp_path):
    data = discs(2)
    plan = tiny_plan(data, epochs=1, iterations=1)
    finish(train(plan, data, tmp_path / "run", fold="all", settings=CPU))
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    resumed = replace(CPU, resume=True)
    with pytest.raises(FileError):
        finish(train(plan.model_copy(update={"epochs": 7}), data, tmp_path / "run", fold="all", settings=resumed))
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before


def test_stopping_the_last_validation_leaves_a_model(tmp_path):
    data = discs(10, patients=5)
    plan = tiny_plan(data)
    work = train(plan, data, tmp_path / "run", settings=CPU)
    while next(work).message[:10] != "Whole case":
        pass
    work.close()
    stopped = store.load(tmp_path / "run" / "model.safetensors").card
    assert stopped.metrics == ()
    result = finish(train(plan, data, tmp_path / "run", settings=replace(CPU, resume=True)))
    assert result.card.sha256 == stopped.sha256
    assert len(result.cases) == 2


def test_a_cascade_without_its_first_stage_is_refused_in_one_sentence(tmp_path):
    data = discs(2)
    plan = tiny_plan(data)
    later = plan.configuration().model_copy(update={"name": "3d_cascade_fullres", "previous": "3d_lowres"})
    plan = plan.model_copy(update={"configurations": (later,)})
    with pytest.raises(InputError, match="needs the results of 3d_lowres"):
        next(train(plan, data, tmp_path / "run", fold="all", settings=CPU))
