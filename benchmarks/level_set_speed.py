"""Seconds to the edge beside Convert3D, SimpleITK and scikit-image; first picture, answers, memory; in one run.

Writes ``docs/level_set_speed.md``; every figure there comes from here. Takes about fifteen minutes on two cores, most
of them for the other programs; sizes may be named:

    python benchmarks/level_set_speed.py [64 128 256 512x512]
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from src_models.levelset import LevelSetParameters, evolve  # noqa: E402
from src_models.levelset.speed import speed_image  # noqa: E402
from tests.peers.programs import Outcome, convert3d, geodesic_active_contour  # noqa: E402
from tests.scenes import Scene, dice, race_scene  # noqa: E402

RESULTS = ROOT / "docs" / "level_set_speed.md"
SIZES = ((64, 64, 64), (128, 128, 128), (256, 256, 256), (512, 512))
REACHED = 0.995
BYTES_PER_VOXEL = 12
"""The least a step must move per voxel of the band: read u, read the speed, write u, in float32."""


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows as Markdown."""
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *rows]) + "\n"


@dataclass
class Race:
    """One program on one task.

    Attributes
    ----------
    seconds : float
        From the call until the mask is as good as wanted; NaN where it never is.
    per_step : float
        Milliseconds per step or iteration, without the set-up.
    best : float
        The best Dice.
    first, longest : float
        Seconds until the first state, and the longest pause between two states after it (ours only).
    """

    seconds: float
    per_step: float
    best: float
    first: float = float("nan")
    longest: float = float("nan")


def ours(scene: Scene, parameters: LevelSetParameters, given: NDArray[Any], wanted: float) -> Race:
    """Our run, to its own end; the clock stands still while the mask is compared."""
    begin = time.perf_counter()
    pause = best = longest = 0.0
    reached = first = float("nan")
    steps, last, size = 1, begin, float(scene.truth.sum())
    for state in evolve(scene.image, scene.start, scene.spacing, parameters, given):
        at = time.perf_counter()
        if np.isnan(first):
            first = at - begin
        else:
            longest = max(longest, at - last)
        if abs(state.size / size - 1) < 0.02:  # elsewhere the Dice cannot be what is wanted
            best = max(best, dice(state.level_set > 0, scene.truth))
            if best >= wanted and np.isnan(reached):
                reached = at - begin - pause
        steps = max(state.iteration, 1)
        last = time.perf_counter()
        pause += last - at
    total = time.perf_counter() - begin - pause
    return Race(reached, 1000 * (total - first) / steps, best, first, longest)


def peer(run: Callable[[int], Outcome], scene: Scene, iterations: int) -> Race:
    """The shortest run that is as good as wanted: the programs tell nothing on the way, so bisection to 5 %."""
    setup = run(1).seconds
    outcome, high, low = run(iterations), iterations, 0
    best = dice(outcome.mask, scene.truth)
    wanted = min(REACHED, best)
    while high - low > 0.05 * high:
        middle = (low + high) // 2
        tried = run(middle)
        if dice(tried.mask, scene.truth) >= wanted:
            high, outcome = middle, tried
        else:
            low = middle
    return Race(outcome.seconds, 1000 * max(outcome.seconds - setup, 0.0) / high, best)


