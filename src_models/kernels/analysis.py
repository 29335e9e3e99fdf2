"""`analyse`: everything about the kernels of a network, a generator of progress that returns a `KernelReport`.

What concerns one kernel alone is measured in blocks of rows that threads share; what concerns a layer (components,
clusters, chance) comes after. Results do not depend on blocks or threads.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import nn

from src_models.errors import InputError
from src_models.kernels.clusters import cluster
from src_models.kernels.collect import Collected, collect_module, collect_state
from src_models.kernels.dictionary import Dictionary, dictionary
from src_models.kernels.draws import generator
from src_models.kernels.labels import confusions, worker_count
from src_models.kernels.layer_operator import layer_operator
from src_models.kernels.measuring import ROWS, Measurer, filled, is_dead, stored_rows
from src_models.kernels.moments import energy_dimensions
from src_models.kernels.null import Null, NullKey, measure, null, permuted_kernels
from src_models.kernels.operators import CLASSES
from src_models.kernels.parameters import KernelAnalysisParameters
from src_models.kernels.projection import Projection, fit, row_norms
from src_models.kernels.result import (
    AnalysisProgress,
    ClusterScores,
    KernelReport,
    Layer,
    LayerReport,
    OperatorScores,
    SpectrumBand,
)
from src_models.kernels.shares import shares
from src_models.kernels.sources import Source, open_source
from src_models.kernels.table import TableBuilder
from src_models.record import Record, versions

Result = TypeVar("Result")
_PATIENCE_S = 0.1
_BAND = 1000


def analyse(
    source: nn.Module | Source | str | Path | Any,
    parameters: KernelAnalysisParameters | None = None,
    *,
    fold: str = "",
    cache: Path | None = None,
) -> Generator[AnalysisProgress, None, KernelReport]:
    """Analyse the kernels of a network.

    Parameters
    ----------
    source : Module, mapping of tensors, Model, name or path-like
        See `sources.open_source`.
    parameters : KernelAnalysisParameters, optional
        What is asked.
    fold : str
        Of a model with several; by default the first.
    cache : Path, optional
        A folder in which large samples of random kernels are kept.

    Yields
    ------
    AnalysisProgress
        At least every 200 ms; its `result` gives the layers that are finished. Cancel by ``close``.

    Returns
    -------
    KernelReport
        One row a kernel, and a summary per layer.

    Raises
    ------
    FileError, InputError
        One sentence each: nothing to analyse, weights that are not finite, a file that would run a program.
    """
    chosen = (parameters or KernelAnalysisParameters()).resolved()
    yield AnalysisProgress(phase="read", fraction=0.0, message="reading the network", result=_nothing)
    opened = open_source(source, fold=fold)
    collected = _collect(opened, chosen)
    job = Job(opened, collected, chosen, cache, fold)
    return (yield from job.run())


def _nothing() -> KernelReport:
    raise InputError("kernels-early", "No layer is finished yet", "the network is being read", "Let it run longer.")


def _collect(opened: Source, chosen: KernelAnalysisParameters) -> Collected:
    if opened.network is None:
        return collect_state(opened.state or {})
    image = None
    if chosen.protocol == "paper":
        ndim = getattr(opened.network, "ndim", None) or 2
        image = chosen.image or ((256, 256) if ndim == 2 else (64, 64, 64))
    return collect_module(opened.network, fold_norm=chosen.fold_norm, image=image)


@dataclass(eq=False)
class Job:
    """An analysis under way.

    Attributes
    ----------
    source, collected, chosen, cache, fold
        As `analyse` has them.
    reports, notes, done
        Layers that are finished, what was noticed, and kernels that are measured.
    """

    source: Source
    collected: Collected
    chosen: KernelAnalysisParameters
    cache: Path | None
    fold: str
    reports: list[LayerReport] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    done: int = 0

    def run(self) -> Generator[AnalysisProgress, None, KernelReport]:
        """See `analyse`."""
        self.began = time.perf_counter()
        layers = self.collected.layers
        self.notes += [*self.source.notes, *self.collected.notes]
        given = self.chosen.spacing
        if given is not None and all(len(given) != layer.ndim for layer in self.collected.layers):
            self.notes.append(f"The spacing has {len(given)} numbers and no layer as many axes: it was not used.")
        self.known: dict[tuple[int, ...], Dictionary] = {}
        for layer in layers:
            if layer.size not in self.known:
                self.known[layer.size] = self._dictionary(layer)
        self.table = TableBuilder(layers, self.known)
        yield self._progress("collect", f"{self.collected.count} kernels in {len(layers)} layers")
        workers = worker_count(self.chosen.threads)
        with ThreadPoolExecutor(workers) as pool:
            try:
                yield from self._layers(pool, layers)
            finally:
                pool.shutdown(cancel_futures=True)
        return self.report(complete=True)

    def _layers(self, pool: ThreadPoolExecutor, layers: Sequence[Layer]) -> Generator[AnalysisProgress, None, None]:
        if self.chosen.null == "init":
            self.initial = yield from self._wait(pool, "chance", "the network before training", self._before_training)
        whole: dict[tuple[int, ...], Projection] = {}
        if self.chosen.scope == "network":
            for size in self.known:
                mine = [layer for layer in layers if layer.size == size]
                whole[size] = yield from self._await(pool.submit(self._fit, mine), "components", "")
        first = 0
        for layer in layers:
            yield from self._layer(pool, layer, first, whole.get(layer.size))
            first += layer.count

    def _layer(
        self, pool: ThreadPoolExecutor, layer: Layer, first: int, whole: Projection | None
    ) -> Generator[AnalysisProgress, None, None]:
        chosen, known = self.chosen, self.known[layer.size]
        grid = self.grid(layer)
        measurer = Measurer(layer, known, grid, chosen)
        random = pool.submit(self._null, layer, grid)
        measured = measurer.room()
        waiting: dict[Future[None], int] = {}
        for start in range(0, layer.count, ROWS):
            part = slice(start, min(start + ROWS, layer.count))
            waiting[pool.submit(measurer.fill, measured, part)] = part.stop - part.start
        yield from self._drain(waiting, layer.name)
        dead = measured.dead()
        living = np.flatnonzero(~dead)
        sample = living[_some(len(living), _BAND, (chosen.seed, "band", layer.index))]
        band = pool.submit(measurer.band, sample)
        fitted = whole or (yield from self._wait(pool, "components", layer.name, lambda: self._fit([layer], [living])))
        projected = pool.submit(fitted.project, layer.flat)
        found = yield from self._wait(pool, "clusters", layer.name, lambda: self._clusters(layer, living))
        chance = yield from self._await(random, "chance", layer.name)
        operator: OperatorScores | None = None
        if chosen.operators:
            operator = yield from self._wait(pool, "operator", layer.name, lambda: layer_operator(layer))
        points, away = yield from self._await(projected, "components", layer.name)
        codes = np.full(layer.count, -1, np.int16)
        scores: ClusterScores | None = None
        if found is not None:
            codes[living], scores = found
        rows = slice(first, first + layer.count)
        p_class, p_any = chance.p_values(measured.nearest, measured.distance)
        self.table.put(layer, rows, measured, dead, (points, away, codes), (p_class, p_any))
        labels = np.bincount(measured.codes[living], minlength=len(known.labels) + 1)[: len(known.labels) + 1]
        classes = np.bincount(measured.classes[living], minlength=len(CLASSES))[:-1]
        dimensions = energy_dimensions(layer.stored_size)
        self.reports.append(
            LayerReport(
                layer=layer,
                first_row=first,
                grid=grid,
                dead=int(dead.sum()),
                labels=shares(
                    (*known.labels, "indeterminate"), labels.tolist(), chance.label_counts(chosen.threshold).tolist()
                ),
                pde_classes=shares(CLASSES[:-1], classes.tolist(), chance.classes[:-1].tolist()),
                spectrum=_band((yield from self._await(band, "spectra", layer.name))),
                energy=tuple(np.nanmean(measured.energy[living], axis=0).tolist()) if living.size else (),
                energy_null=tuple((dimensions / dimensions.sum()).tolist()),
                projection=fitted,
                clusters=scores,
                operator=operator,
            )
        )
        yield self._progress("layer", f"{layer.name}: {layer.count} kernels")

    # -- parts

    def _dictionary(self, layer: Layer) -> Dictionary:
        return dictionary(self.chosen.preset, layer.size, self.spacing(layer), merge=self.chosen.merge)

    def spacing(self, layer: Layer) -> tuple[float, ...] | None:
        """The spacing, for layers that have as many axes."""
        given = self.chosen.spacing
        return given if given is not None and len(given) == layer.ndim else None

    def grid(self, layer: Layer) -> tuple[int, ...]:
        """The grid of a layer's spectra."""
        grid = self.chosen.grid(layer.ndim)
        if self.chosen.protocol == "paper" and layer.input_size is not None:
            grid = layer.input_size
        return tuple(max(n, k) for n, k in zip(grid, layer.size, strict=True))

    def _fit(self, layers: Sequence[Layer], living: Sequence[NDArray[np.intp]] | None = None) -> Projection:
        rows = []
        for place, layer in enumerate(layers):
            flat = layer.flat
            kept = living[place] if living is not None else np.flatnonzero(~is_dead(row_norms(flat)))
            rows.append(flat if len(kept) == len(flat) else flat[kept])
        how = self.chosen.normalisation
        return fit(rows, how, self.known[layers[0].size], published=self.chosen.protocol == "paper")

    def _clusters(self, layer: Layer, living: NDArray[np.intp]) -> tuple[NDArray[np.int16], ClusterScores] | None:
        flat = layer.flat if len(living) == layer.count else layer.flat[living]
        chosen = self.chosen
        return cluster(flat, chosen.normalisation, chosen.clusters, chosen.cluster_draws, (chosen.seed, layer.index))

    def _before_training(self) -> Mapping[str, NDArray[Any]]:
        from src_models.kernels.initial import check_rebuilt, initial_kernels

        chosen, network = self.chosen, check_rebuilt(self.source.name, self.source.network)
        made = initial_kernels(
            network, self.collected.layers, chosen.null_draws, chosen.seed, fold_norm=chosen.fold_norm
        )
        least = min(len(flat) for flat in made.values())
        if least < chosen.null_draws:
            self.notes.append(f"Before training the smallest layer has {least} kernels that are not zero.")
        return made

    def _null(self, layer: Layer, grid: tuple[int, ...]) -> Null:
        chosen = self.chosen
        if chosen.null == "permuted":
            drawn = permuted_kernels(stored_rows(layer), chosen.null_draws, (chosen.seed, layer.index))
            return self._measured(layer, grid, filled(drawn, layer))
        if chosen.null == "init":
            return self._measured(layer, grid, self.initial[layer.name])
        key = NullKey(
            law=chosen.null,
            size=layer.size,
            stored_size=layer.stored_size,
            grid=grid,
            preset=chosen.preset,
            spacing=self.spacing(layer),
            merge=chosen.merge,
            tolerance=chosen.tolerance,
            draws=chosen.null_draws,
            seed=chosen.seed,
        )
        return null(key, folder=self.cache)

    def _measured(self, layer: Layer, grid: tuple[int, ...], flat: NDArray[Any]) -> Null:
        return measure(flat, layer.size, grid, self.known[layer.size], self.chosen.tolerance, 1)

    # -- progress

    def _progress(self, phase: str, message: str) -> AnalysisProgress:
        share = self.done / max(self.collected.count, 1)
        return AnalysisProgress(
            phase=phase, fraction=min(share, 1.0), message=message, result=lambda: self.report(complete=False)
        )

    def _drain(self, waiting: dict[Future[None], int], name: str) -> Generator[AnalysisProgress, None, None]:
        while waiting:
            finished, _ = wait(waiting, timeout=_PATIENCE_S, return_when="FIRST_COMPLETED")
            for future in finished:
                future.result()
                self.done += waiting.pop(future)
            yield self._progress("spectra", name)

    def _wait(
        self, pool: ThreadPoolExecutor, phase: str, name: str, work: Callable[[], Result]
    ) -> Generator[AnalysisProgress, None, Result]:
        return (yield from self._await(pool.submit(work), phase, name))

    def _await(self, future: Future[Result], phase: str, name: str) -> Generator[AnalysisProgress, None, Result]:
        while not future.done():
            wait([future], timeout=_PATIENCE_S)
            yield self._progress(phase, name)
        return future.result()

    # -- the result

    def report(self, *, complete: bool) -> KernelReport:
        """What is finished."""
        reports = tuple(self.reports)
        rows = reports[-1].rows.stop if reports else 0
        grids = {each.grid: self.known[each.layer.size] for each in reports}
        table = self.table.table(rows)
        result: dict[str, Any] = {
            "kernels": rows,
            "dead": sum(each.dead for each in reports),
            "layers": len(reports),
            "skipped": len(self.collected.skipped),
        }
        if complete:
            result["table_hash"] = table.content_hash()
        record = Record(
            task="kernels",
            status="done" if complete else "partial",
            parameters=self.chosen.model_dump(mode="json"),
            inputs={"model": self.source.name, "weights_sha256": self.source.content_hash, "fold": self.fold},
            result=result,
            versions=versions("torch", "scipy", "numba"),
            threads=worker_count(self.chosen.threads),
            seed=self.chosen.seed,
            duration_s=round(time.perf_counter() - self.began, 3),
            notes=tuple(self.notes),
        )
        return KernelReport(
            table=table,
            layers=reports,
            skipped=self.collected.skipped,
            dictionaries=self.known,
            confusions={grid: confusions(known, grid, self.chosen.threshold) for grid, known in grids.items()},
            parameters=self.chosen,
            record=record,
            notes=tuple(self.notes),
        )


def _band(curves: NDArray[np.float32]) -> SpectrumBand:
    position = np.linspace(0, 1, curves.shape[1], dtype=np.float32)
    if not len(curves):
        empty = np.full(curves.shape[1], np.nan, np.float32)
        return SpectrumBand(position, empty, empty, empty, 0)
    low, median, high = np.percentile(curves, (5, 50, 95), axis=0).astype(np.float32)
    return SpectrumBand(position, low, median, high, len(curves))


def _some(count: int, most: int, seed: tuple[int | str, ...]) -> NDArray[np.intp]:
    if count <= most:
        return np.arange(count)
    return np.sort(generator(*seed).choice(count, most, replace=False))
