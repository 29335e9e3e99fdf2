"""The pictures of the panels for networks in the documentation, from the real window on the samples of the program.

Segmenting CT slices with the liver model that comes with the program, a short training on the same slices, and a level
set network trained from a few accepted slices of a CT and watched on another one. Run with a screen, or under Xvfb;
each training takes some minutes.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).parent / "images"
SAMPLES = Path(__file__).parents[1] / "sample_data"
SIZE = (1280, 800)
LIMIT_S = 1200
EPOCHS = 12
LSN_EPOCHS = 24
ACCEPTED = range(0, 34, 3)
"""Slices of the CT that the level set network learns from."""
UNSEEN = 8
"""One that it does not."""


def main() -> None:
    """Make all pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=FOLDER, help="Folder of the pictures.")
    parser.add_argument("--theme", choices=("dark", "light"), default="dark", help="Theme of napari.")
    parser.add_argument("--size", default="x".join(map(str, SIZE)), help="Of the window, such as 1600x1000.")
    parser.add_argument("--only", nargs="*", default=[], help="Names of functions here, such as segment_moments.")
    parser.add_argument("--models", type=Path, help="A folder of models beside those of the program.")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as home:
        # Neither the settings nor the models of whoever runs this get into the pictures.
        os.environ["XDG_CONFIG_HOME"] = home
        os.environ["NAPARI_CONFIG"] = str(Path(home) / "settings.yaml")
        os.environ["LSNET_MODELS"] = str(arguments.models or Path(home) / "models")
        for moments in (
            segment_moments,
            segment_mr_moments,
            train_moments,
            models_moments,
            kernel_moments,
            kernel_3d_moments,
            kernel_lsn_moments,
            lsn_moments,
        ):
            if not arguments.only or moments.__name__ in arguments.only:
                size = tuple(int(n) for n in arguments.size.split("x"))
                window = Window(arguments.theme, arguments.out, size)  # type: ignore[arg-type]
                moments(window, Path(home))
                window.viewer.close()


class Window:
    """A napari window that is photographed."""

    def __init__(self, theme: str, folder: Path, size: tuple[int, int]) -> None:
        import napari
        from napari.settings import get_settings

        get_settings().appearance.theme = theme
        self.folder = folder
        self.viewer = napari.Viewer(show=True, show_welcome_screen=False)
        self.viewer.theme = theme
        self.viewer.window.resize(*size)

    def wait(self, until: Callable[[], bool], seconds: float) -> None:
        """Let the window live until something is so."""
        from qtpy.QtWidgets import QApplication

        end = time.monotonic() + seconds
        while not until() and time.monotonic() < end:
            QApplication.processEvents()
            time.sleep(0.005)

    def save(self, name: str) -> None:
        """The window as a picture."""
        self.wait(lambda: False, 0.6)
        path = self.folder / f"{name}.png"
        self.viewer.window.screenshot(str(path), flash=False, canvas_only=False)
        print(path, flush=True)


def segment_moments(window: Window, _home: Path) -> None:
    """Image and model chosen, and the labels with their probability."""
    from napari_lsnet.samples import liver_slices
    from napari_lsnet.segment.panel import SegmentPanel

    viewer = window.viewer
    (data, arguments, _), *_ = liver_slices()
    viewer.add_image(data, **arguments)
    panel = SegmentPanel(viewer)
    viewer.window.add_dock_widget(panel, name="Segment with a network", area="right")
    panel.inputs.models.refresh()
    panel.inputs.models.choose(next(c.title for c in panel.inputs.models.choices if "liver" in c.title))
    viewer.dims.set_current_step(0, 1)
    window.wait(lambda: False, 1.0)
    window.wait(lambda: bool(panel.forecast_line.text()), LIMIT_S)
    window.save("segment_1_ready")
    panel.form.set_value(panel.form.value().model_copy(update={"probabilities": True, "entropy": True}))
    panel.run()
    window.wait(lambda: panel.segment_run.state.ended, LIMIT_S)
    window.save("segment_2_done")
    panel.segment_run.layers["labels"].visible = False
    panel.segment_run.layers["entropy"].visible = True
    panel.inputs.models.about_section.header.setChecked(True)
    window.save("segment_3_uncertainty")


