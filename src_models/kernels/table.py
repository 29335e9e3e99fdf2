"""The table of an analysis while it fills: room for all layers from the start, columns as `KernelTable` names them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_models.kernels.dictionary import DEAD, INDETERMINATE, Dictionary
from src_models.kernels.measuring import Measured
from src_models.kernels.moments import energy_dimensions, energy_p
from src_models.kernels.operators import CLASSES
from src_models.kernels.result import Categories, Column, KernelTable, Layer
from src_models.kernels.shares import benjamini_hochberg

_WHOLE = ("layer_index", "groups")
_CHANNELS = ("out", "in")
_WORDS = ("layer", "kind", "size", "stride", "dilation")
_FLOATS = (
    "norm",
    "dc_index",
    "distance",
    "margin",
    "p_class",
    "p_any",
    "cos_distance",
    "pc1",
    "pc2",
    "plane_distance",
    "c_0",
    "D_angle",
    "p_energy_0",
)


class TableBuilder:
    """The columns of all layers, filled one layer after the other.

    Parameters
    ----------
    layers : sequence of Layer
        In their order.
    known : mapping of tuple to Dictionary
        By size.
    """

    def __init__(self, layers: Sequence[Layer], known: Mapping[tuple[int, ...], Dictionary]) -> None:
        count = sum(layer.count for layer in layers)
        self._known = known
        self._letters = "zyx"[-max(layer.ndim for layer in layers) :]
        self._degrees = max(len(energy_dimensions(layer.stored_size)) for layer in layers)
        self._names: dict[str, list[str]] = {name: [] for name in (*_WORDS, "label", "cos_label", "orientation")}
        # the same words for all sizes of kernels, in the order of the first
        for each in known.values():
            self._add("label", each.labels)
            self._add("cos_label", each.labels)
        self._add("label", (INDETERMINATE, DEAD))
        floats = [*_FLOATS, *(f"b_{a}" for a in self._letters), *(f"D_{k + 1}" for k in range(len(self._letters)))]
        floats += [f"energy_{k}" for k in range(self._degrees)]
        self._numbers: dict[str, NDArray[Any]] = {name: np.full(count, np.nan, np.float32) for name in floats}
        self._numbers |= {name: np.zeros(count, np.int32) for name in (*_WHOLE, *_CHANNELS)}
        self._numbers |= {name: np.zeros(count, np.int8) for name in ("order_p", "order_r")}
        self._numbers["dead"] = np.zeros(count, bool)
        coded = (*_WORDS, "label", "runner_up", "cos_label", "orientation", "pde_class", "cluster")
        self._codes = {name: np.zeros(count, np.int16) for name in coded}
        self._clusters = 0

    def put(
        self,
        layer: Layer,
        rows: slice,
        measured: Measured,
        dead: NDArray[np.bool_],
        components: tuple[NDArray[Any], NDArray[Any], NDArray[np.int16]],
        chance: tuple[NDArray[Any], NDArray[Any]],
    ) -> None:
        """Fill the rows of a layer.

        Parameters
        ----------
        components : tuple
            Points (N, 2), distances from their plane, and clusters, -1 for none.
        chance : tuple
            p_class and p_any.
        """
        self._describe(layer, rows)
        points, away, clusters = components
        alive = np.where(dead, np.nan, 1.0)
        values: dict[str, NDArray[Any]] = {
            "norm": measured.norm,
            "dc_index": measured.dc,
            "distance": measured.distance * alive,
            "margin": measured.margin * alive,
            "p_class": chance[0] * alive,
            "p_any": chance[1] * alive,
            "cos_distance": measured.cos_distance * alive,
            "pc1": points[:, 0],
            "pc2": points[:, 1],
            "plane_distance": away,
            "c_0": measured.reaction,
            "D_angle": measured.angle,
            "p_energy_0": energy_p(measured.energy[:, 0], 0, layer.stored_size) * alive,
            "order_p": np.where(dead, -1, measured.p),
            "order_r": np.where(dead, -1, measured.r),
            "dead": dead,
        }
        letters = "zyx"[-layer.ndim :]
        values |= {f"b_{letter}": measured.advection[:, axis] for axis, letter in enumerate(letters)}
        values |= {f"D_{k + 1}": measured.eigenvalues[:, k] for k in range(layer.ndim)}
        values |= {f"energy_{k}": measured.energy[:, k] for k in range(measured.energy.shape[1])}
        for name, column in values.items():
            self._numbers[name][rows] = column
        self._put_words(layer, rows, measured, dead)
        self._clusters = max(self._clusters, int(clusters.max(initial=-1)) + 1)
        self._codes["cluster"][rows] = clusters

    def _describe(self, layer: Layer, rows: slice) -> None:
        self._numbers["layer_index"][rows] = layer.index
        self._numbers["groups"][rows] = layer.groups
        self._numbers["out"][rows], self._numbers["in"][rows] = layer.channels()
        words = {
            "layer": layer.name,
            "kind": layer.kind,
            "size": times(layer.stored_size),
            "stride": times(layer.stride),
            "dilation": times(layer.dilation),
        }
        for name, word in words.items():
            self._codes[name][rows] = self._add(name, (word,))[0]

    def _put_words(self, layer: Layer, rows: slice, measured: Measured, dead: NDArray[np.bool_]) -> None:
        known = self._known[layer.size]
        places = np.array(self._add("label", (*known.labels, INDETERMINATE, DEAD)), np.int16)
        gone = np.int16(len(known.labels) + 1)
        self._codes["label"][rows] = places[np.where(dead, gone, measured.codes)]
        self._codes["runner_up"][rows] = places[np.where(dead, gone, measured.runner_up)]
        self._codes["cos_label"][rows] = places[np.where(dead, gone, measured.cos_label)]
        turns = np.array(self._add("orientation", measured.orientations), np.int16)
        self._codes["orientation"][rows] = turns[measured.orientation]
        self._codes["pde_class"][rows] = np.where(dead, len(CLASSES) - 1, measured.classes)

    def _add(self, name: str, words: Sequence[str]) -> list[int]:
        names = self._names[name]
        for word in words:
            if word not in names:
                names.append(word)
        return [names.index(word) for word in words]

    def table(self, rows: int) -> KernelTable:
        """The first rows, with q-values over all of them."""
        self._numbers["q"] = benjamini_hochberg(self._numbers["p_any"][:rows]).astype(np.float32)
        names = {name: tuple(self._names[name]) for name in (*_WORDS, "label", "orientation")}
        names |= {"runner_up": names["label"], "cos_label": names["label"], "pde_class": CLASSES}
        names["cluster"] = (*(str(k) for k in range(self._clusters)), "none")
        columns: dict[str, Column] = {}
        for name in self._order():
            if name in self._codes:
                codes = self._codes[name][:rows]
                if name == "cluster":
                    codes = np.where(codes < 0, self._clusters, codes).astype(np.int16)
                columns[name] = Categories(codes, names[name])
            else:
                columns[name] = self._numbers[name][:rows]
        return KernelTable(columns)

    def _order(self) -> list[str]:
        return [
            *("layer", "layer_index", "kind", "size", "stride", "dilation", "groups", "out", "in"),
            *("norm", "dc_index", "dead", "label", "distance", "runner_up", "margin", "p_class", "p_any", "q"),
            *("cos_label", "cos_distance", "orientation", "pc1", "pc2", "plane_distance", "cluster"),
            *("order_p", "order_r", "pde_class", "c_0"),
            *(f"b_{letter}" for letter in self._letters),
            *(f"D_{k + 1}" for k in range(len(self._letters))),
            "D_angle",
            *(f"energy_{k}" for k in range(self._degrees)),
            "p_energy_0",
        ]


def times(numbers: Sequence[int]) -> str:
    """Such as ``3x3``."""
    return "x".join(str(number) for number in numbers)
