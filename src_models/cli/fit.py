"""``lsnet fit``: learn the weights of the equation from accepted masks; a parameter file and its record."""

from __future__ import annotations

import argparse
import time
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src_models.cli import evolve, inputs, options, outputs, report
from src_models.cli.evolve_folder import images_in, partner
from src_models.errors import FileError, InputError
from src_models.levelset.fit_parameters import FitParameters
from src_models.levelset.parameters import LevelSetParameters
from src_models.record import record_path, write_record

if TYPE_CHECKING:
    from src_models.levelset.fitting import AcceptedSlice, FitProgress, FitResult

_USAGE = (
    "lsnet fit IMAGE... --accepted MASK... (--seeds MASK... | --point Z,Y,X:RADIUS...) --out parameters.toml [options]"
)
_EPILOG = """\
examples:
  lsnet fit a.png b.png --accepted a_mask.png b_mask.png --seeds a_seed.png b_seed.png --out learned.toml --speed region
  lsnet fit images --accepted masks --seeds seeds --out learned.toml --speed region
  lsnet evolve others --seeds other_seeds --parameters learned.toml --out results

Files belong together by their place in the list, files of folders by their names. The other options say where learning
starts and what stays as it is. Research use only; not a medical device."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Every flag of the command."""
    parser.usage = _USAGE
    parser.epilog = _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("images", metavar="IMAGE", type=Path, nargs="+", help="Images, or one folder of images.")
    parser.add_argument(
        "--accepted",
        metavar="MASK",
        type=Path,
        nargs="+",
        required=True,
        help="The masks that are right, or their folder.",
    )
    start = parser.add_argument_group("start").add_mutually_exclusive_group(required=True)
    start.add_argument("--seeds", metavar="MASK", type=Path, nargs="+", help="Masks to start from, or their folder.")
    start.add_argument(
        "--point",
        metavar="Z,Y,X:RADIUS",
        action="append",
        help="A ball in mm (y,x:radius on a picture): one for each image in turn, or several of one image.",
    )
    files = parser.add_argument_group("files")
    files.add_argument("--out", metavar="OUT", type=Path, required=True, help="The parameter file to write (TOML).")
    files.add_argument("--label", metavar="N", type=int, help="The label of the accepted masks that counts.")
    files.add_argument(
        "--crop", metavar="Z0:Z1,Y0:Y1,X0:X1", help="Learn from this region only, such as one slice of a volume."
    )
    files.add_argument("--overwrite", action="store_true", help="Replace results of earlier runs. Inputs never are.")
    several = parser.add_argument_group("parameters together")
    several.add_argument("--preset", choices=evolve.PRESETS, help="Start from these settings; flags change them.")
    several.add_argument("--parameters", metavar="FILE", type=Path, help="Read parameters from a TOML file; flags win.")
    options.add_model(parser, FitParameters)
    options.add_model(parser, LevelSetParameters)
    inputs.add_read_flags(parser)


def run(arguments: argparse.Namespace) -> int:
    """Do what the command line says."""
    from src_models.levelset.fitting import fit

    parameters = evolve.chosen_parameters(arguments)
    settings = options.build(FitParameters, options.given(arguments, FitParameters))
    images = _listed(arguments.images)
    accepted = _partners(arguments.accepted, images, "accepted masks")
    seeds = None if arguments.seeds is None else _partners(arguments.seeds, images, "seeds")
    sources = [*images, *accepted, *(seeds or []), *([arguments.parameters] if arguments.parameters else [])]
    _check_target(arguments.out, sources, overwrite=arguments.overwrite)
    slices = read_slices(arguments, images, accepted, seeds)
    began = time.perf_counter()
    result = _drive(fit(slices, parameters, settings), json_lines=arguments.json)
    folder = arguments.out.parent.resolve()
    named = {"source": images, "accepted": accepted, "seeds": seeds or []}
    local = {
        f"{name}_{number}": outputs.relative_path(path, folder)
        for name, paths in named.items()
        for number, path in enumerate(paths, 1)
    }
    outputs.write_whole(arguments.out, parameter_file(result))
    write_record(record_path(arguments.out), result.record.model_copy(update={"local": local}))
    _tell(arguments, result, time.perf_counter() - began)
    return 0


