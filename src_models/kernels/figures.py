"""The figures of an analysis, drawn without a window.

Each function returns a figure of matplotlib, which is imported inside; `draw` gives all of them as PNG or SVG.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from src_models.errors import InputError
from src_models.kernels.dictionary import INDETERMINATE, Dictionary
from src_models.kernels.draws import generator
from src_models.kernels.result import KernelReport, LayerReport, Share
from src_models.kernels.spectra import singular_values

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CLUSTER_COLOURS = ("#4477aa", "#ccbb44", "#228833", "#aa3377", "#66ccee", "#ee6677")
LABEL_COLOURS = (
    *("#332288", "#88ccee", "#44aa99", "#ee8866", "#117733", "#ddcc77", "#cc6677", "#882255", "#aa4499"),
    *("#6699cc", "#999933", "#661100", "#4b6a53", "#b249d5", "#7edc45", "#5c47b8", "#cfd251"),
)
GREY = "#bbbbbb"
DARK_GREY = "#666666"
KNOWN = "#d62728"
_LINE = 0.075
"""Height of a name beside a panel, as a share of it."""
_FEW = 100
"""Kernels, of which each is drawn larger."""
PANELS = 42
"""Layers that are drawn; of more, evenly chosen ones."""
POINTS = 2000
"""Of a layer in its panel; the table holds all."""


def draw(report: KernelReport, kind: str = "png") -> dict[str, bytes]:
    """All figures of an analysis.

    Parameters
    ----------
    report : KernelReport
        With at least one layer.
    kind : str
        ``"png"`` or ``"svg"``.

    Returns
    -------
    dict of str to bytes
        By name: components, labels, spectra, energy, pde.

    Raises
    ------
    InputError
        Where matplotlib is not installed, naming the extra that brings it.
    """
    drawn = {}
    for name, figure in FIGURES.items():
        drawn[name] = as_bytes(figure(report), kind)
    return drawn


def as_bytes(figure: Figure, kind: str) -> bytes:
    """A figure as the content of a file; equal figures give equal bytes."""
    target = io.BytesIO()
    _matplotlib()
    import matplotlib

    # no date, and no random names of the parts
    metadata = {"Date": None} if kind == "svg" else {"Software": None}
    with matplotlib.rc_context({"svg.hashsalt": "lsnet", "svg.fonttype": "none"}):
        figure.savefig(target, format=kind, dpi=110, metadata=metadata)
    return target.getvalue()


def components(report: KernelReport) -> Figure:
    """The form of the paper's Figure 2: kernels of each layer on two components, known kernels as red squares."""
    shown = _chosen(report.layers)
    figure, axes = _panels(len(shown), 3.1, 2.4, columns=4)
    for each, ax in zip(shown, axes, strict=False):
        _components_panel(report, each, ax)
    figure.suptitle(
        "Kernels on two principal components; known kernels in red with their share of distance from the plane",
        fontsize=10,
    )
    return figure


def _components_panel(report: KernelReport, each: LayerReport, ax: Axes) -> None:
    table, rows = report.table, each.rows
    alive = np.flatnonzero(~table.numbers("dead")[rows]) + rows.start
    if len(alive) > POINTS:
        random = generator(report.parameters.seed, "figure", each.layer.index)
        alive = np.sort(random.choice(alive, POINTS, replace=False))
    # the paper draws -(second component) to the right and the first upwards
    x, y = -table.numbers("pc2")[alive], table.numbers("pc1")[alive]
    # without clusters grey: a colour would promise some
    colours = [
        DARK_GREY if word == "none" else CLUSTER_COLOURS[int(word) % len(CLUSTER_COLOURS)]
        for word in table.words("cluster")[alive].tolist()
    ]
    ax.scatter(x, y, s=3 if len(alive) > _FEW else 12, c=colours, linewidths=0, rasterized=True)
    fit = each.projection
    first = _first_of_labels(report.dictionaries[each.layer.size])
    ax.scatter(-fit.known_points[first, 1], fit.known_points[first, 0], s=16, marker="s", c=KNOWN, zorder=3)
    names = [f"{fit.known[k]} {fit.known_relative[k]:.2f}" for k in first]
    _beside(ax, [(-float(fit.known_points[k, 1]), float(fit.known_points[k, 0])) for k in first], names)
    ax.set_title(f"{each.layer.index + 1}: {_short(each.layer.name)}", fontsize=7)
    ax.set_xlabel(f"-PC 2 ({fit.explained[1]:.0%})", fontsize=6)
    ax.set_ylabel(f"PC 1 ({fit.explained[0]:.0%})", fontsize=6)
    ax.tick_params(labelsize=5)
    ax.locator_params(nbins=5)


