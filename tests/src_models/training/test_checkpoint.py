"""Checkpoints: what is read is what was written, a full disk, damaged files; trainings that are killed and go on."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from src_models.errors import FileError, SaveError
from src_models.training.checkpoint import CURRENT, PREVIOUS, Checkpoint, load_checkpoint, save_checkpoint
from src_models.training.loop import RunSettings, TrainingProgress, train
from src_models.training.optimisers import build_optimiser, recommended
from tests.runs import finish
from tests.src_models.training.tiny import discs, tiny_plan

KILLED = -signal.SIGKILL


def stepped(name: str = "adamw", steps: int = 3) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Conv2d(3, 2, 1))
    optimiser = build_optimiser(network.parameters(), recommended(name))
    for _ in range(steps):
        optimiser.zero_grad()
        network(torch.randn(2, 1, 8, 8)).square().sum().backward()
        optimiser.step()
    return network, optimiser


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "adadelta"])
def test_what_is_read_is_what_was_written(tmp_path, name):
    network, optimiser = stepped(name)
    state = {"step": 3, "loss": 0.1 + 0.2, "names": ["a", "b"], "best": None}
    save_checkpoint(tmp_path / CURRENT, Checkpoint.of(network, optimiser, state))
    found = load_checkpoint(tmp_path / CURRENT)
    assert found.state == state
    other, fresh = stepped(name, steps=0)
    other.load_state_dict(dict(found.network))
    fresh.load_state_dict(dict(found.optimiser))
    for a, b in ((network.state_dict(), other.state_dict()), *_states(optimiser, fresh)):
        assert a.keys() == b.keys()
        assert all(torch.equal(torch.as_tensor(a[key]), torch.as_tensor(b[key])) for key in a)


def _states(a: torch.optim.Optimizer, b: torch.optim.Optimizer) -> list[tuple[dict, dict]]:
    one, two = a.state_dict()["state"], b.state_dict()["state"]
    assert one.keys() == two.keys()
    return [(one[k], two[k]) for k in one]


def test_the_one_before_is_kept(tmp_path):
    network, optimiser = stepped()
    for step in range(3):
        save_checkpoint(tmp_path / CURRENT, Checkpoint.of(network, optimiser, {"step": step}))
    assert load_checkpoint(tmp_path / CURRENT).state == {"step": 2}
    assert load_checkpoint(tmp_path / PREVIOUS).state == {"step": 1}
    assert {path.name for path in tmp_path.iterdir()} == {CURRENT, PREVIOUS}


def test_a_full_disk_leaves_the_last_good_one(tmp_path):
    """A limit on the size of files is a disk that is full after so many bytes."""
    network, optimiser = stepped()
    save_checkpoint(tmp_path / CURRENT, Checkpoint.of(network, optimiser, {"step": 1}))
    before = (tmp_path / CURRENT).read_bytes()

    def child() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        try:
            save_checkpoint(tmp_path / CURRENT, Checkpoint.of(network, optimiser, {"step": 2}))
        except SaveError as error:
            os._exit(7 if "disk is full" in str(error) else 8)

    assert in_child(child) == 7
    assert (tmp_path / CURRENT).read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == [CURRENT]


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "foreign"])
def test_damaged_files_are_refused_in_one_sentence(tmp_path, damage):
    network, optimiser = stepped()
    path = tmp_path / CURRENT
    save_checkpoint(path, Checkpoint.of(network, optimiser, {}))
    content = path.read_bytes()
    if damage == "foreign":
        from safetensors.torch import save

        path.write_bytes(save({"a": torch.zeros(3)}))
    else:
        path.write_bytes({"cut": content[:-5], "empty": b"", "text": b"no tensors here"}[damage])
    with pytest.raises(FileError, match="is not a checkpoint"):
        load_checkpoint(path)
    with pytest.raises(FileError, match="was not found"):
        load_checkpoint(tmp_path / "none.safetensors")


def in_child(work: Callable[[], object]) -> int:
    """Run something in a process of its own; its exit code, or minus the signal that ended it."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


DATA = discs(5, (20, 20), patients=5)
PLAN = tiny_plan(DATA, options={"depth": 1, "base_width": 2, "dropout": 0.2})


def until_the_end(out: Path, *, resume: bool = False, kill_at: int | None = None) -> str:
    settings = RunSettings(device="cpu", workers=1, resume=resume, minutes=0.0)
    work = train(PLAN, DATA, out, settings=settings)

    def seen(progress: object) -> None:
        if isinstance(progress, TrainingProgress) and progress.step == kill_at:
            die()

    from src_models.progress import finish as drive

    return drive(work, seen).card.sha256


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> str:
    return until_the_end(tmp_path_factory.mktemp("whole") / "run")


@pytest.mark.parametrize("step", [1, 2, 3, 4])
def test_killed_after_any_step_the_weights_are_the_same(tmp_path, undisturbed, step):
    assert in_child(lambda: until_the_end(tmp_path / "run", kill_at=step)) == KILLED
    assert until_the_end(tmp_path / "run", resume=True) == undisturbed


def _kill_in(name: str, count: int) -> None:
    """Let the count-th call of a function of the system be this process's last act: before it, nothing after."""
    original, calls = getattr(os, name), iter(range(1, 10_000))

    def counted(*args: object, **kwargs: object) -> object:
        if next(calls) == count:
            die()
        return original(*args, **kwargs)

    setattr(os, name, counted)


@pytest.mark.parametrize(("call", "least"), [("fsync", 10), ("replace", 10), ("link", 3)])
def test_killed_during_any_save_the_weights_are_the_same(tmp_path, undisturbed, call, least):
    """Every call on the way of a file to its place is once the last one, for all files of the training."""
    reached = 0
    for count in range(1, 60):
        out = tmp_path / f"{call}{count}"

        def child(count: int = count, out: Path = out) -> None:
            _kill_in(call, count)
            until_the_end(out)

        ended = in_child(child)
        assert ended in (0, KILLED)
        if ended == 0:
            break
        reached += 1
        # at no moment is there a previous one alone
        assert (out / CURRENT).exists() or not (out / PREVIOUS).exists()
        assert until_the_end(out, resume=True) == undisturbed
    assert reached >= least


def test_killed_twice_and_damaged_it_goes_on_from_the_previous_one(tmp_path, undisturbed):
    out = tmp_path / "run"
    assert in_child(lambda: until_the_end(out, kill_at=2)) == KILLED
    assert in_child(lambda: until_the_end(out, resume=True, kill_at=4)) == KILLED
    (out / CURRENT).write_bytes(b"damaged")
    assert until_the_end(out, resume=True) == undisturbed


def test_a_full_disk_stops_a_training_in_one_sentence_and_it_goes_on(tmp_path, undisturbed):
    out = tmp_path / "run"
    assert in_child(lambda: until_the_end(out, kill_at=2)) == KILLED
    size = (out / CURRENT).stat().st_size

    def child() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, size // 2))
        try:
            until_the_end(out, resume=True)
        except SaveError as error:
            os._exit(7 if "disk is full" in str(error) else 8)

    assert in_child(child) == 7
    assert until_the_end(out, resume=True) == undisturbed


def test_finished_trainings_are_finished(tmp_path, undisturbed):
    until_the_end(tmp_path / "run")
    assert until_the_end(tmp_path / "run", resume=True) == undisturbed
    assert finish(train(PLAN, DATA, tmp_path / "other", settings=RunSettings(device="cpu"))).card.sha256 == undisturbed
