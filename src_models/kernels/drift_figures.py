"""Figures of kernels that moved: by epoch in a training, and by layer between two states of a network."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from src_models.kernels.drift import Comparison
from src_models.kernels.drift_curves import Curves
from src_models.kernels.figures import LABEL_COLOURS, as_bytes, empty_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE = "#0072b2", "#d55e00"
PANELS = 24
_NAMED = 10
_LEAST = 0.01


def draw_curves(found: Curves, kind: str = "png") -> bytes:
    """`curves_figure` as the content of a file.

    Raises
    ------
    InputError
        Where matplotlib is not installed.
    """
    return as_bytes(curves_figure(found), kind)


def draw_comparison(found: Comparison, kind: str = "png") -> bytes:
    """`comparison_figure` as the content of a file.

    Raises
    ------
    InputError
        Where matplotlib is not installed.
    """
    return as_bytes(comparison_figure(found), kind)


def curves_figure(found: Curves) -> Figure:
    """One panel a family of kernels, one line a kernel, all on one scale."""
    families = list(found.families.items())
    if len(families) > PANELS:
        families = [families[k] for k in np.linspace(0, len(families) - 1, PANELS).round().astype(int)]
    columns = min(4, len(families))
    rows = math.ceil(len(families) / columns)
    figure = empty_figure(max(3.0 * columns, 5.5), 2.3 * rows + 0.6)
    axes = list(np.ravel(figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)))
    for spare in axes[len(families) :]:
        spare.remove()
    for number, ((name, kernels), ax) in enumerate(zip(families, axes, strict=False)):
        for place, (kernel, points) in enumerate(kernels.items()):
            x, y = zip(*points, strict=True)
            marker = "o" if len(points) == 1 else None
            colour = LABEL_COLOURS[place % len(LABEL_COLOURS)]
            ax.plot(x, y, color=colour, linewidth=1, marker=marker, markersize=3, label=str(kernel))
        ax.set_title(name, fontsize=8)
        ax.tick_params(labelsize=6)
        if len(kernels) <= _NAMED:
            ax.legend(fontsize=5.5, title="kernel", title_fontsize=5.5, ncols=2, frameon=False)
        ax.xaxis.get_major_locator().set_params(integer=True)
        if number + columns >= len(families):
            ax.set_xlabel("epoch", fontsize=7)
            ax.tick_params(labelbottom=True)
        if number % columns == 0:
            ax.set_ylabel("|K - F| / |F|", fontsize=7)
    axes[0].set_ylim(bottom=0)
    figure.suptitle("Drift of kernels from their start, by epoch", fontsize=9)
    return figure


def comparison_figure(found: Comparison) -> Figure:
    """By layer: how far kernels moved and turned (median, 5 to 95 %), and how many changed their order or label."""
    count = len(found.layers)
    figure = empty_figure(max(7.0, 0.3 * count + 3), 6.6)
    axes = figure.subplots(3, 1, sharex=True)
    _band(axes[0], [each.relative for each in found.drifts], "|K - F| / |F|", BLUE)
    _band(axes[1], [each.turn for each in found.drifts], "1 - cos(K, F)", BLUE)
    axes[1].axhline(1, color="black", linewidth=0.7, linestyle=":")
    places = np.arange(count)
    order = [float(np.mean(each.order != each.start_order)) for each in found.drifts]
    label = [float(np.mean(old != new)) for old, new in found.labels]
    axes[2].bar(places - 0.2, order, 0.36, color=BLUE, label="other order")
    axes[2].bar(places + 0.2, label, 0.36, color=ORANGE, label="other label")
    axes[2].set_ylim(0, 1)
    axes[2].set_ylabel("share of kernels", fontsize=8)
    axes[2].legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    axes[2].set_xticks(places, [str(each.index + 1) for each in found.layers], fontsize=7)
    axes[2].set_xlabel("layer", fontsize=8)
    for ax in axes:
        ax.tick_params(axis="y", labelsize=7)
    figure.suptitle(_short(f"Kernels of {found.after} against {found.before}"), fontsize=9)
    return figure


def _band(ax: Axes, several: list[NDArray[Any]], label: str, colour: str) -> None:
    """Median and the middle 90 % of each layer."""
    for place, values in enumerate(several):
        known = values[np.isfinite(values)]
        if known.size:
            low, middle, high = np.percentile(known, (5, 50, 95))
            ax.plot((place, place), (low, high), color=colour, linewidth=4, alpha=0.35, solid_capstyle="butt")
            ax.scatter([place], [middle], s=16, color=colour, zorder=3)
    # below that, rounding would fill the panel
    ax.set_ylim(0, max(ax.get_ylim()[1], _LEAST))
    ax.set_ylabel(label, fontsize=8)


def _short(text: str) -> str:
    return text if len(text) <= 90 else text[:87] + "..."