def segment_mr_moments(window: Window, _home: Path) -> None:
    """Both ends of a hippocampus in an MR, in 3D."""
    from napari_lsnet.samples import hippocampus_mr
    from napari_lsnet.segment.panel import SegmentPanel

    viewer = window.viewer
    (data, arguments, _), *_ = hippocampus_mr()
    viewer.add_image(data, **arguments)
    panel = SegmentPanel(viewer)
    viewer.window.add_dock_widget(panel, name="Segment with a network", area="right")
    panel.inputs.models.refresh()
    panel.inputs.models.choose(next(c.title for c in panel.inputs.models.choices if "hippocampus" in c.title))
    window.wait(lambda: bool(panel.forecast_line.text()), LIMIT_S)
    panel.run()
    window.wait(lambda: panel.segment_run.state.ended, LIMIT_S)
    found = panel.segment_run.layers["labels"].data
    # both ends are to be seen: the plane where the smaller one is largest
    both = [min((plane == label).sum() for label in (1, 2)) for plane in found]
    viewer.dims.set_current_step(0, int(np.argmax(both)))
    window.save("segment_4_mr")


def models_moments(window: Window, _home: Path) -> None:
    """The models that come with the program, and the card of one."""
    from napari_lsnet.models.panel import ModelsPanel

    panel = ModelsPanel(window.viewer)
    window.viewer.window.add_dock_widget(panel, name="Manage models", area="right")
    panel.refresh()
    window.wait(lambda: panel.table.rowCount() > 0, LIMIT_S)
    panel.table.selectRow(0)
    window.save("models")


def kernel_moments(window: Window, home: Path) -> None:
    """The liver model: shares, a card, a feature map, a knock-out with controls, why at a place, and two states."""
    from napari_lsnet.samples import liver_slices

    (image, arguments, _), (labels, label_arguments, _) = liver_slices()
    window.viewer.add_image(image, **arguments)
    reference = window.viewer.add_labels(labels, visible=False, **label_arguments)
    panel = _analysed(window, "liver")
    results, part = panel.results, panel.on_image
    results.layers.choose(1)
    results.shares.tick_only(frozenset({"edge", "mean", "gaussian"}))
    results.both_button.click()
    window.save("kernels_2d_1_layers")
    results.layers.choose(0)
    results.arrows.setChecked(True)
    results.ellipses.setChecked(True)
    results.show_row(5)
    results.open_tab("Kernel")
    results.both_button.click()
    window.save("kernels_2d_2_card")
    results.arrows.setChecked(False)
    results.ellipses.setChecked(False)
    _show_map(window, panel, results.analysis.report.layers[2].first_row + 40)
    window.save("kernels_2d_3_feature_map")
    part.map_tick.setChecked(False)
    results.layers.choose(17)
    results.shares.tick_only(frozenset({"edge"}))
    part.what.setCurrentIndex(part.what.findData("everywhere"))
    part.what.activated.emit(part.what.currentIndex())
    part.reference.choose(reference)
    part.knock_button.click()
    window.wait(lambda: part.experiment_run.state.ended, LIMIT_S)
    results.image_button.click()
    window.save("kernels_2d_4_knock_out")
    for layer in part.experiment_run.layers.values():
        window.viewer.layers.remove(layer)
    results.shares.tick_only(None)
    part.knock_out_section.header.setChecked(False)
    reference.visible, reference.contour = True, 2
    _ask_why(window, panel, _on_boundary(labels, int(window.viewer.dims.current_step[0])))
    _look_at_image_and(window, panel, "montage")
    window.save("kernels_2d_5_why")
    results.compare.models.refresh()
    results.compare.models.open(_tuned(image, labels, home))
    results.compare_section.header.setChecked(True)
    results.compare.compare()
    window.wait(lambda: not results.compare.is_busy, LIMIT_S)
    results.layers.choose(1)
    results.open_tab("Layers")
    results.both_button.click()
    window.save("kernels_2d_6_compare")


