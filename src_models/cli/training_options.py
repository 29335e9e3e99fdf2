"""What ``lsnet train`` and ``lsnet crossval`` share: flags for data, plan and run, and the plan they make together."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src_models.cli import report
from src_models.errors import InputError, OutOfMemoryError

if TYPE_CHECKING:
    from src_models.progress import Progress
    from src_models.training.case import DataSet
    from src_models.training.folds import Fold
    from src_models.training.loop import RunSettings
    from src_models.training.plan import TrainingPlan

BUDGETS = {
    "nnunet": "1000 epochs of 250 steps",
    "short": "50 epochs of 250 steps on the same schedule; --epochs changes it",
    "paper": "40 epochs over all slices, Adadelta, the paper's Dice, no augmentation",
    "modern": "60 epochs over all cases, AdamW",
}
_LOSSES = ("dice_ce", "dice", "ce", "dice-paper")
_OPTIMISERS = ("sgd", "adam", "adamw", "adadelta")


def add_data(parser: argparse.ArgumentParser) -> None:
    """The data set and how it is read."""
    parser.add_argument(
        "data", metavar="DATA", type=Path, help="A folder: images/ and labels/ with equal names, or with dataset.json."
    )
    data = parser.add_argument_group("data")
    data.add_argument(
        "--groups",
        metavar="RULE",
        help="Which cases are of one patient: a regular expression whose first group names him, such as '(p[0-9]+)_', "
        "or a CSV file with the columns case and group.",
    )
    data.add_argument("--split", choices=("nnunet", "contiguous"), default="nnunet", help="How folds are cut.")
    data.add_argument("--map", metavar="OLD:NEW", action="append", default=[], help="Read one label value as another.")
    data.add_argument("--labels", metavar="LIST", help="Names of label values, such as 1=liver,2=tumour.")
    data.add_argument("--channels", metavar="LIST", help="Names of channels, such as ct; they choose the norm.")
    data.add_argument("--fix-geometry", action="store_true", help="Resample labels that lie on another grid.")
    data.add_argument(
        "--nan",
        choices=("refuse", "fill"),
        default="refuse",
        help="Values of images that are no numbers. refuse: say how many there are; fill: take the smallest value of "
        "the image in their place, and say so. Default: refuse.",
    )
    data.add_argument(
        "--recipe",
        metavar="NAME",
        help="DATA is a public data set as its owners give it out, such as lits or promise12. A name that is not "
        "known lists them all.",
    )
    data.add_argument("--modality", default="", help="Kept in the card of the model, such as CT.")


def add_plan(parser: argparse.ArgumentParser) -> None:
    """What is trained."""
    plan = parser.add_argument_group("plan")
    plan.add_argument(
        "--net",
        metavar="NAME",
        help="A network of the zoo with default numbers, such as unet. Without it the data decide (nnU-Net's rules).",
    )
    plan.add_argument("--config", choices=("2d", "3d_fullres", "3d_lowres", "3d_cascade_fullres"), help="Resolution.")
    plan.add_argument("--plan", metavar="FILE", type=Path, help="Train this plan.json; other flags change it.")
    plan.add_argument("--plan-only", action="store_true", help="Write plan.json to --out and stop.")
    plan.add_argument("--gpu-gb", metavar="GB", type=float, help="Memory that the plan is made for.")
    plan.add_argument(
        "--target",
        metavar="NAME",
        help="Which of nnU-Net's planners: nnunet, residual, residual-m, residual-l or residual-xl. Default: nnunet.",
    )
    plan.add_argument(
        "--fingerprint",
        choices=("all", "train"),
        help="Which cases the plan is made of: all, as nnU-Net does, or those of --fold that are trained on. "
        "Default: all.",
    )
    plan.add_argument("--loss", choices=_LOSSES)
    plan.add_argument(
        "--optim",
        choices=_OPTIMISERS,
        help="Adaptive ones come to a good result soon; where unseen patients lag behind, try sgd.",
    )
    plan.add_argument("--lr", metavar="X", type=float, help="Learning rate at the beginning.")
    plan.add_argument("--epochs", metavar="N", type=int)
    plan.add_argument("--iters", metavar="N", type=int, help="Steps per epoch.")
    told = "; ".join(f"{name}: {what}" for name, what in BUDGETS.items())
    plan.add_argument("--budget", choices=tuple(BUDGETS), help=f"{told}.")
    plan.add_argument("--batch", metavar="N", type=int, help="Samples per step, over all processes.")
    plan.add_argument("--patch", metavar="Z,Y,X", help="Voxels of a sample.")
    plan.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="Any number of the plan, such as augmentation.rotation=0.5, optimiser.momentum=0.9 or "
        "network.base_width=24.",
    )


def add_run(parser: argparse.ArgumentParser) -> None:
    """How it runs."""
    run = parser.add_argument_group("run")
    run.add_argument("--out", metavar="FOLDER", type=Path, required=True, help="Checkpoints, logs and the model.")
    run.add_argument("--device", default="auto", metavar="NAME", help="auto, cpu, cuda, cuda:1 or mps. Default: auto.")
    run.add_argument("--precision", choices=("auto", "fp32", "bf16", "fp16"), default="auto")
    run.add_argument("--seed", metavar="N", type=int, default=0, help="Of weights, samples and dropout. Default: 0.")
    run.add_argument("--workers", metavar="N", type=int, default=1, help="Threads that make samples. Default: 1.")
    run.add_argument("--resume", action="store_true", help="Go on with the training that is in --out.")
    run.add_argument(
        "--first-stage",
        metavar="FOLDER",
        type=Path,
        help="For 3d_cascade_fullres: the cross-validation of 3d_lowres. Without it, the folder 3d_lowres in --out, "
        "where all folds of it are trained if they are not there.",
    )
    run.add_argument("--init-from", metavar="MODEL", type=Path, help="Begin with the weights of a model.")


def read_data(arguments: argparse.Namespace) -> DataSet:
    """The data set of the command line; its notes are said."""
    from src_models.training.cases import open_data_set
    from src_models.training.checks import parse_map

    data = open_data_set(
        arguments.data,
        groups=arguments.groups,
        label_map=parse_map(arguments.map),
        label_names=_label_names(arguments.labels),
        channels=arguments.channels.split(",") if arguments.channels else None,
        fix_geometry=arguments.fix_geometry,
        recipe=arguments.recipe,
        nan="fill" if arguments.nan == "fill" else "error",
    )
    for note in data.notes:
        tell(arguments, note)
    return data


def tell(arguments: argparse.Namespace, note: str) -> None:
    """A note for people, or for programs."""
    say_note(note, arguments.json)


def let_one_process_speak() -> None:
    """Under torchrun or SLURM every process runs this command; only the first one tells of it."""
    if int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0"))) > 0:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - for as long as the process lives


def say_note(note: str, json_lines: bool) -> None:
    """A note on a line of its own."""
    if json_lines:
        report.write_json({"event": "note", "message": note})
    else:
        report.say(f"Note: {note}")


def make_plan(arguments: argparse.Namespace, data: DataSet) -> TrainingPlan:
    """The plan that the flags say.

    Raises
    ------
    InputError, FileError
        Naming the flag or the file.
    """
    if arguments.plan is not None or arguments.net is not None or arguments.budget in ("paper", "modern"):
        _refuse_planning(arguments)
    if arguments.plan is not None:
        from src_models.training.plan_file import read_plan

        plan, edited = read_plan(arguments.plan)
        for change in edited:
            tell(arguments, change)
    elif arguments.net is not None or arguments.budget in ("paper", "modern"):
        from src_models.training.defaults import default_plan

        plan = default_plan(
            data,
            arguments.net or "unet",
            ndim=2 if arguments.config == "2d" else None,
            protocol="paper" if arguments.budget == "paper" else "modern",
            split=arguments.split,
            patch=_numbers("--patch", arguments.patch) if arguments.patch else None,
            batch=arguments.batch,
            modality=arguments.modality,
        )
    else:
        plan = _self_configured(arguments, data)
    return changed(arguments, plan)


def _self_configured(arguments: argparse.Namespace, data: DataSet) -> TrainingPlan:
    from src_models.progress import finish
    from src_models.training.fingerprint import fingerprint
    from src_models.training.folds import make_folds
    from src_models.training.planning import plan_data_set
    from src_models.training.targets import target_named

    if arguments.gpu_gb is not None and not arguments.gpu_gb > 0:
        raise InputError("gpu-gb", f"--gpu-gb cannot be {arguments.gpu_gb:g}", "", "Give a number above 0.")
    target = arguments.target or "nnunet"
    target_named(target)
    enough = len(set(data.groups.values())) >= 5
    folds = make_folds(data.groups, split=arguments.split) if enough else ()
    cases = _cases_of_plan(arguments, folds)
    notes: list[str] = []
    with report.watch_job(arguments.json, "preparing", "preparing") as show:

        def heed(step: Progress) -> None:
            notes.extend(step.notes)
            show(step)

        found = finish(fingerprint(data, cases), heed)
    if arguments.plan_only and not arguments.json:
        # a training tells of them when it reads the cases
        for note in notes:
            tell(arguments, note)
    return plan_data_set(data, found, target=target, gpu_gb=arguments.gpu_gb, folds=folds, modality=arguments.modality)


def _refuse_planning(arguments: argparse.Namespace) -> None:
    """Flags of the planner beside numbers that do not come from it: said, not passed over."""
    for flag in ("gpu_gb", "target", "fingerprint"):
        if getattr(arguments, flag) is not None:
            name = "--" + flag.replace("_", "-")
            given = "--plan" if arguments.plan is not None else "--net" if arguments.net else "--budget"
            raise InputError(
                "plan-flags",
                f"{name} changes nothing beside {given}",
                "it is for plans made from the data",
                "Leave it out.",
            )


def _cases_of_plan(arguments: argparse.Namespace, folds: Sequence[Fold]) -> tuple[str, ...] | None:
    """The cases that are looked at for a plan; None for all."""
    if arguments.fingerprint != "train":
        return None
    if arguments.command == "crossval":
        raise InputError(
            "fingerprint-crossval",
            "--fingerprint train does not go with a cross-validation",
            "its folds share one plan, and every case is trained on in some of them",
            "Train the folds one by one with lsnet train --fold N, or leave it out.",
        )
    if arguments.fold == "all" or not folds:
        return None
    if not arguments.fold.isdigit() or int(arguments.fold) >= len(folds):
        raise InputError("fold", f"There is no fold {arguments.fold}", f"there are {len(folds)}, counted from 0", "")
    return folds[int(arguments.fold)].train


def changed(arguments: argparse.Namespace, plan: TrainingPlan) -> TrainingPlan:
    """A plan with what the flags say.

    Raises
    ------
    InputError
        Where a value is not possible.
    """
    from pydantic import ValidationError

    from src_models.preprocessing.click import Click
    from src_models.refusals import problem_of
    from src_models.training.optimisers import recommended
    from src_models.training.plan import TrainingPlan

    content = plan.model_dump(mode="json")
    number = [c.name for c in plan.configurations].index(plan.configuration(arguments.config).name)
    if arguments.budget in ("nnunet", "short"):
        content |= {"epochs": 1000 if arguments.budget == "nnunet" else 50, "iterations": 250}
    if arguments.optim:
        content["optimiser"] = recommended(arguments.optim).model_dump(mode="json")
    flags: dict[str, Any] = {
        "loss": arguments.loss,
        "epochs": arguments.epochs,
        "iterations": arguments.iters,
        "optimiser.rate": arguments.lr,
        "configuration.batch": arguments.batch,
        "configuration.patch": _numbers("--patch", arguments.patch) if arguments.patch else None,
        "modality": arguments.modality or None,
    }
    names = {f"configurations.{number}.batch": "--batch", "optimiser.rate": "--lr", "iterations": "--iters"}
    names |= {"epochs": "--epochs"}
    names = {place: flag for place, flag in names.items() if getattr(arguments, flag[2:]) is not None}
    for key, value in flags.items():
        if value is not None:
            _put(content, number, key, value, key)
    for text in arguments.set:
        key, equals, value = text.partition("=")
        if not equals:
            raise InputError("set", f"--set {text} has no value", "", "Write it like this: --set optimiser.rate=0.003")
        _put(content, number, key, _value(value), f"--set {key}")
    chosen = content["configurations"][number]
    if "start" in chosen["network"].get("options", {}):
        chosen["network"] = Click.counted(chosen["network"], len(chosen["preprocessing"]["channels"]))
    try:
        made = TrainingPlan.model_validate(content)
    except ValidationError as error:
        found = problem_of(error)
        said = replace(found, place=names.get(found.place, found.place)).sentence
        raise InputError("plan-value", "The plan cannot be so", said, "Correct it.") from error
    _check_network(made, number)
    return made


def _put(content: dict[str, Any], number: int, key: str, value: Any, name: str) -> None:
    """Set one number: ``network.X`` is an option of the network, ``configuration.X`` one of the configuration."""
    first, *rest = key.split(".")
    chosen = content["configurations"][number]
    place: Any = content
    if first == "network":
        place, path = chosen["network"].setdefault("options", {}), rest
    elif first == "configuration":
        place, path = chosen, rest
    else:
        path = [first, *rest]
    for part in path[:-1]:
        place = place.get(part) if isinstance(place, dict) else None
    if not path or not isinstance(place, dict) or (path[-1] not in place and first != "network"):
        raise InputError(
            "set-unknown", f"{name} is not a number of the plan", "", "See plan.json for the names, with --plan-only."
        )
    place[path[-1]] = value


def _check_network(plan: TrainingPlan, number: int) -> None:
    """Options of a network are checked by building it without weights."""
    import torch

    from src_models.networks.zoo import from_config

    chosen = plan.configurations[number]
    with torch.device("meta"):
        network = from_config(chosen.network)
    if network.ndim != len(chosen.patch):
        raise InputError(
            "plan-patch", f"A {network.ndim}D network takes a patch of {network.ndim} numbers", "", "Correct --patch."
        )


def tell_cost(arguments: argparse.Namespace, plan: TrainingPlan) -> None:
    """Say what a step of the plan needs, before it is begun.

    Raises
    ------
    OutOfMemoryError
        Where the memory of this computer is too small for it.
    """
    import psutil
    import torch

    from src_models.networks.forecast import forecast
    from src_models.networks.zoo import from_config

    chosen = plan.configuration(arguments.config)
    with torch.device("meta"):
        network = from_config(chosen.network)
    world = int(os.environ.get("WORLD_SIZE", "1"))
    precision: Any = "fp32" if arguments.precision == "auto" else arguments.precision
    need = forecast(
        network,
        chosen.patch,
        mode="train",
        batch=-(-chosen.batch // world),
        optimiser=plan.optimiser.name,
        precision=precision,
        device="cpu" if arguments.device == "cpu" else "cuda",
    )
    work = report.amount(need.flops, "FLOP")
    tell(arguments, f"A step takes about {report.amount(need.peak_bytes, 'B')} of memory and {work} of work.")
    free = psutil.virtual_memory().available
    if arguments.device == "cpu" and need.peak_bytes > free:
        raise OutOfMemoryError(
            "memory-forecast",
            f"This training needs about {report.amount(need.peak_bytes, 'B')} of memory",
            f"{report.amount(free, 'B')} are free",
            "Lower --batch or --patch.",
        )


def run_settings(arguments: argparse.Namespace) -> RunSettings:
    """What the flags of `add_run` say.

    Raises
    ------
    InputError
        Where one cannot be so.
    """
    if arguments.workers < 0:
        raise InputError("workers", f"--workers cannot be {arguments.workers}", "", "Give 0 or more threads.")
    from src_models.training.loop import RunSettings
    from src_models.training.run_folder import CACHE

    return RunSettings(
        device=arguments.device,
        precision=arguments.precision,
        workers=arguments.workers,
        resume=arguments.resume,
        init_from=arguments.init_from,
        cache=arguments.out / CACHE,
        first_stage=arguments.first_stage,
    )


def _numbers(flag: str, text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        why = "it takes whole numbers"
        raise InputError("numbers", f"{flag} {text} cannot be read", why, f"Write it like this: {flag} 64,64") from None


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _label_names(text: str | None) -> Mapping[int, str] | None:
    if not text:
        return None
    try:
        return {int(value): name for value, name in (part.split("=") for part in text.split(","))}
    except ValueError:
        raise InputError("labels", f"--labels {text} cannot be read", "", "Write: --labels 1=liver,2=tumour") from None
