"""``lsnet replay`` of a kernel analysis: the same model and settings again, and whether the table is the same."""

from __future__ import annotations

import argparse

from pydantic import ValidationError

from src_models.cli import report
from src_models.errors import FileError, InputError
from src_models.kernels.parameters import KernelAnalysisParameters
from src_models.progress import finish
from src_models.record import Record

DIFFERENT = 1


def run(arguments: argparse.Namespace, record: Record) -> int:
    """Analyse as the record says and compare.

    Raises
    ------
    InputError, FileError
        Where the model is not that of the record.
    """
    from src_models.kernels.analysis import analyse
    from src_models.kernels.sources import open_source

    try:
        chosen = KernelAnalysisParameters(**record.parameters)
    except (TypeError, ValidationError) as error:
        name = arguments.record.name
        raise FileError(
            "record-incomplete", f"{name} lacks something that a replay needs", "", "Use a whole one."
        ) from error
    named = arguments.weights or record.local.get("model")
    if named is None:
        raise InputError("weights-unknown", "The record does not name its model", "", "Give it with --weights.")
    beside = arguments.record.parent / str(named)
    source = open_source(str(beside) if beside.exists() else str(named), fold=str(record.inputs.get("fold", "")))
    if source.content_hash != record.inputs.get("weights_sha256"):
        raise InputError(
            "record-model",
            "The model is not the one of the record",
            "its hash differs",
            "Give that version with --weights.",
        )
    with report.watch_job(arguments.json, "kernels") as show:
        made = finish(analyse(source, chosen), show)
    same = made.record.result["table_hash"] == record.result.get("table_hash")
    if arguments.json:
        report.write_json({"event": "result", "same": same, "kernels": len(made.table)})
    else:
        report.say("The same table, bit for bit." if same else "Another table than that of the record.")
    return 0 if same else DIFFERENT
