"""`predict`: trained networks on an image, a generator of progress that returns a `Prediction`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from src_models.errors import InputError
from src_models.geometry import check_spacing
from src_models.inference import finishing
from src_models.inference.checks import as_channels, warnings_for
from src_models.inference.export import Classes, Export, Targets
from src_models.inference.memory import MemoryForecast, check_limit, foresee
from src_models.inference.parameters import PredictionParameters
from src_models.inference.passes import Interrupted, Passes, choose_device, choose_precision
from src_models.inference.prediction import Prediction, PredictionProgress
from src_models.inference.prepared import Layout, lay_out, preprocessing_for, uncropped
from src_models.inference.sweep import Sweep, Tiling, body_limit, lay_windows
from src_models.inference.windows import Window
from src_models.preprocessing.checks import NanRule, constant
from src_models.preprocessing.parameters import Preprocessing
from src_models.preprocessing.prepare import prepare
from src_models.record import Record, Source, content_hash, versions
from src_models.weights.model import Model

TASK = "predict"
"""The task of the records."""
NAN_RULES: dict[str, NanRule] = {"refuse": "error", "fill": "fill"}


def predict(
    models: Model | Sequence[Model],
    image: NDArray[Any],
    spacing: Sequence[float],
    parameters: PredictionParameters | None = None,
    *,
    unit: str = "mm",
    value_unit: str = "",
    interrupt: Callable[[], bool] | None = None,
) -> Generator[PredictionProgress, None, Prediction]:
    """Apply trained networks to one image.

    Parameters
    ----------
    models : Model or sequence of Model
        One, or the folds of one training: the mean of their logits counts.
    image : ndarray of shape (z, y, x), (y, x), (C, z, y, x) or (C, y, x)
        Values as in the file; as many axes in space as there are spacings. A 2D network takes a volume slice by slice.
    spacing : sequence of float
        mm per axis in space, in array order.
    parameters : PredictionParameters, optional
        How, and what for.
    unit : str
        Of the spacing: ``"mm"``, or ``"px"`` where voxels have no size.
    value_unit : str
        ``"HU"`` where values are Hounsfield units.
    interrupt : callable, optional
        Asked between the layers of a window, from the thread that runs it; the prediction ends with what is finished
        where it says yes.

    Yields
    ------
    PredictionProgress
        The plan with its peak of memory first, then every window. Cancel by ``close``; the last record's `result` gives
        what is finished, marked as partial.

    Returns
    -------
    Prediction
        Labels on the grid of the image, and what else was asked for.

    Raises
    ------
    InputError, GeometryError, DeviceError
        One sentence each.
    """
    folds = (models,) if isinstance(models, Model) else tuple(models)
    job = _Job(folds, image, tuple(spacing), parameters or PredictionParameters(), unit, value_unit)
    return (yield from job.run(interrupt))


def predict_series(
    models: Model | Sequence[Model],
    frames: NDArray[Any],
    spacing: Sequence[float],
    parameters: PredictionParameters | None = None,
    **options: Any,
) -> Generator[PredictionProgress, None, Prediction]:
    """Apply trained networks to a time series, frame by frame.

    Parameters
    ----------
    models, spacing, parameters, **options
        As for `predict`.
    frames : ndarray of shape (t, ...)
        Images as `predict` takes them.

    Returns
    -------
    Prediction
        Each array with the time in front. The record is that of the last frame, with the notes of all.
    """
    done: list[Prediction] = []
    count = len(frames)
    for number, frame in enumerate(frames):
        work = predict(models, frame, spacing, parameters, **options)
        while True:
            try:
                step = next(work)
            except StopIteration as end:
                done.append(end.value)
                break
            share = None if step.fraction is None else (number + step.fraction) / count
            yield replace(step, fraction=share, message=f"Frame {number + 1} of {count}: {step.message}")
        if not done[-1].complete:
            break
    return _joined(done, count)


def _joined(done: Sequence[Prediction], count: int) -> Prediction:
    """Frames as one; those that were not reached are background."""
    last = done[-1]

    def stacked(parts: Sequence[NDArray[Any] | None]) -> Any:
        found = [part for part in parts if part is not None]
        if len(found) < len(done):
            return None
        return np.stack([*found, *(np.zeros_like(found[0]) for _ in range(count - len(found)))])

    notes = tuple(dict.fromkeys(note for one in done for note in one.notes))
    return replace(
        last,
        labels=stacked([one.labels for one in done]),
        probabilities=stacked([one.probabilities for one in done]),
        entropy=stacked([one.entropy for one in done]),
        disagreement=stacked([one.disagreement for one in done]),
        attention={level: stacked([one.attention[level] for one in done]) for level in last.attention},
        notes=notes,
        record=last.record.model_copy(
            update={"notes": notes, "duration_s": sum(one.record.duration_s for one in done)}
        ),
    )


@dataclass(eq=False)
class _Arrays:
    """What is filled, on the grid of the image with three axes in space."""

    labels: NDArray[Any]
    probabilities: NDArray[np.float16] | None
    entropy: NDArray[np.float16] | None
    extras: list[NDArray[np.float16]]


class _Job:
    """One image and everything that was decided about it."""

    def __init__(
        self,
        models: tuple[Model, ...],
        image: NDArray[Any],
        spacing: tuple[float, ...],
        parameters: PredictionParameters,
        unit: str,
        value_unit: str,
    ) -> None:
        if not models:
            raise InputError("models-none", "No model was given", "", "Choose one.")
        self.models, self.card, self.parameters = models, models[0].card, parameters
        self.spatial = len(spacing)
        image = np.asarray(image)
        check_spacing(spacing, self.spatial)
        self.image = image
        channels = as_channels(image, self.card, self.spatial)
        self.notes = warnings_for(
            self.card, channels.shape[1:], spacing, image=channels, unit=unit, value_unit=value_unit
        )
        self.own_spacing = spacing
        if self.spatial == 2 and self.card.ndim == 3:
            # one plane as thick as the network expects: it becomes a window by padding
            through = 1.0 if self.card.preprocessing.spacing is None else self.card.preprocessing.spacing[0]
            channels, spacing = channels[:, None], (through, *spacing)
        self.channels, self.spacing = channels, spacing
        self.shape = (1,) * (4 - channels.ndim) + channels.shape[1:]
        self.classes = Classes(self.card.labels, self.card.head)
        self.began = time.perf_counter()

    def run(self, interrupt: Callable[[], bool] | None) -> Generator[PredictionProgress, None, Prediction]:
        device = choose_device(self.parameters.device)
        passes = self._passes(device, interrupt)
        self.classes = replace(self.classes, extras=passes.extras)
        self.passes = passes
        preprocessing = preprocessing_for(self.card, self.channels.ndim - 1)
        tiling, said = tiling_for(self.parameters, passes, self.card.ndim)
        self.notes += said
        forecast = self._forecast(preprocessing, tiling)
        check_limit(forecast, self.parameters.max_memory)
        self.peak = forecast.peak
        self.arrays = self._made()
        yield self._report(
            "prepare",
            0.0,
            forecast.sentence,
            notes=tuple(self.notes),
            values={"peak_memory_gb": forecast.peak / 1e9},
        )
        prepared = prepare(self.channels, self.spacing, preprocessing, nan=NAN_RULES[self.parameters.nan])
        self.notes += prepared.notes
        if constant(prepared.array):
            self.notes.append("The image holds one value only: everything is background.")
            return self._result("done", None)
        layout = lay_out(prepared.way, self.card, self.parameters.window, pad=tiling.halo is None)
        data = layout.padded_input(prepared.array)
        del prepared
        passes.precision = choose_precision(self.parameters.precision, device, self._probe(data, layout))
        sweep = Sweep(
            data,
            layout,
            passes,
            tiling,
            Export(layout.maps, self.classes, self._targets(layout)),
            self.parameters.skip,
            self._dark(),
        )
        try:
            for step in sweep.run():
                self.notes += step.notes
                left = "" if step.seconds_left is None else f", {_time(step.seconds_left)} left"
                yield self._report(
                    "predict",
                    step.tile / step.tiles,
                    f"Window {step.tile} of {step.tiles}{left}",
                    notes=step.notes,
                    tile=step.tile,
                    tiles=step.tiles,
                    seconds_left=step.seconds_left,
                    axis=max(0, layout.axes[0] - (3 - self.spatial)),
                    slab=self._slab(layout, step.slab),
                    result=lambda: self._result("partial", sweep),
                )
        except Interrupted:
            return self._result("partial", sweep)
        yield from self._finish()
        return self._result("done", sweep)

    def _finish(self) -> Generator[PredictionProgress, None, None]:
        """Everything that follows the networks, on finished labels."""
        arrays, wanted = self.arrays, self.parameters
        labels = self._flat(arrays.labels)
        spacing = self.spacing[-labels.ndim :]
        work = finishing.finish_labels(
            labels,
            None if arrays.probabilities is None else self._flat(arrays.probabilities),
            self._flat(self.channels.reshape(len(self.channels), *self.shape)),
            spacing,
            self.card,
            wanted,
        )
        while True:
            try:
                step = next(work)
            except StopIteration as end:
                labels[...], notes = end.value
                self.notes += notes
                return
            yield self._report(step.phase, step.fraction, step.message)

    def _passes(self, device: torch.device, interrupt: Callable[[], bool] | None) -> Passes:
        wanted = self.parameters
        axes: tuple[int, ...] = ()
        if wanted.mirror == "all":
            axes = self.card.mirror_axes if wanted.mirror_axes is None else wanted.mirror_axes
            if not axes:
                self.notes.append("Mirroring was not used in the training of this model: nothing is mirrored.")
            if max(axes, default=0) >= self.card.ndim:
                raise InputError(
                    "mirror-axes",
                    f"Axis {max(axes)} cannot be mirrored",
                    f"the network has {self.card.ndim} axes, counted from 0",
                    "Choose fewer.",
                )
        passes = Passes(
            self.models,
            device,
            mirror_axes=axes,
            disagreement=wanted.disagreement,
            attention=wanted.attention,
            interrupt=interrupt,
        )
        if wanted.attention and not passes.levels:
            self.notes.append("This network has no attention maps.")
        if wanted.disagreement and passes.members == 1:
            self.notes.append("There is one fold and no mirroring: the disagreement is 0 everywhere.")
        return passes

    def _made(self) -> _Arrays:
        shape, wanted = self.shape, self.parameters
        count = self.classes.count

        def empty(*lead: int) -> NDArray[np.float16]:
            return np.zeros((*lead, *shape), np.float16)

        probabilities = None
        if finishing.needs_probabilities(wanted):
            probabilities = empty(count)
            if self.card.head == "softmax":
                probabilities[0] = 1
        return _Arrays(
            np.zeros(shape, self.classes.dtype),
            probabilities,
            empty() if wanted.entropy else None,
            [empty() for _ in range(self.classes.extras)],
        )

    def _targets(self, layout: Layout) -> Targets:
        """The arrays in the order of the sweep; what is written there is written in them."""
        arrays = self.arrays
        return Targets(
            layout.view(arrays.labels),
            None if arrays.probabilities is None else layout.view(arrays.probabilities),
            None if arrays.entropy is None else layout.view(arrays.entropy),
            [layout.view(extra) for extra in arrays.extras],
        )

    def _forecast(self, preprocessing: Preprocessing, tiling: Tiling) -> MemoryForecast:
        """From sizes alone; the crop is not known yet, so without one."""
        way = uncropped(self.channels.shape[1:], self.spacing, preprocessing)
        layout = lay_out(way, self.card, self.parameters.window, pad=tiling.halo is None)
        groups = lay_windows(layout, layout.patch, tiling)
        return foresee(
            layout,
            groups,
            self.parameters,
            channels=len(self.channels),
            classes=self.classes.count,
            extras=self.classes.extras,
            label_bytes=self.classes.dtype.itemsize,
            network_bytes=forecast_window(self.passes, layout, groups, self.card.ndim),
            shape=self.shape,
        )

    def _probe(self, data: torch.Tensor, layout: Layout) -> Callable[[torch.dtype], object]:
        def one(kind: torch.dtype) -> object:
            self.passes.precision = kind
            box = tuple(slice(0, p) for p in layout.patch)
            return self.passes(data[(slice(None), *box)].permute(0, *(axis + 1 for axis in layout.network_order)))

        return one

    def _dark(self) -> float | None:
        channel = self.card.preprocessing.channels[0]
        known = channel.statistics
        if self.parameters.skip != "body" or channel.normalisation != "ct" or known is None:
            return None
        return max(body_limit(known.mean, known.std), body_limit_of(known.percentile_00_5, known.mean, known.std))

    def _slab(self, layout: Layout, slab: tuple[int, int] | None) -> tuple[int, int] | None:
        if slab is None:
            return None
        first = layout.box[0].start
        return slab[0] + first, slab[1] + first

    def _report(self, phase: str, fraction: float | None, message: str, **more: Any) -> PredictionProgress:
        return PredictionProgress(
            phase=phase, fraction=fraction, message=message, labels=self._flat(self.arrays.labels), **more
        )

    def _flat(self, array: NDArray[Any]) -> NDArray[Any]:
        """Without the plane axis that a picture was given."""
        return array if self.spatial == 3 else array[..., 0, :, :]

    def _result(self, status: str, sweep: Sweep | None) -> Prediction:
        arrays, notes = self.arrays, list(dict.fromkeys(self.notes))
        if sweep is not None and sweep.skipped:
            notes.append(f"{sweep.skipped} of {sweep.skipped + sweep.computed} windows were skipped as background.")
        if sweep is not None and status == "done" and not arrays.labels.any():
            notes.append(
                "No voxel was given a label; the largest probability of any label is "
                f"{sweep.export.largest:.3g}."
            )
        disagreement = self.parameters.disagreement
        maps = arrays.extras[int(disagreement) :]
        return Prediction(
            labels=self._flat(arrays.labels),
            classes=self.card.labels,
            record=self._record(status, sweep, notes),
            probabilities=self._flat(arrays.probabilities)
            if self.parameters.probabilities and arrays.probabilities is not None
            else None,
            entropy=None if arrays.entropy is None else self._flat(arrays.entropy),
            disagreement=self._flat(arrays.extras[0]) if disagreement else None,
            attention={level: self._flat(each) for level, each in zip(self.passes.levels, maps, strict=True)},
            notes=tuple(notes),
        )

    def _record(self, status: str, sweep: Sweep | None, notes: list[str]) -> Record:
        # plane by plane: a sort of all voxels takes as long as their export
        counts = sum(
            (np.bincount(plane.ravel(), minlength=1 + max(self.classes.values)) for plane in self.arrays.labels),
            start=np.zeros(1 + max(self.classes.values), np.int64),
        )
        ran: dict[str, Any] = {} if sweep is None else {"windows": sweep.computed, "skipped": sweep.skipped, "rescues": sweep.rescues}
        if sweep is not None and sweep.seam is not None:
            ran["seam_difference"] = round(sweep.seam, 6)
        return Record(
            task=TASK,
            status=status,
            parameters=self.parameters.model_dump(mode="json"),
            inputs={
                "models": [
                    {"name": m.card.name, "version": m.card.version, "fold": m.card.fold, "sha256": m.card.sha256}
                    for m in self.models
                ]
            },
            source=Source(
                content_hash=content_hash(self.image),
                shape=self.image.shape,
                dtype=self.image.dtype.str,
                spacing=self.own_spacing,
            ),
            result={"peak_memory_bytes": self.peak, "voxels": {str(n): int(c) for n, c in enumerate(counts) if n and c}, **ran},
            versions=versions("torch"),
            device=str(self.passes.device),
            dtype=str(self.passes.precision).removeprefix("torch."),
            threads=torch.get_num_threads(),
            duration_s=round(time.perf_counter() - self.began, 3),
            notes=tuple(notes),
        )


def tiling_for(wanted: PredictionParameters, passes: Passes, ndim: int) -> tuple[Tiling, list[str]]:
    """Overlapping windows; or exact tiles, where no network looks at the whole window; and what to say about it."""
    if wanted.tile == "auto":
        return Tiling(wanted.step), []
    networks = passes.networks
    if not all(network.norm_free for network in networks):
        said = "This network is normalised over its window, so no tiles are exact: windows of the training overlap."
        return Tiling(wanted.step), [said]
    reaches = [network.receptive_field().reach for network in networks]
    halo = tuple((max(r[k][0] for r in reaches), max(r[k][1] for r in reaches)) for k in range(ndim))
    return Tiling(wanted.step, halo, networks[0].stride), []


def forecast_window(passes: Passes, layout: Layout, groups: Sequence[Sequence[Window]], ndim: int) -> int:
    """Bytes that the largest window takes inside a network."""
    largest = max(
        (window for group in groups for window in group),
        key=lambda window: math.prod(part.stop - part.start for part in window.read),
    )
    sides = [largest.read[k].stop - largest.read[k].start for k in layout.network_order][3 - ndim :]
    return passes.networks[0].forecast(sides).activations_bytes


def body_limit_of(lowest: float, mean: float, std: float) -> float:
    """Normalised value of the lowest value that the clip of the ct normalisation leaves."""
    return (lowest - mean) / max(std, 1e-8)


def _time(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min"
