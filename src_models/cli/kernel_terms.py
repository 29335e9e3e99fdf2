"""The part of ``lsnet kernels`` that writes kernels as terms of the level set solver: flags, file, and the frame."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from src_models.errors import InputError, SaveError

if TYPE_CHECKING:
    from src_models.kernels.exchange import Frame, Terms
    from src_models.kernels.result import KernelReport


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of the export."""
    group = parser.add_argument_group("kernels as terms of the level set equation, with --terms")
    group.add_argument(
        "--terms",
        metavar="FILE",
        type=Path,
        help="Write kernels as safetensors with their roles. Those of a level set network have theirs; of others --rho "
        "chooses.",
    )
    group.add_argument(
        "--rho", metavar="WHICH", help="Slopes of the level set: a selection such as 'layer=encoder.0.1.conv; order=1'."
    )
    group.add_argument("--sigma", metavar="WHICH", help="Their divergence, as many. Default: those of --rho.")
    group.add_argument("--edges", metavar="WHICH", help="Slopes of the image. Default: those of --rho.")
    group.add_argument("--raw", action="store_true", help="Keep their scale; by default slopes are 1 per mm.")
    group.add_argument(
        "--project", action="store_true", help="Take the sum of each kernel away instead of refusing it."
    )


def check(arguments: argparse.Namespace) -> None:
    """Refuse what cannot work, before the analysis.

    Raises
    ------
    InputError, SaveError
        Naming the flag.
    """
    from src_models.kernels.selection import Selection

    chosen = [name for name in ("rho", "sigma", "edges") if getattr(arguments, name)]
    if chosen and arguments.terms is None:
        raise InputError("terms-flag", f"--{chosen[0]} needs a file to write to", "", "Give it with --terms FILE.")
    for name in chosen:
        Selection.parse(getattr(arguments, name))
    if arguments.terms is not None and arguments.terms.exists() and not arguments.overwrite:
        raise SaveError(
            "target-exists", f"{arguments.terms.name} exists already", "", "Choose another --terms, or add --overwrite."
        )


def write(found: KernelReport, arguments: argparse.Namespace) -> tuple[list[str], list[str]]:
    """Write the file; gives the names of what was written, and lines for people.

    Raises
    ------
    InputError
        Where kernels do not fit their roles.
    SaveError
        Where the file is there already or cannot be written.
    """
    from src_models.kernels.exchange import frame, save_terms

    terms = _terms(found, arguments)
    paths = save_terms(terms, arguments.terms, overwrite=arguments.overwrite)
    told = frame(terms)
    return [path.name for path in paths], _lines(terms, told)


def _terms(found: KernelReport, arguments: argparse.Namespace) -> Terms:
    from src_models.kernels.lsn_exchange import terms_of
    from src_models.kernels.selection import Selection
    from src_models.kernels.sources import open_source
    from src_models.kernels.term_selection import selected_terms
    from src_models.networks.lsn import LevelSetNetwork

    if arguments.rho:
        sigma, edges = (Selection.parse(text) if text else None for text in (arguments.sigma, arguments.edges))
        return selected_terms(
            found,
            Selection.parse(arguments.rho),
            sigma,
            edges,
            spacing=found.parameters.spacing,
            scale="raw" if arguments.raw else "gradient",
            project=arguments.project,
        )
    network = open_source(arguments.model, fold=arguments.fold).network
    if not isinstance(network, LevelSetNetwork):
        raise InputError(
            "terms-which",
            "This is no level set network, whose kernels have their roles",
            "",
            "Say with --rho which kernels are the slopes.",
        )
    return terms_of(network)


def _lines(terms: Terms, told: Frame) -> list[str]:
    gradient, curvature = (", ".join(f"{value:.3g}" for value in part) for part in (told.gradient, told.curvature))
    return [
        f"{len(terms.rho)} kernels rho and sigma, {len(terms.e)} kernels e. To leading order the front sees slopes "
        f"with the eigenvalues {gradient} and curvature with {curvature}; all are 1 for the equation itself, and equal "
        "ones only rescale it."
    ]
