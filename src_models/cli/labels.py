"""``lsnet evolve --all-labels``: every label of the seeds grows at once, none over another."""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from src_models.cli import inputs, options, outputs, report
from src_models.cli.driving import drive
from src_models.errors import CANCELLED, InputError
from src_models.levelset.classifier import ClassifierParameters
from src_models.levelset.clustering import ClusterParameters
from src_models.levelset.parameters import LevelSetParameters
from src_models.record import Record, record_path

if TYPE_CHECKING:
    from src_models.files import ReadOptions
    from src_models.levelset.coupled import LabelsResult

ONE_ONLY = {
    "point": "--point gives no label its number",
    "distance": "each label has a level set of its own",
    "speed_image": "each label has a speed of its own",
    "strokes": "a classifier knows one structure",
    "stroke_label": "a classifier knows one structure",
}
"""Flags of a run of one front, and why they do not go with several."""


@dataclass(frozen=True, eq=False)
class Job:
    """One run of several labels: everything read and checked, nothing computed yet."""

    frame: inputs.Frame
    starts: NDArray[Any]
    parameters: dict[int, LevelSetParameters]
    target: outputs.Target
    masks: dict[str, NDArray[Any]]


def run(arguments: argparse.Namespace, common: LevelSetParameters) -> int:
    """Do what the command line says; `common` are the parameters that every label begins with."""
    from src_models.levelset.coupled import evolve_labels

    job = prepare(arguments, common)
    began = time.perf_counter()
    work = evolve_labels(job.frame.array, job.starts, job.frame.spacing, job.parameters, **job.masks)
    result = drive(work, json_lines=arguments.json, keep_partial=arguments.keep_partial)
    record = job.target.save_labels(job.frame, result)
    seconds = time.perf_counter() - began
    if arguments.json:
        report.write_json(final_event(job, result, record, seconds))
    else:
        report.say(*summary(job, result, seconds))
    return CANCELLED if result.stop_reason == "cancelled" else 0


def prepare(arguments: argparse.Namespace, common: LevelSetParameters) -> Job:
    """Read and check everything, the targets first.

    Raises
    ------
    InputError, FileError, GeometryError, SaveError
        One sentence each.
    """
    if arguments.image.is_dir():
        raise InputError(
            "all-labels", "A folder of images does not go with --all-labels", "", "Give one image after the other."
        )
    for name, why in ONE_ONLY.items():
        if getattr(arguments, name) is not None:
            flag = options.flag(name)
            raise InputError("all-labels", f"{flag} does not go with --all-labels", why, f"Leave out {flag}.")
    for model in (ClassifierParameters, ClusterParameters):
        for name in options.given(arguments, model):
            flag = options.flag(name)
            why = "labels take their speed from the image and their own parameters"
            raise InputError("all-labels", f"{flag} does not go with --all-labels", why, f"Leave out {flag}.")
    files = {name: getattr(arguments, name) for name in ("seeds", "walls", "pins", "protect", "parameters")}
    sources: dict[str, Path] = {"source": arguments.image} | {k: path for k, path in files.items() if path is not None}
    target = outputs.Target(arguments.out, overwrite=arguments.overwrite, files=sources)
    target.check()
    reading = inputs.read_options(arguments)
    frame = inputs.read_frame(
        arguments.image, reading, time_point=arguments.time_point, channel=arguments.channel, crop=arguments.crop
    )
    target.check_formats(frame.volume.grid)
    starts = _labels(arguments.seeds, frame, reading, "seeds")
    masks: dict[str, NDArray[Any]] = {}
    if arguments.walls is not None:
        masks["walls"] = inputs.read_mask(arguments.walls, frame, reading, "walls")
    if arguments.pins is not None:
        masks["pins"] = _labels(arguments.pins, frame, reading, "pins")
    if arguments.protect is not None:
        masks["protected"] = inputs.read_mask(arguments.protect, frame, reading, "protected labels")
    numbers = [int(number) for number in np.unique(starts) if number != 0]
    return Job(frame, starts, parameters_of_labels(common, arguments.parameters, numbers), target, masks)


def _labels(path: Path, frame: inputs.Frame, reading: ReadOptions, what: str) -> NDArray[Any]:
    """The label numbers of a file, of which there must be some."""
    inputs.read_mask(path, frame, reading, what)
    return inputs.read_labels(path, frame, reading, what)


def parameters_of_labels(
    common: LevelSetParameters, path: Path | None, numbers: list[int]
) -> dict[int, LevelSetParameters]:
    """The parameters of each label: the common ones, and over them its table ``[label.N]`` in the file.

    Raises
    ------
    InputError, FileError
        Naming the table or the line.
    """
    tables = {} if path is None else options.read_numbered_tables(path, LevelSetParameters, "label")
    unknown = sorted(set(tables) - set(numbers))
    if unknown:
        there = ", ".join(map(str, numbers))
        raise InputError(
            "label-unknown", f"The seeds have no label {unknown[0]}", f"they have {there}", "Change the table's number."
        )
    base = common.model_dump(exclude_unset=True)
    found: dict[int, LevelSetParameters] = {}
    for number in numbers:
        own = tables.get(number, {})
        origin = {name: f"{name} of [label.{number}]" for name in own}
        found[number] = options.build(LevelSetParameters, base | own, origin)
    return found


def summary(job: Job, result: LabelsResult, seconds: float) -> list[str]:
    """What a person wants to know, in plain lines."""
    from src_models.levelset.evolution import REASONS

    lines = [f"{len(result.reports)} labels after {result.iteration} steps in {seconds:.1f} s."]
    voxels = np.bincount(result.labels.reshape(-1), minlength=max(result.reports) + 1)
    for number, one in result.reports.items():
        if not job.frame.volume.grid.spacing_known:
            size = f"{voxels[number]} {'voxels' if job.frame.volume.grid.ndim == 3 else 'pixels'}"
        else:
            size = f"{one.size:.1f} mm2" if one.volume_ml is None else f"{one.volume_ml:.2f} ml"
        lines.append(f"  {number:>5}  {size}  {REASONS[one.stop_reason or 'cancelled']}")
    lines.append(f"Saved {job.target.out} with its record {record_path(job.target.out).name}.")
    return lines + [f"Note: {note}" for note in result.notes]


def final_event(job: Job, result: LabelsResult, record: Record, seconds: float) -> dict[str, Any]:
    """The last JSON line."""
    voxels = np.bincount(result.labels.reshape(-1), minlength=max(result.reports) + 1)
    return {
        "event": "result",
        "stop_reason": result.stop_reason,
        "steps": result.iteration,
        "time": result.time,
        "labels": {
            str(number): {
                "stop_reason": one.stop_reason,
                "volume_ml": one.volume_ml,
                "size_mm": one.size,
                "voxels": int(voxels[number]),
            }
            for number, one in result.reports.items()
        },
        "volume_ml": record.result.get("volume_ml"),
        "seconds": round(seconds, 3),
        "out": str(job.target.out),
        "record": str(record_path(job.target.out)),
        "notes": list(result.notes),
    }
