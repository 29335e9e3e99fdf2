"""How long a kernel analysis takes and what it needs: our figures beside the plain ways, from the same run.

    python benchmarks/kernel_analysis.py

The plain ways are measured on subsets and extrapolated, which the table says. Writes the table of ``docs/kernels.md``.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

from src_models.kernels import KernelAnalysisParameters, analyse  # noqa: E402
from src_models.kernels.spectra import dense_matrix, singular_values  # noqa: E402
from src_models.networks.zoo import build  # noqa: E402
from src_models.progress import finish  # noqa: E402

PAGE = ROOT / "docs" / "kernels.md"
BEGIN, END = "<!-- benchmark -->", "<!-- /benchmark -->"
THREADS = 2
SMALL, LARGE = 14_608, 1_087_520


def timed(work: Callable[[], Any], repeats: int = 1) -> tuple[float, float]:
    """Best seconds of the clock, and of the processor in that run."""
    best = (float("inf"), float("inf"))
    for _ in range(repeats):
        clock, processor = time.perf_counter(), time.process_time()
        work()
        best = min(best, (time.perf_counter() - clock, time.process_time() - processor))
    return best


def papers_unet() -> tuple[float, float]:
    """All kernels of the paper's UNet: spectra on 64 x 64, paper-11, moments, components, clusters, table."""
    network = build("unet-paper", 1, 1, 2)
    chosen = KernelAnalysisParameters(preset="paper-11", threads=THREADS)
    finish(analyse(network, chosen))  # what is compiled and drawn once
    return timed(lambda: finish(analyse(network, chosen)), 5)


def large() -> tuple[float, float, float]:
    """The default 3D network of nnU-Net, in a process of its own: seconds, processor, GB above the weights."""
    code = "import sys; sys.path.insert(0, '.'); from benchmarks.kernel_analysis import measure_large; measure_large()"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    seconds, processor, memory = done.stdout.split()[-3:]
    return float(seconds), float(processor), float(memory)


def measure_large() -> None:
    """The part of `large` that runs in the other process."""
    network = build("nnunet", 1, 2, 3)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds, processor = timed(lambda: finish(analyse(network, KernelAnalysisParameters(threads=THREADS))))
    memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e6
    print(seconds, processor, memory)


def naive_fourier(count: int = 300) -> float:
    """The plain way: each kernel padded to 64 x 64, complex transform, absolute values, sorted; for all kernels."""
    kernels = np.random.default_rng(0).normal(size=(count, 3, 3))

    def work() -> None:
        for kernel in kernels:
            np.sort(np.abs(np.fft.fft2(kernel, (64, 64))).ravel())

    return timed(work, 3)[0] * SMALL / count


def dense(n: int = 32) -> float:
    """Another plain way: the matrix of one kernel on 32 x 32 points, decomposed; for all kernels."""
    kernel = np.random.default_rng(0).normal(size=(3, 3))
    return timed(lambda: np.linalg.svd(dense_matrix(kernel, (n, n)), compute_uv=False))[0] * SMALL


def agreement() -> float:
    """Largest difference of fast and dense periodic spectra, as a share of the largest value."""
    worst = 0.0
    random = np.random.default_rng(1)
    for grid in ((8, 8), (7, 10), (4, 5, 6)):
        for _ in range(10):
            kernel = random.normal(size=(3,) * len(grid))
            exact = np.linalg.svd(dense_matrix(kernel, grid, "periodic"), compute_uv=False)
            worst = max(worst, float(np.abs(singular_values(kernel, grid) - exact).max() / exact[0]))
    return worst


def table() -> list[str]:
    """The rows."""
    began = os.getloadavg()[0]
    small, big = papers_unet(), large()
    load = f"{began:.1f} to {os.getloadavg()[0]:.1f}"
    return [
        "| job | time | processor time | memory | gate |",
        "| --- | ---: | ---: | ---: | ---: |",
        f"| paper's UNet, {SMALL:,} kernels, 64 x 64, `paper-11` | {small[0]:.2f} s | {small[1]:.2f} s | | 2 s |",
        f"| 3D network of 31 million weights, {LARGE:,} kernels, 16 x 16 x 16 | {big[0]:.0f} s | {big[1]:.0f} s | "
        f"{big[2]:.2f} GB above the weights | 60 s, 1.5 GB |",
        f"| its spectra by plain Fourier transforms (300 measured, extrapolated) | {naive_fourier():.1f} s | | | |",
        f"| its spectra by dense matrices of 32 x 32 (1 measured, extrapolated) | {dense() / 3600:.1f} h | | | |",
        "",
        f"{THREADS} threads, best of 5 (3D: once). Load average of the computer meanwhile: {load} on {os.cpu_count()}",
        "cores; above the number of cores the clock shows waiting, the processor time does not. Fast and dense",
        f"periodic spectra differ by {agreement():.0e} of the largest value.",
    ]


def main() -> None:
    """Measure, print, write the table into the page."""
    lines = table()
    print("\n".join(lines))
    text = PAGE.read_text(encoding="utf-8")
    head, _, rest = text.partition(BEGIN)
    PAGE.write_text(f"{head}{BEGIN}\n" + "\n".join(lines) + f"\n{END}{rest.partition(END)[2]}", encoding="utf-8")


if __name__ == "__main__":
    main()
