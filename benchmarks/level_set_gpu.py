"""Seconds to the edge on a graphics card, beside the definition in eager torch on the same card, in one run.

Writes ``docs/level_set_gpu.md``; every figure there comes from here. Takes some minutes, most of them to draw the
scenes on the processor. Without a card it says so and ends.

    python benchmarks/level_set_gpu.py
"""

from __future__ import annotations

import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from src_models.levelset import LevelSetParameters, evolve  # noqa: E402
from src_models.levelset.engines import make_engine  # noqa: E402
from src_models.levelset.fields import SpeedImages  # noqa: E402
from src_models.levelset.fused import FusedEngine  # noqa: E402
from src_models.levelset.initial import band_width  # noqa: E402
from src_models.levelset.speed import speed_image  # noqa: E402
from tests.scenes import Scene, race_scene  # noqa: E402

RESULTS = ROOT / "docs" / "level_set_gpu.md"
SIZES = (128, 256, 512)
EDGE_SIZES = (128, 256)
REACHED = 0.995
FLOOR = 12
"""Bytes per voxel of any step in float32: u and the speed read once, u written once."""


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows as Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def told(row: list[str]) -> list[str]:
    """Show a row while the others are made."""
    print(*row, sep="  ", flush=True)
    return row


def seconds_of(work: Callable[[], object], times: int) -> float:
    """Median seconds of something on the card, by its own clock."""
    for _ in range(3):
        work()
    spans = []
    for _ in range(times):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        work()
        end.record()
        torch.cuda.synchronize()
        spans.append(begin.elapsed_time(end) / 1000)
    return statistics.median(spans)


def copy_bandwidth() -> float:
    """Bytes per second of a large copy on the card, read and written."""
    source = torch.rand(2**28, device="cuda")
    target = torch.empty_like(source)
    return 2 * 4 * source.numel() / seconds_of(lambda: target.copy_(source), 20)


def dice_on_card(engine: FusedEngine, truth: torch.Tensor) -> float:
    """Dice of the inside with a mask, without fetching either."""
    inside = engine.device_level_set() > 0
    return float(2 * (inside & truth).sum() / (inside.sum() + truth.sum()))


@dataclass
class Reached:
    """How a run got to the wanted Dice: the steps, and what held it there."""

    steps: int
    dice: float
    best: float
    stop: str
    step_seconds: float
    visited: int
    band: int


def reached(scene: Scene, parameters: LevelSetParameters, given: NDArray[Any]) -> Reached:
    """Run until the wanted Dice, looking at every step, and time the kernels there; then on to the stop."""
    truth = torch.from_numpy(scene.truth).cuda()
    found: Reached | None = None
    best, stop, last = 0.0, "", 0
    for state in evolve(scene.image, scene.start, scene.spacing, parameters, given):
        engine = state.run.engine
        now = dice_on_card(engine, truth)
        best, last = max(best, now), state.iteration
        stop = state.stop_reason or ""
        if found is None and now >= REACHED:
            found = timed_kernels(engine, state.iteration, now)
    found = found or timed_kernels(engine, last, now)
    found.best, found.stop = best, stop
    return found


def timed_kernels(engine: FusedEngine, steps: int, now: float) -> Reached:
    """Seconds of the kernels of one step where the engine stands: a step of length 0 leaves the front where it is."""
    kept = engine.device_level_set().clone()
    engine.look(0.0)
    engine._field.constant("TIME_STEP").fill_(0.0)

    def step() -> None:
        engine._recordings.play("look", engine._look)
        engine._recordings.play("step", lambda: engine._step(True))

    seconds = seconds_of(lambda: [step() for _ in range(20)], 5) / 20
    visited = int(engine._field.count) * int(np.prod(engine._field.tile))
    band = int((engine.device_level_set().abs() < engine.width).sum())
    engine._replace(kept)
    return Reached(steps, now, now, "", seconds, visited, band)


def timed(scene: Scene, parameters: LevelSetParameters, given: NDArray[Any], steps: int) -> tuple[float, float, float]:
    """Seconds from the call to that step, of these to the first state, and ms per step after it."""
    torch.cuda.synchronize()
    begin = time.perf_counter()
    first = begin
    for state in evolve(scene.image, scene.start, scene.spacing, parameters, given):
        if state.iteration == 0:
            first = time.perf_counter()
        if state.iteration >= steps:
            break
    torch.cuda.synchronize()
    end = time.perf_counter()
    return end - begin, first - begin, 1000 * (end - first) / max(steps, 1)


def bytes_of_step(columns: int) -> int:
    """What our kernels move at least per visited voxel in float32: look, move, rescale and two sweeps."""
    return 4 * ((1 + columns + 1) + 3 + 2 + 2 + 2)


def limited(seconds: float, visited: int, columns: int, bandwidth: float) -> list[str]:
    """Milliseconds of a step's kernels, GB/s that they move at least, and the share of the copy's."""
    rate = bytes_of_step(columns) * visited / seconds
    return [f"{1000 * seconds:.3f}", f"{rate / 1e9:.0f}", f"{100 * rate / bandwidth:.0f} %"]


