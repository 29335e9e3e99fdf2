"""What may lie on the tiles of the montage: arrows of advection, and ellipses or axes of diffusion."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from napari_lsnet.kernels.arrows import arrow_look, arrows_of
from napari_lsnet.kernels.ellipses import MOST_ELLIPSES, Spread, spread_of

if TYPE_CHECKING:
    from src_models.kernels.result import KernelReport, LayerReport

ON_TILES = ("arrows", "ellipses", "axes")
_NAME = "Diffusion (blue smooths, orange sharpens, purple both)"
_LINES = "Diffusion (axes: blue smooths, orange sharpens)"
_EDGE = 0.12
_FAINT = "40"
"""Of the inside of an ellipse, as the end of a colour."""


class HasMontage(Protocol):
    """What overlays need to know of the layers on show."""

    @property
    def report(self) -> KernelReport | None:
        """The report on show."""

    @property
    def found(self) -> LayerReport | None:
        """The layer of the network on show."""

    def layer(self, name: str) -> Any:
        """A layer of the viewer by its name here, or None."""

    def add(self, key: str, how: str, data: Any, **options: Any) -> None:
        """A new layer under a name."""


class Overlays:
    """Draws what is wanted on the tiles, and again for another layer of the network.

    Parameters
    ----------
    shown : HasMontage
        With the montage.
    """

    def __init__(self, shown: HasMontage) -> None:
        self._shown = shown
        self._arrows = self._diffusion = False

    def show_arrows(self, on: bool) -> None:
        """Arrows on the tiles, from now on or no longer."""
        self._arrows = on
        self._draw_arrows()

    def show_diffusion(self, on: bool) -> None:
        """Ellipses on the tiles, from now on or no longer."""
        self._diffusion = on
        self._draw_diffusion()

    def draw(self) -> None:
        """For what is on show now."""
        self._draw_arrows()
        self._draw_diffusion()

    def _draw_arrows(self) -> None:
        shown = self._shown
        found, report, montage = shown.found, shown.report, shown.layer("montage")
        if not self._arrows or montage is None or found is None or report is None:
            self._hide("arrows")
            return
        arrows, _ = arrows_of(montage.tiling, report.table, found.rows)
        self._fill_vectors("arrows", arrows, arrow_look(montage))

    def _draw_diffusion(self) -> None:
        shown = self._shown
        found, montage = shown.found, shown.layer("montage")
        if not self._diffusion or montage is None or found is None:
            self._hide("ellipses", "axes")
            return
        spread = spread_of(montage.tiling, found.layer)
        if found.layer.ndim == 2 and found.layer.count <= MOST_ELLIPSES:
            self._hide("axes")
            self._fill_ellipses(spread, montage)
            return
        self._hide("ellipses")
        lines, colours = spread.lines()
        look = arrow_look(montage) | {
            "name": _LINES,
            "vector_style": "line",
            "edge_color": colours if colours else "white",
        }
        self._fill_vectors("axes", lines, look)

    def _fill_vectors(self, key: str, data: Any, look: dict[str, Any]) -> None:
        layer = self._shown.layer(key)
        if layer is None:
            if len(data):
                self._shown.add(key, "add_vectors", data, **look)
            return
        # what is hidden is not sliced, and its colours would be put on the lines that it had
        layer.visible = True
        layer.data = data
        if len(data):
            for name in ("scale", "translate", "units", "edge_color"):
                setattr(layer, name, look[name])
        layer.visible = bool(len(data))

    def _fill_ellipses(self, spread: Spread, montage: Any) -> None:
        kinds = spread.kinds()
        look = {
            "shape_type": "ellipse",
            "edge_width": _EDGE,
            "edge_color": kinds,
            "face_color": [f"{colour}{_FAINT}" for colour in kinds],
        }
        place = {
            "scale": montage.scale[-2:],
            "translate": montage.translate[-2:],
            "units": tuple(montage.units)[-2:],
        }
        layer = self._shown.layer("ellipses")
        if layer is None:
            if kinds:
                self._shown.add("ellipses", "add_shapes", list(spread.boxes()), name=_NAME, **look, **place)
            return
        layer.visible = True
        layer.data = []
        for name, value in place.items():
            setattr(layer, name, value)
        if kinds:
            layer.add(list(spread.boxes()), **look)
        layer.visible = bool(kinds)

    def _hide(self, *keys: str) -> None:
        for key in keys:
            layer = self._shown.layer(key)
            if layer is not None:
                layer.visible = False
