"""What every test run shares: one thread, a user folder of its own, and a screen where windows are tested."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile

import pytest

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

# What a test sets in napari's preferences or in ours must not reach the person who runs it, or the next run.
USER_FOLDER = tempfile.mkdtemp(prefix="lsnet-tests-")
atexit.register(shutil.rmtree, USER_FOLDER, ignore_errors=True)
os.environ["NAPARI_CONFIG"] = os.path.join(USER_FOLDER, "napari.yaml")
os.environ["XDG_CONFIG_HOME"] = USER_FOLDER

HAS_SCREEN = not sys.platform.startswith("linux") or bool(
    os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
)
if not HAS_SCREEN:
    # Without it Qt ends the whole process where a test only needs an event loop.
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

WINDOW_FIXTURES = {"make_napari_viewer", "make_napari_viewer_proxy"}
QT_FIXTURES = WINDOW_FIXTURES | {"qtbot", "qapp"}


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--qt-only`, for the second of two Qt bindings."""
    parser.addoption("--qt-only", action="store_true", help="Only tests that a Qt binding has a part in.")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip tests of the real window where there is no screen; `make test` always brings one."""
    if config.getoption("--qt-only"):
        others = [item for item in items if not QT_FIXTURES & set(getattr(item, "fixturenames", ()))]
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if item not in set(others)]
    if HAS_SCREEN:
        return
    reason = "needs a screen with OpenGL: run `make test`, or put `xvfb-run -a` before the command"
    for item in items:
        if WINDOW_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.skip(reason=reason))
