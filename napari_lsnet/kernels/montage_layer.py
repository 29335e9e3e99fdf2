"""The montage as a layer: an image that says in the status bar which kernel and entry lies under the mouse."""

from __future__ import annotations

from typing import Any

import napari.layers
import numpy as np

from napari_lsnet.kernels.tiles import Tiling


class Image(napari.layers.Image):  # type: ignore[misc]
    """A montage of kernels.

    It has the name of its base: napari reads the kind of a layer, for its list and for saving, from the name of the
    class.

    Attributes
    ----------
    tiling : Tiling
        Where each kernel lies.
    in_channels : ndarray of shape (kernels,)
        The global input channel of each kernel.
    title : str
        Of the layer of the network.
    """

    tiling: Tiling | None = None
    in_channels: Any = ()
    title: str = ""

    def kernel_at(self, position: Any) -> tuple[int, tuple[int, ...]] | None:
        """The kernel, counted within its layer, and its entry at a place in the world; None where there is none."""
        if self.tiling is None or len(position) < self.ndim:
            return None
        place = self.world_to_data(position)[-self.ndim :]
        found = self.tiling.at(float(place[-2]), float(place[-1]))
        if found is None:
            return None
        kernel, entry = found
        plane = tuple(int(min(max(np.floor(z + 0.5), 0), self.tiling.size[0] - 1)) for z in place[:-2])
        return kernel, (*plane, *entry)

    def get_status(self, position: Any = None, *, world: bool = False, **options: Any) -> dict[str, Any]:
        """What the status bar says; see `napari.layers.Layer.get_status`."""
        status: dict[str, Any] = super().get_status(position, world=world, **options)
        if position is None or not world or self.tiling is None:
            return status
        found = self.kernel_at(position)
        if found is None:
            text = f"{self.title}: between kernels"
        else:
            kernel, entry = found
            value = float(np.asarray(self.data)[(*entry[:-2], *self._pixel(kernel, entry))])
            text = (
                f"{self.title}, output {kernel // self.tiling.inside}, input {int(self.in_channels[kernel])}, "
                f"entry {entry}: {value:.4g}"
            )
        status["coordinates"] = status["coords"] = text
        status["value"] = ""
        return status

    def _pixel(self, kernel: int, entry: tuple[int, ...]) -> tuple[int, int]:
        assert self.tiling is not None
        row, column = self.tiling.corner(kernel)
        return row + entry[-2], column + entry[-1]
