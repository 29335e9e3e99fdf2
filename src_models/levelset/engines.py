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

    Returns
    -------
    str
        "band" on a processor; "fused" on an NVIDIA card with Triton, for the forms of `fused.can_be_fused`; else
        "reference", on any device.
    """
    if parameters.engine == "reference" or contributions:
        return "reference"
    if device.type == "cpu":
        return "band"
    if parameters.engine == "auto" and device.type == "cuda":
        from src_models.levelset.fused import can_be_fused, kernels_work

        if can_be_fused(parameters) and kernels_work(device):
            return "fused"
    return "reference"


def make_engine(
    name: str,
    u: NDArray[Any],
    spacing: Sequence[float],
    width: float | None,
    like: Tensor,
    *,
    redistance: int | None = None,
    contributions: bool = False,
) -> Engine:
    """An engine that holds u.

    Parameters
    ----------
    name : str
        From `chosen_engine`.
    u : ndarray of shape (z, y, x) or (y, x)
        The start; a mask, with a band, becomes a signed distance.
    spacing : sequence of float
        mm per array axis.
    width : float or None
        w in mm; None for no band.
    like : Tensor
        An empty tensor of the type and device to work in.
    redistance : int, optional
        Make a signed distance of the start, with one-sided differences of this order.
    contributions : bool
        Sum what each term adds to u.
    """
    if name == "band":
        from src_models.levelset.band import BandEngine

        dtype = "float32" if like.dtype == torch.float32 else "float64"
        return BandEngine(u, spacing, width, redistance=redistance, dtype=dtype)
    if redistance is not None and width is not None:
        u = redistanced(name, u, spacing, width, redistance, like)
    if name == "fused" and width is not None:
        from src_models.levelset.fused import FusedEngine

        return FusedEngine(u, spacing, width, like)
    from src_models.levelset.reference import ReferenceEngine

    return ReferenceEngine(u, spacing, width, like, contributions=contributions)


def redistanced(
    name: str, u: NDArray[Any], spacing: Sequence[float], width: float, order: int, like: Tensor
) -> NDArray[Any]:
    """A signed distance from any u, or from a mask, by the engine of that name; see `redistance_fully`."""
    if u.dtype == np.bool_:
        u = np.where(u, width, -width).astype(np.float32 if like.dtype == torch.float32 else np.float64)
    if name == "band":
        from src_models.levelset import band_storage

        return band_storage.redistanced(np.asarray(u), spacing, width, order)
    start = torch.from_numpy(np.ascontiguousarray(u)).to(like)
    if name == "fused":
        from src_models.levelset.fused_field import redistanced as on_the_card

        distance = on_the_card(start, spacing, width, order)
    else:
        distance = redistance_fully(start, spacing, width, order=1 if order == 1 else 2)
    whole: NDArray[Any] = distance.detach().cpu().numpy()
    return whole
