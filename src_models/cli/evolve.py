"""``lsnet evolve``: grow a contour from seeds, save the mask and the record that makes it again."""

from __future__ import annotations

import argparse
import time
from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from src_models.cli import inputs, options, outputs, report, speeds
from src_models.cli.driving import drive
from src_models.errors import CANCELLED
from src_models.levelset.parameters import LevelSetParameters, paper_preset
from src_models.record import Record, record_path

if TYPE_CHECKING:
    from src_models.levelset.evolution import LevelSetResult, LevelSetState
    from src_models.levelset.initial import Seeds
    from src_models.levelset.recipes import GivenSpeed

PRESETS: dict[str, dict[str, Any]] = {
    "edge": {"speed": "edge"},
    "region": {"speed": "region"},
    "paper": paper_preset("central").model_dump(exclude_defaults=True),
}

_USAGE = "lsnet evolve IMAGE (--seeds MASK | --point Z,Y,X:RADIUS) --out OUT [--speed edge|region] [options]"
_EPILOG = """\
examples:
  lsnet evolve ct.nii.gz --point 120,95,140:8 --out liver.nii.gz --speed region --lower 80 --upper 180
  lsnet evolve ct.nii.gz --seeds organs.nii.gz --all-labels --parameters organs.toml --out grown.nii.gz
  lsnet evolve mr.nrrd --seeds painted.nrrd --out part.seg.nrrd --speed edge --curvature 0.3
  lsnet evolve images --seeds seeds --parameters learned.toml --out masks

With a folder of images, --seeds (or --walls, --pins, --speed-image) may be a folder of files of the same names, and
--out is a folder: one mask and record an image, and the table outcomes.csv.

Points are in mm and regions in voxels, both in the order in which the file stores its axes, slowest first, counted from
the centre of its first voxel. Research use only; not a medical device."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Every flag of the command; those of the equation come from the parameter model."""
    parser.usage = _USAGE
    parser.epilog = _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "image", metavar="IMAGE", type=Path, help="The image, or a folder: NIfTI, NRRD, MetaImage, PNG, TIFF."
    )
    start = parser.add_argument_group("start").add_mutually_exclusive_group(required=True)
    start.add_argument("--seeds", metavar="MASK", type=Path, help="Mask or labels on the grid of the image.")
    start.add_argument(
        "--point",
        metavar="Z,Y,X:RADIUS",
        action="append",
        help="A ball (y,x:radius on a picture), in mm; may be given several times.",
    )
    files = parser.add_argument_group("files")
    files.add_argument("--out", metavar="OUT", type=Path, required=True, help="The mask to write: 1 inside, 0 outside.")
    files.add_argument("--distance", metavar="OUT", type=Path, help="Also write the level set, in mm, positive inside.")
    files.add_argument("--walls", metavar="MASK", type=Path, help="Where the front must not go.")
    files.add_argument("--pins", metavar="MASK", type=Path, help="What must stay inside.")
    files.add_argument("--protect", metavar="LABELS", type=Path, help="Labels that are there already: no front enters.")
    which = files.add_mutually_exclusive_group()
    which.add_argument(
        "--all-labels",
        action="store_true",
        help="Every label of the seeds grows at once and keeps its number; none ever overlaps another. "
        "A table [label.N] in the parameter file holds what is different for label N.",
    )
    which.add_argument(
        "--label", metavar="N", type=_label, help="The label of the seeds to start from, and the value to write."
    )
    files.add_argument(
        "--crop", metavar="Z0:Z1,Y0:Y1,X0:X1", help="Work on this region only, in voxels, ends excluded."
    )
    frames = files.add_mutually_exclusive_group()
    frames.add_argument("--time-point", metavar="N", type=int, help="The time point to work on, counted from 0.")
    frames.add_argument("--channel", metavar="N", type=int, help="The colour channel to work on, counted from 0.")
    files.add_argument("--overwrite", action="store_true", help="Replace results of earlier runs. Inputs never are.")
    files.add_argument("--keep-partial", action="store_true", help="At Ctrl-C save the mask as far as it has come.")
    several = parser.add_argument_group("parameters together")
    several.add_argument("--preset", choices=PRESETS, help="Start from these settings; flags change them.")
    several.add_argument("--parameters", metavar="FILE", type=Path, help="Read parameters from a TOML file; flags win.")
    options.add_model(parser, LevelSetParameters)
    speeds.add_flags(parser)
    inputs.add_read_flags(parser)


def run(arguments: argparse.Namespace) -> int:
    """Do what the command line says."""
    if arguments.all_labels:
        from src_models.cli import labels

        return labels.run(arguments, chosen_parameters(arguments))
    parameters = chosen_parameters(arguments)
    if arguments.image.is_dir():
        from src_models.cli import evolve_folder

        return evolve_folder.run(arguments, lambda own: _row(own, parameters))
    job = prepare(arguments, parameters)
    began = time.perf_counter()
    job = replace(job, speed_image=speeds.prepared(job.speed_image, job.frame, job.initial, json_lines=arguments.json))
    result = drive(job.start(), json_lines=arguments.json, keep_partial=arguments.keep_partial)
    record = job.target.save(job.frame, result)
    seconds = time.perf_counter() - began
    if arguments.json:
        report.write_json(final_event(job, result, record, seconds))
    else:
        report.say(*summary(job, result, seconds))
    return CANCELLED if result.stop_reason == "cancelled" else 0


