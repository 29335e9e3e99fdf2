"""From one dock to another: layers that a run made become the inputs of the level set."""

from __future__ import annotations

from typing import Any

from napari_lsnet.compat import PLUGIN

LEVEL_SET = "Level set: grow a contour"


def to_level_set(viewer: Any, probability: Any, labels: Any, label: int) -> Any:
    """Open the level set with a probability as its image: it grows where the probability is above one half.

    Parameters
    ----------
    viewer : Viewer
        With the layers.
    probability : Image
        From 0 to 1.
    labels : Labels
        On the same voxels; where the contour starts.
    label : int
        The label that counts.

    Returns
    -------
    LevelSetPanel
        Ready to run.
    """
    _, panel = viewer.window.add_plugin_dock_widget(PLUGIN, LEVEL_SET, tabify=True)
    panel.take_over(probability, labels, label, speed="region", lower=0.5)
    return panel
