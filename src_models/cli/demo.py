"""``lsnet demo``: the main job on the CT that comes with this program, from one click to a page that shows it."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from src_models.cli import evolve, inputs, options, outputs, report
from src_models.cli.driving import drive
from src_models.errors import SaveError
from src_models.levelset.parameters import LevelSetParameters
from src_models.record import record_path
from src_models.sample_data import sample_file

if TYPE_CHECKING:
    from src_models.cli.demo_page import Moment
    from src_models.files import ReadOptions
    from src_models.levelset.evolution import LevelSetResult, LevelSetState

POINT = "303,144,258:12"
"""One click into the liver, as `lsnet evolve --point` takes it."""

PARAMETERS = LevelSetParameters(speed="region", lower=25.0, upper=80.0, curvature=3.0)
"""Grey values of liver without contrast agent, about 40 to 65 HU, widened by the noise of this scan (13 HU in the liver
around the click). Of a few settings tried, the smoothing and the lower threshold are those that came closest to the
label on this very scan: the demo shows how it works, not how accurate it is."""

_VIEWER_START_S = 4.0
_NAMES = ("liver.nii.gz", "contour.png", "index.html")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the command."""
    parser.add_argument(
        "--out", metavar="FOLDER", type=Path, default=Path("demo_results"), help="Where to put the results."
    )
    parser.add_argument("--no-viewer", action="store_true", help="Do not open the viewer afterwards.")


def run(arguments: argparse.Namespace) -> int:
    """Do what the command line says."""
    from src_models.cli import demo_page

    began = time.perf_counter()
    folder = make_folder(arguments.out)
    job = prepare(folder)
    label = inputs.read_mask(sample_file("liver_ct/liver_ct_liver.nii.gz"), job.frame, _reading(), "label")
    if not arguments.json:
        report.say("One click into the liver of a real CT; the contour grows until it rests.")
    watch = _Camera(job)
    result = drive(job.start(), json_lines=arguments.json, also=watch)
    evolved = time.perf_counter() - began
    record = job.target.save(job.frame, result)
    dice = dice_of(result.mask, label)
    moments = demo_page.five_moments(watch.moments)
    picture = demo_page.picture(moments, watch.looks, label)
    shown = demo_page.Shown(
        record=record,
        dice=dice,
        label_ml=float(label.sum()) * job.frame.volume.grid.voxel_ml,
        seconds=evolved,
        command=_command(),
        point=POINT,
        moments=moments,
    )
    outputs.write_whole(folder / "contour.png", picture)
    outputs.write_whole(folder / "index.html", demo_page.page(shown, picture).encode())
    seconds = time.perf_counter() - began
    if arguments.json:
        report.write_json(evolve.final_event(job, result, record, seconds) | {"dice": dice, "folder": str(folder)})
    else:
        report.say(*_summary(job, result, dice, seconds, folder))
    if not (arguments.no_viewer or arguments.json) and display_there():
        _open_viewer(folder)
    return 0


def make_folder(folder: Path) -> Path:
    """The folder for the results, made where it is missing.

    Raises
    ------
    SaveError
        Where it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SaveError(
            "demo-folder",
            f"The folder {folder.name} cannot be made",
            error.strerror or "",
            "Give another one with --out FOLDER.",
        ) from error
    return folder.resolve()


def prepare(folder: Path) -> evolve.Job:
    """The demo as a run of the level set, with its results going to a folder."""
    source = sample_file("liver_ct/liver_ct.nii.gz")
    target = outputs.Target(folder / "liver.nii.gz", overwrite=True, files={"source": source})
    target.check()
    outputs.check_targets([folder / name for name in _NAMES[1:]], [source], overwrite=True)
    frame = inputs.read_frame(source, _reading())
    return evolve.Job(frame, inputs.read_points([POINT], frame), PARAMETERS, target)


def dice_of(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """2 |a and b| / (|a| + |b|)."""
    return 2 * int((a & b).sum()) / (int(a.sum()) + int(b.sum()))


def display_there() -> bool:
    """Whether a window can be opened and somebody may look at it."""
    if os.environ.get("CI"):
        return False
    if sys.platform in ("win32", "darwin"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


class _Camera:
    """Takes the two slices through the click at every step."""

    def __init__(self, job: evolve.Job) -> None:
        from src_models.cli.demo_page import Look

        point = inputs.read_points([POINT], job.frame).spheres[0].centre
        spacing = job.frame.spacing
        index = [round(x / h) for x, h in zip(point, spacing, strict=True)]
        grey, letters = job.frame.array, job.frame.volume.grid.letters
        self.looks = (
            Look("axial", 0, index[0], grey, spacing, letters),
            Look("coronal", 1, index[1], grey, spacing, letters),
        )
        self.moments: list[Moment] = []

    def __call__(self, state: LevelSetState) -> None:
        from src_models.cli.demo_page import Moment

        slices = tuple(look.cut(state.level_set).copy() for look in self.looks)
        self.moments.append(Moment(state.iteration, state.size / 1000, slices))


def _reading() -> ReadOptions:
    from src_models.files import ReadOptions

    return ReadOptions()


def _command() -> str:
    flags = " ".join(options.command_line(PARAMETERS))
    return f"lsnet evolve liver_ct.nii.gz --point {POINT} --out liver.nii.gz {flags}"


def _summary(job: evolve.Job, result: LevelSetResult, dice: float, seconds: float, folder: Path) -> list[str]:
    from src_models.levelset.evolution import REASONS

    size = report.size_text(result, job.frame.volume.grid)
    return [
        f"{REASONS[result.stop_reason]} {size} after {result.iteration} steps; {seconds:.0f} s in all.",
        f"Dice {dice:.3f} against the label that comes with the CT (made by a network, not by a reader).",
        f"Results are in {folder}",
        f"  {_NAMES[0]} with {record_path(job.target.out).name}, {_NAMES[1]}, and {_NAMES[2]}, which shows it all.",
    ]


def _open_viewer(folder: Path) -> None:
    """Show the results in napari, in a process of its own that outlives this one."""
    command = [sys.executable, "-m", "napari_lsnet.demo", str(folder)]
    quiet: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    viewer = subprocess.Popen(command, start_new_session=True, **quiet)  # noqa: S603 - our own module and folder
    try:
        code = viewer.wait(_VIEWER_START_S)
    except subprocess.TimeoutExpired:
        report.say("The viewer opens in a window of its own.")
        return
    if code != 0:
        report.say("The viewer did not open. It needs a Qt binding: pip install pyqt6")
