"""The part of ``lsnet kernels`` that tells how kernels moved: against an earlier state, and in a training."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from src_models.kernels.drift_curves import Curves
    from src_models.kernels.result import KernelReport


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags."""
    parser.add_argument("--compare", metavar="MODEL", help="An earlier state of this network: how kernels changed.")
    parser.add_argument(
        "--log",
        metavar="FILE",
        type=Path,
        help="log.jsonl or log.csv of the training of a level set network: how its kernels drifted. Where MODEL is a "
        "training's folder its log is taken.",
    )


def curves(arguments: argparse.Namespace) -> Curves | None:
    """What the log of a training tells, read before the analysis; None where there is none.

    Raises
    ------
    FileError
        Where the named file is no such log.
    """
    from src_models.kernels.drift_curves import log_of, read_curves

    log = arguments.log or log_of(arguments.model)
    return None if log is None else read_curves(log)


def compared(before: KernelReport, after: KernelReport, arguments: argparse.Namespace) -> tuple[dict[str, bytes], str]:
    """What is written about the change from one state to another, by name; and a section of the page."""
    from src_models.kernels.drift import compare, comparison_csv, comparison_section
    from src_models.kernels.drift_figures import draw_comparison
    from src_models.kernels.figures import has_figures
    from src_models.kernels.page import MOVED, picture

    changed = compare(before, after)
    made = {"changes.csv": comparison_csv(changed)}
    section = comparison_section(changed)
    if has_figures() and not arguments.no_figures:
        made["changes.png"] = draw_comparison(changed)
        section += picture(*MOVED["comparison"], made["changes.png"])
        if arguments.svg:
            made["changes.svg"] = draw_comparison(changed, "svg")
    return made, section


def drifted(found: Curves, arguments: argparse.Namespace) -> tuple[dict[str, bytes], str]:
    """What is written about the drift in a training, likewise."""
    from src_models.kernels.drift_curves import curves_section
    from src_models.kernels.drift_figures import draw_curves
    from src_models.kernels.figures import has_figures
    from src_models.kernels.page import MOVED, picture

    made: dict[str, bytes] = {}
    section = curves_section(found)
    if has_figures() and not arguments.no_figures:
        made["drift.png"] = draw_curves(found)
        section += picture(*MOVED["drift"], made["drift.png"])
        if arguments.svg:
            made["drift.svg"] = draw_curves(found, "svg")
    return made, section
