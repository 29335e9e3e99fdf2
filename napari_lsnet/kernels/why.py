"""What is asked about a place of the image, and the lines of the answer with the kernels that they are about. No Qt."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_lsnet.kernels.facts import number
from napari_lsnet.kernels.seen import SeenImage, known_network, seen_by, voxel_at
from napari_lsnet.seeds import points_in_region
from src_models.errors import InputError

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from src_models.kernels.result import KernelReport
    from src_models.kernels.sources import Source
    from src_models.kernels.why_here import Increments, WhyHere

_OF_STEPS = (".rho", ".sigma")
_NOTHING = 1e-9
"""Parts below this are told as 0: u is in mm, and far from a front nothing moves it."""
MOST_LINES = 40
"""Kernels that are listed; the sum tells of all."""


@dataclass(frozen=True, eq=False)
class WhyQuestion:
    """What is wanted; nothing in it changes when layers do.

    Attributes
    ----------
    source : Source
        The network.
    seen : SeenImage
        What it is shown.
    place : tuple of float
        The voxel of the region, along the axes of the layer.
    channel : int or None
        Of the output; None for the likeliest label there.
    points : tuple of tuple of float
        Clicks that the model begins at, in mm from the first voxel, as the network sees the axes.
    """

    source: Source
    seen: SeenImage
    place: tuple[float, ...]
    channel: int | None
    points: tuple[tuple[float, ...], ...] = ()

    def answer(self) -> tuple[WhyQuestion, WhyHere]:
        """The answer; for the worker, because it imports torch."""
        from src_models.kernels.why_here import why_here
        from src_models.processor import let_waiting_threads_sleep

        let_waiting_threads_sleep()
        network, card = known_network(self.source)
        seen = self.seen
        place = seen.turned(self.place)
        found = why_here(
            network,
            card,
            seen.content,
            seen.spacing,
            place,
            unit=seen.unit,
            channel=self.channel,
            points=self.points,
        )
        return self, found


def why_question(
    viewer: ViewerModel, source: Source, image: Any, world: Any, channel: int | None, clicks: Any = None
) -> WhyQuestion:
    """Read what the question needs from the layers.

    Parameters
    ----------
    viewer : ViewerModel
        With the layers.
    source : Source
        The network.
    image : Image
        The layer of the person.
    world : sequence of float
        Where it was clicked.
    channel : int or None
        See `WhyQuestion`.
    clicks : Points, optional
        For a model that begins at a click.

    Raises
    ------
    InputError, GeometryError
        One sentence each.
    """
    seen = seen_by(viewer, source, image)
    place = voxel_at(image, seen.region, world)
    if not all(-0.5 <= c < n - 0.5 for c, n in zip(place, seen.size, strict=True)):
        raise InputError("why-outside", "That place lies outside the image", "", "Press Why here? and click into it.")
    place = tuple(float(round(c)) for c in place)
    _, card = known_network(source)
    points: tuple[tuple[float, ...], ...] = ()
    if card.click is not None:
        if clicks is None:
            raise InputError(
                "why-click",
                "This model begins at a click",
                "",
                "Add a points layer with a point inside the structure, and choose it here.",
            )
        # mm along the axes of the layer: as voxels they are turned like any place
        spacing = tuple(seen.spacing[axis] for axis in seen.turn.axes)
        local = points_in_region(clicks, image, seen.region, "clicks")
        turned = [seen.turned([x / h for x, h in zip(point, spacing, strict=True)]) for point in local]
        points = tuple(tuple(c * h for c, h in zip(voxel, seen.spacing, strict=True)) for voxel in turned)
    return WhyQuestion(source, seen, place, channel, points)


@dataclass(frozen=True)
class Line:
    """One line of the answer.

    Attributes
    ----------
    text : str
        What it is about.
    value : float
        mm of u, or of the logit; not a number for a group that has none.
    row : int or None
        Of the kernel in the table; None where it is none, or was not analysed.
    parts : tuple of Line
        That sum to it.
    """

    text: str
    value: float
    row: int | None = None
    parts: tuple[Line, ...] = ()


def lines_of(found: WhyHere, report: KernelReport) -> tuple[Line, ...]:
    """The lines of an answer, the largest first."""
    if found.increments is None:
        return _kernels(found, report, MOST_LINES)
    # those of the steps have their part in the sums; the others are told in mm of u
    factor = found.increments.end / found.logit if found.logit else 1.0
    others = tuple(
        replace(line, value=line.value * factor) for line in _kernels(found, report, MOST_LINES // 2, _OF_STEPS)
    )
    group = (Line("start and edges, first order only", float("nan"), None, others),) if others else ()
    return (*_of_increments(found.increments, report), *group)


def _kernels(found: WhyHere, report: KernelReport, most: int, without: tuple[str, ...] = ()) -> tuple[Line, ...]:
    """The kernels with the largest effects, but those of layers whose names end so."""
    kernels: list[tuple[float, int, Any]] = []
    for each in report.layers:
        effects = found.first_order.effects.get(each.layer.name)
        if effects is None or effects.size != each.layer.count or each.layer.name.endswith(without or ("\0",)):
            continue
        flat = effects.ravel()
        first = np.argsort(-np.abs(flat), kind="stable")[:most]
        kernels += [(float(flat[k]), each.first_row + int(k), each) for k in first]
    kernels.sort(key=lambda kernel: -abs(kernel[0]))
    lines = []
    for value, row, each in kernels[:most]:
        told = report.table.row(row)
        lines.append(Line(f"{_short(each.layer.name)}: {told['in']} \N{RIGHTWARDS ARROW} {told['out']}", value, row))
    return tuple(lines)


def _of_increments(found: Increments, report: KernelReport) -> tuple[Line, ...]:
    pairs = sorted(found.pairs, key=lambda pair: -abs(pair.value))
    steps = {pair.step for pair in found.pairs}
    levels = {step.split(".")[1] for step in steps}
    parts = []
    for pair in pairs:
        _, level, _, step = pair.step.split(".")
        where = "" if len(steps) == 1 else f", level {level}" + ("" if len(steps) == len(levels) else f", step {step}")
        kernels = tuple(
            Line(f"{letter}{pair.number}: {word}", pair.value, _row_of(report, place))
            for letter, word, place in (
                ("\N{GREEK SMALL LETTER RHO}", "slopes", pair.rho),
                ("\N{GREEK SMALL LETTER SIGMA}", "divergence", pair.sigma),
            )
        )
        parts.append(Line(f"pair {pair.number}{where}", pair.value, kernels[0].row, kernels))
    terms = [
        Line("balloon", found.balloon),
        Line("curvature", found.curvature, None, tuple(parts)),
        Line("convection", found.convection),
    ]
    return tuple(sorted(terms, key=lambda line: -abs(line.value)))


def _row_of(report: KernelReport, place: tuple[str, int, int]) -> int | None:
    name, out, inside = place
    for index, each in enumerate(report.layers):
        if each.layer.name == name:
            return report.row_of(index, out, inside)
    return None


def words_of(found: WhyHere) -> str:
    """The answer in sentences."""
    if found.rival:
        start = f"Here {found.label} {'wins over' if found.logit > 0 else 'loses to'} {found.rival}"
    else:
        start = f"Here is {'' if found.logit > 0 else 'no '}{found.label}"
    start += f": logit {signed(found.logit)}."
    window = "" if found.whole else " The network saw a window around the place."
    moved = found.increments
    if moved is not None:
        if max(abs(moved.balloon), abs(moved.curvature), abs(moved.convection)) < _NOTHING:
            return (
                f"{start} u is {number(moved.end)} mm from its start on: no term moved it, the start decides.{window}"
            )
        return (
            f"{start} u went from {number(moved.start)} to {number(moved.end)} mm; balloon, curvature and convection "
            f"sum to the change {signed(moved.sum)} exactly.{window}"
        )
    return (
        f"{start} First order only: what the logit would lose without each kernel, K \N{MIDDLE DOT} dlogit/dK. "
        f"Effects do not add up to the logit.{window}"
    )


def _short(name: str) -> str:
    return name.removesuffix(".conv")


def signed(value: float) -> str:
    """A number with its sign, three digits; "" where there is none."""
    if np.isnan(value):
        return ""
    if abs(value) < _NOTHING:
        return "0"
    text = number(value)
    return text if value <= 0 or not np.isfinite(value) else f"+{text}"