def _beside(ax: Axes, points: Sequence[tuple[float, float]], names: Sequence[str]) -> None:
    """Names in a column to the right of a panel, as high as their points where there is room, and a line to each."""
    low, high = ax.get_ylim()
    ax.set_ylim(low, high)
    ax.set_xlim(ax.get_xlim())
    wanted = np.array([(y - low) / (high - low) for _, y in points])
    places = spread_out(wanted, min(_LINE, 1 / max(len(names), 1)))
    for (x, y), place, name in zip(points, places.tolist(), names, strict=True):
        ax.annotate(
            name,
            (x, y),
            (1.04, place),
            textcoords="axes fraction",
            fontsize=6,
            va="center",
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "linewidth": 0.4, "color": KNOWN, "alpha": 0.6, "shrinkA": 1, "shrinkB": 1},
        )


def spread_out(wanted: NDArray[np.float64], gap: float) -> NDArray[np.float64]:
    """Places between 0 and 1 at least a gap apart, in the order of the wanted ones and near them.

    Parameters
    ----------
    wanted : ndarray of shape (n,)
        Any order.
    gap : float
        At most 1 / n.
    """
    order = np.argsort(wanted, kind="stable")
    steps = gap * np.arange(len(wanted))
    # without the gaps the order is all that is asked for: the nearest rising sequence is a mean of two passes
    free = wanted[order] - steps
    rising = (np.maximum.accumulate(free) + np.minimum.accumulate(free[::-1])[::-1]) / 2
    room = 1 - gap * max(len(wanted) - 1, 0)
    places = np.empty(len(wanted))
    places[order] = np.clip(rising, 0, max(room, 0)) + steps
    return places


def _first_of_labels(known: Dictionary) -> list[int]:
    return [int(np.flatnonzero(known.label_of == label)[0]) for label in range(len(known.labels))]


def labels(report: KernelReport) -> Figure:
    """Shares of the labels per layer, and beside each bar what random kernels get."""
    return _stacked(report, lambda each: each.labels, "Share of kernels by nearest known spectrum")


def pde(report: KernelReport) -> Figure:
    """Shares of the operators per layer, likewise."""
    return _stacked(report, lambda each: each.pde_classes, "Share of kernels by differential operator")


def _stacked(report: KernelReport, shares: Callable[[LayerReport], Sequence[Share]], title: str) -> Figure:
    shown = _chosen(report.layers)
    names = list(dict.fromkeys(one.name for each in shown for one in shares(each)))
    used = [n for n in names if any(s.count or s.null_share > 0.005 for e in shown for s in shares(e) if s.name == n)]
    figure = empty_figure(max(7.0, 0.42 * len(shown) + 3), 4.2)
    ax = figure.subplots()
    places = np.arange(len(shown))
    bottoms = np.zeros((2, len(shown)))
    for number, name in enumerate(used):
        found = [next((s for s in shares(each) if s.name == name), None) for each in shown]
        heights = np.array(
            [[s.share if s and s.total else 0 for s in found], [s.null_share if s else 0 for s in found]]
        )
        colour = GREY if name == INDETERMINATE else LABEL_COLOURS[number % len(LABEL_COLOURS)]
        ax.bar(places - 0.19, heights[0], 0.4, bottoms[0], color=colour, label=name)
        ax.bar(places + 0.22, heights[1], 0.2, bottoms[1], color=colour, alpha=0.45)
        bottoms += heights
    ax.set_xticks(places, [str(each.layer.index + 1) for each in shown], fontsize=7)
    ax.set_xlabel("layer (wide bar: its kernels; narrow, pale bar: random kernels)", fontsize=8)
    ax.set_ylim(0, 1)
    ax.set_title(title, fontsize=9)
    _legend(ax)
    return figure


