"""How soon the arrival-time preview shows a first picture: blocks, speed, march and interpolation, at 256^3.

Run: ``python benchmarks/arrival_preview.py [side]``. The first call compiles and is not counted.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from src_models.levelset import LevelSetParameters
from src_models.levelset.arrival import arrival_preview
from src_models.levelset.initial import Seeds, Sphere
from tests.scenes import race_scene

REPEATS = 5
LIMIT_MS = 100


def first_picture(
    image: np.ndarray, initial: np.ndarray | Seeds, parameters: LevelSetParameters
) -> tuple[float, float]:
    """Wall and processor time in ms until a mask of the full grid is there."""
    wall, processor = time.perf_counter(), time.process_time()
    for state in arrival_preview(image, initial, (1.0,) * image.ndim, parameters):
        if state.arrival is not None:
            state.arrival.mask(0.5 * state.arrival.latest)
            break
    return 1000 * (time.perf_counter() - wall), 1000 * (time.process_time() - processor)


def main() -> None:
    """Print a table."""
    side = int(sys.argv[1]) if len(sys.argv) > 1 else 256
    scene = race_scene((side,) * 3)
    seeds = Seeds(spheres=(Sphere(centre=((side - 1) / 2,) * 3, radius=4.0),))
    print(f"| first picture at {side}^3 | wall, best of {REPEATS} | processor, best | gate |")
    print("| --- | --- | --- | --- |")
    for speed in ("region", "edge"):
        for image in (scene.image, scene.image.astype(np.int16)):
            for name, initial in (("a point", seeds), ("a label", scene.start)):
                parameters = LevelSetParameters(speed=speed, lower=110.0)
                taken = [first_picture(image, initial, parameters) for _ in range(REPEATS + 1)][1:]
                wall, processor = (min(t[k] for t in taken) for k in (0, 1))
                print(f"| {speed}, {image.dtype}, {name} | {wall:.0f} ms | {processor:.0f} ms | {LIMIT_MS} ms |")


if __name__ == "__main__":
    main()