def races(sizes: Sequence[tuple[int, ...]]) -> tuple[list[list[str]], list[list[str]]]:
    """Seconds to the edge, ours and theirs from the same speed image; and how we answer on the way."""
    rows, answers = [], []
    for shape in sizes:
        scene = race_scene(shape)
        iterations = int(9 * scene.reach + 150)
        start = next(evolve(scene.image, scene.start, scene.spacing, LevelSetParameters())).level_set.copy()
        for mode, name in (("region", "Convert3D"), ("edge", "SimpleITK")):
            plain = LevelSetParameters(speed=mode, steps=4000, device="cpu")
            given = scene.region_speed if mode == "region" else speed_image(scene.image, scene.spacing, plain)

            def theirs(
                count: int, mode: str = mode, scene: Scene = scene, given: NDArray[Any] = given, start: Any = start
            ) -> Outcome:
                if mode == "region":
                    return convert3d(given, scene.start, scene.spacing, 0.2, count)
                return geodesic_active_contour(given, start, scene.spacing, count)

            other = peer(theirs, scene, iterations)
            for pyramid in (False, True):
                parameters = plain.model_copy(update={"pyramid": pyramid})
                best = min(
                    (ours(scene, parameters, given, min(REACHED, other.best)) for _ in range(3)),
                    key=lambda race: np.inf if np.isnan(race.seconds) else race.seconds,
                )
                faster = "not reached" if np.isnan(best.seconds) else f"{other.seconds / best.seconds:.1f}"
                figures = [[f"{x.seconds:.2f}", f"{x.per_step:.2f}", f"{x.best:.4f}"] for x in (best, other)]
                rows.append([scene.name, mode, "yes" if pyramid else "no", *figures[0], name, *figures[1], faster])
                answers.append(
                    [scene.name, mode, rows[-1][2], *(f"{1000 * x:.0f}" for x in (best.first, best.longest))]
                )
                print(*rows[-1], *answers[-1][3:], sep="  ", flush=True)
    return rows, answers


def copy_bandwidth() -> float:
    """Bytes per second, read and written, of copying large arrays with all processors."""
    count, size = os.cpu_count() or 1, 2**25
    pairs = [(np.ones(size, np.float32), np.ones(size, np.float32)) for _ in range(count)]
    best = np.inf
    with ThreadPoolExecutor(count) as pool:
        for _ in range(5):
            begin = time.perf_counter()
            list(pool.map(lambda pair: np.copyto(*pair), pairs))
            best = min(best, time.perf_counter() - begin)
    return 2 * 4 * size * count / best


def band_voxels(scene: Scene) -> int:
    """Voxels with |u| < w of the front at the edge."""
    *_, last = evolve(scene.image, scene.truth, scene.spacing, LevelSetParameters(speed="region", steps=1))
    return int((np.abs(last.level_set) < 4).sum())


_MEMORY = """
import sys, threading, time
import numpy as np, psutil
from src_models.levelset import LevelSetParameters, evolve
from src_models.levelset.speed import speed_image
from tests.scenes import race_scene
n, mode, pyramid = int(sys.argv[1]), sys.argv[2], sys.argv[3] == "yes"
scene = race_scene((n, n, n))
parameters = LevelSetParameters(speed=mode, lower=110 if mode == "region" else None, pyramid=pyramid, device="cpu")
small = tuple(slice(n // 2 - 24, n // 2 + 24) for _ in range(3))
for _ in evolve(scene.image[small], scene.start[small], scene.spacing, parameters.model_copy(update={"steps": 2})):
    pass
process = psutil.Process()
before, peak, done = process.memory_info().rss, 0, False
def watch():
    global peak
    while not done:
        peak = max(peak, process.memory_info().rss)
        time.sleep(0.002)
watcher = threading.Thread(target=watch)
watcher.start()
for state in evolve(scene.image, scene.start, scene.spacing, parameters):
    pass
done = True
watcher.join()
print("VOLUMES", (peak - before) / (4 * n**3))
"""


def memory_rows(sizes: Sequence[tuple[int, ...]]) -> list[list[str]]:
    """Peak memory of a whole run beyond the image, speed image made by us, in a process of its own."""
    rows = []
    for shape in sizes:
        if len(shape) < 3 or shape[0] < 128:
            continue
        for mode in ("region", "edge"):
            for pyramid in ("no", "yes"):
                run = subprocess.run(
                    [sys.executable, "-c", _MEMORY, str(shape[0]), mode, pyramid],
                    capture_output=True,
                    text=True,
                    check=True,
                    cwd=ROOT,
                    env={**os.environ, "PYTHONPATH": str(ROOT)},
                )
                volumes = float(next(line.split()[1] for line in run.stdout.splitlines() if line.startswith("VOLUMES")))
                rows.append(["x".join(map(str, shape)), mode, pyramid, f"{volumes:.1f}"])
                print(*rows[-1], sep="  ", flush=True)
    return rows


