"""Where the region speed of a run comes from, when not from thresholds: a file, strokes or clusters."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src_models.cli import inputs, options, report
from src_models.errors import InputError
from src_models.levelset.classifier import ClassifierParameters
from src_models.levelset.clustering import ClusterParameters
from src_models.levelset.parameters import LevelSetParameters
from src_models.levelset.recipes import ClassifierSpeed, ClusterSpeed, GivenSpeed, check_mode, prepare

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from src_models.files import ReadOptions
    from src_models.levelset.initial import Seeds


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of all three."""
    speeds = parser.add_argument_group("speed from elsewhere")
    speeds.add_argument("--speed-image", metavar="FILE", type=Path, help="Use this speed image, do not compute one.")
    speeds.add_argument(
        "--strokes",
        metavar="LABELS",
        type=Path,
        help="Train a classifier on these painted voxels: 0 not painted, 1 the structure, 2 and above everything else.",
    )
    speeds.add_argument(
        "--stroke-label", metavar="N", type=int, help="The label of the strokes that is the structure. Default: 1."
    )
    options.add_model(parser, ClassifierParameters)
    options.add_model(parser, ClusterParameters)


def read_speed(
    arguments: argparse.Namespace, parameters: LevelSetParameters, frame: inputs.Frame, reading: ReadOptions
) -> GivenSpeed | None:
    """What the flags say; None where the speed is computed from the parameters alone.

    Raises
    ------
    InputError, GeometryError, FileError
        One sentence each.
    """
    forest = options.given(arguments, ClassifierParameters)
    mixture = options.given(arguments, ClusterParameters)
    _check_flags(arguments, forest, mixture)
    speed: GivenSpeed | None = None
    if arguments.speed_image is not None:
        speed = inputs.read_speed_image(arguments.speed_image, frame, reading)
    elif arguments.strokes is not None:
        strokes = inputs.read_labels(arguments.strokes, frame, reading, "strokes")
        label = 1 if arguments.stroke_label is None else arguments.stroke_label
        speed = ClassifierSpeed(strokes, options.build(ClassifierParameters, forest), label)
    elif mixture:
        speed = ClusterSpeed(options.build(ClusterParameters, mixture))
    check_mode(speed, parameters)
    return speed


def prepared(
    speed: GivenSpeed | None, frame: inputs.Frame, initial: NDArray[Any] | Seeds, *, json_lines: bool
) -> GivenSpeed | None:
    """Train and apply what has to be, under a progress bar or JSON lines."""
    if isinstance(speed, ClassifierSpeed | ClusterSpeed):
        return report.follow(prepare(speed, frame.array, frame.spacing, initial), json_lines=json_lines)
    return speed


def _check_flags(arguments: argparse.Namespace, forest: Iterable[str], mixture: Iterable[str]) -> None:
    """Refuse two sources at once, and settings of one that is not used.

    Raises
    ------
    InputError
        Naming the flags.
    """
    names = {"--speed-image": arguments.speed_image, "--strokes": arguments.strokes}
    chosen = [name for name, path in names.items() if path is not None]
    asked = [options.flag(name) for name in mixture]
    if "--clusters" in asked:
        chosen.append("--clusters")
    if len(chosen) > 1:
        raise InputError("speed-twice", f"{' and '.join(chosen)} cannot be used together", "", "Leave out one of them.")
    idle = [options.flag(name) for name in forest]
    if arguments.stroke_label is not None:
        idle.append("--stroke-label")
    for flags, master in ((idle, "--strokes"), (asked, "--clusters")):
        if flags and master not in chosen:
            raise InputError("speed-idle", f"{flags[0]} does nothing without {master}", "", f"Add {master}.")
