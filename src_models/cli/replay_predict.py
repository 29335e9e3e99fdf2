"""``lsnet replay`` of a prediction: the same model on the same image again, and whether the labels are the same."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from src_models.cli import inputs, predict_case, report
from src_models.cli.predict_nnunet import BACKEND
from src_models.errors import FileError, InputError
from src_models.inference.parameters import PredictionParameters
from src_models.progress import finish
from src_models.record import Record, content_hash

if TYPE_CHECKING:
    from src_models.weights.model import Model

DIFFERENT = 1


def run(arguments: argparse.Namespace, record: Record) -> int:
    """Predict as the record says and compare.

    Raises
    ------
    InputError, FileError
        Where the image or the model is not that of the record.
    """
    if record.inputs.get("backend") == BACKEND:
        raise InputError(
            "record-backend",
            "This prediction was made by nnU-Net itself",
            "",
            f"Repeat it with lsnet predict --backend {BACKEND}.",
        )
    try:
        parameters = PredictionParameters(**record.parameters)
        hashes = [(str(one["sha256"]), tuple(map(str, one.get("first_stage", ())))) for one in record.inputs["models"]]
        stated = record.inputs.get("stated_spacing")
        spacing = None if stated is None else tuple(float(h) for h in stated)
        points = tuple(tuple(float(x) for x in point) for point in record.inputs.get("points", ()))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        name = arguments.record.name
        raise FileError(
            "record-incomplete", f"{name} lacks something that a replay needs", "", "Use a whole one."
        ) from error
    files = [arguments.source] if arguments.source is not None else _sources(record, arguments.record)
    out: Path = arguments.out or arguments.record.with_name("replayed")
    settings = predict_case.CaseOptions(
        weights=str(arguments.weights or _weights(record, arguments.record)),
        folds="all",
        models_folder=None,
        parameters=parameters,
        reading=inputs.read_options(arguments),
        overwrite=arguments.overwrite,
        spacing=spacing,
    )
    case = predict_case.Case(files[0].name, tuple(files), out)
    if arguments.out is not None:
        predict_case.check_cases([case], settings)
    models = _same_models(predict_case.load_models(settings), hashes)
    began = time.perf_counter()
    opened = replace(predict_case.opened(case, settings, models), points=points)
    if record.source is not None and content_hash(opened.volume.array) != record.source.content_hash:
        raise InputError(
            "record-source", "The image is not the one of the record", "its content differs", "Give it with --source."
        )
    with report.watch_job(arguments.json, case.name) as show:
        made = finish(opened.start(lambda: False), show)
    same = content_hash(made.labels) == record.result.get("labels_hash")
    if arguments.out is not None:
        predict_case.save(case, settings, opened, made, time.perf_counter() - began)
    if arguments.json:
        report.write_json({"event": "result", "same": same, "notes": list(made.notes)})
    else:
        report.say("The same labels, bit for bit." if same else "Other labels than those of the record.")
        report.say(*(f"Note: {note}" for note in made.notes))
    return 0 if same else DIFFERENT


def _sources(record: Record, path: Path) -> list[Path]:
    """The image files that the record's local block points to."""
    names = [name for name in record.local if name == "source" or name.startswith("channel_")]
    files = [path.parent / record.local[name] for name in sorted(names)]
    if not files or not all(file.is_file() for file in files):
        raise FileError(
            "source-missing",
            "The image of this record was not found",
            "it is not where it was" if files else "the record does not say where it is",
            "Give it with --source FILE.",
        )
    return files


def _weights(record: Record, path: Path) -> str:
    """The model that the record's local block names: a name, or the way to a file."""
    named = record.local.get("weights")
    if named is None:
        raise InputError("weights-unknown", "The record does not name its model", "", "Give it with --weights.")
    beside = path.parent / named
    return str(beside) if beside.exists() else named


def _same_models(found: Sequence[Model], hashes: Sequence[tuple[str, tuple[str, ...]]]) -> list[Model]:
    """The folds of the record, by their content and that of their first stages."""
    by_hash = {(one.card.sha256, tuple(stage.card.sha256 for stage in one.first_stage)): one for one in found}
    if any(one not in by_hash for one in hashes):
        raise InputError(
            "record-model",
            "The model is not the one of the record",
            "its hash differs",
            "Give that version with --weights.",
        )
    return [by_hash[one] for one in hashes]
