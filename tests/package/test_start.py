"""What starting napari with this plugin costs: no torch, and less than half a second."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CONTRIBUTIONS = yaml.safe_load((ROOT / "napari_lsnet" / "napari.yaml").read_text(encoding="utf-8"))["contributions"]
WIDGETS = [entry["command"] for entry in CONTRIBUTIONS["widgets"]]
MODULES = sorted({entry["python_name"].partition(":")[0] for entry in CONTRIBUTIONS["commands"]})
HEAVY = ["torch", "SimpleITK", "skimage", "sklearn", "matplotlib", "nibabel", "pydicom"]
# Seconds of the processor, not of the clock: what else the machine does must not decide.
LIMIT_S = 0.5
RUNS = 5

DISCOVER = """
import sys
from npe2 import PluginManager
manager = PluginManager.instance()
manager.discover(include_npe1=False)
manager.get_manifest("napari-lsnet")
list(manager.iter_menu("napari/layers/segment"))
list(manager.iter_compatible_readers("a.nii.gz"))
"""

# Timing starts when napari itself is loaded and one of its windows has been open, as in the real use.
BUILD = """
import sys, time
import napari
viewer = napari.Viewer(show=False)
import qtpy
from npe2 import PluginManager
manager = PluginManager.instance()
manager.discover(include_npe1=False)
before = set(sys.modules)
start = time.process_time()
viewer.window.add_plugin_dock_widget("napari-lsnet", TITLE)
seconds = time.process_time() - start
fresh = set(sys.modules) - before
viewer.close()
"""

IMPORT = """
import sys, time
EARLIER
before = set(sys.modules)
start = time.process_time()
import MODULE
seconds = time.process_time() - start
fresh = set(sys.modules) - before
"""


def _run(code: str, *, qt: bool = False) -> dict[str, Any]:
    """Run code in a fresh Python and return the `seconds` it measured and the heavy modules it loaded."""
    report = f"""
import json
heavy = sorted({{name.split('.')[0] for name in globals().get('fresh', sys.modules)}} & set({HEAVY!r}))
print('\\n' + json.dumps({{'seconds': globals().get('seconds', 0.0), 'heavy': heavy}}))
"""
    environment = os.environ | {"QT_API": os.environ.get("PYTEST_QT_API", "pyqt6")}
    done = subprocess.run(
        [sys.executable, "-c", code + report], capture_output=True, text=True, env=environment, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer


def _median(code: str) -> float:
    return statistics.median(_run(code)["seconds"] for _ in range(RUNS))


def test_discovering_the_plugin_loads_nothing_heavy() -> None:
    assert _run(DISCOVER)["heavy"] == []


def test_importing_the_package_is_quick_and_loads_no_qt() -> None:
    code = IMPORT.replace("EARLIER", "").replace("MODULE", "napari_lsnet")
    assert _run(code)["heavy"] == []
    assert _median(code) < LIMIT_S
    assert _run(code + "\nassert not [n for n in sys.modules if n.startswith(('PyQt', 'PySide', 'qtpy', 'napari.'))]")


@pytest.mark.parametrize("module", MODULES)
def test_importing_what_a_command_needs_loads_no_torch(module: str) -> None:
    code = IMPORT.replace("EARLIER", "import napari.qt, napari.layers, napari.viewer, superqt").replace(
        "MODULE", module
    )
    answer = _run(code)
    assert answer["heavy"] == []
    assert answer["seconds"] < LIMIT_S or _median(code) < LIMIT_S


@pytest.mark.parametrize("widget", CONTRIBUTIONS["widgets"], ids=lambda widget: widget["command"])
def test_building_a_widget_is_quick_and_loads_no_torch(
    widget: dict[str, str], make_napari_viewer_proxy: object
) -> None:
    """The fixture is asked for only because it marks tests that need a screen."""
    code = BUILD.replace("TITLE", repr(widget["display_name"]))
    answers = [_run(code) for _ in range(RUNS)]
    assert answers[0]["heavy"] == []
    assert statistics.median(answer["seconds"] for answer in answers) < LIMIT_S
