"""One image on its way through the networks: what was decided about it, its arrays, its record."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from src_models.errors import InputError
from src_models.geometry import StoredOrder, check_spacing
from src_models.inference import clicks, finishing
from src_models.inference.cascade import NAME, FirstStageRun, check_stages, stage_parameters
from src_models.inference.checks import as_channels, warnings_for
from src_models.inference.export import Classes, Export, Targets
from src_models.inference.memory import MemoryForecast, check_limit, foresee
from src_models.inference.orientation import turn_for, turned, turned_back, with_plane
from src_models.inference.parameters import PredictionParameters
from src_models.inference.passes import Interrupted, Passes, choose_device, choose_precision
from src_models.inference.prediction import Prediction, PredictionProgress
from src_models.inference.prepared import Layout, lay_out, preprocessing_for, uncropped
from src_models.inference.sweep import Sweep
from src_models.inference.tiling import Tiling, forecast_window, lay_windows, mirrored_axes, tiling_for
from src_models.preprocessing.checks import NanRule, constant
from src_models.preprocessing.one_hot import with_first_stage
from src_models.preprocessing.parameters import Preprocessing
from src_models.preprocessing.prepare import Prepared, Way, prepare
from src_models.record import Record, Source, content_hash, versions
from src_models.weights.model import Model

TASK = "predict"
"""The task of the records."""
NAN_RULES: dict[str, NanRule] = {"refuse": "error", "fill": "fill"}
BODY_HU = -500.0
"""Below it is air, for ``skip="body"``."""
_SHARE = 0.5
# Of a cascade's progress: what the first stage takes.


@dataclass(eq=False)
class Arrays:
    """What is filled, on the grid of the image with three axes in space."""

    labels: NDArray[Any]
    probabilities: NDArray[np.float16] | None
    entropy: NDArray[np.float16] | None
    extras: list[NDArray[np.float16]]


class Job:
    """One image and everything that was decided about it.

    Parameters
    ----------
    models, image, spacing, parameters, unit, value_unit, stored_order, points
        As for `predict`.
    """

    kind: type[Passes] = Passes

    def __init__(
        self,
        models: tuple[Model, ...],
        image: NDArray[Any],
        spacing: tuple[float, ...],
        parameters: PredictionParameters,
        unit: str,
        value_unit: str,
        stored_order: StoredOrder | None = None,
        points: Sequence[Sequence[float]] = (),
    ) -> None:
        if not models:
            raise InputError("models-none", "No model was given", "", "Choose one.")
        self.models, self.card, self.parameters = models, models[0].card.for_unit(unit), parameters
        self.spatial = len(spacing)
        self.unit, self.value_unit, self.stored_order = unit, value_unit, stored_order
        self.first_stage = check_stages(models)
        image = np.asarray(image)
        check_spacing(spacing, self.spatial)
        self.image = image
        channels = as_channels(image, self.card, self.spatial)
        turn, self.notes = turn_for(self.card.orientation, stored_order, self.spatial)
        self.notes += warnings_for(
            models[0].card,
            turn.store(channels).shape[1:],
            turned(turn, spacing),
            image=channels,
            unit=unit,
            value_unit=value_unit,
        )
        self.own_spacing = spacing
        self.points = clicks.check_points(points, self.card, image.shape[-self.spatial :], spacing)
        self.notes += clicks.unclicked(self.points, self.card, image.shape[-self.spatial :], spacing)
        if self.spatial == 2 and self.card.ndim == 3:
            # one plane as thick as the network expects: it becomes a window by padding
            through = 1.0 if self.card.preprocessing.spacing is None else self.card.preprocessing.spacing[0]
            channels, spacing = channels[:, None], (through, *spacing)
            turn = with_plane(turn)
        self.turn, self.seen, self.seen_spacing = turn, turn.store(channels), turned(turn, spacing)
        self.channels, self.spacing = channels, spacing
        self.shape = (1,) * (4 - channels.ndim) + channels.shape[1:]
        self.classes = Classes(self.card.labels, self.card.head)
        self.began = time.perf_counter()

    def run(self, interrupt: Callable[[], bool] | None) -> Generator[PredictionProgress, None, Prediction]:
        """The prediction; see `predict`."""
        device = choose_device(self.parameters.device)
        passes = self._passes(device, interrupt)
        self.classes = replace(self.classes, extras=passes.extras)
        self.passes = passes
        preprocessing = preprocessing_for(self.card, self.channels.ndim - 1)
        tiling, said = tiling_for(self.parameters, passes, self.card.ndim)
        self.notes += said
        forecast = self._forecast(preprocessing, tiling)
        before = self._before(interrupt) if self.first_stage else None
        if before is not None:
            forecast = before.added_to(forecast)
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
        earlier = None if before is None else (yield from self._earlier(before))
        if earlier is not None and not earlier.complete:
            return self._result("partial", None)
        prepared = prepare(self.seen, self.seen_spacing, preprocessing, nan=NAN_RULES[self.parameters.nan])
        self.notes += prepared.notes
        if constant(prepared.array):
            where = "The image" if constant(self.channels) else "Among the values that the model takes the image"
            self.notes.append(f"{where} holds one value only: everything is background.")
            return self._result("done", None)
        layout = self._layout(prepared.way, tiling)
        seen = self._seen(prepared, preprocessing, earlier)
        data = layout.padded_input(clicks.with_channel(seen, prepared.way, self.points, self.card))
        del prepared, earlier, seen
        passes.precision = choose_precision(self.parameters.precision, device, self._probe(data, layout))
        begun = _SHARE if self.first_stage else 0.0
        sweep = Sweep(
            data,
            layout,
            passes,
            tiling,
            Export(layout.maps, self.classes, self._targets(layout)),
            self._skip(tiling),
            self._dark(),
            bool(self.points),
        )
        try:
            begun = yield from self._first(data, layout, tiling, begun)
            for step in sweep.run():
                self.notes += step.notes
                left = "" if step.seconds_left is None else f", {_time(step.seconds_left)} left"
                yield self._report(
                    "predict",
                    begun + (1 - begun) * step.tile / step.tiles,
                    f"Window {step.tile} of {step.tiles}{left}",
                    notes=step.notes,
                    tile=step.tile,
                    tiles=step.tiles,
                    seconds_left=step.seconds_left,
                    **self._finished(layout, step.slab),
                    result=lambda: self._result("partial", sweep),
                )
        except Interrupted:
            return self._result("partial", sweep)
        yield from self._finish()
        return self._result("done", sweep)

    def _first(
        self,
        data: torch.Tensor,  # noqa: ARG002
        layout: Layout,  # noqa: ARG002
        tiling: Tiling,  # noqa: ARG002
        begun: float,
    ) -> Generator[PredictionProgress, None, float]:
        """What goes before the windows, for jobs that do more than this one; gives the share of the work now done."""
        return begun
        yield

    def _seen(
        self, prepared: Prepared, preprocessing: Preprocessing, earlier: Prediction | None
    ) -> NDArray[np.float32]:
        """What the networks see: in a cascade also the labels of its first stage."""
        if earlier is None:
            return prepared.array
        labels = earlier.labels.reshape(self.channels.shape[1:])
        return with_first_stage(prepared, self.turn.store(labels), preprocessing, self.card.stage_values)

    def _before(self, interrupt: Callable[[], bool] | None) -> FirstStageRun:
        """The first stage of a cascade on the same image, begun as far as its memory is known."""
        wanted = stage_parameters(self.parameters)
        order = self.stored_order
        job = Job(self.first_stage, self.image, self.own_spacing, wanted, self.unit, self.value_unit, order)
        work = job.run(interrupt)
        next(work)
        return FirstStageRun(work, job.peak, job.arrays.labels.nbytes)

    def _earlier(self, before: FirstStageRun) -> Generator[PredictionProgress, None, Prediction]:
        """The first stage to its end."""
        try:
            while True:
                try:
                    step = next(before.work)
                except StopIteration as end:
                    done: Prediction = end.value
                    self.notes += [f"{NAME}: {note}" for note in done.notes if note not in self.notes]
                    return done
                yield self._report(
                    "first stage",
                    None if step.fraction is None else _SHARE * step.fraction,
                    f"{NAME}: {step.message}",
                    tile=step.tile,
                    tiles=step.tiles,
                    seconds_left=step.seconds_left,
                    result=lambda: self._result("partial", None),
                )
        finally:
            before.work.close()

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
        axes, said = mirrored_axes(wanted, self.card)
        self.notes += said
        passes = self.kind(
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

    def _made(self) -> Arrays:
        shape, wanted = self.shape, self.parameters
        count = self.classes.count

        def empty(*lead: int) -> NDArray[np.float16]:
            return np.zeros((*lead, *shape), np.float16)

        probabilities = None
        if finishing.needs_probabilities(wanted):
            probabilities = empty(count)
            if self.card.head == "softmax":
                probabilities[self.classes.background] = 1
        return Arrays(
            np.zeros(shape, self.classes.dtype),
            probabilities,
            empty() if wanted.entropy else None,
            [empty() for _ in range(self.classes.extras)],
        )

    def _targets(self, layout: Layout) -> Targets:
        """The arrays in the order of the sweep; what is written there is written in them."""
        arrays = self.arrays
        turn = with_plane(self.turn)

        def view(array: NDArray[Any]) -> NDArray[Any]:
            return layout.view(turn.store(array))

        return Targets(
            view(arrays.labels),
            None if arrays.probabilities is None else view(arrays.probabilities),
            None if arrays.entropy is None else view(arrays.entropy),
            [view(extra) for extra in arrays.extras],
        )

    def _forecast(self, preprocessing: Preprocessing, tiling: Tiling) -> MemoryForecast:
        """From sizes alone; the crop is not known yet, so without one."""
        way = uncropped(self.seen.shape[1:], self.seen_spacing, preprocessing)
        layout = self._layout(way, tiling)
        groups = lay_windows(layout, layout.patch, tiling)
        wanted = self.parameters
        if wanted.post == "auto" and finishing.largest_parts(self.card, self.shape[-self.spatial :]):
            wanted = wanted.model_copy(update={"post": "largest"})
        return foresee(
            layout,
            groups,
            wanted,
            channels=len(self.channels) + (self.card.click is not None),
            classes=self.classes.count,
            extras=self.classes.extras,
            label_bytes=self.classes.dtype.itemsize,
            network_bytes=forecast_window(self.passes, layout, groups, self.card.ndim),
            shape=self.shape,
            stage=len(self.card.stage_values),
        )

    def _layout(self, way: Way, tiling: Tiling) -> Layout:
        """Windows of the size asked for; one of the whole image for a network that begins at a click."""
        whole = self.card.click is not None
        window = way.resampled[-self.card.ndim :] if whole else self.parameters.window
        pad = tiling.halo is None and not self.passes.networks[0].replicates
        return lay_out(way, self.card, window, pad=pad)

    def _probe(self, data: torch.Tensor, layout: Layout) -> Callable[[torch.dtype], object]:
        def one(kind: torch.dtype) -> object:
            self.passes.precision = kind
            box = tuple(slice(0, p) for p in layout.patch)
            return self.passes(data[(slice(None), *box)].permute(0, *(axis + 1 for axis in layout.network_order)))

        return one

    def _skip(self, tiling: Tiling) -> str:
        """Exact is exact: also where a network finds something in a window of one value."""
        return "none" if tiling.halo is not None else self.parameters.skip

    def _dark(self) -> float | None:
        channel = self.card.preprocessing.channels[0]
        known = channel.statistics
        if self.parameters.skip != "body" or channel.normalisation != "ct" or known is None:
            return None
        # the clip leaves nothing below the lowest value of the training
        return (max(BODY_HU, known.percentile_00_5) - known.mean) / max(known.std, 1e-8)

    def _finished(self, layout: Layout, slab: tuple[int, int] | None) -> dict[str, Any]:
        """Axis of the labels along which they are finished, and the planes that were."""
        first = layout.box[0].start
        planes = (0, 0) if slab is None else (slab[0] + first, slab[1] + first)
        turn = with_plane(self.turn)
        axis, planes = turned_back(turn, layout.axes[0], planes, turn.store(self.arrays.labels).shape[layout.axes[0]])
        return {"axis": max(0, axis - (3 - self.spatial)), "slab": None if slab is None else planes}

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
                f"No voxel was given a label; the largest probability of any label is {sweep.export.largest:.3g}."
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
        ran: dict[str, Any] = (
            {} if sweep is None else {"windows": sweep.computed, "skipped": sweep.skipped, "rescues": sweep.rescues}
        )
        if sweep is not None and sweep.seam is not None:
            ran["seam_difference"] = round(sweep.seam, 6)
        return Record(
            task=TASK,
            status=status,
            parameters=self.parameters.model_dump(mode="json"),
            inputs={
                "models": [_named(model) for model in self.models],
                **({"points": [list(point) for point in self.points]} if self.points else {}),
            },
            source=Source(
                content_hash=content_hash(self.image),
                shape=self.image.shape,
                dtype=self.image.dtype.str,
                spacing=self.own_spacing,
            ),
            result={
                "labels_hash": content_hash(self._flat(self.arrays.labels)),
                "peak_memory_bytes": self.peak,
                "voxels": {str(n): int(c) for n, c in enumerate(counts) if n and c},
                **ran,
            },
            versions=versions("torch"),
            device=str(self.passes.device),
            dtype=str(self.passes.precision).removeprefix("torch."),
            threads=torch.get_num_threads(),
            duration_s=round(time.perf_counter() - self.began, 3),
            notes=tuple(notes),
        )


def _named(model: Model) -> dict[str, Any]:
    """A model as records name it; of a cascade with the hashes of its first stage."""
    card = model.card
    named = {"name": card.name, "version": card.version, "fold": card.fold, "sha256": card.sha256}
    return named | ({"first_stage": [one.card.sha256 for one in model.first_stage]} if model.first_stage else {})


def _time(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min"
