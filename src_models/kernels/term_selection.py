"""Kernels of any network, chosen from its table, in the roles of the solver."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from src_models.errors import InputError
from src_models.files.gate import shown
from src_models.kernels.exchange import Terms, as_slopes
from src_models.kernels.result import KernelReport
from src_models.kernels.selection import Selection, select

MOST = 256
"""Of one role: each is a whole image of slopes in every step."""


def selected_terms(
    report: KernelReport,
    rho: Selection,
    sigma: Selection | None = None,
    e: Selection | None = None,
    *,
    spacing: Sequence[float] | None = None,
    scale: Literal["raw", "gradient"] = "gradient",
    project: bool = False,
) -> Terms:
    """Kernels as slopes of the level set, as their divergence, and as slopes of the image.

    Parameters
    ----------
    report : KernelReport
        Of the network.
    rho : Selection
        Which kernels take the slopes of u.
    sigma, e : Selection, optional
        Which take their divergence, as many as rho; and the slopes of the image. By default the same.
    spacing : sequence of float, optional
        mm per axis, 1 by default.
    scale, project
        See `as_slopes`; for rho and sigma. The kernels e stay as they are.

    Raises
    ------
    InputError
        Where they are not of size 3 on one number of axes, are no differences, or too many.
    """
    rows = {"rho": select(report, rho), "sigma": select(report, sigma or rho), "e": select(report, e or rho)}
    kernels = {role: _kernels(report, which, role) for role, which in rows.items()}
    axes = {part.ndim - 1 for part in kernels.values()}
    if len(axes) > 1:
        raise InputError("terms-axes", "These kernels are of 2D and of 3D layers", "", "Choose those of one.")
    if len(kernels["rho"]) != len(kernels["sigma"]):
        raise InputError(
            "terms-pairs",
            f"There are {len(kernels['rho'])} kernels rho and {len(kernels['sigma'])} kernels sigma",
            "each slope needs the kernel of its divergence",
            "Choose as many of both.",
        )
    h = tuple(float(value) for value in spacing) if spacing is not None else (1.0,) * axes.pop()
    if len(h) != kernels["rho"].ndim - 1:
        raise InputError("terms-spacing", f"The spacing has {len(h)} numbers", "the kernels have other axes", "")
    slopes = [as_slopes(kernels[role], h, scale, project=project) for role in ("rho", "sigma")]
    origin = tuple(f"{role}: {_place(report, int(row))}" for role, which in rows.items() for row in which)
    return Terms(slopes[0], slopes[1], kernels["e"], h, origin)


def _kernels(report: KernelReport, rows: NDArray[np.intp], role: str) -> NDArray[np.float64]:
    if len(rows) > MOST:
        raise InputError(
            "terms-many",
            f"{len(rows):,} kernels are too many for {role}",
            f"at most {MOST} are taken",
            "Choose fewer: those of one layer, by its whole name.",
        )
    found: list[NDArray[Any]] = [report.kernel(int(row)) for row in rows]
    if len({part.shape for part in found}) > 1 or set(found[0].shape) != {3}:
        raise InputError("terms-size", f"The kernels {role} are not all of size 3", "", "Choose those of some layers.")
    return np.stack(found).astype(np.float64)


def _place(report: KernelReport, row: int) -> str:
    table = report.table.row(row)
    return f"{shown(str(table['layer']))} {table['out']} {table['in']}"
