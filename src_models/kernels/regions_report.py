"""Responses by region as files: CSV of classes and of kernels, a section of the page, a figure."""

from __future__ import annotations

import base64
import csv
import io
import math
from collections.abc import Sequence
from dataclasses import asdict
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from src_models.kernels.figures import as_bytes, empty_figure
from src_models.kernels.regions import RegionReport, RegionResponse
from src_models.kernels.result import KernelReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072b2", "#d55e00", "#6b7680", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_TITLES = {"label": "by nearest known spectrum", "pde_class": "by differential operator"}


def regions_csv(found: RegionReport) -> bytes:
    """One row a class and region."""
    rows = [list(asdict(one).values()) for one in found.classes]
    head = [*RegionResponse.__dataclass_fields__, "band", "unit"]
    return _csv(head, [[*row, found.band, found.unit] for row in rows])


def kernels_csv(found: RegionReport, report: KernelReport) -> bytes:
    """One row a kernel: layer, out, in, and per region the mean of its response and its effect size."""
    columns = [report.table.words("layer"), report.table.numbers("out"), report.table.numbers("in")]
    head = ["layer", "out", "in"]
    for region, name in enumerate(found.regions):
        head += [f"mean_{name}", f"effect_{name}"]
        columns += [found.mean[:, region], found.effect[:, region]]
    return _csv(head, list(zip(*(column.tolist() for column in columns), strict=True)))


def regions_section(found: RegionReport, figure: bytes | None = None) -> str:
    """A section of the page."""
    text = (
        "The feature map of each kernel alone, inside the structure, within "
        f"{found.band:g} {escape(found.unit)} of its boundary, and outside. The effect size is the mean there minus "
        "the mean elsewhere, in standard deviations of the map; its absolute value says how much a region stands out "
        "to a kernel, and stands beside that of random kernels on the same channels. Intervals are over patients."
    )
    head = (
        "<tr><th>kernels</th><th>number</th><th>region</th><th>mean response</th><th>effect (95 %)</th>"
        "<th>absolute effect (95 %)</th><th>random kernels</th><th>beyond random (95 %)</th></tr>"
    )
    rows = "".join(
        f"<tr class='{_colour(one)}'><td>{escape(one.name)}</td><td>{one.kernels}</td><td>{escape(one.region)}</td>"
        f"<td>{_number(one.mean, '+.3g')}</td><td>{_ranged(one.effect, one.low, one.high, '+.2f')}</td>"
        f"<td>{_ranged(one.absolute, one.absolute_low, one.absolute_high, '.2f')}</td>"
        f"<td>{_number(one.chance, '.2f')}</td>"
        f"<td>{_ranged(one.excess, one.excess_low, one.excess_high, '+.2f')}</td></tr>"
        for one in found.classes
        if one.patients
    )
    notes = "".join(f"<p class='note'>{escape(note)}</p>" for note in found.notes)
    picture = ""
    if figure is not None:
        content = base64.b64encode(figure).decode("ascii")
        picture = f"<p><img alt='Responses by region' src='data:image/png;base64,{content}'></p>"
    return f"<h2>Where kernels answer</h2><p>{text}</p>{picture}<table>{head}{rows}</table>{notes}"


def draw_regions(found: RegionReport, kind: str = "png") -> bytes:
    """`regions_figure` as the content of a file.

    Raises
    ------
    InputError
        Where matplotlib is not installed.
    """
    return as_bytes(regions_figure(found), kind)


def regions_figure(found: RegionReport) -> Figure:
    """Absolute effect size of each class in each region with its interval, and that of random kernels."""
    names = {kind: list(dict.fromkeys(one.name for one in found.classes if one.kind == kind)) for kind in _TITLES}
    highest = max(len(each) for each in names.values())
    figure = empty_figure(11.5, 0.36 * highest + 1.9)
    axes = figure.subplots(1, 2)
    for ax, (kind, several) in zip(axes, names.items(), strict=True):
        _panel(ax, found, kind, several)
        ax.set_title(_TITLES[kind], fontsize=9)
    handles, told = axes[0].get_legend_handles_labels()
    figure.legend(handles, told, fontsize=7, loc="outside lower center", ncols=min(len(told), 6), frameon=False)
    figure.suptitle("How much regions stand out to kernels: absolute effect size, 95 % over patients", fontsize=10)
    return figure


def _panel(ax: Axes, found: RegionReport, kind: str, names: Sequence[str]) -> None:
    step = 0.7 / len(found.regions)
    for number, region in enumerate(found.regions):
        mine = {one.name: one for one in found.classes if one.kind == kind and one.region == region and one.patients}
        shown = [(place, mine[name]) for place, name in enumerate(names) if name in mine]
        y = np.array([place for place, _ in shown]) + (number - (len(found.regions) - 1) / 2) * step
        colour = COLOURS[number % len(COLOURS)]
        for height, (_, one) in zip(y, shown, strict=True):
            if math.isfinite(one.absolute_low):
                ax.plot((one.absolute_low, one.absolute_high), (height, height), color=colour, linewidth=1.4)
        ax.scatter([one.absolute for _, one in shown], y, s=18, color=colour, label=region, zorder=3)
        chance = "random kernels there" if number == len(found.regions) - 1 else None
        ax.scatter([one.chance for _, one in shown], y, s=34, marker="|", color="black", label=chance, zorder=4)
    counts = {one.name: one.kernels for one in found.classes if one.kind == kind}
    ax.set_yticks(range(len(names)), [f"{name} ({counts[name]:,})" for name in names], fontsize=7)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.set_xlim(left=0)
    ax.tick_params(axis="x", labelsize=7)
    ax.grid(axis="y", color="#eeeeee")
    ax.set_axisbelow(True)
    ax.set_xlabel("mean |effect size|", fontsize=8)


def _colour(one: RegionResponse) -> str:
    if not math.isfinite(one.excess_low):
        return ""
    return "up" if one.excess_low > 0 else "down" if one.excess_high < 0 else ""


def _ranged(value: float, low: float, high: float, form: str) -> str:
    if not math.isfinite(value):
        return "-"
    return f"{value:{form}}" + (f" ({low:{form}} to {high:{form}})" if math.isfinite(low) else "")


def _number(value: float, form: str) -> str:
    return f"{value:{form}}" if math.isfinite(value) else "-"


def _csv(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> bytes:
    target = io.StringIO()
    writer = csv.writer(target, lineterminator="\n")
    writer.writerow(head)
    for row in rows:
        writer.writerow(
            [("" if not math.isfinite(v) else f"{v:.6g}") if isinstance(v, float) else v for v in row],
        )
    return target.getvalue().encode()