def kernel_3d_moments(window: Window, _home: Path) -> None:
    """The hippocampus model: a layer filtered, a card of three planes, and a feature map."""
    from napari_lsnet.samples import hippocampus_mr

    (image, arguments, _), *_ = hippocampus_mr()
    window.viewer.add_image(image, **arguments)
    panel = _analysed(window, "hippocampus")
    results = panel.results
    results.layers.choose(1)
    results.ellipses.setChecked(True)
    results.shares.tick_only(frozenset({"edge", "mean"}))
    results.both_button.click()
    window.save("kernels_3d_1_layers")
    results.ellipses.setChecked(False)
    results.show_row(int(results.shown_rows()[3]))
    results.open_tab("Kernel")
    results.montage_button.click()
    window.save("kernels_3d_2_card")
    _show_map(window, panel, results.analysis.report.layers[2].first_row + 40)
    window.save("kernels_3d_3_feature_map")
    panel.on_image.map_tick.setChecked(False)
    panel.on_image.knock_out_section.header.setChecked(False)
    middle = [n // 2 for n in image.shape]
    window.viewer.dims.set_current_step(0, middle[0])
    _ask_why(window, panel, middle)
    _look_at_image_and(window, panel, "montage")
    window.save("kernels_3d_4_why")


def kernel_lsn_moments(window: Window, _home: Path) -> None:
    """The level set network that begins at a click: what moved u at a place, and its kernels as terms of the solver."""
    from napari_lsnet.samples import liver_slices

    (image, arguments, _), (labels, label_arguments, _) = liver_slices()
    layer = window.viewer.add_image(image, **arguments)
    window.viewer.add_labels(labels, **label_arguments).contour = 2
    number = int(window.viewer.dims.current_step[0])
    inside = np.argwhere(labels[number] > 0)
    middle = inside[np.argmin(np.square(inside - inside.mean(0)).sum(1))]
    window.viewer.add_points([layer.data_to_world((number, *middle))], name="Click", size=6, units=layer.units)
    panel = _analysed(window, "lsn-ct-click")
    results, part = panel.results, panel.on_image
    part.knock_out_section.header.setChecked(False)
    y, x = _on_boundary(labels, number)[1:]
    _ask_why(window, panel, (number, y, x))
    _look_at_image_and(window, panel, "montage")
    window.save("kernels_lsn_1_why")
    for place, found in enumerate(results.analysis.report.layers):
        if found.layer.name.startswith("levels.0.steps"):
            results.layers.choose(place)
            # the learned ones have small sums, and spare ones may have no slope
            part.level_set.set_role(project=True)
            part.level_set.leave_button.click()
    part.level_set_section.header.setChecked(True)
    results.montage_button.click()
    window.save("kernels_lsn_2_level_set")


def _look_at_image_and(window: Window, panel: Any, *names: str) -> None:
    """The image and some pictures of kernels on one canvas."""
    from napari_lsnet.kernels.place import look_at

    results = panel.results
    look_at(window.viewer, [panel.on_image.image.layer, *results.shown.layers(*names)], results._canvas())


def _ask_why(window: Window, panel: Any, voxel: Any) -> None:
    """Ask about a voxel of the image, and choose the first line that is about a kernel."""
    why = panel.on_image.why
    panel.results.open_tab("On the image")
    why.ask(panel.on_image.image.layer.data_to_world(voxel))
    window.wait(lambda: not why.is_busy, LIMIT_S)
    first = why.tree.topLevelItem(0)
    lines = [why.tree.topLevelItem(place) for place in range(why.tree.topLevelItemCount())]
    first = next((line for line in lines if line.childCount()), first)
    while first.childCount():
        first = first.child(0)
    why.tree.setCurrentItem(first)


def _on_boundary(labels: Any, slice_number: int) -> tuple[int, int, int]:
    """The place of a label's boundary that lies farthest to the right of a slice."""
    inside = np.argwhere(labels[slice_number] > 0)
    y, x = inside[np.argmax(inside[:, 1])]
    return (slice_number, int(y), int(x))


def _tuned(images: Any, labels: Any, home: Path) -> Path:
    """The liver model after a few more steps on the slices of the sample: another state of the same network."""
    import torch

    from src_models.preprocessing.prepare import prepare
    from src_models.weights import store

    model = store.load("unet-liver-2d")
    network = model.network.train()
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-4)
    preprocessing = model.card.preprocessing.for_unit("px")
    for image, wanted in zip(images, labels, strict=True):
        x = torch.from_numpy(prepare(image[None], (1.0, 1.0), preprocessing).array)[None]
        loss = torch.nn.functional.cross_entropy(network(x), torch.from_numpy(wanted > 0).long()[None])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    folder = home / "tuned"
    folder.mkdir()
    made = store.save(network.eval(), model.card.model_copy(update={"name": "liver-tuned"}), folder)
    return folder / f"{made.name}@{made.version}.safetensors"


def _analysed(window: Window, name: str) -> Any:
    """The panel with the report of a model."""
    from napari_lsnet.kernels.panel import KernelsPanel

    panel = KernelsPanel(window.viewer)
    window.viewer.window.add_dock_widget(panel, name="Analyse kernels", area="right")
    panel.models.refresh()
    panel.models.choose(next(choice.title for choice in panel.models.choices if name in choice.title))
    panel.run()
    window.wait(lambda: panel.analysis_run.state.ended, LIMIT_S)
    return panel