@dataclass(frozen=True, eq=False)
class Job:
    """One run of the level set: everything read and checked, nothing computed yet."""

    frame: inputs.Frame
    initial: NDArray[Any] | Seeds
    parameters: LevelSetParameters
    target: outputs.Target
    speed_image: GivenSpeed | None = None
    walls: NDArray[Any] | None = None
    pins: NDArray[Any] | None = None

    def start(self) -> Generator[LevelSetState, Any, LevelSetResult]:
        """The run, not begun."""
        from src_models.levelset.evolution import evolve

        return evolve(
            self.frame.array,
            self.initial,
            self.frame.spacing,
            self.parameters,
            self.speed_image,
            walls=self.walls,
            pins=self.pins,
        )


def chosen_parameters(arguments: argparse.Namespace) -> LevelSetParameters:
    """Preset, then file, then flags.

    Raises
    ------
    InputError, FileError
        One sentence that names the flag or the line of the file.
    """
    values: dict[str, Any] = dict(PRESETS[arguments.preset]) if arguments.preset else {}
    origin: dict[str, str] = {}
    if arguments.parameters is not None:
        apart = "label" if arguments.all_labels else ""
        from_file = options.read_parameter_file(arguments.parameters, LevelSetParameters, apart=apart)
        values |= from_file
        origin = {name: f"{name} in {arguments.parameters.name}" for name in from_file}
    flags = options.given(arguments, LevelSetParameters)
    return options.build(LevelSetParameters, values | flags, {k: v for k, v in origin.items() if k not in flags})


def prepare(arguments: argparse.Namespace, parameters: LevelSetParameters) -> Job:
    """Read and check everything a run needs, the targets first: a typing error costs no waiting."""
    named = {
        "source": arguments.image,
        "seeds": arguments.seeds,
        "speed_image": arguments.speed_image,
        "strokes": arguments.strokes,
        "walls": arguments.walls,
        "pins": arguments.pins,
        "protect": arguments.protect,
        "parameters": arguments.parameters,
    }
    sources = {name: path for name, path in named.items() if path is not None}
    target = outputs.Target(
        arguments.out, arguments.distance, arguments.label or 1, overwrite=arguments.overwrite, files=sources
    )
    target.check()
    reading = inputs.read_options(arguments)
    frame = inputs.read_frame(
        arguments.image, reading, time_point=arguments.time_point, channel=arguments.channel, crop=arguments.crop
    )
    target.check_formats(frame.volume.grid)
    if arguments.seeds is not None:
        initial: NDArray[Any] | Seeds = inputs.read_mask(arguments.seeds, frame, reading, "seeds", arguments.label)
    else:
        initial = inputs.read_points(arguments.point, frame)
    walls = inputs.read_mask(arguments.walls, frame, reading, "walls") if arguments.walls else None
    if arguments.protect is not None:
        protected = inputs.read_mask(arguments.protect, frame, reading, "protected labels")
        walls = protected if walls is None else walls | protected
    return Job(
        frame=frame,
        initial=initial,
        parameters=parameters,
        target=target,
        speed_image=speeds.read_speed(arguments, parameters, frame, reading),
        walls=walls,
        pins=inputs.read_mask(arguments.pins, frame, reading, "pins") if arguments.pins else None,
    )


def _row(arguments: argparse.Namespace, parameters: LevelSetParameters) -> dict[str, Any]:
    """Run and save one image of a folder; how it ended, as cells of a table."""
    job = prepare(arguments, parameters)
    result = drive(job.start(), json_lines=arguments.json, keep_partial=arguments.keep_partial)
    record = job.target.save(job.frame, result)
    millilitres = record.result.get("volume_ml") if job.frame.volume.grid.spacing_known else None
    return {
        "outcome": result.stop_reason,
        "mask": job.target.out.name,
        "steps": result.iteration,
        "time": f"{result.time:.4g}",
        "volume_ml": "" if millilitres is None else f"{millilitres:.4g}",
        "voxels": int(result.mask.sum()),
        "message": " ".join(result.notes),
    }


def summary(job: Job, result: LevelSetResult, seconds: float) -> list[str]:
    """What a person wants to know, in plain lines."""
    from src_models.levelset.evolution import REASONS

    size = report.size_text(result, job.frame.volume.grid)
    lines = [
        f"{REASONS[result.stop_reason]} {size} after {result.iteration} steps in {seconds:.1f} s.",
        f"Saved {job.target.out} with its record {record_path(job.target.out).name}.",
    ]
    return lines + [f"Note: {note}" for note in result.notes]


def final_event(job: Job, result: LevelSetResult, record: Record, seconds: float) -> dict[str, Any]:
    """The last JSON line."""
    return {
        "event": "result",
        "stop_reason": result.stop_reason,
        "steps": result.iteration,
        "time": result.time,
        "volume_ml": record.result.get("volume_ml"),
        "voxels": int(result.mask.sum()),
        "seconds": round(seconds, 3),
        "out": str(job.target.out),
        "record": str(record_path(job.target.out)),
        "distance": None if job.target.distance is None else str(job.target.distance),
        "notes": list(result.notes),
    }


def _label(text: str) -> int:
    value = int(text)
    if not 1 <= value <= 65535:
        raise argparse.ArgumentTypeError(f"a label is a whole number from 1 to 65535, got {text}")
    return value
