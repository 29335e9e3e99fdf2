"""``lsnet predict``: apply a trained network to a file or a folder, save labels and how they were made."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src_models.cli import inputs, options, report
from src_models.cli.predict_nnunet import Peer
from src_models.errors import CANCELLED, InputError, LsnetError
from src_models.files.gate import MAX_SPACING_MM, MIN_SPACING_MM
from src_models.inference.parameters import PredictionParameters
from src_models.progress import Progress, finish

if TYPE_CHECKING:
    from src_models.cli.predict_case import Case, CaseOptions, Outcome
    from src_models.weights.model import Model

_USAGE = "lsnet predict INPUT --weights NAME|FILE|FOLDER --out FOLDER [options]"
_EPILOG = """\
examples:
  lsnet predict ct.nii.gz --weights unet-liver-2d --out masks
  lsnet predict images --weights my_model.safetensors --out masks --post largest
  lsnet predict mr.nii.gz --weights nnunet-hippocampus-3d --out masks --outputs labels,prob,entropy

Each input gets a file of labels with its own name, on its own grid and in its own kind of file, and a record beside it.
A network of several channels takes NAME_0000, NAME_0001, ... as one image. Research use only; not a medical device."""
_TITLES = {"basic": "prediction", "run": "device and memory", "advanced": "advanced"}
_OUTPUTS = {"prob": "probabilities", "entropy": "entropy", "disagreement": "disagreement", "attention": "attention"}
SOME_FAILED = 1
"""Exit code where at least one image of a folder has no result."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Every flag of the command; those of the prediction come from the parameter model."""
    parser.usage = _USAGE
    parser.epilog = _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "input",
        metavar="INPUT",
        type=Path,
        help="The image, or a folder of images: NIfTI, NRRD, MetaImage, PNG, TIFF; or a zarr array.",
    )
    files = parser.add_argument_group("files")
    files.add_argument(
        "--weights", metavar="NAME|FILE|FOLDER", required=True, help="The model; see lsnet weights list."
    )
    files.add_argument("--folds", metavar="all|N,...", default="all", help="Which folds of it are averaged.")
    files.add_argument(
        "--point",
        metavar="Z,Y,X",
        action="append",
        default=[],
        help="A click inside the structure, for a model that begins at one: mm, axes as the file stores them. "
        "May be given several times.",
    )
    files.add_argument("--models-folder", metavar="FOLDER", type=Path, help="Where models are looked for by name.")
    files.add_argument("--out", metavar="FOLDER", type=Path, required=True, help="Where results go; made if missing.")
    files.add_argument(
        "--outputs",
        metavar="labels,...",
        default="",
        help=f"What is written beside labels, with commas: {', '.join(_OUTPUTS)}.",
    )
    files.add_argument(
        "--spacing",
        metavar="Z,Y,X",
        help="Voxel size in mm of images whose files give none, such as pictures; slowest axis first.",
    )
    files.add_argument("--overwrite", action="store_true", help="Replace results of earlier runs. Inputs never are.")
    files.add_argument("--keep-partial", action="store_true", help="At Ctrl-C save what is finished, marked partial.")
    files.add_argument("--dry-run", action="store_true", help="Only say what would be done and what memory it takes.")
    files.add_argument(
        "--cluster",
        metavar="N|ADDRESS",
        help="Predict a folder on a Dask cluster, one image a task: N workers here, or the address of a scheduler.",
    )
    other = parser.add_argument_group("another program")
    other.add_argument(
        "--backend",
        choices=("lsnet", "nnunet"),
        default="lsnet",
        help="nnunet: nnU-Net itself predicts, in a process of its own; --weights is then its folder.",
    )
    other.add_argument(
        "--nnunet-python",
        metavar="PATH",
        type=Path,
        default=Path(sys.executable),
        help="Python of the environment that has nnunetv2. Default: the one of this program.",
    )
    options.add_model(parser, PredictionParameters, _TITLES)
    _widen(parser)
    inputs.add_read_flags(parser)


def run(arguments: argparse.Namespace) -> int:
    """Do what the command line says."""
    from src_models.cli import predict_case

    parameters = chosen_parameters(arguments)
    reading = inputs.read_options(arguments)
    settings = predict_case.CaseOptions(
        weights=arguments.weights,
        folds=arguments.folds,
        models_folder=arguments.models_folder,
        parameters=parameters,
        reading=reading,
        overwrite=arguments.overwrite,
        spacing=read_spacing(arguments.spacing),
        points=tuple(arguments.point),
    )
    if arguments.backend == "nnunet":
        from src_models.cli.predict_nnunet import peer

        if predict_case.is_array_store(arguments.input):
            raise InputError("nnunet-zarr", "nnU-Net does not read zarr", "", "Leave out --backend nnunet.")
        with peer(arguments, parameters) as other:
            return _predict(settings, other, len(other.channels), arguments)
    models = predict_case.load_models(settings)
    return _predict(settings, models, len(models[0].card.preprocessing.channels), arguments)


