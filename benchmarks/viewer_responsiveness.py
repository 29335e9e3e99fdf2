"""How well the viewer answers while a level set evolves: pictures per second of panning and zooming, idle and busy.

Prints, for a slice of 512 x 512 and for a volume of 128^3, how often the window redraws while the camera is moved as
fast as it will go, how long the longest wait was, and how often the contour was drawn. The claim: 20 a second or more.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

SECONDS = 6.0
CLAIM = 20.0
SIZE = (1280, 800)


def main() -> None:
    """Measure and print the table."""
    with tempfile.TemporaryDirectory() as home:
        os.environ["XDG_CONFIG_HOME"] = home
        os.environ["NAPARI_CONFIG"] = str(Path(home) / "settings.yaml")
        print(
            "| image | moved | idle, frames/s | evolving, frames/s | longest wait, ms | contour, pictures/s | steps/s |"
        )
        print("|---|---|---|---|---|---|---|")
        for name, shape in (("512 x 512", (512, 512)), ("128 x 128 x 128", (128, 128, 128))):
            for row in measure(shape):
                print(f"| {name} | {row}")


def measure(shape: tuple[int, ...]) -> list[str]:
    """The rows of one image."""
    import napari
    from qtpy.QtOpenGLWidgets import QOpenGLWidget
    from qtpy.QtWidgets import QApplication

    from napari_lsnet.levelset.panel import LevelSetPanel
    from src_models.levelset.parameters import LevelSetParameters

    viewer = napari.Viewer(show=True, show_welcome_screen=False)
    viewer.window.resize(*SIZE)
    viewer.add_image(bright_ball(shape), name="ball", units="mm")
    panel = LevelSetPanel(viewer)
    viewer.window.add_dock_widget(panel, name="Level set", area="right")
    panel.inputs.start.draw_points()
    panel.inputs.start.combo.layer.data = [[n / 2 for n in shape]]
    panel.inputs.start.radius.setValue(min(shape) / 10)
    panel.form.set_value(LevelSetParameters(speed="region", lower=110.0, auto_stop=False, steps=100_000))
    if len(shape) == 3:
        viewer.dims.set_point(0, shape[0] // 2)
    camera = getattr(viewer, "scene", viewer).camera  # napari 0.9 moved it
    zoom = camera.zoom
    moves: dict[str, Callable[[int], None]] = {
        "zoom": lambda k: setattr(camera, "zoom", zoom * (1 + 0.3 * np.sin(k / 5))),
    }
    if len(shape) == 3:
        moves["slices"] = lambda k: viewer.dims.set_point(0, shape[0] // 2 + k % 20 - 10)
    drawn_frames: list[float] = []
    for canvas in QApplication.allWidgets():
        if isinstance(canvas, QOpenGLWidget):
            canvas.frameSwapped.connect(lambda: drawn_frames.append(time.monotonic()))
    rows = []
    for what, move in moves.items():
        idle, _ = frames(move, drawn_frames)
        pictures: list[Any] = []
        panel.level_set_run.updated.connect(pictures.append)
        panel.run()
        end = time.monotonic() + 60
        while not pictures and time.monotonic() < end:
            QApplication.processEvents()
        pictures.clear()
        busy, longest = frames(move, drawn_frames)
        drawn = sum(update.picture is not None for update in pictures) / SECONDS
        steps = sum(len(update.history) for update in pictures) / SECONDS
        panel.rewind()
        while panel.level_set_run.is_busy:
            QApplication.processEvents()
        verdict = "" if busy >= CLAIM else " (below the claim)"
        rows.append(f"{what} | {idle:.0f} | {busy:.0f}{verdict} | {1000 * longest:.0f} | {drawn:.0f} | {steps:.0f} |")
    viewer.close()
    return rows


def frames(move: Callable[[int], None], drawn: list[float]) -> tuple[float, float]:
    """Frames per second that reach the screen while something is moved, and the longest time between two, in s."""
    from qtpy.QtWidgets import QApplication

    count = 0
    drawn.clear()
    began = time.monotonic()
    while time.monotonic() - began < SECONDS:
        move(count)
        QApplication.processEvents()
        count += 1
    return len(drawn) / SECONDS, float(np.diff([began, *drawn]).max(initial=0.0))


def bright_ball(shape: tuple[int, ...]) -> np.ndarray:
    """Grey 160 on 60, with noise of sd 4."""
    axes = np.meshgrid(*[np.arange(n) - n / 2 for n in shape], indexing="ij", sparse=True)
    distance = np.sqrt(sum(a**2 for a in axes))
    noise = np.random.default_rng(0).normal(0, 4, shape)
    return (60 + 100 / (1 + np.exp(distance - 0.3 * min(shape))) + noise).astype(np.float32)


if __name__ == "__main__":
    main()
