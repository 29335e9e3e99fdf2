"""Which engine makes a run: the definition in eager torch, or one that gives the same faster."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from src_models.levelset.engine import Engine
from src_models.levelset.parameters import LevelSetParameters
from src_models.levelset.redistancing import redistance_fully


def chosen_engine(parameters: LevelSetParameters, device: torch.device, contributions: bool) -> str:
    """The name of the engine for a run.

    Parameters
    ----------
    parameters : LevelSetParameters
        ``engine="auto"`` picks the fastest that can do the run.
    device : torch.device
        Where the run shall be.
    contributions : bool
        Only the reference sums what each term adds.
    """
    if parameters.engine == "reference" or contributions or device.type != "cpu":
        return "reference"
    return "band"


def make_engine(
    name: str,
    u: NDArray[Any],
    spacing: Sequence[float],
    width: float | None,
    like: Tensor,
    *,
    contributions: bool = False,
) -> Engine:
    """An engine that holds u.

    Parameters
    ----------
    name : str
        From `chosen_engine`.
    u : ndarray of shape (z, y, x) or (y, x)
        The start.
    spacing : sequence of float
        mm per array axis.
    width : float or None
        w in mm; None for no band.
    like : Tensor
        An empty tensor of the type and device to work in.
    contributions : bool
        Sum what each term adds to u.
    """
    if name == "band":
        from src_models.levelset.band import BandEngine

        return BandEngine(u, spacing, width)
    from src_models.levelset.reference import ReferenceEngine

    return ReferenceEngine(u, spacing, width, like, contributions=contributions)


def redistanced(
    name: str, u: NDArray[Any], spacing: Sequence[float], width: float, order: int, like: Tensor
) -> NDArray[Any]:
    """A signed distance from any u by the engine of that name; see `redistancing.redistance_fully`."""
    if name == "band":
        from src_models.levelset import band_storage

        return band_storage.redistanced(np.asarray(u), spacing, width, order)
    start = torch.from_numpy(np.ascontiguousarray(u)).to(like)
    distance = redistance_fully(start, spacing, width, order=1 if order == 1 else 2)
    whole: NDArray[Any] = distance.detach().cpu().numpy()
    return whole