def _predict(
    settings: CaseOptions, models: Sequence[Model] | Peer, channels: int, arguments: argparse.Namespace
) -> int:
    """Find the images and predict them, or say what would be done."""
    from src_models.cli import predict_case

    cases = predict_case.find_cases(arguments.input, arguments.out, channels)
    if arguments.point and len(cases) > 1:
        raise InputError("point-folder", "A click belongs to one image", "", "Predict the images one by one.")
    if not arguments.dry_run:
        predict_case.check_out(arguments.input, arguments.out)
    predict_case.check_cases(cases, settings)
    if arguments.dry_run:
        return _tell_plan(cases, settings, models, arguments)
    if arguments.cluster is not None:
        return _on_cluster(cases, settings, arguments)
    if not arguments.input.is_dir() or predict_case.is_array_store(arguments.input):
        return _one(cases[0], settings, models, arguments)
    return _folder(cases, settings, models, arguments)


def chosen_parameters(arguments: argparse.Namespace) -> PredictionParameters:
    """What the flags say: also ``--mirror 0,1`` and ``--tile 96``, which are fields of their own in the model.

    Raises
    ------
    InputError
        Naming the flag that cannot be so.
    """
    values = options.given(arguments, PredictionParameters)
    for field, numbers, instead in (("mirror", "mirror_axes", "all"), ("tile", "window", "auto")):
        text = values.get(field)
        parts = text if isinstance(text, tuple) else str(text or "").split(",")
        if all(str(part).strip().isdigit() for part in parts):
            values |= {field: instead, numbers: tuple(int(part) for part in parts)}
    for name in filter(None, (part.strip() for part in arguments.outputs.split(","))):
        if name not in ("labels", *_OUTPUTS):
            raise InputError("outputs", f"--outputs knows no {name}", "", f"Choose of: labels, {', '.join(_OUTPUTS)}.")
        if name != "labels":
            values[_OUTPUTS[name]] = True
    return options.build(PredictionParameters, values)


def read_spacing(text: str | None) -> tuple[float, ...] | None:
    """The numbers of ``--spacing``.

    Raises
    ------
    InputError
        Where they are no sizes.
    """
    if text is None:
        return None
    try:
        sizes = tuple(float(part) for part in text.split(","))
    except ValueError:
        sizes = ()
    if len(sizes) not in (2, 3) or not all(MIN_SPACING_MM <= h <= MAX_SPACING_MM for h in sizes):
        why = f"it takes 2 or 3 sizes from {MIN_SPACING_MM:g} to {MAX_SPACING_MM:g} mm"
        raise InputError("spacing", f"--spacing {text} cannot be read", why, "Write it like this: --spacing 3,0.8,0.8")
    return sizes


def _widen(parser: argparse.ArgumentParser) -> None:
    """Let --mirror and --tile take numbers beside their words."""
    for action in parser._actions:
        if "--mirror" in action.option_strings:
            action.choices, action.metavar = None, "none|all|AXES"
        if "--tile" in action.option_strings:
            action.choices, action.metavar = None, "auto|exact|SIZE"


def _one(case: Case, settings: CaseOptions, models: Sequence[Model] | Peer, arguments: argparse.Namespace) -> int:
    from src_models.cli import predict_case

    outcome, said = _watched(case, settings, models, arguments)
    if arguments.json:
        report.write_json({"event": "result", **outcome.told()})
    else:
        report.say(*predict_case.summary(outcome, said))
    return 0 if outcome.complete else CANCELLED


