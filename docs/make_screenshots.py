"""The pictures of the level set panel in the documentation, from the real window on the CT that comes with the program.

Four moments of a run on one slice and four in 3D, the timeline, walls, a leak and eight labels, at 1280 x 800. Run with
a screen, or under Xvfb.
"""

from __future__ import annotations

import argparse
import itertools
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).parent / "images"
SIZE = (1280, 800)
LIMIT_S = 900
GROWING_2D, LATER_2D = 60, 160
GROWING_3D, LATER_3D = 60, 170
BRANCH_AT, HELD = 40, 170
ABDOMEN = 18
WALL = ((19, 31), (30, 35), (38, 36), (52, 33), (60, 29))
PIN = ((62, 25), (66, 25))
LIVER, KIDNEY = (47, 21), (64, 86)
EIGHT = ((47, 21), (60, 35), (58, 80), (55, 106), (36, 66), (20, 60), (82, 45), (82, 81))
"""Places in the slice ABDOMEN, in voxels: liver, kidneys, spleen, vein, stomach, muscles of the back."""
VIEW_3D = (4.0, -12.0, 84.0)


def main() -> None:
    """Make all pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=FOLDER, help="Folder of the pictures.")
    parser.add_argument("--theme", choices=("dark", "light"), default="dark", help="Theme of napari.")
    parser.add_argument("--only", nargs="*", default=[], help="Names of functions here, such as walls_moments.")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as home:
        # Neither the settings nor the last values of whoever runs this get into the pictures.
        os.environ["XDG_CONFIG_HOME"] = home
        os.environ["NAPARI_CONFIG"] = str(Path(home) / "settings.yaml")
        every = (slice_moments, volume_moments, timeline_moments, walls_moments, leak_moments, labels_moments)
        chosen = [moments for moments in every if not arguments.only or moments.__name__ in arguments.only]
        for moments in chosen:
            Session(arguments.theme, arguments.out).play(moments)


class Session:
    """A window with the CT, its seed and the panel."""

    def __init__(self, theme: str, folder: Path) -> None:
        import napari
        from napari.settings import get_settings

        from napari_lsnet.levelset.panel import LevelSetPanel
        from napari_lsnet.samples import liver_ct
        from src_models.cli.demo import PARAMETERS, POINT
        from src_models.cli.inputs import present_point
        from src_models.files import read_volume
        from src_models.sample_data import sample_file

        get_settings().appearance.theme = theme
        self.folder = folder
        self.viewer = napari.Viewer(show=True, show_welcome_screen=False)
        self.viewer.theme = theme
        self.viewer.window.resize(*SIZE)
        (data, arguments, _), *_ = liver_ct()
        self.image = self.viewer.add_image(data, **arguments)
        self.panel = LevelSetPanel(self.viewer)
        self.viewer.window.add_dock_widget(self.panel, name="Level set: grow a contour", area="right")
        place, _, radius = POINT.partition(":")
        grid, order = (v := read_volume(sample_file("liver_ct/liver_ct.nii.gz"))).grid, v.stored_order
        centre = present_point([float(x) for x in place.split(",")], grid, order)
        self.index = np.array(centre) / grid.spacing
        self.panel.inputs.start.draw_points()
        self.seeds = self.panel.inputs.start.combo.layer
        self.panel.inputs.start.radius.setValue(float(radius))
        self.seeds.data = [self.index]
        self.viewer.dims.set_point(0, self.image.data_to_world(self.index)[0])
        self.panel.form.set_value(PARAMETERS)
        self.wait(lambda: False, 1.5)

    def play(self, moments: Callable[[Session], None]) -> None:
        """Take the pictures, then close the window."""
        moments(self)
        self.panel.cancel()
        self.wait(lambda: not self.panel.level_set_run.is_busy, LIMIT_S)
        self.viewer.close()

    def wait(self, until: Callable[[], bool], seconds: float) -> None:
        """Let the window live until something is so."""
        from qtpy.QtWidgets import QApplication

        end = time.monotonic() + seconds
        while not until() and time.monotonic() < end:
            QApplication.processEvents()
            time.sleep(0.005)

    def run_to(self, step: int) -> None:
        """Let the run come to a step, and go on."""
        seen = [0]
        follow = self.panel.level_set_run.updated
        follow.connect(lambda update: seen.__setitem__(0, update.report.iteration))
        self.wait(lambda: seen[0] >= step or self.panel.level_set_run.state.ended, LIMIT_S)

    def save(self, name: str) -> None:
        """The window as a picture."""
        path = self.folder / f"{name}.png"
        self.viewer.window.screenshot(str(path), flash=False, canvas_only=False)
        print(path)


def slice_moments(session: Session) -> None:
    """Seed, growing, paused, resting: on one slice."""
    panel = session.panel
    panel.inputs.extent.set_mode("slice")
    session.wait(lambda: False, 0.5)
    session.save("level_set_2d_1_seed")
    panel.run()
    session.run_to(GROWING_2D)
    session.save("level_set_2d_2_growing")
    session.run_to(LATER_2D)
    panel.run()
    session.wait(lambda: False, 0.5)
    session.save("level_set_2d_3_paused")
    panel.run()
    session.wait(lambda: panel.level_set_run.state.ended, LIMIT_S)
    session.wait(lambda: False, 0.5)
    session.save("level_set_2d_4_resting")


def timeline_moments(session: Session) -> None:
    """A run on one slice, a branch from an earlier step with more smoothing, and where the two differ."""
    panel = session.panel
    bar = panel.controls.timeline
    panel.inputs.extent.set_mode("slice")
    panel.run()
    session.wait(lambda: panel.level_set_run.state.ended, LIMIT_S)
    bar.slider.setValue(BRANCH_AT)
    session.wait(lambda: not panel.scrubbing.is_busy, LIMIT_S)
    parameters = panel.form.value()
    panel.form.set_value(parameters.model_copy(update={"curvature": 5 * parameters.curvature}))
    panel.run()
    session.wait(lambda: panel.level_set_run.state.ended, LIMIT_S)
    bar.branches.setCurrentIndex(0)
    bar.branch_chosen.emit(0)
    bar.slider.setValue(HELD)
    session.wait(lambda: not panel.scrubbing.is_busy, LIMIT_S)
    bar.compare_button.click()
    bar.branches.setCurrentIndex(1)
    bar.branch_chosen.emit(1)
    bar.slider.setValue(bar.slider.maximum() * 2 // 3)
    session.wait(lambda: not panel.scrubbing.is_busy, LIMIT_S)
    session.wait(lambda: False, 1.0)
    session.save("level_set_timeline")


def volume_moments(session: Session) -> None:
    """Seed, growing, paused, accepted: the whole volume in 3D."""
    panel, viewer = session.panel, session.viewer
    panel.inputs.extent.box.setText("0:64, 8:90, 5:95")
    viewer.dims.ndisplay = 3
    viewer.reset_view()
    camera = getattr(viewer, "scene", viewer).camera  # napari 0.9 moved it
    camera.angles = VIEW_3D
    session.image.rendering = "attenuated_mip"
    session.seeds.visible = False
    panel.step(1)
    session.wait(lambda: panel.level_set_run.state.value == "paused", LIMIT_S)
    save_in_3d(session, "level_set_3d_1_seed")
    panel.run()
    session.run_to(GROWING_3D)
    save_in_3d(session, "level_set_3d_2_growing")
    session.run_to(LATER_3D)
    panel.run()
    save_in_3d(session, "level_set_3d_3_paused")
    panel.run()
    session.wait(lambda: panel.level_set_run.state.ended, LIMIT_S)
    save_in_3d(session, "level_set_3d_4_resting")


def save_in_3d(session: Session, name: str) -> None:
    """A picture in 3D; between them the view is flat, because rendering without a graphics card takes long."""
    session.viewer.dims.ndisplay = 3
    session.wait(lambda: False, 1.0)
    session.save(name)
    session.viewer.dims.ndisplay = 2


def on_abdomen(session: Session, start: tuple[int, int]) -> None:
    """One slice through liver and kidneys, with a seed in it, larger in the window."""
    session.seeds.data = [(ABDOMEN, *start)]
    session.panel.inputs.start.radius.setValue(9)
    session.viewer.dims.set_point(0, session.image.data_to_world((ABDOMEN, 0, 0))[0])
    session.panel.inputs.extent.set_mode("slice")
    session.viewer.reset_view()
    session.wait(lambda: False, 0.5)


def stroke(layer: Any, corners: Sequence[tuple[int, int]]) -> None:
    """Draw a line with the layer's brush, on the slice."""
    for (y0, x0), (y1, x1) in itertools.pairwise(corners):
        for share in np.linspace(0, 1, 2 * max(abs(y1 - y0), abs(x1 - x0)) + 1):
            layer.paint((ABDOMEN, y0 + share * (y1 - y0), x0 + share * (x1 - x0)), 1)


