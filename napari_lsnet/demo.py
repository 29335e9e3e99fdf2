"""The results of ``lsnet demo`` in the viewer, with everything set so that Run grows the contour again."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari.viewer import Viewer

    from napari_lsnet.levelset.panel import LevelSetPanel


def show(viewer: Viewer, folder: Path) -> LevelSetPanel:
    """Put image, result, seed and panel of a demo into a viewer.

    Parameters
    ----------
    viewer : napari.Viewer
        An empty one.
    folder : Path
        Where ``lsnet demo`` left its results.

    Returns
    -------
    LevelSetPanel
        Docked, with the parameters and the seed of the record.

    Raises
    ------
    FileError
        Where the folder does not hold a demo's results.
    """
    from napari_lsnet.layers import LABELS_IN_3D, layer_arguments
    from napari_lsnet.levelset.panel import LevelSetPanel
    from napari_lsnet.samples import liver_ct
    from src_models.files import read_segmentation
    from src_models.levelset.initial import Seeds
    from src_models.levelset.parameters import LevelSetParameters
    from src_models.record import Record, record_path

    mask_file = folder / "liver.nii.gz"
    record = Record.read(record_path(mask_file))
    image_data, image_options, _ = liver_ct()[0]
    image = viewer.add_image(image_data, **image_options)
    mask = read_segmentation(mask_file)
    result = viewer.add_labels(mask.labels, **(layer_arguments(mask) | LABELS_IN_3D | {"name": "Liver (level set)"}))
    result.contour = 1
    panel = LevelSetPanel(viewer)
    viewer.window.add_dock_widget(panel, name="Level set: grow a contour", area="right")
    panel.inputs.image.choose(image)
    sphere = Seeds(**record.inputs["initial"]["seeds"]).spheres[0]
    panel.inputs.start.radius.setValue(sphere.radius)
    panel.inputs.start.draw_points()
    place = [x / h for x, h in zip(sphere.centre, mask.grid.spacing, strict=True)]
    points = panel.inputs.start.combo.layer
    points.add(place)
    points.mode = "pan_zoom"
    panel.form.set_value(LevelSetParameters(**record.parameters))
    viewer.dims.set_current_step(0, round(place[0]))
    return panel


def main() -> None:
    """Open a viewer on the folder named on the command line and stay until it is closed."""
    import napari

    show(napari.Viewer(title="napari-lsnet demo"), Path(sys.argv[1]))
    napari.run()


if __name__ == "__main__":
    main()
