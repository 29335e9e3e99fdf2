"""What the panel says: sizes, stop reasons and what to do next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_lsnet.layers import LayerVolume
from src_models.levelset.parameters import LevelSetParameters

if TYPE_CHECKING:
    from src_models.levelset.comparison import Comparison
    from src_models.levelset.evolution import LevelSetResult, LevelSetState

_NEXT = {
    "converged": "Converged: the front rests at {size} after {steps} steps. Accept it, or change a value and Continue.",
    "leak": "Stopped before a leak{place}: back to step {steps}, {size}. Accept this, raise Smoothing and go on from "
    "an earlier step, or Continue through it.",
    "time": "The time asked for is reached, at {size}. Accept it, or Continue.",
    "steps": "The limit of {steps} steps is reached, at {size}. Accept it, or Continue.",
    "vanished": "Nothing is inside any more. Rewind, then lower Smoothing, or draw larger seeds.",
    "filled": "The whole image is inside: nothing held the front. Rewind, then lower Edge contrast or set thresholds.",
    "stalled": "The speed is zero everywhere on the front. Rewind, then raise Edge contrast or widen the thresholds.",
    "cancelled": "Cancelled at step {steps}, {size}. Accept it, Continue, or Rewind.",
}
"""Per stop reason; the words in capitals are the buttons and fields."""


def size_text(size: float, ml: float | None, volume: LayerVolume, ndim: int) -> str:
    """An amount of inside in the unit that is known: ml, mm2, or voxels."""
    if not volume.spacing_known:
        return f"{size:,.0f} {'voxels' if ndim == 3 else 'pixels'}"
    if ml is not None and ndim == 3:
        return f"{ml:,.1f} ml" if ml >= 1 else f"{ml:.3f} ml"
    return f"{size:,.0f} mm\N{SUPERSCRIPT TWO}"


def stop_text(result: LevelSetResult, size: str) -> str:
    """How a run ended, with the next step."""
    place = ""
    if result.leak_at is not None:
        place = " near voxel " + ", ".join(f"{x:.0f}" for x in result.leak_at)
    return _NEXT[result.stop_reason].format(size=size, steps=result.iteration, place=place)


def running_text(state: LevelSetState, size: str) -> str:
    """One line on a run that is under way."""
    return f"Step {state.iteration}, time {state.time:.1f} (+{state.dt:.2f}), {size}, rate {state.rate:+.2f}"


def earlier_text(step: int, last: int, goes_on: bool) -> str:
    """One line on an earlier step that is on show: what the buttons do with it."""
    then = "Go on from here runs on from it" if goes_on else "Run begins anew from the start chosen above"
    return f"Step {step} of {last} is on show. Accept takes it; {then}."


def newest_text(step: int) -> str:
    """One line on a run that rests, when its newest step is on show again."""
    return f"Step {step}, the newest, is on show. Accept takes it; Resume goes on."


def neck_text(parameters: LevelSetParameters, ndim: int, unit: str) -> str:
    """What the weights mean in lengths: the smallest neck that the front will enter."""
    radius = parameters.smallest_neck(ndim)
    if radius is None:
        return "Shrinks: it enters no neck" if parameters.balloon < 0 else "No balloon: it enters no neck"
    if radius == 0:
        return "Grows into necks of any width"
    return f"Smallest neck it will enter: radius {radius:.2g} {unit}"


def memory_text(needed: int, free: int, voxels: int) -> tuple[str, bool]:
    """The forecast in words, and whether it does not fit."""
    gigabytes = needed / 1e9
    amount = f"{gigabytes:.1f} GB" if gigabytes >= 0.95 else f"{max(needed / 1e6, 1):.0f} MB"
    millions = f"{voxels / 1e6:.1f} million" if voxels >= 95_000 else f"{voxels:,}"
    text = f"{millions} voxels, about {amount} ({free / 1e9:.0f} GB free)"
    if needed > 0.9 * free:
        return f"{text}: too little. Draw a smaller box.", True
    return text, False


def comparison_text(found: Comparison, a: str, b: str, spacing_known: bool) -> str:
    """Two steps side by side in one line: how alike, how much larger, how far apart."""
    if not spacing_known:
        more, unit = f"{found.difference_mm:+,.0f} voxels", "voxels"
    else:
        ml, unit = found.difference_ml, "mm"
        more = f"{found.difference_mm:+,.0f} mm\N{SUPERSCRIPT TWO}" if ml is None else f"{ml:+.3g} ml"
    apart = "" if found.surface_mm is None else f", surfaces {found.surface_mm:.2g} {unit} apart"
    lines = f"Orange: only {a}. Blue: only {b}."
    return f"Dice {found.dice:.3f}, {more}{apart}. {lines}"