def read_slices(
    arguments: argparse.Namespace, images: Sequence[Path], accepted: Sequence[Path], seeds: Sequence[Path] | None
) -> list[AcceptedSlice]:
    """Read what is learned from.

    Raises
    ------
    InputError, FileError, GeometryError
        One sentence each.
    """
    from src_models.levelset.fitting import AcceptedSlice

    reading = inputs.read_options(arguments)
    points = _points_per_image(arguments.point, len(images)) if seeds is None else []
    slices = []
    for number, (image, mask) in enumerate(zip(images, accepted, strict=True)):
        frame = inputs.read_frame(image, reading, crop=arguments.crop)
        slices.append(
            AcceptedSlice(
                image=frame.array,
                start=inputs.read_points(points[number], frame)
                if seeds is None
                else inputs.read_mask(seeds[number], frame, reading, "seeds"),
                accepted=inputs.read_mask(mask, frame, reading, "accepted mask", arguments.label),
                spacing=frame.spacing,
                name=image.name,
            )
        )
    return slices


def parameter_file(result: FitResult) -> bytes:
    """The learned parameters as TOML, for ``lsnet evolve --parameters``: whatever differs from the defaults."""
    import tomli_w

    values = result.parameters.model_dump(mode="json", exclude_defaults=True, exclude_none=True)
    return tomli_w.dumps(values).encode()


def _listed(paths: Sequence[Path]) -> list[Path]:
    if len(paths) == 1 and paths[0].is_dir():
        return images_in(paths[0])
    for path in paths:
        if path.is_dir():
            raise FileError("fit-folder", f"{path.name} is a folder", "", "Give files, or one folder alone.")
    return list(paths)


def _partners(paths: Sequence[Path], images: Sequence[Path], what: str) -> list[Path]:
    """One file for each image: by name out of a folder, else in turn."""
    if len(paths) == 1 and paths[0].is_dir():
        return [partner(paths[0], image, what) for image in images]
    if len(paths) != len(images):
        raise InputError(
            "fit-count",
            f"There are {len(images)} images but {len(paths)} {what}",
            "they belong together in turn",
            "Give one for each image.",
        )
    return _listed(paths)


def _points_per_image(points: Sequence[str], images: int) -> list[list[str]]:
    if images == 1:
        return [list(points)]
    if len(points) != images:
        raise InputError(
            "fit-count",
            f"There are {images} images but {len(points)} points",
            "they belong together in turn",
            "Give --point once for each image.",
        )
    return [[point] for point in points]


def _check_target(out: Path, sources: Sequence[Path], *, overwrite: bool) -> None:
    if out.suffix.lower() != ".toml":
        raise InputError(
            "fit-out", f"{out.name} is no name for a parameter file", "it must end in .toml", "Choose another name."
        )
    own_parameters = [path for path in sources if path.suffix.lower() != ".toml"]
    outputs.check_targets([out, record_path(out)], own_parameters if overwrite else sources, overwrite=overwrite)


def _drive(work: Generator[FitProgress, None, FitResult], *, json_lines: bool) -> FitResult:
    with report.watch_job(json_lines, "learning") as show:
        while True:
            try:
                progress = next(work)
            except StopIteration as end:
                result: FitResult = end.value
                return result
            show(progress)


def _tell(arguments: argparse.Namespace, result: FitResult, seconds: float) -> None:
    learned = _learned(result)
    before, after = (sum(d) / len(d) for d in (result.dice_before, result.dice_after))
    if arguments.json:
        report.write_json(
            {
                "event": "result",
                "learned": learned,
                "dice_before": before,
                "dice_after": after,
                "losses": list(result.losses),
                "seconds": round(seconds, 3),
                "out": str(arguments.out),
                "record": str(record_path(arguments.out)),
                "notes": list(result.notes),
            }
        )
        return
    report.say(
        f"Dice on what was learned from: {before:.3f} before, {after:.3f} after {len(result.losses) - 1} iterations "
        f"in {seconds:.1f} s.",
        "Learned " + ", ".join(f"{name} {value:g}" for name, value in learned.items()) + ".",
        f"Saved {arguments.out} with its record {record_path(arguments.out).name}.",
        *(f"Note: {note}" for note in result.notes),
    )


def _learned(result: FitResult) -> Mapping[str, Any]:
    values = result.parameters.model_dump()
    return {name: values[name] for name in result.record.result["learned"]}
