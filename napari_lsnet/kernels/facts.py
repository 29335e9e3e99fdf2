"""What the card of one kernel says: numbers from the report, and the words for them. No Qt."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from src_models.kernels.result import KernelReport

_ORDERS = ("average", "first derivative", "second derivative", "third derivative", "fourth derivative")
_STILL = 1e-6
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
    advection : ndarray of shape (d,)
        b, in array order.
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
    advection: NDArray[Any]
    diffusion: NDArray[Any]
    energy: tuple[float, ...]
    energy_null: tuple[float, ...]
    nearest: tuple[tuple[str, NDArray[Any]], ...]
    unit: str


def facts_of(report: KernelReport, row: int) -> Facts:
    """Everything about the kernel of a row."""
    from src_models.kernels.operators import operators

    found, told = report.layer_of(row), report.table.row(row)
    layer = found.layer
    kernel = report.kernel(row)
    given = report.parameters.spacing
    spacing = given if given is not None and len(given) == layer.ndim else None
    flat = layer.flat[row - found.first_row][None]
    equation = operators(flat, layer.size, report.parameters.tolerance, spacing)
    advection, diffusion = equation.advection[0], equation.diffusion[0]
    unit = "mm" if spacing else "voxels"
    shares = [told[f"energy_{k}"] for k in range(len(found.energy_null))]
    known = report.dictionaries[layer.size]
    nearest = [name for name in (told["label"], told["runner_up"], told["cos_label"]) if name in known.labels]
    return Facts(
        row=row,
        title=f"{layer.name}: output {told['out']}, input {told['in']}",
        label=_label(told, report.parameters.threshold),
        lines=tuple(_lines(told, layer.stored_size, equation.eigenvalues[0], unit)),
        kernel=kernel,
        largest=float(np.abs(layer.kernels).max(initial=0)),
        advection=advection,
        diffusion=diffusion,
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


def _lines(
    told: dict[str, Any], stored_size: tuple[int, ...], eigenvalues: NDArray[Any], unit: str
) -> list[tuple[str, str]]:
    if told["dead"]:
        return [("Norm", number(told["norm"]))]
    letters = "zyx"[-len(stored_size) :]
    gain = told["c_0"]
    vector = [-told[f"b_{letter}"] for letter in letters]
    rank = told["order_p"]
    order = _ORDERS[rank] if 0 <= rank < len(_ORDERS) else f"degree {rank}"
    exact = "exactly" if told["order_r"] < 0 else f"to order {told['order_r']}"
    lines = [
        ("Any label", f"{chance_of(told['p_any'])} to be as near to any; q = {number(told['q'])}"),
        ("By cosine", _by_cosine(told)),
        ("Operator", f"{told['pde_class']}"),
        ("Order", f"{order} (p = {rank}), {exact}" + ("" if told["order_r"] < 0 else f" (r = {told['order_r']})")),
        ("Gain", f"{number(gain)} (sum of the weights)"),
        ("Velocity", f"{_vector(vector, letters)} {unit}"),
    ]
    if rank == 0 and abs(gain) > _STILL:
        lines.append(("per step", f"{_vector([v / gain for v in vector], letters)} {unit} where u is replaced"))
    angle = told.get("D_angle", float("nan"))
    turned = f", first at {angle:.0f}\N{DEGREE SIGN}" if np.isfinite(angle) else ""
    lines.append(("Diffusion", ", ".join(number(v) for v in eigenvalues) + turned))
    chance = chance_dc(int(np.prod(stored_size)))
    lines.append(("DC index", f"{number(told['dc_index'])} (chance {chance:.2f})"))
    lines.append(("Mean's energy", f"{100 * told['energy_0']:.1f} %, {chance_of(told['p_energy_0'])} by chance"))
    lines.append(("Norm", number(told["norm"])))
    if told["kind"] == "unknown":
        lines.append(("Careful", "bare tensors: the sign of odd parts is not known"))
    return lines


def _by_cosine(told: dict[str, Any]) -> str:
    """The orientation is a sign, a known kernel, and the axes it is turned to."""
    sign, _, rest = told["orientation"].partition(" ")
    name, _, axes = rest.rpartition(" ")
    cosine = 1 - told["cos_distance"]
    return f"{name} along {axes}, cos = {number(-cosine if sign == '-' else cosine)}"


def _vector(values: list[float], letters: str) -> str:
    return ", ".join(f"{letter} {number(value)}" for letter, value in zip(letters, values, strict=True))


def _first(known: Any, label: str) -> NDArray[Any]:
    place = int(np.flatnonzero(known.label_of == known.labels.index(label))[0])
    kernel: NDArray[Any] = known.features[place].kernel
    return kernel


@cache
def chance_dc(entries: int) -> float:
    """The mean of |sum K| / sum |K| for Gaussian kernels of so many entries."""
    drawn = np.random.Generator(np.random.Philox(0)).standard_normal((_DRAWS, entries))
    return float(np.mean(np.abs(drawn.sum(1)) / np.abs(drawn).sum(1)))