def report(sizes: Sequence[tuple[int, ...]]) -> str:
    """The page."""
    packages = (("Convert3D", "picsl_c3d"), ("SimpleITK", "SimpleITK"), ("numba", "numba"))
    versions = ", ".join(f"{name} {metadata.version(package)}" for name, package in packages)
    before = os.getloadavg()[0]
    rows, answers = races(sizes)
    load = (before, os.getloadavg()[0])
    race = table(
        [
            "size",
            "mode",
            "coarse to fine",
            "ours, s",
            "ms a step",
            "best Dice",
            "peer",
            "peer, s",
            "ms an iteration",
            "its best Dice",
            "times faster",
        ],
        rows,
    )
    bandwidth = copy_bandwidth()
    limits = []
    for shape in sizes:
        scene = race_scene(shape)
        voxels = band_voxels(scene)
        ideal = 1000 * BYTES_PER_VOXEL * voxels / bandwidth
        own = full_step(scene)
        limits.append([scene.name, f"{voxels}", f"{ideal:.3f}", f"{own:.2f}", f"{own / ideal:.0f}"])
        print(*limits[-1], sep="  ", flush=True)
    limit = table(["size", "voxels in the band", "limit, ms a step", "ours, ms a step", "times the limit"], limits)
    answered = table(["size", "mode", "coarse to fine", "first state, ms", "longest wait between states, ms"], answers)
    memory = table(["size", "mode", "coarse to fine", "volumes"], memory_rows(sizes))
    return f"""# Level set: speed beside other programs

Written by `python benchmarks/level_set_speed.py`; do not edit.
{versions}, Python {platform.python_version()}, {platform.machine()},
{os.cpu_count()} processors; all programs use them as they come. Other work on the machine during the
race: load average {load[0]:.1f} before, {load[1]:.1f} after it (the race itself counts in the second).

## Seconds to the edge

A bright ball (in 2D a disc) of radius 0.3 N from a seed of radius 4 in its middle, noise 4. Seconds from the call until
Dice {REACHED} with the truth, or the peer's own end where that is lower; set-up and redistancing included, making the
speed image not; Convert3D's include its files. Ours is the best of three runs, the peers' the shortest run that is as
good as wanted. *ms* is the mean of a whole run, *best Dice* that of the whole run.

{race}
## Distance to the memory limit

A step must at least read u and the speed and write u: {BYTES_PER_VOXEL} bytes per voxel of the band, in float32.
Copying large arrays with all processors moves {bandwidth / 1e9:.1f} GB/s here (read and written). *Ours* is the
step of a front that lies at the edge, in region mode, with two sweeps of redistancing and all measures.

{limit}
## Answers

*First state* is the set-up; pause, step and cancel answer after the state under way: the longest wait between two.

{answered}
## Memory

Peak of a whole run beyond the image itself, in volumes of 4 bytes per voxel; the speed image is made and counted.

{memory}"""


def full_step(scene: Scene) -> float:
    """Milliseconds of a step of a front at the edge; the median of 40."""
    parameters = LevelSetParameters(speed="region", steps=42, auto_stop=False, device="cpu")
    times = []
    last = 0.0
    for state in evolve(scene.image, scene.truth, scene.spacing, parameters, scene.region_speed):
        now = time.perf_counter()
        if state.iteration > 1:
            times.append(now - last)
        last = now
    return 1000 * float(np.median(times))


def size_of(word: str) -> tuple[int, ...]:
    """128 is a cube, 512x512 a picture."""
    return tuple(map(int, word.split("x"))) if "x" in word else (int(word),) * 3


if __name__ == "__main__":
    page = report([size_of(word) for word in sys.argv[1:]] or SIZES)
    if len(sys.argv) == 1:
        RESULTS.write_text(page, encoding="utf-8")
        print(f"wrote {RESULTS.relative_to(ROOT)}")
    else:
        print(page)
