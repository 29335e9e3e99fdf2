"""The layers of this room: montage, components, known kernels, the veil of the filter, and the mark on one kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_lsnet.kernels.colours import KNOWN, MARK, colours_of, cover_colours, weight_colours
from napari_lsnet.kernels.filtering import Filter, dimness, shown_rows
from napari_lsnet.kernels.montage_layer import Image
from napari_lsnet.kernels.overlays import ON_TILES, Overlays
from napari_lsnet.kernels.place import ROLE, Frame, frame_beside
from napari_lsnet.kernels.tiles import Tiling
from napari_lsnet.roles import role_of
from napari_lsnet.theme import colours

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from src_models.kernels.result import Categories, KernelReport, LayerReport

MOST_POINTS = 50_000
_POINT = 0.014
_REACH = 0.03
_MARGIN = 0.06
_EDGE = 0.008


class ShownLayers:
    """Shows one layer of a network, and one kernel of it.

    Parameters
    ----------
    viewer : ViewerModel
        Where.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        self._layers: dict[str, Any] = {}
        self._report: KernelReport | None = None
        self._found: LayerReport | None = None
        self._frame: Frame | None = None
        self._points: NDArray[np.intp] = np.zeros(0, np.intp)
        self._row: int | None = None
        self._column = "label"
        self._span = 1.0
        self.notes: list[str] = []
        self.overlays = Overlays(self)

    @property
    def report(self) -> KernelReport | None:
        """The report on show."""
        return self._report

    @property
    def found(self) -> LayerReport | None:
        """The layer on show."""
        return self._found

    @property
    def row(self) -> int | None:
        """The row of the kernel on show."""
        return self._row

    def layer(self, name: str) -> Any:
        """A layer by its name, or None: montage, components, known, veil, mark, arrows, ellipses, axes."""
        layer = self._layers.get(name)
        return layer if layer is not None and layer in self._viewer.layers else None

    # ---- what is shown

    def show(
        self,
        report: KernelReport,
        index: int,
        *,
        whole_scale: bool,
        colour_by: str,
        chosen: Filter,
        stacked: bool = False,
    ) -> None:
        """Show a layer of a network.

        Parameters
        ----------
        report : KernelReport
            Of the network.
        index : int
            Of the layer in it.
        whole_scale : bool
            Whether the colour scale is that of all layers.
        colour_by : str
            Column of words for the points.
        chosen : Filter
            What is hidden.
        stacked : bool
            Whether the components stand below the montage.
        """
        before = self._viewer.layers.selection.active
        kept = before is not None and before not in self._layers.values() and self.layer("montage") is not None
        self._remove_strays()
        self._report, self._found = report, report.layers[index]
        self._row = None
        self.notes = []
        frame = frame_beside(self._viewer, side=float(max(self._tiling.shape[-2:])), stacked=stacked)
        self._frame = frame
        self._column = colour_by
        self._show_montage(whole_scale)
        self._show_components()
        self.overlays.draw()
        self.filter(chosen)
        # the status bar tells of the selected layer: at first that is the montage
        self._viewer.layers.selection.active = before if kept else self.layer("montage")

    def filter(self, chosen: Filter) -> None:
        """Hide points and dim tiles."""
        found, report = self._found, self._report
        if found is None or report is None:
            return
        shown = shown_rows(report.table, found.rows, chosen)
        points = self.layer("components")
        if points is not None:
            points.shown = shown[self._points]
            self._paint(points)
        dim = dimness(report.table, found.rows, chosen.column)
        self._show_veil(~shown if dim is None else np.where(shown, dim, np.float32(1)))

    def adopt(self, report: KernelReport) -> None:
        """The same report with other columns in its table."""
        self._report = report
        points, found = self.layer("components"), self._found
        if points is not None and found is not None:
            points.features = _features(report.table.rows(found.rows.start, found.rows.stop), self._points)

    def colour(self, column: str) -> None:
        """Colour the points by another column of words."""
        self._column = column
        points = self.layer("components")
        if points is not None:
            self._paint(points)

    def mark(self, row: int | None) -> None:
        """Put a frame around the kernel of a row, in both pictures."""
        self._row = row
        shapes = self._outlines(row) if row is not None else []
        layer, frame = self.layer("mark"), self._frame
        if frame is None or (layer is None and not shapes):
            return
        kinds = ["rectangle", "ellipse"][: len(shapes)]
        if layer is None:
            self.add(
                "mark",
                "add_shapes",
                shapes,
                shape_type=kinds,
                name="Kernel on show",
                edge_color=MARK,
                face_color="transparent",
                edge_width=_EDGE * frame.side,
                units=frame.units[-2:],
            )
            return
        # taking a layer away and adding one takes napari a second: they are filled anew instead
        layer.data = []
        if shapes:
            layer.add(
                shapes, shape_type=kinds, edge_width=_EDGE * frame.side, edge_color=MARK, face_color="transparent"
            )

    def layers(self, *names: str) -> list[Any]:
        """Those of some layers that are there."""
        return [layer for layer in map(self.layer, names) if layer is not None]

    def clear(self) -> None:
        """Take every layer of this room away."""
        self._remove(*self._layers)
        self._found = self._report = self._row = None

    # ---- what lies under a click

    def row_at(self, position: Any) -> int | None:
        """The row of the tile or point at a place in the world; None where there is neither."""
        found = self._found
        if found is None or self._report is None:
            return None
        montage = self.layer("montage")
        if montage is not None and montage.visible:
            hit = montage.kernel_at(position)
            if hit is not None:
                return found.first_row + int(hit[0])
        points = self.layer("components")
        if points is not None and points.visible and len(self._points):
            place = np.asarray(points.world_to_data(position))[-2:]
            away = np.linalg.norm(np.asarray(points.data) - place, axis=1)
            away[~np.asarray(points.shown)] = np.inf
            nearest = int(np.argmin(away))
            if away[nearest] <= _REACH * self._span:
                return found.first_row + int(self._points[nearest])
        return None

    # ---- parts

    @property
    def _tiling(self) -> Tiling:
        assert self._found is not None
        out, inside = self._found.layer.kernels.shape[:2]
        return Tiling(int(out), int(inside), self._found.layer.size)

    def _show_montage(self, whole_scale: bool) -> None:
        found, report, frame = self._found, self._report, self._frame
        assert found is not None
        assert report is not None
        assert frame is not None
        tiling = self._tiling
        picture = tiling.picture(found.layer.kernels)
        layers = [each.layer for each in report.layers] if whole_scale else [found.layer]
        largest = max((float(np.abs(layer.kernels).max(initial=0)) for layer in layers), default=0.0) or 1.0
        step = frame.side / max(tiling.shape[-2:])
        scale, translate = [step, step], [frame.top + step / 2, frame.left + step / 2]
        if picture.ndim == 3:
            deep = (frame.depth[1] - frame.depth[0]) / len(picture) or 1.0
            scale, translate = [deep, *scale], [frame.depth[0] + deep / 2, *translate]
        place = {"scale": scale, "translate": translate, "units": frame.units[-picture.ndim :]}
        name = f"Kernels: {found.layer.name}"
        layer = self.layer("montage")
        if layer is not None and layer.ndim != picture.ndim:
            self._remove("montage")
            layer = None
        if layer is None:
            layer = Image(
                picture,
                name=name,
                rgb=False,
                colormap=weight_colours(),
                contrast_limits=(-largest, largest),
                interpolation2d="nearest",
                metadata={"lsnet": {"role": ROLE}},
                **place,
            )
            self._viewer.add_layer(layer)
            self._layers["montage"] = layer
        else:
            layer.data, layer.name = picture, name
            for key, value in place.items():
                setattr(layer, key, value)
        layer.contrast_limits_range = (-largest, largest)
        layer.contrast_limits = (-largest, largest)
        layer.tiling, layer.title = tiling, found.layer.name
        layer.in_channels = found.layer.channels()[1]

    def _show_components(self) -> None:
        found, report, frame = self._found, self._report, self._frame
        assert found is not None
        assert report is not None
        assert frame is not None
        table = report.table.rows(found.rows.start, found.rows.stop)
        places = np.stack([-table.numbers("pc2"), table.numbers("pc1")], axis=1).astype(np.float64)
        living = np.flatnonzero(np.isfinite(places).all(axis=1) & ~table.numbers("dead"))
        self._points = _sample(living, report.parameters.seed)
        if len(self._points) < len(living):
            self.notes.append(f"{MOST_POINTS:,} of {len(living):,} kernels are drawn as points; the table has all.")
        projection = found.projection
        known = np.stack([-projection.known_points[:, 1], projection.known_points[:, 0]], axis=1)
        everything = np.concatenate([places[living], known])
        low, high = everything.min(axis=0), everything.max(axis=0)
        self._span = float((high - low).max()) * (1 + 2 * _MARGIN) or 1.0
        step = frame.side / self._span
        middle = (low + high) / 2
        corner = np.array(frame.second) + frame.side / 2 - step * middle
        place = {"scale": (step, step), "translate": corner, "units": frame.units[-2:]}
        self._fill_points(
            "components",
            places[self._points],
            _features(table, self._points),
            _POINT,
            place | {"name": f"Components: {found.layer.name}"},
            {"border_width": 0, "canvas_size_limits": (3, 40), "opacity": 0.85},
        )
        points = self.layer("components")
        points.shown = True
        self._paint(points)
        texts = [
            f"{name} ({away:.2f})" for name, away in zip(projection.known, projection.known_distances, strict=True)
        ]
        self._fill_points(
            "known",
            known,
            {
                "name": list(projection.known),
                "plane_distance": projection.known_distances.tolist(),
                "relative": projection.known_relative.tolist(),
                "text": texts,
            },
            1.6 * _POINT,
            place | {"name": "Known kernels (distance from the plane)"},
            {
                "symbol": "square",
                "face_color": KNOWN,
                "border_color": "white",
                "border_width": 0.15,
                "canvas_size_limits": (7, 60),
                "text": {"string": "{text}", "size": 8, "color": colours().text, "anchor": "upper_left"},
            },
        )

    def _fill_points(
        self, key: str, places: NDArray[Any], features: Any, size: float, now: dict[str, Any], first: dict[str, Any]
    ) -> None:
        """New points in a layer that is there, or a layer; `first` is how it begins to look."""
        layer = self.layer(key)
        if layer is None:
            self.add(key, "add_points", places, features=features, size=size * self._span, **now, **first)
            return
        layer.selected_data = set()
        layer.data = places
        layer.features = features
        layer.size = size * self._span
        for name, value in now.items():
            setattr(layer, name, value)

    def _paint(self, points: Any) -> None:
        # napari 0.9 draws every point of a layer that has no hidden axis, also those that are not to be shown
        shades = self._face_colours(self._column)
        shades[~np.asarray(points.shown), 3] = 0.0
        points.face_color = shades

    def _face_colours(self, column: str) -> NDArray[np.float32]:
        report, found = self._report, self._found
        assert report is not None
        assert found is not None
        words: Any = report.table[column]
        shades = np.array(
            [[int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)] + [1.0] for colour in colours_of(words.names)],
            np.float32,
        )
        chosen: NDArray[np.float32] = shades[words.codes[found.rows][self._points]]
        return chosen

    def _show_veil(self, dim: NDArray[Any]) -> None:
        montage, layer = self.layer("montage"), self.layer("veil")
        if montage is None or (layer is None and not dim.any()):
            return
        place = {
            "scale": montage.scale[-2:],
            "translate": montage.translate[-2:],
            "units": tuple(montage.units)[-2:],
        }
        cover = self._tiling.cover(dim)
        if layer is not None:
            layer.visible = bool(dim.any())
            layer.data = cover
            for name, value in place.items():
                setattr(layer, name, value)
            return
        self.add(
            "veil",
            "add_image",
            cover,
            name="Hidden by the filter",
            rgb=False,
            colormap=cover_colours(colours().background),
            contrast_limits=(0, 1),
            blending="translucent",
            interpolation2d="nearest",
            **place,
        )

    def _outlines(self, row: int | None) -> list[NDArray[np.float64]]:
        """Corners of a frame around the tile, and of a ring around the point, in the world."""
        found, report, montage = self._found, self._report, self.layer("montage")
        if row is None or found is None or report is None or not found.rows.start <= row < found.rows.stop:
            return []
        shapes = []
        if montage is not None:
            tile = np.array(self._tiling.corner(row - found.first_row), float)
            high, wide = found.layer.size[-2:]
            corners = tile + np.array([(-1, -1), (-1, wide), (high, wide), (high, -1)], float)
            shapes.append(montage.translate[-2:] + montage.scale[-2:] * corners)
        points = self.layer("components")
        place = np.array([-report.table.numbers("pc2")[row], report.table.numbers("pc1")[row]], float)
        if points is not None and np.isfinite(place).all():
            reach = 1.6 * _POINT * self._span
            ring = place + reach * np.array([(-1, -1), (-1, 1), (1, 1), (1, -1)], float)
            shapes.append(points.translate[-2:] + points.scale[-2:] * ring)
        return shapes if montage is not None else []

    def add(self, key: str, how: str, data: Any, **options: Any) -> None:
        """A new layer of this room; `how` is the viewer's own method. What is selected stays."""
        active, selected = self._viewer.layers.selection.active, set(self._viewer.layers.selection)
        self._layers[key] = getattr(self._viewer, how)(data, metadata={"lsnet": {"role": ROLE}}, **options)
        veil = self.layer("veil")
        if key in ON_TILES and veil is not None:
            # what lies on a tile is dimmed with it
            layers = self._viewer.layers
            layers.move(layers.index(self._layers[key]), layers.index(veil))
        self._viewer.layers.selection = selected
        self._viewer.layers.selection.active = active

    def _remove_strays(self) -> None:
        """Pictures of a panel that was closed: one set is enough."""
        ours = list(self._layers.values())
        for layer in [layer for layer in self._viewer.layers if role_of(layer) == ROLE and layer not in ours]:
            self._viewer.layers.remove(layer)

    def _remove(self, *keys: str) -> None:
        for key in keys:
            layer = self.layer(key)
            if layer is not None:
                self._viewer.layers.remove(layer)
            if key != "montage" or layer is not None:
                self._layers.pop(key, None)


def _sample(living: NDArray[np.intp], seed: int) -> NDArray[np.intp]:
    if len(living) <= MOST_POINTS:
        return living
    drawn = np.random.Generator(np.random.Philox(seed)).choice(living, MOST_POINTS, replace=False)
    return np.sort(drawn)


def _features(table: Any, rows: NDArray[np.intp]) -> Any:
    """All columns of some rows, words as categories."""
    import pandas as pd  # type: ignore[import-untyped]

    columns: dict[str, Any] = {}
    for name, column in table.columns.items():
        names: Categories | None = column if hasattr(column, "codes") else None
        if names is None:
            columns[name] = np.asarray(column)[rows]
        else:
            columns[name] = pd.Categorical.from_codes(names.codes[rows], list(names.names))
    return pd.DataFrame(columns)
