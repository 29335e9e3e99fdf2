"""``lsnet info``: what a file holds, from its header; for a record, how the result was made."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from src_models.cli import inputs, options, report
from src_models.record import Record

if TYPE_CHECKING:
    from src_models.files import FileFacts


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the command."""
    parser.add_argument("file", metavar="FILE", type=Path, help="An image, a mask, or a record (.lsnet.json).")
    parser.add_argument("--values", action="store_true", help="Read the voxels too and give their range.")
    inputs.add_read_flags(parser)


def run(arguments: argparse.Namespace) -> int:
    """Do what the command line says."""
    if arguments.file.name.lower().endswith(".json"):
        record = Record.read(arguments.file)
        if arguments.json:
            report.write_json(json.loads(record.to_json()))
        else:
            report.say(*record_lines(record))
        return 0
    from src_models.files import describe

    facts = describe(arguments.file, inputs.read_options(arguments), values=arguments.values)
    if arguments.json:
        report.write_json(asdict(facts))
    else:
        report.say(*file_lines(facts))
    return 0


def file_lines(facts: FileFacts) -> list[str]:
    """An image file in plain lines."""
    size = " x ".join(str(n) for n in facts.shape)
    spacing = " x ".join(f"{h:g}" for h in facts.spacing)
    lines = [
        f"{facts.name}: {facts.format}, {'labels' if facts.labels else 'image'}, {facts.dtype}",
        f"  {facts.passport}",
        f"  voxels    {size}, slowest axis first",
        f"  spacing   {spacing} {facts.unit}, in the same order",
        f"  axes      {_axes(facts)}",
    ]
    if facts.leading_axis:
        name = {"t": "time points", "c": "channels"}[facts.leading_axis]
        step = f", {facts.time_step:g} s apart" if facts.time_step else ""
        lines.append(f"  frames    {facts.leading_length} {name}{step}")
    if facts.value_range is not None:
        lines.append(f"  values    {facts.value_range[0]:g} to {facts.value_range[1]:g}")
    return lines + [f"  note      {note}" for note in facts.notes]


def record_lines(record: Record) -> list[str]:
    """A record in plain lines."""
    result = record.result
    lines = [f"Record of a run of {record.task!r}, {record.status}"]
    if record.source is not None:
        size = " x ".join(str(n) for n in record.source.shape)
        spacing = " x ".join(f"{h:g}" for h in record.source.spacing)
        voxels = "voxels without a size" if record.inputs.get("unit") == "px" else f"voxels of {spacing} mm"
        content = record.source.content_hash[:12] or "not hashed, the array may be larger than the memory"
        lines.append(f"  source    {size} {voxels}, content {content}")
    if record.task == "predict":
        lines += _prediction_lines(record)
    told = {"stop_reason": "stopped", "steps": "steps", "time": "time", "volume_ml": "ml inside"}
    lines += [f"  {name:<10}{_short(result[key])}" for key, name in told.items() if result.get(key) is not None]
    if record.task == "evolve":
        from src_models.levelset.parameters import LevelSetParameters

        parameters = options.build(LevelSetParameters, record.parameters)
        lines.append(f"  settings  {' '.join(options.command_line(parameters)) or 'all as they come'}")
    told = {"classifier": "a classifier trained on strokes", "clusters": "clusters of grey values"}
    lines += [f"  speed     from {words}" for name, words in told.items() if name in record.inputs]
    if record.task == "evolve_labels":
        for number, one in result.get("labels", {}).items():
            ml = one["volume_ml"]
            size = f"{_short(one['size_mm'])} mm2" if ml is None else f"{_short(ml)} ml"
            lines.append(f"  label {number:<4}{size}, {one['stop_reason']}")
    if record.changes:
        lines.append(f"  changed   {len(record.changes)} times while it ran")
    versions = ", ".join(f"{name} {number}" for name, number in record.versions.items())
    lines.append(f"  made with {versions}; {record.device}, {record.dtype}, {record.threads} threads")
    lines.append(f"  took      {record.duration_s:g} s")
    lines += [f"  note      {note}" for note in record.notes]
    return [*lines, f"  {record.research_use}"]


def _prediction_lines(record: Record) -> list[str]:
    """What only the record of a prediction holds: models, settings, windows, and what was done for want of memory."""
    from src_models.inference.parameters import PredictionParameters

    result = record.result
    lines = []
    for model in record.inputs.get("models", ()):
        fold = f", fold {model['fold']}" if model.get("fold") else ""
        name = f"{model.get('name', '?')}@{model.get('version', '?')}"
        lines.append(f"  model     {name}{fold}, SHA-256 {model.get('sha256', '?')}")
    parameters = options.build(PredictionParameters, record.parameters)
    lines.append(f"  settings  {' '.join(options.command_line(parameters)) or 'all as they come'}")
    if "voxels" in result:
        counts = ", ".join(f"{count} of label {number}" for number, count in result["voxels"].items())
        lines.append(f"  voxels    {counts or 'none has a label'}")
    if "windows" in result:
        lines.append(f"  windows   {result['windows']} computed, {result.get('skipped', 0)} skipped as background")
    if "peak_memory_bytes" in result:
        lines.append(f"  memory    {report.amount(result['peak_memory_bytes'], 'B')} at most, by the forecast")
    rescues = result.get("rescues") or ["none was needed"]
    return lines + [f"  rescue    {step}" for step in rescues]


def _axes(facts: FileFacts) -> str:
    if not facts.orientation:
        return "sides of the patient not known"
    return f"{facts.orientation}: the sides that they grow towards, fastest axis first"


def _short(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