def spectra(report: KernelReport) -> Figure:
    """Sorted singular values of each layer: median and 5 to 95 %, with those of the known kernels."""
    shown = _chosen(report.layers)
    figure, axes = _panels(len(shown), 2.1, 1.8)
    for each, ax in zip(shown, axes, strict=False):
        band, known = each.spectrum, report.dictionaries[each.layer.size]
        ax.fill_between(band.position, band.low, band.high, color="#cccccc", linewidth=0)
        ax.plot(band.position, band.median, color="black", linewidth=1.2)
        for label, place in enumerate(_first_of_labels(known)):
            colour = LABEL_COLOURS[label % len(LABEL_COLOURS)]
            curve = _curve(known.features[place].kernel, each.grid, len(band.position))
            ax.plot(band.position, curve, color=colour, linewidth=0.6, label=known.labels[label])
        ax.set_title(f"{each.layer.index + 1}: {_short(each.layer.name)}", fontsize=7)
        ax.tick_params(labelsize=5)
        ax.set_ylim(0, 1.02)
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, fontsize=6, loc="outside lower center", ncols=6, frameon=False)
    figure.suptitle("Sorted singular values over the largest: median and 5 to 95 % of each layer", fontsize=9)
    return figure


def _curve(kernel: NDArray[Any], grid: tuple[int, ...], count: int) -> NDArray[np.float64]:
    values = singular_values(kernel, grid)
    places = np.linspace(0, len(values) - 1, count).round().astype(int)
    found: NDArray[np.float64] = values[places] / values[0]
    return found


def energy(report: KernelReport) -> Figure:
    """Energy by polynomial degree over its expectation for Gaussian kernels, per layer."""
    shown = _chosen(report.layers)
    degrees = max(len(each.energy) for each in shown)
    figure = empty_figure(max(6.0, 0.36 * len(shown) + 2), 3.6)
    ax = figure.subplots()
    for degree in range(degrees):
        points = [
            (place, each.energy[degree] / each.energy_null[degree])
            for place, each in enumerate(shown)
            if degree < len(each.energy)
        ]
        if points:
            x, y = zip(*points, strict=True)
            ax.plot(x, y, marker="o", markersize=3, linewidth=1, label=f"degree {degree}")
    ax.axhline(1, color="black", linewidth=0.8, linestyle=":")
    ax.set_xticks(range(len(shown)), [str(each.layer.index + 1) for each in shown], fontsize=7)
    ax.set_xlabel("layer", fontsize=8)
    ax.set_ylabel("mean share of energy / chance", fontsize=8)
    ax.set_title("Energy of kernels by degree (0: average, 1: slope, 2: curvature, ...)", fontsize=9)
    _legend(ax)
    return figure


FIGURES: dict[str, Callable[[KernelReport], Figure]] = {
    "components": components,
    "labels": labels,
    "spectra": spectra,
    "pde": pde,
    "energy": energy,
}


def _chosen(layers: Sequence[LayerReport]) -> list[LayerReport]:
    if len(layers) <= PANELS:
        return list(layers)
    return [layers[k] for k in np.linspace(0, len(layers) - 1, PANELS).round().astype(int)]


def _legend(ax: Axes) -> None:
    """To the right of a panel, where anything was drawn: a network of zeros has nothing to show."""
    if ax.get_legend_handles_labels()[0]:
        ax.legend(fontsize=6.5, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)


def empty_figure(width: float, height: float) -> Figure:
    """A figure without a window.

    Raises
    ------
    InputError
        Where matplotlib is not installed.
    """
    _matplotlib()
    from matplotlib.figure import Figure as Empty

    return Empty(figsize=(width, height), layout="constrained")


def _panels(count: int, width: float, height: float, columns: int = 6) -> tuple[Figure, list[Axes]]:
    columns = min(columns, max(count, 1))
    rows = math.ceil(count / columns)
    figure = empty_figure(max(columns * width, 5), rows * height + 0.8)
    axes = list(np.ravel(figure.subplots(rows, columns, squeeze=False)))
    for spare in axes[count:]:
        spare.remove()
    return figure, axes[:count]


def _short(name: str) -> str:
    return name if len(name) <= 24 else "..." + name[-21:]


def _matplotlib() -> None:
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise InputError(
            "kernels-matplotlib",
            "Figures need matplotlib, which is not installed",
            "",
            "Install it: pip install napari-lsnet[kernels]. The table is written without it.",
        ) from error


def has_figures() -> bool:
    """Whether figures can be drawn here."""
    from importlib.util import find_spec

    return find_spec("matplotlib") is not None