def _show_map(window: Window, panel: Any, row: int) -> None:
    panel.results.show_row(row)
    panel.results.open_tab("On the image")
    panel.on_image.map_tick.setChecked(True)
    window.wait(lambda: panel.on_image.features.layer is not None, LIMIT_S)
    panel.results.image_button.click()


def train_moments(window: Window, home: Path) -> None:
    """Data checked, the plan, and curves with a sample."""
    from napari_lsnet.train.panel import TrainPanel

    panel = TrainPanel(window.viewer)
    window.viewer.window.add_dock_widget(panel, name="Train a network", area="right")
    # no path of the machine that takes them shall be in the pictures
    (home / SAMPLES.name).symlink_to(SAMPLES)
    os.chdir(home)
    panel.data.folder.setText(f"{SAMPLES.name}/liver_slices")
    panel.data.groups.setText("(p[0-9]+)_")
    panel.data.labels.setText("1=liver")
    panel.data.check()
    window.wait(lambda: not panel.data.is_checking, LIMIT_S)
    window.save("train_1_data")
    panel.plan.out.setText("liver_run")
    choices = {"epochs": EPOCHS, "iterations": 8, "batch": 2, "patch": (128, 128), "device": "cpu"}
    panel.plan.form.set_value(panel.plan.form.value().model_copy(update=choices))
    panel.advance()
    window.wait(lambda: not panel.planning.is_busy, LIMIT_S)
    window.save("train_2_plan")
    panel.advance()
    run = panel.train_run
    window.wait(lambda: len(run.curves.dice) >= EPOCHS - 1 or run.state.ended, LIMIT_S)
    window.save("train_3_run")
    panel.cancel()
    window.wait(lambda: run.state.ended, LIMIT_S)


def lsn_moments(window: Window, home: Path) -> None:
    """A level set network trained from accepted slices with its drift, and its contour on another slice."""
    from napari_lsnet.samples import liver_ct
    from napari_lsnet.segment.panel import SegmentPanel
    from napari_lsnet.train.panel import TrainPanel

    viewer = window.viewer
    (data, arguments, _), (drawn, label_arguments, _), *_ = liver_ct()
    image = viewer.add_image(data, **arguments)
    accepted = np.zeros_like(drawn)
    accepted[list(ACCEPTED)] = drawn[list(ACCEPTED)]
    labels = viewer.add_labels(accepted, **(label_arguments | {"name": "Accepted slices"}))
    viewer.dims.set_current_step(0, ACCEPTED[2])
    trainer = TrainPanel(viewer)
    dock = viewer.window.add_dock_widget(trainer, name="Train a network", area="right")
    os.chdir(home)
    trainer.data.kind.setCurrentIndex(1)
    trainer.data.pairs.image.choose(image)
    trainer.data.pairs.labels.choose(labels)
    trainer.data.pairs.add()
    trainer.data.channels.setText("ct")
    trainer.data.labels.setText("1=liver")
    trainer.plan.out.setText("lsn_run")
    trainer.plan.name.setText("lsn-liver-click")
    choices = {"network": "lsn", "lsn_start": "seed", "epochs": LSN_EPOCHS, "iterations": 6, "batch": 2}
    choices |= {"patch": (96, 96), "device": "cpu", "fold": "all"}
    trainer.plan.form.set_value(trainer.plan.form.value().model_copy(update=choices))
    trainer.advance()
    window.wait(lambda: not trainer.planning.is_busy, LIMIT_S)
    trainer.advance()
    run = trainer.train_run
    window.wait(lambda: run.state.ended, LIMIT_S)
    window.save("lsn_1_train")
    viewer.window.remove_dock_widget(dock)
    labels.visible = False
    panel = SegmentPanel(viewer)
    viewer.window.add_dock_widget(panel, name="Segment with a network", area="right")
    panel.inputs.models.refresh()
    panel.inputs.models.choose(next(c.title for c in panel.inputs.models.choices if "lsn-liver" in c.title))
    viewer.dims.set_current_step(0, UNSEEN)
    panel.inputs.extent.set_mode("slice")
    panel.inputs.click.make()
    place = np.argwhere(drawn[UNSEEN] > 0)
    inner = place[np.argmin(np.square(place - place.mean(0)).sum(1))]
    panel.inputs.click.layer.add((UNSEEN, *inner))
    panel.watch()
    window.wait(lambda: panel.segment_run.state.ended, LIMIT_S)
    panel.steps.slider.setValue(len(panel.segment_run.steps) // 3)
    window.save("lsn_2_watch")


if __name__ == "__main__":
    main()
