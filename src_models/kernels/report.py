"""An analysis as files: the table as CSV and Parquet, everything else as JSON; read back they are equal."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_models.errors import FileError, InputError
from src_models.kernels.result import Categories, Column, KernelReport, KernelTable, LayerReport, Share
from src_models.kernels.shares import interval

SCHEMA = 1
_ROWS = 20_000
_WORDS = (
    *("layer", "kind", "size", "stride", "dilation", "label", "runner_up", "cos_label", "orientation"),
    *("cluster", "pde_class", "order_change", "drift"),
)
_WHOLE: Mapping[str, type[np.generic]] = {
    **dict.fromkeys(("layer_index", "groups", "out", "in"), np.int32),
    **dict.fromkeys(("order_p", "order_r", "order_before"), np.int8),
}
_PARQUET_HINT = "Install it: pip install napari-lsnet[kernels]. The CSV file holds the same table."


def summary(report: KernelReport) -> dict[str, Any]:
    """Everything but the rows, as plain JSON; numbers that are not finite are null."""
    plain = {
        "schema": SCHEMA,
        "kernels": len(report.table),
        "complete": report.complete,
        "parameters": report.parameters.model_dump(mode="json"),
        "model": report.record.inputs,
        "versions": report.record.versions,
        "seed": report.record.seed,
        "duration_s": report.record.duration_s,
        "notes": list(report.notes),
        "confusions": [
            {"grid": list(grid), "labels": [a, b], "distance": gap}
            for grid, pairs in report.confusions.items()
            for a, b, gap in pairs
        ],
        "skipped": [asdict(each) for each in report.skipped],
        "layers": [_layer(each) for each in report.layers],
    }
    found: dict[str, Any] = _finite(plain)
    return found


def _layer(each: LayerReport) -> dict[str, Any]:
    layer, fit = each.layer, each.projection
    return {
        "name": layer.name,
        "index": layer.index,
        "kind": layer.kind,
        "size": list(layer.stored_size),
        "stride": list(layer.stride),
        "dilation": list(layer.dilation),
        "groups": layer.groups,
        "out_channels": layer.out_channels,
        "in_channels": layer.in_channels,
        "kernels": layer.count,
        "dead": each.dead,
        "grid": list(each.grid),
        "stride_in_spectra": "ignored",
        "labels": [_share(one) for one in each.labels],
        "pde_classes": [_share(one) for one in each.pde_classes],
        "spectrum": {
            "position": each.spectrum.position.tolist(),
            "low": each.spectrum.low.tolist(),
            "median": each.spectrum.median.tolist(),
            "high": each.spectrum.high.tolist(),
            "kernels": each.spectrum.kernels,
        },
        "energy": list(each.energy),
        "energy_null": list(each.energy_null),
        "components": {
            "explained": fit.explained.tolist(),
            "normalisation": fit.normalisation,
            "known": [
                {
                    "name": name,
                    "pc1": float(point[0]),
                    "pc2": float(point[1]),
                    "plane_distance": away,
                    "relative": share,
                }
                for name, point, away, share in zip(
                    fit.known, fit.known_points, fit.known_distances.tolist(), fit.known_relative.tolist(), strict=True
                )
            ],
        },
        "clusters": None if each.clusters is None else asdict(each.clusters),
        "operator": None if each.operator is None else asdict(each.operator),
    }


def _share(one: Share) -> dict[str, Any]:
    low, high = interval(one.count, one.total)
    return asdict(one) | {"share": one.share, "share_low": low, "share_high": high, "null_share": one.null_share}


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def to_json(report: KernelReport) -> bytes:
    """`summary` as the bytes of a file."""
    return (json.dumps(summary(report), indent=1, ensure_ascii=False) + "\n").encode()


def to_csv(table: KernelTable) -> bytes:
    """The table as CSV with a header; numbers in as few digits as give them back, nothing where there is no number."""
    target = io.StringIO()
    writer = csv.writer(target, lineterminator="\n")
    writer.writerow(table.columns)
    for start in range(0, len(table), _ROWS):
        part = table.rows(start, start + _ROWS)
        writer.writerows(zip(*(_texts(column) for column in part.columns.values()), strict=True))
    return target.getvalue().encode()


def _texts(column: Column) -> list[str]:
    if isinstance(column, Categories):
        texts: list[str] = column.words().tolist()
        return texts
    if column.dtype.kind != "f":
        return [str(value) for value in column.tolist()]
    words = column.astype(str)
    words[~np.isfinite(column)] = ""
    return [str(word) for word in words.tolist()]


def from_csv(content: bytes) -> KernelTable:
    """The table of `to_csv`.

    Raises
    ------
    FileError
        Where it is none.
    """
    try:
        rows = list(csv.reader(io.StringIO(content.decode())))
        header, *lines = rows
        columns = {name: _column(name, [line[k] for line in lines]) for k, name in enumerate(header)}
    except (ValueError, IndexError, UnicodeDecodeError) as error:
        raise FileError("kernels-csv", "This is not a table of kernels", "", "Choose a kernels.csv.") from error
    return KernelTable(columns)


def _column(name: str, texts: list[str]) -> Column:
    if name in _WORDS:
        names = tuple(dict.fromkeys(texts))
        place = {word: code for code, word in enumerate(names)}
        return Categories(np.array([place[text] for text in texts], np.int16), names)
    if name == "dead":
        return np.array([text == "True" for text in texts], bool)
    if name in _WHOLE:
        return np.array([int(text) for text in texts], _WHOLE[name])
    return np.array([float(text) if text else np.nan for text in texts], np.float32)


def write_parquet(table: KernelTable, path: Path) -> None:
    """The table as Parquet; words are dictionaries.

    Raises
    ------
    InputError
        Where pyarrow is not installed, naming the extra that brings it.
    """
    pyarrow, parquet = _pyarrow()
    arrays = {}
    for name, column in table.columns.items():
        if isinstance(column, Categories):
            words = pyarrow.array(list(column.names), pyarrow.string())
            arrays[name] = pyarrow.DictionaryArray.from_arrays(pyarrow.array(column.codes), words)
        else:
            arrays[name] = pyarrow.array(column)
    made = pyarrow.table(arrays).replace_schema_metadata({"lsnet_kernels": str(SCHEMA)})
    parquet.write_table(made, path, compression="zstd")


def read_parquet(path: Path) -> KernelTable:
    """The table of `write_parquet`.

    Raises
    ------
    FileError
        Where it is none.
    InputError
        Where pyarrow is not installed.
    """
    pyarrow, parquet = _pyarrow()
    try:
        made = parquet.read_table(path)
    except (OSError, pyarrow.ArrowInvalid) as error:
        raise FileError("kernels-parquet", f"{path.name} is not a table of kernels", "", "Choose another.") from error
    columns: dict[str, Column] = {}
    for name in made.column_names:
        column = made.column(name).combine_chunks()
        if pyarrow.types.is_dictionary(column.type):
            codes: NDArray[np.int16] = column.indices.to_numpy(zero_copy_only=False).astype(np.int16)
            columns[name] = Categories(codes, tuple(column.dictionary.to_pylist()))
        else:
            columns[name] = column.to_numpy(zero_copy_only=False)
    return KernelTable(columns)


def has_parquet() -> bool:
    """Whether Parquet can be written here."""
    from importlib.util import find_spec

    return find_spec("pyarrow") is not None


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise InputError(
            "kernels-pyarrow", "Parquet needs pyarrow, which is not installed", "", _PARQUET_HINT
        ) from error
    return pyarrow, parquet
