"""`predict_chunked`: an image larger than memory, read slab by slab from zarr or dask, labels written to zarr."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch

from src_models.errors import FileError, InputError, SaveError
from src_models.geometry import check_spacing
from src_models.inference.export import Classes, Export, Targets
from src_models.inference.memory import check_limit, foresee
from src_models.inference.parameters import PredictionParameters
from src_models.inference.passes import Passes, choose_device
from src_models.inference.predict import TASK, forecast_window, tiling_for
from src_models.inference.prediction import PredictionProgress
from src_models.inference.prepared import lay_out, uncropped
from src_models.inference.slabs import (
    ArrayLike,
    SlabInput,
    SlabOutput,
    Summary,
    fixed_normalisation,
    summarise,
    thickness_of,
)
from src_models.inference.sweep import Sweep, lay_windows
from src_models.preprocessing.normalisation import check_channels
from src_models.preprocessing.prepare import Way
from src_models.record import Record, Source, versions
from src_models.weights.model import Model

_UNITS = {"micrometer": 1e-3, "millimeter": 1.0, "centimeter": 10.0, "nanometer": 1e-6, "meter": 1000.0}


@dataclass(frozen=True)
class ChunkedPrediction:
    """Labels that were written.

    Attributes
    ----------
    path : Path
        The zarr array, on the grid of the image.
    record : Record
        How it was made.
    notes : tuple of str
        Warnings in words.
    """

    path: Path
    record: Record
    notes: tuple[str, ...]


def predict_chunked(
    models: Model | Sequence[Model],
    source: ArrayLike,
    spacing: Sequence[float],
    out: Path,
    parameters: PredictionParameters | None = None,
    *,
    overwrite: bool = False,
) -> Generator[PredictionProgress, None, ChunkedPrediction]:
    """Predict an array that need not fit in memory; labels alone.

    Parameters
    ----------
    models : Model or sequence of Model
        As for `predict`.
    source : array-like of shape (z, y, x) or (C, z, y, x)
        A zarr or dask array; it is read in slabs along z, twice.
    spacing : sequence of float
        mm per axis.
    out : Path
        A zarr array that is made; it is there when it is whole.
    parameters : PredictionParameters, optional
        What needs all labels or probabilities at once is refused.
    overwrite : bool
        Whether an older result may be replaced.

    Yields
    ------
    PredictionProgress
        First the pass that looks at the image, then every window. ``close`` leaves nothing half written.

    Raises
    ------
    InputError, SaveError, DeviceError
        One sentence each.
    """
    folds = (models,) if isinstance(models, Model) else tuple(models)
    wanted = parameters or PredictionParameters()
    card, shape = folds[0].card, tuple(source.shape)[-3:]
    _check(source, spacing, folds, wanted)
    if out.exists() and not overwrite:
        raise SaveError("save-exists", f"{out.name} was not saved", "it exists already", "Choose another name.")
    began = time.perf_counter()
    passes = Passes(folds, choose_device(wanted.device), mirror_axes=card.mirror_axes if wanted.mirror == "all" else ())
    tiling, notes = tiling_for(wanted, passes, card.ndim)
    whole = uncropped(shape, spacing, card.preprocessing)
    along = whole.axis_order.index(0)
    if card.ndim == 2 and along != 0:
        raise InputError("chunked-axis", "This 2D model takes another axis slice by slice", "", "Transpose the array.")
    layout = lay_out(whole, card, wanted.window, pad=tiling.halo is None, along=along)
    classes = Classes(card.labels, card.head)
    groups = lay_windows(layout, layout.patch, tiling)
    forecast = foresee(
        layout,
        groups,
        wanted,
        channels=len(card.preprocessing.channels),
        classes=classes.count,
        extras=0,
        label_bytes=classes.dtype.itemsize,
        network_bytes=forecast_window(passes, layout, groups, card.ndim),
        shape=shape,
    )
    # slabs in place of the whole: the prepared planes of one window, twice while it moves, and what they are made of
    thick = layout.patch[0] / max(1, layout.padded[0])
    slab = int((forecast.preparation + 2 * forecast.image) * min(1.0, 2 * thick + 32 / shape[0]))
    forecast = replace(forecast, preparation=0, image=slab, results=0)
    check_limit(forecast, wanted.max_memory)

    thickness = thickness_of(source, shape)
    work = summarise(source, thickness, card.preprocessing.crop_to_nonzero)
    while True:
        try:
            share = next(work)
        except StopIteration as end:
            summary: Summary = end.value
            break
        message = f"Looking at the image. {forecast.sentence}"
        values = {"peak_memory_gb": forecast.peak / 1e9}
        yield PredictionProgress(phase="prepare", fraction=share, message=message, values=values)
    pre = fixed_normalisation(card.preprocessing, summary)
    way = _cropped(whole, summary.box, pre, spacing)
    layout = lay_out(way, card, wanted.window, pad=tiling.halo is None, along=along)
    part = out.with_name(f".{uuid4().hex}.part")
    try:
        target = _create(part, shape, min(thickness, shape[0]), classes, spacing)
        output = SlabOutput(target, layout, min(thickness, shape[0]), classes.dtype)
        sweep = Sweep(
            SlabInput(source, way, layout, pre),
            layout,
            passes,
            tiling,
            Export(layout.maps, classes, Targets(output)),
            wanted.skip,
        )
        for step in sweep.run():
            notes += step.notes
            yield PredictionProgress(
                phase="predict",
                fraction=step.tile / step.tiles,
                message=f"Window {step.tile} of {step.tiles}",
                notes=step.notes,
                tile=step.tile,
                tiles=step.tiles,
                seconds_left=step.seconds_left,
                slab=None if step.slab is None else tuple(n + layout.box[0].start for n in step.slab),  # type: ignore[arg-type]
            )
        while output.first < shape[0]:
            output.flush()
        if not output.any:
            notes.append(
                f"No voxel was given a label; the largest probability of any label is {sweep.export.largest:.3g}."
            )
        if out.exists():
            shutil.rmtree(out)
        os.replace(part, out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    record = Record(
        task=TASK,
        status="done",
        parameters=wanted.model_dump(mode="json"),
        inputs={"models": [{"name": m.card.name, "fold": m.card.fold, "sha256": m.card.sha256} for m in folds]},
        # the content of an array larger than memory is not hashed: its shape and place have to do
        source=Source(content_hash="", shape=tuple(source.shape), dtype=str(source.dtype), spacing=tuple(spacing)),
        result={
            "peak_memory_bytes": forecast.peak,
            "windows": sweep.computed,
            "skipped": sweep.skipped,
            "rescues": sweep.rescues,
        },
        versions=versions("torch", "zarr"),
        device=str(passes.device),
        threads=torch.get_num_threads(),
        duration_s=round(time.perf_counter() - began, 3),
        notes=tuple(notes),
    )
    return ChunkedPrediction(out, record, tuple(notes))


def open_array(path: Path) -> tuple[Any, tuple[float, ...], bool]:
    """A zarr array, or the finest level of an OME-Zarr image, with its spacing.

    Parameters
    ----------
    path : Path
        The folder.

    Returns
    -------
    (array, tuple of float, bool)
        The array, mm per axis in space, and whether that is known; 1 per voxel otherwise.

    Raises
    ------
    FileError
        Where it is no such image.
    """
    zarr = _zarr()
    try:
        found = zarr.open(str(path), mode="r")
        attributes = dict(found.attrs)
        scales: list[float] | None = attributes.get("spacing")
        if not hasattr(found, "shape"):
            image = (attributes.get("ome") or attributes)["multiscales"][0]
            level = image["datasets"][0]
            found, scales = found[level["path"]], None
            units = [_UNITS.get(axis.get("unit", ""), None) for axis in image["axes"]][-3:]
            for transform in level.get("coordinateTransformations", ()):
                if transform["type"] == "scale" and all(units):
                    scales = [float(s) * u for s, u in zip(transform["scale"][-3:], units, strict=True) if u]
        known = scales is not None and len(scales) == 3
        if len(found.shape) not in (3, 4) or found.dtype.kind not in "buif":
            raise ValueError(f"an array of shape {found.shape} and type {found.dtype}")
    except Exception as error:  # whatever a damaged store makes the library raise
        raise FileError(
            "zarr-unreadable",
            f"{path.name} cannot be read",
            " ".join(str(error).split())[:120],
            "Give a zarr array of numbers with the axes z, y, x, or an OME-Zarr image.",
        ) from error
    return found, tuple(float(h) for h in scales) if known and scales else (1.0, 1.0, 1.0), known


def _check(
    source: ArrayLike, spacing: Sequence[float], folds: Sequence[Model], wanted: PredictionParameters
) -> None:
    check_spacing(tuple(spacing), 3)
    if len(source.shape) not in (3, 4) or 0 in source.shape:
        raise InputError("chunked-axes", f"An array of shape {source.shape} is no volume", "", "Give (z, y, x).")
    pre = folds[0].card.preprocessing
    check_channels(1 if len(source.shape) == 3 else source.shape[0], pre.channels)
    asked = {
        "probabilities": wanted.probabilities,
        "entropy": wanted.entropy,
        "disagreement": wanted.disagreement,
        "attention maps": wanted.attention,
        "the CRF or largest parts": wanted.post not in ("auto", "none"),
        "small parts": wanted.minimum_volume > 0,
        "the level set": wanted.refine != "none",
        "normalisation inside a mask": pre.use_mask_for_norm,
    }
    for what, is_asked in asked.items():
        if is_asked:
            raise InputError(
                "chunked-whole",
                f"Slab by slab there are labels only, not {what}",
                "they need the whole image at once",
                "Predict a part of the image that fits in memory.",
            )


def _cropped(whole: Way, box: tuple[slice, ...], pre: Any, spacing: Sequence[float]) -> Way:
    """The way with the crop that the first pass found."""
    turned = tuple(box[axis] for axis in whole.axis_order)
    sizes = [part.stop - part.start for part in box]
    inner = uncropped(sizes, spacing, pre)
    return replace(whole, box=turned, cropped=inner.cropped, resampled=inner.resampled)


def _create(path: Path, shape: tuple[int, ...], chunk: int, classes: Classes, spacing: Sequence[float]) -> Any:
    zarr = _zarr()
    try:
        array = zarr.create_array(
            str(path), shape=shape, chunks=(chunk, *(min(n, 256) for n in shape[1:])), dtype=classes.dtype
        )
        array.attrs["spacing"] = [float(h) for h in spacing]
    except OSError as error:
        raise SaveError(
            "save-failed", f"{path.parent.name} cannot be written to", error.strerror or "", "Choose another folder."
        ) from error
    return array


def _zarr() -> Any:
    try:
        import zarr
    except ImportError as error:
        raise InputError("zarr-missing", "zarr is not installed", "", "Install it: pip install zarr.") from error
    return zarr
