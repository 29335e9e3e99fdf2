"""``lsnet crossval``: a training per fold, and a table of how unseen patients came out."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from src_models.cli import report
from src_models.cli import training_options as options
from src_models.cli.train import drive, tell_stopped, write_plan
from src_models.errors import CANCELLED, InputError
from src_models.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Generator

    from src_models.training.case import DataSet
    from src_models.training.crossval import CrossvalResult
    from src_models.training.plan import TrainingPlan

_EPILOG = """\
examples:
  lsnet crossval liver_slices --net unet --groups '(p[0-9]+)_' --out study
  lsnet crossval Task04_Hippocampus --config 3d_fullres --folds 0,2 --out study

Each fold is trained in a folder of its own. The same command goes on where it was stopped; finished folds are kept."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Every flag of the command."""
    parser.epilog = _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    options.add_data(parser)
    options.add_plan(parser)
    options.add_run(parser)
    parser.add_argument("--folds", metavar="LIST", default="all", help="Such as 0,2. Default: all.")
    parser.add_argument(
        "--select",
        action="store_true",
        help="Train all configurations of the plan and take the best, or the best pair (mean of probabilities); find "
        "out whether keeping the largest parts alone is better, and keep it with the models.",
    )


def run(arguments: argparse.Namespace) -> int:
    """Do what the command line says."""
    from src_models.training.crossval import as_markdown

    options.let_one_process_speak()
    data = options.read_data(arguments)
    plan = options.make_plan(arguments, data)
    if arguments.plan_only:
        return write_plan(arguments, plan)
    options.tell_cost(arguments, plan)
    result = drive(_work(arguments, plan, data), json_lines=arguments.json)
    if result is None:
        tell_stopped(arguments)
        return CANCELLED
    if arguments.json:
        rows = [vars(row) for row in result.rows]
        report.write_json({"event": "result", "rows": rows, "out": str(result.out)})
    else:
        report.say(as_markdown(result.rows).rstrip(), f"Saved the table {result.out / 'table.md'}.")
    return 0


def _work(
    arguments: argparse.Namespace, plan: TrainingPlan, data: DataSet
) -> Generator[Progress, None, CrossvalResult]:
    """One configuration, or with ``--select`` all of the plan, of which the best is the result."""
    from src_models.training.crossval import crossval, with_first_stage

    names = [arguments.config or plan.configuration().name]
    if arguments.select and arguments.config is None:
        names = [each.name for each in plan.configurations]
    several = len(names) > 1
    settings = options.run_settings(arguments)
    results: dict[str, CrossvalResult] = {}
    for name in names:
        own = settings
        if several:
            # its first stage is one of the configurations that are compared; of that it needs every fold
            work = with_first_stage(
                plan, data, arguments.out, configuration=name, seed=arguments.seed, settings=settings
            )
            own = yield from work
        results[name] = yield from crossval(
            plan,
            data,
            arguments.out / name if several else arguments.out,
            configuration=name,
            folds=chosen_folds(arguments.folds),
            seed=arguments.seed,
            settings=own,
        )
    if not arguments.select:
        return results[names[0]]
    return (yield from _selected(arguments, plan, data, results))


def _selected(
    arguments: argparse.Namespace, plan: TrainingPlan, data: DataSet, results: dict[str, CrossvalResult]
) -> Generator[Progress, None, CrossvalResult]:
    """The best configuration, or the first of the best pair, with what was decided in notes."""
    from src_models.training.selection import select_configuration, select_postprocessing
    from src_models.weights.selected import read_selected

    notes: tuple[str, ...] = ()
    best: tuple[str, ...] = tuple(results)
    if len(results) > 1:
        best = yield from select_configuration(plan, data, results, arguments.out, device=arguments.device)
        found = read_selected(arguments.out)
        kept = () if found is None else found.keep_largest
        both = "The best is the mean of the probabilities of" if len(best) > 1 else "The best configuration is"
        notes = (f"{both} {' and '.join(best)}; lsnet predict --weights {arguments.out} takes it.",)
    else:
        kept = yield from select_postprocessing(plan, data, results, device=arguments.device)
    parts = "; ".join(", ".join(map(str, one)) for one in kept)
    notes += (f"Prediction keeps the largest part of the labels {parts}." if kept else "No part is left out.",)
    yield Progress(phase="select", fraction=1.0, message="Selected", notes=notes)
    return results[best[0]]


def chosen_folds(text: str) -> tuple[int, ...] | None:
    """Numbers of folds; None for all.

    Raises
    ------
    InputError
        Where the text cannot be read.
    """
    if text == "all":
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdigit() for part in parts):
        raise InputError("folds", f"--folds {text} cannot be read", "", "Write numbers such as 0,2, or all.")
    return tuple(dict.fromkeys(int(part) for part in parts))