def _watched(
    case: Case, settings: CaseOptions, models: Sequence[Model] | Peer, arguments: argparse.Namespace
) -> tuple[Outcome, set[str]]:
    """One case under a bar or JSON lines, with the notes that were said before and while it ran.

    A first Ctrl-C keeps what is finished, where that is asked for.
    """
    from src_models.cli import predict_case
    from src_models.cli.driving import interrupts

    began = time.perf_counter()
    said: set[str] = set()
    # of a folder it must be plain which image is meant
    lead = f"{case.name}: " if arguments.input.is_dir() else ""
    with (
        report.watch_job(arguments.json, case.name) as show,
        interrupts(arguments.keep_partial) as interrupted,
    ):

        def heed(step: Progress) -> None:
            """What may go badly is said at once, while there is still time to stop it."""
            if not arguments.json:
                report.warn(*(f"Note: {lead}{note}" for note in step.notes if note not in said))
                said.update(step.notes)
            show(step)

        if not isinstance(models, Peer) and predict_case.is_array_store(case.files[0]):
            return finish(predict_case.start_chunked(case, settings, models), heed), said
        opened = predict_case.opened(case, settings, models)
        work = opened.start(interrupted)
        while True:
            try:
                step = next(work)
            except StopIteration as end:
                return predict_case.save(case, settings, opened, end.value, time.perf_counter() - began), said
            heed(step)


def _folder(
    cases: Sequence[Case], settings: CaseOptions, models: Sequence[Model] | Peer, arguments: argparse.Namespace
) -> int:
    """Every image; what goes wrong with one is a sentence, and the others go on."""
    failed = 0
    for number, case in enumerate(cases, 1):
        try:
            outcome, said = _watched(case, settings, models, arguments)
        except (LsnetError, MemoryError) as error:
            failed += 1
            _tell_failure(number, len(cases), case.name, error, arguments)
            continue
        _tell_row(number, len(cases), outcome.told(), arguments, said)
        if not outcome.complete:
            return CANCELLED
    return _tell_end(len(cases), failed, arguments)


def _on_cluster(cases: Sequence[Case], settings: CaseOptions, arguments: argparse.Namespace) -> int:
    from src_models.cli.predict_case import run_case
    from src_models.inference.cluster import results

    failed = 0
    jobs = {case.name: (case, settings) for case in cases}
    for number, (name, outcome) in enumerate(results(run_case, jobs, arguments.cluster), 1):
        if isinstance(outcome, BaseException):
            failed += 1
            _tell_failure(number, len(cases), name, outcome, arguments)
        else:
            _tell_row(number, len(cases), outcome.told(), arguments)
    return _tell_end(len(cases), failed, arguments)


def _tell_row(
    number: int, count: int, told: dict[str, Any], arguments: argparse.Namespace, said: Collection[str] = ()
) -> None:
    if arguments.json:
        report.write_json({"event": "image", "number": number, "of": count, **told})
        return
    report.say(f"{number} of {count}  {told['image']}: {told['voxels']} voxels in {told['seconds']} s")
    report.say(*(f"  Note: {note}" for note in told["notes"] if note not in said))


def _tell_failure(number: int, count: int, name: str, error: BaseException, arguments: argparse.Namespace) -> None:
    sentence = " ".join(str(error).split())
    if isinstance(error, MemoryError) or not sentence:
        sentence = "There is not enough memory for this image."
    if arguments.json:
        code = getattr(error, "code", "memory")
        report.write_json(
            {"event": "image", "number": number, "of": count, "image": name, "failed": code, "message": sentence}
        )
    else:
        report.say(f"{number} of {count}  {name}: {sentence}")


def _tell_end(count: int, failed: int, arguments: argparse.Namespace) -> int:
    if arguments.json:
        report.write_json({"event": "result", "images": count, "failed": failed, "out": str(arguments.out)})
    else:
        report.say(f"{count - failed} of {count} images done. Saved in {arguments.out}.")
    return SOME_FAILED if failed else 0


def _tell_plan(
    cases: Sequence[Case], settings: CaseOptions, models: Sequence[Model] | Peer, arguments: argparse.Namespace
) -> int:
    """What would be done; the images are read, since their size decides."""
    from src_models.cli import predict_case

    for case in cases:
        work: Any
        if not isinstance(models, Peer) and predict_case.is_array_store(case.files[0]):
            work = predict_case.start_chunked(case, settings, models)
        else:
            work = predict_case.opened(case, settings, models).start(lambda: False)
        first = next(work)
        work.close()
        told = {
            "image": case.name,
            "out": str(case.target),
            # what another program takes is not foretold
            "peak_memory_gb": round(peak, 3) if (peak := first.values.get("peak_memory_gb")) is not None else None,
            "notes": list(first.notes),
        }
        if arguments.json:
            report.write_json({"event": "plan", **told})
        else:
            report.say(f"{case.name} -> {case.target}. {first.message}")
            report.say(*(f"  Note: {note}" for note in first.notes))
    return 0
