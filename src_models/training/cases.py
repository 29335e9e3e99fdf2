"""Data sets to train on: `open_data_set` for a folder, `data_set_from_arrays` for arrays or layers."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from src_models.errors import InputError
from src_models.files import describe
from src_models.files.gate import shown
from src_models.preprocessing.checks import NanRule
from src_models.training.case import Case, DataSet, case_from_arrays, case_from_files
from src_models.training.groups import check_slice_names, groups_from
from src_models.training.layouts import Found, find
from src_models.training.recipes import recipe_named
from src_models.weights.card import Label

__all__ = ["Case", "DataSet", "case_from_arrays", "case_from_files", "data_set_from_arrays", "open_data_set"]


def open_data_set(
    path: str | os.PathLike[str],
    *,
    groups: str | Mapping[str, str] | None = None,
    label_map: Mapping[int, int] | None = None,
    label_names: Mapping[int, str] | None = None,
    channels: Sequence[str] | None = None,
    fix_geometry: bool = False,
    recipe: str | None = None,
    nan: NanRule = "error",
) -> DataSet:
    """The labelled cases of a folder.

    Parameters
    ----------
    path : path-like
        `images/` and `labels/` with the same names, or a folder with the `dataset.json` of MSD or nnU-Net.
    groups : str or mapping, optional
        Which cases belong to one patient: a regular expression, a CSV file, or a mapping. By default what
        `dataset.json` says, else each case is its own.
    label_map : mapping of int to int, optional
        Values in the label files that become others, such as ``{255: 1}``.
    label_names : mapping of int to str, optional
        Names of the values where the folder gives none.
    channels : sequence of str, optional
        Names of the channels, which choose the normalisation, such as ``["ct"]``.
    fix_geometry : bool
        Resample labels that lie on another grid than their image.
    recipe : str, optional
        One of `recipes.RECIPES`: a public data set in the layout of its owners.
    nan : str
        ``"fill"``: values of images that are no numbers are taken for the smallest value, and it is said.

    Returns
    -------
    DataSet
        Its notes tell what was left out.

    Raises
    ------
    FileError, InputError
        Where the layout is not known, 2D files look like slices of one patient, or labels cannot be what is meant.
    """
    folder = Path(path)
    found = recipe_named(recipe).cases(folder) if recipe else find(folder)
    grouped = _grouped(found, groups)
    cases = tuple(
        replace(
            case,
            group=grouped.get(case.id, case.group),
            label_map=dict(label_map or {}),
            fix_geometry=fix_geometry,
            nan=nan,
        )
        for case in found.cases
    )
    named = _named(label_names) if label_names else found.labels
    return DataSet(
        name=folder.resolve().name,
        cases=cases,
        channels=_channel_names(found, channels),
        labels=named or _named(discovered(cases)),
        head=found.head,
        ignore_label=found.ignore_label,
        grouped=bool(grouped),
        notes=found.notes,
        about=found.about,
    )


def data_set_from_arrays(
    name: str,
    cases: Sequence[Case],
    label_names: Mapping[int, str] | None = None,
    channels: Sequence[str] | None = None,
) -> DataSet:
    """A data set of cases made by `case_from_arrays`.

    Parameters
    ----------
    name : str
        Of the data set.
    cases : sequence of Case
        With different ids.
    label_names : mapping of int to str, optional
        By default the values that the labels hold.
    channels : sequence of str, optional
        Names of the channels.

    Raises
    ------
    InputError
        Where there is no case, or two have one id.
    """
    ids = [case.id for case in cases]
    if not ids or len(set(ids)) != len(ids):
        raise InputError(
            "cases-names", "The cases cannot be told apart" if ids else "There is no case", "", "Name each once."
        )
    ordered = tuple(sorted(cases, key=lambda case: case.id))
    count = ordered[0].volume().array.shape[0]
    return DataSet(
        name,
        ordered,
        _checked(tuple(channels or (("image",) if count == 1 else tuple(f"channel {k}" for k in range(count)))), count),
        _named(label_names or discovered(ordered)),
        grouped=any(case.group != case.id for case in ordered),
    )


def discovered(cases: Sequence[Case]) -> dict[int, str]:
    """The label values that the files of a data set hold, with plain names.

    Raises
    ------
    InputError, FileError
        Where no label is there at all, a file holds fractions, or masks are stored with 255 for 1.
    """
    values: dict[int, list[str]] = {}
    for case in cases:
        for value in np.unique(case.segmentation().labels).tolist():
            values.setdefault(int(value), []).append(case.id)
    inside = sorted(value for value in values if value)
    if not inside:
        raise InputError(
            "labels-all-empty",
            f"No label file of {len(cases)} has a marked voxel",
            "",
            "Give labels above 0; masks in colours or grey values need label numbers.",
        )
    if 255 in inside and inside != list(range(1, len(inside) + 1)) and len(inside) <= 2:
        count = len(values[255])
        raise InputError(
            "labels-255",
            "1 label file holds the value 255" if count == 1 else f"{count} label files hold the value 255",
            "masks are often stored as 0 and 255",
            "Read it as label 1 with --map 255:1.",
        )
    if inside[0] < 0:
        raise InputError(
            "labels-negative",
            f"{len(values[inside[0]])} label files hold the value {inside[0]}",
            f"such as that of {shown(values[inside[0]][0])}",
            "Give it a number above 0 with --map.",
        )
    return {0: "background", **{value: f"label {value}" for value in inside}}


def _grouped(found: Found, groups: str | Mapping[str, str] | None) -> dict[str, str]:
    ids = [case.id for case in found.cases]
    rule = groups if groups is not None else found.groups
    if rule is not None:
        return groups_from(rule, ids)
    if _flat(found.cases[0]):
        check_slice_names(ids)
    return {}


def _flat(case: Case) -> bool:
    """Whether the first file of a case is a picture or a single slice."""
    shape = describe(case.files[0]).shape
    return len(shape) == 2 or 1 in shape


def _named(names: Mapping[int, str]) -> tuple[Label, ...]:
    complete = {0: "background", **names}
    return tuple(Label(name=complete[v], value=v, channel=k) for k, v in enumerate(sorted(complete)))


def _channel_names(found: Found, given: Sequence[str] | None) -> tuple[str, ...]:
    return _checked(tuple(given), len(found.channels)) if given else found.channels


def _checked(names: tuple[str, ...], count: int) -> tuple[str, ...]:
    if len(names) != count:
        raise InputError(
            "channels-names",
            f"{len(names)} channel name{'s' if len(names) != 1 else ''} were given",
            f"the images have {count} channel{'s' if count != 1 else ''}",
            "Give one name for each.",
        )
    return names
