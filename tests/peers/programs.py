"""Drivers of the other programs' level sets, as plain functions on arrays.

Both programs keep phi < 0 inside; what is returned here is -phi, so positive inside. Spacing is in array order
(z, y, x) here and in file order (x, y, z) there.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

# One process a call: the program keeps images between calls, and images handed over in memory crash it in 2D.
_IN_A_PROCESS = """
import sys, time
from picsl_c3d import Convert2D, Convert3D
begin = time.perf_counter()
(Convert2D if sys.argv[1] == "2" else Convert3D)().execute(sys.argv[2])
print("SECONDS", time.perf_counter() - begin)
"""


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a peer found.

    Attributes
    ----------
    level_set : ndarray
        float, positive inside.
    seconds : float
        Of the program's own work, files included.
    """

    level_set: Array
    seconds: float

    @property
    def mask(self) -> Array:
        """The inside."""
        return np.asarray(self.level_set > 0)


def _as_sitk(array: Array, spacing: Sequence[float]) -> Any:
    import SimpleITK

    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(array, dtype=np.float32))
    image.SetSpacing([float(h) for h in spacing[::-1]])
    return image


def convert3d(speed: Array, start: Array, spacing: Sequence[float], curvature: float, iterations: int) -> Outcome:
    """Convert3D's region mode: ``phi_t = -s |Dphi| + curvature kappa |Dphi|`` for a number of iterations.

    Parameters
    ----------
    speed : ndarray
        s in [-1, 1].
    start : ndarray of bool
        The inside at first.
    spacing : sequence of float
        mm in array order.
    curvature : float
        Weight; the balloon's is 1 and there is no convection.
    iterations : int
        How many; the program does not tell the time it reached.
    """
    import SimpleITK

    with tempfile.TemporaryDirectory() as folder:
        names = {name: str(Path(folder, f"{name}.nii.gz")) for name in ("speed", "start", "out")}
        SimpleITK.WriteImage(_as_sitk(speed, spacing), names["speed"])
        SimpleITK.WriteImage(_as_sitk(np.where(start, -1, 1), spacing), names["start"])
        options = f"-levelset-curvature {curvature} -levelset {iterations}"
        command = f"{names['speed']} {names['start']} {options} -o {names['out']}"
        run = subprocess.run(
            [sys.executable, "-c", _IN_A_PROCESS, str(speed.ndim), command],
            capture_output=True,
            text=True,
            check=True,
            timeout=1200,
        )
        phi = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(names["out"]))
    seconds = next(float(line.split()[1]) for line in run.stdout.splitlines() if line.startswith("SECONDS"))
    return Outcome(-phi, seconds)


def convert3d_at_rest(
    speed: Array, start: Array, spacing: Sequence[float], curvature: float, iterations: int
) -> tuple[Outcome, float]:
    """Run N and 2N iterations; the longer result, and the Dice of the two: it rests where that is 0.999 or more."""
    short = convert3d(speed, start, spacing, curvature, iterations)
    long = convert3d(speed, start, spacing, curvature, 2 * iterations)
    overlap = 2 * (short.mask & long.mask).sum() / max(short.mask.sum() + long.mask.sum(), 1)
    return long, float(overlap)


def geodesic_active_contour(
    edge: Array,
    start: Array,
    spacing: Sequence[float],
    iterations: int,
    *,
    balloon: float = 1.0,
    curvature: float = 0.2,
    convection: float = 2.0,
) -> Outcome:
    """SimpleITK's GeodesicActiveContourLevelSet on an edge image g, exponents 1, 1, 0.

    It blurs g by 1 mm before its gradient and never rests.

    Parameters
    ----------
    edge : ndarray
        g in (0, 1].
    start : ndarray
        A level set, positive inside; best a distance.
    spacing : sequence of float
        mm in array order.
    iterations : int
        How many.
    balloon, curvature, convection : float
        Weights.
    """
    import SimpleITK

    level_set, speed = _as_sitk(-start, spacing), _as_sitk(edge, spacing)
    program = SimpleITK.GeodesicActiveContourLevelSetImageFilter()
    program.SetPropagationScaling(balloon)
    program.SetCurvatureScaling(curvature)
    program.SetAdvectionScaling(convection)
    program.SetMaximumRMSError(0.0)
    program.SetNumberOfIterations(iterations)
    program.SetReverseExpansionDirection(False)
    begin = time.perf_counter()
    result = program.Execute(level_set, speed)
    seconds = time.perf_counter() - begin
    return Outcome(-SimpleITK.GetArrayFromImage(result), seconds)
