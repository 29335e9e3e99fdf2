"""Where in an image kernels answer: inside a structure, at its boundary, outside, and in each label.

A kernel's feature map is its response alone on its input channel. Means are in the numbers of the network; effect sizes
compare a region with the rest of the image, in standard deviations, and do not depend on a kernel's scale. Each class
stands beside random kernels on the same channels.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from src_models.errors import InputError
from src_models.kernels.draws import generator
from src_models.kernels.evaluation import EvaluationCase
from src_models.kernels.region_masks import PARTS, on_grid, region_masks, views, window_about
from src_models.kernels.region_sums import RegionSums
from src_models.kernels.result import Categories, KernelReport, LayerReport
from src_models.metrics.table import bootstrap
from src_models.networks.network import Network, pad_far
from src_models.networks.placement import Placement, layer_placement
from src_models.preprocessing.prepare import prepare
from src_models.progress import Progress
from src_models.weights.card import ModelCard

Floats = NDArray[np.float64]
BAND = 3.0
"""mm on both sides of a boundary."""
KINDS = ("label", "pde_class")


@dataclass(frozen=True)
class RegionResponse:
    """How the kernels of one class answer in one region; means over patients.

    Attributes
    ----------
    kind, name : str
        Column and word of the table, such as ``"label"`` and ``"edge"``; ``"all"`` twice for all living kernels.
    region : str
        ``"inside"``, ``"boundary"``, ``"outside"``, or a label.
    kernels, patients : int
        How many.
    mean : float
        Of the response.
    effect, low, high : float
        Mean effect size with its 95 % interval over patients: above 0 where the response is larger than elsewhere.
    absolute, absolute_low, absolute_high : float
        Mean of its absolute value, likewise: how much the region stands out, whatever the sign.
    chance : float
        The same of Gaussian kernels on the same input channels.
    excess, excess_low, excess_high : float
        `absolute` minus `chance`, paired by patient.
    """

    kind: str
    name: str
    region: str
    kernels: int
    patients: int
    mean: float
    effect: float
    low: float
    high: float
    absolute: float
    absolute_low: float
    absolute_high: float
    chance: float
    excess: float
    excess_low: float
    excess_high: float


@dataclass(frozen=True, eq=False)
class RegionReport:
    """Responses by region.

    Attributes
    ----------
    regions : tuple of str
        Names.
    classes : tuple of RegionResponse
        All living kernels, then each label and each operator, by region.
    mean, effect : ndarray of shape (rows, regions)
        Of every kernel of the table, mean over patients; NaN where a layer could not be placed.
    band : float
        Half width of the boundary, in `unit`.
    unit : str
        ``"mm"`` or ``"px"``.
    notes : tuple of str
        What was left out.
    """

    regions: tuple[str, ...]
    classes: tuple[RegionResponse, ...]
    mean: Floats
    effect: Floats
    band: float
    unit: str
    notes: tuple[str, ...] = ()


def region_responses(
    network: Network,
    card: ModelCard,
    report: KernelReport,
    cases: Sequence[EvaluationCase],
    *,
    band: float = BAND,
    device: str = "cpu",
    seed: int = 0,
) -> Generator[Progress, None, RegionReport]:
    """Run a network on cases and tell where its kernels answer.

    Parameters
    ----------
    network : Network
        That was analysed; not changed.
    card : ModelCard
        How images are prepared, and which labels are the structure.
    report : KernelReport
        Of it.
    cases : sequence of EvaluationCase
        With labels. What is larger than the window of the card is looked at in one window about the structure.
    band : float
        Half width of the boundary, in the unit of the spacing.
    device : str
        Where the network runs.
    seed : int
        Of the random kernels.

    Yields
    ------
    Progress
        After each image.

    Raises
    ------
    InputError
        Where there are no labels, none of them is the structure, or the network takes more than the image.
    """
    _check(network, card, report, cases, band)
    names = _names(card, cases)
    job = _Job(network.to(torch.device(device)).eval(), card, report, names, band, seed)
    patients = list(dict.fromkeys(case.patient for case in cases))
    done = 0
    for patient in patients:
        sums = {each.layer.name: RegionSums(each.layer, len(names.shown), len(PARTS)) for each in report.layers}
        for case in cases:
            if case.patient == patient:
                for _ in job.run(case, sums):
                    yield Progress(phase="regions", fraction=done / len(cases), message=f"looking at {case.id}")
                done += 1
        job.close(sums)
        yield Progress(phase="regions", fraction=done / len(cases), message=f"{patient}: {len(report.table)} kernels")
    return job.result(patients, cases[0].unit)


@dataclass(frozen=True)
class _Names:
    structure: tuple[int, ...]
    labels: tuple[tuple[str, int], ...]

    @property
    def shown(self) -> tuple[str, ...]:
        return (*PARTS, *(name for name, _ in self.labels))


def _names(card: ModelCard, cases: Sequence[EvaluationCase]) -> _Names:
    """The structure are all labels of the card; each label of the cases is a region where there are several."""
    structure = {v for label in card.labels for v in (label.members or (label.value,)) if v}
    there = sorted({int(v) for case in cases for v in np.unique(np.asarray(case.labels)) if v})
    if not structure & set(there):
        raise InputError(
            "regions-structure",
            f"The cases hold none of the labels {', '.join(map(str, sorted(structure)))} of this model",
            "",
            "Give other cases, or map their labels.",
        )
    called = {label.value: label.name for label in card.labels if not label.members}
    single = [(called.get(v, f"label {v}"), v) for v in there]
    return _Names(tuple(sorted(structure)), tuple(single) if len(single) > 1 else ())


def _check(
    network: Network, card: ModelCard, report: KernelReport, cases: Sequence[EvaluationCase], band: float
) -> None:
    if not cases:
        raise InputError("regions-cases", "There is no case to look at", "", "Give a folder of images and labels.")
    if any(case.labels is None for case in cases):
        raise InputError("regions-labels", "Regions need labels", "some case has none", "Give images with labels.")
    if band <= 0:
        raise InputError("regions-band", "The boundary needs a width above 0", "", "Such as 3 mm.")
    if len({case.unit for case in cases}) > 1:
        raise InputError(
            "regions-units",
            "Cases with and without a voxel size cannot be mixed",
            "the width of the boundary has one unit",
            "Look at them apart.",
        )
    if network.in_channels != len(card.preprocessing.channels):
        raise InputError(
            "regions-click",
            "This network takes a click beside the image",
            "what its kernels answer depends on where it begins",
            "Choose a network that takes images alone.",
        )
    if any(each.layer.gain for each in report.layers):
        raise InputError(
            "kernels-gain", "These kernels were multiplied by a gain", "", "Analyse the network without fold_norm."
        )


class _Job:
    """What is gathered over the patients."""

    def __init__(
        self, network: Network, card: ModelCard, report: KernelReport, names: _Names, band: float, seed: int
    ) -> None:
        self.network, self.card, self.report, self.names = network, card, report, names
        self.band, self.seed = band, seed
        self.modules = dict(network.named_modules())
        self.places: dict[tuple[str, tuple[int, ...]], Placement | None] = {}
        self.notes: dict[str, None] = {}
        rows = len(report.table), len(names.shown)
        self.mean, self.effect, self.seen = np.zeros(rows), np.zeros(rows), np.zeros(rows, np.int64)
        self.classes = _classes(report)
        # one array a patient: (classes, regions, 4): mean, effect, |effect|, |effect| of random kernels
        self.by_patient: list[Floats] = []

    def run(self, case: EvaluationCase, sums: dict[str, RegionSums]) -> Iterator[None]:
        """One image, or some slices of a volume."""
        ready = prepare(case.image, case.spacing, self.card.preprocessing.for_unit(case.unit), nan="fill")
        labels = np.asarray(case.labels)
        masks = region_masks(labels, self.names.structure, case.spacing, self.band)
        every = [*masks.values(), *(labels == value for _, value in self.names.labels)]
        turned = np.stack([mask.transpose(ready.way.axis_order)[ready.way.box] for mask in every])
        for array, flat, factors in views(ready, turned, self.network.ndim):
            self._look(array, flat, factors, sums)
            yield

    def _look(
        self,
        array: NDArray[np.float32],
        masks: NDArray[np.bool_],
        factors: tuple[float, ...],
        sums: dict[str, RegionSums],
    ) -> None:
        corner, size = window_about(array.shape[1:], self.card.patch[-self.network.ndim :], masks, factors)
        part = array[(slice(None), *(slice(a, a + n) for a, n in zip(corner, size, strict=True)))]
        device = next(self.network.parameters()).device
        x = torch.from_numpy(np.ascontiguousarray(part))[None].to(device)
        x = pad_far(x, [-(-n // s) * s for n, s in zip(size, self.network.stride, strict=True)])
        # all places first: they are found with a copy of the network, which would take hooks with it
        places = {name: self._placed(name, tuple(x.shape[2:])) for name in sums if name in self.modules}
        handles = [
            self.modules[name].register_forward_hook(_hook(sums[name], place, (corner, size), masks, factors))
            for name, place in places.items()
            if place is not None
        ]
        try:
            with torch.no_grad():
                self.network.compute(x)
        finally:
            for handle in handles:
                handle.remove()

    def _placed(self, name: str, size: tuple[int, ...]) -> Placement | None:
        key = (name, size)
        if key not in self.places:
            try:
                self.places[key] = layer_placement(self.network, name, size).outside
            except InputError as error:
                self.places[key] = None
                self.notes[f"Left out: {error}"] = None
        return self.places[key]

    def close(self, sums: dict[str, RegionSums]) -> None:
        """A patient is complete."""
        regions = len(self.names.shown)
        found = np.full((4, len(self.report.table), regions), np.nan)
        for each in self.report.layers:
            held = sums[each.layer.name]
            mean, effect = held.responses(each.layer.flat)
            random = held.responses(_random(each, self.seed))[1]
            for k, values in enumerate((mean, effect, np.abs(effect), np.abs(random))):
                found[k, each.rows] = values
        there = np.isfinite(found[1])
        self.seen += there
        self.mean += np.where(there, found[0], 0)
        self.effect += np.where(there, found[1], 0)
        told = np.full((len(self.classes), regions, 4), np.nan)
        for place, (_, _, mine) in enumerate(self.classes):
            for region in range(regions):
                use = mine[there[mine, region]]
                if use.size:
                    told[place, region] = found[:, use, region].mean(axis=1)
        self.by_patient.append(told)

    def result(self, patients: Sequence[str], unit: str) -> RegionReport:
        """Means over patients, with intervals."""
        every = np.stack(self.by_patient)
        classes = [
            _response(kind, name, region, len(mine), every[:, place, k], patients)
            for place, (kind, name, mine) in enumerate(self.classes)
            for k, region in enumerate(self.names.shown)
        ]
        with np.errstate(divide="ignore", invalid="ignore"):
            mean, effect = self.mean / self.seen, self.effect / self.seen
        return RegionReport(self.names.shown, tuple(classes), mean, effect, self.band, unit, tuple(self.notes))


def _classes(report: KernelReport) -> list[tuple[str, str, NDArray[np.intp]]]:
    """All living kernels, and those of each word of the two columns."""
    living = np.flatnonzero(~report.table.numbers("dead").astype(bool))
    made = [("all", "all", living)]
    for kind in KINDS:
        words = report.table[kind]
        assert isinstance(words, Categories)
        codes = words.codes[living]
        made += [(kind, name, living[codes == k]) for k, name in enumerate(words.names) if (codes == k).any()]
    return made


def _random(each: LayerReport, seed: int) -> Floats:
    """One Gaussian kernel a row."""
    return generator(seed, "regions", each.layer.index).standard_normal((each.layer.count, *each.layer.size))


def _response(
    kind: str, name: str, region: str, kernels: int, values: Floats, patients: Sequence[str]
) -> RegionResponse:
    def told(column: Floats) -> tuple[float, float, float]:
        known = column[np.isfinite(column)]
        return (float(known.mean()) if known.size else float("nan"), *bootstrap(column, patients))

    mean, effect, absolute, chance = values.T
    return RegionResponse(
        kind,
        name,
        region,
        kernels,
        int(np.isfinite(effect).sum()),
        told(mean)[0],
        *told(effect),
        *told(absolute),
        told(chance)[0],
        *told(absolute - chance),
    )


def _hook(
    held: RegionSums,
    place: Placement,
    window: tuple[tuple[int, ...], tuple[int, ...]],
    masks: NDArray[np.bool_],
    factors: Sequence[float],
) -> Any:
    def hook(module: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        held.add(module, inputs[0], on_grid(masks, place, window, factors, tuple(output.shape[2:])))

    return hook
