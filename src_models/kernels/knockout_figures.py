"""The figures of an experiment with kernels: effect against control, and dose curves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from src_models.kernels.draws import generator
from src_models.kernels.figures import LABEL_COLOURS, as_bytes, empty_figure
from src_models.kernels.knockout import Effect, Paired

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PALE = "#9aa5b1"
DARK = "#1f3b57"
_LONGEST = 34


def draw_effects(effects: Sequence[Effect], metric: str, kind: str = "png") -> dict[str, bytes]:
    """All figures of an experiment.

    Parameters
    ----------
    effects : sequence of Effect
        At least one.
    metric : str
        Name of the score in the axes.
    kind : str
        ``"png"`` or ``"svg"``.

    Returns
    -------
    dict of str to bytes
        ``effects``, and ``doses`` where strengths in between were asked for.

    Raises
    ------
    InputError
        Where matplotlib is not installed.
    """
    drawn = {"effects": as_bytes(effects_figure(effects, metric), kind)}
    if any(len(one.doses) > 1 for one in effects):
        drawn["doses"] = as_bytes(doses_figure(effects, metric), kind)
    return drawn


def effects_figure(effects: Sequence[Effect], metric: str) -> Figure:
    """One line a selection: its mean change with the interval over patients, and every control; distances beside."""
    far = [one.distance for one in effects if one.distance is not None]
    columns = 2 if far else 1
    figure = empty_figure(5.4 * columns + 1.2, 0.42 * len(effects) + 1.5)
    axes = list(np.ravel(figure.subplots(1, columns, squeeze=False, sharey=True)))
    _against(axes[0], list(effects), f"change of {metric}")
    if far:
        _against(axes[1], [one.distance for one in effects], f"change of the surface distance ({far[0].unit})")
    axes[0].set_yticks(range(len(effects)), [_named(one) for one in effects], fontsize=8)
    axes[0].set_ylim(len(effects) - 0.5, -0.5)
    figure.suptitle("Kernels changed (dark, 95 % over patients), and as many at random (pale)", fontsize=9)
    return figure


def _against(ax: Axes, several: Sequence[Paired | None], label: str) -> None:
    for place, one in enumerate(several):
        if one is None:
            continue
        spread = generator(0, "figure", place).uniform(-0.22, 0.22, len(one.controls))
        ax.scatter(one.controls, place + spread, s=12, color=PALE, alpha=0.6, linewidths=0)
        if math.isfinite(one.low):
            ax.plot((one.low, one.high), (place, place), color=DARK, linewidth=1.6, solid_capstyle="butt")
        ax.scatter([one.change], [place], s=34, color=DARK, zorder=3)
    ax.axvline(0, color="black", linewidth=0.7, linestyle=":")
    ax.set_xlabel(label, fontsize=8)
    ax.tick_params(labelsize=7)
    ax.grid(axis="y", color="#eeeeee")
    ax.set_axisbelow(True)


def doses_figure(effects: Sequence[Effect], metric: str) -> Figure:
    """One panel a selection: the change at rising strength, its interval over patients, and the controls at 1."""
    shown = [one for one in effects if len(one.doses) > 1]
    columns = min(3, len(shown))
    rows = math.ceil(len(shown) / columns)
    figure = empty_figure(max(3.1 * columns + 0.6, 5.2), 2.3 * rows + 0.6)
    axes = list(np.ravel(figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)))
    for spare in axes[len(shown) :]:
        spare.remove()
    for number, (one, ax) in enumerate(zip(shown, axes, strict=False)):
        colour = LABEL_COLOURS[number % len(LABEL_COLOURS)]
        strengths = [dose.strength for dose in one.doses]
        low, high = [dose.low for dose in one.doses], [dose.high for dose in one.doses]
        if all(map(math.isfinite, low)):
            ax.fill_between(strengths, low, high, color=colour, alpha=0.2, linewidth=0)
        ax.plot(strengths, [dose.change for dose in one.doses], color=colour, marker="o", markersize=4)
        spread = generator(0, "figure", number).uniform(0.03, 0.09, len(one.controls))
        ax.scatter(1 + spread, one.controls, s=9, color=PALE, alpha=0.7, linewidths=0)
        ax.axhline(0, color="black", linewidth=0.7, linestyle=":")
        ax.set_title(_named(one), fontsize=8)
        ax.tick_params(labelsize=7)
        ax.set_xticks((0, 0.25, 0.5, 0.75, 1))
        # the lowest panel of each column, also where the last row is not full
        if number + columns >= len(shown):
            ax.set_xlabel("strength", fontsize=8)
            ax.tick_params(labelbottom=True)
        if number % columns == 0:
            ax.set_ylabel(f"change of {metric}", fontsize=8)
    figure.suptitle("Dose curves, 95 % over patients; pale: random kernels at full strength", fontsize=9)
    return figure


def _named(one: Effect) -> str:
    name = one.selection.removeprefix("label=").removeprefix("pde_class=")
    name = name if len(name) <= _LONGEST else name[: _LONGEST - 3] + "..."
    return f"{name} ({one.kernels:,})"
