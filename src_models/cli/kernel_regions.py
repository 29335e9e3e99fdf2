"""The part of ``lsnet kernels`` that tells where in an image kernels answer: flags, and what is written."""

from __future__ import annotations

import argparse
import math
from typing import TYPE_CHECKING

from src_models.cli import report
from src_models.errors import InputError
from src_models.progress import finish

if TYPE_CHECKING:
    from src_models.cli.kernel_effects import Ready
    from src_models.kernels.result import KernelReport

BAND = 3.0


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of the regions."""
    group = parser.add_argument_group("where kernels answer, with --regions")
    group.add_argument(
        "--regions",
        action="store_true",
        help="The response of each kernel inside the structure, at its boundary, outside, and in each label. "
        "Needs --data.",
    )
    group.add_argument(
        "--band", metavar="MM", type=float, default=BAND, help=f"Half width of the boundary in mm. Default: {BAND:g}."
    )


def check(arguments: argparse.Namespace) -> None:
    """Refuse what cannot work, before the analysis.

    Raises
    ------
    InputError
        Naming the flag.
    """
    if not arguments.regions:
        return
    if arguments.data is None:
        raise InputError("regions-data", "--regions needs cases", "", "Give --data FOLDER with images and labels.")
    if not (math.isfinite(arguments.band) and arguments.band > 0):
        raise InputError("regions-band", "--band must be above 0", "", "Such as 3.")


def files(ready: Ready, found: KernelReport, arguments: argparse.Namespace) -> tuple[dict[str, bytes], str]:
    """What is written, by name; and a section for the page of the analysis."""
    from src_models.kernels.figures import has_figures
    from src_models.kernels.regions import region_responses
    from src_models.kernels.regions_report import draw_regions, kernels_csv, regions_csv, regions_section

    work = region_responses(
        ready.network,
        ready.card,
        found,
        ready.cases,
        band=arguments.band,
        device=arguments.run_on,
        seed=found.parameters.seed,
    )
    with report.watch_job(arguments.json, "regions", "progress") as show:
        told = finish(work, show)
    made = {"regions.csv": regions_csv(told), "regions_kernels.csv": kernels_csv(told, found)}
    drawn = None
    if has_figures() and not arguments.no_figures:
        made["regions.png"] = drawn = draw_regions(told)
        if arguments.svg:
            made["regions.svg"] = draw_regions(told, "svg")
    return made, regions_section(told, drawn)
