"""Kernels in the roles of the level set equation: which of them can be, and what they make of the equation. No Qt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_lsnet.kernels.facts import number
from src_models.errors import InputError

if TYPE_CHECKING:
    from src_models.kernels.exchange import Frame, Terms
    from src_models.kernels.result import KernelReport

ROLES = {
    "rho": "\N{GREEK SMALL LETTER RHO}: slopes of u",
    "sigma": "\N{GREEK SMALL LETTER SIGMA}: divergence",
    "e": "e: slopes of the image",
}
SCALES = {"gradient": "slope 1 per mm", "raw": "as strong as they are"}
MOST = 64
"""The solver convolves with every one of them in every step."""
_PARTNERS = {"rho": "out", "sigma": "in"}
"""Which channel of these layers of a level set network is the number of the pair."""
_SAME = 0.02
_UNSEEN = 1e-6


@dataclass(frozen=True, eq=False)
class Refused:
    """A kernel that cannot have a role.

    Attributes
    ----------
    name : str
        Of the kernel.
    reason : str
        Why, without a full stop.
    helps : bool
        Whether taking its sum away helps.
    """

    name: str
    reason: str
    helps: bool


@dataclass(frozen=True, eq=False)
class Choice:
    """Kernels for one role.

    Attributes
    ----------
    kernels : ndarray of shape (K, 3, 3) or (K, 3, 3, 3)
        Those that can have it, scaled.
    origin : tuple of str
        Where each comes from.
    refused : tuple of Refused
        The others.
    numbers : tuple of int
        Of a level set network: which pair each belongs to; empty for others.
    """

    kernels: NDArray[np.float64]
    origin: tuple[str, ...]
    refused: tuple[Refused, ...] = ()
    numbers: tuple[int, ...] = ()


@dataclass(eq=False)
class Basket:
    """What was chosen for each role so far; nothing chosen is a finite difference, or what its partner is.

    Attributes
    ----------
    spacing : tuple of float
        mm per axis.
    chosen : dict of str to Choice
        By role.
    """

    spacing: tuple[float, ...] = ()
    chosen: dict[str, Choice] = field(default_factory=dict)

    def terms(self) -> Terms:
        """The terms as they stand.

        Raises
        ------
        InputError
            Where there are not as many divergences as slopes.
        """
        from src_models.kernels.exchange import Terms, finite_differences

        plain = finite_differences(self.spacing)
        rho, sigma, e = (self.chosen.get(role) for role in ("rho", "sigma", "e"))
        rho, sigma = rho or sigma, sigma or rho
        if rho is not None and sigma is not None and len(rho.kernels) != len(sigma.kernels):
            raise InputError(
                "terms-pairs",
                f"There are {len(rho.kernels)} slopes and {len(sigma.kernels)} divergences",
                "each slope needs a divergence of its own",
                "Choose as many of both.",
            )
        if rho is not None and sigma is not None and rho.numbers and sigma.numbers and rho.numbers != sigma.numbers:
            raise InputError(
                "terms-partners",
                f"Slopes {_numbers(rho)} stand beside divergences {_numbers(sigma)}",
                "in the network each has a partner of its own number",
                "Choose the same numbers of both.",
            )
        origin = [
            f"{role}: {name}"
            for role, choice in (("rho", rho), ("sigma", sigma), ("e", e))
            for name in (choice.origin if choice is not None else ("finite differences",))
        ]
        return Terms(
            plain.rho if rho is None else rho.kernels,
            plain.sigma if sigma is None else sigma.kernels,
            plain.e if e is None else e.kernels,
            tuple(self.spacing),
            tuple(origin),
        )

    def words(self) -> str:
        """What stands in each role."""
        parts = []
        for role, partner in (("rho", "sigma"), ("sigma", "rho"), ("e", "")):
            letter = ROLES[role].partition(":")[0]
            if role in self.chosen:
                parts.append(f"{letter} {_many(len(self.chosen[role].kernels))}")
            elif partner in self.chosen:
                parts.append(f"{letter} the same")
            else:
                parts.append(f"{letter} finite differences")
        spacing = " x ".join(f"{h:g}" for h in self.spacing)
        return f"{'; '.join(parts)}. Voxel size {spacing}."


def choose(
    report: KernelReport, rows: Sequence[int], role: str, scale: str, spacing: Sequence[float], *, project: bool = False
) -> Choice:
    """Kernels of some rows for a role; those that cannot have it are told with the reason.

    Parameters
    ----------
    report : KernelReport
        With the kernels.
    rows : sequence of int
        Of its table.
    role : str
        A key of `ROLES`.
    scale : str
        A key of `SCALES`; the slopes of the image stay as they are.
    spacing : sequence of float
        mm per axis.
    project : bool
        Take sums away instead of refusing what has one.

    Raises
    ------
    InputError
        Where there is no kernel, too many, or they are of another size.
    """
    from src_models.kernels.exchange import as_slopes

    if not len(rows):
        raise InputError("terms-none", "No kernel is chosen", "", "Click one, or tick words in the list.")
    if len(rows) > MOST:
        raise InputError(
            "terms-many",
            f"These are {len(rows):,} kernels, and the solver convolves with each of them in every step",
            "",
            f"Choose at most {MOST}: tick fewer words, or click one.",
        )
    size = report.layer_of(rows[0]).layer.size
    if set(size) != {3}:
        times = " x ".join(map(str, size))
        raise InputError("terms-size", f"Kernels of {times} do not fit the solver, which has 3 a side", "", "")
    taken, names, refused, numbers = [], [], [], []
    for row in rows:
        told = report.table.row(row)
        name = f"{told['layer']}, output {told['out']}, input {told['in']}"
        kernel = np.asarray(report.kernel(row), np.float64)[None]
        if role != "e":
            try:
                kernel = as_slopes(kernel, spacing, scale, project=project)  # type: ignore[arg-type]
            except InputError as error:
                refused.append(Refused(name, _reason(error), error.code == "terms-constant"))
                continue
        taken.append(kernel)
        names.append(name)
        partner = _PARTNERS.get(str(told["layer"]).rpartition(".")[2])
        if partner is not None:
            numbers.append(int(told[partner]))
    kernels = np.concatenate(taken) if taken else np.zeros((0, *size))
    return Choice(kernels, tuple(names), tuple(refused), tuple(numbers) if len(numbers) == len(names) else ())


def frame_words(found: Frame) -> str:
    """The frame test in a sentence: what the front sees of these kernels, to leading order."""
    gradient, curvature = np.array(found.gradient), np.array(found.curvature)
    start = f"Frame test: G {_listed(gradient)}; A {_listed(curvature)}."
    if curvature.min() < -_UNSEEN * max(abs(curvature).max(), 1e-300):
        return (
            f"{start} A is negative along a direction: the curvature roughens the front there, and many steps may "
            "not hold."
        )
    if gradient.min() <= _UNSEEN * max(gradient.max(), 1e-300):
        return f"{start} Slopes along a direction are not seen: a front that faces it moves by convection alone."
    if _alike(gradient) and _alike(curvature):
        if abs(gradient[0] - 1) <= _SAME and abs(curvature[0] - 1) <= _SAME:
            return f"{start} Both are the identity: this is the level set equation."
        slope = float(np.sqrt(gradient.mean()))
        return (
            f"{start} Both are multiples of the identity: the level set equation with slopes {number(slope)} times and "
            f"curvature {number(float(curvature.mean()) / slope)} times as strong."
        )
    ratio = float(np.sqrt(gradient.max() / gradient.min()))
    bend = float(curvature.max() / curvature.min()) if curvature.min() > 0 else float("inf")
    bends = f"{number(bend)} times" if np.isfinite(bend) else "infinitely"
    return (
        f"{start} The front has directions: slopes are seen up to {number(ratio)} times and curvature up to {bends} as "
        "strongly along one as along another."
    )


def save(terms: Terms, path: Path) -> str:
    """Write the exchange file; what is told about where to use it.

    Raises
    ------
    SaveError
        Where it cannot be written.
    """
    from src_models.kernels.exchange import save_terms

    weights, note = save_terms(terms, path, overwrite=True)
    return (
        f"Saved: {weights.name} and {note.name}. Use them in Python: read_terms({weights.name!r}), and step() moves a "
        "level set by them; both are in src_models.kernels.exchange."
    )


def _reason(error: InputError) -> str:
    """Why, without the number that the kernel has among one."""
    why = f": {error.why}" if error.why else ""
    return f"{error.what.removeprefix('Kernel 0 ')}{why}"


def _alike(values: NDArray[Any]) -> bool:
    return bool(abs(values - values.mean()).max() <= _SAME * abs(values.mean()))


def _listed(values: NDArray[Any]) -> str:
    return ", ".join(number(round(float(value), 6)) for value in values)


def _many(count: int) -> str:
    return f"{count} kernel" + ("s" if count != 1 else "")


def _numbers(choice: Choice) -> str:
    return ", ".join(map(str, choice.numbers))
