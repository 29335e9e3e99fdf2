"""``lsnet replay``: make a result again from its record and say whether it is the same."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from src_models.cli import inputs, outputs, report
from src_models.cli.driving import drive
from src_models.errors import FileError, InputError, LsnetError
from src_models.record import Record, content_hash, record_path, versions

if TYPE_CHECKING:
    from src_models.files import ReadOptions
    from src_models.levelset.coupled import LabelsResult
    from src_models.levelset.evolution import LevelSetResult

DIFFERENT = 1
"""Exit code where the result is not the same, bit for bit."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the command."""
    parser.epilog = "Exit code 0: the same mask, bit for bit. 1: another mask."
    parser.add_argument("record", metavar="RECORD", type=Path, help="The record: a file that ends in .lsnet.json.")
    parser.add_argument("--source", metavar="FILE", type=Path, help="The image, where it is not where it was.")
    parser.add_argument("--speed-image", metavar="FILE", type=Path, help="The speed image, likewise.")
    parser.add_argument("--weights", metavar="NAME", help="The model of a prediction, likewise.")
    parser.add_argument("--out", metavar="OUT", type=Path, help="Write the mask that was made again, and its record.")
    parser.add_argument("--overwrite", action="store_true", help="Replace results of earlier runs. Inputs never are.")
    inputs.add_read_flags(parser)


def run(arguments: argparse.Namespace) -> int:
    """Do what the command line says."""
    from src_models.levelset.coupled import TASK, replay_labels
    from src_models.levelset.evolution import replay

    record = Record.read(arguments.record)
    if record.task == "predict":
        from src_models.cli import replay_predict

        return replay_predict.run(arguments, record)
    if record.task == "kernels":
        from src_models.cli import replay_kernels

        return replay_kernels.run(arguments, record)
    if record.task not in ("evolve", TASK):
        what = {"fit": "it tells how weights were learned"}.get(record.task, f"its task is {record.task}")
        raise InputError("record-task", "This record is not of a level set run", what, "Choose the record of a mask.")
    reading = inputs.read_options(arguments)
    files = {"source": arguments.source or _found(record, arguments.record, "source", "image")}
    if "speed_image" in record.inputs:
        files["speed_image"] = arguments.speed_image or _found(record, arguments.record, "speed_image", "speed image")
    target = None
    if arguments.out is not None:
        target = outputs.Target(arguments.out, overwrite=arguments.overwrite, files=files)
        outputs.check_targets([arguments.out, record_path(arguments.out)], [arguments.record], overwrite=True)
        target.check()
    frame = inputs.frame_of_region(files["source"], reading, record.source.region if record.source else None)
    if target is not None:
        target.check_formats(frame.volume.grid)
    speed = inputs.read_speed_image(files["speed_image"], frame, reading) if "speed_image" in files else None
    several = record.task == TASK
    result: LevelSetResult | LabelsResult
    try:
        if several:
            result = drive(replay_labels(record, frame.array), json_lines=arguments.json)
        else:
            result = drive(replay(record, frame.array, speed), json_lines=arguments.json)
    except (KeyError, ValidationError) as error:
        name = arguments.record.name
        raise FileError(
            "record-incomplete", f"{name} lacks something that a replay needs", "", "Use a whole one."
        ) from (error)
    made = _made(result)
    same = content_hash(made) == record.result.get(_HASH[several])
    before = None if same else _made_before(record, arguments.record, frame, reading, made.dtype)
    if target is not None:
        _save(target, frame, result)
    if arguments.json:
        report.write_json(_event(result, before, same=same))
    else:
        report.say(*_lines(record, result, before, frame, same=same))
        if target is not None:
            report.say(f"Saved {target.out}.")
    return 0 if same else DIFFERENT


_HASH = {False: "mask_hash", True: "labels_hash"}


def _made(result: LevelSetResult | LabelsResult) -> NDArray[Any]:
    """What is compared: the mask, or the labels."""
    labels = getattr(result, "labels", None)
    return result.mask if labels is None else np.asarray(labels)


def _save(target: outputs.Target, frame: inputs.Frame, result: LevelSetResult | LabelsResult) -> None:
    from src_models.levelset.coupled import LabelsResult

    if isinstance(result, LabelsResult):
        target.save_labels(frame, result)
    else:
        target.save(frame, result)


def _found(record: Record, path: Path, name: str, what: str) -> Path:
    """A file that the record's local block points to."""
    flag = f"--{name.replace('_', '-')}"
    way = record.local.get(name)
    if way is None or not (path.parent / way).is_file():
        why = "the record does not say where it is" if way is None else "it is not where it was"
        raise FileError(
            f"{name}-missing", f"The {what} of this record was not found", why, f"Give it with {flag} FILE."
        )
    return path.parent / way


def _made_before(
    record: Record, path: Path, frame: inputs.Frame, reading: ReadOptions, dtype: np.dtype[Any]
) -> NDArray[Any] | None:
    """The mask or labels that were saved with the record, where they still are what the record says."""
    from src_models.files import read_segmentation

    way = record.local.get("out")
    if way is None or not (path.parent / way).is_file():
        return None
    try:
        found = read_segmentation(path.parent / way, reading, like=frame.volume.grid)
    except LsnetError:
        return None
    if found.labels.shape != frame.volume.grid.shape:
        return None
    made = found.labels[frame.box]
    made = np.asarray(made != 0) if dtype == np.bool_ else made.astype(dtype)
    return made if content_hash(made) == record.result.get(_HASH[dtype != np.bool_]) else None


def _difference(made: NDArray[Any], before: NDArray[Any]) -> tuple[int, float]:
    """Voxels that differ, and the Dice of the two; of labels, both must name the same."""
    both = int((made != 0).sum()) + int((before != 0).sum())
    agree = int(((made == before) & (made != 0)).sum())
    return int((made != before).sum()), 2 * agree / both if both else 1.0


def _event(result: LevelSetResult | LabelsResult, before: NDArray[Any] | None, *, same: bool) -> dict[str, Any]:
    differing, dice = (0, 1.0) if same else (None, None) if before is None else _difference(_made(result), before)
    return {
        "event": "result",
        "identical": same,
        "differing_voxels": differing,
        "dice": dice,
        "stop_reason": result.stop_reason,
        "steps": result.iteration,
        "time": result.time,
        "volume_ml": result.record.result.get("volume_ml"),
    }


def _lines(
    record: Record,
    result: LevelSetResult | LabelsResult,
    before: NDArray[Any] | None,
    frame: inputs.Frame,
    *,
    same: bool,
) -> list[str]:
    size = report.size_text(result, frame.volume.grid)
    if same:
        what = "mask is" if _made(result).dtype == np.bool_ else "labels are"
        return [f"The {what} the same, bit for bit: {size} after {result.iteration} steps."]
    if before is None:
        then = record.result.get("steps")
        lines = [f"The mask differs: now {size} after {result.iteration} steps, then {then} steps."]
    else:
        differing, dice = _difference(_made(result), before)
        lines = [f"The mask differs in {differing} of {before.size} voxels (Dice {dice:.6f})."]
    now = versions(*(name for name in record.versions if name not in ("python", "napari-lsnet", "numpy")))
    now["device"], then_made = result.record.device, {**record.versions, "device": record.device}
    lines += [
        f"  {name}: then {then_made[name]}, now {now[name]}" for name in then_made if then_made[name] != now[name]
    ]
    return lines
