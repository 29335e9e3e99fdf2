"""What the card of one kernel says: numbers from the report, and the words for them. No Qt."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from src_models.kernels.card import Card, Reading
    from src_models.kernels.result import KernelReport

_ORDERS = ("average", "first derivative", "second derivative", "third derivative", "fourth derivative")
_DRAWS = 4000


@dataclass(frozen=True, eq=False)
class Facts:
    """About one kernel.

    Attributes
    ----------
    row : int
        Of the table.
    title : str
        Layer and channels.
    label : str
        With p, distance, runner-up and margin.
    lines : tuple of (str, str)
        What else is known, as a word and a text.
    kernel : ndarray of shape (y, x) or (z, y, x)
        Its entries.
    largest : float
        Of the layer's entries, for one colour scale.
    velocity : ndarray of shape (d,)
        Of features, -b, in array order.
    diffusion : ndarray of shape (d, d)
        D.
    energy, energy_null : tuple of float
        Shares by degree, and what chance gives.
    nearest : tuple of (str, ndarray)
        Names and entries of the nearest known kernels.
    unit : str
        Of lengths: "mm", or "voxels".
    """

    row: int
    title: str
    label: str
    lines: tuple[tuple[str, str], ...]
    kernel: NDArray[Any]
    largest: float
    velocity: NDArray[Any]
    diffusion: NDArray[Any]
    energy: tuple[float, ...]
    energy_null: tuple[float, ...]
    nearest: tuple[tuple[str, NDArray[Any]], ...]
    unit: str


def facts_of(report: KernelReport, row: int) -> Facts:
    """Everything about the kernel of a row."""
    from src_models.kernels.card import card

    found, told = report.layer_of(row), report.table.row(row)
    layer = found.layer
    kernel = report.kernel(row)
    given = report.parameters.spacing
    spacing = given if given is not None and len(given) == layer.ndim else None
    known = report.dictionaries[layer.size]
    equation = card(kernel, known, found.grid, spacing=spacing, tolerance=report.parameters.tolerance)
    unit = "mm" if spacing else "voxels"
    shares = [told[f"energy_{k}"] for k in range(len(found.energy_null))]
    nearest = [name for name in (told["label"], told["runner_up"], told["cos_label"]) if name in known.labels]
    return Facts(
        row=row,
        title=f"{layer.name}: output {told['out']}, input {told['in']}",
        label=_label(told, report.parameters.threshold),
        lines=tuple(_lines(told, layer.stored_size, equation, unit)),
        kernel=kernel,
        largest=float(np.abs(layer.kernels).max(initial=0)),
        velocity=equation.generator.velocity,
        diffusion=equation.generator.diffusion,
        energy=tuple(shares),
        energy_null=found.energy_null,
        nearest=tuple((name, _first(known, name)) for name in dict.fromkeys(nearest)),
        unit=unit,
    )


def number(value: float) -> str:
    """Three digits, with a real minus."""
    if not np.isfinite(value):
        return "-"
    text = f"{value:.3g}" if value == 0 or 1e-3 <= abs(value) < 1e4 else f"{value:.1e}"
    return text.replace("-", "\N{MINUS SIGN}")


def chance_of(p: float) -> str:
    """A p-value in words that do not pretend."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def _label(told: dict[str, Any], threshold: float) -> str:
    if told["dead"]:
        return "dead: no weight to speak of"
    second = f"{told['runner_up']} is {number(told['margin'])} farther"
    if told["label"] == "indeterminate":
        return f"indeterminate: nearest at {number(told['distance'])}, over {threshold:g}; {second}"
    return f"{told['label']}: distance {number(told['distance'])}, {chance_of(told['p_class'])} by chance; {second}"


def _lines(told: dict[str, Any], stored_size: tuple[int, ...], equation: Card, unit: str) -> list[tuple[str, str]]:
    if told["dead"]:
        return [("Norm", number(told["norm"]))]
    letters = "zyx"[-len(stored_size) :]
    rank = told["order_p"]
    order = _ORDERS[rank] if 0 <= rank < len(_ORDERS) else f"degree {rank}"
    exact = "exactly" if told["order_r"] < 0 else f"to order {told['order_r']}"
    lines = [
        ("Any label", f"{chance_of(told['p_any'])} to be as near to any; q = {number(told['q'])}"),
        ("By cosine", _by_cosine(told)),
        ("Operator", f"{told['pde_class']}"),
        ("Order", f"{order} (p = {rank}), {exact}" + ("" if told["order_r"] < 0 else f" (r = {told['order_r']})")),
        ("Gain", f"{number(equation.generator.gain)} (sum of the weights)"),
        ("As a rate", _reading(equation.generator, letters, unit)),
    ]
    if equation.update is not None:
        lines.append(("As a step", _reading(equation.update, letters, unit)))
    chance = chance_dc(int(np.prod(stored_size)))
    lines.append(("DC index", f"{number(told['dc_index'])} (chance {chance:.2f})"))
    lines.append(("Mean's energy", f"{100 * told['energy_0']:.1f} %, {chance_of(told['p_energy_0'])} by chance"))
    lines.append(("Norm", number(told["norm"])))
    if "drift_relative" in told:
        lines.append(("Drift", _drift(told)))
    if told["kind"] == "unknown":
        lines.append(("Careful", "bare tensors: the sign of odd parts is not known"))
    return lines


def _drift(told: dict[str, Any]) -> str:
    """How far the kernel is from its state before."""
    before = f"; order p was {told['order_before']}" if told["order_change"] == "other order" else ""
    way, turn, scale = (number(told[f"drift_{name}"]) for name in ("relative", "turn", "scale"))
    return f"|K−F|/|F| = {way}, 1−cos = {turn}, scale {scale}{before}"


def _by_cosine(told: dict[str, Any]) -> str:
    """The orientation is a sign, a known kernel, and the axes it is turned to."""
    sign, _, rest = told["orientation"].partition(" ")
    name, _, axes = rest.rpartition(" ")
    cosine = 1 - told["cos_distance"]
    return f"{name} along {axes}, cos = {number(-cosine if sign == '-' else cosine)}"


def _reading(found: Reading, letters: str, unit: str) -> str:
    """Where features move, and how they spread."""
    moves = ", ".join(f"{letter} {number(value)}" for letter, value in zip(letters, found.velocity, strict=True))
    return f"moves {moves} {unit}; diffusion {', '.join(number(v) for v in found.eigenvalues)}"


def _first(known: Any, label: str) -> NDArray[Any]:
    place = int(np.flatnonzero(known.label_of == known.labels.index(label))[0])
    kernel: NDArray[Any] = known.features[place].kernel
    return kernel


@cache
def chance_dc(entries: int) -> float:
    """The mean of |sum K| / sum |K| for Gaussian kernels of so many entries."""
    drawn = np.random.Generator(np.random.Philox(0)).standard_normal((_DRAWS, entries))
    return float(np.mean(np.abs(drawn.sum(1)) / np.abs(drawn).sum(1)))
