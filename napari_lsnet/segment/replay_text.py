"""A run as text that makes the same labels: a Python script, or a command line."""

from __future__ import annotations

import shlex

from napari_lsnet.segment.request import Request
from napari_lsnet.stored_place import stored_order, stored_point

IMAGE_PLACEHOLDER = "image.nii.gz"


def as_python(request: Request) -> str:
    """A script that ends with the labels of the region in ``labels``."""
    path, notes = _image(request)
    changed = request.parameters.model_dump(exclude_defaults=True)
    arguments = ", ".join(f"{name}={value!r}" for name, value in changed.items())
    name = request.choice.name
    function = "predict_series" if request.series else "predict"
    others, turned = f"unit={request.volume.unit!r}", []
    if request.choice.card.orientation != "presented" and request.order is not None:
        # the network sees the axes as they lie in the file
        others += ", stored_order=order"
        kept = [k for k, axis in enumerate(request.volume.spatial_axes) if isinstance(request.region[axis], slice)]
        turned = [f"order = volume.stored_order.of_axes({kept})"]
    if request.points:
        others += f", points={tuple(tuple(round(x, 4) for x in point) for point in request.points)!r}"
    lines = [
        "from pathlib import Path",
        "",
        "from src_models.files import read_volume",
        "from src_models.inference.parameters import PredictionParameters",
        f"from src_models.inference.predict import {function}",
        "from src_models.progress import finish",
        "from src_models.weights.store import load_folds",
        "",
        *notes,
        f"volume = read_volume(Path({path!r}))",
        f"models = load_folds({name!r})",
        f"parameters = PredictionParameters({arguments})",
        f"image = volume.array[{_index(request)}]",
        f"spacing = {tuple(float(h) for h in request.spacing)!r}",
        *turned,
        f"labels = finish({function}(models, image, spacing, parameters, {others})).labels",
    ]
    return "\n".join(lines) + "\n"


def as_command_line(request: Request) -> str:
    """One `lsnet` command; it takes the whole image."""
    path, notes = _image(request)
    if not _is_whole(request):
        notes.append("# The region of this run is left out: the command takes the whole image.")
    from src_models.cli.options import command_line

    words = ["lsnet", "predict", path, "--weights", request.choice.name, "--out", "segmented"]
    order = stored_order(request.source, request.volume)
    for point in request.points:
        place = stored_point(request.volume, request.region, point, order)
        words += ["--point", ",".join(f"{x:.10g}" for x in place)]
    return "\n".join([*notes, shlex.join([*words, *command_line(request.parameters)])]) + "\n"


def _image(request: Request) -> tuple[str, list[str]]:
    """The path of the image, or a placeholder with a sentence."""
    if request.path is not None:
        return str(request.path), []
    return IMAGE_PLACEHOLDER, [f"# The image has no file yet: save the layer as {IMAGE_PLACEHOLDER} first."]


def _is_whole(request: Request) -> bool:
    return all(part == slice(0, n) for part, n in zip(request.region, request.volume.shape, strict=True))


def _index(request: Request) -> str:
    if _is_whole(request):
        return "..."
    return ", ".join(f"{p.start}:{p.stop}" if isinstance(p, slice) else str(p) for p in request.region)
