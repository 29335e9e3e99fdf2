"""What is asked about a place of the image, and the lines of the answer with the kernels that they are about. No Qt."""

from __future__ import annotations

from dataclasses import dataclass
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
        mm of u, or of the logit.
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
    if found.increments is not None:
        return _of_increments(found.increments, report)
    assert found.first_order is not None
    kernels: list[tuple[float, int, Any]] = []
    for each in report.layers:
        effects = found.first_order.effects.get(each.layer.name)
        if effects is None or effects.size != each.layer.count:
            continue
        flat = effects.ravel()
        first = np.argsort(-np.abs(flat), kind="stable")[:MOST_LINES]
        kernels += [(float(flat[k]), each.first_row + int(k), each) for k in first]
    kernels.sort(key=lambda kernel: -abs(kernel[0]))
    lines = []
    for value, row, each in kernels[:MOST_LINES]:
        told = report.table.row(row)
        lines.append(Line(f"{_short(each.layer.name)}: {told['in']} \N{RIGHTWARDS ARROW} {told['out']}", value, row))
    return tuple(lines)


def _of_increments(found: Increments, report: KernelReport) -> tuple[Line, ...]:
    pairs = sorted(found.pairs, key=lambda pair: -abs(pair.value))
    levels = {pair.step for pair in found.pairs}
    parts = []
    for pair in pairs:
        where = f" of {pair.step.replace('.', ' ')}" if len(levels) > 1 else ""
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
    against = f" against {found.rival}" if found.rival else ""
    sign = "is chosen" if found.logit > 0 else "is not chosen"
    start = f"{found.label}{against} {sign} here: logit {signed(found.logit)}."
    window = "" if found.whole else " The network saw a window around the place."
    moved = found.increments
    if moved is not None:
        return (
            f"{start} u went from {number(moved.start)} to {number(moved.end)} mm; these parts sum to the change "
            f"{signed(moved.sum)} exactly.{window}"
        )
    return (
        f"{start} First order only: what the logit would lose without each kernel, K \N{MIDDLE DOT} dlogit/dK. "
        f"Effects do not add up to the logit.{window}"
    )


def _short(name: str) -> str:
    return name.removesuffix(".conv")


def signed(value: float) -> str:
    """A number with its sign, three digits."""
    text = number(value)
    return text if value <= 0 or not np.isfinite(value) else f"+{text}"
