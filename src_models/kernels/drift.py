"""How far kernels have moved: from their start in a training, or from one state of a network to another."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_models.errors import InputError
from src_models.files.gate import shown
from src_models.kernels.moments import LEARNED_TOLERANCE, dc_index, energy_of, orders
from src_models.kernels.result import KernelReport, Layer

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Drift:
    """Of kernels in rows, against their start F.

    Attributes
    ----------
    relative : ndarray of shape (N,)
        |K - F| / |F|; not a number where F is zero.
    turn : ndarray of shape (N,)
        1 - cos(K, F).
    scale : ndarray of shape (N,)
        <K, F> / <F, F>.
    energy : ndarray of shape (N, degrees)
        Shares of energy of K.
    dc : ndarray of shape (N,)
        DC index of K.
    order, start_order : ndarray of shape (N,)
        Of K and of F.
    """

    relative: Floats
    turn: Floats
    scale: Floats
    energy: Floats
    dc: Floats
    order: NDArray[np.int8]
    start_order: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.relative)


def drift(
    kernels: NDArray[Any], start: NDArray[Any], size: Sequence[int], tolerance: float = LEARNED_TOLERANCE
) -> Drift:
    """How far kernels are from their start.

    Parameters
    ----------
    kernels, start : ndarray of shape (N, *size) or (N, entries)
        Now, and at the start: a stencil, a spare, or the weights of epoch 0.
    size : sequence of int
        Of a kernel.
    tolerance : float
        Of a moment that counts as zero.

    Raises
    ------
    InputError
        Where there are not as many of both.
    """
    now, then = (np.asarray(part, np.float64).reshape(len(part), -1) for part in (kernels, start))
    if now.shape != then.shape:
        raise InputError("drift-shape", "These kernels are not those of the start", f"{now.shape}, {then.shape}", "")
    inner, square = np.einsum("ij,ij->i", now, then), np.einsum("ij,ij->i", then, then)
    norms = np.linalg.norm(now, axis=1) * np.sqrt(square)
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = np.where(square > 0, np.linalg.norm(now - then, axis=1) / np.sqrt(square), np.nan)
        turn = np.where(norms > 0, 1 - inner / norms, np.nan)
        scale = np.where(square > 0, inner / square, np.nan)
    return Drift(
        relative,
        turn,
        scale,
        energy_of(now, size),
        dc_index(now),
        orders(now, size, tolerance).p,
        orders(then, size, tolerance).p,
    )


def json_lines(name: str, epoch: int, found: Drift) -> str:
    """One line a kernel and epoch, as they are written beside the log of a training.

    Parameters
    ----------
    name : str
        Of the layer, such as ``"rho"``.
    epoch : int
        0 is the start.
    found : Drift
        Of its kernels.
    """
    lines = []
    for row in range(len(found)):
        told = {
            "layer": name,
            "kernel": row,
            "epoch": epoch,
            "relative": _number(found.relative[row]),
            "turn": _number(found.turn[row]),
            "scale": _number(found.scale[row]),
            "dc_index": _number(found.dc[row]),
            "order": int(found.order[row]),
            "start_order": int(found.start_order[row]),
            "energy": [_number(share) for share in found.energy[row]],
        }
        lines.append(json.dumps(told))
    return "\n".join(lines) + "\n" if lines else ""


def first_change(orders_by_epoch: Sequence[NDArray[np.int8]]) -> NDArray[np.int64]:
    """The first epoch in which each kernel's order is not that of epoch 0; -1 where it never changes."""
    table = np.stack(list(orders_by_epoch))
    changed = table != table[0]
    return np.where(changed.any(axis=0), changed.argmax(axis=0), -1)


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two states of one network, layer by layer: `layers` and the `drifts` of their kernels from the first state."""

    before: str
    after: str
    layers: tuple[Layer, ...]
    drifts: tuple[Drift, ...]
    labels: tuple[tuple[NDArray[np.str_], NDArray[np.str_]], ...]


def compare(before: KernelReport, after: KernelReport) -> Comparison:
    """Compare two analyses kernel by kernel.

    Raises
    ------
    InputError
        Where they are not of one architecture, naming the first difference.
    """
    layers, drifts, labels = [], [], []
    if len(before.layers) != len(after.layers):
        raise _differ(f"one has {len(before.layers)} layers, the other {len(after.layers)}")
    for old, new in zip(before.layers, after.layers, strict=True):
        if old.layer.kernels.shape != new.layer.kernels.shape or old.layer.stored_size != new.layer.stored_size:
            raise _differ(
                f"{shown(new.layer.name)} has the shapes {old.layer.kernels.shape}, {new.layer.kernels.shape}"
            )
        layers.append(new.layer)
        drifts.append(drift(new.layer.flat, old.layer.flat, new.layer.size, after.parameters.tolerance))
        labels.append((before.table.words("label")[old.rows], after.table.words("label")[new.rows]))
    names = [str(each.record.inputs.get("model", "")) for each in (before, after)]
    return Comparison(names[0], names[1], tuple(layers), tuple(drifts), tuple(labels))


def comparison_csv(found: Comparison) -> bytes:
    """One row a kernel: layer, out, in, and how it changed."""
    target = io.StringIO()
    writer = csv.writer(target, lineterminator="\n")
    head = ("layer", "out", "in", "relative", "turn", "scale", "dc_index", "order_before", "order_after")
    writer.writerow((*head, "label_before", "label_after"))
    for layer, change, (old, new) in zip(found.layers, found.drifts, found.labels, strict=True):
        outs, ins = layer.channels()
        numbers = [
            [f"{value:.6g}" if np.isfinite(value) else "" for value in column.tolist()]
            for column in (change.relative, change.turn, change.scale, change.dc)
        ]
        words = (change.start_order.tolist(), change.order.tolist(), old.tolist(), new.tolist())
        writer.writerows(zip([layer.name] * layer.count, outs.tolist(), ins.tolist(), *numbers, *words, strict=True))
    return target.getvalue().encode()


def comparison_section(found: Comparison) -> str:
    """A section of the page: per layer the median drift, and how many kernels changed order or label."""
    head = (
        "<tr><th>layer</th><th>median |K - F| / |F|</th><th>median 1 - cos</th><th>other order</th>"
        "<th>other label</th></tr>"
    )
    rows = []
    for layer, change, (old, new) in zip(found.layers, found.drifts, found.labels, strict=True):
        relative, turn = (_median(part) for part in (change.relative, change.turn))
        rows.append(
            f"<tr><td>{escape(layer.name)}</td><td>{relative:.3f}</td><td>{turn:.3f}</td>"
            f"<td>{np.mean(change.order != change.start_order):.3f}</td><td>{np.mean(old != new):.3f}</td></tr>"
        )
    text = (
        "Each kernel is compared with its state in the other model: how far it moved in units of its own length, and "
        "how far it turned. A kernel that only grew has a turn of 0."
    )
    title = f"<h2>Change from {escape(found.before)} to {escape(found.after)}</h2><p>{text}</p>"
    return f"{title}<table>{head}{''.join(rows)}</table>"


def _median(values: Floats) -> float:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if known.size else float("nan")


def _number(value: float) -> float | None:
    return float(f"{value:.6g}") if np.isfinite(value) else None


def _differ(why: str) -> InputError:
    return InputError(
        "kernels-compare", "These two models are not of one architecture", why, "Compare two checkpoints."
    )
