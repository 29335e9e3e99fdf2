"""`predict_chunked`: an image larger than memory, read slab by slab from zarr or dask, labels written to zarr."""

from __future__ import annotations

import math
import os
import shutil
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import torch

from src_models.errors import FileError, InputError, SaveError
from src_models.geometry import check_spacing
from src_models.inference.checks import warnings_for
from src_models.inference.ensemble import grouped
from src_models.inference.export import Classes, Export, Targets
from src_models.inference.finishing import largest_parts
from src_models.inference.job import TASK
from src_models.inference.memory import MemoryForecast, check_limit, foresee
from src_models.inference.orientation import turn_for
from src_models.inference.parameters import PredictionParameters
from src_models.inference.passes import Passes, choose_device
from src_models.inference.prediction import PredictionProgress
from src_models.inference.prepared import Layout, lay_out, uncropped
from src_models.inference.slabs import (
    REACH,
    ArrayLike,
    SlabInput,
    SlabOutput,
    Summary,
    fixed_normalisation,
    summarise,
    thickness_of,
)
from src_models.inference.sweep import Sweep, SweepReport
from src_models.inference.tiling import forecast_window, lay_windows, mirrored_axes, tiling_for
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
    unit: str = "mm",
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
    unit : str
        Of the spacing: ``"mm"``, or ``"px"`` where voxels have no size.
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
    job = _ChunkedJob(folds, source, tuple(spacing), parameters or PredictionParameters(), unit)
    if out.exists() and not overwrite:
        raise SaveError("save-exists", f"{out.name} was not saved", "it exists already", "Choose another name.")
    return (yield from job.run(out))