def walls_moments(session: Session) -> None:
    """A contour held by a wall that was painted while it grew, and a pin."""
    panel = session.panel
    on_abdomen(session, LIVER)
    values = {"speed": "region", "lower": -20.0, "upper": 120.0, "curvature": 1.0}
    panel.form.set_value(type(panel.form.value())(**values))
    panel.step(8)
    session.wait(lambda: panel.level_set_run.state.value == "paused", LIMIT_S)
    for kind, corners in (("walls", WALL), ("pins", PIN)):
        panel.steering.paint(kind)
        stroke(panel.steering.layer(kind), corners)
    session.wait(lambda: False, 0.5)
    panel.run()
    session.wait(lambda: panel.level_set_run.state.ended, LIMIT_S)
    session.wait(lambda: False, 0.5)
    session.save("level_set_walls")


def leak_moments(session: Session) -> None:
    """The moment before a leak out of a kidney, with the ring where it was."""
    panel = session.panel
    on_abdomen(session, KIDNEY)
    panel.form.set_value(type(panel.form.value())(sigma=3.0, contrast=0.005, curvature=1.0))
    panel.run()
    session.wait(lambda: panel.level_set_run.state.ended, LIMIT_S)
    panel.steering.leak_button.click()
    session.wait(lambda: False, 0.5)
    session.save("level_set_leak_guard")


def labels_moments(session: Session) -> None:
    """Eight structures at once, from eight painted labels."""
    panel = session.panel
    on_abdomen(session, LIVER)
    panel.inputs.start.draw_labels()
    starts = panel.inputs.start.combo.layer
    starts.n_edit_dimensions, starts.brush_size = 2, 5
    for number, place in enumerate(EIGHT, 1):
        starts.paint((ABDOMEN, *place), number)
    starts.visible = session.seeds.visible = False
    panel.inputs.start.several.setChecked(True)
    values = {"speed": "region", "lower": -20.0, "upper": 120.0, "curvature": 2.5}
    panel.form.set_value(type(panel.form.value())(**values))
    panel.run()
    session.wait(lambda: panel.level_set_run.state.ended, LIMIT_S)
    session.wait(lambda: False, 0.5)
    session.save("level_set_eight_labels")


if __name__ == "__main__":
    main()