def races(bandwidth: float) -> tuple[list[list[str]], list[list[str]]]:
    """Rows of the race, and of what limits it."""
    rows, limits = [], []
    for side in SIZES:
        scene = race_scene((side,) * 3)
        for mode in ("region", "edge") if side in EDGE_SIZES else ("region",):
            p = LevelSetParameters(speed=mode, steps=4000, device="cuda")
            given = scene.region_speed if mode == "region" else speed_image(scene.image, scene.spacing, p)
            found = reached(scene, p, given)
            ours = min(timed(scene, p, given, found.steps) for _ in range(3 if side < 512 else 2))
            plain = timed(scene, p.model_copy(update={"engine": "reference"}), given, found.steps)
            shown = f"{found.dice:.4f}" if found.dice >= REACHED else f"{found.dice:.4f} ({found.stop})"
            times = [f"{x:.3f}" for x in ours] + [f"{plain[0]:.2f}", f"{plain[2]:.2f}", f"{plain[2] / ours[2]:.0f}"]
            rows.append(told([f"{side}^3", mode, shown, f"{found.steps}", *times]))
            voxels = [f"{found.band:,}", f"{found.visited:,}"]
            limit = limited(found.step_seconds, found.visited, 1 if mode == "region" else 4, bandwidth)
            floors = [f"{1000 * FLOOR * n / bandwidth:.4f}" for n in (found.band, side**3)]
            limits.append(told([f"{side}^3", mode, *voxels, *limit, *floors]))
    return rows, limits


def full_rows(bandwidth: float) -> list[list[str]]:
    """The step where every voxel is in the band: the dense step, whose bytes are known."""
    rows = []
    for side in SIZES:
        axis = np.arange(side, dtype=np.float32) / 7
        waves = np.sin(axis)[:, None, None] + np.sin(axis)[None, :, None] + np.sin(axis)[None, None, :]
        spacing = (1.0, 1.0, 1.0)
        engine = make_engine("fused", waves, spacing, band_width(spacing, waves.shape, 4.0), torch.empty(0).cuda())
        speed = np.tanh(np.roll(waves, 5, 2))
        engine.set_problem(SpeedImages(speed, None, None, None), LevelSetParameters(speed="region"))
        found = timed_kernels(engine, 0, 0.0)
        limit = limited(found.step_seconds, side**3, 1, bandwidth)
        rows.append(told([f"{side}^3", *limit, f"{1000 * FLOOR * side**3 / bandwidth:.4f}"]))
        del engine
        torch.cuda.empty_cache()
    return rows


def report() -> str:
    """The page."""
    bandwidth = copy_bandwidth()
    print(f"copy: {bandwidth / 1e9:.0f} GB/s", flush=True)
    full = full_rows(bandwidth)
    rows, limits = races(bandwidth)
    card = torch.cuda.get_device_name()
    race = table(
        [
            "size",
            "mode",
            "Dice",
            "steps",
            "s",
            "of these start",
            "ms per step",
            "eager, s",
            "eager, ms",
            "times faster",
        ],
        rows,
    )
    limit = table(
        [
            "size",
            "mode",
            "band voxels",
            "visited",
            "kernels, ms",
            "GB/s",
            "of the copy",
            "floor of the band, ms",
            "floor of all voxels, ms",
        ],
        limits,
    )
    dense = table(["size", "kernels, ms", "GB/s", "of the copy", "floor of all voxels, ms"], full)
    return f"""# Level set on a graphics card

Written by `python benchmarks/level_set_gpu.py`; do not edit.
{card}, torch {torch.__version__}, Triton {triton_version()}, Python {platform.python_version()}, float32.
A large copy on this card moves {bandwidth / 1e9:.0f} GB/s, bytes read and bytes written together.

## Seconds to the edge

A bright ball of radius 0.3 N from a seed of radius 4 in its middle (`tests/scenes.py`, `race_scene`), from the call of
`evolve` until the Dice with the truth is {REACHED}, automatic stop and leak guard on. *Start* is the part before the
first state: it is work of the processor (checking and hashing the inputs, making the tensors) and the copy to the card.
*Eager* is the definition in eager torch on the same card, for as many steps.

{race}
## What limits a step

One step is eight kernels and a running sum over the tiles: the look (speeds at the front, rate of change, measures)
and its totals, the move, the rescaling beside the front, two sweeps, and the list of tiles. Where the kernels take less
time than the step above, the rest is the processor's: it decides after every step whether to stop. No step can be
faster than {FLOOR} bytes per voxel (u and the speed read once, u written once) at the speed of the copy: the *floor*.
Ours move at least {bytes_of_step(1)} bytes per visited voxel in region mode and {bytes_of_step(4)} in edge mode;
*GB/s* counts these. Timed where the run of the table above reached its Dice; *visited* counts the voxels of the listed
tiles. Memory is not what holds these kernels: a voxel takes differences along three axes, up to eight corners of
an interpolation and a dozen roots and quotients for its few bytes.

{limit}
The same kernels where every voxel is in the band, region mode:

{dense}"""


def triton_version() -> str:
    """Of the compiler of the kernels."""
    import triton

    return str(triton.__version__)


if __name__ == "__main__":
    if not torch.cuda.is_available() or find_spec("triton") is None:
        print("There is no NVIDIA graphics card with Triton here: docs/level_set_gpu.md stays as it is.")
        sys.exit(0)
    page = report()
    RESULTS.write_text(page)
    print(page)
