"""``lsnet train`` and ``lsnet crossval`` as a user meets them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from src_models.cli import main
from src_models.weights import store
from tests.src_models.training.tiny import discs, write_pictures

TINY = ["--net", "unet", "--device", "cpu", "--patch", "16,16", "--batch", "2", "--epochs", "2", "--iters", "2"]
SMALL = ["--set", "network.depth=1", "--set", "network.base_width=2"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("data"), discs(6, (22, 24)))


def events(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def test_train_writes_a_model_and_says_how_good_it_is(folder, tmp_path, capsys):
    out = tmp_path / "run"
    assert main(["train", str(folder), "--out", str(out), *TINY, *SMALL, "--labels", "1=disc", "--modality", "CT"]) == 0
    said = capsys.readouterr().out
    assert "epoch 1 of 2" in said
    assert "epoch 2 of 2" in said
    assert "Mean Dice of 2 unseen patients: disc 0." in said
    card = store.load(out).card
    assert card.network["options"]["base_width"] == 2
    assert card.labels[1].name == "disc"
    assert card.modality == "CT"


def test_a_training_too_large_for_the_memory_is_refused_before_it_begins(folder, tmp_path, capsys):
    words = ["train", str(folder), "--out", str(tmp_path / "run"), *TINY, "--patch", "16384,16384", "--batch", "64"]
    assert main(words) == 3
    assert "This training needs about" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_json_lines(folder, tmp_path, capsys):
    assert main(["train", str(folder), "--out", str(tmp_path / "run"), *TINY, *SMALL, "--json"]) == 0
    told = events(capsys.readouterr().out)
    epochs = [event for event in told if event["event"] == "epoch"]
    assert [event["epoch"] for event in epochs] == [1, 2]
    assert {"loss", "dice", "rate", "fraction", "message"} <= set(epochs[0])
    assert told[-1]["event"] == "result"
    assert Path(told[-1]["weights"]).exists()
    assert len(told[-1]["cases"]) == 2


def test_plan_only_then_train_the_edited_plan(folder, tmp_path, capsys):
    out = tmp_path / "plan"
    assert main(["train", str(folder), "--out", str(out), *TINY, *SMALL, "--plan-only"]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["plan.json"]
    plan = json.loads((out / "plan.json").read_text())
    plan["optimiser"]["rate"] = 0.002
    (out / "edited.json").write_text(json.dumps(plan))
    words = ["train", str(folder), "--out", str(tmp_path / "run"), "--plan", str(out / "edited.json"), "--iters", "1"]
    assert main([*words, "--device", "cpu"]) == 0
    used = json.loads((tmp_path / "run" / "plan.json").read_text())
    assert (used["optimiser"]["rate"], used["iterations"], used["epochs"]) == (0.002, 1, 2)
    capsys.readouterr()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--loss", "dice-paper"], {"loss": "dice-paper"}),
        (["--optim", "adadelta"], {"optimiser.name": "adadelta", "optimiser.epsilon": 1e-7, "optimiser.rate": 1.0}),
        (["--optim", "sgd", "--lr", "0.02"], {"optimiser.rate": 0.02, "optimiser.momentum": 0.99}),
        (["--budget", "nnunet"], {"epochs": 1000, "iterations": 250}),
        (["--budget", "short", "--epochs", "30"], {"epochs": 30, "iterations": 250}),
        (["--budget", "paper"], {"loss": "dice-paper", "epochs": 40, "sampling": "in_turn", "augmentation": None}),
        (["--set", "augmentation.rotation=0.5"], {"augmentation.rotation": 0.5}),
        (["--set", "augmentation=null"], {"augmentation": None}),
    ],
)
def test_flags_become_numbers_of_the_plan(folder, tmp_path, capsys, words, expected):
    assert main(["train", str(folder), "--out", str(tmp_path), "--net", "unet", "--plan-only", *words]) == 0
    plan = json.loads((tmp_path / "plan.json").read_text())
    for key, value in expected.items():
        place = plan
        for part in key.split("."):
            place = place[part]
        assert place == value
    capsys.readouterr()


def test_without_a_network_the_data_decide(folder, tmp_path, capsys):
    assert main(["train", str(folder), "--out", str(tmp_path), "--plan-only"]) == 0
    plan = json.loads((tmp_path / "plan.json").read_text())
    assert plan["configurations"][0]["network"]["name"] == "nnunet"
    assert plan["fingerprint"]
    capsys.readouterr()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--net", "unett"], "no network named unett"),
        (["--set", "optimiser.ratte=1"], "--set optimiser.ratte is not a number of the plan"),
        (["--set", "network.widthh=3"], "no option widthh"),
        (["--set", "optimiser.rate=-1"], "optimiser.rate"),
        (["--set", "epochs"], "has no value"),
        (["--patch", "16"], "patch"),
        (["--patch", "16,x"], "--patch 16,x cannot be read"),
        (["--fold", "9"], "no fold 9"),
        (["--fold", "first"], "--fold first cannot be read"),
        (["--plan", "missing.json"], "missing.json cannot be read"),
        (["--map", "1"], "--map 1 cannot be read"),
        (["--labels", "disc"], "--labels disc cannot be read"),
        (["--device", "cuda:77"], "no device cuda:77"),
    ],
)
def test_bad_words_are_one_sentence_and_leave_nothing(folder, tmp_path, capsys, words, said):
    out = tmp_path / "run"
    words = [*TINY[2:], "--net", "unet", *words] if "--net" not in words else [*TINY[2:], *words]
    assert main(["train", str(folder), "--out", str(out), *words]) not in (0, 70)
    error = capsys.readouterr().err
    assert said in error
    assert len(error.strip().splitlines()) == 1
    assert not (out / "model.safetensors").exists()


def test_a_broken_plan_is_named(folder, tmp_path, capsys):
    (tmp_path / "plan.json").write_text('{"epochs": 3}')
    words = ["train", str(folder), "--out", str(tmp_path / "run"), "--plan", str(tmp_path / "plan.json")]
    assert main(words) not in (0, 70)
    assert "plan.json is not a plan" in capsys.readouterr().err


def test_one_case_trains_without_folds_and_says_so(tmp_path, capsys):
    folder = write_pictures(tmp_path / "data", discs(1, (20, 20)))
    assert main(["train", str(folder), "--out", str(tmp_path / "run"), *TINY, *SMALL]) == 0
    said = capsys.readouterr().out
    assert "none is unseen" in said
    assert "No unseen data" in store.load(tmp_path / "run").card.metrics_note


def test_ctrl_c_leaves_a_model_and_resume_goes_on(folder, tmp_path, capsys):
    out = tmp_path / "run"
    words = ["train", str(folder), "--out", str(out), *TINY, *SMALL, "--epochs", "400"]

    def press() -> None:
        while not (out / "log.jsonl").exists():
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=press, daemon=True).start()
    assert main(words) == 130
    assert "--resume goes on" in capsys.readouterr().out
    assert "stopped after" in store.load(out).card.budget
    state = json.loads((out / "log.jsonl").read_text().splitlines()[-1])
    assert state["epoch"] < 400
    assert main(words) not in (0, 130)
    assert "--resume" in capsys.readouterr().err


def test_orders_on_the_standard_input(folder, tmp_path):
    """What a window does: pause, go on, stop; and the end of the input is a stop."""
    words = ["train", str(folder), "--out", str(tmp_path / "run"), *TINY, *SMALL, "--epochs", "10000"]
    with subprocess.Popen(
        [sys.executable, "-m", "src_models.cli", *words, "--json", "--listen"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    ) as child:

        def until(event: str) -> None:
            for line in child.stdout:
                if json.loads(line)["event"] == event:
                    return
            raise AssertionError(event)

        def order(word: str) -> None:
            child.stdin.write(word + "\n")
            child.stdin.flush()

        until("epoch")
        order("pause")
        until("paused")
        order("go")
        until("going")
        until("epoch")
        order("pause")
        until("paused")
        child.stdin.close()
        until("stopped")
        assert child.wait(60) == 130


def test_crossval_writes_the_table(folder, tmp_path, capsys):
    out = tmp_path / "study"
    words = ["crossval", str(folder), "--out", str(out), *TINY, *SMALL, "--epochs", "1", "--folds", "0,3"]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert (out / "table.md").read_text().strip() in said
    assert sorted(path.name for path in out.glob("fold_*")) == ["fold_0", "fold_3"]
    assert main([*words, "--json"]) == 0
    last = events(capsys.readouterr().out)[-1]
    folds = {row["fold"] for row in last["rows"]}
    assert {"0", "3", "all"} < folds
    assert len(store.load_folds(out)) == 2
    assert main([*words[:-1], "x"]) not in (0, 70)
