"""One image of ``lsnet predict``: which files it is made of, how it is read, predicted and saved whole."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Collection, Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from src_models.cli.evolve_folder import images_in, stem
from src_models.cli.inputs import check_grid, read_clicks
from src_models.cli.outputs import check_targets, relative_path
from src_models.cli.predict_nnunet import Peer
from src_models.errors import FileError, GeometryError, InputError, SaveError
from src_models.files.gate import ReadOptions
from src_models.geometry import Grid, Segment, Segmentation, Volume
from src_models.inference.parameters import PredictionParameters
from src_models.progress import Progress, finish
from src_models.record import Record, record_path, write_record

if TYPE_CHECKING:
    from src_models.inference.prediction import Prediction
    from src_models.weights.model import Model

_CHANNEL = re.compile(r"_(\d{4})$")
ARRAY_STORES = (".zarr",)


@dataclass(frozen=True)
class CaseOptions:
    """What is the same for every image of a command; small enough to be sent to another machine."""

    weights: str
    folds: str
    models_folder: Path | None
    parameters: PredictionParameters
    reading: ReadOptions
    overwrite: bool
    spacing: tuple[float, ...] | None = None
    points: tuple[str, ...] = ()


@dataclass(frozen=True)
class Case:
    """One image.

    Attributes
    ----------
    name : str
        For messages.
    files : tuple of Path
        One per channel, or one that holds all channels.
    target : Path
        Labels; the record and other results go beside it.
    """

    name: str
    files: tuple[Path, ...]
    target: Path

    def beside(self, kind: str, suffix: str) -> Path:
        """The file of another result."""
        return self.target.with_name(f"{stem(self.target)}_{kind}{suffix}")


@dataclass(frozen=True, eq=False)
class Opened:
    """An image that has been read, with the models for it."""

    volume: Volume
    models: Sequence[Model] | Peer
    parameters: PredictionParameters
    files: tuple[Path, ...]
    points: tuple[tuple[float, ...], ...] = ()

    def start(self, interrupt: Callable[[], bool]) -> Generator[Progress, None, Prediction]:
        """The prediction, not begun."""
        if isinstance(self.models, Peer):
            return self.models.predict(self.volume, self.files, interrupt)
        from src_models.inference.predict import predict, predict_series

        volume, grid = self.volume, self.volume.grid
        frames = volume.leading_axis == "t" or (volume.array.ndim > grid.ndim and volume.leading_axis != "c")
        work = predict_series if frames else predict
        return work(
            self.models,
            volume.array,
            grid.spacing,
            self.parameters,
            unit="mm" if grid.spacing_known else "px",
            value_unit=volume.value_unit,
            stored_order=volume.stored_order if grid.orientation_known or grid.ndim == 2 else None,
            points=self.points,
            interrupt=interrupt,
        )


@dataclass(frozen=True)
class Outcome:
    """How one image ended."""

    image: str
    out: str
    record: str
    complete: bool
    voxels: int
    seconds: float
    notes: tuple[str, ...]
    others: tuple[str, ...] = ()

    def told(self) -> dict[str, Any]:
        """For JSON lines."""
        return {
            "image": self.image,
            "out": self.out,
            "record": self.record,
            "complete": self.complete,
            "voxels": self.voxels,
            "seconds": self.seconds,
            "notes": list(self.notes),
            "others": list(self.others),
        }


def load_models(settings: CaseOptions) -> tuple[Model, ...]:
    """The folds that were asked for.

    Raises
    ------
    InputError, FileError
        Where there is no such model or fold.
    """
    from src_models.weights.store import load_folds

    models = load_folds(settings.weights, settings.models_folder)
    if settings.folds == "all":
        return models
    wanted = [part.strip() for part in settings.folds.split(",")]
    there = {model.card.fold: model for model in models}
    for fold in wanted:
        if fold not in there:
            raise InputError(
                "folds",
                f"{settings.weights} has no fold {fold}",
                f"it has: {', '.join(sorted(there)) or 'none'}",
                "Choose another with --folds.",
            )
    return tuple(there[fold] for fold in wanted)


def find_cases(source: Path, out: Path, channels: int) -> list[Case]:
    """The images of a file or folder; files NAME_0000, NAME_0001, ... are the channels of one image.

    Raises
    ------
    FileError, InputError
        Where there is none, one lacks a channel, or two would be saved under one name.
    """
    if not source.exists():
        raise FileError("input-missing", f"{source.name} was not found", "", "Give an image or a folder of images.")
    whole_folder = source.is_dir() and not is_array_store(source)
    files = images_in(source) if whole_folder else [source]
    cases: list[Case] = []
    if channels == 1:
        cases = [_case(stem(path), (path,), out) for path in files]
    else:
        groups: dict[str, list[Path]] = {}
        for path in files:
            groups.setdefault(_CHANNEL.sub("", stem(path)), []).append(path)
        if not whole_folder and _CHANNEL.search(stem(source)):
            own = _CHANNEL.sub("", stem(source))
            groups = {own: [path for path in images_in(source.parent) if _CHANNEL.sub("", stem(path)) == own]}
        cases = [_case(name, _channels(name, found, channels), out) for name, found in groups.items()]
    taken: dict[str, str] = {}
    for case in cases:
        name = stem(case.target)
        if name in taken:
            raise InputError(
                "input-same-name",
                f"{case.files[0].name} and {taken[name]} would have one record",
                "both are called " + name,
                "Rename one of them.",
            )
        taken[name] = case.files[0].name
    return cases


def _case(name: str, files: tuple[Path, ...], out: Path) -> Case:
    from src_models.files import WRITABLE_SUFFIXES

    suffix = files[0].name[len(stem(files[0])) :]
    if is_array_store(files[0]):
        suffix = ".zarr"
        name = files[0].name.removesuffix(suffix)
    elif suffix.lower() not in WRITABLE_SUFFIXES:
        suffix = ".nii.gz"
    return Case(files[0].name, files, out / f"{name}{suffix}")


def _channels(name: str, found: Sequence[Path], channels: int) -> tuple[Path, ...]:
    if len(found) == 1 and not _CHANNEL.search(stem(found[0])):
        return tuple(found)
    by_number = {int(match[1]): path for path in found if (match := _CHANNEL.search(stem(path)))}
    if sorted(by_number) != list(range(channels)):
        there = ", ".join(f"{n:04d}" for n in sorted(by_number)) or "none"
        raise InputError(
            "input-channels",
            f"{name} does not have the {channels} channels of the model",
            f"there are {there}",
            f"Name them {name}_0000 to {name}_{channels - 1:04d}.",
        )
    return tuple(by_number[k] for k in range(channels))


def is_array_store(path: Path) -> bool:
    """Whether a folder is one array in chunks, and no folder of images."""
    return path.is_dir() and path.name.lower().endswith(ARRAY_STORES)


def check_out(source: Path, out: Path) -> None:
    """Make the folder for the results; refused where it is the one that is read.

    Raises
    ------
    SaveError
        Where it cannot be made.
    """
    if source.is_dir() and out.resolve() == source.resolve():
        raise SaveError("target-is-input", f"Not saved: {out.name} is the folder that is read", "", "Choose another.")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SaveError(
            "target-folder", f"The folder {out.name} cannot be made", error.strerror or "", "Choose another."
        ) from error


def check_cases(cases: Sequence[Case], settings: CaseOptions) -> None:
    """Refuse targets that exist or are inputs, before any work is done."""
    for case in cases:
        if case.target.parent.is_dir():
            check_targets([case.target, record_path(case.target)], case.files, overwrite=settings.overwrite)


def start_chunked(case: Case, settings: CaseOptions, models: Sequence[Model]) -> Generator[Any, None, Outcome]:
    """Predict a zarr array slab by slab; labels and record are written as it goes."""
    from src_models.inference.chunked import open_array, predict_chunked

    began = time.perf_counter()
    array, spacing, known = open_array(case.files[0])
    own = Grid(tuple(array.shape)[-3:], spacing, spacing_known=known)
    grid = stated_grid(own, settings.spacing, case.name)
    unit = "mm" if grid.spacing_known else "px"
    done = yield from predict_chunked(
        models, array, grid.spacing, case.target, settings.parameters, unit=unit, overwrite=settings.overwrite
    )
    record = done.record.model_copy(
        update={"local": {"out": case.target.name}, "inputs": _inputs(done.record, settings, grid)}
    )
    write_record(record_path(case.target), record)
    labels, _, _ = open_array(done.path)
    voxels = sum(int(np.count_nonzero(labels[k : k + 16])) for k in range(0, labels.shape[0], 16))
    return Outcome(
        image=case.name,
        out=str(case.target),
        record=str(record_path(case.target)),
        complete=True,
        voxels=voxels,
        seconds=round(time.perf_counter() - began, 2),
        notes=done.notes,
    )


def opened(case: Case, settings: CaseOptions, models: Sequence[Model] | Peer) -> Opened:
    """Read an image, all its channels on one grid.

    Raises
    ------
    FileError, GeometryError
        One sentence each.
    """
    from src_models.files import read_volume

    parts = [read_volume(path, settings.reading) for path in case.files]
    volume = parts[0]
    if len(parts) > 1:
        for part, path in zip(parts[1:], case.files[1:], strict=True):
            check_grid(part.grid, volume.grid, path, "channel")
        volume = replace(volume, array=np.stack([part.array for part in parts]), leading_axis="c")
    grid = stated_grid(volume.grid, settings.spacing, case.name)
    volume = replace(volume, grid=grid)
    return Opened(volume, models, settings.parameters, case.files, read_clicks(settings.points, volume))


def stated_grid(grid: Grid, spacing: tuple[float, ...] | None, name: str) -> Grid:
    """The grid of an image with the voxel size that ``--spacing`` states, where the file gives none.

    Raises
    ------
    GeometryError, InputError
        Where the file gives another size, or has another number of axes.
    """
    if spacing is None:
        return grid
    if len(spacing) != grid.ndim:
        raise InputError(
            "spacing-axes", f"--spacing has {len(spacing)} numbers, {name} {grid.ndim} axes", "", "Give one for each."
        )
    if not grid.spacing_known:
        return Grid(grid.shape, spacing)
    if not np.allclose(grid.spacing, spacing, rtol=1e-3, atol=0):
        sizes = " x ".join(f"{h:g}" for h in grid.spacing)
        raise GeometryError(
            "spacing-known",
            f"--spacing is for images without a voxel size, {name} has one",
            f"its voxels are {sizes} mm",
            "Leave it out.",
        )
    return grid


def save(case: Case, settings: CaseOptions, source: Opened, prediction: Prediction, seconds: float) -> Outcome:
    """Write labels, record and what else was asked for: all of it, or nothing.

    Raises
    ------
    SaveError
        Naming the file that could not be written; new files of this image are taken away again.
    """
    from src_models.files import write_segmentation, write_volume

    volume = source.volume
    labels = Segmentation(
        prediction.labels,
        volume.grid,
        tuple(Segment(c.value, c.name, _colour(c.colour)) for c in prediction.classes if c.value),
        stored_order=volume.stored_order,
        header=volume.header,
    )
    others = _others(case, volume, prediction)
    record = _complete(prediction.record, case, settings, volume)
    targets = [case.target, record_path(case.target), *(path for path, _ in others)]
    new = [path for path in targets if not os.path.lexists(path)]
    try:
        for path, image in others:
            write_volume(path, image, overwrite=settings.overwrite)
        write_segmentation(case.target, labels, overwrite=settings.overwrite)
        write_record(record_path(case.target), record)
    except BaseException:
        for path in new:
            path.unlink(missing_ok=True)
        raise
    return Outcome(
        image=case.name,
        out=str(case.target),
        record=str(record_path(case.target)),
        complete=prediction.complete,
        voxels=int(np.count_nonzero(prediction.labels)),
        seconds=round(seconds, 2),
        notes=prediction.notes,
        others=tuple(str(path) for path, _ in others),
    )


def run_case(case: Case, settings: CaseOptions) -> Outcome:
    """Predict and save one image, alone: what a worker of a cluster does."""
    began = time.perf_counter()
    if is_array_store(case.files[0]):
        return finish(start_chunked(case, settings, load_models(settings)))
    source = opened(case, settings, load_models(settings))
    prediction = finish(source.start(lambda: False))
    return save(case, settings, source, prediction, time.perf_counter() - began)


def summary(outcome: Outcome, said: Collection[str] = ()) -> list[str]:
    """What a person wants to know, in plain lines; without the notes that were said while it ran."""
    done = "Done" if outcome.complete else "Stopped"
    return [
        f"{done}: {outcome.voxels} voxels have a label, after {outcome.seconds} s.",
        f"Saved {outcome.out} with its record {Path(outcome.record).name}.",
        *(f"Saved {other}." for other in outcome.others),
        *(f"Note: {note}" for note in outcome.notes if note not in said),
    ]


def _others(case: Case, volume: Volume, prediction: Prediction) -> list[tuple[Path, Volume]]:
    """One file per class for probabilities, one for each other map, with decimals: NIfTI, or TIFF for a picture."""
    suffix = ".nii.gz" if volume.grid.ndim == 3 else ".tif"
    maps: list[tuple[str, NDArray[Any]]] = []
    if prediction.probabilities is not None:
        lead = prediction.probabilities.ndim - volume.grid.ndim - 1
        for one in prediction.classes:
            name = re.sub(r"\W+", "-", one.name).strip("-") or str(one.value)
            share = np.moveaxis(prediction.probabilities, lead, 0)[one.channel]
            maps.append((f"prob_{name}", share))
    for kind in ("entropy", "disagreement"):
        found = getattr(prediction, kind)
        if found is not None:
            maps.append((kind, found))
    maps += [(f"attention_{level}", each) for level, each in prediction.attention.items()]
    axis = volume.leading_axis if volume.leading_axis != "c" else ""
    return [
        (
            case.beside(kind, suffix),
            replace(volume, array=array.astype(np.float32), leading_axis=axis, value_unit="", notes=()),
        )
        for kind, array in maps
    ]


def _complete(record: Record, case: Case, settings: CaseOptions, volume: Volume) -> Record:
    """The record with the place of the image and the way to the files from its folder."""
    source = record.source
    if source is not None:
        source = source.model_copy(update={"index_to_patient": volume.grid.index_to_patient.tolist()})
    folder = case.target.parent.resolve()
    names = ["source"] if len(case.files) == 1 else [f"channel_{k}" for k in range(len(case.files))]
    ways = dict(zip(names, (relative_path(path, folder) for path in case.files), strict=True))
    ways["out"] = case.target.name
    weights = Path(settings.weights)
    ways["weights"] = relative_path(weights, folder) if weights.exists() else settings.weights
    local = {k: way for k, way in ways.items() if way}
    return record.model_copy(
        update={"source": source, "local": local, "inputs": _inputs(record, settings, volume.grid)}
    )


def _inputs(record: Record, settings: CaseOptions, grid: Grid) -> dict[str, Any]:
    """What a record names as inputs, with what was stated about the voxels: a replay states it again."""
    inputs = record.inputs | {"unit": "mm" if grid.spacing_known else "px"}
    return inputs if settings.spacing is None else inputs | {"stated_spacing": list(settings.spacing)}


def _colour(text: str | None) -> tuple[float, float, float] | None:
    match = re.fullmatch(r"#([0-9a-fA-F]{2})([0-9a-fA-F]{2})([0-9a-fA-F]{2})", text or "")
    return None if match is None else tuple(int(part, 16) / 255 for part in match.groups())  # type: ignore[return-value]
