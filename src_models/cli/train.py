"""``lsnet train``: a network from a folder of images and labels; stopped at any time, it goes on by ``--resume``."""

from __future__ import annotations

import argparse
import queue
import sys
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from src_models.cli import report
from src_models.cli import training_options as options
from src_models.cli.driving import interrupts
from src_models.errors import CANCELLED, InputError, OutOfMemoryError, SaveError, out_of_memory

if TYPE_CHECKING:
    from src_models.progress import Progress
    from src_models.training.case import DataSet
    from src_models.training.outcome import TrainingResult
    from src_models.training.plan import TrainingPlan

_EPILOG = """\
examples:
  lsnet train liver_slices --net unet --groups '(p[0-9]+)_' --out run
  lsnet train Task04_Hippocampus --config 3d_fullres --epochs 50 --fold 1 --out run
  lsnet train liver_slices --net unet --out run --resume
  torchrun --nproc-per-node 2 -m src_models.cli train liver_slices --net unet --out run

Ctrl-C stops between two steps and leaves a checkpoint and a model; twice stops at once. Research use only."""

Result = TypeVar("Result")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Every flag of the command."""
    parser.epilog = _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    options.add_data(parser)
    options.add_plan(parser)
    options.add_run(parser)
    parser.add_argument("--fold", metavar="N", default="0", help="Which fold is left out, or all for none. Default: 0.")
    parser.add_argument(
        "--listen", action="store_true", help="Take pause, go and stop as lines on the standard input; for programs."
    )


def run(arguments: argparse.Namespace) -> int:
    """Do what the command line says."""
    options.let_one_process_speak()
    data = options.read_data(arguments)
    plan = options.make_plan(arguments, data)
    if arguments.plan_only:
        return write_plan(arguments, plan, len(data.cases))
    fold = chosen_fold(arguments.fold)
    if fold == 0 and not plan.folds:
        options.tell(arguments, "There are too few patients for folds: all are trained on, and none is unseen.")
        fold = "all"
    options.tell_cost(arguments, plan)
    work = _work(arguments, plan, data, fold)
    began = time.perf_counter()
    result = drive(work, json_lines=arguments.json, listen=arguments.listen)
    if result is None:
        tell_stopped(arguments)
        return CANCELLED
    seconds = time.perf_counter() - began
    if arguments.json:
        report.write_json(final_event(result, seconds))
    else:
        report.say(*summary(result, seconds))
    return 0


def _work(
    arguments: argparse.Namespace, plan: TrainingPlan, data: DataSet, fold: Any
) -> Generator[Progress, None, TrainingResult]:
    """The training; of a cascade that of its first stage before it, where it is not there."""
    from src_models.training.crossval import with_first_stage
    from src_models.training.loop import train

    settings = options.run_settings(arguments)
    given: dict[str, Any] = {"configuration": arguments.config, "seed": arguments.seed}
    settings = yield from with_first_stage(plan, data, arguments.out, settings=settings, **given)
    return (yield from train(plan, data, arguments.out, fold=fold, settings=settings, **given))


def chosen_fold(text: str) -> Any:
    """A number, or ``"all"``.

    Raises
    ------
    InputError
        Where it is neither.
    """
    if text == "all":
        return "all"
    if not text.isdigit():
        raise InputError("fold", f"--fold {text} cannot be read", "", "Give a number such as 0, or all.")
    return int(text)


def write_plan(arguments: argparse.Namespace, plan: Any, cases: int | None = None) -> int:
    """Write the plan that would be trained, and say what is in it; with the number of cases, also what it takes.

    Raises
    ------
    SaveError
        Where it cannot be written.
    """
    from src_models.training.run_folder import PLAN, write_text

    try:
        arguments.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SaveError(
            "run-folder", f"The folder {arguments.out.name} cannot be made", error.strerror or "", "Choose another one."
        ) from error
    path = arguments.out / PLAN
    write_text(path, plan.model_dump_json(indent=1) + "\n")
    chosen = plan.configuration(arguments.config)
    found = None if cases is None else _outlook(arguments, plan, chosen, cases)
    if arguments.json:
        content = plan.model_dump(mode="json", exclude={"fingerprint"})
        told: dict[str, Any] = {"plan": str(path), "chosen": chosen.name}
        if found is not None:
            costs = {"memory_bytes": found.memory_bytes, "steps": found.steps, "seconds": round(found.seconds, 1)}
            told |= {"outlook": costs, "cases": cases}
        report.write_json({"event": "result", **told, **content})
        return 0
    lines = [f"Saved the plan {path}."]
    for each in plan.configurations:
        patch = " x ".join(str(n) for n in each.patch)
        lines.append(f"{each.name}: {each.network['name']}, patches of {patch}, {each.batch} a step")
    report.say(*lines, f"{plan.epochs} epochs of {plan.iterations} steps, {plan.optimiser.name}, {plan.loss}.")
    if found is not None:
        hours = f"{found.seconds / 3600:.1f} h" if found.seconds >= 5400 else f"{found.seconds / 60:.0f} min"
        memory = report.amount(found.memory_bytes, "B")
        report.say(f"{chosen.name} needs about {memory} of memory and {hours} on this computer.")
    return 0


def _outlook(arguments: argparse.Namespace, plan: Any, chosen: Any, cases: int) -> Any:
    from src_models.training.devices import chosen_device
    from src_models.training.outlook import outlook

    return outlook(plan, chosen, cases=cases, device=chosen_device(arguments.device))


def drive(work: Generator[Progress, Any, Result], *, json_lines: bool, listen: bool = False) -> Result | None:
    """Run a training to its end; None where it was stopped, with its checkpoint and model saved.

    Parameters
    ----------
    work : generator
        The training.
    json_lines : bool
        Lines for programs in place of a bar.
    listen : bool
        Obey lines on the standard input.
    """
    orders = _listening() if listen else None
    with enough_memory(), report.watch_job(json_lines, "training") as show, interrupts(True) as interrupted:
        while True:
            try:
                progress = next(work)
            except StopIteration as end:
                result: Result = end.value
                return result
            for note in progress.notes:
                options.say_note(note, json_lines)
            row = getattr(progress, "row", None)
            if row is None:
                show(progress)
            else:
                _tell_epoch(progress, row, json_lines, pictures=listen)
            if interrupted() or (orders is not None and not _going_on(orders, json_lines)):
                work.close()
                return None


def _tell_epoch(progress: Any, row: dict[str, Any], json_lines: bool, *, pictures: bool = False) -> None:
    if json_lines:
        told = {"fraction": progress.fraction, "message": progress.message, "epochs": progress.epochs}
        if pictures and progress.sample is not None:
            from src_models.training.sample_text import pack

            told["sample"] = pack(progress.sample)
        report.write_json({"event": "epoch", **told, **row})
    else:
        from tqdm import tqdm

        # a bar that is under way stays below what is said
        tqdm.write(progress.message, file=sys.stdout)
        sys.stdout.flush()


def _listening() -> queue.SimpleQueue[str]:
    """Lines of the standard input as they come; its end means stop: who gave orders has gone."""
    orders: queue.SimpleQueue[str] = queue.SimpleQueue()

    def read() -> None:
        for line in sys.stdin:
            orders.put(line.strip())
        orders.put("stop")

    threading.Thread(target=read, daemon=True, name="orders").start()
    return orders


def _going_on(orders: queue.SimpleQueue[str], json_lines: bool) -> bool:
    """Obey what has come: waits while paused; False means stop."""
    paused = False
    while paused or not orders.empty():
        order = orders.get()
        if order == "stop":
            return False
        if order in ("pause", "go"):
            paused = order == "pause"
            if json_lines:
                report.write_json({"event": "paused" if paused else "going"})
    return True


@contextmanager
def enough_memory() -> Iterator[None]:
    """Turn a lack of memory into one sentence."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        raise OutOfMemoryError(
            "memory-training",
            "There is not enough memory for this training",
            "",
            "Lower --batch or --patch, or close other programs; --resume goes on from the last checkpoint.",
        ) from error