class _ChunkedJob:
    """One array and what was decided about it."""

    def __init__(
        self,
        folds: tuple[Model, ...],
        source: ArrayLike,
        spacing: tuple[float, ...],
        wanted: PredictionParameters,
        unit: str,
    ) -> None:
        _check(source, spacing, folds, wanted)
        self.folds, self.source, self.spacing, self.wanted = folds, source, spacing, wanted
        self.card, self.shape = folds[0].card.for_unit(unit), tuple(source.shape)[-3:]
        self.classes = Classes(self.card.labels, self.card.head)
        axes, notes = mirrored_axes(wanted, self.card)
        self.passes = Passes(folds, choose_device(wanted.device), mirror_axes=axes)
        self.tiling, said = tiling_for(wanted, self.passes, self.card.ndim)
        # one plane in the middle stands for the values of an array that may be larger than memory
        middle = np.asarray(source[..., self.shape[0] // 2 : self.shape[0] // 2 + 1, :, :])
        first = warnings_for(folds[0].card, self.shape, spacing, image=middle, unit=unit)
        self.notes = first + notes + said + turn_for(self.card.orientation, None, 3)[1]
        if wanted.post == "auto" and largest_parts(self.card, self.shape):
            self.notes.append("The model asks for the largest part of labels alone: slab by slab all parts stay.")
        self.whole = uncropped(self.shape, spacing, self.card.preprocessing)
        self.along = self.whole.axis_order.index(0)
        if self.card.ndim == 2 and self.along != 0:
            raise InputError(
                "chunked-axis", "This 2D model takes another axis slice by slice", "", "Transpose the array."
            )
        self.thickness = min(self.shape[0], thickness_of(source, self.shape))
        self.forecast = self._forecast()
        check_limit(self.forecast, wanted.max_memory)

    def run(self, out: Path) -> Generator[PredictionProgress, None, ChunkedPrediction]:
        began = time.perf_counter()
        summary = yield from self._look()
        pre = fixed_normalisation(self.card.preprocessing, summary)
        way = _cropped(self.whole, summary.box, pre, self.spacing)
        layout = self._layout(way)
        part = out.with_name(f".{uuid4().hex}.part")
        try:
            target = _create(part, self.shape, self.thickness, self.classes, self.spacing)
            output = SlabOutput(target, layout, self.thickness, self.classes.dtype)
            sweep = Sweep(
                SlabInput(self.source, way, layout, pre),
                layout,
                self.passes,
                self.tiling,
                Export(layout.maps, self.classes, Targets(output)),
                "none" if self.tiling.halo is not None else self.wanted.skip,
            )
            for step in sweep.run():
                self.notes += step.notes
                yield _report(step, layout)
            output.finish()
            if out.exists():
                shutil.rmtree(out)
            os.replace(part, out)
        finally:
            shutil.rmtree(part, ignore_errors=True)
        if not output.any:
            largest = f"the largest probability of any label is {sweep.export.largest:.3g}."
            self.notes.append(f"No voxel was given a label; {largest}")
        record = self._record(sweep, time.perf_counter() - began)
        return ChunkedPrediction(out, record, tuple(self.notes))

    def _look(self) -> Generator[PredictionProgress, None, Summary]:
        """The first pass over the image."""
        pre = self.card.preprocessing
        windows = [channel.window for channel in pre.channels]
        work = summarise(self.source, self.thickness, pre.crop_to_nonzero, windows)
        message = f"Looking at the image. {self.forecast.sentence}"
        values = {"peak_memory_gb": self.forecast.peak / 1e9}
        while True:
            try:
                share = next(work)
            except StopIteration as end:
                summary: Summary = end.value
                return summary
            yield PredictionProgress(
                phase="prepare", fraction=share, message=message, values=values, notes=tuple(self.notes)
            )

    def _layout(self, way: Way) -> Layout:
        return lay_out(way, self.card, self.wanted.window, pad=self.tiling.halo is None, along=self.along)

    def _forecast(self) -> MemoryForecast:
        """Of slabs in place of the whole: the planes of one window, twice while it moves, and what they are made of."""
        layout = self._layout(self.whole)
        groups = lay_windows(layout, layout.patch, self.tiling)
        forecast = foresee(
            layout,
            groups,
            self.wanted,
            channels=len(self.card.preprocessing.channels),
            classes=self.classes.count,
            extras=0,
            label_bytes=self.classes.dtype.itemsize,
            network_bytes=forecast_window(self.passes, layout, groups, self.card.ndim),
            shape=self.shape,
        )
        # splines are filtered in double precision, and reach beyond the slab
        thick = (2 * layout.patch[0] + 2 * REACH) / max(1, min(layout.padded[0], self.shape[0]))
        slab = int(2 * (forecast.preparation + forecast.image) * min(1.0, thick))
        plane = math.prod(self.shape[1:])
        reading = self.thickness * plane * (len(self.card.preprocessing.channels) * 17 + self.classes.dtype.itemsize)
        return replace(forecast, preparation=0, image=slab + reading, results=0)

    def _record(self, sweep: Sweep, seconds: float) -> Record:
        source = self.source
        return Record(
            task=TASK,
            status="done",
            parameters=self.wanted.model_dump(mode="json"),
            inputs={
                "models": [
                    {"name": m.card.name, "version": m.card.version, "fold": m.card.fold, "sha256": m.card.sha256}
                    for m in self.folds
                ]
            },
            # the content of an array larger than memory is not hashed: its shape and place have to do
            source=Source(content_hash="", shape=tuple(source.shape), dtype=str(source.dtype), spacing=self.spacing),
            result={
                "peak_memory_bytes": self.forecast.peak,
                "windows": sweep.computed,
                "skipped": sweep.skipped,
                "rescues": sweep.rescues,
            },
            versions=versions("torch", "zarr"),
            device=str(self.passes.device),
            threads=torch.get_num_threads(),
            duration_s=round(seconds, 3),
            notes=tuple(self.notes),
        )


def _report(step: SweepReport, layout: Layout) -> PredictionProgress:
    first = layout.box[0].start
    return PredictionProgress(
        phase="predict",
        fraction=step.tile / step.tiles,
        message=f"Window {step.tile} of {step.tiles}",
        notes=step.notes,
        tile=step.tile,
        tiles=step.tiles,
        seconds_left=step.seconds_left,
        slab=None if step.slab is None else (step.slab[0] + first, step.slab[1] + first),
    )


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
            units = [_UNITS.get(axis.get("unit", "")) for axis in image["axes"]][-3:]
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


def _check(source: ArrayLike, spacing: Sequence[float], folds: Sequence[Model], wanted: PredictionParameters) -> None:
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
        "cascades": bool(folds[0].card.first_stage),
        "several configurations": len(grouped(folds)) > 1,
        "what begins at a click": folds[0].card.click is not None,
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
