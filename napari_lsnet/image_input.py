"""The choice of an image, with the line that says its size and place, and fields for what the layer does not say."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal  # type: ignore[attr-defined]
from qtpy.QtWidgets import QLineEdit, QVBoxLayout, QWidget

from napari_lsnet.layer_combo import LayerCombo
from napari_lsnet.layers import LayerVolume, declare_axes, declare_spacing, describe_layer
from napari_lsnet.section import wrapped_line
from src_models.errors import LsnetError

if TYPE_CHECKING:
    from napari.components import ViewerModel


class ImageInput(QWidget):
    """An image layer and what is known about it.

    Parameters
    ----------
    viewer : ViewerModel
        Whose layers.
    accepts : callable
        Which layers may be chosen.
    tip : str
        What the image is for.
    parent : QWidget, optional
        The usual.

    Attributes
    ----------
    changed : Signal()
        Another image, or something else is known about it.
    refused : Signal(str)
        Why what was typed could not be set.
    """

    changed = Signal()
    refused = Signal(str)

    def __init__(
        self, viewer: ViewerModel, accepts: Callable[[Any], bool], tip: str, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self.combo = LayerCombo(viewer, accepts, nothing="open an image first")
        self.combo.setToolTip(tip)
        self.geometry_line = wrapped_line()
        self.axes = QLineEdit()
        self.axes.setToolTip("What the axes are: t time, c channel, z y x space; press Enter to set")
        self.voxel_size = QLineEdit()
        self.voxel_size.setPlaceholderText("voxel size in mm, such as 3, 0.9, 0.9")
        self.voxel_size.setToolTip("Kept beside the layer, not written on it; press Enter to set")
        rows = QVBoxLayout(self)
        rows.setContentsMargins(0, 0, 0, 0)
        rows.setSpacing(4)
        for part in (self.combo, self.geometry_line, self.axes, self.voxel_size):
            rows.addWidget(part)
        self.combo.layer_changed.connect(lambda _: self.refresh())
        self.axes.returnPressed.connect(self._declare_axes)
        self.voxel_size.returnPressed.connect(self._declare_voxel_size)
        self._show()

    @property
    def layer(self) -> Any:
        """The chosen layer, or None."""
        return self.combo.layer

    @property
    def volume(self) -> LayerVolume | None:
        """What the image holds; None where there is none that can be used."""
        if self.layer is None:
            return None
        with suppress(LsnetError):
            return describe_layer(self.layer)
        return None

    def why_not(self) -> str:
        """Why the image cannot be used; "" where it can."""
        if self.layer is None:
            return "Open an image to begin."
        return "" if self.volume is not None else self.geometry_line.text()

    def lock(self, locked: bool) -> None:
        """While a run is under way, the image cannot be exchanged."""
        self.combo.setEnabled(not locked and self.layer is not None)
        for part in (self.axes, self.voxel_size):
            part.setEnabled(not locked)

    def refresh(self) -> None:
        """Read the layer anew and tell."""
        self._show()
        self.changed.emit()

    def _show(self) -> None:
        layer, volume = self.layer, self.volume
        text = "" if volume is None else volume.text
        if layer is not None and volume is None:
            try:
                describe_layer(layer)
            except LsnetError as error:
                text = str(error)
        self.geometry_line.setText(text)
        self.geometry_line.setVisible(bool(text))
        self.axes.setVisible(volume is not None and not volume.roles_clear)
        self.voxel_size.setVisible(volume is not None and not volume.spacing_known)
        if volume is not None:
            self.axes.setText(" ".join(volume.roles))

    def _declare_axes(self) -> None:
        roles: Any = self.axes.text().replace(",", " ").split()
        try:
            if self.layer is not None:
                declare_axes(self.layer, roles)
        except LsnetError as error:
            self.refused.emit(str(error))
            return
        self.refresh()

    def _declare_voxel_size(self) -> None:
        layer, volume = self.layer, self.volume
        if layer is None or volume is None:
            return
        try:
            values = [float(part) for part in self.voxel_size.text().replace(",", " ").split()]
            declare_spacing(layer, values * len(volume.spatial_axes) if len(values) == 1 else values)
        except ValueError:
            self.refused.emit("The voxel size is not a number. Give one value in mm per axis.")
            return
        except LsnetError as error:
            self.refused.emit(str(error))
            return
        self.refresh()
