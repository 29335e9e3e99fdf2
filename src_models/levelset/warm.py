"""The compiled engine made ready once after installation: ``python -m src_models.levelset.warm``.

numba compiles a kernel at its first call, 10 to 20 s for all of them, and keeps the result on disk. This module calls
each of them on a few voxels, at the lowest priority, so that the first run of a person finds them there. Whether that
has been done is told by an empty file in the user's cache folder, so that asking loads neither numba nor torch.
"""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def is_ready() -> bool:
    """Whether the kernels of this installation have been compiled."""
    return _marker().exists()


def make_ready() -> None:
    """Compile every kernel that a run may need, and remember that it was done."""
    import numpy as np

    from src_models.levelset import LevelSetParameters, evolve
    from src_models.levelset.coupled import evolve_labels
    from src_models.progress import finish

    for shape in ((20, 20), (12, 12, 12)):
        image = np.zeros(shape, np.float32)
        image[tuple(slice(3, -3) for _ in shape)] = 100
        start = np.zeros(shape, np.uint16)
        start[tuple(slice(n // 2 - 2, n // 2 + 2) for n in shape)] = 1
        spacing = (1.0,) * len(shape)
        region = LevelSetParameters(speed="region", lower=50.0, steps=3)
        for parameters in (region, LevelSetParameters(steps=3), region.model_copy(update={"region": "chan_vese"})):
            finish(evolve(image, start > 0, spacing, parameters, walls=image < 50, pins=start > 0))
        start[tuple(slice(n // 2, None) for n in shape)] *= 2
        finish(evolve_labels(image, start, spacing, region))
    with suppress(ImportError):
        from src_models.levelset.arrival import arrival_preview

        finish(arrival_preview(image, start > 0, spacing, region))
    marker = _marker()
    marker.parent.mkdir(parents=True, exist_ok=True)
    marker.touch()


def _marker() -> Path:
    """The file that says so; of another name after an update of the kernels, of numba or of Python."""
    digest = hashlib.sha256()
    with suppress(PackageNotFoundError):
        digest.update(version("numba").encode())
    digest.update(f"{platform.python_version()} {platform.machine()} {platform.processor()}".encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(f"{source} {source.stat().st_mtime_ns}".encode())
    return _cache_folder() / f"engine-{digest.hexdigest()[:16]}"


def _cache_folder() -> Path:
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "napari-lsnet"


def main() -> None:
    """Step behind everything else that runs here, then compile."""
    from src_models.processor import let_waiting_threads_sleep

    if hasattr(os, "nice"):
        os.nice(19)
    let_waiting_threads_sleep()
    make_ready()


if __name__ == "__main__":
    main()