def tell_stopped(arguments: argparse.Namespace) -> None:
    """Say that a training was stopped, and how it goes on."""
    from src_models.training.checkpoint import CURRENT

    begun = next(arguments.out.rglob(CURRENT), None) is not None
    if arguments.json:
        report.write_json({"event": "stopped", "out": str(arguments.out), "begun": begun})
    elif not begun:
        report.say("Stopped before the first step; nothing was saved.")
    else:
        report.say(f"Stopped. The model so far is in {arguments.out}; the same command with --resume goes on.")


def summary(result: TrainingResult, seconds: float) -> list[str]:
    """What a person wants to know, in plain lines."""
    lines = [f"Trained in {seconds / 60:.1f} min. Saved the model {result.weights}."]
    if result.patients:
        shown = ", ".join(f"{name} {value:.4f}" for name, value in result.dice.items())
        lines.append(f"Mean Dice of {len(result.patients)} unseen patients: {shown}.")
    return lines + [f"Note: {note}" for note in result.notes]


def final_event(result: TrainingResult, seconds: float) -> dict[str, Any]:
    """The last JSON line."""
    return {
        "event": "result",
        "weights": str(result.weights),
        "dice": dict(result.dice),
        "patients": len(result.patients),
        "cases": {score.case: dict(score.dice) for score in result.cases},
        "seconds": round(seconds, 3),
        "notes": list(result.notes),
    }
