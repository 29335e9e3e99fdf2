"""How the kernels of a report differ from another state of the network, as columns that join its table.

The other state is read and not analysed: that takes a second where an analysis takes half a minute.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from src_models.errors import InputError
from src_models.files.gate import shown
from src_models.kernels.collect import collect_module, collect_state
from src_models.kernels.drift import drift
from src_models.kernels.result import Categories, Column, KernelReport, Layer
from src_models.kernels.sources import Source

BANDS = ((0.01, "moved under 1 %"), (0.1, "moved 1 to 10 %"), (0.5, "moved 10 to 50 %"), (np.inf, "moved over 50 %"))
"""Largest |K - F| / |F| of a word of the column ``"drift"``."""
NO_START = "began at 0"
ORDERS = ("same order", "other order")


COLUMNS = ("drift_relative", "drift_turn", "drift_scale", "order_before", "order_change", "drift")


def join_state(report: KernelReport, before: Source) -> KernelReport:
    """Join a report with another state of its network.

    Parameters
    ----------
    report : KernelReport
        Of K, the newer state.
    before : Source
        With F, the older one.

    Returns
    -------
    KernelReport
        The same with more columns in its table: drift_relative is |K - F| / |F|, drift_turn 1 - cos(K, F), drift_scale
        <K, F> / <F, F>, order_before the order p of F, order_change a word, and drift a word for drift_relative.

    Raises
    ------
    InputError
        Where they are not of one architecture, naming the first difference.
    """
    others = _layers_of(before, report.parameters.fold_norm)
    _check(report, others)
    numbers: dict[str, list[NDArray[np.float32]]] = {"drift_relative": [], "drift_turn": [], "drift_scale": []}
    orders: list[NDArray[np.int8]] = []
    changed: list[NDArray[np.bool_]] = []
    for found in report.layers:
        other = others[found.layer.index]
        each = drift(found.layer.flat, other.flat, found.layer.size, report.parameters.tolerance)
        for name, values in zip(numbers, (each.relative, each.turn, each.scale), strict=True):
            numbers[name].append(values.astype(np.float32))
        orders.append(each.start_order)
        changed.append(each.order != each.start_order)
    columns: dict[str, Column] = {name: np.concatenate(parts) for name, parts in numbers.items()}
    columns["order_before"] = np.concatenate(orders)
    columns["order_change"] = Categories(np.concatenate(changed).astype(np.int16), ORDERS)
    columns["drift"] = _bands(np.concatenate(numbers["drift_relative"]))
    alone = without_state(report)
    return replace(alone, table=replace(alone.table, columns={**alone.table.columns, **columns}))


def without_state(report: KernelReport) -> KernelReport:
    """The report without the columns of another state."""
    kept = {name: column for name, column in report.table.columns.items() if name not in COLUMNS}
    return replace(report, table=replace(report.table, columns=kept))


def _layers_of(source: Source, fold_norm: bool) -> tuple[Layer, ...]:
    if source.network is None:
        return collect_state(source.state or {}).layers
    return collect_module(source.network, fold_norm=fold_norm).layers


def _check(report: KernelReport, others: Sequence[Layer]) -> None:
    count = len(report.layers)
    if report.complete and count != len(others):
        raise _differ(f"one has {count} layers with kernels, the other {len(others)}")
    for found in report.layers:
        mine, index = found.layer, found.layer.index
        if index >= len(others):
            raise _differ(f"the other has no layer {shown(mine.name)}")
        other = others[index]
        if (mine.out_channels, mine.in_channels) != (other.out_channels, other.in_channels):
            raise _differ(
                f"{shown(mine.name)} has {_channels(mine)} here, and {_channels(other)} in the other"
                + ("" if other.name == mine.name else f", where it is {shown(other.name)}")
            )
        if mine.kernels.shape != other.kernels.shape or mine.stored_size != other.stored_size:
            sizes = [" x ".join(map(str, layer.stored_size)) for layer in (mine, other)]
            raise _differ(f"{shown(mine.name)} has kernels of {sizes[0]} here, and of {sizes[1]} in the other")


def _channels(layer: Layer) -> str:
    return f"{layer.in_channels} inputs and {layer.out_channels} outputs"


def _differ(why: str) -> InputError:
    return InputError(
        "kernels-compare", "These two models are not of one architecture", why, "Choose another state of this network."
    )


def _bands(relative: NDArray[np.float32]) -> Categories:
    edges = np.array([edge for edge, _ in BANDS[:-1]], np.float32)
    codes = np.searchsorted(edges, relative, side="right").astype(np.int16)
    # what began at 0 has no length that its way could be measured by
    codes[np.isnan(relative)] = len(BANDS)
    return Categories(codes, (*(name for _, name in BANDS), NO_START))
