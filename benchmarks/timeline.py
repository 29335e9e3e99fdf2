"""What the timeline costs a run: share of the time, bytes of key frames, and how long it takes to go back to a step.

Prints one row per size, for a ball that grows from radius 4 to 0.3 N in region mode. The claims: less than 5 % of the
run's time, less than 300 MB at 256^3.

    python benchmarks/timeline.py [N ...]
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from src_models.levelset import LevelSetParameters, evolve
from src_models.levelset.packing import packed
from src_models.levelset.timeline import Timeline
from tests.scenes import ball, picture

SIZES = (128, 256)
TRIES = 12


def main() -> None:
    """Measure and print the table."""
    print("| image | steps | ms per step | timeline, % | key frames | largest, MB | all, MB | nearest, ms | exact, s |")
    print("|---|---|---|---|---|---|---|---|---|")
    for n in [int(word) for word in sys.argv[1:]] or SIZES:
        print(f"| {n}^3 | {row(n)} |", flush=True)


def row(n: int) -> str:
    """One line of figures."""
    shape, spacing = (n,) * 3, (1.0,) * 3
    image = picture(ball(shape, spacing, 0.3 * n), spacing, 4, 0)
    start = ball(shape, spacing, 4) > 0
    packed(np.zeros((8, 8, 8), np.float32), 4.0, (slice(0, 8),) * 3)  # compiles
    timeline = Timeline()
    run = evolve(image, start, spacing, LevelSetParameters(speed="region", lower=110.0, steps=5000))
    running = seeing = 0.0
    steps = 0
    ended = False
    while not ended:
        began = time.perf_counter()
        state = next(run)
        between = time.perf_counter()
        timeline.see(state)
        if steps:  # the first one prepares
            running, seeing = running + between - began, seeing + time.perf_counter() - between
        steps += 1
        ended = state.stop_reason is not None
    keys = timeline.current.keys
    chosen = np.random.default_rng(0).integers(1, steps, TRIES)
    near, exact = [], []
    for iteration in (int(k) for k in chosen):
        began = time.perf_counter()
        timeline.nearest(iteration)
        between = time.perf_counter()
        timeline.level_set(iteration)
        near.append(between - began)
        exact.append(time.perf_counter() - between)
    largest = max(key.nbytes for key in keys.values())
    return (
        f"{steps - 1} | {1e3 * running / (steps - 1):.1f} | {100 * seeing / running:.1f} | {len(keys)} | "
        f"{largest / 1e6:.1f} | {timeline.nbytes / 1e6:.0f} | {1e3 * max(near):.0f} | {max(exact):.1f}"
    )


if __name__ == "__main__":
    main()
