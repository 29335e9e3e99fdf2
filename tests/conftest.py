"""What every test run shares: one thread, a user folder of its own, and a screen where windows are tested."""

from __future__ import annotations

import os
import sys

import pytest

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

HAS_SCREEN = not sys.platform.startswith("linux") or bool(
    os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
)
if not HAS_SCREEN:
    # Without it Qt ends the whole process where a test only needs an event loop.
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

WINDOW_FIXTURES = {"make_napari_viewer", "make_napari_viewer_proxy"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests of the real window where there is no screen; `make test` always brings one."""
    if HAS_SCREEN:
        return
    reason = "needs a screen with OpenGL: run `make test`, or put `xvfb-run -a` before the command"
    for item in items:
        if WINDOW_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.skip(reason=reason))
