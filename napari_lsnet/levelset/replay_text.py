"""A result as text that makes the same mask again: a Python script, or a command line.

A run from drawn points or a mask is written out. What cannot be told in a few words (values changed on the way, a run
that went on from another, seeds that were turned inside out) is replayed from its saved record.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import numpy as np

from napari_lsnet.levelset.request import Request
from napari_lsnet.stored_place import stored_order, stored_point
from src_models.geometry import StoredOrder
from src_models.levelset.parameters import LevelSetParameters

if TYPE_CHECKING:
    from src_models.levelset.evolution import LevelSetResult

IMAGE_PLACEHOLDER = "image.nii.gz"
SEEDS_PLACEHOLDER = "seeds.nii.gz"
RECORD_PLACEHOLDER = "result.lsnet.json"


def effective_parameters(request: Request, result: LevelSetResult) -> LevelSetParameters:
    """The parameters that reach the same step by themselves: a cancelled run ends by its number of steps."""
    if result.stop_reason == "cancelled":
        return request.parameters.model_copy(update={"steps": max(result.iteration, 1)})
    return request.parameters


def needs_record(request: Request, result: LevelSetResult) -> str:
    """Why the run can only be replayed from its record; "" where it can be written out."""
    if result.record.changes:
        return "values were changed while it ran"
    if request.continues is not None:
        return "it went on from an earlier run"
    if request.several:
        return "several labels grew at once"
    if request.walls is not None or request.pins is not None:
        return "walls or pins were painted"
    if request.speed is not None:
        return "its speed was learned from what was painted"
    if request.start.swapped:
        return "inside and outside of the seeds were swapped"
    if request.volume.level:
        return "it ran on a coarser level of the image"
    if result.stop_reason == "cancelled" and result.iteration == 0:
        return "it was cancelled before the first step"
    return ""


def as_python(request: Request, result: LevelSetResult) -> str:
    """A script that ends with the mask of the region in ``mask``."""
    image, image_note = _image(request)
    lines = ["from pathlib import Path", ""]
    reason = needs_record(request, result)
    if reason:
        again, made = ("replay_labels", ".labels") if request.several else ("replay", ".mask")
        lines += [
            "from src_models.files import read_volume",
            f"from src_models.levelset.{'coupled' if request.several else 'evolution'} import {again}",
            "from src_models.progress import finish",
            "from src_models.record import Record",
            "",
            f"# Replayed from the record, because {reason}: save it first with 'Save record...'.",
            *image_note,
            f"volume = read_volume(Path({image!r}))",
            f"image = volume.array[{_index(request)}]",
            f"record = Record.read(Path({RECORD_PLACEHOLDER!r}))",
            f"{'labels' if request.several else 'mask'} = finish({again}(record, image)){made}",
        ]
        return "\n".join(lines) + "\n"
    seeds = isinstance(request.initial, np.ndarray)
    lines += [
        f"from src_models.files import {'read_segmentation, ' if seeds else ''}read_volume",
        "from src_models.levelset import LevelSetParameters, evolve",
        *([] if seeds else [f"from src_models.levelset.initial import {_drawn_types(request)}"]),
        "from src_models.progress import finish",
        "",
        *image_note,
        f"volume = read_volume(Path({image!r}))",
        f"image = volume.array[{_index(request)}]",
        *_python_start(request),
        f"parameters = LevelSetParameters({_arguments(effective_parameters(request, result))})",
        f"spacing = {_numbers(request.spacing)}  # mm, in array order",
        "result = finish(evolve(image, start, spacing, parameters))",
        "mask = result.mask",
    ]
    return "\n".join(lines) + "\n"


def as_command_line(request: Request, result: LevelSetResult) -> str:
    """One `lsnet` command; points and boxes in the order in which the file stores its axes."""
    image, notes = _image(request)
    reason = needs_record(request, result)
    if not reason and not isinstance(request.initial, np.ndarray) and request.initial.strokes:
        reason = "lines cannot be written on a command line"
    if reason:
        notes.insert(0, f"# Replayed from the record, because {reason}: save it first with 'Save record...'.")
        words = ["lsnet", "replay", RECORD_PLACEHOLDER, "--source", image, "--out", "replayed.nii.gz"]
        return "\n".join([*notes, shlex.join(words)]) + "\n"
    words = ["lsnet", "evolve", image]
    order = stored_order(request.source, request.volume)
    if isinstance(request.initial, np.ndarray):
        seeds, seed_notes = _seed_file(request)
        notes += seed_notes
        words += ["--seeds", seeds]
        if request.start.label is not None:
            words += ["--label", str(request.start.label)]
    else:
        for sphere in request.initial.spheres:
            place = stored_point(request.volume, request.region, sphere.centre, order)
            words += ["--point", ",".join(_number(x) for x in place) + f":{_number(sphere.radius)}"]
    words += ["--out", "result.nii.gz", *_frame_words(request), *_crop_words(request, order)]
    from src_models.cli.options import command_line

    words += command_line(effective_parameters(request, result))
    return "\n".join([*notes, shlex.join(words)]) + "\n"


def _crop_words(request: Request, order: StoredOrder) -> list[str]:
    parts: list[tuple[int, int]] = []
    whole = True
    stored: list[str] = [""] * len(request.volume.spatial_axes)
    for axis in request.volume.spatial_axes:
        part = request.region[axis]
        parts.append((part.start, part.stop) if isinstance(part, slice) else (part, part + 1))
        whole = whole and parts[-1] == (0, request.volume.shape[axis])
    if whole:
        return []
    for k, axis in enumerate(order.axes):
        n = request.volume.shape[request.volume.spatial_axes[k]]
        start, stop = parts[k]
        low, high = (n - stop, n - start) if order.flips[k] else (start, stop)
        stored[axis] = f"{low}:{high}"
    return ["--crop", ",".join(stored)]


def _frame_words(request: Request) -> list[str]:
    words: list[str] = []
    for role, part in zip(request.volume.roles, request.region, strict=True):
        if role in ("t", "c") and not isinstance(part, slice):
            words += ["--time-point" if role == "t" else "--channel", str(part)]
    return words


def _image(request: Request) -> tuple[str, list[str]]:
    """The path of the image, or a placeholder with a sentence."""
    if request.path is not None:
        return str(request.path), []
    return IMAGE_PLACEHOLDER, [f"# The image has no file yet: save the layer as {IMAGE_PLACEHOLDER} first."]


def _seed_file(request: Request) -> tuple[str, list[str]]:
    layer = request.start.layer
    path = getattr(layer.source, "path", None)
    if request.start.kind == "labels" and path:
        return str(path), []
    how = "save the layer of the seeds" if request.start.kind == "labels" else "convert the shapes to labels, save them"
    return SEEDS_PLACEHOLDER, [f"# The seeds have no file yet: {how} as {SEEDS_PLACEHOLDER} first."]


def _python_start(request: Request) -> list[str]:
    if isinstance(request.initial, np.ndarray):
        path, notes = _seed_file(request)
        label = request.start.label
        chosen = "!= 0" if label is None else f"== {label}"
        return [*notes, f"start = read_segmentation(Path({path!r})).labels[{_index(request)}] {chosen}"]
    balls = [f"Sphere(centre={_numbers(s.centre)}, radius={_number(s.radius)})" for s in request.initial.spheres]
    lines = [
        f"Stroke(points=({', '.join(_numbers(p) for p in s.points)},), radius={_number(s.radius)})"
        for s in request.initial.strokes
    ]
    parts = [f"{name}=({', '.join(drawn)},)" for name, drawn in (("spheres", balls), ("strokes", lines)) if drawn]
    return ["# mm along the array's axes, from the centre of the first voxel", f"start = Seeds({', '.join(parts)})"]


def _drawn_types(request: Request) -> str:
    drawn = request.initial
    if isinstance(drawn, np.ndarray):
        return ""
    return ", ".join(["Seeds", *(["Sphere"] if drawn.spheres else []), *(["Stroke"] if drawn.strokes else [])])


def _index(request: Request) -> str:
    if all(part == slice(0, n) for part, n in zip(request.region, request.volume.shape, strict=True)):
        return "..."
    return ", ".join(f"{p.start}:{p.stop}" if isinstance(p, slice) else str(p) for p in request.region)


def _arguments(parameters: LevelSetParameters) -> str:
    changed = parameters.model_dump(exclude_defaults=True)
    return ", ".join(f"{name}={value!r}" for name, value in changed.items())


def _numbers(values: tuple[float, ...]) -> str:
    return "(" + ", ".join(_number(x) for x in values) + ("," if len(values) == 1 else "") + ")"


def _number(value: float) -> str:
    """Every digit that the number has, so that the text makes the same bits."""
    return repr(float(value))
